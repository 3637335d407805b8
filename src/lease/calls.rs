//! The calls that the scheduler makes: each a task with a deadline, whose end is always noticed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::scheduler::Shared;
use super::state::{Job, MAX_CALLS, Outcome};
use super::{Lease, Tenant};
use crate::error::{Error, Kind, Result};
use crate::tasks::Later;

pub(super) fn start(shared: &Arc<Shared>, job: Job) {
    match job {
        Job::Renew(lease) => {
            let call = shared.renew.renew(Arc::clone(&lease));
            let flight = Flight::new(shared, lease, "renew");
            shared.tasks.spawn("lease renewal", async move {
                let result = flight.finish(call).await;
                flight.land(Outcome::Renewed(result));
            });
        }
        Job::Replace(lease) => {
            let tenant = shared
                .lock()
                .tenant
                .as_ref()
                .and_then(|tenant| tenant.upgrade());
            let call = replacement(tenant, Arc::clone(&lease));
            let flight = Flight::new(shared, lease, "replace");
            shared.tasks.spawn("lease replacement", async move {
                let result = flight.finish(call).await;
                flight.land(Outcome::Replaced(result));
            });
        }
        Job::Revoke(lease) => {
            let call = shared.renew.revoke(Arc::clone(&lease));
            let flight = Flight::new(shared, lease, "revoke");
            shared.tasks.spawn("lease revocation", async move {
                if let Err(error) = flight.finish(call).await {
                    tracing::warn!(path = %flight.lease.path, %error, "an idle lease was not given back");
                }
                flight.land(Outcome::Revoked);
            });
        }
    }
}

/// Gives leases back, several at once, until `deadline`; says how many Vault accepted.
pub(super) async fn revoke(
    shared: &Arc<Shared>,
    leases: Vec<Arc<Lease>>,
    deadline: Instant,
) -> usize {
    let workers = leases.len().min(MAX_CALLS);
    let rest = Arc::new(Mutex::new(leases));
    let done = Arc::new(AtomicUsize::new(0));
    let running: Vec<_> = (0..workers)
        .map(|_| {
            let (shared, rest, done) = (Arc::clone(shared), Arc::clone(&rest), Arc::clone(&done));
            let tasks = shared.tasks.clone();
            tasks.spawn("lease revocation", async move {
                loop {
                    let next = rest.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(lease) = next else { return };
                    lease.life.end_now();
                    match timeout_at(deadline, shared.renew.revoke(Arc::clone(&lease))).await {
                        Ok(Ok(())) => {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Err(error)) => {
                            tracing::warn!(path = %lease.path, %error, "a lease was not given back");
                        }
                        Err(_) => return,
                    }
                }
            })
        })
        .collect();
    for worker in running {
        // A worker ends by the deadline; one that panicked has been logged by its name.
        let _ended = worker.await;
    }
    let left = rest.lock().unwrap_or_else(PoisonError::into_inner).len();
    if left > 0 {
        tracing::warn!(
            left,
            "the time to give leases back is over; the rest live until their ends"
        );
    }
    done.load(Ordering::Relaxed)
}

fn replacement(tenant: Option<Arc<dyn Tenant>>, lease: Arc<Lease>) -> Later<Result<()>> {
    match tenant {
        Some(tenant) => tenant.replace(lease),
        None => {
            Box::pin(async { Err(Error::new(Kind::Stopping, "nobody serves leases any more")) })
        }
    }
}

/// One call under way. Dropped without having landed, by a panic, it counts as failed: no lease may wait
/// for ever for a call that is gone.
struct Flight {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    what: &'static str,
    has_landed: bool,
}

impl Flight {
    fn new(shared: &Arc<Shared>, lease: Arc<Lease>, what: &'static str) -> Self {
        Self {
            shared: Arc::clone(shared),
            lease,
            what,
            has_landed: false,
        }
    }

    async fn finish<T>(&self, call: Later<Result<T>>) -> Result<T> {
        tokio::select! {
            result = timeout(DEADLINE, call) => result.unwrap_or_else(|_| {
                Err(Error::new(
                    Kind::Deadline,
                    format!("it took longer than {} s", DEADLINE.as_secs()),
                ))
            }),
            () = self.shared.tasks.stopping() => {
                Err(Error::new(Kind::Stopping, "Leasehold is shutting down"))
            }
        }
    }

    fn land(mut self, outcome: Outcome) {
        self.has_landed = true;
        self.log(&outcome);
        self.settle(outcome);
    }

    fn settle(&self, outcome: Outcome) {
        self.shared
            .lock()
            .settle(self.lease.key, outcome, Instant::now());
        self.shared.wake.notify_one();
    }

    fn log(&self, outcome: &Outcome) {
        let (path, what) = (self.lease.path.as_str(), self.what);
        match outcome {
            Outcome::Renewed(Err(error)) | Outcome::Replaced(Err(error)) => {
                if error.kind() != Kind::Stopping {
                    tracing::warn!(path, what, %error, "a call for a lease failed");
                }
            }
            Outcome::Renewed(Ok(grant)) => {
                tracing::debug!(path, ttl = grant.ttl.as_secs(), "a lease was renewed");
            }
            Outcome::Replaced(Ok(())) => tracing::debug!(path, "a lease was replaced"),
            Outcome::Revoked => {}
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.has_landed {
            return;
        }
        let error = || Error::new(Kind::Internal, "the call broke off");
        self.settle(match self.what {
            "renew" => Outcome::Renewed(Err(error())),
            "replace" => Outcome::Replaced(Err(error())),
            _ => Outcome::Revoked,
        });
    }
}

/// Far above what an upstream call and its wait for the budget take.
const DEADLINE: Duration = Duration::from_secs(120);
