//! What the endpoints see of the whole: views of every room, gathered at the moment of asking.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::listeners::Listening;
use crate::admin::{
    self, Admin, CacheStatus, Ids, LeaseStatus, Leases, Powers, Readiness, Reason, Recent, Status,
    VaultStatus,
};
use crate::auth::{AuthHandle, Settled};
use crate::cache::{Cache, Clear, ReplyBody};
use crate::config::Config;
use crate::error::Result;
use crate::lease::Scheduler;
use crate::proxy::{Local, Suspect};
use crate::server::Connections;
use crate::sink::Sink;
use crate::tasks::Later;
use crate::tasks::Tasks;
use crate::telemetry::Sample;
use crate::token::{Token, TokenRx};
use crate::upstream::{Body, Upstream};

/// Everything that can be asked about, or told to do something.
pub(super) struct House {
    pub(super) config: Arc<Config>,
    pub(super) tasks: Tasks,
    pub(super) upstream: Upstream,
    pub(super) token: TokenRx,
    pub(super) auth: Option<AuthHandle>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) cache: Option<Cache>,
    pub(super) sinks: Vec<Sink>,
    pub(super) listeners: Vec<Listening>,
    pub(super) connections: Connections,
    pub(super) recent: Recent,
    pub(super) ids: Ids,
    pub(super) quit: CancellationToken,
    pub(super) started: Instant,
}

impl admin::House for House {
    type Clear = Clear;

    fn sample(&self) -> Sample {
        let now = Instant::now();
        let token = self.token.borrow().clone();
        let size = self.cache.as_ref().map(Cache::size);
        let scheduler = self.scheduler.as_ref();
        let tls = self.upstream.tls();
        Sample {
            authenticated: token.as_ref().is_some_and(|token| !token.life.is_over(now)),
            token_expiry: token
                .as_ref()
                .and_then(|token| unix_seconds(token.life.end()?, now)),
            token_generation: token.as_ref().map_or(0, |token| token.generation),
            leases: scheduler.map_or(0, |scheduler| count(scheduler.len())),
            lease_expiry: scheduler
                .and_then(Scheduler::earliest_end)
                .and_then(|end| unix_seconds(end, now)),
            cache_static_entries: size.map_or(0, |size| count(size.static_entries)),
            cache_leased_entries: size.map_or(0, |size| count(size.leased_entries)),
            cache_bytes: size.map_or(0, |size| size.bytes),
            cache_max_bytes: size.map_or(0, |size| size.max_bytes),
            insecure_listeners: count(self.listeners.iter().filter(|one| one.is_insecure).count()),
            certificate_expiry: self
                .listeners
                .iter()
                .filter_map(Listening::certificate)
                .map(|certificate| u64::try_from(certificate.not_after.as_second()).unwrap_or(0))
                .min(),
            connections: count(self.connections.open()),
            tasks: count(self.tasks.alive()),
            upstream_in_use: count(self.upstream.in_use()),
            upstream_tls_skip_verify: tls.skips_verify,
            upstream_tls_stale: tls.refused.is_some(),
            resident_bytes: resident_bytes().unwrap_or_default(),
        }
    }

    fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::default();
        if let Some(auth) = self.auth.as_ref().map(AuthHandle::status) {
            let why = auth.last_error.as_ref().filter(|_| auth.failures > 0);
            let reason = |message: &str| {
                let why = why.map_or_else(String::new, |error| format!(": {}", error.text));
                Reason::new("auth", format!("{message}{why}"))
            };
            if !auth.authenticated {
                readiness.reasons.push(reason("no token is held"));
            } else if why.is_some() {
                readiness
                    .degraded
                    .push(reason("the token cannot be renewed or replaced"));
            }
        }
        for sink in self.sinks.iter().map(Sink::view) {
            let Some(error) = sink.last_error else {
                if sink.generation == 0 {
                    let message = format!("{} is not written yet", sink.path);
                    readiness.reasons.push(Reason::new("sinks", message));
                }
                continue;
            };
            let reason = Reason::new("sinks", format!("{}: {error}", sink.path));
            if sink.generation == 0 {
                readiness.reasons.push(reason);
            } else {
                readiness.degraded.push(reason);
            }
        }
        if let Some(time) = self.upstream.unreachable_for() {
            let (address, seconds) = (self.upstream.address(), time.as_secs());
            let message = format!("Vault at {address} has not answered for {seconds} s");
            readiness.degraded.push(Reason::new("upstream", message));
        }
        if let Some(why) = self.upstream.tls().refused {
            let message = format!("the TLS files for Vault cannot be used as they are now: {why}");
            readiness.degraded.push(Reason::new("tls", message));
        }
        if self.tasks.is_stopping() {
            readiness
                .reasons
                .push(Reason::new("process", "Leasehold is shutting down"));
        }
        readiness
    }

    fn status(&self) -> Status {
        let leases = self
            .scheduler
            .as_ref()
            .map_or_else(Vec::new, Scheduler::snapshot);
        let leases = leases
            .iter()
            .map(|lease| LeaseStatus::of(lease, &self.ids))
            .collect();
        let size = self.cache.as_ref().map(Cache::size);
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            readiness: self.readiness(),
            vault: VaultStatus {
                address: self.upstream.address().to_owned(),
                namespace: self.config.vault.namespace.clone(),
                tls_skip_verify: self.upstream.tls().skips_verify,
            },
            auth: self.auth.as_ref().map(AuthHandle::status),
            leases: Leases::of(leases),
            cache: size.map(|size| CacheStatus {
                static_entries: size.static_entries,
                leased_entries: size.leased_entries,
                bytes: size.bytes,
                max_bytes: size.max_bytes,
            }),
            sinks: self.sinks.iter().map(Sink::view).collect(),
            listeners: self.listeners.iter().map(Listening::status).collect(),
            connections: self.connections.open(),
            upstream_in_use: self.upstream.in_use(),
            last_errors: self.recent.list(),
        }
    }

    fn clear(&self, asked: Clear) -> Result<Option<usize>> {
        let cleared = self
            .cache
            .as_ref()
            .map(|cache| cache.clear(&asked))
            .transpose()?;
        Ok(cleared.map(|cleared| cleared.cleared))
    }

    fn quit(&self) {
        self.quit.cancel();
    }
}

/// One listener's local endpoints.
pub(super) struct LocalEndpoints {
    pub(super) admin: Admin<House>,
    pub(super) powers: Powers,
}

impl Local for LocalEndpoints {
    fn is_local(&self, uri: &Uri) -> bool {
        self.powers.claim(uri)
    }

    fn answer(&self, request: Request<Body>) -> Later<Response<ReplyBody>> {
        let (admin, powers) = (self.admin.clone(), self.powers);
        Box::pin(async move {
            let (head, body) = admin.answer(powers, request).await.into_parts();
            let Ok(body) = body.collect().await;
            Response::from_parts(head, ReplyBody::Full(body.to_bytes()))
        })
    }
}

/// What the proxy asks when Vault says 403 to our token.
pub(super) fn suspect(auth: AuthHandle) -> Arc<dyn Suspect> {
    Arc::new(Doubts { auth })
}

struct Doubts {
    auth: AuthHandle,
}

impl Suspect for Doubts {
    fn check(&self, generation: u64) -> Later<Option<Arc<Token>>> {
        let auth = self.auth.clone();
        Box::pin(async move {
            auth.suspect(generation);
            match auth.settled(generation, Instant::now() + PATIENCE).await {
                Settled::Replaced(token) => Some(token),
                Settled::Alive | Settled::Unknown => None,
            }
        })
    }
}

/// A moment of the process's clock as Unix time, for gauges.
fn unix_seconds(moment: Instant, now: Instant) -> Option<u64> {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some((today + moment.saturating_duration_since(now)).as_secs())
}

/// Resident memory as Linux tells it (proc(5), `/proc/self/statm`), in pages of 4 KiB.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// How long a request whose token is in doubt waits for the outcome before Vault's 403 goes back.
const PATIENCE: Duration = Duration::from_secs(5);
