//! Callers use Leasehold's token. They do not get to see it, nor to talk it away from each other.

use std::time::Duration;

use leasehold::config::{AutoAuth, Config, Method, UseAutoAuthToken};
use leasehold::dev::{DevVault, Options};
use leasehold::tasks::Tasks;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{EACH, client_of, config, start};
use crate::support::approle;
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
        "{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
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

/// On the word of one caller whose request broke off, all callers were once left without a token, and during an
/// outage for as long as that lasted. Now it does not even get to Vault.
#[tokio::test]
async fn nobody_talks_the_token_away_from_the_others() {
    let (_vault, mut client, _directory, tasks) =
        lent_until(true, UseAutoAuthToken::WhenAbsent).await;
    let read = ask("GET", "secret/data/app/config", "", "");
    assert_eq!(client.ask(&read).await.status(), 200);
    assert!(tasks.stop(Duration::from_secs(5)).await);
    for path in [
        "auth/token/revoke-self",
        "sys/leases/revoke-prefix/auth/token",
    ] {
        assert_eq!(client.ask(ask("PUT", path, "", "")).await.status(), 403);
        let answer = client.ask(&read).await;
        assert_eq!(
            (answer.status(), answer.header("x-cache").as_deref()),
            (200, Some("HIT"))
        );
    }
}

/// A wish for less than is left is a wish to end sooner, for all who share the token.
#[tokio::test]
async fn nobody_cuts_the_token_short() {
    let tasks = Tasks::new();
    let vault = DevVault::new(&Options::default());
    let address = vault.listen("127.0.0.1:0", &tasks).await.unwrap();
    let role_id = vault.role_id();
    let config = Config {
        auto_auth: Some(approle(&role_id, vault.secret_id().expose())),
        use_auto_auth_token: UseAutoAuthToken::WhenAbsent,
        ..config(format!("http://{address}"), true)
    };
    let mut client = client_of(&start(config).await).await;
    let renew = ask("PUT", "auth/token/renew-self", "", r#"{"increment":"1s"}"#);
    assert_eq!(client.ask(renew).await.status(), 200);
    let look = client
        .ask(ask("GET", "auth/token/lookup-self", "", ""))
        .await;
    let looked: Value = serde_json::from_str(&look.text()).unwrap();
    assert!(looked["data"]["ttl"].as_u64() > Some(60), "{looked}");
}

/// A child has the rights of its parent and outlives the watch over it.
#[tokio::test]
async fn child_tokens_are_made_where_that_is_configured() {
    for allowed in [false, true] {
        let tasks = Tasks::new();
        let vault = DevVault::new(&Options::default());
        let address = vault.listen("127.0.0.1:0", &tasks).await.unwrap();
        let policy = json!({ "policy": r#"path "*" { capabilities = ["update", "sudo"] }"# });
        vault.root("PUT", "/v1/sys/policies/acl/app", policy).await;
        let config = Config {
            auto_auth: Some(approle(&vault.role_id(), vault.secret_id().expose())),
            use_auto_auth_token: UseAutoAuthToken::WhenAbsent,
            allow_child_tokens: allowed,
            ..config(format!("http://{address}"), true)
        };
        let mut client = client_of(&start(config).await).await;
        for path in [
            "auth/token/create",
            "auth/token/create-orphan",
            "auth//token/%63reate",
        ] {
            let answer = client.ask(ask("POST", path, "", "{}")).await;
            let status = if !allowed {
                403
            } else if path.contains("//") {
                307
            } else {
                200
            };
            assert_eq!(answer.status(), status, "{path}: {}", answer.text());
            assert_eq!(answer.text().contains("allow_child_tokens"), !allowed);
        }
        let own = format!("X-Vault-Token: {}\r\n", vault.root_token().expose());
        let answer = client
            .ask(ask("POST", "auth/token/create", &own, "{}"))
            .await;
        assert_eq!(answer.status(), 200);
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
