//! Leases of secrets and tokens: renewed, replaced or let go, each in time.
//!
//! This room knows nothing of caches: it is given leases to watch and tells through [`Tenant`] when one
//! must be replaced or has ended. What is done when is decided by `plan`, which is pure.

mod calls;
mod plan;
mod queue;
mod record;
mod scheduler;
mod slept;
mod state;
mod vault;
mod view;

#[cfg(test)]
mod properties;

pub use scheduler::Scheduler;
pub use vault::VaultRenewals;
pub use view::{LeaseView, NextAction};

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config;
use crate::error::Result;
use crate::life::{LONGEST, Life};
use crate::secret::Secret;
use crate::tasks::Later;

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
    /// How long it could live when it was made: its TTL, or what its parent had left.
    reach: Duration,
    origin: Instant,
    /// When it was last served, in milliseconds after `origin`; negative where a use was inherited.
    used_millis: AtomicI64,
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
    /// Its time, or its parent's, has come; or nobody used it and it was given back (`revoke_idle`).
    Expired,
    /// Nobody asked for it within `idle_ttl`; it stays good until its end but is no longer kept alive.
    /// `Expired` follows at that end.
    Idle,
    /// Vault says that it does not exist any more.
    Lost,
}

/// How a lease is renewed at Vault. One attempt per call; the scheduler owns backoff.
pub trait Renew: Send + Sync + 'static {
    fn renew(&self, lease: Arc<Lease>) -> Later<Result<Grant>>;
    /// Gives a lease back (`revoke_idle`, `revoke_on_exit`).
    fn revoke(&self, lease: Arc<Lease>) -> Later<Result<()>>;
}

/// Who uses the leases: the cache.
pub trait Tenant: Send + Sync + 'static {
    /// Get another credential and serve that from now on; the old one still works meanwhile. `Ok` ends
    /// the watching of the old lease. The new one was given to the scheduler by then, and inherited the
    /// use of the old one (`Lease::inherit_use`).
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
        let ttl = ttl.min(LONGEST);
        Self {
            key,
            what,
            token,
            namespace,
            path,
            renewable,
            ttl,
            life: Arc::new(Life::ending_at(end)),
            reach: reach(ttl, parent.as_deref()),
            parent,
            origin: Instant::now(),
            used_millis: AtomicI64::new(0),
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

    /// The least life with which it is served while another can be had: `min_remaining`, at most a quarter
    /// of the life it had at first, at least the one second that an answer can still say.
    pub fn min_remaining(&self, settings: &config::Leases) -> Duration {
        min_remaining(settings, self.reach).max(LEAST_SERVED)
    }

    /// Notes that a caller was served this lease.
    pub fn touch(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        self.used_millis
            .fetch_max(i64::try_from(millis).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// For a lease that was made in the background to replace `old`: its making was nobody's use, so that
    /// it was last used when the old one was. Without this an unused lease would be replaced for ever.
    pub fn inherit_use(&self, old: &Self) {
        let before = self.origin.saturating_duration_since(old.used_at());
        let millis = i64::try_from(before.as_millis()).unwrap_or(i64::MAX);
        // Not over a use of its own, which may have come first.
        let _inherited =
            self.used_millis
                .compare_exchange(0, -millis, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// When it was last served; its making counts as a use.
    pub fn used_at(&self) -> Instant {
        let millis = self.used_millis.load(Ordering::Relaxed);
        let distance = Duration::from_millis(millis.unsigned_abs());
        if millis < 0 {
            self.origin.checked_sub(distance).unwrap_or(self.origin)
        } else {
            self.origin + distance
        }
    }
}

/// `min_remaining` as it holds for a lease of this TTL: at most a quarter of it.
pub fn min_remaining(settings: &config::Leases, ttl: Duration) -> Duration {
    settings.min_remaining.min(ttl / 4)
}

fn reach(ttl: Duration, parent: Option<&Life>) -> Duration {
    let of_parent = parent.and_then(|parent| parent.remaining(Instant::now()));
    of_parent.map_or(ttl, |left| left.min(ttl))
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.key)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What has less than a second left says "0 seconds" in whole ones, and is not handed out.
const LEAST_SERVED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(ttl: u64, parent: Option<Arc<Life>>) -> Lease {
        let ttl = Duration::from_secs(ttl);
        let what = What::Secret {
            lease_id: Secret::new("database/creds/app/x"),
        };
        let path = "database/creds/app".to_owned();
        let end = Instant::now() + ttl;
        Lease::new(
            1,
            what,
            Secret::new("t"),
            None,
            path,
            true,
            ttl,
            end,
            parent,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_lease_must_have_left_is_a_quarter_of_what_it_could_live() {
        let settings = config::Leases::default();
        let parent = Arc::new(Life::ending_at(Instant::now() + Duration::from_secs(8)));
        let least = |lease: &Lease| lease.min_remaining(&settings).as_millis();
        assert_eq!(least(&lease(3600, None)), 10_000);
        assert_eq!(least(&lease(20, None)), 5_000);
        assert_eq!(least(&lease(3600, Some(Arc::clone(&parent)))), 2_000);
        assert_eq!(least(&lease(6, Some(parent))), 1_500);
        assert_eq!(least(&lease(2, None)), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replacement_was_last_used_when_the_old_one_was() {
        let old = lease(60, None);
        tokio::time::advance(Duration::from_secs(10)).await;
        old.touch(Instant::now());
        let used = Instant::now();
        tokio::time::advance(Duration::from_secs(40)).await;
        let new = lease(60, None);
        assert_eq!(new.used_at(), Instant::now(), "its making is a use");
        new.inherit_use(&old);
        assert_eq!(new.used_at(), used);
        new.touch(Instant::now());
        assert_eq!(new.used_at(), Instant::now());
        new.inherit_use(&old);
        assert_eq!(new.used_at(), used, "served in the instant of its making");
        tokio::time::advance(Duration::from_secs(1)).await;
        new.touch(Instant::now());
        new.inherit_use(&old);
        assert_eq!(new.used_at(), Instant::now(), "its own use stays");
    }
}
