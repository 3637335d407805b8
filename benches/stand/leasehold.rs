//! A Leasehold in front of a development Vault, as a program of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::program::{Program, listening_on};
use super::{Result, while_doing};

/// What somebody who wants to log in to a Vault by AppRole must know.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Access {
    pub(crate) address: SocketAddr,
    pub(crate) root: String,
    pub(crate) role_id: String,
    pub(crate) secret_id: String,
}

/// What a bench changes of the plainest configuration.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes<'a> {
    /// What stands inside of `cache { }`.
    pub(crate) cache: &'a str,
    /// What stands inside of `listener { }`.
    pub(crate) listener: &'a str,
    /// Other blocks.
    pub(crate) more: &'a str,
}

/// The program under test: of the same build as the bench.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leasehold");

/// Started, and listening.
pub(crate) async fn start(core: Option<usize>, config: &Path) -> Result<(Program, SocketAddr)> {
    let config = format!("-config={}", config.display());
    let mut program = Program::start(core, Path::new(BINARY), &["agent", &config])?;
    let address = program.says(listening_on).await?;
    Ok((program, address))
}

/// What its metrics say now; the name without its prefix.
pub(crate) async fn gauge(client: &mut Client, name: &str) -> Result<f64> {
    let answer = client.get("/agent/v1/metrics", None).await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let value = text.lines().find_map(|line| {
        let (have, value) = line.strip_prefix("leasehold_")?.split_once(' ')?;
        (have == name).then(|| value.parse().ok())?
    });
    value.ok_or_else(|| format!("the metrics have no {name}").into())
}

/// Writes `NAME.hcl` and the credentials beside it.
pub(crate) fn configure(
    directory: &Path,
    name: &str,
    vault: &Access,
    wishes: Wishes<'_>,
) -> Result<PathBuf> {
    let path = directory.join(format!("{name}.hcl"));
    let auto_auth = auto_auth(directory, name, vault)?;
    let text = format!(
        r#"vault {{
  address = "http://{}"
}}
{auto_auth}
api_proxy {{
  use_auto_auth_token = true
}}
cache {{
  {}
}}
listener "tcp" {{
  address     = "127.0.0.1:0"
  tls_disable = true
  {}
}}
{}
"#,
        vault.address, wishes.cache, wishes.listener, wishes.more
    );
    fs::write(&path, text).map_err(while_doing("writing a configuration"))?;
    Ok(path)
}

/// The block by which Leasehold and its peers log in.
pub(crate) fn auto_auth(directory: &Path, name: &str, vault: &Access) -> Result<String> {
    let role_id = directory.join(format!("{name}.role-id"));
    let secret_id = directory.join(format!("{name}.secret-id"));
    fs::write(&role_id, &vault.role_id)?;
    fs::write(&secret_id, &vault.secret_id)?;
    Ok(format!(
        r#"auto_auth {{
  method "approle" {{
    config = {{
      role_id_file_path                   = "{}"
      secret_id_file_path                 = "{}"
      remove_secret_id_file_after_reading = false
    }}
  }}
}}"#,
        role_id.display(),
        secret_id.display()
    ))
}
