//! The endpoints that Leasehold answers itself: `/agent/v1/*`, and the same under `/proxy/v1/*`.
//!
//! None of them calls Vault. Who may ask at all is decided before (admission); what there is to know and
//! to do comes from the `House`.

mod control;
mod health;
mod metrics;
mod recent;
mod reply;
mod status;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::config;
use crate::error::Result;
use crate::telemetry::{Metrics, Sample};

pub use health::{Readiness, Reason};
pub use recent::{Noted, Recent};
pub use status::{
    CacheStatus, CertificateStatus, Ids, LeaseStatus, Leases, ListenerStatus, Next, ShortId,
    Status, VaultStatus,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What runs behind the endpoints. All of it is answered from memory, at once.
pub trait House: Send + Sync + 'static {
    /// The body of a request to clear the cache.
    type Clear: DeserializeOwned + Send;

    /// The gauges of this moment.
    fn sample(&self) -> Sample;
    fn readiness(&self) -> Readiness;
    fn status(&self) -> Status;

    /// Drops what is asked for, before it returns, and says how many entries that were; `None` when
    /// there is no cache.
    ///
    /// # Errors
    /// `BadRequest` for what cannot be asked.
    fn clear(&self, asked: Self::Clear) -> Result<Option<usize>>;

    /// Begins to stop, as a SIGTERM does, and returns at once. May be called again.
    fn quit(&self);
}

/// The endpoints of one running Leasehold. Clones share the house.
pub struct Admin<H> {
    house: Arc<H>,
    metrics: Metrics,
    started: Instant,
}

/// Which endpoints a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Powers {
    /// Metrics and probes, and nothing else: for an address that others than the application reach.
    pub metrics_only: bool,
    pub enable_quit: bool,
}

impl From<&config::Listener> for Powers {
    fn from(listener: &config::Listener) -> Self {
        Self {
            metrics_only: listener.metrics_only,
            enable_quit: listener.enable_quit,
        }
    }
}

impl Powers {
    /// Is this a request for `Admin::answer`? On a listener for metrics every request is.
    pub fn claim(self, uri: &Uri) -> bool {
        self.metrics_only || endpoint_name(uri.path()).is_some()
    }

    fn allow(self, endpoint: Endpoint) -> bool {
        match endpoint {
            Endpoint::Metrics | Endpoint::Health | Endpoint::Ready => true,
            Endpoint::Status | Endpoint::CacheClear => !self.metrics_only,
            Endpoint::Quit => !self.metrics_only && self.enable_quit,
        }
    }
}

impl<H: House> Admin<H> {
    pub fn new(house: Arc<H>, metrics: Metrics) -> Self {
        Self {
            house,
            metrics,
            started: Instant::now(),
        }
    }

    /// Answers a request that the listener's `Powers` claim.
    pub async fn answer<B>(&self, powers: Powers, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let name = endpoint_name(request.uri().path()).unwrap_or_default();
        let endpoint = ENDPOINTS.into_iter().find(|it| it.name() == name);
        let Some(endpoint) = endpoint.filter(|it| powers.allow(*it)) else {
            return reply::not_found(&all_of(powers));
        };
        if !endpoint.methods().contains(request.method()) {
            return reply::wrong_method(endpoint.methods());
        }
        match endpoint {
            Endpoint::Health => health::alive(self.started.elapsed()),
            Endpoint::Ready => health::ready(&self.house.readiness()),
            Endpoint::Metrics => metrics::expose(&self.metrics, &self.house.sample(), &request),
            Endpoint::Status => reply::json(&self.house.status()),
            Endpoint::CacheClear => control::clear(&*self.house, request.into_body()).await,
            Endpoint::Quit => control::quit(&*self.house),
        }
    }
}

impl<H> Clone for Admin<H> {
    fn clone(&self) -> Self {
        Self {
            house: Arc::clone(&self.house),
            metrics: self.metrics.clone(),
            started: self.started,
        }
    }
}

impl<H> fmt::Debug for Admin<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Health,
    Ready,
    Metrics,
    Status,
    CacheClear,
    Quit,
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
            Self::Status => "status",
            Self::CacheClear => "cache-clear",
            Self::Quit => "quit",
        }
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Self::Health | Self::Ready | Self::Metrics | Self::Status => {
                &[Method::GET, Method::HEAD]
            }
            Self::CacheClear => &[Method::POST, Method::PUT],
            Self::Quit => &[Method::POST],
        }
    }
}

/// What follows `/agent/v1/` or `/proxy/v1/`; `None` for any other path.
fn endpoint_name(path: &str) -> Option<&str> {
    let rest = path
        .strip_prefix("/agent/v1")
        .or_else(|| path.strip_prefix("/proxy/v1"))?;
    if rest.is_empty() {
        return Some("");
    }
    rest.strip_prefix('/')
}

fn all_of(powers: Powers) -> String {
    let all = ENDPOINTS.into_iter().filter(|it| powers.allow(*it));
    let all: Vec<String> = all
        .filter_map(|it| Some(format!("{} /agent/v1/{}", it.methods().first()?, it.name())))
        .collect();
    all.join(", ")
}

const ENDPOINTS: [Endpoint; 6] = [
    Endpoint::Health,
    Endpoint::Ready,
    Endpoint::Metrics,
    Endpoint::Status,
    Endpoint::CacheClear,
    Endpoint::Quit,
];

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use http::StatusCode;
    use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
    use http_body_util::BodyExt;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;
    use crate::error::{Error, Kind};
    use crate::lease::{Lease, LeaseView, NextAction, What};
    use crate::secret::Secret;

    /// Stands in every secret that the status is made from.
    const CANARY: &str = "hvs.CANARY";

    #[derive(Default)]
    struct Fake {
        not_ready: bool,
        no_cache: bool,
        quits: AtomicUsize,
        ids: Ids,
    }

    #[derive(Deserialize)]
    struct Clear {
        r#type: String,
    }

    impl House for Fake {
        type Clear = Clear;

        fn sample(&self) -> Sample {
            Sample {
                leases: 3,
                ..Sample::default()
            }
        }

        fn readiness(&self) -> Readiness {
            let reason = |part| vec![Reason::new(part, "is missing")];
            Readiness {
                reasons: if self.not_ready {
                    reason("auth")
                } else {
                    Vec::new()
                },
                degraded: reason("sinks"),
            }
        }

        fn status(&self) -> Status {
            let ttl = Duration::from_secs(60);
            let lease_id = Secret::new(format!("database/creds/app/{CANARY}"));
            let lease = Lease::new(
                7,
                What::Secret { lease_id },
                Secret::new(CANARY),
                None,
                "database/creds/app".into(),
                true,
                ttl,
                Instant::now() + ttl,
                None,
            );
            let view = LeaseView {
                lease: Arc::new(lease),
                renewable: true,
                failures: 0,
                next: Some((NextAction::Renew, Instant::now() + ttl * 3 / 4)),
            };
            Status {
                version: "1",
                uptime_seconds: 5,
                readiness: self.readiness(),
                vault: VaultStatus {
                    address: "http://127.0.0.1:8200".into(),
                    namespace: None,
                    tls_skip_verify: false,
                },
                auth: None,
                leases: Leases::of(vec![LeaseStatus::of(&view, &self.ids)]),
                cache: None,
                sinks: Vec::new(),
                listeners: Vec::new(),
                connections: 1,
                upstream_in_use: 0,
                last_errors: Vec::new(),
            }
        }

        fn clear(&self, asked: Clear) -> Result<Option<usize>> {
            match asked.r#type.as_str() {
                "all" if self.no_cache => Ok(None),
                "all" => Ok(Some(4)),
                other => Err(Error::new(
                    Kind::BadRequest,
                    format!("{other:?} is not known"),
                )),
            }
        }

        fn quit(&self) {
            self.quits.fetch_add(1, Ordering::Relaxed);
        }
    }

    const ALL: Powers = Powers {
        metrics_only: false,
        enable_quit: true,
    };

    struct Answered {
        response: Response<()>,
        text: String,
    }

    impl Answered {
        fn status(&self) -> u16 {
            self.response.status().as_u16()
        }

        fn header(&self, name: http::HeaderName) -> &str {
            self.response
                .headers()
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
        }

        fn json(&self) -> Value {
            assert_eq!(
                self.header(CONTENT_TYPE),
                "application/json",
                "{}",
                self.text
            );
            serde_json::from_str(&self.text).unwrap()
        }
    }

    async fn ask_of(house: Fake, powers: Powers, request: Request<Full<Bytes>>) -> Answered {
        let answer = Admin::new(Arc::new(house), Metrics::new())
            .answer(powers, request)
            .await;
        let (parts, body) = answer.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        Answered {
            response: Response::from_parts(parts, ()),
            text: String::from_utf8(text.to_vec()).unwrap(),
        }
    }

    fn request(line: &str, body: &'static str) -> Request<Full<Bytes>> {
        let (method, uri) = line.split_once(' ').unwrap();
        Request::builder()
            .method(method)
            .uri(uri)
            .body(Full::from(body))
            .unwrap()
    }

    async fn ask(line: &str) -> Answered {
        ask_of(Fake::default(), ALL, request(line, r#"{"type":"all"}"#)).await
    }

    #[tokio::test(start_paused = true)]
    async fn each_endpoint_has_its_methods_under_both_names() {
        let cases = [
            ("health", "GET, HEAD"),
            ("ready", "GET, HEAD"),
            ("metrics", "GET, HEAD"),
            ("status", "GET, HEAD"),
            ("cache-clear", "POST, PUT"),
            ("quit", "POST"),
        ];
        for (name, allowed) in cases {
            for root in ["/agent/v1", "/proxy/v1"] {
                for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "LIST", "OPTIONS"] {
                    let answer = ask(&format!("{method} {root}/{name}")).await;
                    if allowed.split(", ").any(|it| it == method) {
                        assert_eq!(answer.status(), 200, "{method} {name}: {}", answer.text);
                    } else {
                        assert_eq!(answer.status(), 405, "{method} {name}");
                        assert_eq!(answer.header(ALLOW), allowed);
                        assert!(answer.json()["errors"][0].is_string());
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_says_what_is() {
        for path in [
            "/agent/v1",
            "/agent/v1/",
            "/agent/v1/nothing",
            "/proxy/v1/health/",
        ] {
            assert!(ALL.claim(&path.parse().unwrap()), "{path}");
            let answer = ask(&format!("GET {path}")).await;
            assert_eq!(answer.status(), 404, "{path}");
            let text = answer.json()["errors"][0].as_str().unwrap().to_owned();
            assert!(text.contains("GET /agent/v1/ready, "), "{text}");
            assert!(text.contains("POST /agent/v1/quit"), "{text}");
        }
        for path in [
            "/v1/agent/v1/health",
            "/agent/v10/health",
            "/v1/secret/x",
            "/agent",
            "/",
        ] {
            assert!(!ALL.claim(&path.parse().unwrap()), "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_for_metrics_has_probes_and_nothing_that_opens_anything() {
        let powers = Powers {
            metrics_only: true,
            enable_quit: true,
        };
        let cases = [
            ("GET /agent/v1/metrics", 200),
            ("GET /agent/v1/health", 200),
            ("GET /agent/v1/ready", 200),
            ("GET /agent/v1/status", 404),
            ("POST /agent/v1/cache-clear", 404),
            ("POST /agent/v1/quit", 404),
            ("GET /v1/secret/data/app", 404),
        ];
        for (line, status) in cases {
            let request = request(line, "");
            assert!(powers.claim(request.uri()), "{line}");
            let answer = ask_of(Fake::default(), powers, request).await;
            assert_eq!(answer.status(), status, "{line}");
            assert!(!answer.text.contains("quit"), "{}", answer.text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn quit_must_be_enabled_and_may_be_said_twice() {
        let house = Arc::new(Fake::default());
        let admin = Admin::new(Arc::clone(&house), Metrics::new());
        let answer = admin
            .answer(Powers::default(), request("POST /agent/v1/quit", ""))
            .await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(house.quits.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            let answer = admin.answer(ALL, request("POST /proxy/v1/quit", "")).await;
            assert_eq!(answer.status(), StatusCode::OK);
        }
        assert_eq!(house.quits.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_a_status_and_a_list() {
        let ready = ask("GET /agent/v1/ready").await.json();
        assert_eq!(
            (&ready["ready"], &ready["degraded"]),
            (&true.into(), &true.into())
        );
        assert_eq!(ready["degraded_reasons"][0]["part"], "sinks");
        let house = Fake {
            not_ready: true,
            ..Fake::default()
        };
        let answer = ask_of(house, ALL, request("GET /agent/v1/ready", "")).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.json()["reasons"][0]["part"], "auth");
    }

    #[tokio::test(start_paused = true)]
    async fn health_asks_nobody() {
        let house = Fake {
            not_ready: true,
            ..Fake::default()
        };
        let answer = ask_of(house, ALL, request("GET /agent/v1/health", "")).await;
        assert_eq!(
            (answer.status(), &answer.json()["healthy"]),
            (200, &true.into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_come_in_the_form_that_is_asked_for() {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let scraper = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5";
        let cases = [
            ("", "", text),
            ("", "*/*", text),
            ("", scraper, open),
            ("?format=prometheus", scraper, open),
            ("?format=prometheus", "", text),
            ("?format=json", scraper, "application/json"),
            ("", "application/json", "application/json"),
        ];
        for (query, accept, content_type) in cases {
            let mut request = request(&format!("GET /agent/v1/metrics{query}"), "");
            request
                .headers_mut()
                .insert(ACCEPT, accept.parse().unwrap());
            let answer = ask_of(Fake::default(), ALL, request).await;
            assert_eq!(
                answer.header(CONTENT_TYPE),
                content_type,
                "{query} {accept}"
            );
            assert!(answer.text.contains("lease_active"), "{}", answer.text);
            assert_eq!(answer.text.contains("# EOF"), content_type == open);
        }
        let answer = ask("GET /agent/v1/metrics?format=xml").await;
        assert_eq!(answer.status(), 400);
        assert!(
            answer.json()["errors"][0]
                .as_str()
                .unwrap()
                .contains("?format=json")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn clearing_says_how_much_went_and_what_is_wrong() {
        let clear = |body| request("POST /agent/v1/cache-clear", body);
        let answer = ask_of(Fake::default(), ALL, clear(r#"{"type":"all"}"#)).await;
        assert_eq!(
            (answer.status(), &answer.json()["cleared"]),
            (200, &4.into())
        );
        let none = Fake {
            no_cache: true,
            ..Fake::default()
        };
        let answer = ask_of(none, ALL, clear(r#"{"type":"all"}"#)).await;
        assert_eq!(
            (answer.status(), &answer.json()["cleared"]),
            (200, &0.into())
        );
        assert!(
            answer.json()["warnings"][0]
                .as_str()
                .unwrap()
                .contains("no cache block")
        );
        let cases: [(&str, &str); 5] = [
            ("", "no JSON object"),
            (" {", "line 1, column 2"),
            (r#"["hvs.CANARY"]"#, "no JSON object"),
            (r#"{"type":["hvs.CANARY"]}"#, "line 1, column 8"),
            (r#"{"type":"some"}"#, "is not known"),
        ];
        for (body, part) in cases {
            let answer = ask_of(Fake::default(), ALL, clear(body)).await;
            assert_eq!(answer.status(), 400, "{body}");
            let text = answer.json()["errors"][0].as_str().unwrap().to_owned();
            assert!(text.contains(part), "{text}");
            assert!(!text.contains("CANARY"), "{text}");
        }
        let huge = Request::post("/agent/v1/cache-clear");
        let huge = huge.body(Full::from(vec![b' '; 70_000])).unwrap();
        assert_eq!(ask_of(Fake::default(), ALL, huge).await.status(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_shows_the_next_action_and_no_secret() {
        let answer = ask("GET /agent/v1/status").await;
        assert!(!answer.text.contains("CANARY"), "{}", answer.text);
        let status = answer.json();
        let lease = &status["leases"]["list"][0];
        assert_eq!(lease["path"], "database/creds/app");
        assert_eq!(lease["remaining_seconds"], 60);
        assert_eq!(lease["next"]["action"], "renew");
        assert_eq!(lease["next"]["in_seconds"], 45);
        assert_eq!(lease["id"].as_str().unwrap().len(), 12);
        assert_eq!(status["degraded_reasons"][0]["part"], "sinks");
        assert_eq!(status["ready"], true);
    }
}
