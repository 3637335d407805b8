//! Response wrapping: any answer put away under a token that opens it once.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::dev::answer::{self, Answer, AuthGrant, Outcome, Refusal, Reply, WrapInfo};
use crate::dev::call::{Call, Operation};
use crate::dev::state::State;
use crate::dev::state::grants::NewToken;
use crate::dev::state::token::{Token, WRAPPING_POLICY, Wrapped};
use crate::dev::state::tree::object;

pub(super) fn is_about_wrapping(path: &str) -> bool {
    matches!(
        path,
        "sys/wrapping/lookup" | "sys/wrapping/rewrap" | "sys/wrapping/unwrap"
    )
}

/// Says whether the call names a wrapping token that lives, before anything counts as a use of it.
pub(super) fn validate(state: &State, call: &Call) -> Result<(), Refusal> {
    let id = named(call)?;
    if id.is_empty() {
        let why = if call.fields.has("token") {
            "empty token in request body"
        } else {
            "token is empty"
        };
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("error validating wrapping token: {why}"),
        ));
    }
    if state.tokens.get(&id).is_some_and(Token::is_wrapping) {
        return Ok(());
    }
    Err(Refusal::bad(
        "wrapping token is not valid or does not exist",
    ))
}

pub(super) fn handle(state: &mut State, call: &Call, verb: &str) -> Outcome {
    let operation = call.operation;
    match verb {
        "wrap" if operation.is_update() => {
            if call.wrap_ttl.is_none() {
                return Err(Refusal::bad(
                    "endpoint requires response wrapping to be used",
                ));
            }
            Ok(Answer::data(call.fields.0.clone()))
        }
        "lookup" if operation.is_update() || operation == Operation::Read => lookup(state, call),
        "unwrap" if operation.is_update() => {
            let wrapped = open(state, call)?;
            Ok(Answer::Raw {
                status: StatusCode::OK,
                content_type: super::JSON,
                body: wrapped.response.into(),
            })
        }
        "rewrap" if operation.is_update() => {
            let wrapped = open(state, call)?;
            let data = object([("response", json!(wrapped.response))]);
            Ok(Answer::reply(Reply {
                data: Some(data),
                rewrapped: Some((wrapped.ttl, wrapped.path)),
                ..Reply::default()
            }))
        }
        "wrap" | "lookup" | "unwrap" | "rewrap" => Err(Refusal::unsupported_operation()),
        _ => Err(Refusal::unsupported_path()),
    }
}

/// Puts the answer away when the caller wished it, or when it is a rewrap.
pub(super) fn wrap(state: &mut State, call: &Call, found: Answer, now: Instant) -> Outcome {
    let Answer::Reply(reply) = found else {
        return Ok(found);
    };
    let ttl = match (&reply.rewrapped, call.wrap_ttl) {
        (Some((own, _)), Some(wished)) => (*own).min(wished),
        (Some((own, _)), None) => *own,
        (None, Some(wished)) => wished,
        (None, None) => return Ok(Answer::Reply(reply)),
    };
    if call.operation == Operation::List && super::has_no_keys(&reply) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "unsupported path"));
    }
    let (response, path) = match &reply.rewrapped {
        Some((_, path)) => {
            let data = reply.data.as_ref().and_then(|data| data.get("response"));
            let response = data.and_then(|response| response.as_str());
            (response.unwrap_or_default().to_owned(), path.clone())
        }
        None => (answer::envelope(&reply, &call.id), call.path.clone()),
    };
    put_away(state, call, &reply, (response, path, ttl), now)
}

fn put_away(
    state: &mut State,
    call: &Call,
    reply: &Reply,
    (response, path, ttl): (String, String, Duration),
    now: Instant,
) -> Outcome {
    let auth = AuthGrant {
        policies: vec![WRAPPING_POLICY.to_owned()],
        ttl,
        explicit_max_ttl: ttl,
        num_uses: 1,
        ..AuthGrant::default()
    };
    let new = NewToken {
        namespace: &call.namespace,
        id: None,
        parent: None,
        path: call.path.clone(),
        auth: &auth,
    };
    let made = state.create_token(new, now)?;
    let wrapped_accessor = match (&reply.auth, &reply.data) {
        (Some(auth), _) => auth.accessor.clone(),
        (None, Some(data)) => {
            let accessor = data.get("secret_id_accessor");
            accessor
                .and_then(|accessor| accessor.as_str())
                .unwrap_or_default()
                .to_owned()
        }
        (None, None) => String::new(),
    };
    let wrap = WrapInfo {
        token: made.client_token.clone(),
        accessor: made.accessor,
        ttl: ttl.as_secs(),
        creation_time: state.clock.rfc3339(now),
        creation_path: path.clone(),
        wrapped_accessor,
    };
    if let Some(token) = state.tokens.get_mut(&made.client_token) {
        token.wrapped = Some(Wrapped {
            response,
            path,
            ttl,
        });
    }
    Ok(Answer::reply(Reply {
        wrap: Some(wrap),
        ..Reply::default()
    }))
}

fn lookup(state: &State, call: &Call) -> Outcome {
    let id = named(call)?;
    let token = state.tokens.get(&id);
    let Some((token, wrapped)) = token.and_then(|token| Some((token, token.wrapped.as_ref()?)))
    else {
        return Ok(Answer::Nothing);
    };
    Ok(Answer::data(object([
        ("creation_path", json!(wrapped.path)),
        ("creation_time", json!(state.clock.rfc3339(token.issued))),
        ("creation_ttl", json!(wrapped.ttl.as_secs())),
    ])))
}

/// Takes the answer out; the token is used up by this.
fn open(state: &mut State, call: &Call) -> Result<Wrapped, Refusal> {
    let id = named(call)?;
    let token = state.tokens.get_mut(&id);
    let wrapped = token.and_then(|token| token.wrapped.take());
    if call.fields.has("token") {
        // Opened by somebody else than itself: no use of its own ends it.
        state.revoke_orphaning(&id);
    }
    wrapped.ok_or_else(|| Refusal::bad("wrapping token is not valid or does not exist"))
}

/// The wrapping token that the call is about: in its body, or its own.
fn named(call: &Call) -> Result<String, Refusal> {
    if call.fields.has("token") {
        return call.fields.text("token");
    }
    Ok(call.token.clone())
}
