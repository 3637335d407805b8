//! A development Vault in memory: what `leasehold dev` starts and what the tests run against.
//!
//! It answers like an OpenBao 2.6 server for everything that this project and its clients use: token and
//! lease lives, policies, namespaces, wrapping, KV, database credentials, AppRole, Kubernetes; the same statuses, key
//! order and error texts. It has what a server should not have: a fault script and a log of every request.
//! It keeps nothing, encrypts nothing, and must never hold a real secret.
//!
//! Left out, and answered as unsupported: identity, PKI, SSH, TOTP, audit devices, plugins, quotas, MFA,
//! inline authentication, `?help=1`. Unlike the real in-memory server it has
//! `sys/storage/raft/snapshot`, for large downloads and uploads.
//!
//! Time is tokio's: on a paused clock nothing ends until the clock is moved.

mod answer;
mod body;
mod call;
mod clock;
mod engine;
mod fault;
mod fields;
mod glob;
mod handle;
mod log;
mod random;
mod routes;
mod seed;
mod serve;
mod state;

#[cfg(test)]
mod lives;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod wire;

use std::time::Duration;

pub use self::body::{Body, Cut, pattern};
pub use self::fault::{Fault, FaultId, Faults};
pub use self::handle::{DevVault, Minted, TokenWish};
pub use self::log::{Record, RequestLog};
use crate::secret::Secret;

/// How the development Vault is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of `database/creds/app-readonly`, and `aws/creds/app`.
    pub lease_ttl: Duration,
    pub lease_max_ttl: Duration,
    /// Of tokens that the AppRole role `app` gives.
    pub token_ttl: Duration,
    pub token_max_ttl: Duration,
    /// 0: unlimited.
    pub token_num_uses: u64,
    /// 0: unlimited.
    pub secret_id_num_uses: u64,
    /// Zero: no end.
    pub secret_id_ttl: Duration,
    /// Of `database/static-creds/app-static`.
    pub rotation_period: Duration,
    /// How many bytes `GET sys/storage/raft/snapshot` sends.
    pub download_size: u64,
    /// `None`: a random one.
    pub root_token: Option<Secret>,
    /// Secrets to read, besides the mounts and roles that are always there.
    pub seed_demo_data: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lease_ttl: seed::DEMO_LEASE.0,
            lease_max_ttl: seed::DEMO_LEASE.1,
            token_ttl: seed::DEMO_TOKEN.0,
            token_max_ttl: seed::DEMO_TOKEN.1,
            token_num_uses: 0,
            secret_id_num_uses: 0,
            secret_id_ttl: Duration::ZERO,
            rotation_period: seed::DEMO_ROTATION,
            download_size: 1024 * 1024,
            root_token: None,
            seed_demo_data: true,
        }
    }
}
