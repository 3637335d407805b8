//! The body of a request on its way to Vault: nothing, bytes that are held, or the caller's stream; and
//! the body of Vault's answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};

/// A request body. `Full` can be sent again, `Streamed` cannot.
#[derive(Debug, Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    /// Bytes that were read ahead, then the rest of the caller's stream.
    Streamed {
        head: Option<Bytes>,
        rest: Incoming,
    },
}

impl Body {
    /// A caller's body; what is known to be empty is `Empty`.
    pub fn streamed(rest: Incoming) -> Self {
        if rest.is_end_stream() {
            return Self::Empty;
        }
        Self::Streamed { head: None, rest }
    }

    /// Reads the body into memory if it is at most `limit` bytes; what is larger stays a stream, with
    /// what was read in front.
    ///
    /// # Errors
    /// `BadRequest` when the caller's body breaks off, or does not move for half a minute.
    pub async fn read_ahead(self, limit: usize) -> Result<Self> {
        let Self::Streamed { head, mut rest } = self else {
            return Ok(self);
        };
        let announced = rest.size_hint().lower();
        if announced > u64::try_from(limit).unwrap_or(u64::MAX) {
            return Ok(Self::Streamed { head, rest });
        }
        if head.is_none() && rest.is_end_stream() {
            return Ok(Self::Empty);
        }
        let mut read = BytesMut::from(head.unwrap_or_default().as_ref());
        loop {
            let frame = timeout(STALL, rest.frame())
                .await
                .map_err(|_| broke("did not move"))?;
            match frame {
                None if read.is_empty() => return Ok(Self::Empty),
                None => return Ok(Self::Full(read.freeze())),
                Some(Err(_)) => return Err(broke("broke off")),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        read.extend_from_slice(&data);
                    }
                }
            }
            if read.len() > limit {
                return Ok(Self::Streamed {
                    head: Some(read.freeze()),
                    rest,
                });
            }
        }
    }
}

fn broke(how: &str) -> Error {
    Error::new(
        Kind::BadRequest,
        format!("the request's body {how} before its end"),
    )
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                if bytes.is_empty() {
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Streamed { head, rest } => match head.take() {
                Some(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Pin::new(rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Streamed { head, rest } => head.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(length(bytes)),
            Self::Streamed { head, rest } => {
                let ahead = head.as_ref().map_or(0, length);
                let mut hint = rest.size_hint();
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(ahead));
                }
                hint.set_lower(hint.lower().saturating_add(ahead));
                hint
            }
        }
    }
}

/// The body of Vault's answer; while it lives it occupies one of the upstream places.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    _place: OwnedSemaphorePermit,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, place: OwnedSemaphorePermit) -> Self {
        Self {
            incoming,
            _place: place,
        }
    }
}

impl http_body::Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.get_mut().incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A body that brings nothing for this long is given up.
const STALL: Duration = Duration::from_secs(30);
