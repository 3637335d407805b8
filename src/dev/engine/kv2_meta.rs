//! KV version 2: metadata and lists.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Asked;
use super::kv2::{Kv2, Secret};
use crate::dev::answer::{Answer, Outcome, Refusal};
use crate::dev::call::Operation;
use crate::dev::clock::Clock;
use crate::dev::state::tree::{self, object};
use crate::dev::state::ttl::go_duration;

impl Kv2 {
    pub(super) fn read_metadata(&self, key: &str, asked: &Asked<'_>) -> Answer {
        self.secrets.get(key).map_or(Answer::Nothing, |secret| {
            Answer::data(metadata(secret, asked.clock))
        })
    }

    pub(super) fn write_metadata(&mut self, key: &str, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        if key.is_empty() {
            return Err(Refusal::bad("missing path"));
        }
        let max_versions = fields.number("max_versions")?;
        let cas_required = fields.flag("cas_required")?;
        let metadata_cas_required = fields.flag("metadata_cas_required")?;
        let delete_after = fields.duration("delete_version_after")?;
        let custom = fields.map("custom_metadata")?;
        let is_patch = asked.call.operation == Operation::Patch;
        if is_patch && !self.secrets.contains_key(key) {
            return Ok(Answer::Bare(http::StatusCode::NOT_FOUND));
        }
        if max_versions.is_none()
            && cas_required.is_none()
            && metadata_cas_required.is_none()
            && delete_after.is_none()
            && custom.is_none()
        {
            return Ok(Answer::Nothing);
        }
        self.check_metadata_cas(key, fields.number("metadata_cas")?)?;
        let secret = self
            .secrets
            .entry(key.to_owned())
            .or_insert_with(|| Secret::new(asked.now));
        secret.metadata_version += 1;
        secret.updated = asked.now;
        if let Some(most) = max_versions {
            secret.max_versions = u64::try_from(most).unwrap_or(0);
        }
        secret.cas_required = cas_required.unwrap_or(secret.cas_required);
        secret.metadata_cas_required =
            metadata_cas_required.unwrap_or(secret.metadata_cas_required);
        secret.delete_version_after = delete_after.unwrap_or(secret.delete_version_after);
        if let Some(custom) = custom {
            let kept = secret.custom_metadata.get_or_insert_default();
            if !is_patch {
                kept.clear();
            }
            for (name, value) in custom {
                if value.is_null() {
                    kept.remove(&name);
                } else {
                    kept.insert(name, value);
                }
            }
        }
        Ok(Answer::Nothing)
    }

    fn check_metadata_cas(&self, key: &str, cas: Option<i64>) -> Result<(), Refusal> {
        let known = self.secrets.get(key);
        let required = self.config.metadata_cas_required
            || known.is_some_and(|secret| secret.metadata_cas_required);
        let Some(cas) = cas else {
            return match required {
                true => Err(Refusal::bad(
                    "metadata check-and-set parameter required for this call",
                )),
                false => Ok(()),
            };
        };
        match known {
            Some(secret) if u64::try_from(cas) == Ok(secret.metadata_version) => Ok(()),
            Some(_) => Err(Refusal::bad(
                "metadata check-and-set parameter does not match the current version",
            )),
            None if cas == 0 => Ok(()),
            None => Err(Refusal::bad(
                "metadata_cas must be 0 when creating new metadata",
            )),
        }
    }

    pub(super) fn list(&self, prefix: &str, detailed: bool, asked: &Asked<'_>) -> Answer {
        let paths = self.secrets.keys().map(String::as_str);
        let keys = match asked.call.operation {
            Operation::Scan => tree::descendants(paths, prefix),
            _ => tree::children(paths, prefix),
        };
        let warning = asked.call.fields.ignored(&["after", "limit", "path"]);
        if !detailed || keys.is_empty() {
            return Answer::keys(&keys).warn(warning);
        }
        let mut infos = Map::new();
        for key in &keys {
            let secret = self.secrets.get(&format!("{prefix}{key}"));
            let info = secret.map_or_else(Map::new, |secret| metadata(secret, asked.clock));
            infos.insert(key.clone(), Value::Object(info));
        }
        Answer::json(json!({ "keys": keys, "key_info": infos }))
    }
}

fn metadata(secret: &Secret, clock: Clock) -> Map<String, Value> {
    let versions = secret.versions.iter();
    let versions: Map<String, Value> = versions
        .map(|(number, version)| (number.to_string(), Value::Object(version.describe(clock))))
        .collect();
    object([
        ("versions", Value::Object(versions)),
        ("current_version", json!(secret.current)),
        ("current_metadata_version", json!(secret.metadata_version)),
        ("oldest_version", json!(secret.oldest)),
        ("created_time", json!(clock.rfc3339(secret.created))),
        ("updated_time", json!(clock.rfc3339(secret.updated))),
        ("max_versions", json!(secret.max_versions)),
        ("cas_required", json!(secret.cas_required)),
        ("metadata_cas_required", json!(secret.metadata_cas_required)),
        (
            "delete_version_after",
            json!(go_duration(secret.delete_version_after)),
        ),
        ("custom_metadata", json!(secret.custom_metadata)),
    ])
}
