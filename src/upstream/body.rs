//! The body of a request on its way to Vault: nothing, bytes that are held, or the caller's stream; and
//! the body of Vault's answer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::patience::Moved;
use super::pool::Answer;
use crate::error::{Error, Kind, Result};

/// A request body. `Full` can be sent again, `Streamed` cannot.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    Streamed(Stream),
}

/// A caller's body on its way.
pub struct Stream {
    /// What was read ahead.
    head: Option<Bytes>,
    rest: Incoming,
    moved: Moved,
}

impl Body {
    /// A caller's body; what is known to be empty is `Empty`.
    pub fn streamed(rest: Incoming) -> Self {
        if rest.is_end_stream() {
            return Self::Empty;
        }
        Self::Streamed(Stream {
            head: None,
            rest,
            moved: Moved::new(),
        })
    }

    /// Tells for how long Vault has been waited for: since the stream, if it is one, last moved.
    pub(super) fn moved(&self) -> Option<Moved> {
        match self {
            Self::Empty | Self::Full(_) => None,
            Self::Streamed(stream) => Some(stream.moved.clone()),
        }
    }

    /// Reads the body into memory if it is at most `limit` bytes and comes at once; what is larger or slower
    /// stays a stream, with what was read in front.
    ///
    /// # Errors
    /// `BadRequest` when the caller's body breaks off.
    pub async fn read_ahead(self, limit: usize) -> Result<Self> {
        let Self::Streamed(mut stream) = self else {
            return Ok(self);
        };
        let announced = stream.rest.size_hint().lower();
        if announced > u64::try_from(limit).unwrap_or(u64::MAX) {
            return Ok(Self::Streamed(stream));
        }
        if stream.head.is_none() && stream.rest.is_end_stream() {
            return Ok(Self::Empty);
        }
        let mut read = BytesMut::from(stream.head.take().unwrap_or_default().as_ref());
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, stream.rest.frame()).await {
                Ok(None) if read.is_empty() => return Ok(Self::Empty),
                Ok(None) => return Ok(Self::Full(read.freeze())),
                Ok(Some(Err(error))) => return Err(broke_off(&error)),
                Err(_) => {
                    stream.head = (!read.is_empty()).then(|| read.freeze());
                    return Ok(Self::Streamed(stream));
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        read.extend_from_slice(&data);
                    }
                }
            }
            if read.len() > limit {
                stream.head = Some(read.freeze());
                return Ok(Self::Streamed(stream));
            }
        }
    }
}

/// Why a caller's body ended early, told by the listener in the kind of its I/O error.
pub fn broke_off(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut causes = std::iter::successors(Some(error), |cause| cause.source());
    let kind = causes.find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
    match kind {
        Some(io::ErrorKind::FileTooLarge) => Error::new(
            Kind::TooLarge,
            "the request's body is larger than this listener takes: max_request_size in its listener \
             block sets the limit, -1 for none",
        ),
        Some(io::ErrorKind::TimedOut) => Error::new(
            Kind::NotAdmitted(StatusCode::REQUEST_TIMEOUT),
            "the request's body did not come in time (http_read_timeout)",
        ),
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Error::new(
            Kind::BadRequest,
            "the chunks of the request's body are not in order",
        ),
        _ => Error::new(
            Kind::BadRequest,
            "the request's body broke off before its end",
        ),
    }
}

/// Never what it holds.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Streamed(stream) => stream.fmt(f),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streamed")
    }
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
            Self::Streamed(stream) => {
                let frame = match stream.head.take() {
                    Some(bytes) if !bytes.is_empty() => Some(Ok(Frame::data(bytes))),
                    _ => ready!(Pin::new(&mut stream.rest).poll_frame(cx)),
                };
                stream.moved.now();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Streamed(stream) => stream.head.is_none() && stream.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(length(bytes)),
            Self::Streamed(stream) => {
                let ahead = stream.head.as_ref().map_or(0, length);
                let mut hint = stream.rest.size_hint();
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
    answer: Answer,
    _place: OwnedSemaphorePermit,
}

impl UpstreamBody {
    pub(super) fn new(answer: Answer, place: OwnedSemaphorePermit) -> Self {
        Self {
            answer,
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
        Pin::new(&mut self.get_mut().answer).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// How long a body that is read ahead may take.
const PATIENCE: Duration = Duration::from_millis(500);
