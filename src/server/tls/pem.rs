//! A listener's PEM files, read whole, with errors that say what to do.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};

/// A file's bytes, wiped when let go: one of them is a private key.
pub(super) type Bytes = Zeroizing<Vec<u8>>;

/// Reads a file that `key` of the configuration names.
pub(super) fn read(key: &'static str, path: &Path) -> Result<Bytes> {
    let wrong = |error: &io::Error| fail(key, path, &explain(error));
    let about = std::fs::metadata(path).map_err(|error| wrong(&error))?;
    // Opening a pipe would wait for whoever writes into it, and it can be read only once.
    if !about.is_file() {
        return Err(fail(key, path, "is not a file"));
    }
    // Of the right size at once: a buffer that grows leaves a copy behind.
    let size = usize::try_from(about.len()).unwrap_or(LARGEST).min(LARGEST);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| wrong(&error))?;
    if bytes.len() > LARGEST {
        return Err(fail(
            key,
            path,
            "is larger than 1 MiB: it is something else",
        ));
    }
    Ok(bytes)
}

/// All certificates of the file; at least one.
pub(super) fn certificates(
    key: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| fail(key, path, &broken(&error)))?;
    if found.is_empty() {
        let message = if bytes.starts_with(DER) {
            "has a certificate in DER form: convert it by `openssl x509 -inform der`"
        } else if bytes.is_empty() {
            "is empty"
        } else {
            "has no certificate in PEM form in it (BEGIN CERTIFICATE)"
        };
        return Err(fail(key, path, message));
    }
    Ok(found)
}

/// The first private key of the file.
pub(super) fn private_key(
    key: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<PrivateKeyDer<'static>> {
    if ENCRYPTED.iter().any(|mark| contains(bytes, mark)) {
        let message = "is encrypted, and nobody is there to ask for its passphrase: store it decrypted \
                       (`openssl pkey -in KEY -out PLAIN`) with mode 0600";
        return Err(fail(key, path, message));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        if !matches!(error, pem::Error::NoItemsFound) {
            return fail(key, path, &broken(&error));
        }
        let message = if bytes.starts_with(DER) {
            "has a key in DER form: convert it by `openssl pkey -inform der`"
        } else if bytes.is_empty() {
            "is empty"
        } else {
            "has no private key in PEM form in it (BEGIN PRIVATE KEY)"
        };
        fail(key, path, message)
    })
}

pub(super) fn fail(key: &str, path: &Path, message: &str) -> Error {
    Error::new(Kind::File, format!("{key} {}: {message}", path.display()))
}

/// The library's own text would quote the line it choked on, of a key too.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is broken is said where it helps; the rest is all the same"
)]
fn broken(error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "it ends in the middle of a section",
        pem::Error::Base64Decode(_) => "what stands between BEGIN and END is not base64",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is broken",
        _ => "it cannot be read as such",
    };
    format!("is not whole PEM: {what}")
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the system's own words do for what cannot be helped by ours"
)]
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "may not be read by the user that Leasehold runs as".to_owned()
        }
        _ => format!("cannot be read: {error}"),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

const LARGEST: usize = 1024 * 1024;
/// A sequence with a two-byte length, as certificates and keys begin.
const DER: &[u8] = &[0x30, 0x82];
const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
