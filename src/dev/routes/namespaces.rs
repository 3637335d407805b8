//! `sys/namespaces`: making, showing and ending namespaces below the one that is asked.

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::dev::answer::{Answer, Outcome, Refusal, Reply};
use crate::dev::call::{Call, Operation};
use crate::dev::state::State;
use crate::dev::state::namespace::Namespace;

pub(super) fn handle(state: &mut State, call: &Call, name: &str, now: Instant) -> Outcome {
    let own = state.namespace_path(&call.namespace).to_owned();
    if call.operation.is_listing() {
        return Ok(list(state, &own, call.operation == Operation::Scan));
    }
    let name = name.trim_matches('/');
    if name.contains('/') {
        return Err(Refusal::bad("namespace name cannot contain /"));
    }
    if matches!(
        name,
        "root" | "sys" | "audit" | "auth" | "cubbyhole" | "identity"
    ) {
        return Err(Refusal::bad(format!(
            "{:?} is a reserved path and cannot be used as a namespace name",
            format!("{name}/")
        )));
    }
    let path = format!("{own}{name}/");
    let known = state.namespaces.iter().position(|known| known.path == path);
    match call.operation {
        Operation::Read => Ok(known
            .and_then(|at| state.namespaces.get(at))
            .map_or(Answer::Nothing, |namespace| Answer::data(namespace.info()))),
        Operation::Update | Operation::Create => {
            let metadata = call.fields.map("custom_metadata")?;
            if known.is_none() {
                let namespace = Namespace::new(&path, now);
                if let Some(parent) = state.namespace(&call.namespace)
                    && let Some(mount) = parent.mounts.conflict(&format!("{name}/"))
                {
                    return Err(Refusal::bad(format!(
                        "new namespace conflicts with existing mount: {}",
                        mount.path
                    )));
                }
                state.namespaces.push(namespace);
            }
            let made = state.namespaces.iter_mut().find(|known| known.path == path);
            Ok(made.map_or(Answer::Nothing, |namespace| {
                namespace.custom_metadata = metadata.unwrap_or_default();
                Answer::data(namespace.info())
            }))
        }
        Operation::Delete => delete(state, &path),
        _ => Err(Refusal::unsupported_operation()),
    }
}

fn list(state: &State, own: &str, deep: bool) -> Answer {
    let mut infos: Map<String, Value> = Map::new();
    for namespace in &state.namespaces {
        if let Some(below) = namespace.path.strip_prefix(own)
            && !below.is_empty()
            && (deep || below.matches('/').count() == 1)
        {
            infos.insert(below.to_owned(), Value::Object(namespace.info()));
        }
    }
    let keys: Vec<String> = infos.keys().cloned().collect();
    if keys.is_empty() {
        return Answer::keys(&keys);
    }
    Answer::json(json!({ "keys": keys, "key_info": infos }))
}

/// Everything in it ends with it; done at once, though the answer is that of a server still at it.
fn delete(state: &mut State, path: &str) -> Outcome {
    let below = |known: &&Namespace| known.path.starts_with(path) && known.path != path;
    if state.namespaces.iter().find(below).is_some() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unable to delete namespace containing child namespaces",
        ));
    }
    let Some(at) = state.namespaces.iter().position(|known| known.path == path) else {
        return Ok(Answer::reply(Reply {
            warnings: vec!["requested namespace does not exist".to_owned()],
            ..Reply::default()
        }));
    };
    let id = state
        .namespaces
        .get(at)
        .map(|namespace| namespace.id.clone())
        .unwrap_or_default();
    for lease in state.leases.under(&id, "") {
        state.revoke_lease(&lease);
    }
    for token in state.tokens.under_lease_prefix(&id, "") {
        state.revoke_token(&token);
    }
    state.namespaces.remove(at);
    Ok(Answer::json(json!({ "status": "in-progress" })))
}
