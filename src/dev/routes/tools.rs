//! `sys/tools/random`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::dev::answer::{Answer, Outcome, Refusal};
use crate::dev::call::Call;
use crate::dev::engine::segments;
use crate::dev::random;

pub(super) fn handle(call: &Call, below: &str) -> Outcome {
    let length = match segments(below).as_slice() {
        ["random"] => call.fields.number("bytes")?.unwrap_or(32),
        ["random", length] | ["random", "platform" | "all", length] => {
            length.parse().map_err(|_| {
                Refusal::bad(format!(
                    "error parsing url-set byte count: strconv.Atoi: parsing {length:?}: invalid syntax"
                ))
            })?
        }
        _ => return Err(Refusal::unsupported_path()),
    };
    if !call.operation.is_update() {
        return Err(Refusal::unsupported_operation());
    }
    let length = match usize::try_from(length) {
        Ok(0) | Err(_) => return Err(Refusal::bad("'bytes' cannot be less than 1")),
        Ok(length) if length > MOST => {
            return Err(Refusal::bad(format!("'bytes' should be less than {MOST}")));
        }
        Ok(length) => length,
    };
    let random_bytes = match call.fields.text("format")?.as_str() {
        "" | "base64" => STANDARD.encode(random::bytes(length)),
        "hex" => random::hex(length),
        other => {
            return Err(Refusal::bad(format!(
                "unsupported encoding format {other:?}; must be \"hex\" or \"base64\""
            )));
        }
    };
    Ok(Answer::json(json!({ "random_bytes": random_bytes })))
}

const MOST: usize = 128 * 1024;
