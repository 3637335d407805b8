//! What a listener's TLS is to be.

use std::path::PathBuf;
use std::time::Duration;

use super::super::super::file;
use super::super::super::findings::{At, Given, Note, Phase};
use super::super::super::tls::{
    ClientCerts, ListenerTls, Named, RELOAD_INTERVAL, TlsVersion, cipher_suite, cipher_suite_names,
    key_exchange,
};
use super::super::{Check, named};

impl Check<'_> {
    /// Vault serves TLS unless told otherwise, and a caller who expects it must not find plain text. Who reaches
    /// a Unix socket is on this machine: there TLS is served where it is asked for.
    pub(super) fn listener_tls(&self, listener: &file::Listener) -> Option<ListenerTls> {
        let typed = &listener.tls;
        let is_meant = listener.is_tcp || listener.unix.is_some() && typed.is_mentioned;
        if !is_meant || typed.is_off() || typed.is_unclear {
            return None;
        }
        let files = self.pair(listener);
        let (min_version, max_version) = self.versions(typed);
        let client_certs = self.client_certs(typed);
        let cipher_suites = self.chosen(
            "tls_cipher_suites",
            &typed.cipher_suites,
            cipher_suite,
            || cipher_suite_names().collect::<Vec<_>>().join(", "),
        );
        self.without_tls12(typed, min_version, cipher_suites.is_empty());
        let key_exchanges = self.chosen(
            "tls_key_exchange_preferences",
            &typed.key_exchanges,
            key_exchange,
            || "X25519, CurveP256, CurveP384".to_owned(),
        );
        let reload_interval = self.duration(
            named(
                "listener.tls_auto_reload_interval",
                typed.reload_interval.as_ref(),
            ),
            Duration::from_secs(5)..=Duration::from_secs(24 * 3600),
            RELOAD_INTERVAL,
        );
        let (cert_file, key_file) = files?;
        Some(ListenerTls {
            cert_file,
            key_file,
            min_version,
            max_version,
            cipher_suites,
            key_exchanges,
            client_certs,
            reload_interval,
        })
    }

    fn pair(&self, listener: &file::Listener) -> Option<(PathBuf, PathBuf)> {
        let typed = &listener.tls;
        let acme = typed.acme;
        match (&typed.cert_file, &typed.key_file) {
            (Some(cert), Some(key)) => {
                if let Some((name, at)) = acme {
                    let message = format!("{name} has no effect beside tls_cert_file");
                    let note = Note::warning(Phase::Build, Some(at), message);
                    self.found.add(note.key(format!("listener.{name}")));
                }
                return Some((PathBuf::from(&cert.value), PathBuf::from(&key.value)));
            }
            (Some(cert), None) => self.tls_error(
                cert.at,
                "tls_key_file",
                "tls_cert_file needs tls_key_file beside it: the file with the certificate's private \
                 key, in PEM form; it may be the same file",
            ),
            (None, Some(key)) => self.tls_error(
                key.at,
                "tls_cert_file",
                "tls_key_file needs tls_cert_file beside it: the certificate and those that lead to \
                 its root, in PEM form",
            ),
            (None, None) => match acme {
                Some((name, at)) => self.tls_error(
                    Some(at),
                    name,
                    &format!(
                        "this version of Leasehold has no {name}: it gets no certificates by ACME; set \
                         tls_cert_file and tls_key_file, which are read anew when another client of \
                         ACME replaces them"
                    ),
                ),
                None => self.tls_error(
                    typed
                        .disable
                        .as_ref()
                        .and_then(|given| given.at)
                        .or(Some(listener.at)),
                    "tls_disable",
                    "this listener means TLS, as tls_disable = true is not set: set tls_cert_file and \
                     tls_key_file, or tls_disable = true for plain HTTP and keep the address on 127.0.0.1",
                ),
            },
        }
        None
    }

    fn versions(&self, typed: &file::ListenerTls) -> (TlsVersion, TlsVersion) {
        let min = self.version("tls_min_version", typed.min_version.as_ref());
        let max = self.version("tls_max_version", typed.max_version.as_ref());
        let min = min.unwrap_or(TlsVersion::Tls12);
        let (max, is_given) = (max.unwrap_or(TlsVersion::Tls13), max.is_some());
        if max < min && is_given {
            let message = format!(
                "tls_max_version {} is below tls_min_version {}",
                max.name(),
                min.name()
            );
            let at = typed.max_version.as_ref().and_then(|given| given.at);
            let first = typed.min_version.as_ref().and_then(|given| given.at);
            let note = Note::error(Phase::Validate, at, message)
                .related(first, "the lowest")
                .key("listener.tls_max_version");
            self.found.add(note);
            return (min, min);
        }
        (min, max)
    }

    fn version(&self, key: &'static str, given: Option<&Given<String>>) -> Option<TlsVersion> {
        let given = given?;
        let message = match given.value.as_str() {
            "tls12" => return Some(TlsVersion::Tls12),
            "tls13" => return Some(TlsVersion::Tls13),
            old @ ("tls10" | "tls11") => format!(
                "{key} {old:?}: Leasehold's TLS (rustls) has nothing older than TLS 1.2, since what is \
                 older can be broken; write \"tls12\""
            ),
            other => {
                format!("{key} {other:?} is not a version: it can be \"tls12\" or \"tls13\"")
            }
        };
        self.tls_error(given.at, key, &message);
        None
    }

    /// Names of suites or key exchanges, in their order. Leaving out what is weak or not there narrows
    /// what is offered and nothing else, so it is a warning as long as something remains.
    fn chosen<T>(
        &self,
        key: &'static str,
        given: &[Given<String>],
        read: impl Fn(&str) -> Named<T>,
        known: impl Fn() -> String,
    ) -> Vec<T> {
        let mut chosen = Vec::new();
        let mut missing = Vec::new();
        let mut is_wrong = false;
        for one in given {
            let name = one.value.trim();
            match read(name) {
                Named::Offered(it) => chosen.push(it),
                Named::Always => {}
                Named::Missing(why) => missing.push((one.at, format!("{name}: {why}"))),
                Named::Unknown => {
                    is_wrong = true;
                    let message = format!("{key}: {name:?} is unknown; known are {}", known());
                    self.tls_error(one.at, key, &message);
                }
            }
        }
        let nothing_remains = chosen.is_empty() && !missing.is_empty() && !is_wrong;
        for (at, why) in missing {
            if nothing_remains {
                let message = format!(
                    "{key}: {why}; none of the list can be offered, use {}",
                    known()
                );
                self.tls_error(at, key, &message);
            } else {
                let message = format!("{key}: {why}; it is not offered");
                let note = Note::warning(Phase::Build, at, message);
                self.found.add(note.key(format!("listener.{key}")));
            }
        }
        chosen
    }

    /// A list of TLS 1.3 suites alone leaves TLS 1.2 none.
    fn without_tls12(&self, typed: &file::ListenerTls, min: TlsVersion, is_empty: bool) {
        let Some(first) = typed.cipher_suites.first() else {
            return;
        };
        let all = |suites: &[Given<String>]| {
            let mut names = suites.iter().map(|one| one.value.trim());
            names.all(|name| cipher_suite(name) == Named::Always)
        };
        if is_empty && min == TlsVersion::Tls12 && all(&typed.cipher_suites) {
            let message = "tls_cipher_suites: it has suites of TLS 1.3 alone, which are always on, and \
                           none for TLS 1.2: remove it, and set tls_min_version = \"tls13\"";
            self.tls_error(first.at, "tls_cipher_suites", message);
        }
    }

    fn client_certs(&self, typed: &file::ListenerTls) -> ClientCerts {
        let flag = |given: &Option<Given<bool>>| given.clone().filter(|given| given.value);
        let required = flag(&typed.require_client_cert);
        let disabled = flag(&typed.disable_client_certs);
        let ca = typed.client_ca_file.as_ref();
        let ca_file = ca.map(|ca| PathBuf::from(&ca.value));
        match (required, disabled) {
            (Some(required), Some(disabled)) => {
                let message = "tls_require_and_verify_client_cert and tls_disable_client_certs \
                               exclude each other: keep one";
                let note = Note::error(Phase::Validate, required.at, message)
                    .related(disabled.at, "the other one")
                    .key("listener.tls_require_and_verify_client_cert");
                self.found.add(note);
                ClientCerts::Required { ca_file }
            }
            (Some(required), None) => {
                if ca_file.is_none() {
                    let message = "without tls_client_ca_file every client certificate that one of the \
                                   system's authorities has issued, to anybody, is let in, as in Vault: \
                                   set tls_client_ca_file to your own authority";
                    let note = Note::warning(Phase::Validate, required.at, message);
                    self.found.add(note.key("listener.tls_client_ca_file"));
                }
                ClientCerts::Required { ca_file }
            }
            (None, Some(_)) => {
                if let Some(ca) = ca {
                    let message =
                        "tls_client_ca_file has no effect: tls_disable_client_certs is true";
                    let note = Note::warning(Phase::Build, ca.at, message);
                    self.found.add(note.key("listener.tls_client_ca_file"));
                }
                ClientCerts::Ignored
            }
            (None, None) => match ca_file {
                Some(ca_file) => ClientCerts::Checked { ca_file },
                None => ClientCerts::Ignored,
            },
        }
    }

    fn tls_error(&self, at: Option<At>, key: &str, message: &str) {
        let note = Note::error(Phase::Validate, at, message);
        self.found.add(note.key(format!("listener.{key}")));
    }
}
