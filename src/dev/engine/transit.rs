//! Transit: keys with versions, and texts that only this server can turn back.
//!
//! This is NOT encryption. The keyed stream below is reversible and tells apart what this server made from
//! what it did not, which is all that a client of a development server can see of it.

use std::collections::BTreeMap;
use std::hash::Hasher;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::Asked;
use crate::dev::answer::{Answer, Outcome, Refusal, Reply};
use crate::dev::call::Operation;
use crate::dev::fields::Fields;
use crate::dev::random;
use crate::dev::state::tree::object;

#[derive(Default)]
pub(crate) struct Transit {
    keys: BTreeMap<String, Key>,
}

struct Key {
    /// From version 1; each with the second in which it was made.
    versions: Vec<([u8; 16], u64)>,
    deletion_allowed: bool,
    min_decryption_version: u64,
}

impl Transit {
    pub(crate) fn add_key(&mut self, name: &str, made_at: u64) {
        self.keys.entry(name.to_owned()).or_insert_with(|| Key {
            versions: vec![(fresh(), made_at)],
            deletion_allowed: false,
            min_decryption_version: 1,
        });
    }

    pub(super) fn has(&self, rest: &str) -> Option<bool> {
        let name = rest.strip_prefix("encrypt/")?;
        Some(self.keys.contains_key(name))
    }

    pub(super) fn handle(&mut self, asked: &Asked<'_>) -> Outcome {
        let operation = asked.call.operation;
        let made_at = asked.clock.seconds(asked.now);
        let fields = &asked.call.fields;
        if let [verb @ ("encrypt" | "decrypt" | "rewrap"), name] =
            super::segments(asked.rest).as_slice()
            && asked.call.operation.is_update()
            && let Some(batch) = fields.0.get("batch_input")
        {
            if *verb == "encrypt" {
                self.add_key(name, made_at);
            }
            return batch_results(verb, self.key(name)?, batch);
        }
        match (super::segments(asked.rest).as_slice(), operation) {
            (["keys", ""], Operation::List) => {
                Ok(Answer::keys(&self.keys.keys().cloned().collect::<Vec<_>>()))
            }
            (["keys", name], Operation::Read) => {
                let key = self.keys.get(*name);
                Ok(key.map_or(Answer::Nothing, |key| key.info(name)))
            }
            (["keys", name], Operation::Update | Operation::Create) => {
                self.add_key(name, made_at);
                Ok(self
                    .keys
                    .get(*name)
                    .map_or(Answer::Nothing, |key| key.info(name)))
            }
            (["keys", name], Operation::Delete) => self.delete(name),
            (["keys", name, "rotate"], Operation::Update | Operation::Create) => {
                let key = self.key_mut(name)?;
                key.versions.push((fresh(), made_at));
                Ok(key.info(name))
            }
            (["keys", name, "config"], Operation::Update | Operation::Create) => {
                let key = self.key_mut(name)?;
                if let Some(allowed) = fields.flag("deletion_allowed")? {
                    key.deletion_allowed = allowed;
                }
                if let Some(least) = fields.number("min_decryption_version")? {
                    key.min_decryption_version = u64::try_from(least).unwrap_or(1).max(1);
                }
                Ok(key.info(name))
            }
            (["encrypt", name], Operation::Update | Operation::Create) => {
                let plaintext = plaintext(fields)?;
                self.add_key(name, made_at);
                Ok(sealed(self.key(name)?, &plaintext, Map::new()))
            }
            (["decrypt", name], Operation::Update | Operation::Create) => {
                let plaintext = self.key(name)?.open(&fields.text("ciphertext")?)?;
                Ok(Answer::json(
                    json!({ "plaintext": STANDARD.encode(plaintext) }),
                ))
            }
            (["rewrap", name], Operation::Update | Operation::Create) => {
                let key = self.key(name)?;
                let plaintext = key.open(&fields.text("ciphertext")?)?;
                Ok(sealed(key, &plaintext, Map::new()))
            }
            (
                ["datakey", form @ ("plaintext" | "wrapped"), name],
                Operation::Update | Operation::Create,
            ) => {
                let secret = random::bytes(32);
                let mut shown = Map::new();
                if *form == "plaintext" {
                    shown.insert("plaintext".to_owned(), json!(STANDARD.encode(&secret)));
                }
                Ok(sealed(self.key(name)?, &secret, shown))
            }
            (
                ["keys", ..]
                | ["encrypt" | "decrypt" | "rewrap", _]
                | ["datakey", "plaintext" | "wrapped", _],
                _,
            ) => Err(Refusal::unsupported_operation()),
            _ => Err(Refusal::unsupported_path()),
        }
    }

    fn delete(&mut self, name: &str) -> Outcome {
        let why = match self.keys.get(name) {
            Some(key) if key.deletion_allowed => {
                self.keys.remove(name);
                return Ok(Answer::Nothing);
            }
            Some(_) => "deletion is not allowed for this key",
            None => "could not delete key; not found",
        };
        Err(Refusal::bad(format!("error deleting policy {name}: {why}")))
    }

    fn key(&self, name: &str) -> Result<&Key, Refusal> {
        self.keys
            .get(name)
            .ok_or_else(|| Refusal::bad("encryption key not found"))
    }

    fn key_mut(&mut self, name: &str) -> Result<&mut Key, Refusal> {
        self.keys
            .get_mut(name)
            .ok_or_else(|| Refusal::bad("key not found"))
    }
}

impl Key {
    fn latest(&self) -> usize {
        self.versions.len()
    }

    /// Nonce, hidden text, tag.
    fn seal(&self, plaintext: &[u8]) -> String {
        let key = self.versions.last().map_or([0; 16], |(key, _)| *key);
        let mut sealed = random::bytes(NONCE);
        sealed.extend(hidden(&key, &sealed, plaintext));
        sealed.extend(tag(&key, &sealed));
        format!("vault:v{}:{}", self.latest(), STANDARD.encode(sealed))
    }

    fn sealed(&self, plaintext: &[u8]) -> Map<String, Value> {
        object([
            ("ciphertext", json!(self.seal(plaintext))),
            ("key_version", json!(self.latest())),
        ])
    }

    fn open(&self, ciphertext: &str) -> Result<Vec<u8>, Refusal> {
        if ciphertext.is_empty() {
            return Err(Refusal::bad("missing ciphertext to decrypt"));
        }
        let Some((version, text)) = ciphertext
            .strip_prefix("vault:v")
            .and_then(|rest| rest.split_once(':'))
        else {
            return Err(Refusal::bad("invalid ciphertext: no prefix"));
        };
        let number: u64 = version
            .parse()
            .map_err(|_| Refusal::bad("invalid ciphertext: version number could not be decoded"))?;
        if number < self.min_decryption_version {
            return Err(Refusal::bad(
                "ciphertext or signature version is disallowed by policy (too old)",
            ));
        }
        let at = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let Some((key, _)) = at.and_then(|at| self.versions.get(at)) else {
            return Err(Refusal::bad("invalid ciphertext: version is too new"));
        };
        let sealed = STANDARD
            .decode(text)
            .map_err(|_| Refusal::bad("invalid ciphertext: could not decode base64"))?;
        let Some((body, found)) = sealed.split_last_chunk::<TAG>() else {
            return Err(Refusal::bad("invalid ciphertext length"));
        };
        let Some((nonce, text)) = body.split_at_checked(NONCE) else {
            return Err(Refusal::bad("invalid ciphertext length"));
        };
        if tag(key, body) != *found {
            return Err(Refusal::bad("cipher: message authentication failed"));
        }
        Ok(hidden(key, nonce, text))
    }

    fn info(&self, name: &str) -> Answer {
        let versions: Map<String, Value> = (1_usize..)
            .zip(&self.versions)
            .map(|(number, (_, made_at))| (number.to_string(), json!(made_at)))
            .collect();
        let mut info = object([
            ("name", json!(name)),
            ("type", json!("aes256-gcm96")),
            ("keys", Value::Object(versions)),
            ("latest_version", json!(self.latest())),
            ("min_available_version", json!(0)),
            ("min_decryption_version", json!(self.min_decryption_version)),
            ("min_encryption_version", json!(0)),
            ("auto_rotate_period", json!(0)),
            ("deletion_allowed", json!(self.deletion_allowed)),
        ]);
        for (flag, value) in [
            ("allow_plaintext_backup", false),
            ("derived", false),
            ("exportable", false),
            ("imported_key", false),
            ("soft_deleted", false),
            ("supports_decryption", true),
            ("supports_derivation", true),
            ("supports_encryption", true),
            ("supports_signing", false),
        ] {
            info.insert(flag.to_owned(), json!(value));
        }
        Answer::data(info)
    }
}

/// Each item by itself. One that fails makes the answer a 400, but not that of a rewrapping.
fn batch_results(verb: &str, key: &Key, batch: &Value) -> Outcome {
    let unread = |why: String| Refusal::internal(&format!("failed to parse batch input: {why}"));
    let Some(items) = batch.as_array() else {
        return Err(unread("source data must be an array or slice".to_owned()));
    };
    if items.is_empty() {
        return Err(Refusal::bad("missing batch input to process"));
    }
    let mut results = Vec::new();
    let mut failed = false;
    for (number, item) in items.iter().enumerate() {
        let Some(item) = item.as_object() else {
            return Err(unread(format!("[{number}] expected a map")));
        };
        let field = if verb == "encrypt" {
            "plaintext"
        } else {
            "ciphertext"
        };
        if verb != "rewrap" && !item.contains_key(field) {
            return Err(unread(format!(
                "'[{number}].{field}' missing {field} to {verb}"
            )));
        }
        let fields = Fields(item.clone());
        let opened = match verb {
            "encrypt" => plaintext(&fields),
            _ => fields.text(field).and_then(|text| key.open(&text)),
        };
        let result = opened.map(|text| match verb {
            "decrypt" => object([("plaintext", json!(STANDARD.encode(text)))]),
            _ => key.sealed(&text),
        });
        let mut result = result.unwrap_or_else(|refusal| {
            failed = true;
            let mut result = object([("error", json!(refusal.text))]);
            if verb == "decrypt" {
                result.insert("plaintext".to_owned(), json!(""));
            }
            result
        });
        result.insert("reference".to_owned(), json!(fields.text("reference")?));
        results.push(Value::Object(result));
    }
    let data = object([("batch_results", Value::Array(results))]);
    if !failed || verb == "rewrap" {
        return Ok(Answer::data(data));
    }
    let reply = Reply {
        data: Some(data),
        ..Reply::default()
    };
    Ok(Answer::Coded(StatusCode::BAD_REQUEST, Box::new(reply)))
}

fn sealed(key: &Key, plaintext: &[u8], mut shown: Map<String, Value>) -> Answer {
    shown.extend(key.sealed(plaintext));
    Answer::data(shown)
}

fn plaintext(fields: &Fields) -> Result<Vec<u8>, Refusal> {
    if !fields.has("plaintext") {
        return Err(Refusal::bad("missing plaintext to encrypt"));
    }
    let encoded = fields.text("plaintext")?;
    STANDARD.decode(encoded).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _)
            | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(at) => at,
            base64::DecodeError::InvalidPadding => 0,
        };
        Refusal::bad(format!("illegal base64 data at input byte {at}"))
    })
}

/// Its own inverse.
fn hidden(key: &[u8; 16], nonce: &[u8], text: &[u8]) -> Vec<u8> {
    let blocks = text.chunks(TAG).zip(0_u64..);
    let mut hidden = Vec::with_capacity(text.len());
    for (block, number) in blocks {
        let mut hasher = SipHasher13::new_with_key(key);
        hasher.write(nonce);
        hasher.write_u64(number);
        let stream = hasher.finish128().as_bytes();
        hidden.extend(block.iter().zip(stream).map(|(byte, key)| byte ^ key));
    }
    hidden
}

fn tag(key: &[u8; 16], body: &[u8]) -> [u8; TAG] {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(b"tag");
    hasher.write(body);
    hasher.finish128().as_bytes()
}

fn fresh() -> [u8; 16] {
    random::bytes(16).try_into().unwrap_or([0; 16])
}

const NONCE: usize = 12;
const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_its_own_version_only() {
        let mut key = Key {
            versions: vec![(fresh(), 0)],
            deletion_allowed: false,
            min_decryption_version: 1,
        };
        let text = key.seal(b"hello, this is longer than one block");
        key.versions.push((fresh(), 0));
        assert_eq!(
            key.open(&text).unwrap(),
            b"hello, this is longer than one block"
        );
        let newer = text.replacen(":v1:", ":v2:", 1);
        assert_eq!(
            key.open(&newer).unwrap_err().text,
            "cipher: message authentication failed"
        );
        for (text, why) in [
            ("x", "invalid ciphertext: no prefix"),
            ("vault:v1:AAAA", "invalid ciphertext length"),
            ("vault:v9:AAAA", "invalid ciphertext: version is too new"),
        ] {
            assert_eq!(key.open(text).unwrap_err().text, why);
        }
    }
}
