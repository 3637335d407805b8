//! `sys/leases/`: looking up, renewing and revoking what was leased.

use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::dev::answer::{Answer, Outcome, Refusal};
use crate::dev::call::{Call, Operation};
use crate::dev::state::State;
use crate::dev::state::tree::{self, object};

/// `rest` is what follows `leases/`.
pub(super) fn handle(state: &mut State, call: &Call, rest: &str, now: Instant) -> Outcome {
    let update = call.operation.is_update();
    let (verb, below) = rest.split_once('/').unwrap_or((rest, ""));
    match verb {
        "lookup" if update && below.is_empty() => lookup(state, call, now),
        "lookup" if call.operation == Operation::List => Ok(list(state, call, below)),
        "renew" if update => {
            let id = named(call, below)?;
            let increment = call.fields.duration("increment")?.unwrap_or_default();
            let reply = state.renew_lease(&id, increment, now)?;
            let warning = call
                .fields
                .ignored(&["lease_id", "url_lease_id", "increment"]);
            Ok(Answer::reply(reply).warn(warning))
        }
        "revoke" if update => {
            let id = named(call, below)?;
            let sync = call.fields.flag("sync")?.unwrap_or(true);
            state.revoke_lease(&id);
            Ok(done(sync))
        }
        "revoke-prefix" if update && !below.is_empty() => {
            let sync = call.fields.flag("sync")?.unwrap_or(true);
            state.revoke_under(&call.namespace, below);
            Ok(done(sync))
        }
        "revoke-force" if update && !below.is_empty() => {
            state.revoke_under(&call.namespace, below);
            Ok(Answer::Nothing)
        }
        "count" if call.operation == Operation::Read => Ok(Answer::json(json!({
            "counts": {},
            "lease_count": 0,
        }))),
        "lookup" | "renew" | "revoke" | "count" => Err(Refusal::unsupported_operation()),
        "revoke-prefix" | "revoke-force" if !below.is_empty() => {
            Err(Refusal::unsupported_operation())
        }
        _ => Err(Refusal::unsupported_path()),
    }
}

/// Revoked at once either way; 202 is what a server says that will do it soon.
fn done(sync: bool) -> Answer {
    if sync {
        Answer::Nothing
    } else {
        Answer::Bare(StatusCode::ACCEPTED)
    }
}

/// The lease that a call names: in its body, or else in its path.
fn named(call: &Call, below: &str) -> Result<String, Refusal> {
    let id = match call.fields.0.get("lease_id") {
        None | Some(serde_json::Value::Null) => below.to_owned(),
        Some(serde_json::Value::String(id)) => id.clone(),
        Some(_) => return Err(Refusal::bad("invalid lease ID")),
    };
    if id.is_empty() {
        return Err(Refusal::bad("lease_id must be specified"));
    }
    Ok(id)
}

fn lookup(state: &State, call: &Call, now: Instant) -> Outcome {
    let id = named(call, "")?;
    let clock = state.clock;
    let lease = state.leases.get(&id);
    let (issued, end, renewed, path, renewable, namespace) = match lease {
        Some(lease) => (
            lease.issued,
            Some(lease.end),
            lease.last_renewal,
            &lease.path,
            lease.renewable,
            &lease.namespace,
        ),
        None => {
            let token = state.tokens.by_lease(&id);
            let token = token.ok_or_else(|| Refusal::bad("invalid lease"))?;
            (
                token.issued,
                token.end,
                token.last_renewal,
                &token.path,
                token.renewable,
                &token.namespace,
            )
        }
    };
    let mut data = object([
        ("id", json!(id)),
        ("issue_time", json!(clock.rfc3339(issued))),
        ("expire_time", json!(end.map(|end| clock.rfc3339(end)))),
        ("last_renewal", json!(renewed.map(|at| clock.rfc3339(at)))),
        ("ttl", json!(end.map_or(0, |end| clock.ttl(end, now)))),
        ("path", json!(path)),
        ("renewable", json!(renewable)),
    ]);
    let namespace = state.namespace_path(namespace);
    if !namespace.is_empty() {
        data.insert("namespace_path".to_owned(), json!(namespace));
    }
    Ok(Answer::data(data))
}

fn list(state: &State, call: &Call, prefix: &str) -> Answer {
    let mut ids = state.leases.under(&call.namespace, "");
    ids.extend(state.tokens.lease_ids(&call.namespace));
    Answer::keys(&tree::children(ids.iter().map(String::as_str), prefix))
}
