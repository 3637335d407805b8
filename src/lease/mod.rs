//! Leases of secrets and tokens: renewed, replaced or let go, each in time.
//!
//! This room knows nothing of caches: it is given leases to watch and tells through [`Tenant`] when one
//! must be replaced or has ended. What is done when is decided by `plan`, which is pure.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;
use crate::life::Life;
use crate::secret::Secret;

/// One lease, or one token that came from a login through us. Shared by the cache entry that serves it
/// and the scheduler that keeps it alive.
pub struct Lease {
    /// Unique in this process.
    pub key: u64,
    pub what: What,
    /// The token that the lease was made with; renewals carry it. For `What::Token` the token itself.
    pub token: Secret,
    /// The namespace header of the request that made it, if it had one.
    pub namespace: Option<String>,
    /// The API path that made it, without query: shown in status, never holds a secret.
    pub path: String,
    /// Did Vault say that it can be renewed? May turn false with a renewal's answer.
    pub renewable: bool,
    /// The TTL first granted.
    pub ttl: Duration,
    /// The lease's own end; renewals move it.
    pub life: Arc<Life>,
    /// The end of the token it was made with, where that is known: a lease dies with its parent.
    pub parent: Option<Arc<Life>>,
    origin: Instant,
    used_millis: AtomicU64,
}

/// What Vault calls it.
#[derive(Debug, Clone)]
pub enum What {
    /// Renewed by `sys/leases/renew`.
    Secret { lease_id: Secret },
    /// Renewed by `auth/token/renew-self`.
    Token { accessor: Option<Secret> },
}

/// What a renewal brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Whole seconds from when the request went out; zero means ended.
    pub ttl: Duration,
    pub renewable: bool,
    /// When the request went out.
    pub asked_at: Instant,
}

/// Why a lease is no longer watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its time, or its parent's, has come.
    Expired,
    /// Nobody asked for it within `idle_ttl`; it stays good until its end but is no longer kept alive.
    Idle,
    /// Vault says that it does not exist any more.
    Lost,
}

pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How a lease is renewed at Vault. One attempt per call; the scheduler owns backoff.
pub trait Renew: Send + Sync + 'static {
    fn renew(&self, lease: Arc<Lease>) -> Later<Result<Grant>>;
    /// Gives an idle lease back (`revoke_idle`).
    fn revoke(&self, lease: Arc<Lease>) -> Later<Result<()>>;
}

/// Who uses the leases: the cache.
pub trait Tenant: Send + Sync + 'static {
    /// Get another credential and serve that from now on; the old one still works meanwhile. `Ok` ends
    /// the watching of the old lease. The new one was given to the scheduler by then.
    fn replace(&self, lease: Arc<Lease>) -> Later<Result<()>>;
    /// The lease is no longer watched. `Expired` and `Lost`: it must not be served any more.
    fn ended(&self, lease: Arc<Lease>, why: Ended);
}

impl Lease {
    #[expect(
        clippy::too_many_arguments,
        reason = "every part of a lease is decided by its maker"
    )]
    pub fn new(
        key: u64,
        what: What,
        token: Secret,
        namespace: Option<String>,
        path: String,
        renewable: bool,
        ttl: Duration,
        end: Instant,
        parent: Option<Arc<Life>>,
    ) -> Self {
        Self {
            key,
            what,
            token,
            namespace,
            path,
            renewable,
            ttl,
            life: Arc::new(Life::ending_at(end)),
            parent,
            origin: Instant::now(),
            used_millis: AtomicU64::new(0),
        }
    }

    /// Its own end or its parent's, whichever comes first.
    pub fn end(&self) -> Option<Instant> {
        let own = self.life.end();
        match (own, self.parent.as_ref().and_then(|parent| parent.end())) {
            (Some(own), Some(parent)) => Some(own.min(parent)),
            (own, parent) => own.or(parent),
        }
    }

    /// What is left at `now`; zero once it has ended.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.end()
            .map_or(Duration::MAX, |end| end.saturating_duration_since(now))
    }

    /// Notes that a caller was served this lease.
    pub fn touch(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        self.used_millis
            .fetch_max(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it was last served; its making counts as a use.
    pub fn used_at(&self) -> Instant {
        self.origin + Duration::from_millis(self.used_millis.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.key)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
