//! A development Vault behind TLS, and a Leasehold that reaches it over real connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold::app::Leasehold;
use leasehold::config::{Config, VaultTls};
use leasehold::dev::{DevVault, Options};
use leasehold::error::Error;
use leasehold::tasks::Tasks;
use rustls::{ALL_VERSIONS, ProtocolVersion, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::certs::Signed;
use crate::child::soon;
use crate::support::{self, Client};

/// A development Vault behind TLS, on loopback.
pub(super) struct TlsVault {
    pub(super) vault: DevVault,
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: Tasks,
}

struct Shared {
    config: Mutex<Arc<ServerConfig>>,
    greetings: Mutex<Vec<Greeting>>,
    /// Of the connections that exist.
    cut: Mutex<CancellationToken>,
}

/// How a connection began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) name: Option<String>,
    pub(super) version: Option<ProtocolVersion>,
    pub(super) has_certificate: bool,
}

impl TlsVault {
    /// In all versions of TLS, without client certificates.
    pub(super) async fn plainly(certificate: &Signed) -> Self {
        Self::start(certificate.server(None, ALL_VERSIONS)).await
    }

    pub(super) async fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (vault, tasks) = (DevVault::new(&Options::default()), Tasks::new());
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            greetings: Mutex::default(),
            cut: Mutex::default(),
        });
        let address = listener.local_addr().unwrap();
        let (serving, shared_too, accepting) = (vault.clone(), Arc::clone(&shared), tasks.clone());
        tasks.spawn("tls vault", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (vault, shared) = (serving.clone(), Arc::clone(&shared_too));
                let (tasks, cut) = (accepting.clone(), shared.cut.lock().unwrap().clone());
                accepting.spawn("tls vault connection", async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = serve(vault, shared, stream, tasks) => {}
                    }
                });
            }
        });
        Self {
            vault,
            address,
            shared,
            _tasks: tasks,
        }
    }

    /// From now on, for new connections; those that exist are cut off.
    pub(super) fn becomes(&self, config: Arc<ServerConfig>) {
        *self.shared.config.lock().unwrap() = config;
        self.cut();
    }

    pub(super) fn cut(&self) {
        std::mem::take(&mut *self.shared.cut.lock().unwrap()).cancel();
    }

    pub(super) fn greetings(&self) -> Vec<Greeting> {
        self.shared.greetings.lock().unwrap().clone()
    }

    pub(super) fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.address.port())
    }

    /// A Leasehold at `host`, which is a name of loopback, with these TLS settings.
    pub(super) async fn leasehold(&self, host: &str, tls: VaultTls) -> Reached {
        self.leasehold_with(|config| {
            config.vault.address = self.url(host);
            config.vault.tls = tls;
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) async fn leasehold_with(
        &self,
        change: impl FnOnce(&mut Config),
    ) -> Result<Reached, Error> {
        Reached::start(&self.vault, change).await
    }
}

async fn serve(vault: DevVault, shared: Arc<Shared>, stream: TcpStream, tasks: Tasks) {
    let config = Arc::clone(&*shared.config.lock().unwrap());
    let accepted = TlsAcceptor::from(config).accept(stream).await;
    let Ok(mut stream) = accepted else { return };
    let (_, tls) = stream.get_ref();
    shared.greetings.lock().unwrap().push(Greeting {
        name: tls.server_name().map(str::to_owned),
        version: tls.protocol_version(),
        has_certificate: tls.peer_certificates().is_some(),
    });
    let mut pipe = vault.serve_duplex(&tasks);
    let _ended = copy_bidirectional(&mut stream, &mut pipe).await;
}

/// A Leasehold, and somebody who asks it.
pub(super) struct Reached {
    pub(super) leasehold: Leasehold,
    pub(super) client: Client,
}

impl Reached {
    pub(super) async fn start(
        vault: &DevVault,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, Error> {
        let mut config = support::config(vault);
        let auth = config.auto_auth.as_mut().unwrap();
        auth.min_backoff = Duration::from_millis(50);
        auth.max_backoff = Duration::from_millis(50);
        config.startup_wait = Duration::from_millis(1);
        change(&mut config);
        let leasehold = Leasehold::start(config).await?;
        let client = Client::of(&leasehold);
        Ok(Self { leasehold, client })
    }

    pub(super) async fn reads(&self) {
        soon("a login", self.leasehold.authenticated()).await;
        let path = format!("secret/data/app/config?n={}", fastrand::u64(..));
        let reply = self.client.get(&path).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
    }

    /// What a request is told that cannot be passed on, over a new connection.
    pub(super) async fn failure(&self) -> String {
        let reply = self.client.bearing("anybody").get("secret/data/x").await;
        assert_eq!(reply.status, 502, "{}", reply.json());
        reply.at("/errors/0")
    }

    /// The number of a metric.
    pub(super) async fn metric(&self, name: &str) -> u64 {
        let text = self.client.text("/agent/v1/metrics").await;
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let mut found = lines.filter(|(line, _)| *line == name);
        let (_, value) = found.next().unwrap_or_else(|| panic!("no {name}"));
        value.parse().unwrap()
    }

    pub(super) async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.client.text("/agent/v1/status").await).unwrap()
    }
}

/// Files in a directory of their own.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Put there whole, as whatever rotates certificates does.
    pub(super) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }
}

/// An HTTP proxy that knows CONNECT; hands back its address and what it was asked for.
pub(super) async fn connect_proxy(tasks: &Tasks) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (noted, spawning) = (Arc::clone(&asked), tasks.clone());
    tasks.spawn("connect proxy", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            spawning.spawn("tunnel", async move { tunnel(stream, &noted).await });
        }
    });
    (address, asked)
}

async fn tunnel(mut stream: TcpStream, noted: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().next().unwrap().to_owned();
    let target = line.split(' ').nth(1).unwrap().to_owned();
    noted.lock().unwrap().push(line);
    let mut onwards = TcpStream::connect(target).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let _ended = copy_bidirectional(&mut stream, &mut onwards).await;
}
