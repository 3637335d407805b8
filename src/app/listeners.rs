//! What is known of each listener while it serves.

use std::fmt;

use crate::admin::{CertificateStatus, ListenerStatus};
use crate::config::{self, Config, UseAutoAuthToken};
use crate::server::{Address, Bound, Certificate, Reload, Tls};

/// One listener, for the status, the metrics and reloads.
#[derive(Debug, Clone)]
pub(super) struct Listening {
    address: Address,
    role: &'static str,
    tls: Option<Tls>,
    /// It adds the shared token to whatever reaches it from other machines in plain text.
    pub(super) is_insecure: bool,
    /// Its address was not known when the configuration was checked.
    is_passed: bool,
}

impl Listening {
    pub(super) fn of(bound: &Bound, listener: &config::Listener, config: &Config) -> Self {
        let lends =
            config.auto_auth.is_some() && config.use_auto_auth_token != UseAutoAuthToken::Off;
        let reachable = bound
            .address()
            .tcp()
            .is_some_and(|address| !address.ip().to_canonical().is_loopback());
        Self {
            address: bound.address().clone(),
            role: if listener.metrics_only {
                "metrics_only"
            } else {
                "default"
            },
            tls: bound.tls().cloned(),
            is_insecure: lends && reachable && !listener.metrics_only && bound.tls().is_none(),
            is_passed: listener.systemd.is_some(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn certificate(&self) -> Option<Certificate> {
        self.tls.as_ref().map(Tls::certificate)
    }

    pub(super) fn status(&self) -> ListenerStatus {
        ListenerStatus {
            address: self.address.to_string(),
            role: self.role,
            tls: self.certificate().map(|certificate| CertificateStatus {
                serial: certificate.serial,
                not_before: certificate.not_before.to_string(),
                not_after: certificate.not_after.to_string(),
                reload_failures: certificate.failures,
                last_error: certificate.failure,
            }),
            insecure: self.is_insecure,
        }
    }

    pub(super) fn say(&self) {
        let (address, tls) = (&self.address, self.tls.is_some());
        tracing::info!(%address, tls, "listening");
        if self.is_insecure && self.is_passed {
            tracing::warn!(
                %address,
                "this socket of systemd's is reachable from other machines, in plain text: whoever gets there can \
                 use the auto-auth token"
            );
        }
    }
}

/// How many listeners' certificates went which way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reloaded {
    taken: usize,
    unchanged: usize,
    kept: usize,
}

impl Reloaded {
    /// Reads every listener's certificates anew.
    pub(super) fn all(listeners: &[Listening]) -> Self {
        let mut reloaded = Self::default();
        for tls in listeners.iter().filter_map(|one| one.tls.as_ref()) {
            match tls.reload() {
                Reload::Taken => reloaded.taken += 1,
                Reload::Unchanged => reloaded.unchanged += 1,
                Reload::Kept(_) => reloaded.kept += 1,
            }
        }
        reloaded
    }

    pub(super) fn has_failures(&self) -> bool {
        self.kept > 0
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            taken,
            unchanged,
            kept,
        } = self;
        if *self == Self::default() {
            return f.write_str("no listener has certificates to read anew");
        }
        write!(
            f,
            "listener certificates read anew: {taken} taken up, {unchanged} unchanged, {kept} not usable"
        )
    }
}
