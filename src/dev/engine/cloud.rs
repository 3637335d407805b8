//! A stand-in for engines whose secrets are leased but cannot be renewed, with the paths and fields of the
//! AWS engine: `creds/<role>` by GET, `sts/<role>` by GET or POST.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::Asked;
use crate::dev::answer::{Answer, Outcome, Refusal, Reply, SecretGrant};
use crate::dev::call::Operation;
use crate::dev::random;
use crate::dev::state::lease::Internal;
use crate::dev::state::tree::object;

#[derive(Default)]
pub(crate) struct Cloud {
    /// The TTL of each role; zero for the mount's.
    roles: BTreeMap<String, Duration>,
    alive: BTreeSet<String>,
}

impl Cloud {
    pub(crate) fn set_role(&mut self, role: &str, ttl: Duration) {
        self.roles.insert(role.to_owned(), ttl);
    }

    pub(super) fn drop_key(&mut self, access_key: &str) {
        self.alive.remove(access_key);
    }

    pub(crate) fn is_key(&self, access_key: &str) -> bool {
        self.alive.contains(access_key)
    }

    pub(super) fn handle(&mut self, asked: &Asked<'_>) -> Outcome {
        let operation = asked.call.operation;
        match asked.rest.split_once('/') {
            Some(("roles", "")) if operation == Operation::List => Ok(Answer::keys(
                &self.roles.keys().cloned().collect::<Vec<_>>(),
            )),
            Some(("roles", role)) if !role.is_empty() => self.role(role, asked),
            Some(("creds", role)) if !role.is_empty() => match operation {
                Operation::Read => self.mint(role, asked),
                _ => Err(Refusal::unsupported_operation()),
            },
            Some(("sts", role)) if !role.is_empty() => match operation {
                Operation::Read | Operation::Update | Operation::Create => self.mint(role, asked),
                _ => Err(Refusal::unsupported_operation()),
            },
            _ => Err(Refusal::unsupported_path()),
        }
    }

    fn role(&mut self, role: &str, asked: &Asked<'_>) -> Outcome {
        match asked.call.operation {
            Operation::Read => Ok(self.roles.get(role).map_or(Answer::Nothing, |ttl| {
                Answer::json(json!({ "default_sts_ttl": ttl.as_secs() }))
            })),
            Operation::Update | Operation::Create => {
                let ttl = asked.call.fields.duration("default_sts_ttl")?;
                self.roles.insert(role.to_owned(), ttl.unwrap_or_default());
                Ok(Answer::Nothing)
            }
            Operation::Delete => {
                self.roles.remove(role);
                Ok(Answer::Nothing)
            }
            _ => Err(Refusal::unsupported_operation()),
        }
    }

    fn mint(&mut self, role: &str, asked: &Asked<'_>) -> Outcome {
        let Some(&ttl) = self.roles.get(role) else {
            return Err(Refusal::bad(format!("Role {role:?} not found")));
        };
        let wished = asked.call.fields.duration("ttl")?;
        let access_key = format!("ASIA{}", random::hex(8).to_uppercase());
        self.alive.insert(access_key.clone());
        Ok(Answer::reply(Reply {
            data: Some(object([
                ("access_key", json!(access_key)),
                ("secret_key", json!(random::base62(40))),
                ("security_token", json!(random::base62(120))),
            ])),
            secret: Some(SecretGrant {
                renewable: false,
                ttl: wished.unwrap_or(ttl),
                internal: Some(Internal::Cloud { access_key }),
                ..SecretGrant::default()
            }),
            ..Reply::default()
        }))
    }
}
