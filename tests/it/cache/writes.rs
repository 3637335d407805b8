//! Writes are seen at once: whatever the form, whoever asks, however the write ends.

use http::StatusCode;
use leasehold::dev::Fault;
use serde_json::{Value, json};

use crate::support::{Client, Rig, kv2, millis, pass, seconds};

/// Everything of a KV v2 secret that can be read, and the lists above it.
const VIEWS_2: [&str; 7] = [
    "secret/data/app/w/x",
    "secret/data/app/w/x?version=1",
    "secret/data/app/w/x?version=2",
    "secret/metadata/app/w/x",
    "secret/metadata/app/w?list=true",
    "secret/metadata/app?list=true",
    "secret/subkeys/app/w/x",
];

const VIEWS_1: [&str; 3] = ["kv/app/w/x", "kv/app/w?list=true", "kv/app?list=true"];

/// What the reader's own view says, without what differs from answer to answer.
fn content(json: &Value) -> Value {
    json["data"].clone()
}

async fn prepared() -> (Rig, Vec<Client>) {
    let rig = Rig::new().await;
    for value in ["one", "two"] {
        rig.root("PUT", "secret/data/app/w/x", kv2(value)).await;
        rig.root("PUT", "kv/app/w/x", json!({ "value": value }))
            .await;
    }
    let policy =
        r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }"#;
    let policy = json!({ "policy": policy });
    rig.root("PUT", "sys/policies/acl/app", policy).await;
    let readers = vec![
        rig.client(),
        rig.stranger().await,
        rig.bearing(rig.vault.root_token().expose()),
    ];
    (rig, readers)
}

/// Everybody reads everything, twice; the second time from memory.
async fn warm(readers: &[Client], views: &[&str]) {
    for client in readers {
        for view in views {
            client.get(view).await;
            let again = client.get(view).await;
            if again.status == StatusCode::OK {
                assert_eq!(again.cache(), "HIT", "{view} {}", again.json());
            }
        }
    }
}

/// What everybody reads is what Vault has.
async fn assert_true(rig: &Rig, readers: &[Client], views: &[&str], after: &str) {
    for client in readers {
        for view in views {
            let read = client.get(view).await;
            let (status, truth) = rig
                .vault
                .root("GET", &format!("/v1/{view}"), Value::Null)
                .await;
            assert_eq!(read.status, status, "{view} after {after}");
            assert_eq!(
                content(&read.json()),
                content(&truth),
                "{view} after {after}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_form_of_a_write_is_seen_by_everybody() {
    let versions = |which: &[u64]| json!({ "versions": which });
    let custom = json!({ "custom_metadata": { "a": "b" } });
    let v1 = json!({ "value": "new" });
    let forms = [
        ("POST", "secret/data/app/w/x", kv2("new")),
        ("PUT", "secret/data/app/w/x", kv2("new")),
        ("PATCH", "secret/data/app/w/x", kv2("new")),
        ("DELETE", "secret/data/app/w/x", Value::Null),
        ("POST", "secret/delete/app/w/x", versions(&[1])),
        ("PUT", "secret/delete/app/w/x", versions(&[2])),
        ("POST", "secret/undelete/app/w/x", versions(&[2])),
        ("PUT", "secret/undelete/app/w/x", versions(&[1, 2])),
        ("POST", "secret/destroy/app/w/x", versions(&[1])),
        ("PUT", "secret/destroy/app/w/x", versions(&[1])),
        ("POST", "secret/metadata/app/w/x", custom.clone()),
        ("PUT", "secret/metadata/app/w/x", custom.clone()),
        ("PATCH", "secret/metadata/app/w/x", custom),
        ("DELETE", "secret/metadata/app/w/x", Value::Null),
        ("POST", "secret/data/app/w/y", kv2("a neighbour")),
        // Odd spellings of the same path.
        ("PUT", "secret/data/app/w/%78", kv2("new")),
        ("PUT", "secret/data//app/w/x", kv2("new")),
        ("POST", "kv/app/w/x", v1.clone()),
        ("PUT", "kv/app/w/x", v1.clone()),
        ("PUT", "kv/app/w/y", v1),
        ("DELETE", "kv/app/w/x", Value::Null),
    ];
    for (method, path, body) in forms {
        let (rig, readers) = prepared().await;
        if path.contains("undelete") {
            let both = versions(&[1, 2]);
            rig.root("PUT", "secret/delete/app/w/x", both).await;
        }
        let views = if path.starts_with("kv") {
            &VIEWS_1[..]
        } else {
            &VIEWS_2
        };
        for writer in 0..readers.len() {
            warm(&readers, views).await;
            let written = readers[writer].send(method, path, body.clone()).await;
            let what = format!("{method} {path} -> {}", written.status);
            // What does not exist any more, or not by that spelling, Vault refuses.
            let may_be_refused = writer > 0 || path.contains("//") || path.contains('%');
            assert!(written.status.is_success() || may_be_refused, "{what}");
            assert_true(&rig, &readers, views, &what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_to_one_path_leaves_the_others_in_memory() {
    let (rig, readers) = prepared().await;
    let elsewhere = ["secret/data/app/config", "kv/app/config"];
    warm(&readers, &elsewhere).await;
    rig.put("secret/data/app/w/x", kv2("new")).await;
    rig.put("kv/app/w/x", json!({ "value": "new" })).await;
    for view in elsewhere {
        assert_eq!(rig.get(view).await.cache(), "HIT", "{view}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_too_however_it_is_named() {
    let rig = Rig::new().await;
    rig.root("POST", "sys/namespaces/team", json!({})).await;
    let fields = json!({ "type": "kv", "options": { "version": "2" } });
    rig.root("POST", "team/sys/mounts/v2", fields).await;
    let root = rig.bearing(rig.vault.root_token().expose());
    let inside = root.header("x-vault-namespace", "team/");
    for (number, writer, path) in [
        (1, &inside, "v2/data/x"),
        (2, &root, "team/v2/data/x"),
        (3, &inside, "v2/data/x"),
    ] {
        let written = writer.put(path, kv2(number)).await;
        assert_eq!(written.status, 200, "{}", written.json());
        for (reader, path) in [(&inside, "v2/data/x"), (&root, "team/v2/data/x")] {
            let read = reader.get(path).await;
            assert_eq!(read.number("/data/data/value"), number);
        }
    }
}

/// The read saw the old value, and its answer comes after the write's.
#[tokio::test(start_paused = true)]
async fn a_read_that_began_before_a_write_is_not_kept() {
    for (path, fields) in [
        ("secret/data/app/w/x", kv2("new")),
        (
            "kv/app/w/x",
            json!({ "value": "new", "data": { "value": "new" } }),
        ),
    ] {
        for slowly in [
            Fault::on("GET", "/v1/*").late(seconds(2)).times(1),
            Fault::on("GET", "/v1/*").slow(32, millis(200)).times(1),
        ] {
            let (rig, _) = prepared().await;
            // What is mounted there is known, so that nothing else is asked first.
            rig.get("kv/app/config").await;
            rig.fault(slowly);
            let reading = rig.start("GET", path, Value::Null);
            pass(millis(500)).await;
            let written = rig.put(path, fields.clone()).await;
            assert!(written.status.is_success());
            let during = rig.get(path).await;
            assert!(during.at("/data").contains("new"), "asked after the write");
            let old = reading.await.unwrap();
            assert!(old.at("/data").contains("two"), "it was asked before");
            pass(seconds(5)).await;
            assert!(rig.get(path).await.at("/data").contains("new"));
        }
    }
}

/// A revalidation is such a read too.
#[tokio::test(start_paused = true)]
async fn a_revalidation_that_began_before_a_write_is_not_kept() {
    let (rig, _) = prepared().await;
    const PATH: &str = "secret/data/app/w/x";
    rig.get(PATH).await;
    pass(seconds(301)).await;
    rig.fault(Fault::on("GET", "*").late(seconds(2)).times(1));
    assert_eq!(rig.get(PATH).await.cache(), "HIT");
    pass(seconds(1)).await;
    rig.put(PATH, kv2("new")).await;
    pass(seconds(5)).await;
    assert_eq!(rig.get(PATH).await.at("/data/data/value"), "new");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_drops_what_it_may_have_changed() {
    let cuts: [fn(Fault) -> Fault; 4] = [
        Fault::cut_before_head,
        Fault::cut_after_processing,
        Fault::cut_after_head,
        |fault| fault.cut_after_body(10),
    ];
    for (path, fields) in [
        ("secret/data/app/w/x", kv2("new")),
        ("kv/app/w/x", json!({ "value": "new" })),
    ] {
        for cut in cuts {
            let (rig, readers) = prepared().await;
            warm(&readers, &[path]).await;
            rig.fault(cut(Fault::on("PUT", "*").times(1)));
            if let Ok(reply) = rig.try_send("PUT", path, fields.clone()).await {
                assert!(reply.status.is_server_error() || reply.body.is_empty());
            }
            assert_eq!(rig.asked("PUT", path), 1, "a write is sent once");
            assert_true(&rig, &readers, &[path], "a cut").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_vault_fails_drops_what_it_may_have_changed() {
    let (rig, readers) = prepared().await;
    const PATH: &str = "secret/data/app/w/x";
    for status in [500, 502, 503, 504] {
        warm(&readers, &[PATH]).await;
        let status = StatusCode::from_u16(status).unwrap();
        rig.fault(Fault::on("PUT", "*").refuse(status, "broken").times(1));
        assert_eq!(rig.put(PATH, kv2("new")).await.status, status);
        assert_eq!(rig.get(PATH).await.cache(), "MISS");
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_who_hangs_up_may_have_written() {
    for (path, fields) in [
        ("secret/data/app/w/x", kv2("new")),
        ("kv/app/w/x", json!({ "value": "new" })),
    ] {
        let (rig, readers) = prepared().await;
        warm(&readers, &[path]).await;
        rig.fault(Fault::on("PUT", "*").late(seconds(5)).times(1));
        let writing = rig.start("PUT", path, fields);
        pass(seconds(1)).await;
        writing.abort();
        pass(millis(1)).await;
        assert_true(&rig, &readers, &[path], "a hang-up").await;
        pass(seconds(10)).await;
        assert_true(&rig, &readers, &[path], "a hang-up").await;
    }
}
