//! To Vault and back: everything as it came, but for the headers that belong to one connection, and the token
//! that Leasehold lends.

use std::task::{Context, Poll};

use http::header::{
    CONNECTION, EXPECT, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Request, Response};
use tower::Service;

use crate::cache::Caller;
use crate::error::{Error, Kind, Result};
use crate::tasks::Later;
use crate::upstream::{self, Upstream, UpstreamBody};
use crate::vault::headers::X_VAULT_TOKEN;

/// See the module's text.
#[derive(Debug, Clone)]
pub(super) struct Forward {
    upstream: Upstream,
}

impl Forward {
    pub(super) fn new(upstream: Upstream) -> Self {
        Self { upstream }
    }
}

impl Service<Request<upstream::Body>> for Forward {
    type Response = Response<UpstreamBody>;
    type Error = Error;
    type Future = Later<Result<Response<UpstreamBody>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<upstream::Body>) -> Self::Future {
        let upstream = self.upstream.clone();
        let lent = lend(&mut request);
        Box::pin(async move {
            lent?;
            let mut response = upstream.send(request).await?;
            drop_hop_by_hop(response.headers_mut());
            Ok(response)
        })
    }
}

/// Puts Leasehold's own token on a request that goes on its behalf.
fn lend(request: &mut Request<upstream::Body>) -> Result<()> {
    let Some(Caller::AutoAuth(token)) = request.extensions_mut().remove::<Caller>() else {
        return Ok(());
    };
    let value = token.secret.to_header().ok_or_else(|| {
        Error::new(
            Kind::Internal,
            "the token of the login holds characters no header can carry",
        )
    })?;
    request.headers_mut().insert(X_VAULT_TOKEN, value);
    Ok(())
}

/// A caller's request without what belongs to its connection. This comes before everything that reads
/// headers: were `Connection: X-Vault-Namespace` heeded only on the way out, the cache would file Vault's
/// answer under a namespace that Vault was never told.
pub(super) fn without_hop_by_hop<B>(mut request: Request<B>) -> Request<B> {
    let headers = request.headers_mut();
    drop_hop_by_hop(headers);
    // Answered at our own edge, where the body is read.
    if headers.keys().any(|name| *name == EXPECT) {
        headers.remove(EXPECT);
    }
    request
}

/// Headers of one connection (RFC 9110 §7.6.1): those listed there and those that `Connection` names.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    // Most have none: looking through the names once is cheaper than ten look-ups.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_connection_names_goes_and_the_rest_stays_in_order() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade, HTTP2-Settings"),
            ("connection", "x-mine"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("x-mine", "1"),
            ("proxy-authorization", "Basic x"),
            ("x-kept", "1"),
            ("x-kept", "2"),
            ("keep-alive", "5"),
        ] {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_static(value));
        }
        drop_hop_by_hop(&mut headers);
        let left: Vec<&str> = headers
            .get_all("x-kept")
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        assert_eq!((headers.len(), left), (2, vec!["1", "2"]));
    }
}
