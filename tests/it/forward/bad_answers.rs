//! Answers of an upstream whose framing is not in order: none is passed on as whole, and none is left behind
//! in the pool for the next caller to find.

use super::{EACH, ask, client_of, config, start};
use crate::support::millis;
use crate::wire::{ByHand, Message, answer_of};

const PATH: &str = "/v1/kv/x";

/// What the upstream sends for the first request, and the status that the caller sees; 0 for an answer that
/// breaks off.
fn answers() -> Vec<(&'static str, Vec<u8>, u16)> {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "a".repeat(1_000_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}", "X: a\r\n".repeat(5000));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20_000);
    let raw = |head: &str| format!("HTTP/1.1 200 OK\r\n{head}").into_bytes();
    vec![
        (
            "length and chunks",
            raw("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
            502,
        ),
        (
            "two lengths",
            raw("Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}"),
            502,
        ),
        (
            "a length with a sign",
            raw("Content-Length: +2\r\n\r\n{}"),
            502,
        ),
        (
            "a length below zero",
            raw("Content-Length: -2\r\n\r\n{}"),
            502,
        ),
        (
            "a length of nothing",
            raw("Content-Length: \r\n\r\n{}"),
            502,
        ),
        (
            "a line without a colon",
            raw("Content-Length 2\r\n\r\n{}"),
            502,
        ),
        (
            "a space before the colon",
            raw("Content-Length : 2\r\n\r\n{}"),
            502,
        ),
        ("a NUL", raw("X: a\0\r\nContent-Length: 2\r\n\r\n{}"), 502),
        ("no status", b"HTTP/1.1 OK\r\n\r\n".to_vec(), 502),
        (
            "another protocol",
            b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec(),
            502,
        ),
        (
            "HTTP/2",
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64".to_vec(),
            502,
        ),
        ("a huge head", long.into_bytes(), 502),
        ("many headers", many.into_bytes(), 502),
        ("interim answers without an end", interim.into_bytes(), 504),
        (
            "a body that is short",
            raw("Content-Length: 9\r\n\r\n{}"),
            0,
        ),
        (
            "a chunk's size that is none",
            raw("Transfer-Encoding: chunked\r\n\r\nx\r\n{}\r\n0\r\n\r\n"),
            0,
        ),
        (
            "a chunk's size that overflows",
            raw("Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n"),
            0,
        ),
        (
            "a chunk that is too long",
            raw("Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n"),
            0,
        ),
        (
            "chunks without an end",
            raw("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
            0,
        ),
    ]
}

#[tokio::test]
async fn an_answer_that_is_not_in_order_is_not_passed_on_as_whole() {
    for cached in EACH {
        for (what, bytes, status) in answers() {
            let vault = ByHand::bind().await;
            let mut config = config(vault.address(), cached);
            config.vault.timeout = millis(1500);
            let leasehold = start(config).await;
            let mut client = client_of(&leasehold).await;
            client.send(ask("PUT", PATH)).await;
            let mut upstream = vault.asked(PATH).await;
            upstream.try_send(bytes).await;
            if status != 504 {
                drop(upstream);
            }
            let answer = client.try_answer().await;
            let seen = match &answer {
                Some(answer) if answer.whole => answer.status(),
                Some(_) | None => 0,
            };
            assert_eq!(seen, status, "{what}: {:?}", answer.map(|it| it.text()));
            the_next_is_another_matter(&vault, &leasehold, what).await;
        }
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_are_nobodys_answer() {
    for cached in EACH {
        let vault = ByHand::bind().await;
        let leasehold = start(config(vault.address(), cached)).await;
        let mut client = client_of(&leasehold).await;
        client.send(ask("PUT", PATH)).await;
        let mut upstream = vault.asked(PATH).await;
        let mine = answer_of("200 OK", "application/json", b"{\"a\":1}");
        let nobodys = answer_of("200 OK", "application/json", b"{\"secret\":1}");
        upstream.send([mine, nobodys].concat()).await;
        let answer: Message = client.answer(b"PUT").await;
        assert_eq!(answer.text(), "{\"a\":1}");
        the_next_is_another_matter(&vault, &leasehold, "bytes behind").await;
    }
}

/// Somebody else's request goes out on a new connection, and gets its own answer.
async fn the_next_is_another_matter(
    vault: &ByHand,
    leasehold: &leasehold::app::Leasehold,
    what: &str,
) {
    let mut other = client_of(leasehold).await;
    other.send(ask("PUT", "/v1/kv/other")).await;
    let mut upstream = vault.asked("/v1/kv/other").await;
    upstream
        .send(answer_of("200 OK", "application/json", b"{\"other\":1}"))
        .await;
    let answer = other.answer(b"PUT").await;
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, "{\"other\":1}"),
        "{what}"
    );
}
