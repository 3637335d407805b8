//! The program as its users have it: started by its name, seen through its output, its answers, its exit
//! code. Every wait has a deadline; what was started is killed at the latest when the test ends.

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use leasehold::dev::{DevVault, Options};
use leasehold::tasks::Tasks;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::canary::{self, Canaries};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leasehold");

/// Resolves within the deadline, or the test fails.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    pub(crate) out: Output,
    pub(crate) err: Output,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None`: by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// What is printed to one stream.
#[derive(Debug)]
pub(crate) struct Output {
    printed: watch::Receiver<Printed>,
    reader: JoinHandle<()>,
}

#[derive(Debug, Default, Clone)]
struct Printed {
    text: String,
    is_over: bool,
}

impl Process {
    /// `leasehold` with these arguments, and nothing of the test's environment.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(args, &[])
    }

    pub(crate) fn start_in(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(args);
        Self::run(command, env)
    }

    pub(crate) fn run(mut command: Command, env: &[(&str, &str)]) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        Self {
            out: Output::of(child.stdout.take().unwrap()),
            err: Output::of(child.stderr.take().unwrap()),
            pid: Pid::from_raw(pid),
            child,
        }
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Its first listener's address, from its log.
    pub(crate) async fn address(&self) -> SocketAddr {
        self.addresses(1).await[0]
    }

    pub(crate) async fn addresses(&self, count: usize) -> Vec<SocketAddr> {
        let what = format!("{count} lines about listening");
        let found = |text: &str| {
            let lines = text.lines().filter(|line| line.contains("listening"));
            let found: Vec<_> = lines.filter_map(address_in).collect();
            (found.len() >= count).then_some(found)
        };
        let (out, err) = (self.out.wait(&what, found), self.err.wait(&what, found));
        let (mut out, mut err) = (std::pin::pin!(out), std::pin::pin!(err));
        soon(&what, async {
            tokio::select! {
                Some(found) = &mut err => found,
                Some(found) = &mut out => found,
                else => panic!("it ended: {}{}", self.out.text(), self.err.text()),
            }
        })
        .await
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let status = soon("the process to end", self.child.wait()).await.unwrap();
        Ended {
            code: status.code(),
            out: self.out.whole().await,
            err: self.err.whole().await,
        }
    }

    /// Its readers go away: what it writes from now on fails.
    pub(crate) async fn close_outputs(&mut self) {
        self.out.close().await;
        self.err.close().await;
    }

    /// For one whose outputs are closed.
    pub(crate) async fn code_after(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        let status = soon("the process to end", self.child.wait()).await;
        status.unwrap().code()
    }

    pub(crate) async fn stopped_by(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.ended().await
    }
}

/// What it printed is searched for what its Vault was told in secret.
impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let said = [("stdout", &self.out), ("stderr", &self.err)];
            canary::judge(
                &canaries(),
                &said.map(|(channel, output)| (channel, output.text().into_bytes())),
            );
        }
    }
}

thread_local! {
    /// Of this test.
    static VAULTS: RefCell<Vec<DevVault>> = const { RefCell::new(Vec::new()) };
}

fn canaries() -> Canaries {
    let mut canaries = Canaries::new();
    for vault in VAULTS.with_borrow(Vec::clone) {
        canary::add(&mut canaries, "a secret id", vault.secret_id().expose());
        for record in vault.log().records() {
            if let Some(token) = record.header("x-vault-token") {
                canary::add(&mut canaries, "a token", token);
            }
            if let Some(body) = record.body() {
                canary::learn(&mut canaries, body);
            }
        }
    }
    canaries
}

impl Output {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (printed, output) = watch::channel(Printed::default());
        let reader = Tasks::new().spawn("output", async move {
            let (mut stream, mut buffer) = (stream, [0; 4096]);
            let mut bytes = Vec::new();
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                bytes.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                printed.send_modify(|printed| printed.text = text);
            }
            printed.send_modify(|printed| printed.is_over = true);
        });
        Self {
            printed: output,
            reader,
        }
    }

    async fn close(&mut self) {
        self.reader.abort();
        // The pipe is closed once the task is gone.
        let _aborted = (&mut self.reader).await;
    }

    pub(crate) fn text(&self) -> String {
        self.printed.borrow().text.clone()
    }

    /// The first line with this in it.
    pub(crate) async fn line(&self, part: &str) -> String {
        let what = format!("a line with {part:?}");
        let complete = |text: &str| {
            let mut lines = text.split_inclusive('\n');
            let line = lines.find(|line| line.contains(part) && line.ends_with('\n'))?;
            Some(line.trim_end().to_owned())
        };
        match soon(&what, self.wait(&what, complete)).await {
            Some(line) => line,
            None => panic!("no {what} in:\n{}", self.text()),
        }
    }

    /// `None`: it ended without.
    async fn wait<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut printed = self.printed.clone();
        let seen = timeout(
            DEADLINE,
            printed.wait_for(|printed| printed.is_over || look(&printed.text).is_some()),
        );
        match seen.await {
            Ok(seen) => look(&seen.unwrap().text),
            Err(_) => panic!("waited in vain for {what} in:\n{}", self.text()),
        }
    }

    async fn whole(&self) -> String {
        let mut printed = self.printed.clone();
        let whole = soon("the end of the output", printed.wait_for(|it| it.is_over)).await;
        whole.unwrap().text.clone()
    }
}

/// From `address=127.0.0.1:1234` and `"address":"127.0.0.1:1234"`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let after = line
        .split_once("address")?
        .1
        .trim_start_matches(['"', ':', '=']);
    after.split(['"', ' ']).next()?.parse().ok()
}

/// A request's answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path).await
}

pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    match soon(path, try_ask(address, method, path)).await {
        Ok(answer) => answer,
        Err(error) => panic!("{method} {path}: {error}"),
    }
}

/// On a connection of its own.
pub(crate) async fn try_ask(
    address: SocketAddr,
    method: &str,
    path: &str,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    ask_over(stream, &address.to_string(), method, path).await
}

pub(crate) async fn ask_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    method: &str,
    path: &str,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let tasks = Tasks::new();
    tasks.spawn("client connection", async move {
        connection.await.ok();
    });
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .body(Full::<Bytes>::default())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await?.to_bytes(),
    })
}

/// A development Vault in this process, on a port of its own until the test ends.
pub(crate) struct Vault {
    pub(crate) dev: DevVault,
    pub(crate) address: SocketAddr,
    tasks: Tasks,
}

impl Vault {
    pub(crate) async fn start() -> Self {
        Self::start_on("127.0.0.1:0").await
    }

    pub(crate) async fn start_on(address: &str) -> Self {
        let (dev, tasks) = (DevVault::new(&Options::default()), Tasks::new());
        let address = dev.listen(address, &tasks).await.unwrap();
        VAULTS.with_borrow_mut(|vaults| vaults.push(dev.clone()));
        Self {
            dev,
            address,
            tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn logins(&self) -> u64 {
        self.dev.log().count("*", "/v1/auth/approle/login")
    }

    /// Nothing listens at its address any more.
    pub(crate) async fn stop(&self) {
        assert!(self.tasks.stop(Duration::from_secs(10)).await);
    }

    /// Listens again where it did.
    pub(crate) async fn back(&mut self) {
        self.tasks = Tasks::new();
        let address = self.address.to_string();
        self.dev.listen(&address, &self.tasks).await.unwrap();
    }
}

/// A directory with configurations and credentials, removed when the test ends.
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As an argument.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.at(name)
    }

    /// The credentials of that Vault's role, and an `auto_auth` block that reads them.
    pub(crate) fn auto_auth(&self, vault: &Vault) -> String {
        self.write("role-id", &vault.dev.role_id());
        self.write("secret-id", vault.dev.secret_id().expose());
        self.auto_auth_by_files("")
    }

    /// `more` is for the method's block.
    pub(crate) fn auto_auth_by_files(&self, more: &str) -> String {
        format!(
            r#"
auto_auth {{
  method "approle" {{
    config = {{
      role_id_file_path                   = "{}"
      secret_id_file_path                 = "{}"
      remove_secret_id_file_after_reading = false
    }}
    {more}
  }}
}}
"#,
            self.at("role-id"),
            self.at("secret-id")
        )
    }

    /// A whole configuration in front of that Vault, and `more`.
    pub(crate) fn config(&self, vault: &Vault, more: &str) -> String {
        let text = format!(
            "vault {{\n  address = \"{}\"\n}}\n{}{PROXY}{more}\n",
            vault.url(),
            self.auto_auth(vault)
        );
        self.write("leasehold.hcl", &text)
    }
}

/// Everybody uses the token, on a free port.
pub(crate) const PROXY: &str = r#"
api_proxy {
  use_auto_auth_token = true
}
cache {}
listener "tcp" {
  address     = "127.0.0.1:0"
  tls_disable = true
  agent_api {
    enable_quit = true
  }
}
"#;

pub(crate) fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A port that is taken for as long as the value lives.
pub(crate) async fn taken_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that was free a moment ago, and is not given out again soon.
pub(crate) async fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    loop {
        let (_listener, port) = taken_port().await;
        let mut given = GIVEN.lock().unwrap();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
}

/// Generous: the machine may be busy with other tests.
const DEADLINE: Duration = Duration::from_secs(60);
