//! Logins: AppRole and userpass.

use super::table::Caller::{Anyone, Token};
use super::table::{Scenario, delete, get, list, post, put, scenario};

pub(super) fn approle() -> Scenario {
    scenario(
        "approle",
        [
            post("sys/auth/roles", r#"{"type":"approle"}"#, 204),
            post(
                "auth/roles/role/app",
                r#"{"token_policies":["default"],"token_ttl":"20m","token_max_ttl":"40m","secret_id_ttl":"1h","secret_id_num_uses":10}"#,
                204,
            ),
            get("auth/roles/role/app", 200),
            get("auth/roles/role/none", 404),
            list("auth/roles/role", 200),
            get("auth/roles/role/app/role-id", 200).take("app_id", "/data/role_id"),
            get("auth/roles/role/none/role-id", 404),
            post("auth/roles/role/app/secret-id", "{}", 200)
                .take("secret", "/data/secret_id")
                .take("secret_accessor", "/data/secret_id_accessor"),
            put(
                "auth/roles/role/app/secret-id",
                r#"{"metadata":"{\"from\":\"here\"}","ttl":"10m"}"#,
                200,
            ),
            post("auth/roles/role/none/secret-id", "{}", 404),
            post(
                "auth/roles/role/app/secret-id/lookup",
                r#"{"secret_id":"{secret}"}"#,
                200,
            ),
            post(
                "auth/roles/role/app/secret-id-accessor/lookup",
                r#"{"secret_id_accessor":"{secret_accessor}"}"#,
                200,
            ),
            post(
                "auth/roles/login",
                r#"{"role_id":"{app_id}","secret_id":"{secret}"}"#,
                200,
            )
            .by(Anyone)
            .take("token", "/auth/client_token"),
            get("auth/token/lookup-self", 200).by(Token("{token}")),
            post("auth/token/renew-self", "", 200).by(Token("{token}")),
            post("auth/token/renew-self", r#"{"increment":"9h"}"#, 200).by(Token("{token}")),
            // Who may not come in.
            post(
                "auth/roles/login",
                r#"{"role_id":"{app_id}","secret_id":"wrong"}"#,
                400,
            )
            .by(Anyone),
            post(
                "auth/roles/login",
                r#"{"role_id":"wrong","secret_id":"{secret}"}"#,
                400,
            )
            .by(Anyone),
            post("auth/roles/login", r#"{"role_id":"{app_id}"}"#, 400).by(Anyone),
            post("auth/roles/login", r#"{"secret_id":"{secret}"}"#, 500).by(Anyone),
            post("auth/roles/login", "{}", 500).by(Anyone),
            get("auth/roles/login", 500).by(Anyone),
            // Without a secret id.
            post(
                "auth/roles/role/open",
                r#"{"bind_secret_id":false,"secret_id_bound_cidrs":"127.0.0.0/8","token_policies":"default"}"#,
                204,
            ),
            get("auth/roles/role/open/role-id", 200).take("open_id", "/data/role_id"),
            post("auth/roles/login", r#"{"role_id":"{open_id}"}"#, 200).by(Anyone),
            // Spent.
            post("auth/roles/role/once", r#"{"secret_id_num_uses":1}"#, 204),
            get("auth/roles/role/once/role-id", 200).take("once_id", "/data/role_id"),
            post("auth/roles/role/once/secret-id", "", 200).take("once", "/data/secret_id"),
            post(
                "auth/roles/login",
                r#"{"role_id":"{once_id}","secret_id":"{once}"}"#,
                200,
            )
            .by(Anyone)
            .take("used", "/auth/client_token"),
            post(
                "auth/roles/login",
                r#"{"role_id":"{once_id}","secret_id":"{once}","again":1}"#,
                400,
            )
            .by(Anyone),
            post(
                "auth/roles/role/app/secret-id/destroy",
                r#"{"secret_id":"{secret}"}"#,
                204,
            ),
            post(
                "auth/roles/login",
                r#"{"role_id":"{app_id}","secret_id":"{secret}","again":1}"#,
                400,
            )
            .by(Anyone),
            delete("auth/roles/role/app", 204),
            post(
                "auth/roles/login",
                r#"{"role_id":"{app_id}","secret_id":"{secret}","gone":1}"#,
                400,
            )
            .by(Anyone),
            delete("sys/auth/roles", 204),
            get("auth/token/lookup-self", 403).by(Token("{used}")),
        ],
    )
}

pub(super) fn userpass() -> Scenario {
    scenario(
        "userpass",
        [
            post("sys/auth/people", r#"{"type":"userpass"}"#, 204),
            post(
                "auth/people/users/ann",
                r#"{"password":"first-word","token_policies":"default","token_ttl":"20m","token_max_ttl":"1h"}"#,
                204,
            ),
            get("auth/people/users/ann", 200),
            get("auth/people/users/none", 404),
            list("auth/people/users", 200),
            post("auth/people/login/ann", r#"{"password":"first-word"}"#, 200)
                .by(Anyone)
                .take("token", "/auth/client_token"),
            get("auth/token/lookup-self", 200).by(Token("{token}")),
            post("auth/token/renew-self", "", 200).by(Token("{token}")),
            post("auth/people/login/ann", r#"{"password":"wrong"}"#, 400).by(Anyone),
            post(
                "auth/people/login/none",
                r#"{"password":"first-word"}"#,
                400,
            )
            .by(Anyone),
            post("auth/people/login/ann", "{}", 500).by(Anyone),
            post(
                "auth/people/users/ann/password",
                r#"{"password":"second-word"}"#,
                204,
            ),
            post(
                "auth/people/login/ann",
                r#"{"password":"second-word"}"#,
                200,
            )
            .by(Anyone),
            post("auth/people/users/bob", "{}", 400),
            post("auth/people/users/ann/password", "{}", 400),
            post(
                "auth/people/users/none/password",
                r#"{"password":"word"}"#,
                500,
            ),
            get("auth/people/users/ann/password", 405),
            delete("auth/people/users/ann", 204),
            post(
                "auth/people/login/ann",
                r#"{"password":"second-word","again":1}"#,
                400,
            )
            .by(Anyone),
            delete("sys/auth/people", 204),
        ],
    )
}
