//! Leases: made, shared, looked up, renewed, and revoked in every form.

use super::table::Caller::Token;
use super::table::{Scenario, Step, delete, get, list, post, put, scenario};

const DATABASE: &str = r#"{"plugin_name":"{plugin}","host":"127.0.0.1","port":"{port}","username":"u","password":"{password}","allowed_roles":"*"}"#;
const ROLE: &str = r#"{"db_name":"main","default_ttl":"1h","max_ttl":"3h","creation_statements":["[\"+@read\"]"]}"#;

fn credential(target: &'static str, name: &'static str) -> Step {
    get(target, 200).take(name, "/lease_id")
}

pub(super) fn database() -> Scenario {
    scenario(
        "database",
        [
            post("sys/mounts/db", r#"{"type":"database"}"#, 204),
            post("db/config/main", DATABASE, 204),
            get("db/config/none", 404),
            list("db/config", 200),
            post("db/roles/a", ROLE, 204),
            get("db/roles/a", 200),
            get("db/roles/none", 404),
            list("db/roles", 200),
            get("db/creds/none", 400),
            post("db/creds/a", "{}", 405),
            list("db/creds", 404),
            credential("db/creds/a", "id").twice(),
            get("db/creds/a?", 200).known(),
            put("sys/leases/lookup", r#"{"lease_id":"{id}"}"#, 200),
            // Renewed by body and by path, for what is asked and no longer than what is allowed.
            put(
                "sys/leases/renew",
                r#"{"lease_id":"{id}","increment":1800}"#,
                200,
            ),
            post(
                "sys/leases/renew",
                r#"{"lease_id":"{id}","increment":"20m"}"#,
                200,
            ),
            post("sys/leases/renew/{id}", "", 200),
            put("sys/leases/renew/{id}", r#"{"increment":"9000h"}"#, 200),
            put("sys/leases/lookup", r#"{"lease_id":"{id}"}"#, 200),
            put(
                "sys/leases/renew",
                r#"{"lease_id":"{id}","increment":3600}"#,
                200,
            ),
            get("db/creds/a", 200).known(),
            // A renewal after the end.
            put("sys/leases/revoke", r#"{"lease_id":"{id}"}"#, 204),
            put("sys/leases/renew", r#"{"lease_id":"{id}"}"#, 400),
            post("sys/leases/renew/{id}", "", 400),
            credential("db/creds/a", "id").twice(),
            // What a role's end means for its leases.
            delete("db/roles/a", 204),
            get("db/roles/a", 404),
            put("sys/leases/renew", r#"{"lease_id":"{id}"}"#, 400),
            put("sys/leases/revoke", r#"{"lease_id":"{id}"}"#, 204),
            get("db/creds/a", 400),
            delete("sys/mounts/db", 204),
        ],
    )
}

/// What is revoked is not read again, in whatever form the revocation comes.
pub(super) fn revoked() -> Scenario {
    scenario(
        "leases-revoked",
        [
            post("sys/mounts/lease", r#"{"type":"database"}"#, 204),
            post("lease/config/main", DATABASE, 204),
            post("lease/roles/a", ROLE, 204),
            post("lease/roles/b", ROLE, 204),
            credential("lease/creds/a", "id").twice(),
            list("sys/leases/lookup/lease/creds/a", 200),
            list("sys/leases/lookup/lease/creds", 200),
            list("sys/leases/lookup/lease/creds/none", 404),
            put("sys/leases/revoke", r#"{"lease_id":"{id}"}"#, 204),
            put("sys/leases/lookup", r#"{"lease_id":"{id}"}"#, 400),
            put("sys/leases/revoke", r#"{"lease_id":"{id}"}"#, 204),
            credential("lease/creds/a", "id").twice(),
            post(
                "sys/leases/revoke",
                r#"{"lease_id":"{id}","sync":true}"#,
                204,
            ),
            credential("lease/creds/a", "id").twice(),
            put(
                "sys/leases/revoke",
                r#"{"lease_id":"{id}","sync":false}"#,
                202,
            ),
            credential("lease/creds/a", "id").twice(),
            put("sys/leases/revoke/{id}", "", 204),
            credential("lease/creds/a", "id").twice(),
            post("sys/leases/revoke/{id}", r#"{"sync":true}"#, 204),
            credential("lease/creds/a", "id").twice(),
            credential("lease/creds/b", "other").twice(),
            put(
                "sys/leases/revoke-prefix/lease/creds/a",
                r#"{"sync":true}"#,
                204,
            ),
            put("sys/leases/lookup", r#"{"lease_id":"{id}"}"#, 400),
            get("lease/creds/b", 200).known(),
            put("sys/leases/renew", r#"{"lease_id":"{other}"}"#, 200),
            credential("lease/creds/a", "id").twice(),
            put(
                "sys/leases/revoke-prefix/lease/creds/a",
                r#"{"sync":false}"#,
                202,
            ),
            credential("lease/creds/a", "id").twice(),
            put("sys/leases/revoke-force/lease", "", 204),
            put("sys/leases/lookup", r#"{"lease_id":"{other}"}"#, 400),
            credential("lease/creds/a", "id").twice(),
            credential("lease/creds/b", "other").twice(),
            // After a renewal by the caller it is still the same lease.
            put("sys/leases/renew", r#"{"lease_id":"{id}"}"#, 200),
            put("sys/leases/revoke", r#"{"lease_id":"{id}"}"#, 204),
            credential("lease/creds/a", "id").twice(),
            // In which words it is refused.
            put("sys/leases/renew", r#"{"lease_id":"none"}"#, 400),
            put("sys/leases/renew", "{}", 400),
            put("sys/leases/renew", r#"{"lease_id":5}"#, 400),
            put("sys/leases/lookup", r#"{"lease_id":"none"}"#, 400),
            put("sys/leases/lookup", "{}", 400),
            get("sys/leases/renew", 403),
            put("sys/leases/revoke", "{}", 400),
            put("sys/leases/revoke", r#"{"lease_id":"none"}"#, 204),
            put("sys/leases/revoke-prefix/none", "", 204),
            put("sys/leases/revoke-prefix", "{}", 404),
            put("sys/renew", r#"{"lease_id":"{id}"}"#, 404),
            put("sys/revoke/{id}", "", 404),
            // Those of a token end with it, at a real server some time later.
            post(
                "auth/token/create",
                r#"{"policies":["caller"],"ttl":"1h"}"#,
                200,
            )
            .take("reader", "/auth/client_token"),
            get("lease/creds/a", 200).by(Token("{reader}")).twice(),
            put("auth/token/revoke", r#"{"token":"{reader}"}"#, 204),
            get("lease/creds/a", 403).by(Token("{reader}")),
            // And all of a mount end with that.
            get("lease/creds/a", 200).known(),
            delete("sys/mounts/lease", 204),
            get("lease/creds/a", 404),
            put("sys/leases/renew", r#"{"lease_id":"{id}"}"#, 400),
        ],
    )
}

/// Secrets of KV version 1 that are leased for as long as their own `ttl` says. A real server breaks off the
/// connection of whoever wants to renew such a lease.
pub(super) fn leased_kv() -> Scenario {
    scenario(
        "leased-kv",
        [
            post(
                "sys/mounts/pass",
                r#"{"type":"kv","options":{"leased_passthrough":"true"}}"#,
                204,
            ),
            put("pass/a", r#"{"x":1,"ttl":"1h"}"#, 204),
            put("pass/fixed", r#"{"x":1}"#, 204),
            credential("pass/a", "id").twice(),
            get("pass/fixed", 200),
            put("sys/leases/lookup", r#"{"lease_id":"{id}"}"#, 200),
            put("sys/leases/revoke", r#"{"lease_id":"{id}"}"#, 204),
            credential("pass/a", "id").twice(),
            delete("sys/mounts/pass", 204),
        ],
    )
}
