//! Endpoints that answer in every state, sealed or not: health, seal, init, leader.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::time::Instant;

use crate::dev::answer;
use crate::dev::body::Body;
use crate::dev::call;
use crate::dev::fields::parse_flag;
use crate::dev::state::State;
use crate::vault::headers::X_VAULT_NAMESPACE;

/// `None`: it is none of these.
pub(super) fn respond(
    state: &mut State,
    parts: &Parts,
    body: &Bytes,
    now: Instant,
) -> Option<Response<Body>> {
    let path = parts.uri.path().strip_prefix("/v1/sys/")?;
    if !matches!(
        path,
        "health" | "seal-status" | "init" | "leader" | "seal" | "unseal" | "step-down"
    ) {
        return None;
    }
    let in_namespace = parts
        .headers
        .get(X_VAULT_NAMESPACE)
        .is_some_and(|header| !header.is_empty());
    if in_namespace && !matches!(path, "seal-status" | "leader") {
        return Some(answer::error(
            StatusCode::BAD_REQUEST,
            "operation unavailable in namespaces",
        ));
    }
    let reads = parts.method == Method::GET;
    let writes = parts.method == Method::PUT || parts.method == Method::POST;
    Some(match path {
        "health" if reads || parts.method == Method::HEAD => {
            health(state, parts.uri.query().unwrap_or_default(), !reads, now)
        }
        "seal-status" if reads => shown(StatusCode::OK, &seal_status(state)),
        "init" if reads => shown(StatusCode::OK, &serde_json::json!({ "initialized": true })),
        "init" if writes => answer::error(StatusCode::BAD_REQUEST, "Vault is already initialized"),
        "leader" if reads => shown(StatusCode::OK, &serde_json::json!({ "ha_enabled": false })),
        "seal" if writes => seal(state, parts),
        "unseal" if writes => unseal(state, body),
        "step-down" if writes => {
            answer::respond(StatusCode::NO_CONTENT, super::JSON, Body::empty())
        }
        _ => answer::error(StatusCode::METHOD_NOT_ALLOWED, ""),
    })
}

#[derive(Serialize)]
struct Health<'a> {
    initialized: bool,
    sealed: bool,
    standby: bool,
    replication_performance_mode: &'a str,
    replication_dr_mode: &'a str,
    server_time_utc: u64,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<&'a str>,
}

#[derive(Serialize)]
struct SealStatus<'a> {
    r#type: &'a str,
    initialized: bool,
    sealed: bool,
    t: u8,
    n: u8,
    progress: u8,
    nonce: &'a str,
    recovery_seal: bool,
    version: &'a str,
    commit_date: &'a str,
    migration: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<&'a str>,
    storage_type: &'a str,
}

fn health(state: &State, query: &str, head: bool, now: Instant) -> Response<Body> {
    let bad = || answer::error(StatusCode::BAD_REQUEST, "");
    let (mut active, mut sealed) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        let slot = match name {
            "activecode" => &mut active,
            "sealedcode" => &mut sealed,
            // Asked for, checked, and of no use to a server that never stands by.
            "uninitcode" | "standbycode" => &mut { StatusCode::OK },
            "standbyok" if parse_flag(&value).is_none() => return bad(),
            _ => continue,
        };
        match StatusCode::from_bytes(value.as_bytes()) {
            Ok(status) => *slot = status,
            Err(_) => return bad(),
        }
    }
    let (status, replication) = if state.sealed {
        (sealed, "unknown")
    } else {
        (active, "disabled")
    };
    if head {
        return answer::respond(status, super::JSON, Body::empty());
    }
    let open = !state.sealed;
    shown(
        status,
        &Health {
            initialized: true,
            sealed: state.sealed,
            standby: state.sealed,
            replication_performance_mode: replication,
            replication_dr_mode: replication,
            server_time_utc: state.clock.seconds(now),
            version: VERSION,
            cluster_name: open.then_some(&state.cluster_name),
            cluster_id: open.then_some(&state.cluster_id),
        },
    )
}

fn seal_status(state: &State) -> SealStatus<'_> {
    let open = !state.sealed;
    SealStatus {
        r#type: "shamir",
        initialized: true,
        sealed: state.sealed,
        t: 1,
        n: 1,
        progress: 0,
        nonce: "",
        recovery_seal: false,
        version: VERSION,
        commit_date: "",
        migration: false,
        cluster_name: open.then_some(&state.cluster_name),
        cluster_id: open.then_some(&state.cluster_id),
        storage_type: "inmem",
    }
}

fn seal(state: &mut State, parts: &Parts) -> Response<Body> {
    let token = state.tokens.get(&call::token(&parts.headers));
    if !token.is_some_and(super::super::state::token::Token::is_root) {
        return answer::error(
            StatusCode::FORBIDDEN,
            "1 error occurred:\n\t* permission denied\n\n",
        );
    }
    state.sealed = true;
    answer::respond(StatusCode::NO_CONTENT, super::JSON, Body::empty())
}

fn unseal(state: &mut State, body: &Bytes) -> Response<Body> {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let key = body.get("key").and_then(serde_json::Value::as_str);
    match key.unwrap_or_default() {
        "" => answer::error(
            StatusCode::BAD_REQUEST,
            "'key' must be specified in request body as JSON, or 'reset' set to true",
        ),
        key if key == state.unseal_key => {
            state.sealed = false;
            shown(StatusCode::OK, &seal_status(state))
        }
        key if key.len() < 16 => answer::error(
            StatusCode::BAD_REQUEST,
            "invalid key: key is shorter than minimum 16 bytes",
        ),
        _ => answer::error(StatusCode::BAD_REQUEST, "invalid key"),
    }
}

fn shown(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    answer::json_body(status, answer::encode(value))
}

/// The API that is spoken, and by whom.
const VERSION: &str = "2.6.0+leasehold.dev";
