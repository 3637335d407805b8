//! A development Vault in this process that counts who is connected to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leasehold::dev::{DevVault, Options};
use leasehold::tasks::Tasks;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::stand::Result;
use crate::stand::leasehold::Access;

pub(crate) struct Upstream {
    pub(crate) vault: DevVault,
    pub(crate) access: Access,
    count: Arc<Count>,
}

/// Sockets, now and at most.
#[derive(Debug, Default)]
struct Count {
    open: AtomicU64,
    most: AtomicU64,
}

impl Upstream {
    pub(crate) async fn start() -> Result<Self> {
        let vault = DevVault::new(&Options {
            lease_ttl: Duration::from_secs(2),
            lease_max_ttl: Duration::from_secs(6),
            token_ttl: Duration::from_secs(20),
            token_max_ttl: Duration::from_secs(60),
            ..Options::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let access = Access {
            address: listener.local_addr()?,
            root: vault.root_token().expose().to_owned(),
            role_id: vault.role_id(),
            secret_id: vault.secret_id().expose().to_owned(),
        };
        let count = Arc::new(Count::default());
        Tasks::new().spawn(
            "listener",
            accept(listener, vault.clone(), Arc::clone(&count)),
        );
        Ok(Self {
            vault,
            access,
            count,
        })
    }

    /// Writes with the root token, past the network.
    pub(crate) async fn write(&self, target: &str, fields: Value) -> Result<()> {
        let (status, answer) = self.vault.root("POST", target, fields).await;
        if !status.is_success() {
            return Err(format!("{target}: {status} {answer}").into());
        }
        Ok(())
    }

    /// The most sockets that were open at once since the last look.
    pub(crate) fn most(&self) -> f64 {
        let open = self.count.open.load(Ordering::Relaxed);
        let most = self.count.most.swap(open, Ordering::Relaxed);
        f64::from(u32::try_from(most).unwrap_or(u32::MAX))
    }
}

async fn accept(listener: TcpListener, vault: DevVault, count: Arc<Count>) {
    let tasks = Tasks::new();
    while let Ok((stream, _)) = listener.accept().await {
        let open = count.open.fetch_add(1, Ordering::Relaxed) + 1;
        count.most.fetch_max(open, Ordering::Relaxed);
        let (vault, serving, count) = (vault.clone(), tasks.clone(), Arc::clone(&count));
        tasks.spawn("connection", async move {
            relay(stream, &vault, &serving).await;
            count.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn relay(mut stream: TcpStream, vault: &DevVault, tasks: &Tasks) {
    let mut pipe = vault.serve_duplex(tasks);
    if stream.set_nodelay(true).is_ok() {
        copy_bidirectional(&mut stream, &mut pipe).await.ok();
    }
}
