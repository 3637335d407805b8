//! All watched leases, and what is to be done for them now. Synchronous: every method takes the time and
//! returns, so that the one lock around it is never held for long.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::plan::{self, Stand, Step};
use super::queue::{Moment, Queue};
use super::record::{Call, Kind, Record, Verdict};
use super::{Ended, Grant, Lease, Tenant};
use crate::config;
use crate::error::Result;
use crate::life::Life;
use crate::telemetry::{LeaseEvent, Metrics};

pub(super) struct State {
    settings: config::Leases,
    metrics: Metrics,
    records: HashMap<u64, Record>,
    queue: Queue,
    /// What is due and waits for a free place, the most urgent first.
    ready: BinaryHeap<Reverse<(Instant, u64)>>,
    to_revoke: VecDeque<Arc<Lease>>,
    /// What the tenant has not been told yet.
    ended: Vec<(Arc<Lease>, Ended)>,
    /// Calls under way.
    running: usize,
    /// Tokens that have a successor: a lease that still arrives from one of them is replaced soon.
    superseded: Vec<Weak<Life>>,
    pub tenant: Option<Weak<dyn Tenant>>,
    /// When the task looks again by itself.
    looks_at: Option<Instant>,
    /// Leases are being given back: nothing is renewed or replaced any more.
    pub is_closing: bool,
}

/// What the task does after one look.
pub(super) struct Turn {
    pub jobs: Vec<Job>,
    pub ended: Vec<(Arc<Lease>, Ended)>,
    pub look_again: Option<Instant>,
}

pub(super) enum Job {
    Renew(Arc<Lease>),
    Replace(Arc<Lease>),
    Revoke(Arc<Lease>),
}

/// How a call went.
pub(super) enum Outcome {
    Renewed(Result<Grant>),
    Replaced(Result<()>),
    Revoked,
}

impl State {
    pub(super) fn new(settings: config::Leases, metrics: Metrics) -> Self {
        Self {
            settings,
            metrics,
            records: HashMap::new(),
            queue: Queue::default(),
            ready: BinaryHeap::new(),
            to_revoke: VecDeque::new(),
            ended: Vec::new(),
            running: 0,
            superseded: Vec::new(),
            tenant: None,
            looks_at: None,
            is_closing: false,
        }
    }

    /// True if the task must look sooner than it meant to; so for the others that return a `bool`.
    pub(super) fn track(&mut self, lease: Arc<Lease>, now: Instant) -> bool {
        let key = lease.key;
        let mut record = Record::new(lease, now);
        let is_late = self
            .superseded
            .iter()
            .filter_map(Weak::upgrade)
            .any(|life| record.is_child_of(&life));
        if is_late {
            record.supersede(now + plan::min_gap(record.lease.ttl));
        }
        self.records.insert(key, record);
        self.schedule(key, now)
    }

    pub(super) fn forget(&mut self, key: u64) {
        let Some(record) = self.records.get_mut(&key) else {
            return;
        };
        if record.call == Some(Call::Running(Kind::Replace)) {
            record.is_dropped = true;
        } else if record.stand != Stand::Retired {
            self.records.remove(&key);
        }
        self.compact();
    }

    pub(super) fn renewed(&mut self, key: u64, grant: Grant, now: Instant) -> bool {
        let Some(record) = self.records.get_mut(&key) else {
            return false;
        };
        let verdict = record.extended(grant, true);
        if record.is_token() {
            let life = Arc::clone(&record.lease.life);
            self.plan_children_of(&life, now);
        }
        self.after(key, verdict, now)
    }

    /// The machine slept: everything ends earlier than was thought by the clock that slept with it.
    pub(super) fn slept(&mut self, by: Duration, now: Instant) {
        for key in self.keys_of(|_| true) {
            if let Some(record) = self.records.get_mut(&key) {
                record.slept(by);
            }
        }
        for key in self.keys_of(|_| true) {
            self.schedule(key, now);
        }
    }

    pub(super) fn supersede(&mut self, parent: &Arc<Life>, now: Instant) -> bool {
        self.superseded
            .retain(|life| life.upgrade().is_some_and(|life| !life.is_over(now)));
        self.superseded.push(Arc::downgrade(parent));
        let children = self.keys_of(|record| record.is_child_of(parent));
        let spread = REPLACED_EACH * u32::try_from(children.len()).unwrap_or(u32::MAX);
        let mut wakes = false;
        for key in children {
            let Some(record) = self.records.get_mut(&key) else {
                continue;
            };
            let room = plan::room(&record.facts(&self.settings, now));
            let wait = spread.min(room / 2).mul_f64(fastrand::f64());
            record.supersede(now + wait);
            wakes |= self.schedule(key, now);
        }
        wakes
    }

    /// Everything that is due, as far as there are places for it.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        let mut looked = 0;
        while looked < BATCH {
            let records = &self.records;
            let Some(moment) = self.queue.pop_due(now, |moment| is_live(records, moment)) else {
                break;
            };
            looked += 1;
            self.act(moment.key, now);
        }
        let jobs = self.start_calls(now);
        let records = &self.records;
        let next = self.queue.first(|moment| is_live(records, moment));
        self.looks_at = next;
        Turn {
            jobs,
            ended: std::mem::take(&mut self.ended),
            look_again: next,
        }
    }

    /// Takes in how a call went.
    pub(super) fn settle(&mut self, key: u64, outcome: Outcome, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.count(&outcome);
        let Some(record) = self.records.get_mut(&key) else {
            return;
        };
        record.call = None;
        let random = fastrand::f64();
        let verdict = match outcome {
            Outcome::Renewed(Ok(grant)) => {
                let end = record.lease.life.end();
                let verdict = record.renewed(grant, now);
                let life = Arc::clone(&record.lease.life);
                if record.is_token() && life.end() < end {
                    self.plan_children_of(&life, now);
                }
                verdict
            }
            Outcome::Renewed(Err(error)) => record.renewal_failed(&error, now, random),
            Outcome::Replaced(Ok(())) => return self.retire(key, now),
            Outcome::Replaced(Err(_)) if record.is_dropped => {
                self.records.remove(&key);
                return;
            }
            Outcome::Replaced(Err(error)) => record.replacement_failed(&error, now, random),
            Outcome::Revoked => Verdict::Watched,
        };
        self.after(key, verdict, now);
    }

    /// Stops everything and hands out the leases of secrets that are alive, each once.
    pub(super) fn close(&mut self, now: Instant) -> Vec<Arc<Lease>> {
        self.is_closing = true;
        let is_ours = |record: &Record| {
            !record.is_token()
                && !record.is_dropped
                && record.lease.end().is_none_or(|end| end > now)
        };
        let keys = self.keys_of(is_ours);
        let records = keys.iter().filter_map(|key| self.records.remove(key));
        let mut leases: Vec<Arc<Lease>> = records.map(|record| record.lease).collect();
        leases.extend(self.to_revoke.drain(..));
        leases
    }

    /// The leases that are watched; those already replaced are not counted.
    pub(super) fn watched(&self) -> impl Iterator<Item = &Record> {
        let is_watched = |record: &&Record| record.stand != Stand::Retired && !record.is_dropped;
        self.records.values().filter(is_watched)
    }

    /// What is allocated here for each lease, beside what its holder would have anyway.
    #[cfg(test)]
    pub(super) fn bytes_per_lease(&self) -> usize {
        let table = self.records.capacity() * 8 / 7 * (size_of::<(u64, Record)>() + 1);
        let queue = self.queue.capacity() * size_of::<Moment>();
        (table + queue) / self.records.len().max(1)
    }

    fn act(&mut self, key: u64, now: Instant) {
        let Some(record) = self.records.get_mut(&key) else {
            return;
        };
        let Some(plan) = record.next(&self.settings, now) else {
            record.plan = None;
            return;
        };
        let kind = match plan.step {
            _ if plan.at > now => {
                self.schedule(key, now);
                return;
            }
            Step::Look => {
                self.schedule(key, now);
                return;
            }
            Step::Renew => Kind::Renew,
            Step::Replace => Kind::Replace,
            Step::LetGo => return self.let_go(key, now),
            Step::Lose => return self.end(key, Ended::Lost, now),
            Step::Expire => return self.end(key, Ended::Expired, now),
        };
        record.plan = Some(plan);
        record.call = Some(Call::Queued(kind));
        self.ready
            .push(Reverse((record.urgency(&self.settings, now), key)));
    }

    fn start_calls(&mut self, now: Instant) -> Vec<Job> {
        let mut jobs = Vec::new();
        while self.running < MAX_CALLS && !self.is_closing {
            if let Some(lease) = self.to_revoke.pop_front() {
                self.running += 1;
                jobs.push(Job::Revoke(lease));
                continue;
            }
            let Some(Reverse((_, key))) = self.ready.pop() else {
                break;
            };
            let Some(record) = self.records.get_mut(&key) else {
                continue;
            };
            let Some(Call::Queued(kind)) = record.call.take() else {
                continue;
            };
            // It may have waited for long: it may have ended meanwhile, or not be due any more.
            let plan = record
                .next(&self.settings, now)
                .filter(|plan| plan.at <= now);
            let job = match (kind, plan.map(|plan| plan.step)) {
                (Kind::Renew, Some(Step::Renew)) => Job::Renew(Arc::clone(&record.lease)),
                (Kind::Replace, Some(Step::Replace)) => Job::Replace(Arc::clone(&record.lease)),
                _ => {
                    self.act(key, now);
                    continue;
                }
            };
            record.call = Some(Call::Running(kind));
            self.running += 1;
            jobs.push(job);
        }
        jobs
    }

    fn after(&mut self, key: u64, verdict: Verdict, now: Instant) -> bool {
        match verdict {
            Verdict::Watched => self.schedule(key, now),
            Verdict::Gone => {
                self.end(key, Ended::Lost, now);
                true
            }
        }
    }

    /// Plans a lease anew. True if that is due before the task looks again.
    fn schedule(&mut self, key: u64, now: Instant) -> bool {
        let Some(record) = self.records.get_mut(&key) else {
            return false;
        };
        if record.call.is_some() {
            return false;
        }
        record.generation = record.generation.wrapping_add(1);
        record.plan = record.next(&self.settings, now);
        let Some(plan) = record.plan else {
            return false;
        };
        let generation = record.generation;
        let at = plan.at;
        self.queue.push(Moment {
            at,
            key,
            generation,
        });
        self.compact();
        self.looks_at.is_none_or(|looks| at < looks)
    }

    fn let_go(&mut self, key: u64, now: Instant) {
        self.metrics.lease(LeaseEvent::Idle);
        let gives_back = |record: &&mut Record| record.gives_back(&self.settings);
        if self.records.get_mut(&key).filter(gives_back).is_some() {
            let Some(record) = self.records.remove(&key) else {
                return;
            };
            // Before it is given back, nobody may be served from it any more.
            record.lease.life.end_now();
            self.ended.push((Arc::clone(&record.lease), Ended::Expired));
            self.plan_children_of(&record.lease.life, now);
            self.to_revoke.push_back(record.lease);
            return;
        }
        if let Some(record) = self.records.get_mut(&key) {
            record.stand = Stand::LetGo;
            self.ended.push((Arc::clone(&record.lease), Ended::Idle));
            self.schedule(key, now);
        }
    }

    fn end(&mut self, key: u64, why: Ended, now: Instant) {
        let Some(record) = self.records.remove(&key) else {
            return;
        };
        if record.stand == Stand::Retired {
            return;
        }
        if why == Ended::Lost {
            record.lease.life.end_now();
        }
        self.metrics.lease(match why {
            Ended::Expired => LeaseEvent::Expired,
            Ended::Idle => LeaseEvent::Idle,
            Ended::Lost => LeaseEvent::Lost,
        });
        if record.is_token() {
            self.plan_children_of(&record.lease.life, now);
        }
        self.ended.push((record.lease, why));
    }

    /// It was replaced. Where leases are given back on exit it is remembered until its end.
    fn retire(&mut self, key: u64, now: Instant) {
        if !self.settings.revoke_on_exit {
            self.records.remove(&key);
        } else if let Some(record) = self.records.get_mut(&key) {
            record.stand = Stand::Retired;
            record.is_dropped = false;
            self.schedule(key, now);
        }
    }

    /// A token's end came nearer: what hangs below it must know.
    fn plan_children_of(&mut self, life: &Arc<Life>, now: Instant) {
        for key in self.keys_of(|record| record.is_child_of(life)) {
            self.schedule(key, now);
        }
    }

    fn keys_of(&self, is_wanted: impl Fn(&Record) -> bool) -> Vec<u64> {
        let wanted = self.records.iter().filter(|(_, record)| is_wanted(record));
        wanted.map(|(key, _)| *key).collect()
    }

    fn compact(&mut self) {
        let records = &self.records;
        self.queue
            .compact(records.len(), |moment| is_live(records, moment));
    }

    fn count(&self, outcome: &Outcome) {
        self.metrics.lease(match outcome {
            Outcome::Renewed(Ok(_)) => LeaseEvent::Renewed,
            Outcome::Renewed(Err(_)) => LeaseEvent::RenewFailed,
            Outcome::Replaced(Ok(())) => LeaseEvent::Replaced,
            Outcome::Replaced(Err(_)) => LeaseEvent::ReplaceFailed,
            Outcome::Revoked => return,
        });
    }
}

fn is_live(records: &HashMap<u64, Record>, moment: &Moment) -> bool {
    let record = records.get(&moment.key);
    record.is_some_and(|record| record.generation == moment.generation && record.call.is_none())
}

/// Calls for leases under way at once. They also pass the background budget; this bounds what waits there.
pub(super) const MAX_CALLS: usize = 16;
/// Leases looked at in one go, so that the lock is never held for long.
const BATCH: usize = 512;
/// The leases of a token that has a successor are replaced at five a second, sooner where it ends sooner.
const REPLACED_EACH: Duration = Duration::from_millis(200);
