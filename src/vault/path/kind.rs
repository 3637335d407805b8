//! What kind of call a path is. See the text of `path` for what is done in doubt.

use std::fmt;

/// What kind of call a path is, whatever the method.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// `auth/<mount>/login...`
    Login,
    /// `auth/token/create...`
    TokenCreate,
    /// `auth/token/renew`, `renew-self`, `renew-accessor`
    TokenRenew(Named),
    /// `auth/token/revoke`, `revoke-self`, `revoke-accessor`, `revoke-orphan`
    TokenRevoke { named: Named, orphan: bool },
    /// `auth/token/lookup...`
    TokenLookup,
    /// `sys/leases/renew[/id]`, `sys/renew[/id]`; the id where it is in the path
    LeaseRenew(Option<String>),
    /// `sys/leases/revoke[/id]`, `sys/revoke[/id]`
    LeaseRevoke(Option<String>),
    /// `sys/leases/revoke-prefix/<prefix>`, `revoke-force`, and the old `sys/revoke-...`
    LeaseRevokePrefix(String),
    /// `sys/internal/ui/mounts[/path]`: the look-up in front of KV commands
    UiMounts,
    /// Whatever changes who may read what, or where it lies: mounts, auth methods, policies, namespaces, identity
    Access,
    /// `sys/wrapping/...`
    Wrapping,
    /// Answered without a token: health, seal status, init, leader
    Unauthenticated,
    /// Any other `sys/` or `auth/` path
    System,
    /// A path of a secret engine
    Secret,
}

/// How a call on `auth/token/` names the token it is about.
#[derive(Clone, PartialEq, Eq)]
pub enum Named {
    /// The token that the request carries.
    Caller,
    /// `{"token": ...}` in the body, or in the path in old clients.
    Token(Option<String>),
    /// `{"accessor": ...}` in the body, or in the path in old clients.
    Accessor(Option<String>),
}

/// `engines_end_it`: behind a segment that only a secret engine has, everything is a secret's name.
pub(super) fn classify(inside: &str, engines_end_it: bool) -> Kind {
    let mut rest = Some(inside);
    let mut is_first = true;
    while let Some(text) = rest {
        let (segment, behind) = first_segment(text);
        match segment {
            "sys" => return classify_sys(&segments(behind)),
            "auth" if behind.is_some() => return classify_auth(&segments(behind)),
            "identity" if is_first => return classify_identity(&segments(behind)),
            _ if engines_end_it && !is_first && is_engine_segment(segment) => return Kind::Secret,
            _ => {}
        }
        is_first = false;
        rest = behind;
    }
    Kind::Secret
}

/// What stands before the first slash, and what behind it.
fn first_segment(text: &str) -> (&str, Option<&str>) {
    let slash = text.bytes().position(|byte| byte == b'/');
    match slash.and_then(|at| text.split_at_checked(at)) {
        Some((segment, behind)) => (segment, behind.get(1..)),
        None => (text, None),
    }
}

fn segments(text: Option<&str>) -> Vec<&str> {
    text.map_or_else(Vec::new, |text| text.split('/').collect())
}

/// Segments behind which `sys` and `auth` are just names of secrets.
fn is_engine_segment(segment: &str) -> bool {
    matches!(
        segment,
        "data"
            | "metadata"
            | "subkeys"
            | "delete"
            | "undelete"
            | "destroy"
            | "detailed-metadata"
            | "creds"
            | "static-creds"
            | "roles"
            | "config"
            | "keys"
            | "issue"
            | "sign"
    )
}

fn classify_identity(rest: &[&str]) -> Kind {
    match rest {
        // Questions, though some are asked by POST.
        ["lookup" | "oidc", ..] => Kind::System,
        _ => Kind::Access,
    }
}

fn classify_sys(rest: &[&str]) -> Kind {
    let tail = |from: usize| {
        let text = rest.get(from..).unwrap_or_default().join("/");
        (!text.is_empty()).then_some(text)
    };
    match rest {
        ["leases", "renew", ..] => Kind::LeaseRenew(tail(2)),
        ["renew", ..] => Kind::LeaseRenew(tail(1)),
        ["leases", "revoke", ..] => Kind::LeaseRevoke(tail(2)),
        ["revoke", ..] => Kind::LeaseRevoke(tail(1)),
        ["leases", "revoke-prefix" | "revoke-force", ..] => {
            Kind::LeaseRevokePrefix(tail(2).unwrap_or_default())
        }
        ["revoke-prefix" | "revoke-force", ..] => {
            Kind::LeaseRevokePrefix(tail(1).unwrap_or_default())
        }
        ["internal", "ui", "mounts", ..] => Kind::UiMounts,
        [
            "mounts" | "auth" | "remount" | "policy" | "policies" | "namespaces" | "raw" | "seal",
            ..,
        ] => Kind::Access,
        ["wrapping", ..] => Kind::Wrapping,
        [
            "health" | "seal-status" | "init" | "leader" | "unseal" | "generate-root" | "rekey",
            ..,
        ] => Kind::Unauthenticated,
        _ => Kind::System,
    }
}

fn classify_auth(rest: &[&str]) -> Kind {
    let in_path = |from: usize| rest.get(from).map(|text| (*text).to_owned());
    match rest {
        ["token", "create" | "create-orphan", ..] => Kind::TokenCreate,
        ["token", "renew", ..] => Kind::TokenRenew(Named::Token(in_path(2))),
        ["token", "renew-self", ..] => Kind::TokenRenew(Named::Caller),
        ["token", "renew-accessor", ..] => Kind::TokenRenew(Named::Accessor(in_path(2))),
        ["token", "revoke", ..] => Kind::TokenRevoke {
            named: Named::Token(in_path(2)),
            orphan: false,
        },
        ["token", "revoke-self", ..] => Kind::TokenRevoke {
            named: Named::Caller,
            orphan: false,
        },
        ["token", "revoke-accessor", ..] => Kind::TokenRevoke {
            named: Named::Accessor(in_path(2)),
            orphan: false,
        },
        ["token", "revoke-orphan", ..] => Kind::TokenRevoke {
            named: Named::Token(in_path(2)),
            orphan: true,
        },
        ["token", "lookup" | "lookup-self" | "lookup-accessor", ..] => Kind::TokenLookup,
        ["token", ..] => Kind::System,
        // `auth/<mount>/login`, where a mount may have slashes; `login/<user>` behind it.
        [_, rest @ ..] if rest.contains(&"login") => Kind::Login,
        _ => Kind::System,
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login => "Login",
            Self::TokenCreate => "TokenCreate",
            Self::TokenRenew(_) => "TokenRenew",
            Self::TokenRevoke { .. } => "TokenRevoke",
            Self::TokenLookup => "TokenLookup",
            Self::LeaseRenew(_) => "LeaseRenew",
            Self::LeaseRevoke(_) => "LeaseRevoke",
            Self::LeaseRevokePrefix(_) => "LeaseRevokePrefix",
            Self::UiMounts => "UiMounts",
            Self::Access => "Access",
            Self::Wrapping => "Wrapping",
            Self::Unauthenticated => "Unauthenticated",
            Self::System => "System",
            Self::Secret => "Secret",
        })
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "Caller",
            Self::Token(_) => "Token",
            Self::Accessor(_) => "Accessor",
        })
    }
}
