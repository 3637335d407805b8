//! What the cache does not understand passes as it came, and is not kept.

use http::{HeaderName, HeaderValue, StatusCode};
use leasehold::dev::Fault;
use serde_json::{Value, json};

use crate::support::{KV2, Rig, leases_of, pass, seconds};

#[tokio::test(start_paused = true)]
async fn odd_answers_pass_byte_for_byte_and_are_not_kept() {
    for body in [
        "[1,2]",
        r#""text""#,
        "null",
        "17",
        "",
        "{}",
        "not json at all",
        r#"{"data":[1]}"#,
        r#"{"data":"text"}"#,
        r#"{"data":null,"lease_id":7}"#,
        r#"{"lease_id":"a/b/c","lease_duration":1.5,"renewable":true,"data":{}}"#,
        r#"{"lease_id":"a/b/c","lease_duration":"60s","renewable":true,"data":{}}"#,
        r#"{"lease_id":"a/b/c","lease_duration":-5,"renewable":true,"data":{}}"#,
        r#"{"lease_id":["a"],"lease_duration":60,"data":{}}"#,
        r#"{"auth":{"client_token":"t","lease_duration":60},"data":{}}"#,
        r#"{"lease_id":"a/b/c","lease_duration":60,"data":{}} trailing"#,
        "{\"lease_id\":\"a/b/c\",\"lease_duration\":60,\"data\":{\"x\":\"\u{1}\"}}",
    ] {
        let rig = Rig::new().await;
        rig.fault(Fault::on("*", "/v1/odd/*").answer(StatusCode::OK, body));
        for method in ["GET", "LIST", "POST", "PUT"] {
            for asked in 1..=2 {
                let reply = rig.raw(method, "/v1/odd/thing", None).await.unwrap();
                assert_eq!(reply.status, 200);
                assert_eq!(reply.body, body, "{method}");
                assert_ne!(reply.cache(), "HIT", "{method} {body}");
                assert_eq!(rig.asked(method, "odd/thing"), asked);
            }
        }
        assert_eq!(rig.status().await["cache"]["leased_entries"], 0, "{body}");
    }
}

/// Fields of a secret that are called like fields of a lease.
#[tokio::test(start_paused = true)]
async fn fields_of_a_secret_are_only_that() {
    let rig = Rig::new().await;
    let odd = json!({
        "renewable": "maybe",
        "lease_duration": "for ever",
        "lease_id": "mine",
        "ttl": "soon",
        "warnings": 7,
    });
    for (path, fields) in [
        ("kv/app/odd", odd.clone()),
        ("secret/data/app/odd", json!({ "data": odd })),
    ] {
        rig.root("PUT", path, fields).await;
        let (first, second) = (rig.get(path).await, rig.get(path).await);
        assert_eq!((first.status, second.cache()), (StatusCode::OK, "HIT"));
        assert_eq!(first.body, second.body);
    }
}

/// In a hit the seconds left are the one thing that is not as Vault sent it, and a number in `data` stays.
#[tokio::test(start_paused = true)]
async fn a_hit_differs_in_the_seconds_left_alone() {
    let rig = Rig::with(leases_of(60, 60), |_| ()).await;
    let body = r#"{ "lease_duration" : 3600 , "renewable":false,"extra":[1, 2],"lease_id":"odd/x/1",
        "data":{"lease_duration":3600,"big":12345678901234567890123,"text":"\u00e9\/"} }"#;
    rig.fault(Fault::on("*", "/v1/odd/*").answer(StatusCode::OK, body));
    assert_eq!(rig.get("odd/x").await.body, body);
    pass(seconds(100)).await;
    let hit = rig.get("odd/x").await;
    assert_eq!(hit.cache(), "HIT");
    assert_eq!(hit.body, body.replacen("3600", "3500", 1));
}

#[tokio::test(start_paused = true)]
async fn statuses_and_headers_pass_as_they_came() {
    let rig = Rig::new().await;
    let name = HeaderName::from_static;
    for status in [201, 202, 204, 301, 307, 400, 405, 412, 429, 472, 500, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        let fault = Fault::on("*", "*")
            .answer(
                status,
                if status == 204 {
                    ""
                } else {
                    r#"{"errors":["x"]}"#
                },
            )
            .header(
                name("location"),
                HeaderValue::from_static("http://elsewhere/v1/x"),
            )
            .header(name("x-vault-index"), HeaderValue::from_static("abc"))
            .times(2);
        rig.fault(fault);
        for method in ["GET", "PUT"] {
            let target = format!("/v1/{KV2}");
            let reply = rig.raw(method, &target, None).await.unwrap();
            assert_eq!(reply.status, status);
            assert_eq!(reply.headers["location"], "http://elsewhere/v1/x");
            assert_eq!(reply.headers["x-vault-index"], "abc");
        }
    }
    assert_eq!(rig.get(KV2).await.cache(), "MISS", "none of that was kept");
}

#[tokio::test(start_paused = true)]
async fn only_json_is_kept_whatever_its_parameters() {
    let rig = Rig::new().await;
    let lease = r#"{"lease_id":"odd/x/1","lease_duration":60,"renewable":false,"data":{}}"#;
    for (number, (kind, cache)) in [
        ("application/json", "HIT"),
        ("application/json; charset=utf-8", "HIT"),
        ("Application/JSON", "HIT"),
        ("text/plain", "MISS"),
        ("application/vnd.odd+json", "MISS"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/v1/odd/{number}");
        let fault = Fault::on("GET", &path)
            .answer(StatusCode::OK, lease)
            .header(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        rig.fault(fault);
        rig.raw("GET", &path, None).await.unwrap();
        let again = rig.raw("GET", &path, None).await.unwrap();
        assert_eq!(
            (
                again.cache(),
                again.headers["content-type"].to_str().unwrap()
            ),
            (cache, kind)
        );
    }
}

/// What reaches Vault is what was sent, whatever it looks like.
#[tokio::test(start_paused = true)]
async fn targets_reach_vault_as_they_were_typed() {
    let rig = Rig::new().await;
    for target in [
        "/v1/secret/data/app/config/",
        "/v1/secret//data/app/config",
        "/v1/secret/data/app%2Fconfig",
        "/v1/secret/data/app/./config",
        "/v1/secret/data/x/../app/config",
        "/v1/secret/data/app/config;a=b",
        "/v1/secret/data/app/config?",
        "/v1/secret/data/app/config?b=2&a=1&b=1",
        "/v1/secret/data/app/config?version=",
        "/v1/secret/data/app/con%66ig?%61=1",
    ] {
        rig.raw("GET", target, None).await.unwrap();
        let records = rig.vault.log().records();
        assert_eq!(records.last().unwrap().target, target);
    }
    let body = r#"{ "data" : {"b":1, "a":1.0, "b":2} }"#;
    rig.raw("PUT", "/v1/secret/data/app/x", Some(body.to_owned()))
        .await
        .unwrap();
    let records = rig.vault.log().records();
    assert_eq!(records.last().unwrap().body().unwrap(), body);
}

/// Neither a spelling nor an odd request makes another's entry appear.
#[tokio::test(start_paused = true)]
async fn spellings_that_vault_may_tell_apart_are_apart() {
    let rig = Rig::new().await;
    rig.get(KV2).await;
    for target in [
        "/v1/secret/data/app/config/",
        "/v1/secret/data//app/config",
        "/v1/secret/data/app%2Fconfig",
        "/v1/SECRET/data/app/config",
        "/v1/secret/data/app/config?x",
    ] {
        let reply = rig.raw("GET", target, None).await.unwrap();
        assert_ne!(reply.cache(), "HIT", "{target}");
    }
    let head = rig
        .raw("HEAD", "/v1/secret/data/app/config", None)
        .await
        .unwrap();
    assert_ne!(head.cache(), "HIT");
    // A body on a read is odd enough to be passed on.
    let with_body = rig.send("GET", KV2, Value::from("odd")).await;
    assert_ne!(with_body.cache(), "HIT");
}
