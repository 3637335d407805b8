//! Passing through what is not cached, and letting its effect happen before the answer goes back.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::body::ReplyBody;
use super::effect::{Effect, Pending};
use super::policy;
use super::{Caller, Room, internal};
use crate::error::{Error, Kind, Result};
use crate::upstream;

impl Room {
    /// Forwards what is not cached, and lets its effect happen before the answer goes back.
    pub(super) async fn pass(
        self: &Arc<Self>,
        request: Request<upstream::Body>,
        effect: Effect,
        caller: &Caller,
    ) -> Result<Response<ReplyBody>> {
        self.metrics.cache_bypass();
        if effect.is_sweeping() {
            return self.pass_to_its_end(request, effect, caller).await;
        }
        self.pass_now(request, effect, caller).await
    }

    /// In a task of its own: a caller that hangs up does not keep a revocation from being done, or us from
    /// hearing whether it was.
    async fn pass_to_its_end(
        self: &Arc<Self>,
        request: Request<upstream::Body>,
        effect: Effect,
        caller: &Caller,
    ) -> Result<Response<ReplyBody>> {
        let (tell, answer) = oneshot::channel();
        let (room, caller) = (Arc::clone(self), caller.clone());
        self.tasks.spawn("revocation", async move {
            let passed = room.pass_now(request, effect, &caller).await;
            // A caller that has left needs no answer.
            let _left = tell.send(passed);
        });
        answer
            .await
            .unwrap_or_else(|_| Err(internal("a revocation ended without an answer")))
    }

    async fn pass_now(
        self: &Arc<Self>,
        request: Request<upstream::Body>,
        effect: Effect,
        caller: &Caller,
    ) -> Result<Response<ReplyBody>> {
        let asked_at = Instant::now();
        let pending = Pending::new(Arc::clone(self), effect.clone());
        let answer = self.forward(request).await;
        match &answer {
            Ok(response) => pending.answered(response.status()),
            Err(error) => pending.failed(error),
        }
        if !effect.needs_answer() {
            return answer;
        }
        self.read_answer(answer?, &effect, asked_at, caller).await
    }

    /// Takes from an answer what only it can tell.
    async fn read_answer(
        &self,
        response: Response<ReplyBody>,
        effect: &Effect,
        asked_at: Instant,
        caller: &Caller,
    ) -> Result<Response<ReplyBody>> {
        let is_small = http_body::Body::size_hint(response.body())
            .upper()
            .is_some_and(|size| size <= LARGEST_READ)
            || policy::is_readable(response.headers());
        if !response.status().is_success() || !is_small {
            return Ok(response);
        }
        let (mut head, body) = response.into_parts();
        let limit = usize::try_from(LARGEST_READ).unwrap_or(usize::MAX);
        let body = timeout(READ_DEADLINE, Limited::new(body, limit).collect()).await;
        let body = match body {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(_)) | Err(_) => {
                return Err(Error::new(
                    Kind::Unreachable,
                    format!(
                        "the answer of Vault at {} broke off",
                        self.upstream.address()
                    ),
                ));
            }
        };
        self.read_effect(effect, &body, asked_at, caller);
        head.headers.remove(http::header::TRANSFER_ENCODING);
        Ok(Response::from_parts(head, ReplyBody::Full(body)))
    }
}

const LARGEST_READ: u64 = 1024 * 1024;
const READ_DEADLINE: Duration = Duration::from_secs(60);
