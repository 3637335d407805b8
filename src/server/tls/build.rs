//! From a listener's settings and files to what rustls needs: every way in which they can be wrong has a
//! message that names the key, the file and what to do.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};

use super::files::{CA, CERT, Contents, KEY};
use super::pem;
use super::x509::Facts;
use crate::config::{ClientCerts, ListenerTls, TlsVersion};
use crate::error::{Error, Kind, Result};

/// What a listener answers handshakes with.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) config: Arc<ServerConfig>,
    /// Of the listener's own certificate.
    pub(super) leaf: Facts,
    /// What is odd but works.
    pub(super) warnings: Vec<String>,
}

pub(super) fn build(settings: &ListenerTls, contents: &Contents) -> Result<Served> {
    let provider = Arc::new(provider(settings));
    let mut warnings = Vec::new();
    let (key, leaf) = certified(settings, contents, &provider, &mut warnings)?;
    let verifier = verifier(settings, contents, &provider)?;
    let versions: Vec<_> = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)]
        .into_iter()
        .filter(|(version, _)| (settings.min_version..=settings.max_version).contains(version))
        .map(|(_, version)| version)
        .collect();
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| {
            let message = format!("the TLS settings of the listener cannot be served: {error}");
            Error::new(Kind::Internal, message)
        })?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    resumption(&mut config, verifier.is_some());
    Ok(Served {
        config: Arc::new(config),
        leaf,
        warnings,
    })
}

/// A resumed session is not asked for its certificate again: whose certificate has ended, or whose authority
/// was taken out, would come in for as long as its ticket holds. So who is checked is checked each time.
fn resumption(config: &mut ServerConfig, has_checks: bool) {
    if has_checks {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        // A client that keeps a session uses the latest.
        config.send_tls13_tickets = 1;
    }
}

/// ring, with what the settings leave of it.
fn provider(settings: &ListenerTls) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let place = |suite| settings.cipher_suites.iter().position(|one| *one == suite);
    if !settings.cipher_suites.is_empty() {
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || place(suite.suite()).is_some());
        provider
            .cipher_suites
            .sort_by_key(|suite| place(suite.suite()));
    }
    let place = |group| settings.key_exchanges.iter().position(|one| *one == group);
    if !settings.key_exchanges.is_empty() {
        provider
            .kx_groups
            .retain(|group| place(group.name()).is_some());
        provider.kx_groups.sort_by_key(|group| place(group.name()));
    }
    provider
}

fn certified(
    settings: &ListenerTls,
    contents: &Contents,
    provider: &CryptoProvider,
    warnings: &mut Vec<String>,
) -> Result<(CertifiedKey, Facts)> {
    let (cert_file, key_file) = (&settings.cert_file, &settings.key_file);
    let chain = pem::certificates(CERT, cert_file, &contents.cert)?;
    let key = pem::private_key(KEY, key_file, &contents.key)?;
    let key = provider.key_provider.load_private_key(key).map_err(|_| {
        let message = "has a private key of a kind that is not served: use RSA (2048 bits or more), \
                       ECDSA (P-256, P-384) or Ed25519";
        pem::fail(KEY, key_file, message)
    })?;
    let facts = facts(cert_file, &chain)?;
    let Some(leaf) = facts.first().cloned() else {
        return Err(pem::fail(CERT, cert_file, "has no certificate in it"));
    };
    for (place, pair) in facts.windows(2).enumerate() {
        if let [one, next] = pair
            && !one.is_issued_by(next)
        {
            warnings.push(format!(
                "{CERT} {}: certificate {} did not issue the one before it: some clients refuse a chain \
                 that is out of order; put the listener's own first, then each one's issuer",
                cert_file.display(),
                place + 2
            ));
        }
    }
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok((certified, leaf))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(mismatch(&certified, cert_file, key_file)),
        Err(error) => {
            let message = format!("its first certificate cannot be used: {error}");
            Err(pem::fail(CERT, cert_file, &message))
        }
    }
}

fn facts(cert_file: &Path, chain: &[CertificateDer<'_>]) -> Result<Vec<Facts>> {
    let facts: Option<Vec<_>> = chain.iter().map(|one| Facts::of(one)).collect();
    facts.ok_or_else(|| {
        let message = "what stands in a CERTIFICATE section is not a certificate";
        pem::fail(CERT, cert_file, message)
    })
}

/// The key may belong to a certificate further down: then it is the order that is wrong.
fn mismatch(certified: &CertifiedKey, cert_file: &Path, key_file: &Path) -> Error {
    let later = certified.cert.iter().skip(1).any(|certificate| {
        let alone = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key));
        alone.keys_match().is_ok()
    });
    let message = if later {
        format!(
            "its first certificate is not the one of {KEY} {}: the listener's own certificate has to \
             come first, its issuers after it",
            key_file.display()
        )
    } else {
        format!(
            "the certificate and {KEY} {} do not belong together: replace both, or the one that was \
             left behind",
            key_file.display()
        )
    };
    pem::fail(CERT, cert_file, &message)
}

fn verifier(
    settings: &ListenerTls,
    contents: &Contents,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
    let (ca_file, is_required) = match &settings.client_certs {
        ClientCerts::Ignored => return Ok(None),
        ClientCerts::Checked { ca_file } => (Some(ca_file), false),
        ClientCerts::Required { ca_file } => (ca_file.as_ref(), true),
    };
    let roots = match ca_file {
        Some(file) => roots_of(file, &contents.ca)?,
        None => system_roots()?,
    };
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if is_required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder.build().map(Some).map_err(|error| {
        let message = format!("client certificates cannot be checked: {error}");
        Error::new(Kind::Internal, message)
    })
}

fn roots_of(file: &Path, bytes: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(CA, file, bytes)? {
        roots.add(certificate).map_err(|error| {
            let message = format!("has something else than an authority's certificate: {error}");
            pem::fail(CA, file, &message)
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().certs;
    // One broken system root must not keep the others out.
    let (_added, _broken) = roots.add_parsable_certificates(found);
    if roots.is_empty() {
        let message = "tls_require_and_verify_client_cert: the system has no root certificates to check \
                       clients against; set tls_client_ca_file";
        return Err(Error::new(Kind::File, message));
    }
    Ok(roots)
}

/// Each costs some hundred bytes.
const SESSIONS: usize = 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::{CipherSuite, NamedGroup};
    use tempfile::TempDir;

    use super::super::files::Files;
    use super::super::testing::Authority;
    use super::*;

    /// A listener's files, and what they are to become.
    struct Stand {
        directory: TempDir,
        settings: ListenerTls,
        authority: Authority,
    }

    impl Stand {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let authority = Authority::new("authority");
            let (cert, key) = authority.server().save(directory.path(), "tls");
            Self {
                settings: ListenerTls::new(cert, key),
                directory,
                authority,
            }
        }

        fn build(&self) -> Result<Served> {
            let files = Files::of(&self.settings);
            build(&self.settings, &files.read().0?)
        }

        fn refusal(&self) -> String {
            let error = self.build().expect_err("a refusal");
            assert_eq!(error.kind(), Kind::File, "{error}");
            error.to_string()
        }

        fn cert(&self, text: impl AsRef<[u8]>) {
            fs::write(&self.settings.cert_file, text).unwrap();
        }

        fn key(&self, text: impl AsRef<[u8]>) {
            fs::write(&self.settings.key_file, text).unwrap();
        }
    }

    fn has(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }

    #[test]
    fn a_pair_is_all_it_takes() {
        let stand = Stand::new();
        let served = stand.build().unwrap();
        assert!(served.warnings.is_empty(), "{:?}", served.warnings);
        assert_eq!(served.config.alpn_protocols, [b"http/1.1"]);
        assert_eq!(served.config.max_early_data_size, 0);
    }

    #[test]
    fn what_is_wrong_with_the_certificate_is_said_with_what_to_do() {
        let stand = Stand::new();
        let whole = fs::read_to_string(&stand.settings.cert_file).unwrap();
        let key = fs::read_to_string(&stand.settings.key_file).unwrap();
        let cases: [(&[u8], &str); 7] = [
            (b"", "is empty"),
            (b"nothing of the kind", "no certificate in PEM form"),
            (key.as_bytes(), "no certificate in PEM form"),
            (
                &whole.as_bytes()[..whole.len() / 2],
                "it ends in the middle",
            ),
            (
                b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
                "not base64",
            ),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "is not a certificate",
            ),
            (&[0x30, 0x82, 1, 2], "openssl x509 -inform der"),
        ];
        for (text, part) in cases {
            stand.cert(text);
            has(&stand.refusal(), &["tls_cert_file /", "tls.crt", part]);
        }
        fs::remove_file(&stand.settings.cert_file).unwrap();
        has(&stand.refusal(), &["tls_cert_file /", "does not exist"]);
        fs::create_dir(&stand.settings.cert_file).unwrap();
        has(&stand.refusal(), &["tls_cert_file /", "is not a file"]);
    }

    #[test]
    fn what_is_wrong_with_the_key_is_said_and_nothing_of_it_is_shown() {
        let stand = Stand::new();
        let whole = fs::read_to_string(&stand.settings.key_file).unwrap();
        let cert = fs::read_to_string(&stand.settings.cert_file).unwrap();
        let secret = whole.lines().nth(1).unwrap();
        let half = whole.get(..whole.len() / 2).unwrap();
        let cases = [
            ("", "is empty"),
            ("nothing", "no private key in PEM form"),
            (&cert, "no private key in PEM form"),
            (half, "it ends in the middle"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "is encrypted",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
                 AAAA\n-----END RSA PRIVATE KEY-----\n",
                "openssl pkey -in",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "of a kind that is not served",
            ),
        ];
        for (text, part) in cases {
            stand.key(text);
            let refusal = stand.refusal();
            has(&refusal, &["tls_key_file /", "tls.key", part]);
            assert!(!refusal.contains(secret), "{refusal}");
        }
    }

    #[test]
    fn a_pair_that_does_not_match_and_one_out_of_order_are_told_apart() {
        let stand = Stand::new();
        let (own, other) = (stand.authority.server(), stand.authority.server());
        stand.key(&own.key);
        stand.cert(&other.cert);
        has(
            &stand.refusal(),
            &["tls_cert_file", "tls_key_file", "do not belong together"],
        );
        stand.cert(format!("{}{}", stand.authority.pem(), own.cert));
        has(&stand.refusal(), &["has to come first"]);
        stand.cert(format!("{}{}", own.cert, stand.authority.pem()));
        assert!(stand.build().unwrap().warnings.is_empty());
        // One file for both.
        stand.cert(format!("{}{}", own.key, own.cert));
        fs::copy(&stand.settings.cert_file, &stand.settings.key_file).unwrap();
        stand.build().unwrap();
    }

    #[test]
    fn issuers_out_of_order_are_a_warning() {
        let stand = Stand::new();
        let middle = stand.authority.intermediate("middle");
        let pair = middle.server();
        stand.key(&pair.key);
        let (root, middle) = (stand.authority.pem(), middle.pem());
        stand.cert(format!("{}{middle}{root}", pair.cert));
        assert!(stand.build().unwrap().warnings.is_empty());
        stand.cert(format!("{}{root}{middle}", pair.cert));
        let warnings = stand.build().unwrap().warnings;
        has(
            &warnings.concat(),
            &["certificate 2 did not issue", "tls_cert_file"],
        );
    }

    #[test]
    fn an_expired_certificate_is_served_and_known_to_be_over() {
        let stand = Stand::new();
        let pair = stand.authority.expired();
        stand.cert(&pair.cert);
        stand.key(&pair.key);
        let served = stand.build().unwrap();
        assert!(served.leaf.is_over(jiff::Timestamp::now()));
    }

    #[test]
    fn authorities_of_clients_have_to_be_there() {
        let mut stand = Stand::new();
        let ca_file = stand.directory.path().join("ca.pem");
        for client_certs in [
            ClientCerts::Required {
                ca_file: Some(ca_file.clone()),
            },
            ClientCerts::Checked {
                ca_file: ca_file.clone(),
            },
        ] {
            stand.settings.client_certs = client_certs;
            for (text, part) in [
                ("", "is empty"),
                ("nothing", "no certificate in PEM form"),
                (
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                    "something else than an authority's",
                ),
            ] {
                fs::write(&ca_file, text).unwrap();
                has(&stand.refusal(), &["tls_client_ca_file /", "ca.pem", part]);
            }
            fs::write(&ca_file, stand.authority.pem()).unwrap();
            stand.build().unwrap();
            fs::remove_file(&ca_file).unwrap();
            has(
                &stand.refusal(),
                &["tls_client_ca_file /", "does not exist"],
            );
        }
    }

    #[test]
    fn suites_and_key_exchanges_are_offered_as_chosen_and_in_that_order() {
        let mut settings = ListenerTls::new("", "");
        let all = provider(&settings);
        assert_eq!((all.cipher_suites.len(), all.kx_groups.len()), (9, 3));
        settings.cipher_suites = vec![
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ];
        settings.key_exchanges = vec![NamedGroup::secp384r1, NamedGroup::X25519];
        let chosen = provider(&settings);
        let suites: Vec<_> = chosen.cipher_suites.iter().map(|one| one.suite()).collect();
        let (tls13, tls12) = suites.split_at(3);
        assert!(tls13.iter().all(|one| {
            all.cipher_suites
                .iter()
                .any(|of| of.tls13().is_some() && of.suite() == *one)
        }));
        assert_eq!(tls12, settings.cipher_suites);
        let groups: Vec<_> = chosen.kx_groups.iter().map(|one| one.name()).collect();
        assert_eq!(groups, settings.key_exchanges);
    }

    #[test]
    fn every_range_of_versions_can_be_served() {
        let mut stand = Stand::new();
        let range = [TlsVersion::Tls12, TlsVersion::Tls13];
        for (min, max) in [(0, 0), (0, 1), (1, 1)] {
            stand.settings.min_version = range[min];
            stand.settings.max_version = range[max];
            stand.build().unwrap();
        }
    }
}
