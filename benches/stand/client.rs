//! One keep-alive connection, and what comes back over it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use leasehold::tasks::Tasks;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Result, while_doing};

/// Closed when it is dropped.
pub(crate) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender.
        Tasks::new().spawn("client connection", async move {
            connection.await.ok();
        });
        Ok(Self { sender, address })
    }

    pub(crate) async fn get(&mut self, target: &str, token: Option<&str>) -> Result<Answer> {
        self.send("GET", target, token, Bytes::new()).await
    }

    pub(crate) async fn post(
        &mut self,
        target: &str,
        token: Option<&str>,
        fields: &Value,
    ) -> Result<Answer> {
        let body = Bytes::from(fields.to_string());
        self.send("POST", target, token, body).await
    }

    async fn send(
        &mut self,
        method: &str,
        target: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<Answer> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::from_bytes(method.as_bytes())?;
        *request.uri_mut() = target.parse()?;
        let headers = request.headers_mut();
        headers.insert("host", self.address.to_string().parse()?);
        if let Some(token) = token {
            headers.insert("x-vault-token", token.parse()?);
        }
        let what = format!("{method} {target}");
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        let answer = timeout(PATIENCE, exchange)
            .await
            .map_err(while_doing(&what))?;
        answer.map_err(while_doing(&what))
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(http::HeaderValue::to_str);
        value.and_then(std::result::Result::ok).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// Beyond any deadline of Leasehold's own.
const PATIENCE: Duration = Duration::from_secs(90);
