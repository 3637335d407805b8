//! What must hold whatever Vault does, shown on a paused clock.

#![cfg(test)]

mod ends;
mod stories;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep_until};

use self::world::{
    CallKind, SECOND, Shape, read_for, refused, revoke_through_us, run, shape, unreachable,
};
use crate::config;
use crate::error::Result;
use crate::life::Life;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A willing Vault, a reader more often than each TTL: after the first read nobody waits, whatever the
    /// TTLs, and no more is minted than max TTL demands.
    #[test]
    fn a_used_credential_is_always_there(
        ttl in 3u64..90,
        more in 0u64..200,
        renewable in any::<bool>(),
        latency in 0u64..60,
        every in 50u64..1_000,
        is_token in any::<bool>(),
    ) {
        let shape = Shape { renewable, is_token, ..shape(ttl, ttl + more) };
        let world = run(config::Leases::default(), shape, latency, |world| async move {
            let misses = read_for(&world, 1, Duration::from_millis(every), 600).await;
            assert_eq!(misses, 1, "only the first read waits");
        });
        // Each serves for at least three tenths of its TTL, or for max TTL but the last of them.
        let least = if renewable { more.max(ttl * 3 / 10) } else { ttl * 3 / 10 }.max(1);
        let minted = world.minted.load(Ordering::Relaxed);
        prop_assert!(minted <= 1 + 600 / least + 600 / least / 4 + 1, "{} minted", minted);
    }

    /// A Vault that fails in every way at random: no dead credential is served (the reader asserts it), no
    /// two calls for one lease come within the gap (the end of the run asserts it), and they stay few.
    #[test]
    fn whatever_fails_nothing_dead_is_served_and_nothing_loops(
        ttl in 1u64..90,
        more in 0u64..200,
        renewable in any::<bool>(),
        latency in 0u64..400,
        script in proptest::collection::vec((0u64..600, 0u8..7, 0u64..120), 0..8),
        revocations in proptest::collection::vec(1u64..600, 0..4),
        parent in proptest::option::of(1u64..600),
        revoke_idle in any::<bool>(),
        readers in 1u64..4,
    ) {
        let settings = config::Leases { revoke_idle, ..config::Leases::default() };
        let parent = parent.map(Duration::from_secs);
        let shape = Shape { renewable, ..shape(ttl, ttl + more) };
        let world = run(settings, shape, latency, |world| async move {
            let life = parent.map(|after| Arc::new(Life::ending_at(Instant::now() + after)));
            world.shape.lock().unwrap().parent.clone_from(&life);
            world.set_mood(move |kind, at| mood(&script, kind, at));
            let begun = Instant::now();
            let mut until = begun;
            for second in 0..600 {
                for reader in 0..readers {
                    // Some readers come each second, some pause for long.
                    if reader == 0 || second / 100 % 2 == 0 {
                        world.read(reader);
                    }
                }
                if revocations.contains(&second) {
                    revoke_through_us(&world, 0);
                }
                if let Some(life) = &life && life.remaining(Instant::now()) < Some(5 * SECOND) {
                    // A new token in time, as auto-auth gets it.
                    let next = Arc::new(Life::ending_at(Instant::now() + 120 * SECOND));
                    world.shape.lock().unwrap().parent = Some(next);
                    world.scheduler().replace_children_of(life);
                }
                until += SECOND;
                sleep_until(until).await;
            }
        });
        let calls = world.calls.lock().unwrap().len();
        // A renewal each fifth of a TTL at most, and a few calls for each credential that came and went.
        let minted = world.minted.load(Ordering::Relaxed);
        let most = readers * 600 * 5 / ttl.max(3) + 30 * (minted + 10);
        let calls = u64::try_from(calls).unwrap();
        prop_assert!(calls <= most, "{} calls for {} credentials", calls, minted);
    }
}

/// What Vault answers at a moment; the last period that covers it decides.
fn mood(script: &[(u64, u8, u64)], kind: CallKind, at: Duration) -> Result<()> {
    let covers = |(from, _, long): &&(u64, u8, u64)| (*from..*from + *long).contains(&at.as_secs());
    match script.iter().rev().find(covers).map(|(_, how, _)| how) {
        None => Ok(()),
        Some(0) => Err(unreachable()),
        Some(1) => Err(refused(403)),
        Some(2) if kind == CallKind::Renew => Err(refused(400)),
        Some(3) => Err(refused(500)),
        Some(4) if kind == CallKind::Renew => Err(refused(403)),
        Some(5) if kind == CallKind::Replace => Err(refused(400)),
        Some(6) => Err(refused(429).retry_after(Some(Duration::from_secs(7)))),
        Some(_) => Ok(()),
    }
}
