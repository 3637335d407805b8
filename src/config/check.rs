//! Stage two: from what was typed, the environment and the command line to what takes effect.

mod auto_auth;
mod cache;
mod listener;
mod log;
mod vault;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use log::parse_level;

use super::defaults;
use super::env::{self, Vars};
use super::file::{self, File};
use super::findings::{At, Findings, Given, Note, Phase};
use super::load::{Overrides, Strictness};
use super::units::{self, format_duration};
use super::validate::use_auto_auth_token;
use super::{Background, Config, UseAutoAuthToken};

/// Everything a configuration may come from, and where findings go.
pub(super) struct Check<'a> {
    pub(super) overrides: &'a Overrides,
    pub(super) vars: &'a dyn Vars,
    pub(super) strictness: Strictness,
    pub(super) found: &'a Findings,
}

/// A value that won over others, and what to call it: `vault.address`, `the variable VAULT_ADDR`.
#[derive(Debug, Clone)]
struct Setting<T> {
    value: T,
    at: Option<At>,
    name: String,
}

impl Check<'_> {
    /// Where something is wrong the default stands in its place, so that all the rest is checked too.
    pub(super) fn config(&self, typed: &File) -> Config {
        self.ignored_variables();
        let used = use_auto_auth_token(typed).map(|used| used.value);
        let use_auto_auth_token = used.unwrap_or_default();
        let lends = typed.auto_auth.is_some() && use_auto_auth_token != UseAutoAuthToken::Off;
        let listeners = self.listeners(&typed.listeners, lends);
        let vault = self.vault(typed, &listeners);
        Config {
            vault,
            auto_auth: typed
                .auto_auth
                .as_ref()
                .and_then(|typed| self.auto_auth(typed)),
            use_auto_auth_token,
            allow_child_tokens: typed
                .api_proxy
                .as_ref()
                .and_then(|proxy| proxy.allow_child_tokens.as_ref())
                .is_some_and(|given| given.value),
            cache: typed.cache.as_ref().map(|typed| self.cache(typed)),
            listeners: listeners
                .into_iter()
                .map(|(listener, _)| listener)
                .collect(),
            background: self.background(typed.background.as_ref()),
            log: self.log(&typed.log),
            pid_file: typed
                .pid_file
                .as_ref()
                .filter(|file| !file.value.is_empty())
                .map(|file| PathBuf::from(&file.value)),
            exit_after_auth: self
                .overrides
                .exit_after_auth
                .or(typed.exit_after_auth.as_ref().map(|given| given.value))
                .unwrap_or_default(),
            shutdown_timeout: self.duration(
                named("shutdown_timeout", typed.shutdown_timeout.as_ref()),
                Duration::ZERO..=Duration::from_secs(3600),
                defaults::SHUTDOWN_TIMEOUT,
            ),
            startup_wait: self.duration(
                named("startup_wait", typed.startup_wait.as_ref()),
                Duration::ZERO..=Duration::from_secs(300),
                defaults::STARTUP_WAIT,
            ),
            worker_threads: self.count(
                named("worker_threads", typed.worker_threads.as_ref()),
                1..=256,
                defaults::WORKER_THREADS,
            ),
        }
    }

    fn background(&self, typed: Option<&file::Background>) -> Background {
        let default = Background::default();
        let rate = typed.and_then(|typed| typed.rate.as_ref());
        let mut rate = named("background.rate", rate);
        let burst = typed.and_then(|typed| typed.burst.as_ref());
        let mut burst = named("background.burst", burst);
        if let Some(variable) = self.variable("RATE_LIMIT") {
            match rate_limit(&variable.value) {
                Ok((r, b)) => {
                    rate = Some(variable.with(r));
                    burst = Some(variable.with(b));
                }
                Err(message) => self.wrong(&variable, &message),
            }
        }
        Background {
            rate: self.number(rate, 0.01..=10_000.0, default.rate),
            burst: self.count(burst, 1..=100_000, default.burst),
        }
    }

    /// What the peers' client would take from the environment and a sidecar must not.
    fn ignored_variables(&self) {
        for (suffix, reason) in [
            (
                "AGENT_ADDR",
                "it is for clients; Leasehold talks to the address of Vault, never to itself",
            ),
            (
                "WRAP_TTL",
                "a client that wants wrapping says so in its request",
            ),
            (
                "MFA",
                "a client that has a second factor sends it with its request",
            ),
        ] {
            if let Some(variable) = self.variable(suffix) {
                let message = format!("{} has no effect: {reason}", variable.name);
                self.found.warn(Phase::Build, None, message);
            }
        }
        if self.overrides.agent_address.is_some() {
            let message =
                "the flag -agent-address has no effect: Leasehold talks to the address of Vault";
            self.found.warn(Phase::Build, None, message);
        }
        if let Some(variable) = self.variable("SRV_LOOKUP") {
            match units::parse_bool(&variable.value) {
                Ok(false) => {}
                Ok(true) => {
                    let message = "this version of Leasehold looks up no SRV records: unset it, and \
                                   write host and port into the address";
                    self.wrong(&variable, message);
                }
                Err(message) => self.wrong(&variable, &message),
            }
        }
        if let Some(variable) = self.variable("DISABLE_REDIRECTS")
            && let Err(message) = units::parse_bool(&variable.value)
        {
            self.wrong(&variable, &message);
        }
    }

    /// A variable that is set and not empty.
    fn variable(&self, suffix: &str) -> Option<Setting<String>> {
        let (name, value) = env::find(self.vars, suffix)?;
        (!value.is_empty()).then(|| Setting {
            value,
            at: None,
            name: format!("the variable {name}"),
        })
    }

    /// Flag, else environment, else file. In the environment, set but empty counts as set.
    fn text(
        &self,
        flag: (&str, Option<&String>),
        suffix: &str,
        key: &str,
        typed: Option<&Given<String>>,
    ) -> Option<Setting<String>> {
        let of_flag = flag.1.map(|value| Setting {
            value: value.clone(),
            at: None,
            name: format!("the flag -{}", flag.0),
        });
        let of_env = || {
            let (name, value) = env::find(self.vars, suffix)?;
            Some(Setting {
                value,
                at: None,
                name: format!("the variable {name}"),
            })
        };
        of_flag.or_else(of_env).or_else(|| named(key, typed))
    }

    fn duration(
        &self,
        setting: Option<Setting<Duration>>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.within(setting, range, default, |value| format_duration(*value))
    }

    fn number(
        &self,
        setting: Option<Setting<f64>>,
        range: RangeInclusive<f64>,
        default: f64,
    ) -> f64 {
        self.within(setting, range, default, ToString::to_string)
    }

    fn count<T>(&self, setting: Option<Setting<i64>>, range: RangeInclusive<i64>, default: T) -> T
    where
        T: TryFrom<i64>,
    {
        let Some(setting) = setting else {
            return default;
        };
        let shown = self.within(Some(setting), range, -1, ToString::to_string);
        T::try_from(shown).unwrap_or(default)
    }

    fn within<T: PartialOrd>(
        &self,
        setting: Option<Setting<T>>,
        range: RangeInclusive<T>,
        default: T,
        show: impl Fn(&T) -> String,
    ) -> T {
        let Some(setting) = setting else {
            return default;
        };
        if range.contains(&setting.value) {
            return setting.value;
        }
        let message = format!(
            "{} is out of range: it goes from {} to {}",
            show(&setting.value),
            show(range.start()),
            show(range.end())
        );
        self.wrong(&setting, &message);
        default
    }

    fn wrong<T>(&self, setting: &Setting<T>, message: impl Display) {
        let key = setting.at.map(|_| setting.name.clone());
        let mut note = Note::error(
            Phase::Validate,
            setting.at,
            format!("{}: {message}", setting.name),
        );
        if let Some(key) = key {
            note = note.key(key);
        }
        self.found.add(note);
    }
}

impl<T> Setting<T> {
    fn with<U>(&self, value: U) -> Setting<U> {
        Setting {
            value,
            at: self.at,
            name: self.name.clone(),
        }
    }
}

fn named<T: Clone>(key: &str, typed: Option<&Given<T>>) -> Option<Setting<T>> {
    typed.map(|given| Setting {
        value: given.value.clone(),
        at: given.at,
        name: key.to_owned(),
    })
}

/// `rate[:burst]`; without a burst it is the rate's whole part.
fn rate_limit(text: &str) -> Result<(f64, i64), String> {
    let wrong = || format!("{text:?} is not a rate: write \"10\" or \"10:20\"");
    let (rate, burst) = match text.split_once(':') {
        Some((rate, burst)) => (rate, Some(burst)),
        None => (text, None),
    };
    let rate: f64 = rate.parse().map_err(|_| wrong())?;
    let burst = match burst {
        Some(burst) => burst.parse().map_err(|_| wrong())?,
        None => format!("{:.0}", rate.trunc().max(1.0))
            .parse()
            .map_err(|_| wrong())?,
    };
    Ok((rate, burst))
}
