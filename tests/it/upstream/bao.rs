//! A real server, where there is one on PATH: over TLS, over a socket, and with a login by Kubernetes whose
//! tokens a stand-in on loopback reviews.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Port};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use leasehold::app::Leasehold;
use leasehold::config::{Cache, Config, Listener, Method, UseAutoAuthToken, VaultTls};
use leasehold::tasks::Tasks;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval, timeout};

use super::certs::Authority;
use super::kubernetes::by;
use super::stand::Files;
use crate::child::{eventually, soon};
use crate::support::{Client, approle, kv2};

/// A real development server; it ends with this value.
struct Bao {
    port: u16,
    files: Files,
    _child: Child,
}

impl Bao {
    /// `None`, and a line that says so: there is none on PATH. With TLS, and on a socket too.
    async fn start() -> Option<Self> {
        let Some(program) = program() else {
            let line = "upstream: no bao on PATH, the development Vault stands in";
            writeln!(io::stderr(), "{line}").unwrap();
            return None;
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (files, port) = (Files::new(), free_ports());
            let socket = format!(
                "listener \"unix\" {{\n  address = \"{}\"\n  tls_disable = true\n}}\n",
                files.path().join("bao.sock").display()
            );
            let config = files.put("server.hcl", &socket);
            let certs = files.path().join("tls");
            std::fs::create_dir(&certs).unwrap();
            let mut child = Command::new(&program)
                .args(["server", "-dev", "-dev-no-store-token", "-dev-tls"])
                .arg(format!("-dev-tls-cert-dir={}", certs.display()))
                .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
                .arg(format!("-dev-root-token-id={ROOT}"))
                .arg(format!("-config={}", config.display()))
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            if is_ready(&mut child, &files, deadline).await {
                let _child = child;
                return Some(Self {
                    port,
                    files,
                    _child,
                });
            }
            // Somebody else took one of its ports in the meantime.
            assert!(Instant::now() < deadline, "the server does not start");
        }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.files.path().join("bao.sock").display())
    }

    fn ca(&self) -> PathBuf {
        self.files.path().join("tls/vault-ca.pem")
    }

    /// A Leasehold whose token is root's.
    async fn leasehold(&self, address: &str, tls: VaultTls) -> Result<Reached, String> {
        let mut auth = approle("", "");
        auth.method = Method::TokenFile {
            path: self.files.put("root", ROOT),
        };
        auth.mount_path = "auth/token".to_owned();
        Reached::start(address, tls, auth).await
    }
}

struct Reached {
    leasehold: Leasehold,
    client: Client,
}

impl Reached {
    async fn start(
        address: &str,
        tls: VaultTls,
        mut auth: leasehold::config::AutoAuth,
    ) -> Result<Self, String> {
        auth.min_backoff = Duration::from_millis(100);
        auth.max_backoff = Duration::from_millis(100);
        let mut config = Config {
            auto_auth: Some(auth),
            use_auto_auth_token: UseAutoAuthToken::WhenAbsent,
            cache: Some(Cache::default()),
            listeners: vec![Listener {
                address: "127.0.0.1:0".to_owned(),
                ..Listener::default()
            }],
            startup_wait: Duration::from_millis(1),
            ..Config::default()
        };
        config.vault.address = address.to_owned();
        config.vault.tls = tls;
        let leasehold = Leasehold::start(config).await;
        let leasehold = leasehold.map_err(|error| error.to_string())?;
        Ok(Self {
            client: Client::of(&leasehold),
            leasehold,
        })
    }

    async fn works(&self, name: &str) {
        let logged_in = timeout(DEADLINE, self.leasehold.authenticated()).await;
        assert!(logged_in.is_ok(), "{}", self.auth().await);
        let path = format!("secret/data/{name}");
        let written = self.client.put(&path, kv2(name)).await;
        assert_eq!(written.status, 200, "{}", written.json());
        let read = self.client.get(&path).await;
        assert_eq!(read.at("/data/data/value"), name, "{}", read.json());
    }

    async fn auth(&self) -> Value {
        let status = self.client.text("/agent/v1/status").await;
        let status: Value = serde_json::from_str(&status).unwrap();
        status["auth"].clone()
    }
}

#[tokio::test]
async fn a_real_server_is_reached_over_tls_and_over_its_socket() {
    let Some(bao) = Bao::start().await else {
        return;
    };
    let trusting = VaultTls {
        ca_cert: Some(bao.ca()),
        ..VaultTls::default()
    };
    for (name, address, tls) in [
        ("by-name", bao.url(), trusting.clone()),
        (
            "by-address",
            bao.url().replace("localhost", "127.0.0.1"),
            trusting.clone(),
        ),
        (
            "by-directory",
            bao.url(),
            VaultTls {
                ca_path: Some(bao.files.path().join("tls")),
                ..VaultTls::default()
            },
        ),
        (
            "unchecked",
            bao.url(),
            VaultTls {
                danger_skip_verify: true,
                ..VaultTls::default()
            },
        ),
        ("socket", bao.socket(), VaultTls::default()),
    ] {
        let reached = bao.leasehold(&address, tls).await.unwrap();
        reached.works(name).await;
    }
    for (tls, part) in [
        (VaultTls::default(), "is not signed by"),
        (
            VaultTls {
                server_name: Some("vault.internal".to_owned()),
                ..trusting
            },
            "not for vault.internal",
        ),
    ] {
        let reached = bao.leasehold(&bao.url(), tls).await.unwrap();
        let reply = reached.client.bearing(ROOT).get("secret/data/x").await;
        let said = reply.at("/errors/0");
        assert_eq!(reply.status, 502, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn a_real_server_takes_service_account_tokens() {
    let Some(bao) = Bao::start().await else {
        return;
    };
    let cluster = Cluster::start().await;
    let root = bao.leasehold(&bao.socket(), VaultTls::default()).await;
    let root = root.unwrap();
    soon("a login", root.leasehold.authenticated()).await;
    for (method, path, fields) in [
        (
            "PUT",
            "sys/auth/kubernetes",
            json!({ "type": "kubernetes" }),
        ),
        (
            "PUT",
            "auth/kubernetes/config",
            json!({
                "kubernetes_host": format!("http://{}", cluster.address),
                "kubernetes_ca_cert": Authority::new("cluster").pem(),
                "disable_local_ca_jwt": true,
                "token_reviewer_jwt": REVIEWER,
            }),
        ),
        (
            "PUT",
            "sys/policies/acl/app",
            json!({ "policy": "path \"secret/*\" { capabilities = [\"create\", \"read\", \"update\"] }" }),
        ),
        ("PUT", "auth/kubernetes/role/app", role("app", "")),
        ("PUT", "auth/kubernetes/role/other", role("other", "")),
        ("PUT", "auth/kubernetes/role/audience", role("app", "vault")),
    ] {
        let reply = root.client.send(method, path, fields).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.json());
    }
    let path = bao.files.path().join("token");
    let start = async |role: &str| {
        let auth = by(role, &path, &approle("", ""));
        let tls = VaultTls {
            ca_cert: Some(bao.ca()),
            ..VaultTls::default()
        };
        Reached::start(&bao.url(), tls, auth).await.unwrap()
    };
    let refused = async |reached: &Reached, part: &str| {
        eventually(part, async || {
            let said = reached.auth().await["last_error"]["text"].to_string();
            assert!(!said.contains(CANARY), "{said}");
            (said.contains(part) && said.contains(path.to_str().unwrap())).then_some(())
        })
        .await;
    };

    bao.files
        .put("token", &format!("{}\n", cluster.issue("first", 3_600)));
    let reached = start("app").await;
    reached.works("kubernetes").await;
    let logged_in = reached.auth().await;
    assert_eq!(logged_in["method"], "kubernetes", "{logged_in}");
    assert_eq!(cluster.reviewed(), ["first"]);

    // The token of Vault lives three seconds: soon it logs in anew, by what the file holds then.
    bao.files.put("token", &cluster.issue("second", 3_600));
    eventually("a login by the second token", async || {
        cluster
            .reviewed()
            .contains(&"second".to_owned())
            .then_some(())
    })
    .await;
    reached.works("rotated").await;

    cluster.revoke();
    refused(&reached, "could not have the token reviewed").await;
    bao.files.put("token", &cluster.issue("third", 3_600));
    eventually("a login by the third token", async || {
        (reached.auth().await["failures"] == 0).then_some(())
    })
    .await;
    reached.works("again").await;

    bao.files.put("token", &cluster.issue("over", -60));
    refused(&reached, "token that is over").await;
    bao.files.put("token", &cluster.issue("good", 3_600));
    for (role, part) in [
        ("none", "such a role at this mount path"),
        ("other", "bound_service_account_names"),
        ("audience", "expects another audience"),
    ] {
        refused(&start(role).await, part).await;
    }
    let mut elsewhere = by("app", &path, &approle("", ""));
    elsewhere.mount_path = "auth/elsewhere".to_owned();
    let elsewhere = Reached::start(&bao.socket(), VaultTls::default(), elsewhere).await;
    refused(&elsewhere.unwrap(), "no such mount path").await;
    let reviewers = cluster.authorizations();
    assert!(
        reviewers
            .iter()
            .all(|by| *by == format!("Bearer {REVIEWER}"))
    );
}

fn role(account: &str, audience: &str) -> Value {
    let mut role = json!({
        "bound_service_account_names": account,
        "bound_service_account_namespaces": "default",
        "token_policies": "app",
        "token_ttl": "3s",
        "token_max_ttl": "3s",
    });
    if !audience.is_empty() {
        role["audience"] = json!(audience);
    }
    role
}

/// What of a Kubernetes cluster the login needs: `TokenReview` (authentication.k8s.io/v1).
struct Cluster {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: Tasks,
}

#[derive(Default)]
struct Shared {
    /// Names of tokens by their text.
    issued: Mutex<HashMap<String, String>>,
    reviewed: Mutex<Vec<String>>,
    authorizations: Mutex<Vec<String>>,
}

impl Cluster {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, shared) = (Tasks::new(), Arc::new(Shared::default()));
        let (spawning, reviewing) = (tasks.clone(), Arc::clone(&shared));
        tasks.spawn("cluster", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&reviewing);
                spawning.spawn("cluster connection", async move {
                    let service = service_fn(|request| review(Arc::clone(&shared), request));
                    let _ended = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            shared,
            _tasks: tasks,
        }
    }

    /// A token of the service account `app` that ends in so many seconds; nobody signs it.
    fn issue(&self, name: &str, ttl: i64) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let now = i64::try_from(now).unwrap();
        let claims = json!({
            "aud": ["https://kubernetes.default.svc"],
            "exp": now + ttl,
            "iat": now - 3_600,
            "nbf": now - 3_600,
            "iss": "https://kubernetes.default.svc",
            "kubernetes.io": {
                "namespace": "default",
                "serviceaccount": { "name": "app", "uid": "u-1" },
            },
            "sub": "system:serviceaccount:default:app",
        });
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!(
            "{}.{}.{CANARY}{}",
            part(r#"{"alg":"RS256","typ":"JWT"}"#),
            part(&claims.to_string()),
            part(name)
        );
        let mut issued = self.shared.issued.lock().unwrap();
        issued.insert(token.clone(), name.to_owned());
        token
    }

    /// None that was given out so far counts any more.
    fn revoke(&self) {
        self.shared.issued.lock().unwrap().clear();
    }

    /// The names of the tokens that were found good, each once in a row.
    fn reviewed(&self) -> Vec<String> {
        let mut reviewed = self.shared.reviewed.lock().unwrap().clone();
        reviewed.dedup();
        reviewed
    }

    fn authorizations(&self) -> Vec<String> {
        self.shared.authorizations.lock().unwrap().clone()
    }
}

async fn review(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    assert_eq!(
        (head.method.as_str(), head.uri.path()),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
    );
    let by = head.headers["authorization"].to_str().unwrap().to_owned();
    shared.authorizations.lock().unwrap().push(by);
    let mut answer: Value = serde_json::from_slice(&body).unwrap();
    let token = answer["spec"]["token"].as_str().unwrap().to_owned();
    let name = shared.issued.lock().unwrap().get(&token).cloned();
    answer["apiVersion"] = json!("authentication.k8s.io/v1");
    answer["kind"] = json!("TokenReview");
    answer["status"] = match name {
        None => json!({ "authenticated": false, "error": "token lookup failed" }),
        Some(name) => {
            shared.reviewed.lock().unwrap().push(name);
            json!({
                "authenticated": true,
                // For which of those that were asked for it is good.
                "audiences": answer["spec"]["audiences"],
                "user": {
                    "username": "system:serviceaccount:default:app",
                    "uid": "u-1",
                    "groups": ["system:serviceaccounts"],
                },
            })
        }
    };
    let mut response = Response::new(Full::from(answer.to_string()));
    *response.status_mut() = http::StatusCode::CREATED;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    Ok(response)
}

/// False: it ended.
async fn is_ready(child: &mut Child, files: &Files, deadline: Instant) -> bool {
    let socket = files.path().join("bao.sock");
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        // The mount of KV is what is made last.
        let said = ask(&socket, "/v1/secret/config").await;
        if said.is_some_and(|status| status == 200) {
            return true;
        }
        assert!(Instant::now() < deadline, "the server never became ready");
    }
}

async fn ask(socket: &Path, path: &str) -> Option<u16> {
    let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    let tasks = Tasks::new();
    tasks.spawn("readiness", async move {
        connection.await.ok();
    });
    let request = Request::builder()
        .uri(path)
        .header("host", "localhost")
        .header("x-vault-token", ROOT)
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = sender.send_request(request).await.ok()?;
    Some(answer.status().as_u16())
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders = std::env::split_paths(&path);
    folders
        .find(|folder| folder.join("bao").is_file())
        .map(|folder| folder.join("bao"))
}

/// A port that is free, and the next one too: the server's own cluster listener takes that.
fn free_ports() -> u16 {
    let free = |port: u16| Port::bind((Ipv4Addr::LOCALHOST, port)).ok();
    (0..100)
        .find_map(|_| {
            let first = free(0)?.local_addr().ok()?.port();
            let _both = (free(first)?, free(first.checked_add(1)?)?);
            Some(first)
        })
        .expect("two free ports, one after the other")
}

const DEADLINE: Duration = Duration::from_secs(30);
const ROOT: &str = "no-secret-of-anybody";
const REVIEWER: &str = "reviewer";
/// In the signature of every service account token.
const CANARY: &str = "canary-signature";
