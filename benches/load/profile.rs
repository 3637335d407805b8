//! Instructions per request, counted by valgrind: the same on a busy machine as on an idle one.
//!
//! Each contestant runs twice, with few and with many requests; the difference is what requests cost. The
//! counts of the second run stay in `target/profile/`, to be looked into by `callgrind_annotate`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::secrets::{self, Expect};
use crate::stand::client::Client;
use crate::stand::leasehold::{self, Access, Wishes};
use crate::stand::program::{Program, listening_on};
use crate::stand::{Result, while_doing};
use crate::{bare, vault};

/// `names` as the command line has them; none are all.
pub(crate) async fn run(names: &[&str]) -> Result<()> {
    let names = if names.is_empty() { &ALL[..] } else { names };
    let scene = Scene::set().await?;
    let mut limit = None;
    for name in names {
        let few = scene.instructions(name, FEW).await?;
        let many = scene.instructions(name, FEW + REQUESTS).await?;
        let each = (many - few) / f64::from(REQUESTS);
        if *name == "bare" {
            limit = Some(each);
        }
        report(name, each, limit);
    }
    Ok(())
}

/// What every contestant needs around it.
struct Scene {
    _directory: tempfile::TempDir,
    _vault: Program,
    config: PathBuf,
    answer_file: PathBuf,
    counts: PathBuf,
}

impl Scene {
    async fn set() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (vault, access) = vault::start(None).await?;
        let config = configure(directory.path(), &access)?;
        let (leasehold, address) = leasehold::start(None, &config).await?;
        let answer = secrets::check("Leasehold", address, secrets::KV, None, Expect::Hit).await?;
        leasehold.stop().await?;
        let counts = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/profile");
        fs::create_dir_all(&counts)?;
        Ok(Self {
            answer_file: bare::write(directory.path(), &answer)?,
            _directory: directory,
            _vault: vault,
            config,
            counts,
        })
    }

    /// Of the whole process's life with so many requests.
    async fn instructions(&self, name: &str, requests: u32) -> Result<f64> {
        let counts = self.counts.join(format!("callgrind.{name}.out"));
        let (mut program, target) = self.under_valgrind(name, &counts)?;
        let address = program.says(listening_on).await?;
        drive(address, target, requests).await?;
        program.stop().await?;
        total(&counts)
    }

    fn under_valgrind(&self, name: &str, counts: &Path) -> Result<(Program, &'static str)> {
        let this = std::env::current_exe()?;
        let this = this.to_string_lossy();
        let answer = self.answer_file.to_string_lossy();
        let config = format!("-config={}", self.config.display());
        let ours = [leasehold::BINARY, "agent", &config];
        let (command, target): (&[&str], _) = match name {
            "bare" => (&[&this, "serve", "bare", &answer], secrets::KV),
            "kv" => (&ours, secrets::KV),
            "leased" => (&ours, secrets::LEASED),
            "forward" => (&ours, secrets::FORWARD),
            _ => return Err(format!("{name}: known are {}", ALL.join(", ")).into()),
        };
        let out = format!("--callgrind-out-file={}", counts.display());
        let mut args = vec!["--tool=callgrind", "-q", &out];
        args.extend(command);
        let program = Program::start(None, Path::new("valgrind"), &args);
        Ok((program?, target))
    }
}

/// One request after the other on one connection.
async fn drive(address: SocketAddr, target: &str, requests: u32) -> Result<()> {
    let mut client = Client::connect(address).await?;
    for _ in 0..requests {
        let answer = client.get(target, None).await?;
        if !answer.status.is_success() {
            return Err(format!("{target}: {answer:?}").into());
        }
    }
    Ok(())
}

/// From the line `summary: 123456`, or `totals:`.
fn total(counts: &Path) -> Result<f64> {
    let text = fs::read_to_string(counts).map_err(while_doing("what valgrind counted"))?;
    let line = ["totals: ", "summary: "]
        .into_iter()
        .find_map(|name| text.lines().find_map(|line| line.strip_prefix(name)));
    let number = line.ok_or("valgrind counted nothing")?;
    Ok(number.trim().parse()?)
}

fn configure(directory: &Path, access: &Access) -> Result<PathBuf> {
    let wishes = Wishes {
        cache: secrets::BYPASS,
        ..Wishes::default()
    };
    leasehold::configure(directory, "leasehold", access, wishes)
}

#[expect(clippy::print_stdout, reason = "that is the result")]
fn report(name: &str, each: f64, limit: Option<f64>) {
    let ratio = limit.map_or_else(String::new, |limit| {
        format!(", {:.2} of bare hyper", each / limit)
    });
    println!("{name}: {each:.0} instructions a request in user space{ratio}");
}

const ALL: [&str; 4] = ["bare", "kv", "leased", "forward"];
const FEW: u32 = 200;
const REQUESTS: u32 = 2_000;
