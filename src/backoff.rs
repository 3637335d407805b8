//! Waits between attempts: exponential, with jitter, bounded at both ends.

use std::time::Duration;

/// Doubling waits from `min` to `max`; each is drawn from the upper half of its step, so that a fleet
/// that failed together does not come back together, and no wait is shorter than half of `min`.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Self {
        let min = min.max(Duration::from_millis(1));
        Self {
            min,
            max: max.max(min),
            step: min,
        }
    }

    /// The next wait; `random` is uniform in `0.0..1.0` and comes from the caller, so that tests choose it.
    pub fn next_with(&mut self, random: f64) -> Duration {
        let wait = self.step.mul_f64(1.0 - 0.5 * random.clamp(0.0, 1.0));
        self.step = self.step.saturating_mul(2).min(self.max);
        wait
    }

    pub fn next_wait(&mut self) -> Duration {
        self.next_with(fastrand::f64())
    }

    /// Back to `min`, after a success.
    pub fn reset(&mut self) {
        self.step = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum_and_resets() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (0..5).map(|_| backoff.next_with(0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next_with(1.0), Duration::from_millis(500));
    }

    #[test]
    fn equal_bounds_are_fine_and_zero_never_spins() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert!(backoff.next_with(1.0) > Duration::ZERO);
    }
}
