//! What a fresh development Vault has mounted, and something to read.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::Options;
use super::answer::AuthGrant;
use super::call::{Call, Operation};
use super::engine::{self, Asked, Engine};
use super::fields::Fields;
use super::random;
use super::state::State;
use super::state::grants::NewToken;
use super::state::mount::Mount;
use super::state::namespace::ROOT;
use super::state::policy::{self, Policy};
use crate::secret::Secret;

/// The AppRole role, its policy, and the database role that the demonstration reads.
pub(super) const APP: &str = "app";
pub(super) const DATABASE_ROLE: &str = "app-readonly";
pub(super) const STATIC_ROLE: &str = "app-static";

/// Mounts everything and makes the root token.
pub(super) fn seed(state: &mut State, options: &Options) -> Secret {
    let root = root_token(state, options);
    for (path, kind, version, description) in [
        ("secret/", "kv", "2", "key/value secret storage"),
        ("kv/", "kv", "1", "key/value secret storage, version 1"),
        ("database/", "database", "", "database credentials"),
        ("transit/", "transit", "", "texts sealed and opened"),
        ("aws/", "aws", "", "leases that cannot be renewed"),
        ("auth/approle/", "approle", "", ""),
        ("auth/userpass/", "userpass", "", ""),
        ("auth/kubernetes/", "kubernetes", "", ""),
    ] {
        let engine = if path.starts_with("auth/") {
            Engine::auth_of_kind(kind)
        } else {
            Engine::of_kind(kind, version, false)
        };
        if let (Some(mut engine), Some(namespace)) = (engine, state.namespaces.first_mut()) {
            furnish(&mut engine, state.clock, options);
            let mut mount = Mount::new(path, kind, description, engine);
            if kind == "kv" {
                mount.options = json!({ "version": version });
            }
            namespace.mounts.insert(mount);
        }
    }
    let rules = policy::parse(APP_POLICY).unwrap_or_default();
    let now = state.clock.now();
    if let Some(namespace) = state.namespaces.first_mut() {
        let policy = Policy {
            text: APP_POLICY.to_owned(),
            rules,
            version: 1,
            modified: now,
        };
        namespace.policies.insert(APP.to_owned(), policy);
    }
    if options.seed_demo_data {
        for (path, fields) in demo_data() {
            write(state, path, &fields);
        }
    }
    root
}

fn root_token(state: &mut State, options: &Options) -> Secret {
    // A chosen one is made as a server in development mode makes it: by `auth/token/create`.
    let id = options.root_token.as_ref();
    let (path, display_name) = match id {
        Some(_) => ("auth/token/create", "token"),
        None => ("auth/token/root", "root"),
    };
    let auth = AuthGrant {
        policies: vec!["root".to_owned()],
        display_name: display_name.to_owned(),
        ..AuthGrant::default()
    };
    let new = NewToken {
        namespace: ROOT,
        id: id.map(|token| token.expose().to_owned()),
        parent: None,
        path: path.to_owned(),
        auth: &auth,
    };
    let now = state.clock.now();
    match state.create_token(new, now) {
        // It may not look like one that the server makes; then a random one has to do.
        Ok(auth) => Secret::new(auth.client_token),
        Err(_) => root_token(
            state,
            &Options {
                root_token: None,
                ..options.clone()
            },
        ),
    }
}

/// Roles and keys.
fn furnish(engine: &mut Engine, clock: super::clock::Clock, options: &Options) {
    let now = clock.now();
    match engine {
        Engine::Database(database) => {
            database.set_role(DATABASE_ROLE, options.lease_ttl, options.lease_max_ttl);
            database.set_static_role(STATIC_ROLE, options.rotation_period, now);
        }
        Engine::Transit(transit) => transit.add_key(APP, clock.seconds(now)),
        Engine::Cloud(cloud) => cloud.set_role(APP, options.lease_ttl),
        Engine::AppRole(approle) => {
            let role = approle.role_or_new(APP);
            role.token.ttl = options.token_ttl;
            role.token.max_ttl = options.token_max_ttl;
            role.token.num_uses = options.token_num_uses;
            role.token.policies = vec![APP.to_owned()];
            role.secret_id_num_uses = options.secret_id_num_uses;
            role.secret_id_ttl = options.secret_id_ttl;
        }
        Engine::Kubernetes(kubernetes) => {
            let role = kubernetes.role_or_new(APP);
            role.token.ttl = options.token_ttl;
            role.token.max_ttl = options.token_max_ttl;
            role.token.policies = vec![APP.to_owned()];
            role.names = vec![APP.to_owned()];
            role.namespaces = vec!["default".to_owned()];
        }
        Engine::System
        | Engine::Token
        | Engine::Cubbyhole
        | Engine::Identity
        | Engine::Kv1(_)
        | Engine::Kv2(_)
        | Engine::Userpass(_) => {}
    }
}

fn write(state: &mut State, path: &str, fields: &Value) {
    let (clock, now) = (state.clock, state.clock.now());
    let Some(namespace) = state.namespaces.first_mut() else {
        return;
    };
    let Some(mount) = namespace
        .mounts
        .iter_mut()
        .find(|mount| path.starts_with(&mount.path))
    else {
        return;
    };
    let call = Call {
        id: random::uuid(),
        operation: Operation::Create,
        path: path.to_owned(),
        fields: Fields(fields.as_object().cloned().unwrap_or_default()),
        token: String::new(),
        wrap_ttl: None,
        namespace: ROOT.to_owned(),
    };
    let asked = Asked {
        call: &call,
        rest: path.strip_prefix(&mount.path).unwrap_or_default(),
        clock,
        now,
        limits: mount.limits(),
        display_name: "",
    };
    if engine::handle(&mut mount.engine, &asked).is_err() {
        tracing::error!(path, "the demonstration's data could not be written");
    }
}

fn demo_data() -> [(&'static str, Value); 4] {
    [
        (
            "secret/data/app/config",
            json!({ "data": { "greeting": "hello", "log_level": "info" } }),
        ),
        (
            "secret/data/cwiq/dev/orchestrator/database",
            json!({ "data": {
                "pg_user": "orchestrator",
                "pg_password": random::password(),
                "pg_host": "127.0.0.1",
                "pg_port": "5432",
                "pg_name": "orchestrator",
            } }),
        ),
        (
            "secret/data/cwiq/dev/orchestrator/config",
            json!({ "data": { "secret_key": random::hex(32) } }),
        ),
        (
            "kv/app/config",
            json!({ "greeting": "hello from version 1" }),
        ),
    ]
}

/// Short enough that renewal and replacement can be watched.
pub(super) const DEMO_LEASE: (Duration, Duration) =
    (Duration::from_secs(30), Duration::from_secs(90));
pub(super) const DEMO_TOKEN: (Duration, Duration) =
    (Duration::from_secs(120), Duration::from_secs(600));
pub(super) const DEMO_ROTATION: Duration = Duration::from_secs(60);

const APP_POLICY: &str = r#"# What can be tried without a token of one's own: all secrets, and the leases that come of them.
path "secret/data/*"     { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
path "secret/metadata/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
path "secret/subkeys/*"  { capabilities = ["read"] }
path "secret/delete/*"   { capabilities = ["update"] }
path "secret/undelete/*" { capabilities = ["update"] }
path "secret/destroy/*"  { capabilities = ["update"] }
path "kv/*"              { capabilities = ["create", "read", "update", "delete", "list"] }
path "database/creds/app*"     { capabilities = ["read"] }
path "database/static-creds/*" { capabilities = ["read"] }
path "transit/encrypt/*" { capabilities = ["create", "update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/keys/*"    { capabilities = ["read", "list"] }
path "aws/creds/*"       { capabilities = ["read"] }
path "aws/sts/*"         { capabilities = ["create", "read", "update"] }
path "sys/leases/lookup"   { capabilities = ["update"] }
path "sys/leases/renew*"   { capabilities = ["update"] }
path "sys/leases/revoke"   { capabilities = ["update"] }
path "sys/leases/revoke/*" { capabilities = ["update"] }
# And something that may not be read.
path "secret/data/forbidden/*" { capabilities = ["deny"] }
"#;
