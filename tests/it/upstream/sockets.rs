//! Vault behind a Unix socket.

use std::path::Path;
use std::time::Duration;

use leasehold::dev::{DevVault, Options};
use leasehold::tasks::Tasks;
use tokio::io::copy_bidirectional;
use tokio::net::UnixListener;

use super::stand::{Files, Reached};
use crate::child::{BINARY, Home, PROXY, Process, get};
use crate::support::kv2;

/// Serves a development Vault on a socket; a path that begins with a zero byte is abstract.
fn vault_at(path: &Path, tasks: &Tasks) -> DevVault {
    let vault = DevVault::new(&Options::default());
    serve(&vault, path, tasks);
    vault
}

/// Until the tasks are stopped.
fn serve(vault: &DevVault, path: &Path, tasks: &Tasks) {
    let listener = UnixListener::bind(path).unwrap();
    let (serving, all) = (vault.clone(), tasks.clone());
    tasks.spawn("socket vault", async move {
        loop {
            let (mut stream, _) = tokio::select! {
                () = all.stopping() => return,
                accepted = listener.accept() => accepted.unwrap(),
            };
            let (mut pipe, stop) = (serving.serve_duplex(&all), all.clone());
            all.spawn("socket vault connection", async move {
                tokio::select! {
                    () = stop.stopping() => {}
                    _ended = copy_bidirectional(&mut stream, &mut pipe) => {}
                }
            });
        }
    });
}

async fn reached(vault: &DevVault, address: &str) -> Reached {
    Reached::start(vault, |config| config.vault.address = address.to_owned())
        .await
        .unwrap()
}

#[tokio::test]
async fn everything_goes_through_the_socket() {
    let (files, tasks) = (Files::new(), Tasks::new());
    let path = files.path().join("vault.sock");
    let name = format!("leasehold-{:016x}", fastrand::u64(..));
    for (bound, address) in [
        (path.clone(), format!("unix://{}", path.display())),
        (format!("\0{name}").into(), format!("unix://@{name}")),
    ] {
        let vault = vault_at(&bound, &tasks);
        let reached = reached(&vault, &address).await;
        reached.reads().await;
        let client = &reached.client;
        let written = client.put("secret/data/app/w/socket", kv2("written")).await;
        assert_eq!(written.status, 200, "{}", written.json());
        let read = client.get("secret/data/app/w/socket?version=1").await;
        assert_eq!(read.at("/data/data/value"), "written");
        let lease = client.get("database/creds/app-readonly").await;
        assert_eq!(lease.status, 200);
        let fields = serde_json::json!({ "lease_id": lease.at("/lease_id") });
        let renewed = client.put("sys/leases/renew", fields).await;
        assert_eq!(renewed.status, 200, "{}", renewed.json());
        let records = vault.log().records();
        for path in ["/v1/auth/approle/login", "/v1/sys/leases/renew"] {
            assert!(records.iter().any(|record| record.target == path), "{path}");
        }
        for record in records {
            assert_eq!(record.header("host"), Some("localhost"), "{record:?}");
        }
        let status = reached.status().await;
        assert_eq!(status["vault"]["address"], address);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_socket_is_said_with_its_path() {
    let files = Files::new();
    let vault = DevVault::new(&Options::default());
    let dead = files.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    for (path, part) in [
        (files.path().join("gone.sock"), "No such file"),
        (dead, "refused"),
        (files.put("file", "x"), "refused"),
    ] {
        let address = format!("unix://{}", path.display());
        let failure = reached(&vault, &address).await.failure().await;
        assert!(failure.contains(&address), "{failure}");
        assert!(failure.contains(part), "{failure}");
    }
}

/// A Vault that restarts makes its socket anew.
#[tokio::test]
async fn a_socket_that_comes_back_is_found_again() {
    let files = Files::new();
    let path = files.path().join("vault.sock");
    let first = Tasks::new();
    let vault = vault_at(&path, &first);
    let reached = reached(&vault, &format!("unix://{}", path.display())).await;
    reached.reads().await;
    assert!(first.stop(Duration::from_secs(10)).await);
    std::fs::remove_file(&path).unwrap();
    let failure = reached.failure().await;
    assert!(failure.contains("No such file"), "{failure}");
    serve(&vault, &path, &Tasks::new());
    reached.reads().await;
}

#[tokio::test]
async fn the_program_takes_it_from_the_environment_and_from_the_file() {
    let (home, tasks) = (Home::new(), Tasks::new());
    let path = home.path("vault.sock");
    let vault = vault_at(&path, &tasks);
    home.write("role-id", &vault.role_id());
    home.write("secret-id", vault.secret_id().expose());
    let address = format!("unix://{}", path.display());
    let rest = home.auto_auth_by_files("") + PROXY;
    let without = home.write("without.hcl", &rest);
    let with = format!("vault {{\n  address = \"{address}\"\n}}\n{rest}");
    let with = home.write("with.hcl", &with);
    for (config, env) in [
        (&without, &[("VAULT_ADDR", address.as_str())][..]),
        (&without, &[("BAO_ADDR", &address)]),
        (&with, &[]),
    ] {
        let process = Process::start_in(&["agent", "-config", config], env);
        let answer = get(process.address().await, "/v1/secret/data/app/config").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let checked = std::process::Command::new(BINARY)
        .args(["check", "-config", &with])
        .env_clear()
        .output()
        .unwrap();
    let shown = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{shown}");
    assert!(shown.contains(&format!("= \"{address}\"")), "{shown}");
}
