//! Who may come in: decided before anything else, for local endpoints as for Vault's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::Service;

use crate::cache::ReplyBody;
use crate::error::{Error, Kind};
use crate::upstream;
use crate::vault::headers::X_VAULT_REQUEST;

/// What a listener asks of its callers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// `require_request_header`: exactly one `X-Vault-Request: true`, which no web page can send unasked.
    pub require_request_header: bool,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub(super) struct Admission<S> {
    below: S,
    rules: Rules,
}

impl<S> Admission<S> {
    pub(super) fn new(below: S, rules: Rules) -> Self {
        Self { below, rules }
    }
}

impl<S> Service<Request<upstream::Body>> for Admission<S>
where
    S: Service<Request<upstream::Body>, Response = Response<ReplyBody>, Error = Error>,
{
    type Response = Response<ReplyBody>;
    type Error = Error;
    type Future = Admitting<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.below.poll_ready(cx)
    }

    fn call(&mut self, request: Request<upstream::Body>) -> Self::Future {
        match self.rules.refusal(&request) {
            None => Admitting::Admitted {
                running: self.below.call(request),
            },
            Some(error) => Admitting::Refused { error: Some(error) },
        }
    }
}

pin_project! {
    #[project = AdmittingProjection]
    pub(super) enum Admitting<F> {
        Admitted { #[pin] running: F },
        /// `None` once it has been told.
        Refused { error: Option<Error> },
    }
}

impl<F, T> Future for Admitting<F>
where
    F: Future<Output = Result<T, Error>>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AdmittingProjection::Admitted { running } => running.poll(cx),
            AdmittingProjection::Refused { error } => error
                .take()
                .map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
        }
    }
}

impl Rules {
    fn refusal<B>(self, request: &Request<B>) -> Option<Error> {
        if self.require_request_header && !has_request_header(request) {
            return Some(Error::new(
                Kind::NotAdmitted(StatusCode::PRECONDITION_FAILED),
                "this listener asks for the header `X-Vault-Request: true` (require_request_header)",
            ));
        }
        None
    }
}

fn has_request_header<B>(request: &Request<B>) -> bool {
    let mut values = request.headers().get_all(X_VAULT_REQUEST).iter();
    values.next().is_some_and(|value| value == "true") && values.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_header_counts_once_and_exactly() {
        let rules = Rules {
            require_request_header: true,
        };
        for (values, admitted) in [
            (&["true"][..], true),
            (&[], false),
            (&["True"], false),
            (&["true", "true"], false),
            (&["1"], false),
        ] {
            let mut request = Request::new(());
            for value in values {
                let value = http::HeaderValue::from_static(value);
                request.headers_mut().append(X_VAULT_REQUEST, value);
            }
            assert_eq!(rules.refusal(&request).is_none(), admitted, "{values:?}");
            assert!(Rules::default().refusal(&request).is_none());
        }
    }
}
