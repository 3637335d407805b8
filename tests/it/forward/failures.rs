//! Vault that is away, slow, or breaks off: what the client is told, and how often Vault is asked.

use std::time::Duration;

use super::{EACH, ask, client, client_of, config, start};
use crate::wire::{ByHand, Message, Wire, answer_of};

const PATH: &str = "/v1/secret/data/x";

#[tokio::test]
async fn an_absent_vault_is_named_with_the_reason() {
    let vault = ByHand::bind().await;
    let address = vault.address();
    drop(vault);
    for cached in EACH {
        let mut client = client(address.clone(), cached).await;
        for (method, path) in [
            ("GET", PATH),
            ("PUT", PATH),
            ("GET", "/v1/sys/health"),
            ("LIST", "/v1/kv/"),
        ] {
            let answer = client.ask(ask(method, path)).await;
            is_error(&answer, 502, &[&address, "Connection refused"]);
        }
        // An error is no end of the connection, and HEAD gets one without a body.
        let answer = client.ask(ask("HEAD", PATH)).await;
        assert_eq!(answer.status(), 502);
        assert_eq!(client.ask(ask("GET", PATH)).await.status(), 502);
    }
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_named() {
    for cached in EACH {
        let mut client = client("http://vault.invalid:8200".to_owned(), cached).await;
        let answer = client.ask(ask("GET", PATH)).await;
        is_error(&answer, 502, &["http://vault.invalid:8200"]);
    }
}

#[tokio::test]
async fn a_vault_that_answers_no_http_is_named() {
    for cached in EACH {
        for nonsense in [
            "SSH-2.0-OpenSSH_9\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ] {
            let vault = ByHand::bind().await;
            let mut client = client(vault.address(), cached).await;
            client.send(ask("PUT", PATH)).await;
            let mut upstream = vault.accept().await;
            upstream.request().await.unwrap();
            upstream.send(nonsense).await;
            is_error(&client.answer(b"PUT").await, 502, &[&vault.address()]);
        }
    }
}

#[tokio::test]
async fn a_vault_that_does_not_answer_in_time_is_named_and_let_go() {
    for cached in EACH {
        for method in ["GET", "PUT"] {
            let vault = ByHand::bind().await;
            let mut config = config(vault.address(), cached);
            config.vault.timeout = Duration::from_millis(150);
            let mut client = client_of(&start(config).await).await;
            client.send(ask(method, PATH)).await;
            let mut upstream = vault.accept().await;
            upstream.request().await.unwrap();
            let answer = client.answer(method.as_bytes()).await;
            is_error(&answer, 504, &[&vault.address(), "150ms"]);
            upstream.closed().await;
            assert!(vault.is_quiet().await, "asked twice");
        }
    }
}

/// What may have made something, or may have been done.
const ONCE: [(&str, &str); 12] = [
    ("POST", PATH),
    ("PUT", PATH),
    ("PATCH", PATH),
    ("DELETE", PATH),
    ("GET", "/v1/database/creds/x"),
    ("GET", "/v1/aws/sts/x"),
    ("GET", "/v1/cubbyhole/response"),
    ("POST", "/v1/auth/approle/login"),
    ("GET", "/v1/auth/oidc/login"),
    ("PUT", "/v1/sys/leases/renew"),
    ("PUT", "/v1/transit/encrypt/x"),
    ("POST", "/v1/auth/token/create"),
];

#[tokio::test]
async fn what_may_have_been_done_is_sent_once_when_a_fresh_connection_breaks() {
    for cached in EACH {
        for (method, path) in ONCE {
            for how in ["closed", "reset"] {
                let vault = ByHand::bind().await;
                let mut client = client(vault.address(), cached).await;
                client.send(ask(method, path)).await;
                let upstream = vault.asked(path).await;
                end(upstream, how);
                let answer = client.answer(method.as_bytes()).await;
                is_error(&answer, 502, &[&vault.address(), "not sent again"]);
                assert!(vault.is_quiet().await, "{method} {path} was sent twice");
            }
        }
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_sent_once_when_a_pooled_connection_breaks() {
    for cached in EACH {
        for (method, path) in ONCE {
            let vault = ByHand::bind().await;
            let mut client = client(vault.address(), cached).await;
            let mut upstream = pooled(&mut client, &vault).await;
            client.send(ask(method, path)).await;
            upstream = asked(upstream, path).await;
            drop(upstream);
            let answer = client.answer(method.as_bytes()).await;
            is_error(&answer, 502, &[&vault.address(), "not sent again"]);
            assert!(vault.is_quiet().await, "{method} {path} was sent twice");
        }
    }
}

#[tokio::test]
async fn a_plain_read_is_sent_once_more_when_a_pooled_connection_breaks() {
    for cached in EACH {
        for (method, path) in [
            ("GET", PATH),
            ("OPTIONS", "/v1/sys/health"),
            ("HEAD", "/v1/sys/health"),
            ("GET", "/v1/auth/token/lookup-self"),
        ] {
            for how in ["closed", "reset"] {
                let vault = ByHand::bind().await;
                let mut client = client(vault.address(), cached).await;
                let upstream = pooled(&mut client, &vault).await;
                client.send(ask(method, path)).await;
                end(asked(upstream, path).await, how);
                let mut again = vault.asked(path).await;
                again
                    .send(answer_of("404 Not Found", "application/json", b""))
                    .await;
                assert_eq!(client.answer(method.as_bytes()).await.status(), 404);
            }
        }
    }
}

#[tokio::test]
async fn a_plain_read_is_not_sent_a_third_time() {
    for cached in EACH {
        let vault = ByHand::bind().await;
        let mut client = client(vault.address(), cached).await;
        let upstream = pooled(&mut client, &vault).await;
        client.send(ask("GET", PATH)).await;
        drop(asked(upstream, PATH).await);
        drop(vault.asked(PATH).await);
        is_error(&client.answer(b"GET").await, 502, &[&vault.address()]);
        assert!(vault.is_quiet().await);
    }
}

/// Vault closed the pooled connection before the request went out: nothing was processed, so that a write may
/// take another one.
#[tokio::test]
async fn a_connection_that_was_closed_before_is_not_used() {
    for cached in EACH {
        for (method, path) in ONCE {
            let vault = ByHand::bind().await;
            let mut client = client(vault.address(), cached).await;
            let upstream = pooled(&mut client, &vault).await;
            drop(upstream);
            // The end has to arrive before the request.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            client.send(ask(method, path)).await;
            let mut upstream = vault.asked(path).await;
            upstream
                .send(answer_of("404 Not Found", "application/json", b"{}"))
                .await;
            assert_eq!(client.answer(method.as_bytes()).await.status(), 404);
        }
    }
}

/// Sends no more than it has to: what Vault says passes, whatever it is.
#[tokio::test]
async fn errors_of_vault_are_not_tried_again() {
    for cached in EACH {
        for status in [
            "412 Precondition Failed",
            "429 Too Many Requests",
            "500 Internal",
            "503 Sealed",
        ] {
            for (method, path) in [("GET", PATH), ("POST", PATH), ("GET", "/v1/sys/health")] {
                let vault = ByHand::bind().await;
                let mut client = client(vault.address(), cached).await;
                client.send(ask(method, path)).await;
                let mut upstream = vault.asked(path).await;
                upstream
                    .send(answer_of(status, "application/json", b"{\"errors\":[]}"))
                    .await;
                let answer = client.answer(method.as_bytes()).await;
                assert!(status.starts_with(&answer.status().to_string()));
                assert_eq!(answer.text(), "{\"errors\":[]}");
                assert!(upstream.is_quiet() && vault.is_quiet().await);
            }
        }
    }
}

#[tokio::test]
async fn who_finds_no_free_connection_is_told_so() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        let mut config = config(vault.address(), cached);
        config.vault.max_connections = 1;
        config.vault.timeout = Duration::from_millis(150);
        let leasehold = start(config).await;
        let mut first = client_of(&leasehold).await;
        first.send(ask("GET", "/v1/sys/health")).await;
        let mut upstream = vault.asked("/v1/sys/health").await;
        upstream
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
            .await;
        first.head().await.unwrap();
        let mut second = client_of(&leasehold).await;
        let answer = second.ask(ask("GET", PATH)).await;
        is_error(
            &answer,
            503,
            &[&vault.address(), "all 1 connections", "150ms"],
        );
        assert!(answer.header("retry-after").is_some());
        // The place is free again with the answer's end.
        upstream.send("2").await;
        first.expect("12").await;
        second.send(ask("GET", PATH)).await;
        upstream = asked(upstream, PATH).await;
        upstream
            .send(answer_of("404 Not Found", "application/json", b"{}"))
            .await;
        assert_eq!(second.answer(b"GET").await.status(), 404);
    }
}

/// A client and Vault's end of the connection that its first request left in the pool.
async fn pooled(client: &mut Wire, vault: &ByHand) -> Wire {
    client.send(ask("GET", "/v1/sys/seal-status")).await;
    let mut upstream = vault.asked("/v1/sys/seal-status").await;
    upstream
        .send(answer_of("200 OK", "text/plain", b"{}"))
        .await;
    client.answer(b"GET").await;
    upstream
}

async fn asked(mut upstream: Wire, path: &str) -> Wire {
    let request = upstream.request().await.expect("a request");
    assert_eq!(request.target(), path);
    upstream
}

fn end(upstream: Wire, how: &str) {
    match how {
        "reset" => upstream.reset(),
        _ => drop(upstream),
    }
}

/// Vault's shape, with these words.
fn is_error(answer: &Message, status: u16, words: &[&str]) {
    let text = answer.text();
    assert_eq!(answer.status(), status, "{text}");
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json")
    );
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["errors"].as_array().map(Vec::len), Some(1), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}
