//! What makes two requests the same: identity, namespace, method, raw path, sorted query, canonical body.
//!
//! Headers do not count, but for those that make a request uncacheable (`policy`). The hash is keyed
//! per process, 128 bits: nobody outside can build two requests that collide.

use std::hash::{BuildHasher, Hasher, RandomState};

use http::Method;
use serde_json::Value;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::secret::Secret;
use crate::vault::path::canonical_namespace;

/// The name of an entry or a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(u128);

/// A keyed hash in place of a secret text: a token, an accessor, a lease id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Print(u128);

/// On whose behalf an answer was fetched. Answers never cross identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// All callers without a token of their own share Leasehold's, whichever that is at the time.
    AutoAuth,
    /// A caller's own token.
    Token(Print),
    Anonymous,
}

/// What is asked, as far as the cache tells requests apart by method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    List,
    Scan,
    Post,
    Put,
}

impl Op {
    /// `GET ?list=true` and `LIST` are one thing, for Vault as for us.
    pub(super) fn of(method: &Method, query: Option<&str>) -> Option<Self> {
        match method.as_str() {
            "GET" if asks_for(query, "list") => Some(Self::List),
            "GET" if asks_for(query, "scan") => Some(Self::Scan),
            "GET" => Some(Self::Read),
            "LIST" => Some(Self::List),
            "SCAN" => Some(Self::Scan),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            _ => None,
        }
    }

    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::List | Self::Scan)
    }
}

/// Makes keys and prints; its own key is drawn at start.
#[derive(Debug, Clone)]
pub(super) struct Keyer {
    seed: (u64, u64),
}

impl Keyer {
    /// The seed comes from the system's generator: a guessable one would let a caller aim at another's entries.
    pub(super) fn new() -> Self {
        let random = || RandomState::new().hash_one(0_u8);
        Self {
            seed: (random(), random()),
        }
    }

    pub(super) fn print(&self, secret: &[u8]) -> Print {
        let mut hasher = self.hasher();
        hasher.write(secret);
        Print(hasher.finish128().as_u128())
    }

    pub(super) fn print_of(&self, secret: &Secret) -> Print {
        self.print(secret.expose().as_bytes())
    }

    /// `path` is the raw path behind `/v1/`; `body` is empty for reads.
    pub(super) fn key(
        &self,
        identity: Identity,
        op: Op,
        namespace: Option<&str>,
        path: &str,
        query: Option<&str>,
        body: &[u8],
    ) -> Key {
        let mut hasher = self.hasher();
        match identity {
            Identity::AutoAuth => hasher.write_u8(1),
            Identity::Anonymous => hasher.write_u8(2),
            Identity::Token(print) => {
                hasher.write_u8(3);
                hasher.write_u128(print.0);
            }
        }
        hasher.write_u8(match op {
            Op::Read => 1,
            Op::List => 2,
            Op::Scan => 3,
            // Vault makes no difference between the two.
            Op::Post | Op::Put => 4,
        });
        let namespace = canonical_namespace(namespace);
        if !namespace.is_empty() {
            hasher.write(namespace.as_bytes());
            hasher.write_u8(b'/');
        }
        hasher.write(path.as_bytes());
        // No path and no query can hold this byte, so neither can run into the other.
        hasher.write_u8(0);
        write_sorted_query(&mut hasher, query);
        hasher.write_u8(0);
        if !body.is_empty() {
            match canonical_json(body) {
                Some(canonical) => hasher.write(canonical.as_bytes()),
                None => hasher.write(body),
            }
        }
        Key(hasher.finish128().as_u128())
    }

    fn hasher(&self) -> SipHasher24 {
        SipHasher24::new_with_keys(self.seed.0, self.seed.1)
    }
}

impl Default for Keyer {
    fn default() -> Self {
        Self::new()
    }
}

fn asks_for(query: Option<&str>, what: &str) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| is_switch(pair, what)))
}

fn is_switch(pair: &str, what: &str) -> bool {
    pair.split_once('=').is_some_and(|(name, value)| {
        name == what && matches!(value, "true" | "1" | "t" | "T" | "TRUE" | "True")
    })
}

fn write_sorted_query(hasher: &mut SipHasher24, query: Option<&str>) {
    let Some(query) = query else { return };
    let counts =
        |pair: &&str| !pair.is_empty() && !is_switch(pair, "list") && !is_switch(pair, "scan");
    if !query.contains('&') {
        if counts(&query) {
            hasher.write(query.as_bytes());
            hasher.write_u8(b'&');
        }
        return;
    }
    let mut pairs: Vec<&str> = query.split('&').filter(counts).collect();
    pairs.sort_unstable();
    for pair in pairs {
        hasher.write(pair.as_bytes());
        hasher.write_u8(b'&');
    }
}

/// JSON with sorted keys and no blanks; `None` where that could make two bodies one that are not: no
/// JSON, or numbers that do not survive reading.
fn canonical_json(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    has_exact_numbers(&value).then(|| value.to_string())
}

fn has_exact_numbers(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => items.iter().all(has_exact_numbers),
        Value::Object(fields) => fields.values().all(has_exact_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(keyer: &Keyer, namespace: Option<&str>, path: &str, query: Option<&str>) -> Key {
        keyer.key(Identity::AutoAuth, Op::Read, namespace, path, query, b"")
    }

    #[test]
    fn spellings_of_one_request_share_a_key() {
        let keyer = Keyer::new();
        let plain = read(&keyer, None, "secret/data/x", None);
        assert_eq!(plain, read(&keyer, None, "secret/data/x", Some("")));
        assert_eq!(plain, read(&keyer, Some("root"), "secret/data/x", None));
        assert_eq!(
            read(&keyer, Some("team/"), "secret/data/x", Some("a=1&b=2")),
            read(&keyer, None, "team/secret/data/x", Some("b=2&&a=1")),
        );
        let list = |method: &str, query| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let op = Op::of(&method, query).unwrap();
            keyer.key(Identity::AutoAuth, op, None, "kv/a", query, b"")
        };
        assert_eq!(list("LIST", None), list("GET", Some("list=true")));
        assert_eq!(list("LIST", None), list("GET", Some("list=1")));
        assert_ne!(list("LIST", None), list("GET", Some("list=0")));
    }

    #[test]
    fn different_requests_have_different_keys() {
        let keyer = Keyer::new();
        let token = |text: &str| Identity::Token(keyer.print(text.as_bytes()));
        let base = |identity, op, body: &[u8]| keyer.key(identity, op, None, "a/b", None, body);
        let keys = [
            base(Identity::AutoAuth, Op::Read, b""),
            base(Identity::Anonymous, Op::Read, b""),
            base(token("a"), Op::Read, b""),
            base(token("b"), Op::Read, b""),
            base(token("a"), Op::List, b""),
            base(token("a"), Op::Post, br#"{"ttl":1}"#),
            base(token("a"), Op::Post, br#"{"ttl":2}"#),
            base(token("a"), Op::Post, br#"{"ttl":1.0}"#),
            read(&keyer, None, "a/b", Some("version=1")),
            read(&keyer, None, "a/b", Some("version=2")),
            read(&keyer, None, "a/b/", None),
            read(&keyer, None, "a%2Fb", None),
        ];
        let distinct: std::collections::HashSet<Key> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn json_key_order_does_not_count_but_big_numbers_do() {
        let keyer = Keyer::new();
        let post = |body: &str| {
            keyer.key(
                Identity::AutoAuth,
                Op::Post,
                None,
                "p",
                None,
                body.as_bytes(),
            )
        };
        assert_eq!(
            post(r#"{"a":1,"b":{"c":2,"d":3}}"#),
            post(r#"{ "b":{"d":3,"c":2}, "a":1 }"#)
        );
        assert_ne!(
            post(r#"{"n":100000000000000000000000}"#),
            post(r#"{"n":100000000000000000000001}"#)
        );
    }

    proptest! {
        #[test]
        fn path_and_query_never_run_into_each_other(a in "[a-z/]{1,8}", b in "[a-z=]{1,8}", c in "[a-z/]{1,8}", d in "[a-z=]{1,8}") {
            let keyer = Keyer::new();
            let same = (a.as_str(), b.as_str()) == (c.as_str(), d.as_str());
            prop_assert_eq!(
                read(&keyer, None, &a, Some(&b)) == read(&keyer, None, &c, Some(&d)),
                same
            );
        }
    }
}
