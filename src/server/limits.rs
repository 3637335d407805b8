//! What one listener allows its callers.

use std::time::Duration;

use crate::config;

/// The bounds of one listener's connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// How long a request's body may be waited for in all, a second more for each KiB that has come. Time
    /// in which we do not take more of it does not count.
    pub body_timeout: Duration,
    /// Between two requests, before the first one, and while a caller takes nothing of its answer.
    pub idle_timeout: Duration,
    /// Connections open at once; who comes later waits in the system's queue.
    pub max_connections: usize,
    /// A longer head is answered with 431.
    pub max_header_bytes: usize,
    /// A larger body is answered with 413, but for snapshots that are restored; `None` takes any.
    pub max_body_bytes: Option<u64>,
}

impl Limits {
    /// Of a connection whose requests are all refused: it is told so, and not waited for.
    pub(super) fn for_refused(self) -> Self {
        Self {
            header_timeout: self.header_timeout.min(BRIEFLY),
            idle_timeout: self.idle_timeout.min(BRIEFLY),
            ..self
        }
    }
}

impl From<&config::Listener> for Limits {
    fn from(listener: &config::Listener) -> Self {
        Self {
            header_timeout: listener.header_timeout,
            body_timeout: listener.read_timeout,
            idle_timeout: listener.idle_timeout,
            max_connections: listener.max_connections,
            max_body_bytes: listener.max_request_size,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            max_connections: 1024,
            max_header_bytes: 64 * 1024,
            max_body_bytes: Some(32 * 1024 * 1024),
        }
    }
}

const BRIEFLY: Duration = Duration::from_secs(2);
