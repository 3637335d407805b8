//! From a configuration to the end of the process: start, serve, drain, exit code.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::pid_file::PidFile;
use super::{Ending, Leasehold};
use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// Runs until a signal, `quit`, `exit_after_auth` or a fatal error ends it; a second signal ends it at once.
///
/// `started` is told once everything listens.
///
/// # Errors
/// What keeps it from starting, and what made it give up.
pub async fn run(config: Config, started: impl FnOnce(&Leasehold)) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let pid_file = config.pid_file.clone();
    let leasehold = Leasehold::start(config).await?;
    let _pid_file = pid_file.as_deref().map(PidFile::write).transpose()?;
    for address in leasehold.addresses() {
        tracing::info!(%address, "listening");
    }
    started(&leasehold);
    let ending = tokio::select! {
        ending = leasehold.ending() => Some(ending),
        name = signals.next() => {
            tracing::info!(signal = name, "stopping; a second signal ends at once");
            None
        }
    };
    let stopped = tokio::select! {
        drained = leasehold.stop() => drained,
        name = signals.next() => {
            tracing::warn!(signal = name, "a second signal: ending at once");
            false
        }
    };
    if !stopped {
        tracing::warn!("not everything ended by itself");
    }
    match ending {
        Some(Ending::Fatal(error)) => Err(error),
        Some(Ending::Quit | Ending::AuthDone) | None => Ok(ExitCode::SUCCESS),
    }
}

/// The signals that ask for an end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
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
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
