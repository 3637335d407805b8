//! Files, environment and command line in; a `Config` or every culprit out.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::check::Check;
use super::env::{self, Vars};
use super::file::{self, File};
use super::findings::{At, Finding, Findings, Note, Phase, Severity};
use super::merge::merge;
use super::read::Reader;
use super::source::Sources;
use super::validate::validate;
use super::{Config, effective};
use crate::hcl;
use crate::secret::Secret;

/// What was given on the command line. Each field is the flag of its name; `None` is not given.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub address: Option<String>,
    /// Taken for the peers' sake and without effect: Leasehold never talks to itself.
    pub agent_address: Option<String>,
    pub ca_cert: Option<String>,
    pub ca_path: Option<String>,
    pub client_cert: Option<String>,
    pub client_key: Option<String>,
    pub namespace: Option<String>,
    pub tls_server_name: Option<String>,
    pub tls_skip_verify: Option<bool>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub log_file: Option<String>,
    pub log_rotate_bytes: Option<String>,
    pub log_rotate_duration: Option<String>,
    pub log_rotate_max_files: Option<String>,
    pub exit_after_auth: Option<bool>,
    /// Log to standard output.
    pub combine_logs: bool,
    /// Headers of Leasehold's own calls.
    pub headers: Vec<(String, Secret)>,
}

impl Overrides {
    pub(super) fn log_rotation(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("log-rotate-bytes", self.log_rotate_bytes.as_deref()),
            ("log-rotate-duration", self.log_rotate_duration.as_deref()),
            ("log-rotate-max-files", self.log_rotate_max_files.as_deref()),
        ]
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value?)))
    }
}

/// Which of Vault's two commands is stood in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Agent,
    Proxy,
}

impl Product {
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Proxy => "proxy",
        }
    }
}

/// What an unknown key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// `leasehold check`: an error.
    Check,
    /// A warning, so that a file written for Vault keeps working.
    Run,
}

/// A configuration that can be run.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Warnings.
    pub findings: Vec<Finding>,
    /// What takes effect, under the configuration's own key names; no secret in it.
    pub effective: Value,
}

/// What `leasehold check -format=json` prints.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub findings: &'a [Finding],
    /// `None` where there are errors.
    pub effective: Option<&'a Value>,
}

impl<'a> From<&'a Result<Loaded, Vec<Finding>>> for Report<'a> {
    fn from(result: &'a Result<Loaded, Vec<Finding>>) -> Self {
        match result {
            Ok(loaded) => Self {
                findings: &loaded.findings,
                effective: Some(&loaded.effective),
            },
            Err(findings) => Self {
                findings,
                effective: None,
            },
        }
    }
}

/// Reads and checks everything; talks to nobody.
///
/// # Errors
/// All findings, warnings too, when at least one is an error.
pub fn load(
    paths: &[PathBuf],
    product: Product,
    overrides: &Overrides,
    vars: &dyn Vars,
    strictness: Strictness,
) -> Result<Loaded, Vec<Finding>> {
    let found = Findings::default();
    let sources = sources(paths, product, vars, &found);
    let (files, whole) = read(&sources, product, strictness, &found);
    let (merged, replaced) = merge(files);
    // With a file missing, what is missing in the whole says nothing.
    if whole && !sources.is_empty() {
        validate(&merged, product, &found);
    }
    let check = Check {
        overrides,
        vars,
        strictness,
        found: &found,
    };
    let config = check.config(&merged);
    file::connections_by_variable(vars, product, &found);
    let findings = found.into_list(&sources, &replaced);
    if findings.iter().any(Finding::is_error) {
        return Err(findings);
    }
    Ok(Loaded {
        effective: effective::of(&config, product),
        config,
        findings,
    })
}

fn sources(paths: &[PathBuf], product: Product, vars: &dyn Vars, found: &Findings) -> Sources {
    let suffix = format!("{}_CONFIG_PATH", product.name().to_ascii_uppercase());
    let of_env = env::find(vars, &suffix).map_or(Vec::new(), |(_, list)| {
        let paths = list
            .split(',')
            .map(str::trim)
            .filter(|path| !path.is_empty());
        paths.map(PathBuf::from).collect()
    });
    let all = [of_env, paths.to_vec()].concat();
    if all.is_empty() {
        let message = format!(
            "no configuration: give -config=FILE-or-DIRECTORY, or set BAO_{suffix} or VAULT_{suffix}"
        );
        found.error(Phase::Load, None, message);
    }
    Sources::read(&all, found)
}

/// Every file by itself, and whether all of them could be read.
fn read(
    sources: &Sources,
    product: Product,
    strictness: Strictness,
    found: &Findings,
) -> (Vec<File>, bool) {
    let mut files = Vec::new();
    let mut whole = sources.complete;
    for (id, source) in sources.iter() {
        let reader = Reader {
            source,
            id,
            product,
            unknown: match strictness {
                Strictness::Check => Severity::Error,
                Strictness::Run => Severity::Warning,
            },
            found,
        };
        match hcl::parse(&source.text) {
            Ok(object) => files.push(File::read(reader, &object)),
            Err(error) => {
                let at = |span| At { source: id, span };
                let related = error.related.map(|(span, what)| (at(span), what));
                let mut note = Note::error(Phase::Load, Some(at(error.span)), error.message);
                if let Some((at, what)) = related {
                    note = note.related(Some(at), what);
                }
                found.add(note);
                whole = false;
            }
        }
    }
    (files, whole)
}
