//! From characters to HCL1 tokens.

use super::literal;
use super::value::{Span, SyntaxError, ValueKind};

/// Some editors begin a file with it; it is no part of the text.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

/// Deliberately without `Debug`: tokens hold values.
pub(super) enum TokenKind {
    /// A bare word, as keys and labels are.
    Word(String),
    /// In double quotes: a value, a key or a label.
    Quoted(String),
    /// A heredoc, a bool or a number: what can only be a value.
    Literal(ValueKind),
    /// One of `{ } [ ] , =`.
    Sign(char),
    End,
}

/// The next token, comments and blanks skipped.
pub(super) fn next_token(cursor: &mut Cursor<'_>) -> Result<Token, SyntaxError> {
    skip_blanks(cursor)?;
    let start = cursor.at();
    let kind = match cursor.bump() {
        None => TokenKind::End,
        Some(sign @ ('{' | '}' | '[' | ']' | ',' | '=')) => TokenKind::Sign(sign),
        Some('"') => TokenKind::Quoted(literal::quoted(cursor, start)?),
        Some('<') => TokenKind::Literal(literal::heredoc(cursor, start)?),
        Some('-' | '.') if cursor.peek().is_some_and(|c| c.is_ascii_digit()) => {
            TokenKind::Literal(literal::number(cursor, start)?)
        }
        Some(first) if first.is_ascii_digit() => {
            TokenKind::Literal(literal::number(cursor, start)?)
        }
        Some(first) if is_letter(first) => {
            cursor.skip_while(|c| is_letter(c) || c.is_numeric() || matches!(c, '-' | '.'));
            match cursor.since(start) {
                "true" => TokenKind::Literal(ValueKind::Bool(true)),
                "false" => TokenKind::Literal(ValueKind::Bool(false)),
                word => TokenKind::Word(word.to_owned()),
            }
        }
        Some(other) => return Err(unexpected(other, cursor.span_from(start))),
    };
    let mut span = cursor.span_from(start);
    // A heredoc is read with the line end behind its marker, which no message should underline.
    span.end = start + span.of(cursor.text()).trim_end_matches(['\r', '\n']).len();
    Ok(Token { kind, span })
}

impl TokenKind {
    /// What a message calls this token.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Word(_) => "a bare word".to_owned(),
            Self::Quoted(_) => "a string".to_owned(),
            Self::Literal(_) => "a value".to_owned(),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end of the file".to_owned(),
        }
    }
}

pub(super) fn is_letter(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// A place in the text that moves forward by whole characters.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut cursor = Self { text, at: 0 };
        cursor.eat(BYTE_ORDER_MARK);
        cursor
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// What was read since `start`.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn span_from(&self, start: usize) -> Span {
        Span {
            start,
            end: self.at,
        }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    pub(super) fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    pub(super) fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
    }

    /// The rest of the line without its end, and whether it had one; the cursor goes behind it.
    pub(super) fn line(&mut self) -> (&'a str, bool) {
        let rest = self.rest();
        match rest.split_once('\n') {
            Some((line, _)) => {
                self.at += line.len() + 1;
                (line.strip_suffix('\r').unwrap_or(line), true)
            }
            None => {
                self.at += rest.len();
                (rest, false)
            }
        }
    }

    /// From `start` to the end of its line.
    pub(super) fn line_span(&self, start: usize) -> Span {
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        Span {
            start,
            end: start + line.trim_end().len(),
        }
    }
}

fn skip_blanks(cursor: &mut Cursor<'_>) -> Result<(), SyntaxError> {
    loop {
        let start = cursor.at();
        match cursor.peek() {
            Some(' ' | '\t' | '\r' | '\n') => {
                cursor.bump();
            }
            Some('#') => {
                cursor.line();
            }
            Some('/') => {
                cursor.bump();
                if cursor.eat('/') {
                    cursor.line();
                } else if cursor.eat('*') {
                    skip_block_comment(cursor, start)?;
                } else {
                    let message = "unexpected `/`: a comment begins with `//`, `/*` or `#`";
                    return Err(SyntaxError::at(cursor.span_from(start), message));
                }
            }
            _ => return Ok(()),
        }
    }
}

fn skip_block_comment(cursor: &mut Cursor<'_>, start: usize) -> Result<(), SyntaxError> {
    let open = cursor.span_from(start);
    while let Some(next) = cursor.bump() {
        if next == '*' && cursor.eat('/') {
            return Ok(());
        }
    }
    Err(SyntaxError::at(open, "this `/*` comment is never closed"))
}

fn unexpected(found: char, span: Span) -> SyntaxError {
    let message = match found {
        '\'' => "single quotes are not allowed: write the text in double quotes".to_owned(),
        ':' => "unexpected `:`: write `key = value`".to_owned(),
        ';' => "unexpected `;`: attributes need no sign between them".to_owned(),
        other if other.is_ascii_graphic() => format!("unexpected `{other}`"),
        other => format!("unexpected character U+{:04X}", u32::from(other)),
    };
    SyntaxError::at(span, message)
}
