//! The environment: the only place that reads the process's, and where tests put their own.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use listenfd::ListenFd;

/// Where variables come from.
pub trait Vars {
    fn var(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Environment;

impl Vars for Environment {
    #[expect(clippy::disallowed_methods, reason = "this is config::env")]
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Vars for BTreeMap<String, String> {
    fn var(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

impl Vars for HashMap<String, String> {
    fn var(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

/// The sockets that whoever started this process has passed to it, as systemd does (sd_listen_fds(3)).
pub struct Passed {
    pub sockets: ListenFd,
    /// By the sockets' order; shorter where nobody named them.
    pub names: Vec<String>,
}

impl Default for Passed {
    fn default() -> Self {
        Self {
            sockets: ListenFd::empty(),
            names: Vec::new(),
        }
    }
}

impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passed")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Called once and before other threads are there: it takes the variables away, so that they are passed on to
/// nobody.
pub fn passed(vars: &dyn Vars) -> Passed {
    let of_this_process = vars
        .var("LISTEN_PID")
        .is_some_and(|pid| pid == std::process::id().to_string());
    let count = vars
        .var("LISTEN_FDS")
        .and_then(|count| count.parse::<u16>().ok());
    if !of_this_process || count.is_none() {
        return Passed::default();
    }
    let names = vars.var("LISTEN_FDNAMES").unwrap_or_default();
    Passed {
        sockets: ListenFd::from_env(),
        names: names.split(':').map(str::to_owned).collect(),
    }
}

/// `BAO_<suffix>`, else `VAULT_<suffix>`: the name that was found, and its text. An empty one that is
/// set hides the other.
pub(super) fn find(vars: &dyn Vars, suffix: &str) -> Option<(String, String)> {
    ["BAO_", "VAULT_"].into_iter().find_map(|prefix| {
        let name = format!("{prefix}{suffix}");
        let text = vars.var(&name)?;
        Some((name, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bao_is_preferred_even_when_empty() {
        let vars = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let pairs = pairs.iter();
            pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let found = |pairs: &[(&str, &str)]| find(&vars(pairs), "ADDR").map(|(_, text)| text);
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("VAULT_ADDR", "v")]).as_deref(), Some("v"));
        assert_eq!(
            found(&[("VAULT_ADDR", "v"), ("BAO_ADDR", "b")]).as_deref(),
            Some("b")
        );
        assert_eq!(
            found(&[("VAULT_ADDR", "v"), ("BAO_ADDR", "")]).as_deref(),
            Some("")
        );
    }
}
