//! What a configuration means: stage two, without `Option`s that have no meaning.
//!
//! Stage one (`file`, read by `read`) is what was typed, with places; `merge` makes one of several files,
//! `validate` asks whether the whole makes sense, `check` turns it into this and reports every culprit.
//! Keys and defaults: README, "Configuration", and `config/leasehold.hcl`.

mod address;
mod check;
mod defaults;
mod effective;
mod env;
mod excerpt;
mod file;
mod findings;
mod forms;
mod hosts;
mod load;
mod mask;
mod merge;
mod read;
mod socket;
mod source;
mod tls;
mod units;
mod validate;

use std::path::PathBuf;
use std::time::Duration;

pub use check::parse_level;
pub use effective::render_effective;
pub use env::{Environment, Passed, Vars, passed};
pub use excerpt::render_text;
pub use findings::{Finding, Severity};
pub use load::{Loaded, Overrides, Product, Report, Strictness, load};
pub use socket::{Activation, AllowedPeers, Principal, Socket, UnixSocket};
pub use tls::{ClientCerts, ListenerTls, TlsVersion};
pub use units::parse_duration;

use crate::secret::Secret;

/// Everything that takes effect.
#[derive(Debug, Clone)]
pub struct Config {
    pub vault: Vault,
    pub auto_auth: Option<AutoAuth>,
    pub use_auto_auth_token: UseAutoAuthToken,
    /// May callers make child tokens of the auto-auth token?
    pub allow_child_tokens: bool,
    /// `None`: no `cache` block, everything is forwarded.
    pub cache: Option<Cache>,
    pub listeners: Vec<Listener>,
    pub background: Background,
    pub log: Log,
    pub pid_file: Option<PathBuf>,
    /// End with 0 once the first token was written to every sink.
    pub exit_after_auth: bool,
    /// How long a stop may take, in-flight requests included.
    pub shutdown_timeout: Duration,
    /// How long a request may wait for the first login.
    pub startup_wait: Duration,
    pub worker_threads: usize,
}

/// The Vault that is talked to.
#[derive(Debug, Clone)]
pub struct Vault {
    /// `http://` or `https://`, host, optional port, optional base path (`https://host/vault`), no trailing slash;
    /// or `unix://` and a socket's path, `@name` for an abstract one.
    pub address: String,
    /// The namespace of Leasehold's own calls (login, renewals).
    pub namespace: Option<String>,
    pub tls: VaultTls,
    /// The deadline of one forwarded request, up to its answer's head, from when its body last moved. Env
    /// `CLIENT_TIMEOUT`, 60 s.
    pub timeout: Duration,
    /// As the peers read `retry { num_retries }`: 0 or absent is 12, -1 is 0.
    pub num_retries: u32,
    /// Upstream HTTP proxy, only when configured (`VAULT_PROXY_ADDR`, `VAULT_HTTP_PROXY`).
    pub http_proxy: Option<String>,
    /// Upstream connections open at once.
    pub max_connections: usize,
    /// Headers of Leasehold's own calls (`-header`).
    pub headers: Vec<(String, Secret)>,
}

#[derive(Debug, Clone, Default)]
pub struct VaultTls {
    pub ca_cert: Option<PathBuf>,
    /// PEM text (`VAULT_CACERT_BYTES`).
    pub ca_pem: Option<String>,
    pub ca_path: Option<PathBuf>,
    pub client_cert: Option<PathBuf>,
    /// PEM text (`VAULT_CLIENT_CERT_BYTES`); a file goes before it.
    pub client_cert_pem: Option<String>,
    pub client_key: Option<PathBuf>,
    /// PEM text (`VAULT_CLIENT_KEY_BYTES`); a file goes before it.
    pub client_key_pem: Option<Secret>,
    pub server_name: Option<String>,
    pub danger_skip_verify: bool,
}

#[derive(Debug, Clone)]
pub struct AutoAuth {
    pub method: Method,
    /// With `auth/`, without slashes at the ends: `auth/approle`.
    pub mount_path: String,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    pub exit_on_err: bool,
    pub sinks: Vec<Sink>,
}

#[derive(Debug, Clone)]
pub enum Method {
    AppRole(AppRole),
    TokenFile { path: PathBuf },
    Kubernetes(Kubernetes),
}

impl Method {
    /// As the configuration calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AppRole(_) => "approle",
            Self::TokenFile { .. } => "token_file",
            Self::Kubernetes(_) => "kubernetes",
        }
    }
}

/// Login by the token of the pod's service account.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    pub role: String,
    pub token_path: PathBuf,
}

#[derive(Debug, Clone)]
pub struct AppRole {
    pub role_id: CredentialSource,
    /// `None`: log in by role id alone.
    pub secret_id: Option<CredentialSource>,
    pub remove_secret_id_file_after_reading: bool,
    /// The `creation_path` that a response-wrapped secret id must have.
    pub secret_id_response_wrapping_path: Option<String>,
}

/// Where a credential comes from; the name is what error messages quote.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    File(PathBuf),
    /// The variable's name and the value it had at start (`None`: unset).
    Env {
        name: String,
        value: Option<Secret>,
    },
}

/// A plain file sink.
#[derive(Debug, Clone)]
pub struct Sink {
    pub path: PathBuf,
    pub mode: u32,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UseAutoAuthToken {
    #[default]
    Off,
    /// Where the caller has none of its own.
    WhenAbsent,
    /// In place of the caller's own.
    Force,
}

#[derive(Debug, Clone)]
pub struct Cache {
    /// Bytes of bodies and keys.
    pub max_size: u64,
    /// `None`: static secrets are not cached.
    pub static_secrets: Option<StaticSecrets>,
    pub leases: Leases,
    /// Share the answers of identical logins.
    pub logins: bool,
    /// Share the answers of identical `auth/token/create*` calls.
    pub token_create: bool,
    pub paths: Vec<PathRule>,
}

#[derive(Debug, Clone)]
pub struct StaticSecrets {
    pub ttl: Duration,
    pub max_stale: Duration,
}

#[derive(Debug, Clone)]
pub struct Leases {
    /// Fraction of the granted TTL, 0.1..=0.95.
    pub renew_at: f64,
    /// Fraction of what is left, 0.1..=0.95.
    pub replace_at: f64,
    pub min_remaining: Duration,
    /// `None`: one TTL of the lease.
    pub idle_ttl: Option<Duration>,
    pub revoke_idle: bool,
    pub revoke_on_exit: bool,
}

/// `path "glob" { ... }`: the first rule that matches decides. `*` matches any text, slashes too.
#[derive(Debug, Clone)]
pub struct PathRule {
    pub glob: String,
    pub mode: Option<PathMode>,
    pub ttl: Option<Duration>,
    pub max_stale: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMode {
    Bypass,
    Static,
    Leased,
}

/// Where callers come in.
#[derive(Debug, Clone)]
pub struct Listener {
    /// `host:port` (port 0 takes a free one), or a Unix socket's path or `@name`.
    pub address: String,
    pub socket: Socket,
    /// The socket is one that systemd passes, in place of the address.
    pub systemd: Option<Activation>,
    /// `None`: plain HTTP.
    pub tls: Option<ListenerTls>,
    pub metrics_only: bool,
    pub enable_quit: bool,
    /// 412 unless `X-Vault-Request: true`, control endpoints included.
    pub require_request_header: bool,
    /// Which `Host` is answered.
    pub allowed_hosts: AllowedHosts,
    pub header_timeout: Duration,
    /// How long a body may be waited for, a second more for each KiB that has come.
    pub read_timeout: Duration,
    /// The largest body; `None`: any. Snapshots that are restored are exempt, as Vault has it.
    pub max_request_size: Option<u64>,
    pub idle_timeout: Duration,
    pub max_connections: usize,
}

/// The names by which a listener may be called. A web page can give its own name the address of a listener
/// on loopback (DNS rebinding); the name then stands in `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHosts {
    Any,
    /// `localhost` and the addresses of loopback, which nobody can give to anybody else, and these: host
    /// names and addresses in lower case, `*.suffix`; with a port or, for any port, without.
    Only(Vec<String>),
}

/// The token bucket of Leasehold's own calls to Vault.
#[derive(Debug, Clone)]
pub struct Background {
    /// Calls per second, at least one in a hundred seconds.
    pub rate: f64,
    pub burst: u32,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub level: LogLevel,
    pub json: bool,
    /// To standard output in place of standard error.
    pub to_stdout: bool,
    /// Beside the standard stream.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}
