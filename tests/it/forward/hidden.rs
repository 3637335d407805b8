//! Callers use Leasehold's token. They do not get to see it, nor to talk it away from each other.

use std::time::Duration;

use http::StatusCode;
use leasehold::config::{AutoAuth, Config, Method, UseAutoAuthToken};
use leasehold::dev::{DevVault, Fault, Options};
use leasehold::tasks::Tasks;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{EACH, client_of, config, start};
use crate::wire::Wire;

/// A client without a token, of a Leasehold that lends its own, which is the root token `canary`.
async fn lent(cached: bool, mode: UseAutoAuthToken) -> (DevVault, Wire, TempDir) {
    let (vault, client, directory, _) = lent_until(cached, mode).await;
    (vault, client, directory)
}

/// As `lent`; with Vault's tasks, to stop it.
async fn lent_until(cached: bool, mode: UseAutoAuthToken) -> (DevVault, Wire, TempDir, Tasks) {
    let tasks = Tasks::new();
    let vault = DevVault::new(&Options {
        root_token: Some("canary".into()),
        ..Options::default()
    });
    let address = vault.listen("127.0.0.1:0", &tasks).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "canary").unwrap();
    let config = Config {
        auto_auth: Some(AutoAuth {
            method: Method::TokenFile { path },
            mount_path: "auth/token".to_owned(),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(1),
            exit_on_err: false,
            sinks: Vec::new(),
        }),
        use_auto_auth_token: mode,
        ..config(format!("http://{address}"), cached)
    };
    let client = client_of(&start(config).await).await;
    (vault, client, directory, tasks)
}

fn ask(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} /v1/{path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn the_token_that_is_lent_is_there_but_empty() {
    for cached in EACH {
        for mode in [UseAutoAuthToken::WhenAbsent, UseAutoAuthToken::Force] {
            let (vault, mut client, _directory) = lent(cached, mode).await;
            let (_, own) = vault
                .root("GET", "/v1/auth/token/lookup-self", Value::Null)
                .await;
            let accessor = own["data"]["accessor"].as_str().unwrap().to_owned();
            for (method, path, headers, body) in [
                ("GET", "auth/token/lookup-self", "", ""),
                (
                    "GET",
                    "auth/token/lookup-self",
                    "Accept-Encoding: gzip\r\n",
                    "",
                ),
                ("GET", "auth/token/lookup-self/", "", ""),
                ("GET", "auth//token/%6cookup-self", "", ""),
                ("GET", "auth/token/lookup-self%2F", "", ""),
                (
                    "GET",
                    "auth/token/lookup-self",
                    "X-Vault-Namespace: root\r\n",
                    "",
                ),
                ("POST", "auth/token/lookup", "", "{}"),
                ("PUT", "auth/token/lookup", "", r#"{"token":""}"#),
                ("POST", "auth/token/lookup", "", r#"{"token":"canary"}"#),
                ("POST", "auth/token/renew-self", "", "{}"),
                ("PUT", "auth/token/renew", "", "{}"),
            ] {
                let answer = client.ask(ask(method, path, headers, body)).await;
                let text = answer.text();
                let shown = format!("{method} {path} {body}: {} {text}", answer.status());
                assert!(answer.whole, "{shown}");
                assert!(
                    !text.contains("canary") && !text.contains(&accessor),
                    "{shown}"
                );
                if path == "auth/token/lookup-self" && headers.is_empty() {
                    let told: Value = serde_json::from_str(&text).unwrap();
                    let mut expected = own.clone();
                    expected["data"]["id"] = json!("");
                    expected["data"]["accessor"] = json!("");
                    assert_eq!(told["data"], expected["data"]);
                }
            }
        }
    }
}

#[tokio::test]
async fn the_token_that_is_lent_is_not_shown_wrapped() {
    for cached in EACH {
        let (_vault, mut client, _directory) = lent(cached, UseAutoAuthToken::WhenAbsent).await;
        for path in ["auth/token/lookup-self", "auth/token/lookup-self/"] {
            let wrapped = ask("GET", path, "X-Vault-Wrap-TTL: 60s\r\n", "");
            let answer = client.ask(wrapped).await;
            assert_eq!(answer.status(), 403, "{}", answer.text());
            assert!(answer.text().contains("X-Vault-Wrap-TTL"));
        }
        let wrapped = ask(
            "GET",
            "secret/data/app/config",
            "X-Vault-Wrap-TTL: 60s\r\n",
            "",
        );
        assert_eq!(client.ask(wrapped).await.status(), 200);
    }
}

#[tokio::test]
async fn a_token_of_the_callers_own_is_shown() {
    for cached in EACH {
        let (vault, mut client, _directory) = lent(cached, UseAutoAuthToken::WhenAbsent).await;
        let fields = json!({"policies": ["root"], "id": "mine"});
        vault.root("POST", "/v1/auth/token/create", fields).await;
        let own = ask(
            "GET",
            "auth/token/lookup-self",
            "X-Vault-Token: mine\r\n",
            "",
        );
        assert!(client.ask(own).await.text().contains(r#""id":"mine""#));
    }
}

/// What has failed may have been done, but then Vault is asked about our token before it is given up: on the
/// word of one caller whose request broke off, all callers were left without a token, and during an outage for
/// as long as that lasted.
#[tokio::test]
async fn a_revocation_that_failed_takes_the_token_from_nobody() {
    let (vault, mut client, _directory, tasks) =
        lent_until(true, UseAutoAuthToken::WhenAbsent).await;
    let read = ask("GET", "secret/data/app/config", "", "");
    assert_eq!(client.ask(&read).await.status(), 200);
    let sealed =
        Fault::on("*", "/v1/auth/token/revoke-self").refuse(StatusCode::SERVICE_UNAVAILABLE, "");
    vault.faults().add(sealed);
    let revoke = ask("POST", "auth/token/revoke-self", "", "");
    assert_eq!(client.ask(&revoke).await.status(), 503);
    let answer = client.ask(&read).await;
    assert_eq!(
        (answer.status(), answer.header("x-cache").as_deref()),
        (200, Some("HIT"))
    );
    assert!(tasks.stop(Duration::from_secs(5)).await);
    for path in [
        "auth/token/revoke-self",
        "sys/leases/revoke-prefix/auth/token",
    ] {
        assert_eq!(client.ask(ask("PUT", path, "", "")).await.status(), 502);
        let answer = client.ask(&read).await;
        assert_eq!(
            (answer.status(), answer.header("x-cache").as_deref()),
            (200, Some("HIT"))
        );
    }
}

/// A write that never left has changed nothing, so that what is kept is still right.
#[tokio::test]
async fn a_write_that_never_left_makes_nothing_old() {
    let (_vault, mut client, _directory, tasks) =
        lent_until(true, UseAutoAuthToken::WhenAbsent).await;
    let read = ask("GET", "secret/data/app/config", "", "");
    assert_eq!(client.ask(&read).await.status(), 200);
    assert!(tasks.stop(Duration::from_secs(5)).await);
    let write = ask("POST", "secret/data/app/config", "", r#"{"data":{}}"#);
    assert_eq!(client.ask(&write).await.status(), 502);
    assert_eq!(
        client.ask(&read).await.header("x-cache").as_deref(),
        Some("HIT")
    );
}
