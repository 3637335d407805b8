//! Callers that speak TLS.

#[path = "../../src/server/tls/testing.rs"]
pub(crate) mod testing;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use leasehold::tasks::Tasks;
use rustls::pki_types::ServerName;
use rustls::{ProtocolVersion, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::child::Answer;
use testing::{Authority, Pair};

pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A way to call, with certificates of its own.
#[derive(Clone)]
pub(crate) struct Caller {
    connector: TlsConnector,
}

/// A connection that is kept.
pub(crate) struct Line {
    sender: SendRequest<Full<Bytes>>,
    pub(crate) version: Option<ProtocolVersion>,
    /// What the listener showed.
    pub(crate) certificate: Vec<u8>,
    pub(crate) is_resumed: bool,
    tasks: Tasks,
}

impl Caller {
    pub(crate) fn new(trusted: &[&Authority], own: Option<&Pair>) -> Self {
        Self::speaking(trusted, own, rustls::ALL_VERSIONS)
    }

    pub(crate) fn speaking(
        trusted: &[&Authority],
        own: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let config = testing::caller(trusted, own, versions);
        Self {
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<Line, Fault> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = self.connector.connect(name, stream).await?;
        let (_, session) = stream.get_ref();
        let version = session.protocol_version();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|one| one.to_vec()).unwrap_or_default();
        let kind = session.handshake_kind();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let tasks = Tasks::new();
        tasks.spawn("client connection", async move {
            connection.await.ok();
        });
        Ok(Line {
            sender,
            version,
            certificate,
            is_resumed: kind == Some(rustls::HandshakeKind::Resumed),
            tasks,
        })
    }

    /// On a connection of its own.
    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, Fault> {
        self.connect(address).await?.get(path).await
    }
}

impl Line {
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, Fault> {
        self.sender.ready().await?;
        let request = Request::get(path)
            .header("host", "localhost")
            .body(Full::default())?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed() && self.tasks.alive() > 0
    }
}
