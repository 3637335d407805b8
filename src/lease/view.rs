//! A lease as those see it who ask what is kept alive.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;

use super::Lease;
use super::plan::Step;
use super::record::{Call, Kind, Record};

/// One watched lease at the moment of asking. `admin` decides what of it is shown.
#[derive(Debug, Clone)]
pub struct LeaseView {
    pub lease: Arc<Lease>,
    /// As the last renewal said.
    pub renewable: bool,
    /// Failed calls in a row.
    pub failures: u32,
    /// What is done next, and when.
    pub next: Option<(NextAction, Instant)>,
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
        let next = match (record.call, record.plan) {
            (Some(Call::Queued(kind) | Call::Running(kind)), _) => Some((kind.into(), now)),
            (None, Some(plan)) => Some((plan.step.into(), plan.at)),
            (None, None) => None,
        };
        Self {
            lease: Arc::clone(&record.lease),
            renewable: record.renewable,
            failures: record.failures,
            next,
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
