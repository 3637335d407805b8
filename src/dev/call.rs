//! An HTTP request read as the server reads it: operation, path, fields, token, wrapping.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::Map;
use serde_json::Value;

use super::answer::Refusal;
use super::fields::{Fields, parse_duration, parse_flag};
use super::random;
use crate::vault::headers::{X_VAULT_NAMESPACE, X_VAULT_TOKEN, X_VAULT_WRAP_TTL};

pub(crate) struct Call {
    /// A fresh `request_id`.
    pub(crate) id: String,
    pub(crate) operation: Operation,
    /// Without `/v1/`, decoded; relative to the namespace once that was found.
    pub(crate) path: String,
    pub(crate) fields: Fields,
    /// Empty: none was sent.
    pub(crate) token: String,
    pub(crate) wrap_ttl: Option<Duration>,
    /// The header's text at first, then the namespace's id.
    pub(crate) namespace: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    List,
    Scan,
    /// A PUT or POST; made `Create` where the engine says that nothing is there yet.
    Update,
    Create,
    Patch,
    Delete,
    Head,
    Options,
}

impl Operation {
    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::Update | Self::Create | Self::Patch)
    }

    /// Creating counts as updating wherever it makes no difference.
    pub(crate) fn is_update(self) -> bool {
        matches!(self, Self::Update | Self::Create)
    }

    pub(crate) fn is_listing(self) -> bool {
        matches!(self, Self::List | Self::Scan)
    }
}

/// The request path below `/v1/`, percent-decoded; `None` for what is not the API.
pub(crate) fn api_path(raw_path: &str) -> Option<String> {
    let decoded = decode(raw_path);
    decoded.strip_prefix("/v1/").map(str::to_owned)
}

impl Call {
    /// # Errors
    /// As the server words them.
    pub(crate) fn read(parts: &Parts, body: &Bytes) -> Result<Self, Refusal> {
        let mut path = api_path(parts.uri.path()).unwrap_or_default();
        let mut query = query(parts.uri.query().unwrap_or_default());
        let (operation, fields) = match parts.method.as_str() {
            "GET" => {
                let listing = switch(&mut query, "list")?;
                let scanning = switch(&mut query, "scan")?;
                match (listing, scanning) {
                    (true, true) => return Err(Refusal::silent(StatusCode::BAD_REQUEST)),
                    (true, false) => (Operation::List, query),
                    (false, true) => (Operation::Scan, query),
                    (false, false) => (Operation::Read, query),
                }
            }
            "LIST" => (Operation::List, query),
            "SCAN" => (Operation::Scan, query),
            "HEAD" => (Operation::Head, query),
            "DELETE" => (Operation::Delete, query),
            "POST" | "PUT" => (Operation::Update, written(&parts.headers, body)?),
            "PATCH" => (Operation::Patch, patched(&parts.headers, body)?),
            "OPTIONS" => (Operation::Options, Map::new()),
            _ => return Err(Refusal::silent(StatusCode::METHOD_NOT_ALLOWED)),
        };
        if operation.is_listing() && !path.ends_with('/') {
            path.push('/');
        }
        Ok(Self {
            id: random::uuid(),
            operation,
            path,
            fields: Fields(fields),
            token: token(&parts.headers),
            wrap_ttl: wrap_ttl(&parts.headers)?,
            namespace: text(&parts.headers, &X_VAULT_NAMESPACE).to_owned(),
        })
    }
}

/// `X-Vault-Token` first, then the first `Authorization: Bearer`.
pub(crate) fn token(headers: &HeaderMap) -> String {
    let own = text(headers, &X_VAULT_TOKEN);
    if !own.is_empty() {
        return own.to_owned();
    }
    let bearer = headers
        .get_all(AUTHORIZATION)
        .iter()
        .find_map(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    bearer.map_or_else(String::new, |token| token.trim().to_owned())
}

fn wrap_ttl(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let wished = text(headers, &X_VAULT_WRAP_TTL);
    if wished.is_empty() {
        return Ok(None);
    }
    let wrong = |why: &str| Refusal::bad(format!("error parsing X-Vault-Wrap-TTL header: {why}"));
    if wished.starts_with('-') {
        return Err(wrong("requested wrap ttl cannot be negative"));
    }
    parse_duration(wished)
        .map(|ttl| Some(ttl).filter(|ttl| !ttl.is_zero()))
        .map_err(|why| wrong(&why))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Takes `?list=` or `?scan=` out of the query.
fn switch(query: &mut Map<String, Value>, name: &str) -> Result<bool, Refusal> {
    let Some(value) = query.get(name) else {
        return Ok(false);
    };
    let first = value
        .as_array()
        .map_or(Some(value), |values| values.first())
        .and_then(Value::as_str);
    let wished = match first.unwrap_or_default() {
        "" => return Ok(false),
        text => parse_flag(text).ok_or_else(|| Refusal::silent(StatusCode::BAD_REQUEST))?,
    };
    if wished {
        query.remove(name);
    }
    Ok(wished)
}

fn written(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Refusal> {
    let declared = media_type(headers).unwrap_or_default();
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if declared == "application/x-www-form-urlencoded" && !matches!(first, None | Some(b'{' | b'['))
    {
        let mut fields = query(&String::from_utf8_lossy(body));
        for value in fields.values_mut() {
            if let Value::Array(values) = value {
                let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                *value = Value::String(values.join(","));
            }
        }
        return Ok(fields);
    }
    json(body)
}

fn patched(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Refusal> {
    let Some(declared) = media_type(headers) else {
        return Err(Refusal::bad("mime: no media type"));
    };
    if declared != MERGE_PATCH {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("PATCH requires Content-Type of {MERGE_PATCH}, provided {declared}"),
        ));
    }
    json(body)
}

fn json(body: &Bytes) -> Result<Map<String, Value>, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let kind = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => return Ok(fields),
        Ok(Value::Null) => return Ok(Map::new()),
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Err(error) => {
            let why = why_not_json(&String::from_utf8_lossy(body), &error);
            return Err(Refusal::bad(format!("failed to decode JSON input: {why}")));
        }
    };
    Err(Refusal::bad(format!(
        "failed to decode JSON input: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    )))
}

/// In Go's words, as far as they are about a value's first letters.
fn why_not_json(text: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    let line = text.lines().nth(error.line().saturating_sub(1));
    let (before, rest) = line
        .and_then(|line| line.split_at_checked(error.column().saturating_sub(1)))
        .unwrap_or_default();
    let begun = before.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    let value = before.strip_prefix(begun).unwrap_or_default().to_owned() + rest;
    let literal = ["true", "false", "null"]
        .into_iter()
        .find(|literal| value.starts_with(|first| literal.starts_with::<char>(first)));
    let mut letters = value.chars();
    let Some(literal) = literal else {
        return match letters.next() {
            Some(letter) => format!("invalid character {letter:?} looking for beginning of value"),
            None => error.to_string(),
        };
    };
    for expected in literal.chars() {
        match letters.next() {
            Some(letter) if letter == expected => {}
            Some(letter) => {
                return format!(
                    "invalid character {letter:?} in literal {literal} (expecting {expected:?})"
                );
            }
            None => return "unexpected EOF".to_owned(),
        }
    }
    error.to_string()
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let declared = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = declared.split(';').next()?.trim().to_ascii_lowercase();
    (!kind.is_empty()).then_some(kind)
}

/// As Go reads it: a repeated name is a list, a pair with a semicolon is dropped.
fn query(text: &str) -> Map<String, Value> {
    let mut fields: Map<String, Value> = Map::new();
    for pair in text.split('&') {
        if pair.is_empty() || pair.contains(';') {
            continue;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name), Value::String(unescape(value)));
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    // The server keeps this name for itself.
    fields.remove("help");
    fields
}

fn unescape(text: &str) -> String {
    decode(&text.replace('+', " "))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

const MERGE_PATCH: &str = "application/merge-patch+json";

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn read(method: &str, target: &str, body: &'static str) -> Result<Call, Refusal> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .body(())
            .unwrap();
        Call::read(
            &request.into_parts().0,
            &Bytes::from_static(body.as_bytes()),
        )
    }

    #[test]
    fn listing_has_three_spellings() {
        for (method, target) in [
            ("LIST", "/v1/kv"),
            ("GET", "/v1/kv?list=true"),
            ("GET", "/v1/kv/?list=1"),
        ] {
            let call = read(method, target, "").unwrap();
            assert_eq!(
                (call.operation, call.path.as_str()),
                (Operation::List, "kv/")
            );
            assert!(call.fields.0.is_empty());
        }
        assert!(read("GET", "/v1/kv?list=x", "").is_err());
        assert_eq!(
            read("GET", "/v1/kv?list=false", "").unwrap().operation,
            Operation::Read
        );
    }

    #[test]
    fn fields_come_from_the_query_the_json_or_the_form() {
        let call = read("GET", "/v1/a?x=1&y=a+b&y=%2F&z;=1&help=1", "").unwrap();
        assert_eq!(
            Value::Object(call.fields.0),
            serde_json::json!({"x": "1", "y": ["a b", "/"]})
        );
        let call = read("PUT", "/v1/a%2Fb", r#" {"a": [1]} "#).unwrap();
        assert_eq!(call.path, "a/b");
        assert!(call.fields.has("a"));
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            "application/x-www-form-urlencoded".parse().unwrap(),
        );
        let form = written(&headers, &Bytes::from_static(b"a=1&a=2")).unwrap();
        assert_eq!(form["a"], "1,2");
        assert!(written(&headers, &Bytes::from_static(b" {\"a\":1}")).unwrap()["a"].is_number());
    }

    #[test]
    fn a_bearer_is_a_token_where_there_is_no_other() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, "Basic x".parse().unwrap());
        headers.append(AUTHORIZATION, "Bearer  b ".parse().unwrap());
        assert_eq!(token(&headers), "b");
        headers.insert(X_VAULT_TOKEN, "t".parse().unwrap());
        assert_eq!(token(&headers), "t");
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_the_servers_words() {
        for (method, body, expected) in [
            ("PUT", "{", "failed to decode JSON input: unexpected EOF"),
            (
                "PUT",
                "[1]",
                "failed to decode JSON input: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
            (
                "PUT",
                "not json",
                "failed to decode JSON input: invalid character 'o' in literal null (expecting 'u')",
            ),
            (
                "PUT",
                "{} x",
                "failed to decode JSON input: invalid character 'x' looking for beginning of value",
            ),
            ("PATCH", "{}", "mime: no media type"),
            ("FOO", "", ""),
        ] {
            assert_eq!(read(method, "/v1/a", body).err().unwrap().text, expected);
        }
    }
}
