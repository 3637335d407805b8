//! Whether calls to Vault get through: said once when they begin to fail, once a minute while they do, and once
//! when they succeed again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Kind, Result};

/// Fed with the outcome of every exchange, callers' and our own.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Spares exchanges that go well the lock.
    is_failing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outage: Option<Outage>,
    /// Of this outage or an earlier one: a Vault that fails now and then is not told about at every turn.
    last_line: Option<Instant>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    failed: u64,
    is_told: bool,
}

impl Reach {
    pub(super) fn saw<T>(&self, address: &str, outcome: &Result<T>) {
        match outcome {
            Err(error) if matches!(error.kind(), Kind::Unreachable | Kind::Deadline) => {
                self.failed(address, error);
            }
            // It was not asked, or what it said is another matter.
            Err(_) => {}
            Ok(_) if self.is_failing.load(Ordering::Relaxed) => self.answered(address),
            Ok(_) => {}
        }
    }

    /// For how long calls have been failing; `None`: the last one got through.
    pub(super) fn failing_for(&self) -> Option<Duration> {
        let state = self.lock();
        state.outage.as_ref().map(|outage| outage.since.elapsed())
    }

    fn failed(&self, address: &str, error: &Error) {
        let now = Instant::now();
        let mut state = self.lock();
        let is_due = state
            .last_line
            .is_none_or(|last| now - last >= BETWEEN_LINES);
        let outage = state.outage.get_or_insert(Outage {
            since: now,
            failed: 0,
            is_told: false,
        });
        outage.failed += 1;
        self.is_failing.store(true, Ordering::Relaxed);
        if !is_due {
            return;
        }
        outage.is_told = true;
        tracing::warn!(
            address,
            %error,
            failed_calls = outage.failed,
            for_seconds = (now - outage.since).as_secs(),
            "calls to Vault fail; callers get what is cached, and 502 or 504 for the rest"
        );
        state.last_line = Some(now);
    }

    fn answered(&self, address: &str) {
        let mut state = self.lock();
        self.is_failing.store(false, Ordering::Relaxed);
        let Some(outage) = state.outage.take().filter(|outage| outage.is_told) else {
            return;
        };
        tracing::info!(
            address,
            failed_calls = outage.failed,
            after_seconds = outage.since.elapsed().as_secs(),
            "calls to Vault succeed again"
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn failure(kind: Kind) -> Result<()> {
        Err(Error::new(kind, "no answer"))
    }

    /// How many failures were counted, and whether a line was written for them.
    fn outage(reach: &Reach) -> Option<(u64, bool)> {
        let state = reach.lock();
        let outage = state.outage.as_ref()?;
        Some((outage.failed, outage.is_told))
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_begins_with_a_failure_and_ends_with_an_answer() {
        let reach = Reach::default();
        reach.saw("here", &Ok(()));
        reach.saw("here", &failure(Kind::Busy));
        assert_eq!(outage(&reach), None);
        for kind in [Kind::Unreachable, Kind::Deadline] {
            reach.saw("here", &failure(kind));
        }
        assert_eq!(outage(&reach), Some((2, true)));
        // Vault was not asked: no sign of life.
        reach.saw("here", &failure(Kind::Busy));
        assert_eq!(outage(&reach), Some((2, true)));
        reach.saw("here", &Ok(()));
        assert_eq!(outage(&reach), None);
        assert!(!reach.is_failing.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_a_minute_apart_even_when_it_fails_now_and_then() {
        let reach = Reach::default();
        let mut lines = Vec::new();
        let start = Instant::now();
        for second in 0..150 {
            reach.saw("here", &failure(Kind::Unreachable));
            let last = reach.lock().last_line.unwrap();
            if lines.last() != Some(&last) {
                lines.push(last);
            }
            if second % 2 == 0 {
                reach.saw("here", &Ok(()));
            }
            advance(Duration::from_secs(1)).await;
        }
        let at: Vec<u64> = lines.iter().map(|line| (*line - start).as_secs()).collect();
        assert_eq!(at, [0, 60, 120]);
    }
}
