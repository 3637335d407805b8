//! The way of a request, from the listener's edge to the pooled client, as one chain.
//!
//! `stack` is the outer part, one per listener: what may come in, local endpoints, on whose behalf. What it
//! ends in is the cache, or `forward` where nothing is cached; `onwards` is what a miss goes through.

mod admission;
mod catch_panic;
mod forward;
mod heal;
mod hide;
mod inject;
mod lent;
mod respond;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use http::{Request, Response, Uri};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt};

pub use admission::Rules;
pub use heal::Suspect;
pub use inject::Inject;
pub use lent::Lent;
pub use respond::error_response;

use crate::cache::{Next, ReplyBody};
use crate::error::Error;
use crate::telemetry::Metrics;
use crate::upstream::{self, Upstream};

/// A request inside the stack, and what comes of it.
pub type Inner = BoxCloneSyncService<Request<upstream::Body>, Response<ReplyBody>, Error>;

/// What a listener serves: every failure has become an answer.
pub type Front = BoxCloneSyncService<Request<upstream::Body>, Response<ReplyBody>, Infallible>;

/// Answers the endpoints that are Leasehold's own; hands back what is not for it.
pub trait Local: Send + Sync + 'static {
    fn is_local(&self, uri: &Uri) -> bool;
    fn answer(&self, request: Request<upstream::Body>) -> crate::tasks::Later<Response<ReplyBody>>;
}

/// Who is told how requests end.
#[derive(Clone)]
pub struct Watch {
    pub metrics: Metrics,
    /// Each error that became an answer.
    pub failed: Arc<dyn Fn(&Error) + Send + Sync>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// One listener's stack, outermost first.
pub fn stack(
    rules: Rules,
    local: Arc<dyn Local>,
    inject: Inject,
    inner: Inner,
    watch: Watch,
) -> Front {
    let chain = ServiceBuilder::new()
        // Turns every error below into Vault's shape, counts the answer, and logs it at DEBUG.
        .layer_fn(move |below| respond::Respond::new(below, watch.clone()))
        // A bug in one request ends that request alone.
        .layer_fn(catch_panic::CatchPanic::new)
        // Who may come in at all; local endpoints too.
        .layer_fn(move |below| admission::Admission::new(below, rules))
        // `/agent/v1/*` goes no further.
        .layer_fn(move |below| LocalFirst {
            local: Arc::clone(&local),
            below,
        })
        // What belongs to the caller's connection ends here: it counts neither for us nor for Vault.
        .map_request(forward::without_hop_by_hop)
        // On whose behalf: the caller's own token or ours, which it gets neither to see nor to end. Outside the
        // cache,
        // whose key needs to know.
        .layer_fn(move |below| inject.clone().before(below))
        .service(inner);
    BoxCloneSyncService::new(chain)
}

/// What a miss goes through: one look at a 403 of our own token, then Vault.
pub fn onwards(upstream: Upstream, suspect: Option<Arc<dyn Suspect>>) -> Next {
    let forward = forward::Forward::new(upstream);
    match suspect {
        Some(suspect) => BoxCloneSyncService::new(heal::Heal::new(forward, suspect)),
        None => BoxCloneSyncService::new(forward),
    }
}

/// The inner end where no `cache` block asks for a cache.
pub fn uncached(next: Next) -> Inner {
    BoxCloneSyncService::new(next.map_response(|response| response.map(ReplyBody::Upstream)))
}

/// Sends local paths to their own answerer.
#[derive(Clone)]
struct LocalFirst<S> {
    local: Arc<dyn Local>,
    below: S,
}

impl<S> Service<Request<upstream::Body>> for LocalFirst<S>
where
    S: Service<Request<upstream::Body>, Response = Response<ReplyBody>, Error = Error>,
    S::Future: Send + 'static,
{
    type Response = Response<ReplyBody>;
    type Error = Error;
    type Future = crate::tasks::Later<Result<Response<ReplyBody>, Error>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Error>> {
        self.below.poll_ready(cx)
    }

    fn call(&mut self, request: Request<upstream::Body>) -> Self::Future {
        if self.local.is_local(request.uri()) {
            let answer = self.local.answer(request);
            return Box::pin(async move { Ok(answer.await) });
        }
        Box::pin(self.below.call(request))
    }
}
