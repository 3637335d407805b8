//! Heads under fuzzing: this reader against hyper.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::heads::Heads;
use super::limits::Limits;
use super::line::Line;

/// How the bytes are cut makes no difference; and hyper, which is given what passed, finds the same requests in
/// it as were found here, unless one of them ends the connection, and nothing to refuse.
pub fn fuzz_heads(data: &[u8]) {
    let limits = Limits::default();
    let whole = feed(&[data], limits);
    let size = data.len() % 17 + 1;
    let parts: Vec<&[u8]> = data.chunks(size).collect();
    assert_eq!(feed(&parts, limits), whole, "cut into pieces of {size}");
    let (passed, heads) = whole;
    let (read, refused) = read_by_hyper(&passed);
    let text = String::from_utf8_lossy(&passed);
    assert!(!refused, "hyper refuses {text:?}");
    let lower = text.to_ascii_lowercase();
    if lower.contains("close") || lower.contains("http/1.0") {
        assert!(read <= heads, "{read} and {heads} in {text:?}");
    } else {
        assert_eq!(read, heads, "in {text:?}");
    }
}

/// What passes, and how many heads are in it.
fn feed(parts: &[&[u8]], limits: Limits) -> (Vec<u8>, u64) {
    let (mut heads, line) = (Heads::new(limits), Line::new());
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for part in parts {
        held.extend_from_slice(part);
        let fed = heads.feed(part, &line);
        let rest = held.split_off(held.len() - fed.withheld);
        passed.append(&mut held);
        held = rest;
        if fed.stop.is_some() {
            break;
        }
    }
    (passed, line.body().0)
}

/// How many requests hyper hands over, and whether it writes a refusal of its own.
fn read_by_hyper(bytes: &[u8]) -> (u64, bool) {
    let served = Arc::new(Mutex::new(0_u64));
    let counted = Arc::clone(&served);
    let service = service_fn(move |request: Request<Incoming>| {
        let counted = Arc::clone(&counted);
        async move {
            *counted.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            let _body = request.into_body().collect().await;
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok::<_, Infallible>(response)
        }
    });
    let written = Arc::new(Mutex::new(Vec::new()));
    let stream = Memory {
        bytes: Bytes::copy_from_slice(bytes),
        written: Arc::clone(&written),
    };
    let mut connection = pin!(
        http1::Builder::new()
            .max_buf_size(128 * 1024)
            .serve_connection(TokioIo::new(stream), service)
    );
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    // It asks for more turns while there is something to read; nothing else would wake it.
    while woken.0.swap(false, Relaxed) && connection.as_mut().poll(&mut cx).is_pending() {}
    let written = written.lock().unwrap_or_else(PoisonError::into_inner);
    let refusals = [&b" 400 "[..], b" 414 ", b" 431 "];
    let refused = refusals
        .iter()
        .filter(|status| written.windows(5).any(|five| five == **status))
        .count();
    let served = *served.lock().unwrap_or_else(PoisonError::into_inner);
    (served, refused > 0)
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Gives bytes and then waits for ever; keeps what is written.
struct Memory {
    bytes: Bytes,
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Memory {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let here = self.bytes.len().min(buffer.remaining());
        if here == 0 {
            return Poll::Pending;
        }
        buffer.put_slice(&self.get_mut().bytes.split_to(here));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
