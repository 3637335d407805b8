//! The auto-auth token, in one `watch` channel that feeds injection, sinks and the scheduler alike.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::life::Life;
use crate::secret::Secret;

/// A token that Leasehold holds, and when it ends.
#[derive(Debug)]
pub struct Token {
    pub secret: Secret,
    pub accessor: Option<Secret>,
    /// The end of this token; renewals move it. Leases made with the token hold a clone, since they die with it.
    pub life: Arc<Life>,
    /// The time to live granted at login; zero for a token that never ends.
    pub ttl: Duration,
    pub renewable: bool,
    /// Counts logins of this process, from 1.
    pub generation: u64,
}

pub type TokenTx = watch::Sender<Option<Arc<Token>>>;
pub type TokenRx = watch::Receiver<Option<Arc<Token>>>;

/// The channel in which the current token is published. `None` until the first login.
pub fn channel() -> (TokenTx, TokenRx) {
    watch::channel(None)
}
