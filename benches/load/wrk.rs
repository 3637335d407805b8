//! `wrk` generates the load and measures latencies; this starts it and reads what it prints.

use std::net::SocketAddr;

use tokio::process::Command;

use crate::stand::{Result, while_doing};

/// What to ask, over and over.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) token: Option<String>,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) requests: f64,
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// One thread, on the core that this process is on.
pub(crate) async fn run(target: &Target, connections: u32, seconds: u32) -> Result<Measured> {
    let mut command = Command::new("wrk");
    command
        .args(["--threads=1", "--latency", "--timeout=10s"])
        .arg(format!("--connections={connections}"))
        .arg(format!("--duration={seconds}s"))
        .kill_on_drop(true);
    if let Some(token) = &target.token {
        command.arg(format!("--header=X-Vault-Token: {token}"));
    }
    command.arg(format!("http://{}{}", target.address, target.path));
    let output = command.output().await.map_err(while_doing("wrk"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text).ok_or_else(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        format!("wrk on {}: {text}{complaint}", target.path).into()
    })
}

/// `None` also where an answer was not a good one.
fn read(text: &str) -> Option<Measured> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    let line = |part: &str| text.lines().find(|line| line.contains(part));
    let after = |part: &str| Some(line(part)?.split_once(part)?.1.trim());
    Some(Measured {
        requests: line(" requests in ")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()?,
        rate: after("Requests/sec:")?.parse().ok()?,
        p50: microseconds(after(" 50% ")?)?,
        p99: microseconds(after(" 99% ")?)?,
    })
}

fn microseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}
