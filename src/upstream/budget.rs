//! The token bucket that every background call of Leasehold passes, so that Vault is not attacked by
//! its own sidecar (DESIGN: promise 6).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// `rate` calls per second on average, `burst` at once. Callers are served in the order in which they
/// came; `hold_until` silences all of them, for a `Retry-After`.
#[derive(Debug)]
pub struct Budget {
    interval: Duration,
    burst: u32,
    /// When the next call would be allowed if the bucket were empty now ("theoretical arrival time").
    next: Mutex<Instant>,
}

impl Budget {
    pub fn new(rate: f64, burst: u32) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate.clamp(0.01, 1_000_000.0));
        Self {
            interval,
            burst: burst.max(1),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until one call may be made. Cancelling the wait does not give the place back.
    pub async fn acquire(&self) {
        let at = self.reserve(Instant::now());
        tokio::time::sleep_until(at).await;
    }

    /// When the call that is asked for at `now` may be made.
    fn reserve(&self, now: Instant) -> Instant {
        let tolerance = self.interval * (self.burst - 1);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = (*next).max(now);
        *next = arrival + self.interval;
        arrival.checked_sub(tolerance).map_or(now, |at| at.max(now))
    }

    /// No background call before `until`: Vault asked for peace.
    pub fn hold_until(&self, until: Instant) {
        let tolerance = self.interval * (self.burst - 1);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(until + tolerance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_then_the_rate_rules() {
        let budget = Budget::new(10.0, 20);
        let start = Instant::now();
        for _ in 0..20 {
            budget.acquire().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            budget.acquire().await;
        }
        assert!(
            start.elapsed() >= Duration::from_millis(990),
            "{:?}",
            start.elapsed()
        );
        assert!(
            start.elapsed() <= Duration::from_millis(1_010),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_silences_everybody() {
        let budget = Budget::new(10.0, 20);
        let start = Instant::now();
        budget.hold_until(start + Duration::from_secs(7));
        budget.acquire().await;
        assert!(start.elapsed() >= Duration::from_secs(7));
    }
}
