//! The way of a request, from the listener's edge to the pooled client, as one chain.
//!
//! `stack` is the outer part, one per listener: what may come in, local endpoints, on whose behalf. What it
//! ends in is the cache, or `forward` where nothing is cached; `onwards` is what a miss goes through.

mod admission;
mod catch_panic;
mod forward;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod heal;
mod hide;
mod hosts;
mod inject;
mod lent;
mod respond;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use pin_project_lite::pin_project;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder};

pub use admission::Rules;
#[cfg(any(test, fuzzing))]
pub use fuzzing::fuzz_headers;
pub use heal::Suspect;
pub use hosts::Hosts;
pub use inject::Inject;
pub use lent::Lent;
pub use respond::error_response;

use crate::cache::{Cache, Errand, Next, ReplyBody};
use crate::error::{Error, Result};
use crate::tasks::{Later, Soon};
use crate::telemetry::Metrics;
use crate::upstream::{self, Upstream};

/// Where a request goes from `inject`.
#[derive(Clone)]
pub enum Inner {
    Cached(Cache),
    /// Where no `cache` block asks for one.
    Uncached(Next),
}

/// What a listener serves, whatever it is made of: every failure has become an answer.
pub type Front = BoxCloneSyncService<Request<upstream::Body>, Response<ReplyBody>, Infallible>;

/// Answers the endpoints that are Leasehold's own; hands back what is not for it.
pub trait Local: Send + Sync + 'static {
    fn is_local(&self, uri: &Uri) -> bool;
    fn answer(&self, request: Request<upstream::Body>) -> Later<Response<ReplyBody>>;
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

/// One listener's stack, outermost first. It is always ready, and a hit on its way through it is boxed nowhere.
pub fn stack(
    rules: Rules,
    local: Arc<dyn Local>,
    inject: Inject,
    inner: Inner,
    watch: Watch,
) -> impl Service<
    Request<upstream::Body>,
    Response = Response<ReplyBody>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ Sync
+ 'static {
    let watch = Arc::new(watch);
    ServiceBuilder::new()
        // Turns every error below into Vault's shape, counts the answer, and logs it at DEBUG.
        .layer_fn(move |below| respond::Respond::new(below, Arc::clone(&watch)))
        // A bug in one request ends that request alone.
        .layer_fn(catch_panic::CatchPanic::new)
        // Who may come in at all; local endpoints too.
        .layer_fn(move |below| admission::Admission::new(below, rules.clone()))
        // `/agent/v1/*` goes no further.
        .layer_fn(move |below| LocalFirst {
            local: Arc::clone(&local),
            below,
        })
        // What belongs to the caller's connection ends here: it counts neither for us nor for Vault.
        .map_request(forward::without_hop_by_hop)
        // On whose behalf: the caller's own token or ours, which it gets neither to see nor to end. Outside the
        // cache, whose key needs to know.
        .layer_fn(move |below| inject.clone().before(below))
        .service(inner)
}

/// What a miss goes through: one look at a 403 of our own token, then Vault.
pub fn onwards(upstream: Upstream, suspect: Option<Arc<dyn Suspect>>) -> Next {
    match suspect {
        Some(suspect) => Arc::new(move |request| {
            let (upstream, suspect) = (upstream.clone(), Arc::clone(&suspect));
            Box::pin(heal::healed(upstream, suspect, request))
        }),
        None => Arc::new(move |request| Box::pin(forward::forward(upstream.clone(), request))),
    }
}

impl Service<Errand> for Inner {
    type Response = Response<ReplyBody>;
    type Error = Error;
    type Future = Soon<Result<Response<ReplyBody>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, errand: Errand) -> Self::Future {
        match self {
            Self::Cached(cache) => cache.call(errand),
            Self::Uncached(next) => {
                let answer = next(errand.into_request());
                Soon::later(async move { Ok(answer.await?.map(ReplyBody::Upstream)) })
            }
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cached(_) => "Cached",
            Self::Uncached(_) => "Uncached",
        })
    }
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
{
    type Response = Response<ReplyBody>;
    type Error = Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.below.poll_ready(cx)
    }

    fn call(&mut self, request: Request<upstream::Body>) -> Self::Future {
        if self.local.is_local(request.uri()) {
            let running = self.local.answer(request);
            return Answering::Here { running };
        }
        let running = self.below.call(request);
        Answering::Below { running }
    }
}

pin_project! {
    #[project = AnsweringProjection]
    enum Answering<F> {
        Here { running: Later<Response<ReplyBody>> },
        Below { #[pin] running: F },
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<ReplyBody>>>,
{
    type Output = Result<Response<ReplyBody>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnsweringProjection::Here { running } => running.as_mut().poll(cx).map(Ok),
            AnsweringProjection::Below { running } => running.poll(cx),
        }
    }
}
