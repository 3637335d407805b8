//! The steps of a hit, each for itself, so that `benches/hit.rs` can time them. No part of Leasehold uses this.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tokio::time::Instant;

use super::body::ReplyBody;
use super::entry::{Entry, Replay, Static, Stay};
use super::header_sets::HeaderSets;
use super::key::{Identity, Key, Keyer, Op};
use super::store::Store;
use crate::lease::{Lease, What};
use crate::secret::Secret;

/// A cache with two answers to the same request: one as of KV, and one with a lease.
#[derive(Debug)]
pub struct Steps {
    keyer: Keyer,
    store: Store,
    statics: Key,
    leased: Key,
}

impl Steps {
    /// `digits` is where the body says how many seconds are left.
    pub fn new(path: &str, body: &'static str, digits: std::ops::Range<usize>) -> Self {
        let keyer = Keyer::new();
        let store = Store::new(64 * 1024 * 1024);
        let key = |identity| keyer.key(identity, Op::Read, None, path, None, b"");
        let (statics, leased) = (key(Identity::AutoAuth), key(Identity::Anonymous));
        let entry = |key, stay| {
            let mut headers = HeaderMap::new();
            headers.insert("cache-control", HeaderValue::from_static("no-store"));
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            let replay = Replay {
                method: Method::GET,
                target: http::uri::PathAndQuery::from_static("/v1/secret/data/x"),
                headers: Box::default(),
                body: bytes::Bytes::new(),
            };
            Arc::new(Entry::new(
                key,
                Identity::AutoAuth,
                path,
                StatusCode::OK,
                HeaderSets::default().keep(&headers),
                body.as_bytes(),
                vec![digits.clone()],
                Instant::now(),
                stay,
                replay,
                None,
            ))
        };
        store.insert_static(entry(statics, Stay::Static(forever())));
        let lease = Stay::Leased(Arc::new(lease(path)));
        // Into an empty cache it fits.
        store.insert_leased(&entry(leased, lease)).ok();
        Self {
            keyer,
            store,
            statics,
            leased,
        }
    }

    /// True: the key is that of the answer without a lease.
    pub fn key(&self, path: &str, query: Option<&str>) -> bool {
        let key = self
            .keyer
            .key(Identity::AutoAuth, Op::Read, None, path, query, b"");
        key == self.statics
    }

    /// True: it is there.
    pub fn look_up(&self) -> bool {
        self.store.find(&self.statics).is_some()
    }

    pub fn answer_static(&self) -> Option<Response<ReplyBody>> {
        Some(self.store.find(&self.statics)?.answer(Instant::now()))
    }

    /// With the seconds left put into the body.
    pub fn answer_leased(&self) -> Option<Response<ReplyBody>> {
        Some(self.store.find(&self.leased)?.answer(Instant::now()))
    }
}

fn forever() -> Static {
    Static {
        ttl: LONG,
        hard_end: None,
        owner: None,
        generation: None,
        next_asking: 0.into(),
    }
}

fn lease(path: &str) -> Lease {
    let what = What::Secret {
        lease_id: Secret::new("database/creds/app/x"),
    };
    let (token, end) = (Secret::new("token"), Instant::now() + LONG);
    Lease::new(1, what, token, None, path.to_owned(), true, LONG, end, None)
}

const LONG: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_answers_are_there() {
        let steps = Steps::new("a", r#"{"lease_duration":0}"#, 18..19);
        assert!(steps.key("a", None) && !steps.key("b", None) && steps.look_up());
        let [Some(fixed), Some(counted)] = [steps.answer_static(), steps.answer_leased()] else {
            panic!("an answer is missing");
        };
        let [ReplyBody::Full(fixed), ReplyBody::Full(counted)] =
            [fixed.into_body(), counted.into_body()]
        else {
            panic!("an answer is not whole");
        };
        assert_eq!(fixed, r#"{"lease_duration":0}"#);
        assert!(
            counted.starts_with(br#"{"lease_duration":86"#),
            "{counted:?}"
        );
    }
}
