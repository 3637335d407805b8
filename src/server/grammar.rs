//! The grammar of what a caller sends (RFC 9112), one line at a time and with no leniency: what another
//! reader on the way to Vault could read differently is not read at all.

use http::Uri;

use super::flaw::Flaw;

/// What a request line says beside what is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) is_http10: bool,
    /// A snapshot that is restored: Vault takes it whatever its size.
    pub(super) is_snapshot: bool,
}

/// A header line that says something about the request's framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Length(u64),
    Chunked,
    Host,
    Other,
}

pub(super) fn request_line(text: &[u8]) -> Result<Asked, Flaw> {
    let mut words = text.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Flaw::RequestLine);
    };
    if !is_token(method) || target.is_empty() {
        return Err(Flaw::RequestLine);
    }
    let is_http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Flaw::Version);
        }
        _ => return Err(Flaw::RequestLine),
    };
    if method == b"CONNECT" {
        return Err(Flaw::Tunnel);
    }
    let is_all = method == b"OPTIONS" && target == b"*";
    if !is_all && !is_target(target) {
        return Err(Flaw::Target);
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
    Ok(Asked {
        is_http10,
        is_snapshot: SNAPSHOTS.iter().any(|end| path.ends_with(end)),
    })
}

pub(super) fn field(text: &[u8]) -> Result<Field, Flaw> {
    let colon = text.iter().position(|byte| *byte == b':');
    let (name, value) = colon
        .and_then(|colon| text.split_at_checked(colon))
        .ok_or(Flaw::Field)?;
    let value = value.get(1..).unwrap_or_default();
    if !is_token(name) || !is_value(value) {
        return Err(Flaw::Field);
    }
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => Ok(Field::Host),
        6 if name.eq_ignore_ascii_case(b"expect") => {
            let known = trimmed(value).eq_ignore_ascii_case(b"100-continue");
            known.then_some(Field::Other).ok_or(Flaw::Expectation)
        }
        14 if name.eq_ignore_ascii_case(b"content-length") => {
            length(trimmed(value)).map(Field::Length)
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            coding(trimmed(value)).map(|()| Field::Chunked)
        }
        _ => Ok(Field::Other),
    }
}

/// The size that a chunk's first line says; extensions are allowed, and ignored by everybody.
pub(super) fn chunk_size(text: &[u8]) -> Option<u64> {
    let mut parts = text.splitn(2, |byte| *byte == b';');
    let size = parts.next()?;
    if !size.iter().all(u8::is_ascii_hexdigit) || !parts.next().is_none_or(is_value) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(size).ok()?, 16).ok()
}

/// Can a request begin with this byte?
pub(super) fn can_begin(byte: u8) -> bool {
    is_token_byte(byte) || byte == b'\r'
}

fn length(value: &[u8]) -> Result<u64, Flaw> {
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(Flaw::Length);
    }
    let digits = str::from_utf8(value).map_err(|_| Flaw::Length)?;
    let length = digits.parse().map_err(|_| Flaw::Length)?;
    // The numbers above have a meaning of their own in hyper.
    if length > u64::MAX - 2 {
        return Err(Flaw::Length);
    }
    Ok(length)
}

fn coding(value: &[u8]) -> Result<(), Flaw> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let last = value.rsplit(|byte| *byte == b',').next().unwrap_or(value);
    // Where `chunked` is last, others can be told apart from nonsense, and the end of the body is known.
    if trimmed(last).eq_ignore_ascii_case(b"chunked") {
        return Err(Flaw::UnknownCoding);
    }
    Err(Flaw::Coding)
}

/// `/path?query` of what http's `Uri` takes, or a whole `http://host/path`.
fn is_target(target: &[u8]) -> bool {
    if !target.starts_with(b"/") {
        return is_absolute(target);
    }
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    let (path, query) = (parts.next().unwrap_or_default(), parts.next());
    let fits = path.iter().all(|byte| is_path_byte(*byte))
        && query.is_none_or(|query| query.iter().all(|byte| is_query_byte(*byte)));
    fits && (target.is_ascii() || str::from_utf8(target).is_ok())
}

fn is_absolute(target: &[u8]) -> bool {
    if target.contains(&b'#') {
        return false;
    }
    Uri::try_from(target).is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
    })
}

fn trimmed(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte))
}

fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'z' | b'|' | b'~')
}

/// Counted without an early end, which the compiler turns into a few wide instructions.
fn is_value(value: &[u8]) -> bool {
    let controls = value.iter().fold(0_u8, |found, byte| {
        found | u8::from((*byte < b' ' && *byte != b'\t') || *byte == 0x7F)
    });
    controls == 0
}

fn is_path_byte(byte: u8) -> bool {
    match byte {
        b'!' | b'"' | b'$'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'~' => true,
        _ => byte >= 0x80,
    }
}

fn is_query_byte(byte: u8) -> bool {
    match byte {
        b'!' | b'$'..=b';' | b'=' | b'?'..=b'~' => true,
        _ => byte >= 0x80,
    }
}

const SNAPSHOTS: [&[u8]; 2] = [
    b"/sys/storage/raft/snapshot",
    b"/sys/storage/raft/snapshot-force",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines() {
        let asked = |is_http10, is_snapshot| {
            Ok(Asked {
                is_http10,
                is_snapshot,
            })
        };
        for (text, expected) in [
            ("GET /v1/a HTTP/1.1", asked(false, false)),
            ("LIST /v1/a?x=%23&y={} HTTP/1.0", asked(true, false)),
            ("GET /v1/ä HTTP/1.1", asked(false, false)),
            ("GET http://vault:8200/v1/a HTTP/1.1", asked(false, false)),
            (
                "POST /v1/sys/storage/raft/snapshot?x HTTP/1.1",
                asked(false, true),
            ),
            (
                "PUT /v1/ns/sys/storage/raft/snapshot-force HTTP/1.1",
                asked(false, true),
            ),
            ("GET /v1/a", Err(Flaw::RequestLine)),
            ("GET", Err(Flaw::RequestLine)),
            ("GET  /v1/a HTTP/1.1", Err(Flaw::RequestLine)),
            ("GET /v1/a HTTP/1.1 ", Err(Flaw::RequestLine)),
            (" GET /v1/a HTTP/1.1", Err(Flaw::RequestLine)),
            ("GET\t/v1/a HTTP/1.1", Err(Flaw::RequestLine)),
            ("G(T /v1/a HTTP/1.1", Err(Flaw::RequestLine)),
            ("GET /v1/a http/1.1", Err(Flaw::RequestLine)),
            ("GET /v1/a HTTP/1.1\r", Err(Flaw::RequestLine)),
            ("GET /v1/a HTTP/11", Err(Flaw::RequestLine)),
            ("GET /v1/a HTTP/1.2", Err(Flaw::Version)),
            ("PRI * HTTP/2.0", Err(Flaw::Version)),
            ("CONNECT vault:8200 HTTP/1.1", Err(Flaw::Tunnel)),
            ("OPTIONS * HTTP/1.1", asked(false, false)),
            ("GET * HTTP/1.1", Err(Flaw::Target)),
            ("GET v1/a HTTP/1.1", Err(Flaw::Target)),
            ("GET vault:8200 HTTP/1.1", Err(Flaw::Target)),
            ("GET ftp://vault/v1/a HTTP/1.1", Err(Flaw::Target)),
            ("GET http:///v1/a HTTP/1.1", Err(Flaw::Target)),
            ("GET http://me@vault/v1/a HTTP/1.1", Err(Flaw::Target)),
            ("GET http://vault/v1/a#b HTTP/1.1", Err(Flaw::Target)),
            ("GET /v1/a#b HTTP/1.1", Err(Flaw::Target)),
            ("GET /v1/<a> HTTP/1.1", Err(Flaw::Target)),
            ("GET /v1/\u{7f} HTTP/1.1", Err(Flaw::Target)),
        ] {
            assert_eq!(request_line(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(
            request_line(b"GET /\xFF HTTP/1.1"),
            Err(Flaw::Target),
            "not UTF-8"
        );
    }

    #[test]
    fn fields() {
        for (text, expected) in [
            ("Content-Length: 5", Ok(Field::Length(5))),
            ("content-length:\t005 ", Ok(Field::Length(5))),
            ("TRANSFER-ENCODING: Chunked", Ok(Field::Chunked)),
            ("Host: a", Ok(Field::Host)),
            ("Expect: 100-Continue", Ok(Field::Other)),
            ("X: \u{e4}\tb", Ok(Field::Other)),
            ("X:", Ok(Field::Other)),
            ("Content-Length: +5", Err(Flaw::Length)),
            ("Content-Length: -1", Err(Flaw::Length)),
            ("Content-Length: 0x10", Err(Flaw::Length)),
            ("Content-Length:", Err(Flaw::Length)),
            ("Content-Length: 5, 5", Err(Flaw::Length)),
            ("Content-Length: 5 5", Err(Flaw::Length)),
            ("Content-Length: 18446744073709551614", Err(Flaw::Length)),
            ("Content-Length: 18446744073709551616", Err(Flaw::Length)),
            ("Transfer-Encoding: gzip, chunked", Err(Flaw::UnknownCoding)),
            ("Transfer-Encoding: chunked, identity", Err(Flaw::Coding)),
            ("Transfer-Encoding: xchunked", Err(Flaw::Coding)),
            ("Transfer-Encoding:", Err(Flaw::Coding)),
            ("Expect: 200-ok", Err(Flaw::Expectation)),
            ("X : a", Err(Flaw::Field)),
            (" X: a", Err(Flaw::Field)),
            ("\tfolded: a", Err(Flaw::Field)),
            (": a", Err(Flaw::Field)),
            ("no colon", Err(Flaw::Field)),
            ("X: a\rb", Err(Flaw::Field)),
            ("X: a\0b", Err(Flaw::Field)),
            ("X\0: a", Err(Flaw::Field)),
            ("\u{e4}: a", Err(Flaw::Field)),
        ] {
            assert_eq!(field(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn chunk_sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("00fF", Some(255)),
            ("5;a=b;c=\"d\"", Some(5)),
            ("ffffffffffffffff", Some(u64::MAX)),
            ("10000000000000000", None),
            ("", None),
            (";a", None),
            ("0x5", None),
            ("+5", None),
            ("-5", None),
            (" 5", None),
            ("5 ", None),
            ("5 ;a", None),
            ("5;\0", None),
            ("5_0", None),
            ("g", None),
        ] {
            assert_eq!(chunk_size(text.as_bytes()), expected, "{text:?}");
        }
    }
}
