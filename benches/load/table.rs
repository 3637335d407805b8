//! The results as Markdown, with the goals beside them.

use crate::contest::{CONNECTIONS, Cell, Results, Row};
use crate::footprint::Figure;

/// One contestant a line, for each number of connections.
pub(crate) fn results(results: &Results) -> String {
    let mut text = String::from(
        "| | connections | requests/s | CPU per request | p50 | p99 |\n|---|---|---|---|---|---|\n",
    );
    for (row, name) in ROWS {
        for (cell, connections) in of_row(results, row) {
            text += &format!(
                "| {name} | {connections} | {:.0}{} | {:.1} µs | {:.0} µs | {:.0} µs |\n",
                cell.rate,
                if cell.is_doubtful { " ~" } else { "" },
                cell.cpu,
                cell.p50,
                cell.p99
            );
        }
    }
    text
}

/// One goal a line; what decides is in bold.
pub(crate) fn goals(results: &Results, figures: &[Figure]) -> String {
    let mut text = String::from("| goal | measured | |\n|---|---|---|\n");
    for goal in GOALS {
        let measured: Vec<_> = CONNECTIONS
            .iter()
            .filter_map(|connections| Some((*connections, (goal.measure)(results, *connections)?)))
            .collect();
        let decisive = measured
            .iter()
            .find(|(connections, _)| *connections == goal.decided_at);
        let Some((_, decisive)) = decisive else {
            continue;
        };
        let shown: Vec<_> = measured
            .iter()
            .map(|(connections, value)| {
                let bold = if *connections == goal.decided_at {
                    "**"
                } else {
                    ""
                };
                format!("{bold}{value:.2}{bold} at {connections}")
            })
            .collect();
        let verdict = verdict(goal.bound.holds(*decisive));
        text += &format!("| {} | {} | {verdict} |\n", goal.text, shown.join(", "));
    }
    for figure in figures {
        let Figure {
            text: goal,
            measured,
            peer,
            limit,
        } = figure;
        let peer = peer.map_or_else(String::new, |peer| format!(" (bao proxy: {peer:.2})"));
        let verdict = limit.map_or("", |limit| verdict(*measured < limit));
        text += &format!("| {goal} | {measured:.2}{peer} | {verdict} |\n");
    }
    text
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**not met**" }
}

fn of_row(results: &Results, row: Row) -> impl Iterator<Item = (Cell, u32)> {
    CONNECTIONS
        .into_iter()
        .filter_map(move |connections| Some((results.cell(row, connections)?, connections)))
}

const ROWS: [(Row, &str); 9] = [
    (Row::Bare, "bare hyper, the same bytes: the limit"),
    (Row::Kv, "**Leasehold, KV hit**"),
    (Row::Leased, "**Leasehold, leased hit**"),
    (Row::NginxReturn, "nginx `return`, the same bytes"),
    (Row::NginxCache, "nginx `proxy_cache` hit"),
    (Row::BaoLeased, "`bao proxy`, leased hit"),
    (Row::Direct, "Vault itself, called directly"),
    (Row::Forward, "**Leasehold, forwarding**"),
    (Row::BaoForward, "`bao proxy`, KV read or any forwarding"),
];

struct Goal {
    text: &'static str,
    decided_at: u32,
    bound: Bound,
    measure: fn(&Results, u32) -> Option<f64>,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(&self, value: f64) -> bool {
        match *self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// Requests per second of one by those of the other.
fn faster(results: &Results, one: Row, other: Row, connections: u32) -> Option<f64> {
    Some(results.cell(one, connections)?.rate / results.cell(other, connections)?.rate)
}

/// Microseconds at the median on top of a direct call.
fn added(results: &Results, row: Row, connections: u32) -> Option<f64> {
    let direct = results.cell(Row::Direct, connections)?.p50;
    Some(results.cell(row, connections)?.p50 - direct)
}

const GOALS: [Goal; 7] = [
    Goal {
        text: "KV hit ≥ 0.80 × bare hyper, requests/s",
        decided_at: 16,
        bound: Bound::AtLeast(0.80),
        measure: |results, at| faster(results, Row::Kv, Row::Bare, at),
    },
    Goal {
        text: "KV hit ≥ 1.3 × nginx `proxy_cache`",
        decided_at: 16,
        bound: Bound::AtLeast(1.3),
        measure: |results, at| faster(results, Row::Kv, Row::NginxCache, at),
    },
    Goal {
        text: "leased hit ≥ 5 × `bao proxy`",
        decided_at: 16,
        bound: Bound::AtLeast(5.0),
        measure: |results, at| faster(results, Row::Leased, Row::BaoLeased, at),
    },
    Goal {
        text: "KV hit ≥ 50 × `bao proxy`",
        decided_at: 16,
        bound: Bound::AtLeast(50.0),
        measure: |results, at| faster(results, Row::Kv, Row::BaoForward, at),
    },
    Goal {
        text: "forwarding ≤ 0.1 × `bao proxy`, CPU per request",
        decided_at: 16,
        bound: Bound::AtMost(0.1),
        measure: |results, at| {
            let ours = results.cell(Row::Forward, at)?.cpu;
            Some(ours / results.cell(Row::BaoForward, at)?.cpu)
        },
    },
    Goal {
        text: "forwarding ≤ 0.25 × `bao proxy`, median added to a direct call",
        decided_at: 1,
        bound: Bound::AtMost(0.25),
        measure: |results, at| {
            let ours = added(results, Row::Forward, at)?;
            Some(ours / added(results, Row::BaoForward, at)?)
        },
    },
    Goal {
        text: "forwarding ≤ 80 µs at the median, added to a direct call",
        decided_at: 1,
        bound: Bound::AtMost(80.0),
        measure: |results, at| added(results, Row::Forward, at),
    },
];
