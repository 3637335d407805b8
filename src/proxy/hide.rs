//! Callers may ask about the token that Leasehold lends them, but do not get to see it: in answers that
//! could show it, its id and accessor are there, but empty (some clients need the fields). In a list they are
//! left out.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::timeout;

use crate::cache::ReplyBody;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::token::Token;
use crate::vault::strings::{Literal, Role, literals};

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
    let accessor = token.accessor.clone().or_else(|| told(&body, token));
    let body = without(&body, &token.secret, accessor.as_ref());
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, ReplyBody::Full(body)))
}

fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_none_or(|encoding| encoding == "identity")
}

/// The accessor, where the login did not tell it and this answer does.
fn told(body: &[u8], token: &Token) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Answer {
        data: Option<Shown>,
        auth: Option<Shown>,
    }
    #[derive(Deserialize)]
    struct Shown {
        #[serde(alias = "client_token")]
        id: Option<String>,
        accessor: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let shown = [answer.data, answer.auth].into_iter().flatten();
    shown
        .filter(|shown| shown.id.as_deref().is_some_and(|id| token.secret.ct_eq(id)))
        .find_map(|shown| shown.accessor)
        .filter(|accessor| !accessor.is_empty())
        .map(Secret::new)
}

/// `body` with every JSON string that shows the token or the accessor made empty, or left out of its list.
fn without(body: &Bytes, token: &Secret, accessor: Option<&Secret>) -> Bytes {
    let mut left = BytesMut::new();
    let mut at = 0;
    let mut key: Vec<u8> = Vec::new();
    for literal in literals(body) {
        let said = literal.read(body);
        if literal.role == Role::Key {
            key = said.into_owned();
            continue;
        }
        let shows = |secret: &Secret| shows(&said, secret, &literal, &key);
        let is_of_caller = literal.role == Role::Value && key == b"client_token_accessor";
        if !is_of_caller && !shows(token) && !accessor.is_some_and(shows) {
            continue;
        }
        left.extend_from_slice(body.get(at..literal.place.start).unwrap_or_default());
        at = literal.place.end;
        if literal.role == Role::Item {
            at += drop_comma(&mut left, body.get(at..).unwrap_or_default());
        } else {
            left.extend_from_slice(br#""""#);
        }
    }
    if at == 0 {
        return body.clone();
    }
    left.extend_from_slice(body.get(at..).unwrap_or_default());
    left.freeze()
}

/// A token that somebody chose may be a word, such as `root`, that stands for other things too: a short one
/// counts only where a token or an accessor is said to be, a long one also inside of other texts.
fn shows(said: &[u8], secret: &Secret, literal: &Literal, key: &[u8]) -> bool {
    let secret = secret.expose().as_bytes();
    if secret.is_empty() {
        return false;
    }
    if secret.len() >= UNMISTAKABLE {
        return said.windows(secret.len()).any(|window| window == secret);
    }
    said == secret && literal.role == Role::Value && NAMING.contains(&key)
}

/// An item of a list goes with one of the commas beside it: how much of `after` that is, else it is the last
/// thing before.
fn drop_comma(before: &mut BytesMut, after: &[u8]) -> usize {
    let is_mark = |byte: &u8| !byte.is_ascii_whitespace();
    if let Some(next) = after.iter().position(is_mark)
        && after.get(next) == Some(&b',')
    {
        return next + 1;
    }
    if let Some(last) = before.iter().rposition(is_mark)
        && before.get(last) == Some(&b',')
    {
        before.truncate(last);
    }
    0
}

const DEADLINE: Duration = Duration::from_secs(30);
/// A list of accessors can be long.
const LARGEST: usize = 16 * 1024 * 1024;
const UNMISTAKABLE: usize = 16;
const NAMING: [&[u8]; 4] = [b"id", b"accessor", b"client_token", b"token"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TOKEN: &str = "hvs.a-token-of-ours";
    const ACCESSOR: &str = "accessor-of-ours";

    fn left(body: &str) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let left = without(&body, &TOKEN.into(), Some(&ACCESSOR.into()));
        String::from_utf8(left.to_vec()).unwrap()
    }

    #[test]
    fn every_string_that_shows_it_is_emptied_and_nothing_else_changes() {
        for (body, expected) in [
            (
                r#"{"data":{"id":"TOKEN","accessor" : "ACC","n":"x"}, "auth":{"client_token":"TOKEN"}}"#,
                r#"{"data":{"id":"","accessor" : "","n":"x"}, "auth":{"client_token":""}}"#,
            ),
            (r#"{"h":"Bearer TOKEN","i":"x"}"#, r#"{"h":"","i":"x"}"#),
            (r#"{"raw":"{\"id\":\"TOKEN\"}"}"#, r#"{"raw":""}"#),
            (r#"{"id":"\u0068vs.a-token-of-ours"}"#, r#"{"id":""}"#),
            (
                r#"{"client_token_accessor":"whose"}"#,
                r#"{"client_token_accessor":""}"#,
            ),
            (r#"{"keys":["a"],"id":"b"}"#, r#"{"keys":["a"],"id":"b"}"#),
            ("nothing", "nothing"),
        ] {
            let fill = |text: &str| text.replace("TOKEN", TOKEN).replace("ACC", ACCESSOR);
            assert_eq!(left(&fill(body)), fill(expected));
        }
    }

    #[test]
    fn a_list_goes_on_without_it() {
        for (body, expected) in [
            (json!([ACCESSOR]), json!([])),
            (json!([ACCESSOR, "a"]), json!(["a"])),
            (json!(["a", ACCESSOR]), json!(["a"])),
            (json!(["a", ACCESSOR, "b"]), json!(["a", "b"])),
            (json!([ACCESSOR, ACCESSOR]), json!([])),
            (json!(["a", ACCESSOR, ACCESSOR]), json!(["a"])),
            (json!(["a", ACCESSOR, "b", ACCESSOR]), json!(["a", "b"])),
        ] {
            for text in [
                body.to_string(),
                serde_json::to_string_pretty(&body).unwrap(),
            ] {
                let left: Value = serde_json::from_str(&left(&text)).unwrap();
                assert_eq!(left, expected, "{text}");
            }
        }
    }

    #[test]
    fn a_token_that_is_a_word_is_hidden_where_tokens_are() {
        let body = Bytes::from_static(
            br#"{"data":{"id":"root","policies":["root"],"display_name":"root"}}"#,
        );
        let left = without(&body, &"root".into(), None);
        let expected = r#"{"data":{"id":"","policies":["root"],"display_name":"root"}}"#;
        assert_eq!(left, expected);
    }

    #[test]
    fn the_accessor_may_be_told_only_by_the_answer_itself() {
        let token = Token {
            secret: TOKEN.into(),
            accessor: None,
            life: std::sync::Arc::new(crate::life::Life::endless()),
            ttl: Duration::ZERO,
            renewable: false,
            generation: 1,
        };
        for (body, is_told) in [
            (json!({"data": {"id": TOKEN, "accessor": ACCESSOR}}), true),
            (
                json!({"data": null, "auth": {"client_token": TOKEN, "accessor": ACCESSOR}}),
                true,
            ),
            (
                json!({"data": {"id": "child", "accessor": ACCESSOR}}),
                false,
            ),
        ] {
            let told = told(body.to_string().as_bytes(), &token);
            assert_eq!(
                told.is_some_and(|told| told.ct_eq(ACCESSOR)),
                is_told,
                "{body}"
            );
        }
    }
}
