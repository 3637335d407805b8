//! What a call ends in, and how that looks on the wire: key order, error texts and headers as OpenBao's.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, STRICT_TRANSPORT_SECURITY};
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::body::Body;
use super::state::lease::Internal;
use super::state::token::Origin;

pub(super) type Outcome = Result<Answer, Refusal>;

/// What a handler says; who calls it makes leases and tokens of the grants.
pub(super) enum Answer {
    /// 204, or 404 for a read.
    Nothing,
    Reply(Box<Reply>),
    /// A whole reply under another status: a deleted version is 404 with its metadata.
    Coded(StatusCode, Box<Reply>),
    /// A status and JSON content type, no body.
    Bare(StatusCode),
    Raw {
        status: StatusCode,
        content_type: &'static str,
        body: Bytes,
    },
    /// So many bytes that are not JSON.
    Download(u64),
}

#[derive(Default)]
pub(super) struct Reply {
    pub(super) data: Option<Map<String, Value>>,
    pub(super) warnings: Vec<String>,
    pub(super) secret: Option<SecretGrant>,
    pub(super) auth: Option<AuthGrant>,
    pub(super) wrap: Option<WrapInfo>,
    /// A rewrap keeps the first wrapping's TTL and path.
    pub(super) rewrapped: Option<(Duration, String)>,
}

/// A leased secret on its way to the lease store.
#[derive(Default)]
pub(super) struct SecretGrant {
    pub(super) id: String,
    pub(super) renewable: bool,
    pub(super) ttl: Duration,
    pub(super) max_ttl: Duration,
    /// `None`: the duration is a hint and no lease is made, as in KV v1.
    pub(super) internal: Option<Internal>,
}

/// A login or a new token on its way to the token store, and what the answer says of it.
#[derive(Default, Clone)]
pub(super) struct AuthGrant {
    pub(super) client_token: String,
    pub(super) accessor: String,
    pub(super) policies: Vec<String>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) ttl: Duration,
    pub(super) max_ttl: Duration,
    pub(super) period: Duration,
    pub(super) explicit_max_ttl: Duration,
    pub(super) renewable: bool,
    pub(super) num_uses: u64,
    pub(super) is_batch: bool,
    pub(super) orphan: bool,
    pub(super) display_name: String,
    pub(super) entity_id: String,
    pub(super) no_default_policy: bool,
    /// Under which name the identity store knows who logged in.
    pub(super) alias: String,
    pub(super) origin: Origin,
}

#[derive(Serialize, Clone)]
pub(super) struct WrapInfo {
    pub(super) token: String,
    pub(super) accessor: String,
    pub(super) ttl: u64,
    pub(super) creation_time: String,
    pub(super) creation_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) wrapped_accessor: String,
}

impl Answer {
    pub(super) fn data(data: Map<String, Value>) -> Self {
        Self::Reply(Box::new(Reply {
            data: Some(data),
            ..Reply::default()
        }))
    }

    /// `value` is a JSON object.
    pub(super) fn json(value: Value) -> Self {
        let Value::Object(map) = value else {
            return Self::Nothing;
        };
        Self::data(map)
    }

    /// An empty list is a 404.
    pub(super) fn keys(keys: &[String]) -> Self {
        Self::json(serde_json::json!({ "keys": keys }))
    }

    pub(super) fn reply(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }

    pub(super) fn warn(mut self, warning: Option<String>) -> Self {
        if let (Self::Reply(reply), Some(warning)) = (&mut self, warning) {
            reply.warnings.push(warning);
        }
        self
    }
}

/// An error answer. `text` is empty where Vault says only `{"errors":[]}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn silent(status: StatusCode) -> Self {
        Self::new(status, "")
    }

    /// As Go's multierror prints a single error: what the request's handling itself, not a backend, says.
    pub(super) fn listed(status: StatusCode, text: &str) -> Self {
        Self::new(status, format!("1 error occurred:\n\t* {text}\n\n"))
    }

    /// The token is good but may not.
    pub(super) fn denied() -> Self {
        Self::listed(StatusCode::FORBIDDEN, "permission denied")
    }

    /// There is no token, or none that lives.
    pub(super) fn no_token() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission denied")
    }

    pub(super) fn unsupported_path() -> Self {
        Self::listed(StatusCode::NOT_FOUND, "unsupported path")
    }

    pub(super) fn unsupported_operation() -> Self {
        Self::listed(StatusCode::METHOD_NOT_ALLOWED, "unsupported operation")
    }

    /// An error of a backend that is not the caller's.
    pub(super) fn internal(text: &str) -> Self {
        Self::listed(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    request_id: &'a str,
    lease_id: &'a str,
    renewable: bool,
    lease_duration: u64,
    data: Option<&'a Map<String, Value>>,
    wrap_info: Option<&'a WrapInfo>,
    warnings: Option<&'a [String]>,
    auth: Option<AuthBlock<'a>>,
}

#[derive(Serialize)]
struct AuthBlock<'a> {
    client_token: &'a str,
    accessor: &'a str,
    policies: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    token_policies: &'a [String],
    metadata: Option<&'a BTreeMap<String, String>>,
    lease_duration: u64,
    renewable: bool,
    entity_id: &'a str,
    token_type: &'a str,
    orphan: bool,
    mfa_requirement: Option<()>,
    num_uses: u64,
}

/// The whole JSON of a reply, as Go encodes it but for the newline at the end.
pub(super) fn envelope(reply: &Reply, request_id: &str) -> String {
    if let Some(wrap) = &reply.wrap {
        return encode(&Envelope {
            request_id: "",
            lease_id: "",
            renewable: false,
            lease_duration: 0,
            data: None,
            wrap_info: Some(wrap),
            warnings: None,
            auth: None,
        });
    }
    let secret = reply.secret.as_ref();
    encode(&Envelope {
        request_id,
        lease_id: secret.map_or("", |secret| &secret.id),
        renewable: secret.is_some_and(|secret| secret.renewable),
        lease_duration: secret.map_or(0, |secret| secret.ttl.as_secs()),
        data: reply.data.as_ref(),
        wrap_info: None,
        warnings: (!reply.warnings.is_empty()).then_some(&reply.warnings),
        auth: reply.auth.as_ref().map(|auth| AuthBlock {
            client_token: &auth.client_token,
            accessor: &auth.accessor,
            policies: &auth.policies,
            token_policies: &auth.policies,
            metadata: auth.metadata.as_ref(),
            lease_duration: auth.ttl.as_secs(),
            renewable: auth.renewable,
            entity_id: &auth.entity_id,
            token_type: if auth.is_batch { "batch" } else { "service" },
            orphan: auth.orphan,
            mfa_requirement: None,
            num_uses: auth.num_uses,
        }),
    })
}

/// The old system endpoints repeat their data at the top level, in front of the rest.
pub(super) fn injected(reply: &Reply, request_id: &str) -> String {
    let whole = envelope(reply, request_id);
    let (Some(data), Some(rest), None) = (&reply.data, whole.strip_prefix('{'), &reply.wrap) else {
        return whole;
    };
    let mut text = String::from("{");
    for (name, value) in data {
        text.push_str(&encode(name));
        text.push(':');
        text.push_str(&encode(value));
        text.push(',');
    }
    text + rest
}

pub(super) fn json_body(status: StatusCode, mut text: String) -> Response<Body> {
    text.push('\n');
    respond(status, "application/json", Body::full(text.into()))
}

pub(super) fn error(status: StatusCode, text: &str) -> Response<Body> {
    let errors: &[&str] = if text.is_empty() { &[] } else { &[text] };
    json_body(status, encode(&serde_json::json!({ "errors": errors })))
}

pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000; includeSubDomains"),
    );
    response
}

/// JSON as Go's encoder writes it: safe inside HTML.
pub(super) fn encode(value: &impl Serialize) -> String {
    let plain = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return plain;
    }
    // None of these stands outside a string.
    let mut safe = String::with_capacity(plain.len() + 16);
    for letter in plain.chars() {
        match letter {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_stand_in_the_servers_order() {
        let reply = Reply {
            data: json!({"b": "<x>", "a": 1}).as_object().cloned(),
            ..Reply::default()
        };
        assert_eq!(
            envelope(&reply, "id"),
            r#"{"request_id":"id","lease_id":"","renewable":false,"lease_duration":0,"data":{"a":1,"b":"\u003cx\u003e"},"wrap_info":null,"warnings":null,"auth":null}"#
        );
        assert!(
            injected(&reply, "id").starts_with(r#"{"a":1,"b":"\u003cx\u003e","request_id":"id","#)
        );
    }

    #[test]
    fn a_login_looks_like_one() {
        let reply = Reply {
            auth: Some(AuthGrant {
                client_token: "hvs.x".into(),
                policies: vec!["default".into()],
                ttl: Duration::from_millis(5_900),
                renewable: true,
                ..AuthGrant::default()
            }),
            ..Reply::default()
        };
        assert!(envelope(&reply, "id").ends_with(
            r#""data":null,"wrap_info":null,"warnings":null,"auth":{"client_token":"hvs.x","accessor":"","policies":["default"],"token_policies":["default"],"metadata":null,"lease_duration":5,"renewable":true,"entity_id":"","token_type":"service","orphan":false,"mfa_requirement":null,"num_uses":0}}"#
        ));
    }

    #[test]
    fn errors_have_vaults_texts() {
        assert_eq!(
            Refusal::denied().text,
            "1 error occurred:\n\t* permission denied\n\n"
        );
        assert_eq!(Refusal::no_token().text, "permission denied");
        assert_eq!(
            error(StatusCode::NOT_FOUND, "").headers()[CONTENT_TYPE],
            "application/json"
        );
    }
}
