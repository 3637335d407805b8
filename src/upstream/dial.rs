//! Making connections: TCP, through an HTTP proxy where one is configured, TLS where the address says so.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::link::{Io, Link};
use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tower::{BoxError, Service};

use crate::config;
use crate::error::{Error, Kind, Result};

pub(super) type Connector = HttpsConnector<Way>;

pub(super) fn connector(way: Way, vault: &config::Vault) -> Result<Connector> {
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls(&vault.tls, vault.address.starts_with("https:"))?)
        .https_or_http();
    let builder = match &vault.tls.server_name {
        None => builder,
        Some(name) => {
            let name = ServerName::try_from(name.clone()).map_err(|_| {
                Error::new(
                    Kind::Internal,
                    format!("tls_server_name {name:?} is not a host name"),
                )
            })?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
    };
    Ok(builder.enable_http1().wrap_connector(way))
}

/// How a byte stream to Vault is made, TLS aside.
#[derive(Clone)]
pub enum Way {
    Tcp(HttpConnector),
    /// A CONNECT tunnel through a proxy.
    Tunnel(Tunnel<HttpConnector>),
    /// By whatever else makes one: an in-memory pipe to an embedded Vault.
    Stream(Arc<dyn Fn() -> io::Result<Box<dyn Io>> + Send + Sync>),
}

impl Way {
    pub(super) fn of(vault: &config::Vault) -> Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let Some(proxy) = &vault.http_proxy else {
            return Ok(Self::Tcp(tcp));
        };
        let uri: Uri = proxy.parse().map_err(|error| {
            Error::new(Kind::Internal, format!("the HTTP proxy {proxy:?}: {error}"))
        })?;
        Ok(Self::Tunnel(Tunnel::new(uri, tcp)))
    }

    /// Every connection is a new stream from `make`.
    pub fn streams<S: Io + 'static>(
        make: impl Fn() -> io::Result<S> + Send + Sync + 'static,
    ) -> Self {
        Self::Stream(Arc::new(move || {
            make().map(|stream| -> Box<dyn Io> { Box::new(stream) })
        }))
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Way::Tcp",
            Self::Tunnel(_) => "Way::Tunnel",
            Self::Stream(_) => "Way::Stream",
        })
    }
}

impl Service<Uri> for Way {
    type Response = Link;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            Self::Tunnel(tunnel) => tunnel.poll_ready(cx).map_err(Into::into),
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Tcp(tcp) => {
                let connecting = tcp.call(uri);
                Box::pin(async move { Ok(Link::Tcp(connecting.await?)) })
            }
            Self::Tunnel(tunnel) => {
                let connecting = tunnel.call(uri);
                Box::pin(async move { Ok(Link::Tcp(connecting.await?)) })
            }
            Self::Stream(make) => {
                let made = make();
                Box::pin(async move { Ok(Link::Stream(TokioIo::new(made?))) })
            }
        }
    }
}

/// The system's roots and the configured ones; TLS 1.2 and 1.3 over ring.
fn tls(tls: &config::VaultTls, is_needed: bool) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Kind::Internal, format!("TLS: {error}")))?;
    let builder = if tls.danger_skip_verify {
        tracing::warn!(
            "vault.tls_skip_verify is on: anybody on the way can read and change everything"
        );
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(DangerAcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(tls, is_needed)?)
    };
    match (client_chain(tls)?, client_key(tls)?) {
        (Some(chain), Some(key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            let message = format!("client certificate and key do not go together: {error}");
            Error::new(Kind::File, message)
        }),
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn client_chain(tls: &config::VaultTls) -> Result<Option<Vec<CertificateDer<'static>>>> {
    match (&tls.client_cert, &tls.client_cert_pem) {
        (Some(path), _) => certificates(path).map(Some),
        (None, Some(pem)) => pem_certificates("CLIENT_CERT_BYTES", pem).map(Some),
        (None, None) => Ok(None),
    }
}

fn client_key(tls: &config::VaultTls) -> Result<Option<PrivateKeyDer<'static>>> {
    let wrong = |path: &Path, error| unreadable(path, "no private key in PEM form", &error);
    match (&tls.client_key, &tls.client_key_pem) {
        (Some(path), _) => PrivateKeyDer::from_pem_file(path)
            .map(Some)
            .map_err(|error| wrong(path, error)),
        (None, Some(pem)) => PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
            .map(Some)
            .map_err(|error| wrong(Path::new("the variable CLIENT_KEY_BYTES"), error)),
        (None, None) => Ok(None),
    }
}

/// The configured files are read, and found wrong, even where no TLS is spoken; reading the system's takes
/// longer than all the rest of the start.
fn roots(tls: &config::VaultTls, with_system: bool) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if with_system {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One broken system root must not keep the others out.
            let _added = roots.add(certificate);
        }
    }
    let mut add = |path: &Path, found: Vec<CertificateDer<'static>>| {
        for certificate in found {
            roots
                .add(certificate)
                .map_err(|error| unreadable(path, "not a CA certificate", &error))?;
        }
        Ok(())
    };
    // As the peers: a file beats PEM text beats a directory.
    if let Some(path) = &tls.ca_cert {
        add(path, certificates(path)?)?;
    } else if let Some(pem) = &tls.ca_pem {
        let path = Path::new("the variable CACERT_BYTES");
        add(path, pem_certificates("CACERT_BYTES", pem)?)?;
    } else if let Some(directory) = &tls.ca_path {
        let entries = std::fs::read_dir(directory)
            .map_err(|error| unreadable(directory, "cannot be listed", &error))?;
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            add(&entry.path(), certificates(&entry.path())?)?;
        }
    }
    Ok(roots)
}

fn pem_certificates(variable: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let message = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "no certificate in PEM form in it".to_owned(),
        Err(error) => format!("not PEM: {error}"),
    };
    Err(Error::new(
        Kind::File,
        format!("the variable {variable}: {message}"),
    ))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unreadable(path, "cannot be read", &error))?
        .collect();
    let found = found.map_err(|error| unreadable(path, "not PEM", &error))?;
    if found.is_empty() {
        return Err(Error::new(
            Kind::File,
            format!("{}: no certificate in PEM form in it", path.display()),
        ));
    }
    Ok(found)
}

fn unreadable(path: &Path, what: &str, error: &dyn fmt::Display) -> Error {
    Error::new(Kind::File, format!("{}: {what}: {error}", path.display()))
}

/// `tls_skip_verify`: signatures are checked, names and issuers are not.
#[derive(Debug)]
struct DangerAcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for DangerAcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
