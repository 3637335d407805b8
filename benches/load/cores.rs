//! How undisturbed a round was: time that the hypervisor kept, and time that others had on our two cores.

use std::fs;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};

use crate::stand::{Result, while_doing};

/// Which core serves, and which one generates the load and has the upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) generator: usize,
}

impl Default for Cores {
    fn default() -> Self {
        Self {
            server: 0,
            generator: 1,
        }
    }
}

/// A moment between rounds.
pub(crate) struct Moment {
    server: Core,
    generator: Core,
    /// What the contestant and its upstream have used so far, and we with our ended children.
    contestant: Ran,
    upstream: Ran,
    ourselves: f64,
}

/// In seconds since the machine's start.
#[derive(Debug, Clone, Copy)]
struct Core {
    busy: f64,
    steal: f64,
}

/// What happened between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between {
    /// Seconds of processor time of the contestant.
    pub(crate) used: f64,
    /// Shares of the time between: kept by the hypervisor; waited by the contestant for its core; had by
    /// others on the generator's core.
    pub(crate) steal: f64,
    pub(crate) waited: f64,
    pub(crate) foreign: f64,
}

impl Cores {
    /// This process, and what it starts, onto the generator's core.
    pub(crate) fn move_in(self) -> Result<()> {
        let pid = std::process::id().to_string();
        let mut command = Command::new("taskset");
        command.args(["-pc", &self.generator.to_string(), &pid]);
        let moved = command.output().map_err(while_doing("taskset"))?;
        if !moved.status.success() {
            let why = String::from_utf8_lossy(&moved.stderr);
            return Err(format!("two cores are needed, {self:?}: {why}").into());
        }
        Ok(())
    }

    pub(crate) fn now(self, contestant: u32, upstream: u32) -> Result<Moment> {
        let text = fs::read_to_string("/proc/stat")?;
        let own = |who| {
            let usage = getrusage(who)?;
            let seconds = |time: nix::sys::time::TimeVal| -> Result<f64> {
                let micros = f64::from(i32::try_from(time.tv_usec())?);
                Ok(f64::from(i32::try_from(time.tv_sec())?) + micros / 1e6)
            };
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                seconds(usage.user_time())? + seconds(usage.system_time())?,
            )
        };
        Ok(Moment {
            server: Core::read(&text, self.server)?,
            generator: Core::read(&text, self.generator)?,
            contestant: ran(contestant)?,
            upstream: ran(upstream)?,
            ourselves: own(UsageWho::RUSAGE_SELF)? + own(UsageWho::RUSAGE_CHILDREN)?,
        })
    }
}

impl Core {
    /// From the line `cpu1 user nice system idle iowait irq softirq steal ...`, in hundredths of a second.
    fn read(stat: &str, core: usize) -> Result<Self> {
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name));
        let ticks: Vec<f64> = line.map(numbers).into_iter().flatten().collect();
        let [user, nice, system, _idle, _wait, irq, softirq, steal, ..] = ticks.as_slice() else {
            return Err(format!("there is no core {core}").into());
        };
        Ok(Self {
            busy: (user + nice + system + irq + softirq) / 100.0,
            steal: steal / 100.0,
        })
    }
}

impl Moment {
    /// `seconds` lie between; `apart` says that the contestant is not on the generator's core.
    pub(crate) fn until(&self, later: &Self, seconds: f64, apart: bool) -> Between {
        let used = later.contestant.running - self.contestant.running;
        let waited = later.contestant.waiting - self.contestant.waiting;
        let steal =
            later.server.steal + later.generator.steal - self.server.steal - self.generator.steal;
        let known =
            later.ourselves + later.upstream.running - self.ourselves - self.upstream.running
                + if apart { 0.0 } else { used };
        let busy = later.generator.busy - self.generator.busy;
        Between {
            used,
            steal: steal / seconds,
            waited: if apart { waited / seconds } else { 0.0 },
            foreign: ((busy - known) / seconds).max(0.0),
        }
    }
}

impl Between {
    pub(crate) fn is_undisturbed(&self) -> bool {
        !self.is_stolen() && !self.is_kept_waiting() && !self.is_crowded()
    }

    pub(crate) fn is_stolen(&self) -> bool {
        self.steal > 0.01
    }

    pub(crate) fn is_kept_waiting(&self) -> bool {
        self.waited > 0.02
    }

    /// What the kernel counts by ticks is not more exact than that.
    pub(crate) fn is_crowded(&self) -> bool {
        self.foreign > 0.10
    }

    /// For choosing the least disturbed.
    pub(crate) fn disturbance(&self) -> f64 {
        self.steal + self.waited + self.foreign
    }
}

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

/// The numbers in front of the first word that is none.
fn numbers(text: &str) -> impl Iterator<Item = f64> {
    text.split_whitespace().map_while(|word| word.parse().ok())
}
