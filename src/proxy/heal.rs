//! A 403 to our own token: is the token dead, or is it just not allowed?
//!
//! One look-up of the token, shared by all who wonder, tells. A dead token means one shared login and, for
//! a plain read, one replay with the new token; a live one means that Vault's answer stands.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use tower::{Service, ServiceExt};

use super::forward::Forward;
use crate::cache::Caller;
use crate::error::{Error, Result};
use crate::tasks::Later;
use crate::token::Token;
use crate::upstream::{self, UpstreamBody};
use crate::vault::path::is_plain_read;

/// Whoever holds the auto-auth token can find out whether it is dead.
pub trait Suspect: Send + Sync + 'static {
    /// Resolves, within a deadline of its own, to a newer token if that of `generation` was dead, else to
    /// nothing.
    fn check(&self, generation: u64) -> Later<Option<Arc<Token>>>;
}

/// See the module's text.
#[derive(Clone)]
pub(super) struct Heal {
    below: Forward,
    suspect: Arc<dyn Suspect>,
}

impl Heal {
    pub(super) fn new(below: Forward, suspect: Arc<dyn Suspect>) -> Self {
        Self { below, suspect }
    }
}

impl Service<Request<upstream::Body>> for Heal {
    type Response = Response<UpstreamBody>;
    type Error = Error;
    type Future = Later<Result<Response<UpstreamBody>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<upstream::Body>) -> Self::Future {
        let Some(Caller::AutoAuth(token)) = request.extensions().get::<Caller>() else {
            return self.below.call(request);
        };
        let generation = token.generation;
        let again = copy_of_plain_read(&request);
        let sending = self.below.call(request);
        let below = self.below.clone();
        let suspect = Arc::clone(&self.suspect);
        Box::pin(async move {
            let response = sending.await?;
            if response.status() != StatusCode::FORBIDDEN {
                return Ok(response);
            }
            match again.zip(suspect.check(generation).await) {
                Some((mut again, newer)) => {
                    // Its place among the connections to Vault is what the replay needs: with all of them
                    // held by refusals that wait for a place, nobody would ever get one.
                    drop(response);
                    again.extensions_mut().insert(Caller::AutoAuth(newer));
                    below.oneshot(again).await
                }
                None => Ok(response),
            }
        })
    }
}

/// Only what creates nothing, and has no body, may be sent a second time.
fn copy_of_plain_read(request: &Request<upstream::Body>) -> Option<Request<upstream::Body>> {
    let is_read = matches!(request.method().as_str(), "GET" | "HEAD" | "LIST" | "SCAN");
    let upstream::Body::Empty = request.body() else {
        return None;
    };
    if !is_read || !is_plain_read(request.uri().path()) {
        return None;
    }
    let mut copy = Request::new(upstream::Body::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
