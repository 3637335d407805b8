//! The way of a request through the development Vault: log, fault script, server; over TCP, over a pipe in
//! memory, or called as it is.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::DevVault;
use super::answer;
use super::body::{Body, Cut};
use super::fault::Act;
use super::log::Record;
use crate::error::{Error, Kind, Result};
use crate::tasks::Tasks;

impl DevVault {
    /// Answers one request.
    ///
    /// # Errors
    /// [`Cut`] when the fault script, or the caller's own body, breaks the connection off: a server that
    /// serves this closes the connection without an answer.
    pub async fn answer<B>(&self, request: Request<B>) -> Result<Response<Body>, Cut>
    where
        B: http_body::Body,
    {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let target = parts
            .uri
            .path_and_query()
            .map_or_else(|| parts.uri.to_string(), ToString::to_string);
        let record = self.log().note(&parts.method, &target, &parts.headers);
        let (delay, act) = self.faults().judge(parts.method.as_str(), &path);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if matches!(act, Act::Hang) {
            std::future::pending::<()>().await;
        }
        if matches!(act, Act::CutBeforeHead) {
            return Err(Cut);
        }
        let Some(body) = self.read(&parts, body, &record).await? else {
            return Ok(answer::error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "http: request body too large",
            ));
        };
        let response = match act {
            Act::Answer {
                status,
                headers,
                body,
            } => {
                let mut response = answer::respond(status, "application/json", Body::full(body));
                for (name, value) in headers {
                    response.headers_mut().insert(name, value);
                }
                response
            }
            Act::CutAfterProcessing => {
                self.process(&parts, &body);
                return Err(Cut);
            }
            Act::CutAfterBody(bytes) => {
                // The length is announced, so that the client can tell that something is missing.
                let whole = self.process(&parts, &body);
                whole.map(|body| body.announce_length().cut_after(bytes))
            }
            Act::Late(wait) => {
                let response = self.process(&parts, &body);
                sleep(wait).await;
                response
            }
            Act::Slow { piece, every } => {
                let whole = self.process(&parts, &body);
                whole.map(|body| body.slow(piece, every))
            }
            Act::Pass | Act::Hang | Act::CutBeforeHead => self.process(&parts, &body),
        };
        record.note_status(response.status());
        Ok(response)
    }

    /// Serves the other end of the pipe that is handed back.
    pub fn serve_duplex(&self, tasks: &Tasks) -> DuplexStream {
        let (here, there) = duplex(PIPE);
        let (vault, stopping) = (self.clone(), tasks.clone());
        tasks.spawn("dev vault connection", async move {
            vault.serve(here, &stopping).await;
        });
        there
    }

    /// Listens on `address` until the tasks are stopped; hands back the address that was bound.
    ///
    /// # Errors
    /// `Bind`: the address is taken, or not one of this machine.
    pub async fn listen(&self, address: &str, tasks: &Tasks) -> Result<SocketAddr> {
        let failed = |error: std::io::Error| {
            let hint = if error.kind() == std::io::ErrorKind::AddrInUse {
                "; choose another port, or stop what listens there"
            } else {
                ""
            };
            Error::new(
                Kind::Bind,
                format!("the development Vault cannot listen on {address}: {error}{hint}"),
            )
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let (vault, stopping) = (self.clone(), tasks.clone());
        tasks.spawn("dev vault listener", async move {
            vault.accept(listener, stopping).await;
        });
        Ok(bound)
    }

    async fn accept(self, listener: TcpListener, tasks: Tasks) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = tasks.stopping() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (vault, stopping) = (self.clone(), tasks.clone());
                    tasks.spawn("dev vault connection", async move {
                        let _place = place;
                        if stream.set_nodelay(true).is_ok() {
                            vault.serve(stream, &stopping).await;
                        }
                    });
                }
                // Out of descriptors, most likely: others must end first.
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    async fn serve<I>(self, io: I, tasks: &Tasks)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Also how long an idle connection is kept: the real server's five minutes.
            .header_read_timeout(IDLE)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(io), self);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = tasks.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the development Vault broke");
        }
    }

    /// The whole body; an upload is counted and let go. `None`: it is larger than the server takes.
    async fn read<B>(&self, parts: &Parts, body: B, record: &Record) -> Result<Option<Bytes>, Cut>
    where
        B: http_body::Body,
    {
        let upload = is_upload(parts);
        let mut body = pin!(body);
        let mut read = BytesMut::new();
        let mut received = 0_u64;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Cut)?.into_data() else {
                continue;
            };
            received = received.saturating_add(u64::try_from(data.remaining()).unwrap_or(u64::MAX));
            if upload {
                self.count_upload(data.remaining());
            } else {
                if read.len().saturating_add(data.remaining()) > LARGEST_BODY {
                    return Ok(None);
                }
                let mut data = data;
                let length = data.remaining();
                read.extend_from_slice(&data.copy_to_bytes(length));
            }
        }
        record.note_received(received);
        let read = read.freeze();
        if !upload {
            record.note_body(&read);
        }
        Ok(Some(read))
    }
}

impl<B> Service<Request<B>> for DevVault
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Send,
{
    type Response = Response<Body>;
    type Error = Cut;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Cut>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let vault = self.clone();
        Box::pin(async move { vault.answer(request).await })
    }
}

impl fmt::Debug for DevVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevVault")
            .field("faults", self.faults())
            .field("log", self.log())
            .finish_non_exhaustive()
    }
}

fn is_upload(parts: &Parts) -> bool {
    let writes = parts.method == Method::POST || parts.method == Method::PUT;
    let path = parts.uri.path();
    writes
        && (path.ends_with("/sys/storage/raft/snapshot")
            || path.ends_with("/sys/storage/raft/snapshot-force"))
}

const PIPE: usize = 64 * 1024;
const CONNECTIONS: usize = 4_096;
const IDLE: Duration = Duration::from_secs(300);
const LARGEST_BODY: usize = 32 * 1024 * 1024;
