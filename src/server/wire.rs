//! The byte stream of one connection, watched.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flaw::Flaw;
use super::heads::{Heads, Stop};
use super::limits::Limits;
use super::line::Line;

/// Passes bytes on and tells its `Line` about them. A head is passed on when it is whole and in order.
///
/// A head that is not is replaced by a request of our own, which the guard refuses in its place: so the
/// refusal is written by hyper, behind the answers to what was asked before, and the connection is closed
/// as after any other last answer.
#[derive(Debug)]
pub(super) struct Wire<T> {
    stream: T,
    line: Arc<Line>,
    heads: Heads,
    /// Came, and may be read.
    ready: BytesMut,
    /// The beginning of a head.
    held: BytesMut,
    stopped: Option<Stop>,
    closed: bool,
}

impl<T> Wire<T> {
    pub(super) fn new(stream: T, line: Arc<Line>, limits: Limits) -> Self {
        Self {
            stream,
            line,
            heads: Heads::new(limits),
            ready: BytesMut::new(),
            held: BytesMut::new(),
            stopped: None,
            closed: false,
        }
    }

    fn watch(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Pending => self.line.is_blocked(),
            Poll::Ready(Ok(bytes)) => self.line.wrote(u64::try_from(*bytes).unwrap_or(0)),
            Poll::Ready(Err(_)) => {}
        }
        wrote
    }

    /// Nothing more is read.
    fn stop(&mut self, stop: Stop) {
        self.held.clear();
        match stop {
            Stop::Head(flaw) => {
                self.line.refuse(flaw);
                self.ready.extend_from_slice(STAND_IN);
            }
            // Its request is the last, and its answer says so.
            Stop::Body(_) => self.line.ends(),
        }
        self.stopped = Some(stop);
    }

    /// What is to be read before anything new; `None` when that is nothing.
    fn waiting(&mut self, buffer: &mut ReadBuf<'_>) -> Option<Poll<io::Result<()>>> {
        if self.stopped.is_none() && self.line.is_given_up() {
            self.stop(if self.heads.in_body() {
                Stop::Body(io::ErrorKind::TimedOut)
            } else {
                Stop::Head(Flaw::SlowHead)
            });
        }
        if !self.ready.is_empty() {
            let here = self.ready.len().min(buffer.remaining());
            buffer.put_slice(&self.ready.split_to(here));
            return Some(Poll::Ready(Ok(())));
        }
        match self.stopped? {
            Stop::Body(kind) => Some(Poll::Ready(Err(kind.into()))),
            // The stand-in is answered at once, and is the last.
            Stop::Head(_) => Some(Poll::Pending),
        }
    }
}

impl<T: AsyncRead + Unpin> Wire<T> {
    /// Straight into hyper's buffer, what is withheld taken back out of it.
    fn read_on(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.line.body_came(u64::try_from(read.len()).unwrap_or(0));
        let fed = self.heads.feed(read, &self.line);
        let passed = read.len() - fed.withheld.min(read.len());
        if passed < read.len() {
            let withheld = read.get(passed..).unwrap_or_default();
            self.held.extend_from_slice(withheld);
            buffer.set_filled(before + passed);
        }
        if let Some(stop) = fed.stop {
            self.stop(stop);
        }
        Poll::Ready(Ok(passed > 0))
    }

    /// Behind the beginning of a head, until it is whole.
    fn read_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut scratch = [0; 4096];
        let mut read = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Ok(true));
        }
        let came = u64::try_from(read.filled().len());
        self.line.body_came(came.unwrap_or(0));
        let fed = self.heads.feed(read.filled(), &self.line);
        self.held.extend_from_slice(read.filled());
        let passed = self.held.len() - fed.withheld.min(self.held.len());
        let passed = self.held.split_to(passed);
        self.ready.unsplit(passed);
        if let Some(stop) = fed.stop {
            self.stop(stop);
        }
        Poll::Ready(Ok(false))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(waiting) = this.waiting(buffer) {
                return waiting;
            }
            let in_body = this.heads.in_body();
            let read = if this.held.is_empty() {
                this.read_on(cx, buffer)
            } else {
                this.read_held(cx)
            };
            if in_body {
                this.line.starves(read.is_pending());
            }
            if ready!(read)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.watch(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Closes our side. A caller that is still sending is read until it has seen that: closing the socket
    /// over unread bytes would reset the connection and could take the answer with it. The connection's
    /// clock ends this wait.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.closed = true;
        }
        let is_sending = this.heads.in_body() || this.stopped.is_some();
        if !is_sending || this.line.is_given_up() {
            return Poll::Ready(Ok(()));
        }
        this.line.lingers();
        loop {
            let mut scratch = [0; 4096];
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";
