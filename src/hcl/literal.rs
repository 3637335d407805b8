//! Quoted strings, heredocs and numbers of HCL1.

use super::lex::{Cursor, is_letter};
use super::value::{Span, SyntaxError, ValueKind};

/// The text of a string whose opening quote, at `start`, was just read.
pub(super) fn quoted(cursor: &mut Cursor<'_>, start: usize) -> Result<String, SyntaxError> {
    // Bytes, since `\xNN` writes one byte and several may make one character.
    let mut bytes = Vec::new();
    loop {
        let at = cursor.at();
        match cursor.bump() {
            None | Some('\n') => {
                let message = "this string is never closed: it must end on its line";
                return Err(SyntaxError::at(cursor.line_span(start), message));
            }
            Some('"') => break,
            Some('$') if cursor.eat('{') => interpolation(cursor, at, &mut bytes)?,
            Some('\\') => escape(cursor, at, &mut bytes)?,
            Some(other) => push(&mut bytes, other),
        }
    }
    String::from_utf8(bytes).map_err(|_| {
        let message = "the `\\x` and octal escapes in this string do not make UTF-8 text";
        SyntaxError::at(cursor.span_from(start), message)
    })
}

/// `${...}` goes through as it was typed, quotes and line ends too; only its braces must balance.
fn interpolation(
    cursor: &mut Cursor<'_>,
    start: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), SyntaxError> {
    let open = cursor.span_from(start);
    bytes.extend_from_slice(b"${");
    let mut depth = 1_usize;
    while depth > 0 {
        let at = cursor.at();
        match cursor.bump() {
            None => {
                let message = "this `${` is never closed; for the text itself write `\\x24{`";
                return Err(SyntaxError::at(open, message));
            }
            Some('\\') => {
                escape(cursor, at, &mut Vec::new())?;
                bytes.extend_from_slice(cursor.since(at).as_bytes());
                continue;
            }
            Some('\r') if cursor.peek() == Some('\n') => continue,
            Some(other) => {
                match other {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                push(bytes, other);
            }
        }
    }
    Ok(())
}

/// The escape whose backslash, at `start`, was just read.
fn escape(cursor: &mut Cursor<'_>, start: usize, bytes: &mut Vec<u8>) -> Result<(), SyntaxError> {
    let octal = *cursor;
    let plain = match cursor.bump() {
        Some('a') => '\x07',
        Some('b') => '\x08',
        Some('f') => '\x0c',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('v') => '\x0b',
        Some('\\') => '\\',
        Some('"') => '"',
        Some('0'..='7') => {
            *cursor = octal;
            return byte(digits(cursor, 8, 3), cursor.span_from(start), bytes);
        }
        Some('x') => return byte(digits(cursor, 16, 2), cursor.span_from(start), bytes),
        Some('u') => character(digits(cursor, 16, 4), cursor.span_from(start))?,
        Some('U') => character(digits(cursor, 16, 8), cursor.span_from(start))?,
        _ => {
            let message = "unknown escape: known are \\n \\t \\r \\\" \\\\ \\xNN \\uNNNN \\UNNNNNNNN, \
                           octal \\NNN, \\a \\b \\f \\v; a backslash itself is \\\\";
            return Err(SyntaxError::at(cursor.span_from(start), message));
        }
    };
    push(bytes, plain);
    Ok(())
}

fn byte(code: Option<u32>, span: Span, bytes: &mut Vec<u8>) -> Result<(), SyntaxError> {
    let byte = code.and_then(|code| u8::try_from(code).ok()).ok_or_else(|| {
        let message = "a byte is `\\x` and two hexadecimal digits, or `\\` and three octal ones up to 377";
        SyntaxError::at(span, message)
    })?;
    bytes.push(byte);
    Ok(())
}

fn character(code: Option<u32>, span: Span) -> Result<char, SyntaxError> {
    let code = code.ok_or_else(|| {
        let message = "`\\u` needs four hexadecimal digits, `\\U` eight";
        SyntaxError::at(span, message)
    })?;
    char::from_u32(code).ok_or_else(|| {
        let message = "no such character; above U+FFFF write one `\\UNNNNNNNN`, not two halves";
        SyntaxError::at(span, message)
    })
}

/// Exactly `count` digits.
pub(super) fn digits(cursor: &mut Cursor<'_>, radix: u32, count: usize) -> Option<u32> {
    let mut code = 0_u32;
    for _ in 0..count {
        let digit = cursor.peek()?.to_digit(radix)?;
        cursor.bump();
        code = code.checked_mul(radix)?.checked_add(digit)?;
    }
    Some(code)
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The text of a heredoc whose first `<`, at `start`, was just read; the cursor ends behind the line of
/// the end marker.
pub(super) fn heredoc(cursor: &mut Cursor<'_>, start: usize) -> Result<ValueKind, SyntaxError> {
    let fail = |span, message| Err(SyntaxError::at(span, message));
    if !cursor.eat('<') {
        return fail(cursor.span_from(start), "a heredoc begins with `<<NAME`");
    }
    let unindent = cursor.eat('-');
    let name_at = cursor.at();
    cursor.skip_while(|c| is_letter(c) || c.is_numeric());
    let name = cursor.since(name_at);
    let head = cursor.span_from(start);
    if name.is_empty() {
        return fail(
            head,
            "a heredoc begins with `<<NAME`, the name right behind",
        );
    }
    let behind = cursor.at();
    let (rest, _) = cursor.line();
    if !rest.is_empty() {
        let span = Span {
            start: behind,
            end: behind + rest.len(),
        };
        return fail(
            span,
            "a heredoc's name ends its line: nothing may follow, not even a blank",
        );
    }
    let end = EndMarker { name, unindent };
    let mut lines: Vec<&str> = Vec::new();
    let mut near_miss = None;
    loop {
        let at = cursor.at();
        let (line, ended) = cursor.line();
        if let Some(indent) = end.indent_of(line) {
            return Ok(ValueKind::String(body(&lines, indent, unindent)));
        }
        if near_miss.is_none() && line.trim() == name {
            near_miss = Some(cursor.line_span(at));
        }
        if !ended {
            let error = SyntaxError::at(head, "this heredoc is never closed");
            return Err(match near_miss {
                Some(span) => error.related(span, end.why_not()),
                None => error,
            });
        }
        lines.push(line);
    }
}

struct EndMarker<'a> {
    name: &'a str,
    unindent: bool,
}

impl EndMarker<'_> {
    /// What stands before the marker, if the line is one.
    fn indent_of<'l>(&self, line: &'l str) -> Option<&'l str> {
        let indent = line.trim_end_matches('\r').strip_suffix(self.name)?;
        let is_blank = |c| matches!(c, ' ' | '\t' | '\r' | '\x0b' | '\x0c');
        // The peer takes the marker of `<<-` for text when nothing at all stands around it.
        let long_enough = !self.unindent || line.len() > self.name.len();
        (indent.chars().all(is_blank) && long_enough).then_some(indent)
    }

    fn why_not(&self) -> &'static str {
        if self.unindent {
            "this line would close it if the name were indented and nothing stood behind it"
        } else {
            "this line would close it if nothing stood behind the name"
        }
    }
}

/// The indentation goes only when every line has it: one empty line, and all stays.
fn body(lines: &[&str], indent: &str, unindent: bool) -> String {
    let strip = unindent && lines.iter().all(|line| line.starts_with(indent));
    let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    for line in lines {
        let line = if strip {
            line.strip_prefix(indent)
        } else {
            None
        }
        .unwrap_or(line);
        text.push_str(line);
        text.push('\n');
    }
    if !unindent {
        // As the peer reads it: blanks before the marker are the last, unfinished line.
        text.push_str(indent);
    }
    text
}

/// The number whose first character, at `start`, was just read.
pub(super) fn number(cursor: &mut Cursor<'_>, start: usize) -> Result<ValueKind, SyntaxError> {
    let first = cursor.since(start);
    let is_hex = {
        let mut ahead = *cursor;
        (first == "0" || (first == "-" && ahead.eat('0'))) && (ahead.eat('x') || ahead.eat('X'))
    };
    let mut is_float = false;
    if is_hex {
        cursor.skip_while(|c| c.is_ascii_hexdigit() || matches!(c, 'x' | 'X'));
    } else {
        is_float = first == ".";
        cursor.skip_while(|c| c.is_ascii_digit());
        if !is_float && cursor.eat('.') {
            is_float = true;
            cursor.skip_while(|c| c.is_ascii_digit());
        }
        if cursor.eat('e') || cursor.eat('E') {
            is_float = true;
            if !cursor.eat('+') {
                cursor.eat('-');
            }
            cursor.skip_while(|c| c.is_ascii_digit());
        }
    }
    let text = cursor.since(start);
    if cursor
        .peek()
        .is_some_and(|c| is_letter(c) || c.is_numeric() || c == '.')
    {
        cursor.skip_while(|c| is_letter(c) || c.is_numeric() || matches!(c, '-' | '.'));
        let message = "not a number: with a unit or any other text it needs double quotes";
        return Err(SyntaxError::at(cursor.span_from(start), message));
    }
    let span = cursor.span_from(start);
    if is_float {
        float(text, span)
    } else {
        int(text, span)
    }
}

fn float(text: &str, span: Span) -> Result<ValueKind, SyntaxError> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(ValueKind::Float(number)),
        Ok(_) => Err(SyntaxError::at(span, "this number is too large")),
        Err(_) => Err(SyntaxError::at(span, "an exponent needs digits: `1e3`")),
    }
}

fn int(text: &str, span: Span) -> Result<ValueKind, SyntaxError> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(digits) => (digits, 16),
        None if digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        let message = if radix == 16 {
            "`0x` needs hexadecimal digits"
        } else {
            "a number that begins with 0 is octal: it has only the digits 0 to 7"
        };
        return Err(SyntaxError::at(span, message));
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix)
        .map(ValueKind::Int)
        .map_err(|_| SyntaxError::at(span, "this number does not fit into 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::super::{ValueKind, parse};

    /// The one value of `a = ...`, or the start of the error and its message.
    fn value(text: &str) -> Result<ValueKind, (usize, String)> {
        let mut object = parse(text).map_err(|error| (error.span.start, error.message))?;
        Ok(object.items.remove(0).value.kind)
    }

    fn text_of(text: &str) -> String {
        match value(text) {
            Ok(ValueKind::String(text)) => text,
            Ok(other) => panic!("{text:?}: {other:?}"),
            Err((at, message)) => panic!("{text:?}: {at} {message}"),
        }
    }

    #[test]
    fn escapes_and_interpolations() {
        for (typed, meant) in [
            (r#""\a\b\f\n\r\t\v\\\"""#, "\x07\x08\x0c\n\r\t\x0b\\\""),
            (r#""\101\x41\u0041\U00000041\xc3\xa9""#, "AAAAé"),
            (r#""a ${foo("bar")} c""#, r#"a ${foo("bar")} c"#),
            (r#""${\n \" {}} \n""#, "${\\n \\\" {}} \n"),
            ("\"${\r\n}\"", "${\n}"),
            (r#""$${x} $ { } %{ $\x7b""#, "$${x} $ { } %{ ${"),
            ("\"tab\there\"", "tab\there"),
            (r#""{{ .Data.data.pw }}""#, "{{ .Data.data.pw }}"),
        ] {
            assert_eq!(text_of(&format!("a = {typed}")), meant, "{typed}");
        }
    }

    #[test]
    fn strings_that_are_none() {
        for (typed, at, message) in [
            ("\"x\nb = \"y\"", 4, "must end on its line"),
            ("\"x", 4, "must end on its line"),
            ("\"x\\", 6, "unknown escape"),
            ("\"x ${foo\"", 7, "`${` is never closed"),
            (r#""\d""#, 5, "unknown escape"),
            (r#""${\d}""#, 7, "unknown escape"),
            (r#""\'""#, 5, "unknown escape"),
            (r#""\x4g""#, 5, "two hexadecimal digits"),
            (r#""\400""#, 5, "up to 377"),
            (r#""\u12""#, 5, "four hexadecimal digits"),
            (r#""\U00110000""#, 5, "no such character"),
            (r#""\xff""#, 4, "UTF-8"),
        ] {
            let (found_at, found) = value(&format!("a = {typed}")).unwrap_err();
            assert_eq!(found_at, at, "{typed}: {found}");
            assert!(found.contains(message), "{typed}: {found}");
        }
    }

    #[test]
    fn heredocs_are_raw() {
        for (typed, meant) in [
            ("<<E\nE\n", ""),
            ("<<E\nx\nE", "x\n"),
            ("<<E\r\nx\r\n\r\nE\r\n", "x\n\n"),
            ("<<E\n\\n ${ %{ \" }\nEE\nE\n", "\\n ${ %{ \" }\nEE\n"),
            // Blanks before the marker belong to the text, as the peer reads it.
            ("<<E\nx\n  E\n", "x\n  "),
            ("<<-E\n  x\n    y\n  E\n", "x\n  y\n"),
            ("<<-E\n\tx\n\tE\n", "x\n"),
            ("<<-E\n  x\n\n  E\n", "  x\n\n"),
            ("<<-E\nx\n  E\n", "x\n"),
            ("<<-E\nE\n E\n", "E\n"),
        ] {
            let text = format!("a = {typed}");
            assert_eq!(text_of(&text), meant, "{typed:?}");
            let span = parse(&text).unwrap().items[0].value.span;
            assert!(span.of(&text).ends_with('E'), "{typed:?}");
        }
        assert_eq!(parse("a = [<<E\nx\nE\n, 1]\nb = 2").unwrap().items.len(), 2);
    }

    #[test]
    fn heredocs_that_are_none() {
        for (typed, at, message, related) in [
            ("<<E\nx\n", 4, "never closed", None),
            ("<<E\nx\nE \n", 4, "never closed", Some("behind the name")),
            ("<<-E\nx\nE\n}", 4, "never closed", Some("were indented")),
            ("<<E \nx\nE\n", 7, "not even a blank", None),
            ("<< E\nx\nE\n", 4, "right behind", None),
            ("<E\nx\nE\n", 4, "<<NAME", None),
        ] {
            let error = parse(&format!("a = {typed}")).unwrap_err();
            assert_eq!(error.span.start, at, "{typed:?}");
            assert!(
                error.message.contains(message),
                "{typed:?}: {}",
                error.message
            );
            match (related, error.related) {
                (None, None) => {}
                (Some(wanted), Some((span, found))) => {
                    assert!(found.contains(wanted), "{found}");
                    assert!(span.start > at + 4);
                }
                (wanted, found) => panic!("{typed:?}: {wanted:?} {found:?}"),
            }
        }
    }

    #[test]
    fn numbers() {
        for (typed, meant) in [
            ("0640", 416),
            ("-0640", -416),
            ("0x1F", 31),
            ("-0X10", -16),
            ("0", 0),
            ("00", 0),
            ("-0", 0),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            let found = value(&format!("a = {typed}")).unwrap();
            assert!(
                matches!(found, ValueKind::Int(number) if number == meant),
                "{typed}"
            );
        }
        for (typed, meant) in [
            ("1.5", 1.5),
            ("-1.5", -1.5),
            ("1.", 1.0),
            (".5", 0.5),
            ("1e3", 1e3),
            ("1.e3", 1e3),
            ("1E-2", 0.01),
            ("0640.5", 640.5),
            ("08e1", 80.0),
        ] {
            let found = value(&format!("a = {typed}")).unwrap();
            assert!(
                matches!(found, ValueKind::Float(number) if number.to_bits() == f64::to_bits(meant)),
                "{typed}"
            );
        }
        for (typed, message) in [
            ("0689", "octal"),
            ("0x", "hexadecimal"),
            ("0xx1", "hexadecimal"),
            ("1e", "exponent"),
            ("1e999", "too large"),
            ("9223372036854775808", "64 bits"),
            ("30s", "double quotes"),
            ("1_000", "double quotes"),
            ("1.2.3", "double quotes"),
            ("0o17", "double quotes"),
            ("-.5", "`-`"),
            ("+1", "`+`"),
        ] {
            let (at, found) = value(&format!("a = {typed}")).unwrap_err();
            assert_eq!(at, 4, "{typed}");
            assert!(found.contains(message), "{typed}: {found}");
        }
    }
}
