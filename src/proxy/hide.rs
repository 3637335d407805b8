//! Callers may ask about the token that Leasehold lends them, but do not get to see it: in answers to
//! look-ups and renewals its id and accessor are there, but empty (some clients need the fields).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;

use crate::cache::{Caller, Errand, ReplyBody};
use crate::error::{Error, Kind, Result};
use crate::token::Token;
use crate::vault::headers::X_VAULT_WRAP_TTL;
use crate::vault::path::Kind as Call;

/// May the answer bring up the token that the request goes by?
pub(super) fn may_show(errand: &Errand) -> bool {
    errand
        .path
        .as_ref()
        .is_some_and(|path| matches!(path.kind(), Call::TokenLookup | Call::TokenRenew(_)))
}

/// The token that must not show in the answer, where the request could bring it up. Such an answer has to be
/// readable, so the request goes without `Accept-Encoding`.
///
/// # Errors
/// `NotAdmitted` for an answer that Vault should wrap: it could not be looked into.
pub(super) fn to_hide(errand: &mut Errand) -> Result<Option<Arc<Token>>> {
    let token = match &errand.caller {
        Caller::AutoAuth(token) if may_show(errand) => Arc::clone(token),
        Caller::AutoAuth(_) | Caller::Own(_) | Caller::Anonymous | Caller::Unclear => {
            return Ok(None);
        }
    };
    let request = &mut errand.request;
    if request.headers().contains_key(X_VAULT_WRAP_TTL) {
        return Err(Error::new(
            Kind::NotAdmitted(StatusCode::FORBIDDEN),
            "answers about Leasehold's own token are not wrapped; leave out X-Vault-Wrap-TTL, or send a \
             token of your own",
        ));
    }
    request.headers_mut().remove(ACCEPT_ENCODING);
    Ok(Some(token))
}

/// The answer without the token and its accessor.
///
/// # Errors
/// `BadAnswer` for an answer that cannot be looked into.
pub(super) async fn hide(
    token: &Token,
    response: Response<ReplyBody>,
) -> Result<Response<ReplyBody>> {
    let (mut head, body) = response.into_parts();
    if http_body::Body::is_end_stream(&body) {
        return Ok(Response::from_parts(head, body));
    }
    let body = timeout(DEADLINE, Limited::new(body, LARGEST).collect()).await;
    let body = match body {
        Ok(Ok(body)) if is_plain(&head.headers) => body.to_bytes(),
        Ok(_) | Err(_) => {
            return Err(Error::new(
                Kind::BadAnswer,
                "Vault's answer about Leasehold's own token broke off or cannot be read, so it is not shown",
            ));
        }
    };
    let mut body = without(&body, token.secret.expose());
    if let Some(accessor) = &token.accessor {
        body = without(&body, accessor.expose());
    }
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, ReplyBody::Full(body)))
}

fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_none_or(|encoding| encoding == "identity")
}

/// `body` with every JSON string that is `secret` made empty. Tokens and accessors hold nothing that JSON escapes.
fn without(body: &Bytes, secret: &str) -> Bytes {
    let quoted = format!("\"{secret}\"");
    let quoted = quoted.as_bytes();
    let places: Vec<usize> = body
        .windows(quoted.len())
        .enumerate()
        .filter(|(_, window)| *window == quoted)
        .map(|(place, _)| place)
        .collect();
    if secret.is_empty() || places.is_empty() {
        return body.clone();
    }
    let mut left = BytesMut::with_capacity(body.len());
    let mut at = 0;
    for place in places {
        left.extend_from_slice(body.get(at..place).unwrap_or_default());
        left.extend_from_slice(b"\"\"");
        at = place + quoted.len();
    }
    left.extend_from_slice(body.get(at..).unwrap_or_default());
    left.freeze()
}

const DEADLINE: Duration = Duration::from_secs(30);
const LARGEST: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_that_is_the_secret_is_emptied_and_nothing_else_changes() {
        let body = Bytes::from_static(
            br#"{"data":{"id":"s.x","accessor":"a","note":"s.x!"}, "auth":{"client_token":"s.x"}}"#,
        );
        let left = without(&body, "s.x");
        assert_eq!(
            left,
            r#"{"data":{"id":"","accessor":"a","note":"s.x!"}, "auth":{"client_token":""}}"#
        );
        assert_eq!(without(&body, ""), body);
        assert_eq!(without(&body, "y"), body);
    }
}
