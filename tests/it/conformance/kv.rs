//! Secrets in either version of the KV engine.

use super::table::Caller::Token;
use super::table::{Scenario, call, delete, get, list, patch, post, put, scenario};

pub(super) fn version_1() -> Scenario {
    scenario(
        "kv-version-1",
        [
            post(
                "sys/mounts/kv1",
                r#"{"type":"kv","options":{"version":"1"}}"#,
                204,
            ),
            get("kv1/a", 404),
            list("kv1", 404),
            put(
                "kv1/a",
                r#"{"user":"u","n":1,"f":1.5,"html":"<&>","none":null}"#,
                204,
            ),
            get("kv1/a", 200).twice(),
            get("kv1/a?", 200).known(),
            get("kv1/none", 404),
            post("kv1/deep/er/b", r#"{"x":true}"#, 204),
            list("kv1", 200).twice(),
            get("kv1?list=true", 200).known(),
            get("kv1?list=1", 200).known(),
            list("kv1/", 200),
            list("kv1/deep", 200).twice(),
            list("kv1/none", 404),
            call("SCAN", "kv1", 200),
            // What is written is what is read next.
            put("kv1/a", r#"{"user":"other"}"#, 204),
            get("kv1/a", 200).twice(),
            list("kv1", 200).twice(),
            // Fields that look like the envelope's.
            put(
                "kv1/trap",
                r#"{"renewable":"yes","lease_duration":1.5,"auth":{},"lease_id":"x"}"#,
                204,
            ),
            get("kv1/trap", 200).twice(),
            put("kv1/short", r#"{"ttl":"30s","v":12345678901}"#, 204),
            get("kv1/short", 200).twice(),
            post("kv1/a", "{}", 400),
            post("kv1/a", "", 400),
            post("kv1/a", "[1]", 400),
            patch("kv1/a", r#"{"x":1}"#, 405),
            call("HEAD", "kv1/a", 403),
            post("kv1/a/", r#"{"x":1}"#, 400),
            delete("kv1/a", 204),
            get("kv1/a", 404),
            list("kv1", 200).twice(),
            delete("kv1/a", 204),
            delete("kv1/deep/er/b", 204),
            list("kv1/deep", 404),
            // A caller who may not.
            post("auth/token/create", r#"{"policies":["default"]}"#, 200)
                .take("weak", "/auth/client_token"),
            get("kv1/trap", 403).by(Token("{weak}")),
            list("kv1", 403).by(Token("{weak}")),
            put("kv1/trap", r#"{"x":1}"#, 403).by(Token("{weak}")),
            delete("kv1/trap", 403).by(Token("{weak}")),
            delete("sys/mounts/kv1", 204),
            get("kv1/trap", 404),
        ],
    )
}

/// At `secret/`, where it is ready from the start.
pub(super) fn version_2() -> Scenario {
    scenario(
        "kv-version-2",
        [
            get("secret/data/c2/a", 404),
            post(
                "secret/data/c2/a",
                r#"{"data":{"n":1.5,"s":"<x>","deep":{"er":1}}}"#,
                200,
            ),
            get("secret/data/c2/a", 200).twice(),
            get("secret/data/c2/a?version=1", 200).twice(),
            get("secret/data/c2/a?version=0", 200),
            get("secret/data/c2/a?version=9", 404),
            get("secret/data/c2/a?version=x", 400),
            put(
                "secret/data/c2/a",
                r#"{"data":{"n":2},"options":{"cas":0}}"#,
                400,
            ),
            put(
                "secret/data/c2/a",
                r#"{"data":{"n":2},"options":{"cas":1}}"#,
                200,
            ),
            get("secret/data/c2/a", 200).twice(),
            get("secret/data/c2/a?version=1", 200).twice(),
            patch("secret/data/c2/a", r#"{"data":{"m":3,"n":null}}"#, 200),
            get("secret/data/c2/a", 200).twice(),
            patch("secret/data/c2/none", r#"{"data":{"m":3}}"#, 404),
            call("PATCH", "secret/data/c2/a", 400).body(r#"{"data":{"m":4}}"#),
            get("secret/subkeys/c2/a", 200).twice(),
            get("secret/subkeys/c2/a?depth=1&version=1", 200).twice(),
            get("secret/subkeys/c2/none", 404),
            get("secret/metadata/c2/a", 200).twice(),
            list("secret/metadata/c2", 200).twice(),
            get("secret/metadata/c2?list=true", 200).known(),
            get("secret/metadata/c2?list=x", 400),
            list("secret/metadata/none", 404),
            list("secret/data/c2", 405),
            call("SCAN", "secret/metadata/c2", 200),
            put(
                "secret/metadata/c2/a",
                r#"{"max_versions":5,"custom_metadata":{"team":"x"},"cas_required":false,"delete_version_after":"0s"}"#,
                204,
            ),
            get("secret/metadata/c2/a", 200).twice(),
            patch(
                "secret/metadata/c2/a",
                r#"{"custom_metadata":{"team":"y"}}"#,
                204,
            ),
            get("secret/metadata/c2/a", 200).twice(),
            get("secret/config", 200),
            delete("secret/data/c2/a", 204),
            get("secret/data/c2/a", 404),
            get("secret/metadata/c2/a", 200).twice(),
            post("secret/undelete/c2/a", r#"{"versions":[3]}"#, 204),
            get("secret/data/c2/a", 200).twice(),
            post("secret/delete/c2/a", r#"{"versions":[1]}"#, 204),
            get("secret/data/c2/a?version=1", 404),
            put("secret/destroy/c2/a", r#"{"versions":[1,2]}"#, 204),
            get("secret/data/c2/a?version=2", 404),
            get("secret/subkeys/c2/a?version=2", 404),
            post("secret/undelete/c2/a", "{}", 400),
            put("secret/destroy/c2/a", "{}", 400),
            put("secret/data/c2/a", r#"{"n":2}"#, 400),
            put("secret/data/c2/a", r#"{"data":"x"}"#, 400),
            put("secret/data/c2/a", "{", 400),
            post("secret/data/c2/a/", r#"{"data":{}}"#, 400),
            post("auth/token/create", r#"{"policies":["default"]}"#, 200)
                .take("weak", "/auth/client_token"),
            get("secret/data/c2/a", 403).by(Token("{weak}")),
            delete("secret/metadata/c2/a", 204),
            get("secret/metadata/c2/a", 404),
            get("secret/data/c2/a", 404),
            list("secret/metadata/c2", 404),
        ],
    )
}
