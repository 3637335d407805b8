//! One watched lease: what the scheduler knows beside what its holder knows, and how calls change that.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::plan::{self, Facts, Leaving, Plan, Stand};
use super::{Grant, Lease, What};
use crate::config;
use crate::error::{self, Error};
use crate::life::{LONGEST, Life};

pub(super) struct Record {
    pub lease: Arc<Lease>,
    pub stand: Stand,
    /// `Lease::renewable` is what Vault said first; this is what it said last.
    pub renewable: bool,
    /// Failed calls in a row.
    pub failures: u32,
    refusals: u8,
    granted: Duration,
    asked_at: Instant,
    jitter: f32,
    not_before: Option<Instant>,
    /// The call that is queued or under way for it.
    pub call: Option<Call>,
    /// It was dropped while its replacement was under way, most likely by that replacement.
    pub is_dropped: bool,
    pub plan: Option<Plan>,
    /// Counts plans, so that older moments in the queue are known as such.
    pub generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Due, but more than `MAX_CALLS` are.
    Queued(Kind),
    Running(Kind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Renew,
    Replace,
}

/// What an answer means for the watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Watched,
    /// Vault says that it does not exist any more.
    Gone,
}

impl Record {
    pub(super) fn new(lease: Arc<Lease>, now: Instant) -> Self {
        let begun = lease.life.end().and_then(|end| end.checked_sub(lease.ttl));
        Self {
            stand: stand_of(lease.renewable),
            renewable: lease.renewable,
            failures: 0,
            refusals: 0,
            granted: lease.ttl,
            asked_at: begun.map_or(now, |begun| begun.min(now)),
            jitter: fastrand::f32(),
            not_before: None,
            call: None,
            is_dropped: false,
            plan: None,
            generation: 0,
            lease,
        }
    }

    pub(super) fn next(&self, settings: &config::Leases, now: Instant) -> Option<Plan> {
        plan::plan(&self.facts(settings, now))
    }

    pub(super) fn facts<'a>(&self, settings: &'a config::Leases, now: Instant) -> Facts<'a> {
        Facts {
            settings,
            now,
            ttl: self.lease.ttl,
            floor: self.lease.min_remaining(settings),
            granted: self.granted,
            asked_at: self.asked_at,
            end: self.lease.life.end(),
            parent_end: self.lease.parent.as_ref().and_then(|parent| parent.end()),
            stand: self.stand,
            used_at: self.lease.used_at(),
            jitter: self.jitter.into(),
            gives_back: self.gives_back(settings),
            not_before: self.not_before,
        }
    }

    /// Until when a call for it is best made: what is due is served in this order.
    pub(super) fn urgency(&self, settings: &config::Leases, now: Instant) -> Instant {
        let end = self.lease.end().unwrap_or(now);
        end.checked_sub(self.lease.min_remaining(settings))
            .unwrap_or(now)
    }

    pub(super) fn is_child_of(&self, life: &Arc<Life>) -> bool {
        self.lease
            .parent
            .as_ref()
            .is_some_and(|parent| Arc::ptr_eq(parent, life))
    }

    /// A client may use a token without asking us for it again, so that tokens are never given back.
    pub(super) fn gives_back(&self, settings: &config::Leases) -> bool {
        settings.revoke_idle && !self.is_token()
    }

    /// The machine slept, and no clock of ours with it: all that was left is less by that.
    pub(super) fn slept(&mut self, by: Duration) {
        let earlier = |at: Instant| at.checked_sub(by).unwrap_or(at);
        self.asked_at = earlier(self.asked_at);
        if let Some(end) = self.lease.life.end() {
            self.lease.life.set_end(earlier(end));
        }
    }

    pub(super) fn is_token(&self) -> bool {
        matches!(self.lease.what, What::Token { .. })
    }

    /// Its end came nearer, or life was given back to it, by a renewal of ours or of a client's. A client
    /// may have asked for less than a full TTL, so that its grants say nothing about max TTL.
    pub(super) fn extended(&mut self, grant: Grant, by_client: bool) -> Verdict {
        if grant.ttl.is_zero() {
            self.lease.life.end_now();
            return Verdict::Gone;
        }
        if grant.asked_at < self.asked_at {
            return Verdict::Watched;
        }
        self.granted = grant.ttl.min(LONGEST);
        self.asked_at = grant.asked_at;
        self.lease.life.set_end(grant.asked_at + self.granted);
        self.renewable = grant.renewable;
        self.failures = 0;
        self.jitter = fastrand::f32();
        let stays = match self.stand {
            Stand::Extends | Stand::Ends | Stand::LetGo => false,
            Stand::Leaves { why, .. } => why == Leaving::Superseded || !by_client,
            Stand::Retired => true,
        };
        if !stays {
            let is_full = by_client || plan::is_full(grant.ttl, self.lease.ttl);
            self.stand = stand_of(grant.renewable && is_full);
        }
        Verdict::Watched
    }

    /// A renewal of ours succeeded. What its answer asks for may follow at once.
    pub(super) fn renewed(&mut self, grant: Grant, now: Instant) -> Verdict {
        let verdict = self.extended(grant, false);
        self.not_before = match self.stand {
            Stand::Extends => Some(now + plan::min_gap(self.lease.ttl)),
            Stand::Ends | Stand::Leaves { .. } | Stand::LetGo | Stand::Retired => None,
        };
        verdict
    }

    pub(super) fn renewal_failed(&mut self, error: &Error, now: Instant, random: f64) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        if error.is_retryable() {
            let left = self.left(now).saturating_sub(plan::LAST_CALL);
            self.wait_for(self.wait(left, error, random), now);
            return Verdict::Watched;
        }
        let why = match error.refused_with() {
            Some(StatusCode::NOT_FOUND | StatusCode::GONE) => {
                self.lease.life.end_now();
                return Verdict::Gone;
            }
            Some(StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) => Leaving::Doubted,
            _ => Leaving::Refused,
        };
        self.not_before = None;
        if let Stand::Extends | Stand::Ends = self.stand {
            self.stand = Stand::Leaves { from: now, why };
        }
        Verdict::Watched
    }

    pub(super) fn replacement_failed(
        &mut self,
        error: &Error,
        now: Instant,
        random: f64,
    ) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        let left = self.left(now);
        if is_worth_another_try(error) {
            self.wait_for(self.wait(left, error, random), now);
            return Verdict::Watched;
        }
        if let Some(StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) = error.refused_with() {
            // Who made it may not have it any more, or the token is dead, and the lease with it.
            self.lease.life.end_now();
            return Verdict::Gone;
        }
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals >= plan::REPLACE_TRIES {
            self.stand = Stand::LetGo;
        }
        let hint = error.wait_hint();
        self.wait_for(
            plan::wait_after_refusal(self.lease.ttl, left, hint, random),
            now,
        );
        Verdict::Watched
    }

    /// There is a newer token than its parent: to be replaced after `wait`.
    pub(super) fn supersede(&mut self, from: Instant) {
        if let Stand::Extends | Stand::Ends | Stand::Leaves { .. } = self.stand {
            let why = Leaving::Superseded;
            self.stand = Stand::Leaves { from, why };
            self.refusals = 0;
        }
    }

    fn wait(&self, left: Duration, error: &Error, random: f64) -> Duration {
        let hint = error.wait_hint();
        plan::wait_after_failure(self.lease.ttl, self.failures, left, hint, random)
    }

    fn wait_for(&mut self, wait: Duration, now: Instant) {
        self.not_before = Some(now + wait);
    }

    fn left(&self, now: Instant) -> Duration {
        self.lease.remaining(now)
    }
}

fn stand_of(extends: bool) -> Stand {
    if extends { Stand::Extends } else { Stand::Ends }
}

/// A replacement may create something at Vault each time, so an answer that could not be kept is as good
/// as a refusal.
fn is_worth_another_try(error: &Error) -> bool {
    error.is_retryable() && error.kind() != error::Kind::BadAnswer
}
