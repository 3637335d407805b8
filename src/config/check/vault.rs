//! Which Vault, by which way.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use rustls::pki_types::ServerName;

use super::super::address::{Listen, VaultAddress};
use super::super::file::{self, File};
use super::super::findings::{At, Given, Note, Phase};
use super::super::units;
use super::super::validate::method_namespace;
use super::super::{Listener, Vault, VaultTls};
use super::{Check, Setting, defaults, named};
use crate::secret::Secret;

impl Check<'_> {
    pub(super) fn vault(&self, typed: &File, listeners: &[(Listener, Option<Listen>)]) -> Vault {
        let block = typed.vault.as_ref();
        let max_connections = block.and_then(|block| block.max_connections.as_ref());
        let address = self.address(block, typed, listeners);
        Vault {
            namespace: self.namespace(typed),
            tls: self.vault_tls(block),
            timeout: self.timeout(block),
            num_retries: self.num_retries(block),
            http_proxy: self.http_proxy(block, &address),
            address,
            headers: self.overrides.headers.clone(),
            max_connections: self.count(
                named("vault.max_connections", max_connections),
                1..=65_535,
                defaults::VAULT_CONNECTIONS,
            ),
        }
    }

    fn address(
        &self,
        block: Option<&file::Vault>,
        typed: &File,
        listeners: &[(Listener, Option<Listen>)],
    ) -> String {
        let in_file = block.and_then(|block| block.address.as_ref());
        let flag = ("address", self.overrides.address.as_ref());
        let setting = self.text(flag, "ADDR", "vault.address", in_file);
        let empty = setting
            .as_ref()
            .is_some_and(|setting| setting.value.is_empty());
        if let (true, Some(setting), Some(hidden)) = (empty, &setting, in_file)
            && setting.at.is_none()
            && !hidden.value.is_empty()
        {
            let message = format!(
                "{} is set but empty and hides vault.address: {} takes effect",
                setting.name,
                defaults::ADDRESS
            );
            let note = Note::warning(Phase::Build, hidden.at, message);
            self.found.add(note.key("vault.address"));
        }
        let setting = setting.filter(|_| !empty).unwrap_or_else(|| Setting {
            value: defaults::ADDRESS.to_owned(),
            at: None,
            name: "vault.address".to_owned(),
        });
        match VaultAddress::parse(&setting.value) {
            Ok(address) => {
                self.no_loop(&setting, &address, typed, listeners);
                if address.text.ends_with("/v1") {
                    let message = format!(
                        "{} ends in /v1, which is put before every path anyway",
                        setting.name
                    );
                    let note = Note::warning(Phase::Validate, setting.at, message);
                    self.found.add(note.key("vault.address"));
                }
                address.text
            }
            Err(message) => {
                self.wrong(&setting, message);
                defaults::ADDRESS.to_owned()
            }
        }
    }

    /// An upstream that is one of our own listeners would ask itself for ever.
    fn no_loop(
        &self,
        setting: &Setting<String>,
        address: &VaultAddress,
        typed: &File,
        listeners: &[(Listener, Option<Listen>)],
    ) {
        for (typed, (_, listen)) in typed.listeners.iter().zip(listeners) {
            let socket = typed.address.as_ref().filter(|_| !typed.is_tcp);
            let (itself, what) = match (listen, socket) {
                (Some(listen), _) if address.reaches(listen) => (listen.to_string(), "port"),
                (_, Some(socket)) if address.is_socket_at(&socket.value) => {
                    (socket.value.clone(), "path")
                }
                _ => continue,
            };
            let message = format!(
                "{} is {:?}, and Leasehold listens on {itself} itself: give one of them another {what}",
                setting.name, address.text
            );
            let place = typed
                .address
                .as_ref()
                .map_or(Some(typed.at), |given| given.at);
            let note = Note::error(Phase::Validate, setting.at.or(place), message)
                .related(setting.at.and(place), "the listener")
                .key("vault.address");
            self.found.add(note);
        }
    }

    /// Flag, environment, the method's own, the block's.
    fn namespace(&self, typed: &File) -> Option<String> {
        let of_method = method_namespace(typed.auto_auth.as_ref());
        let of_vault = typed
            .vault
            .as_ref()
            .and_then(|vault| vault.namespace.as_ref());
        let typed = of_method
            .filter(|given| !given.value.is_empty())
            .or(of_vault);
        let flag = ("namespace", self.overrides.namespace.as_ref());
        let setting = self.text(flag, "NAMESPACE", "namespace", typed)?;
        if !setting.value.chars().all(|c| c.is_ascii_graphic()) {
            self.wrong(
                &setting,
                "a namespace is a path like \"team/app\", without blanks",
            );
            return None;
        }
        let parts: Vec<_> = setting
            .value
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        (!parts.is_empty()).then(|| format!("{}/", parts.join("/")))
    }

    fn timeout(&self, block: Option<&file::Vault>) -> Duration {
        let typed = block.and_then(|block| block.timeout.as_ref());
        let mut setting = named("vault.timeout", typed);
        if let Some(variable) = self.variable("CLIENT_TIMEOUT") {
            match units::parse_duration(&variable.value) {
                Ok(timeout) => setting = Some(variable.with(timeout)),
                Err(message) => self.wrong(&variable, message),
            }
        }
        let range = Duration::from_millis(100)..=Duration::from_secs(3600);
        self.duration(setting, range, defaults::TIMEOUT)
    }

    /// In the file 0 is 12 and -1 is 0, as in Vault; in the environment a number is that number.
    fn num_retries(&self, block: Option<&file::Vault>) -> u32 {
        let without_effect = |at: Option<At>, name: &str| {
            let message = format!("{name}: this version of Leasehold does not retry requests");
            let note = Note::warning(Phase::Build, at, message);
            self.found.add(note.key("vault.retry.num_retries"));
        };
        if let Some(variable) = self.variable("MAX_RETRIES") {
            without_effect(None, &variable.name);
            match variable.value.parse::<i64>() {
                Ok(retries) => {
                    return self.count(Some(variable.with(retries)), 0..=100, defaults::RETRIES);
                }
                Err(_) => self.wrong(&variable, format!("{:?} is not a number", variable.value)),
            }
        }
        let typed = block.and_then(|block| block.num_retries.as_ref());
        let setting = named("vault.retry.num_retries", typed);
        if let Some(setting) = &setting {
            without_effect(setting.at, &setting.name);
        }
        match setting.as_ref().map(|setting| setting.value) {
            None | Some(0) => defaults::RETRIES,
            Some(-1) => 0,
            Some(_) => self.count(setting, -1..=100, defaults::RETRIES),
        }
    }

    fn http_proxy(&self, block: Option<&file::Vault>, vault: &str) -> Option<String> {
        let typed = block.and_then(|block| block.http_proxy.as_ref());
        let setting = self
            .variable("PROXY_ADDR")
            .or_else(|| self.variable("HTTP_PROXY"))
            .or_else(|| named("vault.http_proxy", typed))
            .filter(|setting| !setting.value.is_empty())?;
        if vault.starts_with("unix:") {
            let message = format!("{} has no effect: {vault} is on this machine", setting.name);
            let note = Note::warning(Phase::Build, setting.at, message);
            self.found.add(note.key("vault.http_proxy"));
            return None;
        }
        match proxy_address(&setting.value) {
            Ok(address) => Some(address),
            Err(message) => {
                self.wrong(&setting, message);
                None
            }
        }
    }

    fn vault_tls(&self, block: Option<&file::Vault>) -> VaultTls {
        let flags = self.overrides;
        let path = |flag: (&str, Option<&String>), suffix, key, typed: Option<&Given<String>>| {
            self.text(flag, suffix, key, typed)
                .filter(|setting| !setting.value.is_empty())
                .map(|setting| PathBuf::from(setting.value))
        };
        let typed = |pick: fn(&file::Vault) -> Option<&Given<String>>| block.and_then(pick);
        let tls = VaultTls {
            ca_cert: path(
                ("ca-cert", flags.ca_cert.as_ref()),
                "CACERT",
                "vault.ca_cert",
                typed(|vault| vault.ca_cert.as_ref()),
            ),
            ca_pem: self.pem("CACERT_BYTES"),
            ca_path: path(
                ("ca-path", flags.ca_path.as_ref()),
                "CAPATH",
                "vault.ca_path",
                typed(|vault| vault.ca_path.as_ref()),
            ),
            client_cert: path(
                ("client-cert", flags.client_cert.as_ref()),
                "CLIENT_CERT",
                "vault.client_cert",
                typed(|vault| vault.client_cert.as_ref()),
            ),
            client_cert_pem: self.pem("CLIENT_CERT_BYTES"),
            client_key: path(
                ("client-key", flags.client_key.as_ref()),
                "CLIENT_KEY",
                "vault.client_key",
                typed(|vault| vault.client_key.as_ref()),
            ),
            client_key_pem: self.pem("CLIENT_KEY_BYTES").map(Secret::new),
            server_name: self.server_name(block),
            danger_skip_verify: self.skip_verify(block),
        };
        let has_cert = tls.client_cert.is_some() || tls.client_cert_pem.is_some();
        let has_key = tls.client_key.is_some() || tls.client_key_pem.is_some();
        if has_cert != has_key {
            let (given, missing) = if has_cert {
                ("client_cert", "client_key")
            } else {
                ("client_key", "client_cert")
            };
            let at = block
                .and_then(|vault| vault.client_cert.as_ref().or(vault.client_key.as_ref()))
                .and_then(|given| given.at);
            let message = format!("{given} needs {missing}: a client certificate has both");
            let note = Note::error(Phase::Validate, at, message);
            self.found.add(note.key(format!("vault.{given}")));
        }
        tls
    }

    /// One that is set but empty is none.
    fn pem(&self, variable: &str) -> Option<String> {
        let found = self.variable(variable)?;
        Some(found.value).filter(|text| !text.trim().is_empty())
    }

    fn server_name(&self, block: Option<&file::Vault>) -> Option<String> {
        let typed = block.and_then(|block| block.tls_server_name.as_ref());
        let flag = ("tls-server-name", self.overrides.tls_server_name.as_ref());
        let setting = self
            .text(flag, "TLS_SERVER_NAME", "vault.tls_server_name", typed)
            .filter(|setting| !setting.value.is_empty())?;
        if ServerName::try_from(setting.value.as_str()).is_err() {
            let message = format!(
                "{:?} is not a host name or an IP address: no port, no scheme",
                setting.value
            );
            self.wrong(&setting, message);
            return None;
        }
        Some(setting.value)
    }

    fn skip_verify(&self, block: Option<&file::Vault>) -> bool {
        let typed = block.and_then(|block| block.tls_skip_verify.as_ref());
        let mut setting = named("vault.tls_skip_verify", typed);
        if let Some(variable) = self.variable("SKIP_VERIFY") {
            match units::parse_bool(&variable.value) {
                Ok(skip) => setting = Some(variable.with(skip)),
                Err(message) => self.wrong(&variable, message),
            }
        }
        if let Some(skip) = self.overrides.tls_skip_verify {
            setting = Some(Setting {
                value: skip,
                at: None,
                name: "the flag -tls-skip-verify".to_owned(),
            });
        }
        let Some(setting) = setting.filter(|setting| setting.value) else {
            return false;
        };
        let message = format!(
            "{} turns the check of Vault's certificate off: anybody on the way can read and change everything",
            setting.name
        );
        let note = Note::warning(Phase::Validate, setting.at, message);
        self.found.add(note.key("vault.tls_skip_verify"));
        true
    }
}

/// Credentials in it are refused, so that no message, dump or setting of this kind can hold a secret.
fn proxy_address(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err("a proxy with user name and password is not in this version".to_owned());
    }
    let wrong = || format!("{text:?} is not a proxy's address like \"http://proxy.example:3128\"");
    let text = match text.split_once("://") {
        None => format!("http://{text}"),
        Some(("http", _)) => text.to_owned(),
        Some((scheme, _)) => {
            return Err(format!("a proxy is reached by http://, not by {scheme:?}"));
        }
    };
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(wrong()),
    }
}
