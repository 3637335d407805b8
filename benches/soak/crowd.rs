//! Ten thousand callers: first they do nothing, then each of them asks for something that nobody asked for before.

use std::net::SocketAddr;

use leasehold::tasks::Tasks;
use serde_json::json;
use tokio::time::Instant;

use crate::Size;
use crate::report::{Report, Wanted};
use crate::settled;
use crate::stand::Result;
use crate::stand::client::{Answer, Client};
use crate::stand::leasehold::{self as program, Wishes};
use crate::stand::linux;
use crate::upstream::Upstream;

pub(crate) async fn run(size: Size, report: &mut Report) -> Result<()> {
    let upstream = Upstream::start().await?;
    let count = f64::from(size.callers);
    for number in 0..size.callers {
        let fields = json!({ "data": { "number": number } });
        upstream.write(&target(number), fields).await?;
    }
    let directory = tempfile::tempdir()?;
    let places = format!("max_connections = {}", size.callers + 10);
    let wishes = Wishes {
        listener: &places,
        ..Wishes::default()
    };
    let config = program::configure(directory.path(), "crowd", &upstream.access, wishes)?;
    let (leasehold, address) = program::start(None, &config).await?;
    let before = settled::look(&leasehold, address, None).await?;

    let memory = linux::resident(leasehold.pid())?;
    let crowd = gather(address, size.callers).await?;
    let idle = (linux::resident(leasehold.pid())? - memory) / count;
    report.note(format!("{count:.0} idle connections: KiB for each"), idle);

    upstream.most();
    let begun = Instant::now();
    let (crowd, answers) = ask(crowd).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let good = answers.iter().filter(|answer| answer.status.is_success());
    let good = f64::from(u32::try_from(good.count())?);
    report.note(format!("{count:.0} cold keys at once: seconds"), seconds);
    report.want(
        format!("{count:.0} cold keys at once: answered with 200"),
        good,
        Wanted::Exactly(count),
    );
    report.want(
        "- sockets open to Vault, at most",
        upstream.most(),
        Wanted::AtMost(CONNECTIONS + OWN),
    );

    drop((crowd, answers));
    let after = settled::look(&leasehold, address, Some(before)).await?;
    report.want(
        "- tasks afterwards",
        after.tasks,
        Wanted::Exactly(before.tasks),
    );
    if after.files.is_finite() {
        // Connections to Vault that wait for the next request, and are closed if none comes.
        let most = before.files + CONNECTIONS + OWN;
        report.want("- open files afterwards", after.files, Wanted::AtMost(most));
    }
    report.want(
        "- entries afterwards, cleared",
        after.entries,
        Wanted::Exactly(0.0),
    );
    leasehold.stop().await
}

/// Everybody connects and asks for something once, so that their buffers are there.
async fn gather(address: SocketAddr, callers: u32) -> Result<Vec<Client>> {
    let mut crowd = Vec::new();
    for _ in 0..callers {
        let mut client = Client::connect(address).await?;
        let answer = client.get("/agent/v1/health", None).await?;
        if !answer.status.is_success() {
            return Err(format!("{answer:?}").into());
        }
        crowd.push(client);
    }
    Ok(crowd)
}

/// Each another secret, all at the same time.
async fn ask(crowd: Vec<Client>) -> Result<(Vec<Client>, Vec<Answer>)> {
    let tasks = Tasks::new();
    let asking: Vec<_> = (0..)
        .zip(crowd)
        .map(|(number, mut client)| {
            tasks.spawn("caller", async move {
                let answer = client.get(&target(number), None).await?;
                Result::Ok((client, answer))
            })
        })
        .collect();
    let mut outcomes = (Vec::new(), Vec::new());
    for asked in asking {
        outcomes.extend([asked.await??]);
    }
    Ok(outcomes)
}

fn target(number: u32) -> String {
    format!("/v1/secret/data/crowd/{number}")
}

/// `vault { max_connections }` by default, and those for Leasehold's own calls.
const CONNECTIONS: f64 = 64.0;
const OWN: f64 = 4.0;
