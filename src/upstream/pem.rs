//! The certificates and keys that the configuration names, from files, a directory or variables.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::config::VaultTls;
use crate::error::{Error, Kind, Result};

/// Whom to believe.
pub(super) struct Authorities {
    pub(super) all: RootCertStore,
    /// Those that the configuration names.
    pub(super) own: Vec<CertificateDer<'static>>,
}

/// How the configured files look from outside: different as soon as one was changed or replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(PathBuf, Option<[i64; 6]>)>);

impl Stamp {
    pub(super) fn of(tls: &VaultTls) -> Self {
        let mut paths: Vec<PathBuf> = [&tls.client_cert, &tls.client_key]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        match source(tls) {
            Source::File(path) => paths.push(path.to_owned()),
            Source::Directory(path) => {
                paths.push(path.to_owned());
                paths.extend(files_below(path, DEEPEST).unwrap_or_default());
            }
            Source::Text(_) | Source::None => {}
        }
        Self(
            paths
                .into_iter()
                .map(|path| {
                    let looks = fs::metadata(&path).ok().map(|found| looks(&found));
                    (path, looks)
                })
                .collect(),
        )
    }
}

/// Is there anything that could change?
pub(super) fn has_files(tls: &VaultTls) -> bool {
    let is_file = matches!(source(tls), Source::File(_) | Source::Directory(_));
    is_file || tls.client_cert.is_some() || tls.client_key.is_some()
}

/// Reading the system's takes longer than all the rest of the start, so they are read only where needed.
///
/// # Errors
/// A file that cannot be read, or holds no certificate. In a directory, which may hold other things too, such a
/// file is passed over with a warning.
pub(super) fn authorities(tls: &VaultTls, with_system: bool) -> Result<Authorities> {
    let mut all = RootCertStore::empty();
    if with_system && !tls.danger_skip_verify {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One broken system root must not keep the others out.
            let _added = all.add(certificate);
        }
    }
    let mut own = Vec::new();
    match source(tls) {
        Source::None => {}
        Source::File(path) => {
            let name = format!("vault.ca_cert: {}", path.display());
            own = add(&mut all, &name, certificates(&name, &read(&name, path)?)?)?;
        }
        Source::Text(text) => {
            own = add(&mut all, CA_BYTES, certificates(CA_BYTES, text.as_bytes())?)?;
        }
        Source::Directory(path) => {
            let files = files_below(path, DEEPEST).map_err(|error| {
                wrong(
                    &format!("vault.ca_path: {}", path.display()),
                    &format!("cannot be listed: {error}"),
                )
            })?;
            for file in files {
                let name = file.display().to_string();
                let found = read(&name, &file)
                    .and_then(|bytes| certificates(&name, &bytes))
                    .and_then(|found| add(&mut all, &name, found));
                match found {
                    Ok(found) => own.extend(found),
                    Err(error) => {
                        tracing::warn!(%error, "passed over in the directory of vault.ca_path");
                    }
                }
            }
            if own.is_empty() {
                tracing::warn!(
                    directory = %path.display(),
                    "vault.ca_path holds no certificate in PEM form: only this system's authorities are trusted"
                );
            }
        }
    }
    Ok(Authorities { all, own })
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn client_certificate(tls: &VaultTls) -> Result<Option<Identity>> {
    let chain = match (&tls.client_cert, &tls.client_cert_pem) {
        (Some(path), _) => {
            let name = format!("vault.client_cert: {}", path.display());
            certificates(&name, &read(&name, path)?)?
        }
        (None, Some(text)) => certificates(CERT_BYTES, text.as_bytes())?,
        (None, None) => return Ok(None),
    };
    let key = match (&tls.client_key, &tls.client_key_pem) {
        (Some(path), _) => {
            let name = format!("vault.client_key: {}", path.display());
            private_key(&name, &Zeroizing::new(read(&name, path)?))?
        }
        (None, Some(text)) => private_key(KEY_BYTES, text.expose().as_bytes())?,
        (None, None) => return Ok(None),
    };
    Ok(Some((chain, key)))
}

/// Where the configured authorities are, for messages.
pub(super) fn named_authorities(tls: &VaultTls) -> Option<String> {
    match source(tls) {
        Source::None => None,
        Source::File(path) => Some(format!("vault.ca_cert ({})", path.display())),
        Source::Directory(path) => Some(format!("vault.ca_path ({})", path.display())),
        Source::Text(_) => Some(CA_BYTES.to_owned()),
    }
}

/// Where the client certificate is, for messages.
pub(super) fn named_client_certificate(tls: &VaultTls) -> Option<String> {
    match (&tls.client_cert, &tls.client_cert_pem) {
        (Some(path), _) => Some(format!("vault.client_cert ({})", path.display())),
        (None, Some(_)) => Some(CERT_BYTES.to_owned()),
        (None, None) => None,
    }
}

enum Source<'a> {
    None,
    File(&'a Path),
    Text(&'a str),
    Directory(&'a Path),
}

/// As the peers: a file beats PEM text beats a directory.
fn source(tls: &VaultTls) -> Source<'_> {
    match (&tls.ca_cert, &tls.ca_pem, &tls.ca_path) {
        (Some(path), _, _) => Source::File(path),
        (None, Some(text), _) => Source::Text(text),
        (None, None, Some(path)) => Source::Directory(path),
        (None, None, None) => Source::None,
    }
}

/// Every file below it, sorted. Names that begin with a dot are left out: a mounted Kubernetes volume has its
/// files once more behind `..data`.
fn files_below(directory: &Path, depth: usize) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // A link to a directory may lead in a circle, and Go does not follow it either.
        if entry.file_type()?.is_dir() && depth > 0 {
            files.extend(files_below(&path, depth - 1)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn looks(found: &fs::Metadata) -> [i64; 6] {
    let number = |number: u64| i64::from_ne_bytes(number.to_ne_bytes());
    [
        number(found.dev()),
        number(found.ino()),
        number(found.size()),
        found.mtime(),
        found.mtime_nsec(),
        // A new mode may make it readable.
        found.ctime(),
    ]
}

fn add(
    all: &mut RootCertStore,
    name: &str,
    found: Vec<CertificateDer<'static>>,
) -> Result<Vec<CertificateDer<'static>>> {
    for certificate in &found {
        all.add(certificate.clone())
            .map_err(|error| wrong(name, &format!("holds what is no CA certificate: {error}")))?;
    }
    Ok(found)
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>> {
    let unreadable = |error| wrong(name, &format!("cannot be read: {error}"));
    if fs::metadata(path).map_err(unreadable)?.len() > LARGEST_FILE {
        return Err(wrong(name, "is too large to hold certificates"));
    }
    fs::read(path).map_err(unreadable)
}

fn certificates(name: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(
            name,
            "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
        )),
        Err(error) => Err(wrong(name, &format!("is not PEM: {error}"))),
    }
}

fn private_key(name: &str, text: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        if matches!(error, pem::Error::NoItemsFound) {
            let what = "holds no private key in PEM form that is not itself encrypted";
            return wrong(name, what);
        }
        wrong(name, &format!("is not PEM: {error}"))
    })
}

fn wrong(name: &str, what: &str) -> Error {
    Error::new(Kind::File, format!("{name} {what}"))
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("all", &self.all.len())
            .field("own", &self.own.len())
            .finish()
    }
}

const CA_BYTES: &str = "the variable VAULT_CACERT_BYTES";
const CERT_BYTES: &str = "the variable VAULT_CLIENT_CERT_BYTES";
const KEY_BYTES: &str = "the variable VAULT_CLIENT_KEY_BYTES";
/// Many times all the authorities of a system.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;
/// Of directories in the directory of authorities.
const DEEPEST: usize = 8;
