//! A Vault that counts as the real one does, a cache of one credential per reader, and the scheduler
//! between them.

#![cfg(test)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep};

use super::super::plan::{LAST_CALL, min_gap};
use super::super::state::MAX_CALLS;
use super::super::{Ended, Grant, Lease, Renew, Scheduler, Tenant, What};
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::life::Life;
use crate::secret::Secret;
use crate::tasks::Later;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// Vault's side of one lease.
pub(super) struct Truth {
    pub(super) made: Instant,
    pub(super) end: Instant,
    pub(super) ttl: u64,
    pub(super) max_ttl: u64,
    pub(super) is_revoked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CallKind {
    Renew,
    Replace,
    Revoke,
}

pub(super) struct Seen {
    pub(super) key: u64,
    pub(super) kind: CallKind,
    pub(super) began: Instant,
    pub(super) ended: Option<Instant>,
    /// What was left of the lease when the call began.
    pub(super) left: Duration,
}

/// What Vault does with a call: the kind, and the moment since the world's beginning.
pub(super) type Mood = Arc<dyn Fn(CallKind, Duration) -> Result<()> + Send + Sync>;

pub(super) struct World {
    pub(super) me: Weak<Self>,
    pub(super) begun: Instant,
    /// Where in a second of Vault's clock the world began.
    pub(super) fraction: Duration,
    pub(super) latency: Duration,
    pub(super) mood: Mutex<Mood>,
    pub(super) truths: Mutex<HashMap<u64, Truth>>,
    pub(super) calls: Mutex<Vec<Seen>>,
    /// The credential that each reader is served; the cache.
    pub(super) served: Mutex<HashMap<u64, Arc<Lease>>>,
    pub(super) ended: Mutex<Vec<(u64, Ended)>>,
    pub(super) keys: AtomicU64,
    pub(super) minted: AtomicU64,
    pub(super) settings: config::Leases,
    pub(super) scheduler: Mutex<Option<Scheduler>>,
    pub(super) tasks: Tasks,
    /// How long the machine has slept, in seconds.
    pub(super) slept: AtomicU64,
    pub(super) shape: Mutex<Shape>,
}

/// What Vault grants.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) ttl: u64,
    pub(super) max_ttl: u64,
    pub(super) renewable: bool,
    pub(super) parent: Option<Arc<Life>>,
    pub(super) is_token: bool,
}

impl World {
    pub(super) fn start(settings: config::Leases, shape: Shape, latency: Duration) -> Arc<Self> {
        let tasks = Tasks::new();
        let world = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            begun: Instant::now(),
            fraction: Duration::from_millis(fastrand::u64(0..1_000)),
            latency,
            mood: Mutex::new(Arc::new(|_, _| Ok(()))),
            truths: Mutex::default(),
            calls: Mutex::default(),
            served: Mutex::default(),
            ended: Mutex::default(),
            keys: AtomicU64::new(1),
            minted: AtomicU64::new(0),
            settings: settings.clone(),
            scheduler: Mutex::new(None),
            tasks: tasks.clone(),
            slept: AtomicU64::new(0),
            shape: Mutex::new(shape),
        });
        let vault = Arc::new(Vault(Arc::downgrade(&world)));
        let sleeper = Arc::downgrade(&world);
        let slept = move || {
            let slept = sleeper
                .upgrade()
                .map(|world| world.slept.load(Ordering::Relaxed));
            Duration::from_secs(slept.unwrap_or_default())
        };
        let scheduler = Scheduler::start_with(settings, vault, &tasks, Metrics::new(), slept);
        let tenant: Weak<dyn Tenant> = world.me.clone();
        scheduler.set_tenant(tenant);
        *world.scheduler.lock().unwrap() = Some(scheduler);
        world
    }

    pub(super) fn scheduler(&self) -> Scheduler {
        self.scheduler.lock().unwrap().clone().unwrap()
    }

    pub(super) fn set_mood(
        &self,
        mood: impl Fn(CallKind, Duration) -> Result<()> + Send + Sync + 'static,
    ) {
        *self.mood.lock().unwrap() = Arc::new(mood);
    }

    pub(super) fn mood(&self, kind: CallKind) -> Result<()> {
        let mood = Arc::clone(&self.mood.lock().unwrap());
        mood(kind, self.begun.elapsed())
    }

    /// Vault's clock in whole seconds.
    pub(super) fn second(&self, at: Instant) -> u64 {
        (at - self.begun + self.fraction).as_secs()
    }

    /// A new credential, as a read of `database/creds/app` brings it.
    pub(super) fn mint(&self) -> Arc<Lease> {
        self.minted.fetch_add(1, Ordering::Relaxed);
        let shape = self.shape.lock().unwrap().clone();
        let (key, now) = (self.keys.fetch_add(1, Ordering::Relaxed), Instant::now());
        let end = now + Duration::from_secs(shape.ttl);
        let truth = Truth {
            made: now,
            end,
            ttl: shape.ttl,
            max_ttl: shape.max_ttl,
            is_revoked: false,
        };
        self.truths.lock().unwrap().insert(key, truth);
        let what = match shape.is_token {
            true => What::Token { accessor: None },
            false => What::Secret {
                lease_id: Secret::new(format!("database/creds/app/{key}")),
            },
        };
        let path = "database/creds/app".to_owned();
        let ttl = Duration::from_secs(shape.ttl);
        let (token, renewable) = (Secret::new("token"), shape.renewable);
        Arc::new(Lease::new(
            key,
            what,
            token,
            None,
            path,
            renewable,
            ttl,
            end,
            shape.parent,
        ))
    }

    pub(super) fn store(&self, reader: u64, lease: &Arc<Lease>) {
        let old = self
            .served
            .lock()
            .unwrap()
            .insert(reader, Arc::clone(lease));
        if let Some(old) = old {
            self.scheduler().forget(old.key);
        }
        self.scheduler().track(Arc::clone(lease));
    }

    /// A reader's request. True for a hit; otherwise it waited for a mint (if Vault made one).
    pub(super) fn read(&self, reader: u64) -> bool {
        let now = Instant::now();
        let served = self.served.lock().unwrap().get(&reader).cloned();
        if let Some(lease) = served
            && lease.remaining(now) >= lease.min_remaining(&self.settings)
        {
            assert!(
                self.is_alive(&lease),
                "a dead credential was served at {:?}",
                self.begun.elapsed()
            );
            lease.touch(now);
            return true;
        }
        if self.mood(CallKind::Replace).is_ok() {
            let lease = self.mint();
            self.store(reader, &lease);
        }
        false
    }

    pub(super) fn is_alive(&self, lease: &Lease) -> bool {
        let now = Instant::now();
        let truths = self.truths.lock().unwrap();
        let parent_is_over = lease
            .parent
            .as_ref()
            .is_some_and(|parent| parent.is_over(now));
        truths
            .get(&lease.key)
            .is_some_and(|truth| truth.end > now && !truth.is_revoked)
            && !parent_is_over
    }

    pub(super) fn reader_of(&self, key: u64) -> Option<u64> {
        let served = self.served.lock().unwrap();
        served
            .iter()
            .find(|(_, lease)| lease.key == key)
            .map(|(reader, _)| *reader)
    }

    /// Somebody revokes a lease beside us.
    pub(super) fn revoke_at_vault(&self, key: u64) {
        if let Some(truth) = self.truths.lock().unwrap().get_mut(&key) {
            truth.is_revoked = true;
        }
    }

    pub(super) fn grant(&self, key: u64, asked_at: Instant) -> Result<Grant> {
        let now = Instant::now();
        let mut truths = self.truths.lock().unwrap();
        let truth = truths.get_mut(&key).unwrap();
        let nothing = Grant {
            ttl: Duration::ZERO,
            renewable: false,
            asked_at,
        };
        if truth.is_revoked || truth.end <= now {
            return Ok(nothing);
        }
        let left = (self.second(truth.made) + truth.max_ttl).saturating_sub(self.second(now));
        if left == 0 {
            return Err(refused(400));
        }
        let ttl = Duration::from_secs(truth.ttl.min(left));
        truth.end = now + ttl;
        Ok(Grant {
            ttl,
            renewable: true,
            asked_at,
        })
    }

    pub(super) fn begin(&self, lease: &Lease, kind: CallKind) -> usize {
        let now = Instant::now();
        let mut calls = self.calls.lock().unwrap();
        let is_under_way = |call: &Seen| call.key == lease.key && call.ended.is_none();
        assert!(
            !calls.iter().any(is_under_way),
            "two calls at once for one lease"
        );
        let under_way = calls.iter().filter(|call| call.ended.is_none()).count();
        assert!(under_way < MAX_CALLS, "{under_way} calls at once");
        calls.push(Seen {
            key: lease.key,
            kind,
            began: now,
            ended: None,
            left: lease.remaining(now),
        });
        calls.len() - 1
    }

    pub(super) fn finish(&self, call: usize) {
        self.calls.lock().unwrap()[call].ended = Some(Instant::now());
    }

    pub(super) fn count(&self, kind: CallKind) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.kind == kind)
            .count()
    }

    pub(super) fn ends(&self, why: Ended) -> usize {
        self.ended
            .lock()
            .unwrap()
            .iter()
            .filter(|(_, ended)| *ended == why)
            .count()
    }

    /// The gap between two calls for one lease, and the last moment of renewals.
    pub(super) fn check_calls(&self) {
        let ttl = Duration::from_secs(self.shape.lock().unwrap().ttl);
        let calls = self.calls.lock().unwrap();
        let mut last: HashMap<u64, &Seen> = HashMap::new();
        for call in calls.iter().filter(|call| call.kind != CallKind::Revoke) {
            if call.kind == CallKind::Renew {
                assert!(call.left >= LAST_CALL, "renewed with {:?} left", call.left);
            }
            let Some(before) = last.insert(call.key, call) else {
                continue;
            };
            let is_asked_for = before.kind == CallKind::Renew && call.kind == CallKind::Replace;
            let gap = call.began - before.ended.expect("an earlier call has ended");
            assert!(
                is_asked_for || gap >= min_gap(ttl),
                "{:?} after {:?}",
                gap,
                before.kind
            );
            let turns_back = before.kind == CallKind::Replace && call.kind == CallKind::Renew;
            assert!(!turns_back, "renewed after a replacement was tried");
        }
    }
}

pub(super) struct Vault(Weak<World>);

impl Renew for Vault {
    fn renew(&self, lease: Arc<Lease>) -> Later<Result<Grant>> {
        let world = self.0.upgrade().unwrap();
        Box::pin(async move {
            let call = world.begin(&lease, CallKind::Renew);
            let asked_at = Instant::now();
            sleep(world.latency).await;
            let answer = world
                .mood(CallKind::Renew)
                .and_then(|()| world.grant(lease.key, asked_at));
            sleep(world.latency).await;
            world.finish(call);
            answer
        })
    }

    fn revoke(&self, lease: Arc<Lease>) -> Later<Result<()>> {
        let world = self.0.upgrade().unwrap();
        Box::pin(async move {
            let call = world.begin(&lease, CallKind::Revoke);
            sleep(world.latency).await;
            let answer = world.mood(CallKind::Revoke);
            if answer.is_ok() {
                world.revoke_at_vault(lease.key);
            }
            world.finish(call);
            answer
        })
    }
}

impl Tenant for World {
    fn replace(&self, lease: Arc<Lease>) -> Later<Result<()>> {
        let world = self.me.upgrade().unwrap();
        Box::pin(async move {
            let reader = world.reader_of(lease.key);
            let Some(reader) = reader else { return Ok(()) };
            let call = world.begin(&lease, CallKind::Replace);
            sleep(world.latency).await;
            let answer = world.mood(CallKind::Replace);
            if answer.is_ok() {
                let new = world.mint();
                sleep(world.latency).await;
                world.store(reader, &new);
                new.inherit_use(&lease);
            }
            world.finish(call);
            answer
        })
    }

    fn ended(&self, lease: Arc<Lease>, why: Ended) {
        self.ended.lock().unwrap().push((lease.key, why));
        if why == Ended::Idle {
            return;
        }
        let mut served = self.served.lock().unwrap();
        served.retain(|_, one| one.key != lease.key);
        drop(served);
        lease.life.end_now();
        self.scheduler().forget(lease.key);
    }
}

pub(super) fn refused(status: u16) -> Error {
    Error::new(
        Kind::Refused(StatusCode::from_u16(status).unwrap()),
        "Vault said no",
    )
}

pub(super) fn unreachable() -> Error {
    Error::new(Kind::Unreachable, "Vault is away")
}

pub(super) fn shape(ttl: u64, max_ttl: u64) -> Shape {
    Shape {
        ttl,
        max_ttl,
        renewable: true,
        parent: None,
        is_token: false,
    }
}

/// Runs a world to its end and then looks at what was called.
pub(super) fn run<F: Future<Output = ()>>(
    settings: config::Leases,
    shape: Shape,
    latency: u64,
    script: impl FnOnce(Arc<World>) -> F,
) -> Arc<World> {
    // The same jitter each time, so that what fails fails again.
    fastrand::seed(shape.ttl * 1_000 + latency);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::start(settings, shape, Duration::from_millis(latency));
        script(Arc::clone(&world)).await;
        world.check_calls();
        assert!(
            world.tasks.stop(Duration::from_secs(1)).await,
            "a task did not stop"
        );
        world
    })
}

/// Reads every `every` until `seconds` have passed; how many reads found nothing to serve.
pub(super) async fn read_for(world: &World, reader: u64, every: Duration, seconds: u64) -> u32 {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut misses = 0;
    while Instant::now() < end {
        misses += u32::from(!world.read(reader));
        sleep(every).await;
    }
    misses
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// As the cache does it: the entry goes, the lease is forgotten, then Vault is told.
pub(super) fn revoke_through_us(world: &World, reader: u64) {
    let lease = world.served.lock().unwrap().remove(&reader);
    if let Some(lease) = lease {
        lease.life.end_now();
        world.scheduler().forget(lease.key);
        world.revoke_at_vault(lease.key);
    }
}
