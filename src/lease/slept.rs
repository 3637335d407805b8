//! How long the machine has slept.
//!
//! Vault's clock goes on while a laptop sleeps; the one behind `Instant` does not, on Linux. What the two
//! differ by is how much less than it seems is left of every lease.

use std::time::Duration;

/// Since it was started. Zero where that cannot be told, or where `Instant` counts it anyway.
#[cfg(target_os = "linux")]
pub(super) fn so_far() -> Duration {
    use nix::time::{ClockId, clock_gettime};

    let read = |clock| clock_gettime(clock).map(Duration::from).ok();
    // In this order: a pause between the two must not look like sleep.
    let with_sleep = read(ClockId::CLOCK_BOOTTIME);
    let without = read(ClockId::CLOCK_MONOTONIC);
    match (with_sleep, without) {
        (Some(with_sleep), Some(without)) => with_sleep.saturating_sub(without),
        _ => Duration::ZERO,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn so_far() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_awake_does_not_seem_to_sleep() {
        let before = so_far();
        for _ in 0..1_000 {
            let now = so_far();
            assert!(now.abs_diff(before) < Duration::from_millis(500));
        }
    }
}
