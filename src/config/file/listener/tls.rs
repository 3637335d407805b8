//! The TLS keys of a listener as typed.

use std::time::Duration;

use super::super::super::findings::{At, Given, Note, Phase};
use super::super::super::forms::Form;
use super::super::super::read::{Fields, Other, Reader};
use super::super::{idle, silent};

#[derive(Debug)]
pub(in super::super::super) struct Tls {
    pub(in super::super::super) disable: Option<Given<bool>>,
    pub(in super::super::super) cert_file: Option<Given<String>>,
    pub(in super::super::super) key_file: Option<Given<String>>,
    pub(in super::super::super) min_version: Option<Given<String>>,
    pub(in super::super::super) max_version: Option<Given<String>>,
    pub(in super::super::super) cipher_suites: Vec<Given<String>>,
    pub(in super::super::super) key_exchanges: Vec<Given<String>>,
    pub(in super::super::super) require_client_cert: Option<Given<bool>>,
    pub(in super::super::super) client_ca_file: Option<Given<String>>,
    pub(in super::super::super) disable_client_certs: Option<Given<bool>>,
    pub(in super::super::super) reload_interval: Option<Given<Duration>>,
    /// The first key that asks for a certificate by ACME.
    pub(in super::super::super) acme: Option<(&'static str, At)>,
    /// Something was said of TLS at all.
    pub(in super::super::super) is_mentioned: bool,
    /// Some value could not be read: that has been said, and nothing follows from its absence.
    pub(in super::super::super) is_unclear: bool,
}

impl Tls {
    pub(super) fn read(reader: Reader<'_>, fields: &Fields<'_>) -> Self {
        let disable = fields.boolish("tls_disable");
        let cert_file = fields.text("tls_cert_file");
        let key_file = fields.text("tls_key_file");
        let is_unclear = [
            ("tls_disable", disable.is_some()),
            ("tls_cert_file", cert_file.is_some()),
            ("tls_key_file", key_file.is_some()),
        ]
        .into_iter()
        .any(|(name, is_read)| fields.has(name).is_some() && !is_read);
        let read = Self {
            cert_file: filled(cert_file),
            key_file: filled(key_file),
            min_version: filled(fields.text("tls_min_version")),
            max_version: filled(fields.text("tls_max_version")),
            cipher_suites: fields.list("tls_cipher_suites").unwrap_or_default(),
            key_exchanges: fields
                .list("tls_key_exchange_preferences")
                .unwrap_or_default(),
            require_client_cert: fields.boolish("tls_require_and_verify_client_cert"),
            client_ca_file: filled(fields.text("tls_client_ca_file")),
            disable_client_certs: fields.boolish("tls_disable_client_certs"),
            reload_interval: fields.duration("tls_auto_reload_interval"),
            acme: ACME
                .iter()
                .filter_map(|(name, _)| Some((*name, fields.has(name)?)))
                .min_by_key(|(_, at)| at.span.start),
            is_mentioned: ["tls_disable"]
                .iter()
                .chain(WITHOUT_TLS)
                .chain(ACME.iter().map(|(name, _)| name))
                .any(|name| fields.has(name).is_some()),
            is_unclear,
            disable,
        };
        for (name, form) in ACME {
            fields.others(&[silent(name, *form)]);
        }
        let auto_reload = fields.boolish("tls_auto_reload");
        if read.is_off() {
            Self::has_no_effect(reader, fields);
        } else {
            fields.others(OTHERS);
            if let Some(off) = auto_reload.filter(|given| !given.value) {
                let message = "tls_auto_reload = false has no effect: certificates are read anew \
                               whenever their files change";
                let note = Note::warning(Phase::Build, off.at, message);
                reader.found.add(note.key("listener.tls_auto_reload"));
            }
        }
        read
    }

    pub(in super::super::super) fn is_off(&self) -> bool {
        self.disable.as_ref().is_some_and(|disable| disable.value)
    }

    fn has_no_effect(reader: Reader<'_>, fields: &Fields<'_>) {
        fields.others(&[silent("tls_prefer_server_cipher_suites", Form::Bool)]);
        for name in WITHOUT_TLS.iter().chain(ACME.iter().map(|(name, _)| name)) {
            let Some(at) = fields.has(name) else {
                continue;
            };
            let message = format!("{name} has no effect: tls_disable is true");
            let note = Note::warning(Phase::Build, Some(at), message);
            reader.found.add(note.key(format!("listener.{name}")));
        }
    }
}

/// Empty is as good as absent, as in Vault.
fn filled(given: Option<Given<String>>) -> Option<Given<String>> {
    given.filter(|given| !given.value.is_empty())
}

const WITHOUT_TLS: &[&str] = &[
    "tls_cert_file",
    "tls_key_file",
    "tls_min_version",
    "tls_max_version",
    "tls_cipher_suites",
    "tls_key_exchange_preferences",
    "tls_prefer_server_cipher_suites",
    "tls_require_and_verify_client_cert",
    "tls_client_ca_file",
    "tls_disable_client_certs",
    "tls_auto_reload",
    "tls_auto_reload_interval",
];

const OTHERS: &[Other] = &[idle(
    "tls_prefer_server_cipher_suites",
    Form::Bool,
    "the client's order counts, as in Vault",
)];

const ACME: &[(&str, Form)] = &[
    ("tls_acme_cache_path", Form::Text),
    ("tls_acme_ca_directory", Form::Text),
    ("tls_acme_test_ca_directory", Form::Text),
    ("tls_acme_ca_root", Form::Text),
    ("tls_acme_eab_key_id", Form::Text),
    ("tls_acme_eab_mac_key", Form::Text),
    ("tls_acme_key_type", Form::Text),
    ("tls_acme_email", Form::Text),
    ("tls_acme_domains", Form::List),
    ("tls_acme_disable_http_challenge", Form::Bool),
    ("tls_acme_disable_alpn_challenge", Form::Bool),
];
