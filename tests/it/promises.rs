//! The promises of this version, each held against the whole: its first tests to read, and the last to
//! give up. What else belongs to each is in the files of the rooms.

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;
use leasehold::config::Config;
use leasehold::dev::{Fault, Options, TokenWish};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    CREDS, KV1, KV2, ROLE, Reader, Rig, kv2, leases_of, measured, millis, pass, seconds,
};

/// Leases and our own token come and go; one lease in ten is revoked by somebody through us, one in ten by
/// the mount. Nothing dead is served, and what is said to be left is left.
#[tokio::test(start_paused = true)]
async fn promise_1_no_dead_credential() {
    let options = Options {
        token_ttl: seconds(60),
        token_max_ttl: seconds(150),
        ..leases_of(12, 40)
    };
    let rig = Rig::with(options, |_| ()).await;
    rig.fault(Fault::on("*", "*").delay(millis(30)));
    let root = rig.bearing(rig.vault.root_token().expose());
    let mut said: HashMap<(String, String), Instant> = HashMap::new();
    for second in 0..900_u64 {
        let reply = rig.get(&format!("{CREDS}?n={}", second % 3)).await;
        let user = reply.user();
        assert!(rig.vault.may_log_in(&user.0, &user.1), "dead at {second} s");
        let left = reply.number("/lease_duration");
        if reply.cache() == "HIT" {
            // `min_remaining` is 10 s, at most a quarter of the TTL.
            assert!(left >= 2, "{left} s left at {second} s");
            said.insert(user.clone(), Instant::now() + seconds(left));
        }
        match second % 20 {
            7 => {
                let lease = json!({ "lease_id": reply.at("/lease_id"), "sync": false });
                root.put("sys/leases/revoke", lease).await;
                said.remove(&user);
            }
            17 => {
                root.put("sys/leases/revoke-prefix/database", Value::Null)
                    .await;
                said.clear();
            }
            _ => {}
        }
        pass(seconds(1)).await;
        said.retain(|user, until| {
            let is_alive = rig.vault.may_log_in(&user.0, &user.1);
            assert!(
                is_alive || *until <= Instant::now(),
                "it was said to live on"
            );
            is_alive
        });
    }
}

#[tokio::test(start_paused = true)]
async fn promise_2_make_before_break() {
    let rig = Rig::with(leases_of(20, 60), |_| ()).await;
    rig.fault(Fault::on("*", "*").delay(millis(500)));
    for path in [CREDS, "aws/creds/app"] {
        let mut waits = 0;
        rig.get(path).await;
        for _ in 0..3_000 {
            let begun = Instant::now();
            assert_eq!(rig.get(path).await.status, 200);
            waits += usize::from(begun.elapsed() > Duration::ZERO);
            pass(millis(200)).await;
        }
        assert_eq!(waits, 0, "{path}");
    }
    let minted = rig.vault.minted(ROLE);
    assert!(minted.total >= 10 && minted.most_at_once <= 2, "{minted:?}");
}

/// Every path that is kept, asked for by everybody else after its owner had it.
#[tokio::test(start_paused = true)]
async fn promise_3_no_borrowed_rights() {
    let rig = Rig::new().await;
    let owner = rig.stranger().await;
    let poor = rig
        .token(TokenWish {
            policies: vec!["default".to_owned()],
            ..TokenWish::default()
        })
        .await;
    for path in [
        KV2,
        KV1,
        CREDS,
        "aws/creds/app",
        "secret/metadata/app?list=true",
    ] {
        for _ in 0..2 {
            owner.get(path).await;
            rig.get(path).await;
        }
        for client in [
            rig.bearing(&poor),
            rig.header("authorization", &format!("Bearer {poor}")),
            rig.bearing("hvs.made-up"),
        ] {
            let reply = client.get(path).await;
            assert_eq!(
                (reply.status, reply.cache()),
                (StatusCode::FORBIDDEN, "MISS")
            );
        }
        if path.contains("creds") {
            assert_ne!(
                owner.get(path).await.at("/lease_id"),
                rig.get(path).await.at("/lease_id")
            );
        }
    }
}

/// However the connection ends, and whoever waits for the answer.
#[tokio::test(start_paused = true)]
async fn promise_4_a_mint_happens_once() {
    let cuts: [fn(Fault) -> Fault; 4] = [
        Fault::cut_before_head,
        Fault::cut_after_processing,
        Fault::cut_after_head,
        |fault| fault.cut_after_body(30),
    ];
    let login = |rig: &Rig| {
        let secret_id = rig.vault.secret_id().expose().to_owned();
        json!({ "role_id": rig.vault.role_id(), "secret_id": secret_id })
    };
    for cut in cuts {
        let children = |config: &mut Config| config.allow_child_tokens = true;
        let rig = Rig::with(Options::default(), children).await;
        // So that there is a pooled connection to break.
        rig.get(KV2).await;
        for (method, path, fields) in [
            ("GET", CREDS, Value::Null),
            ("GET", "aws/creds/app", Value::Null),
            ("POST", "aws/sts/app", json!({ "ttl": "60s" })),
            ("PUT", "auth/approle/login", login(&rig)),
            ("POST", "auth/token/create", json!({})),
            ("PUT", "secret/data/app/x", kv2("x")),
            ("DELETE", "secret/data/app/x", Value::Null),
        ] {
            rig.fault(cut(Fault::on(method, &format!("/v1/{path}")).times(1)));
            let before = rig.asked("*", path);
            if let Ok(reply) = rig.try_send(method, path, fields).await {
                let is_failed = reply.status == StatusCode::BAD_GATEWAY;
                // What has no body is whole when its head is there.
                assert!(
                    is_failed || reply.status == 204,
                    "{method} {path}: {}",
                    reply.status
                );
            }
            assert_eq!(rig.asked("*", path), before + 1, "{method} {path}");
        }
    }
}

/// Also by the texts that Vault itself sends, in what is said to clients.
#[tokio::test(start_paused = true)]
async fn promise_5_no_secret_in_what_is_said_of_failures() {
    let rig = Rig::new().await;
    let token = rig.token(TokenWish::default()).await;
    let lease = rig.get(CREDS).await.at("/lease_id");
    let _outage = rig.outage();
    let client = rig.bearing(&token);
    for (path, fields) in [
        (format!("auth/token/revoke/{token}"), Value::Null),
        (format!("sys/leases/renew/{lease}"), Value::Null),
        (format!("sys/leases/revoke/{lease}"), Value::Null),
        ("auth/token/revoke".to_owned(), json!({ "token": token })),
        (format!("secret/data/x?token={token}"), kv2(token.clone())),
    ] {
        let reply = client.put(&path, fields).await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
        let text = reply.json().to_string() + &rig.status().await.to_string();
        assert!(!text.contains(&token) && !text.contains(&lease), "{text}");
    }
    let shown = format!("{:?}", rig.leasehold);
    assert!(!shown.contains(&token), "{shown}");
}

/// A thousand leases, our own token and everything that is due, while Vault refuses everything: a bucket of
/// 20 and ten a second, for as long as it lasts.
#[tokio::test(start_paused = true)]
async fn promise_6_vault_is_not_attacked_by_its_own_sidecar() {
    let rig = Rig::with(leases_of(300, 30_000), |config| {
        config.cache.as_mut().unwrap().leases.idle_ttl = Some(seconds(30_000));
    })
    .await;
    for number in 0..1_000 {
        rig.get(&format!("{CREDS}?n={number}")).await;
    }
    let paths: Vec<String> = (0..50).map(|number| format!("{KV2}?n={number}")).collect();
    for path in &paths {
        rig.get(path).await;
    }
    pass(seconds(200)).await;
    rig.vault.log().clear();
    rig.fault(Fault::on("*", "*").refuse(StatusCode::INTERNAL_SERVER_ERROR, "broken"));
    let mut most = 0;
    for second in 0..170_u64 {
        let before = rig.vault.log().total();
        for path in &paths {
            assert_eq!(rig.get(path).await.cache(), "HIT", "{second} s");
        }
        pass(seconds(1)).await;
        most = most.max(rig.vault.log().total() - before);
    }
    let calls = rig.vault.log().total();
    measured(format_args!(
        "1,000 leases and 50 due entries against a broken Vault: {calls} calls in 170 s, {most} in a second"
    ));
    assert!(most <= 31, "{most} calls in a second");
    assert!(calls <= 20 + 1_700, "{calls} calls");

    // And Vault's own word for peace, said to one who asks, is heeded by all.
    let rig = Rig::with(leases_of(100, 4_000), |_| ()).await;
    rig.get(KV2).await;
    pass(seconds(231)).await;
    rig.get(CREDS).await;
    pass(seconds(70)).await;
    let peace = Fault::on("GET", "*").refuse(StatusCode::TOO_MANY_REQUESTS, "slow down");
    rig.fault(peace.header(RETRY_AFTER, "15".parse().unwrap()));
    let calls = rig.vault.log().total();
    rig.get(KV2).await;
    pass(millis(10)).await;
    assert_eq!(rig.vault.log().total(), calls + 1);
    for _ in 0..14 {
        assert_eq!(rig.get(KV2).await.cache(), "HIT");
        assert_eq!(rig.get(CREDS).await.cache(), "HIT");
        pass(seconds(1)).await;
    }
    assert_eq!(rig.vault.log().total(), calls + 1, "calls within the 15 s");
    pass(seconds(2)).await;
    assert_eq!(
        rig.asked("PUT", "sys/leases/renew"),
        1,
        "due for ten seconds"
    );
}

#[tokio::test(start_paused = true)]
async fn promise_7_the_cache_never_spoils_a_good_answer() {
    for is_cached in [false, true] {
        let rig = Rig::with(Options::default(), |config| {
            config.cache = config.cache.take().filter(|_| is_cached);
        })
        .await;
        for body in [
            "[]",
            "{\n}",
            r#"{"data":"x"}"#,
            r#"{"lease_id":1.0}"#,
            r#"{"auth":"x"}"#,
            "\u{feff}{}",
            "<html>",
            "",
        ] {
            let id = rig.fault(Fault::on("*", "/v1/odd").answer(StatusCode::OK, body));
            for method in ["GET", "POST", "GET", "LIST"] {
                let reply = rig
                    .raw(method, "/v1/odd", Some("x".to_owned()))
                    .await
                    .unwrap();
                assert_eq!(
                    (reply.status, reply.body.as_ref()),
                    (StatusCode::OK, body.as_bytes())
                );
            }
            rig.vault.faults().remove(id);
        }
        let target = "/v1/secret//data/./app/%63onfig/?b=1&a=%20&b";
        rig.raw("GET", target, None).await.unwrap();
        assert_eq!(rig.vault.log().records().last().unwrap().target, target);
    }
}

/// Two thousand times, with four readers who never rest, by every identity.
#[tokio::test(start_paused = true)]
async fn promise_8_writes_are_seen_at_once() {
    let rig = Rig::new().await;
    rig.fault(Fault::on("PUT", "*").late(millis(3)));
    rig.fault(Fault::on("GET", "/v1/secret/*").late(millis(7)));
    let owner = rig.stranger().await;
    let acknowledged = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut readers = Vec::new();
    for client in [rig.client(), rig.client(), owner.clone(), owner] {
        let acknowledged = std::sync::Arc::clone(&acknowledged);
        readers.push(rig.tasks.spawn("reader", async move {
            let (mut stale, mut reads, mut hits) = (0_u64, 0_u64, 0_u64);
            loop {
                let at_least = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
                if at_least == WRITES {
                    return (stale, reads, hits);
                }
                let reply = client.get("secret/data/app/counter").await;
                if at_least > 0 {
                    stale += u64::from(reply.number("/data/data/value") < at_least);
                }
                reads += 1;
                hits += u64::from(reply.cache() == "HIT");
                pass(millis(1)).await;
            }
        }));
    }
    for value in 1..=WRITES {
        let written = rig.put("secret/data/app/counter", kv2(value)).await;
        assert_eq!(written.status, 200);
        acknowledged.store(value, std::sync::atomic::Ordering::SeqCst);
        if value % 5 == 0 {
            pass(millis(20)).await;
        }
    }
    for reader in readers {
        let (stale, reads, hits) = reader.await.unwrap();
        measured(format_args!(
            "a reader beside {WRITES} writes: {stale} of {reads} reads stale, {hits} hits"
        ));
        assert_eq!(stale, 0);
        assert!(
            hits * 10 > reads,
            "hardly anything came from memory: {hits} of {reads}"
        );
    }
}

const WRITES: u64 = 2_000;

#[tokio::test(start_paused = true)]
async fn promise_9_everything_is_bounded() {
    const SIZE: u64 = 200_000;
    let rig = Rig::with(Options::default(), |config| {
        config.vault.max_connections = 8;
        config.cache.as_mut().unwrap().max_size = SIZE;
    })
    .await;
    let made = rig.connections_made();
    rig.fault(Fault::on("GET", "*").delay(millis(100)));
    let begun = Instant::now();
    let reads: Vec<_> = (0..400)
        .map(|number| rig.start("GET", &format!("{KV2}?n={number}"), Value::Null))
        .collect();
    pass(millis(50)).await;
    assert_eq!(rig.status().await["upstream_in_use"], 8);
    for read in reads {
        assert_eq!(read.await.unwrap().status, 200);
    }
    assert_eq!(
        begun.elapsed(),
        seconds(5),
        "400 reads, 8 at once, 100 ms each"
    );
    let connections = rig.connections_made() - made;
    assert!(connections <= 8, "{connections} connections");
    let cache = rig.status().await["cache"].clone();
    assert!(cache["bytes"].as_u64().unwrap() <= SIZE, "{cache}");
    // Waiting has an end: for a place, for an answer, for another's fetch.
    rig.vault.faults().clear();
    rig.fault(Fault::on("GET", "*").hang());
    let begun = Instant::now();
    let reads: Vec<_> = (0..100)
        .map(|number| rig.start("GET", &format!("{KV2}?late={}", number / 2), Value::Null))
        .collect();
    for read in reads {
        let status = read.await.unwrap().status.as_u16();
        assert!(matches!(status, 503 | 504), "{status}");
    }
    assert_eq!(begun.elapsed(), seconds(60));
    let tasks = rig.metric("leasehold_tasks").await;
    assert!(tasks <= 20, "{tasks} tasks are left");
}

#[tokio::test(start_paused = true)]
async fn promise_11_liveness_never_depends_on_vault() {
    let everything = || Fault::on("*", "*");
    let broken: [(&str, Fault); 4] = [
        ("absent", everything().cut_before_head()),
        ("silent", everything().hang()),
        (
            "broken",
            everything().refuse(StatusCode::INTERNAL_SERVER_ERROR, ""),
        ),
        (
            "forbidden",
            everything().refuse(StatusCode::FORBIDDEN, "no"),
        ),
    ];
    for (name, fault) in broken {
        let rig = Rig::new().await;
        rig.get(KV2).await;
        rig.fault(fault);
        let _waiting: Vec<_> = (0..200)
            .map(|number| rig.start("GET", &format!("{CREDS}?n={number}"), Value::Null))
            .collect();
        for _ in 0..600 {
            let before = rig.vault.log().total();
            let begun = Instant::now();
            for path in ["/agent/v1/health", "/proxy/v1/health"] {
                let health = rig.raw("GET", path, None).await.unwrap();
                assert_eq!(
                    (health.status, health.at("/healthy")),
                    (StatusCode::OK, "true".into())
                );
            }
            for path in ["ready", "status", "metrics"] {
                rig.raw("GET", &format!("/agent/v1/{path}"), None)
                    .await
                    .unwrap();
            }
            assert!(begun.elapsed().is_zero());
            assert_eq!(
                rig.vault.log().total(),
                before,
                "{name}: health asked Vault"
            );
            pass(seconds(1)).await;
        }
    }
}

/// Beside the promises: what a reader of a short role sees is what the house was built for.
#[tokio::test(start_paused = true)]
async fn a_reader_notices_nothing() {
    let rig = Rig::with(leases_of(6, 18), |_| ()).await;
    let seen = Reader::new(&rig, CREDS, seconds(1))
        .watch(seconds(60))
        .await;
    seen.assert_all_alive_and_no_waits();
}
