//! One test for each thing that has gone wrong somewhere.

#![cfg(test)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::{Ended, Grant, Lease, NextAction, Tenant};
use super::world::{
    CallKind, SECOND, Shape, read_for, refused, revoke_through_us, run, shape, unreachable,
};
use crate::config;
use crate::error::Result;
use crate::life::Life;
use crate::tasks::Later;

#[test]
fn six_seconds_of_at_most_eighteen() {
    let world = run(
        config::Leases::default(),
        shape(6, 18),
        20,
        |world| async move {
            assert_eq!(read_for(&world, 1, SECOND, 60).await, 1);
        },
    );
    let minted = world.minted.load(Ordering::Relaxed);
    assert!(
        (4..=5).contains(&minted),
        "{minted} credentials in 60 s, three lives of 18 s and a bit"
    );
}

/// The scheduler sleeps until the hour's lease is due when the shorter one comes.
#[test]
fn a_short_lease_is_not_forgotten_over_a_long_one() {
    run(
        config::Leases::default(),
        shape(3600, 86_400),
        20,
        |world| async move {
            world.read(1);
            sleep(SECOND).await;
            world.shape.lock().unwrap().ttl = 6;
            assert_eq!(read_for(&world, 2, SECOND, 30).await, 1);
        },
    );
}

#[test]
fn an_outage_in_the_middle_of_life_costs_nothing() {
    let world = run(
        config::Leases::default(),
        shape(3600, 360_000),
        20,
        |world| async move {
            world.set_mood(|_, at| match at.as_secs() {
                1800..3420 => Err(unreachable()),
                _ => Ok(()),
            });
            assert_eq!(
                read_for(&world, 1, SECOND, 3600).await,
                1,
                "served throughout"
            );
            assert_eq!(
                world.served.lock().unwrap()[&1].key,
                1,
                "the same credential"
            );
        },
    );
    assert_eq!(
        world.minted.load(Ordering::Relaxed),
        1,
        "nothing was minted"
    );
    assert_eq!(world.count(CallKind::Revoke), 0);
    let succeeded = world.truths.lock().unwrap()[&1].end - world.begun;
    assert!(
        succeeded > Duration::from_secs(7000),
        "renewed when Vault was back"
    );
    let tries = world.count(CallKind::Renew);
    assert!(
        (4..=14).contains(&tries),
        "{tries} renewals, one of which succeeded"
    );
}

#[test]
fn ten_minutes_of_403_cost_two_calls() {
    let world = run(
        config::Leases::default(),
        shape(60, 86_400),
        20,
        |world| async move {
            world.set_mood(|_, at| {
                if at.is_zero() {
                    Ok(())
                } else {
                    Err(refused(403))
                }
            });
            read_for(&world, 1, SECOND, 600).await;
        },
    );
    assert_eq!(world.count(CallKind::Renew), 1, "a renewal");
    assert_eq!(
        world.count(CallKind::Replace),
        1,
        "and a replacement, refused as well"
    );
    assert_eq!(world.ends(Ended::Lost), 1);
}

/// A policy that forbids renewing only: each credential is replaced once, at its renewal's time.
#[test]
fn ten_minutes_of_403_for_renewals_alone() {
    let world = run(
        config::Leases::default(),
        shape(60, 86_400),
        20,
        |world| async move {
            world.set_mood(|kind, _| match kind {
                CallKind::Renew => Err(refused(403)),
                CallKind::Replace | CallKind::Revoke => Ok(()),
            });
            assert_eq!(read_for(&world, 1, SECOND, 600).await, 1);
        },
    );
    let calls = world.calls.lock().unwrap().len();
    assert!(calls <= 30, "{calls} calls: two per life of 42 to 44 s");
    assert_eq!(world.ends(Ended::Lost), 0);
}

#[test]
fn a_lease_that_vault_does_not_know_is_not_served_any_more() {
    let world = run(
        config::Leases::default(),
        shape(60, 86_400),
        20,
        |world| async move {
            world.read(1);
            world.revoke_at_vault(1);
            sleep(Duration::from_secs(44)).await;
            assert!(
                world.served.lock().unwrap().is_empty(),
                "it was dropped when Vault said so"
            );
        },
    );
    assert_eq!(world.ends(Ended::Lost), 1);
    assert_eq!(
        world.minted.load(Ordering::Relaxed),
        1,
        "nobody asked for another"
    );
}

#[test]
fn a_refused_replacement_is_tried_three_times() {
    let shape = Shape {
        renewable: false,
        ..shape(3600, 3600)
    };
    let world = run(config::Leases::default(), shape, 20, |world| async move {
        world.read(1);
        world.set_mood(|_, _| Err(refused(400)));
        assert_eq!(
            read_for(&world, 1, SECOND, 3580).await,
            0,
            "the old one serves to its end"
        );
    });
    assert_eq!(world.count(CallKind::Replace), 3);
}

/// Leases that ended while the machine slept are dropped, not renewed.
#[test]
fn after_a_jump_of_the_clock_nothing_is_renewed() {
    let world = run(
        config::Leases::default(),
        shape(60, 86_400),
        20,
        |world| async move {
            for reader in 0..50 {
                world.read(reader);
            }
            tokio::time::advance(Duration::from_secs(3600)).await;
            sleep(SECOND).await;
            assert_eq!(world.scheduler().len(), 0);
        },
    );
    assert_eq!(world.calls.lock().unwrap().len(), 0);
    assert_eq!(world.ends(Ended::Expired), 50);
}

/// A laptop that was closed for half an hour: what it served is dead, though its own clock stood still.
#[test]
fn what_ended_while_the_machine_slept_is_not_served() {
    run(
        config::Leases::default(),
        shape(600, 86_400),
        20,
        |world| async move {
            world.read(1);
            world.shape.lock().unwrap().ttl = 86_400;
            world.read(2);
            world.slept.store(1_800, Ordering::Relaxed);
            sleep(11 * SECOND).await;
            assert_eq!(*world.ended.lock().unwrap(), [(1, Ended::Expired)]);
            let left = world.scheduler().snapshot()[0]
                .lease
                .remaining(Instant::now());
            assert_eq!(left.as_secs(), 86_400 - 1_800 - 11);
            assert!(world.calls.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn a_thousand_leases_that_fail_together_do_not_come_back_together() {
    let world = run(
        config::Leases::default(),
        shape(3600, 86_400),
        20,
        |world| async move {
            for reader in 0..1_000 {
                world.read(reader);
            }
            world.set_mood(|_, _| Err(unreachable()));
            sleep(Duration::from_secs(2565)).await;
            for lease in world.served.lock().unwrap().values() {
                lease.touch(Instant::now());
            }
            sleep(Duration::from_secs(900)).await;
        },
    );
    let calls = world.calls.lock().unwrap();
    let mut seconds: HashMap<u64, u32> = HashMap::new();
    for call in calls.iter() {
        *seconds
            .entry((call.began - world.begun).as_secs())
            .or_default() += 1;
    }
    let most = seconds.values().max().unwrap();
    assert!(
        calls.len() <= 12_000,
        "{} calls in a quarter of an hour",
        calls.len()
    );
    assert!(*most <= 60, "{most} in one second");
}

/// The world itself counts the calls under way.
#[test]
fn a_slow_vault_is_asked_sixteen_things_at_once() {
    let world = run(
        config::Leases::default(),
        shape(600, 86_400),
        1_000,
        |world| async move {
            for reader in 0..500 {
                world.read(reader);
            }
            sleep(Duration::from_secs(550)).await;
        },
    );
    assert_eq!(world.count(CallKind::Renew), 500);
}

#[test]
fn retry_after_is_honoured() {
    let world = run(
        config::Leases::default(),
        shape(3600, 86_400),
        0,
        |world| async move {
            world.read(1);
            world.set_mood(|_, at| match at.as_secs() {
                0..2800 => Err(refused(503).retry_after(Some(Duration::from_secs(120)))),
                _ => Ok(()),
            });
            read_for(&world, 1, SECOND, 3000).await;
        },
    );
    let calls = world.calls.lock().unwrap();
    for pair in calls.windows(2) {
        assert!(pair[1].began - pair[0].began >= Duration::from_secs(120));
    }
    assert!(calls.len() >= 2);
}

#[test]
fn a_client_that_renews_itself_is_followed() {
    let world = run(
        config::Leases::default(),
        shape(60, 90),
        0,
        |world| async move {
            world.read(1);
            for _ in 0..4 {
                sleep(10 * SECOND).await;
                world.read(1);
                let grant = world.grant(1, Instant::now()).unwrap();
                world.scheduler().renewed(1, grant);
            }
            assert_eq!(
                world.count(CallKind::Renew),
                0,
                "the client was always first"
            );
            let view = &world.scheduler().snapshot()[0];
            assert_eq!(
                view.lease.remaining(Instant::now()),
                Duration::from_secs(50),
                "max TTL is seen"
            );
            world.scheduler().renewed(
                1,
                Grant {
                    ttl: Duration::ZERO,
                    renewable: false,
                    asked_at: Instant::now(),
                },
            );
            assert!(
                !world
                    .scheduler()
                    .snapshot()
                    .iter()
                    .any(|view| view.lease.key == 1)
            );
            sleep(SECOND).await;
            assert_eq!(
                world.ends(Ended::Lost),
                1,
                "no time granted: ended, not endless"
            );
        },
    );
    assert_eq!(world.minted.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_forgotten_is_not_called_for_nor_revived() {
    let world = run(
        config::Leases::default(),
        shape(60, 86_400),
        500,
        |world| async move {
            world.read(1);
            let lease = Arc::clone(&world.served.lock().unwrap()[&1]);
            // In the middle of a renewal.
            while world.count(CallKind::Renew) == 0 {
                sleep(Duration::from_millis(10)).await;
            }
            revoke_through_us(&world, 1);
            sleep(Duration::from_secs(300)).await;
            assert!(
                lease.life.is_over(Instant::now()),
                "the answer came too late to count"
            );
        },
    );
    assert_eq!(world.calls.lock().unwrap().len(), 1);
    assert!(world.ended.lock().unwrap().is_empty());
}

#[test]
fn a_panic_of_the_tenant_leaves_no_lease_behind() {
    struct Panics;
    impl Tenant for Panics {
        fn replace(&self, _: Arc<Lease>) -> Later<Result<()>> {
            Box::pin(async { panic!("on purpose") })
        }
        fn ended(&self, _: Arc<Lease>, _: Ended) {}
    }
    let tenant: Arc<dyn Tenant> = Arc::new(Panics);
    let shape = Shape {
        renewable: false,
        ..shape(60, 60)
    };
    run(config::Leases::default(), shape, 20, |world| async move {
        world.scheduler().set_tenant(Arc::downgrade(&tenant));
        let lease = world.mint();
        world.scheduler().track(lease);
        sleep(Duration::from_secs(59)).await;
        assert_eq!(world.scheduler().snapshot()[0].failures, 3);
        sleep(2 * SECOND).await;
        assert_eq!(world.scheduler().len(), 0, "it ended all the same");
    });
}

#[test]
fn the_view_says_what_comes_next_and_no_secret() {
    run(
        config::Leases::default(),
        shape(3600, 86_400),
        0,
        |world| async move {
            world.read(1);
            let view = &world.scheduler().snapshot()[0];
            assert_eq!(view.lease.path, "database/creds/app");
            let (action, at) = view.next.unwrap();
            assert_eq!(action, NextAction::Renew);
            let waits = at.saturating_duration_since(Instant::now()).as_secs();
            assert!((2565..=2700).contains(&waits), "{waits}");
            let text = format!("{view:?}");
            assert!(
                !text.contains("creds/app/1") && !text.contains("token"),
                "{text}"
            );
            assert_eq!(
                world.scheduler().earliest_end(),
                Some(world.begun + 3600 * SECOND)
            );
        },
    );
}

#[test]
fn a_hundred_thousand_leases_are_light() {
    let began = std::time::SystemTime::now();
    run(
        config::Leases::default(),
        shape(3600, 86_400),
        0,
        |world| async move {
            for _ in 0..100_000 {
                let lease = world.mint();
                world.scheduler().track(lease);
            }
            assert_eq!(world.scheduler().len(), 100_000);
            let own = size_of::<Lease>() + size_of::<Life>() + TEXTS;
            let bytes = world.scheduler().bytes_per_lease() + own;
            assert!(bytes < 1024, "{bytes} bytes per lease");
        },
    );
    let took = began.elapsed().unwrap();
    assert!(
        took < Duration::from_secs(10),
        "{took:?}, without optimisation"
    );
}

/// A lease's id, path and counts of references, generously.
const TEXTS: usize = 400;
