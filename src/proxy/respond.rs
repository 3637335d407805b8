//! Where errors of a request become its answer, in Vault's shape.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::Service;

use super::Watch;
use crate::cache::ReplyBody;
use crate::error::Error;
use crate::upstream;
use crate::vault::headers::X_CACHE;
use crate::vault::path::ApiPath;

/// See the module's text.
#[derive(Clone)]
pub(super) struct Respond<S> {
    below: S,
    watch: Arc<Watch>,
}

impl<S> Respond<S> {
    pub(super) fn new(below: S, watch: Arc<Watch>) -> Self {
        Self { below, watch }
    }
}

impl<S> Service<Request<upstream::Body>> for Respond<S>
where
    S: Service<Request<upstream::Body>, Response = Response<ReplyBody>, Error = Error>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Responding<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Nothing below is ever unready: bounds are kept by waiting in `call`.
        let _always = self.below.poll_ready(cx);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<upstream::Body>) -> Self::Future {
        Responding {
            line: Line::of(&request),
            running: self.below.call(request),
            watch: Arc::clone(&self.watch),
        }
    }
}

pin_project! {
    pub(super) struct Responding<F> {
        #[pin]
        running: F,
        watch: Arc<Watch>,
        line: Option<Line>,
    }
}

impl<F> Future for Responding<F>
where
    F: Future<Output = Result<Response<ReplyBody>, Error>>,
{
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(outcome) = this.running.poll(cx) else {
            return Poll::Pending;
        };
        let response = outcome.unwrap_or_else(|error| {
            this.watch.metrics.failed(error.kind());
            (this.watch.failed)(&error);
            error_response(&error)
        });
        this.watch.metrics.answered(response.status());
        if let Some(line) = this.line.take() {
            line.log(&response);
        }
        Poll::Ready(Ok(response))
    }
}

/// `{"errors": [...]}` with the error's status, and `Retry-After` where waiting may help.
pub fn error_response(error: &Error) -> Response<ReplyBody> {
    let body = serde_json::json!({ "errors": [error.to_string()] }).to_string();
    let mut response = Response::new(ReplyBody::Full(Bytes::from(body)));
    *response.status_mut() = error.kind().status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = error.wait_hint() {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

/// The access log's line, built only where DEBUG is on.
#[derive(Debug)]
struct Line {
    method: Method,
    path: String,
    began: Instant,
}

impl Line {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        tracing::enabled!(tracing::Level::DEBUG).then(|| Self {
            method: request.method().clone(),
            path: ApiPath::parse(request.uri().path(), None)
                .map_or_else(|| "(no API path)".to_owned(), |path| path.shown()),
            began: Instant::now(),
        })
    }

    fn log(self, response: &Response<ReplyBody>) {
        let cache = response.headers().get(X_CACHE);
        tracing::debug!(
            method = %self.method,
            path = %self.path,
            status = response.status().as_u16(),
            cache = cache.and_then(|value| value.to_str().ok()).unwrap_or("-"),
            micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "answered"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::time::Duration;

    #[test]
    fn errors_have_vaults_shape_whatever_they_quote() {
        let error = Error::new(Kind::Unreachable, "no \"answer\"\nfrom there")
            .retry_after(Some(Duration::from_millis(10)));
        let response = error_response(&error);
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["retry-after"], "1");
        let ReplyBody::Full(body) = response.into_body() else {
            panic!("not whole")
        };
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["errors"][0], "no \"answer\"\nfrom there");
    }
}
