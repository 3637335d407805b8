//! A stored answer, and how it is handed out again.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::AGE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use tokio::time::Instant;

use super::body::ReplyBody;
use super::heads::on_its_own;
use super::key::{Identity, Key, Print};
use crate::lease::Lease;
use crate::life::Life;

/// One answer of Vault, kept for one identity.
pub(super) struct Entry {
    pub key: Key,
    pub identity: Identity,
    /// The canonical path, for invalidation.
    pub resource: Box<str>,
    pub status: StatusCode,
    /// As a hit sends them; `Age` aside, which is set then.
    headers: Arc<HeaderMap>,
    body: Bytes,
    /// The numbers in the body that say how many seconds are left.
    countdowns: Box<[Range<usize>]>,
    /// When the request that brought it went out.
    pub asked_at: Instant,
    pub stay: Stay,
    /// How to ask again.
    pub replay: Replay,
    /// The lease's id, for revocations that name it.
    pub lease_print: Option<Print>,
    /// The last client-forced refresh, in milliseconds after `asked_at`.
    refreshed: AtomicU64,
}

/// Until when an entry may be served.
pub(super) enum Stay {
    Leased(Arc<Lease>),
    Static(Static),
}

pub(super) struct Static {
    pub ttl: Duration,
    /// When Vault rotates the value: not served from then on.
    pub hard_end: Option<Instant>,
    /// The end of the caller's token, where that is known.
    pub owner: Option<Arc<Life>>,
    /// Of what was fetched by Leasehold's own token: the login. Another login's entries are asked for again.
    pub generation: Option<u64>,
    /// In milliseconds after `asked_at`, before when it is not asked for again; `RUNNING` while it is.
    pub next_asking: AtomicU64,
}

/// The request that made an entry, without the token where that is Leasehold's own.
pub(super) struct Replay {
    pub method: Method,
    pub target: PathAndQuery,
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    pub body: Bytes,
}

/// What looking at an entry's age says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// May be served once more while it is asked for again.
    Due,
    /// Not to be served.
    Over,
}

impl Entry {
    #[expect(
        clippy::too_many_arguments,
        reason = "an entry is made in one place, of these parts"
    )]
    pub(super) fn new(
        key: Key,
        identity: Identity,
        resource: &str,
        status: StatusCode,
        headers: Arc<HeaderMap>,
        body: &[u8],
        countdowns: Vec<Range<usize>>,
        asked_at: Instant,
        stay: Stay,
        replay: Replay,
        lease_print: Option<Print>,
    ) -> Self {
        let body = Bytes::copy_from_slice(body);
        let replay = replay.on_its_own();
        let refreshed = AtomicU64::new(0);
        let resource = resource.into();
        let countdowns = countdowns.into_boxed_slice();
        Self {
            key,
            identity,
            resource,
            status,
            headers,
            body,
            countdowns,
            asked_at,
            stay,
            replay,
            lease_print,
            refreshed,
        }
    }

    /// Bytes of body and key, as `max_size` counts them, with a flat share for the rest.
    pub(super) fn weight(&self) -> u64 {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let bytes =
            self.body.len() + self.resource.len() + self.replay.body.len() + headers + OVERHEAD;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// `min_remaining` is what a leased answer must still have.
    pub(super) fn freshness(
        &self,
        now: Instant,
        generation: u64,
        min_remaining: Duration,
    ) -> Freshness {
        match &self.stay {
            Stay::Leased(lease) => {
                // Whole seconds go out; what has less than one is not handed out.
                let least = min_remaining.max(Duration::from_secs(1));
                if lease.remaining(now) >= least {
                    Freshness::Fresh
                } else {
                    Freshness::Over
                }
            }
            Stay::Static(stay) => stay.freshness(self.asked_at, now, generation),
        }
    }

    /// True for the one who shall ask again for a static answer that is due.
    pub(super) fn begins_asking(&self, now: Instant) -> bool {
        let Stay::Static(stay) = &self.stay else {
            return false;
        };
        let next = stay.next_asking.load(Ordering::Relaxed);
        next <= self.age_millis(now)
            && stay
                .next_asking
                .compare_exchange(next, RUNNING, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// It brought nothing; the next one asks after a while, `hint` at least.
    pub(super) fn asking_failed(&self, now: Instant, hint: Option<Duration>, random: f64) {
        let Stay::Static(stay) = &self.stay else {
            return;
        };
        let wait = (stay.ttl / 32).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        let wait = wait.mul_f64(1.0 - 0.5 * random.clamp(0.0, 1.0));
        let wait = wait.max(hint.unwrap_or_default());
        let next = self.age_millis(now.checked_add(wait).unwrap_or(now));
        stay.next_asking.store(next, Ordering::Relaxed);
    }

    fn age_millis(&self, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.asked_at).as_millis();
        u64::try_from(millis).unwrap_or(RUNNING - 1)
    }

    /// True at most once a second: a client's `no-cache` is worth one round trip, not a hundred.
    pub(super) fn may_refresh(&self, now: Instant) -> bool {
        let millis = self.age_millis(now);
        let last = self.refreshed.load(Ordering::Relaxed);
        millis.saturating_sub(last) >= 1_000
            && self
                .refreshed
                .compare_exchange(last, millis, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The stored bytes with the seconds really left, `Age` and `X-Cache: HIT`; hyper adds `Date`.
    pub(super) fn answer(&self, now: Instant) -> Response<ReplyBody> {
        let left = match &self.stay {
            Stay::Leased(lease) => {
                lease.touch(now);
                Some(lease.remaining(now))
            }
            Stay::Static(stay) => stay.hard_end.map(|end| end.saturating_duration_since(now)),
        };
        let body = match left {
            Some(left) if !self.countdowns.is_empty() => self.counted_down(left.as_secs()),
            _ => self.body.clone(),
        };
        let mut response = Response::new(ReplyBody::Full(body));
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        if let Some(age) = response.headers_mut().get_mut(AGE) {
            *age = HeaderValue::from(now.saturating_duration_since(self.asked_at).as_secs());
        }
        response
    }

    fn counted_down(&self, seconds: u64) -> Bytes {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(seconds).as_bytes();
        let mut body = BytesMut::with_capacity(self.body.len() + digits.len());
        let mut at = 0;
        for place in &self.countdowns {
            body.extend_from_slice(self.body.get(at..place.start).unwrap_or_default());
            body.extend_from_slice(digits);
            at = place.end;
        }
        body.extend_from_slice(self.body.get(at..).unwrap_or_default());
        body.freeze()
    }
}

impl Replay {
    fn on_its_own(self) -> Self {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), on_its_own(value)));
        Self {
            method: self.method,
            target: self.target.as_str().parse().unwrap_or(self.target),
            headers: headers.collect(),
            body: Bytes::copy_from_slice(&self.body),
        }
    }
}

impl Static {
    fn freshness(&self, asked_at: Instant, now: Instant, generation: u64) -> Freshness {
        if self.owner.as_ref().is_some_and(|owner| owner.is_over(now))
            || self.hard_end.is_some_and(|end| end <= now)
        {
            return Freshness::Over;
        }
        let age = now.saturating_duration_since(asked_at);
        if age < self.ttl && self.generation.is_none_or(|own| own == generation) {
            Freshness::Fresh
        } else if age < self.ttl + self.ttl / 4 {
            Freshness::Due
        } else {
            Freshness::Over
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// What an entry costs beside its texts: the structs, the indexes, the allocator.
const OVERHEAD: usize = 400;
const RUNNING: u64 = u64::MAX;
/// Between two askings that failed; some eight fit into the time in which an answer is due.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
pub(super) mod tests {
    use http::header::{CONTENT_LENGTH, DATE};

    use super::super::heads::Heads;
    use super::super::key::{Keyer, Op};
    use super::*;
    use crate::lease::What;
    use crate::secret::Secret;

    fn entry(body: &'static str, countdowns: Vec<Range<usize>>, stay: Stay) -> Entry {
        let key = Keyer::new().key(Identity::AutoAuth, Op::Read, None, "a", None, b"");
        let replay = Replay {
            method: Method::GET,
            target: PathAndQuery::from_static("/v1/a"),
            headers: Box::default(),
            body: Bytes::new(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            DATE,
            HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"),
        );
        headers.insert("x-other", HeaderValue::from_static("kept"));
        Entry::new(
            key,
            Identity::AutoAuth,
            "a",
            StatusCode::OK,
            Heads::default().of_hit(&headers),
            body.as_bytes(),
            countdowns,
            Instant::now(),
            stay,
            replay,
            None,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_holds_on_to_no_buffer_of_a_connection() {
        let buffer = Bytes::from(vec![b'a'; 8192]);
        let view = || buffer.slice(100..110);
        let value = || HeaderValue::from_maybe_shared(view()).unwrap();
        let path = Bytes::from(vec![b'/'; 8192]);
        let replay = Replay {
            method: Method::GET,
            target: PathAndQuery::from_maybe_shared(path.slice(..10)).unwrap(),
            headers: [(CONTENT_LENGTH, value())].into(),
            body: view(),
        };
        let headers = HeaderMap::from_iter([(http::header::SERVER, value())]);
        let entry = Entry::new(
            Keyer::new().key(Identity::AutoAuth, Op::Read, None, "a", None, b""),
            Identity::AutoAuth,
            "a",
            StatusCode::OK,
            Heads::default().of_hit(&headers),
            &view(),
            Vec::new(),
            Instant::now(),
            lease(10),
            replay,
            None,
        );
        drop(headers);
        assert_eq!(entry.body, view());
        assert_eq!(entry.headers["server"], "aaaaaaaaaa");
        assert_eq!(entry.replay.target, "//////////");
        assert!(buffer.is_unique());
        assert!(path.is_unique());
    }

    /// A static entry of its own key, with a body of `size` bytes.
    pub(in super::super) fn static_entry(resource: &str, size: usize) -> Arc<Entry> {
        static KEYER: std::sync::OnceLock<Keyer> = std::sync::OnceLock::new();
        let keyer = KEYER.get_or_init(Keyer::new);
        let stay = Stay::Static(Static {
            ttl: Duration::from_secs(100),
            hard_end: None,
            owner: None,
            generation: Some(1),
            next_asking: AtomicU64::new(0),
        });
        let mut entry = entry("", vec![], stay);
        entry.key = keyer.key(Identity::AutoAuth, Op::Read, None, resource, None, b"");
        entry.resource = resource.into();
        entry.body = Bytes::from(vec![b'x'; size]);
        Arc::new(entry)
    }

    fn lease(seconds: u64) -> Stay {
        let ttl = Duration::from_secs(seconds);
        let what = What::Secret {
            lease_id: Secret::new("id"),
        };
        Stay::Leased(Arc::new(Lease::new(
            1,
            what,
            Secret::new("t"),
            None,
            "a".into(),
            true,
            ttl,
            Instant::now() + ttl,
            None,
        )))
    }

    #[tokio::test(start_paused = true)]
    async fn a_hit_says_what_is_really_left_and_nothing_else_changes() {
        let body = r#"{"lease_duration":3600,"data":{"lease_duration":3600}}"#;
        let number = 18..22;
        let entry = entry(body, vec![number], lease(3600));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        let answer = entry.answer(Instant::now());
        assert_eq!(answer.headers()["age"], "1");
        assert_eq!(answer.headers()["x-cache"], "HIT");
        assert_eq!(answer.headers()["x-other"], "kept");
        assert!(!answer.headers().contains_key(DATE));
        let ReplyBody::Full(bytes) = answer.into_body() else {
            panic!("not whole")
        };
        assert_eq!(
            bytes,
            r#"{"lease_duration":3598,"data":{"lease_duration":3600}}"#
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_over_before_it_says_zero() {
        let entry = entry("{}", vec![], lease(4));
        let freshness = |at| entry.freshness(at, 0, Duration::ZERO);
        assert_eq!(freshness(Instant::now()), Freshness::Fresh);
        tokio::time::advance(Duration::from_millis(3_001)).await;
        assert_eq!(freshness(Instant::now()), Freshness::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_static_answer_ages_and_a_new_login_makes_it_due() {
        let stay = Stay::Static(Static {
            ttl: Duration::from_secs(100),
            hard_end: None,
            owner: None,
            generation: Some(1),
            next_asking: AtomicU64::new(0),
        });
        let entry = entry("{}", vec![], stay);
        let freshness = |generation| entry.freshness(Instant::now(), generation, Duration::ZERO);
        assert_eq!(freshness(1), Freshness::Fresh);
        assert_eq!(freshness(2), Freshness::Due);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(freshness(1), Freshness::Due);
        tokio::time::advance(Duration::from_secs(25)).await;
        assert_eq!(freshness(1), Freshness::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_again_and_after_a_failure_nobody_for_a_while() {
        let entry = static_entry("a", 10);
        let begins = || entry.begins_asking(Instant::now());
        assert!(begins() && !begins());
        entry.asking_failed(Instant::now(), None, 0.0);
        tokio::time::advance(Duration::from_millis(3_124)).await;
        assert!(!begins());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(begins() && !begins());
        entry.asking_failed(Instant::now(), Some(Duration::from_secs(60)), 1.0);
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert!(!begins());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(begins());
    }

    #[tokio::test(start_paused = true)]
    async fn a_forced_refresh_is_granted_once_a_second() {
        let entry = entry("{}", vec![], lease(60));
        assert!(
            !entry.may_refresh(Instant::now()),
            "it was fetched just now"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(entry.may_refresh(Instant::now()));
        assert!(!entry.may_refresh(Instant::now()));
    }
}
