//! Plays a scenario on a stand and hands back what was answered.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::client::Reply;
use super::kinds;
use super::stand::{Stand, Way};
use super::table::{Caller, Memory, Scenario, Step};

/// One step's answers; `None` for a step that says nothing on this way.
pub(super) type Answers = Option<Answered>;

pub(super) struct Answered {
    pub(super) first: Reply,
    /// Through Leasehold, of a step that is asked twice.
    pub(super) again: Option<Reply>,
}

/// # Errors
/// Where the answers are not what the table says; when one did not come at all, the rest is not played.
pub(super) async fn play(
    stand: &Stand,
    scenario: &Scenario,
    strict: bool,
) -> Result<Vec<Answers>, Vec<String>> {
    let mut wrong = Vec::new();
    let mut known = stand.known.clone();
    let mut answers = Vec::new();
    for (number, step) in scenario.steps.iter().enumerate() {
        if step.caller == Caller::Nobody && stand.way == Way::Auto {
            answers.push(None);
            continue;
        }
        let told = |why: String| format!("step {} ({}): {why}", number + 1, step.call());
        let first = send(stand, step, &known).await;
        let first = first.map_err(|why| vec![told(why)])?;
        if strict && first.status.as_u16() != step.status {
            let body = String::from_utf8_lossy(&first.body);
            wrong.push(told(format!(
                "{}, the table says {}: {body}",
                first.status, step.status
            )));
        }
        let (first, again) = match step.memory {
            Memory::Second if stand.way != Way::Direct => {
                let both = until_kept(stand, step, &known, first).await;
                let (first, again) = both.map_err(|why| vec![told(why)])?;
                (first, Some(again))
            }
            Memory::Never | Memory::First | Memory::Second => (first, None),
        };
        for (name, place) in &step.takes {
            let json = first.json().unwrap_or_default();
            match json.pointer(place).and_then(|found| found.as_str()) {
                Some(text) => {
                    known.insert((*name).to_owned(), text.to_owned());
                }
                None if strict => wrong.push(told(format!("no text at {place}: {json}"))),
                None => {}
            }
        }
        answers.push(Some(Answered {
            first: named(first, &known),
            again: again.map(|again| named(again, &known)),
        }));
    }
    if wrong.is_empty() {
        Ok(answers)
    } else {
        Err(wrong)
    }
}

/// The answer that was kept, and the one that came from memory after it. While it is not known what is mounted
/// there, nothing is kept but leases; that is asked beside the first request and may come after its answer.
async fn until_kept(
    stand: &Stand,
    step: &Step,
    known: &BTreeMap<String, String>,
    mut first: Reply,
) -> Result<(Reply, Reply), String> {
    for _ in 0..TRIES {
        let again = send(stand, step, known).await?;
        let lease_id = first.json().map(|json| json["lease_id"].clone());
        let is_lease = lease_id.is_some_and(|id| id.as_str().is_some_and(|id| !id.is_empty()));
        if again.header("x-cache") == Some("HIT") || is_lease {
            return Ok((first, again));
        }
        first = again;
    }
    let again = send(stand, step, known).await?;
    Ok((first, again))
}

async fn send(
    stand: &Stand,
    step: &Step,
    known: &BTreeMap<String, String>,
) -> Result<Reply, String> {
    let target = filled(step.target, known);
    let target = if target.starts_with('/') {
        target
    } else {
        format!("/v1/{target}")
    };
    let mut headers: Vec<(String, String)> = step
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), filled(value, known)))
        .collect();
    let mut bring = |token: &str| headers.push(("x-vault-token".to_owned(), token.to_owned()));
    match step.caller {
        Caller::Usual => stand.token.iter().for_each(|token| bring(token)),
        Caller::Root => bring(&stand.root),
        Caller::Anyone | Caller::Nobody => {}
        Caller::Token(token) => bring(&filled(token, known)),
        Caller::Bearer(token) => headers.push((
            "authorization".to_owned(),
            format!("Bearer {}", filled(token, known)),
        )),
    }
    let body = filled(step.body, known);
    stand
        .client
        .send(step.method, &target, &headers, &body)
        .await
}

/// With values in place of names.
fn filled(text: &str, known: &BTreeMap<String, String>) -> String {
    let fill = |text: String, (name, value): (&String, &String)| {
        text.replace(&format!("{{{name}}}"), value)
    };
    known.iter().fold(text.to_owned(), fill)
}

/// With names in place of values, so that what two runs were told can be compared.
fn named(mut reply: Reply, known: &BTreeMap<String, String>) -> Reply {
    let Ok(mut text) = String::from_utf8(reply.body.to_vec()) else {
        return reply;
    };
    let mut known: Vec<_> = known.iter().collect();
    known.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    for (name, value) in known {
        // Whoever shares an answer has another lease than who does not.
        let is_lease = kinds::masked("lease_id", value).ends_with("/~");
        if value.len() >= LONG_ENOUGH_TO_BE_ITSELF && !is_lease {
            text = text.replace(value, &format!("{{{name}}}"));
        }
    }
    reply.body = Bytes::from(text);
    reply
}

const TRIES: usize = 20;
const LONG_ENOUGH_TO_BE_ITSELF: usize = 8;
