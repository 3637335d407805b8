//! One fetch for many askers, and the fence that keeps a fetch from storing what a write made old.
//!
//! A flight ends with a verdict: stored, shared once, go alone, failed; or it is abandoned (its leader
//! ended without one), and the next asker leads. Its leader is a task of its own, so that no client's
//! hang-up hurts another.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use tokio::sync::watch;

use super::body::ReplyBody;
use super::entry::Entry;
use super::key::{Key, Print};
use crate::error::Error;

/// How a flight ended.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Stored(Arc<Entry>),
    /// Not to be stored, but the same answer for all who asked at the same time.
    Shared(Arc<Collected>),
    /// Only the first asker got an answer; the others ask for themselves.
    Alone,
    Failed(Error),
}

/// An answer that was read whole.
pub(super) struct Collected {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes", self.status, self.body.len())
    }
}

impl Collected {
    pub(super) fn response(&self) -> Response<ReplyBody> {
        let mut response = Response::new(ReplyBody::Full(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
            .headers_mut()
            .remove(http::header::TRANSFER_ENCODING);
        response
    }
}

/// A fetch that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    number: u64,
    key: Option<Key>,
    /// The canonical path it reads, and the caller's token: what a write or revocation is held against.
    resource: Box<str>,
    token: Option<Print>,
    verdict: watch::Sender<Option<Verdict>>,
}

/// Waits for a flight's verdict.
pub(super) type Follower = watch::Receiver<Option<Verdict>>;

/// What joining a flight came to.
#[derive(Debug)]
pub(super) enum Seat {
    Leader(Arc<Flight>),
    Follower(Follower),
}

/// All fetches under way. One lock, taken on misses and writes only; whoever stores takes it too, so
/// that "is it fenced?" and "store it" are one step.
#[derive(Debug, Default)]
pub(super) struct Flights {
    table: Mutex<Table>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    /// By key, those that others may join.
    open: HashMap<Key, Arc<Flight>>,
    /// By number, those whose answer may still be stored.
    unfenced: HashMap<u64, Arc<Flight>>,
}

impl Flights {
    /// Joins the flight for `key` or starts it.
    pub(super) fn board(&self, key: Key, resource: &str, token: Option<Print>) -> Seat {
        let mut table = self.lock();
        if let Some(flight) = table.open.get(&key) {
            return Seat::Follower(flight.verdict.subscribe());
        }
        let flight = self.start(&mut table, Some(key), resource, token);
        table.open.insert(key, Arc::clone(&flight));
        Seat::Leader(flight)
    }

    /// A fetch that nobody may join.
    pub(super) fn alone(&self, resource: &str, token: Option<Print>) -> Arc<Flight> {
        self.start(&mut self.lock(), None, resource, token)
    }

    /// Runs `store` if nothing has made the answer of `flight` old since it began.
    pub(super) fn store_unless_fenced<T>(
        &self,
        flight: &Flight,
        store: impl FnOnce() -> T,
    ) -> Option<T> {
        let table = self.lock();
        table.unfenced.contains_key(&flight.number).then(store)
    }

    /// Ends a flight and tells everybody who waits.
    pub(super) fn land(&self, flight: &Flight, verdict: Verdict) {
        self.close(&mut self.lock(), flight);
        flight.verdict.send_replace(Some(verdict));
    }

    /// Ends a flight for which nobody waits; false when somebody does.
    pub(super) fn abandon(&self, flight: &Flight) -> bool {
        let mut table = self.lock();
        if flight.verdict.receiver_count() > 0 {
            return false;
        }
        self.close(&mut table, flight);
        true
    }

    /// Closes the flight when it is dropped, should nothing else have done so: a leader that panicked or was
    /// cancelled leaves its followers with an abandoned flight, and the next asker leads.
    pub(super) fn landing<'a>(&'a self, flight: &'a Flight) -> Landing<'a> {
        Landing {
            flights: self,
            flight,
        }
    }

    /// Runs `change` while nothing can be stored.
    pub(super) fn hold<T>(&self, change: impl FnOnce() -> T) -> T {
        let _table = self.lock();
        change()
    }

    /// Runs `invalidate` and fences all flights that `picks` picks: what they bring is not stored, and
    /// nobody joins them any more.
    pub(super) fn fence<T>(
        &self,
        picks: impl Fn(&Flight) -> bool,
        invalidate: impl FnOnce() -> T,
    ) -> T {
        let mut table = self.lock();
        table.unfenced.retain(|_, flight| !picks(flight));
        table.open.retain(|_, flight| !picks(flight));
        invalidate()
    }

    fn start(
        &self,
        table: &mut Table,
        key: Option<Key>,
        resource: &str,
        token: Option<Print>,
    ) -> Arc<Flight> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let verdict = watch::Sender::new(None);
        let flight = Arc::new(Flight {
            number,
            key,
            resource: resource.into(),
            token,
            verdict,
        });
        table.unfenced.insert(number, Arc::clone(&flight));
        flight
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as what it does: the table closes a flight"
    )]
    fn close(&self, table: &mut Table, flight: &Flight) {
        table.unfenced.remove(&flight.number);
        if let Some(key) = flight.key
            && table
                .open
                .get(&key)
                .is_some_and(|open| open.number == flight.number)
        {
            table.open.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Flights::landing`].
#[derive(Debug)]
pub(super) struct Landing<'a> {
    flights: &'a Flights,
    flight: &'a Flight,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.flights.close(&mut self.flights.lock(), self.flight);
    }
}

impl Flight {
    pub(super) fn resource(&self) -> &str {
        &self.resource
    }

    pub(super) fn token(&self) -> Option<Print> {
        self.token
    }

    /// Waits for this flight's verdict.
    pub(super) fn follow(&self) -> Follower {
        self.verdict.subscribe()
    }

    /// Resolves when nobody waits for this flight (at the moment).
    pub(super) async fn unshared(&self) {
        self.verdict.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::{Identity, Keyer, Op};
    use super::*;

    fn key(path: &str) -> Key {
        // One keyer per test run would do; the key only has to differ by path.
        static KEYER: std::sync::OnceLock<Keyer> = std::sync::OnceLock::new();
        KEYER
            .get_or_init(Keyer::new)
            .key(Identity::AutoAuth, Op::Read, None, path, None, b"")
    }

    fn lead(flights: &Flights, path: &str) -> Arc<Flight> {
        match flights.board(key(path), path, None) {
            Seat::Leader(flight) => flight,
            Seat::Follower(_) => panic!("somebody leads already"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_hear_the_verdict() {
        let flights = Flights::default();
        let leader = lead(&flights, "a");
        let Seat::Follower(mut follower) = flights.board(key("a"), "a", None) else {
            panic!()
        };
        flights.land(&leader, Verdict::Alone);
        follower.changed().await.unwrap();
        assert!(matches!(*follower.borrow(), Some(Verdict::Alone)));
        lead(&flights, "a");
    }

    #[tokio::test]
    async fn a_dropped_leader_abandons_its_followers() {
        let flights = Flights::default();
        let leader = lead(&flights, "a");
        let Seat::Follower(mut follower) = flights.board(key("a"), "a", None) else {
            panic!()
        };
        assert!(!flights.abandon(&leader), "somebody waits");
        flights.fence(|_| true, || ());
        drop(leader);
        assert!(follower.changed().await.is_err());
    }

    #[tokio::test]
    async fn a_leader_that_dies_leaves_the_way_free() {
        let flights = Flights::default();
        let leader = lead(&flights, "a");
        let Seat::Follower(mut follower) = flights.board(key("a"), "a", None) else {
            panic!()
        };
        drop(flights.landing(&leader));
        drop(leader);
        assert!(follower.changed().await.is_err());
        lead(&flights, "a");
    }

    #[tokio::test]
    async fn a_fenced_flight_stores_nothing_and_takes_no_more_followers() {
        let flights = Flights::default();
        let (old, other) = (lead(&flights, "a"), lead(&flights, "b"));
        flights.fence(|flight| flight.resource() == "a", || ());
        assert!(flights.store_unless_fenced(&old, || ()).is_none());
        assert!(flights.store_unless_fenced(&other, || ()).is_some());
        let new = lead(&flights, "a");
        flights.land(&old, Verdict::Alone);
        assert!(matches!(
            flights.board(key("a"), "a", None),
            Seat::Follower(_)
        ));
        assert!(flights.store_unless_fenced(&new, || ()).is_some());
    }
}
