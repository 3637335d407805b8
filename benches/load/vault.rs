//! The development Vault in a process of its own, which stands beside the generator.

use std::path::Path;
use std::time::Duration;

use leasehold::dev::{DevVault, Options};
use leasehold::tasks::Tasks;

use crate::secrets;
use crate::stand::leasehold::Access;
use crate::stand::program::Program;
use crate::stand::{Result, while_doing};

/// This program again, as a Vault; and how to log in to it.
pub(crate) async fn start(core: Option<usize>) -> Result<(Program, Access)> {
    let this = std::env::current_exe()?;
    let mut program = Program::start(core, Path::new(&this), &["serve", "vault"])?;
    let access = program.says(|line| serde_json::from_str(line).ok()).await?;
    Ok((program, access))
}

/// Serves until it is killed. Nothing ends while a bench runs.
#[expect(
    clippy::print_stdout,
    reason = "whoever started it reads the address there"
)]
pub(crate) async fn serve() -> Result<()> {
    let long = Duration::from_secs(24 * 3600);
    let vault = DevVault::new(&Options {
        lease_ttl: long,
        lease_max_ttl: long,
        token_ttl: long,
        token_max_ttl: long,
        ..Options::default()
    });
    for target in [secrets::KV, secrets::FORWARD] {
        let (status, answer) = vault.root("POST", target, secrets::fields()).await;
        if !status.is_success() {
            return Err(format!("the development Vault refused to keep {target}: {answer}").into());
        }
    }
    let tasks = Tasks::new();
    let address = vault
        .listen("127.0.0.1:0", &tasks)
        .await
        .map_err(while_doing("the development Vault"))?;
    let access = Access {
        address,
        root: vault.root_token().expose().to_owned(),
        role_id: vault.role_id(),
        secret_id: vault.secret_id().expose().to_owned(),
    };
    println!("{}", serde_json::to_string(&access)?);
    std::future::pending().await
}
