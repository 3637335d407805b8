//! `cache-clear`: synchronous, each type, counted.

use leasehold::dev::{Fault, TokenWish};
use serde_json::{Value, json};

use crate::support::{CREDS, KV1, KV2, Rig, millis, pass, seconds};

async fn cleared(rig: &Rig, request: Value) -> u64 {
    let reply = rig.clear(request).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    reply.number("/cleared")
}

#[tokio::test(start_paused = true)]
async fn by_path_prefix_and_glob() {
    let rig = Rig::new().await;
    for (request, count, left) in [
        (
            json!({ "type": "request_path", "value": "/v1/secret/data" }),
            1,
            vec![KV1, CREDS],
        ),
        (
            json!({ "type": "request_path", "value": "/v1/secret/data/app/config" }),
            1,
            vec![KV1, CREDS],
        ),
        (
            json!({ "type": "request_path", "value": "/v1/secret", "namespace": "root/" }),
            1,
            vec![KV1, CREDS],
        ),
        (
            json!({ "type": "request_path", "value": "/v1/nothing" }),
            0,
            vec![KV1, KV2, CREDS],
        ),
        (
            json!({ "type": "request_path", "value": "/v1/", "namespace": "team" }),
            0,
            vec![KV1, KV2, CREDS],
        ),
        (
            json!({ "type": "path", "value": "*/creds/*" }),
            1,
            vec![KV1, KV2],
        ),
        (
            json!({ "type": "path", "value": "kv/app/config" }),
            1,
            vec![KV2, CREDS],
        ),
        (
            json!({ "type": "path", "value": "kv/app" }),
            0,
            vec![KV1, KV2, CREDS],
        ),
        (
            json!({ "type": "path", "value": "*/app/*" }),
            2,
            vec![CREDS],
        ),
        (json!({ "type": "path", "value": "*" }), 3, vec![]),
        (json!({ "type": "all" }), 3, vec![]),
    ] {
        for path in [KV1, KV2, CREDS] {
            rig.get(path).await;
            assert_eq!(rig.get(path).await.cache(), "HIT");
        }
        assert_eq!(cleared(&rig, request.clone()).await, count, "{request}");
        for path in [KV1, KV2, CREDS] {
            let expected = if left.contains(&path) { "HIT" } else { "MISS" };
            assert_eq!(
                rig.get(path).await.cache(),
                expected,
                "{path} after {request}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn by_lease_token_and_accessor() {
    let rig = Rig::new().await;
    let token = rig.token(TokenWish::default()).await;
    let lookup = rig
        .root("POST", "auth/token/lookup", json!({ "token": token }))
        .await;
    let accessor = lookup["data"]["accessor"].as_str().unwrap().to_owned();
    let owner = rig.bearing(&token);
    let lease = rig.get(CREDS).await.at("/lease_id");
    let theirs = owner.get(CREDS).await.at("/lease_id");
    owner.get(KV2).await;
    // What Vault says of the token is in.
    pass(seconds(1)).await;
    let clear = |kind: &str, value: &str| json!({ "type": kind, "value": value });
    assert_eq!(cleared(&rig, clear("lease", "no/such/lease")).await, 0);
    assert_eq!(cleared(&rig, clear("lease", &lease)).await, 1);
    assert_eq!(rig.get(CREDS).await.cache(), "MISS");
    assert_eq!(owner.get(CREDS).await.at("/lease_id"), theirs);
    assert_eq!(cleared(&rig, clear("token_accessor", &accessor)).await, 2);
    for path in [CREDS, KV2] {
        assert_eq!(owner.get(path).await.cache(), "MISS");
    }
    assert_eq!(rig.get(CREDS).await.cache(), "HIT");
    assert_eq!(cleared(&rig, clear("token", &token)).await, 2);
    assert_eq!(cleared(&rig, clear("token", &token)).await, 0);
    assert_eq!(cleared(&rig, clear("token", "no such token")).await, 0);
    assert_eq!(rig.get(CREDS).await.cache(), "HIT");
    // Leases are let go, not revoked.
    assert!(rig.vault.is_lease_alive(&lease) && rig.vault.is_lease_alive(&theirs));
}

/// The auto-auth token's own entries go with it, and caching goes on.
#[tokio::test(start_paused = true)]
async fn our_own_token_stays_in_use_when_it_is_cleared() {
    let rig = Rig::new().await;
    rig.get(CREDS).await;
    let record = rig.vault.log().matching("GET", &format!("/v1/{CREDS}"));
    let ours = record[0].header("x-vault-token").unwrap().to_owned();
    for request in [
        json!({ "type": "token", "value": ours }),
        json!({ "type": "all" }),
    ] {
        assert_eq!(cleared(&rig, request).await, 1);
        assert_eq!(rig.get(CREDS).await.cache(), "MISS");
        assert_eq!(rig.get(CREDS).await.cache(), "HIT");
    }
    assert_eq!(rig.asked("*", "auth/approle/login"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cached_login_goes_with_all_that_was_read_with_it() {
    let rig = Rig::new().await;
    let login =
        json!({ "role_id": rig.vault.role_id(), "secret_id": rig.vault.secret_id().expose() });
    let answer = rig.put("auth/approle/login", login.clone()).await;
    let owner = rig.bearing(&answer.at("/auth/client_token"));
    owner.get(KV2).await;
    let accessor = answer.at("/auth/accessor");
    let request = json!({ "type": "token_accessor", "value": accessor });
    let count = cleared(&rig, request).await;
    assert!(count >= 1, "{count}");
    assert_eq!(owner.get(KV2).await.cache(), "MISS");
}

/// 200 times: what was cleared is not served once the answer is there, and no running fetch brings it back.
#[tokio::test(start_paused = true)]
async fn clearing_is_done_when_it_is_answered() {
    let rig = Rig::new().await;
    for _ in 0..200 {
        rig.get(KV2).await;
        rig.clear(json!({ "type": "all" })).await;
        assert_eq!(rig.get(KV2).await.cache(), "MISS");
    }
    rig.clear(json!({ "type": "all" })).await;
    rig.fault(Fault::on("GET", "*").late(seconds(1)).times(1));
    let reading = rig.start("GET", KV2, Value::Null);
    pass(millis(500)).await;
    rig.clear(json!({ "type": "all" })).await;
    reading.await.unwrap();
    assert_eq!(rig.get(KV2).await.cache(), "MISS");
}

#[tokio::test(start_paused = true)]
async fn wrong_requests_are_400_and_clear_nothing() {
    let rig = Rig::new().await;
    rig.get(KV2).await;
    for body in [
        "",
        "no json",
        "[]",
        "null",
        "\"all\"",
        "{}",
        r#"{"type":""}"#,
        r#"{"type":"everything"}"#,
        r#"{"type":7}"#,
        r#"{"type":"lease"}"#,
        r#"{"type":"token","value":""}"#,
        r#"{"type":"token_accessor"}"#,
        r#"{"type":"request_path"}"#,
        r#"{"type":"path"}"#,
        r#"{"type":"all""#,
    ] {
        let reply = rig
            .raw("POST", "/agent/v1/cache-clear", Some(body.to_owned()))
            .await
            .unwrap();
        assert_eq!(reply.status, 400, "{body}");
        assert!(!reply.at("/errors/0").is_empty(), "{body}");
        assert_eq!(rig.get(KV2).await.cache(), "HIT");
    }
    let wrong = rig.raw("GET", "/agent/v1/cache-clear", None).await.unwrap();
    assert_eq!(wrong.status, 405);
    let all = Some(r#"{"type":"all"}"#.to_owned());
    let by_put = rig.raw("PUT", "/proxy/v1/cache-clear", all).await.unwrap();
    assert_eq!(by_put.number("/cleared"), 1);
}
