//! The shape of an answer: its status, its headers where they are not the usual ones, and its body with
//! kinds in place of values. It holds no secrets, so it can be recorded.

use http::Method;
use serde_json::{Map, Value, json};

use super::client::Reply;
use super::kinds;
use super::table::Step;

/// The answer's body has names in place of what its run took from earlier answers.
pub(super) fn of(step: &Step, reply: &Reply) -> Value {
    let mut shape = Map::new();
    shape.insert("call".to_owned(), json!(step.call()));
    shape.insert("status".to_owned(), json!(reply.status.as_u16()));
    let headers = unusual_headers(reply);
    if !headers.is_empty() {
        shape.insert("headers".to_owned(), Value::Object(headers));
    }
    if reply.body.is_empty() || step.method == Method::HEAD.as_str() {
        return Value::Object(shape);
    }
    let Some(body) = reply.json() else {
        shape.insert("text".to_owned(), json!(reply.body.len()));
        return Value::Object(shape);
    };
    if !reply.body.ends_with(b"\n") {
        shape.insert("newline".to_owned(), json!(false));
    }
    let whole = kinds_of("", &body);
    let kept = if step.only.is_empty() {
        whole
    } else {
        let places = step.only.iter().map(|place| {
            let there = whole.pointer(place).cloned();
            ((*place).to_owned(), there.unwrap_or(json!("(nothing)")))
        });
        Value::Object(places.collect())
    };
    shape.insert("body".to_owned(), kept);
    Value::Object(shape)
}

/// Where two shapes part, in words.
pub(super) fn differences(recorded: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", recorded, now, &mut found);
    found
}

fn walk(at: &str, recorded: &Value, now: &Value, found: &mut Vec<String>) {
    let (Value::Object(theirs), Value::Object(ours)) = (recorded, now) else {
        if recorded != now {
            found.push(format!("{at}: recorded {recorded}, now {now}"));
        }
        return;
    };
    for (name, value) in theirs {
        match ours.get(name) {
            Some(other) => walk(&format!("{at}/{name}"), value, other, found),
            None => found.push(format!("{at}/{name} is missing; recorded {value}")),
        }
    }
    for (name, value) in ours.iter().filter(|(name, _)| !theirs.contains_key(*name)) {
        found.push(format!("{at}/{name} was not recorded; now {value}"));
    }
}

/// Those that differ from what nearly every answer has; `null` for one of these that is missing.
fn unusual_headers(reply: &Reply) -> Map<String, Value> {
    let mut unusual = Map::new();
    for (name, value) in USUAL {
        if reply.header(name) != Some(value) {
            unusual.insert(name.to_owned(), json!(reply.header(name)));
        }
    }
    for name in reply.headers.keys().map(http::HeaderName::as_str) {
        let is_usual = USUAL.iter().any(|(usual, _)| *usual == name);
        if !is_usual && !UNTOLD.contains(&name) {
            unusual.insert(name.to_owned(), json!(reply.header(name)));
        }
    }
    unusual
}

fn kinds_of(field: &str, value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(number) if number.is_f64() => json!("number"),
        Value::Number(_) => json!("integer"),
        Value::String(text) => json!(kind_of_text(field, text)),
        Value::Array(items) => {
            let mut kinds: Vec<Value> = Vec::new();
            for kind in items.iter().map(|item| kinds_of(field, item)) {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            Value::Array(kinds)
        }
        Value::Object(fields) => {
            let kinds = fields
                .iter()
                .map(|(name, value)| (name.clone(), kinds_of(name, value)));
            Value::Object(kinds.collect())
        }
    }
}

fn kind_of_text(field: &str, text: &str) -> String {
    let masked = kinds::masked(field, text);
    // A name stands for what an earlier answer said.
    let is_name = text.starts_with('{') && text.ends_with('}') && !text.contains(['"', ' ']);
    if masked == text && !text.is_empty() && !is_name && !kinds::is_telling(field) {
        return "text".to_owned();
    }
    masked
}

const USUAL: [(&str, &str); 3] = [
    ("cache-control", "no-store"),
    ("content-type", "application/json"),
    (
        "strict-transport-security",
        "max-age=31536000; includeSubDomains",
    ),
];
const UNTOLD: [&str; 3] = ["content-length", "date", "transfer-encoding"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::table::get;
    use bytes::Bytes;
    use http::StatusCode;

    #[test]
    fn a_shape_says_what_an_answer_is_and_none_of_its_secrets() {
        let mut reply = Reply {
            status: StatusCode::OK,
            headers: USUAL
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect(),
            body: Bytes::from_static(
                br#"{"data":{"password":"canary","id":"{child}","n":1,"f":1.5,"e":"","keys":["a","b"]},"renewable":true,"warnings":["careful"]}"#,
            ),
        };
        let shape = of(&get("a/b", 200), &reply);
        assert_eq!(
            shape.to_string(),
            r#"{"body":{"data":{"e":"","f":"number","id":"{child}","keys":["a","b"],"n":"integer","password":"random"},"renewable":true,"warnings":["careful"]},"call":"GET a/b","newline":false,"status":200}"#
        );
        let only = of(&get("a/b", 200).only("/data/n"), &reply);
        assert_eq!(only["body"].to_string(), r#"{"/data/n":"integer"}"#);
        reply.headers.insert("x-own", "1".parse().unwrap());
        reply.body = Bytes::from_static(b"canary");
        let text = of(&get("a/b", 200), &reply);
        assert_eq!(
            text.to_string(),
            r#"{"call":"GET a/b","headers":{"x-own":"1"},"status":200,"text":6}"#
        );
        assert_eq!(
            differences(&shape, &text),
            [
                format!("/body is missing; recorded {}", shape["body"]),
                "/newline is missing; recorded false".to_owned(),
                r#"/headers was not recorded; now {"x-own":"1"}"#.to_owned(),
                "/text was not recorded; now 6".to_owned(),
            ]
        );
    }
}
