//! What can be counted is counted once, and no secret leaves by a side door.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use leasehold::dev::{Fault, Options};
use serde_json::{Value, json};

use crate::support::{CREDS, KV2, Rig, kv2, leases_of, measured, millis, pass, seconds};

type Counters = BTreeMap<String, u64>;

async fn counters(rig: &Rig) -> Counters {
    let metrics = rig.raw("GET", "/agent/v1/metrics", None).await.unwrap();
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let totals = lines.filter(|(name, _)| name.starts_with("leasehold") && name.contains("_total"));
    totals
        .map(|(name, value)| (name.replace("leasehold_", ""), value.parse().unwrap()))
        .collect()
}

/// What moved, and by how much; the scrape's own answer aside.
async fn moved_since(rig: &Rig, before: &Counters) -> Vec<String> {
    let after = counters(rig).await;
    let moved = after.into_iter().filter_map(|(name, value)| {
        let mut by = value - before.get(&name).copied().unwrap_or_default();
        if name == r#"answers_total{code="200"}"# {
            by -= 1;
        }
        (by > 0).then(|| format!("{name} {by}").replace("_total", ""))
    });
    moved.collect()
}

#[tokio::test(start_paused = true)]
async fn each_thing_that_happens_moves_its_counters_and_no_others() {
    let refuse = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap();
        Fault::on("*", "/v1/secret/*").refuse(status, "no")
    };
    let none = || Fault::on("NOTHING", "*");
    let vaults = |code: u16| {
        vec![
            format!(r#"answers{{code="{code}"}} 1"#),
            r#"cache_requests{result="miss"} 1"#.to_owned(),
            format!(r#"upstream_requests{{class="forward",code="{code}"}} 1"#),
        ]
    };
    let failed = |code: u16, reason: &str| {
        vec![
            format!(r#"answers{{code="{code}"}} 1"#),
            r#"cache_requests{result="miss"} 1"#.to_owned(),
            format!(r#"failures{{reason="{reason}"}} 1"#),
            r#"upstream_requests{class="forward",code="0"} 1"#.to_owned(),
        ]
    };
    let doubted = {
        let mut lines = vaults(403);
        lines.push(r#"upstream_requests{class="own",code="200"} 1"#.to_owned());
        lines
    };
    let written = vec![
        r#"answers{code="200"} 1"#.to_owned(),
        r#"cache_requests{result="bypass"} 1"#.to_owned(),
        r#"upstream_requests{class="forward",code="200"} 1"#.to_owned(),
    ];
    for (fault, method, expected) in [
        (none(), "GET", vaults(200)),
        (none(), "PUT", written),
        (refuse(404), "GET", vaults(404)),
        (refuse(429), "GET", vaults(429)),
        (refuse(500), "GET", vaults(500)),
        (refuse(503), "GET", vaults(503)),
        (refuse(403), "GET", doubted),
        (Fault::on("GET", "*").hang(), "GET", failed(504, "deadline")),
        (
            Fault::on("GET", "*").cut_before_head(),
            "GET",
            failed(502, "unreachable"),
        ),
    ] {
        // A first connection, so that no pooled one breaks and is retried.
        let rig = Rig::new().await;
        rig.fault(fault.clone());
        let before = counters(&rig).await;
        let fields = if method == "PUT" {
            kv2("x")
        } else {
            Value::Null
        };
        rig.send(method, KV2, fields).await;
        assert_eq!(moved_since(&rig, &before).await, expected, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn hits_and_shared_fetches_are_counted() {
    let rig = Rig::new().await;
    rig.fault(Fault::on("GET", "*").delay(millis(10)));
    let before = counters(&rig).await;
    rig.all_at_once("GET", KV2, 10).await;
    let expected = [
        r#"answers{code="200"} 10"#,
        r#"cache_requests{result="coalesced"} 9"#,
        r#"cache_requests{result="miss"} 10"#,
        r#"upstream_requests{class="forward",code="200"} 1"#,
    ];
    assert_eq!(moved_since(&rig, &before).await, expected);
    let before = counters(&rig).await;
    rig.all_at_once("GET", KV2, 10).await;
    let expected = [
        r#"answers{code="200"} 10"#,
        r#"cache_requests{result="hit"} 10"#,
    ];
    assert_eq!(moved_since(&rig, &before).await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_leases_is_counted() {
    let renewals = Fault::on("PUT", "/v1/sys/leases/renew");
    let own = |code: u16, times: u64| {
        format!(r#"upstream_requests{{class="own",code="{code}"}} {times}"#)
    };
    let event = |name: &str| format!(r#"lease_events{{event="{name}"}} 1"#);
    let forwarded = r#"upstream_requests{class="forward",code="200"} 1"#.to_owned();
    for (fault, path, wait, expected) in [
        (
            Fault::on("NOTHING", "*"),
            CREDS,
            800,
            vec![event("renewed"), own(200, 1)],
        ),
        (
            renewals
                .clone()
                .refuse(StatusCode::INTERNAL_SERVER_ERROR, "no"),
            CREDS,
            752,
            vec![event("renew_failed"), own(500, 1)],
        ),
        (
            renewals.refuse(StatusCode::BAD_REQUEST, "lease not found"),
            CREDS,
            800,
            vec![event("lost"), event("renewed"), own(400, 1)],
        ),
        (
            Fault::on("NOTHING", "*"),
            "aws/creds/app",
            860,
            vec![event("replaced"), forwarded],
        ),
        (
            Fault::on("NOTHING", "*"),
            "aws/creds/app",
            3_000,
            vec![
                event("expired"),
                event("idle"),
                event("replaced"),
                r#"upstream_requests{class="forward",code="200"} 1"#.to_owned(),
            ],
        ),
    ] {
        let rig = Rig::with(leases_of(1_000, 100_000), |_| ()).await;
        rig.get(path).await;
        rig.fault(fault.clone());
        let before = counters(&rig).await;
        let mut moved = Vec::new();
        for _ in 0..wait {
            pass(seconds(1)).await;
            moved = moved_since(&rig, &before).await;
            moved.retain(|line| !line.starts_with("answers"));
            if moved == expected {
                break;
            }
        }
        assert_eq!(moved, expected, "{path} {fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn logins_are_counted() {
    let rig = Rig::not_logged_in(
        &Options::default(),
        |vault| {
            let fault = Fault::on("PUT", "/v1/auth/approle/login");
            vault
                .faults()
                .add(fault.refuse(StatusCode::SERVICE_UNAVAILABLE, "").times(2));
        },
        |_| (),
    )
    .await;
    pass(seconds(1_000)).await;
    let counters = counters(&rig).await;
    assert_eq!(counters[r#"auth_attempts_total{result="failure"}"#], 2);
    assert!(counters[r#"auth_attempts_total{result="success"}"#] >= 7);
    let mut without = Rig::not_logged_in(
        &Options::default(),
        |vault| {
            vault.faults().add(Fault::on("*", "/v1/auth/*").hang());
        },
        |_| (),
    )
    .await;
    without.get(KV2).await;
    assert_eq!(
        without
            .metric(r#"leasehold_failures_total{reason="no_token"}"#)
            .await,
        1
    );
    without = rig;
    assert_eq!(
        without
            .metric(r#"leasehold_failures_total{reason="no_token"}"#)
            .await,
        0
    );
}

/// Everything secret that goes through one busy Leasehold, and everything that it says meanwhile.
#[tokio::test(start_paused = true)]
async fn no_secret_is_in_any_log_line_metric_or_status() {
    let options = Options {
        token_ttl: seconds(40),
        token_max_ttl: seconds(80),
        ..leases_of(10, 25)
    };
    let rig = Rig::with(options, |_| ()).await;
    let mut secrets = Secrets::default();
    secrets.add("a secret id", rig.vault.secret_id().expose());
    secrets.add("the root token", rig.vault.root_token().expose());
    let root = rig.bearing(rig.vault.root_token().expose());
    let mut said = String::new();

    for round in 0..6 {
        for fault in [
            Fault::on("NOTHING", "*"),
            Fault::on("*", "*").cut_before_head().times(3),
            Fault::on("*", "*")
                .refuse(StatusCode::FORBIDDEN, "permission denied")
                .times(3),
            Fault::on("*", "*")
                .refuse(StatusCode::INTERNAL_SERVER_ERROR, "broken")
                .times(3),
            Fault::on("*", "*")
                .answer(StatusCode::OK, r#"{"lease_id":["canary-odd"]}"#)
                .times(3),
        ] {
            secrets.add("a made-up lease", "canary-odd");
            let fault = rig.fault(fault);
            let value = format!("canary-value-{round}-{}", secrets.0.len());
            secrets.add("a value", &value);
            let login = json!({ "role_id": rig.vault.role_id(), "secret_id": rig.vault.secret_id().expose() });
            let mut asks = vec![
                (
                    "PUT",
                    "secret/data/app/canary".to_owned(),
                    kv2(value.clone()),
                ),
                ("GET", "secret/data/app/canary".to_owned(), Value::Null),
                ("PUT", "kv/app/canary".to_owned(), json!({ "value": value })),
                ("GET", "kv/app/canary".to_owned(), Value::Null),
                ("GET", CREDS.to_owned(), Value::Null),
                ("GET", "aws/creds/app".to_owned(), Value::Null),
                ("PUT", "auth/approle/login".to_owned(), login),
                (
                    "POST",
                    "auth/token/create".to_owned(),
                    json!({ "policies": ["app"] }),
                ),
                ("GET", "auth/token/lookup-self".to_owned(), Value::Null),
                ("GET", format!("nowhere/{round}?token={value}"), Value::Null),
            ];
            let mut replies = Vec::new();
            for (method, path, fields) in asks.drain(..) {
                for client in [&root, &*rig] {
                    if let Ok(reply) = client.try_send(method, &path, fields.clone()).await {
                        replies.push(reply.json());
                    }
                }
            }
            for json in &replies {
                secrets.learn(json);
            }
            for json in replies {
                let text = |pointer: &str| {
                    json.pointer(pointer)
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                };
                let mut ends = Vec::new();
                if let Some(lease) = text("/lease_id").filter(|lease| !lease.is_empty()) {
                    ends.push((format!("sys/leases/renew/{lease}"), Value::Null));
                    ends.push((format!("sys/leases/revoke/{lease}"), Value::Null));
                    ends.push(("sys/leases/revoke".to_owned(), json!({ "lease_id": lease })));
                }
                if let Some(token) = text("/auth/client_token") {
                    ends.push((format!("auth/token/renew/{token}"), Value::Null));
                    ends.push((format!("auth/token/lookup/{token}"), Value::Null));
                    ends.push((format!("auth/token/revoke/{token}"), Value::Null));
                    ends.push(("auth/token/revoke".to_owned(), json!({ "token": token })));
                    let clear = json!({ "type": "token", "value": token });
                    said.push_str(&rig.clear(clear).await.json().to_string());
                }
                for (path, fields) in ends {
                    let _ended = root.try_send("PUT", &path, fields).await;
                }
            }
            // One that lives on.
            if let Ok(reply) = rig
                .try_send("GET", &format!("{CREDS}?kept"), Value::Null)
                .await
            {
                secrets.learn(&reply.json());
            }
            pass(seconds(7)).await;
            for record in rig.vault.log().records() {
                if let Some(token) = record.header("x-vault-token") {
                    secrets.add("a token", token);
                }
            }
            for endpoint in [
                "metrics",
                "metrics?format=json",
                "health",
                "ready",
                "status",
            ] {
                let target = format!("/agent/v1/{endpoint}");
                let reply = rig.raw("GET", &target, None).await.unwrap();
                said.push_str(std::str::from_utf8(&reply.body).unwrap());
            }
            rig.vault.faults().remove(fault);
        }
    }
    rig.leasehold.stop().await;
    let logged = rig.sweep.log();
    measured(format_args!(
        "{} secrets, {} bytes of log, {} bytes of metrics and status",
        secrets.0.len(),
        logged.len(),
        said.len()
    ));
    for line in ["answered", "a lease was renewed", "logged in"] {
        assert!(logged.contains(line), "{line:?} was not captured");
    }
    assert!(secrets.0.len() > 100);
    for (secret, what) in &secrets.0 {
        let line = logged.lines().find(|line| line.contains(secret.as_str()));
        assert!(line.is_none(), "{what} in the log: {line:?}");
        assert!(
            !said.contains(secret.as_str()),
            "{what} in an endpoint's answer"
        );
    }
}

/// Secrets by what they are.
#[derive(Default)]
struct Secrets(BTreeMap<String, &'static str>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: &str) {
        if secret.len() >= 8 {
            self.0.insert(secret.to_owned(), what);
        }
    }

    fn learn(&mut self, json: &Value) {
        for (what, pointer) in [
            ("a lease id", "/lease_id"),
            ("a password", "/data/password"),
            ("a secret key", "/data/secret_key"),
            ("a client token", "/auth/client_token"),
            ("an accessor", "/auth/accessor"),
            ("a looked-up token", "/data/id"),
            ("a looked-up accessor", "/data/accessor"),
        ] {
            if let Some(text) = json.pointer(pointer).and_then(Value::as_str) {
                self.add(what, text);
            }
        }
    }
}

/// Each label's values are few, whatever is asked.
#[tokio::test(start_paused = true)]
async fn no_path_and_no_name_becomes_a_label() {
    let rig = Rig::new().await;
    let names = |counters: &Counters| counters.keys().cloned().collect::<BTreeSet<_>>();
    for number in 0..3 {
        rig.get(&format!("secret/data/app/{number}")).await;
    }
    counters(&rig).await;
    let before = names(&counters(&rig).await);
    for number in 0..300 {
        rig.get(&format!("secret/data/app/{number}")).await;
    }
    let more: Vec<String> = names(&counters(&rig).await)
        .difference(&before)
        .cloned()
        .collect();
    assert!(more.is_empty(), "{more:?}");
}
