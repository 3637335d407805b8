//! Is the process alive, and can it do its work?

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::json;

use super::reply::{self, Reply};

/// Can callers be served?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why not. Empty: ready.
    pub reasons: Vec<Reason>,
    /// What is wrong though callers can be served: stale answers, a sink that fails again.
    pub degraded: Vec<Reason>,
}

/// One thing that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// Which part, for machines: `auth`, `sinks`, `upstream`.
    pub part: &'static str,
    /// What is wrong, for people, in one line.
    pub message: String,
}

impl Readiness {
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// The same fields in `ready` and in `status`.
impl Serialize for Readiness {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Readiness", 4)?;
        fields.serialize_field("ready", &self.is_ready())?;
        fields.serialize_field("degraded", &!self.degraded.is_empty())?;
        fields.serialize_field("reasons", &self.reasons)?;
        fields.serialize_field("degraded_reasons", &self.degraded)?;
        fields.end()
    }
}

impl Reason {
    pub fn new(part: &'static str, message: impl Into<String>) -> Self {
        Self {
            part,
            message: message.into(),
        }
    }
}

pub(super) fn alive(uptime: Duration) -> Reply {
    reply::json(&json!({
        "healthy": true,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": uptime.as_secs(),
    }))
}

pub(super) fn ready(readiness: &Readiness) -> Reply {
    let mut reply = reply::json(readiness);
    if !readiness.is_ready() {
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        reply
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}
