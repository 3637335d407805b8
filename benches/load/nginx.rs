//! nginx as a file server's `return`, and as a cache in front of Vault.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::peers::free_port;
use crate::secrets;
use crate::stand::Result;
use crate::stand::client::Answer;
use crate::stand::leasehold::Access;
use crate::stand::program::Program;

/// Where `return` answers; everything else is cached.
pub(crate) const RETURN: &str = "/return";

/// One process, one worker. `answer` is what `return` sends.
pub(crate) async fn start(
    core: usize,
    program: &Path,
    directory: &Path,
    vault: &Access,
    answer: &Answer,
) -> Result<(Program, SocketAddr)> {
    let address = free_port().await?;
    let config = directory.join("nginx.conf");
    fs::write(&config, configuration(directory, address, vault, answer)?)?;
    let (prefix, config) = (directory.to_string_lossy(), config.to_string_lossy());
    let args = ["-p", &prefix, "-e", "stderr", "-c", &config];
    let program = Program::start(Some(core), program, &args)?;
    secrets::until_it_answers(address, RETURN).await?;
    Ok((program, address))
}

fn configuration(
    directory: &Path,
    address: SocketAddr,
    vault: &Access,
    answer: &Answer,
) -> Result<String> {
    let mut headers = String::new();
    for (name, value) in &answer.headers {
        if !["date", "content-length", "content-type"].contains(&name.as_str()) {
            headers += &format!("      add_header {name} '{}';\n", value.to_str()?);
        }
    }
    let body = std::str::from_utf8(&answer.body)?.trim_end();
    if body.contains('\'') || body.contains('$') {
        return Err("nginx would read the answer otherwise".into());
    }
    let (home, cached) = (directory.display(), secrets::KV);
    let (vault, token) = (vault.address, &vault.root);
    Ok(format!(
        r"
daemon off;
master_process off;
pid {home}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  proxy_cache_path {home}/cache keys_zone=answers:1m;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  server {{
    listen {address};
    location = {RETURN} {{
      default_type application/json;
{headers}      return 200 '{body}';
    }}
    location = {cached} {{
      proxy_pass http://{vault};
      proxy_set_header X-Vault-Token {token};
      proxy_cache answers;
      proxy_cache_valid 200 1d;
      proxy_ignore_headers Cache-Control Expires;
      add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
"
    ))
}
