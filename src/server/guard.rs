//! What stands between hyper and the service: it notes when a request runs, and answers in the place of
//! requests that the wire has refused.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::line::{Line, Running};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The service of one connection. What it guards is always ready, and never called from within itself.
pub(super) struct Guard<S> {
    service: RefCell<S>,
    line: Arc<Line>,
    /// Every request of this connection is answered with 403 and this.
    refusal: Option<Bytes>,
}

impl<S> Guard<S> {
    pub(super) fn new(service: S, line: Arc<Line>, refusal: Option<Bytes>) -> Self {
        Self {
            service: RefCell::new(service),
            line,
            refusal,
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Guard<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answered<B>>;
    type Error = Infallible;
    type Future = Answering<S>;

    fn call(&self, request: Request<Incoming>) -> Answering<S> {
        let (running, flaw) = self.line.begin();
        let refusal = match (&self.refusal, flaw) {
            (Some(reason), _) => Some((StatusCode::FORBIDDEN, reason.clone())),
            (None, Some(flaw)) => {
                tracing::debug!(?flaw, "a request was refused unread");
                Some((flaw.status(), Bytes::from_static(flaw.json().as_bytes())))
            }
            (None, None) => None,
        };
        let answer = match refusal {
            Some((status, reason)) => Answer::Refused { status, reason },
            None => Answer::Called {
                future: self.service.borrow_mut().call(request),
            },
        };
        Answering {
            answer,
            running: Some(running),
        }
    }
}

pin_project! {
    /// A request on its way through the service.
    pub(super) struct Answering<S>
    where
        S: tower::Service<Request<Incoming>>,
    {
        #[pin]
        answer: Answer<S>,
        running: Option<Running>,
    }
}

pin_project! {
    #[project = AnswerProjected]
    enum Answer<S>
    where
        S: tower::Service<Request<Incoming>>,
    {
        Refused { status: StatusCode, reason: Bytes },
        Called { #[pin] future: S::Future },
    }
}

impl<S, B> Future for Answering<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    type Output = Result<Response<Answered<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.answer.project() {
            AnswerProjected::Refused { status, reason } => {
                refusal(*status, reason.clone()).map(Either::Right)
            }
            AnswerProjected::Called { future } => match ready!(future.poll(cx)) {
                Ok(response) => response.map(Either::Left),
            },
        };
        let running = this.running.take();
        if running.as_ref().is_some_and(Running::is_last) {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response.map(|body| Answered { body, running })))
    }
}

pin_project! {
    /// The body of an answer; while it lives, its request counts as running.
    pub struct Answered<B> {
        #[pin]
        body: Either<B, Full<Bytes>>,
        running: Option<Running>,
    }
}

impl<B> Body for Answered<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for Answered<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}

fn refusal(status: StatusCode, reason: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reason));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
