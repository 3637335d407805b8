//! What is let go of is gone from memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use leasehold::tasks::Tasks;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use crate::child::{Home, Process, Vault, eventually, get, soon};
use crate::support::measured;

/// A secret that was served to callers and forgotten, the secret id of a login, a token that was replaced: when
/// the connections are closed, there is no copy of any of them.
#[tokio::test]
async fn no_copy_of_a_secret_outlives_it() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let value = format!("memory-canary-{:032x}", fastrand::u128(..));
    let write = json!({ "data": { "value": value } });
    vault
        .dev
        .root("PUT", "/v1/secret/data/app/canary", write)
        .await;
    let config = home.config(&vault, "");
    let process = Process::start(&["agent", "-config", &config]);
    let address = process.address().await;
    let memory = Memory::of(process.id());
    if !memory.is_open() {
        return;
    }
    let target = "/v1/secret/data/app/canary";
    let clients = Tasks::new();
    let mut kept = Vec::new();
    for _ in 0..10 {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        clients.spawn("client", async move {
            connection.await.ok();
        });
        let request = || {
            let request = http::Request::get(target).header("host", "localhost");
            request.body(Full::<bytes::Bytes>::default()).unwrap()
        };
        for _ in 0..10 {
            let answer = soon("an answer", sender.send_request(request()))
                .await
                .unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap();
        }
        kept.push(sender);
    }
    let token = token_of(&vault);
    let secret_id = vault.dev.secret_id();
    let cached = [&*value, &token].map(|secret| memory.copies(secret));
    assert!(
        cached.iter().all(|copies| *copies > 0),
        "nothing was found where there is something"
    );
    let cleared = clear(address).await;
    assert_eq!(cleared, 200);
    let evicted = memory.copies(&value);
    drop(kept);
    assert!(clients.stop(std::time::Duration::from_secs(10)).await);
    let closed = eventually("the value to be gone", async || {
        let copies = memory.copies(&value);
        (copies == 0).then_some(copies)
    });
    let closed = closed.await;
    let of_login = memory.copies(secret_id.expose());
    measured(format_args!(
        "copies of a value: {} while it is kept, {evicted} when it is not, {closed} when the callers are gone; \
         of our token {} while it is used; of a secret id after its login {of_login}",
        cached[0], cached[1]
    ));
    // For the next login, should its file be gone by then.
    assert_eq!(of_login, 1, "the secret id is remembered once");
    vault
        .dev
        .root("PUT", "/v1/auth/token/revoke", json!({ "token": token }))
        .await;
    eventually("the old token to be gone", async || {
        get(address, "/v1/secret/data/app/other").await;
        (memory.copies(&token) == 0).then_some(())
    })
    .await;
    process.stopped_by(Signal::SIGTERM).await;
}

fn token_of(vault: &Vault) -> String {
    let records = vault
        .dev
        .log()
        .matching("GET", "/v1/secret/data/app/canary");
    records[0].header("x-vault-token").unwrap().to_owned()
}

async fn clear(address: std::net::SocketAddr) -> u16 {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    Tasks::new().spawn("client", async move {
        connection.await.ok();
    });
    let request = http::Request::post("/agent/v1/cache-clear")
        .header("host", "localhost")
        .body(Full::<bytes::Bytes>::from(r#"{"type":"all"}"#))
        .unwrap();
    sender
        .send_request(request)
        .await
        .unwrap()
        .status()
        .as_u16()
}

/// Another process's memory, where we may look into it.
struct Memory {
    process: i32,
    file: Option<File>,
}

impl Memory {
    fn of(process: i32) -> Self {
        let file = File::open(Path::new("/proc").join(process.to_string()).join("mem"));
        Self {
            process,
            file: file.ok(),
        }
    }

    fn is_open(&self) -> bool {
        if self.file.is_none() {
            crate::support::say(
                "memory: this user may not look into a process that forbids it; not tested",
            );
        }
        self.file.is_some()
    }

    /// How often a text is anywhere in what the process can write to.
    fn copies(&self, text: &str) -> usize {
        let maps = Path::new("/proc")
            .join(self.process.to_string())
            .join("maps");
        let maps = fs::read_to_string(maps).unwrap();
        let wanted = text.as_bytes();
        let mut copies = 0;
        for line in maps.lines() {
            let mut parts = line.split_whitespace();
            let (Some(range), Some(rights)) = (parts.next(), parts.next()) else {
                continue;
            };
            let (from, to) = range.split_once('-').unwrap();
            let parse = |text| u64::from_str_radix(text, 16).unwrap();
            let (from, to) = (parse(from), parse(to));
            if !rights.starts_with("rw") {
                continue;
            }
            let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
            let file = self.file.as_ref().unwrap();
            // What cannot be read (a guard page, the kernel's own) holds nothing of ours.
            let Ok(read) = file.read_at(&mut bytes, from) else {
                continue;
            };
            copies += bytes[..read]
                .windows(wanted.len())
                .filter(|window| *window == wanted)
                .count();
        }
        copies
    }
}
