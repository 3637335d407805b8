//! The beginning of a TLS connection, with a deadline, and its failures told apart.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::InvalidMessage;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Tls;
use crate::telemetry::Handshake;

/// A caller's stream after the handshake.
pub(in super::super) type Secured<T> = Box<TlsStream<Begun<T>>>;

impl Tls {
    /// `None`: the connection came to nothing, which has been told and counted.
    pub(in super::super) async fn shake_hands<T>(
        &self,
        stream: T,
        within: Duration,
        caller: impl Display,
    ) -> Option<Secured<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let deadline = Instant::now() + within;
        let outcome = timeout_at(deadline, self.begin(stream)).await;
        let failure = match outcome {
            Ok(Ok(secured)) => {
                self.shared.metrics.handshake(Handshake::Done);
                return Some(secured);
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure {
                kind: Handshake::Timeout,
                text: format!("nothing whole came within {} ms", within.as_millis()),
            },
        };
        self.shared.metrics.handshake(failure.kind);
        self.say_failed(&failure, caller);
        None
    }

    async fn begin<T>(&self, mut stream: T) -> Result<Secured<T>, Failure>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut first = [0; 1];
        if stream.read(&mut first).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        // A handshake begins with 0x16, every method of HTTP with a letter.
        if first.iter().all(u8::is_ascii_alphabetic) {
            let _gone = refuse_plain(&mut stream).await;
            return Err(Failure {
                kind: Handshake::PlainHttp,
                text: "it speaks HTTP without TLS".to_owned(),
            });
        }
        let begun = Begun {
            first: Some(first),
            stream,
        };
        let secured = TlsAcceptor::from(self.config()).accept(begun).await?;
        Ok(Box::new(secured))
    }

    /// Each is told to who looks closely. A line that all see comes once a minute, and not for those who
    /// only looked whether the port is open.
    fn say_failed(&self, failure: &Failure, caller: impl Display) {
        let reason = failure.kind.label();
        let error = &failure.text;
        tracing::debug!(%caller, reason, error, "a TLS handshake failed");
        let advice = match failure.kind {
            Handshake::PlainHttp => "the caller has to use https:// in its VAULT_ADDR",
            Handshake::NoCertificate => {
                "the caller has to show a client certificate (VAULT_CLIENT_CERT, VAULT_CLIENT_KEY)"
            }
            Handshake::BadCertificate => {
                "the caller's certificate is not one that tls_client_ca_file vouches for"
            }
            Handshake::Refused => {
                "the caller does not accept this listener's certificate; does its VAULT_CACERT name the \
                 authority, and the certificate the host it asks for?"
            }
            Handshake::Incompatible => {
                "caller and listener have no version, cipher suite or key exchange in common"
            }
            Handshake::Done
            | Handshake::Timeout
            | Handshake::Closed
            | Handshake::NotTls
            | Handshake::Other => return,
        };
        let mut told = self.told();
        if told.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            *told = Some(Instant::now());
            tracing::warn!(%caller, reason, error, "TLS handshakes fail: {advice}");
        }
    }
}

struct Failure {
    kind: Handshake,
    text: String,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let cause = error.get_ref();
        let kind = match cause.and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(error) => kind(error),
            None if is_gone(&error) => Handshake::Closed,
            None => Handshake::Other,
        };
        Self {
            kind,
            text: error.to_string(),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds errors; what has no advice is one kind"
)]
fn kind(error: &rustls::Error) -> Handshake {
    match error {
        rustls::Error::NoCertificatesPresented => Handshake::NoCertificate,
        rustls::Error::InvalidCertificate(_) => Handshake::BadCertificate,
        rustls::Error::AlertReceived(_) => Handshake::Refused,
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            Handshake::Incompatible
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Handshake::NotTls,
        _ => Handshake::Other,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// Says in the caller's own language what is wrong. What it still sends is read for a moment: closing over
/// unread bytes would take the answer away from it.
async fn refuse_plain<T>(stream: &mut T) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(PLAIN_HTTP.as_bytes()).await?;
    stream.shutdown().await?;
    let rest = async {
        let mut scratch = [0; 1024];
        while let Ok(1..) = stream.read(&mut scratch).await {}
    };
    let _over = timeout(LINGER, rest).await;
    Ok(())
}

/// A stream whose first byte was looked at.
#[derive(Debug)]
pub(in super::super) struct Begun<T> {
    first: Option<[u8; 1]>,
    stream: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() > 0
            && let Some(first) = this.first.take()
        {
            buffer.put_slice(&first);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Begun<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// As Go's server does it, HTTP/1.0 and all, in Vault's form.
const PLAIN_HTTP: &str = concat!(
    "HTTP/1.0 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n",
    r#"{"errors":["Client sent an HTTP request to an HTTPS server: use https:// in VAULT_ADDR"]}"#,
    "\n"
);
const LINGER: Duration = Duration::from_secs(1);
const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use tempfile::TempDir;
    use tokio::io::{DuplexStream, duplex};
    use tokio_rustls::TlsConnector;

    use super::super::testing::{self, Authority, Pair};
    use super::*;
    use crate::config::{ClientCerts, ListenerTls};
    use crate::tasks::Tasks;
    use crate::telemetry::{Metrics, Sample};

    const PATIENCE: Duration = Duration::from_secs(10);

    struct Stand {
        tls: Tls,
        metrics: Metrics,
        authority: Authority,
        _directory: TempDir,
    }

    impl Stand {
        fn new() -> Self {
            Self::checking(None)
        }

        /// Callers have to show a certificate of that authority.
        fn checking(of_callers: Option<&Authority>) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let authority = Authority::new("authority");
            let (cert, key) = authority.server().save(directory.path(), "tls");
            let mut settings = ListenerTls::new(cert, key);
            if let Some(authority) = of_callers {
                let ca_file = directory.path().join("ca.pem");
                std::fs::write(&ca_file, authority.pem()).unwrap();
                settings.client_certs = ClientCerts::Required {
                    ca_file: Some(ca_file),
                };
            }
            let metrics = Metrics::new();
            Self {
                tls: Tls::load(&settings, metrics.clone()).unwrap(),
                metrics,
                authority,
                _directory: directory,
            }
        }

        /// Our end of a connection, and when the handshake was over, and whether it came to something.
        fn caller(&self) -> (DuplexStream, tokio::task::JoinHandle<(Instant, bool)>) {
            let (ours, theirs) = duplex(64 * 1024);
            let tls = self.tls.clone();
            let shaken = Tasks::new().spawn("handshake", async move {
                let secured = tls.shake_hands(theirs, PATIENCE, "a test").await;
                (Instant::now(), secured.is_some())
            });
            (ours, shaken)
        }

        fn counted(&self, result: &str) -> bool {
            let text = self.metrics.prometheus(&Sample::default()).unwrap();
            let line = format!("leasehold_listener_handshakes_total{{result=\"{result}\"}} 1");
            text.lines().any(|have| have == line)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_stalls_anywhere_is_closed_in_time() {
        let stand = Stand::new();
        for sent in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
            let start = Instant::now();
            let (mut caller, shaken) = stand.caller();
            caller.write_all(sent).await.unwrap();
            let (over, is_good) = shaken.await.unwrap();
            assert!(!is_good);
            assert_eq!(over - start, PATIENCE, "{sent:?}");
            let mut rest = Vec::new();
            caller.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty(), "{rest:?}");
        }
        // A byte each second keeps nothing alive.
        let start = Instant::now();
        let (mut caller, shaken) = stand.caller();
        caller.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _gone = caller.write_all(b"\x00").await;
        }
        assert_eq!(shaken.await.unwrap().0 - start, PATIENCE);
        let text = stand.metrics.prometheus(&Sample::default()).unwrap();
        assert!(text.contains("{result=\"timeout\"} 4"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn plain_http_is_answered_in_plain_http() {
        for request in ["GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n", "LIST /v1/x", "P"] {
            let stand = Stand::new();
            let (mut caller, shaken) = stand.caller();
            caller.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            caller.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.0 400 Bad Request\r\n"),
                "{answer}"
            );
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let said = body["errors"][0].as_str().unwrap();
            assert!(said.starts_with("Client sent an HTTP request to an HTTPS server"));
            assert!(!shaken.await.unwrap().1);
            assert!(stand.counted("plain_http"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_told_apart() {
        let stand = Stand::new();
        let (caller, shaken) = stand.caller();
        drop(caller);
        assert!(!shaken.await.unwrap().1);
        assert!(stand.counted("closed"));
        let (mut caller, shaken) = stand.caller();
        caller.write_all(&[0; 64]).await.unwrap();
        assert!(!shaken.await.unwrap().1);
        assert!(stand.counted("not_tls"));
        // Who trusts another authority refuses ours.
        let other = Authority::new("another");
        assert!(connect(&other, &stand, None, b"http/1.1").await.is_err());
        assert!(stand.counted("refused"));
        assert!(
            connect(&stand.authority, &stand, None, b"h2")
                .await
                .is_err()
        );
        assert!(stand.counted("incompatible"));
        let own = &stand.authority;
        connect(own, &stand, None, b"http/1.1").await.unwrap();
        assert!(stand.counted("done"));
        // Who has to show a certificate.
        let callers = Authority::new("of callers");
        let stand = Stand::checking(Some(&callers));
        let (good, bad) = (callers.client("good"), other.client("bad"));
        let own = &stand.authority;
        let _late = connect(own, &stand, None, b"http/1.1").await;
        assert!(stand.counted("no_certificate"));
        let _late = connect(own, &stand, Some(&bad), b"http/1.1").await;
        assert!(stand.counted("bad_certificate"));
        connect(own, &stand, Some(&good), b"http/1.1")
            .await
            .unwrap();
        assert!(stand.counted("done"));
    }

    async fn connect(
        trusted: &Authority,
        stand: &Stand,
        own: Option<&Pair>,
        protocol: &[u8],
    ) -> io::Result<()> {
        let mut config = testing::caller(&[trusted], own, rustls::ALL_VERSIONS);
        config.alpn_protocols = vec![protocol.to_vec()];
        let (caller, shaken) = stand.caller();
        let name = ServerName::try_from("localhost").unwrap();
        // In TLS 1.3 a caller is done before its certificate is looked at.
        let connected = TlsConnector::from(Arc::new(config))
            .connect(name, caller)
            .await;
        let is_good = shaken.await.unwrap().1;
        assert!(connected.is_ok() || !is_good);
        connected.map(drop)
    }
}
