//! Reading a call's fields as weakly as Vault does: numbers as texts, texts as lists, durations as either.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;

use super::answer::Refusal;

/// The fields of a request: its JSON body, its form, or its query.
#[derive(Clone, Default)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// Empty where there is none.
    pub(super) fn text(&self, name: &str) -> Result<String, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::Bool(flag)) => Ok(if *flag { "1" } else { "0" }.to_owned()),
            Some(value @ (Value::Array(_) | Value::Object(_))) => {
                Err(unconvertible(name, "string", value))
            }
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_i64()),
            Some(Value::String(text)) if text.is_empty() => Ok(Some(0)),
            Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| {
                invalid(
                    name,
                    "'' cannot parse value as 'int': strconv.ParseInt: invalid syntax",
                )
            }),
            Some(Value::Bool(flag)) => Ok(Some(i64::from(*flag))),
            Some(value @ (Value::Array(_) | Value::Object(_))) => {
                Err(unconvertible(name, "int", value))
            }
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::Number(number)) => Ok(Some(number.as_i64() != Some(0))),
            Some(Value::String(text)) if text.is_empty() => Ok(Some(false)),
            Some(Value::String(text)) => parse_flag(text).map(Some).ok_or_else(|| {
                invalid(
                    name,
                    "'' cannot parse value as 'bool': strconv.ParseBool: invalid syntax",
                )
            }),
            Some(value @ (Value::Array(_) | Value::Object(_))) => {
                Err(unconvertible(name, "bool", value))
            }
        }
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => duration_of(value)
                .map(Some)
                .map_err(|why| invalid(name, &why)),
        }
    }

    /// Commas in a text part a list as well.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let items: Vec<String> = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) => items.iter().map(plain).collect(),
            Some(Value::String(text)) => text.split(',').map(str::to_owned).collect(),
            Some(value) => vec![plain(value)],
        };
        let items = items.into_iter().map(|item| item.trim().to_owned());
        Ok(Some(items.filter(|item| !item.is_empty()).collect()))
    }

    pub(super) fn map(&self, name: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map.clone())),
            Some(value) => Err(unconvertible(name, "map[string]interface {}", value)),
        }
    }

    /// The warning about fields that the endpoint does not know.
    pub(super) fn ignored(&self, known: &[&str]) -> Option<String> {
        let strange: Vec<&str> = self
            .0
            .keys()
            .map(String::as_str)
            .filter(|name| !known.contains(name))
            .collect();
        (!strange.is_empty()).then(|| {
            format!(
                "Endpoint ignored these unrecognized parameters: [{}]",
                strange.join(" ")
            )
        })
    }
}

/// What Go's `strconv.ParseBool` takes.
pub(super) fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Seconds as a number or text, or a Go duration, with `d` for days.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("time: invalid duration {text:?}");
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(Duration::ZERO);
    }
    if let Ok(seconds) = trimmed.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = 0.0;
    let mut rest = trimmed;
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = next;
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

fn duration_of(value: &Value) -> Result<Duration, String> {
    match value {
        Value::Number(number) => number
            .as_u64()
            .map(Duration::from_secs)
            .ok_or_else(|| format!("cannot provide negative value '{number}'")),
        Value::String(text) => parse_duration(text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err("could not parse duration from input".to_owned())
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn unconvertible(name: &str, wanted: &str, value: &Value) -> Refusal {
    let kind = match value {
        Value::Object(_) => "map[string]interface {}",
        Value::Array(_) => "[]interface {}",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "json.Number",
        Value::Null => "nil",
    };
    invalid(
        name,
        &format!("'' expected type '{wanted}', got unconvertible type '{kind}'"),
    )
}

fn invalid(name: &str, why: &str) -> Refusal {
    Refusal::bad(format!(
        "Field validation failed: error converting input for field {name:?}: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: &Value) -> Fields {
        Fields(value.as_object().unwrap().clone())
    }

    #[test]
    fn fields_are_read_weakly() {
        let fields = fields(&json!({
            "n": "7", "f": "true", "d": "1m30s", "s": 5, "l": "a, b,", "m": {"x": 1}, "day": "2d", "bad": "x"
        }));
        assert_eq!(fields.number("n").ok(), Some(Some(7)));
        assert_eq!(fields.flag("f").ok(), Some(Some(true)));
        assert_eq!(
            fields.duration("d").ok(),
            Some(Some(Duration::from_secs(90)))
        );
        assert_eq!(
            fields.duration("s").ok(),
            Some(Some(Duration::from_secs(5)))
        );
        assert_eq!(
            fields.duration("day").ok(),
            Some(Some(Duration::from_secs(172_800)))
        );
        assert_eq!(
            fields.list("l").ok(),
            Some(Some(vec!["a".into(), "b".into()]))
        );
        assert_eq!(fields.text("s").ok().as_deref(), Some("5"));
        assert_eq!(fields.text("none").ok().as_deref(), Some(""));
        assert!(fields.duration("bad").is_err() && fields.text("m").is_err());
        assert_eq!(
            fields.ignored(&["n", "f", "d", "s", "l", "m"]).as_deref(),
            Some("Endpoint ignored these unrecognized parameters: [bad day]")
        );
    }
}
