//! What is measured at the moment of asking, rather than counted along the way.

use serde::Serialize;

/// The gauges of one scrape. Counts of things alive, bytes, and moments as Unix seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// A login's token is held.
    pub authenticated: bool,
    /// When the auto-auth token ends; `None`: there is none, or it never ends.
    pub token_expiry: Option<u64>,
    /// Logins of this process.
    pub token_generation: u64,
    /// Leases (and cached logins) that the scheduler keeps alive.
    pub leases: u64,
    /// The earliest end among them.
    pub lease_expiry: Option<u64>,
    pub cache_static_entries: u64,
    pub cache_leased_entries: u64,
    pub cache_bytes: u64,
    pub cache_max_bytes: u64,
    /// Listeners that lend the token in plain text to other machines.
    pub insecure_listeners: u64,
    /// The earliest end of a listener's certificate.
    pub certificate_expiry: Option<u64>,
    /// Client connections open.
    pub connections: u64,
    /// Tasks alive.
    pub tasks: u64,
    /// Upstream places taken by callers' requests.
    pub upstream_in_use: u64,
    /// Vault's certificate is not checked.
    pub upstream_tls_skip_verify: bool,
    /// The TLS files for Vault cannot be used as they are now.
    pub upstream_tls_stale: bool,
    /// Resident memory of the process, where the system tells.
    pub resident_bytes: u64,
}

impl Sample {
    /// Name (without prefix), help, value; what is unknown is left out.
    pub(super) fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut gauges = vec![
            (
                "authenticated",
                "1 while an auto-auth token is held",
                u64::from(self.authenticated),
            ),
            (
                "token_generation",
                "Logins of this process",
                self.token_generation,
            ),
            (
                "lease_active",
                "Leases and cached logins that are kept alive",
                self.leases,
            ),
            (
                "cache_static_entries",
                "Static answers in the cache",
                self.cache_static_entries,
            ),
            (
                "cache_leased_entries",
                "Leased answers in the cache",
                self.cache_leased_entries,
            ),
            (
                "cache_bytes",
                "Bytes of bodies and keys in the cache",
                self.cache_bytes,
            ),
            (
                "cache_max_bytes",
                "The bound of cache_bytes",
                self.cache_max_bytes,
            ),
            (
                "listener_insecure",
                "Listeners that lend the token in plain text to other machines",
                self.insecure_listeners,
            ),
            ("connections", "Client connections open", self.connections),
            ("tasks", "Tasks alive", self.tasks),
            (
                "upstream_in_use",
                "Upstream connections in use by callers",
                self.upstream_in_use,
            ),
            (
                "upstream_tls_skip_verify",
                "1 where tls_skip_verify turns the check of Vault's certificate off",
                u64::from(self.upstream_tls_skip_verify),
            ),
            (
                "upstream_tls_stale",
                "1 while changed TLS files for Vault cannot be used, and those before are",
                u64::from(self.upstream_tls_stale),
            ),
            (
                "resident_bytes",
                "Resident memory of the process",
                self.resident_bytes,
            ),
        ];
        if let Some(at) = self.token_expiry {
            gauges.push((
                "token_expiry_timestamp_seconds",
                "When the auto-auth token ends",
                at,
            ));
        }
        if let Some(at) = self.lease_expiry {
            gauges.push((
                "lease_expiry_timestamp_seconds",
                "The earliest end of a lease",
                at,
            ));
        }
        if let Some(at) = self.certificate_expiry {
            gauges.push((
                "listener_certificate_expiry_timestamp_seconds",
                "The earliest end of a listener's certificate",
                at,
            ));
        }
        gauges
    }
}
