//! `sys/`: which endpoint a path means.

use tokio::time::Instant;

use super::{leases, mounts, namespaces, policies, tools, wrapping};
use crate::dev::answer::{Answer, Outcome, Refusal};
use crate::dev::call::{Call, Operation};
use crate::dev::state::State;

pub(super) fn handle(state: &mut State, call: &Call, rest: &str, now: Instant) -> Outcome {
    let operation = call.operation;
    let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
    let bare = !rest.contains('/');
    match first {
        "mounts" | "auth" if bare || !below.is_empty() => {
            mounts::handle(state, call, below, first == "auth")
        }
        "internal" => match below.strip_prefix("ui/mounts") {
            Some("") if operation == Operation::Read => mounts::ui_list(state, call),
            Some(path) if operation == Operation::Read && path.len() > 1 => {
                mounts::ui_one(state, call, path)
            }
            Some(_) => Err(Refusal::unsupported_operation()),
            None => Err(Refusal::unsupported_path()),
        },
        "policies" => match below.strip_prefix("acl") {
            Some(name) => policies::handle(state, call, name.trim_start_matches('/'), false, now),
            None => Err(Refusal::unsupported_path()),
        },
        "policy" => policies::handle(state, call, below, true, now),
        "capabilities" | "capabilities-self" | "capabilities-accessor" if bare => {
            if operation.is_update() {
                return policies::capabilities(state, call, first);
            }
            Err(Refusal::unsupported_operation())
        }
        "leases" => leases::handle(state, call, below, now),
        "wrapping" => wrapping::handle(state, call, below),
        "namespaces" if below.is_empty() && !operation.is_listing() => {
            Err(Refusal::unsupported_operation())
        }
        "namespaces" => namespaces::handle(state, call, below, now),
        "tools" => tools::handle(call, below),
        "storage" if matches!(below, "raft/snapshot" | "raft/snapshot-force") => match operation {
            Operation::Read if below == "raft/snapshot" => Ok(Answer::Download(0)),
            Operation::Update | Operation::Create => Ok(Answer::Nothing),
            _ => Err(Refusal::unsupported_operation()),
        },
        _ => Err(Refusal::unsupported_path()),
    }
}
