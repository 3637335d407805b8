//! One running Leasehold: everybody else's rooms, wired. Nobody else knows everybody.
//!
//! `start` binds before anything else happens and answers at once; logins, leases and sinks follow in
//! their own tasks. `stop` drains within the configured time.

mod house;
mod listeners;
mod pid_file;
mod run;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::admin::{Admin, Ids, Powers, Recent};
use crate::auth::AutoAuth;
use crate::cache::{Cache, Certainty, Ingredients};
use crate::config::{Config, Passed};
use crate::error::{Error, Kind, Result, Side};
use crate::lease::{Scheduler, VaultRenewals};
use crate::proxy::{self, Front, Inject, Inner, Lent, Rules, Watch};
use crate::server::{Activated, Address, Bound, Connections, Limits, Tls};
use crate::sink::Sink;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::token::{self, TokenRx};
use crate::upstream::{Body, Call, Upstream, Way};

use house::{House, LocalEndpoints};
use listeners::{Listening, Reloaded};
pub use run::run;

/// A Leasehold that serves. Dropping it does not stop it; `stop` does.
pub struct Leasehold {
    config: Arc<Config>,
    tasks: Tasks,
    upstream: Upstream,
    metrics: Metrics,
    token: TokenRx,
    auth: Option<Arc<AutoAuth>>,
    scheduler: Option<Scheduler>,
    sinks: Vec<Sink>,
    fronts: Vec<Front>,
    listeners: Vec<Listening>,
    quit: CancellationToken,
}

/// Why a running Leasehold wants to end by itself.
#[derive(Debug)]
pub enum Ending {
    /// `POST /agent/v1/quit`.
    Quit,
    /// `exit_after_auth`: the token is where it was wanted.
    AuthDone,
    /// Going on is pointless; the exit code says so.
    Fatal(Error),
}

impl Leasehold {
    /// Binds all listeners, probes the sinks, then starts.
    ///
    /// # Errors
    /// `Bind` for a listener, `File` for a sink or a TLS file.
    pub async fn start(config: Config) -> Result<Self> {
        Self::start_on(config, Passed::default()).await
    }

    /// As `start`, with sockets that were passed to this process, for the listeners that ask for them.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_on(config: Config, passed: Passed) -> Result<Self> {
        let metrics = Metrics::new();
        let upstream = Upstream::new(&config.vault, &config.background, metrics.clone())?;
        // Boxed: what starting takes would stay part of every caller's future.
        Box::pin(Self::start_with(config, passed, upstream, metrics)).await
    }

    /// As `start`, with connections to Vault that `way` makes.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_over(way: Way, config: Config) -> Result<Self> {
        let metrics = Metrics::new();
        let upstream = Upstream::over(way, &config.vault, &config.background, metrics.clone())?;
        Box::pin(Self::start_with(
            config,
            Passed::default(),
            upstream,
            metrics,
        ))
        .await
    }

    async fn start_with(
        config: Config,
        passed: Passed,
        upstream: Upstream,
        metrics: Metrics,
    ) -> Result<Self> {
        let mut activated = Activated::new(passed, &config.listeners);
        let mut bound = Vec::new();
        for listener in &config.listeners {
            let tls = listener.tls.as_ref();
            let tls = tls.map(|tls| Tls::load(tls, metrics.clone())).transpose()?;
            let opened = Bound::open(listener, &mut activated, &metrics).await?;
            bound.push(opened.with_tls(tls));
        }
        if activated.left() > 0 {
            tracing::warn!(
                sockets = activated.left(),
                "no listener takes what systemd passed, and callers there get no answer: give one the \
                 address \"systemd\""
            );
        }
        let sinks = config
            .auto_auth
            .as_ref()
            .map_or(&[][..], |auth| auth.sinks.as_slice());
        for sink in sinks {
            Sink::probe(sink).await?;
        }
        let config = Arc::new(config);
        let mut leasehold = Self::without_listeners(config, upstream, metrics);
        leasehold.serve(bound);
        Ok(leasehold)
    }

    /// Everything behind the listeners.
    fn without_listeners(config: Arc<Config>, upstream: Upstream, metrics: Metrics) -> Self {
        let tasks = Tasks::new();
        let (publish, token) = token::channel();
        let auth = config.auto_auth.as_ref().map(|auth| {
            let upstream = upstream.clone();
            Arc::new(AutoAuth::start(
                auth,
                upstream,
                publish,
                metrics.clone(),
                &tasks,
            ))
        });
        let sinks = config
            .auto_auth
            .iter()
            .flat_map(|auth| &auth.sinks)
            .map(|sink| Sink::start(sink.clone(), token.clone(), metrics.clone(), &tasks));
        let sinks = sinks.collect();
        let scheduler = config.cache.as_ref().map(|cache| {
            let renewals = Arc::new(VaultRenewals::new(upstream.clone()));
            Scheduler::start(cache.leases.clone(), renewals, &tasks, metrics.clone())
        });
        Self {
            config,
            tasks,
            upstream,
            metrics,
            token,
            auth,
            scheduler,
            sinks,
            fronts: Vec::new(),
            listeners: Vec::new(),
            quit: CancellationToken::new(),
        }
    }

    /// Builds each listener's stack over the one cache, and lets callers in.
    fn serve(&mut self, bound: Vec<Bound>) {
        let listeners = bound.iter().zip(&self.config.listeners);
        let listeners =
            listeners.map(|(bound, listener)| Listening::of(bound, listener, &self.config));
        self.listeners = listeners.collect();
        let (inner, cache) = self.inner();
        let open = Connections::default();
        let recent = Recent::default();
        let house = Arc::new(House {
            config: Arc::clone(&self.config),
            tasks: self.tasks.clone(),
            upstream: self.upstream.clone(),
            token: self.token.clone(),
            auth: self.auth.as_ref().map(|auth| auth.handle()),
            scheduler: self.scheduler.clone(),
            cache,
            sinks: self.sinks.clone(),
            listeners: self.listeners.clone(),
            connections: open.clone(),
            recent: recent.clone(),
            ids: Ids::default(),
            quit: self.quit.clone(),
            started: Instant::now(),
        });
        let admin = Admin::new(house, self.metrics.clone());
        let watch = Watch {
            metrics: self.metrics.clone(),
            failed: Arc::new(move |error| request_failed(&recent, error)),
        };
        for (bound, listener) in bound.into_iter().zip(&self.config.listeners) {
            let rules = Rules::from(listener);
            let local = Arc::new(LocalEndpoints {
                admin: admin.clone(),
                powers: Powers::from(listener),
            });
            let front = proxy::stack(rules, local, self.inject(), inner.clone(), watch.clone());
            let service = front
                .clone()
                .map_request(|request: http::Request<_>| request.map(Body::streamed));
            bound.serve(service, Limits::from(listener), &self.tasks, open.clone());
            self.fronts.push(Front::new(front));
        }
    }

    fn inject(&self) -> Inject {
        Inject {
            mode: self.config.use_auto_auth_token,
            token: self.token.clone(),
            startup_wait: self.config.startup_wait,
            lent: Lent {
                allow_child_tokens: self.config.allow_child_tokens,
                mount: self
                    .config
                    .auto_auth
                    .as_ref()
                    .map(|auth| auth.mount_path.clone()),
                namespace: self.config.vault.namespace.clone(),
            },
        }
    }

    /// The cache, or the plain way onwards where none is configured.
    fn inner(&self) -> (Inner, Option<Cache>) {
        let suspect = self.auth.as_ref().map(|auth| house::suspect(auth.handle()));
        let next = proxy::onwards(self.upstream.clone(), suspect);
        let (Some(settings), Some(scheduler)) = (&self.config.cache, &self.scheduler) else {
            return (Inner::Uncached(next), None);
        };
        let handle = self.auth.as_ref().map(|auth| auth.handle());
        let cache = Cache::start(Ingredients {
            settings: settings.clone(),
            next,
            upstream: self.upstream.clone(),
            scheduler: scheduler.clone(),
            token: self.token.clone(),
            tasks: self.tasks.clone(),
            metrics: self.metrics.clone(),
            own_token_revoked: Arc::new(move |generation, certainty| match (&handle, certainty) {
                (None, _) => {}
                (Some(handle), Certainty::Certain) => handle.own_token_revoked(generation),
                (Some(handle), Certainty::Doubtful) => handle.suspect(generation),
            }),
        });
        (Inner::Cached(cache.clone()), Some(cache))
    }

    /// Where it listens; a port 0 of the configuration is the real one here.
    pub fn addresses(&self) -> Vec<Address> {
        let addresses = self.listeners.iter().map(Listening::address);
        addresses.cloned().collect()
    }

    /// Reads certificates anew, the listeners' and those for Vault, and says how that went.
    pub fn reload(&self) {
        let upstream = self.upstream.clone();
        self.tasks.spawn("reload of TLS to Vault", async move {
            if let Err(error) = upstream.reload_tls().await {
                tracing::warn!(%error, "SIGHUP: TLS to Vault goes on with the files as read before");
            }
        });
        let reloaded = Reloaded::all(&self.listeners);
        if reloaded.has_failures() {
            tracing::warn!(
                "SIGHUP: {reloaded}, so that what was served before still is; {OTHER_KEYS}"
            );
        } else {
            tracing::info!("SIGHUP: {reloaded}; {OTHER_KEYS}");
        }
    }

    /// The first listener's service, without a socket.
    pub fn first_front(&self) -> Option<Front> {
        self.fronts.first().cloned()
    }

    /// Resolves when there is a reason to end that is not a signal.
    pub async fn ending(&self) -> Ending {
        let fatal = async {
            match &self.auth {
                Some(auth) => auth.fatal().await,
                None => std::future::pending().await,
            }
        };
        let done = async {
            if !self.config.exit_after_auth || self.auth.is_none() {
                std::future::pending::<()>().await;
            }
            self.authenticated().await;
        };
        tokio::select! {
            error = fatal => Ending::Fatal(error),
            () = self.quit.cancelled() => Ending::Quit,
            () = done => Ending::AuthDone,
        }
    }

    /// Resolves once a token is held and every sink has it.
    pub async fn authenticated(&self) {
        let mut token = self.token.clone();
        if token.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
        for sink in &self.sinks {
            sink.written().await;
        }
    }

    /// Lets nobody new in, finishes what runs, within `shutdown_timeout`; gives leases back where `revoke_on_exit`
    /// is set, in what is left of that and for a second at least. True when everything ended by itself.
    pub async fn stop(&self) -> bool {
        let deadline = Instant::now() + self.config.shutdown_timeout;
        let drained = self.tasks.stop(self.config.shutdown_timeout).await;
        let left = deadline.saturating_duration_since(Instant::now());
        self.revoke_on_exit(left.max(LEAST_FOR_REVOKING)).await;
        drained
    }

    async fn revoke_on_exit(&self, within: Duration) {
        let wanted = self
            .config
            .cache
            .as_ref()
            .is_some_and(|cache| cache.leases.revoke_on_exit);
        let Some(scheduler) = self.scheduler.as_ref().filter(|_| wanted) else {
            return;
        };
        let deadline = Instant::now() + within;
        let revoked = scheduler.revoke_all(within).await;
        tracing::info!(revoked, "leases were given back");
        let Some(token) = self.token.borrow().clone() else {
            return;
        };
        let call = Call::new(http::Method::PUT, "/v1/auth/token/revoke-self").token(&token.secret);
        match tokio::time::timeout_at(deadline, self.upstream.call(call)).await {
            Ok(Ok(_)) => tracing::info!("the auto-auth token was revoked"),
            Ok(Err(error)) => tracing::warn!(%error, "the auto-auth token was not revoked"),
            Err(_) => tracing::warn!("no time was left to revoke the auto-auth token"),
        }
    }
}

impl fmt::Debug for Leasehold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leasehold")
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// One line a minute for each thing that makes callers' requests fail. Callers' own mistakes are theirs; that
/// Vault does not answer, or that this is the end, is said elsewhere.
fn request_failed(recent: &Recent, error: &Error) {
    let is_news = recent.note(error);
    let is_said = matches!(
        error.kind(),
        Kind::Unreachable | Kind::Deadline | Kind::Stopping
    );
    if is_news && !is_said && error.side() != Side::Client {
        tracing::warn!(kind = error.kind().name(), %error, "requests are failing");
    }
}

/// What a reload does not do.
const OTHER_KEYS: &str = "restart Leasehold to apply a change of anything else";
/// What revoking gets when draining took all the time.
const LEAST_FOR_REVOKING: Duration = Duration::from_secs(1);
