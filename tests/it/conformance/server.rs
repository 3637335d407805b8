//! The Vaults that are asked: the development Vault, and a real development server where there is one.

use std::env;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use leasehold::dev::{DevVault, Options};
use leasehold::secret::Secret;
use leasehold::tasks::Tasks;
use serde_json::Value;
use tokio::process::Child;
use tokio::time::{Instant, interval, timeout};

use super::client::Client;

/// One that runs; it ends with this value.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) root: String,
    /// By which its database engine talks to a Valkey.
    pub(super) plugin: &'static str,
    runs: Runs,
}

enum Runs {
    Here(Tasks),
    /// Killed when it is dropped.
    Process(Child),
}

/// A server's program on PATH.
#[derive(Debug, Clone)]
pub(super) struct Program {
    path: PathBuf,
    /// What it says of its version, in one line.
    pub(super) version: String,
}

impl Server {
    pub(super) async fn development() -> Self {
        let vault = DevVault::new(&Options {
            root_token: Some(Secret::new(chosen_root())),
            ..Options::default()
        });
        // The demonstration's own policy; a real server has none.
        let demonstration = "/v1/sys/policies/acl/app";
        vault.root("DELETE", demonstration, Value::Null).await;
        let tasks = Tasks::new();
        Self {
            address: vault.listen("127.0.0.1:0", &tasks).await.unwrap(),
            root: vault.root_token().expose().to_owned(),
            plugin: VALKEY,
            runs: Runs::Here(tasks),
        }
    }

    pub(super) async fn real(program: &Program) -> Self {
        let started = Instant::now();
        loop {
            let server = program.start(free_ports());
            if let Some(server) = server.ready(started + PATIENCE).await {
                return server;
            }
            // Somebody else took one of its ports in the meantime.
            assert!(started.elapsed() < PATIENCE, "{program} does not start");
        }
    }

    /// `None`: it ended.
    async fn ready(mut self, deadline: Instant) -> Option<Self> {
        let client = Client::new(self.address);
        let mut ticks = interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let Runs::Process(child) = &mut self.runs else {
                return Some(self);
            };
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            // The root token is there a little later than the health.
            let token = [("x-vault-token".to_owned(), self.root.clone())];
            for target in [
                "/v1/sys/health",
                "/v1/auth/token/lookup-self",
                "/v1/secret/config",
            ] {
                let answer = client.send("GET", target, &token, "").await;
                if !answer.is_ok_and(|answer| answer.status.is_success()) {
                    assert!(Instant::now() < deadline, "the server never became ready");
                    break;
                }
                if target == "/v1/secret/config" {
                    return Some(self);
                }
            }
        }
    }

    pub(super) async fn stop(self) {
        match self.runs {
            Runs::Here(tasks) => assert!(tasks.stop(PATIENCE).await),
            Runs::Process(mut child) => {
                let killed = timeout(PATIENCE, child.kill()).await;
                killed.expect("the server does not end").unwrap();
            }
        }
    }
}

impl Program {
    /// The first of `bao` and `vault` that is on PATH and says its version.
    pub(super) fn find() -> Option<Self> {
        let path = env::var_os("PATH")?;
        let named = ["bao", "vault"].into_iter().flat_map(|name| {
            let folders: Vec<PathBuf> = env::split_paths(&path).collect();
            folders.into_iter().map(move |folder| folder.join(name))
        });
        named.filter(|path| path.is_file()).find_map(|path| {
            let version = version(&path)?;
            Some(Self { path, version })
        })
    }

    pub(super) fn is_openbao(&self) -> bool {
        self.version.starts_with("OpenBao")
    }

    fn start(&self, port: u16) -> Server {
        let root = chosen_root();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = tokio::process::Command::new(&self.path)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-listen-address={address}"))
            .arg(format!("-dev-root-token-id={root}"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{self} cannot be started: {error}"));
        Server {
            address,
            root,
            plugin: if self.is_openbao() {
                VALKEY
            } else {
                "redis-database-plugin"
            },
            runs: Runs::Process(child),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.version, self.path.display())
    }
}

fn version(program: &Path) -> Option<String> {
    let said = Command::new(program).arg("version").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let line = said.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

fn chosen_root() -> String {
    format!("conformance-{:016x}", fastrand::u64(..))
}

/// A port that is free, and the next one too: the server's own cluster listener takes that.
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    (0..100)
        .find_map(|_| {
            let first = free(0)?.local_addr().ok()?.port();
            let _both = (free(first)?, free(first.checked_add(1)?)?);
            Some(first)
        })
        .expect("two free ports, one after the other")
}

const VALKEY: &str = "valkey-database-plugin";
const PATIENCE: Duration = Duration::from_secs(30);
