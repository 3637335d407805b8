//! No file is ever open to more than its configuration says, not even between its creation and its mode.

use std::env;
use std::fs;
use std::path::Path;

use tokio::process::Command;

use crate::child::{BINARY, Home, Process, Vault, ask, eventually, get, mode_of};
use crate::support::say;

/// Under no umask at all, with the system's own word on each creation where there is a `strace` to ask.
#[tokio::test]
async fn no_file_is_wider_than_configured_for_a_moment() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let sinks = [
        ("token-600", 0o600),
        ("token-640", 0o640),
        ("token-444", 0o444),
    ];
    let blocks: String = sinks
        .iter()
        .map(|(name, mode)| {
            let path = home.at(name);
            format!("sink \"file\" {{ config = {{ path = \"{path}\" mode = \"0{mode:o}\" }} }}\n")
        })
        .collect();
    let config = home.config(&vault, "");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replacen(
        "  method \"approle\"",
        &format!("{blocks}  method \"approle\""),
        1,
    );
    let more = format!(
        "\npid_file = \"{}\"\nlog_file = \"{}\"\n",
        home.at("pid"),
        home.at("log")
    );
    let config = home.write("leasehold.hcl", &(text + &more));
    // One that a crash left behind, wide open.
    fs::write(home.path("pid"), "1").unwrap();
    fs::set_permissions(
        home.path("pid"),
        std::os::unix::fs::PermissionsExt::from_mode(0o666),
    )
    .unwrap();
    let trace = home.at("trace");
    let strace = format!("strace -D -f -q -s 4096 -o {trace} -e trace={CALLS} ");
    let is_traced = on_path("strace");
    let before = if is_traced { &*strace } else { "" };
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "umask 000; exec {before}{BINARY} agent -config={config} -log-level=trace"
    ));
    let process = Process::run(command, &[]);
    let address = process.address().await;
    eventually("the token in each sink", async || {
        get(address, "/v1/secret/data/app/config").await;
        let are_there = sinks.iter().all(|(name, _)| home.path(name).exists());
        are_there.then_some(())
    })
    .await;
    let mut expected: Vec<(String, u32)> =
        vec![("pid".to_owned(), 0o600), ("log".to_owned(), 0o640)];
    expected.extend(sinks.map(|(name, mode)| (name.to_owned(), mode)));
    for (name, mode) in &expected {
        assert_eq!(mode_of(&home.path(name)), *mode, "{name}");
    }
    assert_eq!(ask(address, "POST", "/agent/v1/quit").await.status, 200);
    let ended = process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    if !is_traced {
        say("modes: no strace on PATH, so only the modes at the end were looked at");
        return;
    }
    let home_at = home.at("");
    let trace = eventually("the end of the trace", async || {
        let trace = fs::read_to_string(&trace).unwrap();
        trace.contains("exited with 0").then_some(trace)
    });
    let mut seen = 0;
    for line in trace.await.lines().filter(|line| line.contains(&home_at)) {
        if !line.contains("O_CREAT") {
            assert!(!line.contains("mknod") && !line.contains("bind("), "{line}");
            continue;
        }
        let (path, mode) = created(line);
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
        let of = |(known, _): &&(String, u32)| {
            name == known.as_str() || name.starts_with(&format!(".{known}."))
        };
        let (_, widest) = expected
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("what is {line}?"));
        assert_eq!(mode & !widest, 0, "{line}");
        seen += 1;
    }
    // Each sink is tried at the start and written after the login.
    assert!(
        seen >= 2 + 2 * sinks.len(),
        "only {seen} creations were seen"
    );
}

/// `openat(AT_FDCWD, "/x", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3`
fn created(line: &str) -> (String, u32) {
    let path = line.split('"').nth(1).unwrap().to_owned();
    let call = line
        .rsplit_once(") = ")
        .or_else(|| line.rsplit_once(" <unfinished"));
    let mode = call.unwrap().0.rsplit(", ").next().unwrap();
    (
        path,
        u32::from_str_radix(mode.trim_end_matches(')'), 8).unwrap(),
    )
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

const CALLS: &str = "open,openat,creat,mknod,mknodat,mkdir,mkdirat,bind";
