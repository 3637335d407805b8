//! Token files: the auto-auth token, written where others expect it.
//!
//! Each sink is a task of its own, fed by the token's `watch` channel: one that fails delays nobody, and
//! always writes the newest token. The file stays when Leasehold stops, as the peers leave it.

mod file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::token::{Token, TokenRx};

/// One running sink, as others see it. Clones watch the same one.
#[derive(Debug, Clone)]
pub struct Sink {
    path: Arc<PathBuf>,
    mode: u32,
    state: watch::Receiver<State>,
}

/// A sink at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct SinkView {
    pub path: String,
    /// Octal, as in the configuration.
    pub mode: String,
    /// Which token is in the file; 0: none of this process yet.
    pub generation: u64,
    pub written_seconds_ago: Option<u64>,
    /// Why the newest token is not in the file, if it is not.
    pub last_error: Option<String>,
    /// Failures in a row.
    pub failures: u64,
}

/// Written by the sink's task alone.
#[derive(Debug, Default)]
struct State {
    written: Option<Written>,
    last_error: Option<Error>,
    failures: u64,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    generation: u64,
    at: Instant,
}

impl Sink {
    /// Does what a write does, short of touching the target: for the start, where a sink that cannot
    /// work ends the process.
    ///
    /// # Errors
    /// `Kind::File`, with path and what to do.
    pub async fn probe(config: &config::Sink) -> Result<()> {
        let config = config.clone();
        let path = config.path.display().to_string();
        let probing = on_a_thread_for_files(move || file::probe(&config));
        timeout(PROBE_DEADLINE, probing).await.unwrap_or_else(|_| {
            let message = format!(
                "the sink {path} did not take a trial write within 10 s; is its disk there?"
            );
            Err(Error::new(Kind::File, message))
        })
    }

    /// Writes each token that comes, until the tasks are stopped.
    pub fn start(config: config::Sink, token: TokenRx, metrics: Metrics, tasks: &Tasks) -> Self {
        let (noted, state) = watch::channel(State::default());
        let sink = Self {
            path: Arc::new(config.path.clone()),
            mode: config.mode,
            state,
        };
        let writer = Writer {
            config: Arc::new(config),
            token,
            noted,
            metrics,
        };
        let stop = tasks.clone();
        tasks.spawn("sink", async move {
            tokio::select! {
                () = stop.stopping() => {}
                () = writer.run() => {}
            }
        });
        sink
    }

    /// A token of this process is in the file.
    pub fn is_written(&self) -> bool {
        self.state.borrow().written.is_some()
    }

    /// Resolves once a token is in the file; never, if the sink was stopped before.
    pub async fn written(&self) {
        let mut state = self.state.clone();
        if state
            .wait_for(|state| state.written.is_some())
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    pub fn view(&self) -> SinkView {
        let state = self.state.borrow();
        SinkView {
            path: self.path.display().to_string(),
            mode: format!("{:04o}", self.mode),
            generation: state.written.map_or(0, |written| written.generation),
            written_seconds_ago: state.written.map(|written| written.at.elapsed().as_secs()),
            last_error: state.last_error.as_ref().map(Error::to_string),
            failures: state.failures,
        }
    }
}

struct Writer {
    config: Arc<config::Sink>,
    token: TokenRx,
    noted: watch::Sender<State>,
    metrics: Metrics,
}

impl Writer {
    async fn run(mut self) {
        let mut backoff = Backoff::new(SHORTEST_WAIT, LONGEST_WAIT);
        let mut in_file = 0;
        loop {
            let newest = self.token.borrow_and_update().clone();
            let due = newest.filter(|token| token.generation > in_file && !token.secret.is_empty());
            let wait = match due {
                None => None,
                Some(token) => match self.write(&token).await {
                    Ok(()) => {
                        in_file = token.generation;
                        backoff.reset();
                        None
                    }
                    Err(error) => {
                        let wait = backoff.next_wait();
                        self.note_failure(error, wait);
                        Some(wait)
                    }
                },
            };
            let is_over = match wait {
                None => self.token.changed().await.is_err(),
                // A newer token does not wait for the older one's turn.
                Some(wait) => tokio::select! {
                    () = sleep(wait) => false,
                    changed = self.token.changed() => changed.is_err(),
                },
            };
            if is_over {
                return;
            }
        }
    }

    async fn write(&self, token: &Token) -> Result<()> {
        let (config, secret): (_, Secret) = (Arc::clone(&self.config), token.secret.clone());
        let generation = token.generation;
        on_a_thread_for_files(move || file::replace(&config, secret.expose().as_bytes())).await?;
        self.metrics.sink(true);
        self.noted.send_replace(State {
            written: Some(Written {
                generation,
                at: Instant::now(),
            }),
            last_error: None,
            failures: 0,
        });
        tracing::info!(file = %self.config.path.display(), generation, "token written");
        Ok(())
    }

    fn note_failure(&self, error: Error, wait: Duration) {
        self.metrics.sink(false);
        tracing::warn!(
            file = %self.config.path.display(),
            %error,
            next_try_in_seconds = (wait.as_secs_f64() * 10.0).round() / 10.0,
            "the token was not written"
        );
        self.noted.send_modify(|state| {
            state.failures += 1;
            state.last_error = Some(error);
        });
    }
}

/// Waits for as long as the disk takes, deliberately: a second writer beside one that hangs could put the
/// older token in place last.
async fn on_a_thread_for_files(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(Kind::Stopping, "Leasehold is shutting down")),
    }
}

const PROBE_DEADLINE: Duration = Duration::from_secs(10);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::Life;
    use crate::token::{self, TokenTx};
    use std::path::Path;

    fn config(path: &Path) -> config::Sink {
        config::Sink {
            path: path.to_owned(),
            mode: 0o640,
            uid: None,
            gid: None,
        }
    }

    fn publish(published: &TokenTx, generation: u64, secret: &str) {
        published.send_replace(Some(Arc::new(Token {
            secret: secret.into(),
            accessor: None,
            life: Arc::new(Life::endless()),
            ttl: Duration::ZERO,
            renewable: false,
            generation,
        })));
    }

    async fn until(sink: &Sink, generation: u64) {
        let is_there = |state: &State| state.written.is_some_and(|w| w.generation == generation);
        let mut state = sink.state.clone();
        timeout(Duration::from_secs(600), state.wait_for(is_there))
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_fails_delays_no_other_and_ends_with_the_newest_token() {
        let directory = tempfile::tempdir().unwrap();
        let (good, bad) = (
            directory.path().join("good"),
            directory.path().join("no/bad"),
        );
        let (published, token) = token::channel();
        let (tasks, metrics) = (Tasks::new(), Metrics::new());
        let failing = Sink::start(config(&bad), token.clone(), metrics.clone(), &tasks);
        let working = Sink::start(config(&good), token, metrics, &tasks);
        assert!(!working.is_written());
        let start = Instant::now();
        for generation in 1..=20 {
            publish(&published, generation, &format!("hvs.{generation}"));
            until(&working, generation).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(std::fs::read_to_string(&good).unwrap(), "hvs.20");
        sleep(Duration::from_secs(300)).await;
        let view = failing.view();
        assert!(view.failures >= 5 && view.failures < 40, "{view:?}");
        assert!(view.last_error.unwrap().contains("no/bad"));
        assert!(!failing.is_written());
        std::fs::create_dir(directory.path().join("no")).unwrap();
        until(&failing, 20).await;
        assert_eq!(std::fs::read_to_string(&bad).unwrap(), "hvs.20");
        assert_eq!(failing.view().failures, 0);
        assert!(tasks.stop(Duration::from_secs(1)).await);
        assert!(good.exists() && bad.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_token_is_never_written_nor_the_same_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let (published, token) = token::channel();
        let tasks = Tasks::new();
        let sink = Sink::start(config(&path), token, Metrics::new(), &tasks);
        publish(&published, 1, "");
        sleep(Duration::from_secs(60)).await;
        assert!(!path.exists());
        publish(&published, 2, "hvs.2");
        sink.written().await;
        std::fs::remove_file(&path).unwrap();
        published.send_modify(|_| ());
        sleep(Duration::from_secs(60)).await;
        assert!(!path.exists());
        drop(published);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(tasks.alive(), 0);
        let shown = serde_json::to_value(sink.view()).unwrap();
        assert_eq!(
            (&shown["mode"], &shown["generation"]),
            (&"0640".into(), &2.into())
        );
        assert_eq!(shown["written_seconds_ago"], 61);
    }
}
