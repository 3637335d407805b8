//! What can go wrong while Leasehold runs, in one type that knows whose fault it is.
//!
//! An `Error` names what failed, where, and what to do. It is built from fixed texts, addresses, paths
//! of files and Vault's own `errors` texts; none of its constructors takes a [`Secret`](crate::secret::Secret).
//! Errors of a configuration are another thing (they have a line and a column): see `config::Finding`.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// Whose side the failure is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The caller's request was wrong.
    Client,
    /// Leasehold's own: a full queue, a file, a port.
    Leasehold,
    /// Vault, or the way to it.
    Vault,
}

/// What failed. Every kind has a side, an HTTP status and a retryability, decided in this file alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No connection to Vault, or it broke before a whole answer head came.
    Unreachable,
    /// Vault took longer than the deadline.
    Deadline,
    /// The auto-auth token is not there (yet).
    NoToken,
    /// More is going on than the bounds allow.
    Busy,
    /// The caller's request cannot be understood.
    BadRequest,
    /// The caller's body is too large.
    TooLarge,
    /// Not let in, with this 4xx status.
    NotAdmitted(StatusCode),
    /// Vault answered with this status where a good answer was needed.
    Refused(StatusCode),
    /// Vault's answer could not be understood.
    BadAnswer,
    /// Credentials are missing, empty or unreadable.
    Credentials,
    /// A file or directory.
    File,
    /// A listener could not be had.
    Bind,
    /// Leasehold is shutting down.
    Stopping,
    /// A bug of ours.
    Internal,
}

impl Kind {
    pub fn side(self) -> Side {
        match self {
            Self::BadRequest | Self::TooLarge | Self::NotAdmitted(_) => Side::Client,
            Self::Unreachable | Self::Deadline | Self::Refused(_) | Self::BadAnswer => Side::Vault,
            Self::NoToken
            | Self::Busy
            | Self::Credentials
            | Self::File
            | Self::Bind
            | Self::Stopping
            | Self::Internal => Side::Leasehold,
        }
    }

    /// May the same thing, done again later, succeed without anybody changing anything?
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Unreachable
            | Self::Deadline
            | Self::NoToken
            | Self::Busy
            | Self::Stopping
            | Self::BadAnswer => true,
            Self::Refused(status) => {
                status.is_server_error()
                    || status == StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::PRECONDITION_FAILED
            }
            Self::BadRequest
            | Self::TooLarge
            | Self::NotAdmitted(_)
            | Self::Credentials
            | Self::File
            | Self::Bind
            | Self::Internal => false,
        }
    }

    /// One word for metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Deadline => "deadline",
            Self::NoToken => "no_token",
            Self::Busy => "busy",
            Self::BadRequest => "bad_request",
            Self::TooLarge => "too_large",
            Self::NotAdmitted(_) => "not_admitted",
            Self::Refused(_) => "refused",
            Self::BadAnswer => "bad_answer",
            Self::Credentials => "credentials",
            Self::File => "file",
            Self::Bind => "bind",
            Self::Stopping => "stopping",
            Self::Internal => "internal",
        }
    }

    /// The status that a client sees when a request ends in this.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unreachable | Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::NoToken | Self::Busy | Self::Stopping | Self::Credentials => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Refused(status) | Self::NotAdmitted(status) => status,
            Self::File | Self::Bind | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// See the module's text. `Display` is one line: what failed, where, and what to do.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    /// For `Retry-After`, where Vault or we know better than a guess.
    retry_after: Option<Duration>,
    unsent: bool,
}

impl Error {
    /// `message` says what failed, where, and what to do, in one line. It may hold addresses, file
    /// paths and names of variables; never a token, a secret id, a lease id or a value.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
            unsent: false,
        }
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Nothing of the request has left: whatever it was to change is as it was.
    #[must_use]
    pub fn unsent(mut self, unsent: bool) -> Self {
        self.unsent = unsent;
        self
    }

    pub fn is_unsent(&self) -> bool {
        self.unsent
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn side(&self) -> Side {
        self.kind.side()
    }

    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }

    pub fn wait_hint(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The status of Vault's answer, if it was an answer that failed us.
    pub fn refused_with(&self) -> Option<StatusCode> {
        let Kind::Refused(status) = self.kind else {
            return None;
        };
        Some(status)
    }

    /// The same error with what was being done in front.
    #[must_use]
    pub fn while_doing(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

pub type Result<T, E = Error> = std::result::Result<T, E>;
