//! The rounds: every contestant once, then every contestant again, until each has enough that nobody disturbed.

use std::collections::HashMap;

use crate::cores::{Between, Cores};
use crate::stand::Result;
use crate::wrk::{self, Measured, Target};

/// The rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Row {
    Bare,
    Kv,
    Leased,
    NginxReturn,
    NginxCache,
    BaoLeased,
    Direct,
    Forward,
    BaoForward,
}

/// A server that runs, and what it is asked.
pub(crate) struct Contestant {
    pub(crate) row: Row,
    pub(crate) pid: u32,
    pub(crate) target: Target,
    /// Who else has to work for an answer.
    pub(crate) upstream: u32,
}

/// How long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) rounds: usize,
    pub(crate) seconds: u32,
}

/// The median of a contestant's rounds with so many connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) rate: f64,
    /// Microseconds of processor time of the server for each request.
    pub(crate) cpu: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Too few rounds were undisturbed, so these are of the least disturbed.
    pub(crate) is_doubtful: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Results {
    rounds: HashMap<(Row, u32), Vec<Round>>,
    wanted: usize,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    measured: Measured,
    between: Between,
}

pub(crate) const CONNECTIONS: [u32; 3] = [1, 16, 64];

#[expect(
    clippy::print_stderr,
    reason = "it takes minutes: say that something happens"
)]
pub(crate) async fn run(
    contestants: &[Contestant],
    cores: Cores,
    length: Length,
) -> Result<Results> {
    let mut results = Results {
        wanted: length.rounds,
        ..Results::default()
    };
    for pass in 1..=length.rounds * PATIENCE {
        let mut lacking = 0;
        for connections in CONNECTIONS {
            for contestant in contestants {
                let rounds = results
                    .rounds
                    .entry((contestant.row, connections))
                    .or_default();
                if undisturbed(rounds).count() < length.rounds {
                    rounds.push(round(contestant, cores, connections, length.seconds).await?);
                    lacking += 1;
                }
            }
        }
        if lacking == 0 {
            break;
        }
        eprintln!("pass {pass}: {lacking} rounds");
    }
    Ok(results)
}

async fn round(
    contestant: &Contestant,
    cores: Cores,
    connections: u32,
    seconds: u32,
) -> Result<Round> {
    let Contestant { pid, upstream, .. } = *contestant;
    let before = cores.now(pid, upstream)?;
    let start = tokio::time::Instant::now();
    let measured = wrk::run(&contestant.target, connections, seconds).await?;
    let elapsed = start.elapsed().as_secs_f64();
    let after = cores.now(pid, upstream)?;
    let between = before.until(&after, elapsed, contestant.row != Row::Direct);
    Ok(Round { measured, between })
}

impl Results {
    pub(crate) fn cell(&self, row: Row, connections: u32) -> Option<Cell> {
        let rounds = self.rounds.get(&(row, connections))?;
        let mut chosen: Vec<Round> = undisturbed(rounds).collect();
        let is_doubtful = chosen.len() < self.wanted;
        if is_doubtful {
            chosen.clone_from(rounds);
            chosen.sort_by(|a, b| {
                let (a, b) = (a.between.disturbance(), b.between.disturbance());
                a.total_cmp(&b)
            });
            chosen.truncate(self.wanted);
        }
        let middle = |of: fn(&Round) -> f64| median(chosen.iter().map(of).collect());
        Some(Cell {
            rate: middle(|round| round.measured.rate),
            cpu: middle(|round| round.between.used / round.measured.requests * 1e6),
            p50: middle(|round| round.measured.p50),
            p99: middle(|round| round.measured.p99),
            is_doubtful,
        })
    }

    /// How many rounds there were, and how many of them were disturbed: by the hypervisor, by others on the
    /// server's core, by others on the generator's.
    pub(crate) fn disturbed(&self) -> (usize, [usize; 3]) {
        let all: Vec<Between> = self
            .rounds
            .values()
            .flatten()
            .map(|round| round.between)
            .collect();
        let count = |of: fn(&Between) -> bool| all.iter().filter(|between| of(between)).count();
        let by = [
            count(|between| between.is_stolen()),
            count(|between| between.is_kept_waiting()),
            count(|between| between.is_crowded()),
        ];
        (all.len(), by)
    }
}

fn undisturbed(rounds: &[Round]) -> impl Iterator<Item = Round> {
    let rounds = rounds.iter().copied();
    rounds.filter(|round| round.between.is_undisturbed())
}

/// Of the middle two the mean.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(low), at(high))
}

/// So many times the rounds wanted are tried.
const PATIENCE: usize = 2;
