//! Requests that a server refuses, and how; and a cipher, whose answers nobody may keep.

use super::table::Caller::{Anyone, Nobody};
use super::table::{Scenario, call, delete, get, list, post, put, scenario};

pub(super) fn refused() -> Scenario {
    scenario(
        "refused",
        [
            get("nothing/here", 404),
            get("sys/nothing", 404),
            get("auth/nothing/login", 404),
            post("auth/nothing/login", "{}", 403).by(Nobody),
            get("nothing/here", 403).by(Nobody),
            get("/v2/nothing", 404).by(Anyone),
            get("/v1", 404).by(Anyone),
            get("/v1/", 404),
            get("secret", 404),
            call("FOO", "secret/data/refused", 405),
            call("OPTIONS", "secret/data/refused", 400),
            call("HEAD", "secret/data/refused", 403),
            call("PATCH", "sys/mounts", 400).body("{}"),
            delete("sys/mounts", 405),
            list("sys/health", 405).by(Anyone),
            put("secret/data/refused", "{", 400),
            put("secret/data/refused", "not json", 400),
            put("secret/data/refused", "[]", 400),
            put("secret/data/refused", "\"text\"", 400),
            put("secret/data/refused", "null", 400),
            put("secret/data/refused", "{\"data\":{\"a\":1}} trailing", 400),
            put("secret/data/refused", "data=x", 400)
                .header("content-type", "application/x-www-form-urlencoded"),
            post("sys/mounts/refused", "{", 400),
            put("sys/leases/revoke", "{", 400),
            put("auth/token/revoke", "{", 400),
            // Read as they are meant, whatever their type.
            put("secret/data/refused", r#"{"data":{"a":1}}"#, 200)
                .header("content-type", "text/plain"),
            put("secret/data/refused", r#"{"data":{"a":2}}"#, 200)
                .header("content-type", "application/octet-stream"),
            get("secret/data/refused", 200)
                .header("x-vault-request", "true")
                .twice(),
            // Paths that are not clean are sent to the clean one.
            get("secret//data/refused", 307),
            get("secret/../secret/data/refused?version=1", 307),
            put("secret//data/refused", r#"{"data":{}}"#, 307),
            get("secret/data/refused%2Fmore", 404),
            get("/", 307).by(Anyone),
            delete("secret/metadata/refused", 204),
        ],
    )
}

pub(super) fn transit() -> Scenario {
    scenario(
        "transit",
        [
            post("sys/mounts/cipher", r#"{"type":"transit"}"#, 204),
            post("cipher/keys/app", "{}", 200),
            get("cipher/keys/app", 200),
            get("cipher/keys/none", 404),
            list("cipher/keys", 200),
            post("cipher/encrypt/app", r#"{"plaintext":"aGVsbG8="}"#, 200)
                .take("sealed", "/data/ciphertext"),
            post("cipher/encrypt/app", r#"{"plaintext":"aGVsbG8="}"#, 200),
            post("cipher/decrypt/app", r#"{"ciphertext":"{sealed}"}"#, 200),
            post(
                "cipher/encrypt/app",
                r#"{"batch_input":[{"plaintext":"YQ=="},{"plaintext":"Yg=="}]}"#,
                200,
            ),
            post(
                "cipher/decrypt/app",
                r#"{"ciphertext":"vault:v1:wrong"}"#,
                400,
            ),
            post("cipher/decrypt/app", r#"{"ciphertext":"nothing"}"#, 400),
            post("cipher/encrypt/app", r#"{"plaintext":"no base64!"}"#, 400),
            post("cipher/encrypt/app", "{}", 400),
            post("cipher/decrypt/none", r#"{"ciphertext":"{sealed}"}"#, 400),
            post(
                "cipher/encrypt/app",
                r#"{"batch_input":[{"plaintext":"YQ=="},{"plaintext":"!"}]}"#,
                400,
            ),
            post(
                "cipher/encrypt/app",
                r#"{"batch_input":[{"plaintext":"YQ=="},{}]}"#,
                500,
            ),
            post("cipher/encrypt/app", r#"{"batch_input":[]}"#, 400),
            post(
                "cipher/decrypt/app",
                r#"{"batch_input":[{"ciphertext":"{sealed}","reference":"r"}]}"#,
                200,
            ),
            post(
                "cipher/decrypt/app",
                r#"{"batch_input":[{"ciphertext":"{sealed}"},{"ciphertext":"x"}]}"#,
                400,
            ),
            post(
                "cipher/rewrap/app",
                r#"{"batch_input":[{"ciphertext":"{sealed}"},{}]}"#,
                200,
            ),
            post("cipher/keys/app/rotate", "", 200),
            post("cipher/encrypt/app", r#"{"plaintext":"aGVsbG8="}"#, 200),
            post("cipher/rewrap/app", r#"{"ciphertext":"{sealed}"}"#, 200),
            delete("cipher/keys/app", 400),
            delete("sys/mounts/cipher", 204),
        ],
    )
}
