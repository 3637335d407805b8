//! A listener that speaks TLS, as its callers and its operator see it.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use leasehold::tasks::Tasks;
use nix::sys::signal::Signal;
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::Instant;

use crate::child::{Home, Process, Vault, eventually, get, soon};
use crate::secure::testing::{Authority, Pair, replace};
use crate::secure::{Caller, Line};
use crate::support::measured;

const SECRET: &str = "/v1/secret/data/app/config";

/// A Leasehold with a TLS listener, and the authority that its certificate is from.
struct Stand {
    home: Home,
    process: Process,
    address: SocketAddr,
    authority: Authority,
    _vault: Vault,
}

impl Stand {
    /// `more` is for the listener's block; `CLIENTS` in it is the file of the clients' authority.
    async fn start(more: &str) -> Self {
        Self::start_with(more, &Authority::new("of clients")).await
    }

    async fn start_with(more: &str, of_clients: &Authority) -> Self {
        let (home, vault, authority) = (Home::new(), Vault::start().await, Authority::new("ours"));
        authority.server().save(&home.path(""), "tls");
        home.write("clients.pem", &of_clients.pem());
        let more = more.replace("CLIENTS", &home.at("clients.pem"));
        let listener = listener(&home, "127.0.0.1:0", &more);
        let text = format!(
            "vault {{ address = \"{}\" }}\n{}{TOKEN}{listener}",
            vault.url(),
            home.auto_auth(&vault)
        );
        let config = home.write("tls.hcl", &text);
        let process = Process::start(&["agent", "-config", &config]);
        let address = process.address().await;
        Self {
            home,
            process,
            address,
            authority,
            _vault: vault,
        }
    }

    fn caller(&self) -> Caller {
        Caller::new(&[&self.authority], None)
    }

    fn save(&self, pair: &Pair) {
        pair.save(&self.home.path(""), "tls");
    }

    /// SIGHUP, and how many such lines the log had before.
    async fn reload(&self) -> String {
        let before = self.reloads();
        self.process.signal(Signal::SIGHUP);
        eventually("the reload", async || {
            (self.reloads() > before).then_some(())
        })
        .await;
        let text = self.process.err.text();
        let mut lines = text.lines().filter(|line| line.contains("SIGHUP: "));
        lines.next_back().unwrap().to_owned()
    }

    fn reloads(&self) -> usize {
        let text = self.process.err.text();
        let end = text.rfind('\n').unwrap_or(0);
        text.get(..end).unwrap().matches("SIGHUP: ").count()
    }

    async fn status(&self, caller: &Caller) -> Value {
        let status = caller.get(self.address, "/agent/v1/status").await.unwrap();
        status.json()["listeners"][0].clone()
    }
}

fn listener(home: &Home, address: &str, more: &str) -> String {
    let (cert, key) = (home.at("tls.crt"), home.at("tls.key"));
    format!(
        "listener \"tcp\" {{\n  address = \"{address}\"\n  tls_cert_file = \"{cert}\"\n  \
         tls_key_file = \"{key}\"\n{more}\n}}\n"
    )
}

/// Everybody uses the token.
const TOKEN: &str = "api_proxy { use_auto_auth_token = true }\ncache {}\n";
const CLIENTS: &str =
    "  tls_require_and_verify_client_cert = true\n  tls_client_ca_file = \"CLIENTS\"";

#[tokio::test]
async fn both_versions_are_spoken_and_only_those_that_are_wanted() {
    let both = [&TLS12, &TLS13];
    let (old, new) = (ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3);
    for (more, spoken) in [
        ("", &[old, new][..]),
        ("  tls_min_version = \"tls13\"", &[new]),
        ("  tls_max_version = \"tls12\"", &[old]),
    ] {
        let stand = Stand::start(more).await;
        for version in both {
            let caller = Caller::speaking(&[&stand.authority], None, &[version]);
            let connected = caller.connect(stand.address).await;
            if !spoken.contains(&version.version) {
                assert!(connected.is_err(), "{more}: {:?}", version.version);
                continue;
            }
            let mut line = connected.unwrap();
            assert_eq!(line.version, Some(version.version));
            assert_eq!(line.get(SECRET).await.unwrap().status, 200);
            assert_eq!(line.get(SECRET).await.unwrap().header("x-cache"), "HIT");
            // The next one is shorter.
            assert!(!line.is_resumed);
            let mut again = caller.connect(stand.address).await.unwrap();
            assert_eq!(again.get(SECRET).await.unwrap().status, 200);
            assert!(again.is_resumed, "{:?}", version.version);
        }
    }
}

#[tokio::test]
async fn who_has_to_show_a_certificate_shows_it_each_time() {
    let clients = Authority::new("of clients");
    let (good, bad) = (
        clients.client("good"),
        Authority::new("of nobody").client("bad"),
    );
    let checked = "  tls_client_ca_file = \"CLIENTS\"";
    let ignored = format!("{checked}\n  tls_disable_client_certs = true");
    for (more, with_good, without, with_bad) in [
        (CLIENTS, true, false, false),
        (checked, true, true, false),
        (&ignored, true, true, true),
        ("", true, true, true),
    ] {
        let stand = Stand::start_with(more, &clients).await;
        for (own, let_in) in [
            (Some(&good), with_good),
            (None, without),
            (Some(&bad), with_bad),
        ] {
            for version in [&TLS12, &TLS13] {
                let caller = Caller::speaking(&[&stand.authority], own, &[version]);
                for _ in 0..2 {
                    let answer = caller.get(stand.address, SECRET).await;
                    let is_in = answer.as_ref().is_ok_and(|answer| answer.status == 200);
                    assert_eq!(is_in, let_in, "{more}: {answer:?}");
                }
                if let (true, Ok(line)) = (
                    more.contains("CLIENTS") && !more.contains("disable"),
                    caller.connect(stand.address).await,
                ) {
                    assert!(!line.is_resumed, "{more}");
                }
            }
        }
    }
}

#[tokio::test]
async fn curl_gets_in_with_the_right_certificate_alone() {
    if Command::new("curl")
        .arg("--version")
        .output()
        .await
        .is_err()
    {
        measured(format_args!("no curl on PATH: not tried"));
        return;
    }
    let clients = Authority::new("of clients");
    let stand = Stand::start_with(CLIENTS, &clients).await;
    let home = &stand.home;
    home.write("ca.pem", &stand.authority.pem());
    home.write("other.pem", &Authority::new("another").pem());
    clients.client("app").save(&home.path(""), "app");
    Authority::new("of nobody")
        .client("app")
        .save(&home.path(""), "bad");
    let url = format!("https://localhost:{}{SECRET}", stand.address.port());
    let (cert, key) = (home.at("app.crt"), home.at("app.key"));
    let (bad_cert, bad_key) = (home.at("bad.crt"), home.at("bad.key"));
    let (ca, other) = (home.at("ca.pem"), home.at("other.pem"));
    let own = ["--cert", &cert, "--key", &key];
    for (args, is_good) in [
        ([&["--cacert", &ca][..], &own].concat(), true),
        ([&["--cacert", &ca, "--tlsv1.3"][..], &own].concat(), true),
        (
            [&["--cacert", &ca, "--tls-max", "1.2"][..], &own].concat(),
            true,
        ),
        (vec!["--cacert", &ca], false),
        (vec!["--cacert", &ca, "--tls-max", "1.2"], false),
        (
            vec!["--cacert", &ca, "--cert", &bad_cert, "--key", &bad_key],
            false,
        ),
        ([&["--cacert", &other][..], &own].concat(), false),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-i", "--max-time", "30", "--noproxy", "*"]);
        let output = soon("curl", curl.args(&args).arg(&url).output()).await;
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        measured(format_args!("curl {} {url}\n{said}{error}", args.join(" ")));
        assert_eq!(output.status.success(), is_good, "{args:?}: {said}{error}");
        assert_eq!(said.starts_with("HTTP/1.1 200"), is_good, "{said}");
    }
    // And in plain HTTP.
    let answer = get(stand.address, SECRET).await;
    assert_eq!(answer.status, 400);
    let text = answer.text();
    assert!(
        text.contains("Client sent an HTTP request to an HTTPS server"),
        "{text}"
    );
}

#[tokio::test]
async fn a_chain_is_shown_whole() {
    let stand = Stand::start("").await;
    let middle = stand.authority.intermediate("middle");
    let mut pair = middle.server();
    pair.cert.push_str(&middle.pem());
    stand.save(&pair);
    assert!(stand.reload().await.contains("1 taken up"));
    let answer = stand.caller().get(stand.address, SECRET).await.unwrap();
    assert_eq!(answer.status, 200);
}

/// Callers that ask all the time, on new connections and on kept ones.
struct Load {
    asked: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    tasks: Tasks,
}

impl Load {
    fn start(caller: &Caller, address: SocketAddr) -> Self {
        let load = Self {
            asked: Arc::default(),
            failed: Arc::default(),
            connections: Arc::default(),
            is_over: Arc::default(),
            tasks: Tasks::new(),
        };
        for each in 0..4 {
            let (asked, failed) = (Arc::clone(&load.asked), Arc::clone(&load.failed));
            let connections = Arc::clone(&load.connections);
            let (caller, is_over) = (caller.clone(), Arc::clone(&load.is_over));
            load.tasks.spawn("load", async move {
                let mut kept: Option<Line> = None;
                while !is_over.load(Ordering::Relaxed) {
                    if kept.is_none() {
                        connections.fetch_add(1, Ordering::Relaxed);
                        kept = caller.connect(address).await.ok();
                    }
                    let answer = match &mut kept {
                        Some(line) => line.get(SECRET).await.map(|answer| answer.status),
                        None => Err("no connection".into()),
                    };
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !answer.as_ref().is_ok_and(|status| *status == 200) {
                        measured(format_args!("failed: {answer:?}"));
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    // Half of them open a new one for each request.
                    if each % 2 == 0 {
                        kept = None;
                    }
                }
            });
        }
        load
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn more(&self, requests: usize) {
        let from = self.asked();
        eventually("more requests", async || {
            (self.asked() >= from + requests).then_some(())
        })
        .await;
    }

    async fn end(self) -> (usize, usize, usize) {
        self.is_over.store(true, Ordering::Relaxed);
        assert!(self.tasks.stop(Duration::from_secs(30)).await);
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (of(&self.asked), of(&self.connections), of(&self.failed))
    }
}

#[tokio::test]
async fn certificates_change_under_load_and_no_request_fails() {
    let stand = Stand::start("").await;
    let caller = stand.caller();
    let mut kept = caller.connect(stand.address).await.unwrap();
    kept.get(SECRET).await.unwrap();
    let load = Load::start(&caller, stand.address);
    let mut shown = vec![kept.certificate.clone()];
    for round in 0..20 {
        let pair = stand.authority.server();
        if round % 2 == 0 {
            stand.save(&pair);
        } else {
            // In place, and seen half-written.
            let half = pair.cert.get(..pair.cert.len() / 2).unwrap();
            fs::write(stand.home.path("tls.crt"), half).unwrap();
            assert!(stand.reload().await.contains("1 not usable"));
            load.more(5).await;
            fs::write(stand.home.path("tls.crt"), &pair.cert).unwrap();
            assert!(stand.reload().await.contains("1 not usable"));
            fs::write(stand.home.path("tls.key"), &pair.key).unwrap();
        }
        assert!(stand.reload().await.contains("1 taken up"));
        load.more(10).await;
        let fresh = Caller::new(&[&stand.authority], None);
        shown.push(fresh.connect(stand.address).await.unwrap().certificate);
    }
    // Whoever sends many signals gets no harm for it.
    for _ in 0..1000 {
        stand.process.signal(Signal::SIGHUP);
    }
    load.more(50).await;
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), 21, "each new certificate was shown");
    assert!(kept.is_open());
    assert_eq!(kept.get(SECRET).await.unwrap().status, 200);
    let (asked, connections, failed) = load.end().await;
    measured(format_args!(
        "20 certificates, {asked} requests on {connections} connections, {failed} failed"
    ));
    assert_eq!(failed, 0, "of {asked}");
}

#[tokio::test]
async fn a_bad_certificate_keeps_the_old_one_and_is_shown() {
    let stand = Stand::start("").await;
    let caller = stand.caller();
    let before = stand.status(&caller).await;
    assert_eq!(before["insecure"], false, "{before}");
    assert_eq!(before["tls"]["last_error"], Value::Null);
    let other = stand.authority.server();
    replace(&stand.home.path("tls.crt"), &other.cert);
    for _ in 0..2 {
        let line = stand.reload().await;
        assert!(
            line.contains("WARN") && line.contains("1 not usable"),
            "{line}"
        );
    }
    let line = stand.process.err.line("is not served").await;
    for part in ["WARN", "tls.crt", "tls.key", "do not belong together"] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(stand.process.err.text().matches("is not served").count(), 1);
    let status = stand.status(&caller).await;
    assert_eq!(status["tls"]["serial"], before["tls"]["serial"]);
    assert_eq!(status["tls"]["reload_failures"], 1);
    let error = status["tls"]["last_error"].as_str().unwrap();
    assert!(error.contains("do not belong together"), "{error}");
    replace(&stand.home.path("tls.key"), &other.key);
    assert!(stand.reload().await.contains("1 taken up"));
    let after = stand.status(&caller).await;
    assert_ne!(after["tls"]["serial"], before["tls"]["serial"]);
    assert_eq!(after["tls"]["last_error"], Value::Null);
    let metrics = caller
        .get(stand.address, "/agent/v1/metrics")
        .await
        .unwrap();
    let metrics = metrics.text();
    for line in [
        "leasehold_listener_certificate_reloads_total{result=\"failure\"} 1",
        "leasehold_listener_certificate_reloads_total{result=\"success\"} 1",
        "leasehold_listener_insecure 0",
        "leasehold_listener_certificate_expiry_timestamp_seconds ",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(stand.reload().await.contains("1 unchanged"));
}

#[tokio::test]
async fn the_clients_authority_changes_without_a_restart() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let stand = Stand::start_with(CLIENTS, &first).await;
    let own =
        |authority: &Authority| Caller::new(&[&stand.authority], Some(&authority.client("app")));
    let (of_first, of_second) = (own(&first), own(&second));
    let mut kept = of_first.connect(stand.address).await.unwrap();
    kept.get(SECRET).await.unwrap();
    assert!(of_second.get(stand.address, SECRET).await.is_err());
    replace(&stand.home.path("clients.pem"), &second.pem());
    assert!(stand.reload().await.contains("1 taken up"));
    of_second.get(stand.address, SECRET).await.unwrap();
    assert!(of_first.get(stand.address, SECRET).await.is_err());
    assert_eq!(kept.get(SECRET).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_changed_file_is_taken_up_without_a_signal() {
    let stand = Stand::start("  tls_auto_reload_interval = \"5s\"").await;
    let caller = stand.caller();
    let before = stand.status(&caller).await["tls"]["serial"].clone();
    stand.save(&stand.authority.server());
    eventually("the new certificate", async || {
        (stand.status(&caller).await["tls"]["serial"] != before).then_some(())
    })
    .await;
    stand.process.err.line("were read anew").await;
}

#[tokio::test]
async fn a_handshake_that_stalls_is_closed() {
    let stand = Stand::start("  http_read_header_timeout = \"300ms\"").await;
    let began = Instant::now();
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    let end = soon("the end", stream.read(&mut [0; 16])).await;
    assert_eq!(end.unwrap(), 0);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(250), "{took:?}");
    let answer = stand.caller().get(stand.address, "/agent/v1/metrics").await;
    let text = answer.unwrap().text();
    let line = "leasehold_listener_handshakes_total{result=\"timeout\"} 1";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn a_start_without_its_files_says_what_is_missing() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let text = |more: &str| {
        format!(
            "vault {{ address = \"{}\" }}\ncache {{}}\n{}",
            vault.url(),
            listener(&home, "127.0.0.1:0", more)
        )
    };
    let config = home.write("tls.hcl", &text(""));
    let start = async || Process::start(&["agent", "-config", &config]).ended().await;
    let ended = start().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("tls_cert_file /"), "{ended:?}");
    assert!(ended.err.contains("tls.crt: does not exist"), "{ended:?}");
    let authority = Authority::new("ours");
    authority.expired().save(&home.path(""), "tls");
    fs::write(home.path("tls.key"), "no key").unwrap();
    let ended = start().await;
    assert!(
        ended.err.contains("no private key in PEM form"),
        "{ended:?}"
    );
    // What has expired is served: whoever trusts it all the same should not be kept out.
    authority.expired().save(&home.path(""), "tls");
    let process = Process::start(&["agent", "-config", &config]);
    process.address().await;
    process.err.line("has expired").await;
    let line = process.err.line("listening").await;
    assert!(line.contains("tls=true"), "{line}");
}

#[tokio::test]
async fn a_listener_that_lends_the_token_in_the_open_says_so_everywhere() {
    let (home, vault) = (Home::new(), Vault::start().await);
    Authority::new("ours").server().save(&home.path(""), "tls");
    let plain = |address: &str, more: &str| {
        format!(
            "listener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n  {more}\n}}\n"
        )
    };
    let auth = home.auto_auth(&vault);
    let vault_block = format!("vault {{ address = \"{}\" }}\n", vault.url());
    let text = format!(
        "{vault_block}{auth}{TOKEN}{}{}{}{}",
        plain("127.0.0.1:0", ""),
        plain("0.0.0.0:0", ""),
        plain("0.0.0.0:0", "role = \"metrics_only\""),
        listener(&home, "0.0.0.0:0", ""),
    );
    let config = home.write("open.hcl", &text);
    let process = Process::start(&["agent", "-config", &config]);
    let address = process.address().await;
    let warned = process.err.text();
    assert_eq!(warned.matches("in plain text").count(), 1, "{warned}");
    let status = get(address, "/agent/v1/status").await.json();
    let insecure: Vec<_> = status["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| listener["insecure"].as_bool().unwrap())
        .collect();
    assert_eq!(insecure, [false, true, false, false]);
    let metrics = get(address, "/agent/v1/metrics").await.text();
    assert!(
        metrics.contains("leasehold_listener_insecure 1"),
        "{metrics}"
    );
    let check = Process::start(&["check", "-config", &config]).ended().await;
    assert_eq!(check.code, Some(0), "{check:?}");
    assert_eq!(check.err.matches("in plain text").count(), 1, "{check:?}");
    // Who lends nothing has nothing to warn of.
    let text = format!("{vault_block}cache {{}}\n{}", plain("0.0.0.0:0", ""));
    let config = home.write("own.hcl", &text);
    let check = Process::start(&["check", "-config", &config]).ended().await;
    assert!(!check.err.contains("in plain text"), "{check:?}");
}
