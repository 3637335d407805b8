//! Follows where requests begin and end in what a caller sends, and finds what is wrong with them.
//!
//! hyper does the real reading. This reads before it, and more strictly: a head reaches hyper when it is
//! whole and in order, so that hyper refuses nothing by itself, quietly drops nothing, and always agrees
//! about where a request ends. The same goes for the lines between chunks.

use std::io::{self, BufRead};

use super::flaw::Flaw;
use super::grammar::{self, Field};
use super::limits::Limits;
use super::line::Line;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Heads {
    limits: Limits,
    at: At,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// Bytes of a head, of trailers or of a chunk's line so far: they reach hyper when all is there.
    size: usize,
    head: Head,
    /// Data that the chunks so far announced.
    announced: u64,
}

/// What the lines of one head have said.
#[derive(Debug, Default)]
struct Head {
    fields: usize,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    is_http10: bool,
    is_snapshot: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before a request line; an empty line may stand there, once.
    #[default]
    Start,
    AfterBlank,
    Head,
    /// Bytes that are not looked at: of a chunk, or of a whole body.
    Data {
        left: u64,
        chunk: bool,
    },
    ChunkSize,
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers,
    /// Nothing more is read.
    Stopped,
}

/// What became of bytes that were fed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// So many of the last bytes must not reach hyper, or not yet.
    pub(super) withheld: usize,
    pub(super) stop: Option<Stop>,
}

/// Why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Of a head nothing has reached hyper.
    Head(Flaw),
    /// In a body: its request may be running, and ends with this error.
    Body(io::ErrorKind),
}

impl Heads {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            at: At::default(),
            begun: Vec::new(),
            size: 0,
            head: Head::default(),
            announced: 0,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], line: &Line) -> Fed {
        let mut rest = bytes;
        let mut stop = None;
        while !rest.is_empty() && stop.is_none() {
            rest = match &mut self.at {
                At::Data { left, chunk } => {
                    let here = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(*left);
                    *left -= here;
                    if *left == 0 {
                        self.at = if *chunk { At::ChunkEnd } else { At::Start };
                    }
                    let here = usize::try_from(here).unwrap_or(usize::MAX);
                    rest.get(here..).unwrap_or_default()
                }
                At::Stopped => break,
                At::Start
                | At::AfterBlank
                | At::Head
                | At::ChunkSize
                | At::ChunkEnd
                | At::Trailers => match self.line(rest, line) {
                    Ok(rest) => rest,
                    Err(found) => {
                        stop = Some(found);
                        rest
                    }
                },
            };
        }
        let withheld = match (stop, self.at) {
            (Some(_), _) => self.size.saturating_add(rest.len()),
            (None, At::Stopped) => rest.len(),
            (None, _) => self.size,
        };
        if stop.is_some() {
            self.at = At::Stopped;
        }
        line.head_is_arriving(self.is_in_head());
        Fed { withheld, stop }
    }

    /// Is there more to come of a request whose head has ended?
    pub(super) fn in_body(&self) -> bool {
        match self.at {
            At::Data { .. } | At::ChunkSize | At::ChunkEnd | At::Trailers => true,
            At::Start | At::AfterBlank | At::Head | At::Stopped => false,
        }
    }

    fn is_in_head(&self) -> bool {
        match self.at {
            At::Start | At::AfterBlank | At::Head => self.size > 0,
            At::Data { .. } | At::ChunkSize | At::ChunkEnd | At::Trailers | At::Stopped => false,
        }
    }

    /// Takes one line, or what there is of it.
    fn line<'a>(&mut self, bytes: &'a [u8], line: &Line) -> Result<&'a [u8], Stop> {
        self.may_begin(bytes)?;
        let mut rest = bytes;
        let length = rest.skip_until(b'\n').unwrap_or(bytes.len());
        let (taken, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        self.fits(length)?;
        let Some(text) = taken.strip_suffix(b"\n") else {
            self.begun.extend_from_slice(taken);
            self.size += length;
            return Ok(rest);
        };
        if self.begun.is_empty() {
            self.end_of_line(text, line)?;
        } else {
            let mut whole = std::mem::take(&mut self.begun);
            whole.extend_from_slice(text);
            self.end_of_line(&whole, line)?;
        }
        // Behind its last line a head has no size any more.
        self.size = if matches!(self.at, At::Head | At::Trailers) {
            self.size + length
        } else {
            0
        };
        Ok(rest)
    }

    /// A caller that speaks something else is told at once: its first line may never end.
    fn may_begin(&self, bytes: &[u8]) -> Result<(), Stop> {
        let is_first = matches!(self.at, At::Start | At::AfterBlank) && self.size == 0;
        match bytes.first() {
            Some(&TLS_HANDSHAKE) if is_first => Err(Stop::Head(Flaw::Tls)),
            Some(&byte) if is_first && !grammar::can_begin(byte) => {
                Err(Stop::Head(Flaw::RequestLine))
            }
            _ => Ok(()),
        }
    }

    /// Is there room for so many bytes more?
    fn fits(&self, more: usize) -> Result<(), Stop> {
        let size = self.size.saturating_add(more);
        match self.at {
            At::Start | At::AfterBlank if size > self.limits.max_header_bytes => {
                Err(Stop::Head(Flaw::LongTarget))
            }
            At::Head if size > self.limits.max_header_bytes => Err(Stop::Head(Flaw::LongHead)),
            At::ChunkSize | At::ChunkEnd if size > LONGEST_CHUNK_LINE => Err(BAD_BODY),
            At::Trailers if size > LONGEST_TRAILERS => Err(BAD_BODY),
            At::Start
            | At::AfterBlank
            | At::Head
            | At::ChunkSize
            | At::ChunkEnd
            | At::Trailers
            | At::Data { .. }
            | At::Stopped => Ok(()),
        }
    }

    fn end_of_line(&mut self, text: &[u8], line: &Line) -> Result<(), Stop> {
        let Some(text) = text.strip_suffix(b"\r") else {
            let in_head = matches!(self.at, At::Start | At::AfterBlank | At::Head);
            let flaw = Stop::Head(Flaw::LineEnd);
            return Err(if in_head { flaw } else { BAD_BODY });
        };
        self.at = match self.at {
            At::Start if text.is_empty() => At::AfterBlank,
            At::Start | At::AfterBlank => self.request_line(text).map_err(Stop::Head)?,
            At::Head if text.is_empty() => {
                let next = self.end_of_head().map_err(Stop::Head)?;
                line.head_ended();
                next
            }
            At::Head => self.field(text).map_err(Stop::Head)?,
            At::ChunkSize => self.chunk(text)?,
            At::ChunkEnd if text.is_empty() => At::ChunkSize,
            At::Trailers if text.is_empty() => At::Start,
            At::Trailers if grammar::field(text).is_ok() => At::Trailers,
            At::ChunkEnd | At::Trailers | At::Data { .. } | At::Stopped => return Err(BAD_BODY),
        };
        Ok(())
    }

    fn request_line(&mut self, text: &[u8]) -> Result<At, Flaw> {
        let asked = grammar::request_line(text)?;
        self.head = Head {
            is_http10: asked.is_http10,
            is_snapshot: asked.is_snapshot,
            ..Head::default()
        };
        Ok(At::Head)
    }

    fn field(&mut self, text: &[u8]) -> Result<At, Flaw> {
        let head = &mut self.head;
        head.fields += 1;
        if head.fields > MOST_FIELDS {
            return Err(Flaw::ManyFields);
        }
        match grammar::field(text)? {
            Field::Length(_) | Field::Chunked if head.chunked || head.length.is_some() => {
                return Err(Flaw::TwoLengths);
            }
            Field::Chunked if head.is_http10 => return Err(Flaw::Coding),
            Field::Chunked => head.chunked = true,
            Field::Length(length) => head.length = Some(length),
            Field::Host if head.hosts > 0 => return Err(Flaw::TwoHosts),
            Field::Host => head.hosts += 1,
            Field::Other => {}
        }
        Ok(At::Head)
    }

    fn end_of_head(&mut self) -> Result<At, Flaw> {
        if self.head.hosts == 0 && !self.head.is_http10 {
            return Err(Flaw::NoHost);
        }
        let length = self.head.length.unwrap_or_default();
        if self.is_too_large(length) {
            return Err(Flaw::LargeBody);
        }
        self.announced = 0;
        Ok(if self.head.chunked {
            At::ChunkSize
        } else if length == 0 {
            At::Start
        } else {
            let left = length;
            At::Data { left, chunk: false }
        })
    }

    fn chunk(&mut self, text: &[u8]) -> Result<At, Stop> {
        let left = grammar::chunk_size(text).ok_or(BAD_BODY)?;
        self.announced = self.announced.saturating_add(left);
        if self.is_too_large(self.announced) {
            return Err(Stop::Body(io::ErrorKind::FileTooLarge));
        }
        Ok(match left {
            0 => At::Trailers,
            left => At::Data { left, chunk: true },
        })
    }

    fn is_too_large(&self, length: u64) -> bool {
        let limit = self.limits.max_body_bytes;
        !self.head.is_snapshot && limit.is_some_and(|limit| length > limit)
    }
}

const BAD_BODY: Stop = Stop::Body(io::ErrorKind::InvalidData);
/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// As many as hyper takes.
pub(super) const MOST_FIELDS: usize = 100;
const LONGEST_CHUNK_LINE: usize = 256;
const LONGEST_TRAILERS: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::server::line::Phase;

    const GET: &str = "GET /v1/a HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST /v1/a HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 5\r\n\r\nGET /";
    const CHUNKED: &str = "PUT /v1/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nT: 1\r\n\r\n";
    const BOTH: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    /// What reaches hyper of bytes that come in these parts, and why nothing more does.
    fn fed(parts: &[&[u8]]) -> (Heads, Line, Vec<u8>, Option<Stop>) {
        let limits = Limits {
            max_body_bytes: Some(1000),
            ..Limits::default()
        };
        let (mut heads, line) = (Heads::new(limits), Line::new());
        let (mut passed, mut held, mut stop) = (Vec::new(), Vec::new(), None);
        for part in parts {
            held.extend_from_slice(part);
            let fed = heads.feed(part, &line);
            let rest = held.split_off(held.len() - fed.withheld);
            passed.append(&mut held);
            held = rest;
            stop = fed.stop;
            if stop.is_some() {
                break;
            }
        }
        (heads, line, passed, stop)
    }

    #[test]
    fn tells_a_head_on_its_way_from_silence() {
        let cases: [(&str, Phase); 8] = [
            ("", Phase::Idle),
            ("G", Phase::Head),
            ("GET / HTTP/1.1\r\n", Phase::Head),
            (GET, Phase::Idle),
            ("\r\n", Phase::Idle),
            (POST, Phase::Idle),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET",
                Phase::Idle,
            ),
            (CHUNKED, Phase::Idle),
        ];
        for (sent, phase) in cases {
            let (_, line, _, stop) = fed(&[sent.as_bytes()]);
            assert_eq!((line.phase().0, stop), (phase, None), "{sent:?}");
        }
    }

    #[test]
    fn a_flaw_takes_its_own_head_and_what_is_behind_it_with_it() {
        for cut in 1..BOTH.len() {
            let (flawed, behind) = BOTH.split_at(cut);
            let first = [GET, POST, CHUNKED, flawed].concat();
            let (_, _, passed, stop) = fed(&[first.as_bytes(), behind.as_bytes(), GET.as_bytes()]);
            assert_eq!(stop, Some(Stop::Head(Flaw::TwoLengths)));
            assert_eq!(passed, [GET, POST, CHUNKED].concat().as_bytes());
        }
    }

    #[test]
    fn a_body_that_has_not_come_whole_is_known() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        for (rest, in_body) in [
            ("Content-Length: 9\r\n\r\nGET", true),
            ("Transfer-Encoding: chunked\r\n\r\n5\r\nab", true),
            ("Transfer-Encoding: chunked\r\n\r\n0\r\n", true),
            ("Content-Length: 3\r\n\r\nGET", false),
            ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
        ] {
            let sent = format!("{head}{rest}");
            assert_eq!(fed(&[sent.as_bytes()]).0.in_body(), in_body, "{sent:?}");
        }
    }

    #[test]
    fn lines_and_bodies_have_their_limits() {
        let long = "a".repeat(70_000);
        let many = "X: a\r\n".repeat(101);
        let head = "POST /v1/a HTTP/1.1\r\nHost: a\r\n";
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        let part = "x".repeat(600);
        for (sent, expected) in [
            (format!("GET /{long}"), Stop::Head(Flaw::LongTarget)),
            (format!("{head}X: {long}"), Stop::Head(Flaw::LongHead)),
            (format!("{head}{many}"), Stop::Head(Flaw::ManyFields)),
            (
                format!("{head}Content-Length: 1001\r\n\r\n"),
                Stop::Head(Flaw::LargeBody),
            ),
            (
                format!("{chunked}258\r\n{part}\r\n258\r\n"),
                Stop::Body(io::ErrorKind::FileTooLarge),
            ),
            (format!("{chunked}1;{part}"), BAD_BODY),
            (format!("{chunked}0\r\nX: {long}"), BAD_BODY),
        ] {
            let stop = fed(&[sent.as_bytes()]).3;
            assert_eq!(stop, Some(expected), "{:.60}", sent);
        }
        let snapshot = "POST /v1/sys/storage/raft/snapshot HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n";
        assert_eq!(fed(&[snapshot.as_bytes()]).3, None);
        assert_eq!(
            fed(&[format!("{head}Content-Length: 1000\r\n\r\n").as_bytes()]).3,
            None
        );
    }

    #[test]
    fn who_speaks_something_else_is_told_at_the_first_byte() {
        for (sent, flaw) in [
            (&b"\x16\x03\x01"[..], Flaw::Tls),
            (b"\n", Flaw::RequestLine),
            (b"\0", Flaw::RequestLine),
            (b" ", Flaw::RequestLine),
            (b"\r\n\r\n", Flaw::RequestLine),
        ] {
            assert_eq!(fed(&[sent]).3, Some(Stop::Head(flaw)), "{sent:?}");
        }
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_does_not_matter(
            picks in prop::collection::vec(0..4_usize, 1..6),
            size in 1..50_usize,
        ) {
            let sent: String = picks.iter().map(|pick| [GET, POST, CHUNKED, BOTH][*pick]).collect();
            let parts: Vec<&[u8]> = sent.as_bytes().chunks(size).collect();
            let (heads, line, passed, stop) = fed(&parts);
            let whole = fed(&[sent.as_bytes()]);
            prop_assert_eq!((&passed, stop), (&whole.2, whole.3));
            let good = picks.iter().position(|pick| *pick == 3);
            prop_assert_eq!(heads.in_body(), false);
            prop_assert_eq!(usize::try_from(line.phase().1).ok(), Some(good.unwrap_or(picks.len())));
        }

        #[test]
        fn no_bytes_make_it_panic(sent in prop::collection::vec(any::<u8>(), 0..200)) {
            fed(&[&sent]);
        }
    }
}
