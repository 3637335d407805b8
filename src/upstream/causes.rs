//! Why a connection to Vault failed, in words that say what to look at.

use std::error::Error as StdError;
use std::io;

use http::response::Parts;
use http::{StatusCode, Version};

/// The innermost cause: the one that says "Connection refused".
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// What to do about a connection that did not come about, as the tail of a sentence.
pub(super) fn advice(error: &(dyn StdError + 'static)) -> &'static str {
    match chain(error).find_map(tls_error) {
        None => "; is it running, and is the address right?",
        Some(rustls::Error::InvalidCertificate(_)) => {
            "; vault.ca_cert says which authorities to trust, vault.tls_server_name which name to expect"
        }
        Some(rustls::Error::InvalidMessage(_)) => "; if it speaks no TLS, its address is http://",
        Some(_) => "; see to the TLS settings of both sides",
    }
}

/// How Go's server answers plain HTTP on a port for TLS. What follows often does not arrive whole.
pub(super) fn is_tls_port(head: &Parts, body: Option<&[u8]>) -> bool {
    head.version == Version::HTTP_10
        && head.status == StatusCode::BAD_REQUEST
        && body.is_none_or(|body| body.starts_with(TO_AN_HTTPS_SERVER))
}

/// What an `io::Error` carries, perhaps in another one, is not its source.
fn tls_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut carried = cause.downcast_ref::<io::Error>()?.get_ref();
    while let Some(inner) = carried {
        if let Some(error) = inner.downcast_ref() {
            return Some(error);
        }
        carried = inner
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
    }
    None
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |cause| (*cause).source())
}

const TO_AN_HTTPS_SERVER: &[u8] = b"Client sent an HTTP request to an HTTPS server";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    /// As the client wraps it.
    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("client error (Connect)")
        }
    }

    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_advice_is_about_what_failed() {
        let tls = |error: rustls::Error| {
            io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error))
        };
        let unknown = rustls::CertificateError::UnknownIssuer;
        let no_tls = rustls::InvalidMessage::InvalidContentType;
        for (error, cause, part) in [
            (
                io::ErrorKind::ConnectionRefused.into(),
                "connection refused",
                "is it running",
            ),
            (
                tls(rustls::Error::InvalidCertificate(unknown)),
                "invalid peer certificate: UnknownIssuer",
                "vault.ca_cert",
            ),
            (
                tls(rustls::Error::InvalidMessage(no_tls)),
                "received corrupt message of type InvalidContentType",
                "http://",
            ),
            (
                tls(rustls::Error::HandshakeNotComplete),
                "handshake not complete",
                "TLS settings",
            ),
        ] {
            let error = Outer(error);
            assert_eq!(root_cause(&error), cause);
            assert!(advice(&error).contains(part), "{}", advice(&error));
        }
    }

    #[test]
    fn a_port_for_tls_is_known_by_its_answer() {
        let whole: &[u8] = b"Client sent an HTTP request to an HTTPS server.\n";
        for (version, status, body, expected) in [
            (Version::HTTP_10, 400, Some(whole), true),
            (Version::HTTP_10, 400, None, true),
            (Version::HTTP_10, 400, Some(&b"{\"errors\":[]}"[..]), false),
            (Version::HTTP_11, 400, None, false),
            (Version::HTTP_10, 502, None, false),
        ] {
            let answer = http::Response::builder().version(version).status(status);
            let (head, ()) = answer.body(()).unwrap().into_parts();
            assert_eq!(is_tls_port(&head, body), expected, "{head:?}");
        }
    }
}
