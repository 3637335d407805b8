//! KV version 2: a secret's values.

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::Asked;
use super::kv2::{Kv2, Secret, check_cas};
use crate::dev::answer::{Answer, Outcome, Refusal, Reply};
use crate::dev::fields::Fields;
use crate::dev::state::tree::object;

impl Kv2 {
    pub(super) fn read(&self, key: &str, asked: &Asked<'_>) -> Outcome {
        let warning = asked.call.fields.ignored(FIELDS);
        let found = self.version(key, "data", asked, Value::Object)?;
        Ok(found.warn(warning))
    }

    /// The value's keys without its values, `depth` levels of them.
    pub(super) fn subkeys(&self, key: &str, asked: &Asked<'_>) -> Outcome {
        let depth = asked.call.fields.number("depth")?.unwrap_or(0);
        self.version(key, "subkeys", asked, |data| {
            Value::Object(bare(data, depth))
        })
    }

    pub(super) fn write(&mut self, key: &str, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        if key.is_empty() {
            return Err(Refusal::bad("missing path"));
        }
        let data = data_field(fields)?;
        let known = self.secrets.get(key);
        let required = known.is_some_and(|secret| secret.cas_required);
        check_cas(
            fields,
            required || self.config.cas_required,
            known.map_or(0, |secret| secret.current),
        )?;
        let warning = fields.ignored(FIELDS);
        Ok(self.store(key, data, asked).warn(warning))
    }

    pub(super) fn patch(&mut self, key: &str, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        let patch = data_field(fields)?;
        let Some(secret) = self.secrets.get(key) else {
            return Ok(Answer::Bare(StatusCode::NOT_FOUND));
        };
        check_cas(
            fields,
            secret.cas_required || self.config.cas_required,
            secret.current,
        )?;
        let Some(version) = secret.versions.get(&secret.current) else {
            return Ok(Answer::Bare(StatusCode::NOT_FOUND));
        };
        if version.is_gone(asked.now) {
            let shown = secret.describe(secret.current, version, asked.clock);
            return Ok(missing(shown));
        }
        let mut data = Value::Object(version.data.clone());
        merge(&mut data, Value::Object(patch));
        let Value::Object(data) = data else {
            return Err(Refusal::bad("no data provided"));
        };
        Ok(self.store(key, data, asked))
    }

    pub(super) fn delete_current(&mut self, key: &str, now: Instant) {
        if let Some(secret) = self.secrets.get_mut(key)
            && let Some(version) = secret.versions.get_mut(&secret.current)
            && !version.is_gone(now)
        {
            version.deletion = Some(now);
        }
    }

    /// `delete`, `undelete` and `destroy` of numbered versions.
    pub(super) fn change_versions(&mut self, verb: &str, key: &str, asked: &Asked<'_>) -> Outcome {
        let listed = asked.call.fields.list("versions")?.unwrap_or_default();
        let numbers = listed.iter().map(|number| number.parse::<u64>());
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().map_err(|_| {
            Refusal::bad("Field validation failed: error converting input for field \"versions\"")
        })?;
        if numbers.is_empty() {
            return Err(Refusal::bad(if verb == "destroy" {
                "no version number provided"
            } else {
                "No version number provided"
            }));
        }
        if let Some(secret) = self.secrets.get_mut(key) {
            for number in numbers {
                let version = secret.versions.get_mut(&number);
                let Some(version) = version.filter(|version| !version.destroyed) else {
                    continue;
                };
                match verb {
                    "destroy" => {
                        version.destroyed = true;
                        version.data = Map::new();
                    }
                    "undelete" => version.deletion = None,
                    _ if !version.is_gone(asked.now) => version.deletion = Some(asked.now),
                    _ => {}
                }
            }
        }
        Ok(Answer::Nothing)
    }

    fn version(
        &self,
        key: &str,
        name: &str,
        asked: &Asked<'_>,
        show: impl Fn(Map<String, Value>) -> Value,
    ) -> Outcome {
        let wished = asked.call.fields.number("version")?.unwrap_or(0);
        let Some(secret) = self.secrets.get(key) else {
            return Ok(Answer::Nothing);
        };
        let number = match u64::try_from(wished) {
            Ok(number) if number > 0 => number,
            _ => secret.current,
        };
        let Some(version) = secret.versions.get(&number) else {
            return Ok(Answer::Nothing);
        };
        let metadata = secret.describe(number, version, asked.clock);
        let gone = version.is_gone(asked.now);
        let shown = if gone {
            Value::Null
        } else {
            show(version.data.clone())
        };
        let data = object([(name, shown), ("metadata", Value::Object(metadata))]);
        Ok(if gone {
            missing(data)
        } else {
            Answer::data(data)
        })
    }

    fn store(&mut self, key: &str, data: Map<String, Value>, asked: &Asked<'_>) -> Answer {
        let secret = self
            .secrets
            .entry(key.to_owned())
            .or_insert_with(|| Secret::new(asked.now));
        secret.add(as_stored(data), &self.config, asked.now);
        let shown = secret
            .versions
            .get(&secret.current)
            .map(|version| secret.describe(secret.current, version, asked.clock));
        Answer::data(shown.unwrap_or_default())
    }
}

fn data_field(fields: &Fields) -> Result<Map<String, Value>, Refusal> {
    let data = fields.map("data").map_err(|refusal| {
        // Here the server's existence check finds it first, with its own words.
        let text = refusal.text.trim_start_matches("Field validation failed: ");
        Refusal::bad(text)
    })?;
    data.ok_or_else(|| Refusal::bad("no data provided"))
}

/// A version that is deleted or destroyed: its metadata, under 404.
fn missing(data: Map<String, Value>) -> Answer {
    Answer::Coded(
        StatusCode::NOT_FOUND,
        Box::new(Reply {
            data: Some(data),
            ..Reply::default()
        }),
    )
}

/// The server keeps numbers as 64-bit floats: what does not fit comes back rounded.
fn as_stored(data: Map<String, Value>) -> Map<String, Value> {
    let stored = data.into_iter().map(|(name, value)| (name, rounded(value)));
    stored.collect()
}

fn rounded(value: Value) -> Value {
    match value {
        Value::Number(ref number) => {
            let float = number.as_f64().unwrap_or_default();
            let whole = float.fract() == 0.0 && float.abs() < EXPONENT_FROM;
            let text = format!("{float:.0}");
            match text.parse::<i64>() {
                Ok(integer) if whole => json!(integer),
                _ => match text.parse::<u64>() {
                    Ok(integer) if whole => json!(integer),
                    _ => json!(float),
                },
            }
        }
        Value::Array(items) => Value::Array(items.into_iter().map(rounded).collect()),
        Value::Object(map) => Value::Object(as_stored(map)),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

/// A JSON merge patch (RFC 7396): a null takes a field away.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(fields) = target {
        for (name, value) in patch {
            if value.is_null() {
                fields.remove(&name);
            } else {
                merge(fields.entry(name).or_insert(Value::Null), value);
            }
        }
    }
}

fn bare(data: Map<String, Value>, depth: i64) -> Map<String, Value> {
    let bare = data.into_iter().map(|(name, value)| {
        let deeper = match value {
            Value::Object(map) if depth != 1 && !map.is_empty() => bare(map, depth - 1),
            _ => return (name, Value::Null),
        };
        let value = Value::Object(deeper);
        (name, value)
    });
    bare.collect()
}

const FIELDS: &[&str] = &["data", "options", "path", "version"];
/// Go prints floats from here on with an exponent.
const EXPONENT_FROM: f64 = 1e21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_follows_its_rfc() {
        let mut value = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1]});
        merge(
            &mut value,
            json!({"a": null, "b": {"c": null, "x": {"y": null, "z": 1}}, "e": 5}),
        );
        assert_eq!(value, json!({"b": {"d": 3, "x": {"z": 1}}, "e": 5}));
    }

    #[test]
    fn numbers_are_kept_as_floats() {
        for (given, kept) in [
            (json!(3), "3"),
            (json!(1.5), "1.5"),
            (
                json!(12_345_678_901_234_567_890_u64),
                "12345678901234567168",
            ),
            (json!(-7.0), "-7"),
        ] {
            assert_eq!(rounded(given).to_string(), kept);
        }
    }

    #[test]
    fn subkeys_show_no_value() {
        let data = json!({"a": {"b": {"c": 1}}, "d": [1], "e": {}});
        let Value::Object(map) = data else {
            unreachable!()
        };
        assert_eq!(
            Value::Object(bare(map.clone(), 0)),
            json!({"a": {"b": {"c": null}}, "d": null, "e": null})
        );
        assert_eq!(
            Value::Object(bare(map, 1)),
            json!({"a": null, "d": null, "e": null})
        );
    }
}
