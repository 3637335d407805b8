//! Auto-auth: one task that always has a token of Leasehold's own.
//!
//! It logs in by the configured method, publishes the token in the one `watch` channel, renews it, and
//! logs in again before it ends: the new token is published while the old one still works. Nobody else
//! logs in or renews; others tell by [`AuthHandle`] when the token seems dead.

mod answer;
mod approle;
mod credential;
mod handle;
mod keeper;
mod kubernetes;
mod method;
mod plan;
#[cfg(test)]
mod testing;
mod token_file;

use tokio::sync::watch;

use crate::config;
use crate::error::{Error, Kind};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::token::TokenTx;
use crate::upstream::Upstream;

pub use handle::{AuthError, AuthHandle, AuthView, RECHECK, Settled};

use keeper::Keeper;
use method::Method;

/// The running task, as its owner sees it.
#[derive(Debug)]
pub struct AutoAuth {
    handle: AuthHandle,
    fatal: watch::Receiver<Option<Error>>,
    tasks: Tasks,
}

impl AutoAuth {
    /// Begins to log in; tokens appear in `published`.
    pub fn start(
        config: &config::AutoAuth,
        upstream: Upstream,
        published: TokenTx,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Self {
        let method = Method::new(config);
        let handle = AuthHandle::new(method.name(), &config.mount_path);
        let keeper = Keeper::new(config, method, upstream, published, handle.clone(), metrics);
        let (ended, fatal) = watch::channel(None);
        let stop = tasks.clone();
        tasks.spawn("auth", async move {
            tokio::select! {
                () = stop.stopping() => {}
                error = keeper.run() => {
                    tracing::error!(kind = error.kind().name(), %error, "auto-auth gave up");
                    ended.send_replace(Some(error));
                }
            }
        });
        Self {
            handle,
            fatal,
            tasks: tasks.clone(),
        }
    }

    pub fn handle(&self) -> AuthHandle {
        self.handle.clone()
    }

    /// Resolves with what makes it pointless to go on: the process is to end with a failure. Under
    /// `exit_on_err` the first error of any kind; else credentials from the environment that are missing
    /// (`Kind::Credentials`) or refused (`Kind::Refused(400 | 403)`). Never resolves while all is well.
    pub async fn fatal(&self) -> Error {
        let mut fatal = self.fatal.clone();
        let found = match fatal.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        };
        match found {
            Some(error) => error,
            None if self.tasks.is_stopping() => std::future::pending().await,
            None => Error::new(
                Kind::Internal,
                "the auto-auth task ended; please report this",
            ),
        }
    }
}
