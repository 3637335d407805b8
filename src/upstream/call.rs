//! Leasehold's own small JSON calls, and the good answers to them.

use std::fmt;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::refusal;
use crate::secret::Secret;

/// One of Leasehold's own calls.
pub struct Call<'a> {
    pub method: Method,
    /// With its leading `/v1/`, percent-encoded.
    pub path: &'a str,
    pub token: Option<&'a Secret>,
    /// `None`: the configured namespace, if there is one.
    pub namespace: Option<&'a str>,
    /// JSON text. Plain bytes, since it holds credentials and must not go through a `Value`'s many copies.
    pub body: Option<Bytes>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub place: Place,
    /// What is not sent by then is not sent at all: it would come too late to be of use, or do harm.
    pub not_after: Option<Instant>,
}

/// How a call comes to its place in the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    InTurn,
    /// In front of all others: for the token that those need.
    First,
    Taken,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            token: None,
            namespace: None,
            body: None,
            headers: Vec::new(),
            place: Place::InTurn,
            not_after: None,
        }
    }

    #[must_use]
    pub fn not_after(mut self, at: Option<Instant>) -> Self {
        self.not_after = at;
        self
    }

    /// See [`Budget::acquire_first`](super::Budget::acquire_first).
    #[must_use]
    pub fn first(mut self) -> Self {
        self.place = Place::First;
        self
    }

    /// Its place was taken by [`Budget::take_spare`](super::Budget::take_spare).
    #[must_use]
    pub fn placed(mut self) -> Self {
        self.place = Place::Taken;
        self
    }

    #[must_use]
    pub fn token(mut self, token: &'a Secret) -> Self {
        self.token = Some(token);
        self
    }

    #[must_use]
    pub fn namespace(mut self, namespace: Option<&'a str>) -> Self {
        self.namespace = namespace;
        self
    }

    #[must_use]
    pub fn body(mut self, json: impl Into<Bytes>) -> Self {
        self.body = Some(json.into());
        self
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("path", &refusal::shown_path(self.path))
            .finish_non_exhaustive()
    }
}

/// A good (2xx) answer to one of our own calls, read whole.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
    /// When the request went out: lifetimes in the answer count from here, so that they are never
    /// thought longer than they are.
    pub asked_at: Instant,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
