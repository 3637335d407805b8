//! The development Vault as tests and the demonstration hold it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use serde_json::json;

use super::Options;
use super::body::Body;
use super::clock::Clock;
use super::engine::Engine;
use super::engine::approle::AppRole;
use super::engine::database::Database;
use super::engine::kubernetes::Kubernetes;
use super::fault::Faults;
use super::log::RequestLog;
use super::routes;
use super::seed;
use super::state::State;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::vault::headers::{X_VAULT_TOKEN, X_VAULT_WRAP_TTL};

/// An embedded, in-memory Vault. Clones share it.
#[derive(Clone)]
pub struct DevVault(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    faults: Faults,
    log: RequestLog,
    root: Secret,
    secret_id: Secret,
    download_size: u64,
    uploaded: AtomicU64,
}

/// What a token made by [`DevVault::token`] is like.
#[derive(Debug, Clone)]
pub struct TokenWish {
    pub policies: Vec<String>,
    /// Zero: the server's default.
    pub ttl: Duration,
    /// Zero: none of its own.
    pub explicit_max_ttl: Duration,
    /// Zero: not periodic.
    pub period: Duration,
    /// 0: unlimited.
    pub num_uses: u64,
    pub renewable: bool,
    /// `None`: the root token.
    pub parent: Option<Secret>,
    pub orphan: bool,
}

/// How many credentials of a database role there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minted {
    /// The most at one time.
    pub most_at_once: usize,
    pub total: usize,
}

impl Default for TokenWish {
    fn default() -> Self {
        Self {
            policies: vec![seed::APP.to_owned()],
            ttl: Duration::ZERO,
            explicit_max_ttl: Duration::ZERO,
            period: Duration::ZERO,
            num_uses: 0,
            renewable: true,
            parent: None,
            orphan: false,
        }
    }
}

impl DevVault {
    pub fn new(options: &Options) -> Self {
        let mut state = State::new(Clock::start());
        let root = seed::seed(&mut state, options);
        let now = state.clock.now();
        let secret_id =
            approle(&mut state).map(|approle| approle.role_or_new(seed::APP).new_secret_id(now));
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            faults: Faults::default(),
            log: RequestLog::default(),
            root,
            secret_id: secret_id.unwrap_or_else(|| Secret::new("")),
            download_size: options.download_size,
            uploaded: AtomicU64::new(0),
        }))
    }

    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub fn log(&self) -> &RequestLog {
        &self.0.log
    }

    pub fn root_token(&self) -> Secret {
        self.0.root.clone()
    }

    /// Of the AppRole role `app`.
    pub fn role_id(&self) -> String {
        let mut state = self.state();
        let role_id = approle(&mut state)
            .and_then(|approle| approle.role(seed::APP))
            .map(|role| role.role_id.clone());
        role_id.unwrap_or_default()
    }

    /// A secret id of the AppRole role `app`, made at the start.
    pub fn secret_id(&self) -> Secret {
        self.0.secret_id.clone()
    }

    /// Another one.
    pub fn new_secret_id(&self) -> Secret {
        let mut state = self.state();
        let now = state.clock.now();
        let made =
            approle(&mut state).map(|approle| approle.role_or_new(seed::APP).new_secret_id(now));
        made.unwrap_or_else(|| Secret::new(""))
    }

    /// Another one, wrapped: the token that unwraps it once, within `ttl`.
    ///
    /// # Errors
    /// The role is gone.
    pub async fn wrapped_secret_id(&self, ttl: Duration) -> Result<Secret> {
        let ttl = ttl.as_secs().to_string();
        let (_, answer) = self
            .ask(
                "POST",
                "/v1/auth/approle/role/app/secret-id",
                Some(&ttl),
                json!({}),
            )
            .await;
        text_at(&answer, "/wrap_info/token")
    }

    /// A new token of the service account to which the Kubernetes role `app` is bound, good for `ttl`.
    pub fn service_account_token(&self, ttl: Duration) -> Secret {
        let mut state = self.state();
        let (clock, now) = (state.clock, state.clock.now());
        let issued = kubernetes(&mut state).map(|cluster| cluster.issue(ttl, clock, now));
        issued.unwrap_or_else(|| Secret::new(""))
    }

    /// The cluster takes back the tokens that it gave out so far: the next login by one is refused.
    pub fn end_service_account_tokens(&self) {
        if let Some(cluster) = kubernetes(&mut self.state()) {
            cluster.forget_issued();
        }
    }

    /// # Errors
    /// The server refuses such a token: its words.
    pub async fn token(&self, wish: TokenWish) -> Result<Secret> {
        let mut fields = json!({
            "policies": wish.policies,
            "renewable": wish.renewable,
            "num_uses": wish.num_uses,
            "no_parent": wish.orphan,
        });
        for (name, duration) in [
            ("ttl", wish.ttl),
            ("explicit_max_ttl", wish.explicit_max_ttl),
            ("period", wish.period),
        ] {
            if !duration.is_zero()
                && let Some(fields) = fields.as_object_mut()
            {
                fields.insert(name.to_owned(), json!(format!("{}s", duration.as_secs())));
            }
        }
        let parent = wish.parent.unwrap_or_else(|| self.root_token());
        let (_, answer) = self
            .ask_as(&parent, "POST", "/v1/auth/token/create", None, fields)
            .await;
        text_at(&answer, "/auth/client_token")
    }

    /// Asks with the root token, past the log and the fault script: for setting up and looking behind.
    pub async fn root(&self, method: &str, target: &str, fields: Value) -> (StatusCode, Value) {
        self.ask(method, target, None, fields).await
    }

    /// Sealed, it answers nothing but its health until it is unsealed.
    pub fn seal(&self) {
        self.state().sealed = true;
    }

    pub fn unseal(&self) {
        self.state().sealed = false;
    }

    /// Can somebody log in to the database with these now?
    pub fn may_log_in(&self, username: &str, password: &str) -> bool {
        self.with_databases(|database| database.may_log_in(username, password))
            .contains(&true)
    }

    /// Does the database have this user now?
    pub fn is_user_alive(&self, username: &str) -> bool {
        self.with_databases(|database| database.is_user(username))
            .contains(&true)
    }

    /// Is this access key of `aws/` good now?
    pub fn is_key_alive(&self, access_key: &str) -> bool {
        let state = self.state();
        let mut mounts = state
            .namespaces
            .iter()
            .flat_map(|namespace| namespace.mounts.iter());
        mounts
            .any(|mount| matches!(&mount.engine, Engine::Cloud(cloud) if cloud.is_key(access_key)))
    }

    /// How many users of a role the database has now.
    pub fn live_credentials(&self, role: &str) -> usize {
        self.with_databases(|database| database.users_of(role))
            .iter()
            .sum()
    }

    pub fn minted(&self, role: &str) -> Minted {
        let of_each = self.with_databases(|database| database.minted(role));
        Minted {
            most_at_once: of_each.iter().map(|(most, _)| most).sum(),
            total: of_each.iter().map(|(_, total)| total).sum(),
        }
    }

    pub fn is_token_alive(&self, token: &str) -> bool {
        self.state().tokens.get(token).is_some()
    }

    pub fn is_lease_alive(&self, lease_id: &str) -> bool {
        self.state().leases.get(lease_id).is_some()
    }

    pub fn live_tokens(&self) -> usize {
        self.state().tokens.len()
    }

    pub fn live_leases(&self) -> usize {
        self.state().leases.len()
    }

    /// How many bytes were uploaded to `sys/storage/raft/snapshot`.
    pub fn uploaded(&self) -> u64 {
        self.0.uploaded.load(Ordering::Relaxed)
    }

    pub(super) fn count_upload(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.0.uploaded.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn process(&self, parts: &Parts, body: &Bytes) -> Response<Body> {
        let download_size = self.0.download_size;
        routes::respond(&mut self.lock(), parts, body, download_size)
    }

    async fn ask(
        &self,
        method: &str,
        target: &str,
        wrap_ttl: Option<&str>,
        fields: Value,
    ) -> (StatusCode, Value) {
        self.ask_as(&self.0.root, method, target, wrap_ttl, fields)
            .await
    }

    async fn ask_as(
        &self,
        token: &Secret,
        method: &str,
        target: &str,
        wrap_ttl: Option<&str>,
        fields: Value,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap_or_default())
            .uri(target)
            .header(X_VAULT_TOKEN, token.expose());
        if let Some(ttl) = wrap_ttl {
            request = request.header(X_VAULT_WRAP_TTL, ttl);
        }
        if method == "PATCH" {
            request = request.header(http::header::CONTENT_TYPE, "application/merge-patch+json");
        }
        let Ok(request) = request.body(()) else {
            return (StatusCode::BAD_REQUEST, Value::Null);
        };
        let body = if fields.is_null() {
            Bytes::new()
        } else {
            fields.to_string().into()
        };
        let response = self.process(&request.into_parts().0, &body);
        let status = response.status();
        let body = response.into_body().collect().await.unwrap_or_default();
        (
            status,
            serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
        )
    }

    fn with_databases<T>(&self, look: impl Fn(&Database) -> T) -> Vec<T> {
        let state = self.state();
        let mounts = state
            .namespaces
            .iter()
            .flat_map(|namespace| namespace.mounts.iter());
        mounts
            .filter_map(|mount| {
                let Engine::Database(database) = &mount.engine else {
                    return None;
                };
                Some(look(database))
            })
            .collect()
    }

    /// The state as it is now: what has ended is gone.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let now = state.clock.now();
        state.settle(now);
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn approle(state: &mut State) -> Option<&mut AppRole> {
    let mount = state
        .namespaces
        .first_mut()?
        .mounts
        .get_mut("auth/approle/")?;
    let Engine::AppRole(approle) = &mut mount.engine else {
        return None;
    };
    Some(approle)
}

fn kubernetes(state: &mut State) -> Option<&mut Kubernetes> {
    let mount = state
        .namespaces
        .first_mut()?
        .mounts
        .get_mut("auth/kubernetes/")?;
    let Engine::Kubernetes(kubernetes) = &mut mount.engine else {
        return None;
    };
    Some(kubernetes)
}

fn text_at(answer: &Value, place: &str) -> Result<Secret> {
    match answer.pointer(place).and_then(Value::as_str) {
        Some(text) => Ok(Secret::new(text)),
        None => {
            let why = answer.pointer("/errors/0").and_then(Value::as_str);
            let why = why.unwrap_or("no such thing in its answer");
            Err(Error::new(
                Kind::BadAnswer,
                format!("the development Vault refuses: {why}"),
            ))
        }
    }
}
