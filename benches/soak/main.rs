//! `cargo bench --bench soak`: a day's churn in minutes, and ten thousand callers at once. What Leasehold held
//! before it holds after, or this fails. `-- --short` is for CI.

#[path = "../stand/mod.rs"]
mod stand;

mod churn;
mod crowd;
mod report;
mod settled;
mod upstream;

use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;

use report::Report;
use stand::Result;

#[expect(
    clippy::print_stderr,
    reason = "it is a program, and that is its error"
)]
fn main() -> ExitCode {
    // `cargo test --benches` starts this without the flag: there is nothing to test.
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let outcome = size(&args).and_then(|size| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(size))
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Requests between two looks, and how many looks after the first.
    pub(crate) requests: u32,
    pub(crate) stages: u32,
    pub(crate) callers: u32,
}

fn size(args: &[String]) -> Result<Size> {
    let mut size = Size {
        requests: 200_000,
        stages: 5,
        callers: 10_000,
    };
    for arg in args {
        match arg.as_str() {
            "--bench" => {}
            "--short" => {
                size.requests = 30_000;
                size.stages = 2;
            }
            other => return Err(format!("{other}? There is --short, and nothing else.").into()),
        }
    }
    // Both ends of each connection are files of somebody here; half of the callers are better than none.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let most = u32::try_from(hard.saturating_sub(500)).unwrap_or(u32::MAX);
    size.callers = size.callers.min(most);
    Ok(size)
}

#[expect(clippy::print_stdout, reason = "that is the result")]
async fn run(size: Size) -> Result<ExitCode> {
    let mut report = Report::default();
    churn::run(size, &mut report).await?;
    crowd::run(size, &mut report).await?;
    println!("{report}");
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
