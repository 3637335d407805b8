//! Bodies on their way: first bytes at once, ends and breaks passed on in both directions.

use super::{EACH, ask, client, client_of, config, start};
use crate::wire::{ByHand, answer_of};

const VERSION: &str =
    r#"{"data":{"data":{"a":1},"metadata":{"version":1,"created_time":"x"}},"mount_type":"kv"}"#;
/// Stored or not, collected or not.
const TYPES: [&str; 2] = ["application/json", "application/octet-stream"];
const PATH: &str = "/v1/secret/data/x";

#[tokio::test]
async fn first_bytes_of_an_answer_go_out_at_once() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        for content_type in TYPES {
            let mut client = client(vault.address(), cached).await;
            client.send(ask("GET", PATH)).await;
            let mut upstream = vault.accept().await;
            upstream.request().await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n");
            upstream.send(head + "Content-Length: 9\r\n\r\n[1,").await;
            assert!(client.head().await.unwrap().starts_with(b"HTTP/1.1 200"));
            client.expect("[1,").await;
            upstream.send("2,3").await;
            client.expect("2,3").await;
            upstream.send(",4]").await;
            client.expect(",4]").await;
        }
    }
}

#[tokio::test]
async fn first_chunks_of_an_answer_go_out_at_once() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        for content_type in TYPES {
            let mut client = client(vault.address(), cached).await;
            client.send(ask("GET", PATH)).await;
            let mut upstream = vault.accept().await;
            upstream.request().await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n");
            upstream
                .send(head + "Transfer-Encoding: chunked\r\n\r\n")
                .await;
            assert!(client.head().await.unwrap().starts_with(b"HTTP/1.1 200"));
            for chunk in ["3\r\n[1,\r\n", "2\r\n2]\r\n", "0\r\n\r\n"] {
                upstream.send(chunk).await;
                client.expect(chunk).await;
            }
        }
    }
}

/// Of calls whose body the cache looks at, and of calls whose body it does not need.
#[tokio::test]
async fn first_bytes_of_an_upload_go_out_at_once() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        for path in [
            "sys/storage/raft/snapshot",
            "secret/data/x",
            "kv/x",
            "transit/encrypt/x",
            "sys/leases/revoke",
            "auth/approle/login",
        ] {
            let mut client = client(vault.address(), cached).await;
            let head = format!("POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\n");
            client
                .send(head + "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n")
                .await;
            let mut upstream = vault.accept().await;
            assert!(upstream.head().await.unwrap().starts_with(b"POST /v1/"));
            upstream.expect("3\r\n{\"a\r\n").await;
            client.send("4\r\n\":1}\r\n").await;
            upstream.expect("4\r\n\":1}\r\n").await;
            client.send("0\r\n\r\n").await;
            upstream.expect("0\r\n\r\n").await;
            upstream
                .send(answer_of("404 Not Found", TYPES[0], b"{}"))
                .await;
            assert_eq!(client.answer(b"POST").await.status(), 404);
        }
    }
}

#[tokio::test]
async fn a_large_upload_is_not_read_ahead() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        client
            .send("PUT /v1/transit/encrypt/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\nabc")
            .await;
        let mut upstream = vault.accept().await;
        let head = upstream.head().await.unwrap();
        assert!(String::from_utf8_lossy(&head).contains("10000000"));
        upstream.expect("abc").await;
    }
}

/// Vault refuses an upload before its end: the client gets the answer, not a broken pipe.
#[tokio::test]
async fn an_answer_before_the_uploads_end_reaches_the_client() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        let mut client = client(vault.address(), cached).await;
        client
            .send(
                "PUT /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\nabc",
            )
            .await;
        let mut upstream = vault.accept().await;
        upstream.head().await.unwrap();
        upstream
            .send(answer_of(
                "413 Content Too Large",
                TYPES[0],
                b"{\"errors\":[]}",
            ))
            .await;
        let answer = client.answer(b"PUT").await;
        assert_eq!((answer.status(), answer.whole), (413, true));
    }
}

#[tokio::test]
async fn a_hang_up_before_the_answer_reaches_vault() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        for (method, path) in [
            ("GET", PATH),
            ("GET", "/v1/kv/x"),
            ("LIST", "/v1/kv/x"),
            ("GET", "/v1/sys/health"),
            ("POST", "/v1/pki/issue/x"),
            ("PUT", PATH),
            ("POST", "/v1/auth/a/login"),
        ] {
            let mut client = client(vault.address(), cached).await;
            client.send(ask(method, path)).await;
            let mut upstream = vault.asked(path).await;
            drop(client);
            upstream.closed().await;
        }
    }
}

#[tokio::test]
async fn a_hang_up_within_the_answer_reaches_vault() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        for content_type in TYPES {
            let mut client = client(vault.address(), cached).await;
            client.send(ask("GET", PATH)).await;
            let mut upstream = vault.asked(PATH).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n");
            upstream.send(head + "Content-Length: 9\r\n\r\n[1,").await;
            client.head().await.unwrap();
            client.expect("[1,").await;
            drop(client);
            upstream.closed().await;
        }
    }
}

#[tokio::test]
async fn a_hang_up_within_an_upload_reaches_vault() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        for framing in [
            "Content-Length: 100000\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let mut client = client(vault.address(), cached).await;
            client
                .send(format!(
                    "PUT /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\n{framing}"
                ))
                .await;
            let mut upstream = vault.accept().await;
            upstream.head().await.unwrap();
            drop(client);
            let seen = upstream.rest().await;
            // A broken upload must not look like a whole one.
            assert!(!seen.ends_with(b"0\r\n\r\n"), "{cached}");
        }
    }
}

#[tokio::test]
async fn a_hang_up_leaves_who_shares_the_call_alone() {
    let vault = ByHand::bind().await;
    for within_answer in [false, true] {
        let leasehold = start(config(vault.address(), true)).await;
        let mut leader = client_of(&leasehold).await;
        leader.send(ask("GET", PATH)).await;
        let mut upstream = vault.asked(PATH).await;
        let mut follower = client_of(&leasehold).await;
        follower.send(ask("GET", PATH)).await;
        let mut quitter = client_of(&leasehold).await;
        quitter.send(ask("GET", PATH)).await;
        joined(&leasehold, 2).await;
        drop(quitter);
        let answer = answer_of("200 OK", TYPES[0], VERSION.as_bytes());
        let (first, rest) = answer.split_at(answer.len() - 10);
        if within_answer {
            upstream.send(first).await;
            leader.head().await.unwrap();
        }
        drop(leader);
        // Many turns, in which a call that follows its leader would have been closed.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        if !within_answer {
            upstream.send(first).await;
        }
        upstream.send(rest).await;
        assert_eq!(follower.answer(b"GET").await.text(), VERSION);
        assert!(vault.is_quiet().await, "asked twice");
    }
}

#[tokio::test]
async fn when_all_who_share_a_call_have_left_it_ends() {
    let vault = ByHand::bind().await;
    let leasehold = start(config(vault.address(), true)).await;
    let mut leader = client_of(&leasehold).await;
    leader.send(ask("GET", PATH)).await;
    let mut upstream = vault.asked(PATH).await;
    let mut follower = client_of(&leasehold).await;
    follower.send(ask("GET", PATH)).await;
    joined(&leasehold, 1).await;
    drop(leader);
    drop(follower);
    upstream.closed().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_the_clients_too() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        for content_type in TYPES {
            for (framing, part) in [
                ("Content-Length: 100", "[1,"),
                ("Transfer-Encoding: chunked", "3\r\n[1,\r\n"),
                ("Transfer-Encoding: chunked", "30\r\n[1,"),
                // Whole by its look, but not by its framing.
                ("Transfer-Encoding: chunked", "3\r\n[1]\r\n"),
            ] {
                for reset in [false, true] {
                    let mut client = client(vault.address(), cached).await;
                    client.send(ask("GET", PATH)).await;
                    let mut upstream = vault.asked(PATH).await;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n");
                    upstream
                        .send(format!("{head}{framing}\r\n\r\n{part}"))
                        .await;
                    client.head().await.unwrap();
                    if reset {
                        upstream.reset();
                    } else {
                        drop(upstream);
                    }
                    let rest = client.rest().await;
                    let shown = String::from_utf8_lossy(&rest);
                    assert!(!shown.ends_with("0\r\n\r\n"), "{content_type} {framing}");
                }
            }
        }
    }
}

/// A broken answer is nobody's: who shared it gets an error, who asks next is answered by Vault.
#[tokio::test]
async fn an_answer_that_breaks_off_is_neither_shared_nor_kept() {
    let vault = ByHand::bind().await;
    let leasehold = start(config(vault.address(), true)).await;
    let mut leader = client_of(&leasehold).await;
    leader.send(ask("GET", PATH)).await;
    let mut upstream = vault.asked(PATH).await;
    let mut follower = client_of(&leasehold).await;
    follower.send(ask("GET", PATH)).await;
    joined(&leasehold, 1).await;
    let answer = answer_of("200 OK", TYPES[0], VERSION.as_bytes());
    upstream.send(&answer[..answer.len() - 1]).await;
    leader.head().await.unwrap();
    drop(upstream);
    let failed = follower.answer(b"GET").await;
    assert_eq!(failed.status(), 502);
    assert!(
        failed.text().contains(&vault.address()),
        "{}",
        failed.text()
    );
    follower.send(ask("GET", PATH)).await;
    let mut upstream = vault.asked(PATH).await;
    upstream.send(answer).await;
    assert_eq!(follower.answer(b"GET").await.text(), VERSION);
}

/// Waits until `count` requests have joined a flight of another.
async fn joined(leasehold: &leasehold::app::Leasehold, count: usize) {
    let mut client = client_of(leasehold).await;
    let wanted = format!(r#"leasehold_cache_requests_total{{result="coalesced"}} {count}"#);
    for _ in 0..10_000 {
        let metrics = client.ask(ask("GET", "/agent/v1/metrics")).await.text();
        if metrics.contains(&wanted) {
            return;
        }
    }
    panic!("nobody joined");
}
