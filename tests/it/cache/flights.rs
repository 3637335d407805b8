//! One fetch for many who ask at the same time, however it ends.

use std::time::Duration;

use http::StatusCode;
use leasehold::dev::{Fault, Options};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{CREDS, KV1, KV2, ROLE, Reply, Rig, millis, pass, seconds};

const CROWD: usize = 500;

fn all_the_same(replies: &[Reply]) {
    for reply in replies {
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.at("/data"), replies[0].at("/data"));
    }
}

#[tokio::test(start_paused = true)]
async fn five_hundred_cold_reads_are_one_call() {
    for delay in [Duration::ZERO, seconds(2)] {
        for path in [KV2, KV1, "kv/app?list=true", "secret/metadata/app/config"] {
            let rig = Rig::new().await;
            rig.fault(Fault::on("*", "*").delay(delay));
            let replies = rig.all_at_once("GET", path, CROWD).await;
            all_the_same(&replies);
            let bare = path.split('?').next().unwrap();
            assert_eq!(rig.asked("GET", bare), 1, "{path} {delay:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn five_hundred_cold_reads_of_a_role_are_one_credential() {
    for fault in [
        Fault::on("*", "*"),
        Fault::on("*", "*").delay(seconds(2)),
        Fault::on("*", "*").late(seconds(2)),
        Fault::on("*", "*").slow(40, millis(100)),
    ] {
        let rig = Rig::new().await;
        rig.fault(fault);
        let replies = rig.all_at_once("GET", CREDS, CROWD).await;
        all_the_same(&replies);
        assert_eq!(rig.vault.minted(ROLE).total, 1);
        let (user, password) = replies[0].user();
        assert!(rig.vault.may_log_in(&user, &password));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_kept_are_shared_in_one_flight() {
    let rig = Rig::new().await;
    rig.fault(Fault::on("GET", "*").delay(millis(100)));
    for (path, status) in [
        ("secret/data/app/absent", 404),
        ("secret/data/forbidden/other", 403),
        ("kv/app/absent", 404),
        ("database/creds/other", 403),
    ] {
        for round in 1..=2 {
            for reply in rig.all_at_once("GET", path, CROWD).await {
                assert_eq!(reply.status, status);
                assert_eq!(reply.cache(), "MISS");
            }
            assert_eq!(rig.asked("GET", path), round, "{path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_hurts_nobody() {
    for path in [KV2, CREDS] {
        let rig = Rig::new().await;
        rig.fault(Fault::on("GET", "*").delay(seconds(1)));
        let first = rig.start("GET", path, Value::Null);
        pass(millis(100)).await;
        let others: Vec<_> = (0..CROWD)
            .map(|_| rig.start("GET", path, Value::Null))
            .collect();
        pass(millis(100)).await;
        first.abort();
        for other in others.iter().take(CROWD / 2) {
            other.abort();
        }
        let mut replies = Vec::new();
        for other in others.into_iter().skip(CROWD / 2) {
            replies.push(other.await.unwrap());
        }
        all_the_same(&replies);
        assert_eq!(rig.asked("GET", path), 1);
    }
}

/// The hang-up of the only one who asked reaches Vault; with others waiting it does not.
#[tokio::test(start_paused = true)]
async fn when_all_have_left_the_fetch_ends_too() {
    let rig = Rig::new().await;
    rig.fault(Fault::on("GET", "*").delay(seconds(50)).times(1));
    let only = rig.start("GET", KV2, Value::Null);
    pass(millis(100)).await;
    only.abort();
    pass(millis(1)).await;
    assert_eq!(rig.status().await["upstream_in_use"], 0);
    let begun = Instant::now();
    assert_eq!(rig.get(KV2).await.cache(), "MISS");
    assert_eq!(
        begun.elapsed(),
        Duration::ZERO,
        "it waited for who had left"
    );
    assert_eq!(rig.asked("GET", KV2), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_shared_and_the_next_one_tries_anew() {
    let cuts: [fn(Fault) -> Fault; 3] = [
        Fault::cut_before_head,
        Fault::cut_after_processing,
        |fault| fault.cut_after_body(20),
    ];
    for cut in cuts {
        let rig = Rig::new().await;
        rig.fault(cut(Fault::on("GET", "*").delay(seconds(1)).times(1)));
        let begun = Instant::now();
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let client = rig.client();
                rig.tasks.spawn("client", async move {
                    client.try_send("GET", CREDS, Value::Null).await
                })
            })
            .collect();
        let mut failed = 0;
        for reply in crowd {
            match reply.await.unwrap() {
                Ok(reply) => {
                    assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{}", reply.json());
                    assert!(reply.at("/errors/0").contains("vault.test:8200"));
                    failed += 1;
                }
                Err(_broken) => failed += 1,
            }
        }
        assert_eq!(failed, CROWD);
        assert_eq!(begun.elapsed(), seconds(1));
        assert_eq!(rig.asked("GET", CREDS), 1);
        let next = rig.get(CREDS).await;
        assert_eq!((next.status, next.cache()), (StatusCode::OK, "MISS"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_read_ends_at_its_deadline_for_all() {
    let rig = Rig::new().await;
    rig.fault(Fault::on("GET", "*").hang().times(1));
    let begun = Instant::now();
    for reply in rig.all_at_once("GET", KV2, 50).await {
        assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
    }
    assert_eq!(begun.elapsed(), seconds(60));
    assert_eq!(rig.get(KV2).await.status, 200);
}

/// Writes are never held back for one another, nor answered for one another.
#[tokio::test(start_paused = true)]
async fn writes_are_sent_each() {
    let rig = Rig::new().await;
    rig.fault(Fault::on("*", "*").delay(seconds(1)));
    let begun = Instant::now();
    let body = json!({ "plaintext": "aGVsbG8=" });
    let writes: Vec<_> = (0..20)
        .map(|_| rig.start("POST", "transit/encrypt/app", body.clone()))
        .collect();
    let mut texts = std::collections::BTreeSet::new();
    for write in writes {
        texts.insert(write.await.unwrap().at("/data/ciphertext"));
    }
    assert_eq!(begun.elapsed(), seconds(1));
    assert_eq!(rig.asked("POST", "transit/encrypt/app"), 20);
    assert_eq!(texts.len(), 20);
}

/// A read that a pooled connection swallows is sent once more when it creates nothing, else not.
#[tokio::test(start_paused = true)]
async fn a_closed_pooled_connection_costs_plain_reads_nothing() {
    let rig = Rig::with(Options::default(), |config| {
        config.vault.max_connections = 1
    })
    .await;
    rig.get("secret/data/app/warm").await;
    rig.fault(Fault::on("GET", "*").cut_before_head().times(1));
    assert_eq!(rig.get(KV2).await.status, 200);
    assert_eq!(rig.asked("GET", KV2), 2);
    rig.fault(Fault::on("GET", "*").cut_before_head().times(1));
    assert_eq!(rig.get(CREDS).await.status, 502);
    assert_eq!(rig.asked("GET", CREDS), 1);
}
