//! From a configuration to the end of the process: start, serve, drain, exit code.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::listeners::Listening;
use super::pid_file::PidFile;
use super::{Ending, Leasehold};
use crate::config::{Config, Passed};
use crate::error::{Error, Kind, Result};

/// Runs until a signal, `quit`, `exit_after_auth` or a fatal error ends it; a second signal ends it at once.
///
/// `passed` are the sockets that came with the process; `started` is told once everything listens.
///
/// # Errors
/// What keeps it from starting, and what made it give up.
pub async fn run(
    config: Config,
    passed: Passed,
    started: impl FnOnce(&Leasehold),
) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    introduce(&config);
    let pid_file = config.pid_file.clone();
    let leasehold = tokio::select! {
        started = Leasehold::start_on(config, passed) => started?,
        name = signals.next(starting) => {
            tracing::info!(signal = name, "stopped before everything had started");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let _pid_file = pid_file.as_deref().map(PidFile::write).transpose()?;
    leasehold.listeners.iter().for_each(Listening::say);
    let reload = || leasehold.reload();
    started(&leasehold);
    let ending = tokio::select! {
        ending = leasehold.ending() => Some(ending),
        name = signals.next(reload) => {
            leasehold.say_stopping(&format!("by {name}; a second signal ends it at once"));
            None
        }
    };
    if let Some(ending) = &ending {
        leasehold.say_stopping(match ending {
            Ending::Quit => "by POST /agent/v1/quit",
            Ending::AuthDone => "by exit_after_auth: the token is where it was wanted",
            Ending::Fatal(_) => "by an error that waiting does not mend",
        });
    }
    let has_heard_one = ending.is_none();
    tokio::select! {
        drained = leasehold.stop() => leasehold.say_stopped(drained),
        name = signals.last(has_heard_one, reload) => {
            tracing::warn!(signal = name, "a second signal: ending at once, whatever still runs");
        }
    }
    match ending {
        Some(Ending::Fatal(error)) => Err(error),
        Some(Ending::Quit | Ending::AuthDone) | None => Ok(ExitCode::SUCCESS),
    }
}

/// Everything is being read anyway.
fn starting() {
    tracing::info!("SIGHUP: everything is just being read");
}

/// What somebody who reads the log later wants to know first.
fn introduce(config: &Config) {
    let auth = config.auto_auth.as_ref().map(|auth| auth.method.name());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        vault = config.vault.address,
        namespace = config.vault.namespace,
        auto_auth = auth.unwrap_or("none"),
        cache = config.cache.is_some(),
        "starting"
    );
}

impl Leasehold {
    fn say_stopping(&self, why: &str) {
        tracing::info!(
            within_seconds = self.config.shutdown_timeout.as_secs(),
            "stopping {why}"
        );
    }

    fn say_stopped(&self, drained: bool) {
        if drained {
            tracing::info!("stopped");
            return;
        }
        tracing::warn!(
            tasks = self.tasks.alive(),
            "shutdown_timeout is over: what still ran was cut off"
        );
    }
}

/// The signals that mean something here.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Error::new(
                    Kind::Internal,
                    format!("signals cannot be listened to: {error}"),
                )
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user: listen(SignalKind::user_defined1())?,
        })
    }

    /// The next one that asks for an end. Those that the peers take otherwise must not end the process, which
    /// is what the system does when nobody listens.
    async fn next(&mut self, reload: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => reload(),
                _ = self.user.recv() => tracing::warn!(
                    "SIGUSR1 has no effect: metrics are at GET /agent/v1/metrics of a listener"
                ),
            }
        }
    }

    /// The one that ends a stop at once: the second. A supervisor's first may well come after a `quit`.
    async fn last(&mut self, mut has_heard_one: bool, reload: impl Fn()) -> &'static str {
        loop {
            let name = self.next(&reload).await;
            if has_heard_one {
                return name;
            }
            has_heard_one = true;
            tracing::info!(
                signal = name,
                "already stopping; a second signal ends it at once"
            );
        }
    }
}
