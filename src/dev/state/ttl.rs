//! How long a grant lives: Vault's arithmetic, to the second.

use std::time::Duration;

use tokio::time::Instant;

use crate::dev::clock::Clock;

/// A mount's limits; the server's own where the mount has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) default: Duration,
    pub(crate) max: Duration,
}

/// The server's default and maximum: 32 days.
pub(crate) const SYSTEM: Limits = Limits {
    default: Duration::from_secs(32 * 24 * 3600),
    max: Duration::from_secs(32 * 24 * 3600),
};

/// What is wished for; zero wherever nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    pub(crate) increment: Duration,
    pub(crate) backend: Duration,
    pub(crate) period: Duration,
    pub(crate) backend_max: Duration,
    pub(crate) explicit_max: Duration,
}

/// A granted TTL, and a warning when it is less than was wished.
pub(crate) struct Granted {
    pub(crate) ttl: Duration,
    pub(crate) warnings: Vec<String>,
}

/// The maximum is reckoned from `issued` (now, where there is nothing yet), both truncated to the second, as
/// the server does; so a grant may overshoot its maximum by less than a second.
///
/// # Errors
/// The text of the server's refusal when the maximum is passed.
pub(crate) fn grant(
    clock: Clock,
    limits: Limits,
    wish: Wish,
    issued: Option<Instant>,
    now: Instant,
) -> Result<Granted, &'static str> {
    let mut max = limits.max;
    for cap in [wish.backend_max, wish.explicit_max] {
        if !cap.is_zero() {
            max = max.min(cap);
        }
    }
    let mut warnings = Vec::new();
    let (mut ttl, bound) = if wish.period.is_zero() {
        let wished = [wish.increment, wish.backend, limits.default];
        let ttl = wished.into_iter().find(|ttl| !ttl.is_zero());
        (ttl.unwrap_or(limits.default), Some(max))
    } else {
        if wish.period > max {
            warnings.push(format!(
                "period of {:?} exceeded the effective max_ttl of {:?}; period value is capped accordingly",
                human(wish.period),
                human(max)
            ));
        }
        let explicit = (!wish.explicit_max.is_zero()).then_some(wish.explicit_max);
        (wish.period.min(max), explicit)
    };
    if let Some(bound) = bound {
        let age = clock.seconds(now) - clock.seconds(issued.unwrap_or(now));
        let left = bound.saturating_sub(Duration::from_secs(age));
        if left.is_zero() {
            return Err("past the max TTL, cannot renew");
        }
        if ttl > left {
            warnings.push(format!(
                "TTL of {:?} exceeded the effective max_ttl of {:?}; TTL value is capped accordingly",
                human(ttl),
                human(left)
            ));
            ttl = left;
        }
    }
    Ok(Granted { ttl, warnings })
}

/// `1h30m`, `1000h`, `3m20s`, `5s`: a Go duration without the zeros at its end.
pub(crate) fn human(duration: Duration) -> String {
    let total = duration.as_secs();
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if minutes > 0 || (hours > 0 && seconds > 0) {
        text.push_str(&format!("{minutes}m"));
    }
    if seconds > 0 || total == 0 {
        text.push_str(&format!("{seconds}s"));
    }
    text
}

/// `1h0m0s`, as Go prints a duration of whole seconds.
pub(crate) fn go_duration(duration: Duration) -> String {
    let total = duration.as_secs();
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_grant_shrinks_towards_its_maximum() {
        let clock = Clock::start();
        let issued = clock.now();
        let wish = Wish {
            backend: SECOND * 4,
            backend_max: SECOND * 10,
            ..Wish::default()
        };
        let mut seen = Vec::new();
        for _ in 0..6 {
            let granted = grant(clock, SYSTEM, wish, Some(issued), clock.now());
            seen.push(
                granted
                    .map(|granted| (granted.ttl.as_secs(), granted.warnings.len()))
                    .ok(),
            );
            tokio::time::advance(SECOND * 2 + SECOND / 10).await;
        }
        let expected = [
            Some((4, 0)),
            Some((4, 0)),
            Some((4, 0)),
            Some((4, 0)),
            Some((2, 1)),
            None,
        ];
        assert_eq!(seen, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_period_has_no_end_but_an_explicit_one() {
        let clock = Clock::start();
        let issued = clock.now();
        tokio::time::advance(SECOND * 100).await;
        let wish = Wish {
            period: SECOND * 60,
            increment: SECOND,
            ..Wish::default()
        };
        let ttl =
            |wish| grant(clock, SYSTEM, wish, Some(issued), clock.now()).map(|granted| granted.ttl);
        assert_eq!(ttl(wish), Ok(SECOND * 60));
        let ending = Wish {
            explicit_max: SECOND * 120,
            ..wish
        };
        assert_eq!(ttl(ending), Ok(SECOND * 20));
    }

    #[test]
    fn durations_are_shown_as_go_shows_them() {
        for (seconds, human_text, go_text) in [
            (0, "0s", "0s"),
            (5, "5s", "5s"),
            (200, "3m20s", "3m20s"),
            (90, "1m30s", "1m30s"),
            (120, "2m", "2m0s"),
            (3_600_000, "1000h", "1000h0m0s"),
            (3_601, "1h0m1s", "1h0m1s"),
        ] {
            assert_eq!(human(SECOND * seconds), human_text);
            assert_eq!(go_duration(SECOND * seconds), go_text);
        }
    }
}
