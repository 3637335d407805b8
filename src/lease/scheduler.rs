//! The one task that keeps leases alive, and the handle by which it is told of them.
//!
//! Everybody who has something to say (a lease was made, renewed by its client, revoked) changes the state
//! under one short lock and wakes the task only if something is due sooner than it meant to look. The task
//! sleeps until the first due moment; its calls are tasks of their own and come back through the same lock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::state::{State, Turn};
use super::view::LeaseView;
use super::{Ended, Grant, Lease, Renew, Tenant, calls, slept};
use crate::config;
use crate::life::Life;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// See the module's text. Clones share one scheduler; none of its methods but `revoke_all` waits.
#[derive(Clone)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub renew: Arc<dyn Renew>,
    pub tasks: Tasks,
    state: Mutex<State>,
    /// Something is due sooner than the task meant to look, or a call has come back.
    pub wake: Notify,
}

impl Scheduler {
    /// Starts the task; it ends when `tasks` stop.
    pub fn start(
        settings: config::Leases,
        renew: Arc<dyn Renew>,
        tasks: &Tasks,
        metrics: Metrics,
    ) -> Self {
        Self::start_with(settings, renew, tasks, metrics, slept::so_far)
    }

    /// `slept` says how long the machine has slept so far.
    pub(super) fn start_with(
        settings: config::Leases,
        renew: Arc<dyn Renew>,
        tasks: &Tasks,
        metrics: Metrics,
        slept: impl Fn() -> Duration + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            renew,
            tasks: tasks.clone(),
            state: Mutex::new(State::new(settings, metrics)),
            wake: Notify::new(),
        });
        tasks.spawn("lease scheduler", run(Arc::clone(&shared), slept(), slept));
        Self { shared }
    }

    /// Who replaces leases and is told of their ends.
    pub fn set_tenant(&self, tenant: Weak<dyn Tenant>) {
        self.shared.lock().tenant = Some(tenant);
    }

    /// Watches a lease from now on. As many as there are; whoever keeps what they bring bounds them.
    pub fn track(&self, lease: Arc<Lease>) {
        let wakes = self.shared.lock().track(lease, Instant::now());
        self.wake_if(wakes);
    }

    /// Revoked or dropped: no call is made for it any more, and the answer of one under way is ignored.
    pub fn forget(&self, key: u64) {
        self.shared.lock().forget(key);
    }

    /// A client renewed it itself, through us. Moves its end and plans anew.
    pub fn renewed(&self, key: u64, grant: Grant) {
        let wakes = self.shared.lock().renewed(key, grant, Instant::now());
        self.wake_if(wakes);
    }

    /// There is a newer token than the one with this life: what was made with that one is replaced soon, one
    /// after the other, in any case while it still works. Nothing of it is renewed any more.
    pub fn replace_children_of(&self, parent: &Arc<Life>) {
        let wakes = self.shared.lock().supersede(parent, Instant::now());
        self.wake_if(wakes);
    }

    /// What is watched, by path.
    pub fn snapshot(&self) -> Vec<LeaseView> {
        let now = Instant::now();
        let state = self.shared.lock();
        let mut views: Vec<LeaseView> = state
            .watched()
            .map(|record| LeaseView::of(record, now))
            .collect();
        drop(state);
        views.sort_by(|a, b| (&a.lease.path, a.lease.key).cmp(&(&b.lease.path, b.lease.key)));
        views
    }

    /// How many leases are watched.
    pub fn len(&self) -> usize {
        self.shared.lock().watched().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first end among them.
    pub fn earliest_end(&self) -> Option<Instant> {
        self.shared
            .lock()
            .watched()
            .filter_map(|record| record.lease.end())
            .min()
    }

    /// Gives every lease of a secret back to Vault, within `within`, and stops renewing and replacing. Says
    /// how many Vault took back. Nobody is served from them once this has begun.
    pub async fn revoke_all(&self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        let mut revoked = 0;
        loop {
            let leases = self.shared.lock().close(Instant::now());
            if leases.is_empty() || Instant::now() >= deadline {
                return revoked;
            }
            // What a replacement under way brings meanwhile is found in the next round.
            revoked += calls::revoke(&self.shared, leases, deadline).await;
        }
    }

    #[cfg(test)]
    pub(super) fn bytes_per_lease(&self) -> usize {
        self.shared.lock().bytes_per_lease()
    }

    fn wake_if(&self, wakes: bool) {
        if wakes {
            self.shared.wake.notify_one();
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(shared: Arc<Shared>, mut known_sleep: Duration, slept: impl Fn() -> Duration) {
    loop {
        let now = Instant::now();
        let more = slept().saturating_sub(known_sleep);
        if more >= SHORTEST_NAP {
            known_sleep += more;
            tracing::info!(
                seconds = more.as_secs(),
                "the machine slept; leases did not"
            );
            shared.lock().slept(more, now);
        }
        let Turn {
            jobs,
            ended,
            look_again,
        } = shared.lock().turn(now);
        for job in jobs {
            calls::start(&shared, job);
        }
        tell(&shared, ended);
        if look_again.is_some_and(|at| at <= now) {
            tokio::task::yield_now().await;
            continue;
        }
        let until = look_again.map(|at| at.min(now + NAP_CHECK));
        tokio::select! {
            () = sleep_until(until) => {}
            () = shared.wake.notified() => {}
            () = shared.tasks.stopping() => return,
        }
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Outside the lock: the tenant may call back.
fn tell(shared: &Shared, ended: Vec<(Arc<Lease>, Ended)>) {
    if ended.is_empty() {
        return;
    }
    let tenant = shared.lock().tenant.as_ref().and_then(Weak::upgrade);
    for (lease, why) in ended {
        tracing::debug!(path = %lease.path, ?why, "a lease is no longer kept alive");
        if let Some(tenant) = &tenant {
            tenant.ended(lease, why);
        }
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").finish_non_exhaustive()
    }
}

/// While there are leases, it is looked this often whether the machine slept.
const NAP_CHECK: Duration = Duration::from_secs(10);
/// Clocks that are read one after the other differ by less.
const SHORTEST_NAP: Duration = Duration::from_millis(500);
