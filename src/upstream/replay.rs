//! Sending a second time: what may be, and after what.

use std::error::Error as _;

use http::Request;
use hyper_util::client::legacy;

use super::Body;
use crate::vault::path::is_plain_read;

/// A second copy of a request that may safely be sent twice.
pub(super) fn spare_copy(parts: &http::request::Parts, body: &Body) -> Option<Request<Body>> {
    let is_read = matches!(
        parts.method.as_str(),
        "GET" | "HEAD" | "LIST" | "OPTIONS" | "SCAN"
    );
    // Reading these may create a credential.
    let may_mint = !is_plain_read(parts.uri.path());
    let Body::Empty = body else { return None };
    if !is_read || may_mint {
        return None;
    }
    let mut copy = Request::new(Body::Empty);
    *copy.method_mut() = parts.method.clone();
    *copy.uri_mut() = parts.uri.clone();
    *copy.headers_mut() = parts.headers.clone();
    Some(copy)
}

/// The connection ended before one byte of an answer came.
pub(super) fn broke_before_answering(error: &legacy::Error) -> bool {
    if error.is_connect() {
        return false;
    }
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_closed() || error.is_canceled())
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::BrokenPipe
                    // TLS that ended without saying so.
                    | std::io::ErrorKind::UnexpectedEof
            );
        }
        source = error.source();
    }
    false
}
