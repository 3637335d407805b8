//! Raw bytes that a caller may send, from `tests/corpus/framing`, each with what becomes of it there.
//!
//! What is not one clear request is refused, in Vault's shape and as the last of its connection; and
//! however bytes are cut on their way, Vault sees each request once or not at all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use leasehold::dev::Options;

use super::client_of;
use crate::support::{Rig, measured, millis, seconds};
use crate::wire::Message;

/// One file of the corpus and its line in `expected.tsv`.
struct Input {
    name: String,
    bytes: Vec<u8>,
    /// The server waits for more in vain, so that only its deadlines end it.
    waits: bool,
    statuses: String,
    /// The fewest and the most requests that may reach Vault.
    upstream: (usize, usize),
}

#[tokio::test]
async fn every_input_has_its_verdict_and_reaches_vault_at_most_once() {
    let inputs = inputs();
    let (patient, hasty) = (rig(false, false).await, rig(true, false).await);
    let cached = rig(false, true).await;
    let (mut refused, mut twice, mut sent) = (0, 0, 0);
    let mut wrong = Vec::new();
    for input in &inputs {
        let is_refused = !input.statuses.split(',').all(|status| status < "400");
        refused += usize::from(is_refused);
        let mut trials = vec![(&hasty, false, vec![input.bytes.len()])];
        if !input.waits {
            trials = ways(&input.bytes)
                .into_iter()
                .flat_map(|way| [(&patient, false, way.clone()), (&patient, true, way)])
                .collect();
            trials.push((&cached, false, vec![input.bytes.len()]));
        }
        for (rig, behind_another, cuts) in trials {
            let seen = trial(rig, input, behind_another, &cuts).await;
            sent += 1;
            twice += seen.upstream.saturating_sub(input.upstream.1);
            let may_hit = std::ptr::eq(rig, &cached);
            if let Some(why) = seen.differs(input, may_hit) {
                let first = cuts.first();
                wrong.push(format!(
                    "{} (cut at {first:?}, behind another: {behind_another}): {why}",
                    input.name
                ));
            }
        }
    }
    measured(format_args!(
        "framing corpus: {} inputs, {refused} refused, sent in {sent} ways, reached Vault twice: {twice}",
        inputs.len()
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(twice, 0);
    assert!(inputs.len() >= 80);
}

/// What an input led to.
struct Seen {
    answers: Vec<Message>,
    upstream: usize,
    smuggled: usize,
}

impl Seen {
    fn differs(&self, input: &Input, may_hit: bool) -> Option<String> {
        let statuses: Vec<String> = self
            .answers
            .iter()
            .map(|answer| answer.status().to_string())
            .collect();
        let statuses = statuses.join(",");
        if statuses != input.statuses {
            return Some(format!("{statuses} in place of {}", input.statuses));
        }
        let (fewest, most) = input.upstream;
        let fewest = if may_hit { 0 } else { fewest };
        if self.upstream < fewest || self.upstream > most || self.smuggled > 0 {
            return Some(format!(
                "{} requests reached Vault, {} smuggled",
                self.upstream, self.smuggled
            ));
        }
        let refusal = self
            .answers
            .last()
            .filter(|answer| answer.status() >= 400)?;
        let json: serde_json::Value = serde_json::from_slice(&refusal.body).unwrap_or_default();
        let has_shape = json["errors"][0]
            .as_str()
            .is_some_and(|text| !text.is_empty())
            && refusal.header("content-type").as_deref() == Some("application/json")
            && refusal.header("connection").as_deref() == Some("close");
        (!has_shape).then(|| format!("not a refusal: {}", refusal.text()))
    }
}

async fn trial(rig: &Rig, input: &Input, behind_another: bool, cuts: &[usize]) -> Seen {
    let mut wire = client_of(&rig.leasehold).await;
    if behind_another {
        let answer = wire.ask(GOOD).await;
        assert_eq!(answer.status(), 200);
    }
    rig.vault.log().clear();
    let mut from = 0;
    for cut in cuts {
        // Who has been refused may find the connection closed.
        if !wire.try_send(&input.bytes[from..*cut]).await {
            break;
        }
        from = *cut;
        // Time for the server to read just this.
        tokio::task::yield_now().await;
    }
    let mut answers = Vec::new();
    // The stream has to end: a refusal is the last of its connection.
    while let Some(answer) = wire.try_answer().await {
        answers.push(answer);
    }
    let records = rig.vault.log().records();
    // What Leasehold asks on its own: it logs in and renews, and a cache looks at what is mounted.
    let of_callers = records.iter().filter(|record| {
        let agent = record.header("user-agent").unwrap_or_default();
        !agent.starts_with("leasehold/") && !record.target.contains("/v1/sys/internal/ui/mounts/")
    });
    Seen {
        answers,
        upstream: of_callers.count(),
        smuggled: records
            .iter()
            .filter(|record| record.target.contains("smuggled"))
            .count(),
    }
}

/// In one piece, byte by byte, and in two pieces cut at several places, the ends of lines among them.
fn ways(bytes: &[u8]) -> Vec<Vec<usize>> {
    let length = bytes.len();
    let mut ways = vec![vec![length]];
    if length < 2000 {
        ways.push((1..=length).collect());
    }
    let ends = bytes.iter().enumerate();
    let ends = ends
        .filter(|(_, byte)| matches!(byte, b'\r' | b'\n'))
        .map(|(at, _)| at);
    let cuts = ends.take(12).chain((1..length).step_by(length / 4 + 1));
    ways.extend(cuts.filter(|cut| *cut > 0).map(|cut| vec![cut, length]));
    ways
}

async fn rig(is_hasty: bool, is_cached: bool) -> Rig {
    Rig::with(Options::default(), |config| {
        if !is_cached {
            config.cache = None;
        }
        for listener in &mut config.listeners {
            listener.idle_timeout = seconds(5);
            if is_hasty {
                listener.header_timeout = millis(150);
                listener.read_timeout = millis(150);
            }
        }
    })
    .await
}

fn inputs() -> Vec<Input> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/framing");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?.strip_suffix(".raw")?.to_owned();
            Some((name, std::fs::read(&path).unwrap()))
        })
        .collect();
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let inputs = lines.map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, ends, statuses, upstream] = columns[..] else {
            panic!("{line:?} has not four columns");
        };
        let (fewest, most) = upstream.split_once('-').unwrap_or((upstream, upstream));
        Input {
            name: name.to_owned(),
            bytes: files
                .remove(name)
                .unwrap_or_else(|| panic!("no file for {name}")),
            waits: ends == "waits",
            statuses: statuses.to_owned(),
            upstream: (fewest.parse().unwrap(), most.parse().unwrap()),
        }
    });
    let inputs: Vec<Input> = inputs.collect();
    assert!(files.is_empty(), "without a line: {:?}", files.keys());
    inputs
}

const GOOD: &str = "GET /v1/kv/app/config HTTP/1.1\r\nHost: localhost\r\n\r\n";
