//! The development Vault over a connection: what the fault script does to the bytes.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::{DevVault, Fault, Options, pattern};
use crate::secret::Secret;
use crate::tasks::Tasks;

fn vault() -> DevVault {
    DevVault::new(&Options {
        root_token: Some(Secret::new("root")),
        download_size: 300_000,
        ..Options::default()
    })
}

/// Sends one request and reads until the server closes.
async fn exchange(vault: &DevVault, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let tasks = Tasks::new();
    let mut pipe = vault.serve_duplex(&tasks);
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: vault\r\nX-Vault-Token: root\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    pipe.write_all(head.as_bytes()).await.unwrap();
    pipe.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.unwrap();
    answer
}

fn split(answer: &[u8]) -> (String, &[u8]) {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    (
        String::from_utf8(answer[..end].to_vec()).unwrap(),
        &answer[end + 4..],
    )
}

#[tokio::test(start_paused = true)]
async fn an_answer_looks_like_gos() {
    let answer = exchange(&vault(), "GET", "/v1/secret/data/none", b"").await;
    let (head, body) = split(&answer);
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
    for line in [
        "\r\nCache-Control: no-store",
        "\r\nContent-Type: application/json",
        "\r\nContent-Length: 14",
        "\r\nDate: ",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(body, b"{\"errors\":[]}\n");
}

#[tokio::test(start_paused = true)]
async fn long_answers_are_chunked_and_204_has_nothing() {
    let vault = vault();
    let answer = exchange(&vault, "GET", "/v1/sys/mounts", b"").await;
    let (head, _) = split(&answer);
    assert!(
        head.contains("Transfer-Encoding: chunked") && !head.contains("Content-Length"),
        "{head}"
    );
    let answer = exchange(&vault, "PUT", "/v1/kv/x", b"{\"a\":1}").await;
    let (head, body) = split(&answer);
    assert!(
        head.starts_with("HTTP/1.1 204") && !head.contains("Content-Length") && body.is_empty(),
        "{head}"
    );
}

#[tokio::test(start_paused = true)]
async fn cuts_happen_where_they_are_told_to() {
    let vault = vault();
    let read = "/v1/secret/data/app/config";
    vault
        .faults()
        .add(Fault::on("GET", read).nth(1).cut_before_head());
    assert!(exchange(&vault, "GET", read, b"").await.is_empty());
    vault.faults().clear();

    vault.faults().add(Fault::on("GET", read).cut_after_head());
    let answer = exchange(&vault, "GET", read, b"").await;
    let (head, body) = split(&answer);
    assert!(head.contains("200 OK") && head.contains("Content-Length: ") && body.is_empty());
    vault.faults().clear();

    vault
        .faults()
        .add(Fault::on("GET", read).cut_after_body(10));
    let answer = exchange(&vault, "GET", read, b"").await;
    assert_eq!(split(&answer).1, b"{\"request_");
    vault.faults().clear();

    vault
        .faults()
        .add(Fault::on("PUT", "/v1/kv/*").cut_after_processing());
    assert!(
        exchange(&vault, "PUT", "/v1/kv/made", b"{\"a\":1}")
            .await
            .is_empty()
    );
    let (status, _) = vault
        .root("GET", "/v1/kv/made", serde_json::Value::Null)
        .await;
    assert_eq!(status, StatusCode::OK, "it was processed");
    assert_eq!(vault.log().count("*", "/v1/*"), 4);
}

#[tokio::test(start_paused = true)]
async fn delays_refusals_and_hangs() {
    let vault = vault();
    let started = Instant::now();
    vault.faults().add(
        Fault::on("*", "*")
            .delay(Duration::from_secs(3))
            .times(1)
            .refuse(StatusCode::TOO_MANY_REQUESTS, "rate limited")
            .header(RETRY_AFTER, HeaderValue::from_static("7")),
    );
    let answer = exchange(&vault, "GET", "/v1/kv/app/config", b"").await;
    let (head, body) = split(&answer);
    assert!(
        head.starts_with("HTTP/1.1 429") && head.contains("Retry-After: 7"),
        "{head}"
    );
    assert_eq!(body, b"{\"errors\":[\"rate limited\"]}\n");
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    let hang = vault.faults().add(Fault::on("GET", "/v1/kv/*").hang());
    let hung = exchange(&vault, "GET", "/v1/kv/app/config", b"");
    assert!(
        tokio::time::timeout(Duration::from_secs(3600), hung)
            .await
            .is_err()
    );
    assert_eq!(vault.faults().fired(hang), 1);
    vault.faults().remove(hang);
    assert!(
        !exchange(&vault, "GET", "/v1/kv/app/config", b"")
            .await
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn large_downloads_and_uploads_stream() {
    let vault = vault();
    let answer = exchange(&vault, "GET", "/v1/sys/storage/raft/snapshot", b"").await;
    let (head, _) = split(&answer);
    assert!(head.contains("Content-Type: application/gzip"), "{head}");
    assert!(answer.len() > 300_000);
    let upload: Bytes = (0..700_000).map(pattern).collect();
    let answer = exchange(&vault, "POST", "/v1/sys/storage/raft/snapshot", &upload).await;
    assert!(answer.starts_with(b"HTTP/1.1 204"));
    assert_eq!(vault.uploaded(), 700_000);
    let record = vault.log().matching("POST", "*").remove(0);
    assert_eq!((record.received(), record.body()), (Some(700_000), None));
}

#[tokio::test(start_paused = true)]
async fn the_log_has_the_target_as_it_came() {
    let vault = vault();
    exchange(&vault, "GET", "/v1/secret//data/a%2Fb;x?", b"").await;
    let record = vault.log().records().remove(0);
    assert_eq!(record.target, "/v1/secret//data/a%2Fb;x?");
    assert_eq!(record.status(), Some(StatusCode::TEMPORARY_REDIRECT));
    assert_eq!(record.header("x-vault-token"), Some("root"));
}

#[tokio::test]
async fn a_taken_port_says_so() {
    let (vault, tasks) = (vault(), Tasks::new());
    let bound = vault.listen("127.0.0.1:0", &tasks).await.unwrap();
    let error = vault.listen(&bound.to_string(), &tasks).await.unwrap_err();
    assert!(
        error.to_string().contains(&bound.to_string())
            && error.to_string().contains("another port"),
        "{error}"
    );
    let mut socket = tokio::net::TcpStream::connect(bound).await.unwrap();
    socket
        .write_all(b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"));
    assert!(tasks.stop(Duration::from_secs(5)).await);
}
