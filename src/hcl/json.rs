//! JSON (RFC 8259) in its natural structure: every member is an item with one key.
//!
//! Two liberties, both the peer's: a comma may trail, a key may repeat (both items are kept).

use super::MAX_DEPTH;
use super::lex::Cursor;
use super::literal::digits;
use super::value::{Item, Key, Object, Span, SyntaxError, Value, ValueKind};

/// `text` is known to begin with `{`, blanks aside.
pub(super) fn parse(text: &str) -> Result<Object, SyntaxError> {
    let mut reader = Reader {
        cursor: Cursor::new(text),
        depth: 0,
    };
    reader.cursor.skip_while(char::is_whitespace);
    let start = reader.cursor.at();
    reader.cursor.bump();
    let items = reader.members(reader.cursor.span_from(start))?;
    reader.skip_blanks();
    if reader.cursor.peek().is_some() {
        let span = reader.cursor.line_span(reader.cursor.at());
        return Err(SyntaxError::at(
            span,
            "text after the end of the JSON object",
        ));
    }
    let span = Span {
        start: 0,
        end: text.len(),
    };
    Ok(Object { items, span })
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    /// Objects and lists that are open.
    depth: usize,
}

impl Reader<'_> {
    /// The members of an object whose brace, at `open`, was just read; its closing brace too.
    fn members(&mut self, open: Span) -> Result<Vec<Item>, SyntaxError> {
        self.descend(open)?;
        let mut items = Vec::new();
        loop {
            self.skip_blanks();
            if self.cursor.eat('}') {
                break;
            }
            let keys = vec![self.key(open)?];
            self.skip_blanks();
            let value = self.value(open)?;
            items.push(Item { keys, value });
            if self.ends('}', open)? {
                break;
            }
        }
        self.depth -= 1;
        Ok(items)
    }

    /// A key and its colon.
    fn key(&mut self, open: Span) -> Result<Key, SyntaxError> {
        let start = self.cursor.at();
        if !self.cursor.eat('"') {
            return Err(self.unexpected("a key in double quotes or `}`", open));
        }
        let text = self.string(start)?;
        let span = self.cursor.span_from(start);
        self.skip_blanks();
        if !self.cursor.eat(':') {
            return Err(self.unexpected("`:` after the key", open));
        }
        Ok(Key { text, span })
    }

    fn value(&mut self, around: Span) -> Result<Value, SyntaxError> {
        let start = self.cursor.at();
        let kind = match self.cursor.peek() {
            Some('"') => {
                self.cursor.bump();
                ValueKind::String(self.string(start)?)
            }
            Some('{') => {
                self.cursor.bump();
                let items = self.members(self.cursor.span_from(start))?;
                let span = self.cursor.span_from(start);
                ValueKind::Object(Object { items, span })
            }
            Some('[') => {
                self.cursor.bump();
                ValueKind::List(self.elements(self.cursor.span_from(start))?)
            }
            Some('-' | '0'..='9') => self.number(start)?,
            Some('a'..='z') => self.word(start)?,
            _ => return Err(self.unexpected("a value", around)),
        };
        let span = self.cursor.span_from(start);
        Ok(Value { kind, span })
    }

    fn elements(&mut self, open: Span) -> Result<Vec<Value>, SyntaxError> {
        self.descend(open)?;
        let mut values = Vec::new();
        loop {
            self.skip_blanks();
            if self.cursor.eat(']') {
                break;
            }
            values.push(self.value(open)?);
            if self.ends(']', open)? {
                break;
            }
        }
        self.depth -= 1;
        Ok(values)
    }

    /// Behind a member or an element: `true` at the closing sign, `false` at a comma.
    fn ends(&mut self, close: char, open: Span) -> Result<bool, SyntaxError> {
        self.skip_blanks();
        if self.cursor.eat(close) {
            return Ok(true);
        }
        if self.cursor.eat(',') {
            return Ok(false);
        }
        Err(self.unexpected(&format!("`,` or `{close}`"), open))
    }

    /// The text of a string whose opening quote, at `start`, was just read.
    fn string(&mut self, start: usize) -> Result<String, SyntaxError> {
        let mut text = String::new();
        loop {
            let at = self.cursor.at();
            match self.cursor.bump() {
                None | Some('\n') => {
                    let message = "this string is never closed: it must end on its line";
                    return Err(SyntaxError::at(self.cursor.line_span(start), message));
                }
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape(at)?),
                Some(control @ '\0'..='\x1f') => {
                    let code = u32::from(control);
                    let message = format!("in JSON this character is written `\\u{code:04x}`");
                    return Err(SyntaxError::at(self.cursor.span_from(at), message));
                }
                Some(other) => text.push(other),
            }
        }
    }

    fn escape(&mut self, start: usize) -> Result<char, SyntaxError> {
        let plain = match self.cursor.bump() {
            Some(same @ ('"' | '\\' | '/')) => same,
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                return self.code_point().ok_or_else(|| {
                    let message =
                        "`\\u` needs four hexadecimal digits; above U+FFFF a pair of them";
                    SyntaxError::at(self.cursor.span_from(start), message)
                });
            }
            _ => {
                let message =
                    "unknown escape: JSON knows \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uNNNN";
                return Err(SyntaxError::at(self.cursor.span_from(start), message));
            }
        };
        Ok(plain)
    }

    /// Behind `\u`: one character, or the two halves of one.
    fn code_point(&mut self) -> Option<char> {
        let code = digits(&mut self.cursor, 16, 4)?;
        if !(0xd800..0xdc00).contains(&code) {
            return char::from_u32(code);
        }
        if !(self.cursor.eat('\\') && self.cursor.eat('u')) {
            return None;
        }
        let low = digits(&mut self.cursor, 16, 4)?.checked_sub(0xdc00)?;
        if low > 0x3ff {
            return None;
        }
        char::from_u32(0x1_0000 + ((code - 0xd800) << 10) + low)
    }

    fn number(&mut self, start: usize) -> Result<ValueKind, SyntaxError> {
        let is_digit = |c: char| c.is_ascii_digit();
        self.cursor.eat('-');
        let whole_at = self.cursor.at();
        self.cursor.skip_while(is_digit);
        let whole = self.cursor.since(whole_at);
        let mut valid = whole == "0" || (!whole.is_empty() && !whole.starts_with('0'));
        let mut is_float = false;
        if self.cursor.eat('.') {
            is_float = true;
            valid &= self.cursor.peek().is_some_and(is_digit);
            self.cursor.skip_while(is_digit);
        }
        if self.cursor.eat('e') || self.cursor.eat('E') {
            is_float = true;
            if !self.cursor.eat('+') {
                self.cursor.eat('-');
            }
            valid &= self.cursor.peek().is_some_and(is_digit);
            self.cursor.skip_while(is_digit);
        }
        let text = self.cursor.since(start);
        let span = self.cursor.span_from(start);
        if !valid {
            let message =
                "not a JSON number: no leading zero (octal needs quotes), digits around the point";
            return Err(SyntaxError::at(span, message));
        }
        let number = if is_float {
            text.parse()
                .ok()
                .filter(|n: &f64| n.is_finite())
                .map(ValueKind::Float)
        } else {
            text.parse().ok().map(ValueKind::Int)
        };
        number.ok_or_else(|| SyntaxError::at(span, "this number does not fit into 64 bits"))
    }

    fn word(&mut self, start: usize) -> Result<ValueKind, SyntaxError> {
        self.cursor.skip_while(char::is_alphanumeric);
        match self.cursor.since(start) {
            "true" => Ok(ValueKind::Bool(true)),
            "false" => Ok(ValueKind::Bool(false)),
            "null" => Ok(ValueKind::Null),
            _ => {
                let message = "a text needs double quotes; only `true`, `false`, `null` stand bare";
                Err(SyntaxError::at(self.cursor.span_from(start), message))
            }
        }
    }

    fn descend(&mut self, open: Span) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::too_deep(open));
        }
        Ok(())
    }

    fn skip_blanks(&mut self) {
        self.cursor
            .skip_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
    }

    /// Something else than `wanted` stands here, inside what began at `open`.
    fn unexpected(&self, wanted: &str, open: Span) -> SyntaxError {
        let sign = open.of(self.cursor.text());
        let mut next = self.cursor;
        let message = match next.bump() {
            None => return SyntaxError::never_closed(sign, open),
            Some('/' | '#') => "JSON has no comments".to_owned(),
            Some('\'') => "JSON takes double quotes only".to_owned(),
            Some(_) => format!("expected {wanted}"),
        };
        let span = next.span_from(self.cursor.at());
        SyntaxError::at(span, message).related(open, format!("inside this `{sign}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ValueKind, parse, position};

    #[test]
    fn structure_is_natural() {
        let text = "\u{feff} {\"a\": {\"b\": [{\"c\": null}, 1,], \"b\": -1.5e1},\n}\n";
        let object = parse(text).unwrap();
        assert_eq!(
            format!("{object:?}"),
            r#"["a" ["b" [["c" null], number(***)], "b" number(***)]]"#
        );
        let inner = &object.items[0].value;
        assert_eq!(
            inner.span.of(text),
            "{\"b\": [{\"c\": null}, 1,], \"b\": -1.5e1}"
        );
        assert_eq!(object.items[0].keys[0].span.of(text), "\"a\"");
    }

    #[test]
    fn strings() {
        for (typed, meant) in [
            (r#""\"\\\/\b\f\n\r\t\u00e9""#, "\"\\/\x08\x0c\n\r\té"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""${foo \u007b""#, "${foo {"),
            ("\"\u{7f}é\"", "\u{7f}é"),
        ] {
            let object = parse(&format!("{{\"a\": {typed}}}")).unwrap();
            let ValueKind::String(found) = &object.items[0].value.kind else {
                panic!("{typed}");
            };
            assert_eq!(found, meant);
        }
    }

    #[test]
    fn broken_json_is_refused_where_it_breaks() {
        for (text, place, message) in [
            ("{\"a\": 1\n \"b\": 2}", "2:2", "expected `,` or `}`"),
            ("{\"a\": [1 2]}", "1:10", "expected `,` or `]`"),
            ("{\n\"a\": {\"b\": 1}\n", "1:1", "this `{` is never closed"),
            ("{\"a\": [1,", "1:7", "this `[` is never closed"),
            ("{\"a\":", "1:1", "this `{` is never closed"),
            ("{\"a\": 1} x", "1:10", "text after the end"),
            ("{\"a\": 1}}", "1:9", "text after the end"),
            ("{\"a\": 1,,}", "1:9", "a key in double quotes"),
            ("{,}", "1:2", "a key in double quotes"),
            ("{\"a\": [,]}", "1:8", "expected a value"),
            ("{a: 1}", "1:2", "a key in double quotes"),
            ("{'a': 1}", "1:2", "double quotes only"),
            ("{\"a\" = 1}", "1:6", "`:` after the key"),
            ("{\"a\": yes}", "1:7", "stand bare"),
            ("{\"a\": True}", "1:7", "expected a value"),
            ("{// x\n}", "1:2", "no comments"),
            ("{\"a\": 0640}", "1:7", "octal needs quotes"),
            ("{\"a\": 1.}", "1:7", "not a JSON number"),
            ("{\"a\": -}", "1:7", "not a JSON number"),
            ("{\"a\": 1e}", "1:7", "not a JSON number"),
            ("{\"a\": .5}", "1:7", "expected a value"),
            ("{\"a\": 99999999999999999999}", "1:7", "64 bits"),
            ("{\"a\": 1e999}", "1:7", "64 bits"),
            ("{\"a\": \"x\n\"}", "1:7", "never closed"),
            ("{\"a\": \"x\ty\"}", "1:9", "\\u0009"),
            ("{\"a\": \"\\x41\"}", "1:8", "unknown escape"),
            ("{\"a\": \"\\ud83d\"}", "1:8", "a pair"),
            ("{\"a\": \"\\ud83d\\u0041\"}", "1:8", "a pair"),
            ("{\"a\": \"\\ude00\"}", "1:8", "a pair"),
        ] {
            let error = parse(text).unwrap_err();
            let at = position(text, error.span.start);
            assert_eq!(format!("{}:{}", at.line, at.column), place, "{text:?}");
            assert!(
                error.message.contains(message),
                "{text:?}: {}",
                error.message
            );
        }
    }
}
