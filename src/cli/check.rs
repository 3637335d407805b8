//! `leasehold check`: is a configuration good, and what does it mean?

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::flags::{CheckFlags, Format};
use super::{complain, say};
use crate::config::{
    self, Environment, Finding, Overrides, Product, Report, Strictness, render_effective,
    render_text,
};

/// Exit code 0 when it can be run, else 1. Findings and effective values go to standard output in JSON;
/// in text the findings go to standard error.
pub(super) fn check(flags: &CheckFlags) -> ExitCode {
    let paths: Vec<PathBuf> = flags.config.iter().map(PathBuf::from).collect();
    let loaded = config::load(
        &paths,
        Product::Agent,
        &Overrides::default(),
        &Environment,
        Strictness::Check,
    );
    let is_good = loaded.is_ok();
    match flags.format.unwrap_or(Format::Text) {
        Format::Json => say(format_args!("{:#}", json!(Report::from(&loaded)))),
        Format::Text => match loaded {
            Ok(loaded) => {
                report(&loaded.findings);
                say(render_effective(&loaded.effective).trim_end());
            }
            Err(findings) => report(&findings),
        },
    }
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

pub(super) fn report(findings: &[Finding]) {
    if !findings.is_empty() {
        complain(render_text(findings).trim_end());
    }
}
