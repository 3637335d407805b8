//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use super::guard::{BoxError, Guard};
use super::limits::Limits;
use super::line::{Line, Phase};
use super::wire::Wire;
use crate::tasks::Tasks;

/// Counts open connections. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<AtomicUsize>);

impl Connections {
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, until the guard is dropped.
    pub(super) fn enter(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Self::clone(self))
    }
}

#[derive(Debug)]
pub(super) struct Counted(Connections);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection until the peer, a timeout or the end of the tasks ends it.
/// With a `refusal` each request is answered with 403 and that, and never reaches the service.
pub(super) async fn serve<T, S, B>(
    stream: T,
    service: S,
    limits: Limits,
    tasks: Tasks,
    refusal: Option<Bytes>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let line = Arc::new(Line::new());
    let wire = TokioIo::new(Wire::new(stream, Arc::clone(&line), limits));
    let guard = Guard::new(service, Arc::clone(&line), refusal);
    let mut connection = pin!(http(&limits).serve_connection(wire, guard));
    let mut clock = pin!(Clock::new(limits, Arc::clone(&line)));
    let mut stopping = pin!(tasks.stopping());
    let mut stop = Stop::NotYet;
    poll_fn(|cx| {
        loop {
            // The wire says so again if this turn asks it for more than there is.
            line.starves(false);
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if stop == Stop::NotYet && stopping.as_mut().poll(cx).is_ready() {
                stop = Stop::Asked;
                line.ends();
            }
            // A request whose first bytes are here is still answered; its head has a deadline.
            if stop == Stop::Asked && line.phase().0 != Phase::Head {
                stop = Stop::Told;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            let slow = matches!(ready!(clock.as_mut().poll(cx)), Phase::Head | Phase::Body);
            // Said once; a caller that is not even there to hear it is let go.
            if !slow || !line.give_up() {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

#[derive(PartialEq, Eq)]
enum Stop {
    NotYet,
    /// The tasks are stopping.
    Asked,
    /// The connection knows that it has to end.
    Told,
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's own header timeout counts from the last answer on, so that it would close idle
    // connections; `Clock` tells the two apart.
    http.header_read_timeout(None)
        .half_close(false)
        // As Vault's own server writes them, for who reads answers by eye or with grep.
        .title_case_headers(true)
        .max_buf_size(limits.max_header_bytes.max(LARGEST_READ));
    http
}

pin_project_lite::pin_project! {
    /// Ends when the peer has kept the connection waiting for too long.
    ///
    /// It notes when a phase began and lets its timer be: a timer that fires early looks again. So a
    /// busy connection never touches the timer. It says which phase took too long.
    struct Clock {
        limits: Limits,
        line: Arc<Line>,
        seen: (Phase, u64),
        since: Instant,
        // For how long the newest request's body has been waited for, up to `since`.
        starved: Duration,
        request: u64,
        #[pin]
        timer: Sleep,
    }
}

impl Clock {
    fn new(limits: Limits, line: Arc<Line>) -> Self {
        let now = Instant::now();
        Self {
            seen: line.phase(),
            since: now,
            starved: Duration::ZERO,
            request: 0,
            timer: sleep_until(now + limits.idle_timeout),
            limits,
            line,
        }
    }
}

impl Future for Clock {
    type Output = Phase;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Phase> {
        let mut this = self.project();
        let seen = this.line.phase();
        if *this.seen != seen {
            let now = Instant::now();
            if this.seen.0 == Phase::Body {
                *this.starved += now - *this.since;
            }
            *this.seen = seen;
            *this.since = now;
        }
        let patience = match seen.0 {
            Phase::Running => return Poll::Pending,
            Phase::Body => {
                let (request, bytes) = this.line.body();
                if *this.request != request {
                    *this.request = request;
                    *this.starved = Duration::ZERO;
                }
                let earned = Duration::from_secs(bytes / SLOWEST_BODY);
                (this.limits.body_timeout + earned).saturating_sub(*this.starved)
            }
            Phase::Head => this.limits.header_timeout,
            Phase::Idle | Phase::Blocked => this.limits.idle_timeout,
            Phase::Lingering => LINGER,
        };
        let end = *this.since + patience;
        if this.timer.is_elapsed() || this.timer.deadline() > end {
            this.timer.as_mut().reset(end);
        }
        while this.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(seen.0);
            }
            this.timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}

/// Bytes of a body that earn it a second more.
const SLOWEST_BODY: u64 = 1024;
/// The largest piece of a body that is read at once.
const LARGEST_READ: usize = 128 * 1024;
/// How long a caller that was answered before it had sent everything may take to notice.
const LINGER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::Notify;

    use super::*;

    const GET: &[u8] = b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A caller's end of a connection that is served.
    struct Caller {
        stream: DuplexStream,
        tasks: Tasks,
        /// Lets `/slow` go on.
        go: Arc<Notify>,
        /// How often `/slow` was dropped before its end.
        dropped: Arc<AtomicUsize>,
        closed: tokio::task::JoinHandle<Instant>,
    }

    impl Caller {
        fn new() -> Self {
            Self::over(64 * 1024)
        }

        fn over(buffer: usize) -> Self {
            let (stream, theirs) = duplex(buffer);
            let (tasks, go, dropped) = (Tasks::new(), Arc::new(Notify::new()), Arc::default());
            let service = service(Arc::clone(&go), Arc::clone(&dropped));
            let limits = Limits {
                header_timeout: Duration::from_secs(10),
                idle_timeout: Duration::from_secs(300),
                ..Limits::default()
            };
            let serving = serve(theirs, service, limits, tasks.clone(), None);
            let closed = tasks.spawn("connection", async move {
                serving.await;
                Instant::now()
            });
            Self {
                stream,
                tasks,
                go,
                dropped,
                closed,
            }
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.unwrap();
        }

        /// One answer, whose body has a known length.
        async fn answer(&mut self) -> String {
            let mut read = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&read).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("Content-Length: "))
                        .map_or(0, |length| length.parse::<usize>().unwrap());
                    if head.starts_with("HTTP/1.1 100") || body.len() >= length {
                        return text;
                    }
                }
                read.push(self.stream.read_u8().await.expect("an answer"));
            }
        }

        async fn ask(&mut self, request: &[u8]) -> String {
            self.send(request).await;
            self.answer().await
        }

        async fn rest(mut self) -> String {
            let mut rest = Vec::new();
            self.stream.read_to_end(&mut rest).await.unwrap();
            String::from_utf8_lossy(&rest).into_owned()
        }
    }

    /// `/slow` waits to be let go, `/big` never ends, anything else answers with method and body.
    fn service(
        go: Arc<Notify>,
        dropped: Arc<AtomicUsize>,
    ) -> impl tower::Service<
        Request<Incoming>,
        Response = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send {
        tower::service_fn(move |request: Request<Incoming>| {
            let (go, dropped) = (Arc::clone(&go), Arc::clone(&dropped));
            async move {
                match request.uri().path() {
                    "/slow" => {
                        let mut early = Early(Some(dropped));
                        go.notified().await;
                        early.0 = None;
                    }
                    "/big" => return Ok(Response::new(Endless.boxed_unsync())),
                    "/early" => return Ok(Response::new(Full::from("no").boxed_unsync())),
                    _ => {}
                }
                let method = request.method().clone();
                let body = request.into_body().collect().await;
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                let text = format!("{method} {}", String::from_utf8_lossy(&body));
                Ok(Response::new(Full::from(text).boxed_unsync()))
            }
        })
    }

    struct Early(Option<Arc<AtomicUsize>>);

    impl Drop for Early {
        fn drop(&mut self) {
            if let Some(count) = &self.0 {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            let data = Bytes::from_static(&[b'x'; 1024]);
            Poll::Ready(Some(Ok(http_body::Frame::data(data))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_in_time_closes_the_connection() {
        let start = Instant::now();
        let mut caller = Caller::new();
        tokio::time::sleep(Duration::from_secs(100)).await;
        // A byte each second keeps nothing alive.
        for byte in GET.iter().take(12) {
            if caller.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let closed = caller.closed.await.unwrap();
        assert_eq!((closed - start).as_secs(), 110);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_too_slow_is_told() {
        for begun in [&b"GET /v1/"[..], b"P", b"GET / HTTP/1.1\r\nHost: a\r\n"] {
            let mut caller = Caller::new();
            caller.ask(GET).await;
            caller.send(begun).await;
            let text = caller.rest().await;
            assert!(text.starts_with("HTTP/1.1 408"), "{text}");
            assert!(text.contains("http_read_header_timeout"), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_and_one_that_comes_along_is_not() {
        for (piece, answered) in [(1_usize, false), (5_000, true)] {
            let mut caller = Caller::new();
            caller
                .send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
                .await;
            let start = Instant::now();
            for _ in 0..100_000 / piece {
                if caller.stream.write_all(&vec![b'x'; piece]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(5)).await;
                if caller.dropped.load(Ordering::Relaxed) > 0 {
                    break;
                }
            }
            if answered {
                assert!(caller.answer().await.contains("xxx"));
                assert!(start.elapsed() > Duration::from_secs(90));
            } else {
                let closed = caller.closed.await.unwrap();
                assert_eq!((closed - start).as_secs(), 30);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_takes_is_in_nobodys_debt() {
        let mut caller = Caller::over(1024);
        let body = vec![b'x'; 20_000];
        let head = "PUT /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n";
        let go = Arc::clone(&caller.go);
        let request = [head.as_bytes(), &body].concat();
        let sending = caller.send(&request);
        tokio::join!(sending, async {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            go.notify_one();
        });
        assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_large_is_refused_before_it_comes_or_as_it_does() {
        let mut caller = Caller::new();
        let head =
            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 40000000\r\n\r\n";
        let text = caller.ask(head.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 413"), "{text}");
        assert!(text.contains("max_request_size"), "{text}");
        let mut caller = Caller::new();
        let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4000000\r\n";
        // The service above answers with what it got; the connection is over.
        let text = caller.ask(chunked.as_bytes()).await;
        assert!(text.ends_with("PUT "), "{text}");
        assert!(!text.contains("HTTP/1.1 100") && caller.rest().await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_comes_behind_the_answers_to_what_was_asked_before() {
        let mut caller = Caller::new();
        let slow = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = [slow, GET, b"GET  / HTTP/1.1\r\n", GET].concat();
        caller.send(&sent).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        caller.go.notify_one();
        let text = caller.rest().await;
        let statuses: Vec<&str> = text.matches("HTTP/1.1 200").collect();
        assert_eq!(statuses.len(), 2, "{text}");
        let (_, refused) = text.split_once("HTTP/1.1 400").expect("a refusal");
        assert!(refused.contains("Connection: close"), "{text}");
        assert!(
            refused.contains(r#"{"errors":["#) && !refused.contains("HTTP/1.1 200"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_head_has_the_same_deadline_as_the_first() {
        let mut caller = Caller::new();
        caller.ask(GET).await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        caller.send(b"GET /v1/").await;
        let start = Instant::now();
        let closed = caller.closed.await.unwrap();
        assert_eq!((closed - start).as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_pipelined_in_part_has_its_deadline_too() {
        let mut caller = Caller::new();
        caller.send(&[GET, b"GET /v1/"].concat()).await;
        caller.answer().await;
        let start = Instant::now();
        let closed = caller.closed.await.unwrap();
        assert_eq!((closed - start).as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_lives_for_the_idle_timeout_after_its_last_answer() {
        let mut caller = Caller::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(299)).await;
            assert!(caller.ask(GET).await.contains("GET "));
        }
        let start = Instant::now();
        let closed = caller.closed.await.unwrap();
        assert_eq!((closed - start).as_secs(), 300);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_run_longer_than_every_timeout() {
        let mut caller = Caller::new();
        caller.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(4000)).await;
        caller.go.notify_one();
        assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
        assert!(caller.ask(GET).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_nothing_is_let_go() {
        let start = Instant::now();
        let mut caller = Caller::over(512);
        caller.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // One read after 200 seconds counts as life.
        tokio::time::sleep(Duration::from_secs(200)).await;
        caller.stream.read_exact(&mut [0; 512]).await.unwrap();
        let closed = caller.closed.await.unwrap();
        assert_eq!((closed - start).as_secs(), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_up_drops_the_request() {
        let mut caller = Caller::new();
        caller.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(caller.dropped.load(Ordering::Relaxed), 0);
        drop(caller.stream);
        caller.closed.await.unwrap();
        assert_eq!(caller.dropped.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_finishes_what_runs_and_says_that_it_closes() {
        let mut caller = Caller::new();
        caller.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (tasks, go) = (caller.tasks.clone(), Arc::clone(&caller.go));
        let stopped = async {
            tokio::join!(tasks.stop(Duration::from_secs(30)), async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                go.notify_one();
            })
            .0
        };
        let (clean, text) = tokio::join!(stopped, caller.rest());
        assert!(clean);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(text.contains("Connection: close"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_closes_idle_connections_at_once_fresh_or_used() {
        for used in [false, true] {
            let mut caller = Caller::new();
            if used {
                caller.ask(GET).await;
            }
            let start = Instant::now();
            assert!(caller.tasks.stop(Duration::from_secs(30)).await);
            assert_eq!(start.elapsed(), Duration::ZERO, "used: {used}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_has_begun_to_arrive_survives_a_drain() {
        let mut caller = Caller::new();
        caller.ask(GET).await;
        caller.send(b"GET /v1/x HT").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let tasks = caller.tasks.clone();
        let late = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            caller.ask(b"TP/1.1\r\nHost: a\r\n\r\n").await
        };
        let (clean, text) = tokio::join!(tasks.stop(Duration::from_secs(30)), late);
        assert!(clean && text.contains("Connection: close"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_length_told_twice_is_refused_and_ends_the_connection() {
        for headers in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
        ] {
            let mut caller = Caller::new();
            caller.ask(GET).await;
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n0\r\n\r\n");
            caller.send(&[request.as_bytes(), GET].concat()).await;
            let text = caller.rest().await;
            assert!(text.starts_with("HTTP/1.1 400"), "{text}");
            assert!(text.contains(r#"{"errors":["#), "{text}");
            assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_of_all_kinds_are_understood() {
        let cases: [(&str, &str); 7] = [
            ("LIST /v1/s HTTP/1.1\r\nHost: a\r\n\r\n", "LIST "),
            ("SCAN /v1/s HTTP/1.1\r\nHost: a\r\n\r\n", "SCAN "),
            ("GET / HTTP/1.0\r\n\r\n", "GET "),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
                "GET ",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                "GET ",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab",
                "POST ab",
            ),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                "PUT ab",
            ),
        ];
        for (request, answered) in cases {
            let text = Caller::new().ask(request.as_bytes()).await;
            let ok = text.starts_with("HTTP/1.") && text.contains(" 200 ");
            assert!(ok && text.ends_with(answered), "{request:?}: {text}");
        }
        let tunnel = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(Caller::new().ask(tunnel).await.starts_with("HTTP/1.1 405"));
    }

    #[tokio::test(start_paused = true)]
    async fn pipelined_requests_are_answered_in_order() {
        let mut caller = Caller::new();
        let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
        caller.send(&[GET, post, GET].concat()).await;
        assert!(caller.answer().await.ends_with("GET "));
        assert!(caller.answer().await.ends_with("POST ab"));
        assert!(caller.answer().await.ends_with("GET "));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_asks_first_is_told_to_go_on() {
        let mut caller = Caller::new();
        let head =
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        assert!(caller.ask(head).await.starts_with("HTTP/1.1 100"));
        assert!(caller.ask(b"ab").await.ends_with("PUT ab"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_is_refused_early_can_still_read_the_answer() {
        let mut caller = Caller::over(16);
        let head = b"PUT /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        caller.send(head).await;
        let text = caller.answer().await;
        assert!(text.ends_with("no"), "{text}");
        // What is still on its way is taken; then the connection ends by itself.
        let start = Instant::now();
        caller.send(&[0; 5000]).await;
        let closed = caller.closed.await.unwrap();
        assert_eq!((closed - start).as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_long_is_refused() {
        let caller = Caller::new();
        let long = "a".repeat(70_000);
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n");
        let (sent, text) = {
            let (mut reads, mut writes) = tokio::io::split(caller.stream);
            tokio::join!(
                async move { writes.write_all(request.as_bytes()).await },
                async move {
                    let mut text = String::new();
                    reads.read_to_string(&mut text).await.map(|_| text)
                }
            )
        };
        assert!(text.unwrap().starts_with("HTTP/1.1 431"), "{sent:?}");
        caller.closed.await.unwrap();
    }
}
