//! KV version 2: versions with metadata, soft deletion, check-and-set.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::Asked;
use crate::dev::answer::{Answer, Outcome, Refusal, Reply};
use crate::dev::call::Operation;
use crate::dev::clock::Clock;
use crate::dev::fields::Fields;
use crate::dev::state::tree::object;
use crate::dev::state::ttl::go_duration;

#[derive(Default)]
pub(crate) struct Kv2 {
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) config: Config,
}

#[derive(Default)]
pub(super) struct Config {
    pub(super) max_versions: u64,
    pub(super) cas_required: bool,
    pub(super) metadata_cas_required: bool,
    pub(super) delete_version_after: Duration,
}

/// One key with all its versions.
pub(super) struct Secret {
    pub(super) versions: BTreeMap<u64, Version>,
    pub(super) current: u64,
    pub(super) oldest: u64,
    pub(super) created: Instant,
    pub(super) updated: Instant,
    pub(super) max_versions: u64,
    pub(super) cas_required: bool,
    pub(super) metadata_cas_required: bool,
    pub(super) metadata_version: u64,
    pub(super) delete_version_after: Duration,
    pub(super) custom_metadata: Option<Map<String, Value>>,
}

pub(super) struct Version {
    pub(super) data: Map<String, Value>,
    pub(super) created: Instant,
    /// In the past: deleted. In the future: it deletes itself then.
    pub(super) deletion: Option<Instant>,
    pub(super) destroyed: bool,
}

impl Kv2 {
    pub(super) fn has(&self, rest: &str) -> Option<bool> {
        let (view, key) = rest.split_once('/')?;
        matches!(view, "data" | "metadata" | "detailed-metadata")
            .then(|| self.secrets.contains_key(key))
    }

    pub(super) fn handle(&mut self, asked: &Asked<'_>) -> Outcome {
        let operation = asked.call.operation;
        let (view, key) = match asked.rest.split_once('/') {
            Some(parts) => parts,
            None if asked.rest == "config" => return self.configure(asked),
            None => return invalid_path(asked),
        };
        match (view, operation) {
            ("data", Operation::Read) => self.read(key, asked),
            ("data", Operation::Update | Operation::Create) => self.write(key, asked),
            ("data", Operation::Patch) => self.patch(key, asked),
            ("data", Operation::Delete) => {
                self.delete_current(key, asked.now);
                Ok(Answer::Nothing)
            }
            ("subkeys", Operation::Read) => self.subkeys(key, asked),
            ("metadata", Operation::Read) => Ok(self.read_metadata(key, asked)),
            ("metadata", Operation::Update | Operation::Create | Operation::Patch) => {
                self.write_metadata(key, asked)
            }
            ("metadata", Operation::Delete) => {
                self.secrets.remove(key);
                Ok(Answer::Nothing)
            }
            ("metadata" | "detailed-metadata", Operation::List | Operation::Scan) => {
                Ok(self.list(key, view == "detailed-metadata", asked))
            }
            ("delete" | "undelete" | "destroy", Operation::Update | Operation::Create) => {
                self.change_versions(view, key, asked)
            }
            (
                "data" | "subkeys" | "metadata" | "detailed-metadata" | "delete" | "undelete"
                | "destroy",
                _,
            ) => Err(Refusal::unsupported_operation()),
            _ => invalid_path(asked),
        }
    }

    fn configure(&mut self, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        let config = &mut self.config;
        match asked.call.operation {
            Operation::Read => Ok(Answer::data(object([
                ("max_versions", json!(config.max_versions)),
                ("cas_required", json!(config.cas_required)),
                ("metadata_cas_required", json!(config.metadata_cas_required)),
                (
                    "delete_version_after",
                    json!(go_duration(config.delete_version_after)),
                ),
            ]))),
            Operation::Update | Operation::Create => {
                if let Some(most) = fields.number("max_versions")? {
                    config.max_versions = u64::try_from(most).unwrap_or(0);
                }
                if let Some(required) = fields.flag("cas_required")? {
                    config.cas_required = required;
                }
                if let Some(required) = fields.flag("metadata_cas_required")? {
                    config.metadata_cas_required = required;
                }
                if let Some(after) = fields.duration("delete_version_after")? {
                    config.delete_version_after = after;
                }
                Ok(Answer::Nothing)
            }
            _ => Err(Refusal::unsupported_operation()),
        }
    }
}

impl Secret {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            versions: BTreeMap::new(),
            current: 0,
            oldest: 0,
            created: now,
            updated: now,
            max_versions: 0,
            cas_required: false,
            metadata_cas_required: false,
            metadata_version: 0,
            delete_version_after: Duration::ZERO,
            custom_metadata: None,
        }
    }

    /// Adds a version and forgets the oldest beyond the limit, ten unless something else is set.
    pub(super) fn add(&mut self, data: Map<String, Value>, config: &Config, now: Instant) {
        let after = [self.delete_version_after, config.delete_version_after];
        let after = after.into_iter().filter(|after| !after.is_zero()).min();
        self.current += 1;
        self.updated = now;
        self.versions.insert(
            self.current,
            Version {
                data,
                created: now,
                deletion: after.map(|after| now + after),
                destroyed: false,
            },
        );
        let most = match self.max_versions.max(config.max_versions) {
            0 => 10,
            most => most,
        };
        if self.current - self.oldest >= most {
            self.oldest = self.current - most + 1;
            let oldest = self.oldest;
            self.versions.retain(|number, _| *number >= oldest);
        }
    }

    /// Of one version, as data and write answers show it.
    pub(super) fn describe(
        &self,
        number: u64,
        version: &Version,
        clock: Clock,
    ) -> Map<String, Value> {
        let mut shown = version.describe(clock);
        shown.insert("version".to_owned(), json!(number));
        shown.insert("custom_metadata".to_owned(), json!(self.custom_metadata));
        shown
    }
}

impl Version {
    pub(super) fn is_gone(&self, now: Instant) -> bool {
        self.destroyed || self.deletion.is_some_and(|deletion| deletion <= now)
    }

    pub(super) fn describe(&self, clock: Clock) -> Map<String, Value> {
        let deletion = self
            .deletion
            .map_or_else(String::new, |at| clock.rfc3339(at));
        object([
            ("created_time", json!(clock.rfc3339(self.created))),
            ("deletion_time", json!(deletion)),
            ("destroyed", json!(self.destroyed)),
        ])
    }
}

pub(super) fn wrong_cas() -> Refusal {
    Refusal::bad("check-and-set parameter did not match the current version")
}

/// The `cas` of a write's `options`, which must be the current version where it is given or required.
pub(super) fn check_cas(fields: &Fields, required: bool, current: u64) -> Result<(), Refusal> {
    let options = Fields(fields.map("options")?.unwrap_or_default());
    match options.number("cas")? {
        Some(cas) if u64::try_from(cas) == Ok(current) => Ok(()),
        Some(_) => Err(wrong_cas()),
        None if required => Err(Refusal::bad(
            "check-and-set parameter required for this call",
        )),
        None => Ok(()),
    }
}

fn invalid_path(asked: &Asked<'_>) -> Outcome {
    let warning = if matches!(
        asked.rest,
        "metadata" | "data" | "delete" | "undelete" | "destroy"
    ) {
        "Non-listing operations on the root of a K/V v2 mount are not supported.".to_owned()
    } else {
        let command = match asked.call.operation {
            Operation::Update | Operation::Create => "put",
            Operation::Patch => "patch",
            Operation::Read => "get",
            Operation::List => "list",
            Operation::Scan => "scan",
            Operation::Delete => "delete",
            Operation::Head | Operation::Options => return Err(Refusal::unsupported_operation()),
        };
        format!(
            "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API \
             endpoints to use. If using the OpenBao CLI, use 'bao kv {command}' for this operation."
        )
    };
    Ok(Answer::Coded(
        StatusCode::NOT_FOUND,
        Box::new(Reply {
            warnings: vec![warning],
            ..Reply::default()
        }),
    ))
}
