//! From a value in the file to the type its key has, with Vault's leniency and no more.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds that fit are named, and every other is the wrong one"
)]

use std::time::Duration;

use super::UseAutoAuthToken;
use super::findings::{At, Given};
use super::source::Source;
use super::units;
use crate::hcl::{Value, ValueKind};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Text; a number is taken as its text.
    Text,
    /// Text in quotes and nothing else.
    StrictText,
    /// Nothing but a bare `true` or `false`.
    StrictBool,
    /// A boolean, a number or a text as Go's `ParseBool` reads it.
    Bool,
    Int,
    /// A bare number.
    StrictInt,
    Float,
    Duration,
    /// A list of texts, or one text with commas.
    List,
    /// A list and nothing else.
    StrictList,
    /// File permissions.
    Mode,
    /// Go duration text; a bare number would be nanoseconds.
    GoDuration,
    Block,
    /// Text or list, block or text: several forms, checked by whoever uses it.
    Any,
}

/// Does the value have the form? The error says what is wanted.
pub(super) fn check(form: Form, value: &Value, source: &Source) -> Result<(), String> {
    match form {
        Form::Text => text(value).map(drop),
        Form::StrictText => match value.kind {
            ValueKind::String(_) => Ok(()),
            _ => Err(wanted("a text in double quotes", value)),
        },
        Form::StrictInt => match value.kind {
            ValueKind::Int(_) => Ok(()),
            _ => Err(wanted("a whole number, without quotes", value)),
        },
        Form::StrictBool => strict_bool(value).map(drop),
        Form::Float => float(value).map(drop),
        Form::Bool => boolish(value).map(drop),
        Form::Int => int(value).map(drop),
        Form::Duration => duration(value).map(drop),
        Form::List => list(value).map(drop),
        Form::StrictList => match value.kind {
            ValueKind::List(_) => list(value).map(drop),
            _ => Err(wanted("a list: [\"...\"]", value)),
        },
        Form::Mode => mode(value, source).map(drop),
        Form::GoDuration => match &value.kind {
            ValueKind::String(text) => units::parse_duration(text).map(drop),
            _ => Err(wanted("a text with a unit, like \"30s\"", value)),
        },
        Form::Block => match value.kind {
            ValueKind::Object(_) | ValueKind::List(_) => Ok(()),
            _ => Err(wanted("a block: { ... }", value)),
        },
        Form::Any => Ok(()),
    }
}

/// Does the value ask for nothing: off, zero, empty?
pub(super) fn is_neutral(value: &Value) -> bool {
    match &value.kind {
        ValueKind::Null => true,
        ValueKind::Bool(flag) => !flag,
        ValueKind::Int(number) => *number == 0,
        ValueKind::Float(number) => *number == 0.0,
        ValueKind::String(text) => matches!(units::parse_bool(text), Ok(false)),
        ValueKind::List(values) => values.is_empty(),
        ValueKind::Object(object) => object.items.is_empty(),
    }
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.clone()),
        ValueKind::Int(number) => Ok(number.to_string()),
        ValueKind::Float(number) => Ok(number.to_string()),
        _ => Err(wanted("a text in double quotes", value)),
    }
}

pub(super) fn strict_bool(value: &Value) -> Result<bool, String> {
    match value.kind {
        ValueKind::Bool(flag) => Ok(flag),
        _ => Err(wanted("true or false, without quotes", value)),
    }
}

pub(super) fn boolish(value: &Value) -> Result<bool, String> {
    match &value.kind {
        ValueKind::Bool(flag) => Ok(*flag),
        ValueKind::Int(number) => Ok(*number != 0),
        ValueKind::Float(number) => Ok(*number != 0.0),
        ValueKind::String(text) => units::parse_bool(text),
        _ => Err(wanted("true or false", value)),
    }
}

pub(super) fn auto_auth_use(value: &Value) -> Result<UseAutoAuthToken, String> {
    if let ValueKind::String(text) = &value.kind
        && text.eq_ignore_ascii_case("force")
    {
        return Ok(UseAutoAuthToken::Force);
    }
    match boolish(value) {
        Ok(true) => Ok(UseAutoAuthToken::WhenAbsent),
        Ok(false) => Ok(UseAutoAuthToken::Off),
        Err(message) => Err(format!("{message}: it can be true, false or \"force\"")),
    }
}

pub(super) fn int(value: &Value) -> Result<i64, String> {
    match &value.kind {
        ValueKind::Int(number) => Ok(*number),
        ValueKind::String(text) => text
            .parse()
            .map_err(|_| format!("{text:?} is not a whole number")),
        _ => Err(wanted("a whole number", value)),
    }
}

pub(super) fn float(value: &Value) -> Result<f64, String> {
    let number = match &value.kind {
        // Through text, since not every i64 is an f64 and none that matters here is lost.
        ValueKind::Int(number) => number.to_string().parse().ok(),
        ValueKind::Float(number) => Some(*number),
        ValueKind::String(text) => text.parse().ok(),
        _ => return Err(wanted("a number", value)),
    };
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| "not a number".to_owned())
}

pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    match &value.kind {
        ValueKind::String(text) => units::parse_duration(text),
        ValueKind::Int(number) => units::parse_duration(&number.to_string()),
        // As Vault: a bare fraction is cut to whole seconds.
        ValueKind::Float(number) => units::parse_duration(&format!("{:.0}", number.trunc())),
        _ => Err(wanted("a duration: seconds, or a text like \"5m\"", value)),
    }
}

pub(super) fn size(value: &Value) -> Result<u64, String> {
    match &value.kind {
        ValueKind::String(text) => units::parse_size(text),
        ValueKind::Int(number) => units::parse_size(&number.to_string()),
        _ => Err(wanted("a size: bytes, or a text like \"64MiB\"", value)),
    }
}

/// A size in which a negative number means that there is no limit.
pub(super) fn limit(value: &Value) -> Result<i64, String> {
    if let Ok(number) = int(value) {
        return Ok(number);
    }
    i64::try_from(size(value)?).map_err(|_| "too large".to_owned())
}

pub(super) fn mode(value: &Value, source: &Source) -> Result<u32, String> {
    match &value.kind {
        ValueKind::String(text) => units::parse_mode(text),
        ValueKind::Int(number) => units::mode_of_number(*number, value.span.of(&source.text)),
        _ => Err(wanted("a file mode, like \"0640\"", value)),
    }
}

pub(super) fn list(value: &Value) -> Result<Vec<String>, String> {
    match &value.kind {
        ValueKind::String(text) => Ok(split(text)),
        ValueKind::List(values) => values
            .iter()
            .map(|value| text(value).map_err(|_| wanted("a list of texts", value)))
            .collect(),
        _ => Err(wanted("a list of texts, or a text with commas", value)),
    }
}

/// The parts of a list with a place each.
pub(super) fn places(value: &Value, source: usize) -> Vec<Given<String>> {
    let given = |text: String, span| Given {
        value: text,
        at: Some(At { source, span }),
    };
    match &value.kind {
        ValueKind::List(values) => values
            .iter()
            .filter_map(|part| Some(given(text(part).ok()?, part.span)))
            .collect(),
        _ => list(value)
            .unwrap_or_default()
            .into_iter()
            .map(|part| given(part, value.span))
            .collect(),
    }
}

pub(super) fn split(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

pub(super) fn wanted(what: &str, value: &Value) -> String {
    let got = match &value.kind {
        ValueKind::Null => "nothing",
        ValueKind::Bool(_) => "a boolean",
        ValueKind::Int(_) => "a number",
        ValueKind::Float(_) => "a fraction",
        ValueKind::String(_) => "a text",
        ValueKind::List(_) => "a list",
        ValueKind::Object(_) => "a block",
    };
    format!("needs {what}; this is {got}")
}
