//! What the client receives is what Vault sent, understood or not.

use super::{EACH, ask, client, config, start};
use crate::wire::{ByHand, Message, Recorder, answer_of};

/// Answers that hold something a cache might trip over, with the path that they answer.
const ODD: [(&str, &str); 26] = [
    ("/v1/kv/x", r#"["a", 1 ,{"lease_id":"x"}]"#),
    ("/v1/kv/x", r#""text""#),
    ("/v1/kv/x", "17"),
    ("/v1/kv/x", "null"),
    ("/v1/kv/x", "true"),
    ("/v1/kv/x", "{}"),
    ("/v1/kv/x", ""),
    ("/v1/kv/x", " \n"),
    ("/v1/kv/x", "{\"data\":"),
    ("/v1/kv/x", "not JSON at all \u{0}\u{ff}"),
    ("/v1/kv/x", "{\"data\":{\"a\":1}}\ntrailing"),
    (
        "/v1/kv/x",
        r#"{"data":{"renewable":"maybe","lease_duration":1.5}}"#,
    ),
    (
        "/v1/kv/x",
        r#"{"lease_duration":1.5,"data":{"a":1},"mount_type":"kv"}"#,
    ),
    (
        "/v1/kv/x",
        r#"{"lease_duration":1e3,"data":{"a":1},"mount_type":"kv"}"#,
    ),
    (
        "/v1/kv/x",
        r#"{"lease_duration":-1,"data":{"a":1},"mount_type":"kv"}"#,
    ),
    ("/v1/kv/x", r#"{"lease_duration":"60s","data":{"a":1}}"#),
    (
        "/v1/kv/x",
        r#"{"renewable":"yes","data":{"a":1},"mount_type":"kv"}"#,
    ),
    (
        "/v1/kv/x",
        r#"{"a":1,"a":2,"data":{"x":1,"x":2},"data":{"x":3}}"#,
    ),
    (
        "/v1/kv/x",
        r#"{"auth":{"client_token":"t","lease_duration":9}}"#,
    ),
    ("/v1/kv/x", r#"{"auth":"x","wrap_info":[],"data":1}"#),
    (
        "/v1/database/creds/x",
        r#"{"lease_id":"a","lease_id":"b","lease_duration":60}"#,
    ),
    (
        "/v1/database/creds/x",
        r#"{"lease_id":7,"lease_duration":60,"data":{}}"#,
    ),
    (
        "/v1/database/creds/x",
        r#"{"lease_id":"a","lease_duration":0.5,"data":{}}"#,
    ),
    (
        "/v1/database/creds/x",
        r#"{"lease_id":"a","lease_duration":99999999999999999999}"#,
    ),
    (
        "/v1/database/creds/x",
        r#"{"lease_id":"a","lease_duration":18446744073709551615,"data":{}}"#,
    ),
    (
        "/v1/secret/data/x",
        r#"{"data":{"data":{"n":1.0,"u":"\u00fc\/","e":1E2},"metadata":{}}}"#,
    ),
];

#[tokio::test]
async fn an_answer_that_is_not_understood_passes_byte_for_byte() {
    for cached in EACH {
        for framing in ["length", "chunked", "end"] {
            for (path, body) in ODD {
                let vault = Recorder::start(move |_| framed(framing, JSON, body)).await;
                let mut client = client(vault.address(), cached).await;
                let answer = client.ask(ask("GET", path)).await;
                let shown = (answer.status(), answer.text(), answer.whole);
                assert_eq!(shown, (200, body.to_owned(), true), "{framing} {cached}");
            }
        }
    }
}

/// What can be read wrongly must not be kept: the next to ask is answered by Vault.
#[tokio::test]
async fn an_answer_that_is_not_understood_is_not_kept() {
    let understood = r#""lease_duration":18446744073709551615"#;
    for (path, body) in ODD {
        if body.contains(understood) || path.starts_with("/v1/secret/") {
            continue;
        }
        let vault = Recorder::start(move |_| framed("length", JSON, body)).await;
        let mut client = client(vault.address(), true).await;
        for _ in 0..2 {
            assert_eq!(client.ask(ask("GET", path)).await.text(), body);
            assert_eq!(vault.take().len(), 1, "{body}");
        }
    }
}

#[tokio::test]
async fn what_is_no_json_passes_and_is_not_kept() {
    let version = r#"{"data":{"data":{"a":1},"metadata":{"version":1,"created_time":"x"}},"mount_type":"kv"}"#;
    for cached in EACH {
        for headers in [
            "Content-Type: text/plain",
            "Content-Type: application/json\r\nContent-Encoding: gzip",
            "Content-Type: application/x-json",
            "X-No: type",
        ] {
            let vault = Recorder::start(move |_| framed("length", headers, version)).await;
            let mut client = client(vault.address(), cached).await;
            for _ in 0..2 {
                let answer = client.ask(ask("GET", "/v1/secret/data/x")).await;
                assert_eq!(answer.text(), version);
                assert_eq!(vault.take().len(), 1, "{headers}");
            }
        }
    }
}

#[tokio::test]
async fn a_content_type_with_parameters_is_understood() {
    let version = r#"{"data":{"data":{"a":1},"metadata":{"version":1,"created_time":"x"}},"mount_type":"kv"}"#;
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        let vault =
            Recorder::start(move |_| answer_of("200 OK", content_type, version.as_bytes())).await;
        let mut client = client(vault.address(), true).await;
        for _ in 0..2 {
            let answer = client.ask(ask("GET", "/v1/secret/data/x")).await;
            let told = answer.header("content-type");
            assert_eq!(
                (answer.text().as_str(), told.as_deref()),
                (version, Some(content_type))
            );
        }
        assert_eq!(vault.take().len(), 1);
    }
}

#[tokio::test]
async fn answers_to_head_and_answers_without_a_body_keep_their_heads() {
    for cached in EACH {
        for (method, sent, length) in [
            (
                "HEAD",
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 57\r\n\r\n",
                Some("57"),
            ),
            (
                "HEAD",
                "HTTP/1.1 472 Standby\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
                None,
            ),
            (
                "GET",
                "HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n",
                None,
            ),
            (
                "DELETE",
                "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n",
                None,
            ),
            ("PUT", "HTTP/1.1 204 No Content\r\n\r\n", None),
            (
                "GET",
                "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Type: application/json\r\n\r\n",
                None,
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n",
                Some("0"),
            ),
        ] {
            let vault = Recorder::start(move |_| sent.as_bytes().to_vec()).await;
            let mut client = client(vault.address(), cached).await;
            for path in [
                "/v1/secret/data/x",
                "/v1/sys/health",
                "/v1/sys/leases/revoke",
            ] {
                let answer = client.ask(ask(method, path)).await;
                let line = sent.lines().next().unwrap();
                assert_eq!(
                    answer.first_line().split(' ').nth(1),
                    line.split(' ').nth(1)
                );
                assert_eq!(
                    answer.header("content-length").as_deref(),
                    length,
                    "{method} {line} {cached}"
                );
                assert_eq!(answer.header("etag").is_some(), line.contains("304"));
            }
        }
    }
}

#[tokio::test]
async fn statuses_and_headers_of_answers_pass_in_order() {
    let long = "v".repeat(40_000);
    for cached in EACH {
        for status in [
            200, 201, 202, 301, 400, 403, 404, 412, 429, 472, 473, 500, 501, 503, 599,
        ] {
            let head = format!(
                "HTTP/1.1 {status} Odd Words\r\nCache-Control: no-store\r\nContent-Type: application/json\r\n\
                 X-Many: 1\r\nSet-Cookie: a=1\r\nx-many: 2\r\nSet-Cookie: b=2\r\nx-many: \r\n\
                 Strict-Transport-Security: max-age=31536000; includeSubDomains\r\nRetry-After: 7\r\n\
                 Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-Bytes: \u{e9}\r\nX-Long: {long}\r\nContent-Length: 2\r\n\r\n"
            );
            let sent = head.clone() + "{}";
            let vault = Recorder::start(move |_| sent.clone().into_bytes()).await;
            let mut client = client(vault.address(), cached).await;
            let answer = client.ask(ask("GET", "/v1/secret/data/x")).await;
            assert_eq!(answer.status(), status);
            let sent = Message {
                head: head.strip_suffix("\r\n").unwrap().into(),
                body: Vec::new(),
                whole: true,
            };
            let sorted = |message: &Message| {
                let mut headers = message.headers();
                headers.retain(|(name, _)| name != "x-cache");
                headers.sort_by(|one, other| one.0.cmp(&other.0));
                headers
            };
            assert_eq!(sorted(&answer), sorted(&sent), "{status} {cached}");
        }
    }
}

#[tokio::test]
async fn headers_of_vaults_connection_stay_behind() {
    for cached in EACH {
        let vault = Recorder::start(|_| {
            b"HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
              Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTrailer: X-Sum\r\nDate: x\r\n\
              Content-Length: 2\r\n\r\n[]"
                .to_vec()
        })
        .await;
        let mut client = client(vault.address(), cached).await;
        // Vault's connection closes, the client's does not.
        for _ in 0..3 {
            let answer = client.ask(ask("GET", "/v1/secret/data/x")).await;
            let mut names: Vec<String> =
                answer.headers().into_iter().map(|(name, _)| name).collect();
            names.retain(|name| name != "x-cache");
            names.sort();
            assert_eq!(names, ["content-length", "date"], "{cached}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_the_clients_to_follow() {
    let elsewhere = ByHand::bind().await;
    let target = format!("{}/v1/secret/data/x?a=%2F", elsewhere.address());
    for cached in EACH {
        for (status, method) in [
            (307, "PUT"),
            (307, "GET"),
            (301, "GET"),
            (302, "LIST"),
            (303, "POST"),
            (308, "GET"),
        ] {
            let location = target.clone();
            let vault = Recorder::start(move |_| {
                format!(
                    "HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
                )
                .into_bytes()
            })
            .await;
            let mut client = client(vault.address(), cached).await;
            let answer = client.ask(ask(method, "/v1/secret/data/x")).await;
            let told = (answer.status(), answer.header("location").unwrap());
            assert_eq!(told, (status, target.clone()));
            assert!(elsewhere.is_quiet().await, "it was followed");
        }
    }
}

#[tokio::test]
async fn interim_answers_are_left_out() {
    for cached in EACH {
        let vault = Recorder::start(|_| {
            let last = answer_of("200 OK", "text/plain", b"last");
            let first =
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
            [first.as_slice(), &last].concat()
        })
        .await;
        let mut client = client(vault.address(), cached).await;
        for _ in 0..2 {
            let answer = client.ask(ask("GET", "/v1/secret/data/x")).await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "last"));
        }
    }
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_an_error() {
    for cached in EACH {
        let vault = Recorder::start(|_| {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: odd\r\n\r\n"
                .to_vec()
        })
        .await;
        let mut client = client(vault.address(), cached).await;
        let answer = client.ask(ask("GET", "/v1/secret/data/x")).await;
        assert_eq!(answer.status(), 502, "{}", answer.text());
        assert!(answer.text().contains(&vault.address()));
    }
}

#[tokio::test]
async fn an_old_servers_answer_is_a_new_ones() {
    for cached in EACH {
        for content_type in ["application/json", "text/plain"] {
            let vault = Recorder::start(move |_| {
                format!("HTTP/1.0 200 OK\r\nContent-Type: {content_type}\r\nDate: x\r\n\r\n[1]")
                    .into_bytes()
            })
            .await;
            let mut client = client(vault.address(), cached).await;
            for _ in 0..2 {
                let answer = client.ask(ask("GET", "/v1/secret/data/x")).await;
                let line = answer.first_line();
                assert_eq!(
                    (line.as_str(), answer.text().as_str()),
                    ("HTTP/1.1 200 OK", "[1]")
                );
            }
        }
    }
}

#[tokio::test]
async fn an_old_client_is_answered_as_it_understands() {
    let vault = Recorder::start(|_| framed("chunked", JSON, r#"{"data":{"a":1}}"#)).await;
    for cached in EACH {
        let leasehold = start(config(vault.address(), cached)).await;
        let mut client = super::client_of(&leasehold).await;
        let answer = client.ask("GET /v1/secret/data/x HTTP/1.0\r\n\r\n").await;
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.text(), r#"{"data":{"a":1}}"#);
        client.closed().await;
    }
}

const JSON: &str = "Content-Type: application/json";

fn framed(framing: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    match framing {
        "length" => {
            format!("HTTP/1.1 200 OK\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{body}")
        }
        "chunked" if body.is_empty() => {
            format!("HTTP/1.1 200 OK\r\n{headers}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        }
        "chunked" => {
            let (half, rest) = body.split_at(1);
            let rest_length = rest.len();
            let rest = match rest_length {
                0 => String::new(),
                _ => format!("{rest_length:x}\r\n{rest}\r\n"),
            };
            format!(
                "HTTP/1.1 200 OK\r\n{headers}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{half}\r\n{rest}0\r\n\r\n"
            )
        }
        _ => format!("HTTP/1.1 200 OK\r\n{headers}\r\nConnection: close\r\n\r\n{body}"),
    }
    .into_bytes()
}
