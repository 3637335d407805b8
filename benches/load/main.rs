//! `cargo bench --bench load`: Leasehold beside its peers and the limit of the machine, in one table.
//!
//! `benches/README.md` says how to run it and how to read it.

#[path = "../stand/mod.rs"]
mod stand;

mod bao;
mod bare;
mod contest;
mod cores;
mod footprint;
mod nginx;
mod peers;
mod profile;
mod secrets;
mod stage;
mod table;
mod vault;
mod wrk;

use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Builder;

use contest::{Length, Results};
use cores::Cores;
use peers::find_program;
use stage::Stage;
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
        ["footprint"] => footprint(Cores::default()).await,
        options => bench(Options::read(options)?).await,
    }
}

/// Prints everything, in Markdown.
#[expect(clippy::print_stdout, reason = "that is the result")]
async fn bench(options: Options) -> Result<()> {
    let Options {
        cores,
        length,
        real,
    } = options;
    cores.move_in()?;
    let stage = Stage::set(cores, real).await?;
    let results = contest::run(&stage.contestants, cores, length).await?;
    let peer = stage.peer.as_deref();
    let figures = footprint::measure(stage.directory.path(), &stage.access, peer, cores).await?;
    println!("{}", table::results(&results));
    println!("{}", table::goals(&results, &figures));
    let (all, [stolen, waited, crowded]) = results.disturbed();
    println!(
        "Medians of {} rounds of {} s, interleaved; servers on core {}, wrk and Vault on core {}. Of {all} rounds \
         the hypervisor spoiled {stolen}, others on the server's core {waited}, others on the generator's {crowded}; \
         `~`: too few were left, so the least disturbed were taken. {}",
        length.rounds,
        length.seconds,
        cores.server,
        cores.generator,
        stage.notes.join(" ")
    );
    Ok(())
}

/// Memory and start alone.
#[expect(clippy::print_stdout, reason = "that is the result")]
async fn footprint(cores: Cores) -> Result<()> {
    cores.move_in()?;
    let (_vault, access) = vault::start(Some(cores.generator)).await?;
    let directory = tempfile::tempdir()?;
    let peer = find_program("bao");
    let figures = footprint::measure(directory.path(), &access, peer.as_deref(), cores).await?;
    println!("{}", table::goals(&Results::default(), &figures));
    Ok(())
}

struct Options {
    cores: Cores,
    length: Length,
    real: bool,
}

impl Options {
    fn read(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            cores: Cores::default(),
            length: Length {
                rounds: 5,
                seconds: 1,
            },
            real: true,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(USAGE);
            match *word {
                "--rounds" => options.length.rounds = value()?.parse()?,
                "--seconds" => options.length.seconds = value()?.parse()?,
                "--cores" => {
                    let (server, generator) = value()?.split_once(',').ok_or(USAGE)?;
                    options.cores.server = server.parse()?;
                    options.cores.generator = generator.parse()?;
                }
                "--dev" => options.real = false,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

const USAGE: &str = "
cargo bench --bench load                        the whole table
    -- --rounds 5 --seconds 1                   how many undisturbed rounds of which length
       --cores 0,1                              the servers' core, and the generator's
       --dev                                    forward to the development Vault even where `bao` is on PATH
cargo bench --bench load -- footprint           memory, idle processor time and start alone
cargo bench --bench load -- profile [bare|kv|leased|forward]...   instructions per request";
