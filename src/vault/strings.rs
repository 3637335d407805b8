//! The string literals of a JSON text, found without asking whether the text is JSON: servers differ in what they
//! let pass (doubled keys, a second value behind the first, halves of surrogate pairs), a quote is a quote to all.

use std::borrow::Cow;
use std::ops::Range;

/// A literal in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    /// With its quotes.
    pub place: Range<usize>,
    pub role: Role,
}

/// What a literal is by its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A colon follows.
    Key,
    /// A colon goes before.
    Value,
    /// Neither: an item of a list, or a text by itself.
    Item,
}

/// All literals in their order; one that does not end is none.
pub fn literals(text: &[u8]) -> impl Iterator<Item = Literal> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let start = at + rest.iter().position(|byte| *byte == b'"')?;
        let end = end_of(text, start)?;
        at = end;
        let before = text.get(..start)?;
        let after = text.get(end..)?;
        let is_mark = |byte: &&u8| !byte.is_ascii_whitespace();
        let role = if after.iter().find(is_mark) == Some(&b':') {
            Role::Key
        } else if before.iter().rev().find(is_mark) == Some(&b':') {
            Role::Value
        } else {
            Role::Item
        };
        Some(Literal {
            place: start..end,
            role,
        })
    })
}

impl Literal {
    /// What it says; halves of surrogate pairs and unknown escapes as U+FFFD.
    pub fn read<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let inside = self.place.start + 1..self.place.end - 1;
        unescaped(text.get(inside).unwrap_or_default())
    }
}

/// Behind the closing quote of the literal that opens at `start`.
fn end_of(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut read = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'\\' {
            read.push(*byte);
            continue;
        }
        let letter = match rest.next() {
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'u') => {
                let first = hex4(&mut rest);
                let mut ahead = rest.clone();
                let is_pair = matches!(first, Some(0xd800..0xdc00))
                    && (ahead.next(), ahead.next()) == (Some(&b'\\'), Some(&b'u'));
                let second = if is_pair { hex4(&mut ahead) } else { None };
                match (first, second) {
                    (Some(high), Some(low @ 0xdc00..0xe000)) => {
                        rest = ahead;
                        let point = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    (Some(point), _) => {
                        char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    (None, _) => char::REPLACEMENT_CHARACTER,
                }
            }
            Some(same @ (b'"' | b'\\' | b'/')) => char::from(*same),
            _ => char::REPLACEMENT_CHARACTER,
        };
        read.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Cow::Owned(read)
}

fn hex4<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u32> {
    (0..4).try_fold(0, |number, _| {
        let digit = char::from(*bytes.next()?).to_digit(16)?;
        Some(number * 16 + digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Vec<(Role, String)> {
        let text = text.as_bytes();
        literals(text)
            .map(|found| {
                let said = found.read(text).into_owned();
                (found.role, String::from_utf8(said).unwrap())
            })
            .collect()
    }

    #[test]
    fn literals_by_their_role() {
        let text = r#" {"a" : "b\"c", "l":["x","y"], "n":1}"z" "open"#;
        let expected = [
            (Role::Key, "a"),
            (Role::Value, "b\"c"),
            (Role::Key, "l"),
            (Role::Item, "x"),
            (Role::Item, "y"),
            (Role::Key, "n"),
            (Role::Item, "z"),
        ];
        assert_eq!(
            all(text),
            expected.map(|(role, said)| (role, said.to_owned()))
        );
    }

    #[test]
    fn escapes_however_they_are_written() {
        for (literal, said) in [
            (r#""\u0068\u0076\u0073""#, "hvs"),
            (r#""\/\\\n\t\"""#, "/\\\n\t\""),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""a\ud800""#, "a\u{fffd}"),
            (r#""\x""#, "\u{fffd}"),
        ] {
            assert_eq!(all(literal), [(Role::Item, said.to_owned())], "{literal}");
        }
    }

    proptest! {
        #[test]
        fn whatever_serde_writes_is_read_back(keys in prop::collection::vec(any::<String>(), 0..5)) {
            let text = serde_json::to_string(&keys).unwrap();
            let read: Vec<String> = all(&text).into_iter().map(|(_, said)| said).collect();
            prop_assert_eq!(read, keys);
        }

        #[test]
        fn nothing_makes_it_fall_over(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for found in literals(&bytes) {
                let _said = found.read(&bytes);
                prop_assert!(found.place.end <= bytes.len());
            }
        }
    }
}
