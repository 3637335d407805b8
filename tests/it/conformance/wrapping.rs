//! Answers in a wrapping token, to be opened once.

use super::table::Caller::{Nobody, Token};
use super::table::{Scenario, delete, get, post, put, scenario};

pub(super) fn wrapping() -> Scenario {
    scenario(
        "wrapping",
        [
            put("secret/data/wrapped/a", r#"{"data":{"x":1}}"#, 200),
            get("secret/data/wrapped/a", 200).twice(),
            // Wrapped, it is another answer each time, and comes from no memory.
            get("secret/data/wrapped/a", 200)
                .wrapped("60")
                .take("wrap", "/wrap_info/token"),
            get("secret/data/wrapped/a", 200)
                .wrapped("60")
                .take("other", "/wrap_info/token"),
            post("sys/wrapping/lookup", r#"{"token":"{wrap}"}"#, 200),
            post("sys/wrapping/lookup", "", 200).by(Token("{wrap}")),
            get("sys/wrapping/lookup", 200).by(Token("{wrap}")),
            post("sys/wrapping/unwrap", "", 200).by(Token("{wrap}")),
            post("sys/wrapping/unwrap", "", 400).by(Token("{wrap}")),
            post("sys/wrapping/unwrap", r#"{"token":"{other}"}"#, 200),
            post("sys/wrapping/unwrap", r#"{"token":"{other}"}"#, 400),
            post("sys/wrapping/lookup", r#"{"token":"{other}"}"#, 400),
            post("sys/wrapping/unwrap", r#"{"token":"nobody"}"#, 400),
            post("sys/wrapping/unwrap", "", 400).by(Token("nobody")),
            post("sys/wrapping/lookup", "{}", 403).by(Nobody),
            // Whatever one likes.
            post("sys/wrapping/wrap", r#"{"a":"b","n":1}"#, 200)
                .wrapped("2m")
                .take("wrap", "/wrap_info/token"),
            post("sys/wrapping/rewrap", r#"{"token":"{wrap}"}"#, 200)
                .take("again", "/wrap_info/token"),
            put("sys/wrapping/unwrap", "", 400).by(Token("{wrap}")),
            put("sys/wrapping/unwrap", "", 200).by(Token("{again}")),
            post("sys/wrapping/wrap", r#"{"a":1}"#, 400),
            get("secret/data/wrapped/a", 400).wrapped("soon"),
            get("secret/data/wrapped/none", 404).wrapped("60"),
            // A secret id, and a token.
            post("sys/auth/wrapping", r#"{"type":"approle"}"#, 204),
            post("auth/wrapping/role/app", "{}", 204),
            post("auth/wrapping/role/app/secret-id", "{}", 200)
                .wrapped("1h")
                .take("wrap", "/wrap_info/token"),
            post("sys/wrapping/lookup", r#"{"token":"{wrap}"}"#, 200),
            post("sys/wrapping/unwrap", "", 200).by(Token("{wrap}")),
            post("auth/token/create", r#"{"policies":["default"]}"#, 200)
                .wrapped("60")
                .take("wrap", "/wrap_info/token"),
            post("sys/wrapping/unwrap", "", 200)
                .by(Token("{wrap}"))
                .take("token", "/auth/client_token"),
            get("auth/token/lookup-self", 200).by(Token("{token}")),
            delete("sys/auth/wrapping", 204),
            delete("secret/metadata/wrapped/a", 204),
        ],
    )
}
