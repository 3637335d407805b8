//! Counters, as Prometheus text (OpenMetrics) or as Vault's JSON.
//!
//! Labels are enums and status codes, so their number is bounded. The JSON form keeps the peers' names
//! where they have one (`agent.cache.hit`, `agent.proxy.success`, `agent.auth.failure`).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::sample::Sample;
use crate::error;

/// The counters of one running Leasehold. Clones share them; counting takes a lock for reading at most.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Mutex<Registry>,
    hits: Counter,
    misses: Counter,
    bypasses: Counter,
    coalesced: Counter,
    full: Counter,
    answers: Family<CodeLabel, Counter>,
    failures: Family<FailureLabel, Counter>,
    /// All of them, for the JSON form.
    failed: Counter,
    calls: Family<CallLabel, Counter>,
    auth: Family<ResultLabel, Counter>,
    sinks: Family<ResultLabel, Counter>,
    leases: Family<LeaseLabel, Counter>,
    rejections: Family<FailureLabel, Counter>,
    handshakes: Family<ResultLabel, Counter>,
    certificates: Family<ResultLabel, Counter>,
}

/// Why Leasehold called Vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// For a caller.
    Forward,
    /// Logins, renewals and look-ups of Leasehold's own token; renewals and revocations of leases.
    Own,
}

/// What happened to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    Renewed,
    RenewFailed,
    Replaced,
    ReplaceFailed,
    Expired,
    Idle,
    Lost,
}

/// Why a caller was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// A Unix socket's peer that is in neither `allowed_uids` nor `allowed_gids`.
    Peer,
}

impl Rejection {
    fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
        }
    }
}

/// How a caller's TLS handshake went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handshake {
    Done,
    /// It took longer than a request's head may.
    Timeout,
    /// The caller went away.
    Closed,
    /// HTTP without TLS.
    PlainHttp,
    /// Neither TLS nor HTTP.
    NotTls,
    /// No version, cipher suite, key exchange or protocol in common.
    Incompatible,
    /// The caller has to show a certificate, and showed none.
    NoCertificate,
    /// The caller's certificate is not a good one.
    BadCertificate,
    /// The caller ended it with an alert: it does not accept the listener's certificate.
    Refused,
    Other,
}

impl Handshake {
    /// One word for metrics and log lines.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }
}

impl Call {
    fn label(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Own => "own",
        }
    }
}

impl LeaseEvent {
    fn label(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::RenewFailed => "renew_failed",
            Self::Replaced => "replaced",
            Self::ReplaceFailed => "replace_failed",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    class: &'static str,
    /// 0: no answer.
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabel {
    event: &'static str,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("leasehold");
        let cache = Family::<CacheLabel, Counter>::default();
        let of = |result| cache.get_or_create(&CacheLabel { result }).clone();
        let shared = Shared {
            hits: of("hit"),
            misses: of("miss"),
            bypasses: of("bypass"),
            coalesced: of("coalesced"),
            full: of("full"),
            answers: Family::default(),
            failures: Family::default(),
            failed: Counter::default(),
            calls: Family::default(),
            auth: Family::default(),
            sinks: Family::default(),
            leases: Family::default(),
            rejections: Family::default(),
            handshakes: Family::default(),
            certificates: Family::default(),
            registry: Mutex::default(),
        };
        registry.register(
            "cache_requests",
            "Requests by how the cache answered",
            cache,
        );
        registry.register(
            "answers",
            "Answers to clients by status",
            shared.answers.clone(),
        );
        registry.register(
            "failures",
            "Requests Leasehold failed itself",
            shared.failures.clone(),
        );
        registry.register(
            "upstream_requests",
            "Requests sent to Vault",
            shared.calls.clone(),
        );
        registry.register(
            "auth_attempts",
            "Logins and token renewals",
            shared.auth.clone(),
        );
        registry.register("sink_writes", "Writes of token sinks", shared.sinks.clone());
        registry.register(
            "lease_events",
            "What happened to leases",
            shared.leases.clone(),
        );
        registry.register(
            "client_rejections",
            "Callers that were not let in",
            shared.rejections.clone(),
        );
        registry.register(
            "listener_handshakes",
            "TLS handshakes of callers",
            shared.handshakes.clone(),
        );
        registry.register(
            "listener_certificate_reloads",
            "Changed certificate files that were taken up, or could not be",
            shared.certificates.clone(),
        );
        *lock(&shared.registry) = registry;
        Self {
            shared: Arc::new(shared),
        }
    }

    pub fn cache_hit(&self) {
        self.shared.hits.inc();
    }

    pub fn cache_miss(&self) {
        self.shared.misses.inc();
    }

    /// Not a request that is cached.
    pub fn cache_bypass(&self) {
        self.shared.bypasses.inc();
    }

    /// Waited for another's fetch.
    pub fn cache_coalesced(&self) {
        self.shared.coalesced.inc();
    }

    /// A leased answer was not kept, since the budget is used up.
    pub fn cache_full(&self) {
        self.shared.full.inc();
    }

    /// An answer went to a client, Vault's or ours.
    pub fn answered(&self, status: StatusCode) {
        self.shared
            .answers
            .get_or_create(&CodeLabel {
                code: status.as_u16(),
            })
            .inc();
    }

    /// A request failed here: no answer of Vault's to pass on.
    pub fn failed(&self, kind: error::Kind) {
        self.shared.failed.inc();
        self.shared
            .failures
            .get_or_create(&FailureLabel {
                reason: kind.name(),
            })
            .inc();
    }

    /// A request went to Vault; `None` when no answer came.
    pub fn called(&self, class: Call, status: Option<StatusCode>) {
        let code = status.map_or(0, |status| status.as_u16());
        self.shared
            .calls
            .get_or_create(&CallLabel {
                class: class.label(),
                code,
            })
            .inc();
    }

    /// A login, or a renewal of the auto-auth token.
    pub fn auth(&self, ok: bool) {
        self.shared.auth.get_or_create(&result(ok)).inc();
    }

    pub fn sink(&self, ok: bool) {
        self.shared.sinks.get_or_create(&result(ok)).inc();
    }

    pub fn lease(&self, event: LeaseEvent) {
        self.shared
            .leases
            .get_or_create(&LeaseLabel {
                event: event.label(),
            })
            .inc();
    }

    pub fn rejected(&self, why: Rejection) {
        let label = FailureLabel {
            reason: why.label(),
        };
        self.shared.rejections.get_or_create(&label).inc();
    }

    /// A caller's TLS handshake ended.
    pub fn handshake(&self, how: Handshake) {
        let result = how.label();
        let count = self
            .shared
            .handshakes
            .get_or_create(&ResultLabel { result });
        count.inc();
    }

    /// A listener's changed certificate files were read.
    pub fn certificates(&self, ok: bool) {
        self.shared.certificates.get_or_create(&result(ok)).inc();
    }

    /// OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: writing to a `String` does not fail.
    pub fn prometheus(&self, sample: &Sample) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &lock(&self.shared.registry))?;
        let mut registry = Registry::with_prefix("leasehold");
        for (name, help, value) in sample.gauges() {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
        // Each encoding ends the exposition; only the last end may stay.
        text.truncate(text.trim_end().trim_end_matches(END).len());
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Vault's JSON form (API docs, `/agent/v1/metrics`): `Counters`, `Gauges`, `Points`, `Samples`.
    pub fn json(&self, sample: &Sample, timestamp: &str) -> Value {
        let shared = &self.shared;
        let codes = |low: u16, high: u16| {
            (low..=high)
                .filter_map(|code| {
                    shared
                        .answers
                        .get(&CodeLabel { code })
                        .map(|count| count.get())
                })
                .sum::<u64>()
        };
        let auth = |ok| shared.auth.get(&result(ok)).map_or(0, |count| count.get());
        let failures = shared.failed.get();
        let counters = [
            ("agent.cache.hit", shared.hits.get()),
            ("agent.cache.miss", shared.misses.get()),
            ("agent.proxy.success", codes(100, 399)),
            (
                "agent.proxy.client_error",
                codes(400, 599).saturating_sub(failures),
            ),
            ("agent.proxy.error", failures),
            ("agent.auth.success", auth(true)),
            ("agent.auth.failure", auth(false)),
        ];
        let counters: Vec<Value> = counters
            .iter()
            .map(|(name, count)| json!({"Name": name, "Count": count, "Sum": count, "Labels": {}}))
            .collect();
        let gauges: Vec<Value> = sample
            .gauges()
            .into_iter()
            .map(|(name, _, value)| {
                json!({"Name": format!("agent.{name}"), "Value": value, "Labels": {}})
            })
            .collect();
        json!({
            "Timestamp": timestamp,
            "Gauges": gauges,
            "Points": [],
            "Counters": counters,
            "Samples": [],
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn result(ok: bool) -> ResultLabel {
    ResultLabel {
        result: if ok { "success" } else { "failure" },
    }
}

fn lock(registry: &Mutex<Registry>) -> std::sync::MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

const END: &str = "# EOF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_moves_its_own_counter() {
        let metrics = Metrics::new();
        metrics.cache_hit();
        metrics.cache_hit();
        metrics.answered(StatusCode::NOT_FOUND);
        metrics.answered(StatusCode::BAD_GATEWAY);
        metrics.failed(error::Kind::Unreachable);
        metrics.called(Call::Own, None);
        metrics.auth(false);
        metrics.lease(LeaseEvent::Renewed);
        metrics.rejected(Rejection::Peer);
        let text = metrics
            .prometheus(&Sample {
                leases: 7,
                ..Sample::default()
            })
            .unwrap();
        for line in [
            r#"leasehold_cache_requests_total{result="hit"} 2"#,
            r#"leasehold_answers_total{code="404"} 1"#,
            r#"leasehold_failures_total{reason="unreachable"} 1"#,
            r#"leasehold_upstream_requests_total{class="own",code="0"} 1"#,
            r#"leasehold_auth_attempts_total{result="failure"} 1"#,
            r#"leasehold_lease_events_total{event="renewed"} 1"#,
            r#"leasehold_client_rejections_total{reason="peer"} 1"#,
            "leasehold_lease_active 7",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} not in\n{text}"
            );
        }
        assert_eq!(text.matches("# EOF").count(), 1, "{text}");
        let json = metrics.json(&Sample::default(), "now");
        let count = |name: &str| {
            let counters = json["Counters"].as_array().unwrap();
            counters
                .iter()
                .find(|counter| counter["Name"] == name)
                .unwrap()["Count"]
                .clone()
        };
        assert_eq!(count("agent.cache.hit"), 2);
        assert_eq!(count("agent.proxy.error"), 1);
        assert_eq!(count("agent.proxy.client_error"), 1);
    }
}
