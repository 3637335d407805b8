//! What Linux knows of processes and cores: proc(5).

use std::fs;
use std::path::PathBuf;

use super::{Result, while_doing};

/// Seconds that all threads of a process have had a core, and have waited for one that somebody else had.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ran {
    pub(crate) running: f64,
    pub(crate) waiting: f64,
}

pub(crate) fn ran(pid: u32) -> Result<Ran> {
    let mut sum = Ran::default();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let mut nanoseconds = numbers(&text);
        sum.running += nanoseconds.next().unwrap_or_default() / 1e9;
        sum.waiting += nanoseconds.next().unwrap_or_default() / 1e9;
    }
    Ok(sum)
}

/// Resident memory in KiB.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(while_doing(&path))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| numbers(line).next())
        .ok_or_else(|| format!("{path} has no VmRSS").into())
}

/// A program by its name, on `PATH` or where daemons are.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// The numbers in front of the first word that is none.
pub(crate) fn numbers(text: &str) -> impl Iterator<Item = f64> {
    text.split_whitespace().map_while(|word| word.parse().ok())
}
