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
use super::tls::Tls;
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tower::{BoxError, Service};

use crate::config;
use crate::error::{Error, Kind, Result};

/// Makes connections by a way, and speaks TLS on them where the address says so.
#[derive(Clone)]
pub(super) struct Connector {
    way: Way,
    tls: Arc<Tls>,
}

impl Connector {
    pub(super) fn new(way: Way, tls: Arc<Tls>) -> Self {
        Self { way, tls }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Link>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.way.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            let connecting = self.way.call(uri);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) });
        }
        let (way, tls) = (self.way.clone(), Arc::clone(&self.tls));
        Box::pin(async move {
            let config = tls.config().await;
            let mut https = HttpsConnector::new(way, config, true, tls.names());
            match timeout(TLS_DEADLINE, https.call(uri)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, TOO_SLOW).into()),
            }
        })
    }
}

/// How a byte stream to Vault is made, TLS aside.
#[derive(Clone)]
pub enum Way {
    Tcp(HttpConnector),
    /// A CONNECT tunnel through a proxy.
    Tunnel(Tunnel<HttpConnector>),
    /// A socket of this machine; a name that begins with a zero byte is abstract.
    Unix(Arc<Path>),
    /// By whatever else makes one: an in-memory pipe to an embedded Vault.
    Stream(Arc<dyn Fn() -> io::Result<Box<dyn Io>> + Send + Sync>),
}

impl Way {
    pub(super) fn of(vault: &config::Vault) -> Result<Self> {
        if let Some(path) = vault.socket() {
            return Ok(Self::Unix(path.into()));
        }
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
            Self::Unix(_) => "Way::Unix",
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
            Self::Unix(_) | Self::Stream(_) => Poll::Ready(Ok(())),
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
            Self::Unix(path) => {
                let path = Arc::clone(path);
                Box::pin(async move {
                    let connecting = timeout(CONNECT_DEADLINE, UnixStream::connect(&*path));
                    let stream = connecting
                        .await
                        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    Ok(Link::Stream(TokioIo::new(Box::new(stream))))
                })
            }
            Self::Stream(make) => {
                let made = make();
                Box::pin(async move { Ok(Link::Stream(TokioIo::new(made?))) })
            }
        }
    }
}

const TOO_SLOW: &str = "no connection and TLS handshake within 20 seconds";
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// For TCP, the tunnel and the TLS handshake together.
const TLS_DEADLINE: Duration = Duration::from_secs(20);
