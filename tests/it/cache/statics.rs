//! Static secrets: how long they are kept, and what makes two requests one.

use http::StatusCode;
use leasehold::config::{PathMode, PathRule, StaticSecrets};
use leasehold::dev::{Fault, Options};
use serde_json::{Value, json};

use crate::support::{CREDS, KV1, KV2, Rig, kv2, millis, pass, seconds};

#[tokio::test(start_paused = true)]
async fn a_miss_and_then_hits_that_say_their_age() {
    let rig = Rig::new().await;
    for path in [KV2, KV1] {
        let miss = rig.get(path).await;
        assert_eq!(miss.cache(), "MISS");
        assert!(!miss.headers.contains_key("age"));
        pass(millis(42_900)).await;
        let hit = rig.get(path).await;
        assert_eq!((hit.cache(), hit.age()), ("HIT", 42));
        assert_eq!(hit.body, miss.body);
        assert_eq!(rig.asked("GET", path), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_served_once_more_and_asked_for_once() {
    let rig = Rig::new().await;
    rig.get(KV2).await;
    rig.root("PUT", KV2, kv2("new")).await;
    pass(seconds(299)).await;
    assert_eq!(rig.get(KV2).await.age(), 299);
    assert_eq!(rig.asked("GET", KV2), 1);
    pass(seconds(2)).await;
    rig.fault(Fault::on("GET", "*").delay(millis(50)));
    for reply in rig.all_at_once("GET", KV2, 100).await {
        assert_eq!((reply.cache(), reply.age()), ("HIT", 301));
        assert_eq!(reply.at("/data/data/greeting"), "hello");
    }
    pass(millis(100)).await;
    let fresh = rig.get(KV2).await;
    assert_eq!((fresh.cache(), fresh.age()), ("HIT", 0));
    assert_eq!(fresh.at("/data/data/value"), "new");
    assert_eq!(rig.asked("GET", KV2), 2);
}

#[tokio::test(start_paused = true)]
async fn past_a_quarter_more_it_is_fetched_anew() {
    let rig = Rig::new().await;
    rig.get(KV2).await;
    rig.root("PUT", KV2, kv2("new")).await;
    pass(seconds(375)).await;
    let fetched = rig.get(KV2).await;
    assert_eq!(
        (fetched.cache(), fetched.at("/data/data/value")),
        ("MISS", "new".into())
    );
}

/// A revalidation that cannot be had is not asked for again by each reader that comes along.
#[tokio::test(start_paused = true)]
async fn what_is_due_is_not_asked_for_all_the_time_while_vault_is_away() {
    let rig = Rig::new().await;
    rig.get(KV2).await;
    pass(seconds(300)).await;
    let outage = rig.outage();
    let before = rig.metric(OWN_AND_FORWARDED_UNANSWERED).await;
    for _ in 0..740 {
        assert_eq!(rig.get(KV2).await.cache(), "HIT");
        pass(millis(100)).await;
    }
    let asked = rig.metric(OWN_AND_FORWARDED_UNANSWERED).await - before;
    assert!((2..=12).contains(&asked), "{asked} revalidations in 74 s");
    rig.recover(outage);
    pass(seconds(10)).await;
    assert_eq!(rig.get(KV2).await.cache(), "MISS");
}

const OWN_AND_FORWARDED_UNANSWERED: &str =
    r#"leasehold_upstream_requests_total{class="forward",code="0"}"#;

#[tokio::test(start_paused = true)]
async fn each_version_is_an_entry_of_its_own() {
    let rig = Rig::new().await;
    rig.root("PUT", "secret/data/app/v", kv2("one")).await;
    rig.root("PUT", "secret/data/app/v", kv2("two")).await;
    let asks = [
        ("secret/data/app/v?version=1", "one"),
        ("secret/data/app/v", "two"),
        ("secret/data/app/v?version=2", "two"),
    ];
    for (cache, order) in [("MISS", [0, 1, 2]), ("HIT", [2, 0, 1]), ("HIT", [1, 2, 0])] {
        for at in order {
            let (path, value) = asks[at];
            let reply = rig.get(path).await;
            assert_eq!(
                (reply.cache(), reply.at("/data/data/value")),
                (cache, value.into())
            );
        }
    }
    assert_eq!(rig.asked("GET", "secret/data/app/v"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_one_thing_however_it_is_asked_for() {
    let rig = Rig::new().await;
    for (path, asked) in [("secret/metadata/app", "config"), ("kv/app", "config")] {
        let list = rig.list(path).await;
        assert_eq!(
            (list.cache(), list.at("/data/keys/0")),
            ("MISS", asked.into())
        );
        for query in ["list=true", "list=1"] {
            let again = rig.get(&format!("{path}?{query}")).await;
            assert_eq!((again.cache(), &again.body), ("HIT", &list.body), "{query}");
        }
        let read = rig.get(path).await;
        assert_ne!(read.cache(), "HIT", "a read is no list");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_one_thing_however_it_is_named() {
    let rig = Rig::new().await;
    rig.root("POST", "sys/namespaces/team", json!({})).await;
    for version in ["1", "2"] {
        let mount = format!("team/sys/mounts/v{version}");
        let fields = json!({ "type": "kv", "options": { "version": version } });
        rig.root("POST", &mount, fields).await;
    }
    rig.root("PUT", "team/v2/data/x", kv2("theirs")).await;
    rig.root("PUT", "team/v1/x", json!({ "value": "theirs" }))
        .await;
    let root = rig.bearing(rig.vault.root_token().expose());
    for path in ["v2/data/x", "v1/x"] {
        let by_path = root.get(&format!("team/{path}")).await;
        assert_eq!(by_path.cache(), "MISS", "{}", by_path.json());
        for name in ["team", "team/", "/team/"] {
            let by_header = root.header("x-vault-namespace", name).get(path).await;
            assert_eq!(by_header.cache(), "HIT", "{name} {path}");
            assert_eq!(by_header.body, by_path.body);
        }
        let elsewhere = root.get(path).await;
        assert_ne!(
            (elsewhere.status, elsewhere.cache()),
            (StatusCode::OK, "HIT")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn trace_headers_and_the_order_of_the_query_do_not_count() {
    let rig = Rig::new().await;
    rig.get("secret/data/app/config?a=1&b=2").await;
    for client in [
        rig.header("traceparent", "00-1-1-00"),
        rig.header("user-agent", "curl/8"),
        rig.header("x-vault-request", "true"),
        rig.header("accept-encoding", "gzip"),
    ] {
        let reply = client.get("secret/data/app/config?b=2&a=1").await;
        assert_eq!(reply.cache(), "HIT");
    }
}

#[tokio::test(start_paused = true)]
async fn no_cache_is_one_round_trip_and_one_a_second() {
    let rig = Rig::new().await;
    rig.get(KV2).await;
    rig.root("PUT", KV2, kv2("new")).await;
    let wants_fresh = rig.header("cache-control", "no-cache");
    assert_eq!(
        wants_fresh.get(KV2).await.cache(),
        "HIT",
        "it is new already"
    );
    pass(seconds(1)).await;
    let fresh = wants_fresh.get(KV2).await;
    assert_eq!(
        (fresh.cache(), fresh.at("/data/data/value")),
        ("MISS", "new".into())
    );
    assert_eq!(
        rig.get(KV2).await.body,
        fresh.body,
        "it replaces the old one"
    );
    let before = rig.asked("GET", KV2);
    for _ in 0..100 {
        wants_fresh.get(KV2).await;
        pass(millis(100)).await;
    }
    let asked = rig.asked("GET", KV2) - before;
    assert!((8..=10).contains(&asked), "{asked} calls in 10 s");
}

#[tokio::test(start_paused = true)]
async fn rules_for_paths_win() {
    let rule = |glob: &str, mode, ttl: Option<u64>| PathRule {
        glob: glob.to_owned(),
        mode,
        ttl: ttl.map(seconds),
        max_stale: None,
    };
    let rig = Rig::caching(|cache| {
        cache.paths = vec![
            rule("secret/data/app/never", Some(PathMode::Bypass), None),
            rule("database/creds/*", Some(PathMode::Bypass), None),
            rule("transit/keys/*", Some(PathMode::Static), Some(20)),
            rule("secret/data/app/hot*", None, Some(30)),
        ];
    })
    .await;
    for path in ["secret/data/app/never", "secret/data/app/hot"] {
        rig.root("PUT", path, kv2("x")).await;
    }
    for _ in 0..2 {
        assert_eq!(rig.get("secret/data/app/never").await.cache(), "-");
    }
    let first = rig.get(CREDS).await.user();
    assert_ne!(rig.get(CREDS).await.user(), first);

    let root = rig.bearing(rig.vault.root_token().expose());
    assert_eq!(root.get("transit/keys/app").await.cache(), "MISS");
    pass(seconds(19)).await;
    assert_eq!(root.get("transit/keys/app").await.age(), 19);
    assert_eq!(root.get("transit/keys/other").await.status, 404);

    assert_eq!(rig.get("secret/data/app/hot").await.cache(), "MISS");
    pass(seconds(31)).await;
    assert_eq!(rig.get("secret/data/app/hot").await.age(), 31, "due");
    pass(millis(10)).await;
    assert_eq!(rig.get("secret/data/app/hot").await.age(), 0);
    pass(seconds(38)).await;
    assert_eq!(rig.get("secret/data/app/hot").await.cache(), "MISS");
}

#[tokio::test(start_paused = true)]
async fn without_static_secrets_reads_are_shared_and_not_kept() {
    let rig = Rig::caching(|cache| cache.static_secrets = None).await;
    for asked in 1..=3 {
        assert_eq!(rig.get(KV2).await.cache(), "MISS");
        assert_eq!(rig.asked("GET", KV2), asked);
    }
    rig.get(CREDS).await;
    assert_eq!(
        rig.get(CREDS).await.cache(),
        "HIT",
        "leases are kept all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn the_time_to_live_is_what_is_configured() {
    let rig = Rig::caching(|cache| {
        cache.static_secrets = Some(StaticSecrets {
            ttl: seconds(8),
            max_stale: seconds(0),
        });
    })
    .await;
    rig.get(KV2).await;
    pass(seconds(10)).await;
    assert_eq!(rig.get(KV2).await.cache(), "MISS");
}

#[tokio::test(start_paused = true)]
async fn the_least_used_goes_when_the_size_is_reached_and_leases_stay() {
    const SIZE: u64 = 64 * 1024;
    let rig = Rig::caching(|cache| cache.max_size = SIZE).await;
    let user = rig.get(CREDS).await.user();
    for number in 0..100 {
        let path = format!("secret/data/app/{number}");
        rig.root("PUT", &path, kv2("x".repeat(1_000))).await;
        assert_eq!(rig.get(&path).await.cache(), "MISS");
        let cache = rig.status().await["cache"].clone();
        assert!(cache["bytes"].as_u64().unwrap() <= SIZE, "{cache}");
    }
    let cache = rig.status().await["cache"].clone();
    let kept = cache["static_entries"].as_u64().unwrap();
    assert!((20..60).contains(&kept), "{cache}");
    assert_eq!(rig.get(CREDS).await.user(), user);
    rig.root("PUT", "secret/data/app/huge", kv2("x".repeat(100_000)))
        .await;
    for _ in 0..2 {
        let huge = rig.get("secret/data/app/huge").await;
        assert_eq!(huge.cache(), "MISS");
        assert_eq!(huge.at("/data/data/value").len(), 100_000);
    }
}

#[tokio::test(start_paused = true)]
async fn leased_answers_that_find_no_room_are_served_but_not_kept() {
    let rig = Rig::caching(|cache| cache.max_size = 4_000).await;
    let mut users = Vec::new();
    for number in 0..10 {
        let reply = rig.get(&format!("{CREDS}?n={number}")).await;
        users.push(reply.user());
    }
    assert!(
        rig.metric(r#"leasehold_cache_requests_total{result="full"}"#)
            .await
            > 0
    );
    let cache = rig.status().await["cache"].clone();
    assert!(cache["bytes"].as_u64().unwrap() <= 4_000, "{cache}");
    for (name, password) in users {
        assert!(rig.vault.may_log_in(&name, &password));
    }
    assert_eq!(rig.get(&format!("{CREDS}?n=0")).await.cache(), "HIT");
    assert_eq!(rig.get(&format!("{CREDS}?n=9")).await.cache(), "MISS");
}

#[tokio::test(start_paused = true)]
async fn a_404_ends_an_entry_at_once() {
    for path in ["secret/data/app/gone", "kv/app/gone"] {
        let rig = Rig::new().await;
        let fields = json!({ "data": { "value": 1 }, "value": 1 });
        rig.root("PUT", path, fields).await;
        rig.get(path).await;
        rig.root("DELETE", path, Value::Null).await;
        pass(seconds(1)).await;
        assert_eq!(rig.get(path).await.cache(), "HIT", "nobody told us");
        let told = rig.header("cache-control", "no-cache").get(path).await;
        assert_eq!(told.status, 404);
        let after = rig.get(path).await;
        assert_eq!(
            (after.status, after.cache()),
            (StatusCode::NOT_FOUND, "MISS")
        );
        // By a revalidation as well.
        let fields = json!({ "data": { "value": 2 }, "value": 2 });
        rig.root("PUT", path, fields).await;
        rig.get(path).await;
        rig.root("DELETE", path, Value::Null).await;
        pass(seconds(301)).await;
        assert_eq!(rig.get(path).await.cache(), "HIT");
        pass(millis(1)).await;
        assert_eq!(rig.get(path).await.status, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn a_403_ends_an_entry_at_once() {
    let rig = Rig::new().await;
    let reader = rig.stranger().await;
    for client in [&reader, &*rig] {
        client.get(KV2).await;
    }
    let policy = json!({ "policy": r#"path "kv/*" { capabilities = ["read"] }"# });
    rig.root("PUT", "sys/policies/acl/app", policy).await;
    pass(seconds(301)).await;
    for client in [&reader, &*rig] {
        assert_eq!(client.get(KV2).await.cache(), "HIT", "due");
        pass(millis(1)).await;
        assert_eq!(client.get(KV2).await.status, 403);
    }
}

#[tokio::test(start_paused = true)]
async fn a_static_credential_is_kept_until_it_is_rotated() {
    let rig = Rig::with(
        Options {
            rotation_period: seconds(60),
            ..Options::default()
        },
        |_| (),
    )
    .await;
    const PATH: &str = "database/static-creds/app-static";
    let mut fetched = 0;
    for _ in 0..600 {
        let reply = rig.get(PATH).await;
        let (user, password) = reply.user();
        assert!(rig.vault.may_log_in(&user, &password), "{}", reply.json());
        assert!(reply.number("/data/ttl") <= 60);
        fetched += usize::from(reply.cache() == "MISS");
        pass(seconds(1)).await;
    }
    assert!(
        (10..=22).contains(&fetched),
        "{fetched} fetches for 10 rotations"
    );
}
