//! What a real OpenBao 2.6 answers, call by call, and what this server must therefore answer.
//!
//! The table was taken down from a real server; what differs from run to run stands as `~`.

#![cfg(test)]

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, STRICT_TRANSPORT_SECURITY};
use http_body_util::BodyExt;
use http_body_util::Full;

use super::{Body, DevVault, Options};
use crate::secret::Secret;

const OK: &str = r#"{"request_id":"~","lease_id":"","renewable":false,"lease_duration":0,"data":"#;
const END: &str = r#","wrap_info":null,"warnings":null,"auth":null}"#;
const WRITTEN: &str = r#"{"created_time":"~","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1}"#;

fn vault() -> DevVault {
    DevVault::new(&Options {
        root_token: Some(Secret::new("root")),
        ..Options::default()
    })
}

async fn ask(
    vault: &DevVault,
    method: &str,
    target: &str,
    token: &str,
    body: &str,
) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("x-vault-token", token)
        .header("content-type", "application/merge-patch+json")
        .body(Full::<Bytes>::from(body.to_owned()))
        .unwrap();
    let response: Response<Body> = vault.answer(request).await.unwrap();
    if !response.status().is_redirection() {
        let headers = response.headers();
        assert_eq!(
            headers[CONTENT_TYPE], "application/json",
            "{method} {target}"
        );
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert_eq!(
            headers[STRICT_TRANSPORT_SECURITY],
            "max-age=31536000; includeSubDomains"
        );
        assert!(!headers.contains_key(CONTENT_LENGTH), "the server adds it");
    }
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Puts `~` for the values of fields that differ from run to run.
fn plain(answer: &str) -> String {
    let mut plain = answer.to_owned();
    for field in [
        "request_id",
        "created_time",
        "updated_time",
        "accessor",
        "client_token",
        "issue_time",
        "expire_time",
        "username",
        "password",
        "last_vault_rotation",
        "lease_id",
        "id",
        "token",
        "creation_time",
        "entity_id",
        "secret_id",
        "secret_id_accessor",
        "wrapped_accessor",
        "ciphertext",
        "random_bytes",
        "uuid",
        "access_key",
        "secret_key",
        "security_token",
    ] {
        let start = format!("\"{field}\":\"");
        let mut parts = plain.split(&start);
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (value, rest) = part.split_once('"').unwrap();
            let shown = if value.is_empty() { "" } else { "~" };
            masked.push_str(&format!("{start}{shown}\"{rest}"));
        }
        plain = masked;
    }
    plain
}

fn data(data: &str) -> String {
    format!("{OK}{data}{END}\n")
}

fn errors(text: &str) -> String {
    format!("{}\n", serde_json::json!({ "errors": [text] }))
}

fn listed(text: &str) -> String {
    errors(&format!("1 error occurred:\n\t* {text}\n\n"))
}

/// Each call of the table in turn, on one server.
async fn check(vault: &DevVault, token: &str, table: &[(&str, &str, &str, u16, String)]) {
    for (method, target, body, status, expected) in table {
        let (got_status, got) = ask(vault, method, target, token, body).await;
        assert_eq!(
            (got_status.as_u16(), plain(&got)),
            (*status, expected.clone()),
            "{method} {target} {body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn kv_version_2() {
    let none = || "{\"errors\":[]}\n".to_owned();
    check(&vault(), "root", &[
        ("GET", "/v1/secret/data/a/b", "", 404, none()),
        ("POST", "/v1/secret/data/a/b", r#"{"data":{"n":1.5,"s":"<x>","z":null}}"#, 200, data(WRITTEN)),
        ("GET", "/v1/secret/data/a/b", "", 200, data(&format!(r#"{{"data":{{"n":1.5,"s":"\u003cx\u003e","z":null}},"metadata":{WRITTEN}}}"#))),
        ("GET", "/v1/secret/data/a/b?version=9", "", 404, none()),
        ("GET", "/v1/secret/data/a/b?version=x", "", 400, errors("Field validation failed: error converting input for field \"version\": '' cannot parse value as 'int': strconv.ParseInt: invalid syntax")),
        ("PUT", "/v1/secret/data/a/b", r#"{"data":{},"options":{"cas":0}}"#, 400, errors("check-and-set parameter did not match the current version")),
        ("PUT", "/v1/secret/data/a/b", r#"{"n":2}"#, 400, errors("no data provided")),
        ("PUT", "/v1/secret/data/a/b", r#"{"data":"x"}"#, 400, errors("error converting input for field \"data\": '' expected type 'map[string]interface {}', got unconvertible type 'string'")),
        ("PUT", "/v1/secret/data/a/b", "{", 400, errors("failed to decode JSON input: unexpected EOF")),
        ("PATCH", "/v1/secret/data/a/none", r#"{"data":{"m":3}}"#, 404, String::new()),
        ("LIST", "/v1/secret/metadata/a", "", 200, data(r#"{"keys":["b"]}"#)),
        ("GET", "/v1/secret/metadata/a?list=true", "", 200, data(r#"{"keys":["b"]}"#)),
        ("GET", "/v1/secret/metadata/a?list=x", "", 400, none()),
        ("LIST", "/v1/secret/metadata/zz", "", 404, none()),
        ("LIST", "/v1/secret/data", "", 405, listed("unsupported operation")),
        ("GET", "/v1/secret/subkeys/a/b", "", 200, data(&format!(r#"{{"metadata":{WRITTEN},"subkeys":{{"n":null,"s":null,"z":null}}}}"#))),
        ("POST", "/v1/secret/data/a/", r#"{"data":{}}"#, 400, errors("cannot write to a path ending in '/'")),
        ("DELETE", "/v1/secret/data/a/b", "", 204, String::new()),
        ("POST", "/v1/secret/undelete/a/b", r#"{"versions":[1]}"#, 204, String::new()),
        ("POST", "/v1/secret/undelete/a/b", "{}", 400, errors("No version number provided")),
        ("PUT", "/v1/secret/destroy/a/b", r#"{"versions":"1"}"#, 204, String::new()),
        ("DELETE", "/v1/secret/metadata/a/b", "", 204, String::new()),
        ("GET", "/v1/secret/metadata/a/b", "", 404, none()),
        ("OPTIONS", "/v1/secret/data/a/b", "", 400, errors("cannot handle internal-only request operation")),
        ("FOO", "/v1/secret/data/a/b", "", 405, none()),
        ("GET", "/v1/nope/x", "", 404, errors("no handler for route \"nope/x\". route entry not found.")),
    ]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_version_is_404_with_its_metadata_and_no_newline() {
    let vault = vault();
    ask(
        &vault,
        "POST",
        "/v1/secret/data/d",
        "root",
        r#"{"data":{"a":1}}"#,
    )
    .await;
    ask(&vault, "DELETE", "/v1/secret/data/d", "root", "").await;
    let (status, body) = ask(&vault, "GET", "/v1/secret/data/d", "root", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        body.contains(r#""data":{"data":null,"metadata":{"#) && body.ends_with('}'),
        "{body}"
    );
}

#[tokio::test(start_paused = true)]
async fn kv_version_1_and_cubbyhole() {
    let hint = |seconds, data: &str| {
        let start = OK.replace(
            "\"lease_duration\":0",
            &format!("\"lease_duration\":{seconds}"),
        );
        format!("{start}{data}{END}\n")
    };
    check(
        &vault(),
        "root",
        &[
            (
                "PUT",
                "/v1/kv/a",
                r#"{"x":1,"ttl":"30s"}"#,
                204,
                String::new(),
            ),
            (
                "GET",
                "/v1/kv/a",
                "",
                200,
                hint(30, r#"{"ttl":"30s","x":1}"#),
            ),
            (
                "PUT",
                "/v1/kv/b/c",
                r#"{"x":12345678901234567890}"#,
                204,
                String::new(),
            ),
            (
                "GET",
                "/v1/kv/b/c",
                "",
                200,
                hint(2_764_800, r#"{"x":12345678901234567890}"#),
            ),
            (
                "LIST",
                "/v1/kv",
                "",
                200,
                data(r#"{"keys":["a","app/","b/"]}"#),
            ),
            ("POST", "/v1/kv/a", "{}", 400, errors("missing data fields")),
            (
                "PATCH",
                "/v1/kv/a",
                "{}",
                405,
                listed("unsupported operation"),
            ),
            (
                "POST",
                "/v1/cubbyhole/a",
                r#"{"k":"v"}"#,
                204,
                String::new(),
            ),
            ("GET", "/v1/cubbyhole/a", "", 200, data(r#"{"k":"v"}"#)),
            (
                "POST",
                "/v1/cubbyhole/a",
                "{}",
                500,
                listed("missing data fields"),
            ),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_is_told_apart_from_who_is_unknown() {
    let vault = vault();
    let token = vault.token(super::TokenWish::default()).await.unwrap();
    let denied = listed("permission denied");
    check(
        &vault,
        "",
        &[(
            "GET",
            "/v1/secret/data/x",
            "",
            403,
            errors("permission denied"),
        )],
    )
    .await;
    check(
        &vault,
        "bad",
        &[("GET", "/v1/nope", "", 403, errors("permission denied"))],
    )
    .await;
    check(&vault, token.expose(), &[
        ("GET", "/v1/secret/data/forbidden/other", "", 403, denied.clone()),
        ("GET", "/v1/nope", "", 403, denied.clone()),
        ("GET", "/v1/sys/mounts", "", 403, denied.clone()),
        ("POST", "/v1/auth/token/create", "{}", 403, denied.clone()),
        ("HEAD", "/v1/secret/data/app/config", "", 403, denied),
        ("POST", "/v1/sys/capabilities-self", r#"{"path":"kv/app/x"}"#, 200,
            format!(r#"{{"capabilities":["create","delete","list","read","update"],"kv/app/x":["create","delete","list","read","update"],{}"#,
                data(r#"{"capabilities":["create","delete","list","read","update"],"kv/app/x":["create","delete","list","read","update"]}"#).trim_start_matches('{'))),
    ]).await;
}

#[tokio::test(start_paused = true)]
async fn tokens() {
    let auth = |policies: &str, rest: &str| {
        format!(
            r#"{OK}null,"wrap_info":null,"warnings":null,"auth":{{"client_token":"~","accessor":"~","policies":{policies},"token_policies":{policies},{rest},"entity_id":"","token_type":"service","orphan":false,"mfa_requirement":null,"num_uses":0}}}}"#
        ) + "\n"
    };
    let vault = vault();
    check(&vault, "root", &[
        ("POST", "/v1/auth/token/create", r#"{"policies":["app"],"ttl":"1h","meta":{"a":"b"}}"#, 200,
            auth(r#"["app","default"]"#, r#""metadata":{"a":"b"},"lease_duration":3600,"renewable":true"#)),
        ("POST", "/v1/auth/token/create", "", 200, auth(r#"["root"]"#, r#""metadata":null,"lease_duration":0,"renewable":false"#)),
        ("POST", "/v1/auth/token/create", r#"{"policies":["app"],"ttl":"10s","explicit_max_ttl":"5s"}"#, 200,
            auth(r#"["app","default"]"#, r#""metadata":null,"lease_duration":5,"renewable":true"#).replace("\"warnings\":null",
                r#""warnings":["TTL of \"10s\" exceeded the effective max_ttl of \"5s\"; TTL value is capped accordingly"]"#)),
        ("POST", "/v1/auth/token/lookup", r#"{"token":"nope"}"#, 403, errors("bad token")),
        ("POST", "/v1/auth/token/lookup-accessor", "{}", 400, listed("missing accessor")),
        ("POST", "/v1/auth/token/lookup-accessor", r#"{"accessor":"x"}"#, 400, listed("invalid accessor")),
        ("PUT", "/v1/auth/token/renew", "{}", 400, errors("missing token ID")),
        ("PUT", "/v1/auth/token/renew", r#"{"token":"x"}"#, 400, errors("token not found")),
        ("PUT", "/v1/auth/token/renew-self", "", 400, errors("lease is not renewable")),
        ("PUT", "/v1/auth/token/revoke", r#"{"token":"none"}"#, 204, String::new()),
        ("PUT", "/v1/auth/token/revoke", "{}", 400, errors("missing token ID")),
        ("PUT", "/v1/auth/token/revoke-orphan", r#"{"token":"none"}"#, 400, errors("token to revoke not found")),
        ("PUT", "/v1/auth/token/revoke-accessor", r#"{"accessor":"x"}"#, 200,
            format!("{OK}null{END}\n").replace("\"warnings\":null", r#""warnings":["No token found with this accessor"]"#)),
        ("GET", "/v1/auth/token/create", "", 405, listed("unsupported operation")),
        ("GET", "/v1/auth/token/nope", "", 404, listed("unsupported path")),
        ("POST", "/v1/auth/token/create", r#"{"id":"hvs.x"}"#, 400, errors("custom token ID cannot have the 'hvs.' prefix")),
    ]).await;
}

#[tokio::test(start_paused = true)]
async fn leases() {
    let vault = vault();
    let lease = |renewable, seconds, data: &str| {
        format!(
            r#"{{"request_id":"~","lease_id":"~","renewable":{renewable},"lease_duration":{seconds},"data":{data}{END}"#
        ) + "\n"
    };
    check(&vault, "root", &[
        ("GET", "/v1/database/creds/app-readonly", "", 200, lease(true, 30, r#"{"password":"~","username":"~"}"#)),
        ("GET", "/v1/aws/creds/app", "", 200, lease(false, 30, r#"{"access_key":"~","secret_key":"~","security_token":"~"}"#)),
        ("GET", "/v1/database/creds/none", "", 400, errors("unknown role: none")),
        ("POST", "/v1/database/creds/app-readonly", "{}", 405, listed("unsupported operation")),
        ("LIST", "/v1/database/creds", "", 404, listed("unsupported path")),
        ("GET", "/v1/database/static-creds/app-static", "", 200,
            data(r#"{"last_vault_rotation":"~","password":"~","rotation_period":60,"ttl":60,"username":"~"}"#)),
        ("POST", "/v1/database/rotate-role/none", "", 400, errors("no static role found for role name")),
        ("PUT", "/v1/sys/leases/renew", r#"{"lease_id":"none"}"#, 400, errors("lease not found")),
        ("PUT", "/v1/sys/leases/renew", "", 400, errors("lease_id must be specified")),
        ("PUT", "/v1/sys/leases/renew", r#"{"lease_id":5}"#, 400, errors("invalid lease ID")),
        ("PUT", "/v1/sys/leases/lookup", r#"{"lease_id":"none"}"#, 400, errors("invalid lease")),
        ("PUT", "/v1/sys/leases/revoke", r#"{"lease_id":"none"}"#, 204, String::new()),
        ("PUT", "/v1/sys/leases/revoke", r#"{"lease_id":"none","sync":false}"#, 202, String::new()),
        ("POST", "/v1/sys/leases/revoke/x/y", "", 204, String::new()),
        ("PUT", "/v1/sys/leases/revoke-prefix/none", "", 204, String::new()),
        ("PUT", "/v1/sys/leases/revoke-prefix/none", r#"{"sync":false}"#, 202, String::new()),
        ("PUT", "/v1/sys/leases/revoke-force/none", "", 204, String::new()),
        ("PUT", "/v1/sys/renew", r#"{"lease_id":"x"}"#, 404, listed("unsupported path")),
        ("PUT", "/v1/sys/revoke/x", "", 404, listed("unsupported path")),
        ("GET", "/v1/sys/leases/renew", "", 405, listed("unsupported operation")),
    ]).await;
}

#[tokio::test(start_paused = true)]
async fn wrapping_and_approle() {
    let vault = vault();
    let role_id = vault.role_id();
    let login = |secret_id: &str| format!(r#"{{"role_id":"{role_id}","secret_id":"{secret_id}"}}"#);
    let good = login(vault.secret_id().expose());
    let bad = login("bad");
    check(&vault, "", &[
        ("POST", "/v1/auth/approle/login", &good, 200, format!(r#"{OK}null,"wrap_info":null,"warnings":null,"auth":{{"client_token":"~","accessor":"~","policies":["app","default"],"token_policies":["app","default"],"metadata":{{"role_name":"app"}},"lease_duration":120,"renewable":true,"entity_id":"~","token_type":"service","orphan":true,"mfa_requirement":null,"num_uses":0}}}}"#) + "\n"),
        ("POST", "/v1/auth/approle/login", &bad, 400, errors("invalid role or secret ID")),
        ("POST", "/v1/auth/approle/login", r#"{"role_id":"x"}"#, 400, errors("invalid role or secret ID")),
        ("POST", "/v1/auth/approle/login", "{}", 500, errors("missing role_id")),
        ("POST", "/v1/sys/wrapping/unwrap", "", 403, errors("error validating wrapping token: token is empty")),
        ("GET", "/v1/sys/internal/ui/mounts", "", 200, data(r#"{"auth":{},"secret":{}}"#)),
        ("GET", "/v1/sys/internal/ui/mounts/secret/x", "", 403, errors("permission denied")),
    ]).await;
    let wrapping = vault
        .wrapped_secret_id(std::time::Duration::from_secs(60))
        .await
        .unwrap();
    let by_body = format!(r#"{{"token":"{}"}}"#, wrapping.expose());
    check(&vault, wrapping.expose(), &[
        ("POST", "/v1/sys/wrapping/lookup", "", 200,
            data(r#"{"creation_path":"auth/approle/role/app/secret-id","creation_time":"~","creation_ttl":60}"#)),
        ("POST", "/v1/sys/wrapping/unwrap", "", 200,
            data(r#"{"secret_id":"~","secret_id_accessor":"~","secret_id_num_uses":0,"secret_id_ttl":0}"#).trim_end().to_owned()),
        ("POST", "/v1/sys/wrapping/unwrap", "", 400, errors("wrapping token is not valid or does not exist")),
    ]).await;
    check(
        &vault,
        "root",
        &[
            (
                "POST",
                "/v1/sys/wrapping/unwrap",
                &by_body,
                400,
                errors("wrapping token is not valid or does not exist"),
            ),
            (
                "POST",
                "/v1/sys/wrapping/wrap",
                r#"{"a":1}"#,
                400,
                errors("endpoint requires response wrapping to be used"),
            ),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn sealed_it_says_so() {
    let vault = vault();
    vault.seal();
    let sealed = errors("Vault is sealed");
    check(
        &vault,
        "root",
        &[
            ("GET", "/v1/secret/data/app/config", "", 503, sealed.clone()),
            ("POST", "/v1/auth/approle/login", "{}", 503, sealed),
        ],
    )
    .await;
    let (status, body) = ask(&vault, "GET", "/v1/sys/health", "", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.starts_with(r#"{"initialized":true,"sealed":true,"standby":true,"replication_performance_mode":"unknown""#), "{body}");
    assert!(!body.contains("cluster_name"));
    let (status, _) = ask(&vault, "GET", "/v1/sys/health?sealedcode=299", "", "").await;
    assert_eq!(status.as_u16(), 299);
    vault.unseal();
    let (status, _) = ask(&vault, "GET", "/v1/sys/health", "", "").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn namespaces_by_header_and_by_path_are_one() {
    let vault = vault();
    vault
        .root("POST", "/v1/sys/namespaces/team", serde_json::Value::Null)
        .await;
    vault
        .root(
            "POST",
            "/v1/team/sys/mounts/secret",
            serde_json::json!({"type": "kv-v2"}),
        )
        .await;
    vault
        .root(
            "POST",
            "/v1/team/secret/data/x",
            serde_json::json!({"data": {"in": "team"}}),
        )
        .await;
    for namespace in ["team", "team/", "/team/"] {
        let request = Request::get("/v1/secret/data/x")
            .header("x-vault-token", "root")
            .header("x-vault-namespace", namespace);
        let response = vault
            .answer(request.body(Full::<Bytes>::default()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.headers()["x-vault-namespace"], namespace);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("team"));
    }
    check(
        &vault,
        "root",
        &[
            (
                "GET",
                "/v1/nope/secret/data/x",
                "",
                404,
                errors("no handler for route \"nope/secret/data/x\". route entry not found."),
            ),
            (
                "GET",
                "/v1/team/sys/health",
                "",
                400,
                errors("operation only available in root namespace"),
            ),
            (
                "GET",
                "/v1/secret/data/x",
                "",
                404,
                "{\"errors\":[]}\n".to_owned(),
            ),
        ],
    )
    .await;
    let (_, token) = vault
        .root(
            "POST",
            "/v1/team/auth/token/create",
            serde_json::json!({"policies": ["p"]}),
        )
        .await;
    let token = token["auth"]["client_token"].as_str().unwrap();
    let (_, namespace) = vault
        .root("GET", "/v1/sys/namespaces/team", serde_json::Value::Null)
        .await;
    assert!(
        token.ends_with(&format!(".{}", namespace["data"]["id"].as_str().unwrap())),
        "{token}"
    );
}

#[tokio::test(start_paused = true)]
async fn unclean_paths_are_redirected_as_go_does() {
    let vault = vault();
    let request = Request::get("/v1/secret/../secret//data/x?b=1&a=2")
        .body(Full::default())
        .unwrap();
    let response = vault.answer::<Full<Bytes>>(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers()["location"], "/v1/secret/data/x?b=1&a=2");
    let (status, _) = ask(&vault, "GET", "/v1/secret/data/a%2Fb", "root", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
