//! The token bucket that every background call of Leasehold passes, so that Vault is not attacked by
//! its own sidecar. Three classes share it: the auto-auth token's calls go first, those for leases wait
//! their turn, and what can be left undone takes what is to spare.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// `rate` calls per second on average, `burst` at once. Callers are served in the order in which they
/// came; `hold_until` silences all of them, for a `Retry-After`.
#[derive(Debug)]
pub struct Budget {
    interval: Duration,
    burst: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the next call would be allowed if the bucket were empty now ("theoretical arrival time").
    next: Instant,
    /// Vault asked for peace until then.
    held_until: Instant,
}

impl Budget {
    pub fn new(rate: f64, burst: u32) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate.clamp(0.01, 1_000_000.0));
        Self {
            interval,
            burst: burst.max(1),
            state: Mutex::new(State {
                next: Instant::now(),
                held_until: Instant::now(),
            }),
        }
    }

    /// Waits until one call may be made. Cancelling the wait does not give the place back.
    pub async fn acquire(&self) {
        let at = self.reserve(Instant::now());
        tokio::time::sleep_until(at).await;
    }

    /// As `acquire`, in front of all who wait: for the token that everything else depends on. What it takes
    /// is missing to those behind.
    pub async fn acquire_first(&self) {
        let at = self.reserve_first(Instant::now());
        tokio::time::sleep_until(at).await;
    }

    /// A place that is free now, or none: for what can be left undone (look-ups, revalidations). Half of the
    /// bucket is out of its reach, so that callers who cause many of these keep no renewal waiting.
    pub fn take_spare(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let taken = state.next.saturating_duration_since(now);
        if now < state.held_until || taken > self.interval * (self.burst / 2) {
            return false;
        }
        state.next = state.next.max(now) + self.interval;
        true
    }

    /// When the call that is asked for at `now` may be made.
    fn reserve(&self, now: Instant) -> Instant {
        let tolerance = self.interval * (self.burst - 1);
        let mut state = self.lock();
        let arrival = state.next.max(now);
        state.next = arrival + self.interval;
        let at = arrival.checked_sub(tolerance).unwrap_or(now);
        at.max(now).max(state.held_until)
    }

    fn reserve_first(&self, now: Instant) -> Instant {
        let mut state = self.lock();
        state.next = state.next.max(now) + self.interval;
        now.max(state.held_until)
    }

    /// No background call before `until`: Vault asked for peace.
    pub fn hold_until(&self, until: Instant) {
        let tolerance = self.interval * (self.burst - 1);
        let mut state = self.lock();
        state.next = state.next.max(until + tolerance);
        state.held_until = state.held_until.max(until);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn who_is_first_waits_for_nobody_and_the_rate_still_holds() {
        let budget = Budget::new(10.0, 20);
        let start = Instant::now();
        for _ in 0..1_000 {
            budget.reserve(start);
        }
        budget.acquire_first().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        budget.acquire().await;
        // 1,000 and the first one before it, 20 of them at once.
        assert_eq!(start.elapsed(), Duration::from_millis(98_200));
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_be_left_undone_keeps_nobody_waiting() {
        let budget = Budget::new(10.0, 20);
        let start = Instant::now();
        let taken = (0..1_000).filter(|_| budget.take_spare()).count();
        assert_eq!(taken, 11);
        budget.acquire().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        budget.hold_until(start + Duration::from_secs(5));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(!budget.take_spare());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_silences_everybody() {
        let budget = Budget::new(10.0, 20);
        let start = Instant::now();
        budget.hold_until(start + Duration::from_secs(7));
        budget.acquire_first().await;
        assert_eq!(start.elapsed(), Duration::from_secs(7));
        budget.acquire().await;
        assert!(start.elapsed() >= Duration::from_secs(7));
    }
}
