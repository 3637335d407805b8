//! `auth/token/create` and `create-orphan`: tokens made by tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::dev::answer::{Answer, AuthGrant, Outcome, Refusal, Reply};
use crate::dev::call::Call;
use crate::dev::fields::{Fields, parse_duration};
use crate::dev::state::State;
use crate::dev::state::grants::NewToken;
use crate::dev::state::policy::Capabilities;
use crate::dev::state::token::{Token, Uses, WRAPPING_POLICY};
use crate::dev::state::ttl::{self, SYSTEM, Wish};

pub(super) fn create(state: &mut State, call: &Call, orphan: bool, now: Instant) -> Outcome {
    let fields = &call.fields;
    let is_sudo = has_sudo(state, call);
    let parent = state
        .tokens
        .get(&call.token)
        .filter(|parent| parent.uses != Uses::Last);
    let parent =
        parent.ok_or_else(|| Refusal::bad("parent token lookup failed: no parent found"))?;
    check_parent(parent, call, is_sudo)?;
    let wished = Wished::read(fields, is_sudo)?;
    let policies = policies(fields, parent, call, is_sudo)?;
    let is_root = policies.iter().any(|policy| policy == "root");
    if is_root && !parent.is_root() {
        return Err(Refusal::bad(
            "root tokens may not be created without parent token being root",
        ));
    }
    if is_root && wished.is_batch {
        return Err(Refusal::bad("batch tokens cannot be root tokens"));
    }
    let is_orphan = orphan || wished.no_parent;
    let mut auth = AuthGrant {
        policies,
        metadata: metadata(fields)?,
        ttl: wished.ttl,
        period: wished.period,
        explicit_max_ttl: wished.explicit_max,
        num_uses: wished.num_uses,
        is_batch: wished.is_batch,
        display_name: display_name(&fields.text("display_name")?),
        entity_id: if is_orphan {
            String::new()
        } else {
            parent.entity_id.clone()
        },
        ..AuthGrant::default()
    };
    let mut warnings = limit(state, &mut auth, is_root, now)?;
    if auth.ttl.is_zero() && parent.end.is_some() {
        return Err(Refusal::bad(
            "expiring root tokens cannot create non-expiring root tokens",
        ));
    }
    auth.renewable = wished.renewable && !wished.is_batch && !auth.ttl.is_zero();
    if wished.id.is_some() {
        warnings.push(CUSTOM_ID.to_owned());
    }
    warnings.extend(missing_policies(state, call, &auth.policies));
    let parent = (!is_orphan).then(|| call.token.clone());
    let new = NewToken {
        namespace: &call.namespace,
        id: wished.id,
        parent,
        path: call.path.clone(),
        auth: &auth,
    };
    let auth = state.create_token(new, now)?;
    let reply = Reply {
        warnings,
        auth: Some(auth),
        ..Reply::default()
    };
    Ok(Answer::reply(reply).warn(fields.ignored(KNOWN)))
}

/// Has the caller `sudo` on the path that it calls?
pub(super) fn has_sudo(state: &State, call: &Call) -> bool {
    let Some(token) = state.tokens.get(&call.token) else {
        return false;
    };
    let acl = state.acl(token);
    let path = format!("{}{}", state.namespace_path(&call.namespace), call.path);
    acl.is_root || acl.capabilities(&path, false).has(Capabilities::SUDO)
}

struct Wished {
    id: Option<String>,
    no_parent: bool,
    is_batch: bool,
    renewable: bool,
    num_uses: u64,
    ttl: Duration,
    period: Duration,
    explicit_max: Duration,
}

impl Wished {
    fn read(fields: &Fields, is_sudo: bool) -> Result<Self, Refusal> {
        let is_batch = match fields.text("type")?.as_str() {
            "" | "service" => false,
            "batch" => true,
            _ => return Err(Refusal::bad("invalid 'token_type' value")),
        };
        let uses = fields.number("num_uses")?.unwrap_or(0);
        let num_uses =
            u64::try_from(uses).map_err(|_| Refusal::bad("number of uses cannot be negative"))?;
        let ttl = if fields.has("ttl") { "ttl" } else { "lease" };
        let wished = Self {
            id: Some(fields.text("id")?).filter(|id| !id.is_empty()),
            no_parent: fields.flag("no_parent")?.unwrap_or(false),
            is_batch,
            renewable: fields.flag("renewable")?.unwrap_or(true),
            num_uses,
            ttl: duration(fields, ttl)?,
            period: duration(fields, "period")?,
            explicit_max: duration(fields, "explicit_max_ttl")?,
        };
        let unfit = [
            ("explicit_max_ttl", !wished.explicit_max.is_zero()),
            ("num_uses", wished.num_uses != 0),
            ("period", !wished.period.is_zero()),
        ];
        if let Some((name, _)) = unfit.iter().find(|(_, set)| is_batch && *set) {
            return Err(Refusal::bad(format!(
                "batch tokens cannot have {name:?} set"
            )));
        }
        let sudo_for = if wished.id.is_some() {
            "specify token id"
        } else if wished.no_parent {
            "create orphan token"
        } else if !wished.period.is_zero() {
            "create periodic token"
        } else {
            return Ok(wished);
        };
        if is_sudo {
            return Ok(wished);
        }
        Err(Refusal::bad(format!(
            "root or sudo privileges required to {sudo_for}"
        )))
    }
}

fn check_parent(parent: &Token, call: &Call, is_sudo: bool) -> Result<(), Refusal> {
    if parent.is_batch {
        return Err(Refusal::bad("batch tokens cannot create more tokens"));
    }
    if parent.uses != Uses::Unlimited {
        return Err(Refusal::bad(
            "restricted use token cannot generate child tokens",
        ));
    }
    if parent.namespace != call.namespace && !is_sudo {
        return Err(Refusal::bad(
            "root or sudo privileges required to directly generate a token in a child namespace",
        ));
    }
    Ok(())
}

/// The wished policies, or the parent's; a subset of the parent's, but for sudo.
fn policies(
    fields: &Fields,
    parent: &Token,
    call: &Call,
    is_sudo: bool,
) -> Result<Vec<String>, Refusal> {
    let wished: Vec<String> = fields
        .list("policies")?
        .unwrap_or_default()
        .iter()
        .map(|policy| policy.to_lowercase())
        .collect();
    let without_default = fields.flag("no_default_policy")?.unwrap_or(false);
    let from_above = parent.namespace != call.namespace;
    let (mut policies, add_default) = if from_above {
        if wished.iter().any(|policy| policy == "root") {
            return Err(Refusal::bad(
                "root tokens may not be created from a parent namespace",
            ));
        }
        (wished, true)
    } else if wished.is_empty() {
        (parent.policies.clone(), false)
    } else if is_sudo {
        (wished, true)
    } else {
        if !wished.iter().all(|policy| parent.policies.contains(policy)) {
            return Err(Refusal::bad("child policies must be subset of parent"));
        }
        let inherits = parent.policies.iter().any(|policy| policy == "default");
        (wished, inherits)
    };
    if policies.iter().any(|policy| policy == "root") {
        // Nothing can be added to that one.
        policies = vec!["root".to_owned()];
    } else if add_default {
        policies.push("default".to_owned());
    }
    if without_default {
        policies.retain(|policy| policy != "default");
    }
    if policies.iter().any(|policy| policy == WRAPPING_POLICY) {
        return Err(Refusal::bad(format!(
            "cannot assign policy {WRAPPING_POLICY:?}"
        )));
    }
    Ok(policies)
}

/// Settles the TTL; a root token without a wish has none.
fn limit(
    state: &State,
    auth: &mut AuthGrant,
    is_root: bool,
    now: Instant,
) -> Result<Vec<String>, Refusal> {
    let mut warnings = Vec::new();
    if !auth.period.is_zero() || !auth.ttl.is_zero() || !is_root {
        let wish = Wish {
            backend: auth.ttl,
            period: auth.period,
            explicit_max: auth.explicit_max_ttl,
            ..Wish::default()
        };
        let granted =
            ttl::grant(state.clock, SYSTEM, wish, None, now).map_err(Refusal::internal)?;
        auth.ttl = granted.ttl;
        warnings = granted.warnings;
    }
    if auth.ttl.is_zero() {
        auth.ttl = auth.explicit_max_ttl;
    }
    Ok(warnings)
}

fn missing_policies(state: &State, call: &Call, policies: &[String]) -> Vec<String> {
    let Some(namespace) = state.namespace(&call.namespace) else {
        return Vec::new();
    };
    let missing = policies
        .iter()
        .filter(|name| *name != "root" && !namespace.policies.contains_key(*name));
    missing
        .map(|name| format!("Policy {name:?} does not exist"))
        .collect()
}

/// These are texts to the server, and parsed by the endpoint itself.
fn duration(fields: &Fields, name: &str) -> Result<Duration, Refusal> {
    parse_duration(&fields.text(name)?).map_err(Refusal::bad)
}

fn metadata(fields: &Fields) -> Result<Option<BTreeMap<String, String>>, Refusal> {
    let Some(metadata) = fields.map("meta")? else {
        return Ok(None);
    };
    let texts = metadata.into_iter().map(|(name, value)| match value {
        Value::String(text) => (name, text),
        other => (name, other.to_string()),
    });
    Ok(Some(texts.collect()))
}

fn display_name(wished: &str) -> String {
    if wished.is_empty() {
        return "token".to_owned();
    }
    let plain = wished.chars().map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' => letter,
        _ => '-',
    });
    let name = format!("token-{}", plain.collect::<String>());
    name.strip_suffix('-').unwrap_or(&name).to_owned()
}

const KNOWN: &[&str] = &[
    "display_name",
    "entity_alias",
    "explicit_max_ttl",
    "format",
    "id",
    "lease",
    "meta",
    "no_default_policy",
    "no_parent",
    "num_uses",
    "period",
    "policies",
    "renewable",
    "role_name",
    "ttl",
    "type",
];

const CUSTOM_ID: &str = "Supplying a custom ID for the token uses the weaker SHA1 hashing instead of \
                         the more secure SHA2-256 HMAC for token obfuscation. SHA1 hashed tokens on the \
                         wire leads to less secure lookups.";
