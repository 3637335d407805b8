//! Renewing and revoking at Vault itself.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::plan::LAST_CALL;
use super::{Grant, Lease, Renew, What};
use crate::error::{Error, Kind, Result};
use crate::life::LONGEST;
use crate::secret::Secret;
use crate::tasks::Later;
use crate::upstream::{Answer, Call, Upstream};
use crate::vault::envelope::Envelope;

/// Renews and revokes with the token and in the namespace that a lease was made with.
#[derive(Clone)]
pub struct VaultRenewals {
    upstream: Upstream,
}

impl VaultRenewals {
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream }
    }
}

impl Renew for VaultRenewals {
    fn renew(&self, lease: Arc<Lease>) -> Later<Result<Grant>> {
        let upstream = self.upstream.clone();
        Box::pin(async move {
            let (path, body) = match &lease.what {
                What::Secret { lease_id } => ("/v1/sys/leases/renew", names(lease_id)?),
                What::Token { .. } => ("/v1/auth/token/renew-self", Bytes::from_static(b"{}")),
            };
            let asked_at = Instant::now();
            let not_after = lease.end().and_then(|end| end.checked_sub(LAST_CALL));
            match send(&upstream, &lease, path, body, not_after).await {
                Ok(answer) => granted(&lease.what, &answer),
                Err(error) if is_gone(&error) => Ok(Grant::ended(asked_at)),
                Err(error) => Err(error),
            }
        })
    }

    fn revoke(&self, lease: Arc<Lease>) -> Later<Result<()>> {
        let upstream = self.upstream.clone();
        Box::pin(async move {
            let (path, body) = match &lease.what {
                What::Secret { lease_id } => ("/v1/sys/leases/revoke", names(lease_id)?),
                What::Token { .. } => ("/v1/auth/token/revoke-self", Bytes::from_static(b"{}")),
            };
            send(&upstream, &lease, path, body, None).await.map(drop)
        })
    }
}

impl Grant {
    fn ended(asked_at: Instant) -> Self {
        Self {
            ttl: std::time::Duration::ZERO,
            renewable: false,
            asked_at,
        }
    }
}

async fn send(
    upstream: &Upstream,
    lease: &Lease,
    path: &str,
    body: Bytes,
    not_after: Option<Instant>,
) -> Result<Answer> {
    let namespace = namespace(lease);
    let call = Call::new(Method::PUT, path)
        .token(&lease.token)
        .namespace(Some(&namespace))
        .not_after(not_after)
        .body(body);
    upstream.call(call).await
}

fn granted(what: &What, answer: &Answer) -> Result<Grant> {
    let not_understood = || {
        Error::new(
            Kind::BadAnswer,
            "Vault's answer to a renewal says no lease_duration",
        )
    };
    let envelope = Envelope::read(&answer.body).ok_or_else(not_understood)?;
    let (ttl, renewable) = match what {
        What::Secret { .. } => (envelope.lease_duration, envelope.renewable),
        What::Token { .. } => {
            let auth = envelope.auth.ok_or_else(not_understood)?;
            (auth.lease_duration, auth.renewable)
        }
    };
    Ok(Grant {
        ttl: ttl.ok_or_else(not_understood)?.value.min(LONGEST),
        renewable,
        asked_at: answer.asked_at,
    })
}

/// Does an error say that the lease, or the token it hangs from, does not exist? Vault answers 400 to a
/// renewal for every reason: the backend cannot be reached, the role is gone, max TTL is over; only its
/// text tells a lease that is dead from one that lives until its end.
fn is_gone(error: &Error) -> bool {
    let text = error.to_string();
    let says = |texts: &[&str]| texts.iter().any(|part| text.contains(part));
    match error.refused_with() {
        Some(StatusCode::BAD_REQUEST) => says(&[
            "lease not found",
            "lease expired",
            "lease is expired",
            "invalid lease",
        ]),
        Some(StatusCode::FORBIDDEN) => says(&["invalid token"]),
        _ => false,
    }
}

/// `{"lease_id": ...}`, written into one buffer of the right size: no half-grown copy is left behind.
fn names(lease_id: &Secret) -> Result<Bytes> {
    #[derive(Serialize)]
    struct Names<'a> {
        lease_id: &'a str,
    }
    let lease_id = lease_id.expose();
    let mut body = Vec::with_capacity(2 * lease_id.len() + 32);
    serde_json::to_writer(&mut body, &Names { lease_id })
        .map_err(|error| Error::new(Kind::Internal, format!("a renewal's body: {error}")))?;
    Ok(body.into())
}

/// The namespace that a lease lives in, empty for the root one: what stands in its canonical path before
/// its mount. That has the header's part in front, and the path's own behind it.
fn namespace(lease: &Lease) -> Cow<'_, str> {
    let path = lease.path.as_str();
    let before = match &lease.what {
        // A lease's id is the path inside the namespace, and one segment of its own.
        What::Secret { lease_id } => lease_id
            .expose()
            .rsplit_once('/')
            .and_then(|(inside, _)| path.strip_suffix(inside)),
        What::Token { .. } if path.starts_with("auth/") => Some(""),
        What::Token { .. } => path.find("/auth/").and_then(|at| path.get(..at)),
    };
    match before.map(|before| before.trim_end_matches('/')) {
        Some(namespace) => Cow::Borrowed(namespace),
        None => Cow::Borrowed(lease.namespace.as_deref().unwrap_or_default()),
    }
}

impl fmt::Debug for VaultRenewals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultRenewals").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::time::Duration;

    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::config;
    use crate::tasks::Tasks;
    use crate::telemetry::Metrics;
    use crate::upstream::Way;

    type Log = Arc<Mutex<Vec<String>>>;

    /// A Vault that answers everything with `status` and `answer`, and what it was asked.
    fn vault(status: u16, answer: &'static str) -> (VaultRenewals, Log) {
        let log = Log::default();
        let seen = Arc::clone(&log);
        let tasks = Tasks::new();
        let way = Way::streams(move || {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request: Request<Incoming>| {
                let seen = Arc::clone(&seen);
                async move {
                    let header = |name| {
                        let value = request.headers().get(name).map(|value| value.to_str());
                        value.map_or("-", Result::unwrap).to_owned()
                    };
                    let heads = format!(
                        "{} {} token={} namespace={}",
                        request.method(),
                        request.uri().path(),
                        header("x-vault-token"),
                        header("x-vault-namespace"),
                    );
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    seen.lock().unwrap().push(format!("{heads} {body}"));
                    let mut response =
                        Response::new(Full::new(Bytes::from_static(answer.as_bytes())));
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    Ok::<_, Infallible>(response)
                }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
            tasks.spawn("vault", serving);
            Ok(ours)
        });
        let settings = config::Vault {
            address: "http://vault.test:8200".into(),
            namespace: Some("configured".into()),
            ..config::Vault::default()
        };
        let background = config::Background::default();
        let upstream = Upstream::over(way, &settings, &background, Metrics::new()).unwrap();
        (VaultRenewals::new(upstream), log)
    }

    fn lease(what: What, path: &str, namespace: Option<&str>) -> Arc<Lease> {
        let ttl = Duration::from_secs(60);
        let end = Instant::now() + ttl;
        let namespace = namespace.map(str::to_owned);
        Arc::new(Lease::new(
            1,
            what,
            Secret::new("hvs.child"),
            namespace,
            path.to_owned(),
            true,
            ttl,
            end,
            None,
        ))
    }

    fn secret(path: &str, lease_id: &str, namespace: Option<&str>) -> Arc<Lease> {
        let lease_id = Secret::new(lease_id);
        lease(What::Secret { lease_id }, path, namespace)
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_renewed_by_its_id_with_its_token() {
        let answer = r#"{"lease_id":"x","renewable":true,"lease_duration":42,"data":null}"#;
        let (renewals, log) = vault(200, answer);
        let lease = secret("database/creds/app", "database/creds/app/q\"q", None);
        let begun = Instant::now();
        let grant = renewals.renew(Arc::clone(&lease)).await.unwrap();
        assert_eq!((grant.ttl.as_secs(), grant.renewable), (42, true));
        assert_eq!(grant.asked_at, begun);
        renewals.revoke(lease).await.unwrap();
        let head = "token=hvs.child namespace= ";
        let body = r#"{"lease_id":"database/creds/app/q\"q"}"#;
        assert_eq!(
            *log.lock().unwrap(),
            [
                format!("PUT /v1/sys/leases/renew {head}{body}"),
                format!("PUT /v1/sys/leases/revoke {head}{body}"),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_renews_itself() {
        let answer =
            r#"{"auth":{"client_token":"hvs.child","lease_duration":7,"renewable":false}}"#;
        let (renewals, log) = vault(200, answer);
        let lease = lease(
            What::Token { accessor: None },
            "team/auth/approle/login",
            None,
        );
        let grant = renewals.renew(Arc::clone(&lease)).await.unwrap();
        assert_eq!((grant.ttl.as_secs(), grant.renewable), (7, false));
        renewals.revoke(lease).await.unwrap();
        assert_eq!(
            *log.lock().unwrap(),
            [
                "PUT /v1/auth/token/renew-self token=hvs.child namespace=team {}",
                "PUT /v1/auth/token/revoke-self token=hvs.child namespace=team {}",
            ]
        );
    }

    /// The budget may hold a renewal back until it would do harm.
    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_would_come_too_late_is_not_sent() {
        let (renewals, log) = vault(200, "{}");
        let lease = secret("database/creds/app", "database/creds/app/x", None);
        let peace = Instant::now() + Duration::from_secs(300);
        renewals.upstream.budget().hold_until(peace);
        let begun = Instant::now();
        let error = renewals.renew(lease).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Busy);
        assert_eq!(begun.elapsed(), Duration::from_secs(58));
        assert!(log.lock().unwrap().is_empty());
    }

    /// The texts are those of OpenBao 2.6 and Vault 1.x.
    #[tokio::test(start_paused = true)]
    async fn only_what_vault_does_not_know_is_gone() {
        let cases = [
            (400, r#"{"errors":["lease not found"]}"#, None),
            (400, r#"{"errors":["lease expired"]}"#, None),
            (
                403,
                r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#,
                None,
            ),
            (400, r#"{"errors":["lease is not renewable"]}"#, Some(400)),
            (
                400,
                r#"{"errors":["past the max TTL, cannot renew"]}"#,
                Some(400),
            ),
            (
                400,
                r#"{"errors":["failed to renew entry: resp: nil err: could not find role"]}"#,
                Some(400),
            ),
            (403, r#"{"errors":["permission denied"]}"#, Some(403)),
            (404, r#"{"errors":["namespace not found"]}"#, Some(404)),
            (503, r#"{"errors":["Vault is sealed"]}"#, Some(503)),
        ];
        for (status, answer, expected) in cases {
            let (renewals, _) = vault(status, answer);
            let result = renewals
                .renew(secret("database/creds/app", "database/creds/app/x", None))
                .await;
            match (result, expected) {
                (Ok(grant), None) => assert!(grant.ttl.is_zero(), "{answer}"),
                (Err(error), Some(status)) => {
                    assert_eq!(error.refused_with().unwrap().as_u16(), status, "{answer}");
                }
                (result, _) => panic!("{result:?} for {answer}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_grants_nothing_is_no_grant() {
        for answer in [
            "",
            "[]",
            "{}",
            r#"{"lease_duration":"1h"}"#,
            r#"{"auth":{"lease_duration":7}}"#,
        ] {
            let (renewals, _) = vault(200, answer);
            let result = renewals
                .renew(secret("database/creds/app", "database/creds/app/x", None))
                .await;
            assert_eq!(result.unwrap_err().kind(), Kind::BadAnswer, "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_namespace_is_what_stands_before_the_mount() {
        let token = || What::Token { accessor: None };
        let cases = [
            (
                secret("database/creds/app", "database/creds/app/x", None),
                "",
            ),
            (
                secret("a/b/database/creds/app", "database/creds/app/x.ns", None),
                "a/b",
            ),
            (
                secret(
                    "a/b/database/creds/app",
                    "database/creds/app/x.ns",
                    Some("a"),
                ),
                "a/b",
            ),
            (secret("database/creds/app", "elsewhere/x", Some("a")), "a"),
            (secret("database/creds/app", "odd", None), ""),
            (lease(token(), "auth/approle/login", None), ""),
            (lease(token(), "a/b/auth/approle/login", Some("a/b")), "a/b"),
        ];
        for (lease, expected) in cases {
            assert_eq!(namespace(&lease), expected, "{}", lease.path);
        }
    }
}
