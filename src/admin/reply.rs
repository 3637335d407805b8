//! Answers of our own: JSON, and errors in Vault's shape.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;

use crate::error::Error;

pub(super) type Reply = Response<Full<Bytes>>;

pub(super) fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(text) => with_type(StatusCode::OK, JSON, text),
        Err(_) => refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer could not be written as JSON; this is a bug of Leasehold",
        ),
    }
}

pub(super) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Bytes>,
) -> Reply {
    let mut reply = Response::new(Full::new(text.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

pub(super) fn refused(status: StatusCode, reason: &str) -> Reply {
    with_type(status, JSON, json!({ "errors": [reason] }).to_string())
}

pub(super) fn failed(error: &Error) -> Reply {
    let mut reply = refused(error.kind().status(), &error.to_string());
    if let Some(wait) = error.wait_hint() {
        reply
            .headers_mut()
            .insert(RETRY_AFTER, wait.as_secs().max(1).into());
    }
    reply
}

pub(super) fn not_found(all: &str) -> Reply {
    let reason = format!("there is no such endpoint on this listener; there are: {all}");
    refused(StatusCode::NOT_FOUND, &reason)
}

pub(super) fn wrong_method(methods: &[Method]) -> Reply {
    let all: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let reason = format!("wrong method for this endpoint; use {}", all.join(" or "));
    let mut reply = refused(StatusCode::METHOD_NOT_ALLOWED, &reason);
    if let Ok(allow) = HeaderValue::from_str(&all.join(", ")) {
        reply.headers_mut().insert(ALLOW, allow);
    }
    reply
}

pub(super) const JSON: &str = "application/json";
