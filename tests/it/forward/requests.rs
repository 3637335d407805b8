//! What Vault receives is what the caller sent.

use super::{EACH, ask, client, client_of, config, start};
use crate::wire::{ByHand, Message, Recorder, answer_of};

/// Nothing of it is stored, so that each request arrives.
fn not_found(_: &Message) -> Vec<u8> {
    answer_of("404 Not Found", "application/json", br#"{"errors":[]}"#)
}

#[tokio::test]
async fn methods_and_targets_arrive_byte_for_byte() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        for method in METHODS {
            for target in TARGETS {
                client.ask(ask(method, target)).await;
                let seen = vault.take();
                let lines: Vec<String> = seen.iter().map(Message::first_line).collect();
                assert_eq!(lines, [format!("{method} {target} HTTP/1.1")], "{cached}");
            }
        }
    }
}

const METHODS: [&str; 9] = [
    "GET", "POST", "PUT", "DELETE", "PATCH", "LIST", "SCAN", "HEAD", "OPTIONS",
];

const TARGETS: [&str; 22] = [
    "/v1/secret/data/x",
    "/v1/secret/data/x/",
    "/v1//secret//data/x",
    "//v1/secret/data/x",
    "/v1/secret/data/a%2Fb",
    "/v1/secret/data/a%2fb%41",
    "/v1/secret/data/../x/./y/..",
    "/v1/secret/data/%2e%2e/x",
    "/v1/secret/data/x;y=1",
    "/v1/secret/data/x?",
    "/v1/secret/data/x?b=2&a=1&b=1&a",
    "/v1/secret/data/x?a=1;b=2",
    "/v1/secret/data/x?a=b?c=d&&=&%3d",
    "/v1/secret/data/x?list=true",
    "/v1/secret/data/ü/日本?ö=1",
    "/v1/secret/data/a+b%20c'(!)*,:@$~\"[]{}|^\\?'[]{}|^`\\",
    "/v1/kv/x",
    "/v1/sys/health?standbyok=true",
    "/v1/auth/token/lookup-self",
    "/v1/",
    "/",
    "/ui/vault/secrets?x",
];

/// No request may carry these bare (RFC 9112 §3.2), and what is behind a `#` would be lost without a word.
#[tokio::test]
async fn a_target_that_cannot_be_kept_is_refused() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let leasehold = start(config(vault.address(), cached)).await;
        for target in [
            "/v1/secret/data/x#y",
            "/v1/secret/data/x?a#y",
            "/v1/secret/data/<x>",
        ] {
            let mut client = client_of(&leasehold).await;
            assert_eq!(
                client.ask(ask("GET", target)).await.status(),
                400,
                "{target}"
            );
            assert!(vault.take().is_empty(), "{target}");
        }
    }
}

#[tokio::test]
async fn a_base_path_of_the_address_stands_in_front_and_changes_nothing_else() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let base = format!("{}/team/vault/", vault.address());
        let mut client = client(base, cached).await;
        for target in TARGETS {
            client.ask(ask("GET", target)).await;
            let line = vault.take()[0].first_line();
            assert_eq!(line, format!("GET /team/vault{target} HTTP/1.1"));
        }
    }
}

#[tokio::test]
async fn what_is_asked_in_absolute_form_or_of_everything_arrives_as_vault_reads_it() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        for (method, target, arrives) in [
            (
                "GET",
                "http://LocalHost:8201/v1/secret/data/x?a",
                "/v1/secret/data/x?a",
            ),
            ("OPTIONS", "*", "*"),
        ] {
            client.ask(ask(method, target)).await;
            let seen = vault.take();
            assert_eq!(seen.len(), 1, "{target} {cached}");
            let line = seen[0].first_line();
            assert_eq!(line, format!("{method} {arrives} HTTP/1.1"), "{cached}");
            assert_eq!(
                seen[0].all("host"),
                [vault.address().trim_start_matches("http://")]
            );
        }
    }
}

#[tokio::test]
async fn headers_arrive_as_they_are_and_none_is_added() {
    let vault = Recorder::start(not_found).await;
    let long = "v".repeat(40_000);
    let request = format!(
        "PUT /v1/secret/data/x HTTP/1.1\r\nhost: localhost\r\nX-Vault-Token: t\r\n\
         X-Many: 1\r\nx-other:  spaced  out \r\nx-many: 2\r\nX-MANY: \r\nX-Many: 1\r\n\
         Cookie: a=1\r\nCookie: b=2\r\nX-Long: {long}\r\nX-Bytes: \u{e9}\r\n\
         Authorization: Basic x\r\nAccept-Encoding: gzip\r\nsec-fetch-mode: cors\r\n\
         X-Forwarded-For: 192.0.2.1\r\nVia: 1.1 somebody\r\nContent-Type: text/odd\r\n\
         Content-Length: 2\r\n\r\n{{}}"
    );
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        client.ask(&request).await;
        let seen = vault.take().remove(0);
        let sent = Message {
            head: request.clone().into_bytes(),
            body: Vec::new(),
            whole: true,
        };
        let sorted = |message: &Message| {
            let mut headers = message.headers();
            headers.retain(|(name, _)| name != "host");
            // A stable sort: values of one name stay in order.
            headers.sort_by(|one, other| one.0.cmp(&other.0));
            headers
        };
        let end = request.len() - 2;
        let sent = Message {
            head: request.as_bytes()[..end].to_vec(),
            ..sent
        };
        assert_eq!(sorted(&seen), sorted(&sent), "{cached}");
        assert_eq!(seen.text(), "{}");
    }
}

#[tokio::test]
async fn a_bare_request_arrives_bare() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        for method in METHODS {
            let request = format!("{method} /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.ask(request).await;
            let names = vault.take()[0].headers().into_iter().map(|(name, _)| name);
            let names: Vec<String> = names.collect();
            assert_eq!(names, ["host"], "{method} {cached}");
        }
    }
}

#[tokio::test]
async fn headers_of_the_connection_stay_behind() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        let request = "GET /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: t\r\n\
             Connection: Upgrade, HTTP2-Settings\r\nConnection: X-Mine , keep-alive\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nX-Mine: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
             Proxy-Authorization: Basic c2VjcmV0\r\nTrailer: X-Sum\r\nX-Kept: 1\r\n\r\n";
        // Twice: the connection is neither upgraded nor closed.
        for _ in 0..2 {
            assert_eq!(client.ask(request).await.status(), 404);
            let names = vault.take()[0].headers().into_iter().map(|(name, _)| name);
            let mut names: Vec<String> = names.collect();
            names.sort();
            assert_eq!(names, ["host", "x-kept", "x-vault-token"], "{cached}");
        }
    }
}

/// What Vault does not get to see must not count for us either: with its namespace named in `Connection`,
/// Vault's answer for the root namespace was kept as that of the namespace.
#[tokio::test]
async fn a_header_that_connection_names_counts_for_nobody() {
    let version = br#"{"data":{"data":{"of":"root"},"metadata":{"version":1,"created_time":"2026-01-01T00:00:00Z"}},"mount_type":"kv"}"#;
    let vault = Recorder::start(|request| match request.header("x-vault-namespace") {
        Some(_) => answer_of("404 Not Found", "application/json", b"{}"),
        None => answer_of("200 OK", "application/json", version),
    })
    .await;
    let mut client = client(vault.address(), true).await;
    let ask = |connection: &str| {
        format!(
            "GET /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: t\r\n\
             X-Vault-Namespace: team\r\nConnection: {connection}\r\n\r\n"
        )
    };
    let dropped = client.ask(ask("keep-alive, X-Vault-Namespace")).await;
    assert_eq!(dropped.status(), 200);
    assert_eq!(client.ask(ask("keep-alive")).await.status(), 404);
}

#[tokio::test]
async fn bodies_arrive_whole_however_they_are_framed() {
    let vault = Recorder::start(not_found).await;
    let large = "x".repeat(300_000);
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        for (path, body) in [
            ("secret/data/x", r#"{"data":{}}"#),
            ("secret/data/x", large.as_str()),
            ("transit/encrypt/x", "a=b&c=d"),
            ("transit/encrypt/x", large.as_str()),
            ("auth/approle/login", "\u{0}\u{ff}"),
            ("sys/leases/revoke", "{\"lease_id\":\"a\"}"),
        ] {
            let length = body.len();
            let (half, rest) = body.split_at(body.char_indices().nth(1).unwrap().0);
            for framed in [
                format!("Content-Length: {length}\r\n\r\n{body}"),
                format!(
                    "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n{:x};e=f\r\n{rest}\r\n0\r\n\r\n",
                    half.len(),
                    rest.len(),
                ),
            ] {
                let request = format!("POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\n{framed}");
                client.ask(request).await;
                let seen = vault.take();
                assert_eq!(seen.len(), 1);
                assert!(seen[0].body == body.as_bytes(), "{path} {cached}");
            }
        }
    }
}

#[tokio::test]
async fn a_length_of_zero_is_no_body_and_no_error() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        for method in METHODS {
            let request = format!(
                "{method} /v1/kv/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
            );
            assert_eq!(client.ask(request).await.status(), 404);
            assert_eq!(vault.take().len(), 1, "{method} {cached}");
        }
    }
}

#[tokio::test]
async fn a_read_with_a_body_keeps_it() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        for method in ["GET", "LIST", "DELETE"] {
            let request = format!(
                "{method} /v1/kv/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}"
            );
            client.ask(request).await;
            assert_eq!(vault.take()[0].text(), "{}", "{method} {cached}");
        }
    }
}

#[tokio::test]
async fn who_waits_to_be_told_is_told_to_go_on() {
    let vault = Recorder::start(not_found).await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        client
            .send(
                "PUT /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
                 Expect: 100-continue\r\n\r\n",
            )
            .await;
        assert_eq!(client.answer(b"PUT").await.status(), 100);
        client.send("{}").await;
        assert_eq!(client.answer(b"PUT").await.status(), 404);
        let seen = vault.take().remove(0);
        assert_eq!((seen.text().as_str(), seen.header("expect")), ("{}", None));
    }
}

#[tokio::test]
async fn a_request_in_tiny_pieces_is_one_request() {
    let vault = Recorder::start(not_found).await;
    let request = "POST /v1/auth/approle/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\n{\"\r\n3\r\na\":\r\n2\r\n1}\r\n0\r\n\r\n";
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        for byte in request.bytes() {
            client.send([byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.answer(b"POST").await.status(), 404);
        let seen = vault.take();
        assert_eq!((seen.len(), seen[0].text().as_str()), (1, r#"{"a":1}"#));
    }
}

#[tokio::test]
async fn a_thousand_requests_share_one_connection() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        client.send(ask("GET", "/v1/sys/health")).await;
        let mut upstream = vault.accept().await;
        for number in 0..1_000 {
            let body = number.to_string();
            assert!(upstream.request().await.is_some());
            upstream
                .send(answer_of("200 OK", "application/json", body.as_bytes()))
                .await;
            assert_eq!(client.answer(b"GET").await.text(), body);
            client.send(ask("GET", "/v1/sys/health")).await;
        }
        assert!(vault.is_quiet().await, "a second connection");
    }
}

#[tokio::test]
async fn callers_with_different_tokens_never_share() {
    let vault = Recorder::start(|request| {
        let token = request.header("x-vault-token").unwrap_or_default();
        let token = token + &request.header("authorization").unwrap_or_default();
        let body = format!(
            r#"{{"data":{{"data":{{"of":"{token}"}},"metadata":{{"version":1,"created_time":"2026-01-01T00:00:00Z"}}}},"mount_type":"kv"}}"#
        );
        answer_of("200 OK", "application/json", body.as_bytes())
    })
    .await;
    for cached in EACH {
        let leasehold = start(config(vault.address(), cached)).await;
        let mut clients = Vec::new();
        let tokens = [
            "X-Vault-Token: a",
            "X-Vault-Token: b",
            "Authorization: Bearer c",
            "X-None: x",
        ];
        for token in tokens {
            let mut client = client_of(&leasehold).await;
            let request =
                format!("GET /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\n{token}\r\n\r\n");
            client.send(&request).await;
            clients.push((client, request));
        }
        let expected = ["\"a\"", "\"b\"", "\"Bearer c\"", "\"\""];
        for ((client, request), own) in clients.iter_mut().zip(expected) {
            // Once while others fetch the same path, once when all is fetched.
            assert!(client.answer(b"GET").await.text().contains(own));
            assert!(client.ask(request).await.text().contains(own));
        }
        assert_eq!(vault.take().len(), if cached { 4 } else { 8 });
    }
}
