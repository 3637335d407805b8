//! Every task has a name and an end: the only place that spawns.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A future that is boxed, for traits whose implementors differ.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An outcome that is often there at once: only one that is not costs an allocation.
pub enum Soon<T> {
    /// `None` once it has been told.
    Now(Option<T>),
    Later(Later<T>),
}

impl<T> Soon<T> {
    pub fn now(outcome: T) -> Self {
        Self::Now(Some(outcome))
    }

    pub fn later(outcome: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Later(Box::pin(outcome))
    }
}

/// Nothing in it is pinned: what is there at once is only moved out.
impl<T> Unpin for Soon<T> {}

impl<T> Future for Soon<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            Self::Now(outcome) => outcome.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(outcome) => outcome.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Soon<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Later(_) => "Later",
        })
    }
}

/// The tasks of one running Leasehold. Clones share them.
///
/// Long-lived tasks select on `stopping()`; `stop` asks them to end and waits for all within a deadline.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns `future` under `name`. A panic in it is logged under that name and ends that task alone.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // Tokio aligns what it allocates for a task to 128 bytes, and glibc never joins again what such allocations
        // split (its bug 14581): with whole futures in them memory grows to several times what is in use.
        let future = Box::pin(future);
        tokio::spawn(self.tracker.track_future(async move {
            let _named = Named(name);
            future.await
        }))
    }

    /// Resolves once `stop` was called; long-lived tasks end then.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// How many tasks are alive.
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }

    /// Asks all tasks to end and waits at most `within`. True when all have ended.
    pub async fn stop(&self, within: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(within, self.tracker.wait())
            .await
            .is_ok()
    }
}

/// Reports, while it is dropped in a panic, which task that was. The panic's own text is not logged
/// here: it may quote what it choked on.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "a task panicked and ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stop_ends_tasks_that_watch_for_it_and_survives_a_panic() {
        let tasks = Tasks::new();
        let watching = tasks.clone();
        tasks.spawn("watcher", async move { watching.stopping().await });
        tasks.spawn("panics", async { panic!("on purpose") });
        assert!(tasks.stop(Duration::from_secs(1)).await);
        assert_eq!(tasks.alive(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_gives_up_at_its_deadline() {
        let tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending::<()>());
        assert!(!tasks.stop(Duration::from_secs(1)).await);
    }
}
