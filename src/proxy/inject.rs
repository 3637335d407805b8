//! On whose behalf a request goes: by the caller's own token, or by Leasehold's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, timeout_at};
use tower::{Service, ServiceExt};

use super::hide;
use super::lent::{self, Lent, With};
use crate::cache::{Caller, Errand, ReplyBody};
use crate::config::UseAutoAuthToken;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::tasks::Later;
use crate::token::{Token, TokenRx};
use crate::upstream;
use crate::vault::envelope::field_of_body;
use crate::vault::headers::{INLINE_AUTH_PREFIX, X_VAULT_NAMESPACE, X_VAULT_TOKEN};
use crate::vault::path::{ApiPath, Kind as Call};

/// How tokens are injected; the same for all listeners.
#[derive(Debug, Clone)]
pub struct Inject {
    pub mode: UseAutoAuthToken,
    pub token: TokenRx,
    /// How long a request may wait for the first login, or for the next when a token has died.
    pub startup_wait: Duration,
    /// What callers may not do with our token, and to it.
    pub lent: Lent,
}

impl Inject {
    pub(super) fn before<S>(self, below: S) -> Injecting<S> {
        Injecting {
            inject: self,
            below,
        }
    }

    /// On whose behalf the request goes; `None` where only its body tells.
    fn wants_ours(&self, errand: &Errand) -> Option<bool> {
        let by_mode = match self.mode {
            UseAutoAuthToken::Off => false,
            UseAutoAuthToken::WhenAbsent => matches!(errand.caller, Caller::Anonymous),
            UseAutoAuthToken::Force if is_unwrap(errand) => return None,
            UseAutoAuthToken::Force => true,
        };
        Some(by_mode && errand.path.is_some() && !has_inline_auth(errand.request.headers()))
    }

    /// Our token, where it is there.
    fn at_hand(&self) -> Option<Arc<Token>> {
        let token = self.token.borrow().clone()?;
        (!token.life.is_over(Instant::now())).then_some(token)
    }

    /// Sends the request on its way if nothing about it takes time: no token to wait for, no body to be read, no
    /// answer to be looked through.
    fn settle(&self, errand: &mut Errand) -> bool {
        let is_harmless = errand.path.as_ref().is_none_or(lent::is_harmless);
        match self.wants_ours(errand).filter(|_| is_harmless) {
            Some(false) => true,
            Some(true) => match self.at_hand() {
                Some(token) => {
                    self.lend(&mut errand.request, &mut errand.caller, Some(token));
                    true
                }
                None => false,
            },
            None => false,
        }
    }

    /// Decides on whose behalf the request goes; waits where only a login is missing. What comes back is the
    /// token that must not show in the answer.
    async fn prepare(self, errand: &mut Errand) -> Result<Option<Arc<Token>>> {
        let ours = match self.wants_ours(errand) {
            Some(ours) => ours,
            None => {
                !is_about_its_header(&mut errand.request).await?
                    && !has_inline_auth(errand.request.headers())
            }
        };
        let Some(path) = &errand.path else {
            return Ok(None);
        };
        let with = if ours { With::Ours } else { With::Another };
        let token = match with {
            With::Ours => self.clone().token_for(path).await?,
            With::Another => self.token.borrow().clone(),
        };
        if with == With::Ours {
            self.lend(&mut errand.request, &mut errand.caller, token.clone());
        }
        self.lent
            .look_at(&mut errand.request, path, token, with)
            .await
    }

    /// The token of now. Paths that Vault answers without one do not wait for it.
    async fn token_for(&mut self, path: &ApiPath) -> Result<Option<Arc<Token>>> {
        if matches!(path.kind(), Call::Unauthenticated | Call::Login) {
            return Ok(self.at_hand());
        }
        let alive = |token: &Option<Arc<Token>>| {
            token
                .as_ref()
                .is_some_and(|token| !token.life.is_over(Instant::now()))
        };
        let deadline = Instant::now() + self.startup_wait;
        match timeout_at(deadline, self.token.wait_for(alive)).await {
            Ok(Ok(token)) => Ok(token.clone()),
            Ok(Err(_)) => Err(Error::new(Kind::Stopping, "Leasehold is shutting down")
                .retry_after(Some(RETRY_SOON))),
            Err(_) => Err(Error::new(
                Kind::NoToken,
                "Leasehold has no token of its own (yet): it has not logged in to Vault; \
                 GET /agent/v1/status says why",
            )
            .retry_after(Some(RETRY_SOON))),
        }
    }

    /// From here on the request is ours; the header is put on where it leaves for Vault.
    fn lend(
        &self,
        request: &mut Request<upstream::Body>,
        caller: &mut Caller,
        token: Option<Arc<Token>>,
    ) {
        let headers = request.headers_mut();
        if headers.keys().any(|name| *name == X_VAULT_TOKEN) {
            headers.remove(X_VAULT_TOKEN);
        }
        if self.mode == UseAutoAuthToken::Force {
            remove_bearer(headers);
        }
        *caller = token.map_or(Caller::Anonymous, Caller::AutoAuth);
    }
}

/// What can be read off a request's head.
fn look_at(request: Request<upstream::Body>) -> Errand {
    let headers = request.headers();
    let namespace = headers
        .get(X_VAULT_NAMESPACE)
        .and_then(|value| value.to_str().ok());
    Errand {
        path: ApiPath::parse(request.uri().path(), namespace),
        caller: brought(headers),
        request,
    }
}

/// Whose token a request brings: `X-Vault-Token` and `Authorization: Bearer` count alike.
fn brought(headers: &HeaderMap) -> Caller {
    let tokens: Vec<&HeaderValue> = headers
        .get_all(X_VAULT_TOKEN)
        .iter()
        .filter(|value| !value.is_empty())
        .collect();
    let bearers: Vec<&HeaderValue> = headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter(|value| is_bearer(value))
        .collect();
    if has_inline_auth(headers) {
        return Caller::Unclear;
    }
    match (tokens.as_slice(), bearers.as_slice()) {
        ([], []) => Caller::Anonymous,
        ([token], []) => match token.to_str() {
            Ok(text) => Caller::Own(Secret::new(text)),
            Err(_) => Caller::Unclear,
        },
        ([], [bearer]) => match bearer
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Bearer "))
        {
            Some(text) if !text.trim().is_empty() => Caller::Own(Secret::new(text.trim())),
            _ => Caller::Unclear,
        },
        // Which one Vault would take is its business; what is fetched so is nobody else's.
        _ => Caller::Unclear,
    }
}

fn is_unwrap(errand: &Errand) -> bool {
    let is_unwrap = errand.path.as_ref().is_some_and(|path| {
        path.canonical().ends_with("sys/wrapping/unwrap")
            || path.canonical().ends_with("sys/wrapping/lookup")
    });
    is_unwrap && matches!(errand.caller, Caller::Own(_))
}

/// Under `force` the wrapping token of an unwrap is the one that stays: it is what the request is about. Where
/// that stands in the body, the header's token is the caller's own, as with any other request.
async fn is_about_its_header(request: &mut Request<upstream::Body>) -> Result<bool> {
    let body = std::mem::take(request.body_mut());
    *request.body_mut() = body.read_ahead(LARGEST_UNWRAP).await?;
    let named = match request.body() {
        upstream::Body::Full(body) => field_of_body(body, "token"),
        upstream::Body::Empty | upstream::Body::Streamed(_) => None,
    };
    Ok(named.is_none_or(|token| token.is_empty()))
}

fn has_inline_auth(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with(INLINE_AUTH_PREFIX))
}

/// Schemes are case-insensitive (RFC 9110 §11.1).
fn is_bearer(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let scheme = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"bearer")
}

fn remove_bearer(headers: &mut HeaderMap) {
    let others: Vec<HeaderValue> = headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter(|value| !is_bearer(value))
        .cloned()
        .collect();
    headers.remove(AUTHORIZATION);
    for value in others {
        headers.append(AUTHORIZATION, value);
    }
}

/// See [`Inject::before`].
#[derive(Debug, Clone)]
pub(super) struct Injecting<S> {
    inject: Inject,
    below: S,
}

impl<S> Service<Request<upstream::Body>> for Injecting<S>
where
    S: Service<Errand, Response = Response<ReplyBody>, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<ReplyBody>;
    type Error = Error;
    type Future = Injected<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<upstream::Body>) -> Self::Future {
        let mut errand = look_at(request);
        // Most requests wait for nothing here, and cost no more for those that might.
        if self.inject.settle(&mut errand) {
            let running = self.below.call(errand);
            return Injected::AtOnce { running };
        }
        let (inject, below) = (self.inject.clone(), self.below.clone());
        let running = Box::pin(async move {
            let hidden = inject.prepare(&mut errand).await?;
            let response = below.oneshot(errand).await?;
            match hidden {
                Some(token) => hide::hide(&token, response).await,
                None => Ok(response),
            }
        });
        Injected::Prepared { running }
    }
}

pin_project! {
    #[project = InjectedProjection]
    pub(super) enum Injected<F> {
        AtOnce { #[pin] running: F },
        /// After waiting for a token or a body, or with something to hide.
        Prepared { running: Later<Result<Response<ReplyBody>>> },
    }
}

impl<F> Future for Injected<F>
where
    F: Future<Output = Result<Response<ReplyBody>>>,
{
    type Output = Result<Response<ReplyBody>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            InjectedProjection::AtOnce { running } => running.poll(cx),
            InjectedProjection::Prepared { running } => running.as_mut().poll(cx),
        }
    }
}

const LARGEST_UNWRAP: usize = 4096;
const RETRY_SOON: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::Life;
    use crate::token;

    /// What goes to Vault: X-Vault-Token, Authorization, and whose it counts as.
    async fn sent(
        mode: UseAutoAuthToken,
        path: &str,
        headers: &[(&'static str, &'static str)],
    ) -> (Option<String>, Option<String>, &'static str) {
        let (tx, rx) = token::channel();
        tx.send_replace(Some(Arc::new(ours())));
        let mut errand = look_at(request(path, headers));
        let inject = Inject {
            mode,
            token: rx,
            startup_wait: Duration::from_secs(5),
            lent: Lent::default(),
        };
        inject.prepare(&mut errand).await.unwrap();
        let text = |name: &str| {
            errand
                .request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let whose = match errand.caller {
            Caller::AutoAuth(_) => "ours",
            Caller::Own(_) => "own",
            Caller::Anonymous => "anonymous",
            Caller::Unclear => "unclear",
        };
        (text("x-vault-token"), text("authorization"), whose)
    }

    fn request(path: &str, headers: &[(&'static str, &'static str)]) -> Request<upstream::Body> {
        let mut request = Request::new(upstream::Body::Empty);
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            request
                .headers_mut()
                .append(*name, HeaderValue::from_static(value));
        }
        request
    }

    fn ours() -> Token {
        Token {
            secret: Secret::new("ours"),
            accessor: None,
            life: Arc::new(Life::endless()),
            ttl: Duration::ZERO,
            renewable: false,
            generation: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_by_mode_and_header() {
        use UseAutoAuthToken::{Force, Off, WhenAbsent};
        let kv = "/v1/secret/data/x";
        let (token, bearer) = (("x-vault-token", "mine"), ("authorization", "Bearer mine"));
        let inline = ("x-vault-inline-auth-path", "auth/userpass/login/x");
        let some = |text: &str| Some(text.to_owned());
        for (mode, path, headers, expected) in [
            (Off, kv, vec![], (None, None, "anonymous")),
            (Off, kv, vec![token], (some("mine"), None, "own")),
            (WhenAbsent, kv, vec![], (None, None, "ours")),
            (
                WhenAbsent,
                kv,
                vec![("x-vault-token", "")],
                (None, None, "ours"),
            ),
            (WhenAbsent, kv, vec![token], (some("mine"), None, "own")),
            (
                WhenAbsent,
                kv,
                vec![bearer],
                (None, some("Bearer mine"), "own"),
            ),
            (
                WhenAbsent,
                kv,
                vec![("authorization", "bearer mine")],
                (None, some("bearer mine"), "unclear"),
            ),
            (
                WhenAbsent,
                kv,
                vec![("authorization", "Basic x")],
                (None, some("Basic x"), "ours"),
            ),
            (
                WhenAbsent,
                kv,
                vec![token, bearer],
                (some("mine"), some("Bearer mine"), "unclear"),
            ),
            (WhenAbsent, kv, vec![inline], (None, None, "unclear")),
            (WhenAbsent, "/ui/", vec![], (None, None, "anonymous")),
            (Force, kv, vec![], (None, None, "ours")),
            (Force, kv, vec![token, bearer], (None, None, "ours")),
            (
                Force,
                kv,
                vec![("authorization", "Basic x")],
                (None, some("Basic x"), "ours"),
            ),
            (Force, kv, vec![inline], (None, None, "unclear")),
            (
                Force,
                "/v1/sys/wrapping/unwrap",
                vec![token],
                (some("mine"), None, "own"),
            ),
            (
                Force,
                "/v1/sys/wrapping/wrap",
                vec![token],
                (None, None, "ours"),
            ),
        ] {
            assert_eq!(
                sent(mode, path, &headers).await,
                expected,
                "{mode:?} {path} {headers:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn under_force_a_wrapping_token_in_the_body_leaves_the_header_to_us() {
        let (tx, rx) = token::channel();
        tx.send_replace(Some(Arc::new(ours())));
        let inject = Inject {
            mode: UseAutoAuthToken::Force,
            token: rx,
            startup_wait: Duration::from_secs(5),
            lent: Lent::default(),
        };
        for (body, kept) in [
            ("", "mine"),
            ("{}", "mine"),
            (r#"{"token":""}"#, "mine"),
            (r#"{"token":"wrapping"}"#, "ours"),
        ] {
            let mut request = request("/v1/sys/wrapping/unwrap", &[("x-vault-token", "mine")]);
            *request.body_mut() = upstream::Body::Full(body.into());
            let mut errand = look_at(request);
            inject.clone().prepare(&mut errand).await.unwrap();
            let whose = match &errand.caller {
                Caller::AutoAuth(_) => "ours",
                Caller::Own(_) | Caller::Anonymous | Caller::Unclear => "mine",
            };
            assert_eq!(whose, kept, "{body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_first_login_requests_wait_and_logins_do_not() {
        let (tx, rx) = token::channel();
        let inject = Inject {
            mode: UseAutoAuthToken::WhenAbsent,
            token: rx,
            startup_wait: Duration::from_secs(5),
            lent: Lent::default(),
        };
        let start = Instant::now();
        for path in [
            "/v1/sys/health",
            "/v1/auth/approle/login",
            "/v1/sys/seal-status",
        ] {
            inject
                .clone()
                .prepare(&mut look_at(request(path, &[])))
                .await
                .unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut read = look_at(request("/v1/secret/data/x", &[]));
        let error = inject.clone().prepare(&mut read).await.unwrap_err();
        assert_eq!(
            (error.kind(), start.elapsed()),
            (Kind::NoToken, Duration::from_secs(5))
        );
        assert!(error.wait_hint().is_some());
        let waiting = inject.prepare(&mut read);
        tx.send_replace(Some(Arc::new(ours())));
        waiting.await.unwrap();
        assert!(matches!(read.caller, Caller::AutoAuth(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_token_is_not_sent() {
        let (tx, rx) = token::channel();
        let dead = ours();
        dead.life.end_now();
        tx.send_replace(Some(Arc::new(dead)));
        let inject = Inject {
            mode: UseAutoAuthToken::WhenAbsent,
            token: rx,
            startup_wait: Duration::from_secs(5),
            lent: Lent::default(),
        };
        let mut read = look_at(request("/v1/secret/data/x", &[]));
        assert!(inject.prepare(&mut read).await.is_err());
        assert!(matches!(read.caller, Caller::Anonymous));
    }
}
