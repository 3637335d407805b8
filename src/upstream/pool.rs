//! Open connections to Vault, each kept for the next request.
//!
//! A connection goes back when the last byte of its answer has been read, and the one used last goes out first, so
//! that those of a burst grow old and are closed. Whether a request may be sent a second time is not decided
//! here, but for one case: not a byte of it was sent.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service};

use super::Body;
use super::dial::Connector;

/// See the module's text. At most `most` connections lie idle; how many are in use is its user's business.
pub(super) struct Pool {
    connector: Connector,
    to: Uri,
    kept: Arc<Kept>,
}

/// Why no head of an answer came.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// Nobody was asked.
    #[error("no connection")]
    Connect(#[source] BoxError),
    #[error("the connection broke")]
    Broke(#[source] hyper::Error),
}

impl Failure {
    pub(super) fn is_connect(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

impl Pool {
    /// `to` says whither: a scheme and an authority.
    pub(super) fn new(connector: Connector, to: Uri, most: usize) -> Self {
        let kept = Kept {
            idle: Mutex::new(Vec::new()),
            most,
            is_swept: AtomicBool::new(false),
        };
        Self {
            connector,
            to,
            kept: Arc::new(kept),
        }
    }

    /// Sends a request in origin form and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Answer>, Failure> {
        let mut request = request;
        while let Some(mut sender) = self.kept.take() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.answer(response, sender)),
                Err(mut error) => match error.take_message() {
                    // It was closed in the moment of its taking.
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Broke(error.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await.map_err(Failure::Broke)?;
        Ok(self.answer(response, sender))
    }

    async fn connect(&self) -> Result<Sender, Failure> {
        let mut connector = self.connector.clone();
        std::future::poll_fn(|cx| connector.poll_ready(cx))
            .await
            .map_err(Failure::Connect)?;
        let io = connector.call(self.to.clone());
        let io = io.await.map_err(Failure::Connect)?;
        let (sender, connection) = http1::Builder::new()
            .title_case_headers(true)
            .handshake(io)
            .await
            .map_err(Failure::Broke)?;
        // It ends with the connection, which ends when nobody has its sender any more. How it ends is told to
        // whoever waits for an answer.
        TokioExecutor::new().execute(async move {
            let _told = connection.await;
        });
        Ok(sender)
    }

    fn answer(&self, response: Response<Incoming>, sender: Sender) -> Response<Answer> {
        response.map(|incoming| {
            let mut answer = Answer {
                incoming,
                lent: Some((sender, Arc::clone(&self.kept))),
            };
            answer.give_back_at_end();
            answer
        })
    }
}

type Sender = http1::SendRequest<Body>;

struct Kept {
    idle: Mutex<Vec<Idle>>,
    most: usize,
    is_swept: AtomicBool,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl Kept {
    /// The connection that was used last. Where none can be had, the oldest is closed for the new one that will be
    /// made, so that there are never more than are in use at once.
    fn take(&self) -> Option<Sender> {
        let mut idle = self.lock();
        idle.retain(|idle| !idle.sender.is_closed());
        // One whose request is still being sent, though it is answered, is not ready.
        if let Some(at) = idle.iter().rposition(|idle| idle.sender.is_ready()) {
            return Some(idle.remove(at).sender);
        }
        if !idle.is_empty() {
            idle.remove(0);
        }
        None
    }

    fn put(self: &Arc<Self>, sender: Sender) {
        let mut idle = self.lock();
        if sender.is_closed() {
            return;
        }
        if idle.len() >= self.most {
            idle.remove(0);
        }
        let since = Instant::now();
        idle.push(Idle { sender, since });
        drop(idle);
        if !self.is_swept.swap(true, Ordering::Relaxed) {
            let kept = Arc::downgrade(self);
            TokioExecutor::new().execute(async move {
                loop {
                    sleep(LONGEST_IDLE / 2).await;
                    if kept.upgrade().is_none_or(|kept| kept.sweep()) {
                        return;
                    }
                }
            });
        }
    }

    /// Closes what has not been used for long; true when nothing is left.
    fn sweep(&self) -> bool {
        let mut idle = self.lock();
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < LONGEST_IDLE);
        if idle.is_empty() {
            self.is_swept.store(false, Ordering::Relaxed);
        }
        idle.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an answer, which holds its connection until its end. Dropped before, it takes the connection with it.
pub(super) struct Answer {
    incoming: Incoming,
    lent: Option<(Sender, Arc<Kept>)>,
}

impl Answer {
    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((sender, kept)) = self.lent.take() {
            kept.put(sender);
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        match &frame {
            None => this.give_back(),
            Some(Ok(_)) => this.give_back_at_end(),
            Some(Err(_)) => this.lent = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Never what it holds.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

/// Vault closes idle connections after five minutes; until then they cost it memory.
const LONGEST_IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use http_body_util::{BodyExt, Full};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::duplex;

    use super::super::dial::Way;
    use super::super::tls::Tls;
    use super::*;
    use crate::config;
    use crate::tasks::Tasks;

    /// How many connections were made, and how many of them are open.
    #[derive(Default)]
    struct Seen {
        made: AtomicUsize,
        open: AtomicUsize,
    }

    impl Seen {
        fn counts(&self) -> (usize, usize) {
            let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
            (of(&self.made), of(&self.open))
        }
    }

    /// A pool, and a Vault behind it that answers everything with 64 KiB.
    fn pool(most: usize) -> (Pool, Arc<Seen>, Tasks) {
        let (seen, tasks) = (Arc::new(Seen::default()), Tasks::new());
        let (counts, serving) = (Arc::clone(&seen), tasks.clone());
        let way = Way::streams(move || {
            let (near, far) = duplex(1024);
            let counts = Arc::clone(&counts);
            counts.made.fetch_add(1, Ordering::SeqCst);
            counts.open.fetch_add(1, Ordering::SeqCst);
            serving.spawn("vault", async move {
                let answer = service_fn(async |_| {
                    let body = Full::new(Bytes::from(vec![b'x'; 64 * 1024]));
                    Ok::<_, std::convert::Infallible>(Response::new(body))
                });
                let serving = hyper::server::conn::http1::Builder::new();
                let serving = serving.serve_connection(TokioIo::new(far), answer);
                let _closed = serving.await;
                counts.open.fetch_sub(1, Ordering::SeqCst);
            });
            Ok(near)
        });
        let tls = Arc::new(Tls::new(&config::Vault::default()).unwrap());
        let to = Uri::from_static("http://vault");
        (Pool::new(Connector::new(way, tls), to, most), seen, tasks)
    }

    async fn ask(pool: &Pool) -> Response<Answer> {
        let request = Request::get("/v1/x").header("host", "vault");
        pool.send(request.body(Body::Empty).unwrap()).await.unwrap()
    }

    async fn read(response: Response<Answer>) {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 64 * 1024);
    }

    /// Lets everybody do what can be done at once.
    async fn settle() {
        sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn requests_one_after_the_other_share_a_connection() {
        let (pool, seen, _tasks) = pool(4);
        for _ in 0..5 {
            read(ask(&pool).await).await;
            settle().await;
        }
        assert_eq!(seen.counts(), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_takes_its_connection_with_it() {
        let (pool, seen, _tasks) = pool(4);
        drop(ask(&pool).await);
        settle().await;
        assert_eq!(seen.counts(), (1, 0));
        read(ask(&pool).await).await;
        assert_eq!(seen.counts(), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_idle_is_closed_after_a_while_and_beyond_the_bound_at_once() {
        let (pool, seen, _tasks) = pool(2);
        let answers = [ask(&pool).await, ask(&pool).await, ask(&pool).await];
        assert_eq!(seen.counts(), (3, 3));
        for answer in answers {
            read(answer).await;
        }
        settle().await;
        assert_eq!(seen.counts(), (3, 2));
        // The one used last is used again, so that the other grows old.
        for _ in 0..3 {
            sleep(LONGEST_IDLE / 2).await;
            read(ask(&pool).await).await;
        }
        settle().await;
        assert_eq!(seen.counts(), (3, 1));
        sleep(LONGEST_IDLE * 2).await;
        assert_eq!(seen.counts(), (3, 0));
        read(ask(&pool).await).await;
        assert_eq!(seen.counts(), (4, 1));
    }
}
