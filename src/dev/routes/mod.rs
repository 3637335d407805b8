//! From a read request to an answer: namespace, token, policy, engine, leases, wrapping, in that order.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an endpoint refuses whatever operation it does not take"
)]

mod cubbyhole;
mod leases;
mod mounts;
mod mux;
mod namespaces;
mod policies;
mod status;
mod sys;
mod token;
mod token_create;
mod tools;
mod wrapping;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use super::answer::{self, Answer, Outcome, Refusal, Reply};
use super::body::Body;
use super::call::{self, Call, Operation};
use super::engine::{self, Asked, Engine};
use super::state::State;
use super::state::grants::NewToken;
use super::state::policy::{Acl, Capabilities};
use super::state::token::{Origin, Uses};
use super::state::ttl::{self, Wish};
use crate::vault::headers::X_VAULT_NAMESPACE;

/// What the server answers now. `body` is whole.
pub(super) fn respond(
    state: &mut State,
    parts: &Parts,
    body: &Bytes,
    download: u64,
) -> Response<Body> {
    let now = state.clock.now();
    state.settle(now);
    let mut response = mux::redirect(parts)
        .or_else(|| status::respond(state, parts, body, now))
        .unwrap_or_else(|| api(state, parts, body, download, now));
    if let Some(header) = parts.headers.get(X_VAULT_NAMESPACE)
        && !header.is_empty()
    {
        response
            .headers_mut()
            .insert(X_VAULT_NAMESPACE, header.clone());
    }
    if let Ok(date) = HeaderValue::from_str(&state.clock.http_date(now)) {
        response.headers_mut().insert(http::header::DATE, date);
    }
    response
}

fn api(
    state: &mut State,
    parts: &Parts,
    body: &Bytes,
    download: u64,
    now: Instant,
) -> Response<Body> {
    if call::api_path(parts.uri.path()).is_none() {
        return answer::error(StatusCode::NOT_FOUND, "");
    }
    let mut call = match Call::read(parts, body) {
        Ok(call) => call,
        Err(refusal) => return answer::error(refusal.status, &refusal.text),
    };
    match handle(state, &mut call, now) {
        Err(refusal) => answer::error(refusal.status, &refusal.text),
        Ok(Answer::Download(_)) => {
            answer::respond(StatusCode::OK, "application/gzip", Body::stream(download))
        }
        Ok(found) => write(&call, found, mux::injects(parts.uri.path())),
    }
}

fn write(call: &Call, found: Answer, injects: bool) -> Response<Body> {
    match found {
        Answer::Nothing => match call.operation {
            Operation::Read | Operation::Head | Operation::List => {
                answer::error(StatusCode::NOT_FOUND, "")
            }
            _ => answer::respond(StatusCode::NO_CONTENT, JSON, Body::empty()),
        },
        Answer::Reply(mut reply) => {
            if call.operation.is_listing() && has_no_keys(&reply) && reply.wrap.is_none() {
                if call.operation == Operation::List {
                    return answer::error(StatusCode::NOT_FOUND, "");
                }
                reply.data = Some(serde_json::Map::new());
            }
            let text = if injects {
                answer::injected(&reply, &call.id)
            } else {
                answer::envelope(&reply, &call.id)
            };
            answer::json_body(StatusCode::OK, text)
        }
        Answer::Coded(status, reply) => {
            // Made by the backend, not by the server's encoder: no newline.
            let text = answer::envelope(&reply, &call.id);
            answer::respond(status, JSON, Body::full(text.into()))
        }
        Answer::Bare(status) => answer::respond(status, JSON, Body::empty()),
        Answer::Raw {
            status,
            content_type,
            body,
        } => answer::respond(status, content_type, Body::full(body)),
        Answer::Download(length) => {
            answer::respond(StatusCode::OK, "application/gzip", Body::stream(length))
        }
    }
}

fn has_no_keys(reply: &Reply) -> bool {
    let keys = reply.data.as_ref().and_then(|data| data.get("keys"));
    keys.and_then(|keys| keys.as_array())
        .is_some_and(Vec::is_empty)
}

fn handle(state: &mut State, call: &mut Call, now: Instant) -> Outcome {
    if state.sealed {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Vault is sealed",
        ));
    }
    mux::resolve_namespace(state, call)?;
    if call.path.ends_with('/') && call.operation.is_write() {
        return Err(Refusal::bad("cannot write to a path ending in '/'"));
    }
    if call.operation == Operation::Options {
        return Err(Refusal::bad(
            "cannot handle internal-only request operation",
        ));
    }
    mux::follow_ids(state, call);
    if wrapping::is_about_wrapping(&call.path) {
        wrapping::validate(state, call)?;
    }
    let outcome = if is_unauthenticated(state, call) {
        login(state, call, now)
    } else {
        authorized(state, call, now)
    };
    outcome.and_then(|found| wrapping::wrap(state, call, found, now))
}

/// Paths that need no token: logins, and what the system backend answers to anybody.
fn is_unauthenticated(state: &State, call: &Call) -> bool {
    if call.path == "sys/wrapping/lookup"
        || call.path == "sys/internal/ui/mounts"
        || call.path.starts_with("sys/internal/ui/mounts/")
    {
        return true;
    }
    let mount = state.mount(&call.namespace, &call.path);
    mount.is_some_and(|mount| {
        let rest = call.path.strip_prefix(&mount.path).unwrap_or_default();
        engine::is_login(&mount.engine, rest)
    })
}

fn authorized(state: &mut State, call: &mut Call, now: Instant) -> Outcome {
    let Some(token) = state.tokens.get(&call.token) else {
        return Err(Refusal::no_token());
    };
    if !state.knows_entity(token) {
        return Err(Refusal::no_token());
    }
    let acl = state.acl(token);
    if call.operation == Operation::Update && exists(state, call) == Some(false) {
        call.operation = Operation::Create;
    }
    let full_path = format!("{}{}", state.namespace_path(&call.namespace), call.path);
    let allowed = is_allowed(&acl, call, &full_path);
    let last_use = match state.tokens.get_mut(&call.token) {
        None => return Err(Refusal::denied()),
        Some(token) => match token.uses {
            Uses::Unlimited => false,
            Uses::Left(left) if left > 1 => {
                token.uses = Uses::Left(left - 1);
                false
            }
            Uses::Left(_) => {
                token.uses = Uses::Last;
                true
            }
            Uses::Last => return Err(Refusal::denied()),
        },
    };
    let outcome = if allowed {
        route(state, call, now).and_then(|found| lease(state, call, found, now))
    } else {
        Err(Refusal::denied())
    };
    if !last_use {
        return outcome;
    }
    state.revoke_token(&call.token);
    let leased = |found: &Answer| {
        matches!(found, Answer::Reply(reply)
            if reply.secret.as_ref().is_some_and(|secret| !secret.id.is_empty()))
    };
    outcome.and_then(|found| {
        if leased(&found) {
            return Err(Refusal::bad(
                "Secret cannot be returned; token had one use left, so leased credentials were \
                 immediately revoked.",
            ));
        }
        Ok(found)
    })
}

fn is_allowed(acl: &Acl, call: &Call, full_path: &str) -> bool {
    if acl.is_root {
        return true;
    }
    let wanted = match call.operation {
        Operation::Read => Capabilities::READ,
        Operation::List => Capabilities::LIST,
        Operation::Scan => Capabilities::SCAN,
        Operation::Update => Capabilities::UPDATE,
        Operation::Create => Capabilities::CREATE,
        Operation::Patch => Capabilities::PATCH,
        Operation::Delete => Capabilities::DELETE,
        Operation::Head | Operation::Options => return false,
    };
    let granted = acl.capabilities(full_path, call.operation.is_listing());
    granted.has(wanted) && (!mux::needs_sudo(&call.path) || granted.has(Capabilities::SUDO))
}

fn exists(state: &State, call: &Call) -> Option<bool> {
    let mount = state.mount(&call.namespace, &call.path)?;
    let rest = call.path.strip_prefix(&mount.path)?;
    if matches!(mount.engine, Engine::Cubbyhole) {
        let token = state.tokens.get(&call.token)?;
        return Some(token.cubbyhole.contains_key(rest));
    }
    engine::exists(&mount.engine, rest)
}

fn route(state: &mut State, call: &Call, now: Instant) -> Outcome {
    let Some(mount) = state.mount(&call.namespace, &call.path) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!(
                "no handler for route {:?}. route entry not found.",
                call.path
            ),
        ));
    };
    let mount_path = mount.path.clone();
    let rest = call.path.strip_prefix(&mount_path).unwrap_or_default();
    match &mount.engine {
        Engine::System => return sys::handle(state, call, rest, now),
        Engine::Token => return token::handle(state, call, rest, now),
        Engine::Cubbyhole => return cubbyhole::handle(state, call, rest),
        _ => {}
    }
    let limits = mount.limits();
    let clock = state.clock;
    let token = state.tokens.get(&call.token);
    let display_name = token.map_or_else(String::new, |token| token.display_name.clone());
    let mount = state
        .namespace_mut(&call.namespace)
        .and_then(|namespace| namespace.mounts.get_mut(&mount_path))
        .ok_or_else(Refusal::unsupported_path)?;
    engine::handle(
        &mut mount.engine,
        &Asked {
            call,
            rest,
            clock,
            now,
            limits,
            display_name: &display_name,
        },
    )
}

/// Registers the lease of a secret that an engine made.
fn lease(state: &mut State, call: &Call, mut found: Answer, now: Instant) -> Outcome {
    let Answer::Reply(reply) = &mut found else {
        return Ok(found);
    };
    let Some(mut secret) = reply.secret.take() else {
        return Ok(found);
    };
    if secret.internal.is_some()
        && let Some(mount) = state.mount(&call.namespace, &call.path)
    {
        let wish = Wish {
            backend: secret.ttl,
            backend_max: secret.max_ttl,
            ..Wish::default()
        };
        let granted = ttl::grant(state.clock, mount.limits(), wish, None, now);
        let granted = granted.map_err(Refusal::internal)?;
        secret.ttl = granted.ttl;
        reply.warnings.extend(granted.warnings);
        state.register_lease(&call.namespace, &call.path, &call.token, &mut secret, now);
    }
    reply.secret = Some(secret);
    Ok(found)
}

/// A call without a token, and the token that a login ends in.
fn login(state: &mut State, call: &Call, now: Instant) -> Outcome {
    let mut found = route(state, call, now)?;
    let Answer::Reply(reply) = &mut found else {
        return Ok(found);
    };
    let Some(mut auth) = reply.auth.take() else {
        return Ok(found);
    };
    let Some(mount) = state.mount(&call.namespace, &call.path) else {
        return Ok(found);
    };
    let (mount_path, accessor) = (mount.path.clone(), mount.accessor.clone());
    let source = mount.table_path().replace('/', "-");
    let wish = Wish {
        backend: auth.ttl,
        period: auth.period,
        backend_max: auth.max_ttl,
        explicit_max: auth.explicit_max_ttl,
        ..Wish::default()
    };
    let granted = ttl::grant(state.clock, mount.limits(), wish, None, now);
    let granted = granted.map_err(Refusal::internal)?;
    if auth.policies.iter().any(|policy| policy == "root") {
        return Err(Refusal::bad("auth methods cannot create root tokens"));
    }
    if !auth.no_default_policy {
        auth.policies.push("default".to_owned());
    }
    auth.ttl = granted.ttl;
    auth.display_name = format!("{source}{}", auth.display_name)
        .trim_end_matches('-')
        .to_owned();
    auth.entity_id = state.entity(&call.namespace, &accessor, &auth.alias);
    if let Origin::Login { mount, .. } = &mut auth.origin {
        *mount = mount_path;
    }
    let new = NewToken {
        namespace: &call.namespace,
        id: None,
        parent: None,
        path: call.path.clone(),
        auth: &auth,
    };
    reply.auth = Some(state.create_token(new, now)?);
    reply.warnings.extend(granted.warnings);
    Ok(found)
}

const JSON: &str = "application/json";
