//! How long an answer's head is waited for: an upload may take its time, what is bounded is standing still.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// When a request's body last moved. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Moved(Arc<Mutex<Instant>>);

impl Moved {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for at most `timeout` since `sending` `began`, or since the body last moved. `None`: in vain.
pub(super) async fn in_time<T>(
    timeout: Duration,
    began: Instant,
    moved: Option<Moved>,
    sending: impl Future<Output = T>,
) -> Option<T> {
    let mut sending = pin!(sending);
    loop {
        let last = moved
            .as_ref()
            .map_or(began, |moved| moved.last().max(began));
        match timeout_at(last + timeout, &mut sending).await {
            Ok(answer) => return Some(answer),
            Err(_) if moved.as_ref().is_some_and(|moved| moved.last() > last) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;

    use super::super::{Body, Upstream, Way};
    use super::*;
    use crate::config;
    use crate::error::Result;
    use crate::tasks::Tasks;
    use crate::telemetry::Metrics;

    /// A caller's end, whose requests are sent on with a timeout of a minute, and Vault's end.
    fn between() -> (DuplexStream, DuplexStream, Tasks) {
        let (caller, edge) = duplex(1024);
        let (near, vault) = duplex(1024);
        let near = Mutex::new(Some(near));
        let way = Way::streams(move || {
            near.lock()
                .unwrap()
                .take()
                .ok_or(std::io::ErrorKind::Other.into())
        });
        let settings = config::Vault {
            address: "http://vault".to_owned(),
            timeout: Duration::from_secs(60),
            ..config::Vault::default()
        };
        let background = config::Background::default();
        let upstream = Upstream::over(way, &settings, &background, Metrics::new()).unwrap();
        let service = hyper::service::service_fn(move |request: http::Request<_>| {
            let upstream = upstream.clone();
            async move {
                let answer = upstream.send(request.map(Body::streamed)).await;
                let whole = match answer {
                    Ok(answer) => answer
                        .into_body()
                        .collect()
                        .await
                        .map(|body| body.to_bytes()),
                    Err(error) => Ok(Bytes::from(error.to_string())),
                };
                whole.map(|body| http::Response::new(Full::new(body)))
            }
        });
        let tasks = Tasks::new();
        tasks.spawn("edge", async move {
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(edge), service);
            let _ended = serving.await;
        });
        (caller, vault, tasks)
    }

    /// Uploads eight bytes with this long between them; what Vault got by the end, and the answer.
    async fn uploaded(pause: Duration) -> (usize, String) {
        let (mut caller, mut vault, tasks) = between();
        let (tell, mut told) = mpsc::channel(1);
        tasks.spawn("vault", async move {
            let mut read = Vec::new();
            while !read.ends_with(b"xxxxxxxx") && vault.read_buf(&mut read).await.unwrap() > 0 {}
            let got = read.iter().filter(|byte| **byte == b'x').count();
            let _left = vault
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                .await;
            // The head is in; the rest may take its time as well.
            tokio::time::sleep(Duration::from_secs(600)).await;
            let _left = vault.write_all(b"done").await;
            tell.send(got).await.unwrap();
        });
        caller
            .write_all(
                b"PUT /v1/q HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 8\r\n\r\n",
            )
            .await
            .unwrap();
        for _ in 0..8 {
            tokio::time::sleep(pause).await;
            if caller.write_all(b"x").await.is_err() {
                break;
            }
        }
        let mut answer = String::new();
        let _reset = caller.read_to_string(&mut answer).await;
        (told.recv().await.unwrap(), answer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_upload_that_moves_outlives_the_deadline() {
        let (got, answer) = uploaded(Duration::from_secs(50)).await;
        assert_eq!(got, 8);
        assert!(answer.ends_with("done"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_stands_still_is_given_up() {
        let (got, answer) = uploaded(Duration::from_secs(70)).await;
        assert!(got < 8);
        assert!(answer.contains("did not answer within 60s"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_body_the_beginning_counts() {
        let began = Instant::now();
        let never = std::future::pending::<Result<()>>();
        let minute = Duration::from_secs(60);
        assert!(in_time(minute, began, None, never).await.is_none());
        assert_eq!(began.elapsed(), minute);
    }
}
