//! What is cached, and how long.

use std::time::Duration;

use super::super::file;
use super::super::findings::{Given, Note, Phase};
use super::super::units::{self, format_size};
use super::super::{Cache, Leases, PathMode, PathRule, StaticSecrets};
use super::{Check, named};

impl Check<'_> {
    pub(super) fn cache(&self, typed: &file::Cache) -> Cache {
        let default = Cache::default();
        let flag = |given: &Option<Given<bool>>, default| {
            given
                .as_ref()
                .map_or(default, |given: &Given<bool>| given.value)
        };
        Cache {
            max_size: self.within(
                named("cache.max_size", typed.max_size.as_ref()),
                MIN_SIZE..=MAX_SIZE,
                default.max_size,
                |size| format_size(*size),
            ),
            static_secrets: self.static_secrets(typed),
            leases: self.leases(typed.leases.as_ref()),
            logins: flag(&typed.logins, default.logins),
            token_create: flag(&typed.token_create, default.token_create),
            paths: self.path_rules(&typed.paths),
        }
    }

    fn static_secrets(&self, typed: &file::Cache) -> Option<StaticSecrets> {
        let block = typed.static_secrets.as_ref();
        let default = StaticSecrets::default();
        let enabled = block.and_then(|block| block.enabled.as_ref());
        let of_vault = typed.cache_static_secrets.as_ref();
        if let (Some(ours), Some(vaults)) = (enabled, of_vault)
            && ours.value != vaults.value
        {
            let message =
                "cache_static_secrets and static_secrets { enabled } contradict each other";
            let note = Note::error(Phase::Validate, vaults.at, message)
                .related(ours.at, "and here")
                .key("cache.cache_static_secrets");
            self.found.add(note);
        }
        let ttl = block.and_then(|block| block.ttl.as_ref());
        let mut ttl = named("cache.static_secrets.ttl", ttl);
        if let Some(variable) = self.variable("CACHE_TTL") {
            match units::parse_duration(&variable.value) {
                Ok(of_env) => ttl = Some(variable.with(of_env)),
                Err(message) => self.wrong(&variable, message),
            }
        }
        let max_stale = block.and_then(|block| block.max_stale.as_ref());
        let read = StaticSecrets {
            ttl: self.duration(ttl, MIN_TTL..=MAX_TTL, default.ttl),
            max_stale: self.max_stale("cache.static_secrets.max_stale", max_stale),
        };
        let on = enabled.or(of_vault).is_none_or(|given| given.value);
        on.then_some(read)
    }

    /// Serving what is stale is not in this version; asking for none of it is fine.
    fn max_stale(&self, key: &str, typed: Option<&Given<Duration>>) -> Duration {
        if let Some(given) = typed.filter(|given| !given.value.is_zero()) {
            let message = format!(
                "this version of Leasehold serves nothing stale: set {key} = \"0s\" or remove it"
            );
            let note = Note::error(Phase::Build, given.at, message);
            self.found.add(note.key(key));
        }
        Duration::ZERO
    }

    fn leases(&self, typed: Option<&file::Leases>) -> Leases {
        let default = Leases::default();
        let Some(typed) = typed else {
            return default;
        };
        let idle_ttl = named("cache.leases.idle_ttl", typed.idle_ttl.as_ref());
        Leases {
            renew_at: self.number(
                named("cache.leases.renew_at", typed.renew_at.as_ref()),
                0.1..=0.95,
                default.renew_at,
            ),
            replace_at: self.number(
                named("cache.leases.replace_at", typed.replace_at.as_ref()),
                0.1..=0.95,
                default.replace_at,
            ),
            min_remaining: self.duration(
                named("cache.leases.min_remaining", typed.min_remaining.as_ref()),
                Duration::ZERO..=Duration::from_secs(3600),
                default.min_remaining,
            ),
            idle_ttl: idle_ttl
                .map(|setting| self.duration(Some(setting), MIN_TTL..=MAX_IDLE, MIN_TTL)),
            revoke_idle: typed
                .revoke_idle
                .as_ref()
                .map_or(default.revoke_idle, |given| given.value),
            revoke_on_exit: typed
                .revoke_on_exit
                .as_ref()
                .map_or(default.revoke_on_exit, |given| given.value),
        }
    }

    fn path_rules(&self, typed: &[file::PathRule]) -> Vec<PathRule> {
        let mut rules: Vec<PathRule> = Vec::new();
        for rule in typed {
            let Some(glob) = rule.glob.as_ref() else {
                continue;
            };
            let text = glob.value.as_str();
            let bare = text.trim_start_matches('/');
            let bare = bare.strip_prefix("v1/").unwrap_or(bare);
            if bare != text || bare.is_empty() {
                let message = format!(
                    "path {text:?}: a glob is what follows /v1/: write {:?}",
                    if bare.is_empty() { "*" } else { bare }
                );
                let note = Note::error(Phase::Validate, glob.at, message);
                self.found.add(note.key("cache.path"));
            }
            if rules.iter().any(|earlier| earlier.glob == text) {
                let message =
                    format!("path {text:?} never counts: an earlier rule has the same glob");
                let note = Note::warning(Phase::Validate, glob.at, message);
                self.found.add(note.key("cache.path"));
            }
            rules.push(self.path_rule(rule, text));
        }
        rules
    }

    fn path_rule(&self, rule: &file::PathRule, glob: &str) -> PathRule {
        let mode = rule.mode.as_ref().and_then(|given| {
            let mode = match given.value.to_ascii_lowercase().as_str() {
                "bypass" => Some(PathMode::Bypass),
                "static" => Some(PathMode::Static),
                "leased" => Some(PathMode::Leased),
                _ => None,
            };
            if mode.is_none() {
                let message = format!(
                    "mode can be \"bypass\", \"static\" or \"leased\", not {:?}",
                    given.value
                );
                let note = Note::error(Phase::Validate, given.at, message);
                self.found.add(note.key("cache.path.mode"));
            }
            mode
        });
        if rule.mode.is_none() && rule.ttl.is_none() && rule.max_stale.is_none() {
            let message = format!("path {glob:?} says nothing: it needs a mode or a ttl");
            let note = Note::error(Phase::Validate, Some(rule.at), message);
            self.found.add(note.key("cache.path"));
        }
        if let (Some(PathMode::Bypass), Some(ttl)) = (mode, &rule.ttl) {
            let message = format!("ttl has no effect: path {glob:?} is not cached (bypass)");
            let note = Note::warning(Phase::Build, ttl.at, message);
            self.found.add(note.key("cache.path.ttl"));
        }
        let ttl = named("cache.path.ttl", rule.ttl.as_ref());
        PathRule {
            glob: glob.to_owned(),
            mode,
            ttl: ttl.map(|ttl| self.duration(Some(ttl), MIN_TTL..=MAX_TTL, MIN_TTL)),
            max_stale: rule
                .max_stale
                .as_ref()
                .map(|given| self.max_stale("cache.path.max_stale", Some(given))),
        }
    }
}

const MIN_SIZE: u64 = 64 * 1024;
const MAX_SIZE: u64 = 1 << 40;
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
const MAX_IDLE: Duration = Duration::from_secs(366 * 24 * 3600);
