//! What is mounted where in one namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::tree::object;
use super::ttl::{Limits, SYSTEM};
use crate::dev::engine::Engine;
use crate::dev::random;

pub(crate) struct Mount {
    /// With its slash, and `auth/` in front for auth methods.
    pub(crate) path: String,
    pub(crate) kind: String,
    pub(crate) accessor: String,
    pub(crate) uuid: String,
    pub(crate) description: String,
    /// `null` for what the server mounts itself.
    pub(crate) options: Value,
    /// Zero: the server's.
    pub(crate) default_ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) engine: Engine,
}

#[derive(Default)]
pub(crate) struct Mounts(BTreeMap<String, Mount>);

impl Mount {
    pub(crate) fn new(path: &str, kind: &str, description: &str, engine: Engine) -> Self {
        let table = if path.starts_with("auth/") {
            "auth_"
        } else {
            ""
        };
        let kind = kind.strip_suffix("-v2").unwrap_or(kind);
        let kind = kind.strip_suffix("-v1").unwrap_or(kind);
        Self {
            path: path.to_owned(),
            kind: kind.to_owned(),
            accessor: format!("{table}{kind}_{}", random::hex(4)),
            uuid: random::uuid(),
            description: description.to_owned(),
            options: json!({}),
            default_ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
            engine,
        }
    }

    pub(crate) fn is_auth(&self) -> bool {
        self.path.starts_with("auth/")
    }

    /// The path as the tables of `sys/mounts` and `sys/auth` show it.
    pub(crate) fn table_path(&self) -> &str {
        self.path.strip_prefix("auth/").unwrap_or(&self.path)
    }

    pub(crate) fn limits(&self) -> Limits {
        let or = |own: Duration, system| if own.is_zero() { system } else { own };
        let max = or(self.max_ttl, SYSTEM.max);
        Limits {
            default: or(self.default_ttl, SYSTEM.default).min(max),
            max,
        }
    }

    /// Mounted by the server itself, and not to be unmounted.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(
            self.path.as_str(),
            "sys/" | "cubbyhole/" | "identity/" | "auth/token/"
        )
    }

    pub(crate) fn info(&self) -> Map<String, Value> {
        let mut config = object([
            ("default_lease_ttl", json!(self.default_ttl.as_secs())),
            ("max_lease_ttl", json!(self.max_ttl.as_secs())),
            ("force_no_cache", json!(false)),
        ]);
        if matches!(self.engine, Engine::Identity | Engine::System) {
            let header = if matches!(self.engine, Engine::System) {
                "Accept"
            } else {
                "Authorization"
            };
            config.insert("passthrough_request_headers".to_owned(), json!([header]));
        }
        if self.is_auth() {
            let token_type = match self.kind.as_str() {
                "ns_token" => "default",
                _ => "default-service",
            };
            config.insert("token_type".to_owned(), json!(token_type));
        }
        let mut info = object([
            ("type", json!(self.kind)),
            ("description", json!(self.description)),
            ("accessor", json!(self.accessor)),
            ("local", json!(matches!(self.engine, Engine::Cubbyhole))),
            ("seal_wrap", json!(matches!(self.engine, Engine::System))),
            ("external_entropy_access", json!(false)),
            ("options", self.options.clone()),
            ("uuid", json!(self.uuid)),
            ("plugin_version", json!("")),
            ("running_plugin_version", json!(RUNNING_VERSION)),
            ("running_sha256", json!("")),
            ("config", Value::Object(config)),
        ]);
        if matches!(
            self.kind.as_str(),
            "kv" | "approle" | "userpass" | "kubernetes" | "transit"
        ) {
            info.insert("deprecation_status".to_owned(), json!("supported"));
        }
        info
    }
}

impl Mounts {
    pub(crate) fn insert(&mut self, mount: Mount) {
        self.0.insert(mount.path.clone(), mount);
    }

    pub(crate) fn remove(&mut self, path: &str) -> Option<Mount> {
        self.0.remove(path)
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Mount> {
        self.0.get(path)
    }

    pub(crate) fn get_mut(&mut self, path: &str) -> Option<&mut Mount> {
        self.0.get_mut(path)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Mount> {
        self.0.values_mut()
    }

    /// The mount that a request path belongs to; a mount answers to its path without the slash, too.
    pub(crate) fn matching(&self, path: &str) -> Option<&Mount> {
        let candidates = self.0.values().filter(|mount| {
            path.starts_with(&mount.path) || mount.path.strip_suffix('/') == Some(path)
        });
        candidates.max_by_key(|mount| mount.path.len())
    }

    /// The mount that stands in the way of another at `path`.
    pub(crate) fn conflict(&self, path: &str) -> Option<&Mount> {
        self.0
            .values()
            .find(|mount| mount.path.starts_with(path) || path.starts_with(&mount.path))
    }
}

const RUNNING_VERSION: &str = "v2.6.0+builtin.bao";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_answers() {
        let mut mounts = Mounts::default();
        for path in ["a/", "a/b/", "auth/token/"] {
            mounts.insert(Mount::new(path, "kv-v2", "", Engine::Identity));
        }
        let found = |path| mounts.matching(path).map(|mount| mount.path.as_str());
        assert_eq!(found("a/x"), Some("a/"));
        assert_eq!(found("a/b"), Some("a/b/"));
        assert_eq!(found("a/b/c"), Some("a/b/"));
        assert_eq!(found("ab"), None);
        assert_eq!(mounts.get("a/").unwrap().kind, "kv");
        assert!(
            mounts
                .get("auth/token/")
                .unwrap()
                .accessor
                .starts_with("auth_kv_")
        );
        assert!(mounts.conflict("a/b/c/").is_some() && mounts.conflict("x/").is_none());
    }
}
