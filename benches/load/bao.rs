//! The peer, `bao proxy`, and a real server for what is forwarded: `bao server -dev`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::peers::free_port;
use crate::secrets::{self, until_it_answers};
use crate::stand::Result;
use crate::stand::client::Client;
use crate::stand::leasehold::{self, Access};
use crate::stand::program::Program;

/// In memory, with the secret to forward and an AppRole role that may read it.
pub(crate) async fn server(core: usize, program: &Path) -> Result<(Program, Access)> {
    let address = free_port().await?;
    let listen = format!("-dev-listen-address={address}");
    let id = format!("-dev-root-token-id={ROOT}");
    let args = ["server", "-dev", "-dev-no-store-token", &listen, &id];
    let program = Program::start(Some(core), program, &args)?;
    until_it_answers(address, "/v1/sys/health").await?;
    let mut admin = Admin(Client::connect(address).await?);
    let policy = json!({ "policy": r#"path "secret/data/*" { capabilities = ["read"] }"# });
    admin.write("/v1/sys/policies/acl/app", &policy).await?;
    let approle = json!({ "type": "approle" });
    admin.write("/v1/sys/auth/approle", &approle).await?;
    let role = json!({ "token_policies": "app", "token_ttl": "24h" });
    admin.write("/v1/auth/approle/role/app", &role).await?;
    admin.write(secrets::FORWARD, &secrets::fields()).await?;
    let made = admin
        .write("/v1/auth/approle/role/app/secret-id", &json!({}))
        .await?;
    let role = admin
        .0
        .get("/v1/auth/approle/role/app/role-id", Some(ROOT))
        .await?;
    let text = |json: &Value, name: &str| {
        let text = json.pointer(name).and_then(Value::as_str);
        text.map(str::to_owned)
            .ok_or_else(|| format!("the server sent no {name}"))
    };
    let access = Access {
        address,
        root: ROOT.to_owned(),
        role_id: text(&role.json()?, "/data/role_id")?,
        secret_id: text(&made, "/data/secret_id")?,
    };
    Ok((program, access))
}

/// In front of that Vault; logged in when it answers `target`.
pub(crate) async fn proxy(
    core: usize,
    program: &Path,
    directory: &Path,
    name: &str,
    vault: &Access,
    target: &str,
) -> Result<(Program, SocketAddr)> {
    let address = free_port().await?;
    let config = directory.join(format!("{name}.hcl"));
    let text = format!(
        r#"vault {{
  address = "http://{}"
}}
{}
api_proxy {{
  use_auto_auth_token = true
}}
cache {{
}}
listener "tcp" {{
  address     = "{address}"
  tls_disable = true
}}
"#,
        vault.address,
        leasehold::auto_auth(directory, name, vault)?
    );
    fs::write(&config, text)?;
    let config = format!("-config={}", config.display());
    let program = Program::start(Some(core), program, &["proxy", &config])?;
    until_it_answers(address, target).await?;
    Ok((program, address))
}

/// Writes with the root token.
struct Admin(Client);

impl Admin {
    async fn write(&mut self, target: &str, fields: &Value) -> Result<Value> {
        let answer = self.0.post(target, Some(ROOT), fields).await?;
        if !answer.status.is_success() {
            return Err(format!("{target}: {answer:?}").into());
        }
        Ok(answer.json().unwrap_or_default())
    }
}

const ROOT: &str = "bench-root";
