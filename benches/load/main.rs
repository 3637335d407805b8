//! `cargo bench --bench load`: Leasehold beside its peers and the limit of the machine, in one table.
//!
//! `benches/README.md` says how to run it and how to read it.

#[path = "../stand/mod.rs"]
mod stand;

mod bare;
mod profile;
mod secrets;
mod vault;

use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Builder;

use stand::Result;

#[expect(
    clippy::print_stderr,
    reason = "it is a program, and that is its error"
)]
fn main() -> ExitCode {
    // `cargo test --benches` starts this without the flag: there is nothing to test.
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let is_serving = args.first().is_some_and(|first| first == "serve");
    if !is_serving && !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    args.retain(|arg| arg != "--bench");
    let outcome = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(&args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", "vault"] => vault::serve().await,
        ["serve", "bare", answer] => bare::serve(Path::new(answer)).await,
        ["profile", names @ ..] => profile::run(names).await,
        _ => Err(USAGE.into()),
    }
}

const USAGE: &str = "
cargo bench --bench load -- profile [kv|leased|forward|bare]...";
