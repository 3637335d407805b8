//! Logins and new tokens that pass through us.

use http::StatusCode;
use leasehold::dev::{Fault, Options};
use serde_json::{Value, json};

use crate::support::{CREDS, Client, KV1, KV2, Reply, Rig, leases_of, pass, seconds};

const LOGIN: &str = "auth/approle/login";

fn credentials(rig: &Rig) -> Value {
    json!({ "role_id": rig.vault.role_id(), "secret_id": rig.vault.secret_id().expose() })
}

async fn log_in(rig: &Rig) -> Reply {
    let reply = rig.put(LOGIN, credentials(rig)).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    reply
}

fn token(reply: &Reply) -> String {
    reply.at("/auth/client_token")
}

fn tokens_of(ttl: u64, max_ttl: u64) -> Options {
    Options {
        token_ttl: seconds(ttl),
        token_max_ttl: seconds(max_ttl),
        ..Options::default()
    }
}

#[tokio::test(start_paused = true)]
async fn identical_logins_share_a_token_whose_life_falls() {
    let rig = Rig::with(tokens_of(600, 6_000), |_| ()).await;
    let first = log_in(&rig).await;
    pass(seconds(100)).await;
    let second = log_in(&rig).await;
    assert_eq!((first.cache(), second.cache()), ("MISS", "HIT"));
    assert_eq!(token(&first), token(&second));
    assert_eq!(second.number("/auth/lease_duration"), 500);
    assert_eq!(rig.bearing(&token(&second)).get(KV2).await.status, 200);
    let other =
        json!({ "role_id": rig.vault.role_id(), "secret_id": rig.vault.new_secret_id().expose() });
    assert_ne!(
        rig.put(LOGIN, other).await.at("/auth/client_token"),
        token(&first)
    );
    let wrong = json!({ "role_id": rig.vault.role_id(), "secret_id": "wrong" });
    assert_eq!(rig.put(LOGIN, wrong).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn five_hundred_logins_at_once_are_one() {
    let rig = Rig::new().await;
    rig.fault(Fault::on("PUT", "*").delay(seconds(1)));
    let logins: Vec<_> = (0..500)
        .map(|_| rig.start("PUT", LOGIN, credentials(&rig)))
        .collect();
    let mut tokens = std::collections::BTreeSet::new();
    for login in logins {
        tokens.insert(token(&login.await.unwrap()));
    }
    assert_eq!(tokens.len(), 1);
    assert_eq!(rig.asked("PUT", LOGIN), 2, "ours and theirs");
}

#[tokio::test(start_paused = true)]
async fn a_shared_login_is_kept_alive_while_it_is_used() {
    let rig = Rig::with(tokens_of(60, 600), |_| ()).await;
    let client = rig.bearing(&token(&log_in(&rig).await));
    for second in 0..400 {
        let reply = client.get(&format!("{KV1}?n={second}")).await;
        assert_ne!(reply.status, StatusCode::FORBIDDEN, "dead at {second} s");
        pass(seconds(1)).await;
    }
    // And its next asker gets one that has life left.
    pass(seconds(300)).await;
    let next = log_in(&rig).await;
    assert!(rig.vault.is_token_alive(&token(&next)));
}

#[tokio::test(start_paused = true)]
async fn a_shared_login_is_alive_whenever_it_is_handed_out() {
    let rig = Rig::with(tokens_of(20, 50), |_| ()).await;
    for second in 0..600 {
        let login = log_in(&rig).await;
        assert!(rig.vault.is_token_alive(&token(&login)), "{second} s");
        let client: Client = rig.bearing(&token(&login));
        assert_eq!(client.get(CREDS).await.status, 200, "{second} s");
        pass(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_logins_are_not_shared_each_is_its_own() {
    let rig = Rig::caching(|cache| cache.logins = false).await;
    let (first, second) = (log_in(&rig).await, log_in(&rig).await);
    assert_eq!((first.cache(), second.cache()), ("-", "-"));
    assert_ne!(token(&first), token(&second));
    // Whose child is whose is known all the same.
    let client = rig.bearing(&token(&first));
    client.get(CREDS).await;
    client.put("auth/token/revoke-self", Value::Null).await;
    assert_eq!(client.get(CREDS).await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_login_is_not_handed_out_again() {
    let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
    let root = rig.bearing(rig.vault.root_token().expose());
    for path in [
        "auth/token/revoke",
        "auth/token/revoke-accessor",
        "auth/token/revoke-self",
    ] {
        let login = log_in(&rig).await;
        let client = rig.bearing(&token(&login));
        client.get(CREDS).await;
        let (revoker, body) = match path {
            "auth/token/revoke" => (&root, json!({ "token": token(&login) })),
            "auth/token/revoke-accessor" => {
                (&root, json!({ "accessor": login.at("/auth/accessor") }))
            }
            _ => (&client, Value::Null),
        };
        assert_eq!(revoker.put(path, body).await.status, 204);
        assert_eq!(client.get(CREDS).await.status, 403, "{path}");
        let next = log_in(&rig).await;
        assert_ne!(token(&next), token(&login), "{path}");
        assert!(rig.vault.is_token_alive(&token(&next)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_clients_own_renewal_of_a_login_reaches_vault_and_moves_its_end() {
    let rig = Rig::with(tokens_of(600, 6_000), |_| ()).await;
    let login = log_in(&rig).await;
    let client = rig.bearing(&token(&login));
    for round in 1..=5 {
        pass(seconds(100)).await;
        let renewed = client.post("auth/token/renew-self", json!({})).await;
        assert_eq!((renewed.status, renewed.cache()), (StatusCode::OK, "-"));
        assert_eq!(rig.asked("POST", "auth/token/renew-self"), round);
        let granted = renewed.number("/auth/lease_duration");
        assert_eq!(log_in(&rig).await.number("/auth/lease_duration"), granted);
    }
}

#[tokio::test(start_paused = true)]
async fn new_tokens_are_new_unless_sharing_is_wished() {
    for is_shared in [false, true] {
        let rig = Rig::caching(|cache| cache.token_create = is_shared).await;
        let root = rig.bearing(rig.vault.root_token().expose());
        let wish = json!({ "policies": ["app"], "ttl": "1h" });
        let first = root.post("auth/token/create", wish.clone()).await;
        let second = root.post("auth/token/create", wish).await;
        assert_eq!(token(&first) == token(&second), is_shared);
        assert_eq!(second.cache(), if is_shared { "HIT" } else { "-" });
        let other = root
            .post(
                "auth/token/create",
                json!({ "policies": ["app"], "ttl": "2h" }),
            )
            .await;
        assert_ne!(token(&other), token(&first));
    }
}

/// A token that dies after some uses belongs to who asked for it, to the last use.
#[tokio::test(start_paused = true)]
async fn a_login_of_few_uses_is_neither_shared_nor_spent_by_us() {
    for path in [KV2, KV1] {
        let rig = Rig::new().await;
        let role = json!({ "token_num_uses": 3, "token_policies": ["app"] });
        rig.root("POST", "auth/approle/role/app", role).await;
        let (first, second) = (log_in(&rig).await, log_in(&rig).await);
        assert_ne!(token(&first), token(&second));
        for login in [first, second] {
            let client = rig.bearing(&token(&login));
            for number in 1..=3 {
                let reply = client.get(&format!("{path}?n={number}")).await;
                assert_eq!(reply.status, StatusCode::OK, "{path}, use {number}");
                pass(seconds(1)).await;
            }
            assert_eq!(client.get(&format!("{path}?n=4")).await.status, 403);
        }
    }
}
