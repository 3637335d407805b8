//! What roles and users of all auth methods say about the tokens that they give.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::dev::answer::{AuthGrant, Refusal};
use crate::dev::fields::Fields;
use crate::dev::state::tree::object;

#[derive(Clone, Default)]
pub(crate) struct TokenSettings {
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) period: Duration,
    pub(crate) explicit_max_ttl: Duration,
    pub(crate) num_uses: u64,
    pub(crate) policies: Vec<String>,
    pub(crate) no_default_policy: bool,
    /// `default`, `service`, `batch`, ...
    pub(crate) kind: String,
}

/// What is granted at a renewal.
pub(crate) struct Terms {
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) period: Duration,
}

impl TokenSettings {
    /// Takes the `token_*` fields that are there, and `policies`, the old name of one.
    ///
    /// # Errors
    /// A field of the wrong kind, or a TTL above its maximum.
    pub(crate) fn update(&mut self, fields: &Fields) -> Result<(), Refusal> {
        for (slot, name) in [
            (&mut self.ttl, "token_ttl"),
            (&mut self.max_ttl, "token_max_ttl"),
            (&mut self.period, "token_period"),
            (&mut self.explicit_max_ttl, "token_explicit_max_ttl"),
        ] {
            *slot = fields.duration(name)?.unwrap_or(*slot);
        }
        if let Some(uses) = fields.number("token_num_uses")? {
            self.num_uses = u64::try_from(uses)
                .map_err(|_| Refusal::bad("'token_num_uses' cannot be negative"))?;
        }
        for name in ["policies", "token_policies"] {
            if let Some(policies) = fields.list(name)? {
                self.policies = policies;
            }
        }
        if let Some(without) = fields.flag("token_no_default_policy")? {
            self.no_default_policy = without;
        }
        if fields.has("token_type") {
            self.kind = fields.text("token_type")?;
        }
        if !self.max_ttl.is_zero() && self.ttl > self.max_ttl {
            return Err(Refusal::bad(
                "'token_ttl' cannot be greater than 'token_max_ttl'",
            ));
        }
        Ok(())
    }

    pub(crate) fn info(&self) -> Map<String, Value> {
        let kind = if self.kind.is_empty() {
            "default"
        } else {
            &self.kind
        };
        object([
            ("token_bound_cidrs", json!([])),
            (
                "token_explicit_max_ttl",
                json!(self.explicit_max_ttl.as_secs()),
            ),
            ("token_max_ttl", json!(self.max_ttl.as_secs())),
            ("token_no_default_policy", json!(self.no_default_policy)),
            ("token_num_uses", json!(self.num_uses)),
            ("token_period", json!(self.period.as_secs())),
            ("token_policies", json!(self.policies)),
            ("token_strictly_bind_ip", json!(false)),
            ("token_ttl", json!(self.ttl.as_secs())),
            ("token_type", json!(kind)),
        ])
    }

    pub(crate) fn grant(&self) -> AuthGrant {
        let is_batch = matches!(self.kind.as_str(), "batch" | "default-batch");
        AuthGrant {
            policies: self.policies.clone(),
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            period: self.period,
            explicit_max_ttl: self.explicit_max_ttl,
            num_uses: self.num_uses,
            renewable: !is_batch,
            is_batch,
            no_default_policy: self.no_default_policy,
            ..AuthGrant::default()
        }
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            period: self.period,
        }
    }
}
