//! The body of an answer on its way to a client: whole, straight from Vault, or copied on the way.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;
use tower::BoxError;

use crate::upstream::UpstreamBody;

/// See the module's text.
pub enum ReplyBody {
    Full(Bytes),
    Upstream(UpstreamBody),
    Piped(Pipe),
}

/// Never what it holds.
impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Upstream(_) => f.write_str("Upstream"),
            Self::Piped(_) => f.write_str("Piped"),
        }
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Upstream(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Self::Piped(pipe) => pipe.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Piped(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Self::Upstream(body) => body.size_hint(),
            Self::Piped(pipe) => pipe
                .size
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl From<Bytes> for ReplyBody {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

/// The reading end of a body that is being collected at the same time.
///
/// It holds at most what its writer collects, so the bound on collecting bounds it too; beyond that the
/// writer hands over the rest of Vault's body, and the client's own pace rules.
#[derive(Debug)]
pub struct Pipe {
    shared: Arc<Shared>,
    rest: Option<UpstreamBody>,
    size: Option<u64>,
}

/// The writing end. Dropping it unfinished breaks the client's transfer.
#[derive(Debug)]
pub(super) struct PipeWriter {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    reader_gone: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    end: Option<End>,
    reader: Option<Waker>,
    is_reader_gone: bool,
}

enum End {
    Whole,
    Broken,
    Rest(Box<UpstreamBody>),
}

/// `size` is the whole length where Vault said it.
pub(super) fn pipe(size: Option<u64>) -> (PipeWriter, Pipe) {
    let shared = Arc::new(Shared::default());
    (
        PipeWriter {
            shared: Arc::clone(&shared),
        },
        Pipe {
            shared,
            rest: None,
            size,
        },
    )
}

impl PipeWriter {
    pub(super) fn push(&self, bytes: Bytes) {
        self.change(|state| state.queue.push_back(bytes));
    }

    /// All bytes were pushed.
    pub(super) fn finish(self) {
        self.change(|state| state.end = Some(End::Whole));
    }

    /// The reader goes on by itself from here.
    pub(super) fn hand_over(self, rest: UpstreamBody) {
        self.change(|state| state.end = Some(End::Rest(Box::new(rest))));
    }

    /// Resolves when the client has left.
    pub(super) async fn reader_gone(&self) {
        let gone = self.shared.reader_gone.notified();
        if self.shared.lock().is_reader_gone {
            return;
        }
        gone.await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.shared.lock();
            if !state.is_reader_gone {
                change(&mut state);
            }
            state.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.change(|state| {
            state.end.get_or_insert(End::Broken);
        });
    }
}

impl Pipe {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_none() {
            let mut state = self.shared.lock();
            if let Some(bytes) = state.queue.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            match state.end.take() {
                None => {
                    state.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Some(End::Whole) => {
                    state.end = Some(End::Whole);
                    return Poll::Ready(None);
                }
                Some(End::Broken) => {
                    state.end = Some(End::Broken);
                    return Poll::Ready(Some(Err("Vault's answer broke off".into())));
                }
                Some(End::Rest(rest)) => self.rest = Some(*rest),
            }
        }
        match &mut self.rest {
            Some(rest) => http_body::Body::poll_frame(Pin::new(rest), cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            None => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_reader_gone = true;
        state.queue.clear();
        state.end = None;
        drop(state);
        self.shared.reader_gone.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn bytes_arrive_at_once_and_in_order() {
        let (writer, pipe) = pipe(None);
        let mut body = ReplyBody::Piped(pipe);
        writer.push(Bytes::from_static(b"a"));
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "a"
        );
        writer.push(Bytes::from_static(b"b"));
        writer.finish();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "b");
    }

    #[tokio::test]
    async fn an_unfinished_writer_breaks_the_transfer() {
        let (writer, pipe) = pipe(Some(10));
        writer.push(Bytes::from_static(b"half"));
        drop(writer);
        assert!(ReplyBody::Piped(pipe).collect().await.is_err());
    }

    #[tokio::test]
    async fn the_writer_notices_a_client_that_left() {
        let (writer, pipe) = pipe(None);
        drop(pipe);
        writer.reader_gone().await;
        writer.push(Bytes::from_static(b"nobody"));
        assert!(writer.shared.lock().queue.is_empty());
    }
}
