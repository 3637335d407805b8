//! What a TLS listener offers, and the names that Go, and so Vault, has for it.

use std::path::PathBuf;
use std::time::Duration;

use rustls::{CipherSuite, NamedGroup};

/// A listener's TLS. Its files are read at the start, and again whenever they have changed.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// The listener's own certificate first, then those that lead to the root.
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// Of TLS 1.2, the preferred one first; those of TLS 1.3 are always on. Empty: all.
    pub cipher_suites: Vec<CipherSuite>,
    /// The preferred one first. Empty: all.
    pub key_exchanges: Vec<NamedGroup>,
    pub client_certs: ClientCerts,
    /// Between two looks at the files.
    pub reload_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// Who has to show a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCerts {
    /// Nobody is asked for one.
    Ignored,
    /// One that is shown must be good.
    Checked { ca_file: PathBuf },
    /// Nobody gets in without. `None`: the system's roots vouch, as with the peers.
    Required { ca_file: Option<PathBuf> },
}

impl ListenerTls {
    /// With everything at its default but the files.
    pub fn new(cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self {
            cert_file: cert_file.into(),
            key_file: key_file.into(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            key_exchanges: Vec::new(),
            client_certs: ClientCerts::Ignored,
            reload_interval: RELOAD_INTERVAL,
        }
    }
}

impl TlsVersion {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "tls12",
            Self::Tls13 => "tls13",
        }
    }
}

/// What a name of Go's means here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named<T> {
    Offered(T),
    /// On whenever TLS 1.3 is.
    Always,
    /// Go has it; we do not, for this reason.
    Missing(&'static str),
    Unknown,
}

pub(super) fn cipher_suite(name: &str) -> Named<CipherSuite> {
    let name = name.to_ascii_uppercase();
    // Go takes the two ChaCha suites by their old names as well.
    let full = if name.ends_with("_CHACHA20_POLY1305") {
        format!("{name}_SHA256")
    } else {
        name
    };
    if let Some((_, suite)) = CIPHER_SUITES.iter().find(|(known, _)| *known == full) {
        return Named::Offered(*suite);
    }
    if TLS13_CIPHER_SUITES.contains(&full.as_str()) {
        return Named::Always;
    }
    if OTHER_CIPHER_SUITES.contains(&full.as_str()) {
        return Named::Missing("it has no forward secrecy, or encrypts in a way that was broken");
    }
    Named::Unknown
}

/// The name that `cipher_suite` takes.
pub(super) fn cipher_suite_name(suite: CipherSuite) -> Option<&'static str> {
    let known = CIPHER_SUITES.iter().find(|(_, known)| *known == suite);
    known.map(|(name, _)| *name)
}

/// Go's `CurveP256`, the standard's `P-256` and the registry's `secp256r1` are one.
pub(super) fn key_exchange(name: &str) -> Named<NamedGroup> {
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .collect::<String>()
        .to_ascii_lowercase();
    match plain.as_str() {
        "x25519" => Named::Offered(NamedGroup::X25519),
        "curvep256" | "p256" | "secp256r1" => Named::Offered(NamedGroup::secp256r1),
        "curvep384" | "p384" | "secp384r1" => Named::Offered(NamedGroup::secp384r1),
        "curvep521" | "p521" | "secp521r1" => Named::Missing("this build has no P-521"),
        "x25519mlkem768" | "secp256r1mlkem768" | "secp384r1mlkem1024" | "mlkem1024" => {
            Named::Missing("this build has no post-quantum key exchange")
        }
        _ => Named::Unknown,
    }
}

pub(super) fn key_exchange_name(group: NamedGroup) -> Option<&'static str> {
    ["X25519", "CurveP256", "CurveP384"]
        .into_iter()
        .find(|name| key_exchange(name) == Named::Offered(group))
}

pub(super) fn cipher_suite_names() -> impl Iterator<Item = &'static str> {
    CIPHER_SUITES.iter().map(|(name, _)| *name)
}

pub(super) const RELOAD_INTERVAL: Duration = Duration::from_secs(30);

const CIPHER_SUITES: &[(&str, CipherSuite)] = &[
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

const TLS13_CIPHER_SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// What Go has besides.
const OTHER_CIPHER_SUITES: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_and_group_of_the_provider_has_a_name_and_every_name_is_in_the_provider() {
        let provider = rustls::crypto::ring::default_provider();
        let tls12: Vec<_> = provider
            .cipher_suites
            .iter()
            .filter(|suite| suite.tls13().is_none())
            .map(|suite| suite.suite())
            .collect();
        assert_eq!(tls12.len(), CIPHER_SUITES.len());
        for (name, suite) in CIPHER_SUITES {
            assert!(tls12.contains(suite), "{name}");
            assert_eq!(cipher_suite(name), Named::Offered(*suite));
            assert_eq!(cipher_suite_name(*suite), Some(*name));
        }
        for group in &provider.kx_groups {
            let name = key_exchange_name(group.name()).unwrap();
            assert_eq!(key_exchange(name), Named::Offered(group.name()));
        }
    }

    #[test]
    fn names_are_taken_as_go_writes_them_and_as_people_do() {
        for (name, group) in [
            ("X25519", NamedGroup::X25519),
            ("x25519", NamedGroup::X25519),
            ("CurveP256", NamedGroup::secp256r1),
            ("P-256", NamedGroup::secp256r1),
            ("P384", NamedGroup::secp384r1),
            ("secp384r1", NamedGroup::secp384r1),
        ] {
            assert_eq!(key_exchange(name), Named::Offered(group), "{name}");
        }
        for name in ["CurveP521", "X25519MLKEM768", "SecP256r1MLKEM768"] {
            assert!(matches!(key_exchange(name), Named::Missing(_)), "{name}");
        }
        assert_eq!(key_exchange("P255"), Named::Unknown);
        assert_eq!(
            cipher_suite("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"),
            Named::Offered(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)
        );
        assert_eq!(cipher_suite("TLS_AES_128_GCM_SHA256"), Named::Always);
        assert_eq!(cipher_suite("TLS_CHACHA20_POLY1305_SHA256"), Named::Always);
        let weak = cipher_suite("TLS_RSA_WITH_AES_128_CBC_SHA");
        assert!(matches!(weak, Named::Missing(_)));
        assert_eq!(cipher_suite("TLS_ECDHE_RSA"), Named::Unknown);
    }
}
