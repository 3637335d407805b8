//! What callers may do with the token that Leasehold lends them, and to it: it is not theirs to end, to cut short,
//! to multiply or to carry away.
//!
//! A refusal here is in doubt the right answer: each is something that the caller can do by asking Vault itself
//! with a token of its own.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use percent_encoding::percent_decode;

use crate::error::{Error, Kind, Result};
use crate::token::Token;
use crate::upstream::Body;
use crate::vault::headers::{X_VAULT_TOKEN, X_VAULT_WRAP_TTL};
use crate::vault::path::{ApiPath, Kind as Call, Named, canonical_namespace};
use crate::vault::strings::literals;

/// What is known of the lent token beside itself.
#[derive(Debug, Clone, Default)]
pub struct Lent {
    /// May callers make children of it?
    pub allow_child_tokens: bool,
    /// Where it is logged in to, `auth/approle`: leases below are tokens, ours among them.
    pub mount: Option<String>,
    /// Of the login.
    pub namespace: Option<String>,
}

/// Whose token a request goes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    Ours,
    Another,
}

impl Lent {
    /// The token that must not show in the answer, where the request could bring it up. Such an answer has to be
    /// readable, so the request goes without `Accept-Encoding`.
    ///
    /// # Errors
    /// `NotAdmitted` for what callers may not do.
    pub(super) async fn look_at(
        &self,
        request: &mut Request<Body>,
        path: &ApiPath,
        token: Option<Arc<Token>>,
        with: With,
    ) -> Result<Option<Arc<Token>>> {
        let Some(token) = token else { return Ok(None) };
        let kind = path.kind_in_doubt();
        self.refuse_ending(request, path, &kind, &token, with)
            .await?;
        if with == With::Another {
            return Ok(None);
        }
        if *kind == Call::TokenCreate && !self.allow_child_tokens && is_write(request.method()) {
            return Err(refused(NO_CHILDREN));
        }
        if *kind == Call::Access && has_segments(path, "sys/raw") {
            return Err(refused(NOT_RAW));
        }
        if !may_show(path, &kind) {
            return Ok(None);
        }
        if request.headers().contains_key(X_VAULT_WRAP_TTL) {
            return Err(refused(NOT_WRAPPED));
        }
        if *kind == Call::TokenRenew(Named::Caller) && is_write(request.method()) {
            without_increment(request);
        }
        request.headers_mut().remove(ACCEPT_ENCODING);
        Ok(Some(token))
    }

    /// Whoever asks: what would end the token ends it for everybody.
    async fn refuse_ending(
        &self,
        request: &mut Request<Body>,
        path: &ApiPath,
        kind: &Call,
        token: &Token,
        with: With,
    ) -> Result<()> {
        let is_ours = |text: &str| {
            let accessor = token.accessor.as_ref();
            token.secret.ct_eq(text) || accessor.is_some_and(|ours| ours.ct_eq(text))
        };
        let ends_it = match kind {
            Call::TokenRevoke { named, .. } => match named {
                Named::Caller => with == With::Ours || brings(request.headers(), token),
                Named::Token(Some(text)) | Named::Accessor(Some(text)) => is_ours(text),
                Named::Token(None) | Named::Accessor(None) => names(request, is_ours).await?,
            },
            // Which of them is ours only Vault can tell.
            Call::LeaseRevoke(id) if with == With::Ours => match id {
                Some(id) => self.is_below_mount(id),
                None => names(request, |text| self.is_below_mount(text)).await?,
            },
            Call::LeaseRevokePrefix(prefix) => self.is_covered(path, prefix),
            Call::LeaseRevoke(_)
            | Call::Login
            | Call::TokenCreate
            | Call::TokenRenew(_)
            | Call::TokenLookup
            | Call::LeaseRenew(_)
            | Call::UiMounts
            | Call::Access
            | Call::Wrapping
            | Call::Unauthenticated
            | Call::System
            | Call::Secret => false,
        };
        if ends_it {
            return Err(refused(NOT_ENDED));
        }
        Ok(())
    }

    fn is_below_mount(&self, lease_id: &str) -> bool {
        let rest = self
            .mount
            .as_deref()
            .and_then(|mount| lease_id.trim_start_matches('/').strip_prefix(mount));
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    fn is_covered(&self, path: &ApiPath, prefix: &str) -> bool {
        let Some(mount) = self.mount.as_deref() else {
            return false;
        };
        let is_above = format!("{mount}/").starts_with(&format!("{prefix}/"));
        (is_above || self.is_below_mount(prefix))
            && path.namespace_of_sys() == canonical_namespace(self.namespace.as_deref())
    }
}

/// Nothing that a request to this path does or brings can have to do with the lent token.
pub(super) fn is_harmless(path: &ApiPath) -> bool {
    matches!(
        *path.kind_in_doubt(),
        Call::Secret | Call::UiMounts | Call::Unauthenticated | Call::Login
    )
}

/// Can an answer bring up the token that asked? Some servers show it in places where nobody would look for it.
fn may_show(path: &ApiPath, kind: &Call) -> bool {
    match kind {
        Call::TokenLookup | Call::TokenRenew(_) => true,
        Call::System => SHOWING.iter().any(|place| has_segments(path, place)),
        Call::Login
        | Call::TokenCreate
        | Call::TokenRevoke { .. }
        | Call::LeaseRenew(_)
        | Call::LeaseRevoke(_)
        | Call::LeaseRevokePrefix(_)
        | Call::UiMounts
        | Call::Access
        | Call::Wrapping
        | Call::Unauthenticated
        | Call::Secret => false,
    }
}

fn has_segments(path: &ApiPath, wanted: &str) -> bool {
    let canonical = path.canonical();
    canonical.match_indices(wanted).any(|(at, _)| {
        let before = canonical.get(..at).unwrap_or_default();
        let after = canonical.get(at + wanted.len()..).unwrap_or_default();
        (before.is_empty() || before.ends_with('/')) && (after.is_empty() || after.starts_with('/'))
    })
}

fn is_write(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method) && method.as_str() != "LIST"
}

/// Vault takes a wish for less than what is left as a wish to end sooner, for all who share the token.
fn without_increment(request: &mut Request<Body>) {
    if !matches!(request.body(), Body::Empty) {
        *request.body_mut() = Body::Full(Bytes::from_static(b"{}"));
        request.headers_mut().remove(CONTENT_LENGTH);
    }
}

/// Does the caller present the token as its own? It may have it from a sink.
fn brings(headers: &HeaderMap, token: &Token) -> bool {
    let mut tokens = headers.get_all(X_VAULT_TOKEN).iter();
    let mut bearers = headers.get_all(AUTHORIZATION).iter();
    tokens.any(|value| {
        value
            .to_str()
            .is_ok_and(|text| token.secret.ct_eq(text.trim()))
    }) || bearers.any(|value| {
        let text = value.to_str().unwrap_or_default();
        let text = text.split_once(' ').map_or("", |(_, text)| text);
        token.secret.ct_eq(text.trim())
    })
}

/// Does the body, or the query, hold a text of that sort? A body counts as JSON and as a form alike, since
/// servers read either by rules of their own.
async fn names(request: &mut Request<Body>, is_meant: impl Fn(&str) -> bool) -> Result<bool> {
    let mut body = std::mem::take(request.body_mut());
    for _ in 0..TRIES {
        body = body.read_ahead(LARGEST).await?;
        if !matches!(body, Body::Streamed(_)) {
            break;
        }
    }
    let found = match &body {
        Body::Empty => false,
        Body::Streamed(_) => return Err(refused(NOT_READ)),
        Body::Full(bytes) => {
            let is_said = |said: Cow<'_, [u8]>| is_meant(&String::from_utf8_lossy(&said));
            literals(bytes).any(|literal| is_said(literal.read(bytes)))
                || form_values(bytes).any(is_said)
        }
    };
    *request.body_mut() = body;
    Ok(found || is_in_query(request.uri(), is_meant))
}

fn is_in_query(uri: &Uri, is_meant: impl Fn(&str) -> bool) -> bool {
    let query = uri.query().unwrap_or_default().as_bytes();
    form_values(query).any(|said| is_meant(&String::from_utf8_lossy(&said)))
}

fn form_values(form: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    form.split(|byte| matches!(byte, b'&' | b';'))
        .map(|field| match field.iter().position(|byte| *byte == b'=') {
            Some(at) => field.get(at + 1..).unwrap_or_default(),
            None => field,
        })
        .map(|value| Cow::from(percent_decode(value.trim_ascii())))
}

fn refused(message: &'static str) -> Error {
    Error::new(Kind::NotAdmitted(StatusCode::FORBIDDEN), message)
}

/// `sys/` and `auth/token/` paths whose answers can hold the caller's token or its accessor.
const SHOWING: [&str; 4] = [
    "auth/token",
    "sys/internal",
    "sys/in-flight-req",
    "sys/workflows",
];

const NOT_ENDED: &str = "Leasehold's own token is not revoked through Leasehold, since all its callers share it; \
                         send a token of your own to end that, or ask Vault itself";
const NO_CHILDREN: &str = "no child tokens are made of Leasehold's own token unless api_proxy { allow_child_tokens = \
                           true } is set; or send a token of your own";
const NOT_WRAPPED: &str = "answers about Leasehold's own token are not wrapped; leave out X-Vault-Wrap-TTL, or send a \
                           token of your own";
const NOT_RAW: &str = "Vault's raw storage holds Leasehold's own token and is not shown with that; send a token of \
                       your own";
const NOT_READ: &str = "the request's body is too large or too slow to see which token or lease it revokes; ask \
                        Vault itself";
const LARGEST: usize = 64 * 1024;
/// Each is half a second.
const TRIES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::Life;
    use crate::secret::Secret;
    use std::time::Duration;

    fn ours() -> Arc<Token> {
        Arc::new(Token {
            secret: Secret::new("hvs.ours"),
            accessor: Some(Secret::new("accessor-of-ours")),
            life: Arc::new(Life::endless()),
            ttl: Duration::ZERO,
            renewable: true,
            generation: 1,
        })
    }

    fn lent() -> Lent {
        Lent {
            allow_child_tokens: false,
            mount: Some("auth/approle".to_owned()),
            namespace: None,
        }
    }

    struct Asked {
        request: Request<Body>,
        path: ApiPath,
    }

    fn asked(method: &str, target: &str, headers: &[(&'static str, &str)], body: &str) -> Asked {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            "" => Body::Empty,
            body => Body::Full(Bytes::copy_from_slice(body.as_bytes())),
        };
        let request = request.body(body).unwrap();
        let namespace = request.headers().get("x-vault-namespace");
        let namespace = namespace.map(|value| value.to_str().unwrap());
        let path = ApiPath::parse(request.uri().path(), namespace).unwrap();
        Asked { request, path }
    }

    async fn is_refused(lent: &Lent, asked: Asked, with: With) -> bool {
        let Asked { mut request, path } = asked;
        lent.look_at(&mut request, &path, Some(ours()), with)
            .await
            .is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_end_the_token_is_refused_to_everybody() {
        for (target, headers, body) in [
            ("/v1/auth/token/revoke", vec![], r#"{"token":"hvs.ours"}"#),
            (
                "/v1/auth/token/revoke",
                vec![],
                r#"{"accessor":1,"token":"\u0068vs.ours"}"#,
            ),
            (
                "/v1/auth/token/revoke",
                vec![],
                r#"{"token":"x","token":"hvs.ours"}x"#,
            ),
            ("/v1/auth/token/revoke", vec![], "token=hvs.ours"),
            ("/v1/auth/token/revoke", vec![], "a=b&tok%65n=hvs%2eours"),
            ("/v1/auth/token/revoke?token=hvs.ours", vec![], "{}"),
            ("/v1/auth/token/revoke/hvs.ours", vec![], ""),
            (
                "/v1/a/data/auth/token/revoke",
                vec![],
                r#"{"token":"hvs.ours"}"#,
            ),
            (
                "/v1/auth//token/%72evoke",
                vec![],
                r#"{"token":"hvs.ours"}"#,
            ),
            (
                "/v1/auth/token/revoke-orphan",
                vec![],
                r#"{"token":"hvs.ours"}"#,
            ),
            (
                "/v1/auth/token/revoke-accessor",
                vec![],
                r#"{"accessor":"accessor-of-ours"}"#,
            ),
            (
                "/v1/auth/token/revoke-accessor/accessor-of-ours",
                vec![],
                "",
            ),
            (
                "/v1/auth/token/revoke-self",
                vec![("x-vault-token", "hvs.ours")],
                "",
            ),
            (
                "/v1/auth/token/revoke-self",
                vec![("authorization", "bearer hvs.ours")],
                "",
            ),
            (
                "/v1/auth/token/revoke-self",
                vec![("x-vault-token", "a"), ("x-vault-token", "hvs.ours")],
                "",
            ),
            ("/v1/sys/leases/revoke-prefix/auth", vec![], ""),
            (
                "/v1/sys/leases/revoke-prefix/auth/approle/login/h00",
                vec![],
                "",
            ),
            (
                "/v1/sys/leases/revoke-force/auth%2Fapprole",
                vec![("x-vault-namespace", "root")],
                "",
            ),
            ("/v1/sys/revoke-prefix/auth/approle", vec![], ""),
        ] {
            for with in [With::Ours, With::Another] {
                let asked = asked("PUT", target, &headers, body);
                assert!(
                    is_refused(&lent(), asked, with).await,
                    "{target} {body} {with:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_roundabout_name_of_the_root_namespace_ends_the_token() {
        for namespace in ["./root", "root/.", "root//", "a/../root", "a/..", "."] {
            let target = "/v1/sys/leases/revoke-prefix/auth/approle";
            let headers = [("x-vault-namespace", namespace)];
            let asked = asked("PUT", target, &headers, "");
            assert!(is_refused(&lent(), asked, With::Ours).await, "{namespace}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_something_else_passes() {
        for (target, headers, body) in [
            ("/v1/auth/token/revoke", vec![], r#"{"token":"hvs.other"}"#),
            (
                "/v1/auth/token/revoke",
                vec![],
                r#"{"token":"hvs.ours.not"}"#,
            ),
            (
                "/v1/auth/token/revoke-self",
                vec![("x-vault-token", "hvs.other")],
                "",
            ),
            ("/v1/sys/leases/revoke-prefix/auth/approle-2", vec![], ""),
            ("/v1/sys/leases/revoke-prefix/auth/app", vec![], ""),
            ("/v1/sys/leases/revoke-prefix/database", vec![], ""),
            (
                "/v1/sys/leases/revoke-prefix/auth",
                vec![("x-vault-namespace", "team")],
                "",
            ),
            ("/v1/team/sys/leases/revoke-prefix/auth", vec![], ""),
            (
                "/v1/sys/leases/revoke",
                vec![],
                r#"{"lease_id":"auth/approle/login/h00"}"#,
            ),
            (
                "/v1/secret/data/x",
                vec![],
                r#"{"data":{"token":"hvs.ours"}}"#,
            ),
        ] {
            let asked = asked("PUT", target, &headers, body);
            assert!(
                !is_refused(&lent(), asked, With::Another).await,
                "{target} {body}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_our_own_token_may_not_do() {
        for (method, target, body) in [
            ("PUT", "/v1/auth/token/revoke-self", ""),
            ("POST", "/v1/ns/auth/token/revoke-self/", ""),
            ("PUT", "/v1/sys/leases/revoke/auth/approle/login/h00", ""),
            (
                "PUT",
                "/v1/sys/leases/revoke",
                r#"{"lease_id":"auth/approle/login/h00"}"#,
            ),
            ("POST", "/v1/auth/token/create", "{}"),
            ("POST", "/v1/auth/token/create-orphan", ""),
            ("POST", "/v1/auth/token/create/role", ""),
            ("GET", "/v1/sys/raw/sys/token/id/h00", ""),
        ] {
            let refused = is_refused(&lent(), asked(method, target, &[], body), With::Ours).await;
            let passed =
                !is_refused(&lent(), asked(method, target, &[], body), With::Another).await;
            assert_eq!((refused, passed), (true, true), "{method} {target}");
        }
        let generous = Lent {
            allow_child_tokens: true,
            ..lent()
        };
        let child = asked("POST", "/v1/auth/token/create", &[], "{}");
        assert!(!is_refused(&generous, child, With::Ours).await);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_cuts_the_shared_token_short() {
        for (with, sent) in [(With::Ours, "{}"), (With::Another, r#"{"increment":1}"#)] {
            let headers = [("content-length", "15")];
            let body = r#"{"increment":1}"#;
            let Asked { mut request, path } =
                asked("POST", "/v1/auth/token/renew-self", &headers, body);
            let lent = lent();
            let looked = lent.look_at(&mut request, &path, Some(ours()), with);
            assert_eq!(looked.await.unwrap().is_some(), with == With::Ours);
            let Body::Full(body) = request.body() else {
                panic!()
            };
            assert_eq!(body, sent);
        }
    }
}
