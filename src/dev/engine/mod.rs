//! The engines behind the mounts. An engine answers calls below its mount and says in its answer what is to
//! be leased or whom to log in; it knows nothing of tokens and leases itself.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an endpoint refuses whatever operation it does not take"
)]

pub(crate) mod approle;
pub(crate) mod cloud;
pub(crate) mod database;
pub(crate) mod kubernetes;
pub(crate) mod kv1;
pub(crate) mod kv2;
mod kv2_data;
mod kv2_meta;
pub(crate) mod login;
pub(crate) mod transit;
pub(crate) mod userpass;

use std::time::Duration;

use tokio::time::Instant;

use self::approle::AppRole;
use self::cloud::Cloud;
use self::database::Database;
use self::kubernetes::Kubernetes;
use self::kv1::Kv1;
use self::kv2::Kv2;
use self::login::Terms;
use self::transit::Transit;
use self::userpass::Userpass;
use super::answer::{Outcome, Refusal};
use super::call::Call;
use super::clock::Clock;
use super::state::lease::Internal;
use super::state::ttl::Limits;

pub(crate) enum Engine {
    /// Answered by the routes, since they are about the whole state.
    System,
    Token,
    Cubbyhole,
    /// Mounted because a server has it; it answers nothing.
    Identity,
    Kv1(Kv1),
    Kv2(Box<Kv2>),
    Database(Database),
    Transit(Transit),
    Cloud(Cloud),
    AppRole(AppRole),
    Userpass(Userpass),
    Kubernetes(Kubernetes),
}

/// One call to an engine.
pub(crate) struct Asked<'a> {
    pub(crate) call: &'a Call,
    /// The path below the mount.
    pub(crate) rest: &'a str,
    pub(crate) clock: Clock,
    pub(crate) now: Instant,
    pub(crate) limits: Limits,
    /// Of the caller's token.
    pub(crate) display_name: &'a str,
}

impl Engine {
    /// `None`: no such engine. `kv` is version 1 unless its options say 2.
    pub(crate) fn of_kind(kind: &str, version: &str, leased: bool) -> Option<Self> {
        Some(match (kind, version) {
            ("kv-v2", _) | ("kv", "2") => Self::Kv2(Box::default()),
            ("kv" | "kv-v1" | "generic", _) => Self::Kv1(Kv1::new(leased)),
            ("database", _) => Self::Database(Database::default()),
            ("transit", _) => Self::Transit(Transit::default()),
            ("aws", _) => Self::Cloud(Cloud::default()),
            _ => return None,
        })
    }

    pub(crate) fn auth_of_kind(kind: &str) -> Option<Self> {
        Some(match kind {
            "approle" => Self::AppRole(AppRole::default()),
            "userpass" => Self::Userpass(Userpass::default()),
            "kubernetes" => Self::Kubernetes(Kubernetes::default()),
            _ => return None,
        })
    }
}

pub(crate) fn handle(engine: &mut Engine, asked: &Asked<'_>) -> Outcome {
    match engine {
        Engine::Kv1(kv) => kv.handle(asked),
        Engine::Kv2(kv) => kv.handle(asked),
        Engine::Database(database) => database.handle(asked),
        Engine::Transit(transit) => transit.handle(asked),
        Engine::Cloud(cloud) => cloud.handle(asked),
        Engine::AppRole(approle) => approle.handle(asked),
        Engine::Userpass(userpass) => userpass.handle(asked),
        Engine::Kubernetes(kubernetes) => kubernetes.handle(asked),
        Engine::System | Engine::Token | Engine::Cubbyhole | Engine::Identity => {
            Err(Refusal::unsupported_path())
        }
    }
}

/// Whether a write would create or update; `None` where the engine makes no difference.
pub(crate) fn exists(engine: &Engine, rest: &str) -> Option<bool> {
    match engine {
        Engine::Kv1(kv) => Some(kv.has(rest)),
        Engine::Kv2(kv) => kv.has(rest),
        Engine::Database(database) => database.has(rest),
        Engine::Transit(transit) => transit.has(rest),
        Engine::AppRole(approle) => approle.has(rest),
        Engine::Userpass(userpass) => userpass.has(rest),
        Engine::Kubernetes(kubernetes) => kubernetes.has(rest),
        Engine::Cloud(_)
        | Engine::System
        | Engine::Token
        | Engine::Cubbyhole
        | Engine::Identity => None,
    }
}

/// May this path be called without a token?
pub(crate) fn is_login(engine: &Engine, rest: &str) -> bool {
    match engine {
        Engine::AppRole(_) | Engine::Kubernetes(_) => rest == "login",
        Engine::Userpass(_) => rest.starts_with("login/"),
        _ => false,
    }
}

/// The TTL and maximum as its role has them at the time of a renewal: roles may have changed.
///
/// # Errors
/// The secret can no longer be renewed.
pub(crate) fn renewal_terms(
    engine: &Engine,
    internal: &Internal,
) -> Result<(Duration, Duration), String> {
    match (engine, internal) {
        (Engine::Database(database), Internal::Database { role, .. }) => database
            .renewal_terms(role)
            .ok_or_else(|| format!("error during renew: could not find role with name {role:?}")),
        (Engine::Kv1(kv), Internal::Kv { key }) => Ok((kv.ttl_of(key), Duration::ZERO)),
        _ => Err("the engine that made this secret is gone".to_owned()),
    }
}

/// What a login's role or user grants at a renewal; `None` when it is gone.
pub(crate) fn login_terms(engine: &Engine, name: &str) -> Option<Terms> {
    match engine {
        Engine::AppRole(approle) => approle.terms(name),
        Engine::Userpass(userpass) => userpass.terms(name),
        Engine::Kubernetes(kubernetes) => kubernetes.terms(name),
        _ => None,
    }
}

pub(crate) fn revoke(engine: &mut Engine, internal: &Internal) {
    match (engine, internal) {
        (Engine::Database(database), Internal::Database { username, .. }) => {
            database.drop_user(username);
        }
        (Engine::Cloud(cloud), Internal::Cloud { access_key, .. }) => cloud.drop_key(access_key),
        _ => {}
    }
}

/// A path's segments, for matching; an empty one at the end means a slash at the end.
pub(crate) fn segments(rest: &str) -> Vec<&str> {
    rest.split('/').collect()
}
