//! Certificates that change while Leasehold runs.

use std::sync::Arc;

use leasehold::config::VaultTls;
use rustls::{ALL_VERSIONS, ServerConfig};

use super::certs::{Authority, Signed};
use super::stand::{Files, Reached, TlsVault};
use crate::child::eventually;

fn server(authority: &Authority, clients: Option<&Authority>) -> Arc<ServerConfig> {
    authority
        .server(&["localhost"])
        .server(clients, ALL_VERSIONS)
}

/// Does Vault answer, over a new connection?
async fn answers(reached: &Reached, vault: &TlsVault) -> Option<()> {
    vault.cut();
    let path = format!("secret/data/app/config?n={}", fastrand::u64(..));
    (reached.client.get(&path).await.status == 200).then_some(())
}

#[tokio::test]
async fn a_new_authority_is_believed_once_its_file_is_there() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let files = Files::new();
    let vault = TlsVault::start(server(&first, None)).await;
    let tls = VaultTls {
        ca_cert: Some(files.put("ca.pem", &first.pem())),
        ..VaultTls::default()
    };
    let reached = vault.leasehold("localhost", tls).await;
    reached.reads().await;
    vault.becomes(server(&second, None));
    let failure = reached.failure().await;
    assert!(failure.contains("is not signed by"), "{failure}");
    files.put("ca.pem", &second.pem());
    eventually("the new authority", async || {
        answers(&reached, &vault).await
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing_and_shows() {
    let authority = Authority::new("ours");
    let files = Files::new();
    let vault = TlsVault::start(server(&authority, None)).await;
    let tls = VaultTls {
        ca_cert: Some(files.put("ca.pem", &authority.pem())),
        ..VaultTls::default()
    };
    let reached = vault.leasehold("localhost", tls).await;
    reached.reads().await;
    let stale = "leasehold_upstream_tls_stale";
    assert_eq!(reached.metric(stale).await, 0);
    files.put("ca.pem", "");
    eventually("a look at the file", async || {
        assert_eq!(answers(&reached, &vault).await, Some(()));
        (reached.metric(stale).await == 1).then_some(())
    })
    .await;
    let status = reached.status().await;
    let told = status["degraded_reasons"].to_string();
    assert!(told.contains("ca.pem holds no certificate"), "{status}");
    files.put("ca.pem", &authority.pem());
    eventually("the good file", async || {
        assert_eq!(answers(&reached, &vault).await, Some(()));
        (reached.metric(stale).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_client_certificate_is_shown_once_both_files_are_there() {
    let (ours, old, new) = (
        Authority::new("ours"),
        Authority::new("old"),
        Authority::new("new"),
    );
    let files = Files::new();
    let put = |signed: &Signed| {
        (
            files.put("client.pem", &signed.cert),
            files.put("client.key", &signed.key),
        )
    };
    let (cert, key) = put(&old.client());
    let vault = TlsVault::start(server(&ours, Some(&old))).await;
    let tls = VaultTls {
        ca_pem: Some(ours.pem()),
        client_cert: Some(cert),
        client_key: Some(key),
        ..VaultTls::default()
    };
    let reached = vault.leasehold("localhost", tls).await;
    reached.reads().await;
    let next = new.client();
    // Between the two files the old pair is shown.
    files.put("client.pem", &next.cert);
    eventually("a look at half of the new pair", async || {
        assert_eq!(answers(&reached, &vault).await, Some(()));
        (reached.metric("leasehold_upstream_tls_stale").await == 1).then_some(())
    })
    .await;
    vault.becomes(server(&ours, Some(&new)));
    let failure = reached.failure().await;
    assert!(
        failure.contains("refuses the client certificate"),
        "{failure}"
    );
    files.put("client.key", &next.key);
    eventually("the new pair", async || answers(&reached, &vault).await).await;
}

/// Kubernetes swaps a whole directory of certificates by one link.
#[tokio::test]
async fn a_mounted_volume_is_swapped_by_its_link() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let files = Files::new();
    let link = |version: &str| {
        let new = files.path().join("..new");
        std::os::unix::fs::symlink(version, &new).unwrap();
        std::fs::rename(&new, files.path().join("..data")).unwrap();
    };
    files.put("..1/ca.crt", &first.pem());
    files.put("..2/ca.crt", &second.pem());
    link("..1");
    std::os::unix::fs::symlink("..data/ca.crt", files.path().join("ca.crt")).unwrap();
    let vault = TlsVault::start(server(&first, None)).await;
    for tls in [
        VaultTls {
            ca_cert: Some(files.path().join("ca.crt")),
            ..VaultTls::default()
        },
        VaultTls {
            ca_path: Some(files.path().to_owned()),
            ..VaultTls::default()
        },
    ] {
        link("..1");
        vault.becomes(server(&first, None));
        let reached = vault.leasehold("localhost", tls).await;
        reached.reads().await;
        vault.becomes(server(&second, None));
        link("..2");
        eventually("the other volume", async || answers(&reached, &vault).await).await;
    }
}
