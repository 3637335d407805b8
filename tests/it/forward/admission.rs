//! Who is let in, on every endpoint: nothing of a refused request reaches Vault or anything of Leasehold's own.

use leasehold::dev::Options;

use super::client_of;
use crate::support::{Rig, millis, seconds};

/// Every kind of thing that a listener serves, in every spelling.
const TARGETS: [(&str, &str); 18] = [
    ("GET", "/v1/secret/data/app/config"),
    ("GET", "/v1/sys/health"),
    ("PUT", "/v1/auth/token/lookup-self"),
    ("GET", "/"),
    ("GET", "/agent/v1/health"),
    ("GET", "/agent/v1/ready"),
    ("GET", "/agent/v1/status"),
    ("GET", "/agent/v1/metrics"),
    ("POST", "/agent/v1/cache-clear"),
    ("POST", "/agent/v1/quit"),
    ("GET", "/proxy/v1/health"),
    ("GET", "/proxy/v1/status"),
    ("GET", "/proxy/v1/metrics"),
    ("POST", "/proxy/v1/cache-clear"),
    ("POST", "/proxy/v1/quit"),
    ("OPTIONS", "/v1/secret/data/app/config"),
    ("OPTIONS", "/agent/v1/quit"),
    ("OPTIONS", "*"),
];

#[tokio::test]
async fn strangers_are_refused_on_every_endpoint() {
    let rig = Rig::new().await;
    for (method, target) in TARGETS {
        for (headers, status) in [
            ("Host: evil.example\r\n", 421),
            ("Host: evil.example:8201\r\nX-Vault-Request: true\r\n", 421),
            ("Host: localhost\r\nOrigin: https://evil.example\r\n", 403),
            (
                "Host: localhost\r\nOrigin: null\r\nAccess-Control-Request-Method: GET\r\n",
                403,
            ),
            ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403),
            ("Host: localhost\r\nSec-Fetch-Site: same-site\r\n", 403),
        ] {
            rig.vault.log().clear();
            let mut wire = client_of(&rig.leasehold).await;
            let request = format!("{method} {target} HTTP/1.1\r\n{headers}\r\n");
            let answer = wire.ask(&request).await;
            assert_eq!(answer.status(), status, "{request}");
            assert_eq!(
                answer.header("content-type").as_deref(),
                Some("application/json")
            );
            let is_cors = |name: &str| name.starts_with("access-control");
            assert!(
                !answer.headers().iter().any(|(name, _)| is_cors(name)),
                "{request}"
            );
            assert_eq!(rig.vault.log().total(), 0, "{request}");
        }
    }
    // It still serves: no quit got through.
    assert_eq!(rig.get("kv/app/config").await.status, 200);
}

#[tokio::test]
async fn a_name_that_is_allowed_is_answered() {
    let rig = Rig::with(Options::default(), |config| {
        config.listeners[0].allowed_hosts =
            leasehold::config::AllowedHosts::Only(vec!["vault-agent".to_owned()]);
    })
    .await;
    for (host, status) in [
        ("vault-agent:8200", 200),
        ("localhost", 200),
        ("other", 421),
    ] {
        let mut wire = client_of(&rig.leasehold).await;
        let request = format!("GET /v1/kv/app/config HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = wire.ask(request).await;
        assert_eq!(answer.status(), status, "{host}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_listener_for_metrics_has_nothing_else() {
    let rig = Rig::with(Options::default(), |config| {
        config.listeners[0].metrics_only = true;
    })
    .await;
    for prefix in ["/agent/v1", "/proxy/v1"] {
        for (method, endpoint, status) in [
            ("GET", "metrics", 200),
            ("GET", "health", 200),
            ("GET", "ready", 200),
            ("GET", "status", 404),
            ("POST", "cache-clear", 404),
            ("PUT", "cache-clear", 404),
            ("POST", "quit", 404),
            ("GET", "metrics/", 404),
            ("GET", "/metrics", 404),
            ("GET", "%6detrics", 404),
            ("GET", "../../v1/kv/app/config", 404),
            ("POST", "metrics", 405),
        ] {
            rig.vault.log().clear();
            let target = format!("{prefix}/{endpoint}");
            let reply = rig.client().raw(method, &target, None).await.unwrap();
            assert_eq!(reply.status, status, "{method} {target}");
            assert_eq!(rig.vault.log().total(), 0, "{target}");
        }
    }
    for path in [
        "/v1/kv/app/config",
        "/v1/sys/health",
        "/",
        "/AGENT/v1/status",
        "//v1/kv/app/config",
    ] {
        let reply = rig.client().raw("GET", path, None).await.unwrap();
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(rig.vault.log().total(), 0, "{path}");
    }
}

#[tokio::test]
async fn what_controls_takes_its_own_methods_and_only_as_configured() {
    let rig = Rig::with(Options::default(), |config| {
        config.listeners[0].enable_quit = false;
    })
    .await;
    for (method, target, status) in [
        ("GET", "/agent/v1/cache-clear", 405),
        ("DELETE", "/agent/v1/cache-clear", 405),
        ("POST", "/agent/v1/quit", 404),
        ("GET", "/agent/v1/quit", 404),
        ("POST", "/agent/v1/quit/", 404),
        ("POST", "/agent/v1//quit", 404),
        ("POST", "/agent/v1/%71uit", 404),
    ] {
        let reply = rig.client().raw(method, target, None).await.unwrap();
        assert_eq!(reply.status, status, "{method} {target}");
    }
}

#[tokio::test]
async fn uploads_that_trickle_keep_nobody_from_vault() {
    let rig = Rig::with(Options::default(), |config| {
        config.cache = None;
        config.vault.max_connections = 4;
        config.listeners[0].read_timeout = millis(300);
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut wire = client_of(&rig.leasehold).await;
        wire.send("PUT /v1/kv/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            .await;
        slow.push(wire);
    }
    // All four places are taken, for as long as a body may be waited for.
    let other = rig.get("kv/app/config");
    let other = tokio::time::timeout(seconds(10), other).await.unwrap();
    assert_eq!(other.status, 200);
    for mut wire in slow {
        assert_eq!(wire.answer(b"PUT").await.status(), 408);
        assert!(wire.try_answer().await.is_none());
    }
}

#[tokio::test]
async fn a_body_over_the_limit_never_reaches_vault_as_whole() {
    let rig = Rig::with(Options::default(), |config| {
        config.cache = None;
        config.listeners[0].max_request_size = Some(1000);
    })
    .await;
    let big = format!("{{\"a\":\"{}\"}}", "x".repeat(2000));
    let (half, rest) = big.split_at(900);
    let chunked = format!(
        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
        half.len(),
        rest.len()
    );
    for framed in [
        format!("Content-Length: {}\r\n\r\n{big}", big.len()),
        chunked,
    ] {
        let mut wire = client_of(&rig.leasehold).await;
        let answer = wire.ask(format!(
            "PUT /v1/kv/big HTTP/1.1\r\nHost: localhost\r\n{framed}"
        ));
        let answer = answer.await;
        assert_eq!(answer.status(), 413, "{}", answer.text());
        assert!(answer.text().contains("max_request_size"));
        assert!(
            wire.try_answer().await.is_none(),
            "the connection stays open"
        );
        assert_eq!(
            rig.get("kv/big").await.status,
            404,
            "half of it was written"
        );
    }
}
