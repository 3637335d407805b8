//! Lives on the paused clock: what ends when, and what ends with it.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::time::advance;

use super::{DevVault, Options, TokenWish};
use crate::secret::Secret;

const SECOND: Duration = Duration::from_secs(1);

fn vault() -> DevVault {
    DevVault::new(&Options {
        lease_ttl: SECOND * 6,
        lease_max_ttl: SECOND * 18,
        token_ttl: SECOND * 8,
        token_max_ttl: SECOND * 16,
        ..Options::default()
    })
}

async fn ask(
    vault: &DevVault,
    token: &Secret,
    method: &str,
    target: &str,
    body: Value,
) -> (u16, Value) {
    use http_body_util::BodyExt;
    let request = http::Request::builder()
        .method(method)
        .uri(target)
        .header("x-vault-token", token.expose())
        .body(http_body_util::Full::<bytes::Bytes>::from(
            if body.is_null() {
                String::new()
            } else {
                body.to_string()
            },
        ))
        .unwrap();
    let response = vault.answer(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn login(vault: &DevVault) -> Secret {
    let body = json!({"role_id": vault.role_id(), "secret_id": vault.secret_id().expose()});
    let (status, answer) = ask(
        vault,
        &Secret::new(""),
        "POST",
        "/v1/auth/approle/login",
        body,
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    Secret::new(answer["auth"]["client_token"].as_str().unwrap())
}

async fn credential(vault: &DevVault, token: &Secret) -> (String, String) {
    let (status, answer) = ask(
        vault,
        token,
        "GET",
        "/v1/database/creds/app-readonly",
        Value::Null,
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&answer["lease_id"]), text(&answer["data"]["username"]))
}

async fn renew(vault: &DevVault, token: &Secret, lease: &str) -> (u16, Value) {
    ask(
        vault,
        token,
        "PUT",
        "/v1/sys/leases/renew",
        json!({"lease_id": lease}),
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn a_credential_dies_with_its_lease_to_the_millisecond() {
    let vault = vault();
    let (lease, user) = credential(&vault, &vault.root_token()).await;
    assert!(user.starts_with("v-root-app-read-"), "{user}");
    advance(SECOND * 6 - Duration::from_millis(1)).await;
    assert!(vault.is_user_alive(&user) && vault.is_lease_alive(&lease));
    advance(Duration::from_millis(1)).await;
    assert!(!vault.is_user_alive(&user) && !vault.is_lease_alive(&lease));
    assert_eq!(
        renew(&vault, &vault.root_token(), &lease).await.1["errors"][0],
        "lease not found"
    );
}

#[tokio::test(start_paused = true)]
async fn renewals_are_capped_by_the_maximum_and_then_refused() {
    let vault = vault();
    let root = vault.root_token();
    let (lease, user) = credential(&vault, &root).await;
    let mut grants = Vec::new();
    for _ in 0..4 {
        advance(SECOND * 4).await;
        grants.push(
            renew(&vault, &root, &lease).await.1["lease_duration"]
                .as_u64()
                .unwrap(),
        );
    }
    assert_eq!(grants, [6, 6, 6, 2]);
    advance(SECOND * 2).await;
    assert_eq!(renew(&vault, &root, &lease).await.0, 400);
    assert!(!vault.is_user_alive(&user));
}

#[tokio::test(start_paused = true)]
async fn a_lease_dies_with_its_token_and_a_token_with_its_parent() {
    let vault = vault();
    let token = login(&vault).await;
    let parent = vault
        .token(TokenWish {
            ttl: SECOND * 4,
            ..TokenWish::default()
        })
        .await
        .unwrap();
    vault
        .root(
            "POST",
            "/v1/sys/policies/acl/app",
            json!({"policy": "path \"*\" { capabilities = [\"read\", \"update\", \"sudo\"] }"}),
        )
        .await;
    let child = vault
        .token(TokenWish {
            parent: Some(parent.clone()),
            ..TokenWish::default()
        })
        .await
        .unwrap();
    let orphan = vault
        .token(TokenWish {
            parent: Some(parent.clone()),
            orphan: true,
            ..TokenWish::default()
        })
        .await
        .unwrap();
    advance(SECOND * 3).await;
    let (_, of_child) = credential(&vault, &child).await;
    let (_, of_login) = credential(&vault, &token).await;
    assert_eq!(vault.live_credentials("app-readonly"), 2);
    advance(SECOND).await;
    assert!(!vault.is_token_alive(parent.expose()) && !vault.is_token_alive(child.expose()));
    assert!(vault.is_token_alive(orphan.expose()));
    assert!(!vault.is_user_alive(&of_child) && vault.is_user_alive(&of_login));
    advance(SECOND * 4).await;
    assert!(!vault.is_token_alive(token.expose()));
    assert_eq!(vault.live_credentials("app-readonly"), 0);
    assert_eq!(
        vault.minted("app-readonly"),
        super::Minted {
            most_at_once: 2,
            total: 2
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_tokens_renewals_end_at_its_maximum() {
    let vault = vault();
    let token = login(&vault).await;
    let mut grants = Vec::new();
    for _ in 0..3 {
        advance(SECOND * 5).await;
        let (status, answer) = ask(
            &vault,
            &token,
            "POST",
            "/v1/auth/token/renew-self",
            Value::Null,
        )
        .await;
        grants.push((
            status,
            answer["auth"]["lease_duration"].as_u64().unwrap_or(0),
            answer["warnings"].is_array(),
        ));
    }
    assert_eq!(grants, [(200, 8, false), (200, 6, true), (200, 1, true)]);
    advance(SECOND).await;
    assert_eq!(
        ask(
            &vault,
            &token,
            "GET",
            "/v1/auth/token/lookup-self",
            Value::Null
        )
        .await
        .0,
        403
    );
}

#[tokio::test(start_paused = true)]
async fn a_periodic_token_lives_as_long_as_it_is_renewed() {
    let vault = vault();
    let token = vault
        .token(TokenWish {
            period: SECOND * 10,
            ..TokenWish::default()
        })
        .await
        .unwrap();
    for _ in 0..20 {
        advance(SECOND * 9).await;
        let (_, answer) = ask(
            &vault,
            &token,
            "PUT",
            "/v1/auth/token/renew-self",
            json!({"increment": 1}),
        )
        .await;
        assert_eq!(answer["auth"]["lease_duration"], 10);
    }
    advance(SECOND * 10).await;
    assert!(!vault.is_token_alive(token.expose()));
}

#[tokio::test(start_paused = true)]
async fn each_form_of_revocation_ends_what_it_names() {
    for (verb, body) in [
        ("sys/leases/revoke", json!({"lease_id": "<lease>"})),
        (
            "sys/leases/revoke",
            json!({"lease_id": "<lease>", "sync": false}),
        ),
        ("sys/leases/revoke/<lease>", Value::Null),
        ("sys/leases/revoke-prefix/database/creds", Value::Null),
        ("sys/leases/revoke-prefix/<lease>", Value::Null),
        (
            "sys/leases/revoke-force/database/creds/app-readonly",
            json!({}),
        ),
        ("auth/token/revoke", json!({"token": "<token>"})),
        ("auth/token/revoke-orphan", json!({"token": "<token>"})),
        (
            "auth/token/revoke-accessor",
            json!({"accessor": "<accessor>"}),
        ),
        ("sys/leases/revoke-prefix/auth/approle/", Value::Null),
        ("sys/leases/revoke-prefix/auth/approle", Value::Null),
    ] {
        let vault = vault();
        let token = login(&vault).await;
        let (_, own) = ask(
            &vault,
            &token,
            "GET",
            "/v1/auth/token/lookup-self",
            Value::Null,
        )
        .await;
        let (lease, user) = credential(&vault, &token).await;
        let fill = |text: &str| {
            text.replace("<lease>", &lease)
                .replace("<token>", token.expose())
                .replace("<accessor>", own["data"]["accessor"].as_str().unwrap())
        };
        let body: Value = serde_json::from_str(&fill(&body.to_string())).unwrap();
        let (status, _) = vault
            .root("PUT", &format!("/v1/{}", fill(verb)), body)
            .await;
        let slashed = verb.ends_with('/');
        assert_eq!(vault.is_user_alive(&user), slashed, "{verb}: {status}");
        assert_eq!(status.is_success(), !slashed, "{verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn unmounting_revokes_and_uses_run_out() {
    let vault = vault();
    let (_, user) = credential(&vault, &vault.root_token()).await;
    vault
        .root("DELETE", "/v1/sys/mounts/database", Value::Null)
        .await;
    assert!(!vault.is_user_alive(&user));
    let token = vault
        .token(TokenWish {
            num_uses: 2,
            ..TokenWish::default()
        })
        .await
        .unwrap();
    let statuses = [
        ask(&vault, &token, "GET", "/v1/kv/app/config", Value::Null)
            .await
            .0,
        ask(
            &vault,
            &token,
            "GET",
            "/v1/secret/data/forbidden/of/mine",
            Value::Null,
        )
        .await
        .0,
        ask(&vault, &token, "GET", "/v1/kv/app/config", Value::Null)
            .await
            .0,
    ];
    assert_eq!(statuses, [200, 403, 403]);
}

#[tokio::test(start_paused = true)]
async fn a_static_credential_rotates_in_its_time() {
    let vault = vault();
    let read = async || {
        let (_, answer) = vault
            .root("GET", "/v1/database/static-creds/app-static", Value::Null)
            .await;
        let data = &answer["data"];
        (
            data["password"].as_str().unwrap().to_owned(),
            data["ttl"].as_u64().unwrap(),
        )
    };
    let (first, _) = read().await;
    advance(SECOND * 59).await;
    assert_eq!(read().await, (first.clone(), 1));
    assert!(vault.may_log_in("app-static", &first));
    advance(SECOND * 70).await;
    let (second, ttl) = read().await;
    assert!(second != first && ttl == 51, "{ttl}");
    vault
        .root("POST", "/v1/database/rotate-role/app-static", Value::Null)
        .await;
    assert!(read().await.0 != second && !vault.may_log_in("app-static", &second));
}

#[tokio::test(start_paused = true)]
async fn batch_tokens_cannot_be_renewed_or_revoked_and_cap_their_leases() {
    let vault = vault();
    let fields = json!({"type": "batch", "policies": ["app"], "ttl": "3s"});
    let (_, answer) = vault.root("POST", "/v1/auth/token/create", fields).await;
    let token = Secret::new(answer["auth"]["client_token"].as_str().unwrap());
    assert!(token.expose().starts_with("hvb.") && answer["auth"]["accessor"] == "");
    let (lease, user) = credential(&vault, &token).await;
    assert_eq!(renew(&vault, &token, &lease).await.1["lease_duration"], 3);
    for verb in ["renew-self", "revoke-self"] {
        let (status, _) = ask(
            &vault,
            &token,
            "POST",
            &format!("/v1/auth/token/{verb}"),
            Value::Null,
        )
        .await;
        assert_eq!(status, 400);
    }
    advance(SECOND * 3).await;
    assert!(!vault.is_user_alive(&user) && !vault.is_token_alive(token.expose()));
}

#[tokio::test(start_paused = true)]
async fn a_secret_id_has_uses_and_an_end() {
    let vault = DevVault::new(&Options {
        secret_id_num_uses: 1,
        secret_id_ttl: SECOND * 10,
        ..Options::default()
    });
    login(&vault).await;
    let body = json!({"role_id": vault.role_id(), "secret_id": vault.secret_id().expose()});
    assert_eq!(
        vault.root("POST", "/v1/auth/approle/login", body).await.0,
        400
    );
    let late = vault.new_secret_id();
    advance(SECOND * 10).await;
    let body = json!({"role_id": vault.role_id(), "secret_id": late.expose()});
    assert_eq!(
        vault.root("POST", "/v1/auth/approle/login", body).await.0,
        400
    );
}
