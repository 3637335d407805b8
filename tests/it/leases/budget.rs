//! How often Vault is called in the background, and what holds that down.

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use leasehold::dev::{Fault, Options};

use crate::support::{CREDS, KV2, ROLE, Reader, Rig, leases_of, measured, pass, seconds};

/// Everything but what callers asked for.
fn background_calls(rig: &Rig) -> u64 {
    rig.vault.log().total()
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_403_for_renewals() {
    for (in_use, most) in [(true, 60), (false, 3)] {
        let rig = Rig::with(leases_of(60, 3_600), |_| ()).await;
        rig.fault(
            Fault::on("PUT", "/v1/sys/leases/renew")
                .refuse(StatusCode::FORBIDDEN, "permission denied"),
        );
        rig.get(CREDS).await;
        rig.vault.log().clear();
        if in_use {
            let seen = Reader::new(&rig, CREDS, seconds(1))
                .watch(seconds(600))
                .await;
            seen.assert_all_alive_and_no_waits();
        } else {
            pass(seconds(600)).await;
        }
        let renewals = rig.asked("PUT", "sys/leases/renew");
        let calls = background_calls(&rig);
        let minted = rig.vault.minted(ROLE);
        measured(format_args!(
            "403 to renewals for 600 s, in use: {in_use}: {renewals} renewals, {calls} calls, {minted:?}"
        ));
        assert!(calls <= most, "{calls} calls");
        assert!(minted.most_at_once <= 3, "{minted:?}");
    }
}

/// Everything that Leasehold asks for itself is refused, its token's renewals too.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_403_for_everything() {
    let rig = Rig::with(
        Options {
            token_ttl: seconds(60),
            token_max_ttl: seconds(3_600),
            ..leases_of(60, 3_600)
        },
        |_| (),
    )
    .await;
    rig.get(CREDS).await;
    rig.vault.log().clear();
    rig.fault(Fault::on("*", "*").refuse(StatusCode::FORBIDDEN, "permission denied"));
    pass(seconds(600)).await;
    let calls = background_calls(&rig);
    let logins = rig.asked("*", "auth/approle/login");
    measured(format_args!(
        "403 to everything for 600 s: {calls} calls, of them {logins} logins"
    ));
    assert!(calls <= 40, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_leases_that_fail_at_once_pass_one_bucket() {
    let rig = Rig::with(leases_of(600, 6_000), |config| {
        config.cache.as_mut().unwrap().leases.idle_ttl = Some(seconds(6_000));
    })
    .await;
    for number in 0..1_000 {
        rig.get(&format!("{CREDS}?n={number}")).await;
    }
    rig.vault.log().clear();
    rig.fault(
        Fault::on("*", "/v1/sys/leases/*").refuse(StatusCode::INTERNAL_SERVER_ERROR, "broken"),
    );
    let mut most_in_a_second = 0;
    for _ in 0..600 {
        let before = background_calls(&rig);
        pass(seconds(1)).await;
        most_in_a_second = most_in_a_second.max(background_calls(&rig) - before);
    }
    let calls = background_calls(&rig);
    measured(format_args!(
        "1,000 leases failing for 600 s: {calls} calls, at most {most_in_a_second} in a second"
    ));
    assert!(most_in_a_second <= 30, "{most_in_a_second} in a second");
    assert!(calls <= 20 + 10 * 600, "{calls} calls");
    assert!(calls >= 500, "{calls} calls: do they try at all?");
}

/// Callers are not held up by what goes on in the background.
#[tokio::test(start_paused = true)]
async fn callers_do_not_wait_for_the_background() {
    let rig = Rig::with(leases_of(60, 600), |_| ()).await;
    for number in 0..300 {
        rig.get(&format!("{CREDS}?n={number}")).await;
    }
    pass(seconds(46)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(rig.get(KV2).await.cache(), "MISS");
    assert!(begun.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_by_everything_in_the_background() {
    let rig = Rig::with(leases_of(60, 6_000), |config| {
        config.cache.as_mut().unwrap().leases.idle_ttl = Some(seconds(6_000));
    })
    .await;
    for number in 0..10 {
        rig.get(&format!("{CREDS}?n={number}")).await;
    }
    rig.vault.log().clear();
    let peace = Fault::on("*", "*")
        .refuse(StatusCode::TOO_MANY_REQUESTS, "slow down")
        .header(RETRY_AFTER, HeaderValue::from_static("7"));
    rig.fault(peace);
    pass(seconds(40)).await;
    let mut quiet = None;
    for _ in 0..70 {
        let before = background_calls(&rig);
        pass(crate::support::millis(100)).await;
        if background_calls(&rig) > before {
            quiet = Some(background_calls(&rig));
            break;
        }
    }
    let first = quiet.expect("a renewal");
    pass(crate::support::millis(6_800)).await;
    let more = background_calls(&rig) - first;
    assert_eq!(more, 0, "calls in the time for which Vault wants peace");
}

/// A caller without rights asked for 1,500 paths that do not exist; the look-ups of their mounts filled the
/// bucket, and a renewal came too late.
#[tokio::test(start_paused = true)]
async fn look_ups_that_callers_cause_keep_no_renewal_waiting() {
    let rig = Rig::with(leases_of(20, 600), |_| ()).await;
    rig.get(CREDS).await;
    let minted = rig.vault.minted("app-readonly").total;
    for number in 0..1_500 {
        rig.get(&format!("zz{number}/y")).await;
    }
    for _ in 0..60 {
        rig.get(CREDS).await;
        pass(seconds(1)).await;
    }
    assert_eq!(
        rig.vault.minted("app-readonly").total,
        minted,
        "it was renewed in time"
    );
}

/// A client that sent `no-cache` with each read had a credential made each second.
#[tokio::test(start_paused = true)]
async fn no_cache_makes_no_credentials() {
    let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
    let client = rig.client().header("cache-control", "no-cache");
    for _ in 0..60 {
        client.get(CREDS).await;
        pass(seconds(1)).await;
    }
    assert_eq!(rig.vault.minted("app-readonly").total, 1);
}

/// The same for what is asked again in the background for callers.
#[tokio::test(start_paused = true)]
async fn retry_after_of_a_revalidation_is_honoured() {
    let rig = Rig::new().await;
    rig.get(KV2).await;
    pass(seconds(301)).await;
    let peace = Fault::on("GET", "*")
        .refuse(StatusCode::SERVICE_UNAVAILABLE, "sealed for a moment")
        .header(RETRY_AFTER, HeaderValue::from_static("20"));
    rig.fault(peace);
    for _ in 0..190 {
        assert_eq!(rig.get(KV2).await.cache(), "HIT");
        pass(crate::support::millis(100)).await;
    }
    assert_eq!(rig.asked("GET", KV2), 2, "one revalidation in 19 s");
    for _ in 0..150 {
        rig.get(KV2).await;
        pass(crate::support::millis(100)).await;
    }
    assert_eq!(rig.asked("GET", KV2), 3, "once more when that is over");
}

#[tokio::test(start_paused = true)]
async fn when_nothing_is_asked_vault_hears_of_the_token_alone() {
    let rig = Rig::with(
        Options {
            token_ttl: seconds(8),
            token_max_ttl: seconds(16),
            ..leases_of(60, 600)
        },
        |_| (),
    )
    .await;
    rig.get(CREDS).await;
    rig.get(KV2).await;
    pass(seconds(600)).await;
    rig.vault.log().clear();
    pass(seconds(600)).await;
    let calls = background_calls(&rig);
    let of_token = rig.asked("*", "auth/*");
    measured(format_args!(
        "token 8/16 s, nothing asked: {} calls a minute",
        calls / 10
    ));
    assert_eq!(calls, of_token);
    assert!(calls <= 14 * 10, "{calls} calls in 10 min");

    let rig = Rig::with(Options::default(), |_| ()).await;
    pass(seconds(60)).await;
    rig.vault.log().clear();
    pass(seconds(3_600)).await;
    let calls = background_calls(&rig);
    measured(format_args!(
        "token 120/600 s, nothing asked: {calls} calls an hour"
    ));
    assert!(calls <= 45, "{calls} calls in an hour");
}
