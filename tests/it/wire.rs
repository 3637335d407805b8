//! Raw ends of HTTP connections, which no library has touched: an upstream that keeps the exact bytes it
//! received, and a client that sends exactly what it is told to. Every wait has a deadline.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold::tasks::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Resolves within the deadline, or the test fails.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// Read from the stream, not yet taken by the test.
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await;
        Self::over(stream.unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sending = self.stream.write_all(bytes.as_ref());
        soon("bytes to be taken", sending).await.unwrap();
    }

    /// Sends what it can; for an end that may be gone already.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sending = self.stream.write_all(bytes.as_ref());
        soon("bytes to be taken or refused", sending).await.is_ok()
    }

    /// A request by this client, and its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        let request = request.as_ref();
        self.send(request).await;
        let method = request.split(|byte| *byte == b' ').next().unwrap();
        self.answer(method).await
    }

    /// The next answer; `None` where the stream ends in its place, or with a reset.
    pub(crate) async fn try_answer(&mut self) -> Option<Message> {
        let head = self.head().await?;
        let message = Message {
            head: head.clone(),
            body: Vec::new(),
            whole: true,
        };
        if matches!(message.status(), 100..200 | 204) {
            return Some(message);
        }
        Some(self.rest_of(head, true).await)
    }

    /// The next answer, as one to a request of this method.
    pub(crate) async fn answer(&mut self, method: &[u8]) -> Message {
        let head = self.head().await.expect("an answer");
        let status = String::from_utf8_lossy(head.get(9..12).unwrap_or_default()).into_owned();
        let is_bodiless = method == b"HEAD" || matches!(status.as_str(), "204" | "304");
        if is_bodiless || status.starts_with('1') {
            return Message {
                head,
                body: Vec::new(),
                whole: true,
            };
        }
        self.rest_of(head, true).await
    }

    /// The next request; `None` when the other end closes without one.
    pub(crate) async fn request(&mut self) -> Option<Message> {
        let head = self.head().await?;
        Some(self.rest_of(head, false).await)
    }

    /// A head, its blank line included; `None` at the end of the stream.
    pub(crate) async fn head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                return Some(self.take(end + 4));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Waits until exactly these bytes have come, and takes them.
    pub(crate) async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        while self.read.len() < bytes.len() {
            assert!(self.more().await, "the stream ended before {bytes:?}");
        }
        let taken = self.take(bytes.len());
        assert_eq!(
            String::from_utf8_lossy(&taken),
            String::from_utf8_lossy(bytes)
        );
    }

    /// Waits until the other end has closed or reset; what still comes is dropped.
    pub(crate) async fn closed(&mut self) {
        while self.more().await {
            self.read.clear();
        }
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// Has nothing come, and is the connection open?
    pub(crate) fn is_quiet(&self) -> bool {
        let seen = self.stream.try_read(&mut [0; 1]);
        let blocks = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        self.read.is_empty() && seen.is_err_and(blocks)
    }

    /// Closes with a reset in place of an orderly end.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads and counts everything up to `length` bytes without keeping it.
    pub(crate) async fn count(&mut self, length: usize) -> usize {
        let mut counted = self.read.len();
        self.read.clear();
        let mut buffer = vec![0; 256 * 1024];
        while counted < length {
            let reading = self.stream.read(&mut buffer);
            match soon("bytes", reading).await {
                Ok(0) | Err(_) => break,
                Ok(read) => counted += read,
            }
        }
        counted
    }

    /// Sends until the other end has taken nothing for a while, at most `length` bytes; how many it took.
    pub(crate) async fn flood(&mut self, length: usize) -> usize {
        let block = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        while sent < length {
            let sending = self.stream.write(&block);
            match tokio::time::timeout(STANDSTILL, sending).await {
                Ok(taken) => sent += taken.unwrap(),
                Err(_) => break,
            }
        }
        sent
    }

    async fn rest_of(&mut self, head: Vec<u8>, may_end_with_stream: bool) -> Message {
        let message = Message {
            head,
            body: Vec::new(),
            whole: true,
        };
        let (body, whole) = if message.header("transfer-encoding").is_some() {
            self.chunks().await
        } else if let Some(length) = message.header("content-length") {
            self.bytes(length.parse().unwrap()).await
        } else if may_end_with_stream {
            self.bytes(usize::MAX).await
        } else {
            (Vec::new(), true)
        };
        Message {
            body,
            whole: whole || (may_end_with_stream && !message.says_its_length()),
            ..message
        }
    }

    async fn bytes(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.read.len() < length {
            if !self.more().await {
                return (std::mem::take(&mut self.read), false);
            }
        }
        (self.take(length), true)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(end) = find(&self.read, b"\r\n") else {
                if self.more().await {
                    continue;
                }
                return (body, false);
            };
            let line = self.take(end + 2);
            let line = String::from_utf8(line).unwrap();
            let size = line.trim().split(';').next().unwrap().to_owned();
            let size = usize::from_str_radix(&size, 16).unwrap();
            let (chunk, whole) = self.bytes(size + 2).await;
            body.extend_from_slice(&chunk[..chunk.len().min(size)]);
            if !whole || size == 0 {
                return (body, whole);
            }
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.read.split_off(length);
        std::mem::replace(&mut self.read, rest)
    }

    async fn more(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.read);
        soon("bytes or the end", reading).await.unwrap_or(0) > 0
    }
}

/// A request or an answer.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) head: Vec<u8>,
    /// Without its framing.
    pub(crate) body: Vec<u8>,
    /// False: the stream ended first.
    pub(crate) whole: bool,
}

impl Message {
    /// The request or status line.
    pub(crate) fn first_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.head);
        text.lines().next().unwrap_or_default().to_owned()
    }

    pub(crate) fn status(&self) -> u16 {
        let line = self.first_line();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Names in lower case, in the order in which they came.
    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let lines = self.head.split(|byte| *byte == b'\n').skip(1);
        let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let colon = line.iter().position(|byte| *byte == b':').unwrap();
                let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
                (name, line[colon + 1..].trim_ascii().to_vec())
            })
            .collect()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let headers = self.headers().into_iter();
        headers
            .filter(|(is, _)| is == name)
            .map(|(_, value)| String::from_utf8_lossy(&value).into_owned())
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn target(&self) -> String {
        self.first_line().split(' ').nth(1).unwrap().to_owned()
    }

    /// What a cache asks on its own: what is mounted, how long a token lives.
    fn is_leaseholds(&self) -> bool {
        let is_named = |agent: String| agent.starts_with("leasehold/");
        self.target().contains("/v1/sys/internal/ui/mounts/")
            || self.header("user-agent").is_some_and(is_named)
    }

    fn says_its_length(&self) -> bool {
        self.header("content-length").is_some() || self.header("transfer-encoding").is_some()
    }
}

/// An upstream that the test plays by hand.
#[derive(Debug)]
pub(crate) struct ByHand {
    listener: TcpListener,
}

impl ByHand {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    pub(crate) async fn accept(&self) -> Wire {
        let (stream, _) = soon("a connection", self.listener.accept()).await.unwrap();
        Wire::over(stream)
    }

    /// The connection on which a request for `path` arrives, that request taken. What a cache
    /// asks on its own is refused.
    pub(crate) async fn asked(&self, path: &str) -> Wire {
        loop {
            let mut wire = self.accept().await;
            let request = wire.request().await.expect("a request");
            if request.target() == path {
                return wire;
            }
            assert!(request.is_leaseholds(), "{}", request.first_line());
            wire.try_send(REFUSAL).await;
        }
    }

    /// Is nobody waiting to be answered but a cache on its own?
    pub(crate) async fn is_quiet(&self) -> bool {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        loop {
            let waiting = tokio::time::timeout(Duration::ZERO, self.listener.accept());
            let Ok(waiting) = waiting.await else {
                return true;
            };
            let request = Wire::over(waiting.unwrap().0).request().await;
            if request.is_some_and(|request| !request.is_leaseholds()) {
                return false;
            }
        }
    }
}

/// An upstream that records each request and answers it by a function. Leasehold's own calls are refused and
/// not recorded.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Recorder {
    /// `answer` gives whole answers. An empty one closes the connection, as does one that says so.
    pub(crate) async fn start(
        answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let recorder = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let (tasks, answer) = (Tasks::new(), Arc::new(answer));
        let (own, all) = (recorder.clone(), tasks.clone());
        tasks.spawn("recorder", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (own, answer) = (own.clone(), Arc::clone(&answer));
                all.spawn("recorded", own.converse(Wire::over(stream), answer));
            }
        });
        recorder
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    async fn converse<F>(self, mut wire: Wire, answer: Arc<F>)
    where
        F: Fn(&Message) -> Vec<u8>,
    {
        loop {
            // A pooled connection may idle for as long as a test runs.
            if wire.read.is_empty() && wire.stream.readable().await.is_err() {
                return;
            }
            let Some(request) = wire.request().await else {
                return;
            };
            let answer = if request.is_leaseholds() {
                REFUSAL.to_vec()
            } else {
                self.seen.lock().unwrap().push(request.clone());
                answer(&request)
            };
            let ends =
                answer.starts_with(b"HTTP/1.0") || find(&answer, b"Connection: close").is_some();
            if answer.is_empty() || !wire.try_send(answer).await || ends {
                return;
            }
        }
    }
}

/// A whole answer with a length.
pub(crate) fn answer_of(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
const STANDSTILL: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(20);
