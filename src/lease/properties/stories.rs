//! One test for each thing that has gone wrong somewhere.

#![cfg(test)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::{Ended, Grant, Later, Lease, NextAction, Tenant};
use super::world::{
    CallKind, SECOND, Seen, Shape, read_for, refused, revoke_through_us, run, shape, unreachable,
};
use crate::config;
use crate::error::Result;
use crate::life::Life;

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

#[test]
fn the_unused_is_let_go_and_ends() {
    let world = run(
        config::Leases::default(),
        shape(60, 86_400),
        20,
        |world| async move {
            world.read(1);
            sleep(Duration::from_secs(600)).await;
            assert_eq!(world.scheduler().len(), 0);
        },
    );
    assert_eq!(
        world.count(CallKind::Renew),
        1,
        "within a TTL of its only use"
    );
    assert_eq!(world.count(CallKind::Replace), 0);
    assert_eq!(
        *world.ended.lock().unwrap(),
        [(1, Ended::Idle), (1, Ended::Expired)]
    );
}

/// A replacement is nobody's use: what nobody reads is replaced at most once.
#[test]
fn the_unused_is_not_replaced_for_ever() {
    let shape = Shape {
        renewable: false,
        ..shape(60, 60)
    };
    let world = run(config::Leases::default(), shape, 20, |world| async move {
        world.read(1);
        sleep(Duration::from_secs(6000)).await;
    });
    assert_eq!(world.minted.load(Ordering::Relaxed), 2);
}

#[test]
fn the_unused_is_given_back_where_that_is_asked_for() {
    let settings = config::Leases {
        idle_ttl: Some(Duration::from_secs(100)),
        revoke_idle: true,
        ..config::Leases::default()
    };
    let world = run(settings, shape(3600, 86_400), 20, |world| async move {
        read_for(&world, 1, SECOND, 300).await;
        sleep(Duration::from_secs(101)).await;
        assert!(world.truths.lock().unwrap()[&1].is_revoked);
        assert!(world.served.lock().unwrap().is_empty());
    });
    assert_eq!(world.count(CallKind::Revoke), 1);
    assert_eq!(world.count(CallKind::Renew), 0);
}

/// A token that is logged in anew when 60 % of it is over: its leases move to the new one before the old
/// ends, no renewal carries the old one, and at no time do more than two credentials live.
#[test]
fn leases_move_to_the_new_token_before_the_old_one_ends() {
    let world = run(
        config::Leases::default(),
        shape(60, 3600),
        20,
        |world| async move {
            let mut parent = Arc::new(Life::ending_at(Instant::now() + 16 * SECOND));
            world.shape.lock().unwrap().parent = Some(Arc::clone(&parent));
            let mut misses = 0;
            for round in 0..20 {
                misses += read_for(&world, 1, SECOND, 10).await;
                let next = Arc::new(Life::ending_at(Instant::now() + 16 * SECOND));
                world.shape.lock().unwrap().parent = Some(Arc::clone(&next));
                world.scheduler().replace_children_of(&parent);
                parent = next;
                let now = Instant::now();
                let truths = world.truths.lock().unwrap();
                assert!(truths.len() <= round + 2);
                drop(truths);
                assert!(world.scheduler().snapshot().len() <= 1, "{now:?}");
            }
            assert_eq!(misses, 1);
        },
    );
    assert_eq!(world.count(CallKind::Renew), 0);
    assert_eq!(world.minted.load(Ordering::Relaxed), 20);
}

#[test]
fn the_leases_of_an_old_token_are_replaced_one_after_the_other() {
    let world = run(
        config::Leases::default(),
        shape(3600, 86_400),
        20,
        |world| async move {
            let parent = Arc::new(Life::ending_at(Instant::now() + 600 * SECOND));
            world.shape.lock().unwrap().parent = Some(Arc::clone(&parent));
            for reader in 0..100 {
                world.read(reader);
            }
            world.shape.lock().unwrap().parent = Some(Arc::new(Life::endless()));
            world.scheduler().replace_children_of(&parent);
            sleep(Duration::from_secs(30)).await;
        },
    );
    let calls = world.calls.lock().unwrap();
    assert_eq!(calls.len(), 100);
    let in_second = |second: u64| {
        let counts = |call: &&Seen| (call.began - world.begun).as_secs() == second;
        calls.iter().filter(counts).count()
    };
    let most = (0..30).map(in_second).max().unwrap();
    assert!(most <= 25, "{most} in one second");
}

/// What arrives from the old token after its successor came is not forgotten.
#[test]
fn a_late_child_of_an_old_token_is_replaced_too() {
    let world = run(
        config::Leases::default(),
        shape(3600, 86_400),
        20,
        |world| async move {
            let parent = Arc::new(Life::ending_at(Instant::now() + 600 * SECOND));
            world.scheduler().replace_children_of(&parent);
            world.shape.lock().unwrap().parent = Some(parent);
            world.read(1);
            world.shape.lock().unwrap().parent = None;
            sleep(5 * SECOND).await;
        },
    );
    assert_eq!(world.count(CallKind::Replace), 1);
}

#[test]
fn what_hangs_from_a_dead_token_is_dead() {
    let world = run(
        config::Leases::default(),
        shape(60, 86_400),
        20,
        |world| async move {
            world.shape.lock().unwrap().is_token = true;
            world.read(1);
            let token = Arc::clone(&world.served.lock().unwrap()[&1]);
            *world.shape.lock().unwrap() = Shape {
                parent: Some(Arc::clone(&token.life)),
                ..shape(3600, 86_400)
            };
            world.read(2);
            world.revoke_at_vault(token.key);
            sleep(Duration::from_secs(45)).await;
            assert_eq!(world.scheduler().len(), 0);
        },
    );
    assert_eq!(
        *world.ended.lock().unwrap(),
        [(1, Ended::Lost), (2, Ended::Expired)]
    );
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
fn on_exit_everything_is_given_back_the_replaced_too() {
    let settings = config::Leases {
        revoke_on_exit: true,
        ..config::Leases::default()
    };
    let world = run(settings, shape(60, 60), 20, |world| async move {
        for reader in 0..40 {
            world.read(reader);
        }
        read_for(&world, 1, SECOND, 55).await;
        let minted = world.minted.load(Ordering::Relaxed);
        assert!(minted > 40, "some were replaced");
        let revoked = world.scheduler().revoke_all(Duration::from_secs(5)).await;
        assert_eq!(revoked, usize::try_from(minted).unwrap());
        assert!(
            world
                .truths
                .lock()
                .unwrap()
                .values()
                .all(|truth| truth.is_revoked)
        );
        assert_eq!(world.scheduler().len(), 0);
    });
    assert_eq!(
        world.count(CallKind::Revoke),
        usize::try_from(world.minted.load(Ordering::Relaxed)).unwrap()
    );
}

#[test]
fn giving_back_ends_at_its_deadline() {
    run(
        config::Leases::default(),
        shape(3600, 3600),
        1_000,
        |world| async move {
            for reader in 0..100 {
                world.read(reader);
            }
            let begun = Instant::now();
            let revoked = world
                .scheduler()
                .revoke_all(Duration::from_millis(2_500))
                .await;
            assert_eq!(begun.elapsed(), Duration::from_millis(2_500));
            assert_eq!(revoked, 32, "two rounds of sixteen");
            for call in world.calls.lock().unwrap().iter_mut() {
                call.ended.get_or_insert(begun);
            }
        },
    );
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
            let bytes = world.scheduler().bytes_per_lease();
            assert!(bytes < 1024, "{bytes} bytes per lease");
        },
    );
    let took = began.elapsed().unwrap();
    assert!(
        took < Duration::from_secs(10),
        "{took:?}, without optimisation"
    );
}
