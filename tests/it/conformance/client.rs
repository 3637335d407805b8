//! One HTTP client for Vault and for Leasehold: it sends what it is told and takes what comes, whole.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

#[derive(Clone)]
pub(super) struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            http: legacy::Client::builder(TokioExecutor::new()).build_http(),
            address,
        }
    }

    /// `target` begins with a slash.
    ///
    /// # Errors
    /// No whole answer came.
    pub(super) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Result<Reply, String> {
        let what = format!("{method} {target}");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", self.address));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::from(body.to_owned()))
            .map_err(|error| format!("{what}: {error}"))?;
        let answer = async {
            let response = self.http.request(request).await;
            let response = response.map_err(|error| format!("{what}: {error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await;
            let body = body.map_err(|error| format!("{what}: the body: {error:?}"))?;
            Ok(Reply {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        timeout(PATIENCE, answer)
            .await
            .map_err(|_| format!("{what}: no answer"))?
    }

    /// As root, for setting up: the answer, whatever its status.
    pub(super) async fn ask(&self, root: &str, method: &str, path: &str, body: &Value) -> Value {
        let token = [("x-vault-token".to_owned(), root.to_owned())];
        let reply = self
            .send(method, &format!("/v1/{path}"), &token, &body.to_string())
            .await;
        let reply = reply.unwrap_or_else(|why| panic!("{why}"));
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }
}

impl Reply {
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
