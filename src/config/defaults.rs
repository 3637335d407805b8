//! What holds where nothing was said.

use std::time::Duration;

use super::{
    AllowedHosts, Background, Cache, Config, Leases, Listener, Log, LogLevel, Socket,
    StaticSecrets, UseAutoAuthToken, Vault, VaultTls,
};

pub(super) const ADDRESS: &str = "https://127.0.0.1:8200";
pub(super) const LISTEN: &str = "127.0.0.1:8200";
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const VAULT_CONNECTIONS: usize = 64;
pub(super) const RETRIES: u32 = 12;
pub(super) const MIN_BACKOFF: Duration = Duration::from_secs(1);
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Where a pod has it, if it is not told otherwise.
pub(super) const SERVICE_ACCOUNT_TOKEN: &str =
    "/var/run/secrets/kubernetes.io/serviceaccount/token";
pub(super) const SINK_MODE: u32 = 0o640;
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// As Vault's own listener.
pub(super) const REQUEST_SIZE: u64 = 32 * 1024 * 1024;
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
pub(super) const CONNECTIONS: usize = 1024;
pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const STARTUP_WAIT: Duration = Duration::from_secs(5);
pub(super) const WORKER_THREADS: usize = 1;

impl Default for Config {
    fn default() -> Self {
        Self {
            vault: Vault::default(),
            auto_auth: None,
            use_auto_auth_token: UseAutoAuthToken::Off,
            allow_child_tokens: false,
            cache: None,
            listeners: Vec::new(),
            background: Background::default(),
            log: Log::default(),
            pid_file: None,
            exit_after_auth: false,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            startup_wait: STARTUP_WAIT,
            worker_threads: WORKER_THREADS,
        }
    }
}

impl Default for Vault {
    fn default() -> Self {
        Self {
            address: ADDRESS.to_owned(),
            namespace: None,
            tls: VaultTls::default(),
            timeout: TIMEOUT,
            num_retries: RETRIES,
            http_proxy: None,
            max_connections: VAULT_CONNECTIONS,
            headers: Vec::new(),
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: LISTEN.to_owned(),
            socket: Socket::Tcp,
            systemd: None,
            tls: None,
            metrics_only: false,
            enable_quit: false,
            require_request_header: false,
            allowed_hosts: AllowedHosts::Only(Vec::new()),
            header_timeout: HEADER_TIMEOUT,
            read_timeout: READ_TIMEOUT,
            max_request_size: Some(REQUEST_SIZE),
            idle_timeout: IDLE_TIMEOUT,
            max_connections: CONNECTIONS,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            json: false,
            to_stdout: false,
            file: None,
        }
    }
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            renew_at: 0.75,
            replace_at: 0.85,
            min_remaining: Duration::from_secs(10),
            idle_ttl: None,
            revoke_idle: false,
            revoke_on_exit: false,
        }
    }
}

impl Default for StaticSecrets {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            // Nothing stale is served in this version.
            max_stale: Duration::ZERO,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            max_size: 64 * 1024 * 1024,
            static_secrets: Some(StaticSecrets::default()),
            leases: Leases::default(),
            logins: true,
            token_create: false,
            paths: Vec::new(),
        }
    }
}

impl Default for Background {
    fn default() -> Self {
        Self {
            rate: 10.0,
            burst: 20,
        }
    }
}
