//! KV version 1, and its leased form (`leased_passthrough`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;

use super::Asked;
use crate::dev::answer::{Answer, Outcome, Refusal, Reply, SecretGrant};
use crate::dev::call::Operation;
use crate::dev::fields::Fields;
use crate::dev::state::lease::Internal;
use crate::dev::state::tree;

pub(crate) struct Kv1 {
    secrets: BTreeMap<String, Map<String, Value>>,
    leased: bool,
}

impl Kv1 {
    pub(crate) fn new(leased: bool) -> Self {
        Self {
            secrets: BTreeMap::new(),
            leased,
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.secrets.contains_key(key)
    }

    /// The secret's own `ttl` or `lease` field; zero where it has none.
    pub(crate) fn ttl_of(&self, key: &str) -> Duration {
        self.secrets
            .get(key)
            .and_then(own_ttl)
            .unwrap_or(Duration::ZERO)
    }

    pub(super) fn handle(&mut self, asked: &Asked<'_>) -> Outcome {
        let key = asked.rest;
        match asked.call.operation {
            Operation::Read => Ok(self.read(key, asked)),
            Operation::Update | Operation::Create => {
                let fields = &asked.call.fields.0;
                if key.is_empty() {
                    return Err(Refusal::bad("missing path"));
                }
                if fields.is_empty() {
                    return Err(Refusal::bad("missing data fields"));
                }
                self.secrets.insert(key.to_owned(), fields.clone());
                Ok(Answer::Nothing)
            }
            Operation::Delete => {
                self.secrets.remove(key);
                Ok(Answer::Nothing)
            }
            Operation::List => Ok(Answer::keys(&tree::children(self.keys(), key))),
            Operation::Scan => Ok(Answer::keys(&tree::descendants(self.keys(), key))),
            Operation::Patch | Operation::Head | Operation::Options => {
                Err(Refusal::unsupported_operation())
            }
        }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    fn read(&self, key: &str, asked: &Asked<'_>) -> Answer {
        let Some(secret) = self.secrets.get(key) else {
            return Answer::Nothing;
        };
        let own = own_ttl(secret);
        Answer::reply(Reply {
            data: Some(secret.clone()),
            secret: Some(SecretGrant {
                renewable: self.leased && own.is_some(),
                ttl: own.unwrap_or(asked.limits.default),
                internal: self.leased.then(|| Internal::Kv {
                    key: key.to_owned(),
                }),
                ..SecretGrant::default()
            }),
            ..Reply::default()
        })
    }
}

fn own_ttl(secret: &Map<String, Value>) -> Option<Duration> {
    let fields = Fields(secret.clone());
    let name = if fields.has("ttl") { "ttl" } else { "lease" };
    fields.duration(name).ok().flatten()
}
