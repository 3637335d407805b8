//! Leases that end: unused ones, those of old and dead tokens, and all of them on exit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::Ended;
use super::world::{CallKind, SECOND, Seen, Shape, read_for, run, shape};
use crate::config;
use crate::life::Life;

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

#[test]
fn a_token_is_never_given_back_since_its_client_may_use_it_unseen() {
    let settings = config::Leases {
        idle_ttl: Some(Duration::from_secs(10)),
        revoke_idle: true,
        ..config::Leases::default()
    };
    let shape = Shape {
        is_token: true,
        ..shape(60, 86_400)
    };
    let world = run(settings, shape, 20, |world| async move {
        world.read(1);
        sleep(Duration::from_secs(59)).await;
        assert_eq!(world.scheduler().len(), 1);
    });
    assert_eq!(*world.ended.lock().unwrap(), [(1, Ended::Idle)]);
    assert!(world.calls.lock().unwrap().is_empty());
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
