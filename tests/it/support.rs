//! One Leasehold in front of one development Vault, in memory and on a paused clock: requests go in
//! where a listener would put them, connections to Vault are pipes, and a day passes in milliseconds.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use leasehold::app::Leasehold;
use leasehold::config::{
    AppRole, AutoAuth, Cache, Config, CredentialSource, Listener, Method as LoginBy,
    UseAutoAuthToken, Vault,
};
use leasehold::dev::{DevVault, Fault, FaultId, Options, TokenWish};
use leasehold::proxy::Front;
use leasehold::tasks::Tasks;
use leasehold::upstream::{Body, Way};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::canary::{Ears, Sweep};

/// See the module's text. Asked by itself it is a caller without a token of its own.
pub(crate) struct Rig {
    pub(crate) vault: DevVault,
    pub(crate) leasehold: Leasehold,
    pub(crate) tasks: Tasks,
    client: Client,
    lines: Arc<Lines>,
    pub(crate) sweep: Sweep,
}

/// The ways to Vault.
#[derive(Default)]
pub(crate) struct Lines {
    is_down: AtomicBool,
    pub(crate) made: AtomicUsize,
}

/// Somebody who sends requests with certain headers.
#[derive(Clone)]
pub(crate) struct Client {
    front: Front,
    headers: HeaderMap,
    /// What was answered to all clients of the rig that was no success.
    errors: Arc<Mutex<Vec<u8>>>,
    pub(crate) tasks: Tasks,
}

/// An answer that came whole.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The transfer of an answer's body broke off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Rig {
    /// With everything as it is by default, logged in.
    pub(crate) async fn new() -> Self {
        Self::with(Options::default(), |_| ()).await
    }

    /// With a cache of these settings, logged in.
    pub(crate) async fn caching(change: impl FnOnce(&mut Cache)) -> Self {
        Self::with(Options::default(), |config| {
            change(config.cache.as_mut().unwrap());
        })
        .await
    }

    pub(crate) async fn with(options: Options, change: impl FnOnce(&mut Config)) -> Self {
        let rig = Self::not_logged_in(&options, |_| (), change).await;
        let ready = rig.leasehold.authenticated();
        tokio::time::timeout(Duration::from_secs(60), ready)
            .await
            .expect("no login within a minute");
        rig
    }

    /// `prepare` sees the Vault before anybody connects to it.
    pub(crate) async fn not_logged_in(
        options: &Options,
        prepare: impl FnOnce(&DevVault),
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let vault = DevVault::new(options);
        prepare(&vault);
        let mut config = config(&vault);
        change(&mut config);
        let sweep = Sweep::begin();
        sweep.said("debug", format!("{config:?} {config:#?} {vault:?}"));
        let (tasks, lines) = (Tasks::new(), Arc::new(Lines::default()));
        let way = way(
            vault.clone(),
            tasks.clone(),
            Arc::clone(&lines),
            sweep.ears(),
        );
        let leasehold = Leasehold::start_over(way, config).await.unwrap();
        let client = Client {
            front: leasehold.first_front().unwrap(),
            headers: HeaderMap::new(),
            errors: Arc::default(),
            tasks: tasks.clone(),
        };
        Self {
            vault,
            leasehold,
            tasks,
            client,
            lines,
            sweep,
        }
    }

    /// Somebody without a token of his own.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// From now on nobody can connect to Vault, and whoever is connected is cut off.
    pub(crate) fn outage(&self) -> Outage {
        self.lines.is_down.store(true, Ordering::SeqCst);
        Outage(self.fault(Fault::on("*", "*").cut_before_head()))
    }

    pub(crate) fn recover(&self, Outage(cuts): Outage) {
        self.lines.is_down.store(false, Ordering::SeqCst);
        self.vault.faults().remove(cuts);
    }

    pub(crate) fn fault(&self, fault: Fault) -> FaultId {
        self.vault.faults().add(fault)
    }

    /// How often Vault was asked this; the path without `/v1/`.
    pub(crate) fn asked(&self, method: &str, path: &str) -> u64 {
        self.vault.log().count(method, &format!("/v1/{path}"))
    }

    /// A connection count since the start.
    pub(crate) fn connections_made(&self) -> usize {
        self.lines.made.load(Ordering::SeqCst)
    }

    /// A token made by the root token.
    pub(crate) async fn token(&self, wish: TokenWish) -> String {
        self.vault.token(wish).await.unwrap().expose().to_owned()
    }

    /// Somebody with a new token of his own, with policy `app`.
    pub(crate) async fn stranger(&self) -> Client {
        let token = self.token(TokenWish::default()).await;
        self.client.bearing(&token)
    }

    /// Does it behind Leasehold's back, with the root token.
    pub(crate) async fn root(&self, method: &str, path: &str, fields: Value) -> Value {
        let (status, answer) = self
            .vault
            .root(method, &format!("/v1/{path}"), fields)
            .await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// What the metrics say now: the value of a line's name and labels.
    pub(crate) async fn metric(&self, line: &str) -> u64 {
        let text = self.client.text("/agent/v1/metrics").await;
        let value = text.lines().find_map(|have| {
            let (name, value) = have.rsplit_once(' ')?;
            (name == line).then(|| value.parse().unwrap())
        });
        value.unwrap_or_default()
    }

    pub(crate) async fn status(&self) -> Value {
        serde_json::from_str(&self.client.text("/agent/v1/status").await).unwrap()
    }

    pub(crate) async fn clear(&self, request: Value) -> Reply {
        let body = Some(request.to_string());
        self.client
            .raw("POST", "/agent/v1/cache-clear", body)
            .await
            .unwrap()
    }
}

/// What Leasehold says of itself goes to the sweep, which searches when it ends, right after.
impl Drop for Rig {
    fn drop(&mut self) {
        for (channel, target) in [
            ("status", "/agent/v1/status"),
            ("metrics", "/agent/v1/metrics"),
            ("metrics", "/agent/v1/metrics?format=json"),
            ("readiness", "/agent/v1/ready"),
            ("health", "/agent/v1/health"),
        ] {
            // These wait for nobody.
            if let Some(Ok(reply)) = at_once(self.client.raw("GET", target, None)) {
                self.sweep.said(channel, reply.body);
            }
        }
        self.sweep.said("debug", format!("{:?}", self.leasehold));
        let errors = self.client.errors.lock().unwrap().split_off(0);
        self.sweep.said("errors", errors);
    }
}

/// What a future gives when it is asked once.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Ended by [`Rig::recover`].
pub(crate) struct Outage(FaultId);

impl Deref for Rig {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Client {
    /// Somebody who asks the first listener of a Leasehold that reaches its Vault by real connections.
    pub(crate) fn of(leasehold: &Leasehold) -> Self {
        Self {
            front: leasehold.first_front().unwrap(),
            headers: HeaderMap::new(),
            errors: Arc::default(),
            tasks: Tasks::new(),
        }
    }

    /// The same with one more header.
    pub(crate) fn header(&self, name: &str, value: &str) -> Self {
        let mut more = self.clone();
        more.headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
        more
    }

    pub(crate) fn bearing(&self, token: &str) -> Self {
        self.header("x-vault-token", token)
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, Value::Null).await
    }

    pub(crate) async fn list(&self, path: &str) -> Reply {
        self.send("LIST", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, fields: Value) -> Reply {
        self.send("POST", path, fields).await
    }

    pub(crate) async fn put(&self, path: &str, fields: Value) -> Reply {
        self.send("PUT", path, fields).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, Value::Null).await
    }

    /// Sends a request and checks the shape of its answer; the path without `/v1/`.
    pub(crate) async fn send(&self, method: &str, path: &str, fields: Value) -> Reply {
        let reply = self.try_send(method, path, fields).await;
        reply.unwrap_or_else(|Broken| panic!("{method} {path}: the answer broke off"))
    }

    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        fields: Value,
    ) -> Result<Reply, Broken> {
        let body = (!fields.is_null()).then(|| fields.to_string());
        let reply = self.raw(method, &format!("/v1/{path}"), body).await?;
        reply.check_shape(&format!("{method} {path}"));
        Ok(reply)
    }

    /// As `send`, in a task: aborting it is the client's hanging up.
    pub(crate) fn start(&self, method: &str, path: &str, fields: Value) -> JoinHandle<Reply> {
        let (client, method, path) = (self.clone(), method.to_owned(), path.to_owned());
        self.tasks.spawn("client", async move {
            client.send(&method, &path, fields).await
        })
    }

    /// The same request so many times at once.
    pub(crate) async fn all_at_once(&self, method: &str, path: &str, times: usize) -> Vec<Reply> {
        let started: Vec<_> = (0..times)
            .map(|_| self.start(method, path, Value::Null))
            .collect();
        let mut replies = Vec::new();
        for reply in started {
            replies.push(reply.await.unwrap());
        }
        replies
    }

    /// Whatever the target and body are.
    pub(crate) async fn raw(
        &self,
        method: &str,
        target: &str,
        body: Option<String>,
    ) -> Result<Reply, Broken> {
        let mut request = Request::new(body.map_or(Body::Empty, |body| Body::Full(body.into())));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = target.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:8201"));
        if method == "PATCH" {
            let merge = HeaderValue::from_static("application/merge-patch+json");
            headers.insert(CONTENT_TYPE, merge);
        }
        let Ok(response) = self.front.clone().oneshot(request).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        if head.status.is_client_error() || head.status.is_server_error() {
            self.errors.lock().unwrap().extend_from_slice(&body);
        }
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    pub(crate) async fn text(&self, target: &str) -> String {
        let reply = self.raw("GET", target, None).await.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{target}");
        String::from_utf8(reply.body.to_vec()).unwrap()
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The text or number at a JSON pointer; empty if there is none.
    pub(crate) fn at(&self, pointer: &str) -> String {
        match self.json().pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let json = self.json();
        json.pointer(pointer)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("no number at {pointer} in {json}"))
    }

    /// How the cache answered: `HIT`, `MISS`, or `-`.
    pub(crate) fn cache(&self) -> &str {
        self.headers
            .get("x-cache")
            .map_or("-", |value| value.to_str().unwrap())
    }

    pub(crate) fn age(&self) -> u64 {
        let age = self.headers.get("age").expect("no Age");
        age.to_str().unwrap().parse().unwrap()
    }

    /// Who a database credential is.
    pub(crate) fn user(&self) -> (String, String) {
        assert_eq!(self.status, StatusCode::OK, "{}", self.json());
        (self.at("/data/username"), self.at("/data/password"))
    }

    /// What holds for each answer under `/v1/`: JSON that says it is JSON, errors in Vault's shape,
    /// a length that is true, and no header that is neither Vault's nor documented.
    fn check_shape(&self, what: &dyn Display) {
        if let Some(length) = self.headers.get(CONTENT_LENGTH) {
            let length: usize = length.to_str().unwrap().parse().unwrap();
            assert_eq!(length, self.body.len(), "{what}: the length is not true");
        }
        for name in self.headers.keys() {
            assert!(
                KNOWN_HEADERS.contains(&name.as_str()),
                "{what}: unexpected header {name}"
            );
        }
        if self.cache() == "HIT" {
            self.age();
        }
        if self.body.is_empty() {
            return;
        }
        let kind = self.headers.get(CONTENT_TYPE).unwrap();
        assert_eq!(kind, "application/json", "{what}: {:?}", self.body);
        if self.status.is_client_error() || self.status.is_server_error() {
            let json: Value = serde_json::from_slice(&self.body).unwrap();
            let is_list = json["errors"].as_array().is_some_and(|errors| {
                let mut errors = errors.iter();
                errors.all(|error| error.as_str().is_some_and(|text| !text.is_empty()))
            });
            // A deleted version of KV v2 is a 404 with data.
            assert!(is_list || json["data"].is_object(), "{what}: {json}");
        }
    }
}

/// Somebody who asks for a database credential again and again and logs in with what he gets.
pub(crate) struct Reader<'a> {
    rig: &'a Rig,
    client: Client,
    path: String,
    every: Duration,
}

/// What a [`Reader`] saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) reads: usize,
    /// Answers that were no credential.
    pub(crate) failed: usize,
    /// Credentials with which nobody could log in.
    pub(crate) dead: usize,
    /// Credentials that ended before the moment until which they were said to live.
    pub(crate) broken_words: usize,
    /// Reads after the first that took time.
    pub(crate) waits: usize,
    /// Different credentials.
    pub(crate) users: usize,
    /// The fewest seconds that a hit said were left.
    pub(crate) least_left: Option<u64>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rig: &'a Rig, path: &str, every: Duration) -> Self {
        let (client, path) = (rig.client(), path.to_owned());
        Self {
            rig,
            client,
            path,
            every,
        }
    }

    pub(crate) async fn watch(&self, during: Duration) -> Seen {
        let mut seen = Seen::default();
        let mut users = BTreeSet::new();
        let mut promised: HashMap<(String, String), Instant> = HashMap::new();
        let end = Instant::now() + during;
        while Instant::now() < end {
            let begun = Instant::now();
            let reply = self.client.get(&self.path).await;
            seen.waits += usize::from(seen.reads > 0 && begun.elapsed() > Duration::ZERO);
            seen.reads += 1;
            if reply.status == StatusCode::OK {
                let user = reply.user();
                seen.dead += usize::from(!self.rig.vault.may_log_in(&user.0, &user.1));
                let left = reply.number("/lease_duration");
                if reply.cache() == "HIT" {
                    seen.least_left = Some(seen.least_left.map_or(left, |least| least.min(left)));
                    promised.insert(user.clone(), Instant::now() + seconds(left));
                }
                users.insert(user.0);
            } else {
                seen.failed += 1;
            }
            pass(self.every).await;
            promised.retain(|user, until| {
                let is_alive = self.rig.vault.may_log_in(&user.0, &user.1);
                seen.broken_words += usize::from(!is_alive && *until > Instant::now());
                is_alive
            });
        }
        seen.users = users.len();
        seen
    }
}

impl Seen {
    pub(crate) fn assert_all_alive_and_no_waits(&self) {
        assert_eq!(
            (self.failed, self.dead, self.broken_words, self.waits),
            (0, 0, 0, 0),
            "{self:?}"
        );
    }
}

/// An approle login whose credentials are at hand, and a cache.
pub(crate) fn config(vault: &DevVault) -> Config {
    Config {
        vault: Vault {
            address: "http://vault.test:8200".to_owned(),
            ..Vault::default()
        },
        auto_auth: Some(approle(&vault.role_id(), vault.secret_id().expose())),
        use_auto_auth_token: UseAutoAuthToken::WhenAbsent,
        cache: Some(Cache::default()),
        listeners: vec![Listener {
            address: "127.0.0.1:0".to_owned(),
            enable_quit: true,
            ..Listener::default()
        }],
        ..Config::default()
    }
}

pub(crate) fn approle(role_id: &str, secret_id: &str) -> AutoAuth {
    let variable = |name: &str, value: &str| CredentialSource::Env {
        name: name.to_owned(),
        value: Some(value.into()),
    };
    AutoAuth {
        method: LoginBy::AppRole(AppRole {
            role_id: variable("APP_ROLE_ID", role_id),
            secret_id: Some(variable("APP_SECRET_ID", secret_id)),
            remove_secret_id_file_after_reading: false,
            secret_id_response_wrapping_path: None,
        }),
        mount_path: "auth/approle".to_owned(),
        min_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(300),
        exit_on_err: false,
        sinks: Vec::new(),
    }
}

/// Options with these TTLs of database leases, in seconds.
pub(crate) fn leases_of(ttl: u64, max_ttl: u64) -> Options {
    Options {
        lease_ttl: seconds(ttl),
        lease_max_ttl: seconds(max_ttl),
        token_ttl: seconds(1_000_000),
        token_max_ttl: seconds(2_000_000),
        ..Options::default()
    }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets time pass, with everything that is due meanwhile.
pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A number that a test found; shown by `--nocapture`.
#[expect(
    clippy::print_stderr,
    reason = "numbers are what some tests are run for"
)]
pub(crate) fn measured(what: fmt::Arguments<'_>) {
    eprintln!("measured: {what}");
}

/// To where a test's output is not caught: what was not tested is to be seen in every run.
pub(crate) fn say(line: &str) {
    writeln!(io::stderr(), "{line}").expect("standard error is open");
}

/// KV version 2: what a write sends.
pub(crate) fn kv2(value: impl Into<Value>) -> Value {
    json!({ "data": { "value": value.into() } })
}

fn way(vault: DevVault, tasks: Tasks, lines: Arc<Lines>, ears: Ears) -> Way {
    Way::streams(move || {
        if lines.is_down.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        lines.made.fetch_add(1, Ordering::SeqCst);
        Ok(ears.on(vault.serve_duplex(&tasks)))
    })
}

pub(crate) const CREDS: &str = "database/creds/app-readonly";
pub(crate) const ROLE: &str = "app-readonly";
pub(crate) const KV2: &str = "secret/data/app/config";
pub(crate) const KV1: &str = "kv/app/config";

const KNOWN_HEADERS: [&str; 10] = [
    "age",
    "cache-control",
    "content-length",
    "content-type",
    "date",
    "location",
    "retry-after",
    "strict-transport-security",
    "x-cache",
    "x-vault-namespace",
];
