//! Mounts and auth methods: `sys/mounts`, `sys/auth`, and how the UI and `kv` commands ask for them.

use std::time::Duration;

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::dev::answer::{Answer, Outcome, Refusal};
use crate::dev::call::{Call, Operation};
use crate::dev::engine::Engine;
use crate::dev::fields::Fields;
use crate::dev::state::State;
use crate::dev::state::mount::Mount;
use crate::dev::state::namespace::Namespace;
use crate::dev::state::tree::object;

/// `below` is what follows `mounts/` or `auth/`; empty for the whole table.
pub(super) fn handle(state: &mut State, call: &Call, below: &str, auth: bool) -> Outcome {
    let table = if auth { "auth/" } else { "" };
    let operation = call.operation;
    if below.is_empty() {
        return match operation {
            Operation::Read => Ok(Answer::data(list(namespace(state, call)?, auth))),
            _ => Err(Refusal::unsupported_operation()),
        };
    }
    if let Some(path) = below.strip_suffix("/tune") {
        let path = format!("{table}{}/", path.trim_matches('/'));
        return tune(state, call, &path);
    }
    let path = format!("{table}{}/", below.trim_matches('/'));
    match operation {
        Operation::Read => {
            let found = namespace(state, call)?.mounts.get(&path);
            let found = found.filter(|mount| mount.is_auth() == auth);
            found
                .map(|mount| Answer::data(mount.info()))
                .ok_or_else(|| {
                    let shown = path.strip_prefix(table).unwrap_or(&path);
                    Refusal::bad(if auth {
                        format!("No auth engine at {shown}")
                    } else {
                        format!("No secret engine mount at {shown}")
                    })
                })
        }
        Operation::Update | Operation::Create => mount(state, call, &path, auth),
        Operation::Delete => unmount(state, call, &path),
        _ => Err(Refusal::unsupported_operation()),
    }
}

/// `sys/internal/ui/mounts`: what the caller may see of the tables; nothing without a token.
pub(super) fn ui_list(state: &State, call: &Call) -> Outcome {
    let namespace = namespace(state, call)?;
    let mut tables = (Map::new(), Map::new());
    if !call.token.is_empty() {
        let token = state.tokens.get(&call.token);
        let acl = state.acl(token.ok_or_else(Refusal::no_token)?);
        for mount in namespace.mounts.iter() {
            if acl.touches_mount(&format!("{}{}", namespace.path, mount.path)) {
                let table = if mount.is_auth() {
                    &mut tables.1
                } else {
                    &mut tables.0
                };
                table.insert(mount.table_path().to_owned(), Value::Object(mount.info()));
            }
        }
    }
    Ok(Answer::json(
        json!({ "secret": tables.0, "auth": tables.1 }),
    ))
}

/// `sys/internal/ui/mounts/<path>`: the mount that a path lies in. Whether there is none or the caller may
/// not know is not told apart.
pub(super) fn ui_one(state: &State, call: &Call, path: &str) -> Outcome {
    let token = state.tokens.get(&call.token);
    let acl = state.acl(token.ok_or_else(Refusal::no_token)?);
    let path = format!("{}/", path.trim_matches('/'));
    let own = namespace(state, call)?;
    // A path may lead on into a namespace below.
    let whole = format!("{}{path}", own.path);
    let inner = state
        .namespaces
        .iter()
        .filter(|known| whole.starts_with(&known.path))
        .max_by_key(|known| known.path.len())
        .unwrap_or(own);
    let rest = whole.strip_prefix(&inner.path).unwrap_or_default();
    let found = inner.mounts.matching(rest);
    let found = found.filter(|mount| acl.touches_mount(&format!("{}{}", inner.path, mount.path)));
    let Some(mount) = found else {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!(
                "preflight capability check returned 403, please ensure client's policies grant access to path {path:?}"
            ),
        ));
    };
    let mut info = mount.info();
    let shown = if inner.id == own.id {
        mount.table_path().to_owned()
    } else {
        format!("{}{}", inner.path, mount.path)
    };
    info.insert("path".to_owned(), json!(shown));
    Ok(Answer::data(info))
}

fn list(namespace: &Namespace, auth: bool) -> Map<String, Value> {
    let of_table = namespace
        .mounts
        .iter()
        .filter(|mount| mount.is_auth() == auth);
    of_table
        .map(|mount| (mount.table_path().to_owned(), Value::Object(mount.info())))
        .collect()
}

fn mount(state: &mut State, call: &Call, path: &str, auth: bool) -> Outcome {
    let fields = &call.fields;
    let kind = fields.text("type")?;
    if kind.is_empty() {
        return Err(Refusal::bad("backend type must be specified as a string"));
    }
    if !auth && path.starts_with("auth/") {
        return Err(Refusal::bad(format!("cannot mount {path:?}")));
    }
    let options = Fields(fields.map("options")?.unwrap_or_default());
    let engine = if auth {
        Engine::auth_of_kind(&kind)
    } else {
        let leased = options.flag("leased_passthrough")?.unwrap_or(false);
        Engine::of_kind(&kind, &options.text("version")?, leased)
    };
    let Some(engine) = engine else {
        return Err(Refusal::bad(format!(
            "plugin not found in the catalog: {kind}"
        )));
    };
    let config = Fields(fields.map("config")?.unwrap_or_default());
    let mut mount = Mount::new(path, &kind, &fields.text("description")?, engine);
    let mut options = options.0;
    if kind == "kv-v2" {
        options.insert("version".to_owned(), json!("2"));
    }
    mount.options = Value::Object(options);
    mount.default_ttl = config.duration("default_lease_ttl")?.unwrap_or_default();
    mount.max_ttl = config.duration("max_lease_ttl")?.unwrap_or_default();
    if !mount.max_ttl.is_zero() && mount.default_ttl > mount.max_ttl {
        return Err(Refusal::bad(
            "given default lease TTL greater than given max lease TTL",
        ));
    }
    let namespace = namespace_mut(state, call)?;
    if let Some(other) = namespace.mounts.conflict(path) {
        return Err(Refusal::bad(format!(
            "path is already in use at {}",
            other.table_path()
        )));
    }
    namespace.mounts.insert(mount);
    Ok(Answer::Nothing)
}

/// Revokes every lease and token made through the mount before it goes.
fn unmount(state: &mut State, call: &Call, path: &str) -> Outcome {
    if let Some(mount) = namespace(state, call)?.mounts.get(path) {
        if path == "auth/token/" {
            return Err(Refusal::bad("token credential backend cannot be disabled"));
        }
        if mount.is_fixed() {
            return Err(Refusal::bad(format!(
                "cannot unmount {:?}",
                mount.table_path()
            )));
        }
        state.revoke_under(&call.namespace, path);
        namespace_mut(state, call)?.mounts.remove(path);
    }
    Ok(Answer::Nothing)
}

fn tune(state: &mut State, call: &Call, path: &str) -> Outcome {
    let missing = || {
        Refusal::bad(format!(
            "tune of path {path:?} failed: no mount entry found"
        ))
    };
    let fields = &call.fields;
    let mount = namespace_mut(state, call)?
        .mounts
        .get_mut(path)
        .ok_or_else(missing)?;
    match call.operation {
        Operation::Read => {
            let limits = mount.limits();
            let mut data = object([
                ("default_lease_ttl", json!(limits.default.as_secs())),
                ("max_lease_ttl", json!(limits.max.as_secs())),
                ("description", json!(mount.description)),
                ("force_no_cache", json!(false)),
            ]);
            if mount.is_auth() {
                data.insert("token_type".to_owned(), json!("default-service"));
            }
            if mount.options.as_object().is_some_and(|map| !map.is_empty()) {
                data.insert("options".to_owned(), mount.options.clone());
            }
            Ok(Answer::data(data))
        }
        Operation::Update | Operation::Create => {
            let system = |name| -> Result<Option<Duration>, Refusal> {
                // "system" sets it back to the server's.
                if fields.text(name)? == "system" {
                    return Ok(Some(Duration::ZERO));
                }
                fields.duration(name)
            };
            let default = system("default_lease_ttl")?.unwrap_or(mount.default_ttl);
            let max = system("max_lease_ttl")?.unwrap_or(mount.max_ttl);
            if !max.is_zero() && default > max {
                return Err(Refusal::bad(
                    "backend max lease TTL is less than the default lease TTL",
                ));
            }
            (mount.default_ttl, mount.max_ttl) = (default, max);
            if fields.has("description") {
                mount.description = fields.text("description")?;
            }
            Ok(Answer::Nothing)
        }
        _ => Err(Refusal::unsupported_operation()),
    }
}

fn namespace<'a>(state: &'a State, call: &Call) -> Result<&'a Namespace, Refusal> {
    state
        .namespace(&call.namespace)
        .ok_or_else(Refusal::unsupported_path)
}

fn namespace_mut<'a>(state: &'a mut State, call: &Call) -> Result<&'a mut Namespace, Refusal> {
    state
        .namespace_mut(&call.namespace)
        .ok_or_else(Refusal::unsupported_path)
}
