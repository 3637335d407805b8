//! The program itself: bounded memory, and no proxy from the environment.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::{EACH, ask};
use crate::wire::{ByHand, Wire, answer_of, soon};

const LENGTH: usize = 100 * 1024 * 1024;
/// Of resident memory at its peak, in KiB.
const BOUND: u64 = 40 * 1024;

/// A running `leasehold agent`; it ends with its test.
struct Program {
    child: Child,
    address: std::net::SocketAddr,
    _directory: tempfile::TempDir,
}

impl Program {
    async fn start(vault: &str, cached: bool, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("agent.hcl");
        let cache = if cached { "cache {}" } else { "" };
        let text = format!(
            "vault {{ address = \"{vault}\" }}\n{cache}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n  max_request_size = -1\n}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_leasehold"))
            .arg("agent")
            .arg(format!("-config={}", file.display()))
            .args(["-log-format=json"])
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = soon("the listener's address", async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let (_, rest) = line.split_once("127.0.0.1:").unwrap_or_default();
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                if line.contains("listening") && !port.is_empty() {
                    return format!("127.0.0.1:{port}").parse().unwrap();
                }
            }
            panic!("it ended");
        });
        let address = address.await;
        child.stderr = Some(lines.into_inner().into_inner());
        Self {
            child,
            address,
            _directory: directory,
        }
    }

    async fn client(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// The most memory that was ever resident, in KiB (proc(5), `VmHWM`).
    fn peak(&self) -> u64 {
        let pid = self.child.id().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let mut words = line.unwrap().split_whitespace();
        words.nth(1).unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn an_upload_of_100_mib_stays_under_40_mib() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        let program = Program::start(&vault.address(), cached, &[]).await;
        for path in ["/v1/secret/data/x", "/v1/transit/encrypt/x"] {
            let mut client = program.client().await;
            let head = format!(
                "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LENGTH}\r\n\r\n"
            );
            let uploading = async {
                client.send(head).await;
                let block = vec![b'x'; 1024 * 1024];
                for _ in 0..LENGTH / block.len() {
                    client.send(&block).await;
                }
                client.answer(b"PUT").await.status()
            };
            let receiving = async {
                let mut upstream = vault.accept().await;
                upstream.head().await.unwrap();
                let received = upstream.count(LENGTH).await;
                upstream
                    .send(answer_of("201 Created", "text/plain", b""))
                    .await;
                received
            };
            assert_eq!(tokio::join!(uploading, receiving), (201, LENGTH));
        }
        let peak = program.peak();
        assert!(peak < BOUND, "{peak} KiB, cached: {cached}");
    }
}

#[tokio::test]
async fn a_download_of_100_mib_stays_under_40_mib() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        let program = Program::start(&vault.address(), cached, &[]).await;
        for content_type in ["application/json", "application/octet-stream"] {
            for is_long_known in [true, false] {
                let mut client = program.client().await;
                client.send(ask("GET", "/v1/secret/data/x")).await;
                let mut upstream = vault.asked("/v1/secret/data/x").await;
                let length = match is_long_known {
                    true => format!("Content-Length: {LENGTH}"),
                    false => "Connection: close".to_owned(),
                };
                upstream
                    .send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{length}\r\n\r\n"
                    ))
                    .await;
                let sending = async {
                    let block = vec![b'x'; 1024 * 1024];
                    for _ in 0..LENGTH / block.len() {
                        upstream.send(&block).await;
                    }
                    drop(upstream);
                };
                let receiving = async {
                    client.head().await.unwrap();
                    client.count(LENGTH).await
                };
                let ((), received) = tokio::join!(sending, receiving);
                assert!(received >= LENGTH, "{received}");
            }
        }
        let peak = program.peak();
        assert!(peak < BOUND, "{peak} KiB, cached: {cached}");
    }
}

/// A client that does not read must not have its answer piled up here.
#[tokio::test]
async fn a_client_that_does_not_read_holds_vault_back() {
    let vault = ByHand::bind().await;
    for cached in EACH {
        let program = Program::start(&vault.address(), cached, &[]).await;
        let mut client = program.client().await;
        client.send(ask("GET", "/v1/secret/data/x")).await;
        let mut upstream = vault.asked("/v1/secret/data/x").await;
        upstream
            .send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {LENGTH}\r\n\r\n"))
            .await;
        let sent = upstream.flood(LENGTH).await;
        assert!(sent < LENGTH, "everything was taken");
        let peak = program.peak();
        assert!(peak < BOUND, "{peak} KiB, cached: {cached}");
        drop(client);
        upstream.closed().await;
    }
}

#[tokio::test]
async fn no_proxy_is_taken_from_the_environment() {
    let vault = ByHand::bind().await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", trap.local_addr().unwrap());
    let names = [
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "HTTPS_PROXY",
        "https_proxy",
    ];
    let environment = names.map(|name| (name, proxy.as_str()));
    for cached in EACH {
        let program = Program::start(&vault.address(), cached, &environment).await;
        let mut client = program.client().await;
        client.send(ask("GET", "/v1/secret/data/x")).await;
        let mut upstream = tokio::select! {
            upstream = vault.asked("/v1/secret/data/x") => upstream,
            _ = trap.accept() => panic!("the proxy was asked"),
        };
        upstream
            .send(answer_of("404 Not Found", "application/json", b"{}"))
            .await;
        assert_eq!(client.answer(b"GET").await.status(), 404);
    }
}
