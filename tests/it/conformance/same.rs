//! Is an answer through Leasehold the one that Vault itself gives? Status, headers, and the body down to
//! the order of its keys and its last newline; what differs from run to run may differ.

use std::collections::BTreeSet;

use serde_json::Value;

use super::client::Reply;
use super::kinds;

/// What differs, in words. Both bodies have names in place of what their runs took from earlier answers;
/// their keys are in the same order where they are `ordered`.
pub(super) fn differences(direct: &Reply, through: &Reply, ordered: bool) -> Vec<String> {
    let mut found = Vec::new();
    if direct.status != through.status {
        found.push(format!("status: {} and {}", direct.status, through.status));
    }
    headers(direct, through, &mut found);
    match (direct.json(), through.json()) {
        (Some(ours), Some(theirs)) => {
            values("", "", &ours, &theirs, &mut found);
            if ordered && found.is_empty() && layout(&direct.body) != layout(&through.body) {
                found.push("the order of keys, or the space between them".to_owned());
            }
        }
        _ if direct.body != through.body => found.push("the body".to_owned()),
        _ => {}
    }
    found
}

/// Is a repeated answer the first one, with nothing changed but the seconds left?
pub(super) fn replayed(first: &Reply, again: &Reply) -> Vec<String> {
    let mut found = differences(first, again, true);
    let id = |reply: &Reply| {
        let json = reply.json().unwrap_or_default();
        (json["request_id"].clone(), json["lease_id"].clone())
    };
    if id(first) != id(again) {
        found.push("another answer than the first".to_owned());
    }
    if again.header("x-cache") != Some("HIT") {
        found.push(format!("x-cache: {:?}", again.header("x-cache")));
    }
    let age = again.header("age").map(str::parse::<u64>);
    if !matches!(age, Some(Ok(0..=60))) {
        found.push(format!("age: {:?}", again.header("age")));
    }
    found
}

/// What is looked up of a token, with its id and its accessor there but empty.
pub(super) fn without_token(reply: &Reply) -> Reply {
    let mut blank = reply.clone();
    let mut text = String::from_utf8_lossy(&reply.body).into_owned();
    let json = reply.json().unwrap_or_default();
    for field in ["id", "accessor"] {
        if let Some(shown) = json["data"][field].as_str() {
            text = text.replace(&format!("\"{shown}\""), "\"\"");
        }
    }
    blank.body = text.into();
    blank
}

fn headers(direct: &Reply, through: &Reply, found: &mut Vec<String>) {
    let names = |reply: &Reply| -> BTreeSet<String> {
        let names = reply.headers.keys().map(ToString::to_string);
        names
            .filter(|name| !FRAMING.contains(&name.as_str()) && !OURS.contains(&name.as_str()))
            .collect()
    };
    let (ours, theirs) = (names(direct), names(through));
    for name in ours.symmetric_difference(&theirs) {
        let (has, not) = if ours.contains(name) {
            ("directly", "through Leasehold")
        } else {
            ("through Leasehold", "directly")
        };
        found.push(format!("the header {name} comes {has} and not {not}"));
    }
    for name in ours.intersection(&theirs).filter(|name| *name != "date") {
        let all = |reply: &Reply| -> Vec<String> {
            let values = reply.headers.get_all(name).iter();
            values
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect()
        };
        if all(direct) != all(through) {
            found.push(format!(
                "the header {name}: {:?} and {:?}",
                all(direct),
                all(through)
            ));
        }
    }
    let is_framed = |reply: &Reply| FRAMING.iter().any(|name| reply.headers.contains_key(*name));
    if is_framed(direct) != is_framed(through) {
        found.push("one has a length, the other none".to_owned());
    }
}

fn values(at: &str, field: &str, direct: &Value, through: &Value, found: &mut Vec<String>) {
    let is_same = match (direct, through) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (name, value) in ours {
                let other = theirs.get(name);
                let at = format!("{at}/{name}");
                match other {
                    Some(other) => values(&at, name, value, other, found),
                    None => found.push(format!("{at} is missing through Leasehold")),
                }
            }
            for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
                found.push(format!("{at}/{name} comes through Leasehold only"));
            }
            true
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (value, other) in ours.iter().zip(theirs) {
                values(at, field, value, other, found);
            }
            true
        }
        (Value::String(ours), Value::String(theirs)) => {
            kinds::masked(field, ours) == kinds::masked(field, theirs)
        }
        (Value::Number(ours), Value::Number(theirs)) if ours != theirs => {
            let both = ours.as_u64().zip(theirs.as_u64());
            both.is_some_and(|(ours, theirs)| kinds::may_differ(field, ours, theirs))
        }
        (ours, theirs) => ours == theirs,
    };
    if !is_same {
        found.push(format!("{at}: {direct} and {through}"));
    }
}

/// The body with `~` for every value: keys, their order, and everything between them.
fn layout(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut layout = String::new();
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '"' => {
                let mut said = String::new();
                while let Some(inside) = rest.next() {
                    match inside {
                        '"' => break,
                        '\\' => said.extend(['\\'].into_iter().chain(rest.next())),
                        _ => said.push(inside),
                    }
                }
                layout.push_str(if rest.peek() == Some(&':') {
                    &said
                } else {
                    "~"
                });
            }
            '0'..='9' | '-' | '+' | '.' => {
                if !layout.ends_with('#') {
                    layout.push('#');
                }
            }
            other => layout.push(other),
        }
    }
    layout
}

/// How long a body is, is said in either way.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
/// What Leasehold adds.
const OURS: [&str; 2] = ["x-cache", "age"];

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    fn reply(body: &'static str) -> Reply {
        Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn what_may_differ_may_and_what_may_not_is_told() {
        let table = [
            (r#"{"a":1,"b":"x"}"#, r#"{"a":1,"b":"x"}"#, ""),
            (r#"{"a":1}"#, r#"{"a":2}"#, "/a: 1 and 2"),
            (r#"{"a":1}"#, r#"{"a":1.0}"#, "/a: 1 and 1.0"),
            (r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, "/a: [1] and [1,2]"),
            (r#"{"a":null}"#, r#"{"a":""}"#, r#"/a: null and """#),
            (
                r#"{"a":1,"b":2}"#,
                r#"{"b":2,"a":1}"#,
                "the order of keys, or the space between them",
            ),
            (
                "{\"a\":1}\n",
                r#"{"a":1}"#,
                "the order of keys, or the space between them",
            ),
            (r#"{"ttl":100}"#, r#"{"ttl":97}"#, ""),
            (r#"{"ttl":100}"#, r#"{"ttl":50}"#, "/ttl: 100 and 50"),
            (r#"{"a":1795557928}"#, r#"{"a":1795557927}"#, ""),
            (r#"{"a":"x"}"#, r#"{}"#, "/a is missing through Leasehold"),
            (r#"{}"#, r#"{"a":1}"#, "/a comes through Leasehold only"),
            ("text", "other", "the body"),
        ];
        for (direct, through, expected) in table {
            let found = differences(&reply(direct), &reply(through), true).join("; ");
            assert_eq!(found, expected, "{direct} {through}");
        }
    }

    #[test]
    fn headers_come_as_they_are_but_for_ours() {
        let mut direct = reply("{}");
        let mut through = direct.clone();
        let say = |reply: &mut Reply, name: &'static str, value: &'static str| {
            reply.headers.insert(name, HeaderValue::from_static(value));
        };
        say(&mut direct, "content-length", "2");
        say(&mut through, "transfer-encoding", "chunked");
        say(&mut through, "x-cache", "MISS");
        say(&mut direct, "cache-control", "no-store");
        say(&mut through, "cache-control", "no-cache");
        say(&mut direct, "warning", "x");
        let found = differences(&direct, &through, true).join("; ");
        assert_eq!(
            found,
            "the header warning comes directly and not through Leasehold; \
             the header cache-control: [\"no-store\"] and [\"no-cache\"]"
        );
    }
}
