//! Whatever way one asks for the token that Leasehold lends, or tries to end it: nobody gets it, nobody ends it.
//!
//! Each spelling goes to the server itself first, with the token, so that it is known which of them the server
//! understands; then through Leasehold by somebody who has no token. The table of both is written to a file
//! `spellings-*.txt` beside the other results of tests, and shown by `--nocapture`.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use leasehold::app::Leasehold;
use leasehold::config::{AutoAuth, Cache, Config, Listener, Method, UseAutoAuthToken, Vault};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use super::client::Client;
use super::server::{Program, Server};
use crate::support::{measured, say};
use crate::wire::{Message, Wire};

#[tokio::test]
async fn a_development_vault_shows_and_loses_nothing() {
    all(Server::development, "development").await;
}

#[tokio::test]
async fn a_real_server_shows_and_loses_nothing() {
    let Some(program) = Program::find() else {
        let line = "spellings: no bao or vault on PATH, only the development Vault was asked";
        say(line);
        return;
    };
    all(|| Server::real(&program), "real").await;
}

async fn all<F: Future<Output = Server>>(server: impl Fn() -> F, name: &str) {
    let mut table = String::new();
    for cached in [true, false] {
        let house = House::new(server().await, cached).await;
        table = house.asks_for_the_token().await;
        table.push_str(&house.tries_to_end_it().await);
        house.stop().await;
    }
    let file = format!("spellings-{name}.txt");
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(file), &table).unwrap();
    measured(format_args!("spellings, {name}\n{table}"));
}

/// A server, and a Leasehold in front of it that lends a token that the test knows.
struct House {
    server: Server,
    leasehold: Leasehold,
    token: String,
    accessor: String,
    _directory: TempDir,
}

impl House {
    async fn new(server: Server, cached: bool) -> Self {
        let client = Client::new(server.address);
        let ask =
            async |path: &str, fields: Value| client.ask(&server.root, "PUT", path, &fields).await;
        let rule =
            r#"path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
        ask("sys/policies/acl/all", json!({ "policy": rule })).await;
        // A server without namespaces says no; those spellings then say nothing.
        for namespace in ["ns1", "ns1/ns2", "ns1/data"] {
            ask(&format!("sys/namespaces/{namespace}"), json!({})).await;
            let (above, below) = namespace.rsplit_once('/').unwrap_or(("", namespace));
            ask(&format!("{above}/sys/namespaces/{below}"), json!({})).await;
        }
        let made = ask(
            "auth/token/create",
            json!({ "policies": ["all"], "ttl": "1h" }),
        )
        .await;
        let text = |place: &str| made.pointer(place).unwrap().as_str().unwrap().to_owned();
        let (token, accessor) = (text("/auth/client_token"), text("/auth/accessor"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, &token).unwrap();
        let leasehold = Leasehold::start(config(server.address, &path, cached))
            .await
            .unwrap();
        let ready = timeout(Duration::from_secs(30), leasehold.authenticated()).await;
        ready.expect("Leasehold has no token");
        Self {
            server,
            leasehold,
            token,
            accessor,
            _directory: directory,
        }
    }

    async fn stop(self) {
        assert!(self.leasehold.stop().await);
        self.server.stop().await;
    }

    async fn direct(&self, spelling: &Spelling) -> Message {
        let token = format!("X-Vault-Token: {}\r\n", self.token);
        self.ask(self.server.address, spelling, &token).await
    }

    async fn through(&self, spelling: &Spelling, token: &str) -> Message {
        self.ask(
            self.leasehold.addresses()[0].tcp().unwrap(),
            spelling,
            token,
        )
        .await
    }

    async fn ask(&self, to: SocketAddr, spelling: &Spelling, token: &str) -> Message {
        let Spelling {
            method,
            target,
            headers,
            body,
        } = spelling;
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{token}{headers}");
        if headers.contains("chunked") {
            write!(request, "\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).unwrap();
        } else {
            write!(request, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
        let escaped: String = self
            .token
            .bytes()
            .map(|byte| format!("\\u{byte:04x}"))
            .collect();
        let filled = request
            .replace("ESCAPED", &escaped)
            .replace("TOKEN", &self.token);
        let filled = filled.replace("ACCESSOR", &self.accessor);
        let request = match request.find("Content-Length") {
            // The length is that of what was filled in.
            Some(_) => with_length(&filled),
            None => filled,
        };
        Wire::connect(to).await.ask(request).await
    }

    /// Which of the two an answer shows.
    fn shown(&self, answer: &Message) -> String {
        let whole = String::from_utf8_lossy(&answer.head).into_owned() + &answer.text();
        let token = whole.contains(&self.token);
        let accessor = whole.contains(&self.accessor);
        let name = |is_shown: bool, name| if is_shown { name } else { "-" };
        format!("{:<2} {:<3}", name(token, "id"), name(accessor, "acc"))
    }

    async fn asks_for_the_token(&self) -> String {
        let mut table = String::new();
        let mut understood = 0;
        for spelling in asking() {
            let direct = self.direct(&spelling).await;
            let through = self.through(&spelling, "").await;
            let (direct_shows, shows) = (self.shown(&direct), self.shown(&through));
            let line = format!(
                "{} {direct_shows} | {} {shows} | {spelling}\n",
                direct.status(),
                through.status()
            );
            assert_eq!(shows, "-  -  ", "{line}{}", through.text());
            let is_wrapped = spelling.headers.contains("Wrap");
            if is_wrapped || spelling.target.contains("sys/raw") {
                assert_eq!(through.status(), 403, "{line}");
            } else {
                assert_eq!(
                    through.status(),
                    direct.status(),
                    "{line}{}",
                    through.text()
                );
            }
            if direct_shows.contains("id") && !is_wrapped && direct.text().contains("\"id\"") {
                understood += 1;
                let fields = ["/data/id", "/data/accessor"];
                let json: Value = serde_json::from_slice(&through.body).unwrap();
                let empty = fields.iter().filter_map(|field| json.pointer(field));
                empty.for_each(|value| assert_eq!(value, "", "{line}"));
            }
            table.push_str(&line);
        }
        assert!(
            understood >= 30,
            "only {understood} spellings were understood\n{table}"
        );
        table
    }

    async fn tries_to_end_it(&self) -> String {
        let mut table = String::new();
        let root = format!("X-Vault-Token: {}\r\n", self.server.root);
        let ours = format!("X-Vault-Token: {}\r\n", self.token);
        for spelling in ending() {
            let is_self = spelling.target.contains("-self") || spelling.target.contains("%73elf");
            for by in if is_self { ["", &ours] } else { ["", &root] } {
                let answer = self.through(&spelling, by).await;
                let who = if by.is_empty() { "nobody" } else { "a token" };
                let line = format!("{} | {spelling} by {who}\n", answer.status());
                assert_eq!(answer.status(), 403, "{line}{}", answer.text());
                assert!(
                    answer.text().contains("not revoked through Leasehold"),
                    "{line}"
                );
                table.push_str(&line);
            }
        }
        let alive = self
            .direct(&spelled("GET", "/v1/auth/token/lookup-self", "", ""))
            .await;
        assert_eq!(alive.status(), 200, "the token was ended\n{table}");
        table
    }
}

fn with_length(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let (before, _) = head.split_once("Content-Length").unwrap();
    format!("{before}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn config(vault: SocketAddr, token: &Path, cached: bool) -> Config {
    Config {
        vault: Vault {
            address: format!("http://{vault}"),
            ..Vault::default()
        },
        auto_auth: Some(AutoAuth {
            method: Method::TokenFile {
                path: token.to_owned(),
            },
            mount_path: "auth/token".to_owned(),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(1),
            exit_on_err: false,
            sinks: Vec::new(),
        }),
        use_auto_auth_token: UseAutoAuthToken::WhenAbsent,
        cache: cached.then(Cache::default),
        listeners: vec![Listener {
            address: "127.0.0.1:0".to_owned(),
            ..Listener::default()
        }],
        ..Config::default()
    }
}

/// One way to say it; `TOKEN`, `ACCESSOR` and `ESCAPED` (the token in JSON escapes) are filled in.
struct Spelling {
    method: &'static str,
    target: String,
    headers: String,
    body: String,
}

impl std::fmt::Display for Spelling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers = self.headers.replace("\r\n", " ");
        write!(f, "{} {} {headers}{}", self.method, self.target, self.body)
    }
}

fn spelled(method: &'static str, target: &str, headers: &str, body: &str) -> Spelling {
    Spelling {
        method,
        target: target.to_owned(),
        headers: headers.to_owned(),
        body: body.to_owned(),
    }
}

fn asking() -> Vec<Spelling> {
    let gets = GETS.iter().map(|target| spelled("GET", target, "", ""));
    let namespaces = [
        "root",
        "root/",
        "/",
        "ns1",
        "ns1/",
        "/ns1",
        "ns1/ns2",
        "/ns1/data/",
    ];
    let namespaces = namespaces.map(|name| {
        let header = format!("X-Vault-Namespace: {name}\r\n");
        spelled("GET", "/v1/auth/token/lookup-self", &header, "")
    });
    let encodings = [
        "Accept-Encoding: gzip\r\n",
        "Accept-Encoding: br, deflate\r\n",
    ];
    let encodings =
        encodings.map(|header| spelled("GET", "/v1/auth/token/lookup-self", header, ""));
    let wraps = [
        "/v1/auth/token/lookup-self",
        "/v1/ns1/auth/token/lookup-self",
        "/v1/auth/token/lookup",
    ];
    let wraps = wraps.map(|target| spelled("GET", target, "X-Vault-Wrap-TTL: 60\r\n", ""));
    let bodies = BODIES
        .iter()
        .map(|body| spelled("POST", "/v1/auth/token/lookup", "", body));
    let forms = FORMS
        .iter()
        .map(|body| spelled("PUT", "/v1/auth/token/lookup", FORM, body));
    let others = OTHERS
        .iter()
        .map(|(method, target, body)| spelled(method, target, "", body));
    let chunked = spelled(
        "POST",
        "/v1/auth/token/lookup",
        "Transfer-Encoding: chunked\r\n",
        "{}",
    );
    gets.chain(namespaces)
        .chain(encodings)
        .chain(wraps)
        .chain(bodies)
        .chain(forms)
        .chain(others)
        .chain([chunked])
        .collect()
}

fn ending() -> Vec<Spelling> {
    let json = ENDS
        .iter()
        .map(|(method, target, body)| spelled(method, target, "", body));
    let forms = ["token=TOKEN", "x=1&tok%65n=TOKEN", " token=TOKEN"];
    let forms = forms.map(|form| spelled("PUT", "/v1/auth/token/revoke", FORM, form));
    let namespace = "X-Vault-Namespace: ns1\r\n";
    let namespace = spelled(
        "PUT",
        "/v1/auth/token/revoke",
        namespace,
        r#"{"token":"TOKEN"}"#,
    );
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunked = spelled("POST", "/v1/auth/token/revoke-self", chunked, "{}");
    json.chain(forms).chain([namespace, chunked]).collect()
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

const GETS: &[&str] = &[
    "/v1/auth/token/lookup-self",
    "/v1/auth/token/lookup-self/",
    "/v1/auth/token/lookup-self//",
    "/v1//auth/token/lookup-self",
    "/v1/auth//token/lookup-self",
    "/v1/auth/token//lookup-self",
    "//v1/auth/token/lookup-self",
    "/./v1/auth/token/lookup-self",
    "/v1/./auth/token/lookup-self",
    "/v1/auth/token/lookup-self/.",
    "/v1/x/../auth/token/lookup-self",
    "/v1/auth/token/lookup-self/../lookup-self",
    "/v1/auth/x/%2e%2e/token/lookup-self",
    "/v1/auth/token/%2e/lookup-self",
    "/v1/auth/token/%6cookup-self",
    "/v1/auth/token/%6Cookup-self",
    "/v1/auth/token/lookup%2dself",
    "/v1/auth/token/lookup%2Dself",
    "/v1/auth%2Ftoken%2flookup-self",
    "/v1%2Fauth/token/lookup-self",
    "/%76%31/auth/token/lookup-self",
    "/v1/auth/token/lookup-self%2F",
    "/v1/auth/token/lookup%252dself",
    "/v1/auth/token/lookup-self%20",
    "/v1/auth/token/lookup-self;x",
    "/v1/auth/token/lookup-self?",
    "/v1/auth/token/lookup-self?x=1",
    "/v1/auth/token/lookup-self?help=1",
    "/v1/auth/token/LOOKUP-SELF",
    "/v1/%72oot/auth/token/lookup-self",
    "/v1/ns1/auth/token/lookup-self",
    "/v1/ns1//auth/token/lookup-self",
    "/v1/ns1/ns2/auth/token/lookup-self",
    "/v1/ns1/data/auth/token/lookup-self",
    "/v1/ns1%2Fauth/token/lookup-self",
    "/v1/auth/token/lookup",
    "/v1/auth/token/lookup/",
    "/v1/auth/token/lookup?token=",
    "/v1/auth/token/lookup?token=TOKEN",
    "/v1/auth/token/lookup/TOKEN",
    "/v1/auth/token/lookup-accessor/ACCESSOR",
    "/v1/auth/token/accessors?list=true",
    "/v1/auth/token/accessors/?list=1",
    "/v1/sys/internal/inspect/request",
    "/v1/sys/in-flight-req",
];

const BODIES: &[&str] = &[
    "",
    "{}",
    "null",
    "[]",
    "x",
    " \n\t{} ",
    r#"{"token":""}"#,
    r#"{"token":null}"#,
    r#"{"token":"TOKEN"}"#,
    r#"{"token":"ESCAPED"}"#,
    r#"{"\u0074oken":"TOKEN"}"#,
    r#"{"TOKEN":""}"#,
    r#"{"token":"x","token":"TOKEN"}"#,
    r#"{"token":"TOKEN","token":"x"}"#,
    r#"{"token":""}{"token":"x"}"#,
    r#"{"token":"TOKEN"} x"#,
    r#"{"token":"TOKEN""#,
    r#"{"token":["TOKEN"]}"#,
    r#"{"token":"","x":"\ud800"}"#,
    "\u{feff}{\"token\":\"\"}",
];

const FORMS: &[&str] = &["", "token=", "token=TOKEN", "to%6ben=TOKEN", "x=1", "{}"];

const OTHERS: &[(&str, &str, &str)] = &[
    ("POST", "/v1/auth/token/renew-self", "{}"),
    ("PUT", "/v1/auth/token/renew-self", ""),
    ("PUT", "/v1/auth/token/renew-self", r#"{"increment":3600}"#),
    ("PUT", "/v1/ns1/data/auth/token/renew-self", "{}"),
    ("POST", "/v1/auth/token/renew-self/", "{}"),
    ("PUT", "/v1/auth/token/renew", "{}"),
    ("PUT", "/v1/auth/token/renew", r#"{"token":"TOKEN"}"#),
    ("PUT", "/v1/auth/token/renew/TOKEN", ""),
    (
        "PUT",
        "/v1/auth/token/renew-accessor",
        r#"{"accessor":"ACCESSOR"}"#,
    ),
    (
        "POST",
        "/v1/auth/token/lookup-accessor",
        r#"{"accessor":"ACCESSOR"}"#,
    ),
    (
        "PUT",
        "/v1/ns1/auth/token/lookup-accessor",
        r#"{"accessor":"ACCESSOR"}"#,
    ),
    ("LIST", "/v1/auth/token/accessors", ""),
    ("LIST", "/v1/auth/token/accessors/", ""),
    ("HEAD", "/v1/auth/token/lookup-self", ""),
    ("POST", "/v1/auth/token/lookup-self", "{}"),
    ("DELETE", "/v1/auth/token/lookup", ""),
];

const ENDS: &[(&str, &str, &str)] = &[
    ("PUT", "/v1/auth/token/revoke-self", ""),
    ("POST", "/v1/auth/token/revoke-self", "{}"),
    ("POST", "/v1/auth/token/revoke-self/", ""),
    ("PUT", "/v1/auth/token/revoke-%73elf", ""),
    ("PUT", "/v1//auth/token/revoke-self", ""),
    ("PUT", "/v1/ns1/auth/token/revoke-self", ""),
    ("PUT", "/v1/ns1/data/auth/token/revoke-self", ""),
    ("PUT", "/v1/auth/token/revoke", r#"{"token":"TOKEN"}"#),
    ("POST", "/v1/auth/token/revoke", r#"{"token":"ESCAPED"}"#),
    ("POST", "/v1/auth/token/revoke", r#"{"\u0074oken":"TOKEN"}"#),
    (
        "POST",
        "/v1/auth/token/revoke",
        r#"{"token":"x","token":"TOKEN"}"#,
    ),
    (
        "POST",
        "/v1/auth/token/revoke",
        r#"{"token":"TOKEN"}{"token":"x"}"#,
    ),
    (
        "POST",
        "/v1/auth/token/revoke",
        r#"{"token":"TOKEN","x":"\ud800"}"#,
    ),
    ("PUT", "/v1/auth/token/%72evoke", r#"{"token":"TOKEN"}"#),
    (
        "PUT",
        "/v1/ns1/data/auth/token/revoke",
        r#"{"token":"TOKEN"}"#,
    ),
    ("PUT", "/v1/auth/token/revoke/TOKEN", ""),
    (
        "PUT",
        "/v1/auth/token/revoke-orphan",
        r#"{"token":"TOKEN"}"#,
    ),
    (
        "PUT",
        "/v1/auth/token/revoke-accessor",
        r#"{"accessor":"ACCESSOR"}"#,
    ),
    ("PUT", "/v1/auth/token/revoke-accessor/ACCESSOR", ""),
    ("PUT", "/v1/sys/leases/revoke-prefix/auth", ""),
    ("PUT", "/v1/sys/leases/revoke-prefix/auth/token/create", ""),
    ("PUT", "/v1/sys/leases/revoke-prefix/auth%2Ftoken", ""),
    ("PUT", "/v1/sys/leases/revoke-force/auth/token", ""),
    ("PUT", "/v1/sys/revoke-prefix/auth/token", ""),
];
