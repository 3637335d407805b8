//! What a Leasehold holds while nobody asks it for anything.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::stand::client::Client;
use crate::stand::leasehold::gauge;
use crate::stand::program::Program;
use crate::stand::{Result, linux};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// MiB.
    pub(crate) memory: f64,
    pub(crate) files: f64,
    pub(crate) tasks: f64,
    pub(crate) leases: f64,
    pub(crate) entries: f64,
    pub(crate) bytes: f64,
}

/// Clears the cache, waits until it holds what it did `before`, and says what it holds in the end.
pub(crate) async fn look(
    program: &Program,
    address: SocketAddr,
    before: Option<Held>,
) -> Result<Held> {
    // Closing connections, and calls for leases that are under way.
    sleep(CALM).await;
    let mut client = Client::connect(address).await?;
    let all = json!({ "type": "all" });
    let answer = client.post("/agent/v1/cache-clear", None, &all).await?;
    if !answer.status.is_success() {
        return Err(format!("cache-clear: {answer:?}").into());
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let held = held(program, &mut client).await?;
        let is_settled =
            before.is_none_or(|before| held.tasks <= before.tasks && held.leases < 0.5);
        if is_settled || Instant::now() >= deadline {
            return Ok(held);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn held(program: &Program, client: &mut Client) -> Result<Held> {
    Ok(Held {
        memory: linux::resident(program.pid())? / 1024.0,
        files: files(program.pid())?,
        tasks: gauge(client, "tasks").await?,
        leases: gauge(client, "lease_active").await?,
        entries: gauge(client, "cache_static_entries").await?
            + gauge(client, "cache_leased_entries").await?,
        bytes: gauge(client, "cache_bytes").await?,
    })
}

/// The process does not let others of its user look at it; root may.
fn files(pid: u32) -> Result<f64> {
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(files) => Ok(f64::from(u32::try_from(files.count())?)),
        Err(_) => Ok(f64::NAN),
    }
}

const CALM: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(15);
