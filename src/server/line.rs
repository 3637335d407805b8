//! What is going on on one connection: shared by its wire, its service and its clock, which all live in
//! one task. The atomics are there to be `Send`, not to be raced for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Line {
    /// A request was handed to the service and its answer is not written yet.
    running: AtomicBool,
    /// A request's head has begun to arrive and has not ended.
    in_head: AtomicBool,
    /// We have bytes that the peer does not take.
    blocked: AtomicBool,
    /// Our side is closed; what the peer still sends is read and dropped.
    lingering: AtomicBool,
    /// No request after this one: the tasks are stopping.
    ending: AtomicBool,
    /// Heads that have ended.
    heads: AtomicU64,
    /// Requests handed to the service.
    begun: AtomicU64,
    /// Bytes that the peer has taken.
    written: AtomicU64,
    /// The first request, counted from 1, that cannot be understood in one way only.
    ambiguous: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Idle,
    /// A head is arriving.
    Head,
    /// A request runs, and it is not the peer that holds it up.
    Running,
    /// The peer does not take its answer.
    Blocked,
    /// Everything is said; the peer has not finished sending.
    Lingering,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            running: AtomicBool::new(false),
            in_head: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            heads: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            written: AtomicU64::new(0),
            ambiguous: AtomicU64::new(u64::MAX),
        }
    }

    /// The phase, and a number that changes whenever a phase begins anew.
    pub(super) fn phase(&self) -> (Phase, u64) {
        if self.lingering.load(Relaxed) {
            (Phase::Lingering, 0)
        } else if self.blocked.load(Relaxed) {
            (Phase::Blocked, self.written.load(Relaxed))
        } else if self.running.load(Relaxed) {
            (Phase::Running, 0)
        } else if self.in_head.load(Relaxed) {
            (Phase::Head, self.heads.load(Relaxed))
        } else {
            (Phase::Idle, self.heads.load(Relaxed))
        }
    }

    pub(super) fn head_is_arriving(&self, arriving: bool) {
        self.in_head.store(arriving, Relaxed);
    }

    pub(super) fn head_ended(&self, ambiguous: bool) {
        let number = self.heads.fetch_add(1, Relaxed) + 1;
        if ambiguous {
            self.ambiguous.fetch_min(number, Relaxed);
        }
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.blocked.store(false, Relaxed);
        self.written.fetch_add(bytes, Relaxed);
    }

    pub(super) fn is_blocked(&self) {
        self.blocked.store(true, Relaxed);
    }

    pub(super) fn lingers(&self) {
        self.lingering.store(true, Relaxed);
    }

    pub(super) fn ends(&self) {
        self.ending.store(true, Relaxed);
    }

    /// A request reaches the service. False when it must be refused, since it can be understood in two ways.
    pub(super) fn begin(self: &Arc<Self>) -> (Running, bool) {
        let number = self.begun.fetch_add(1, Relaxed) + 1;
        self.running.store(true, Relaxed);
        let clear = number < self.ambiguous.load(Relaxed);
        (Running(Arc::clone(self)), clear)
    }
}

/// A request runs for as long as this is held.
#[derive(Debug)]
pub(super) struct Running(Arc<Line>);

impl Running {
    /// Is this the connection's last request?
    pub(super) fn is_last(&self) -> bool {
        self.0.ending.load(Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Relaxed);
    }
}
