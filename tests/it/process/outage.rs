//! Vault is not there, or goes away, or comes back.

use leasehold::tasks::Tasks;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::child::{Home, PROXY, Process, Vault, eventually, get};

const SECRET: &str = "/v1/secret/data/app/config";

#[tokio::test]
async fn without_vault_it_starts_says_so_and_recovers() {
    let (home, mut vault) = (Home::new(), Vault::start().await);
    vault.stop().await;
    let config = home.config(&vault, "startup_wait = \"100ms\"\n");
    let process = Process::start(&["agent", "-config", &config]);
    let address = process.address().await;
    assert_eq!(get(address, "/agent/v1/health").await.status, 200);
    let line = process.err.line("login failed").await;
    for part in [
        &*vault.url(),
        "Connection refused",
        "is it running",
        "next_try_in_seconds",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let ready = get(address, "/agent/v1/ready").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["ready"]),
        (503, &false.into())
    );
    let reason = &ready.json()["reasons"][0];
    assert_eq!(reason["part"], "auth");
    assert!(
        reason["message"].as_str().unwrap().contains(&vault.url()),
        "{reason}"
    );
    let refused = get(address, SECRET).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    vault.back().await;
    process.err.line(": logged in method").await;
    let again = process.err.line("calls to Vault succeed again").await;
    assert!(again.contains(&vault.url()), "{again}");
    assert_eq!(get(address, "/agent/v1/ready").await.status, 200);
    assert_eq!(get(address, SECRET).await.status, 200);
}

#[tokio::test]
async fn an_outage_is_one_line_however_many_callers_it_hits() {
    let (home, mut vault) = (Home::new(), Vault::start().await);
    let config = home.config(&vault, "");
    let process = Process::start(&["agent", "-config", &config]);
    let address = process.address().await;
    assert_eq!(get(address, SECRET).await.status, 200);
    vault.stop().await;
    for _ in 0..50 {
        let failed = get(address, "/v1/kv/app/config").await;
        assert_eq!(failed.status, 502);
        let text = failed.text();
        assert!(
            text.contains(&vault.url()) && text.contains("is it running"),
            "{text}"
        );
        assert_eq!(get(address, SECRET).await.header("x-cache"), "HIT");
    }
    vault.back().await;
    let back = async || (get(address, "/v1/kv/app/config").await.status == 200).then_some(());
    eventually("an answer", back).await;
    let again = process.err.line("calls to Vault succeed again").await;
    let ended = process.stopped_by(Signal::SIGTERM).await;
    let lines = |part: &str| ended.err.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("WARN"), 1, "{}", ended.err);
    assert_eq!(lines("calls to Vault fail;"), 1, "{}", ended.err);
    let (_, failed) = again.split_once("failed_calls=").unwrap();
    let failed: u32 = failed.split(' ').next().unwrap().parse().unwrap();
    assert!(failed >= 50, "{again}");
}

/// As Go's server answers plain HTTP on a port for TLS. It is no word about the credentials.
#[tokio::test]
async fn a_port_for_tls_is_not_taken_for_a_refused_login() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let tasks = Tasks::new();
    tasks.spawn("a port for TLS", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS \
                          server.\n";
            let _read = stream.read(&mut [0; 4096]).await;
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    let home = Home::new();
    let auth = "auto_auth {\n  method \"approle\" {\n    config = { role_id_env_var = \"ROLE\" \
                secret_id_env_var = \"SECRET\" }\n  }\n}\n";
    let text = format!("vault {{ address = \"{url}\" }}\n{auth}{PROXY}");
    let config = home.write("plain.hcl", &text);
    let env = [("ROLE", "a"), ("SECRET", "b")];
    let process = Process::start_in(&["agent", "-config", &config], &env);
    let line = process.err.line("login failed").await;
    assert!(
        line.contains(&url) && line.contains("its address is https://"),
        "{line}"
    );
    let ended = process.stopped_by(Signal::SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
