//! What ends a lease, or keeps it from ending: its token, an outage, nobody's use, a shutdown.

use http::StatusCode;
use leasehold::dev::{Fault, Options, TokenWish};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    CREDS, KV1, KV2, ROLE, Reader, Rig, leases_of, measured, millis, pass, seconds,
};

/// Our own tokens come and go; no read fails, none brings a dead credential, and none waits where the
/// token leaves the time for that.
#[tokio::test(start_paused = true)]
async fn our_tokens_end_costs_no_reader_anything() {
    for (token, max, lease, during, all_at_once) in [
        (8, 16, 3600, 60, 2),
        (8, 16, 6, 300, 3),
        (20, 60, 30, 300, 3),
        (60, 120, 3600, 600, 2),
        (120, 600, 60, 1_200, 2),
    ] {
        let options = Options {
            token_ttl: seconds(token),
            token_max_ttl: seconds(max),
            ..leases_of(lease, 2 * lease)
        };
        let rig = Rig::with(options, |_| ()).await;
        rig.fault(Fault::on("*", "*").delay(millis(20)));
        let reader = Reader::new(&rig, CREDS, millis(250));
        let seen = reader.watch(seconds(during)).await;
        let (minted, logins) = (rig.vault.minted(ROLE), rig.asked("*", "auth/approle/login"));
        measured(format_args!(
            "token {token}/{max} s, lease {lease} s, {during} s: {seen:?}, {minted:?}, {logins} logins"
        ));
        assert_eq!((seen.failed, seen.dead, seen.broken_words), (0, 0, 0));
        assert!(minted.most_at_once <= all_at_once, "{minted:?}");
        // A quarter of a shorter TTL is less than what its leases must have left to be served.
        if token >= 60 {
            seen.assert_all_alive_and_no_waits();
        }
    }
}

/// A lease that would have died with our token is replaced once that has been renewed, before its own end
/// comes near. It was left to its end: nobody looked at it again when its token got a longer life.
#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_with_our_token_is_replaced_when_that_lives_on() {
    for (token, lease, max_lease) in [(60, 60, 60), (60, 30, 60), (3_600, 3_600, 3_600)] {
        let options = Options {
            token_ttl: seconds(token),
            token_max_ttl: seconds(100 * token),
            ..leases_of(lease, max_lease)
        };
        let rig = Rig::with(options, |_| ()).await;
        rig.fault(Fault::on("*", "*").delay(millis(20)));
        let reader = Reader::new(&rig, CREDS, seconds(token) / 120);
        let seen = reader.watch(seconds(3 * token)).await;
        seen.assert_all_alive_and_no_waits();
        assert!(rig.vault.minted(ROLE).most_at_once <= 2);
    }
}

/// The same for one that is never renewed: it is looked at when our token is about to be, a little before
/// or a little after, as chance will have it.
#[tokio::test(start_paused = true)]
async fn whichever_is_looked_at_first_the_lease_or_our_token() {
    for _ in 0..8 {
        let options = Options {
            token_ttl: seconds(60),
            token_max_ttl: seconds(6_000),
            ..leases_of(60, 60)
        };
        let rig = Rig::with(options, |_| ()).await;
        rig.fault(Fault::on("*", "*").delay(millis(20)));
        rig.get("aws/creds/app").await;
        for _ in 0..200 {
            let begun = Instant::now();
            let key = rig.get("aws/creds/app").await.at("/data/access_key");
            assert!(rig.vault.is_key_alive(&key));
            assert!(begun.elapsed().is_zero(), "a wait for a mint");
            pass(millis(500)).await;
        }
    }
}

/// What a caller's token made dies with that token, and is not served any more.
#[tokio::test(start_paused = true)]
async fn a_callers_token_takes_its_leases_with_it() {
    let rig = Rig::with(leases_of(3600, 7200), |_| ()).await;
    let token = rig
        .token(TokenWish {
            ttl: seconds(30),
            explicit_max_ttl: seconds(30),
            ..TokenWish::default()
        })
        .await;
    let owner = rig.bearing(&token);
    let user = owner.get(CREDS).await.user();
    pass(seconds(1)).await;
    let hit = owner.get(CREDS).await;
    assert_eq!(hit.cache(), "HIT");
    assert!(hit.number("/lease_duration") <= 29, "{}", hit.json());
    pass(seconds(28)).await;
    for _ in 0..20 {
        let reply = owner.get(CREDS).await;
        let is_alive = rig.vault.may_log_in(&user.0, &user.1);
        if reply.status == StatusCode::OK {
            assert!(is_alive, "a dead credential was served");
        } else {
            assert_eq!(reply.status, StatusCode::FORBIDDEN);
        }
        pass(millis(250)).await;
    }
    assert!(!rig.vault.is_token_alive(&token));
    assert_eq!(owner.get(KV2).await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn an_outage_from_half_to_nearly_all_of_its_life_costs_nothing() {
    let rig = Rig::with(leases_of(1_000, 100_000), |_| ()).await;
    let user = rig.get(CREDS).await.user();
    pass(seconds(500)).await;
    let outage = rig.outage();
    for _ in 500..950 {
        assert_eq!(rig.get(CREDS).await.user(), user);
        pass(seconds(1)).await;
    }
    rig.recover(outage);
    let tries = rig.asked("PUT", "sys/leases/renew");
    measured(format_args!(
        "outage from 50 % to 95 % of 1,000 s: {tries} renewals in vain"
    ));
    let before = tries;
    for _ in 0..100 {
        assert_eq!(rig.get(CREDS).await.user(), user);
        pass(seconds(1)).await;
    }
    assert_eq!(rig.asked("PUT", "sys/leases/renew") - before, 1);
    assert_eq!(rig.vault.minted(ROLE).total, 1);
    assert_eq!(rig.asked("PUT", "sys/leases/revoke"), 0);
    assert!(rig.vault.may_log_in(&user.0, &user.1));
    assert!(rig.get(CREDS).await.number("/lease_duration") > 500);
}

/// A sealed Vault answers 503 to everything; that is an outage like any other.
#[tokio::test(start_paused = true)]
async fn a_sealed_vault_takes_no_credential_away() {
    let rig = Rig::with(leases_of(1_000, 100_000), |_| ()).await;
    let user = rig.get(CREDS).await.user();
    pass(seconds(600)).await;
    rig.vault.seal();
    for _ in 0..350 {
        assert_eq!(rig.get(CREDS).await.user(), user);
        pass(seconds(1)).await;
    }
    rig.vault.unseal();
    for _ in 0..1_000 {
        assert_eq!(rig.get(CREDS).await.user(), user);
        pass(seconds(1)).await;
    }
    assert_eq!(rig.vault.minted(ROLE).total, 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_is_let_go() {
    let rig = Rig::with(leases_of(60, 6_000), |_| ()).await;
    let lease = rig.get(CREDS).await.at("/lease_id");
    pass(seconds(600)).await;
    assert!(!rig.vault.is_lease_alive(&lease));
    assert!(rig.asked("PUT", "sys/leases/renew") <= 1);
    assert_eq!(rig.vault.live_credentials(ROLE), 0);
    assert_eq!(rig.status().await["leases"]["count"], 0);
    assert_eq!(rig.status().await["cache"]["leased_entries"], 0);
    assert_eq!(rig.vault.minted(ROLE).total, 1);
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_is_what_is_configured() {
    let rig = Rig::with(leases_of(60, 6_000), |config| {
        config.cache.as_mut().unwrap().leases.idle_ttl = Some(seconds(1_000));
    })
    .await;
    let lease = rig.get(CREDS).await.at("/lease_id");
    pass(seconds(1_000)).await;
    assert!(rig.vault.is_lease_alive(&lease));
    assert_eq!(rig.get(CREDS).await.at("/lease_id"), lease);
    pass(seconds(1_200)).await;
    assert!(!rig.vault.is_lease_alive(&lease));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_is_given_back_where_that_is_wished() {
    let rig = Rig::with(leases_of(3_600, 7_200), |config| {
        let leases = &mut config.cache.as_mut().unwrap().leases;
        leases.idle_ttl = Some(seconds(60));
        leases.revoke_idle = true;
    })
    .await;
    let lease = rig.get(CREDS).await.at("/lease_id");
    pass(seconds(50)).await;
    rig.get(CREDS).await;
    pass(seconds(55)).await;
    assert!(rig.vault.is_lease_alive(&lease), "it is in use");
    pass(seconds(10)).await;
    assert!(!rig.vault.is_lease_alive(&lease));
    assert_eq!(rig.asked("PUT", "sys/leases/revoke"), 1);
    let next = rig.get(CREDS).await;
    assert_eq!(next.cache(), "MISS");
    let (user, password) = next.user();
    assert!(rig.vault.may_log_in(&user, &password));
}

#[tokio::test(start_paused = true)]
async fn on_exit_all_is_given_back_where_that_is_wished() {
    for is_wished in [false, true] {
        let rig = Rig::with(leases_of(600, 7_200), |config| {
            config.cache.as_mut().unwrap().leases.revoke_on_exit = is_wished;
        })
        .await;
        let tokens = rig.vault.live_tokens();
        for number in 0..50 {
            rig.get(&format!("{CREDS}?n={number}")).await;
        }
        rig.get("aws/creds/app").await;
        let begun = Instant::now();
        assert!(rig.leasehold.stop().await, "tasks were left");
        assert!(begun.elapsed() <= seconds(11), "{:?}", begun.elapsed());
        let (leases, alive) = (rig.vault.live_leases(), rig.vault.live_tokens());
        if is_wished {
            assert_eq!((leases, alive), (0, tokens - 1));
        } else {
            assert_eq!((leases, alive), (51, tokens));
        }
    }
}

/// Also what was replaced before and lives on at Vault.
#[tokio::test(start_paused = true)]
async fn on_exit_what_was_replaced_is_given_back_too() {
    let rig = Rig::with(leases_of(60, 120), |config| {
        config.cache.as_mut().unwrap().leases.revoke_on_exit = true;
    })
    .await;
    let first = rig.get(CREDS).await.user();
    while rig.get(CREDS).await.user() == first {
        pass(seconds(1)).await;
    }
    assert_eq!(rig.vault.live_credentials(ROLE), 2);
    rig.leasehold.stop().await;
    assert_eq!(rig.vault.live_credentials(ROLE), 0);
}

/// A lease that Vault ended by itself: known at the next renewal, and not served from then on.
#[tokio::test(start_paused = true)]
async fn a_lease_that_vault_ended_is_replaced_at_the_next_renewal() {
    let rig = Rig::with(leases_of(60, 6_000), |_| ()).await;
    let first = rig.get(CREDS).await;
    rig.root(
        "PUT",
        "sys/leases/revoke",
        json!({ "lease_id": first.at("/lease_id") }),
    )
    .await;
    pass(seconds(46)).await;
    let next = rig.get(CREDS).await;
    assert_ne!(next.user(), first.user());
    let (user, password) = next.user();
    assert!(rig.vault.may_log_in(&user, &password));
}

/// `disable` of a mount, a policy change, a new mount: through us they are known at once.
#[tokio::test(start_paused = true)]
async fn a_mount_that_goes_takes_what_was_read_from_it() {
    let rig = Rig::new().await;
    let root = rig.bearing(rig.vault.root_token().expose());
    rig.get(CREDS).await;
    rig.get(KV1).await;
    rig.get(KV2).await;
    assert_eq!(root.delete("sys/mounts/database").await.status, 204);
    assert_eq!(
        root.send("DELETE", "sys/mounts/kv", Value::Null)
            .await
            .status,
        204
    );
    for path in [CREDS, KV1] {
        assert_ne!(rig.get(path).await.status, 200, "{path}");
    }
    assert_eq!(rig.get(KV2).await.status, 200);
    let policy = json!({ "policy": r#"path "kv/*" { capabilities = ["read"] }"# });
    assert_eq!(root.put("sys/policies/acl/app", policy).await.status, 204);
    assert_eq!(rig.get(KV2).await.status, 403);
}
