//! HCL1 and JSON as Vault reads its configuration files: text in, values with their places out.
//!
//! Nothing is evaluated: `${...}`, `%{...}` and Go templates are text. Meaning (labels or `type`, durations,
//! last one wins) is `config`'s; this room knows syntax alone. Where it differs from Go's reader, it refuses
//! what that one drops in silence (`a =` at the end of a file, text behind a JSON object) or crashes on.

mod json;
mod lex;
mod literal;
mod parse;
mod print;
mod value;

pub use print::print;
pub use value::{Item, Key, Object, Position, Span, SyntaxError, Value, ValueKind, position};

/// Reads JSON when the first non-blank character is `{`, else HCL1.
pub fn parse(text: &str) -> Result<Object, SyntaxError> {
    let first = text.trim_start_matches(lex::BYTE_ORDER_MARK).trim_start();
    if first.starts_with('{') {
        json::parse(text)
    } else {
        parse::parse(text)
    }
}

/// How deep objects and lists may lie in each other, so that no input overflows the stack.
const MAX_DEPTH: usize = 64;
