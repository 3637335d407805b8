//! Bodies of the development Vault's answers: bytes, or an endless-looking stream, sent whole, slowly, or
//! broken off by the fault script.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// An answer's body.
pub struct Body {
    content: Content,
    /// Bytes still sent before the connection is cut.
    cut_after: Option<u64>,
    pace: Option<Pace>,
    /// Go's server announces a length only for answers that fit its buffer.
    announced: bool,
    /// Lets the server flush what it has before it learns of the cut.
    flushed: bool,
}

/// The connection was cut by the fault script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut;

impl Body {
    pub(super) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub(super) fn full(bytes: Bytes) -> Self {
        let announced = bytes.len() <= ANNOUNCED_LENGTH;
        Self::new(Content::Full(bytes), announced)
    }

    /// `length` bytes of a pattern that tells where each byte belongs: see [`pattern`].
    pub(super) fn stream(length: u64) -> Self {
        Self::new(Content::Pattern { at: 0, length }, false)
    }

    pub(super) fn cut_after(mut self, bytes: u64) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    pub(super) fn slow(mut self, piece: usize, every: Duration) -> Self {
        self.pace = Some(Pace {
            piece: piece.max(1),
            every,
            wait: None,
        });
        self
    }

    pub(super) fn announce_length(mut self) -> Self {
        self.announced = true;
        self
    }

    fn new(content: Content, announced: bool) -> Self {
        Self {
            content,
            cut_after: None,
            pace: None,
            announced,
            flushed: false,
        }
    }
}

/// The byte at `at` of a streamed download; 251 is prime, so a shifted stream is noticed.
pub fn pattern(at: u64) -> u8 {
    u8::try_from(at % 251).unwrap_or_default()
}

enum Content {
    Full(Bytes),
    Pattern { at: u64, length: u64 },
}

struct Pace {
    piece: usize,
    every: Duration,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Content {
    fn left(&self) -> u64 {
        match self {
            Self::Full(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Pattern { at, length } => length.saturating_sub(*at),
        }
    }

    fn take(&mut self, most: usize) -> Bytes {
        match self {
            Self::Full(bytes) => bytes.split_to(most.min(bytes.len())),
            Self::Pattern { at, length } => {
                let end = length
                    .min(&mut at.saturating_add(u64::try_from(most).unwrap_or(u64::MAX)))
                    .to_owned();
                let piece: Bytes = (*at..end).map(pattern).collect();
                *at = end;
                piece
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        if this.cut_after == Some(0) {
            if !this.flushed {
                this.flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(Cut)));
        }
        let left = this.content.left();
        if left == 0 {
            // Shorter than where it should be cut: then the end is cut off.
            return Poll::Ready(this.cut_after.map(|_| Err(Cut)));
        }
        let mut most = PIECE;
        if let Some(pace) = &mut this.pace {
            let wait = pace.wait.get_or_insert_with(|| Box::pin(sleep(pace.every)));
            ready!(wait.as_mut().poll(cx));
            pace.wait = None;
            most = pace.piece;
        }
        if let Some(allowed) = this.cut_after {
            most = most.min(usize::try_from(allowed).unwrap_or(usize::MAX));
        }
        let piece = this.content.take(most);
        if let Some(allowed) = &mut this.cut_after {
            *allowed -= u64::try_from(piece.len()).unwrap_or(u64::MAX).min(*allowed);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.cut_after.is_none() && self.content.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.announced {
            SizeHint::with_exact(self.content.left())
        } else {
            SizeHint::default()
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("left", &self.content.left())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fault script cut the connection")
    }
}

impl std::error::Error for Cut {}

/// Of Go's response writer.
const ANNOUNCED_LENGTH: usize = 2048;
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test(start_paused = true)]
    async fn a_stream_can_be_slow_and_cut() {
        let started = tokio::time::Instant::now();
        let mut body = Body::stream(1_000)
            .slow(100, Duration::from_secs(1))
            .cut_after(250);
        let mut got = Vec::new();
        let end = loop {
            match body.frame().await {
                Some(Ok(frame)) => got.extend_from_slice(&frame.into_data().unwrap()),
                end => break end,
            }
        };
        assert_eq!(end.unwrap().unwrap_err(), Cut);
        assert_eq!(got.len(), 250);
        assert!(got.iter().zip(0..).all(|(byte, at)| *byte == pattern(at)));
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test]
    async fn only_short_bodies_announce_their_length() {
        use http_body::Body as _;
        let short = Body::full(Bytes::from_static(b"{}\n"));
        assert_eq!(short.size_hint().exact(), Some(3));
        assert_eq!(
            Body::full(vec![b' '; 3000].into()).size_hint().exact(),
            None
        );
        assert_eq!(short.collect().await.unwrap().to_bytes(), "{}\n");
    }
}
