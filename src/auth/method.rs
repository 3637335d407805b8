//! The ways to log in, behind one face.

use http::Method as Verb;

use super::answer::Login;
use super::approle::AppRole;
use super::token_file::TokenFile;
use crate::config;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::upstream::{Answer, Call, Upstream};

/// A method with what it remembers between logins.
#[derive(Debug)]
pub(super) enum Method {
    AppRole(AppRole),
    TokenFile(TokenFile),
}

/// Why there is no token.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Nothing that may change while this process lives would make it succeed.
    pub(super) is_hopeless: bool,
}

impl Failure {
    pub(super) fn passing(error: Error) -> Self {
        Self {
            error,
            is_hopeless: false,
        }
    }

    pub(super) fn hopeless(error: Error) -> Self {
        Self {
            error,
            is_hopeless: true,
        }
    }
}

impl Method {
    pub(super) fn new(config: &config::AutoAuth) -> Self {
        match &config.method {
            config::Method::AppRole(approle) => {
                Self::AppRole(AppRole::new(approle, &config.mount_path))
            }
            config::Method::TokenFile { path } => Self::TokenFile(TokenFile::new(path)),
        }
    }

    /// As the configuration calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AppRole(_) => "approle",
            Self::TokenFile(_) => "token_file",
        }
    }

    /// Collects the credentials and logs in, once.
    pub(super) async fn log_in(&mut self, upstream: &Upstream) -> Result<Login, Failure> {
        match self {
            Self::AppRole(approle) => approle.log_in(upstream).await,
            Self::TokenFile(file) => file.log_in(upstream).await,
        }
    }
}

/// `lookup-self`: whether the token is alive, and what it is.
pub(super) async fn look_up(upstream: &Upstream, token: &Secret) -> Result<Answer> {
    let call = Call::new(Verb::GET, "/v1/auth/token/lookup-self")
        .first()
        .token(token);
    upstream.call(call).await
}
