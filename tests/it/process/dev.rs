//! `leasehold dev`.

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;

use crate::child::{Process, ask, eventually, free_port, get, soon, taken_port, try_ask};

/// What it prints for people to paste.
struct Printed {
    export: String,
    address: SocketAddr,
    curls: Vec<String>,
}

impl Printed {
    async fn by(process: &Process) -> Self {
        process.out.line("Ctrl-C ends both").await;
        let text = process.out.text();
        let lines = |begin: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with(begin));
            lines.map(str::to_owned).collect()
        };
        let export = lines("export VAULT_ADDR=").remove(0);
        let (_, address) = export.split_once("http://").unwrap();
        Self {
            address: address.parse().unwrap(),
            curls: lines("curl "),
            export,
        }
    }

    /// The nth curl line with this in it.
    fn curl(&self, part: &str, nth: usize) -> &str {
        let mut lines = self.curls.iter().filter(|line| line.contains(part));
        lines.nth(nth).unwrap()
    }

    /// In a shell as it stands, where there is curl; with its `$VAULT_ADDR` by a client of ours elsewhere.
    async fn paste(&self, line: &str) -> String {
        if let Some(output) = self.in_a_shell(line).await {
            assert!(output.status.success(), "{line}: {output:?}");
            return String::from_utf8(output.stdout).unwrap();
        }
        let (_, path) = line.split_once("$VAULT_ADDR").unwrap();
        let answer = get(self.address, path).await;
        assert!(answer.status.is_success(), "{line}: {answer:?}");
        if line.contains("-si ") {
            return format!("X-Cache: {}\n{}", answer.header("x-cache"), answer.text());
        }
        answer.text()
    }

    async fn in_a_shell(&self, line: &str) -> Option<Output> {
        let mut shell = Command::new("sh");
        let script = format!(
            "command -v curl >/dev/null || exit 99\n{}\n{line}",
            self.export
        );
        let running = shell.arg("-c").arg(script).stdin(Stdio::null()).output();
        let output = soon(line, running).await.ok()?;
        (output.status.code() != Some(99)).then_some(output)
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

#[tokio::test]
async fn the_printed_lines_work_as_pasted() {
    let process = Process::start(&["dev", "-vault-port=0", "-port=0"]);
    let printed = Printed::by(&process).await;
    assert_eq!(printed.curls.len(), 5, "{:?}", printed.curls);

    let first = printed.paste(printed.curl("/v1/secret/", 0)).await;
    assert!(first.contains("X-Cache: MISS"), "{first}");
    assert!(first.contains("\"greeting\":\"hello\""), "{first}");
    let second = printed.paste(printed.curl("/v1/secret/", 1)).await;
    assert!(second.contains("X-Cache: HIT"), "{second}");

    let first = json(&printed.paste(printed.curl("/v1/database/creds/", 0)).await);
    let again = printed.curl("/v1/database/creds/", 1);
    let life = first["lease_duration"].as_u64().unwrap();
    let left = eventually("less life", async || {
        let next = json(&printed.paste(again).await);
        assert_eq!(next["data"], first["data"]);
        let left = next["lease_duration"].as_u64().unwrap();
        (left < life).then_some(left)
    });
    assert!(left.await > 0 && life == 30, "{life}");

    let status = json(&printed.paste(printed.curl("/agent/v1/status", 0)).await);
    let lease = &status["leases"]["list"][0];
    assert_eq!(lease["path"], "database/creds/app-readonly");
    assert_eq!(lease["next"]["action"], "renew");
    assert!(lease["next"]["in_seconds"].as_u64().unwrap() <= 30);
    for path in [
        "/v1/secret/data/cwiq/dev/orchestrator/database",
        "/v1/secret/data/cwiq/dev/orchestrator/config",
        "/v1/kv/app/config",
    ] {
        assert_eq!(get(printed.address, path).await.status, 200, "{path}");
    }

    let ended = process.stopped_by(Signal::SIGINT).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn its_ports_are_the_given_ones() {
    let (vault_port, port) = (free_port().await, free_port().await);
    let (vault, own) = (vault_port.to_string(), port.to_string());
    let process = Process::start(&["dev", "-vault-port", &vault, "--port", &own]);
    let printed = Printed::by(&process).await;
    assert_eq!(printed.address, ([127, 0, 0, 1], port).into());
    let health = get(([127, 0, 0, 1], vault_port).into(), "/v1/sys/health").await;
    assert_eq!(health.status, 200);
    let quit = ask(printed.address, "POST", "/agent/v1/quit").await;
    assert_eq!(quit.status, 200);
    assert_eq!(process.ended().await.code, Some(0));
    assert!(try_ask(printed.address, "GET", "/").await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_flag_to_change() {
    let (_held, port) = taken_port().await;
    let address = format!("127.0.0.1:{port}");
    for flag in ["-vault-port", "-port"] {
        let mut flags = ["dev", "-vault-port=0", "-port=0"].map(str::to_owned);
        let place = flags.iter().position(|it| it.starts_with(flag)).unwrap();
        flags[place] = format!("{flag}={port}");
        let ended = Process::start(&flags.each_ref().map(String::as_str))
            .ended()
            .await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let last = ended.err.lines().last().unwrap();
        for part in ["error: ", &address, " in use", &format!("({flag}=PORT)")] {
            assert!(last.contains(part), "{flag}: {last}");
        }
        assert_eq!(ended.out, "", "nothing to paste where nothing works");
    }
}

#[tokio::test]
async fn wrong_flags_are_refused_before_anything_starts() {
    for (flags, message) in [
        (&["-ttl=x"][..], "error: -ttl: \"x\" is not a duration"),
        (&["-ttl=0"], "error: -ttl: at least one second is needed"),
        (
            &["-max-ttl", "500ms"],
            "error: -max-ttl: at least one second",
        ),
        (
            &["-token-ttl=-5s"],
            "error: -token-ttl: \"-5s\" is negative",
        ),
        (&["-token-max-ttl="], "error: -token-max-ttl: "),
        (
            &["-ttl=2m"],
            "error: -ttl: 120s is beyond the hard end, 90s: give -max-ttl too",
        ),
        (
            &["-token-ttl=2h"],
            "error: -token-ttl: 7200s is beyond the hard end, 600s: give -token-max-ttl too",
        ),
        (&["-log-level=loud"], "error: -log-level: \"loud\" is not"),
        (
            &["-port=99999"],
            "error: invalid value '99999' for '-port <PORT>'",
        ),
        (&["-port"], "error: -port needs a value"),
        (
            &["-prot=1"],
            "error: unknown flag -prot: did you mean -port?",
        ),
        (&["8201"], "error: an argument is no flag"),
    ] {
        let args = [&["dev"], flags].concat();
        let ended = Process::start(&args).ended().await;
        assert_eq!(ended.code, Some(1), "{flags:?}: {ended:?}");
        assert!(ended.err.starts_with(message), "{flags:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{flags:?}");
    }
}
