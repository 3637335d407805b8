//! What is going on on one connection: shared by its wire, its service and its clock, which all live in
//! one task. The atomics are there to be `Send`, not to be raced for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::flaw::Flaw;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Line {
    /// A request was handed to the service and its answer is not written yet.
    running: AtomicBool,
    /// A request's head has begun to arrive and has not ended.
    in_head: AtomicBool,
    /// More of a request's body is wanted than has come.
    starved: AtomicBool,
    /// We have bytes that the peer does not take.
    blocked: AtomicBool,
    /// Our side is closed; what the peer still sends is read and dropped.
    lingering: AtomicBool,
    /// No request after this one: the tasks are stopping, or nothing more is read.
    ending: AtomicBool,
    /// The peer took too long for its head or its body.
    given_up: AtomicBool,
    /// Heads that have ended.
    heads: AtomicU64,
    /// Requests handed to the service.
    begun: AtomicU64,
    /// Bytes that the peer has taken.
    written: AtomicU64,
    /// Bytes that came since the newest head ended: of its body, and hardly more.
    body: AtomicU64,
    /// The request, counted from 1, that stands in for one that is refused: the last of the connection.
    refused: OnceLock<(u64, Flaw)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Idle,
    /// A head is arriving.
    Head,
    /// A request's body is waited for.
    Body,
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
            starved: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            heads: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            written: AtomicU64::new(0),
            body: AtomicU64::new(0),
            refused: OnceLock::new(),
        }
    }

    /// The phase, and a number that changes whenever a phase begins anew.
    pub(super) fn phase(&self) -> (Phase, u64) {
        if self.lingering.load(Relaxed) {
            (Phase::Lingering, 0)
        } else if self.blocked.load(Relaxed) {
            (Phase::Blocked, self.written.load(Relaxed))
        } else if self.starved.load(Relaxed) {
            (Phase::Body, self.body.load(Relaxed))
        } else if self.running.load(Relaxed) {
            (Phase::Running, 0)
        } else if self.in_head.load(Relaxed) {
            (Phase::Head, self.heads.load(Relaxed))
        } else {
            (Phase::Idle, self.heads.load(Relaxed))
        }
    }

    /// Which request is the newest, and how much of its body has come.
    pub(super) fn body(&self) -> (u64, u64) {
        (self.heads.load(Relaxed), self.body.load(Relaxed))
    }

    pub(super) fn head_is_arriving(&self, arriving: bool) {
        self.in_head.store(arriving, Relaxed);
    }

    pub(super) fn head_ended(&self) {
        self.heads.fetch_add(1, Relaxed);
        self.body.store(0, Relaxed);
    }

    /// The head that would be next is answered with this, and is the last.
    pub(super) fn refuse(&self, flaw: Flaw) {
        let next = self.heads.load(Relaxed) + 1;
        // The first flaw is the one that counts: nothing is read behind it.
        let _set = self.refused.set((next, flaw));
    }

    /// Is more of a body wanted than has come? Asked anew with each turn of the connection.
    pub(super) fn starves(&self, starving: bool) {
        self.starved.store(starving, Relaxed);
    }

    pub(super) fn body_came(&self, bytes: u64) {
        self.body.fetch_add(bytes, Relaxed);
    }

    /// The peer's time is over. False when it was before.
    pub(super) fn give_up(&self) -> bool {
        !self.given_up.swap(true, Relaxed)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
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

    /// A request reaches the service, or is only to be refused.
    pub(super) fn begin(self: &Arc<Self>) -> (Running, Option<Flaw>) {
        let number = self.begun.fetch_add(1, Relaxed) + 1;
        self.running.store(true, Relaxed);
        let refused = self.refused.get().filter(|(from, _)| number >= *from);
        (Running(Arc::clone(self)), refused.map(|(_, flaw)| *flaw))
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
