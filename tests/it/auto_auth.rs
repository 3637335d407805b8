//! Auto-auth, from outside: before the first login, when the token dies, when it is only forbidden.

use http::StatusCode;
use http::header::RETRY_AFTER;
use leasehold::app::Ending;
use leasehold::config::{CredentialSource, Method, PathMode, PathRule, Sink};
use leasehold::dev::{Fault, Options};
use leasehold::error::Kind;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::support::{
    CREDS, Client, KV2, ROLE, Rig, approle, kv2, leases_of, measured, millis, pass, seconds,
};

const LOGIN: &str = "auth/approle/login";
const LOOK_UP: &str = "auth/token/lookup-self";

/// The token that Leasehold uses now.
async fn our_token(rig: &Rig) -> String {
    rig.get(&format!("secret/data/app/{}", rig.vault.log().total()))
        .await;
    let records = rig.vault.log().matching("GET", "/v1/secret/data/app/*");
    let last = records.last().unwrap();
    last.header("x-vault-token").unwrap().to_owned()
}

/// Vault ends our token, and we are not told.
async fn revoke_ours(rig: &Rig) -> String {
    let token = our_token(rig).await;
    rig.root("PUT", "auth/token/revoke", json!({ "token": token }))
        .await;
    token
}

async fn starting(prepare: impl FnOnce(&leasehold::dev::DevVault)) -> Rig {
    Rig::not_logged_in(&Options::default(), prepare, |_| ()).await
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_first_login() {
    let rig = starting(|vault| {
        let fault = Fault::on("PUT", &format!("/v1/{LOGIN}"));
        vault.faults().add(fault.delay(seconds(3)));
    })
    .await;
    let begun = Instant::now();
    let waiting: Vec<_> = (0..50)
        .map(|_| rig.start("GET", KV2, Value::Null))
        .collect();
    for reply in waiting {
        assert_eq!(reply.await.unwrap().status, 200);
    }
    assert_eq!(begun.elapsed(), seconds(3));
    for record in rig.vault.log().matching("GET", "*") {
        assert!(record.header("x-vault-token").is_some(), "{record:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_login_requests_are_told_to_come_again() {
    let rig = starting(|vault| {
        let fault = Fault::on("PUT", &format!("/v1/{LOGIN}"));
        vault.faults().add(fault.hang());
    })
    .await;
    let begun = Instant::now();
    for (method, path) in [
        ("GET", KV2),
        ("PUT", KV2),
        ("GET", CREDS),
        ("LIST", "kv/app"),
    ] {
        let begun = Instant::now();
        let reply = rig.send(method, path, Value::Null).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.headers.contains_key(RETRY_AFTER));
        assert!(reply.at("/errors/0").contains("/agent/v1/status"));
        assert_eq!(begun.elapsed(), seconds(5));
    }
    assert_eq!(
        rig.asked("*", KV2) + rig.asked("*", CREDS) + rig.asked("*", "kv/*"),
        0
    );
    // What needs no token goes at once; who brings his own too.
    let waited = begun.elapsed();
    for path in ["sys/health", "sys/seal-status"] {
        assert_eq!(rig.get(path).await.status, 200);
    }
    let stranger = rig.stranger().await;
    assert_eq!(stranger.get(KV2).await.status, 200);
    assert_eq!(begun.elapsed(), waited);
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_is_absent_at_the_start_is_waited_for() {
    let rig = starting(|vault| {
        vault.faults().add(Fault::on("*", "*").cut_before_head());
    })
    .await;
    let local = |path: &str| {
        let (client, path) = (rig.client(), format!("/agent/v1/{path}"));
        async move { client.raw("GET", &path, None).await.unwrap() }
    };
    pass(seconds(200)).await;
    assert_eq!(local("health").await.status, 200);
    let ready = local("ready").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.at("/reasons/0/message").contains("no token"),
        "{}",
        ready.json()
    );
    assert_eq!(rig.get(KV2).await.status, 503);
    let tries = rig.asked("PUT", LOGIN);
    assert!((4..=12).contains(&tries), "{tries} logins tried in 200 s");
    rig.vault.faults().clear();
    pass(seconds(300)).await;
    assert_eq!(local("ready").await.status, 200);
    assert_eq!(rig.get(KV2).await.status, 200);
}

/// 500 requests find the token dead: one look-up, one login, and each read is answered.
#[tokio::test(start_paused = true)]
async fn a_dead_token_is_replaced_once_for_all() {
    let rig = Rig::new().await;
    rig.fault(Fault::on("*", "*").delay(millis(20)));
    for number in 0..500 {
        let path = format!("secret/data/app/n{number}");
        rig.root("PUT", &path, kv2(number)).await;
    }
    revoke_ours(&rig).await;
    rig.vault.log().clear();
    let begun = Instant::now();
    let reads: Vec<_> = (0..500)
        .map(|number| rig.start("GET", &format!("secret/data/app/n{number}"), Value::Null))
        .collect();
    for (number, read) in reads.into_iter().enumerate() {
        let reply = read.await.unwrap();
        assert_eq!(reply.status, 200, "{number}: {}", reply.json());
        assert_eq!(
            reply.number("/data/data/value"),
            u64::try_from(number).unwrap()
        );
    }
    let took = begun.elapsed();
    measured(format_args!(
        "500 reads with a dead token: {took:?}, {} look-ups, {} logins",
        rig.asked("GET", LOOK_UP),
        rig.asked("PUT", LOGIN)
    ));
    assert!(took < seconds(2), "{took:?}");
    assert_eq!((rig.asked("GET", LOOK_UP), rig.asked("PUT", LOGIN)), (1, 1));
}

/// What may create something is not sent again; the next asker gets it by the new token.
#[tokio::test(start_paused = true)]
async fn with_a_dead_token_only_plain_reads_are_sent_again() {
    for (method, path, fields) in [
        ("GET", CREDS, Value::Null),
        ("PUT", KV2, kv2("x")),
        (
            "POST",
            "transit/encrypt/app",
            json!({ "plaintext": "eA==" }),
        ),
    ] {
        let rig = Rig::new().await;
        revoke_ours(&rig).await;
        let first = rig.send(method, path, fields.clone()).await;
        assert_eq!(
            (first.status, rig.asked(method, path)),
            (StatusCode::FORBIDDEN, 1)
        );
        let second = rig.send(method, path, fields).await;
        assert_eq!(second.status, 200, "{path}: {}", second.json());
        assert_eq!(rig.asked("PUT", LOGIN), 2);
    }
}

/// Credentials of a dead token are dead: once that is known, they are not served.
#[tokio::test(start_paused = true)]
async fn a_dead_token_takes_its_credentials_with_it() {
    let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
    let dead = rig.get(CREDS).await.user();
    revoke_ours(&rig).await;
    assert!(!rig.vault.may_log_in(&dead.0, &dead.1));
    assert_eq!(rig.get(KV2).await.status, 200);
    let (user, password) = rig.get(CREDS).await.user();
    assert!(rig.vault.may_log_in(&user, &password));
    assert_eq!(rig.vault.live_credentials(ROLE), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_forbids_is_no_reason_to_log_in() {
    let rig = Rig::new().await;
    pass(seconds(10)).await;
    rig.vault.log().clear();
    for number in 0..600 {
        let path = format!("secret/data/forbidden/{number}");
        assert_eq!(rig.get(&path).await.status, 403);
        pass(millis(100)).await;
    }
    let (look_ups, logins) = (rig.asked("GET", LOOK_UP), rig.asked("PUT", LOGIN));
    measured(format_args!(
        "600 refusals by policy in 60 s: {look_ups} look-ups, {logins} logins"
    ));
    assert_eq!(logins, 0);
    assert!((1..=13).contains(&look_ups), "{look_ups}");
}

/// With a token of 8 s and at most 16 s, no request ever goes out with a dead one.
#[tokio::test(start_paused = true)]
async fn each_request_carries_a_live_token() {
    let rig = Rig::with(
        Options {
            token_ttl: seconds(8),
            token_max_ttl: seconds(16),
            ..Options::default()
        },
        |config| {
            config.cache.as_mut().unwrap().paths = vec![PathRule {
                glob: "secret/*".to_owned(),
                mode: Some(PathMode::Bypass),
                ttl: None,
                max_stale: None,
            }];
        },
    )
    .await;
    rig.fault(Fault::on("*", "*").delay(millis(50)));
    for _ in 0..1_200 {
        assert_eq!(rig.get(KV2).await.status, 200);
        pass(millis(250)).await;
    }
    assert_eq!(rig.asked("GET", LOOK_UP), 0, "nobody had a doubt");
}

/// Login after login, the leases move along: as many are kept alive as there are, and none is renewed with
/// a token that is not ours any more.
#[tokio::test(start_paused = true)]
async fn old_watchers_do_not_pile_up() {
    const LEASES: u64 = 20;
    let rig = Rig::with(
        Options {
            token_ttl: seconds(40),
            token_max_ttl: seconds(40),
            lease_ttl: seconds(30),
            lease_max_ttl: seconds(3_600),
            ..Options::default()
        },
        |_| (),
    )
    .await;
    for round in 0..250 {
        for number in 0..LEASES {
            let reply = rig.get(&format!("{CREDS}?n={number}")).await;
            let (user, password) = reply.user();
            assert!(rig.vault.may_log_in(&user, &password), "{round}");
        }
        let kept = rig.metric("leasehold_lease_active").await;
        assert!(kept <= LEASES, "{kept} leases are kept alive");
        pass(seconds(4)).await;
    }
    let logins = rig.asked("PUT", LOGIN);
    let minted = rig.vault.minted(ROLE);
    measured(format_args!(
        "{logins} logins in 1,000 s under {LEASES} leases: {minted:?}"
    ));
    assert!((25..=45).contains(&logins), "{logins}");
    for renewal in rig.vault.log().matching("PUT", "/v1/sys/leases/renew") {
        assert_eq!(
            renewal.status(),
            Some(StatusCode::OK),
            "with a token that is over"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_from_the_environment_end_the_process() {
    for (role_id, secret_id, named) in [
        (None, "wrong", "APP_SECRET_ID"),
        (Some("wrong"), "", "APP_ROLE_ID"),
    ] {
        let rig = Rig::not_logged_in(
            &Options::default(),
            |_| (),
            |config| {
                let Some(Method::AppRole(approle)) =
                    config.auto_auth.as_ref().map(|a| a.method.clone())
                else {
                    unreachable!()
                };
                let variable = |source: &CredentialSource| match source {
                    CredentialSource::Env { value, .. } => value.clone().unwrap(),
                    CredentialSource::File(_) => unreachable!(),
                };
                let right_role = variable(&approle.role_id);
                let right_secret = variable(approle.secret_id.as_ref().unwrap());
                let role_id = role_id.unwrap_or(right_role.expose());
                let secret_id = if secret_id.is_empty() {
                    right_secret.expose()
                } else {
                    secret_id
                };
                config.auto_auth = Some(self::approle(role_id, secret_id));
            },
        )
        .await;
        let ending = timeout(seconds(5), rig.leasehold.ending()).await.unwrap();
        let Ending::Fatal(error) = ending else {
            panic!("{ending:?}")
        };
        assert_eq!(error.kind(), Kind::Refused(StatusCode::BAD_REQUEST));
        assert!(error.to_string().contains(named), "{error}");
        assert_eq!(
            rig.asked("PUT", LOGIN),
            1,
            "it cannot be right the next time"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_once_the_token_is_where_it_was_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let sink = Sink {
        path: path.clone(),
        mode: 0o640,
        uid: None,
        gid: None,
    };
    let rig = Rig::not_logged_in(
        &Options::default(),
        |vault| {
            let fault = Fault::on("PUT", &format!("/v1/{LOGIN}"));
            vault
                .faults()
                .add(fault.refuse(StatusCode::SERVICE_UNAVAILABLE, "").times(2));
        },
        |config| {
            config.exit_after_auth = true;
            config.auto_auth.as_mut().unwrap().sinks = vec![sink];
        },
    )
    .await;
    let ending = rig.leasehold.ending().await;
    assert!(matches!(ending, Ending::AuthDone), "{ending:?}");
    let token = std::fs::read_to_string(&path).unwrap();
    assert!(rig.vault.is_token_alive(&token));
    assert_eq!(rig.asked("PUT", LOGIN), 3);
}

#[tokio::test(start_paused = true)]
async fn quit_ends_and_answers() {
    let rig = Rig::new().await;
    let client: Client = rig.client();
    for _ in 0..2 {
        let reply = client.raw("POST", "/agent/v1/quit", None).await.unwrap();
        assert_eq!(reply.status, 200);
    }
    assert!(matches!(rig.leasehold.ending().await, Ending::Quit));
    assert!(rig.leasehold.stop().await);
}
