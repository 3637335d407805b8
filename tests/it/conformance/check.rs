//! The comparisons: through Leasehold with directly, and what is answered with what was recorded.

use std::env;

use super::recording::Recording;
use super::run::{Answered, Answers, play};
use super::same;
use super::server::{Program, Server};
use super::shape;
use super::stand::{Stand, Way};
use super::table::{Memory, Scenario, Step};
use crate::support::say;

const WAYS: [Way; 3] = [Way::Direct, Way::Own, Way::Auto];

/// Plays one scenario on fresh development Vaults; panics with all that differs.
pub(super) async fn development_vault(scenario: &Scenario) {
    let mut played = Vec::new();
    for way in WAYS {
        let stand = Stand::new(Server::development().await, way).await;
        let answers = play(&stand, scenario, true).await;
        played.push(answers.unwrap_or_else(|why| panic!("{way:?}:\n{}", why.join("\n"))));
        stand.stop().await;
    }
    let mut found = between_ways(scenario, &played);
    if !asks_to_record() {
        match Recording::read(scenario.name) {
            Ok(recording) => found.extend(from_recording(scenario, &played[0], &recording)),
            Err(why) => found.push(why),
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Plays all scenarios on a real server for each way; panics with all that differs.
pub(super) async fn real_server(scenarios: &[Scenario]) {
    let Some(program) = Program::find() else {
        assert!(!asks_to_record(), "no bao or vault on PATH to record from");
        say("conformance: no bao or vault on PATH, the recordings stand in; development Vault");
        return;
    };
    // A server of Vault's knows other calls than OpenBao's, and the tables are OpenBao's.
    let strict = program.is_openbao();
    let (direct, own, auto) = tokio::join!(
        play_all(&program, Way::Direct, scenarios, strict),
        play_all(&program, Way::Own, scenarios, strict),
        play_all(&program, Way::Auto, scenarios, strict),
    );
    let mut found = Vec::new();
    let mut counts = [0, 0];
    for (((scenario, direct), own), auto) in scenarios.iter().zip(direct).zip(own).zip(auto) {
        let answers = [direct, own, auto];
        for (count, answers) in counts.iter_mut().zip(&answers[1..]) {
            *count += answered(answers);
        }
        found.extend(between_ways(scenario, &answers));
        if asks_to_record() {
            let recording = Recording {
                server: program.version.clone(),
                steps: shapes(scenario, &answers[0]),
            };
            recording.write(scenario.name);
        } else if let Ok(recording) = Recording::read(scenario.name)
            && recording.server == program.version
        {
            found.extend(from_recording(scenario, &answers[0], &recording));
        }
    }
    say(&summary(&program, counts));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

async fn play_all(
    program: &Program,
    way: Way,
    scenarios: &[Scenario],
    strict: bool,
) -> Vec<Vec<Answers>> {
    let stand = Stand::new(Server::real(program).await, way).await;
    let (mut played, mut wrong) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        match play(&stand, scenario, strict).await {
            Ok(answers) => played.push(answers),
            Err(whys) => wrong.extend(whys.iter().map(|why| format!("{}, {why}", scenario.name))),
        }
    }
    stand.stop().await;
    assert!(wrong.is_empty(), "{way:?}:\n{}", wrong.join("\n"));
    played
}

/// What differs between the first way, the direct one, and each other.
fn between_ways(scenario: &Scenario, played: &[Vec<Answers>]) -> Vec<String> {
    let mut found = Vec::new();
    let Some((direct, others)) = played.split_first() else {
        return found;
    };
    for (way, answers) in WAYS[1..].iter().zip(others) {
        let pairs = scenario.steps.iter().zip(direct).zip(answers);
        for (number, ((step, direct), through)) in pairs.enumerate() {
            let (Some(direct), Some(through)) = (direct, through) else {
                continue;
            };
            for why in between(step, *way, direct, through) {
                let (name, call) = (scenario.name, step.call());
                let number = number + 1;
                found.push(format!(
                    "{name}, {number} ({call}), {way:?} and direct: {why}"
                ));
            }
        }
    }
    found
}

fn between(step: &Step, way: Way, direct: &Answered, through: &Answered) -> Vec<String> {
    if step.shows_token && way == Way::Auto {
        let blank = same::without_token(&direct.first);
        return same::differences(&blank, &through.first, !step.unordered);
    }
    let mut found = same::differences(&direct.first, &through.first, !step.unordered);
    // What a server of another make refuses is not kept.
    let is_kept = direct.first.status.is_success();
    let is_hit = through.first.header("x-cache") == Some("HIT");
    if is_hit != (is_kept && step.memory == Memory::First) {
        let said = through.first.header("x-cache");
        found.push(format!("x-cache of the first answer: {said:?}"));
    }
    if let Some(again) = through.again.as_ref().filter(|_| is_kept) {
        found.extend(same::differences(&direct.first, again, !step.unordered));
        found.extend(same::replayed(&through.first, again));
    }
    found
}

fn from_recording(scenario: &Scenario, direct: &[Answers], recording: &Recording) -> Vec<String> {
    let mut found = Vec::new();
    let now = shapes(scenario, direct);
    for (number, (recorded, now)) in recording.steps.iter().zip(&now).enumerate() {
        for why in shape::differences(recorded, now) {
            let (name, call) = (scenario.name, &now["call"]);
            found.push(format!("{name}, {} ({call}): {why}", number + 1));
        }
    }
    if recording.steps.len() != now.len() {
        found.push(format!(
            "{}: {} steps were recorded, there are {}; record anew",
            scenario.name,
            recording.steps.len(),
            now.len()
        ));
    }
    found
}

fn shapes(scenario: &Scenario, direct: &[Answers]) -> Vec<serde_json::Value> {
    let answers = scenario.steps.iter().zip(direct.iter().flatten());
    answers
        .map(|(step, answered)| shape::of(step, &answered.first))
        .collect()
}

fn answered(answers: &[Answers]) -> usize {
    let each = answers.iter().flatten();
    each.map(|answered| 1 + usize::from(answered.again.is_some()))
        .sum()
}

fn summary(program: &Program, [own, auto]: [usize; 2]) -> String {
    let mut line = format!(
        "conformance: {program}; development Vault ({own} answers to callers' own tokens and {auto} to \
         Leasehold's compared with the direct ones of each"
    );
    if asks_to_record() {
        line.push_str("; recorded");
    }
    line + ")"
}

fn asks_to_record() -> bool {
    env::var_os("LEASEHOLD_RECORD").is_some_and(|value| !value.is_empty())
}
