//! A Vault, and the way on which it is asked: directly, or through a Leasehold in front of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use leasehold::app::Leasehold;
use leasehold::config::{
    AppRole, AutoAuth, Background, Cache, Config, CredentialSource, Listener, Method,
    UseAutoAuthToken, Vault,
};
use leasehold::secret::Secret;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::client::Client;
use super::server::Server;
use super::valkey::Valkey;

/// How the callers of a stand ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    /// Through Leasehold, with tokens of their own.
    Own,
    /// Through Leasehold, with its token.
    Auto,
}

pub(super) struct Stand {
    pub(super) way: Way,
    pub(super) client: Client,
    pub(super) root: String,
    /// The usual caller's; `None` where Leasehold has it.
    pub(super) token: Option<String>,
    /// What a table may name from the beginning.
    pub(super) known: BTreeMap<String, String>,
    valkey: Valkey,
    leasehold: Option<Leasehold>,
    server: Server,
}

impl Stand {
    pub(super) async fn new(server: Server, way: Way) -> Self {
        let direct = Client::new(server.address);
        let root = server.root.clone();
        let (role_id, secret_id) = admit_callers(&direct, &root).await;
        let leasehold = match way {
            Way::Direct => None,
            Way::Own | Way::Auto => {
                let config = config(server.address, way, &role_id, &secret_id);
                let leasehold = Leasehold::start(config).await.unwrap();
                let ready = timeout(PATIENCE, leasehold.authenticated()).await;
                ready.expect("Leasehold has not logged in");
                Some(leasehold)
            }
        };
        let token = match way {
            Way::Auto => None,
            Way::Direct | Way::Own => {
                let login = json!({ "role_id": role_id, "secret_id": secret_id });
                let answer = direct.ask(&root, "PUT", LOGIN, &login).await;
                Some(text(&answer, "/auth/client_token"))
            }
        };
        let address = leasehold
            .as_ref()
            .map(|leasehold| leasehold.addresses()[0].tcp().unwrap());
        let valkey = Valkey::start().await;
        let known = [
            ("role_id", role_id),
            ("root", root.clone()),
            ("plugin", server.plugin.to_owned()),
            ("port", valkey.address.port().to_string()),
            // So that a secret scanner sees none in the tables.
            ("password", "no-secret-of-anybody".to_owned()),
        ];
        Self {
            way,
            client: address.map_or(direct, Client::new),
            root,
            token,
            known: known
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            valkey,
            leasehold,
            server,
        }
    }

    pub(super) async fn stop(self) {
        if let Some(leasehold) = self.leasehold {
            assert!(leasehold.stop().await, "Leasehold has not ended in time");
        }
        self.server.stop().await;
        self.valkey.stop().await;
    }
}

/// Lets callers, Leasehold among them, log in by an AppRole whose tokens may everything. Hands back
/// the role id and a secret id.
async fn admit_callers(vault: &Client, root: &str) -> (String, String) {
    let policy = |capabilities: &[&str]| {
        let rule = format!("path \"*\" {{ capabilities = {} }}", json!(capabilities));
        json!({ "policy": rule })
    };
    let mut capabilities = vec![
        "create", "read", "update", "patch", "delete", "list", "sudo", "scan",
    ];
    let write = "sys/policies/acl/caller";
    let answer = vault.ask(root, "PUT", write, &policy(&capabilities)).await;
    if !answer["errors"].is_null() {
        // Vault has no `scan`.
        capabilities.pop();
        done(&vault.ask(root, "PUT", write, &policy(&capabilities)).await);
    }
    let mount = json!({ "type": "approle" });
    done(&vault.ask(root, "PUT", "sys/auth/caller", &mount).await);
    let role = json!({ "token_policies": "caller", "token_ttl": "1h", "token_max_ttl": "4h" });
    done(&vault.ask(root, "PUT", ROLE, &role).await);
    let role_id = format!("{ROLE}/role-id");
    let role_id = vault.ask(root, "GET", &role_id, &Value::Null).await;
    let secret_id = format!("{ROLE}/secret-id");
    let secret_id = vault.ask(root, "PUT", &secret_id, &json!({})).await;
    (
        text(&role_id, "/data/role_id"),
        text(&secret_id, "/data/secret_id"),
    )
}

fn done(answer: &Value) {
    assert!(answer["errors"].is_null(), "setting up: {answer}");
}

fn text(answer: &Value, place: &str) -> String {
    let found = answer.pointer(place).and_then(Value::as_str);
    found
        .unwrap_or_else(|| panic!("no {place} in {answer}"))
        .to_owned()
}

fn config(vault: SocketAddr, way: Way, role_id: &str, secret_id: &str) -> Config {
    let source = |name: &str, value: &str| CredentialSource::Env {
        name: name.to_owned(),
        value: Some(Secret::new(value)),
    };
    Config {
        vault: Vault {
            address: format!("http://{vault}"),
            ..Vault::default()
        },
        auto_auth: Some(AutoAuth {
            method: Method::AppRole(AppRole {
                role_id: source("ROLE_ID", role_id),
                secret_id: Some(source("SECRET_ID", secret_id)),
                remove_secret_id_file_after_reading: false,
                secret_id_response_wrapping_path: None,
            }),
            mount_path: "auth/caller".to_owned(),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            exit_on_err: false,
            sinks: Vec::new(),
        }),
        use_auto_auth_token: match way {
            Way::Auto => UseAutoAuthToken::WhenAbsent,
            Way::Own | Way::Direct => UseAutoAuthToken::Off,
        },
        // Callers are compared with what a token that may everything may.
        allow_child_tokens: true,
        cache: Some(Cache::default()),
        // Each scenario has its own mounts, and each is looked up once.
        background: Background {
            rate: 1_000.0,
            burst: 1_000,
        },
        listeners: vec![Listener {
            address: "127.0.0.1:0".to_owned(),
            ..Listener::default()
        }],
        ..Config::default()
    }
}

const ROLE: &str = "auth/caller/role/caller";
const LOGIN: &str = "auth/caller/login";
const PATIENCE: Duration = Duration::from_secs(30);
