//! What Leasehold costs while nobody asks: memory, processor time, and the time until the first answer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::leasehold::tasks::Tasks;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::bao;
use crate::contest::median;
use crate::cores::{self, Cores};
use crate::secrets;
use crate::stand::client::Client;
use crate::stand::leasehold::{self, Access, Wishes};
use crate::stand::{Result, linux};

/// One measured number and its goal.
pub(crate) struct Figure {
    pub(crate) text: &'static str,
    pub(crate) measured: f64,
    pub(crate) peer: Option<f64>,
    /// It is to be below that.
    pub(crate) limit: Option<f64>,
}

/// `peer` is `bao`.
pub(crate) async fn measure(
    directory: &Path,
    vault: &Access,
    peer: Option<&Path>,
    cores: Cores,
) -> Result<Vec<Figure>> {
    let room = Room {
        directory,
        vault,
        cores,
    };
    let idle = room.idle().await?;
    let peer = match peer {
        Some(program) => Some(room.peer(program).await?),
        None => None,
    };
    let figure = |text, measured, peer, limit| Figure {
        text,
        measured,
        peer,
        limit: Some(limit),
    };
    Ok(vec![
        figure(
            "start to the first answer, login aside, < 50 ms",
            room.start().await?,
            peer.map(|peer| peer.start),
            50.0,
        ),
        figure(
            "idle: resident memory < 12 MiB",
            idle.memory,
            peer.map(|peer| peer.memory),
            12.0,
        ),
        figure(
            "idle: processor time < 0.1 %",
            idle.cpu,
            peer.map(|peer| peer.cpu),
            0.1,
        ),
        figure(
            "10,000 entries of 1 KiB: resident memory < 30 MiB",
            room.entries().await?,
            None,
            30.0,
        ),
        figure(
            "100,000 leases: memory for each beyond its body < 1 KiB",
            room.leases().await?,
            None,
            1.0,
        ),
    ])
}

struct Room<'a> {
    directory: &'a Path,
    vault: &'a Access,
    cores: Cores,
}

/// Memory in MiB, processor time in percent of a core, start in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Idle {
    memory: f64,
    cpu: f64,
    start: f64,
}

impl Room<'_> {
    /// The median of some starts, in milliseconds.
    async fn start(&self) -> Result<f64> {
        let config = self.configure("start", "")?;
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let begun = Instant::now();
            let (program, address) = leasehold::start(Some(self.cores.server), &config).await?;
            let answer = Client::connect(address)
                .await?
                .get("/agent/v1/health", None)
                .await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            if !answer.status.is_success() {
                return Err(format!("a Leasehold that has just started answers {answer:?}").into());
            }
            program.stop().await?;
        }
        Ok(median(times))
    }

    async fn idle(&self) -> Result<Idle> {
        let config = self.configure("idle", "")?;
        let (program, address) = leasehold::start(Some(self.cores.server), &config).await?;
        read(address, secrets::KV).await?;
        let idle = idle(program.pid(), 0.0).await?;
        program.stop().await?;
        Ok(idle)
    }

    /// Until its first secret: it answers nothing by itself.
    async fn peer(&self, program: &Path) -> Result<Idle> {
        let begun = Instant::now();
        let (core, path) = (self.cores.server, secrets::KV);
        let starting = bao::proxy(core, program, self.directory, "idle-peer", self.vault, path);
        let (program, _) = starting.await?;
        idle(program.pid(), begun.elapsed().as_secs_f64() * 1e3).await
    }

    /// Resident memory in MiB.
    async fn entries(&self) -> Result<f64> {
        let mut admin = Client::connect(self.vault.address).await?;
        // With what Vault adds, an answer of 1 KiB.
        let fields = json!({ "data": { "value": "x".repeat(1024 - ENVELOPE) } });
        for number in 0..ENTRIES {
            let target = format!("{MANY}{number}");
            let answer = admin.post(&target, Some(&self.vault.root), &fields).await?;
            if !answer.status.is_success() {
                return Err(format!("{target}: {answer:?}").into());
            }
        }
        let config = self.configure("entries", "")?;
        let (program, address) = leasehold::start(Some(self.cores.server), &config).await?;
        let bytes = fill(address, ENTRIES, MANY).await?;
        let each = bytes / f64::from(ENTRIES);
        if (each - 1024.0).abs() > 64.0 {
            return Err(format!("the entries have {each:.0} bytes each, not 1 KiB").into());
        }
        held(address, "cache_static_entries", ENTRIES).await?;
        let memory = linux::resident(program.pid())? / 1024.0;
        program.stop().await?;
        Ok(memory)
    }

    /// KiB for each lease on top of its answer's body.
    async fn leases(&self) -> Result<f64> {
        let config = self.configure("leases", r#"max_size = "1GiB""#)?;
        let (program, address) = leasehold::start(Some(self.cores.server), &config).await?;
        read(address, secrets::LEASED).await?;
        let before = linux::resident(program.pid())?;
        let bytes = fill(address, LEASES, LEASED).await?;
        held(address, "lease_active", LEASES + 1).await?;
        let grown = linux::resident(program.pid())? - before;
        program.stop().await?;
        Ok((grown - bytes / 1024.0) / f64::from(LEASES))
    }

    fn configure(&self, name: &str, cache: &str) -> Result<PathBuf> {
        let wishes = Wishes {
            cache,
            ..Wishes::default()
        };
        leasehold::configure(self.directory, name, self.vault, wishes)
    }
}

async fn idle(pid: u32, start: f64) -> Result<Idle> {
    sleep(SETTLING).await;
    let before = cores::ran(pid)?;
    sleep(WATCHED).await;
    let used = cores::ran(pid)?.running - before.running;
    Ok(Idle {
        memory: linux::resident(pid)? / 1024.0,
        cpu: used / WATCHED.as_secs_f64() * 100.0,
        start,
    })
}

/// Reads `PREFIX0`, `PREFIX1` and so on, over some connections; how many bytes of body came.
async fn fill(address: SocketAddr, count: u32, prefix: &'static str) -> Result<f64> {
    let tasks = Tasks::new();
    let readers: Vec<_> = (0..READERS)
        .map(|first| tasks.spawn("reader", fill_part(address, first, count, prefix)))
        .collect();
    let mut sum = 0.0;
    for reader in readers {
        sum += reader.await??;
    }
    Ok(sum)
}

async fn fill_part(address: SocketAddr, first: u32, count: u32, prefix: &str) -> Result<f64> {
    let mut client = Client::connect(address).await?;
    let (mut number, mut bytes) = (first, 0.0);
    while number < count {
        let target = format!("{prefix}{number}");
        let answer = client.get(&target, None).await?;
        if !answer.status.is_success() {
            return Err(format!("{target}: {answer:?}").into());
        }
        bytes += f64::from(u32::try_from(answer.body.len())?);
        number += READERS;
    }
    Ok(bytes)
}

async fn read(address: SocketAddr, target: &str) -> Result<()> {
    let answer = Client::connect(address).await?.get(target, None).await?;
    if !answer.status.is_success() {
        return Err(format!("{target}: {answer:?}").into());
    }
    Ok(())
}

/// What was read is really kept.
async fn held(address: SocketAddr, gauge: &str, count: u32) -> Result<()> {
    let have = leasehold::gauge(&mut Client::connect(address).await?, gauge).await?;
    if (have - f64::from(count)).abs() > 0.5 {
        return Err(format!("wanted {gauge} {count}, have {have}").into());
    }
    Ok(())
}

const STARTS: usize = 7;
const ENTRIES: u32 = 10_000;
const MANY: &str = "/v1/secret/data/app/of-many/";
const LEASES: u32 = 100_000;
/// What differs by its query is another answer, and another lease.
const LEASED: &str = "/v1/database/creds/app-readonly?n=";
const READERS: u32 = 16;
/// Bytes of a KV answer beside the value.
const ENVELOPE: usize = 330;
const SETTLING: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(10);
