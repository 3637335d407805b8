//! Whose answers are whose.

use leasehold::config::UseAutoAuthToken;
use leasehold::dev::{Fault, Options, TokenWish};
use serde_json::{Value, json};

use crate::support::{CREDS, Client, KV1, KV2, ROLE, Rig, seconds};

/// A token that may read nothing.
async fn nobody(rig: &Rig) -> String {
    rig.token(TokenWish {
        policies: vec!["default".to_owned()],
        ..TokenWish::default()
    })
    .await
}

fn bearer(rig: &Rig, token: &str) -> Client {
    rig.header("authorization", &format!("Bearer {token}"))
}

#[tokio::test(start_paused = true)]
async fn what_one_token_may_read_is_not_given_to_another() {
    let rig = Rig::new().await;
    let reader = rig.token(TokenWish::default()).await;
    for path in [KV2, KV1, CREDS, "secret/metadata/app?list=true"] {
        for client in [rig.client(), rig.bearing(&reader), bearer(&rig, &reader)] {
            assert_eq!(client.get(path).await.status, 200, "{path}");
            assert_eq!(client.get(path).await.cache(), "HIT", "{path}");
        }
        let other = nobody(&rig).await;
        for client in [
            rig.bearing(&other),
            bearer(&rig, &other),
            rig.bearing("no such token"),
            bearer(&rig, "no such token"),
        ] {
            assert_eq!(client.get(path).await.status, 403, "{path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flight_is_not_shared_with_another_token() {
    let rig = Rig::new().await;
    let (reader, other) = (rig.token(TokenWish::default()).await, nobody(&rig).await);
    rig.fault(Fault::on("GET", "*").delay(seconds(1)));
    for path in [KV2, CREDS] {
        let reading = rig.bearing(&reader).start("GET", path, Value::Null);
        let refused = rig.bearing(&other).start("GET", path, Value::Null);
        assert_eq!(reading.await.unwrap().status, 200);
        assert_eq!(refused.await.unwrap().status, 403);
    }
}

/// Either header names the same caller.
#[tokio::test(start_paused = true)]
async fn one_token_is_one_identity_by_either_header() {
    let rig = Rig::new().await;
    let token = rig.token(TokenWish::default()).await;
    let user = rig.bearing(&token).get(CREDS).await.user();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let client = rig.header("authorization", &format!("{scheme} {token}"));
        let reply = client.get(CREDS).await;
        if scheme == "Bearer" {
            assert_eq!((reply.cache(), reply.user()), ("HIT", user.clone()));
        }
    }
    assert_ne!(rig.get(CREDS).await.user(), user);
}

#[tokio::test(start_paused = true)]
async fn callers_without_a_token_share_ours() {
    let rig = Rig::new().await;
    let user = rig.get(CREDS).await.user();
    for client in [rig.client(), rig.header("x-vault-token", "")] {
        let reply = client.get(CREDS).await;
        assert_eq!((reply.cache(), reply.user()), ("HIT", user.clone()));
    }
    assert_eq!(rig.vault.minted(ROLE).total, 1);
}

#[tokio::test(start_paused = true)]
async fn under_force_everybody_shares_ours() {
    let rig = Rig::with(Options::default(), |config| {
        config.use_auto_auth_token = UseAutoAuthToken::Force;
    })
    .await;
    let user = rig.get(CREDS).await.user();
    let other = nobody(&rig).await;
    for client in [rig.bearing(&other), bearer(&rig, &other)] {
        assert_eq!(client.get(CREDS).await.user(), user);
    }
}

#[tokio::test(start_paused = true)]
async fn without_ours_an_anonymous_caller_gets_what_vault_gives_him() {
    let rig = Rig::with(Options::default(), |config| {
        config.use_auto_auth_token = UseAutoAuthToken::Off;
    })
    .await;
    let token = rig.token(TokenWish::default()).await;
    assert_eq!(rig.bearing(&token).get(KV2).await.status, 200);
    assert_eq!(rig.get(KV2).await.status, 403);
    assert_eq!(rig.get("sys/health").await.status, 200);
    assert_eq!(rig.bearing(&token).get(KV2).await.cache(), "HIT");
}

#[tokio::test(start_paused = true)]
async fn two_tokens_in_one_request_are_vaults_business() {
    let rig = Rig::new().await;
    let (one, two) = (rig.token(TokenWish::default()).await, nobody(&rig).await);
    rig.bearing(&one).get(KV2).await;
    for client in [
        rig.bearing(&one)
            .header("authorization", &format!("Bearer {two}")),
        rig.bearing(&one).bearing(&two),
        rig.bearing(&two).bearing(&one),
        bearer(&rig, &one).header("authorization", &format!("Bearer {two}")),
    ] {
        let before = rig.asked("GET", KV2);
        for _ in 0..2 {
            assert_eq!(client.get(KV2).await.cache(), "-");
        }
        assert_eq!(rig.asked("GET", KV2), before + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_personally_is_neither_kept_nor_shared() {
    for (name, value) in [
        ("x-vault-wrap-ttl", "60"),
        ("x-vault-mfa", "method:code"),
        ("x-vault-inline-auth-path", "auth/approle/login"),
        ("x-vault-policy-override", "true"),
    ] {
        let rig = Rig::new().await;
        rig.get(KV2).await;
        rig.get(CREDS).await;
        rig.fault(Fault::on("GET", "*").delay(seconds(1)));
        for path in [KV2, CREDS] {
            let before = rig.asked("GET", path);
            let client = rig.header(name, value);
            for reply in client.all_at_once("GET", path, 5).await {
                assert_ne!(reply.cache(), "HIT", "{name}");
            }
            assert_eq!(rig.asked("GET", path), before + 5, "{name} {path}");
            assert_eq!(rig.get(path).await.cache(), "HIT", "the others keep theirs");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wrapped_answers_open_once_and_for_one() {
    let rig = Rig::new().await;
    let wrapping = rig.header("x-vault-wrap-ttl", "5m");
    let (one, two) = (wrapping.get(KV2).await, wrapping.get(KV2).await);
    assert_ne!(one.at("/wrap_info/token"), two.at("/wrap_info/token"));
    let token = one.at("/wrap_info/token");
    let unwrap = json!({ "token": token });
    let opened = rig.put("sys/wrapping/unwrap", unwrap.clone()).await;
    assert_eq!(
        opened.at("/data/data/greeting"),
        "hello",
        "{}",
        opened.json()
    );
    assert_eq!(rig.put("sys/wrapping/unwrap", unwrap).await.status, 400);
}
