//! Revocations through us, in every form: what they end is not served once the answer is there.

use http::StatusCode;
use leasehold::dev::{Fault, TokenWish};
use serde_json::{Value, json};

use crate::support::{CREDS, Client, KV2, Reply, Rig, leases_of, millis, pass, seconds};

/// A lease, its reader, and the one who revokes.
struct Scene {
    rig: Rig,
    root: Client,
    first: Reply,
}

impl Scene {
    async fn new(renewed_by_client: bool) -> Self {
        let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
        let root = rig.bearing(rig.vault.root_token().expose());
        let first = rig.get(CREDS).await;
        assert_eq!(rig.get(CREDS).await.cache(), "HIT");
        if renewed_by_client {
            pass(seconds(10)).await;
            let renew = json!({ "lease_id": first.at("/lease_id"), "increment": 300 });
            let renewed = root.put("sys/leases/renew", renew).await;
            assert_eq!(renewed.status, 200, "{}", renewed.json());
        }
        Self { rig, root, first }
    }

    /// Whoever reads now gets one that works.
    async fn assert_replaced(&self, what: &str) {
        let next = self.rig.get(CREDS).await;
        let (user, password) = next.user();
        assert!(
            self.rig.vault.may_log_in(&user, &password),
            "dead after {what}"
        );
        assert_ne!(next.user(), self.first.user(), "{what}");
        assert_eq!(next.cache(), "MISS", "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_every_form() {
    for renewed_by_client in [false, true] {
        for method in ["PUT", "POST"] {
            for (path, body) in [
                ("sys/leases/revoke", json!({ "lease_id": "LEASE" })),
                (
                    "sys/leases/revoke",
                    json!({ "lease_id": "LEASE", "sync": true }),
                ),
                (
                    "sys/leases/revoke",
                    json!({ "lease_id": "LEASE", "sync": false }),
                ),
                ("sys/leases/revoke/LEASE", Value::Null),
                ("sys/leases/revoke/LEASE", json!({ "sync": false })),
                ("sys/leases/revoke-prefix/database", Value::Null),
                (
                    "sys/leases/revoke-prefix/database/creds/app-readonly",
                    json!({ "sync": true }),
                ),
                (
                    "sys/leases/revoke-force/database/creds/app-readonly",
                    Value::Null,
                ),
            ] {
                let scene = Scene::new(renewed_by_client).await;
                let lease = scene.first.at("/lease_id");
                let path = path.replace("LEASE", &lease);
                let body: Value =
                    serde_json::from_str(&body.to_string().replace("LEASE", &lease)).unwrap();
                let reply = scene.root.send(method, &path, body.clone()).await;
                let what = format!("{method} {path} {body}: {}", reply.status);
                assert!(reply.status.is_success(), "{what}");
                scene.assert_replaced(&what).await;
                // The scheduler has nothing to do with it any more.
                scene.rig.vault.log().clear();
                assert_eq!(scene.rig.status().await["leases"]["count"], 1, "{what}");
            }
        }
    }
}

/// The paths of older servers; the development Vault, as its model, has them no more.
#[tokio::test(start_paused = true)]
async fn a_lease_by_the_old_paths() {
    for (path, body) in [
        ("sys/revoke", json!({ "lease_id": "LEASE" })),
        ("sys/revoke/LEASE", Value::Null),
        ("sys/revoke-prefix/database/creds", Value::Null),
        ("sys/revoke-force/database", Value::Null),
    ] {
        let scene = Scene::new(false).await;
        let lease = scene.first.at("/lease_id");
        let revoke = json!({ "lease_id": lease });
        scene.rig.root("PUT", "sys/leases/revoke", revoke).await;
        let done = Fault::on("PUT", "/v1/sys/revoke*").answer(StatusCode::NO_CONTENT, "");
        scene.rig.fault(done);
        let body = body.to_string().replace("LEASE", &lease);
        let body: Value = serde_json::from_str(&body).unwrap();
        let path = path.replace("LEASE", &lease);
        assert_eq!(scene.root.put(&path, body).await.status, 204);
        scene.assert_replaced(&path).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_revocation_ends_nothing() {
    let scene = Scene::new(false).await;
    let lease = scene.first.at("/lease_id");
    let nobody = scene.rig.stranger().await;
    let refused = nobody
        .put(&format!("sys/leases/revoke-prefix/{CREDS}"), Value::Null)
        .await;
    assert_eq!(refused.status, 403);
    assert_eq!(scene.rig.get(CREDS).await.cache(), "HIT");
    let unknown = json!({ "lease_id": "database/creds/app-readonly/unknown" });
    scene.root.put("sys/leases/revoke", unknown).await;
    let other = json!({ "lease_id": lease.replace("database", "elsewhere") });
    scene.root.put("sys/leases/revoke", other).await;
    assert_eq!(scene.rig.get(CREDS).await.user(), scene.first.user());
}

/// A read that began before a revocation of all its kind may have brought what that ended.
#[tokio::test(start_paused = true)]
async fn a_credential_made_before_a_revocation_is_not_kept() {
    let rig = Rig::new().await;
    let root = rig.bearing(rig.vault.root_token().expose());
    rig.fault(
        Fault::on("GET", &format!("/v1/{CREDS}"))
            .late(seconds(2))
            .times(1),
    );
    let reading = rig.start("GET", CREDS, Value::Null);
    pass(seconds(1)).await;
    let prefix = "sys/leases/revoke-prefix/database";
    assert!(root.put(prefix, Value::Null).await.status.is_success());
    let dead = reading.await.unwrap().user();
    assert!(!rig.vault.may_log_in(&dead.0, &dead.1));
    let (user, password) = rig.get(CREDS).await.user();
    assert!(rig.vault.may_log_in(&user, &password));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_whose_answer_is_lost_counts() {
    let scene = Scene::new(false).await;
    let lease = json!({ "lease_id": scene.first.at("/lease_id") });
    scene
        .rig
        .fault(Fault::on("PUT", "*").cut_after_processing().times(1));
    assert_eq!(
        scene
            .root
            .put("sys/leases/revoke", lease.clone())
            .await
            .status,
        502
    );
    scene.assert_replaced("a cut").await;

    let scene = Scene::new(false).await;
    let lease = json!({ "lease_id": scene.first.at("/lease_id") });
    scene
        .rig
        .fault(Fault::on("PUT", "*").late(seconds(9)).times(1));
    let revoking = scene.root.start("PUT", "sys/leases/revoke", lease);
    pass(millis(10)).await;
    revoking.abort();
    pass(millis(10)).await;
    scene.assert_replaced("a hang-up").await;
}

/// How a token is ended, by whom, and whether its children end with it.
#[tokio::test(start_paused = true)]
async fn a_token_in_every_form() {
    let forms = [
        ("auth/token/revoke", json!({ "token": "TOKEN" })),
        (
            "auth/token/revoke-accessor",
            json!({ "accessor": "ACCESSOR" }),
        ),
        ("auth/token/revoke-orphan", json!({ "token": "TOKEN" })),
        ("auth/token/revoke-self", Value::Null),
    ];
    for made_by_us in [false, true] {
        for method in ["PUT", "POST"] {
            for (path, body) in &forms {
                let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
                let root = rig.bearing(rig.vault.root_token().expose());
                let token = if made_by_us {
                    let wish = json!({ "policies": ["app"], "ttl": "1h" });
                    let made = root.post("auth/token/create", wish).await;
                    assert_eq!(made.status, 200, "{}", made.json());
                    made.at("/auth/client_token")
                } else {
                    rig.token(TokenWish::default()).await
                };
                let looked_up = rig
                    .root("POST", "auth/token/lookup", json!({ "token": token }))
                    .await;
                let accessor = looked_up["data"]["accessor"].as_str().unwrap();
                let owner = rig.bearing(&token);
                let dead = owner.get(CREDS).await.user();
                owner.get(KV2).await;
                assert_eq!(owner.get(CREDS).await.cache(), "HIT");
                let others = rig.get(CREDS).await.user();
                let body = body
                    .to_string()
                    .replace("TOKEN", &token)
                    .replace("ACCESSOR", accessor);
                let body: Value = serde_json::from_str(&body).unwrap();
                let revoker = if path.ends_with("self") {
                    &owner
                } else {
                    &root
                };
                let revoked = revoker.send(method, path, body).await;
                let what = format!("{method} {path}, made by us: {made_by_us}");
                assert_eq!(revoked.status, 204, "{what}: {}", revoked.json());
                for read in [CREDS, KV2] {
                    assert_eq!(
                        owner.get(read).await.status,
                        StatusCode::FORBIDDEN,
                        "{what}"
                    );
                }
                assert!(!rig.vault.may_log_in(&dead.0, &dead.1));
                let ours = rig.get(CREDS).await;
                assert_eq!((ours.cache(), ours.user()), ("HIT", others), "{what}");
            }
        }
    }
}

/// Callers' tokens that died before Vault could be asked about them had credentials served for an hour.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_dead_when_it_is_looked_up_takes_its_credential_along() {
    let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
    let slow = Fault::on("GET", "/v1/auth/token/lookup-self").delay(seconds(8));
    rig.fault(slow);
    let wish = TokenWish {
        ttl: seconds(6),
        ..TokenWish::default()
    };
    let owner = rig.bearing(&rig.token(wish).await);
    assert_eq!(owner.get(CREDS).await.status, 200);
    pass(seconds(9)).await;
    assert_eq!(owner.get(CREDS).await.status, StatusCode::FORBIDDEN);
}

/// Whose accessor that is could not be learned: what is kept for any such token ends.
#[tokio::test(start_paused = true)]
async fn an_accessor_that_nobody_knows() {
    let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
    let root = rig.bearing(rig.vault.root_token().expose());
    let refused = Fault::on("GET", "/v1/auth/token/lookup-self");
    let by_policy = "1 error occurred:\n\t* permission denied\n\n";
    rig.fault(refused.refuse(StatusCode::FORBIDDEN, by_policy));
    let token = rig.token(TokenWish::default()).await;
    let looked_up = rig
        .root("POST", "auth/token/lookup", json!({ "token": token }))
        .await;
    let owner = rig.bearing(&token);
    let dead = owner.get(CREDS).await.user();
    pass(seconds(1)).await;
    assert_eq!(owner.get(CREDS).await.user(), dead);
    let accessor = json!({ "accessor": looked_up["data"]["accessor"] });
    assert_eq!(
        root.put("auth/token/revoke-accessor", accessor)
            .await
            .status,
        204
    );
    assert_eq!(owner.get(CREDS).await.status, StatusCode::FORBIDDEN);
}

/// The children of a token, seen as children because they were made through us.
#[tokio::test(start_paused = true)]
async fn the_parent_of_a_child() {
    for orphan in [false, true] {
        let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
        let root = rig.bearing(rig.vault.root_token().expose());
        let policy = r#"path "*" { capabilities = ["create", "read", "update", "sudo"] }"#;
        rig.root("PUT", "sys/policies/acl/app", json!({ "policy": policy }))
            .await;
        let make = |client: Client| async move {
            let wish = json!({ "policies": ["app"], "ttl": "1h" });
            let made = client.post("auth/token/create", wish).await;
            made.at("/auth/client_token")
        };
        let parent = make(root.clone()).await;
        let child = make(rig.bearing(&parent)).await;
        let grandchild = make(rig.bearing(&child)).await;
        let mut users = Vec::new();
        for token in [&parent, &child, &grandchild] {
            users.push(rig.bearing(token).get(CREDS).await.user());
        }
        let path = if orphan {
            "auth/token/revoke-orphan"
        } else {
            "auth/token/revoke"
        };
        let revoked = root.put(path, json!({ "token": parent })).await;
        assert_eq!(revoked.status, 204, "{}", revoked.json());
        for (token, user) in [&parent, &child, &grandchild].into_iter().zip(&users) {
            let is_alive = rig.vault.may_log_in(&user.0, &user.1);
            assert_eq!(is_alive, orphan && *token != parent);
            let read = rig.bearing(token).get(CREDS).await;
            assert_eq!(read.status == StatusCode::OK, is_alive, "orphan: {orphan}");
            if is_alive {
                assert_eq!(read.user(), *user);
            }
        }
    }
}

/// Our own token is revoked behind our back: one login, and what was made with it is made anew.
#[tokio::test(start_paused = true)]
async fn our_own_token() {
    let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
    let dead = rig.get(CREDS).await.user();
    let record = rig.vault.log().matching("GET", &format!("/v1/{CREDS}"));
    let ours = record[0].header("x-vault-token").unwrap().to_owned();
    rig.root("PUT", "auth/token/revoke", json!({ "token": ours }))
        .await;
    // The first that Vault is asked shows it.
    rig.get("secret/data/app/other").await;
    let (user, password) = rig.get(CREDS).await.user();
    assert!(rig.vault.may_log_in(&user, &password));
    assert_ne!((user, password), dead);
    assert_eq!(rig.asked("*", "auth/approle/login"), 2);
}

/// Through us it is not revoked, whoever asks: all who have no token would be without.
#[tokio::test(start_paused = true)]
async fn our_own_token_through_us() {
    let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
    let root = rig.bearing(rig.vault.root_token().expose());
    let user = rig.get(CREDS).await.user();
    let record = rig.vault.log().matching("GET", &format!("/v1/{CREDS}"));
    let ours = record[0].header("x-vault-token").unwrap().to_owned();
    let looked_up = rig
        .root("POST", "auth/token/lookup", json!({ "token": ours }))
        .await;
    let accessor = json!({ "accessor": looked_up["data"]["accessor"] });
    for (path, fields) in [
        ("auth/token/revoke", json!({ "token": ours })),
        ("auth/token/revoke-orphan", json!({ "token": ours })),
        ("auth/token/revoke-accessor", accessor),
        ("sys/leases/revoke-prefix/auth/approle", Value::Null),
        ("sys/leases/revoke-force/auth", Value::Null),
    ] {
        let reply = root.put(path, fields).await;
        assert_eq!(reply.status, 403, "{path}");
        assert!(
            reply
                .at("/errors/0")
                .contains("not revoked through Leasehold")
        );
    }
    assert_eq!(
        rig.put("auth/token/revoke-self", Value::Null).await.status,
        403
    );
    assert_eq!(rig.get(CREDS).await.user(), user);
    assert_eq!(rig.asked("*", "auth/approle/login"), 1);
}

/// Tokens of one auth method are revoked by the path of their logins.
#[tokio::test(start_paused = true)]
async fn all_logins_of_a_method() {
    let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
    let root = rig.bearing(rig.vault.root_token().expose());
    let stranger = rig.stranger().await;
    let theirs = stranger.get(CREDS).await.user();
    let reply = root
        .put("sys/leases/revoke-prefix/auth/token", Value::Null)
        .await;
    assert!(reply.status.is_success(), "{}", reply.json());
    assert_eq!(stranger.get(CREDS).await.status, StatusCode::FORBIDDEN);
    assert!(!rig.vault.may_log_in(&theirs.0, &theirs.1));
    let ours = rig.get(CREDS).await.user();
    assert!(rig.vault.may_log_in(&ours.0, &ours.1));
}

#[tokio::test(start_paused = true)]
async fn a_clients_renewals_reach_vault_and_move_the_end() {
    for in_path in [false, true] {
        let rig = Rig::with(leases_of(600, 6_000), |_| ()).await;
        let root = rig.bearing(rig.vault.root_token().expose());
        let lease = rig.get(CREDS).await.at("/lease_id");
        for round in 1..=6_u64 {
            pass(seconds(100)).await;
            let (path, body) = if in_path {
                (
                    format!("sys/leases/renew/{lease}"),
                    json!({ "increment": 200 }),
                )
            } else {
                (
                    "sys/leases/renew".to_owned(),
                    json!({ "lease_id": lease, "increment": 200 }),
                )
            };
            let renewed = root.put(&path, body).await;
            assert_eq!(renewed.cache(), "-");
            assert_eq!(rig.asked("PUT", "sys/leases/renew*"), round);
            let granted = renewed.number("/lease_duration");
            let hit = rig.get(CREDS).await;
            assert_eq!(hit.cache(), "HIT");
            assert_eq!(
                (hit.at("/lease_id"), hit.number("/lease_duration")),
                (lease.clone(), granted)
            );
        }
    }
}

/// Told by its own renewals that max TTL comes near, and served a new one before the old one dies.
#[tokio::test(start_paused = true)]
async fn a_client_that_renews_itself_is_served_the_next_one_in_time() {
    let rig = Rig::with(leases_of(10, 20), |_| ()).await;
    let root = rig.bearing(rig.vault.root_token().expose());
    let mut told = Vec::new();
    let mut renewals = 0;
    for second in 0..120_u64 {
        let reply = rig.get(CREDS).await;
        let (user, password) = reply.user();
        assert!(rig.vault.may_log_in(&user, &password), "dead at {second} s");
        if second % 5 == 4 {
            let before = rig.asked("POST", "sys/leases/renew");
            let renew = json!({ "lease_id": reply.at("/lease_id") });
            let renewed = root.post("sys/leases/renew", renew).await;
            assert_eq!(rig.asked("POST", "sys/leases/renew"), before + 1);
            renewals += 1;
            told.push(renewed.number("/lease_duration"));
        }
        pass(seconds(1)).await;
    }
    assert_eq!(renewals, 24);
    assert!(told.iter().any(|left| *left < 10), "{told:?}");
}
