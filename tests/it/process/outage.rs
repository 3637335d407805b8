//! Vault is not there, or goes away, or comes back.

use nix::sys::signal::Signal;

use crate::child::{Home, Process, Vault, eventually, get};

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
