//! `cache { ... }` as typed: Vault's keys and ours.

use std::time::Duration;

use super::super::findings::{At, Given, Note, Phase};
use super::super::forms::{self, Form};
use super::super::read::{Block, Fields, Other, Reader, Shape};
use super::super::{Product, UseAutoAuthToken};
use super::{idle, refuse, refused, silent};
use crate::hcl::ValueKind;

#[derive(Debug)]
pub(in super::super) struct Cache {
    pub(in super::super) at: At,
    pub(in super::super) whole: At,
    pub(in super::super) use_auto_auth_token: Option<Given<UseAutoAuthToken>>,
    pub(in super::super) max_size: Option<Given<u64>>,
    pub(in super::super) logins: Option<Given<bool>>,
    pub(in super::super) token_create: Option<Given<bool>>,
    /// Vault's own switch for static secrets.
    pub(in super::super) cache_static_secrets: Option<Given<bool>>,
    pub(in super::super) static_secrets: Option<StaticSecrets>,
    pub(in super::super) leases: Option<Leases>,
    pub(in super::super) paths: Vec<PathRule>,
}

#[derive(Debug)]
pub(in super::super) struct StaticSecrets {
    pub(in super::super) enabled: Option<Given<bool>>,
    pub(in super::super) ttl: Option<Given<Duration>>,
    pub(in super::super) max_stale: Option<Given<Duration>>,
}

#[derive(Debug)]
pub(in super::super) struct Leases {
    pub(in super::super) renew_at: Option<Given<f64>>,
    pub(in super::super) replace_at: Option<Given<f64>>,
    pub(in super::super) min_remaining: Option<Given<Duration>>,
    pub(in super::super) idle_ttl: Option<Given<Duration>>,
    pub(in super::super) revoke_idle: Option<Given<bool>>,
    pub(in super::super) revoke_on_exit: Option<Given<bool>>,
}

#[derive(Debug)]
pub(in super::super) struct PathRule {
    pub(in super::super) at: At,
    pub(in super::super) glob: Option<Given<String>>,
    pub(in super::super) mode: Option<Given<String>>,
    pub(in super::super) ttl: Option<Given<Duration>>,
    pub(in super::super) max_stale: Option<Given<Duration>>,
}

impl Cache {
    pub(super) fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "cache", block.items.clone());
        let read = Self {
            at: block.at,
            whole: block.whole,
            use_auto_auth_token: use_auto_auth_token(reader, &fields),
            max_size: fields.size("max_size"),
            logins: fields.boolish("logins"),
            token_create: fields.boolish("token_create"),
            cache_static_secrets: fields.boolish("cache_static_secrets"),
            static_secrets: fields
                .block("static_secrets", Shape::Plain)
                .map(|block| StaticSecrets::read(reader, block)),
            leases: fields
                .block("leases", Shape::Plain)
                .map(|block| Leases::read(reader, block)),
            paths: fields
                .blocks("path", Shape::Labelled(&[]))
                .into_iter()
                .map(|block| PathRule::read(reader, block))
                .collect(),
        };
        persist(reader, &fields);
        fields.others(OTHERS);
        consistency(reader, &fields);
        fields.finish();
        read
    }
}

impl StaticSecrets {
    fn read(reader: Reader<'_>, block: Block<'_>) -> Self {
        let fields = Fields::new(reader, "cache.static_secrets", block.items);
        let read = Self {
            enabled: fields.boolish("enabled"),
            ttl: fields.duration("ttl"),
            max_stale: fields.duration("max_stale"),
        };
        fields.finish();
        read
    }
}

impl Leases {
    fn read(reader: Reader<'_>, block: Block<'_>) -> Self {
        let fields = Fields::new(reader, "cache.leases", block.items);
        let read = Self {
            renew_at: fields.float("renew_at"),
            replace_at: fields.float("replace_at"),
            min_remaining: fields.duration("min_remaining"),
            idle_ttl: fields.duration("idle_ttl"),
            revoke_idle: fields.boolish("revoke_idle"),
            revoke_on_exit: fields.boolish("revoke_on_exit"),
        };
        fields.finish();
        read
    }
}

impl PathRule {
    fn read(reader: Reader<'_>, block: Block<'_>) -> Self {
        let glob = match block.labels.as_slice() {
            [glob] => Some(glob.clone()),
            _ => {
                let message = "a path rule has exactly one glob: path \"secret/data/*\" { ... }";
                let note = Note::error(Phase::Load, Some(block.at), message);
                reader.found.add(note.key("cache.path"));
                None
            }
        };
        let fields = Fields::new(reader, "cache.path", block.items);
        let read = Self {
            at: block.at,
            glob,
            mode: fields.text("mode"),
            ttl: fields.duration("ttl"),
            max_stale: fields.duration("max_stale"),
        };
        fields.finish();
        read
    }
}

/// The agent's old place for the key; the proxies never had it there.
fn use_auto_auth_token(reader: Reader<'_>, fields: &Fields<'_>) -> Option<Given<UseAutoAuthToken>> {
    let used = fields.auto_auth_use("use_auto_auth_token")?;
    match reader.product {
        Product::Agent => Some(used),
        Product::Proxy => {
            let message = "use_auto_auth_token has no effect here in `proxy`: \
                           write api_proxy { use_auto_auth_token = true }";
            let note = Note::warning(Phase::Build, used.at, message);
            reader
                .found
                .add(note.key(fields.key("use_auto_auth_token")));
            None
        }
    }
}

fn persist(reader: Reader<'_>, fields: &Fields<'_>) {
    let Some(block) = fields.block("persist", Shape::Labelled(&[])) else {
        return;
    };
    let inner = Fields::new(reader, "cache.persist", block.items.clone());
    if inner.text("type").is_none_or(|kind| kind.value.is_empty()) && block.labels.len() != 1 {
        let message = "persist: its type must be specified: persist \"kubernetes\" { ... }";
        let note = Note::error(Phase::Load, Some(block.at), message);
        reader.found.add(note.key("cache.persist.type"));
    }
    inner.others(&[
        silent("path", Form::Text),
        silent("keep_after_import", Form::Bool),
        silent("exit_on_err", Form::Bool),
        silent("service_account_token_file", Form::Text),
    ]);
    inner.finish();
    refuse(
        reader,
        block.at,
        "cache.persist",
        "this version of Leasehold keeps its cache in memory only: remove the persist block",
    );
}

/// Vault Enterprise's answers to lagging standbys, in `api_proxy` and, in old files, in `cache`.
pub(super) fn consistency(reader: Reader<'_>, fields: &Fields<'_>) {
    for (name, neutral) in [
        ("enforce_consistency", "never"),
        ("when_inconsistent", "fail"),
    ] {
        let Some(given) = fields.raw(name) else {
            continue;
        };
        if matches!(&given.value.kind, ValueKind::String(text) if text == neutral)
            || forms::is_neutral(given.value)
        {
            continue;
        }
        let message = format!(
            "this version of Leasehold has no {name}: leave it at \"{neutral}\" or remove it"
        );
        let note = Note::error(Phase::Build, given.at, message);
        reader.found.add(note.key(fields.key(name)));
    }
}

const PER_IDENTITY: &str =
    "Leasehold never serves one token's answer to another, so it has no capabilities to refresh";

const OTHERS: &[Other] = &[
    silent("force_auto_auth_token", Form::Any),
    idle(
        "static_secret_token_capability_refresh_interval",
        Form::Duration,
        PER_IDENTITY,
    ),
    idle(
        "static_secret_token_capability_refresh_behavior",
        Form::Text,
        PER_IDENTITY,
    ),
    refused(
        "disable_caching_dynamic_secrets",
        Form::Bool,
        "write path \"*\" { mode = \"bypass\" } for the paths that must not be cached",
    ),
];
