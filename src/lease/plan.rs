//! What is done for a lease, and when. Pure: no clock, no calls, no state.
//!
//! A lease is renewed while that brings it a full TTL, and replaced before its end when it does not. Both
//! happen while it still has more than the least life it is served with, and time for the call: the cache
//! never has to refuse the old credential before the new one, or the longer life, is there. That rule
//! comes before `renew_at` and `replace_at`, and moves short leases to earlier moments than those say.

use std::time::Duration;

use tokio::time::Instant;

use crate::config;
use crate::life::LONGEST;

/// What is known of a lease at `now`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub settings: &'a config::Leases,
    pub now: Instant,
    /// The TTL first granted.
    pub ttl: Duration,
    /// The least life with which it is served.
    pub floor: Duration,
    /// What the last grant brought, counted from `asked_at`.
    pub granted: Duration,
    pub asked_at: Instant,
    /// Its own end.
    pub end: Option<Instant>,
    pub parent_end: Option<Instant>,
    pub stand: Stand,
    pub used_at: Instant,
    /// Uniform in `0.0..1.0`, drawn once per grant.
    pub jitter: f64,
    /// Given back to Vault when it is idle, rather than left to its end.
    pub gives_back: bool,
    /// No call before this: the gap after the last one, or the wait after a failed one.
    pub not_before: Option<Instant>,
}

/// How a lease can be kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// It is renewable, and renewals have brought a full TTL so far.
    Extends,
    /// It is not renewable, or max TTL is near: a renewal brought less than a TTL.
    Ends,
    /// To be replaced from this moment on, and not renewed any more.
    Leaves { from: Instant, why: Leaving },
    /// It is no longer kept alive.
    LetGo,
    /// It was replaced, and nobody is served from it; it still lives at Vault.
    Retired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Vault does not renew it.
    Refused,
    /// Vault answered 403, as it does both where a policy forbids renewing and where the token is dead.
    Doubted,
    /// There is a newer token than the one it was made with, and it dies with the older.
    Superseded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub step: Step,
    /// Not later than now: at once.
    pub at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Renew,
    Replace,
    /// Plan again: it was not in use when it was due, or it is not known yet how long its parent lives.
    Look,
    /// Nobody uses it: keep it alive no longer.
    LetGo,
    /// It may be dead and nobody uses it: serve it no longer.
    Lose,
    /// Its end has come.
    Expire,
}

/// The next step for a lease; `None` for one that never ends.
pub(super) fn plan(facts: &Facts<'_>) -> Option<Plan> {
    let hard = facts.hard_end()?;
    let expire = Plan {
        step: Step::Expire,
        at: hard,
    };
    if hard <= facts.now {
        return Some(expire);
    }
    if matches!(facts.stand, Stand::LetGo | Stand::Retired) {
        return Some(expire);
    }
    let idle_from = facts.used_at + facts.settings.idle_ttl.unwrap_or(facts.ttl).min(LONGEST);
    let is_idle = idle_from < facts.now;
    let next = facts.wish(hard).unwrap_or(expire);
    if facts.gives_back {
        if is_idle {
            return Some(facts.at_once(Step::LetGo));
        }
        if idle_from + TICK < next.at {
            return Some(Plan {
                step: Step::Look,
                at: idle_from + TICK,
            });
        }
    }
    if is_idle && next.at <= facts.now {
        return Some(facts.idle(hard));
    }
    Some(next)
}

impl Facts<'_> {
    /// Its own end or its parent's, whichever comes first.
    fn hard_end(&self) -> Option<Instant> {
        match (self.end, self.parent_end) {
            (Some(own), Some(parent)) => Some(own.min(parent)),
            (own, parent) => own.or(parent),
        }
    }

    /// What is done if it is in use by then. `None`: nothing can help any more, or nothing should.
    fn wish(&self, hard: Instant) -> Option<Plan> {
        match self.stand {
            Stand::LetGo | Stand::Retired => None,
            Stand::Leaves {
                from,
                why: Leaving::Refused,
            } => self.replace_if_it_helps(from, hard),
            Stand::Leaves { from, .. } => self.replace_at(from, hard),
            Stand::Extends => match renew_after(self) {
                Some(after) => self.renew_at(self.asked_at + after, hard),
                None => self.end_of_own(hard),
            },
            Stand::Ends => self.end_of_own(hard),
        }
    }

    fn renew_at(&self, at: Instant, hard: Instant) -> Option<Plan> {
        let at = self.not_before.map_or(at, |wait| at.max(wait));
        if at + LAST_CALL <= hard {
            return Some(Plan {
                step: Step::Renew,
                at,
            });
        }
        // A renewal this near to its parent's end, or past it, waits until that has moved or is over.
        let is_up_to_parent = self.end.is_none_or(|own| at + LAST_CALL <= own);
        let look = self.now.max(at) + min_gap(self.ttl);
        is_up_to_parent.then_some(Plan {
            step: Step::Look,
            at: look.min(hard),
        })
    }

    fn end_of_own(&self, hard: Instant) -> Option<Plan> {
        // One too short-lived to be kept is left to its readers.
        if self.ttl < SHORTEST_KEPT {
            return None;
        }
        let span = hard.saturating_duration_since(self.asked_at);
        self.replace_if_it_helps(self.asked_at + replace_after(self, span), hard)
    }

    /// Where another one would die with the same parent, that parent's end is watched: once it has been
    /// renewed, another one lives longer.
    fn replace_if_it_helps(&self, at: Instant, hard: Instant) -> Option<Plan> {
        if self.outlives(hard) {
            return self.replace_at(at, hard);
        }
        let left = hard.saturating_duration_since(self.now);
        let soon = self.now + (left / 8).max(min_gap(self.ttl));
        let look = if at > self.now { at } else { soon };
        Some(Plan {
            step: Step::Look,
            at: look.min(hard),
        })
    }

    /// Would another lease of the same token live longer? One that dies with its parent is replaced when
    /// there is a newer parent, not before: it would be the same again.
    fn outlives(&self, hard: Instant) -> bool {
        self.parent_end
            .is_none_or(|parent| parent >= hard + LEAST_GAIN)
    }

    fn replace_at(&self, at: Instant, hard: Instant) -> Option<Plan> {
        let at = self.not_before.map_or(at, |wait| at.max(wait));
        (at < hard).then_some(Plan {
            step: Step::Replace,
            at,
        })
    }

    /// Something is due, but nobody uses it: look again when it would be replaced and at the last good
    /// moment, and then let it go.
    fn idle(&self, hard: Instant) -> Plan {
        if let Stand::Leaves {
            why: Leaving::Doubted,
            ..
        } = self.stand
        {
            return self.at_once(Step::Lose);
        }
        let span = hard.saturating_duration_since(self.asked_at);
        let looks = [replace_after(self, span), last_good(self, span)];
        let next = looks
            .into_iter()
            .map(|after| self.asked_at + after)
            .find(|at| *at > self.now);
        next.map_or_else(
            || self.at_once(Step::LetGo),
            |at| Plan {
                step: Step::Look,
                at,
            },
        )
    }

    fn at_once(&self, step: Step) -> Plan {
        Plan { step, at: self.now }
    }
}

/// The time from now on in which a replacement goes unnoticed by readers.
pub(super) fn room(facts: &Facts<'_>) -> Duration {
    let Some(hard) = facts.hard_end() else {
        return Duration::MAX;
    };
    last_good(facts, hard.saturating_duration_since(facts.now))
}

/// How long after the last grant a renewal is due; `None`: it lives too shortly to be renewed.
fn renew_after(facts: &Facts<'_>) -> Option<Duration> {
    let granted = facts.granted;
    let wished = granted
        .mul_f64(facts.settings.renew_at.clamp(0.0, 1.0))
        .max(min_gap(facts.ttl));
    // A failed renewal is tried again before the lease is refused to readers.
    let in_time = last_good(facts, granted);
    // Where max TTL is near, the answer is what is left, in whole seconds: even then there is time to
    // replace it, if it reaches Vault before the next second begins.
    let room = granted.checked_sub(facts.floor + CALL)?;
    let whole = Duration::from_secs(room.as_secs()).checked_sub(CALL)?;
    let three_tries = if facts.ttl >= THREE_TRIES_FROM {
        LAST_CALL + min_gap(facts.ttl).mul_f64(2.0 * (1.0 + GAP_JITTER)) + CALL
    } else {
        LAST_CALL
    };
    let after = wished
        .min(in_time)
        .min(whole)
        .min(granted.checked_sub(three_tries)?);
    (facts.ttl >= SHORTEST_KEPT && after >= min_gap(facts.ttl)).then(|| early(after, facts.jitter))
}

/// How long after the last grant a lease that then had `span` left is replaced.
fn replace_after(facts: &Facts<'_>, span: Duration) -> Duration {
    let wished = span
        .mul_f64(facts.settings.replace_at.clamp(0.0, 1.0))
        .max(min_gap(facts.ttl));
    early(wished.min(last_good(facts, span)), facts.jitter)
}

/// The last moment at which a call that keeps a lease alive should go out, where readers must not notice.
fn last_good(facts: &Facts<'_>, span: Duration) -> Duration {
    span.saturating_sub(facts.floor + slack(span))
}

fn early(after: Duration, jitter: f64) -> Duration {
    after.mul_f64(1.0 - JITTER * jitter.clamp(0.0, 1.0))
}

/// The time that a call, and one more try, may take before a lease is refused to readers.
fn slack(span: Duration) -> Duration {
    (span / 10).clamp(Duration::from_millis(500), Duration::from_secs(10))
}

/// The least time between two calls for one lease, whatever they are and however they went. Only the
/// replacement that a renewal's own answer asks for follows it at once.
pub(super) fn min_gap(ttl: Duration) -> Duration {
    (ttl / 4).clamp(SHORTEST_GAP, LONGEST_GAP)
}

/// How long to wait after a call that failed but may succeed later. `left` is the time in which it still
/// can; `failures` counts this one.
pub(super) fn wait_after_failure(
    ttl: Duration,
    failures: u32,
    left: Duration,
    hint: Option<Duration>,
    random: f64,
) -> Duration {
    let first = (ttl / 120).clamp(min_gap(ttl), LONGEST_FIRST_WAIT);
    let doublings = failures.saturating_sub(1).min(16);
    let step = first.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    let random = random.clamp(0.0, 1.0);
    // Never past the half of what is left, so that the tries do not end before the lease does.
    let wait = step.mul_f64(1.0 - 0.5 * random).min(left / 2);
    let least = min_gap(ttl).mul_f64(1.0 + GAP_JITTER * random);
    wait.max(least).max(hint.unwrap_or_default())
}

/// How long to wait after Vault has refused a replacement; there are few tries, spread over what is left.
pub(super) fn wait_after_refusal(
    ttl: Duration,
    left: Duration,
    hint: Option<Duration>,
    random: f64,
) -> Duration {
    let wait = (left / 3).mul_f64(1.0 - 0.5 * random.clamp(0.0, 1.0));
    wait.max(min_gap(ttl)).max(hint.unwrap_or_default())
}

/// Is what a renewal brought a full TTL? Answers are whole seconds, so one may be missing.
pub(super) fn is_full(granted: Duration, ttl: Duration) -> bool {
    granted + Duration::from_secs(1) >= ttl
}

/// No renewal with less than this left: servers have turned such a one into a lease without an end
/// (CVE-2021-32923).
pub(super) const LAST_CALL: Duration = Duration::from_secs(2);

/// A refused replacement is tried this often in all.
pub(super) const REPLACE_TRIES: u8 = 3;

/// Leases of a shorter TTL are neither renewed nor replaced: that would take more calls than reading them.
const SHORTEST_KEPT: Duration = Duration::from_secs(3);
/// What a replacement must be able to live longer.
const LEAST_GAIN: Duration = Duration::from_secs(2);
const SHORTEST_GAP: Duration = Duration::from_millis(250);
const LONGEST_GAP: Duration = Duration::from_secs(1);
const LONGEST_FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// From this TTL on a renewal has at least three tries.
const THREE_TRIES_FROM: Duration = Duration::from_secs(10);
/// What a renewal may take to reach Vault, and the replacement that its answer asks for to come back.
const CALL: Duration = Duration::from_millis(250);
/// Everything comes up to this part earlier than planned, so that what began together drifts apart.
const JITTER: f64 = 0.05;
const GAP_JITTER: f64 = 0.1;
const TICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A lease as it is at the moment of its making.
    fn fresh(settings: &config::Leases, now: Instant, ttl: Duration) -> Facts<'_> {
        Facts {
            settings,
            now,
            ttl,
            floor: super::super::min_remaining(settings, ttl).max(Duration::from_secs(1)),
            granted: ttl,
            asked_at: now,
            end: Some(now + ttl),
            parent_end: None,
            stand: Stand::Extends,
            used_at: now,
            jitter: 0.0,
            gives_back: settings.revoke_idle,
            not_before: None,
        }
    }

    type Change = fn(&mut Facts<'_>);
    type Case<'a> = (
        &'a str,
        &'a config::Leases,
        f64,
        Change,
        Option<(Step, f64)>,
    );

    #[test]
    fn what_is_due_when() {
        let settings = config::Leases::default();
        let revoking = config::Leases {
            revoke_idle: true,
            idle_ttl: Some(secs(60.0)),
            ..config::Leases::default()
        };
        let now = Instant::now();
        let as_it_is: Change = |_| {};
        let ends: Change = |f| f.stand = Stand::Ends;
        let cases: &[Case<'_>] = &[
            (
                "an hour: at three quarters",
                &settings,
                3600.0,
                as_it_is,
                Some((Step::Renew, 2700.0)),
            ),
            (
                "jitter only makes it earlier",
                &settings,
                3600.0,
                |f| f.jitter = 1.0,
                Some((Step::Renew, 2565.0)),
            ),
            (
                "six seconds: before readers are refused",
                &settings,
                6.0,
                as_it_is,
                Some((Step::Renew, 3.75)),
            ),
            (
                "ten seconds: time for three tries",
                &settings,
                10.0,
                as_it_is,
                Some((Step::Renew, 5.55)),
            ),
            (
                "three seconds",
                &settings,
                3.0,
                as_it_is,
                Some((Step::Renew, 0.75)),
            ),
            (
                "too short to be kept",
                &settings,
                2.0,
                as_it_is,
                Some((Step::Expire, 2.0)),
            ),
            (
                "not renewable",
                &settings,
                3600.0,
                ends,
                Some((Step::Replace, 3060.0)),
            ),
            (
                "not renewable and short",
                &settings,
                6.0,
                ends,
                Some((Step::Replace, 3.9)),
            ),
            ("endless", &settings, 3600.0, |f| f.end = None, None),
            (
                "let go",
                &settings,
                60.0,
                |f| f.stand = Stand::LetGo,
                Some((Step::Expire, 60.0)),
            ),
            (
                "over",
                &settings,
                60.0,
                |f| f.now = f.asked_at + secs(60.0),
                Some((Step::Expire, 60.0)),
            ),
            (
                "max TTL is near: most of what is left",
                &settings,
                3600.0,
                |f| {
                    f.stand = Stand::Ends;
                    f.end = Some(f.now + secs(1000.0));
                },
                Some((Step::Replace, 850.0)),
            ),
            (
                "max TTL is near and little is left: at once",
                &settings,
                6.0,
                |f| {
                    f.stand = Stand::Ends;
                    f.end = Some(f.now + secs(2.0));
                },
                Some((Step::Replace, 0.0)),
            ),
            (
                "its parent ends first, and may yet be renewed",
                &settings,
                3600.0,
                |f| f.parent_end = Some(f.now + secs(8.0)),
                Some((Step::Look, 8.0)),
            ),
            (
                "it ends just before its parent: another lives longer once that is renewed",
                &settings,
                60.0,
                |f| {
                    f.stand = Stand::Ends;
                    f.parent_end = Some(f.now + secs(61.0));
                },
                Some((Step::Look, 44.0)),
            ),
            (
                "a newer token is there",
                &settings,
                3600.0,
                |f| {
                    f.parent_end = Some(f.now + secs(8.0));
                    f.stand = Stand::Leaves {
                        from: f.now + secs(1.0),
                        why: Leaving::Superseded,
                    };
                },
                Some((Step::Replace, 1.0)),
            ),
            (
                "due but its parent has too little left: look again",
                &settings,
                3600.0,
                |f| {
                    f.now = f.asked_at + secs(2700.0);
                    f.used_at = f.now;
                    f.parent_end = Some(f.now + secs(1.9));
                },
                Some((Step::Look, 2701.0)),
            ),
            (
                "due and idle: look again when it would be replaced",
                &settings,
                3600.0,
                |f| {
                    f.now = f.asked_at + secs(2700.0);
                    f.used_at = f.asked_at - secs(901.0);
                },
                Some((Step::Look, 3060.0)),
            ),
            (
                "then idle: look once more at the last good moment",
                &settings,
                3600.0,
                |f| {
                    f.now = f.asked_at + secs(3060.0);
                    f.used_at = f.asked_at - secs(601.0);
                },
                Some((Step::Look, 3580.0)),
            ),
            (
                "used again meanwhile: a late renewal is one",
                &settings,
                3600.0,
                |f| {
                    f.now = f.asked_at + secs(3580.0);
                    f.used_at = f.now;
                },
                Some((Step::Renew, 2700.0)),
            ),
            (
                "idle to the last",
                &settings,
                3600.0,
                |f| {
                    f.now = f.asked_at + secs(3580.0);
                    f.used_at = f.asked_at - secs(601.0);
                },
                Some((Step::LetGo, 3580.0)),
            ),
            (
                "idle and doubted",
                &settings,
                3600.0,
                |f| {
                    f.now = f.asked_at + secs(2700.0);
                    f.used_at = f.asked_at - secs(901.0);
                    f.stand = Stand::Leaves {
                        from: f.now,
                        why: Leaving::Doubted,
                    };
                },
                Some((Step::Lose, 2700.0)),
            ),
            (
                "to be given back when idle",
                &revoking,
                3600.0,
                as_it_is,
                Some((Step::Look, 60.001)),
            ),
            (
                "given back when idle",
                &revoking,
                3600.0,
                |f| f.now = f.asked_at + secs(60.001),
                Some((Step::LetGo, 60.001)),
            ),
        ];
        for (name, settings, ttl, change, expected) in cases {
            let mut facts = fresh(settings, now, secs(*ttl));
            change(&mut facts);
            let got = plan(&facts)
                .map(|plan| (plan.step, plan.at.saturating_duration_since(facts.asked_at)));
            assert_eq!(got, expected.map(|(step, at)| (step, secs(at))), "{name}");
        }
    }

    fn settings() -> impl Strategy<Value = config::Leases> {
        (
            0.1..0.95,
            0.1..0.95,
            0u64..120,
            any::<bool>(),
            proptest::option::of(0u64..500),
        )
            .prop_map(
                |(renew_at, replace_at, min_remaining, revoke_idle, idle_ttl)| config::Leases {
                    renew_at,
                    replace_at,
                    min_remaining: Duration::from_secs(min_remaining),
                    idle_ttl: idle_ttl.map(Duration::from_secs),
                    revoke_idle,
                    revoke_on_exit: false,
                },
            )
    }

    fn stand(now: Instant) -> impl Strategy<Value = Stand> {
        let why = prop_oneof![
            Just(Leaving::Refused),
            Just(Leaving::Doubted),
            Just(Leaving::Superseded)
        ];
        prop_oneof![
            Just(Stand::Extends),
            Just(Stand::Ends),
            Just(Stand::LetGo),
            Just(Stand::Retired),
            (0u64..500, why).prop_map(move |(from, why)| Stand::Leaves {
                from: now + Duration::from_secs(from),
                why
            }),
        ]
    }

    proptest! {
        /// The cache refuses what has less than the floor: every call begins before that, with time to spare.
        #[test]
        fn a_used_lease_is_seen_to_before_it_is_refused(
            settings in settings(),
            ttl in 3u64..100_000,
            jitter in 0.0..1.0,
            extends in any::<bool>(),
        ) {
            let settings = config::Leases { revoke_idle: false, ..settings };
            let now = Instant::now();
            let mut facts = fresh(&settings, now, Duration::from_secs(ttl));
            facts.jitter = jitter;
            facts.stand = if extends { Stand::Extends } else { Stand::Ends };
            let plan = plan(&facts).unwrap();
            let expected = if extends { Step::Renew } else { Step::Replace };
            prop_assert_eq!(plan.step, expected);
            let after = plan.at - now;
            prop_assert!(after >= min_gap(facts.ttl).mul_f64(0.95), "not immediately: {:?}", after);
            let left = facts.ttl - after;
            prop_assert!(left >= facts.floor + slack(facts.ttl), "{:?} left of {:?}", left, facts.ttl);
            // Were max TTL reached in the second of that renewal: what is left is enough to be served
            // from until the replacement is there.
            if extends {
                let arrives = (after + CALL).as_secs_f64().ceil();
                let capped = facts.ttl - Duration::from_secs_f64(arrives);
                prop_assert!(capped >= facts.floor + CALL, "{:?}", capped);
            }
        }

        #[test]
        fn whatever_is_known_no_plan_is_absurd(
            settings in settings(),
            ttl in 0u64..100_000,
            granted in 0u64..100_000,
            age in 0u64..100_000_000,
            end in proptest::option::of(0u64..100_000_000),
            parent_end in proptest::option::of(0u64..100_000_000),
            unused in 0u64..100_000_000,
            wait in proptest::option::of(0u64..400_000),
            jitter in 0.0..1.0,
            stand in stand(Instant::now() + Duration::from_secs(100_000)),
        ) {
            let start = Instant::now();
            let now = start + Duration::from_secs(100_000);
            let at = |millis| start + Duration::from_millis(millis);
            let facts = Facts {
                now,
                granted: Duration::from_secs(granted),
                asked_at: now - Duration::from_millis(age),
                end: end.map(|end| at(end * 2)),
                parent_end: parent_end.map(|end| at(end * 2)),
                stand,
                used_at: now - Duration::from_millis(unused),
                jitter,
                not_before: wait.map(|wait| now + Duration::from_millis(wait)),
                ..fresh(&settings, now, Duration::from_secs(ttl))
            };
            let hard = facts.hard_end();
            let Some(plan) = plan(&facts) else {
                prop_assert_eq!(hard, None);
                return Ok(());
            };
            let hard = hard.unwrap();
            let begins = plan.at.max(now);
            let idle_ttl = settings.idle_ttl.unwrap_or(facts.ttl);
            match plan.step {
                Step::Expire => prop_assert_eq!(plan.at, hard),
                Step::Look => prop_assert!(plan.at > now && plan.at <= hard),
                Step::LetGo | Step::Lose => prop_assert!(now - facts.used_at > idle_ttl && hard > now),
                Step::Renew | Step::Replace => {
                    prop_assert!(begins < hard);
                    prop_assert!(facts.not_before.is_none_or(|wait| begins >= wait));
                    prop_assert!(!matches!(stand, Stand::LetGo | Stand::Retired));
                    if plan.step == Step::Renew {
                        prop_assert!(plan.at + LAST_CALL <= hard, "a renewal near the end");
                        prop_assert_eq!(stand, Stand::Extends);
                    }
                    if plan.at <= now {
                        prop_assert!(now - facts.used_at <= idle_ttl, "nobody uses it");
                    }
                }
            }
        }

        #[test]
        fn waits_grow_but_leave_time_for_more_tries(
            ttl in 1u64..1_000_000,
            failures in 1u32..100,
            left in 0u64..1_000_000,
            hint in proptest::option::of(0u64..300),
            random in 0.0..1.0,
        ) {
            let ttl = Duration::from_secs(ttl);
            let left = Duration::from_millis(left);
            let hint = hint.map(Duration::from_secs);
            let wait = wait_after_failure(ttl, failures, left, hint, random);
            prop_assert!(wait >= min_gap(ttl));
            prop_assert!(hint.is_none_or(|hint| wait >= hint), "Retry-After is honoured");
            prop_assert!(hint.is_some() || wait <= LONGEST_WAIT);
            prop_assert!(hint.is_some() || wait <= (left / 2).max(min_gap(ttl).mul_f64(1.1)));
            let refused = wait_after_refusal(ttl, left, hint, random);
            prop_assert!(refused >= min_gap(ttl) && hint.is_none_or(|hint| refused >= hint));
        }

        #[test]
        fn a_renewal_has_three_tries_before_the_end(ttl in 10u64..200_000, jitter in 0.0..1.0, random in 0.0..1.0) {
            let settings = config::Leases::default();
            let now = Instant::now();
            let mut facts = fresh(&settings, now, Duration::from_secs(ttl));
            facts.jitter = jitter;
            let hard = now + facts.ttl;
            let mut tries = 0;
            while let Some(Plan { step: Step::Renew, at }) = plan(&facts) {
                prop_assert!(at + LAST_CALL <= hard);
                tries += 1;
                facts.now = at.max(facts.now);
                facts.used_at = facts.now;
                let left = (hard - facts.now).saturating_sub(LAST_CALL);
                let wait = wait_after_failure(facts.ttl, tries, left, None, random);
                facts.not_before = Some(facts.now + wait);
            }
            // One in two and a half minutes at most, and a few more at either end.
            let most = 30 + u32::try_from(ttl * 3 / 10 / 150).unwrap();
            prop_assert!((3..most).contains(&tries), "{} tries", tries);
        }
    }
}
