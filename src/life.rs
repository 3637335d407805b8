//! When something ends: the shared clock hand of a token or a lease.
//!
//! Whoever renews a lease moves the hand; whoever answers a caller reads it. It is one atomic, so that
//! reading it on the hit path takes no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The moment at which a token or lease ends, or never.
///
/// Times are kept as whole milliseconds since `origin`; ends are rounded down, so that nothing is
/// thought to live longer than it does.
#[derive(Debug)]
pub struct Life {
    origin: Instant,
    end_millis: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// The longest life that is believed: what Vault says is input, and clocks overflow. Ten years.
pub const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Life {
    pub fn ending_at(end: Instant) -> Self {
        let now = Instant::now();
        let life = Self {
            origin: now,
            end_millis: AtomicU64::new(0),
        };
        life.set_end(end);
        life
    }

    pub fn endless() -> Self {
        Self {
            origin: Instant::now(),
            end_millis: AtomicU64::new(NEVER),
        }
    }

    /// Moves the end, earlier or later.
    pub fn set_end(&self, end: Instant) {
        let millis = end
            .saturating_duration_since(self.origin)
            .min(LONGEST)
            .as_millis();
        self.end_millis.store(
            u64::try_from(millis).unwrap_or(NEVER - 1),
            Ordering::Release,
        );
    }

    /// Ends it now: revoked, or found dead.
    pub fn end_now(&self) {
        self.end_millis.store(0, Ordering::Release);
    }

    /// `None` means that it never ends.
    pub fn end(&self) -> Option<Instant> {
        match self.end_millis.load(Ordering::Acquire) {
            NEVER => None,
            millis => Some(self.origin + Duration::from_millis(millis)),
        }
    }

    /// What is left at `now`; `None` means that it never ends.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.end().map(|end| end.saturating_duration_since(now))
    }

    pub fn is_over(&self, now: Instant) -> bool {
        self.end().is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_end_can_move_both_ways_and_is_rounded_down() {
        let now = Instant::now();
        let life = Life::ending_at(now + Duration::from_micros(5_999));
        assert_eq!(life.remaining(now), Some(Duration::from_millis(5)));
        life.set_end(now + Duration::from_secs(60));
        assert!(!life.is_over(now));
        life.end_now();
        assert!(life.is_over(now));
        assert_eq!(Life::endless().remaining(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_life_of_centuries_is_clamped() {
        let now = Instant::now();
        let life = Life::ending_at(now + Duration::from_secs(3_000_000_000));
        assert!(life.remaining(now).is_some_and(|left| left <= LONGEST));
    }
}
