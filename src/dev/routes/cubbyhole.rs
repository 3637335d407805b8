//! The cubbyhole: each token's own drawer.

use serde_json::Map;
use serde_json::Value;

use crate::dev::answer::{Answer, Outcome, Refusal};
use crate::dev::call::{Call, Operation};
use crate::dev::state::State;
use crate::dev::state::tree;

pub(super) fn handle(state: &mut State, call: &Call, path: &str) -> Outcome {
    let Some(token) = state.tokens.get_mut(&call.token) else {
        return Err(Refusal::no_token());
    };
    let drawer = &mut token.cubbyhole;
    match call.operation {
        Operation::Read => Ok(drawer.get(path).map_or(Answer::Nothing, found)),
        Operation::Update | Operation::Create => {
            if path.is_empty() {
                return Err(Refusal::internal("missing path"));
            }
            if call.fields.0.is_empty() {
                return Err(Refusal::internal("missing data fields"));
            }
            drawer.insert(path.to_owned(), call.fields.0.clone());
            Ok(Answer::Nothing)
        }
        Operation::Delete => {
            drawer.remove(path);
            Ok(Answer::Nothing)
        }
        Operation::List => {
            let paths = drawer.keys().map(String::as_str);
            Ok(Answer::keys(&tree::children(paths, path)))
        }
        Operation::Scan => {
            let paths = drawer.keys().map(String::as_str);
            Ok(Answer::keys(&tree::descendants(paths, path)))
        }
        Operation::Patch | Operation::Head | Operation::Options => {
            Err(Refusal::unsupported_operation())
        }
    }
}

fn found(secret: &Map<String, Value>) -> Answer {
    Answer::data(secret.clone())
}
