//! What a configuration file says, each part with its place in the text.
//!
//! A file may hold secrets, so no `Debug` here shows a value: kinds and keys only.

use std::fmt;

/// Byte offsets into the text that was parsed, the end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The source text as it was typed: tells `0640` from `416`. Empty if `text` is another text.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// Items in the order of the file, repeated keys kept.
#[derive(Clone)]
pub struct Object {
    pub items: Vec<Item>,
    /// Both braces included; the whole text for the outermost one.
    pub span: Span,
}

/// `listener "tcp" { ... }` has the keys `listener` and `tcp`; `a = 1` has the key `a`.
/// There is at least one key, and with more than one the value is an object.
#[derive(Clone)]
pub struct Item {
    pub keys: Vec<Key>,
    pub value: Value,
}

#[derive(Clone)]
pub struct Key {
    /// Without quotes, escapes resolved.
    pub text: String,
    pub span: Span,
}

#[derive(Clone)]
pub struct Value {
    pub kind: ValueKind,
    pub span: Span,
}

#[derive(Clone)]
pub enum ValueKind {
    /// JSON only.
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    List(Vec<Value>),
    Object(Object),
}

/// Why a text cannot be read. The message names keys and signs, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub message: String,
    pub span: Span,
    /// A second place that explains the first.
    pub related: Option<(Span, String)>,
}

/// Line and column, both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Where a byte offset lies; an offset behind the end is the end.
pub fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or_else(|| {
        let floor = (0..=offset.min(text.len())).rfind(|at| text.is_char_boundary(*at));
        floor.and_then(|at| text.get(..at)).unwrap_or(text)
    });
    let line = before.rsplit('\n').next().unwrap_or_default();
    let line = line.trim_start_matches(super::lex::BYTE_ORDER_MARK);
    Position {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}

impl SyntaxError {
    pub(super) fn at(span: Span, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
            related: None,
        }
    }

    pub(super) fn never_closed(sign: &str, open: Span) -> Self {
        Self::at(open, format!("this `{sign}` is never closed"))
    }

    pub(super) fn too_deep(open: Span) -> Self {
        Self::at(open, format!("nested more than {} deep", super::MAX_DEPTH))
    }

    #[must_use]
    pub(super) fn related(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related = Some((span, message.into()));
        self
    }
}

impl Value {
    /// Equality wherever the values stand. `1` and `1.0` differ.
    pub fn same_value(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (ValueKind::Null, ValueKind::Null) => true,
            (ValueKind::Bool(a), ValueKind::Bool(b)) => a == b,
            (ValueKind::Int(a), ValueKind::Int(b)) => a == b,
            (ValueKind::Float(a), ValueKind::Float(b)) => a.to_bits() == b.to_bits(),
            (ValueKind::String(a), ValueKind::String(b)) => a == b,
            (ValueKind::List(a), ValueKind::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_value(b))
            }
            (ValueKind::Object(a), ValueKind::Object(b)) => a.same_value(b),
            (
                ValueKind::Null
                | ValueKind::Bool(_)
                | ValueKind::Int(_)
                | ValueKind::Float(_)
                | ValueKind::String(_)
                | ValueKind::List(_)
                | ValueKind::Object(_),
                _,
            ) => false,
        }
    }
}

impl Object {
    /// Equality wherever the values stand; the order of items counts.
    pub fn same_value(&self, other: &Self) -> bool {
        self.items.len() == other.items.len()
            && self.items.iter().zip(&other.items).all(|(a, b)| {
                a.keys
                    .iter()
                    .map(|key| &key.text)
                    .eq(b.keys.iter().map(|key| &key.text))
                    && a.value.same_value(&b.value)
            })
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.items).finish()
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in &self.keys {
            write!(f, "{key:?} ")?;
        }
        self.value.fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Debug for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(_) => f.write_str("bool(***)"),
            Self::Int(_) | Self::Float(_) => f.write_str("number(***)"),
            Self::String(_) => f.write_str("string(***)"),
            Self::List(values) => f.debug_list().entries(values).finish(),
            Self::Object(object) => object.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn debug_shows_kinds_and_keys_and_no_value() {
        let text = r#"method "aws" { secret_key = "canary" n = 77 l = ["canary", 77.5, true] }"#;
        let object = parse(text).unwrap();
        let shown = format!("{object:?} {object:#?}");
        assert!(shown.contains("secret_key") && shown.contains("string(***)"));
        for value in ["canary", "77", "true"] {
            assert!(!shown.contains(value), "{shown}");
        }
    }

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\r\nkéy = \"ü\"\n";
        for (offset, line, column) in [
            (0, 1, 1),
            (4, 1, 5),
            (7, 2, 1),
            (8, 2, 2),
            (9, 2, 2), // inside the é
            (10, 2, 3),
            (text.len(), 3, 1),
            (text.len() + 9, 3, 1),
        ] {
            assert_eq!(
                position(text, offset),
                Position { line, column },
                "{offset}"
            );
        }
        assert_eq!(position("\u{feff}ab", 4), Position { line: 1, column: 2 });
        assert_eq!(position("", 3), Position { line: 1, column: 1 });
    }

    #[test]
    fn a_span_shows_what_was_typed() {
        let text = "mode = 0640";
        let object = parse(text).unwrap();
        assert_eq!(object.items[0].value.span.of(text), "0640");
        assert!(object.same_value(&parse("mode = 416").unwrap()));
        assert!(!object.same_value(&parse("mode = 416.0").unwrap()));
        assert_eq!(Span { start: 4, end: 99 }.of(text), "");
    }
}
