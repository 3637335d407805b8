//! `leasehold agent` and `leasehold proxy`.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::check::report;
use super::complain;
use super::flags::{HttpFlags, RunFlags};
use super::open_files;
use crate::app;
use crate::config::{
    self, Environment, Finding, Loaded, Log, Overrides, Product, Strictness, Vars,
};
use crate::error::{Error, Kind, Result};
use crate::telemetry;

/// Exit code 0 after an orderly end, 1 after anything else.
pub(super) fn run(flags: &RunFlags, product: Product) -> ExitCode {
    let paths: Vec<PathBuf> = flags.config.iter().map(PathBuf::from).collect();
    let loaded = config::load(
        &paths,
        product,
        &overrides(flags),
        &Environment,
        Strictness::Run,
    );
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(findings) => {
            refuse(flags, &findings);
            return ExitCode::FAILURE;
        }
    };
    if flags.test_verify_only == Some(true) {
        report(&loaded.findings);
        return ExitCode::SUCCESS;
    }
    serve(loaded)
}

fn serve(loaded: Loaded) -> ExitCode {
    let Loaded {
        config, findings, ..
    } = loaded;
    let log = config.log.clone();
    if let Err(error) = telemetry::start(&log) {
        return finish(Err(error), &Log::default());
    }
    if log.json {
        log_findings(&findings);
    } else {
        report(&findings);
    }
    open_files::raise_for(&config);
    let passed = config::passed(&Environment);
    let outcome = block_on(config.worker_threads, app::run(config, passed, |_| {}));
    finish(outcome, &log)
}

/// Says why it ended, where that was not asked for: where the log goes, once it is started and is more than
/// text for whoever looks at standard error.
pub(super) fn finish(outcome: Result<ExitCode>, log: &Log) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        if log.json || log.to_stdout || log.file.is_some() {
            tracing::error!(kind = error.kind().name(), %error, "ended with exit code 1");
        } else {
            complain(format_args!("error: {error}"));
        }
        ExitCode::FAILURE
    })
}

/// A configuration that cannot be run, in the form that was asked for outside of it.
fn refuse(flags: &RunFlags, findings: &[Finding]) {
    let of_env = || {
        let names = ["BAO_LOG_FORMAT", "VAULT_LOG_FORMAT"];
        names.into_iter().find_map(|name| Environment.var(name))
    };
    let format = flags.log.log_format.clone().or_else(of_env);
    let log = Log {
        json: true,
        to_stdout: flags.combine_logs == Some(true),
        ..Log::default()
    };
    let is_json = format.is_some_and(|format| format.eq_ignore_ascii_case("json"));
    if is_json && telemetry::start(&log).is_ok() {
        log_findings(findings);
    } else {
        report(findings);
    }
}

fn log_findings(findings: &[Finding]) {
    for finding in findings {
        let Finding {
            file,
            line,
            column,
            key,
            suggestion,
            message,
            ..
        } = finding;
        if finding.is_error() {
            tracing::error!(file, line, column, key, suggestion, "{message}");
        } else {
            tracing::warn!(file, line, column, key, suggestion, "{message}");
        }
    }
}

/// Runs `future` on a runtime of its own. What then still runs is left behind: a second signal has come,
/// or the deadline of the drain.
pub(super) fn block_on<T>(workers: usize, future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime(workers).map_err(|error| {
        Error::new(
            Kind::Internal,
            format!("the runtime cannot be started: {error}"),
        )
    })?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_timeout(Duration::ZERO);
    outcome
}

/// One thread does for a sidecar, and does without the hand-over between threads.
fn runtime(workers: usize) -> std::io::Result<Runtime> {
    match workers {
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        many => Builder::new_multi_thread()
            .worker_threads(many)
            .enable_all()
            .build(),
    }
}

fn overrides(flags: &RunFlags) -> Overrides {
    let HttpFlags {
        address,
        agent_address,
        ca_cert,
        ca_path,
        client_cert,
        client_key,
        tls_server_name,
        tls_skip_verify,
        ..
    } = &flags.http;
    Overrides {
        address: address.clone(),
        agent_address: agent_address.clone(),
        ca_cert: ca_cert.clone(),
        ca_path: ca_path.clone(),
        client_cert: client_cert.clone(),
        client_key: client_key.clone(),
        namespace: flags.http.namespace().map(str::to_owned),
        tls_server_name: tls_server_name.clone(),
        tls_skip_verify: *tls_skip_verify,
        log_level: flags.log.log_level.clone(),
        log_format: flags.log.log_format.clone(),
        log_file: flags.log.log_file.clone(),
        log_rotate_bytes: flags.log.log_rotate_bytes.map(|bytes| bytes.to_string()),
        log_rotate_duration: flags.log.log_rotate_duration.clone(),
        log_rotate_max_files: flags
            .log
            .log_rotate_max_files
            .map(|files| files.to_string()),
        exit_after_auth: flags.exit_after_auth,
        combine_logs: flags.combine_logs == Some(true),
        headers: flags
            .http
            .headers()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}
