//! The grammar of HCL1.

use super::MAX_DEPTH;
use super::lex::{Cursor, Token, TokenKind, next_token};
use super::value::{Item, Key, Object, Span, SyntaxError, Value, ValueKind};

pub(super) fn parse(text: &str) -> Result<Object, SyntaxError> {
    if let Some(at) = text.find('\0') {
        let span = Span {
            start: at,
            end: at + 1,
        };
        return Err(SyntaxError::at(
            span,
            "a NUL character: this is not a text file",
        ));
    }
    let mut parser = Parser {
        cursor: Cursor::new(text),
        peeked: None,
        depth: 0,
    };
    let (items, _) = parser.items(None)?;
    let span = Span {
        start: 0,
        end: text.len(),
    };
    Ok(Object { items, span })
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    peeked: Option<Token>,
    /// Objects and lists that are open.
    depth: usize,
}

impl Parser<'_> {
    /// Items up to the brace that closes `open`, or to the end of the file; and where that ended.
    fn items(&mut self, open: Option<Span>) -> Result<(Vec<Item>, usize), SyntaxError> {
        let mut items = Vec::new();
        loop {
            let token = self.next()?;
            match (&token.kind, open) {
                (TokenKind::End, None) | (TokenKind::Sign('}'), Some(_)) => {
                    return Ok((items, token.span.end));
                }
                (TokenKind::End, Some(open)) => return Err(SyntaxError::never_closed("{", open)),
                (TokenKind::Sign('}'), None) => {
                    return Err(SyntaxError::at(token.span, "this `}` closes nothing"));
                }
                _ => items.push(self.item(token)?),
            }
            self.eat_comma()?;
        }
    }

    /// `key = value`, `key { ... }`, or `key "label" { ... }`, from its first token.
    fn item(&mut self, first: Token) -> Result<Item, SyntaxError> {
        let mut keys: Vec<Key> = Vec::new();
        let mut token = first;
        loop {
            let span = token.span;
            match token.kind {
                TokenKind::Word(text) | TokenKind::Quoted(text) => keys.push(Key { text, span }),
                TokenKind::Sign('{') if !keys.is_empty() => {
                    let value = self.object(span)?;
                    return Ok(Item { keys, value });
                }
                TokenKind::Sign('=') if keys.len() == 1 => {
                    let value = self.value(span)?;
                    return Ok(Item { keys, value });
                }
                kind @ (TokenKind::Literal(_) | TokenKind::Sign(_) | TokenKind::End) => {
                    return Err(self.no_item(&keys, &kind, span));
                }
            }
            token = self.next()?;
        }
    }

    fn value(&mut self, assign: Span) -> Result<Value, SyntaxError> {
        let Token { kind, span } = self.next()?;
        let kind = match kind {
            TokenKind::Sign('{') => return self.object(span),
            TokenKind::Sign('[') => return self.list(span),
            TokenKind::Quoted(text) => ValueKind::String(text),
            TokenKind::Literal(value) => value,
            TokenKind::Word(word) if !self.line_breaks(assign.end, span.start) => {
                return Err(bare_word(&word, span));
            }
            TokenKind::Word(_) | TokenKind::Sign(_) | TokenKind::End => {
                return Err(SyntaxError::at(assign, "a value is missing after this `=`"));
            }
        };
        Ok(Value { kind, span })
    }

    fn object(&mut self, open: Span) -> Result<Value, SyntaxError> {
        self.descend(open)?;
        let (items, end) = self.items(Some(open))?;
        self.depth -= 1;
        let span = Span {
            start: open.start,
            end,
        };
        let kind = ValueKind::Object(Object { items, span });
        Ok(Value { kind, span })
    }

    /// Commas as the peer takes them: any number, none needed behind an inner list.
    fn list(&mut self, open: Span) -> Result<Value, SyntaxError> {
        self.descend(open)?;
        let mut values = Vec::new();
        let mut needs_comma = false;
        loop {
            let Token { kind, span } = self.next()?;
            if let TokenKind::Sign(']') = kind {
                self.depth -= 1;
                let span = Span {
                    start: open.start,
                    end: span.end,
                };
                let kind = ValueKind::List(values);
                return Ok(Value { kind, span });
            }
            if let TokenKind::Sign(',') = kind {
                needs_comma = false;
                continue;
            }
            if let TokenKind::End = kind {
                return Err(SyntaxError::never_closed("[", open));
            }
            if needs_comma {
                let message = format!("expected `,` or `]`, found {}", kind.name());
                return Err(SyntaxError::at(span, message).related(open, "inside this `[`"));
            }
            let value = self.element(kind, span, open)?;
            needs_comma = !matches!(value.kind, ValueKind::List(_));
            values.push(value);
        }
    }

    fn element(&mut self, kind: TokenKind, span: Span, open: Span) -> Result<Value, SyntaxError> {
        let kind = match kind {
            TokenKind::Sign('{') => return self.object(span),
            TokenKind::Sign('[') => return self.list(span),
            TokenKind::Quoted(text) => ValueKind::String(text),
            TokenKind::Literal(value) => value,
            TokenKind::Word(word) => return Err(bare_word(&word, span)),
            TokenKind::Sign(_) | TokenKind::End => {
                let message = format!("expected a value or `]`, found {}", kind.name());
                return Err(SyntaxError::at(span, message).related(open, "inside this `[`"));
            }
        };
        Ok(Value { kind, span })
    }

    fn next(&mut self) -> Result<Token, SyntaxError> {
        match self.peeked.take() {
            Some(token) => Ok(token),
            None => next_token(&mut self.cursor),
        }
    }

    fn eat_comma(&mut self) -> Result<(), SyntaxError> {
        let token = self.next()?;
        if !matches!(token.kind, TokenKind::Sign(',')) {
            self.peeked = Some(token);
        }
        Ok(())
    }

    fn descend(&mut self, open: Span) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::too_deep(open));
        }
        Ok(())
    }

    fn line_breaks(&self, start: usize, end: usize) -> bool {
        let between = Span { start, end };
        between.of(self.cursor.text()).contains('\n')
    }

    /// Why `keys`, followed by this token, are no item.
    fn no_item(&self, keys: &[Key], found: &TokenKind, span: Span) -> SyntaxError {
        let Some(first) = keys.first() else {
            let message = if matches!(found, TokenKind::Sign('{')) {
                "a block needs a key before its `{`, and no `=`".to_owned()
            } else {
                format!("expected a key, found {}", found.name())
            };
            return SyntaxError::at(span, message);
        };
        // When the keys go over several lines, what is missing was missing on the first of them.
        let starts_line = keys
            .iter()
            .zip(keys.iter().skip(1))
            .position(|(key, next)| self.line_breaks(key.span.end, next.span.start));
        let on_line = keys
            .get(..=starts_line.unwrap_or(keys.len() - 1))
            .unwrap_or(keys);
        let last = on_line.last().unwrap_or(first).span;
        let name = first.text.escape_debug();
        if starts_line.is_none() && matches!(found, TokenKind::Sign('=')) {
            let message = format!("`{name}` has a label, so no `=` may follow: write `{{`");
            return SyntaxError::at(span, message);
        }
        if on_line.len() == 1 {
            let message = format!("`{name}` needs a value (`= ...`) or a block (`{{ ... }}`)");
            return SyntaxError::at(last, message);
        }
        let message =
            format!("expected `=` before this, or `{{` after it to open a block `{name}`");
        SyntaxError::at(last, message)
    }
}

/// The word itself may be a secret that lacks its quotes, so the message does not repeat it.
fn bare_word(word: &str, span: Span) -> SyntaxError {
    let message = match word {
        "null" => "HCL has no null: leave the key out",
        _ => "a text needs double quotes; only `true` and `false` stand bare",
    };
    SyntaxError::at(span, message)
}

#[cfg(test)]
mod tests {
    use super::super::{parse, position};
    use proptest::prelude::*;

    #[test]
    fn errors_stand_where_the_mistake_is() {
        for (text, place, message) in [
            (
                "vault {\n  address = \"x\"\n",
                "1:7",
                "this `{` is never closed",
            ),
            ("a {\n b {\n c = 1\n}\n", "1:3", "this `{` is never closed"),
            ("a = [1,\n b", "2:2", "needs double quotes"),
            ("a = [1,\n", "1:5", "this `[` is never closed"),
            ("a = 1\n}", "2:1", "closes nothing"),
            ("a = yes", "1:5", "needs double quotes"),
            ("a = null", "1:5", "no null"),
            ("a = 'x'", "1:5", "double quotes"),
            ("a: 1", "1:2", "write `key = value`"),
            ("a = 1;", "1:6", "no sign between"),
            ("a = @x", "1:5", "unexpected `@`"),
            ("a = \u{7}", "1:5", "U+0007"),
            ("a = \n b = 1", "1:3", "a value is missing"),
            ("a =", "1:3", "a value is missing"),
            ("a = }", "1:3", "a value is missing"),
            (
                "vault {\n  address \"x\"\n}",
                "2:11",
                "expected `=` before this",
            ),
            (
                "vault {\n  a \"x\"\n  b = 1\n}",
                "2:5",
                "expected `=` before this",
            ),
            ("vault {\n  a\n  b = 1\n}", "2:3", "`a` needs a value"),
            ("\"a\\nb\"", "1:1", "`a\\nb` needs a value"),
            ("listener \"tcp\" = {}", "1:16", "`listener` has a label"),
            ("listener = \"tcp\" {}", "1:18", "no `=`"),
            ("= 1", "1:1", "expected a key, found `=`"),
            ("true = 1", "1:1", "expected a key"),
            ("a = 1,, b = 2", "1:7", "expected a key, found `,`"),
            ("a = [1 2]", "1:8", "expected `,` or `]`"),
            ("a = [1\n}", "2:1", "expected `,` or `]`, found `}`"),
            ("a = [}", "1:6", "expected a value or `]`, found `}`"),
            ("a /b", "1:3", "a comment begins with"),
            ("é = 1 /* x", "1:7", "comment is never closed"),
            ("a = \"x\0\"", "1:7", "NUL"),
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

    #[test]
    fn a_wrong_sign_in_a_list_names_the_list() {
        let error = parse("a = [\n  1\n}").unwrap_err();
        assert_eq!(error.related.unwrap().0.start, 4);
    }

    #[test]
    fn no_message_repeats_what_may_be_a_secret() {
        for text in [
            "a = canary",
            "a = 'canary'",
            "a = 7canary",
            "a \"canary\"",
            "a = \"canary",
            "a = <<E\ncanary",
            "a = [canary]",
            "{\"a\": canary}",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error:?}").contains("canary"), "{text}");
        }
    }

    #[test]
    fn signs_between_items_and_labels_are_as_free_as_the_peer_has_them() {
        let same = [
            "a b { c = 1 d = 2 }",
            "\"a\" b {\n c = 1,\n d = 2,\n},",
            "a\n\"b\"\n{\r\n c\n=\n1 d=2 // x\n} # y",
            "\u{feff}/***/ a b /* x */ { c = 0x1 d = 02 }",
        ];
        let first = parse(same[0]).unwrap();
        for text in same {
            assert!(parse(text).unwrap().same_value(&first), "{text:?}");
        }
        let lists = ["a = [[1], 2, { b = 1 }]", "a = [,[1]2,,{b=1},]"];
        let first = parse(lists[0]).unwrap();
        assert!(parse(lists[1]).unwrap().same_value(&first));
        assert_eq!(parse("a-b.c = 1").unwrap().items[0].keys[0].text, "a-b.c");
        assert!(parse(" \n").unwrap().items.is_empty());
    }

    #[test]
    fn what_gos_reader_drops_or_garbles_in_silence_is_refused() {
        for text in [
            "a = 1 b =",
            "a = 30b = 1",
            "a = \"\\xe9\"",
            "a = \"\\ud83d\\ude00\"",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let text = |n: usize| format!("a = {}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(&text(64)).is_ok());
        assert!(parse(&text(65)).unwrap_err().message.contains("64 deep"));
        let open = ["a {", "a = [", "{\"a\":", "{\"a\":[[["];
        for text in open.map(|open| open.repeat(100_000)) {
            assert!(parse(&text).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in prop_oneof![
            any::<String>(),
            "[{}\\[\\]=,\"$<>\\\\a-cEx0-9.'/*# \n\r-]{0,40}",
            "\\{[{}\\[\\]:,\"\\\\a-fu0-9.tnl \n-]{0,40}",
        ]) {
            if let Err(error) = parse(&text) {
                prop_assert!(text.get(error.span.start..error.span.end).is_some());
                position(&text, error.span.start);
            }
        }
    }
}
