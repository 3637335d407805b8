//! A small scripted Vault over in-memory pipes, for the tests of this room.

#![cfg(test)]

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::AutoAuth;
use crate::config::{self, AppRole, CredentialSource};
use crate::error::Error;
use crate::secret::Secret;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::token::{self, Token, TokenRx};
use crate::upstream::{Upstream, Way};

/// Decides, before the Vault does, on a call by its path; `None` lets it pass. A `retry_after` in the
/// answer becomes the header.
pub(super) type Fault = Box<dyn Fn(&str) -> Option<(u16, Value)> + Send>;

/// Role id `role`, secret id `secret`, wrapping token `wrapped`.
#[derive(Clone)]
pub(super) struct FakeVault {
    state: Arc<Mutex<State>>,
    is_down: Arc<AtomicBool>,
    tasks: Tasks,
}

struct State {
    ttl: u64,
    max_ttl: u64,
    renewable: bool,
    tokens: HashMap<String, Issued>,
    calls: Vec<(Instant, String)>,
    fault: Option<Fault>,
    is_unwrapped: bool,
    logins: u64,
    jwts: Vec<String>,
}

struct Issued {
    since: Instant,
    end: Instant,
}

impl FakeVault {
    pub(super) fn new(ttl: u64, max_ttl: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                ttl,
                max_ttl,
                renewable: true,
                tokens: HashMap::new(),
                calls: Vec::new(),
                fault: None,
                is_unwrapped: false,
                logins: 0,
                jwts: Vec::new(),
            })),
            is_down: Arc::default(),
            tasks: Tasks::new(),
        }
    }

    pub(super) fn not_renewable(self) -> Self {
        self.state.lock().unwrap().renewable = false;
        self
    }

    pub(super) fn fault(&self, fault: impl Fn(&str) -> Option<(u16, Value)> + Send + 'static) {
        self.state.lock().unwrap().fault = Some(Box::new(fault));
    }

    pub(super) fn no_fault(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// Connections are refused.
    pub(super) fn down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    pub(super) fn issue(&self, token: &str, ttl: u64) {
        let now = Instant::now();
        let issued = Issued {
            since: now,
            end: now + Duration::from_secs(ttl),
        };
        self.state
            .lock()
            .unwrap()
            .tokens
            .insert(token.to_owned(), issued);
    }

    pub(super) fn revoke(&self, token: &Secret) {
        self.state.lock().unwrap().tokens.remove(token.expose());
    }

    /// By which somebody logged in for the Kubernetes role `app`.
    pub(super) fn jwts(&self) -> Vec<String> {
        self.state.lock().unwrap().jwts.clone()
    }

    /// What is left of the token as this Vault sees it.
    pub(super) fn left_of(&self, token: &Secret) -> Duration {
        let state = self.state.lock().unwrap();
        state
            .tokens
            .get(token.expose())
            .map_or(Duration::ZERO, |issued| {
                issued.end.saturating_duration_since(Instant::now())
            })
    }

    /// How many calls had this at the end of their path.
    pub(super) fn calls(&self, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        state
            .calls
            .iter()
            .filter(|(_, call)| call.ends_with(path))
            .count()
    }

    /// When they came.
    pub(super) fn times(&self, path: &str) -> Vec<Instant> {
        let state = self.state.lock().unwrap();
        let calls = state.calls.iter().filter(|(_, call)| call.ends_with(path));
        calls.map(|(at, _)| *at).collect()
    }

    pub(super) fn upstream(&self) -> Upstream {
        let vault = config::Vault {
            address: "http://vault.test:8200".to_owned(),
            ..config::Vault::default()
        };
        let served = self.clone();
        let way = Way::streams(move || {
            if served.is_down.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let vault = served.clone();
            served.tasks.spawn("fake vault", vault.serve(theirs));
            Ok(ours)
        });
        let background = config::Background::default();
        Upstream::over(way, &vault, &background, Metrics::new()).unwrap()
    }

    async fn serve(self, stream: tokio::io::DuplexStream) {
        let service = service_fn(|request| {
            let vault = self.clone();
            async move { vault.answer(request).await }
        });
        let _ended = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(self, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        let token = request.headers().get("x-vault-token").cloned();
        let token = token.map_or(String::new(), |t| t.to_str().unwrap().to_owned());
        let body = request.into_body().collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (status, answer) = self.decide(&path, &token, &body);
        let text = answer
            .as_str()
            .map_or_else(|| answer.to_string(), str::to_owned);
        let mut response = Response::new(Full::from(text));
        if let Some(wait) = answer.get("retry_after") {
            let wait = wait.to_string().parse().unwrap();
            response.headers_mut().insert("retry-after", wait);
        }
        *response.status_mut() = status.try_into().unwrap();
        // A pooled connection would live through `down`.
        response
            .headers_mut()
            .insert("connection", "close".parse().unwrap());
        Ok(response)
    }

    fn decide(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let mut state = self.state.lock().unwrap();
        let now = Instant::now();
        state.calls.push((now, path.to_owned()));
        if let Some(answer) = state.fault.as_ref().and_then(|fault| fault(path)) {
            return answer;
        }
        let denied = || (403, json!({"errors": ["permission denied"]}));
        match path {
            "/v1/auth/approle/login" => {
                assert!(token.is_empty(), "a login carries no token");
                if body["role_id"] != "role" || body["secret_id"] != "secret" {
                    return (400, json!({"errors": ["invalid role or secret ID"]}));
                }
                state.log_in(now)
            }
            "/v1/auth/kubernetes/login" => {
                assert!(token.is_empty(), "a login carries no token");
                assert_eq!(body["role"], "app");
                state.jwts.push(body["jwt"].as_str().unwrap().to_owned());
                state.log_in(now)
            }
            "/v1/auth/token/renew-self" => state.renew(token, now).unwrap_or_else(denied),
            "/v1/auth/token/lookup-self" => state.look_up(token, now).unwrap_or_else(denied),
            "/v1/sys/wrapping/lookup" if token == "wrapped" && !state.is_unwrapped => {
                let creation_path = "auth/approle/role/app/secret-id";
                (200, json!({"data": {"creation_path": creation_path}}))
            }
            "/v1/sys/wrapping/unwrap" if token == "wrapped" && !state.is_unwrapped => {
                state.is_unwrapped = true;
                (200, json!({"data": {"secret_id": "secret"}}))
            }
            "/v1/sys/wrapping/lookup" | "/v1/sys/wrapping/unwrap" => (
                400,
                json!({"errors": ["wrapping token is not valid or does not exist"]}),
            ),
            _ => (404, json!({"errors": []})),
        }
    }
}

impl State {
    fn log_in(&mut self, now: Instant) -> (u16, Value) {
        self.logins += 1;
        let token = format!("hvs.{}", self.logins);
        let end = now + Duration::from_secs(if self.ttl == 0 { 1_000_000 } else { self.ttl });
        self.tokens
            .insert(token.clone(), Issued { since: now, end });
        (
            200,
            json!({"auth": {"client_token": token, "accessor": "a", "lease_duration": self.ttl,
                    "renewable": self.renewable}}),
        )
    }

    fn renew(&mut self, token: &str, now: Instant) -> Option<(u16, Value)> {
        let issued = self
            .tokens
            .get_mut(token)
            .filter(|issued| issued.end > now)?;
        let latest = issued.since + Duration::from_secs(self.max_ttl);
        issued.end = (now + Duration::from_secs(self.ttl)).min(latest);
        let ttl = (issued.end - now).as_secs();
        Some((
            200,
            json!({"auth": {"client_token": token, "lease_duration": ttl,
                         "renewable": self.renewable}}),
        ))
    }

    fn look_up(&self, token: &str, now: Instant) -> Option<(u16, Value)> {
        let issued = self.tokens.get(token).filter(|issued| issued.end > now)?;
        let ttl = (issued.end - now).as_secs();
        Some((
            200,
            json!({"data": {"id": token, "accessor": "a", "ttl": ttl,
                         "renewable": self.renewable}}),
        ))
    }
}

pub(super) fn variable(name: &str, value: &str) -> CredentialSource {
    CredentialSource::Env {
        name: name.to_owned(),
        value: Some(value.into()),
    }
}

pub(super) fn approle(role_id: CredentialSource, secret_id: CredentialSource) -> config::AutoAuth {
    config::AutoAuth {
        method: config::Method::AppRole(AppRole {
            role_id,
            secret_id: Some(secret_id),
            remove_secret_id_file_after_reading: true,
            secret_id_response_wrapping_path: None,
        }),
        mount_path: "auth/approle".to_owned(),
        min_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(300),
        exit_on_err: false,
        sinks: Vec::new(),
    }
}

/// Credentials that this Vault takes.
pub(super) fn good() -> config::AutoAuth {
    approle(variable("ROLE_ID", "role"), variable("SECRET_ID", "secret"))
}

/// Credentials in files of a directory that lives as long as the answer's second half.
pub(super) fn in_files(role_id: &str, secret_id: &str) -> (config::AutoAuth, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path: PathBuf = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        CredentialSource::File(path)
    };
    let config = approle(file("role-id", role_id), file("secret-id", secret_id));
    (config, directory)
}

/// A running auto-auth against `vault`.
pub(super) struct Running {
    pub(super) auth: AutoAuth,
    pub(super) token: TokenRx,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
}

impl Running {
    pub(super) fn start(vault: &FakeVault, config: &config::AutoAuth) -> Self {
        let (published, token) = token::channel();
        let (metrics, tasks) = (Metrics::new(), Tasks::new());
        let auth = AutoAuth::start(config, vault.upstream(), published, metrics.clone(), &tasks);
        Self {
            auth,
            token,
            metrics,
            tasks,
        }
    }

    /// What ended it.
    pub(super) async fn fatal(&self) -> Error {
        tokio::time::timeout(A_DAY, self.auth.fatal())
            .await
            .unwrap()
    }

    /// The token of this generation or a later one, as soon as it is there.
    pub(super) async fn generation(&mut self, at_least: u64) -> Arc<Token> {
        let is_there = |token: &Option<Arc<Token>>| {
            token
                .as_ref()
                .is_some_and(|token| token.generation >= at_least)
        };
        let waiting = tokio::time::timeout(A_DAY, self.token.wait_for(is_there));
        waiting.await.unwrap().unwrap().clone().unwrap()
    }
}

/// No test waits longer, on its paused clock.
const A_DAY: Duration = Duration::from_secs(24 * 3600);
