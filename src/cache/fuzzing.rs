//! Keys under fuzzing.

use serde_json::Value;

use super::key::{Identity, Keyer, Op};

/// Two requests that get one key are one request: the same path, the same questions in its query, and bodies
/// that are equal as bytes or as JSON. And the order of JSON fields is no difference.
pub fn fuzz_key(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut parts = text.split('\n');
    let mut request = || {
        let target = parts.next().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        (path, query, parts.next().unwrap_or_default())
    };
    let (one, other) = (request(), request());
    let keyer = Keyer::new();
    let key = |(path, query, body): (&str, Option<&str>, &str)| {
        keyer.key(
            Identity::AutoAuth,
            Op::Put,
            None,
            path,
            query,
            body.as_bytes(),
        )
    };
    assert_eq!(key(one), key(one));
    // No target holds a NUL, which is what keeps path and query apart.
    if text.contains('\0') {
        return;
    }
    if key(one) == key(other) {
        assert_eq!(one.0, other.0, "paths");
        assert_eq!(questions(one.1), questions(other.1), "queries");
        let same = one.2 == other.2 || json(one.2).is_some_and(|body| Some(body) == json(other.2));
        assert!(same, "bodies {:?} and {:?}", one.2, other.2);
    }
    if let Some(body) = json(one.2).filter(is_exact) {
        let again = (one.0, one.1, &*body.to_string());
        assert_eq!(key(one), key(again), "{:?} as {:?}", one.2, again.2);
    }
}

/// Does reading lose nothing of its numbers? Where it would, the bytes count as they are.
fn is_exact(body: &Value) -> bool {
    match body {
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn questions(query: Option<&str>) -> Vec<&str> {
    let is_switch = |pair: &&str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        matches!(name, "list" | "scan")
            && matches!(value, "true" | "1" | "t" | "T" | "TRUE" | "True")
    };
    let pairs = query.unwrap_or_default().split('&');
    let mut pairs: Vec<&str> = pairs
        .filter(|pair| !pair.is_empty() && !is_switch(pair))
        .collect();
    pairs.sort_unstable();
    pairs
}

fn json(body: &str) -> Option<Value> {
    serde_json::from_str(body).ok()
}
