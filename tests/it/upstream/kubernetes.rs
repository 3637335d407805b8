//! The login by Kubernetes, against the development Vault and its cluster.

use std::path::Path;

use leasehold::config::{AutoAuth, Kubernetes, Method};
use leasehold::dev::Options;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{CREDS, KV2, Rig, pass, seconds};

const LOGIN: &str = "auth/kubernetes/login";

pub(super) fn by(role: &str, token_path: &Path, auth: &AutoAuth) -> AutoAuth {
    AutoAuth {
        method: Method::Kubernetes(Kubernetes {
            role: role.to_owned(),
            token_path: token_path.to_owned(),
        }),
        mount_path: "auth/kubernetes".to_owned(),
        ..auth.clone()
    }
}

fn put(path: &Path, token: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, token).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Tokens of Vault live two minutes, those of the cluster half an hour; the kubelet renews its file every
/// 20 minutes. Nobody notices for a day.
#[tokio::test(start_paused = true)]
async fn a_day_with_tokens_that_the_cluster_renews() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let options = Options {
        token_ttl: seconds(120),
        token_max_ttl: seconds(240),
        ..Options::default()
    };
    let rig = Rig::not_logged_in(
        &options,
        |vault| {
            let token = vault.service_account_token(seconds(1_800));
            put(&path, &format!("{}\n", token.expose()));
        },
        |config| {
            let auth = by("app", &path, config.auto_auth.as_ref().unwrap());
            config.auto_auth = Some(auth);
        },
    )
    .await;
    rig.leasehold.authenticated().await;
    for minute in 0..24 * 60 {
        if minute % 20 == 19 {
            let token = rig.vault.service_account_token(seconds(1_800));
            put(&path, token.expose());
        }
        let read = rig.get(&format!("{KV2}?minute={minute}")).await;
        assert_eq!(read.status, 200, "{minute}: {}", read.json());
        let (user, password) = rig.get(CREDS).await.user();
        assert!(rig.vault.may_log_in(&user, &password), "{minute}");
        pass(seconds(60)).await;
    }
    let status = rig.status().await;
    assert_eq!(status["auth"]["method"], "kubernetes");
    assert_eq!(status["auth"]["failures"], 0, "{status}");
    assert!(rig.asked("PUT", LOGIN) > 300);
    assert_eq!(rig.asked("*", "auth/approle/login"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_took_back_is_refused_until_there_is_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let rig = Rig::not_logged_in(
        &Options::default(),
        |vault| {
            put(&path, vault.service_account_token(seconds(3_600)).expose());
            vault.end_service_account_tokens();
        },
        |config| {
            let auth = by("app", &path, config.auto_auth.as_ref().unwrap());
            config.auto_auth = Some(auth);
        },
    )
    .await;
    pass(seconds(60)).await;
    let error = |status: &Value| status["auth"]["last_error"]["text"].to_string();
    let said = error(&rig.status().await);
    for part in [
        path.to_str().unwrap(),
        r#"the role \"app\""#,
        "system:serviceaccount:default:app",
        "could not have the token reviewed",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let jwt = std::fs::read_to_string(&path).unwrap();
    let signature = jwt.rsplit('.').next().unwrap();
    let metrics = rig.raw("GET", "/agent/v1/metrics", None).await.unwrap();
    for told in [&rig.status().await.to_string(), &format!("{metrics:?}")] {
        assert!(!told.contains(signature));
    }
    // One that is over by its own word is told from one that was taken back.
    put(&path, rig.vault.service_account_token(seconds(1)).expose());
    pass(seconds(300)).await;
    let said = error(&rig.status().await);
    assert!(said.contains("token that is over"), "{said}");
    put(
        &path,
        rig.vault.service_account_token(seconds(3_600)).expose(),
    );
    let ready = timeout(seconds(600), rig.leasehold.authenticated());
    ready.await.unwrap();
    assert_eq!(rig.get(KV2).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_not_there_or_is_bound_to_others_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    for (role, part) in [
        ("none", "such a role at this mount path"),
        ("elsewhere", "bound_service_account_namespaces"),
        ("audience", "expects another audience"),
    ] {
        let rig = Rig::not_logged_in(
            &Options::default(),
            |vault| put(&path, vault.service_account_token(seconds(3_600)).expose()),
            |config| {
                let auth = by(role, &path, config.auto_auth.as_ref().unwrap());
                config.auto_auth = Some(auth);
            },
        )
        .await;
        for (name, namespaces, audience) in
            [("elsewhere", "kube-system", ""), ("audience", "*", "vault")]
        {
            let fields = serde_json::json!({
                "bound_service_account_names": "app",
                "bound_service_account_namespaces": namespaces,
                "audience": audience,
            });
            let path = format!("auth/kubernetes/role/{name}");
            rig.root("PUT", &path, fields).await;
        }
        pass(seconds(60)).await;
        let said = rig.status().await["auth"]["last_error"]["text"].to_string();
        assert!(said.contains(part), "{said}");
        assert!(said.contains(&format!(r#"the role \"{role}\""#)), "{said}");
    }
}
