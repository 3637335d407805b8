//! The sweep: what Vault tells Leasehold in secret, and what callers give it, is in nothing that Leasehold says.
//!
//! Each [`Rig`](crate::support::Rig) listens in on its connections to Vault, takes what is secret there, and looks
//! for it when it ends: in everything that Leasehold logged at TRACE on its thread, in its own endpoints' answers, in
//! the errors that callers got, and in `Debug`. So every test with a rig is one of the sweep's, and so is each
//! process that a test starts, by what it printed. What was searched is summed up in `canary.json` beside the
//! other results of tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll};
use std::thread;

use leasehold::vault::strings::{Role, literals};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;

/// Secrets, and what each is.
pub(crate) type Canaries = BTreeMap<String, &'static str>;

/// Listens to this thread while it lives.
pub(crate) struct Sweep {
    taps: Arc<Mutex<Vec<Tapped>>>,
    said: RefCell<Vec<(&'static str, Vec<u8>)>>,
    /// Where in the thread's log it began.
    from: usize,
}

type Tapped = Arc<Mutex<Vec<u8>>>;

impl Sweep {
    pub(crate) fn begin() -> Self {
        listen_to_the_log();
        let from = LOG.with_borrow_mut(|log| {
            let log = log.get_or_insert_default();
            log.sweeps += 1;
            log.lines.len()
        });
        Self {
            taps: Arc::default(),
            said: RefCell::default(),
            from,
        }
    }

    /// What was logged since it began.
    pub(crate) fn log(&self) -> String {
        let lines = LOG.with_borrow(|log| log.as_ref().unwrap().lines[self.from..].to_vec());
        String::from_utf8(lines).unwrap()
    }

    /// Makes the ears for connections.
    pub(crate) fn ears(&self) -> Ears {
        Ears(Arc::clone(&self.taps))
    }

    /// Something that Leasehold said, to be searched.
    pub(crate) fn said(&self, channel: &'static str, bytes: impl Into<Vec<u8>>) {
        self.said.borrow_mut().push((channel, bytes.into()));
    }

    fn canaries(&self) -> Canaries {
        let mut canaries = Canaries::new();
        for tap in self.taps.lock().unwrap().iter() {
            learn(&mut canaries, &tap.lock().unwrap());
        }
        canaries
    }
}

/// The end of the sweep: searches, and panics with what was found.
impl Drop for Sweep {
    fn drop(&mut self) {
        let logged = self.log();
        LOG.with_borrow_mut(|log| {
            let has_ended = log.as_mut().is_some_and(|log| {
                log.sweeps -= 1;
                log.sweeps == 0
            });
            if has_ended {
                *log = None;
            }
        });
        if thread::panicking() {
            return;
        }
        let mut said = self.said.take();
        said.push(("log", logged.into_bytes()));
        judge(&self.canaries(), &said);
    }
}

/// Searches what a process printed.
pub(crate) fn judge(canaries: &Canaries, said: &[(&'static str, Vec<u8>)]) {
    let mut hits = Vec::new();
    for (channel, bytes) in said {
        hits.extend(found(canaries, bytes).map(|line| format!("{channel}: {line}")));
    }
    sum_up(canaries.len(), said, hits.len());
    assert!(hits.is_empty(), "secrets were said:\n{}", hits.join("\n"));
}

/// Each canary that begins where a word begins, with the line around it.
fn found<'a>(canaries: &'a Canaries, bytes: &'a [u8]) -> impl Iterator<Item = String> + 'a {
    let mut by_head: HashMap<&[u8], Vec<(&str, &str)>> = HashMap::new();
    for (secret, what) in canaries {
        let head = &secret.as_bytes()[..SHORTEST];
        by_head.entry(head).or_default().push((secret, what));
    }
    let is_begin = |at: usize| at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
    (0..bytes.len().saturating_sub(SHORTEST - 1))
        .filter(move |at| is_begin(*at))
        .filter_map(move |at| {
            let same_head = by_head.get(&bytes[at..at + SHORTEST])?;
            let is_here = |secret: &str| bytes[at..].starts_with(secret.as_bytes());
            let (_, what) = same_head.iter().find(|(secret, _)| is_here(secret))?;
            let from = bytes[..at].iter().rposition(|byte| *byte == b'\n');
            let to = bytes[at..].iter().position(|byte| *byte == b'\n');
            let line = &bytes[from.map_or(0, |at| at + 1)..to.map_or(bytes.len(), |to| at + to)];
            Some(format!("{what} in {:?}", String::from_utf8_lossy(line)))
        })
}

/// Takes the secrets out of what went over a connection, in either direction.
pub(crate) fn learn(canaries: &mut Canaries, wire: &[u8]) {
    let mut key: Vec<u8> = Vec::new();
    for literal in literals(wire) {
        let said = literal.read(wire).into_owned();
        if literal.role == Role::Key {
            key = said;
            continue;
        }
        let named = SECRET.iter().find(|name| name.as_bytes() == key);
        if let (Some(name), Role::Value) = (named, literal.role) {
            add(canaries, name, &String::from_utf8_lossy(&said));
        }
    }
    for line in wire.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_token = line.len() > TOKEN.len() && line[..TOKEN.len()].eq_ignore_ascii_case(TOKEN);
        if is_token {
            let token = String::from_utf8_lossy(&line[TOKEN.len()..]);
            add(canaries, "x-vault-token", token.trim());
        }
    }
}

/// A secret that a test knows of; short ones would be found in anything.
pub(crate) fn add(canaries: &mut Canaries, what: &'static str, secret: &str) {
    if secret.len() >= SHORTEST && secret.is_ascii() {
        canaries.insert(secret.to_owned(), what);
    }
}

/// Hears all of each connection that it is put on.
#[derive(Clone)]
pub(crate) struct Ears(Arc<Mutex<Vec<Tapped>>>);

impl Ears {
    pub(crate) fn on<S>(&self, stream: S) -> Overheard<S> {
        let [heard, sent] = [Tapped::default(), Tapped::default()];
        let mut taps = self.0.lock().unwrap();
        taps.extend([Arc::clone(&heard), Arc::clone(&sent)]);
        Overheard {
            stream,
            heard,
            sent,
        }
    }
}

/// A stream with ears on it.
pub(crate) struct Overheard<S> {
    stream: S,
    heard: Tapped,
    sent: Tapped,
}

fn keep(tap: &Tapped, bytes: &[u8]) {
    let mut tap = tap.lock().unwrap();
    if tap.len() + bytes.len() <= LONGEST {
        tap.extend_from_slice(bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        keep(&self.heard, &buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            keep(&self.sent, &bytes[..count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What one thread logged, while a sweep wants it.
#[derive(Default)]
struct Log {
    lines: Vec<u8>,
    sweeps: usize,
}

thread_local! {
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// One subscriber for the whole process, since whether a line is wanted at all is remembered for the process, not
/// for a thread.
fn listen_to_the_log() {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let wanted = dynamic_filter_fn(|metadata, _| {
            metadata.target().starts_with("leasehold") && LOG.with_borrow(Option::is_some)
        });
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(|| OfThread)
            .with_filter(wanted);
        let registry = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(registry).unwrap();
    });
}

struct OfThread;

impl Write for OfThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| {
            if let Some(log) = log {
                log.lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Sum {
    tests: BTreeSet<String>,
    sweeps: usize,
    canaries: usize,
    hits: usize,
    bytes: BTreeMap<&'static str, usize>,
}

fn sum_up(canaries: usize, said: &[(&'static str, Vec<u8>)], hits: usize) {
    static SUM: Mutex<Option<Sum>> = Mutex::new(None);
    let mut sum = SUM
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let sum = sum.get_or_insert_default();
    sum.tests
        .extend(thread::current().name().map(str::to_owned));
    sum.sweeps += 1;
    sum.canaries += canaries;
    sum.hits += hits;
    for (channel, bytes) in said {
        *sum.bytes.entry(channel).or_default() += bytes.len();
    }
    let told = json!({
        "tests": sum.tests.len(),
        "sweeps": sum.sweeps,
        "canaries": sum.canaries,
        "bytes searched": sum.bytes,
        "hits": sum.hits,
    });
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("canary.json");
    fs::write(file, serde_json::to_string_pretty(&told).unwrap()).unwrap();
}

const SECRET: [&str; 13] = [
    "client_token",
    "accessor",
    "secret_id",
    "secret_id_accessor",
    "lease_id",
    "password",
    "secret_key",
    "security_token",
    "token",
    "wrapped_accessor",
    "value",
    "jwt",
    "plaintext",
];
const TOKEN: &[u8] = b"x-vault-token:";
const SHORTEST: usize = 8;
const LONGEST: usize = 8 * 1024 * 1024;

#[test]
fn what_is_secret_on_the_wire_is_found_where_it_is_said() {
    let mut canaries = Canaries::new();
    learn(
        &mut canaries,
        b"GET /v1/x HTTP/1.1\r\nX-Vault-Token: hvs.abcdefgh\r\n\r\n\
          {\"auth\":{\"client_token\":\"hvs.ijklmnop\",\"accessor\":\"qrstuvwxyz\"},\"lease_id\":\"\",\
          \"data\":{\"value\":\"short\",\"other\":\"long enough\"}}",
    );
    let names: Vec<_> = canaries
        .iter()
        .map(|(secret, what)| (&**secret, *what))
        .collect();
    let expected = [
        ("hvs.abcdefgh", "x-vault-token"),
        ("hvs.ijklmnop", "client_token"),
        ("qrstuvwxyz", "accessor"),
    ];
    assert_eq!(names, expected);
    let said = b"fine\na=1 token=hvs.ijklmnop b\nlong enough, hvs.abcdefg qrstuvwxyz";
    let hits: Vec<String> = found(&canaries, said).collect();
    let expected = [
        r#"client_token in "a=1 token=hvs.ijklmnop b""#,
        r#"accessor in "long enough, hvs.abcdefg qrstuvwxyz""#,
    ];
    assert_eq!(hits, expected);
}

#[test]
fn what_is_logged_on_the_thread_is_heard() {
    let sweep = Sweep::begin();
    tracing::trace!(target: "leasehold::test", "heard");
    tracing::error!(target: "another", "not ours");
    assert!(sweep.log().contains("heard") && !sweep.log().contains("not ours"));
    let inner = Sweep::begin();
    assert_eq!(inner.log(), "");
    drop(inner);
    tracing::info!(target: "leasehold::test", "still");
    assert!(sweep.log().contains("still"));
}
