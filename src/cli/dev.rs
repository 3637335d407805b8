//! `leasehold dev`: a development Vault in memory, and Leasehold in front of it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::flags::DevFlags;
use super::run::{block_on, finish};
use super::say;
use crate::app;
use crate::config::{
    AppRole, AutoAuth, Cache, Config, CredentialSource, Listener, Log, Method, Passed,
    UseAutoAuthToken, Vault, parse_duration, parse_level,
};
use crate::dev::{DevVault, Options};
use crate::error::{Error, Kind, Result};
use crate::server::Address;
use crate::tasks::Tasks;
use crate::telemetry;

/// Runs until a signal; exit code 1 when a flag is wrong or a port is taken.
pub(super) fn dev(flags: &DevFlags) -> ExitCode {
    let outcome = options(flags).and_then(|options| {
        let level = flags.log_level.as_deref().unwrap_or("info");
        let level = parse_level(level).map_err(|error| wrong("log-level", &error))?;
        let log = Log {
            level,
            ..Log::default()
        };
        telemetry::start(&log)?;
        block_on(1, serve(flags.vault_port, flags.port, options, log))
    });
    finish(outcome, &Log::default())
}

async fn serve(vault_port: u16, port: u16, options: Options, log: Log) -> Result<ExitCode> {
    let tasks = Tasks::new();
    let vault = DevVault::new(&options);
    let listening = vault
        .listen(&format!("127.0.0.1:{vault_port}"), &tasks)
        .await;
    let vault_address = listening.map_err(|error| on_port(error, "-vault-port"))?;
    let config = config(&vault, vault_address, port, log);
    let outcome = app::run(config, Passed::default(), |leasehold| {
        for address in leasehold.addresses().iter().filter_map(Address::tcp) {
            say(introduction(vault_address, address, &vault));
        }
    })
    .await;
    tasks.stop(Duration::from_secs(1)).await;
    outcome.map_err(|error| on_port(error, "-port"))
}

fn options(flags: &DevFlags) -> Result<Options> {
    let duration = |flag: &str, text: &str| {
        let parsed = parse_duration(text).map_err(|error| wrong(flag, &error))?;
        if parsed < Duration::from_secs(1) {
            return Err(wrong(flag, "at least one second is needed"));
        }
        Ok(parsed)
    };
    let or_default = |flag: &str, text: &Option<String>, default: Duration| {
        text.as_deref()
            .map_or(Ok(default), |text| duration(flag, text))
    };
    let defaults = Options::default();
    let options = Options {
        lease_ttl: duration("ttl", &flags.ttl)?,
        lease_max_ttl: duration("max-ttl", &flags.max_ttl)?,
        token_ttl: or_default("token-ttl", &flags.token_ttl, defaults.token_ttl)?,
        token_max_ttl: or_default(
            "token-max-ttl",
            &flags.token_max_ttl,
            defaults.token_max_ttl,
        )?,
        ..defaults
    };
    in_order("ttl", options.lease_ttl, options.lease_max_ttl)?;
    in_order("token-ttl", options.token_ttl, options.token_max_ttl)?;
    Ok(options)
}

/// A life beyond its hard end would be cut without a word.
fn in_order(flag: &str, ttl: Duration, max_ttl: Duration) -> Result<()> {
    if ttl <= max_ttl {
        return Ok(());
    }
    let max_flag = flag.replace("ttl", "max-ttl");
    let (ttl, max_ttl) = (ttl.as_secs(), max_ttl.as_secs());
    Err(wrong(
        flag,
        &format!("{ttl}s is beyond the hard end, {max_ttl}s: give -{max_flag} too"),
    ))
}

/// What a configuration file for the development Vault would say.
fn config(vault: &DevVault, vault_address: SocketAddr, port: u16, log: Log) -> Config {
    let of_dev = |name: &str, value| CredentialSource::Env {
        name: name.to_owned(),
        value: Some(value),
    };
    Config {
        vault: Vault {
            address: format!("http://{vault_address}"),
            ..Vault::default()
        },
        auto_auth: Some(AutoAuth {
            method: Method::AppRole(AppRole {
                role_id: of_dev("the development Vault's role id", vault.role_id().into()),
                secret_id: Some(of_dev(
                    "the development Vault's secret id",
                    vault.secret_id(),
                )),
                remove_secret_id_file_after_reading: false,
                secret_id_response_wrapping_path: None,
            }),
            mount_path: "auth/approle".to_owned(),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            exit_on_err: false,
            sinks: Vec::new(),
        }),
        use_auto_auth_token: UseAutoAuthToken::WhenAbsent,
        cache: Some(Cache::default()),
        listeners: vec![Listener {
            address: format!("127.0.0.1:{port}"),
            enable_quit: true,
            ..Listener::default()
        }],
        log,
        ..Config::default()
    }
}

fn introduction(vault_address: SocketAddr, address: SocketAddr, vault: &DevVault) -> String {
    format!(
        "Leasehold listens on {address}, in front of a development Vault on {vault_address}.\n\
         Everything is in memory; nothing here is secret. The Vault's root token: {root}\n\
         \n\
         export VAULT_ADDR=http://{address}\n\
         \n\
         # A secret, twice: MISS, then HIT\n\
         curl -si $VAULT_ADDR/v1/secret/data/app/config\n\
         curl -si $VAULT_ADDR/v1/secret/data/app/config\n\
         \n\
         # A database credential, twice: the same one, with less time left\n\
         curl -s $VAULT_ADDR/v1/database/creds/app-readonly\n\
         curl -s $VAULT_ADDR/v1/database/creds/app-readonly\n\
         \n\
         # What is kept alive, and what happens next\n\
         curl -s $VAULT_ADDR/agent/v1/status\n\
         \n\
         # More to read: kv/app/config, secret/cwiq/dev/orchestrator/database and .../config\n\
         # Ctrl-C ends both.",
        root = vault.root_token().expose(),
    )
}

fn on_port(error: Error, flag: &str) -> Error {
    if error.kind() == Kind::Bind {
        return Error::new(Kind::Bind, format!("{error} ({flag}=PORT)"));
    }
    error
}

fn wrong(flag: &str, why: &str) -> Error {
    Error::new(Kind::BadRequest, format!("-{flag}: {why}"))
}
