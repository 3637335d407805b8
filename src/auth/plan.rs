//! When the token is renewed, and when a new login takes its place. Pure: no clock, no I/O.
//!
//! A quarter of the full TTL is always kept in hand: for retries, and for the leases made with the old
//! token, which die with it and have to be replaced while it lives.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Renew,
    LogIn,
}

impl Action {
    /// One word for logs and JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::LogIn => "login",
        }
    }
}

/// What is to be done next for the token that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) action: Action,
    pub(super) at: Instant,
}

/// What a login or a renewal brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// When the request went out; the TTL counts from here.
    pub(super) asked_at: Instant,
    pub(super) ttl: Duration,
    pub(super) renewable: bool,
}

impl Grant {
    pub(super) fn end(&self) -> Instant {
        self.asked_at + self.ttl
    }
}

/// `full` is the longest TTL that this token was ever granted: a shorter grant means that its maximum
/// is near and that no renewal will help. `random` is uniform in `0.0..1.0`.
pub(super) fn after_grant(grant: &Grant, full: Duration, random: f64) -> Next {
    let early = JITTER * random.clamp(0.0, 1.0);
    if grant.renewable && is_extended(grant.ttl, full) {
        return Next {
            action: Action::Renew,
            at: grant.asked_at + grant.ttl.mul_f64(RENEW_AT - early),
        };
    }
    let in_hand = full.mul_f64(1.0 - RENEW_AT + early);
    Next {
        action: Action::LogIn,
        at: grant.asked_at + grant.ttl.saturating_sub(in_hand),
    }
}

/// After a renewal that failed but may succeed later: another one while there is room, else a login.
///
/// `answered`: Vault is there and refuses renewals, so a login is worth its try earlier than when nobody
/// answers, since then renewing keeps the token's leases. `wait` is what the backoff wants, `asked_for`
/// what a `Retry-After` demands.
pub(super) fn after_failure(
    now: Instant,
    end: Instant,
    full: Duration,
    answered: bool,
    wait: Duration,
    asked_for: Duration,
) -> Next {
    let left = end.saturating_duration_since(now);
    let last_call = if answered { full / 8 } else { full / 20 };
    let room = left.saturating_sub(last_call);
    let wait = wait
        .min(left / 4)
        .min(room)
        .max(SHORTEST_WAIT)
        .max(asked_for);
    if wait <= room {
        return Next {
            action: Action::Renew,
            at: now + wait,
        };
    }
    Next {
        action: Action::LogIn,
        at: now + asked_for,
    }
}

/// Vault answers in whole seconds, rounded down, so a second less is no sign of an end.
fn is_extended(ttl: Duration, full: Duration) -> bool {
    let rounding = (full / 8).min(Duration::from_secs(1));
    !ttl.is_zero() && ttl + rounding >= full
}

const RENEW_AT: f64 = 0.75;
/// How much earlier, at most, so that a fleet that started together does not renew together.
const JITTER: f64 = 0.05;
const SHORTEST_WAIT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn renews_at_three_quarters_and_logs_in_while_a_quarter_is_left() {
        let now = Instant::now();
        let cases = [
            // ttl, full, renewable, random -> action, seconds from now
            (3600, 3600, true, 0.0, Action::Renew, 2700.0),
            (3600, 3600, true, 1.0, Action::Renew, 2520.0),
            (3600, 3600, false, 0.0, Action::LogIn, 2700.0),
            (3600, 3600, false, 1.0, Action::LogIn, 2520.0),
            (3599, 3600, true, 0.0, Action::Renew, 2699.25),
            (3598, 3600, true, 0.0, Action::LogIn, 2698.0),
            // Max TTL 16 s: the second renewal of a TTL of 8 s.
            (4, 8, true, 0.0, Action::LogIn, 2.0),
            (2, 8, true, 0.0, Action::LogIn, 0.0),
            (600, 3600, true, 0.5, Action::LogIn, 0.0),
            (1, 2, true, 0.0, Action::LogIn, 0.5),
            (0, 0, true, 0.0, Action::LogIn, 0.0),
        ];
        for (ttl, full, renewable, random, action, after) in cases {
            let grant = Grant {
                asked_at: now,
                ttl: Duration::from_secs(ttl),
                renewable,
            };
            let next = after_grant(&grant, Duration::from_secs(full), random);
            let at = now + seconds(after);
            assert_eq!(
                (next.action, next.at),
                (action, at),
                "{ttl} {full} {random}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_is_tried_again_until_only_a_login_is_left() {
        let now = Instant::now();
        let full = Duration::from_secs(1000);
        let next = |left: u64, answered, wait: u64, asked_for: u64| {
            let next = after_failure(
                now,
                now + Duration::from_secs(left),
                full,
                answered,
                Duration::from_secs(wait),
                Duration::from_secs(asked_for),
            );
            (next.action, (next.at - now).as_secs())
        };
        assert_eq!(next(250, false, 1, 0), (Action::Renew, 1));
        assert_eq!(next(250, false, 300, 0), (Action::Renew, 62));
        assert_eq!(next(250, true, 300, 0), (Action::Renew, 62));
        assert_eq!(next(150, true, 300, 0), (Action::Renew, 25));
        assert_eq!(next(125, true, 300, 0), (Action::LogIn, 0));
        assert_eq!(next(150, false, 300, 0), (Action::Renew, 37));
        assert_eq!(next(60, false, 300, 0), (Action::Renew, 10));
        assert_eq!(next(50, false, 300, 0), (Action::LogIn, 0));
        assert_eq!(next(60, false, 300, 30), (Action::LogIn, 30));
        assert_eq!(next(250, true, 1, 60), (Action::Renew, 60));
        assert_eq!(next(0, false, 300, 0), (Action::LogIn, 0));
    }

    proptest! {
        #[test]
        fn whatever_is_granted_the_next_step_lies_inside_it(
            ttl in 0u64..4_000_000, full in 0u64..4_000_000, renewable: bool, random in 0.0..1.0f64,
        ) {
            let grant = Grant { asked_at: Instant::now(), ttl: Duration::from_secs(ttl), renewable };
            let full = Duration::from_secs(full.max(ttl));
            let next = after_grant(&grant, full, random);
            prop_assert!(next.at >= grant.asked_at && next.at <= grant.end());
            if ttl > 0 {
                prop_assert!(next.at < grant.end());
            }
        }

        #[test]
        fn waits_after_failures_end_in_a_login_before_the_end(full in 4u64..1_000_000, answered: bool) {
            let full = Duration::from_secs(full);
            let start = Instant::now();
            let end = start + full / 4;
            let mut now = start;
            let mut tries = 0;
            loop {
                tries += 1;
                let next = after_failure(now, end, full, answered, Duration::from_secs(300), Duration::ZERO);
                prop_assert!(next.at >= now && next.at < end);
                if next.action == Action::LogIn {
                    break;
                }
                prop_assert!(next.at >= now + SHORTEST_WAIT);
                now = next.at;
                prop_assert!(tries < 20 + full.as_secs() / 1200);
            }
            prop_assert!(answered || full.as_secs() < 10 || tries >= 3, "{tries}");
        }
    }
}
