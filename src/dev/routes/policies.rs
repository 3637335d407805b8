//! Policies and capabilities.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::dev::answer::{Answer, Outcome, Refusal};
use crate::dev::call::{Call, Operation};
use crate::dev::state::State;
use crate::dev::state::policy::{self, Policy};
use crate::dev::state::token::{Token, WRAPPING_POLICY};
use crate::dev::state::tree::object;

/// `sys/policies/acl` and, with `old`, `sys/policy`.
pub(super) fn handle(
    state: &mut State,
    call: &Call,
    name: &str,
    old: bool,
    now: Instant,
) -> Outcome {
    let clock = state.clock;
    let namespace = state
        .namespace_mut(&call.namespace)
        .ok_or_else(Refusal::unsupported_path)?;
    let name = name.to_lowercase();
    if name.is_empty() {
        let mut names: Vec<String> = namespace.policies.keys().cloned().collect();
        if namespace.is_root() {
            names.push("root".to_owned());
        }
        names.sort_unstable();
        return match call.operation {
            Operation::List => Ok(Answer::keys(&names)),
            Operation::Read if old => Ok(Answer::json(json!({ "keys": names, "policies": names }))),
            _ => Err(Refusal::unsupported_operation()),
        };
    }
    match call.operation {
        Operation::Read => {
            let text_key = if old { "rules" } else { "policy" };
            if name == "root" {
                return Ok(Answer::data(object([
                    ("name", json!(name)),
                    (text_key, json!("")),
                ])));
            }
            Ok(namespace
                .policies
                .get(&name)
                .map_or(Answer::Nothing, |policy| {
                    Answer::data(object([
                        ("name", json!(name)),
                        (text_key, json!(policy.text)),
                        ("version", json!(policy.version)),
                        ("modified", json!(clock.rfc3339(policy.modified))),
                        ("cas_required", json!(false)),
                        ("allow_slashes_in_identity_templates", json!(false)),
                        ("allow_wildcards_in_identity_templates", json!(false)),
                    ]))
                }))
        }
        Operation::Update | Operation::Create => {
            let mut text = call.fields.text("policy")?;
            if text.is_empty() && old {
                text = call.fields.text("rules")?;
            }
            if text.is_empty() {
                return Err(Refusal::bad("'policy' parameter not supplied or empty"));
            }
            if name == "root" || name == WRAPPING_POLICY {
                return Err(Refusal::bad(format!("cannot update {name:?} policy")));
            }
            let rules = policy::parse(&text)
                .map_err(|why| Refusal::bad(format!("failed to parse policy: {why}")))?;
            let known = namespace.policies.get(&name);
            let version = known.map_or(1, |known| known.version + 1);
            let policy = Policy {
                text,
                rules,
                version,
                modified: now,
            };
            namespace.policies.insert(name, policy);
            Ok(Answer::Nothing)
        }
        Operation::Delete => {
            if name == "default" {
                return Err(Refusal::bad("cannot delete default policy"));
            }
            if name == "root" || name == WRAPPING_POLICY {
                return Err(Refusal::bad(format!("cannot delete {name:?} policy")));
            }
            namespace.policies.remove(&name);
            Ok(Answer::Nothing)
        }
        _ => Err(Refusal::unsupported_operation()),
    }
}

/// `sys/capabilities`, `-self` and `-accessor`.
pub(super) fn capabilities(state: &State, call: &Call, of: &str) -> Outcome {
    let invalid = || Refusal::listed(http::StatusCode::BAD_REQUEST, "invalid token");
    let token = match of {
        "capabilities-self" => state.tokens.get(&call.token),
        "capabilities" => {
            let id = call.fields.text("token")?;
            if id.is_empty() {
                return Err(Refusal::internal("no token found"));
            }
            state.tokens.get(&id)
        }
        _ => {
            let accessor = call.fields.text("accessor")?;
            if accessor.is_empty() {
                return Err(Refusal::bad("missing accessor"));
            }
            let token = state.tokens.by_accessor(&accessor);
            return shown(
                state,
                call,
                token.ok_or_else(|| {
                    Refusal::listed(http::StatusCode::BAD_REQUEST, "invalid accessor")
                })?,
            );
        }
    };
    shown(state, call, token.ok_or_else(invalid)?)
}

fn shown(state: &State, call: &Call, token: &Token) -> Outcome {
    let mut paths = call.fields.list("paths")?.unwrap_or_default();
    if paths.is_empty() {
        paths = call.fields.list("path")?.unwrap_or_default();
    }
    if paths.is_empty() {
        return Err(Refusal::bad("paths must be supplied"));
    }
    let acl = state.acl(token);
    let namespace = state.namespace_path(&call.namespace);
    let mut data: Map<String, Value> = Map::new();
    for path in &paths {
        let names = if acl.is_root {
            vec!["root"]
        } else {
            acl.capabilities(&format!("{namespace}{path}"), true)
                .names()
        };
        data.insert(path.clone(), json!(names));
    }
    if let [path] = paths.as_slice()
        && let Some(names) = data.get(path).cloned()
    {
        data.insert("capabilities".to_owned(), names);
    }
    Ok(Answer::data(data))
}
