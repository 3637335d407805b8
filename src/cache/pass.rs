//! Passing through what is not cached, and letting its effect happen before the answer goes back.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use tokio::time::{Instant, timeout};

use super::body::ReplyBody;
use super::effect::{Effect, Pending};
use super::policy;
use super::{Caller, Room};
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
        if effect.needs_answer() {
            return self.pass_and_read(request, &effect, caller).await;
        }
        let pending = Pending::new(Arc::clone(self), effect);
        let answer = self.forward(request).await;
        match &answer {
            Ok(response) => pending.answered(response.status()),
            Err(error) => pending.failed(error),
        }
        answer
    }

    async fn pass_and_read(
        &self,
        request: Request<upstream::Body>,
        effect: &Effect,
        caller: &Caller,
    ) -> Result<Response<ReplyBody>> {
        let asked_at = Instant::now();
        let response = self.forward(request).await?;
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
