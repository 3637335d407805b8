//! The development Vault's clock: tokio's instants, shown as the wall-clock times that Vault prints.
//!
//! A test's paused clock moves both, so a token's `expire_time` and its real end never disagree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
    /// Since the epoch, a whole second: Vault truncates times to seconds when it caps a TTL, and a test
    /// should not depend on the fraction at which it was started.
    origin_wall: Duration,
}

impl Clock {
    pub(super) fn start() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            origin: Instant::now(),
            origin_wall: Duration::from_secs(wall.as_secs()),
        }
    }

    pub(super) fn now(self) -> Instant {
        Instant::now()
    }

    /// Since the epoch.
    pub(super) fn wall(self, at: Instant) -> Duration {
        self.origin_wall + at.saturating_duration_since(self.origin)
    }

    pub(super) fn seconds(self, at: Instant) -> u64 {
        self.wall(at).as_secs()
    }

    /// The seconds left as look-ups show them: the end less now rounded to a second, so that what was just
    /// made shows its whole TTL.
    pub(super) fn ttl(self, end: Instant, now: Instant) -> u64 {
        let rounded = (self.wall(now) + Duration::from_millis(500)).as_secs();
        self.wall(end)
            .saturating_sub(Duration::from_secs(rounded))
            .as_secs()
    }

    /// As Go prints a `time.Time` in JSON: nanoseconds without trailing zeros, UTC.
    pub(super) fn rfc3339(self, at: Instant) -> String {
        let nanos = i128::try_from(self.wall(at).as_nanos()).unwrap_or(i128::MAX);
        Timestamp::from_nanosecond(nanos).map_or_else(|_| String::new(), |time| time.to_string())
    }

    /// For the `Date` header.
    pub(super) fn http_date(self, at: Instant) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + self.wall(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_time_follows_the_paused_clock() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_millis(1_500)).await;
        let after = clock.now();
        assert_eq!(clock.seconds(after), clock.seconds(before) + 1);
        assert!(
            clock.rfc3339(after).ends_with(".5Z"),
            "{}",
            clock.rfc3339(after)
        );
        assert!(!clock.rfc3339(before).contains('.'));
        assert!(clock.http_date(after).ends_with(" GMT"));
    }
}
