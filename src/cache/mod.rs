//! The caching service: answers from memory where it may, fetches once for many where it must.
//!
//! It sits between `inject`, which says on whose behalf a request goes, and `forward`. It is always
//! ready; only a miss goes on. The rules are in `policy`; this file is the way of a request through them.

mod answer;
mod apply;
mod body;
mod clear;
mod effect;
mod entry;
mod flight;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod header_sets;
mod keep;
mod key;
mod lead;
mod mounts;
mod pass;
mod policy;
mod replace;
#[doc(hidden)]
pub mod steps;
mod store;
mod tokens;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::time::Instant;
use tower::Service;

pub use body::{Pipe, ReplyBody};
pub use clear::{Clear, Cleared};
use entry::{Entry, Replay, Stay};
use flight::Flights;
#[cfg(any(test, fuzzing))]
pub use fuzzing::fuzz_key;
use header_sets::HeaderSets;
use key::{Identity, Key, Keyer, Op};
use mounts::Mounts;
pub use store::Size;
use store::Store;
use tokens::Tokens;

use crate::config;
use crate::error::{Error, Kind, Result};
use crate::lease::{Scheduler, Tenant};
use crate::secret::Secret;
use crate::tasks::{Later, Soon, Tasks};
use crate::telemetry::Metrics;
use crate::token::{Token, TokenRx};
use crate::upstream::{self, Upstream, UpstreamBody};
use crate::vault::headers::{X_CACHE, X_VAULT_NAMESPACE, X_VAULT_TOKEN};
use crate::vault::path::ApiPath;

/// The way onwards, to Vault. What is to come back is boxed once, here.
pub type Next =
    Arc<dyn Fn(Request<upstream::Body>) -> Later<Result<Response<UpstreamBody>>> + Send + Sync>;

/// A request, and what `inject` has found out about it.
#[derive(Debug)]
pub struct Errand {
    /// Without a token where Leasehold lends its own: `forward` puts that on.
    pub request: Request<upstream::Body>,
    pub caller: Caller,
    /// `None` for what is not under `/v1/`.
    pub path: Option<ApiPath>,
}

impl Errand {
    /// The request as the way onwards takes it, its caller among the extensions.
    pub fn into_request(mut self) -> Request<upstream::Body> {
        self.request.extensions_mut().insert(self.caller);
        self.request
    }
}

/// On whose behalf a request goes.
#[derive(Debug, Clone)]
pub enum Caller {
    /// By Leasehold's own token, which the request's headers do not hold yet.
    AutoAuth(Arc<Token>),
    /// By a token that the caller sent.
    Own(Secret),
    /// Without any.
    Anonymous,
    /// More than one token, or one that is no text: passed on, never cached.
    Unclear,
}

/// What a cache is made of.
pub struct Ingredients {
    pub settings: config::Cache,
    pub next: Next,
    pub upstream: Upstream,
    pub scheduler: Scheduler,
    pub token: TokenRx,
    pub tasks: Tasks,
    pub metrics: Metrics,
    /// Called when Leasehold's own token (of this generation) was revoked through us, or may have been.
    pub own_token_revoked: Arc<dyn Fn(u64, Certainty) + Send + Sync>,
}

/// Has Vault said that it did what a request asks for?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    Certain,
    /// It broke off, or failed on Vault's side.
    Doubtful,
}

/// The service. Clones share one cache.
#[derive(Clone)]
pub struct Cache {
    room: Arc<Room>,
}

struct Room {
    /// For tasks that a trait's `&self` starts.
    me: Weak<Self>,
    settings: config::Cache,
    keyer: Keyer,
    store: Store,
    tokens: Tokens,
    flights: Flights,
    header_sets: HeaderSets,
    mounts: Mounts,
    next: Next,
    upstream: Upstream,
    scheduler: Scheduler,
    token: TokenRx,
    tasks: Tasks,
    metrics: Metrics,
    own_token_revoked: Arc<dyn Fn(u64, Certainty) + Send + Sync>,
    /// The login that is current; static entries of another are asked for again.
    generation: AtomicU64,
    lease_numbers: AtomicU64,
}

/// A request that the cache deals with, its body read.
struct Ask {
    parts: Parts,
    body: Bytes,
    path: ApiPath,
    op: Op,
    key: Key,
    caller: Caller,
    identity: Identity,
}

impl Cache {
    /// Starts the cache's own tasks: following the auto-auth token, sweeping what has ended.
    pub fn start(parts: Ingredients) -> Self {
        let Ingredients {
            settings,
            next,
            upstream,
            scheduler,
            token,
            tasks,
            metrics,
            own_token_revoked,
        } = parts;
        let room = Arc::new_cyclic(|me: &Weak<Room>| Room {
            me: Weak::clone(me),
            keyer: Keyer::new(),
            store: Store::new(settings.max_size),
            settings,
            tokens: Tokens::default(),
            flights: Flights::default(),
            header_sets: HeaderSets::default(),
            mounts: Mounts::default(),
            next,
            upstream,
            scheduler: scheduler.clone(),
            token,
            tasks: tasks.clone(),
            metrics,
            own_token_revoked,
            generation: AtomicU64::new(0),
            lease_numbers: AtomicU64::new(1),
        });
        let tenant: Weak<dyn Tenant> = room.me.clone();
        scheduler.set_tenant(tenant);
        tasks.spawn("cache token", Arc::clone(&room).follow_token());
        tasks.spawn("cache sweep", Arc::clone(&room).sweep());
        Self { room }
    }

    pub fn size(&self) -> Size {
        self.room.store.size()
    }
}

impl Service<Errand> for Cache {
    type Response = Response<ReplyBody>;
    type Error = Error;
    type Future = Soon<Result<Response<ReplyBody>>>;

    /// Always ready: a hit needs nothing from Vault.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, errand: Errand) -> Self::Future {
        self.room.answer(errand)
    }
}

impl Room {
    /// Registers each new auto-auth token and lets the leases of the old one be replaced.
    async fn follow_token(self: Arc<Self>) {
        let mut token = self.token.clone();
        let mut old: Option<Arc<Token>> = None;
        loop {
            let current = token.borrow_and_update().clone();
            if let Some(current) = &current {
                let accessor = current
                    .accessor
                    .as_ref()
                    .map(|text| self.keyer.print_of(text));
                let print = self.keyer.print_of(&current.secret);
                self.tokens
                    .add(print, accessor, None, Arc::clone(&current.life), None);
                self.generation.store(current.generation, Ordering::Relaxed);
                if let Some(old) = old.filter(|old| old.generation != current.generation) {
                    self.scheduler.replace_children_of(&old.life);
                }
            }
            old = current;
            tokio::select! {
                changed = token.changed() => if changed.is_err() { return },
                () = self.tasks.stopping() => return,
            }
        }
    }

    /// Lets go, now and then, of what hangs below tokens that have ended.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
                () = self.tasks.stopping() => return,
            }
            self.tokens.sweep(Instant::now());
            self.drop_dead_leases();
        }
    }
}

impl Ask {
    /// The request as it came, to be sent.
    fn request(&self) -> Request<upstream::Body> {
        let body = match self.body.is_empty() {
            true => upstream::Body::Empty,
            false => upstream::Body::Full(self.body.clone()),
        };
        let mut request = Request::from_parts(self.parts.clone(), body);
        request.extensions_mut().insert(self.caller.clone());
        request
    }

    /// What is needed to ask the same again: no header but those that count for Vault, and no token
    /// where that is Leasehold's own.
    fn replay(&self) -> Replay {
        let is_own = matches!(self.caller, Caller::Own(_));
        let headers = self
            .parts
            .headers
            .iter()
            .filter(|(name, _)| {
                REPLAYED.contains(name)
                    || is_own && (**name == X_VAULT_TOKEN || **name == AUTHORIZATION)
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let target = self
            .parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        Replay {
            method: self.parts.method.clone(),
            target,
            headers,
            body: self.body.clone(),
        }
    }
}

impl Entry {
    fn least_remaining(&self, settings: &config::Leases) -> Duration {
        match &self.stay {
            Stay::Leased(lease) => lease.min_remaining(settings),
            Stay::Static(_) => Duration::ZERO,
        }
    }

    fn is_alive_lease(&self, now: Instant) -> bool {
        matches!(&self.stay, Stay::Leased(lease) if lease.remaining(now) >= Duration::from_secs(1))
    }
}

fn namespace_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(X_VAULT_NAMESPACE)
        .and_then(|value| value.to_str().ok())
}

fn mark_miss(headers: &mut HeaderMap) {
    headers.insert(X_CACHE, HeaderValue::from_static("MISS"));
}

fn internal(what: &str) -> Error {
    Error::new(
        Kind::Internal,
        format!("{what}; this is a bug of Leasehold"),
    )
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Ingredients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingredients").finish_non_exhaustive()
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
const REPLAYED: [HeaderName; 4] = [
    X_VAULT_NAMESPACE,
    http::header::CONTENT_TYPE,
    http::header::ACCEPT,
    crate::vault::headers::X_VAULT_REQUEST,
];
