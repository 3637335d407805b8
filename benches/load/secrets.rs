//! What is read in all benches, and how it is checked that a contestant serves it.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::stand::Result;
use crate::stand::client::{Answer, Client};
use crate::stand::leasehold::Access;

/// A KV version 2 secret of which the whole answer is some 600 bytes.
pub(crate) const KV: &str = "/v1/secret/data/app/bench";
/// A database credential: an answer with a lease.
pub(crate) const LEASED: &str = "/v1/database/creds/app-readonly";
/// As `KV`; Leasehold is told to let this one through.
pub(crate) const FORWARD: &str = "/v1/secret/data/app/forward";

/// For Leasehold's `cache` block.
pub(crate) const BYPASS: &str = r#"path "secret/data/app/forward" { mode = "bypass" }"#;

/// What is stored at `KV` and `FORWARD`.
pub(crate) fn fields() -> Value {
    json!({ "data": {
        "username": "service-account-of-the-application",
        "password": "a-password-that-somebody-made-up-and-is-32-long",
        "dsn": "postgresql://db.internal.example:5432/application?sslmode=verify-full",
        "comment": "x".repeat(160),
    } })
}

/// How a contestant must answer the second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// From its memory, and saying so.
    Hit,
    /// Whatever it says.
    Answer,
}

/// Asks twice, and checks that the second answer is whole, right, and from where it should be.
pub(crate) async fn check(
    name: &str,
    address: SocketAddr,
    target: &str,
    token: Option<&str>,
    expect: Expect,
) -> Result<Answer> {
    let mut client = Client::connect(address).await?;
    let first = client.get(target, token).await?;
    let answer = client.get(target, token).await?;
    let is_right = |answer: &Answer| {
        let json = answer.json().unwrap_or_default();
        let data = if target == LEASED {
            "/data/password"
        } else {
            "/data/data/dsn"
        };
        answer.status == StatusCode::OK && json.pointer(data).is_some_and(Value::is_string)
    };
    if !is_right(&first) || !is_right(&answer) {
        return Err(format!("{name} answers {target} with {answer:?}").into());
    }
    if expect == Expect::Hit && answer.header("x-cache") != "HIT" {
        return Err(format!("{name} does not serve {target} from memory: {answer:?}").into());
    }
    if first.json()?.get("data") != answer.json()?.get("data") {
        return Err(format!("{name} answers {target} with this, then with that").into());
    }
    Ok(answer)
}

/// A token of the role by which Leasehold and its peers log in.
pub(crate) async fn log_in(vault: &Access) -> Result<String> {
    let Access {
        role_id, secret_id, ..
    } = vault;
    let login = json!({ "role_id": role_id, "secret_id": secret_id });
    let mut client = Client::connect(vault.address).await?;
    let answer = client.post("/v1/auth/approle/login", None, &login).await?;
    let json = answer.json()?;
    let token = json.pointer("/auth/client_token").and_then(Value::as_str);
    token
        .map(str::to_owned)
        .ok_or_else(|| format!("no login: {answer:?}").into())
}

/// Asks until there is a good answer.
pub(crate) async fn until_it_answers(address: SocketAddr, target: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = async { Client::connect(address).await?.get(target, None).await };
        match answer.await {
            Ok(answer) if answer.status.is_success() => return Ok(()),
            outcome if Instant::now() >= deadline => {
                return Err(format!("{address} does not answer {target}: {outcome:?}").into());
            }
            Ok(_) | Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
