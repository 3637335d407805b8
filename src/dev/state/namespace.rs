//! Namespaces: each a small Vault of its own, below another.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::mount::{Mount, Mounts};
use super::policy::{Capabilities, Policy, Rule};
use super::tree::object;
use crate::dev::engine::Engine;
use crate::dev::random;

pub(crate) struct Namespace {
    /// Ends the ids of its tokens and leases; `root` ends none.
    pub(crate) id: String,
    pub(crate) uuid: String,
    /// Empty for the root, else with a slash at its end.
    pub(crate) path: String,
    pub(crate) custom_metadata: Map<String, Value>,
    pub(crate) mounts: Mounts,
    pub(crate) policies: BTreeMap<String, Policy>,
}

impl Namespace {
    pub(crate) fn new(path: &str, now: Instant) -> Self {
        let id = if path.is_empty() {
            ROOT.to_owned()
        } else {
            random::base62(6)
        };
        let path_is_root = path.is_empty();
        let mut mounts = Mounts::default();
        for (path, kind, description, engine) in [
            (
                "sys/",
                "system",
                "system endpoints used for control, policy and debugging",
                Engine::System,
            ),
            (
                "cubbyhole/",
                "cubbyhole",
                "per-token private secret storage",
                Engine::Cubbyhole,
            ),
            ("identity/", "identity", "identity store", Engine::Identity),
            (
                "auth/token/",
                "token",
                "token based credentials",
                Engine::Token,
            ),
        ] {
            let mut mount = Mount::new(path, kind, description, engine);
            mount.options = Value::Null;
            if !path_is_root {
                mount.kind = format!("ns_{kind}");
            }
            mounts.insert(mount);
        }
        Self {
            id,
            uuid: random::uuid(),
            path: path.to_owned(),
            custom_metadata: Map::new(),
            mounts,
            policies: BTreeMap::from([("default".to_owned(), default_policy(now))]),
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// What ends an id made in this namespace.
    pub(crate) fn suffix(&self) -> String {
        if self.is_root() {
            String::new()
        } else {
            format!(".{}", self.id)
        }
    }

    pub(crate) fn info(&self) -> Map<String, Value> {
        object([
            ("uuid", json!(self.uuid)),
            ("path", json!(self.path)),
            ("id", json!(self.id)),
            ("tainted", json!(false)),
            ("locked", json!(false)),
            ("custom_metadata", json!(self.custom_metadata)),
        ])
    }
}

/// What every token may do: look after itself, its leases by id, its cubbyhole and wrapping.
fn default_policy(now: Instant) -> Policy {
    let mut text = String::new();
    let mut rules = Vec::new();
    for (path, capabilities) in DEFAULT_RULES {
        text.push_str(&format!(
            "path {path:?} {{\n  capabilities = {capabilities:?}\n}}\n"
        ));
        let mut rule = Rule {
            path: (*path).to_owned(),
            capabilities: Capabilities::default(),
        };
        for name in *capabilities {
            rule.capabilities = rule
                .capabilities
                .with(Capabilities::named(name).unwrap_or_default());
        }
        rules.push(rule);
    }
    Policy {
        text,
        rules,
        version: 1,
        modified: now,
    }
}

const DEFAULT_RULES: &[(&str, &[&str])] = &[
    ("auth/token/lookup-self", &["read"]),
    ("auth/token/renew-self", &["update"]),
    ("auth/token/revoke-self", &["update"]),
    ("sys/capabilities-self", &["update"]),
    ("sys/internal/ui/resultant-acl", &["read"]),
    ("sys/leases/renew", &["update"]),
    ("sys/leases/lookup", &["update"]),
    (
        "cubbyhole/*",
        &["create", "read", "update", "delete", "list"],
    ),
    ("sys/wrapping/wrap", &["update"]),
    ("sys/wrapping/lookup", &["update"]),
    ("sys/wrapping/unwrap", &["update"]),
    ("sys/tools/hash", &["update"]),
    ("sys/tools/hash/*", &["update"]),
    ("identity/oidc/provider/+/authorize", &["read", "update"]),
];

pub(crate) const ROOT: &str = "root";
