//! The way of one request: a hit on the spot, a fetch, or past the cache.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::Instant;
use tower::ServiceExt;

use super::body::ReplyBody;
use super::effect::Effect;
use super::entry::{Entry, Freshness};
use super::key::{Identity, Op};
use super::policy::{self, Treatment};
use super::{Ask, Caller, Errand, Room, namespace_of};
use crate::error::Result;
use crate::tasks::Soon;
use crate::upstream;
use crate::vault::headers::{X_CACHE, X_VAULT_NAMESPACE};
use crate::vault::path::ApiPath;

impl Room {
    /// A plain read is looked up on the spot; what has a body to be read first takes longer.
    pub(super) fn answer(
        self: &Arc<Self>,
        mut errand: Errand,
    ) -> Soon<Result<Response<ReplyBody>>> {
        let identity = self.identity(&errand.caller);
        let treatment = self.treatment(&errand);
        match (treatment, identity, errand.request.body()) {
            (Treatment::Shared(op), Some(identity), upstream::Body::Empty) if op.is_read() => {
                match errand.path.take() {
                    Some(path) => self.serve(self.ask(errand, path, op, identity), true),
                    None => Soon::later(Arc::clone(self).pass_on_by(errand)),
                }
            }
            _ => Soon::later(Arc::clone(self).answer_with_body(errand, treatment, identity)),
        }
    }

    async fn answer_with_body(
        self: Arc<Self>,
        mut errand: Errand,
        treatment: Treatment,
        identity: Option<Identity>,
    ) -> Result<Response<ReplyBody>> {
        let is_told_by_body = errand.path.as_ref().is_some_and(ApiPath::is_told_by_body);
        // What nobody here needs to know is passed on as it comes.
        if treatment != Treatment::Through || is_told_by_body {
            let body = std::mem::take(errand.request.body_mut());
            *errand.request.body_mut() = body.read_ahead(LARGEST_KEYED_BODY).await?;
        }
        let (op, share) = match treatment {
            Treatment::Shared(op) => (op, true),
            Treatment::Alone(op) => (op, false),
            Treatment::Through => return self.pass_on_by(errand).await,
        };
        let body = errand.request.body();
        let fits = !matches!(body, upstream::Body::Streamed(_))
            && (!op.is_read() || http_body::Body::is_end_stream(body));
        let Some(identity) = identity.filter(|_| fits) else {
            return self.pass_on_by(errand).await;
        };
        match errand.path.take() {
            Some(path) => {
                self.serve(self.ask(errand, path, op, identity), share)
                    .await
            }
            None => self.pass_on_by(errand).await,
        }
    }

    async fn pass_on_by(self: Arc<Self>, errand: Errand) -> Result<Response<ReplyBody>> {
        let caller = errand.caller.clone();
        match Effect::of(&self, &errand) {
            Some(effect) => self.pass(errand.into_request(), effect, &caller).await,
            // Not Vault's API.
            None => self.forward(errand.into_request()).await,
        }
    }

    fn treatment(&self, errand: &Errand) -> Treatment {
        let (Some(path), request) = (&errand.path, &errand.request) else {
            return Treatment::Through;
        };
        if !request.uri().path().starts_with("/v1/") {
            // An odd spelling that Vault reads as that: understood, but not worth an entry.
            return Treatment::Through;
        }
        policy::treatment(
            &self.settings,
            request.method(),
            request.uri().query(),
            path,
            request.headers(),
        )
    }

    /// What is asked, by its key. Its body, if it has one, has been read.
    fn ask(&self, errand: Errand, path: ApiPath, op: Op, identity: Identity) -> Ask {
        let (parts, body) = errand.request.into_parts();
        let body = match body {
            upstream::Body::Full(bytes) => bytes,
            upstream::Body::Empty | upstream::Body::Streamed(_) => Bytes::new(),
        };
        let raw = parts.uri.path().strip_prefix("/v1/").unwrap_or_default();
        let namespace = namespace_of(&parts.headers);
        let key = self
            .keyer
            .key(identity, op, namespace, raw, parts.uri.query(), &body);
        Ask {
            parts,
            body,
            path,
            op,
            key,
            caller: errand.caller,
            identity,
        }
    }

    /// A hit, or a fetch: shared with others, or alone.
    fn serve(self: &Arc<Self>, ask: Ask, share: bool) -> Soon<Result<Response<ReplyBody>>> {
        let now = Instant::now();
        let Some(entry) = self.store.find(&ask.key) else {
            return Soon::later(Arc::clone(self).fetch(ask, share, None));
        };
        let least = entry.least_remaining(&self.settings.leases);
        // Of a lease no newer answer exists: asking again would make another credential.
        let forced = entry.lease_key().is_none()
            && wants_fresh(&ask.parts.headers)
            && entry.may_refresh(now);
        let generation = self.generation.load(Ordering::Relaxed);
        match entry.freshness(now, generation, least) {
            Freshness::Fresh if !forced => {}
            Freshness::Due if !forced => self.revalidate(&entry),
            Freshness::Fresh | Freshness::Due | Freshness::Over => {
                return Soon::later(Arc::clone(self).fetch(ask, share, Some(entry)));
            }
        }
        let mut response = self.hit(&entry, now);
        let within = ask.parts.headers.get(X_VAULT_NAMESPACE);
        name_namespace(response.headers_mut(), within);
        Soon::now(Ok(response))
    }

    /// Asks Vault. `fallback` is what is there, no longer good enough to be served unasked.
    async fn fetch(
        self: Arc<Self>,
        ask: Ask,
        share: bool,
        fallback: Option<Arc<Entry>>,
    ) -> Result<Response<ReplyBody>> {
        self.metrics.cache_miss();
        let within = ask.parts.headers.get(X_VAULT_NAMESPACE).cloned();
        let answer = if share {
            Arc::clone(&self).fetch_shared(ask).await
        } else {
            Arc::clone(&self).fetch_alone(ask).await
        };
        // The replacement cannot be had: what is not dead yet is better than an error.
        let failed = match &answer {
            Ok(response) => {
                response.status().is_server_error() || response.status().as_u16() == 429
            }
            Err(error) => error.is_retryable(),
        };
        let mut response =
            match fallback.filter(|entry| failed && entry.is_alive_lease(Instant::now())) {
                Some(entry) => self.hit(&entry, Instant::now()),
                None => answer?,
            };
        name_namespace(response.headers_mut(), within.as_ref());
        Ok(response)
    }

    fn hit(&self, entry: &Entry, now: Instant) -> Response<ReplyBody> {
        self.metrics.cache_hit();
        entry.answer(now)
    }

    pub(super) async fn forward(
        &self,
        request: Request<upstream::Body>,
    ) -> Result<Response<ReplyBody>> {
        let response = self.next.clone().oneshot(request).await?;
        Ok(response.map(ReplyBody::Upstream))
    }

    /// Whose the answer would be; `None`: it is for this one request.
    fn identity(&self, caller: &Caller) -> Option<Identity> {
        match caller {
            Caller::AutoAuth(_) => Some(Identity::AutoAuth),
            Caller::Own(token) => {
                let print = self.keyer.print_of(token);
                // Where uses are counted, each request is to cost one, and we none.
                let is_counted = self.tokens.touch(print, Instant::now());
                (!is_counted).then_some(Identity::Token(print))
            }
            Caller::Anonymous => Some(Identity::Anonymous),
            Caller::Unclear => None,
        }
    }
}

/// `Cache-Control: no-cache` (RFC 9111 §5.2.1.4).
fn wants_fresh(headers: &HeaderMap) -> bool {
    headers.get(CACHE_CONTROL).is_some_and(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|part| part.trim().eq_ignore_ascii_case("no-cache"))
        })
    })
}

/// Vault tells whoever names a namespace in a header what was named. Others may have named the one whose answer
/// this is by its path, or with another slash.
fn name_namespace(headers: &mut HeaderMap, asked: Option<&HeaderValue>) {
    match asked.filter(|name| !name.is_empty()) {
        None => {
            headers.remove(X_VAULT_NAMESPACE);
        }
        Some(name) => {
            let is_hit = headers.get(X_CACHE).is_some_and(|said| said == "HIT");
            if is_hit || headers.contains_key(X_VAULT_NAMESPACE) {
                headers.insert(X_VAULT_NAMESPACE, name.clone());
            }
        }
    }
}

/// Request bodies up to this size are read to be part of a key; larger ones are streamed.
const LARGEST_KEYED_BODY: usize = 64 * 1024;
