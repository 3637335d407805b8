//! A panic in one request becomes an error of that request. Its text is not shown: it may quote what it
//! choked on; the process's panic hook says where it was.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use pin_project_lite::pin_project;
use tower::Service;

use crate::error::{Error, Kind};

/// See the module's text.
#[derive(Debug, Clone)]
pub(super) struct CatchPanic<S> {
    below: S,
}

impl<S> CatchPanic<S> {
    pub(super) fn new(below: S) -> Self {
        Self { below }
    }
}

impl<S, B> Service<Request<B>> for CatchPanic<S>
where
    S: Service<Request<B>, Error = Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Caught<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.below.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let made = catch_unwind(AssertUnwindSafe(|| self.below.call(request)));
        Caught { running: made.ok() }
    }
}

pin_project! {
    /// `None`: it panicked before it began, or has ended.
    pub(super) struct Caught<F> {
        #[pin]
        running: Option<F>,
    }
}

impl<F, T> Future for Caught<F>
where
    F: Future<Output = Result<T, Error>>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(running) = this.running.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(panicked()));
        };
        match catch_unwind(AssertUnwindSafe(|| running.poll(cx))) {
            Ok(poll) => poll,
            Err(_its_text_stays_here) => {
                this.running.set(None);
                Poll::Ready(Err(panicked()))
            }
        }
    }
}

fn panicked() -> Error {
    Error::new(
        Kind::Internal,
        "a bug of Leasehold ended this request; the log says where",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_ends_its_request_with_an_error_that_quotes_nothing() {
        let service = tower::service_fn(|request: Request<&'static str>| async move {
            assert_eq!(*request.body(), "fine", "canary");
            Ok::<_, Error>("answer")
        });
        let service = CatchPanic::new(service);
        assert_eq!(
            service.clone().oneshot(Request::new("fine")).await.unwrap(),
            "answer"
        );
        let error = service.oneshot(Request::new("bad")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        assert!(!error.to_string().contains("canary"));
    }
}
