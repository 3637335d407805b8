//! A lease as `/agent/v1/status` shows it: never its id, never a token.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::plan::Step;
use super::record::{Call, Kind, Record};

/// Times are whole seconds in the serialised form, counted from the moment of asking.
#[derive(Debug, Clone, Serialize)]
pub struct LeaseView {
    pub key: u64,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `secret` or `token`.
    pub kind: &'static str,
    /// The TTL first granted.
    #[serde(serialize_with = "seconds")]
    pub ttl: Duration,
    /// What is left of it, its parent's end considered; `None`: it never ends.
    #[serde(serialize_with = "seconds_or_null")]
    pub remaining: Option<Duration>,
    /// What is left of the token it was made with, where that is known.
    #[serde(serialize_with = "seconds_or_null")]
    pub parent_remaining: Option<Duration>,
    pub renewable: bool,
    /// How long ago it was last served.
    #[serde(serialize_with = "seconds")]
    pub last_used: Duration,
    /// Failed calls in a row.
    pub failures: u32,
    pub next_action: Option<NextAction>,
    #[serde(serialize_with = "seconds_or_null")]
    pub next_action_in: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NextAction {
    Renew,
    Replace,
    LetGo,
    Expire,
    /// Decided then, by whether it is in use.
    Look,
}

impl LeaseView {
    pub(super) fn of(record: &Record, now: Instant) -> Self {
        let lease = &record.lease;
        let left = |end: Instant| end.saturating_duration_since(now);
        let (action, at) = match (record.call, record.plan) {
            (Some(Call::Queued(kind) | Call::Running(kind)), _) => (Some(kind.into()), Some(now)),
            (None, Some(plan)) => (Some(plan.step.into()), Some(plan.at)),
            (None, None) => (None, None),
        };
        Self {
            key: lease.key,
            path: lease.path.clone(),
            namespace: lease.namespace.clone(),
            kind: if record.is_token() { "token" } else { "secret" },
            ttl: lease.ttl,
            remaining: lease.end().map(left),
            parent_remaining: lease
                .parent
                .as_ref()
                .and_then(|parent| parent.remaining(now)),
            renewable: record.renewable,
            last_used: now.saturating_duration_since(lease.used_at()),
            failures: record.failures,
            next_action: action,
            next_action_in: at.map(left),
        }
    }
}

impl From<Step> for NextAction {
    fn from(step: Step) -> Self {
        match step {
            Step::Renew => Self::Renew,
            Step::Replace => Self::Replace,
            Step::Look => Self::Look,
            Step::LetGo => Self::LetGo,
            Step::Lose | Step::Expire => Self::Expire,
        }
    }
}

impl From<Kind> for NextAction {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Renew => Self::Renew,
            Kind::Replace => Self::Replace,
        }
    }
}

fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(time.as_secs())
}

fn seconds_or_null<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => seconds(time, to),
        None => to.serialize_none(),
    }
}
