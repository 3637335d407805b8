//! Why a connection to Vault failed, in words that say what to look at.

use std::error::Error as StdError;
use std::io;

use http::response::Parts;
use http::{StatusCode, Version};
use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::tls::Tls;
use super::verify::is_authority;

/// The innermost cause: the one that says "Connection refused".
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let innermost = chain(error).last().unwrap_or(error);
    match io_kind(innermost) {
        // rustls adds a link to its manual.
        Some(io::ErrorKind::UnexpectedEof) => "it closed the connection".to_owned(),
        _ => innermost.to_string(),
    }
}

/// Why no connection came about, and what to do.
pub(super) fn of_connecting(error: &(dyn StdError + 'static), tls: &Tls) -> String {
    if let Some(rustls::Error::InvalidCertificate(why)) = chain(error).find_map(tls_error) {
        return certificate(why, &tls.trusted());
    }
    if let Some(rustls::Error::AlertReceived(alert)) = chain(error).find_map(tls_error) {
        return alerted(*alert, tls.shown().as_deref());
    }
    let why = root_cause(error);
    let advice = match chain(error).find_map(tls_error) {
        Some(rustls::Error::InvalidMessage(_)) => "; if it speaks no TLS, its address is http://",
        Some(_) => "; see to the TLS settings of both sides",
        None => match chain(error).find_map(io_kind) {
            Some(io::ErrorKind::PermissionDenied) => {
                "; the socket's mode and group, and those of its directories, do not let this process in"
            }
            _ => "; is it running, and is the address right?",
        },
    };
    format!("{why}{advice}")
}

/// Did Vault end the TLS handshake after we thought it done? In TLS 1.3 a server that misses or refuses our
/// certificate says so only then; it has read no request.
pub(super) fn is_refused_handshake(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        chain(error).find_map(tls_error),
        Some(rustls::Error::AlertReceived(alert)) if is_about_certificate(*alert)
    )
}

/// What is wrong with the certificate that Vault showed.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what needs no advice of its own is said in rustls's words"
)]
fn certificate(why: &CertificateError, trusted: &str) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "its certificate is not signed by {trusted}; vault.ca_cert (or VAULT_CACERT) names the file with \
             the certificate of the authority that signed it"
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "its certificate is for {}, not for {}; vault.tls_server_name says which name to expect where the \
             address has another",
            names(presented),
            expected.to_str()
        ),
        CertificateError::NotValidForName => {
            "its certificate is for another name; vault.tls_server_name says \
             which to expect where the address has another"
                .to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate expired at {}; it needs a new one, or this machine's clock is wrong",
            moment(*not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}; is this machine's clock right?",
            moment(*not_before)
        ),
        other if is_authority(&rustls::Error::InvalidCertificate(other.clone())) => format!(
            "its certificate is itself an authority's (CA:TRUE) and not {trusted}; vault.ca_cert (or VAULT_CACERT) \
             may name the file of that very certificate"
        ),
        other => format!("its certificate cannot be used: {other}"),
    }
}

/// What Vault said of our side of the handshake.
fn alerted(alert: AlertDescription, shown: Option<&str>) -> String {
    match shown {
        _ if !is_about_certificate(alert) => {
            format!("it ended the TLS handshake ({alert:?}); see to the TLS settings of both sides")
        }
        None => format!(
            "it asks for a client certificate ({alert:?}); set vault.client_cert and vault.client_key"
        ),
        Some(shown) => format!(
            "it refuses the client certificate of {shown} ({alert:?}); is it expired, or signed by \
             another authority than those of its tls_client_ca_file?"
        ),
    }
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
    )
}

/// A certificate's names as rustls lists them: `DnsName("a")`, `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all (it has no subject alternative names)".to_owned();
    }
    let mut names: Vec<&str> = presented
        .iter()
        .take(MOST_NAMES)
        .map(|name| {
            let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
            inner.trim_end_matches(')').trim_matches('"')
        })
        .collect();
    if presented.len() > MOST_NAMES {
        names.push("...");
    }
    names.join(", ")
}

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "an odd time".to_owned(), |at| at.to_string())
}

fn io_kind(cause: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    cause.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// What went wrong with the body that was to be sent, if that is why.
pub(super) fn callers_body<'a>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a (dyn StdError + 'static)> {
    let ours = chain(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    ours.filter(|error| error.is_user())?.source()
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

const MOST_NAMES: usize = 8;
const TO_AN_HTTPS_SERVER: &[u8] = b"Client sent an HTTP request to an HTTPS server";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use rustls::pki_types::ServerName;
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

    fn of(tls: config::VaultTls) -> Tls {
        let vault = config::Vault {
            address: "http://vault.test".to_owned(),
            tls,
            ..config::Vault::default()
        };
        Tls::new(&vault).unwrap()
    }

    fn of_tls(error: rustls::Error) -> Outer {
        Outer(io::Error::other(io::Error::new(
            io::ErrorKind::InvalidData,
            error,
        )))
    }

    #[test]
    fn what_failed_is_said_with_what_to_do() {
        let no_tls = rustls::InvalidMessage::InvalidContentType;
        let kind = |kind: io::ErrorKind| Outer(kind.into());
        for (error, parts) in [
            (
                kind(io::ErrorKind::ConnectionRefused),
                ["connection refused", "is it running"],
            ),
            (
                kind(io::ErrorKind::PermissionDenied),
                ["permission denied", "mode and group"],
            ),
            (
                of_tls(rustls::Error::InvalidMessage(no_tls)),
                ["InvalidContentType", "http://"],
            ),
            (
                of_tls(rustls::Error::HandshakeNotComplete),
                ["handshake not complete", "TLS settings"],
            ),
            (
                of_tls(rustls::Error::AlertReceived(
                    AlertDescription::ProtocolVersion,
                )),
                ["ProtocolVersion", "TLS settings"],
            ),
            (
                of_tls(rustls::Error::AlertReceived(
                    AlertDescription::CertificateRequired,
                )),
                ["asks for a client certificate", "set vault.client_cert and"],
            ),
        ] {
            let said = of_connecting(&error, &of(config::VaultTls::default()));
            for part in parts {
                assert!(said.contains(part), "{said}");
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_with_the_key_to_set() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        for (why, parts) in [
            (
                CertificateError::UnknownIssuer,
                ["not signed by an authority of this system", "vault.ca_cert"],
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: ServerName::try_from("b.example").unwrap(),
                    presented: vec![
                        "DnsName(\"a.example\")".to_owned(),
                        "IpAddress(::1)".to_owned(),
                    ],
                },
                [
                    "is for a.example, ::1, not for b.example;",
                    "vault.tls_server_name",
                ],
            ),
            (
                CertificateError::ExpiredContext {
                    time: at(86_401),
                    not_after: at(86_400),
                },
                ["expired at 1970-01-02T00:00:00Z", "clock"],
            ),
            (
                CertificateError::NotValidYetContext {
                    time: at(0),
                    not_before: at(86_400),
                },
                ["not valid before 1970-01-02T00:00:00Z", "clock"],
            ),
            (
                CertificateError::BadEncoding,
                ["cannot be used", "BadEncoding"],
            ),
        ] {
            let error = of_tls(rustls::Error::InvalidCertificate(why));
            let said = of_connecting(&error, &of(config::VaultTls::default()));
            for part in parts {
                assert!(said.contains(part), "{said}");
            }
        }
    }

    #[test]
    fn a_refused_client_certificate_is_named() {
        let own = rcgen::generate_simple_self_signed(["app".to_owned()]).unwrap();
        let with_certificate = of(config::VaultTls {
            client_cert_pem: Some(own.cert.pem()),
            client_key_pem: Some(own.signing_key.serialize_pem().into()),
            ..config::VaultTls::default()
        });
        let error = of_tls(rustls::Error::AlertReceived(AlertDescription::UnknownCA));
        assert!(is_refused_handshake(&error));
        let said = of_connecting(&error, &with_certificate);
        assert!(
            said.contains("VAULT_CLIENT_CERT_BYTES (UnknownCA)"),
            "{said}"
        );
        let other = of_tls(rustls::Error::HandshakeNotComplete);
        assert!(!is_refused_handshake(&other));
    }

    #[test]
    fn the_root_cause_is_what_is_said() {
        let error = Outer(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(root_cause(&error), "connection refused");
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
