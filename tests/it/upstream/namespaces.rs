//! One namespace, whether it is named by the header, by the path or by both; the configured one is for
//! Leasehold's own calls.

use leasehold::config::Method;
use leasehold::dev::Options;
use serde_json::json;

use crate::support::{Client, Reply, Rig, kv2};

const SECRET: &str = "v2/data/x";
const LOOK_UP: &str = "auth/token/lookup-self";

/// Every namespace has the same mount and the same secret, whose value is a word of its own and the namespace's name.
async fn rig(configured: Option<&str>) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let rig = Rig::not_logged_in(
        &Options::default(),
        |vault| std::fs::write(&path, vault.root_token().expose()).unwrap(),
        |config| {
            config.vault.namespace = configured.map(|name| format!("{name}/"));
            let auth = config.auto_auth.as_mut().unwrap();
            auth.method = Method::TokenFile { path: path.clone() };
            auth.mount_path = "auth/token".to_owned();
        },
    )
    .await;
    for (within, name) in [("", "team"), ("team/", "inner"), ("", "configured")] {
        let path = format!("{within}sys/namespaces/{name}");
        rig.root("POST", &path, json!({})).await;
    }
    for name in ["", "team/", "team/inner/", "configured/"] {
        let fields = json!({ "type": "kv", "options": { "version": "2" } });
        rig.root("POST", &format!("{name}sys/mounts/v2"), fields)
            .await;
        rig.root(
            "PUT",
            &format!("{name}{SECRET}"),
            kv2(format!("{OF}{name}")),
        )
        .await;
    }
    rig.leasehold.authenticated().await;
    rig
}

fn within(rig: &Rig, header: Option<&str>) -> Client {
    header.map_or_else(
        || rig.client(),
        |name| rig.client().header("x-vault-namespace", name),
    )
}

fn value(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.json());
    let value = reply.at("/data/data/value");
    value.strip_prefix(OF).unwrap_or_default().to_owned()
}

/// Header, path, and the namespace that both name.
const WAYS: [(Option<&str>, &str, &str); 8] = [
    (None, "", ""),
    (Some("root"), "", ""),
    (Some("team"), "", "team/"),
    (None, "team/", "team/"),
    (Some("/team/"), "", "team/"),
    (Some("team"), "inner/", "team/inner/"),
    (Some("team/inner/"), "", "team/inner/"),
    (None, "team/inner/", "team/inner/"),
];

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_what_came_and_equal_namespaces_share_an_answer() {
    for configured in [None, Some("configured")] {
        let rig = rig(configured).await;
        let own = rig
            .vault
            .log()
            .matching("GET", &format!("/v1/{LOOK_UP}"))
            .remove(0);
        let expected = configured.map(|name| format!("{name}/"));
        assert_eq!(own.header("x-vault-namespace"), expected.as_deref());
        for (first, prefix, namespace) in WAYS {
            let target = format!("{prefix}{SECRET}");
            rig.clear(json!({ "type": "all" })).await;
            rig.vault.log().clear();
            let fetched = within(&rig, first).get(&target).await;
            assert_eq!(
                (value(&fetched).as_str(), fetched.cache()),
                (namespace, "MISS")
            );
            let mut sent = rig.vault.log().matching("GET", "/v1/*v2/data/x");
            assert_eq!(sent.len(), 1);
            let sent = sent.remove(0);
            assert_eq!(sent.target, format!("/v1/{target}"));
            assert_eq!(sent.header("x-vault-namespace"), first);
            for (header, prefix, named) in WAYS {
                let again = within(&rig, header).get(&format!("{prefix}{SECRET}")).await;
                assert_eq!(value(&again), named, "{header:?} {prefix}");
                let is_hit = again.cache() == "HIT";
                if named == namespace {
                    assert!(is_hit, "{header:?} {prefix} after {first:?} {target}");
                    assert_eq!(again.body, fetched.body);
                }
            }
            assert_eq!(rig.vault.log().matching("GET", "/v1/*v2/data/x").len(), 3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clearing_knows_each_form() {
    let rig = rig(Some("configured")).await;
    for (request, gone) in [
        (
            json!({ "type": "request_path", "value": "/v1/v2/data/x", "namespace": "team" }),
            vec!["team/"],
        ),
        (
            json!({ "type": "request_path", "value": "/v1/team/v2/data/x" }),
            vec!["team/"],
        ),
        (
            json!({ "type": "request_path", "value": "inner/v2/data", "namespace": "/team/" }),
            vec!["team/inner/"],
        ),
        (
            json!({ "type": "request_path", "value": "/v1/", "namespace": "team" }),
            vec!["team/", "team/inner/"],
        ),
        (
            json!({ "type": "request_path", "value": "/v1/v2/data/x", "namespace": "root" }),
            vec![""],
        ),
        (
            json!({ "type": "request_path", "value": "/v1/v2/data/x" }),
            vec![""],
        ),
        (
            json!({ "type": "path", "value": "v2/data/*", "namespace": "team/inner" }),
            vec!["team/inner/"],
        ),
        (
            json!({ "type": "path", "value": "team/*/x" }),
            vec!["team/", "team/inner/"],
        ),
        (json!({ "type": "path", "value": "v2/*" }), vec![""]),
    ] {
        for (header, prefix, _) in WAYS {
            within(&rig, header).get(&format!("{prefix}{SECRET}")).await;
        }
        let cleared = rig.clear(request.clone()).await;
        // The look-up of what kind of mount it is, in each namespace, is an answer that is kept too.
        assert!(cleared.number("/cleared") >= 1, "{request}");
        for (header, prefix, named) in [WAYS[0], WAYS[2], WAYS[7]] {
            let reply = within(&rig, header).get(&format!("{prefix}{SECRET}")).await;
            assert_eq!(value(&reply), named);
            let expected = if gone.contains(&named) { "MISS" } else { "HIT" };
            assert_eq!(reply.cache(), expected, "{named:?} after {request}");
        }
    }
}

const OF: &str = "the secret of ";
