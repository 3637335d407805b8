//! Who may come in: decided before anything else, for local endpoints as for Vault's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{HeaderName, ORIGIN};
use http::{HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::Service;

use super::hosts::Hosts;
use crate::cache::ReplyBody;
use crate::config;
use crate::error::{Error, Kind};
use crate::upstream;
use crate::vault::headers::X_VAULT_REQUEST;

/// What a listener asks of its callers.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// By which names it may be called.
    pub hosts: Hosts,
    /// `require_request_header`: exactly one `X-Vault-Request: true`, which no web page can send unasked.
    pub require_request_header: bool,
}

impl From<&config::Listener> for Rules {
    fn from(listener: &config::Listener) -> Self {
        Self {
            hosts: Hosts::from(&listener.allowed_hosts),
            require_request_header: listener.require_request_header,
        }
    }
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
    fn refusal<B>(&self, request: &Request<B>) -> Option<Error> {
        if let Some(error) = self.hosts.refusal(request) {
            return Some(error);
        }
        if let Some(error) = of_a_web_page(request) {
            return Some(error);
        }
        if self.require_request_header && !has_request_header(request) {
            return Some(Error::new(
                Kind::NotAdmitted(StatusCode::PRECONDITION_FAILED),
                "this listener asks for the header `X-Vault-Request: true` (require_request_header)",
            ));
        }
        None
    }
}

/// Pages of other sites have no business here: no answer is theirs to read, and no request theirs to send. Only
/// a browser adds these headers, and no page can take them off. What says `same-origin` calls the listener by
/// the name that it came from: whether that name is good is for `Hosts` to say.
fn of_a_web_page<B>(request: &Request<B>) -> Option<Error> {
    let headers = request.headers();
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    let header = match site {
        Some(site) if site != b"none" && site != b"same-origin" => "Sec-Fetch-Site",
        _ if headers.contains_key(ORIGIN) => "Origin",
        _ => return None,
    };
    Some(Error::new(
        Kind::NotAdmitted(StatusCode::FORBIDDEN),
        format!(
            "the header {header} says that a web page is asking: Leasehold serves programs, and a page's \
             own server has to ask in its place"
        ),
    ))
}

fn has_request_header<B>(request: &Request<B>) -> bool {
    let mut values = request.headers().get_all(X_VAULT_REQUEST).iter();
    values.next().is_some_and(|value| value == "true") && values.next().is_none()
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_pages_are_refused_and_programs_are_not() {
        for (headers, refused) in [
            (&[("origin", "https://evil.example")][..], true),
            (&[("origin", "null")], true),
            (&[("origin", "http://localhost:8201")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "Cross-Site")], true),
            // Typed into the address bar.
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin")], false),
            // As Node's fetch.
            (
                &[("sec-fetch-mode", "cors"), ("accept-language", "*")],
                false,
            ),
            (&[("x-forwarded-for", "10.0.0.1")], false),
            (&[], false),
        ] {
            let mut request = Request::new(());
            for (name, value) in headers {
                let value = HeaderValue::from_static(value);
                request.headers_mut().append(*name, value);
            }
            let error = Rules::default().refusal(&request);
            let status = error.map(|error| error.kind().status().as_u16());
            assert_eq!(status, refused.then_some(403), "{headers:?}");
        }
    }

    #[test]
    fn the_request_header_counts_once_and_exactly() {
        let rules = Rules {
            require_request_header: true,
            ..Rules::default()
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
                let value = HeaderValue::from_static(value);
                request.headers_mut().append(X_VAULT_REQUEST, value);
            }
            assert_eq!(rules.refusal(&request).is_none(), admitted, "{values:?}");
            assert!(Rules::default().refusal(&request).is_none());
        }
    }
}
