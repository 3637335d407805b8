//! A lease's life while somebody reads it.

use std::time::Duration;

use http::StatusCode;
use leasehold::dev::{Fault, Options};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{CREDS, ROLE, Reader, Rig, leases_of, measured, millis, pass, seconds};

#[tokio::test(start_paused = true)]
async fn what_is_left_falls_from_hit_to_hit() {
    let rig = Rig::with(leases_of(60, 600), |_| ()).await;
    let mint = rig.get(CREDS).await;
    assert_eq!((mint.cache(), mint.number("/lease_duration")), ("MISS", 60));
    pass(millis(40_500)).await;
    let hit = rig.get(CREDS).await;
    assert_eq!((hit.cache(), hit.age()), ("HIT", 40));
    assert_eq!(hit.number("/lease_duration"), 19);
    assert_eq!(hit.user(), mint.user());
    // Renewed in the meantime: it rises, and never above what Vault grants.
    pass(seconds(10)).await;
    let renewed = rig.get(CREDS).await.number("/lease_duration");
    assert!((50..=60).contains(&renewed), "{renewed}");
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_at_three_quarters() {
    let rig = Rig::with(leases_of(1_000, 100_000), |_| ()).await;
    let begun = Instant::now();
    Reader::new(&rig, CREDS, seconds(10))
        .watch(seconds(9_000))
        .await;
    let renewals = rig.vault.log().matching("PUT", "/v1/sys/leases/renew");
    let mut last = begun;
    for renewal in &renewals {
        let after = (renewal.at - last).as_secs_f64();
        assert!((712.0..=750.1).contains(&after), "{after} s");
        last = renewal.at;
    }
    assert!((12..=13).contains(&renewals.len()), "{}", renewals.len());
    assert_eq!(rig.vault.minted(ROLE).total, 1);
}

/// Ten minutes of a role with TTL 6 s and at most 18 s, read each second, by whatever Vault's speed.
#[tokio::test(start_paused = true)]
async fn six_seconds_of_at_most_eighteen() {
    for delay in [0, 20, 300] {
        let rig = Rig::with(leases_of(6, 18), |_| ()).await;
        rig.fault(Fault::on("*", "*").delay(millis(delay)));
        let seen = Reader::new(&rig, CREDS, seconds(1))
            .watch(seconds(600))
            .await;
        let minted = rig.vault.minted(ROLE);
        seen.assert_all_alive_and_no_waits();
        assert_eq!(
            seen.users,
            minted.total - usize::from(minted.total > seen.users)
        );
        assert!((34..=48).contains(&minted.total), "{delay} ms: {minted:?}");
        assert!(minted.most_at_once <= 2, "{delay} ms: {minted:?}");
        let renewals = rig.asked("PUT", "sys/leases/renew");
        measured(format_args!(
            "TTL 6 s, max 18 s, 600 s, Vault takes {delay} ms: {seen:?}, {minted:?}, {renewals} renewals"
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn short_and_uneven_lives() {
    for (ttl, max_ttl, least, most) in [
        (4, 12, 50, 80),
        (4, 4, 90, 260),
        (5, 7, 40, 130),
        (3, 30, 10, 300),
    ] {
        let rig = Rig::with(leases_of(ttl, max_ttl), |_| ()).await;
        let seen = Reader::new(&rig, CREDS, millis(500))
            .watch(seconds(600))
            .await;
        let minted = rig.vault.minted(ROLE);
        measured(format_args!(
            "TTL {ttl} s, max {max_ttl} s, 600 s: {seen:?}, {minted:?}"
        ));
        seen.assert_all_alive_and_no_waits();
        assert!(
            (least..=most).contains(&minted.total),
            "{ttl}/{max_ttl}: {minted:?}"
        );
        assert!(minted.most_at_once <= 3, "{ttl}/{max_ttl}: {minted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_at_most_a_day_for_three_days() {
    const DAY: u64 = 24 * 3600;
    let rig = Rig::with(leases_of(3600, DAY), |_| ()).await;
    let seen = Reader::new(&rig, CREDS, seconds(60))
        .watch(seconds(3 * DAY))
        .await;
    let minted = rig.vault.minted(ROLE);
    let renewals = rig.asked("PUT", "sys/leases/renew");
    measured(format_args!(
        "TTL 1 h, max 24 h, 3 days: {seen:?}, {minted:?}, {renewals} renewals"
    ));
    seen.assert_all_alive_and_no_waits();
    assert!((3..=5).contains(&minted.total), "{minted:?}");
    assert!(minted.most_at_once <= 2, "{minted:?}");
    assert!((90..=110).contains(&renewals), "{renewals} renewals");
}

/// A lease that cannot be renewed is replaced while it is good.
#[tokio::test(start_paused = true)]
async fn leases_that_cannot_be_renewed_are_replaced() {
    let rig = Rig::with(leases_of(60, 600), |_| ()).await;
    rig.fault(Fault::on("*", "*").delay(millis(100)));
    let mut keys = std::collections::BTreeSet::new();
    for second in 0..600 {
        let begun = Instant::now();
        let reply = rig.get("aws/creds/app").await;
        let key = reply.at("/data/access_key");
        assert!(rig.vault.is_key_alive(&key), "{second} s: {}", reply.json());
        assert!(
            second == 0 || begun.elapsed().is_zero(),
            "a wait at {second} s"
        );
        keys.insert(key);
        pass(seconds(1)).await;
    }
    assert!((11..=16).contains(&keys.len()), "{} keys", keys.len());
    assert_eq!(rig.asked("PUT", "sys/leases/renew"), 0);
}

#[tokio::test(start_paused = true)]
async fn leases_brought_by_posts_are_kept_by_their_body() {
    let rig = Rig::with(leases_of(60, 600), |_| ()).await;
    let body = json!({ "role_arn": "arn:a", "ttl": "60s" });
    let first = rig.post("aws/sts/app", body).await;
    assert_eq!(first.status, 200, "{}", first.json());
    for (method, body, cache) in [
        ("POST", json!({ "ttl": "60s", "role_arn": "arn:a" }), "HIT"),
        ("PUT", json!({ "role_arn": "arn:a", "ttl": "60s" }), "HIT"),
        ("POST", json!({ "role_arn": "arn:b", "ttl": "60s" }), "MISS"),
    ] {
        let reply = rig.send(method, "aws/sts/app", body.clone()).await;
        assert_eq!(reply.cache(), cache, "{method} {body}");
        let same = reply.at("/data/access_key") == first.at("/data/access_key");
        assert_eq!(same, cache == "HIT");
    }
    // Replaced by the same body while somebody uses it.
    let body = json!({ "role_arn": "arn:a", "ttl": "60s" });
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..180 {
        let reply = rig.post("aws/sts/app", body.clone()).await;
        assert_eq!(reply.cache(), "HIT");
        let key = reply.at("/data/access_key");
        assert!(rig.vault.is_key_alive(&key));
        keys.insert(key);
        pass(seconds(1)).await;
    }
    assert!((3..=5).contains(&keys.len()), "{} keys", keys.len());
    for record in rig.vault.log().matching("*", "/v1/aws/sts/app") {
        let body: serde_json::Value = serde_json::from_slice(record.body().unwrap()).unwrap();
        assert_eq!(body["ttl"], "60s");
    }
}

/// The old one still logs in when the new one is served.
#[tokio::test(start_paused = true)]
async fn the_old_credential_works_when_the_new_one_is_served() {
    let rig = Rig::with(leases_of(30, 90), |_| ()).await;
    let mut old = rig.get(CREDS).await.user();
    let mut changes = 0;
    for _ in 0..600 {
        let new = rig.get(CREDS).await.user();
        if new != old {
            changes += 1;
            assert!(rig.vault.may_log_in(&old.0, &old.1), "change {changes}");
            old = new;
        }
        pass(seconds(1)).await;
    }
    assert!((6..=10).contains(&changes), "{changes}");
}

#[tokio::test(start_paused = true)]
async fn what_dies_soon_is_not_served_while_another_can_be_had() {
    // Renewals and background replacements fail, reads do not.
    let rig = Rig::with(leases_of(100, 1_000), |_| ()).await;
    let policy =
        Fault::on("PUT", "/v1/sys/leases/renew").refuse(StatusCode::INTERNAL_SERVER_ERROR, "no");
    rig.fault(policy);
    let first = rig.get(CREDS).await.user();
    pass(seconds(89)).await;
    let (old, left) = {
        let reply = rig.get(CREDS).await;
        (reply.user(), reply.number("/lease_duration"))
    };
    assert!(old == first && left >= 10, "{left}");
    pass(seconds(2)).await;
    let new = rig.get(CREDS).await;
    assert_ne!(new.user(), first);
    assert_eq!(new.number("/lease_duration"), 100);
}

#[tokio::test(start_paused = true)]
async fn what_dies_soon_is_served_when_no_other_can_be_had() {
    let rig = Rig::with(leases_of(100, 1_000), |_| ()).await;
    let first = rig.get(CREDS).await.user();
    pass(seconds(50)).await;
    let _outage = rig.outage();
    for _ in 0..49 {
        let reply = rig.get(CREDS).await;
        assert_eq!(reply.user(), first, "alive, and all there is");
        assert!(reply.number("/lease_duration") >= 1);
        pass(seconds(1)).await;
    }
    pass(seconds(1)).await;
    assert_eq!(rig.get(CREDS).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_more_than_the_token_has_left() {
    let options = Options {
        lease_ttl: seconds(3600),
        lease_max_ttl: seconds(7200),
        token_ttl: seconds(30),
        token_max_ttl: seconds(60),
        ..Options::default()
    };
    let rig = Rig::with(options, |_| ()).await;
    for _ in 0..120 {
        let reply = rig.get(CREDS).await;
        let (user, password) = reply.user();
        assert!(rig.vault.may_log_in(&user, &password));
        if reply.cache() == "HIT" {
            assert!(reply.number("/lease_duration") <= 60, "{}", reply.json());
        }
        pass(seconds(1)).await;
    }
}

/// 100 leases of different ages: each is alive whenever it is served, for an hour.
#[tokio::test(start_paused = true)]
async fn a_hundred_leases_for_an_hour() {
    let rig = Rig::with(leases_of(120, 600), |_| ()).await;
    rig.fault(Fault::on("*", "*").delay(millis(20)));
    let mut reads = 0_usize;
    let mut waits = 0_usize;
    for round in 0..360 {
        for number in 0..100 {
            let begun = Instant::now();
            let reply = rig.get(&format!("{CREDS}?n={number}")).await;
            let (user, password) = reply.user();
            assert!(rig.vault.may_log_in(&user, &password), "{round} {number}");
            waits += usize::from(round > 0 && begun.elapsed() > Duration::ZERO);
            reads += 1;
        }
        pass(seconds(10)).await;
    }
    let minted = rig.vault.minted(ROLE);
    measured(format_args!(
        "100 leases of 120 s, max 600 s, 1 h: {reads} reads, {waits} waits, {minted:?}"
    ));
    assert_eq!(waits, 0);
    assert!(
        minted.most_at_once <= 200 && minted.total <= 800,
        "{minted:?}"
    );
}
