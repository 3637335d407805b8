//! The ways to log in, behind one face.

use bytes::Bytes;
use http::Method as Verb;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use zeroize::Zeroizing;

use super::answer::Login;
use super::approle::AppRole;
use super::kubernetes::Kubernetes;
use super::token_file::TokenFile;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::upstream::{Answer, Call, Upstream};

/// A method with what it remembers between logins.
#[derive(Debug)]
pub(super) enum Method {
    AppRole(AppRole),
    TokenFile(TokenFile),
    Kubernetes(Kubernetes),
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
            config::Method::Kubernetes(by) => {
                Self::Kubernetes(Kubernetes::new(by, &config.mount_path))
            }
        }
    }

    /// As the configuration calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AppRole(_) => "approle",
            Self::TokenFile(_) => "token_file",
            Self::Kubernetes(_) => "kubernetes",
        }
    }

    /// Collects the credentials and logs in, once.
    pub(super) async fn log_in(&mut self, upstream: &Upstream) -> Result<Login, Failure> {
        match self {
            Self::AppRole(approle) => approle.log_in(upstream).await,
            Self::TokenFile(file) => file.log_in(upstream).await,
            Self::Kubernetes(by) => by.log_in(upstream).await,
        }
    }
}

pub(super) fn login_path(mount_path: &str) -> String {
    let mount = utf8_percent_encode(mount_path, NOT_IN_A_PATH);
    format!("/v1/{mount}/login")
}

/// A login's body, in memory that is overwritten when it was sent.
pub(super) fn body(credentials: &impl Serialize) -> Result<Bytes> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(USUAL_BODY));
    serde_json::to_writer(&mut *bytes, credentials)
        .map_err(|_| Error::new(Kind::Internal, "the login's body could not be written"))?;
    Ok(Bytes::from_owner(bytes))
}

/// `lookup-self`: whether the token is alive, and what it is.
pub(super) async fn look_up(upstream: &Upstream, token: &Secret) -> Result<Answer> {
    let call = Call::new(Verb::GET, "/v1/auth/token/lookup-self")
        .first()
        .token(token);
    upstream.call(call).await
}

/// Room for a JWT, so that no half of one is left behind by growing.
const USUAL_BODY: usize = 8 * 1024;
/// What a mount path may hold but a request's target may not.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`');
