//! How to log in, and where the token goes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::file::{self, AppRoleConfig, Credentials};
use super::super::findings::{At, Given, Note, Phase};
use super::super::load::Strictness;
use super::super::{AppRole, AutoAuth, CredentialSource, Kubernetes, Method, Sink};
use super::{Check, Setting, defaults, named};
use crate::secret::Secret;

impl Check<'_> {
    /// `None` where the method is missing or unknown, which has been reported.
    pub(super) fn auto_auth(&self, typed: &file::AutoAuth) -> Option<AutoAuth> {
        let sinks = self.sinks(&typed.sinks);
        let typed = typed.method.as_ref()?;
        let (min_backoff, max_backoff) = self.backoff(typed);
        let mount_path = self.mount_path(typed);
        Some(AutoAuth {
            method: self.method(typed)?,
            mount_path,
            min_backoff,
            max_backoff,
            exit_on_err: typed.exit_on_err.as_ref().is_some_and(|given| given.value),
            sinks,
        })
    }

    fn method(&self, typed: &file::Method) -> Option<Method> {
        match &typed.credentials {
            Credentials::AppRole(config) => self.approle(typed, config).map(Method::AppRole),
            Credentials::TokenFile(path) => {
                let key = "auto_auth.method.config.token_file_path";
                let path = self.path(key, path.as_ref());
                if path.is_none() {
                    let message = "token_file needs token_file_path in its config";
                    let note = Note::error(Phase::Validate, Some(typed.at), message);
                    self.found.add(note.key(key));
                }
                path.map(|path| Method::TokenFile { path })
            }
            Credentials::Kubernetes { role, token_path } => self
                .kubernetes(typed, role.as_ref(), token_path.as_ref())
                .map(Method::Kubernetes),
            Credentials::Other => None,
        }
    }

    fn kubernetes(
        &self,
        method: &file::Method,
        role: Option<&Given<String>>,
        token_path: Option<&Given<String>>,
    ) -> Option<Kubernetes> {
        let path = self.path("auto_auth.method.config.token_path", token_path);
        let Some(role) = role.filter(|role| !role.value.trim().is_empty()) else {
            let at = role.and_then(|role| role.at).unwrap_or(method.at);
            let message = "kubernetes needs the name of a role in its config: role = \"app\"";
            let note = Note::error(Phase::Validate, Some(at), message);
            self.found.add(note.key("auto_auth.method.config.role"));
            return None;
        };
        Some(Kubernetes {
            role: role.value.clone(),
            token_path: path.unwrap_or_else(|| PathBuf::from(defaults::SERVICE_ACCOUNT_TOKEN)),
        })
    }

    fn approle(&self, method: &file::Method, typed: &AppRoleConfig) -> Option<AppRole> {
        let role_id = self.credential(
            "role_id",
            typed.role_id_file_path.as_ref(),
            typed.role_id_env_var.as_ref(),
        );
        let secret_id = self.credential(
            "secret_id",
            typed.secret_id_file_path.as_ref(),
            typed.secret_id_env_var.as_ref(),
        );
        let wrapping = typed.secret_id_response_wrapping_path.as_ref();
        if let Some(path) = wrapping.filter(|path| path.value.is_empty()) {
            self.unusable(path.at, "secret_id_response_wrapping_path", "is empty");
        }
        let from_file = matches!(secret_id, Some(CredentialSource::File(_)));
        let unused = |at, name: &str, what| {
            let message = format!("{name} has no effect: {what}");
            let note = Note::warning(Phase::Build, at, message);
            self.found
                .add(note.key(format!("auto_auth.method.config.{name}")));
        };
        if let (None, Some(path)) = (&secret_id, wrapping) {
            unused(
                path.at,
                "secret_id_response_wrapping_path",
                "there is no secret id",
            );
        }
        let remove = typed.remove_secret_id_file_after_reading.as_ref();
        if let (false, Some(given)) = (from_file, remove) {
            let name = "remove_secret_id_file_after_reading";
            unused(given.at, name, "there is no secret id file");
        }
        let Some(role_id) = role_id else {
            if typed.role_id_file_path.is_none() && typed.role_id_env_var.is_none() {
                let message = "approle needs role_id_file_path or role_id_env_var in its config";
                let note = Note::error(Phase::Validate, Some(method.at), message);
                self.found
                    .add(note.key("auto_auth.method.config.role_id_file_path"));
            }
            return None;
        };
        Some(AppRole {
            role_id,
            secret_id,
            remove_secret_id_file_after_reading: from_file
                && remove.is_none_or(|given| given.value),
            secret_id_response_wrapping_path: wrapping.map(|path| path.value.clone()),
        })
    }

    /// From a file or a variable, not both. An empty path of a secret id means none, as in Vault.
    fn credential(
        &self,
        what: &str,
        file: Option<&Given<String>>,
        variable: Option<&Given<String>>,
    ) -> Option<CredentialSource> {
        let (file_key, variable_key) = (format!("{what}_file_path"), format!("{what}_env_var"));
        if let (Some(file), Some(variable)) = (file, variable) {
            let message = format!("{variable_key} and {file_key} are both given: keep one");
            let note = Note::error(Phase::Validate, variable.at, message)
                .related(file.at, "the other one")
                .key(format!("auto_auth.method.config.{variable_key}"));
            self.found.add(note);
        }
        if let Some(file) = file {
            if !file.value.is_empty() {
                return Some(CredentialSource::File(PathBuf::from(&file.value)));
            }
            if what == "role_id" {
                self.unusable(file.at, &file_key, "is empty");
            }
            return None;
        }
        let variable = variable?;
        let name = &variable.value;
        if name.is_empty() || name.contains(['=', '\0']) {
            self.unusable(variable.at, &variable_key, "is not a variable's name");
            return None;
        }
        let value = self.vars.var(name);
        if value.is_none() && self.strictness == Strictness::Check {
            let message = format!("the variable {name} of {variable_key} is not set here");
            let note = Note::warning(Phase::Build, variable.at, message);
            self.found
                .add(note.key(format!("auto_auth.method.config.{variable_key}")));
        }
        Some(CredentialSource::Env {
            name: name.clone(),
            value: value.map(Secret::new),
        })
    }

    fn mount_path(&self, typed: &file::Method) -> String {
        if matches!(typed.credentials, Credentials::TokenFile(_)) {
            return "auth/token".to_owned();
        }
        let kind = typed.kind.as_ref().map_or("", |kind| kind.value.as_str());
        let default = format!("auth/{kind}");
        let Some(given) = &typed.mount_path else {
            return default;
        };
        let path = given.value.trim_matches('/');
        if path.is_empty() {
            return default;
        }
        let fits = path.starts_with("auth/") || path.contains("/auth/");
        if !fits
            || !path
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#'))
        {
            let message = format!("mount_path {path:?} must contain auth/: write \"auth/{path}\"");
            let note = Note::error(Phase::Validate, given.at, message);
            self.found.add(note.key("auto_auth.method.mount_path"));
        }
        path.to_owned()
    }

    fn backoff(&self, typed: &file::Method) -> (Duration, Duration) {
        let range = || Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
        let given = |key, typed: Option<&Given<Duration>>, default| {
            // Zero stands for the default, as in Vault.
            let setting =
                named(key, typed).filter(|setting: &Setting<Duration>| !setting.value.is_zero());
            self.duration(setting, range(), default)
        };
        let min = given(
            "auto_auth.method.min_backoff",
            typed.min_backoff.as_ref(),
            defaults::MIN_BACKOFF,
        );
        let max = given(
            "auto_auth.method.max_backoff",
            typed.max_backoff.as_ref(),
            defaults::MAX_BACKOFF,
        );
        if min > max {
            let given = [typed.min_backoff.as_ref(), typed.max_backoff.as_ref()];
            let at = given.into_iter().flatten().find_map(|given| given.at);
            let message = format!(
                "min_backoff ({}) is more than max_backoff ({})",
                super::format_duration(min),
                super::format_duration(max)
            );
            let note = Note::error(Phase::Validate, at, message);
            self.found.add(note.key("auto_auth.method.min_backoff"));
        }
        (min, max.max(min))
    }

    fn sinks(&self, typed: &[file::Sink]) -> Vec<Sink> {
        let mut sinks: Vec<Sink> = Vec::new();
        let mut places: HashMap<PathBuf, At> = HashMap::new();
        for sink in typed {
            let key = "auto_auth.sink.config.path";
            let Some(path) = self.path(key, sink.path.as_ref()) else {
                let message = "a file sink needs a path in its config";
                let note = Note::error(Phase::Validate, Some(sink.at), message);
                self.found.add(note.key(key));
                continue;
            };
            if let Some(first) = places.insert(path.clone(), sink.at) {
                let message = "another sink writes to the same path";
                let note = Note::error(Phase::Validate, Some(sink.at), message)
                    .related(Some(first), "the other one");
                self.found.add(note.key(key));
            }
            sinks.push(Sink {
                path,
                mode: sink
                    .mode
                    .as_ref()
                    .map_or(defaults::SINK_MODE, |mode| mode.value),
                uid: self.owner("uid", sink.uid.as_ref()),
                gid: self.owner("gid", sink.gid.as_ref()),
            });
        }
        sinks
    }

    /// -1 leaves it as it is.
    fn owner(&self, key: &str, typed: Option<&Given<i64>>) -> Option<u32> {
        let setting = named(&format!("auto_auth.sink.config.{key}"), typed)?;
        if setting.value == -1 {
            return None;
        }
        let top = i64::from(u32::MAX) - 1;
        Some(self.count(Some(setting), 0..=top, 0))
    }

    fn path(&self, key: &str, typed: Option<&Given<String>>) -> Option<PathBuf> {
        let given = typed.filter(|given| !given.value.is_empty())?;
        if given.value.contains('\0') || given.value.ends_with('/') {
            self.wrong(
                &Setting {
                    value: (),
                    at: given.at,
                    name: key.to_owned(),
                },
                format!("{:?} is not the path of a file", given.value),
            );
        }
        Some(Path::new(&given.value).to_owned())
    }

    fn unusable(&self, at: Option<At>, name: &str, what: &str) {
        let note = Note::error(Phase::Validate, at, format!("{name} {what}"));
        self.found
            .add(note.key(format!("auto_auth.method.config.{name}")));
    }
}
