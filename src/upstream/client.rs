//! Pooled connections to one Vault address.
//!
//! Callers' requests and Leasehold's own calls have a pool each, so that a pile-up of the first never
//! keeps a renewal from going out. Redirects are handed back, never followed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Collected, Limited};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::budget::Budget;
use super::call::{Answer, Call, Place};
use super::dial::{Connector, Way};
use super::patience::in_time;
use super::pool::{Failure, Pool};
use super::reach::Reach;
use super::replay::{broke_before_answering, spare_copy};
use super::tls::{Tls, TlsView};
use super::{Body, UpstreamBody, body, causes, refusal};
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::telemetry::Call as Class;
use crate::telemetry::Metrics;
use crate::vault::headers::{X_VAULT_NAMESPACE, X_VAULT_REQUEST, X_VAULT_TOKEN};

/// One Vault, as everybody in this process reaches it. Clones share the pools.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    forward: Pool,
    own: Pool,
    tls: Arc<Tls>,
    address: String,
    /// The base path of the address, without a slash at its end; often empty.
    base: String,
    host: HeaderValue,
    namespace: Option<HeaderValue>,
    /// Of each of our own calls.
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    /// One permit per upstream connection in use by callers.
    places: Arc<Semaphore>,
    budget: Budget,
    reach: Reach,
    metrics: Metrics,
    places_in_all: usize,
}

impl Upstream {
    /// Reads the TLS files and prepares the pools; connects to nobody.
    ///
    /// # Errors
    /// `Kind::File` where a certificate or key cannot be read, `Kind::BadRequest` for a `-header` that is none.
    pub fn new(
        vault: &config::Vault,
        background: &config::Background,
        metrics: Metrics,
    ) -> Result<Self> {
        Self::over(Way::of(vault)?, vault, background, metrics)
    }

    /// As `new`, over connections that `way` makes instead of TCP.
    pub fn over(
        way: Way,
        vault: &config::Vault,
        background: &config::Background,
        metrics: Metrics,
    ) -> Result<Self> {
        // As the peers' clients ask over a socket.
        let asked = vault
            .socket()
            .map_or(vault.address.as_str(), |_| OVER_A_SOCKET);
        let uri: Uri = asked.parse().map_err(|error| {
            Error::new(
                Kind::Internal,
                format!(
                    "vault.address {:?} is not an address: {error}",
                    vault.address
                ),
            )
        })?;
        let authority = uri.authority().ok_or_else(|| {
            Error::new(
                Kind::Internal,
                format!("vault.address {:?} has no host", vault.address),
            )
        })?;
        let base = uri.path().trim_end_matches('/').to_owned();
        let header = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Error::new(Kind::Internal, format!("{text:?} cannot be a header")))
        };
        let host = header(authority.as_str())?;
        let namespace = vault.namespace.as_deref().map(header).transpose()?;
        let tls = Arc::new(Tls::new(vault)?);
        let connector = Connector::new(way, Arc::clone(&tls));
        Ok(Self {
            shared: Arc::new(Shared {
                forward: Pool::new(connector.clone(), uri.clone(), vault.max_connections.max(1)),
                own: Pool::new(connector, uri, MOST_OWN_IDLE),
                tls,
                address: vault.address.clone(),
                base,
                host,
                namespace,
                headers: own_headers(&vault.headers)?,
                timeout: vault.timeout,
                places: Arc::new(Semaphore::new(vault.max_connections.max(1))),
                budget: Budget::new(background.rate, background.burst),
                reach: Reach::default(),
                metrics,
                places_in_all: vault.max_connections.max(1),
            }),
        })
    }

    /// The address as configured, for messages.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// The token bucket of background calls. `call` passes it by itself; who uses `send` in the
    /// background (replacing a credential) passes it first.
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    /// Sends a caller's request: path, query, headers and body as they are, `Host` aside.
    ///
    /// The request's URI counts only by its path and query. A read whose pooled connection turns out to
    /// be closed already is sent once more; nothing else is ever sent twice.
    ///
    /// # Errors
    /// `Busy` when no connection is free in time, `Deadline`, `Unreachable`.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<UpstreamBody>> {
        let answer = self.exchange(request).await;
        self.shared.reach.saw(&self.shared.address, &answer);
        let status = answer.as_ref().ok().map(Response::status);
        self.shared.metrics.called(Class::Forward, status);
        answer
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<UpstreamBody>> {
        let shared = &self.shared;
        let began = Instant::now();
        let deadline = began + shared.timeout;
        let place = timeout_at(deadline, Arc::clone(&shared.places).acquire_owned())
            .await
            .map_err(|_| {
                Error::new(
                    Kind::Busy,
                    format!(
                        "all {} connections to Vault at {} have been in use for {:?}",
                        shared.places_in_all, shared.address, shared.timeout
                    ),
                )
                .retry_after(Some(Duration::from_secs(1)))
                .unsent(true)
            })?
            .map_err(|_| Error::new(Kind::Stopping, "Leasehold is shutting down"))?;
        let (mut parts, body) = request.into_parts();
        parts.uri = shared.target(parts.uri.path_and_query())?;
        parts.version = http::Version::HTTP_11;
        parts.headers.insert(header::HOST, shared.host.clone());
        let spare = spare_copy(&parts, &body);
        let moved = body.moved();
        let sending = shared.forward.send(Request::from_parts(parts, body));
        let mut answer = match in_time(shared.timeout, began, moved, sending)
            .await
            .ok_or_else(|| shared.too_slow(shared.timeout))?
        {
            Ok(answer) => answer,
            Err(error) => match spare {
                // A pooled connection that Vault closed between two requests.
                Some(again) if broke_before_answering(&error) => {
                    let sending = shared.forward.send(again);
                    let again = timeout_at(deadline, sending)
                        .await
                        .map_err(|_| shared.too_slow(shared.timeout))?;
                    again.map_err(|error| shared.unreachable(&error, "; this was tried twice"))?
                }
                _ => return Err(shared.unreachable(&error, NOT_AGAIN)),
            },
        };
        shared.look_over(&answer)?;
        // An HTTP/1.0 on the way to Vault is no reason to speak it to the caller.
        *answer.version_mut() = http::Version::HTTP_11;
        Ok(answer.map(|incoming| UpstreamBody::new(incoming, place)))
    }

    /// Reads the TLS files anew, whether they look changed or not; new connections use them.
    ///
    /// # Errors
    /// `Kind::File`: they cannot be used as they are, and those read before stay in use.
    pub async fn reload_tls(&self) -> Result<()> {
        self.shared.tls.reload().await
    }

    pub fn tls(&self) -> TlsView {
        self.shared.tls.view()
    }

    /// For how long Vault has not answered; `None`: it has, the last time it was asked.
    pub fn unreachable_for(&self) -> Option<Duration> {
        self.shared.reach.failing_for()
    }

    /// How long a caller's request waits for the head of its answer.
    pub fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// How many callers' requests occupy a connection.
    pub fn in_use(&self) -> usize {
        self.shared
            .places_in_all
            .saturating_sub(self.shared.places.available_permits())
    }

    /// Makes one of Leasehold's own calls, once, after passing the budget.
    ///
    /// # Errors
    /// `Unreachable`, `Deadline`, and `Refused` for every answer that is not 2xx; a `Retry-After` is
    /// kept by the error and silences the budget. `Busy` when the budget lets it go later than
    /// `not_after`; it was not sent then.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer> {
        let shared = &self.shared;
        shared.place_in_budget(&call).await?;
        let request = shared.own_request(&call)?;
        let asked_at = Instant::now();
        let exchange = async {
            let response = shared
                .own
                .send(request)
                .await
                .map_err(|error| shared.unreachable(&error, NOT_AGAIN))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_OWN_ANSWER).collect().await;
            let body = body.map(Collected::to_bytes);
            if causes::is_tls_port(&head, body.as_deref().ok()) {
                return Err(shared.speaks_tls());
            }
            let body = body.map_err(|error| shared.broke_off(&*error))?;
            Ok((head, body))
        };
        let within = shared.timeout.min(OWN_DEADLINE);
        let exchanged = timeout(within, exchange)
            .await
            .map_err(|_| shared.too_slow(within));
        let exchanged = exchanged.and_then(|exchanged| exchanged);
        shared.reach.saw(&shared.address, &exchanged);
        let status = exchanged.as_ref().ok().map(|(head, _)| head.status);
        shared.metrics.called(Class::Own, status);
        let (head, body) = exchanged?;
        if head.status.is_success() {
            return Ok(Answer {
                status: head.status,
                body,
                asked_at,
            });
        }
        let wait = refusal::retry_after(&head.headers);
        if let Some(wait) = wait {
            shared.budget.hold_until(Instant::now() + wait);
        }
        Err(Error::new(
            Kind::Refused(head.status),
            format!(
                "Vault at {} answered {} to {} {}{}",
                shared.address,
                head.status.as_u16(),
                call.method,
                refusal::shown_path(call.path),
                refusal::reasons(&body, &call)
            ),
        )
        .retry_after(wait))
    }
}

impl Shared {
    /// Answers that could be taken for something else than they are go to nobody.
    fn look_over<B>(&self, answer: &Response<B>) -> Result<()> {
        let wrong = |message: String| Err(Error::new(Kind::BadAnswer, message));
        // Nobody asked for another protocol, so nobody could speak it.
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return wrong(format!(
                "Vault at {} answered 101 to a request for no other protocol; is it Vault?",
                self.address
            ));
        }
        if says_its_length_twice(answer.headers()) {
            return wrong(format!(
                "the answer of Vault at {} has both Content-Length and Transfer-Encoding; what stands \
                 between Leasehold and it?",
                self.address
            ));
        }
        Ok(())
    }

    async fn place_in_budget(&self, call: &Call<'_>) -> Result<()> {
        let place = async {
            match call.place {
                Place::InTurn => self.budget.acquire().await,
                Place::First => self.budget.acquire_first().await,
                Place::Taken => {}
            }
        };
        let Some(not_after) = call.not_after else {
            place.await;
            return Ok(());
        };
        timeout_at(not_after, place).await.map_err(|_| {
            Error::new(
                Kind::Busy,
                "the background budget has no place for this call in time; background.rate sets it",
            )
        })
    }

    fn target(&self, path_and_query: Option<&PathAndQuery>) -> Result<Uri> {
        let given = path_and_query.ok_or_else(|| {
            Error::new(Kind::BadRequest, "the request has no path; ask for /v1/...")
        })?;
        let path_and_query = if self.base.is_empty() {
            given.clone()
        } else {
            PathAndQuery::try_from(format!("{}{given}", self.base)).map_err(|_| {
                Error::new(
                    Kind::BadRequest,
                    "the request's path cannot be put behind vault.address",
                )
            })?
        };
        Ok(Uri::from(path_and_query))
    }

    fn own_request(&self, call: &Call<'_>) -> Result<Request<Body>> {
        let target = PathAndQuery::try_from(call.path)
            .map_err(|_| Error::new(Kind::Internal, "a path of ours is not a path"))?;
        let body = call.body.clone().map_or(Body::Empty, Body::Full);
        let mut request = Request::new(body);
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = self.target(Some(&target))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(X_VAULT_REQUEST, HeaderValue::from_static("true"));
        if call.body.is_some() {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        }
        match call.namespace {
            Some(namespace) => {
                headers.insert(X_VAULT_NAMESPACE, secret_value(namespace)?);
            }
            None => {
                if let Some(namespace) = &self.namespace {
                    headers.insert(X_VAULT_NAMESPACE, namespace.clone());
                }
            }
        }
        if let Some(token) = call.token {
            headers.insert(X_VAULT_TOKEN, secret_value(token.expose())?);
        }
        for (name, value) in self.headers.iter().chain(&call.headers) {
            headers.insert(name, value.clone());
        }
        Ok(request)
    }

    /// `sent` is what to say where the request was on its way already.
    fn unreachable(&self, error: &Failure, sent: &str) -> Error {
        // Nothing is wrong with Vault where it is the caller's body that failed.
        if let Some(of_caller) = causes::callers_body(error) {
            return body::broke_off(of_caller);
        }
        // Vault refuses a client certificate after we think that the connection is made.
        let is_refused = causes::is_refused_handshake(error);
        let why = if error.is_connect() || is_refused {
            causes::of_connecting(error, &self.tls)
        } else {
            format!("{}{sent}", causes::root_cause(error))
        };
        Error::new(
            Kind::Unreachable,
            format!("Vault at {} did not answer: {why}", self.address),
        )
        .retry_after(Some(Duration::from_secs(1)))
        .unsent(error.is_connect() || is_refused)
    }

    fn speaks_tls(&self) -> Error {
        let address = &self.address;
        Error::new(
            Kind::Unreachable,
            format!("Vault at {address} wants TLS on this port: its address is https://"),
        )
    }

    fn broke_off(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let (address, why) = (&self.address, causes::root_cause(error));
        Error::new(
            Kind::Unreachable,
            format!("the answer of Vault at {address} broke off: {why}"),
        )
    }

    fn too_slow(&self, within: Duration) -> Error {
        Error::new(
            Kind::Deadline,
            format!("Vault at {} did not answer within {within:?}", self.address),
        )
    }
}

/// A reader on the way who goes by the other one would end it elsewhere (RFC 9112 §6.3).
fn says_its_length_twice(headers: &http::HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

fn own_headers(given: &[(String, Secret)]) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let header = |(name, value): &(String, Secret)| {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| {
            Error::new(
                Kind::BadRequest,
                format!("-header: {name:?} is not the name of a header"),
            )
        })?;
        Ok((parsed, secret_value(value.expose())?))
    };
    given.iter().map(header).collect()
}

/// A token or namespace as a header; marked sensitive, so that no `Debug` shows it.
fn secret_value(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::new(
            Kind::Credentials,
            "the token or namespace holds characters no header can carry",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}

const MOST_OWN_IDLE: usize = 4;
const NOT_AGAIN: &str = "; the request may have been processed, so it was not sent again";
const OVER_A_SOCKET: &str = "http://localhost";
const OWN_DEADLINE: Duration = Duration::from_secs(30);
const LARGEST_OWN_ANSWER: usize = 1024 * 1024;
const USER_AGENT: &str = concat!("leasehold/", env!("CARGO_PKG_VERSION"));
