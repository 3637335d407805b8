//! On whose behalf a request goes: by the caller's own token, or by Leasehold's.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::{Instant, timeout_at};
use tower::{Service, ServiceExt};

use super::hide;
use super::lent::{Lent, With};
use crate::cache::{Caller, ReplyBody};
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

    /// Decides on whose behalf the request goes and sets its headers; waits where only a login is missing.
    /// What comes back is the token that must not show in the answer.
    async fn prepare(
        mut self,
        request: &mut Request<upstream::Body>,
    ) -> Result<Option<Arc<Token>>> {
        let brought = brought(request.headers());
        let path = ApiPath::parse(
            request.uri().path(),
            request
                .headers()
                .get(X_VAULT_NAMESPACE)
                .and_then(|value| value.to_str().ok()),
        );
        let wants_ours = match self.mode {
            UseAutoAuthToken::Off => false,
            UseAutoAuthToken::WhenAbsent => matches!(brought, Caller::Anonymous),
            UseAutoAuthToken::Force => {
                !(is_unwrap(&brought, path.as_ref()) && is_about_its_header(request).await?)
            }
        };
        let Some(path) = path else {
            request.extensions_mut().insert(brought);
            return Ok(None);
        };
        if !wants_ours || has_inline_auth(request.headers()) {
            request.extensions_mut().insert(brought);
            let ours = self.token.borrow().clone();
            return self.lent.look_at(request, &path, ours, With::Another).await;
        }
        let token = self.token_for(&path).await?;
        self.replace_token(request.headers_mut(), token.as_deref())?;
        let caller = token.clone().map_or(Caller::Anonymous, Caller::AutoAuth);
        request.extensions_mut().insert(caller);
        self.lent.look_at(request, &path, token, With::Ours).await
    }

    /// The token of now. Paths that Vault answers without one do not wait for it.
    async fn token_for(&mut self, path: &ApiPath) -> Result<Option<Arc<Token>>> {
        let alive = |token: &Option<Arc<Token>>| {
            token
                .as_ref()
                .is_some_and(|token| !token.life.is_over(Instant::now()))
        };
        if matches!(path.kind(), Call::Unauthenticated | Call::Login) {
            return Ok(self
                .token
                .borrow()
                .clone()
                .filter(|token| !token.life.is_over(Instant::now())));
        }
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

    fn replace_token(&self, headers: &mut HeaderMap, token: Option<&Token>) -> Result<()> {
        headers.remove(X_VAULT_TOKEN);
        if self.mode == UseAutoAuthToken::Force {
            remove_bearer(headers);
        }
        let Some(token) = token else { return Ok(()) };
        let mut value = HeaderValue::from_str(token.secret.expose()).map_err(|_| {
            Error::new(
                Kind::Internal,
                "the token of the login holds characters no header can carry",
            )
        })?;
        value.set_sensitive(true);
        headers.insert(X_VAULT_TOKEN, value);
        Ok(())
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

fn is_unwrap(brought: &Caller, path: Option<&ApiPath>) -> bool {
    let is_unwrap = path.is_some_and(|path| {
        path.canonical().ends_with("sys/wrapping/unwrap")
            || path.canonical().ends_with("sys/wrapping/lookup")
    });
    is_unwrap && matches!(brought, Caller::Own(_))
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
    S: Service<Request<upstream::Body>, Response = Response<ReplyBody>, Error = Error>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<ReplyBody>;
    type Error = Error;
    type Future = Later<Result<Response<ReplyBody>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<upstream::Body>) -> Self::Future {
        let inject = self.inject.clone();
        let below = self.below.clone();
        Box::pin(async move {
            let hidden = inject.prepare(&mut request).await?;
            let response = below.oneshot(request).await?;
            match hidden {
                Some(token) => hide::hide(&token, response).await,
                None => Ok(response),
            }
        })
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
        let mut request = request(path, headers);
        let inject = Inject {
            mode,
            token: rx,
            startup_wait: Duration::from_secs(5),
            lent: Lent::default(),
        };
        inject.prepare(&mut request).await.unwrap();
        let text = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let whose = match request.extensions().get::<Caller>().unwrap() {
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
            (WhenAbsent, kv, vec![], (some("ours"), None, "ours")),
            (
                WhenAbsent,
                kv,
                vec![("x-vault-token", "")],
                (some("ours"), None, "ours"),
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
                (some("ours"), some("Basic x"), "ours"),
            ),
            (
                WhenAbsent,
                kv,
                vec![token, bearer],
                (some("mine"), some("Bearer mine"), "unclear"),
            ),
            (WhenAbsent, kv, vec![inline], (None, None, "unclear")),
            (WhenAbsent, "/ui/", vec![], (None, None, "anonymous")),
            (Force, kv, vec![], (some("ours"), None, "ours")),
            (Force, kv, vec![token, bearer], (some("ours"), None, "ours")),
            (
                Force,
                kv,
                vec![("authorization", "Basic x")],
                (some("ours"), some("Basic x"), "ours"),
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
                (some("ours"), None, "ours"),
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
            inject.clone().prepare(&mut request).await.unwrap();
            assert_eq!(request.headers()["x-vault-token"], kept, "{body}");
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
                .prepare(&mut request(path, &[]))
                .await
                .unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut read = request("/v1/secret/data/x", &[]);
        let error = inject.clone().prepare(&mut read).await.unwrap_err();
        assert_eq!(
            (error.kind(), start.elapsed()),
            (Kind::NoToken, Duration::from_secs(5))
        );
        assert!(error.wait_hint().is_some());
        let waiting = inject.prepare(&mut read);
        tx.send_replace(Some(Arc::new(ours())));
        waiting.await.unwrap();
        assert_eq!(read.headers()["x-vault-token"], "ours");
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
        let mut read = request("/v1/secret/data/x", &[]);
        assert!(inject.prepare(&mut read).await.is_err());
        assert!(!read.headers().contains_key("x-vault-token"));
    }
}
