//! A program that runs beside the bench, on a core of its own, until the bench is done with it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leasehold::tasks::Tasks;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Result, while_doing};

/// Killed when it is dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    pid: u32,
    lines: mpsc::Receiver<String>,
    tail: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// `core` pins it with all its threads; nothing of this process's environment but `PATH` goes along.
    pub(crate) fn start(core: Option<usize>, program: &Path, args: &[&str]) -> Result<Self> {
        let name = program
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut command = match core {
            Some(core) => {
                let mut pinned = Command::new("taskset");
                pinned.args(["-c", &core.to_string()]).arg(program);
                pinned
            }
            None => Command::new(program),
        };
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(while_doing(&name))?;
        let (told, lines) = mpsc::channel(64);
        let tail = Arc::new(Mutex::new(Vec::new()));
        if let Some(stream) = child.stdout.take() {
            listen(stream, told.clone(), Arc::clone(&tail));
        }
        if let Some(stream) = child.stderr.take() {
            listen(stream, told, Arc::clone(&tail));
        }
        Ok(Self {
            pid: child.id().ok_or("the process has ended already")?,
            name,
            child,
            lines,
            tail,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The first line that it prints of which `read` makes something.
    pub(crate) async fn says<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        let found = timeout(PATIENCE, async {
            loop {
                let line = self.lines.recv().await?;
                if let Some(found) = read(&line) {
                    return Some(found);
                }
            }
        });
        found.await.ok().flatten().ok_or_else(|| {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            format!("{} did not start:\n{}", self.name, tail.join("\n")).into()
        })
    }

    /// By SIGTERM; waits for its end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM)?;
        timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }
}

/// From `listening address=127.0.0.1:1234`.
pub(crate) fn listening_on(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once("listening address=")?;
    address.split_whitespace().next()?.parse().ok()
}

/// Reads to the end, so that the program never waits for its reader. What nobody takes is dropped.
fn listen(
    stream: impl AsyncRead + Unpin + Send + 'static,
    told: mpsc::Sender<String>,
    tail: Arc<Mutex<Vec<String>>>,
) {
    Tasks::new().spawn("output", async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            if tail.len() >= TAIL {
                tail.remove(0);
            }
            tail.push(line.clone());
            told.try_send(line).ok();
        }
    });
}

const PATIENCE: Duration = Duration::from_secs(60);
const TAIL: usize = 20;
