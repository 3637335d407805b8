//! Callers who come and go, right and wrong, with more secrets than fit and leases of seconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use leasehold::tasks::Tasks;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::Size;
use crate::report::{Report, Wanted};
use crate::settled;
use crate::stand::Result;
use crate::stand::client::{Answer, Client};
use crate::stand::leasehold::{self as program, Access, Wishes};
use crate::upstream::Upstream;

pub(crate) async fn run(size: Size, report: &mut Report) -> Result<()> {
    let upstream = Upstream::start().await?;
    for number in 0..SECRETS {
        upstream.write(&secret(number), value(number)).await?;
    }
    let directory = tempfile::tempdir()?;
    let wishes = Wishes {
        // A tenth of the secrets fits.
        cache: r#"max_size = "4MiB""#,
        more: "background {\n  rate = 2000\n  burst = 2000\n}",
        ..Wishes::default()
    };
    let config = program::configure(directory.path(), "churn", &upstream.access, wishes)?;
    let (leasehold, address) = program::start(None, &config).await?;
    let begin = settled::look(&leasehold, address, None).await?;
    let mut warm = None;
    let mut seen = Seen::default();
    let mut requests = 0.0;
    for _ in 0..=size.stages {
        seen.add(stage(address, &upstream.access, size.requests).await?);
        requests += f64::from(size.requests);
        let held = settled::look(&leasehold, address, Some(begin)).await?;
        let what = format!("after {requests:.0} requests: MiB of resident memory");
        match warm {
            None => {
                report.note(what, held.memory);
                warm = Some(held.memory);
            }
            Some(warm) => report.want(what, held.memory, Wanted::AtMost(warm * 1.1 + 2.0)),
        }
        report.want("- tasks", held.tasks, Wanted::Exactly(begin.tasks));
        report.want("- leases", held.leases, Wanted::Exactly(0.0));
        report.want("- entries, cleared", held.entries, Wanted::Exactly(0.0));
        report.want("- bytes kept", held.bytes, Wanted::Exactly(0.0));
        if held.files.is_finite() {
            let most = begin.files + CONNECTIONS;
            report.want("- open files", held.files, Wanted::AtMost(most));
        }
    }
    report.note("answers from memory", f64::from(seen.hits));
    let failed = f64::from(u32::try_from(seen.failures.len())?);
    report.want("unexpected answers", failed, Wanted::Exactly(0.0));
    for failure in seen.failures.iter().take(5) {
        report.want(format!("- {failure}"), 1.0, Wanted::Exactly(0.0));
    }
    leasehold.stop().await
}

/// So many requests by some callers at once.
async fn stage(address: SocketAddr, access: &Access, requests: u32) -> Result<Seen> {
    let tasks = Tasks::new();
    let left = Arc::new(AtomicI64::new(requests.into()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let mut caller = Caller {
                address,
                access: access.clone(),
                client: None,
                seen: Seen::default(),
            };
            let left = Arc::clone(&left);
            tasks.spawn("caller", async move {
                while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                    caller.do_something().await?;
                }
                Result::Ok(caller.seen)
            })
        })
        .collect();
    let mut seen = Seen::default();
    for caller in callers {
        seen.add(caller.await??);
    }
    Ok(seen)
}

/// How requests ended.
#[derive(Debug, Default)]
struct Seen {
    hits: u32,
    failures: Vec<String>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.failures.extend(other.failures);
    }
}

struct Caller {
    address: SocketAddr,
    access: Access,
    client: Option<Client>,
    seen: Seen,
}

impl Caller {
    async fn do_something(&mut self) -> Result<()> {
        if fastrand::u8(..) == 0 {
            self.client = None;
        }
        let number = fastrand::u32(..SECRETS);
        match fastrand::u8(..100) {
            0..45 => self.get(&secret(number), None, 200).await,
            45..55 => self.post(&secret(number), None, &value(number), 200).await,
            55..60 => self.get(&folder(number), None, 200).await,
            60..75 => {
                let leased = format!("/v1/database/creds/app-readonly?n={}", number % 500);
                self.get(&leased, None, 200).await
            }
            75..80 => self.be_somebody(number).await,
            80..85 => {
                let wrong = format!("hvs.wrong{number}");
                self.get(&secret(number), Some(&wrong), 403).await
            }
            85..88 => self.log_in(number).await,
            88..90 => {
                self.get(&format!("{}/none", secret(number)), None, 404)
                    .await
            }
            90..93 => self.hang_up(number).await,
            93..95 => {
                let some = json!({ "type": "path", "value": format!("secret/data/soak/{}/*", number % FOLDERS) });
                self.post("/agent/v1/cache-clear", None, &some, 200).await
            }
            95..98 => {
                let text = json!({ "plaintext": "dGV4dA==" });
                self.post("/v1/transit/encrypt/app", None, &text, 200).await
            }
            98 => self.get("/agent/v1/status", None, 200).await,
            _ => self.get("/agent/v1/metrics", None, 200).await,
        }
    }

    /// A token of his own, used and given back.
    async fn be_somebody(&mut self, number: u32) -> Result<()> {
        let wish = json!({ "policies": ["app"], "ttl": "60s" });
        let root = self.access.root.clone();
        let made = self
            .client()
            .await?
            .post("/v1/auth/token/create", Some(&root), &wish)
            .await?;
        let made = made.json().unwrap_or_default();
        let Some(token) = made
            .pointer("/auth/client_token")
            .and_then(|it| it.as_str())
        else {
            self.seen.failures.push("no token was made".to_owned());
            return Ok(());
        };
        self.get(&secret(number), Some(token), 200).await?;
        self.get("/v1/database/creds/app-readonly", Some(token), 200)
            .await?;
        self.post("/v1/auth/token/revoke-self", Some(token), &json!({}), 204)
            .await
    }

    async fn log_in(&mut self, number: u32) -> Result<()> {
        let Access {
            role_id, secret_id, ..
        } = &self.access;
        let login = json!({ "role_id": role_id, "secret_id": secret_id, "number": number });
        self.post("/v1/auth/approle/login", None, &login, 200).await
    }

    /// Sends a request and leaves.
    async fn hang_up(&self, number: u32) -> Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", secret(number));
        Ok(stream.write_all(request.as_bytes()).await?)
    }

    async fn get(&mut self, target: &str, token: Option<&str>, status: u16) -> Result<()> {
        let answer = self.client().await?.get(target, token).await?;
        self.expect(target, &answer, status);
        Ok(())
    }

    async fn post(
        &mut self,
        target: &str,
        token: Option<&str>,
        fields: &serde_json::Value,
        status: u16,
    ) -> Result<()> {
        let answer = self.client().await?.post(target, token, fields).await?;
        self.expect(target, &answer, status);
        Ok(())
    }

    fn expect(&mut self, target: &str, answer: &Answer, status: u16) {
        self.seen.hits += u32::from(answer.header("x-cache") == "HIT");
        if answer.status.as_u16() != status {
            let text = String::from_utf8_lossy(&answer.body);
            let failure = format!("{target}: {} in place of {status}: {text}", answer.status);
            self.seen.failures.push(failure);
        }
    }

    async fn client(&mut self) -> Result<&mut Client> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(self.address).await?,
        };
        Ok(self.client.insert(client))
    }
}

fn secret(number: u32) -> String {
    format!("/v1/secret/data/soak/{}/{number}", number % FOLDERS)
}

fn folder(number: u32) -> String {
    format!("/v1/secret/metadata/soak/{}?list=true", number % FOLDERS)
}

fn value(number: u32) -> serde_json::Value {
    json!({ "data": { "number": number, "value": "x".repeat(1024) } })
}

const SECRETS: u32 = 20_000;
const FOLDERS: u32 = 400;
const CALLERS: usize = 32;
/// To Vault, kept for the next request.
const CONNECTIONS: f64 = 68.0;
