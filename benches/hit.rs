//! `cargo bench --bench hit`: the way of a hit, step by step and as a whole, without sockets.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use leasehold::app::Leasehold;
use leasehold::cache::steps::Steps;
use leasehold::config::{
    AppRole, AutoAuth, Cache, Config, CredentialSource, Listener, Method, PathMode, PathRule,
    UseAutoAuthToken, Vault,
};
use leasehold::dev::{DevVault, Options};
use leasehold::proxy::Front;
use leasehold::tasks::Tasks;
use leasehold::upstream::{Body, Way};
use leasehold::vault::path::ApiPath;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

criterion_main!(benches);
criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = steps, service
}

fn steps(criterion: &mut Criterion) {
    let path = "secret/data/app/config";
    let steps = Steps::new(path, BODY, 100..104);
    let mut group = criterion.benchmark_group("step");
    group.bench_function("path", |bencher| {
        bencher.iter(|| ApiPath::parse(black_box("/v1/secret/data/app/config"), None));
    });
    group.bench_function("key", |bencher| {
        bencher.iter(|| steps.key(black_box(path), None));
    });
    group.bench_function("key with a query", |bencher| {
        bencher.iter(|| steps.key(black_box(path), Some(black_box("version=3&list=false"))));
    });
    group.bench_function("look-up", |bencher| bencher.iter(|| steps.look_up()));
    group.bench_function("look-up and answer", |bencher| {
        bencher.iter(|| steps.answer_static());
    });
    group.bench_function("look-up and answer, seconds spliced in", |bencher| {
        bencher.iter(|| steps.answer_leased());
    });
    group.finish();
}

/// Everything between the connection and the pool: what a listener serves. Vault is at the end of a pipe in memory.
fn service(criterion: &mut Criterion) {
    let stage = Stage::set();
    let mut group = criterion.benchmark_group("service");
    for (name, path) in [
        ("KV hit", "/v1/secret/data/app/config"),
        ("leased hit", "/v1/database/creds/app-readonly"),
        (
            "forwarding, Vault's own time with it",
            "/v1/secret/data/cwiq/dev/orchestrator/config",
        ),
    ] {
        stage.ask(path);
        group.bench_function(name, |bencher| bencher.iter(|| stage.ask(path)));
    }
    // Each another answer, which is then kept.
    let number = AtomicU64::new(0);
    group.bench_function("miss, Vault's own time with it", |bencher| {
        bencher.iter(|| {
            let number = number.fetch_add(1, Ordering::Relaxed);
            stage.ask(&format!("/v1/secret/data/app/config?n={number}"));
        });
    });
    group.finish();
}

struct Stage {
    runtime: Runtime,
    _leasehold: Leasehold,
    front: Front,
}

#[expect(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to go on with"
)]
impl Stage {
    fn set() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let leasehold = runtime.block_on(async {
            let long = Duration::from_secs(24 * 3600);
            let vault = DevVault::new(&Options {
                lease_ttl: long,
                lease_max_ttl: long,
                token_ttl: long,
                token_max_ttl: long,
                ..Options::default()
            });
            let config = config(&vault);
            let tasks = Tasks::new();
            let way = Way::streams(move || Ok(vault.serve_duplex(&tasks)));
            let leasehold = Leasehold::start_over(way, config).await.expect("a start");
            leasehold.authenticated().await;
            leasehold
        });
        Self {
            front: leasehold.first_front().expect("a listener"),
            runtime,
            _leasehold: leasehold,
        }
    }

    fn ask(&self, path: &str) {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = path.parse().expect("a path");
        let headers = request.headers_mut();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:8201"));
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        self.runtime.block_on(async {
            let Ok(response) = self.front.clone().oneshot(request).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            black_box(response.into_body().collect().await.expect("a whole body"));
        });
    }
}

fn config(vault: &DevVault) -> Config {
    let given = |name: &str, value| CredentialSource::Env {
        name: name.to_owned(),
        value: Some(value),
    };
    Config {
        vault: Vault {
            address: "http://vault.bench:8200".to_owned(),
            ..Vault::default()
        },
        auto_auth: Some(AutoAuth {
            method: Method::AppRole(AppRole {
                role_id: given("a role id", vault.role_id().into()),
                secret_id: Some(given("a secret id", vault.secret_id())),
                remove_secret_id_file_after_reading: false,
                secret_id_response_wrapping_path: None,
            }),
            mount_path: "auth/approle".to_owned(),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            exit_on_err: false,
            sinks: Vec::new(),
        }),
        use_auto_auth_token: UseAutoAuthToken::WhenAbsent,
        cache: Some(Cache {
            paths: vec![PathRule {
                glob: "secret/data/cwiq/*".to_owned(),
                mode: Some(PathMode::Bypass),
                ttl: None,
                max_stale: None,
            }],
            ..Cache::default()
        }),
        listeners: vec![Listener {
            address: "127.0.0.1:0".to_owned(),
            ..Listener::default()
        }],
        ..Config::default()
    }
}

/// A database credential, as Vault sends it.
const BODY: &str = r#"{"request_id":"7a1b","lease_id":"database/creds/app-readonly/abc","renewable":true,"lease_duration":3600,"data":{"password":"0123456789","username":"v-approle-app-readonly"},"wrap_info":null,"warnings":null,"auth":null}"#;
