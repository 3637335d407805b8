//! What stands before the API: paths that are not clean, namespaces in front of paths and behind ids.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::dev::answer::{self, Refusal};
use crate::dev::body::Body;
use crate::dev::call::{Call, api_path};
use crate::dev::state::State;
use crate::dev::state::namespace::ROOT;

/// Go's router sends whoever asks for a path with `//`, `.` or `..` in it to the clean path; what cannot be
/// printed is refused.
pub(super) fn redirect(parts: &Parts) -> Option<Response<Body>> {
    let raw = parts.uri.path();
    if raw == "/" {
        return Some(moved("/ui/"));
    }
    let api = api_path(raw)?;
    if api.chars().any(char::is_control) {
        // Refused before anything that sets headers.
        let mut bare = Response::new(Body::empty());
        *bare.status_mut() = StatusCode::BAD_REQUEST;
        return Some(bare);
    }
    let clean = cleaned(raw);
    if clean == raw {
        return None;
    }
    let mut response = match parts.uri.query() {
        Some(query) => moved(&format!("{clean}?{query}")),
        None => moved(&clean),
    };
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        // Only who reads gets a page to click on.
        response.headers_mut().remove(CONTENT_TYPE);
        *response.body_mut() = Body::empty();
    }
    Some(response)
}

fn moved(location: &str) -> Response<Body> {
    let link = location.replace('&', "&amp;");
    let page = format!("<a href=\"{link}\">Temporary Redirect</a>.\n\n");
    let mut response = answer::respond(
        StatusCode::TEMPORARY_REDIRECT,
        "text/html; charset=utf-8",
        Body::full(Bytes::from(page)),
    );
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn cleaned(raw: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if raw.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

/// The old endpoints of the system backend that repeat their data at the top level; by the path as it came,
/// so not behind a namespace.
pub(super) fn injects(raw_path: &str) -> bool {
    let path = raw_path.strip_prefix("/v1/sys/").unwrap_or_default();
    matches!(
        path,
        "audit"
            | "auth"
            | "mounts"
            | "policy"
            | "capabilities"
            | "capabilities-self"
            | "capabilities-accessor"
            | "key-status"
            | "remount"
            | "rotate"
            | "wrapping/wrap"
    ) || ["audit/", "auth/", "mounts/", "policy/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

/// Header and path together name the namespace; the header's must exist, the path's may be a mount.
pub(super) fn resolve_namespace(state: &State, call: &mut Call) -> Result<(), Refusal> {
    if call.path.split('/').any(|segment| segment == "..") {
        return Err(Refusal::bad("relative paths not supported"));
    }
    let header = call.namespace.trim_matches('/');
    let base = if header.is_empty() || header == ROOT {
        String::new()
    } else {
        format!("{header}/")
    };
    if !state.namespaces.iter().any(|known| known.path == base) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "namespace not found"));
    }
    let whole = format!("{base}{}", call.path);
    let found = state
        .namespaces
        .iter()
        .filter(|known| known.path.starts_with(&base) && whole.starts_with(&known.path))
        .max_by_key(|known| known.path.len());
    let Some(found) = found else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "namespace not found"));
    };
    call.path = whole
        .strip_prefix(&found.path)
        .unwrap_or_default()
        .to_owned();
    call.namespace.clone_from(&found.id);
    if !found.is_root() && is_root_only(&call.path) {
        return Err(Refusal::bad("operation only available in root namespace"));
    }
    Ok(())
}

/// Calls about a token or a lease go to the namespace that its id names, wherever they were sent.
pub(super) fn follow_ids(state: &State, call: &mut Call) {
    let own_token = || {
        let token = state.tokens.get(&call.token)?;
        Some(token.namespace.clone())
    };
    let suffixed = |id: &str| {
        let (_, suffix) = id.rsplit_once('.')?;
        state
            .namespace(suffix)
            .map(|namespace| namespace.id.clone())
    };
    let named = |field: &str| call.fields.text(field).unwrap_or_default();
    let namespace = match call.path.as_str() {
        "auth/token/lookup-self"
        | "auth/token/renew-self"
        | "auth/token/revoke-self"
        | "sys/wrapping/lookup"
        | "sys/wrapping/rewrap"
        | "sys/wrapping/unwrap" => own_token(),
        "auth/token/lookup" if !call.fields.has("token") => own_token(),
        "auth/token/lookup"
        | "auth/token/renew"
        | "auth/token/revoke"
        | "auth/token/revoke-orphan" => suffixed(&named("token")),
        "sys/leases/lookup" | "sys/leases/renew" | "sys/leases/revoke" => {
            suffixed(&named("lease_id"))
        }
        path => {
            let id = path
                .strip_prefix("sys/leases/renew/")
                .or_else(|| path.strip_prefix("sys/leases/revoke/"));
            match id {
                Some(_) if call.fields.has("lease_id") => suffixed(&named("lease_id")),
                Some(id) => suffixed(id),
                None => None,
            }
        }
    };
    if let Some(namespace) = namespace {
        call.namespace = namespace;
    }
}

/// Paths that want `sudo` besides the operation's own capability.
pub(super) fn needs_sudo(path: &str) -> bool {
    let Some(sys) = path.strip_prefix("sys/") else {
        return path.starts_with("auth/token/revoke-orphan/")
            || path.starts_with("auth/token/accessors");
    };
    matches!(sys, "remount" | "audit" | "raw" | "rotate" | "leases")
        || [
            "auth/",
            "audit/",
            "raw/",
            "leases/revoke-prefix/",
            "leases/revoke-force/",
            "leases/lookup/",
        ]
        .iter()
        .any(|prefix| sys.starts_with(prefix))
}

fn is_root_only(path: &str) -> bool {
    let Some(sys) = path.strip_prefix("sys/") else {
        return false;
    };
    let first = sys.split('/').next().unwrap_or_default();
    matches!(
        first,
        "audit"
            | "generate-root"
            | "health"
            | "host-info"
            | "in-flight-req"
            | "init"
            | "metrics"
            | "monitor"
            | "pprof"
            | "raw"
            | "rekey"
            | "seal"
            | "step-down"
            | "storage"
            | "unseal"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (raw, clean) in [
            ("/v1/a/../b", "/v1/b"),
            ("/v1//a/./b/", "/v1/a/b/"),
            ("/v1/a%2F%2Fb", "/v1/a%2F%2Fb"),
            ("/v1/a/", "/v1/a/"),
            ("/v1/..", "/"),
        ] {
            assert_eq!(cleaned(raw), clean);
        }
    }

    #[test]
    fn only_the_old_endpoints_inject() {
        assert!(injects("/v1/sys/mounts") && injects("/v1/sys/mounts/kv/tune"));
        assert!(!injects("/v1/sys/policies/acl/x") && !injects("/v1/team/sys/mounts"));
    }

    #[test]
    fn sudo_is_wanted_for_prefixes() {
        assert!(needs_sudo("sys/leases/revoke-prefix/kv") && needs_sudo("sys/auth/approle"));
        assert!(!needs_sudo("sys/leases/revoke") && !needs_sudo("auth/token/revoke-orphan"));
    }
}
