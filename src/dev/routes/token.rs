//! `auth/token/`: looking up, renewing and revoking tokens.

use serde_json::json;
use tokio::time::Instant;

use super::token_create;
use crate::dev::answer::{Answer, Outcome, Refusal, Reply};
use crate::dev::call::{Call, Operation};
use crate::dev::engine::segments;
use crate::dev::state::State;
use crate::dev::state::token::Token;
use crate::dev::state::tree::object;

pub(super) fn handle(state: &mut State, call: &Call, rest: &str, now: Instant) -> Outcome {
    let operation = call.operation;
    let update = operation.is_update();
    match segments(rest).as_slice() {
        ["create"] if update => token_create::create(state, call, false, now),
        ["create-orphan"] if update => token_create::create(state, call, true, now),
        ["lookup-self"] if update || operation == Operation::Read => {
            lookup(state, &call.token, now)
        }
        ["lookup"] if update || operation == Operation::Read => {
            let id = call.fields.text("token")?;
            let id = if id.is_empty() { &call.token } else { &id };
            lookup(state, id, now)
        }
        ["lookup-accessor"] if update => {
            let id = by_accessor(state, call)?;
            let mut found = lookup(state, &id, now)?;
            if let Answer::Reply(reply) = &mut found
                && let Some(data) = &mut reply.data
            {
                data.insert("id".to_owned(), json!(""));
            }
            Ok(found)
        }
        ["renew-self"] if update => renew(state, call, &call.token, now),
        ["renew"] if update => {
            let id = call.fields.text("token")?;
            if id.is_empty() {
                return Err(Refusal::bad("missing token ID"));
            }
            renew(state, call, &id, now)
        }
        ["renew-accessor"] if update => {
            let id = by_accessor(state, call)?;
            let mut found = renew(state, call, &id, now)?;
            if let Answer::Reply(reply) = &mut found
                && let Some(auth) = &mut reply.auth
            {
                auth.client_token.clear();
            }
            Ok(found)
        }
        ["revoke-self"] if update => revoke(state, &call.token),
        ["revoke"] if update => {
            let id = call.fields.text("token")?;
            if id.is_empty() {
                return Err(Refusal::bad("missing token ID"));
            }
            revoke(state, &id)
        }
        ["revoke-accessor"] if update => revoke_accessor(state, call),
        ["revoke-orphan"] if update => revoke_orphan(state, call),
        ["accessors", ""] if operation == Operation::List => {
            Ok(Answer::keys(&state.tokens.accessors(&call.namespace)))
        }
        [
            "create" | "create-orphan" | "lookup" | "lookup-self" | "lookup-accessor" | "renew"
            | "renew-self" | "renew-accessor" | "revoke" | "revoke-self" | "revoke-accessor"
            | "revoke-orphan" | "accessors",
        ]
        | ["accessors", ""] => Err(Refusal::unsupported_operation()),
        _ => Err(Refusal::unsupported_path()),
    }
}

fn lookup(state: &State, id: &str, now: Instant) -> Outcome {
    let Some(token) = state.tokens.get(id) else {
        return Err(Refusal::new(http::StatusCode::FORBIDDEN, "bad token"));
    };
    let clock = state.clock;
    let mut data = object([
        ("id", json!(token.id)),
        ("accessor", json!(token.accessor)),
        ("policies", json!(token.policies)),
        ("path", json!(token.path)),
        ("meta", json!(token.metadata)),
        ("display_name", json!(token.display_name)),
        ("num_uses", json!(token.uses.shown())),
        ("orphan", json!(token.parent.is_none())),
        ("creation_time", json!(clock.seconds(token.issued))),
        ("creation_ttl", json!(token.creation_ttl.as_secs())),
        (
            "expire_time",
            json!(token.end.map(|end| clock.rfc3339(end))),
        ),
        ("ttl", json!(token.end.map_or(0, |end| clock.ttl(end, now)))),
        ("explicit_max_ttl", json!(token.explicit_max_ttl.as_secs())),
        ("entity_id", json!(token.entity_id)),
        (
            "type",
            json!(if token.is_batch { "batch" } else { "service" }),
        ),
        ("issue_time", json!(clock.rfc3339(token.issued))),
        ("renewable", json!(token.renewable)),
    ]);
    if !token.period.is_zero() {
        data.insert("period".to_owned(), json!(token.period.as_secs()));
    }
    if let Some(renewed) = token.last_renewal {
        data.insert("last_renewal".to_owned(), json!(clock.rfc3339(renewed)));
        data.insert(
            "last_renewal_time".to_owned(),
            json!(clock.seconds(renewed)),
        );
    }
    let namespace = state.namespace_path(&token.namespace);
    if !namespace.is_empty() {
        data.insert("namespace_path".to_owned(), json!(namespace));
    }
    Ok(Answer::data(data))
}

fn renew(state: &mut State, call: &Call, id: &str, now: Instant) -> Outcome {
    let increment = call.fields.duration("increment")?.unwrap_or_default();
    let reply = state.renew_token(id, increment, now)?;
    let warning = call.fields.ignored(&["token", "increment", "accessor"]);
    Ok(Answer::reply(reply).warn(warning))
}

fn revoke(state: &mut State, id: &str) -> Outcome {
    if state.tokens.get(id).is_some_and(|token| token.is_batch) {
        return Err(Refusal::bad("batch tokens cannot be revoked"));
    }
    state.revoke_token(id);
    Ok(Answer::Nothing)
}

fn revoke_accessor(state: &mut State, call: &Call) -> Outcome {
    match by_accessor(state, call) {
        Ok(id) => {
            state.revoke_token(&id);
            Ok(Answer::Nothing)
        }
        Err(refusal) if refusal.text.contains("invalid accessor") => Ok(Answer::reply(Reply {
            warnings: vec!["No token found with this accessor".to_owned()],
            ..Reply::default()
        })),
        Err(refusal) => Err(refusal),
    }
}

fn revoke_orphan(state: &mut State, call: &Call) -> Outcome {
    let id = call.fields.text("token")?;
    if id.is_empty() {
        return Err(Refusal::bad("missing token ID"));
    }
    if !token_create::has_sudo(state, call) {
        return Err(Refusal::bad(
            "root or sudo privileges required to revoke and orphan",
        ));
    }
    match state.tokens.get(&id) {
        None => Err(Refusal::bad("token to revoke not found")),
        Some(Token { is_batch: true, .. }) => Err(Refusal::bad("batch tokens cannot be revoked")),
        Some(_) => {
            state.revoke_orphaning(&id);
            Ok(Answer::Nothing)
        }
    }
}

/// The token whose accessor the call names.
fn by_accessor(state: &State, call: &Call) -> Result<String, Refusal> {
    let bad = |why| Refusal::listed(http::StatusCode::BAD_REQUEST, why);
    let accessor = call.fields.text("accessor")?;
    if accessor.is_empty() {
        return Err(bad("missing accessor"));
    }
    let token = state.tokens.by_accessor(&accessor);
    let token = token.ok_or_else(|| bad("invalid accessor"))?;
    Ok(token.id.clone())
}
