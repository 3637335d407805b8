//! The life of tokens.

use super::table::Caller::{Anyone, Bearer, Nobody, Root, Token};
use super::table::{Scenario, Step, delete, get, post, put, scenario};

const CHILD: &str = r#"{"policies":["default"],"ttl":"1h"}"#;

fn create(name: &'static str, accessor: &'static str) -> Step {
    post("auth/token/create", CHILD, 200)
        .take(name, "/auth/client_token")
        .take(accessor, "/auth/accessor")
}

pub(super) fn created_and_renewed() -> Scenario {
    scenario(
        "tokens",
        [
            post("auth/token/create", r#"{"policies":["default"],"ttl":"1h","explicit_max_ttl":"2h","meta":{"a":"b"},"display_name":"child"}"#, 200)
                .take("child", "/auth/client_token")
                .take("accessor", "/auth/accessor"),
            get("auth/token/lookup-self", 200).showing_token(),
            get("auth/token/lookup-self", 200).by(Token("{child}")),
            get("auth/token/lookup-self", 200).by(Bearer("{child}")),
            post("auth/token/lookup-self", "", 403).by(Token("{child}")),
            post("auth/token/lookup", r#"{"token":"{child}"}"#, 200),
            put("auth/token/lookup", r#"{"token":"{child}"}"#, 200),
            get("auth/token/lookup", 200).showing_token(),
            post("auth/token/lookup-accessor", r#"{"accessor":"{accessor}"}"#, 200),
            post("auth/token/renew-self", r#"{"increment":"30m"}"#, 200).by(Token("{child}")),
            post("auth/token/renew", r#"{"token":"{child}","increment":1200}"#, 200),
            post("auth/token/renew", r#"{"token":"{child}","increment":"9h"}"#, 200),
            post("auth/token/renew-accessor", r#"{"accessor":"{accessor}","increment":"20m"}"#, 200),
            get("auth/token/lookup-self", 200).by(Token("{child}")),
            // Who is refused, and in which words.
            get("auth/token/lookup-self", 403).by(Token("hvs.nobody-has-this-one")),
            get("secret/data/x", 403).by(Token("hvs.nobody-has-this-one")),
            get("secret/data/x", 403).by(Token("{child}")),
            get("sys/mounts", 403).by(Token("{child}")),
            post("auth/token/create", CHILD, 403).by(Token("{child}")),
            get("auth/token/lookup-self", 403).by(Nobody),
            get("secret/data/x", 403).by(Nobody),
            post("auth/token/lookup", r#"{"token":"nobody"}"#, 403),
            post("auth/token/lookup-accessor", r#"{"accessor":"nobody"}"#, 400),
            post("auth/token/lookup-accessor", "{}", 400),
            put("auth/token/renew", r#"{"token":"nobody"}"#, 400),
            put("auth/token/renew", "{}", 400),
            put("auth/token/renew-self", "", 400).by(Root),
            put("auth/token/renew-accessor", r#"{"accessor":"nobody"}"#, 400),
            // Of each sort.
            post("auth/token/create", "", 200),
            post("auth/token/create", r#"{"policies":["default"],"no_parent":true,"period":"2h"}"#, 200).take("orphan", "/auth/client_token"),
            get("auth/token/lookup-self", 200).by(Token("{orphan}")),
            post("auth/token/renew-self", "", 200).by(Token("{orphan}")),
            post("auth/token/create-orphan", CHILD, 200),
            post("auth/token/create", r#"{"policies":["default"],"type":"batch","ttl":"1h"}"#, 200).take("batch", "/auth/client_token"),
            get("auth/token/lookup-self", 200).by(Token("{batch}")),
            put("auth/token/renew-self", "", 400).by(Token("{batch}")),
            post("auth/token/create", r#"{"policies":["default"],"renewable":false,"ttl":"1h"}"#, 200).take("fixed", "/auth/client_token"),
            put("auth/token/renew-self", "", 400).by(Token("{fixed}")),
            post("auth/token/create", r#"{"policies":["default"],"ttl":"10s","explicit_max_ttl":"5s"}"#, 200),
            post("auth/token/create", r#"{"policies":["default"],"no_default_policy":true}"#, 200),
            post("auth/token/create", r#"{"ttl":"soon"}"#, 400),
            post("auth/token/create", r#"{"id":"conformance-chosen","policies":["default"]}"#, 200).by(Root),
            post("auth/token/create", r#"{"id":"conformance-chosen"}"#, 400).by(Root),
            post("auth/token/create", r#"{"id":"hvs.x"}"#, 400).by(Root),
            // Twice, and no more.
            post("auth/token/create", r#"{"policies":["default"],"num_uses":2,"ttl":"1h"}"#, 200).take("twice", "/auth/client_token"),
            get("auth/token/lookup-self", 200).by(Token("{twice}")),
            get("auth/token/lookup-self", 200).by(Token("{twice}")),
            get("auth/token/lookup-self", 403).by(Token("{twice}")),
            get("auth/token/create", 405),
            get("auth/token/nothing", 404),
            get("auth/token/lookup-self", 200).by(Root),
            get("sys/health", 200).by(Anyone),
        ],
    )
}

pub(super) fn revoked() -> Scenario {
    scenario(
        "tokens-revoked",
        [
            create("first", "first_accessor"),
            post("auth/token/revoke", r#"{"token":"{first}"}"#, 204),
            get("auth/token/lookup-self", 403).by(Token("{first}")),
            post("auth/token/lookup", r#"{"token":"{first}"}"#, 403),
            put("auth/token/revoke", r#"{"token":"{first}"}"#, 204),
            post("auth/token/renew", r#"{"token":"{first}"}"#, 400),
            create("second", "second_accessor"),
            put("auth/token/revoke-self", "", 204).by(Token("{second}")),
            get("auth/token/lookup-self", 403).by(Token("{second}")),
            put("auth/token/revoke-self", "", 403).by(Token("{second}")),
            create("third", "third_accessor"),
            put(
                "auth/token/revoke-accessor",
                r#"{"accessor":"{third_accessor}"}"#,
                204,
            ),
            get("auth/token/lookup-self", 403).by(Token("{third}")),
            put(
                "auth/token/revoke-accessor",
                r#"{"accessor":"{third_accessor}"}"#,
                200,
            ),
            put("auth/token/revoke-accessor", "{}", 400),
            put("auth/token/revoke", "{}", 400),
            // A parent takes its children along, but not where they are made orphans.
            post(
                "auth/token/create",
                r#"{"policies":["caller"],"ttl":"1h"}"#,
                200,
            )
            .take("parent", "/auth/client_token"),
            create("child", "child_accessor").by(Token("{parent}")),
            put("auth/token/revoke", r#"{"token":"{parent}"}"#, 204),
            get("auth/token/lookup-self", 403).by(Token("{child}")),
            post(
                "auth/token/create",
                r#"{"policies":["caller"],"ttl":"1h"}"#,
                200,
            )
            .take("parent", "/auth/client_token"),
            create("child", "child_accessor").by(Token("{parent}")),
            put("auth/token/revoke-orphan", r#"{"token":"{parent}"}"#, 204),
            get("auth/token/lookup-self", 403).by(Token("{parent}")),
            get("auth/token/lookup-self", 200).by(Token("{child}")),
            put("auth/token/revoke-orphan", r#"{"token":"{parent}"}"#, 400),
            // What was read with a token is not read with it any more.
            put("secret/data/revoked/a", r#"{"data":{"x":1}}"#, 200),
            post(
                "auth/token/create",
                r#"{"policies":["caller"],"ttl":"1h"}"#,
                200,
            )
            .take("reader", "/auth/client_token"),
            get("secret/data/revoked/a", 200)
                .by(Token("{reader}"))
                .twice(),
            get("secret/data/revoked/a", 200)
                .by(Bearer("{reader}"))
                .known(),
            put("auth/token/revoke-self", "", 204).by(Token("{reader}")),
            get("secret/data/revoked/a", 403).by(Token("{reader}")),
            delete("secret/metadata/revoked/a", 204),
        ],
    )
}
