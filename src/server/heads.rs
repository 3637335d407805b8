//! Follows where requests begin and end in what a caller sends.
//!
//! hyper does the real reading. This looks over its shoulder for three things that hyper does not tell:
//! whether a head is on its way (then the header timeout counts, not the idle timeout), whether a
//! request says its length in two ways (hyper quietly drops one of them), and whether its target has a `#`
//! (hyper quietly drops what is behind).

use std::io::BufRead;

use super::line::Line;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Heads {
    at: At,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
    /// The request line has a `#`.
    cut: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before a request line.
    #[default]
    Start,
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
    /// What came cannot be followed. hyper refuses it too, and closes.
    Lost,
}

impl Heads {
    pub(super) fn feed(&mut self, mut bytes: &[u8], line: &Line) {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Data { left, chunk } => {
                    let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                    *left -= here;
                    if *left == 0 {
                        self.at = if *chunk { At::ChunkEnd } else { At::Start };
                    }
                    bytes = bytes
                        .get(usize::try_from(here).unwrap_or(0)..)
                        .unwrap_or(&[]);
                }
                At::Lost => return,
                At::Start | At::Head | At::ChunkSize | At::ChunkEnd | At::Trailers => {
                    bytes = self.lines(bytes, line);
                }
            }
        }
        line.head_is_arriving(match self.at {
            At::Head => true,
            At::Start => !self.begun.is_empty(),
            At::Data { .. } | At::ChunkSize | At::ChunkEnd | At::Trailers | At::Lost => false,
        });
    }

    /// Is there more to come of a request whose head has ended?
    pub(super) fn in_body(&self) -> bool {
        match self.at {
            At::Data { .. } | At::ChunkSize | At::ChunkEnd | At::Trailers => true,
            At::Start | At::Head | At::Lost => false,
        }
    }

    /// Takes one line, or what there is of it.
    fn lines<'a>(&mut self, bytes: &'a [u8], line: &Line) -> &'a [u8] {
        let mut rest = bytes;
        let length = rest.skip_until(b'\n').unwrap_or(bytes.len());
        let (taken, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        if self.at == At::Start && taken.contains(&b'#') {
            self.cut = true;
        }
        let Some(text) = taken.strip_suffix(b"\n") else {
            self.remember(taken);
            return rest;
        };
        if self.begun.is_empty() {
            self.end_of_line(text, line);
        } else {
            self.remember(text);
            let whole = std::mem::take(&mut self.begun);
            self.end_of_line(&whole, line);
        }
        rest
    }

    fn remember(&mut self, part: &[u8]) {
        let room = LONGEST_LINE_KEPT - self.begun.len().min(LONGEST_LINE_KEPT);
        self.begun.extend(part.iter().take(room));
    }

    fn end_of_line(&mut self, text: &[u8], line: &Line) {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.at = match self.at {
            At::Start if text.is_empty() => At::Start,
            At::Start => {
                self.length = None;
                self.chunked = false;
                At::Head
            }
            At::Head if text.is_empty() => {
                line.head_ended(self.cut || self.chunked && self.length.is_some());
                self.cut = false;
                match self.length {
                    _ if self.chunked => At::ChunkSize,
                    None | Some(0) => At::Start,
                    Some(left) => At::Data { left, chunk: false },
                }
            }
            At::Head => self.field(text),
            At::ChunkSize => match chunk_size(text) {
                Some(0) => At::Trailers,
                Some(left) => At::Data { left, chunk: true },
                None => At::Lost,
            },
            At::ChunkEnd if text.is_empty() => At::ChunkSize,
            At::Trailers if text.is_empty() => At::Start,
            At::Trailers => At::Trailers,
            At::ChunkEnd | At::Data { .. } | At::Lost => At::Lost,
        };
    }

    fn field(&mut self, text: &[u8]) -> At {
        if value_of(text, b"transfer-encoding").is_some() {
            self.chunked = true;
        } else if let Some(value) = value_of(text, b"content-length") {
            match number(value, 10) {
                Some(length) => self.length = Some(length),
                None => return At::Lost,
            }
        }
        At::Head
    }
}

fn value_of<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (have, value) = text.split_at_checked(name.len())?;
    if !have.eq_ignore_ascii_case(name) {
        return None;
    }
    value.strip_prefix(b":")
}

fn chunk_size(text: &[u8]) -> Option<u64> {
    number(text.split(|byte| *byte == b';').next()?, 16)
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = str::from_utf8(text.trim_ascii()).ok()?;
    u64::from_str_radix(text, radix).ok()
}

/// Enough for the names and numbers that are looked for.
const LONGEST_LINE_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::server::line::Phase;

    const GET: &str = "GET /v1/a HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST /v1/a HTTP/1.1\r\ncontent-LENGTH: 5\r\n\r\nGET /";
    const CHUNKED: &str = "PUT /v1/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nT: 1\r\n\r\n";
    const BOTH: &str =
        "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    fn fed(parts: &[&[u8]]) -> (Heads, Line) {
        let (mut heads, line) = (Heads::default(), Line::new());
        for part in parts {
            heads.feed(part, &line);
        }
        (heads, line)
    }

    #[test]
    fn tells_a_head_on_its_way_from_silence() {
        let cases: [(&str, Phase); 8] = [
            ("", Phase::Idle),
            ("G", Phase::Head),
            ("GET / HTTP/1.1\r\n", Phase::Head),
            (GET, Phase::Idle),
            ("\r\n\r\n", Phase::Idle),
            (POST, Phase::Idle),
            (
                "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET",
                Phase::Idle,
            ),
            (CHUNKED, Phase::Idle),
        ];
        for (sent, phase) in cases {
            let (_, line) = fed(&[sent.as_bytes()]);
            assert_eq!(line.phase().0, phase, "{sent:?}");
        }
    }

    #[test]
    fn a_length_told_twice_is_noticed_behind_any_other_request() {
        let line = fed(&[
            GET.as_bytes(),
            POST.as_bytes(),
            CHUNKED.as_bytes(),
            BOTH.as_bytes(),
        ])
        .1;
        let line = std::sync::Arc::new(line);
        let clear: Vec<bool> = (0..4).map(|_| line.begin().1).collect();
        assert_eq!(clear, [true, true, true, false]);
    }

    #[test]
    fn a_body_that_has_not_come_whole_is_known() {
        assert!(
            fed(&[b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET"])
                .0
                .in_body()
        );
        assert!(
            fed(&[b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"])
                .0
                .in_body()
        );
        assert!(!fed(&[POST.as_bytes()]).0.in_body());
        assert!(!fed(&[CHUNKED.as_bytes()]).0.in_body());
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_does_not_matter(
            picks in prop::collection::vec(0..4_usize, 1..6),
            size in 1..50_usize,
        ) {
            let sent: String = picks.iter().map(|pick| [GET, POST, CHUNKED, BOTH][*pick]).collect();
            let parts: Vec<&[u8]> = sent.as_bytes().chunks(size).collect();
            let (heads, line) = fed(&parts);
            let (phase, ended) = line.phase();
            prop_assert_eq!((phase, heads.in_body()), (Phase::Idle, false));
            prop_assert_eq!(usize::try_from(ended).ok(), Some(picks.len()));
        }

        #[test]
        fn no_bytes_make_it_panic(sent in prop::collection::vec(any::<u8>(), 0..200)) {
            fed(&[&sent]);
        }
    }
}
