//! What `GET /agent/v1/status` shows: everything that an operator asks for and nothing that opens
//! anything. Secrets cannot be serialised; what names one is a short keyed hash of it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::health::Readiness;
use super::recent::Noted;
use crate::auth::AuthView;
use crate::lease::{LeaseView, NextAction, What};
use crate::life::Life;
use crate::secret::Secret;
use crate::sink::SinkView;

/// One moment of one running Leasehold. Durations are in seconds; `null` where there is no end.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub uptime_seconds: u64,
    #[serde(flatten)]
    pub readiness: Readiness,
    pub vault: VaultStatus,
    /// `None`: no auto-auth is configured.
    pub auth: Option<AuthView>,
    pub leases: Leases,
    /// `None`: no cache is configured.
    pub cache: Option<CacheStatus>,
    pub sinks: Vec<SinkView>,
    pub listeners: Vec<ListenerStatus>,
    /// Client connections open, of all listeners.
    pub connections: usize,
    /// Callers' requests that are with Vault now.
    pub upstream_in_use: usize,
    /// The newest first.
    pub last_errors: Vec<Noted>,
}

#[derive(Debug, Clone, Serialize)]
pub struct VaultStatus {
    pub address: String,
    pub namespace: Option<String>,
    /// Its certificate is not checked.
    pub tls_skip_verify: bool,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Leases {
    /// How many there are; `list` is cut at `MOST_LEASES`.
    pub count: usize,
    pub list: Vec<LeaseStatus>,
}

/// A lease or a cached login that is kept alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseStatus {
    /// A hash of the lease id (of the accessor, for a login): the same for as long as the process runs.
    pub id: ShortId,
    /// `secret` or `login`.
    pub kind: &'static str,
    /// The API path that made it, without `/v1/`.
    pub path: String,
    pub namespace: Option<String>,
    pub renewable: bool,
    /// As first granted.
    pub ttl_seconds: u64,
    /// Until its own end or its parent token's, whichever comes first.
    pub remaining_seconds: Option<u64>,
    pub parent_remaining_seconds: Option<u64>,
    /// Since a caller was last given it.
    pub unused_seconds: u64,
    /// Failed calls in a row.
    pub failures: u32,
    pub next: Option<Next>,
}

/// What is done next, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Next {
    pub action: NextAction,
    pub in_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CacheStatus {
    pub static_entries: usize,
    pub leased_entries: usize,
    pub bytes: u64,
    pub max_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerStatus {
    /// As bound: a port 0 of the configuration is the real one here.
    pub address: String,
    /// `default` or `metrics_only`.
    pub role: &'static str,
    /// `None`: plain HTTP.
    pub tls: Option<CertificateStatus>,
    /// It lends the token in plain text to whoever reaches it from other machines.
    pub insecure: bool,
}

/// A listener's own certificate, and its last reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateStatus {
    pub serial: String,
    pub not_before: String,
    pub not_after: String,
    pub reload_failures: u64,
    /// Why what is in the files now is not served.
    pub last_error: Option<String>,
}

/// Makes short names of secrets. The key is made at start and kept nowhere else, so that a name says
/// nothing to who does not hold the process.
#[derive(Debug, Clone)]
pub struct Ids(Arc<RandomState>);

/// The short name of a secret; only `Ids` makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShortId(String);

impl Default for Ids {
    fn default() -> Self {
        Self(Arc::new(RandomState::new()))
    }
}

impl Ids {
    pub fn of(&self, secret: &Secret) -> ShortId {
        let hash = self.0.hash_one(secret.expose());
        ShortId(format!("{:012x}", hash >> 16))
    }
}

impl Next {
    fn at(action: NextAction, at: Instant) -> Self {
        Self {
            action,
            in_seconds: rounded(at.saturating_duration_since(Instant::now())),
        }
    }
}

impl LeaseStatus {
    pub fn of(view: &LeaseView, ids: &Ids) -> Self {
        let now = Instant::now();
        let lease = &view.lease;
        let (kind, named) = match &lease.what {
            What::Secret { lease_id } => ("secret", lease_id),
            What::Token { accessor } => ("login", accessor.as_ref().unwrap_or(&lease.token)),
        };
        Self {
            id: ids.of(named),
            kind,
            path: lease.path.clone(),
            namespace: lease.namespace.clone(),
            renewable: view.renewable,
            ttl_seconds: lease.ttl.as_secs(),
            remaining_seconds: lease.end().map(|_| lease.remaining(now).as_secs()),
            parent_remaining_seconds: lease.parent.as_ref().and_then(|it| remaining(it, now)),
            unused_seconds: rounded(now.saturating_duration_since(lease.used_at())),
            failures: view.failures,
            next: view.next.map(|(action, at)| Next::at(action, at)),
        }
    }
}

impl Leases {
    /// Of many leases those whose turn comes next.
    pub fn of(mut list: Vec<LeaseStatus>) -> Self {
        let count = list.len();
        list.sort_by_key(|lease| lease.next.map_or(u64::MAX, |next| next.in_seconds));
        list.truncate(MOST_LEASES);
        Self { count, list }
    }
}

/// Whole seconds, to the nearest: for showing, not for reckoning.
pub(super) fn rounded(span: Duration) -> u64 {
    span.saturating_add(Duration::from_millis(500)).as_secs()
}

fn remaining(life: &Life, now: Instant) -> Option<u64> {
    life.remaining(now).map(|left| left.as_secs())
}

const MOST_LEASES: usize = 1000;
