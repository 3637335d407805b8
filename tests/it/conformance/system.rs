//! What a server says about itself, and what it lets be set up.

use super::table::Caller::{Anyone, Nobody, Root, Token};
use super::table::{Scenario, call, delete, get, list, post, put, scenario};

pub(super) fn status() -> Scenario {
    scenario(
        "status",
        [
            get("sys/health", 200).by(Anyone),
            call("HEAD", "sys/health", 200).by(Anyone),
            get("sys/health?standbyok=true", 200).by(Anyone),
            get("sys/health?activecode=299", 299).by(Anyone),
            get("sys/health?activecode=x", 400).by(Anyone),
            get("sys/seal-status", 200).by(Anyone),
            get("sys/init", 200).by(Anyone),
            get("sys/leader", 200).by(Anyone),
            get("sys/health", 200).by(Token("hvs.nobody-has-this-one")),
            post("sys/health", "{}", 405).by(Anyone),
        ],
    )
}

pub(super) fn mounts() -> Scenario {
    scenario(
        "mounts",
        [
            post(
                "sys/mounts/one",
                r#"{"type":"kv","description":"what it is","config":{"default_lease_ttl":"1h","max_lease_ttl":"2h"}}"#,
                204,
            ),
            post("sys/mounts/two", r#"{"type":"kv-v2"}"#, 204),
            get("sys/mounts", 200)
                .unordered()
                .only("/data/one~1")
                .only("/data/two~1")
                .only("/one~1"),
            get("sys/mounts/one", 200).unordered(),
            get("sys/mounts/none", 400),
            get("sys/mounts/one/tune", 200).unordered(),
            post("sys/mounts/one/tune", r#"{"default_lease_ttl":"30m"}"#, 204),
            get("sys/mounts/one/tune", 200).unordered(),
            post("sys/mounts/one", r#"{"type":"kv"}"#, 400),
            post("sys/mounts/one/more", r#"{"type":"kv"}"#, 400),
            post("sys/mounts/three", r#"{"type":"no-such-engine"}"#, 400),
            post("sys/mounts/three", "{}", 400),
            get("sys/internal/ui/mounts/one", 200).twice(),
            get("sys/internal/ui/mounts/one/a/b", 200).twice(),
            get("sys/internal/ui/mounts/two/a", 200).twice(),
            get("sys/internal/ui/mounts/none/a", 403),
            get("sys/internal/ui/mounts/one", 403).by(Nobody),
            get("sys/internal/ui/mounts", 200).only("/data/secret/one~1"),
            post("auth/token/create", r#"{"policies":["default"]}"#, 200)
                .take("weak", "/auth/client_token"),
            get("sys/internal/ui/mounts/one", 403).by(Token("{weak}")),
            get("sys/internal/ui/mounts", 200)
                .by(Token("{weak}"))
                .only("/data"),
            put("one/a", r#"{"x":1}"#, 204),
            get("one/a", 200).twice(),
            delete("sys/mounts/one", 204),
            get("one/a", 404),
            get("sys/internal/ui/mounts/one", 403),
            delete("sys/mounts/one", 204),
            delete("sys/mounts/two", 204),
            delete("sys/mounts/sys", 400),
            post(
                "sys/auth/one",
                r#"{"type":"userpass","description":"people"}"#,
                204,
            ),
            get("sys/auth", 200)
                .unordered()
                .only("/data/one~1")
                .only("/data/token~1"),
            get("sys/auth/one", 200).unordered(),
            get("sys/auth/one/tune", 200).unordered(),
            post("sys/auth/one", r#"{"type":"userpass"}"#, 400),
            delete("sys/auth/one", 204),
        ],
    )
}

pub(super) fn policies() -> Scenario {
    scenario(
        "policies",
        [
            put(
                "sys/policies/acl/readers",
                r#"{"policy":"path \"secret/data/read/*\" { capabilities = [\"read\"] }"}"#,
                204,
            ),
            get("sys/policies/acl/readers", 200),
            get("sys/policies/acl/none", 404),
            list("sys/policies/acl", 200).only("/data/keys"),
            get("sys/policies/acl?list=true", 200).only("/data/keys"),
            get("sys/policy/readers", 200).unordered(),
            get("sys/policy", 200)
                .unordered()
                .only("/data/keys")
                .only("/policies"),
            put(
                "sys/policy/others",
                r#"{"policy":"path \"a\" { policy = \"read\" }"}"#,
                204,
            ),
            put(
                "sys/policies/acl/broken",
                r#"{"policy":"path \"x\" {"}"#,
                400,
            ),
            put(
                "sys/policies/acl/broken",
                r#"{"policy":"path \"x\" { capabilities = [\"fly\"] }"}"#,
                400,
            ),
            put("sys/policies/acl/root", r#"{"policy":""}"#, 400),
            put("sys/policies/acl/empty", "{}", 400),
            delete("sys/policies/acl/root", 400),
            delete("sys/policies/acl/default", 400),
            // What a policy is worth: at once, for tokens that exist.
            put("secret/data/read/a", r#"{"data":{"x":1}}"#, 200),
            post("auth/token/create", r#"{"policies":["readers"]}"#, 200)
                .take("reader", "/auth/client_token"),
            get("secret/data/read/a", 200).by(Token("{reader}")).twice(),
            put("secret/data/read/a", r#"{"data":{"x":2}}"#, 403).by(Token("{reader}")),
            post(
                "sys/capabilities-self",
                r#"{"path":"secret/data/read/a"}"#,
                200,
            )
            .unordered()
            .by(Token("{reader}")),
            post(
                "sys/capabilities-self",
                r#"{"paths":["secret/data/read/a","kv/x","auth/token/lookup-self"]}"#,
                200,
            )
            .unordered()
            .by(Token("{reader}")),
            post(
                "sys/capabilities-self",
                r#"{"path":"secret/data/read/a"}"#,
                200,
            )
            .unordered(),
            post(
                "sys/capabilities",
                r#"{"token":"{reader}","paths":["secret/data/read/a"]}"#,
                200,
            )
            .unordered(),
            post("sys/capabilities-self", "{}", 400),
            // As policies were written before there were capabilities.
            put(
                "sys/policies/acl/old",
                r#"{"policy":"path \"a\" { policy = \"read\" } path \"b\" { policy = \"write\" } path \"c\" { policy = \"sudo\" } path \"d\" { policy = \"deny\" }"}"#,
                204,
            ),
            put(
                "sys/policies/acl/old",
                r#"{"policy":"path \"a\" { policy = \"fly\" }"}"#,
                400,
            ),
            post("auth/token/create", r#"{"policies":["old"]}"#, 200)
                .take("old", "/auth/client_token"),
            post(
                "sys/capabilities",
                r#"{"token":"{old}","paths":["a","b","c","d"]}"#,
                200,
            )
            .unordered()
            .only("/data/a")
            .only("/data/b")
            .only("/data/c")
            .only("/data/d"),
            delete("sys/policies/acl/old", 204),
            delete("sys/policies/acl/readers", 204),
            get("secret/data/read/a", 403).by(Token("{reader}")),
            delete("sys/policies/acl/others", 204),
            delete("sys/policies/acl/none", 204),
            delete("secret/metadata/read/a", 204),
        ],
    )
}

pub(super) fn namespaces() -> Scenario {
    scenario(
        "namespaces",
        [
            post("sys/namespaces/team", "{}", 200),
            get("sys/namespaces/team", 200),
            get("sys/namespaces/none", 404),
            list("sys/namespaces", 200),
            post("team/sys/mounts/own", r#"{"type":"kv"}"#, 204),
            put("own/a", r#"{"in":"team"}"#, 204).within("team"),
            // By header in each form, and by path, it is one secret.
            get("own/a", 200).within("team/").twice(),
            get("own/a", 200).within("team").known(),
            get("team/own/a", 200).known(),
            list("own", 200).within("team/").twice(),
            put("team/own/a", r#"{"in":"it still"}"#, 204),
            get("own/a", 200).within("team"),
            get("own/a", 404),
            post("sys/namespaces/inner", "{}", 200).within("team/"),
            post("sys/mounts/own", r#"{"type":"kv"}"#, 204).within("team/inner"),
            put("inner/own/a", r#"{"in":"inner"}"#, 204).within("team"),
            get("own/a", 200).within("team/inner/").twice(),
            get("team/inner/own/a", 200).known(),
            // Its tokens are its own.
            put(
                "sys/policies/acl/reader",
                r#"{"policy":"path \"own/*\" { capabilities = [\"read\"] }"}"#,
                204,
            )
            .within("team"),
            post(
                "auth/token/create",
                r#"{"policies":["reader"],"ttl":"1h"}"#,
                200,
            )
            .within("team")
            .by(Root)
            .take("token", "/auth/client_token"),
            get("own/a", 200)
                .within("team")
                .by(Token("{token}"))
                .twice(),
            get("auth/token/lookup-self", 200)
                .within("team")
                .by(Token("{token}")),
            get("own/a", 403).by(Token("{token}")),
            get("secret/data/x", 403).by(Token("{token}")),
            get("team/inner/own/a", 403).by(Token("{token}")),
            // Whoever logged in elsewhere cannot make any that are good for something.
            post(
                "auth/token/create",
                r#"{"policies":["reader"],"ttl":"1h"}"#,
                200,
            )
            .within("team")
            .take("useless", "/auth/client_token"),
            get("own/a", 403).within("team").by(Token("{useless}")),
            get("auth/token/lookup-self", 403)
                .within("team")
                .by(Token("{useless}")),
            get("nowhere/own/a", 404),
            get("own/a", 404).within("nowhere"),
            get("team/sys/health", 400),
            get("sys/internal/ui/mounts/own/a", 200)
                .within("team")
                .twice(),
            delete("own/a", 204).within("team"),
            get("team/own/a", 404),
            delete("team/sys/namespaces/inner", 200),
            delete("sys/namespaces/none", 200),
        ],
    )
}
