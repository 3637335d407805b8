//! A bound socket, and the loop that accepts from it.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::activated::Activated;
use super::connection::{self, Connections};
use super::guard::BoxError;
use super::limits::Limits;
use super::peer::Peers;
use super::tls::Tls;
use super::unix::SocketFile;
use super::{tcp, unix};
use crate::backoff::Backoff;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// A socket that is bound and accepts nobody yet: all listeners are bound before any is served, so that
/// a taken port is found before anything has happened.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    address: Address,
    tls: Option<Tls>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixDoor),
}

#[derive(Debug)]
struct UnixDoor {
    listener: UnixListener,
    /// `None`: whoever can connect may come in.
    peers: Option<Peers>,
    /// Only held, to be removed when nobody new is let in any more.
    _file: Option<SocketFile>,
}

/// Where a bound socket is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// As bound: a port 0 of the configuration is the real one here.
    Tcp(SocketAddr),
    /// A path, or an abstract name that starts with `@`.
    Unix(PathBuf),
}

impl Address {
    /// Of a TCP listener.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

/// As in `VAULT_ADDR`, which takes `unix://` and a path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Bound {
    /// Binds what the configuration says, or takes it from what systemd has passed.
    ///
    /// # Errors
    /// `Kind::Bind`, naming the address and what can be done.
    pub async fn open(
        listener: &config::Listener,
        activated: &mut Activated,
        metrics: &Metrics,
    ) -> Result<Self> {
        let settings = match (&listener.socket, &listener.systemd) {
            (config::Socket::Tcp, None) => return Self::bind(&listener.address).await,
            (config::Socket::Tcp, Some(which)) => {
                return Self::taken_tcp(activated.tcp(which)?).map_err(|e| unusable(listener, &e));
            }
            (config::Socket::Unix(settings), _) => settings,
        };
        let allowed = settings.allowed.as_ref();
        let peers = allowed.map(|allowed| Peers::of(allowed, metrics.clone()));
        let mut bound = match &listener.systemd {
            None => Self::bind_unix(&listener.address, settings).await?,
            Some(which) => {
                Self::taken_unix(activated.unix(which)?).map_err(|e| unusable(listener, &e))?
            }
        };
        if let Socket::Unix(door) = &mut bound.socket {
            door.peers = peers.transpose()?;
        }
        Ok(bound)
    }

    /// Binds `host:port`; port 0 takes a free one. Of a name's addresses an IPv4 one goes first, and `[::]`,
    /// every interface, is every IPv4 one where the system has no IPv6.
    ///
    /// # Errors
    /// `Kind::Bind`, naming the address and what can be done.
    pub async fn bind(address: &str) -> Result<Self> {
        let (listener, address) = tcp::bind(address).await?;
        Ok(Self {
            socket: Socket::Tcp(listener),
            address: Address::Tcp(address),
            tls: None,
        })
    }

    async fn bind_unix(address: &str, settings: &config::UnixSocket) -> Result<Self> {
        let (listener, file) = unix::bind(address, settings).await?;
        Ok(Self::unix(listener, file, PathBuf::from(address)))
    }

    fn unix(listener: UnixListener, file: Option<SocketFile>, path: PathBuf) -> Self {
        Self {
            socket: Socket::Unix(UnixDoor {
                listener,
                peers: None,
                _file: file,
            }),
            address: Address::Unix(path),
            tls: None,
        }
    }

    fn taken_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        let address = Address::Tcp(listener.local_addr()?);
        let socket = Socket::Tcp(TcpListener::from_std(listener)?);
        Ok(Self {
            socket,
            address,
            tls: None,
        })
    }

    /// Its file is systemd's, and stays.
    fn taken_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let listener = UnixListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let path = match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => path.to_owned(),
            (None, Some(name)) => PathBuf::from(format!("@{}", String::from_utf8_lossy(name))),
            (None, None) => PathBuf::from("(unnamed)"),
        };
        Ok(Self::unix(listener, None, path))
    }

    /// Callers have to speak TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Serves callers until the tasks are stopping. Then nobody new is let in, idle connections are
    /// closed, and running requests are answered with `Connection: close`; how long that may take is
    /// the deadline of `Tasks::stop`. The handle ends when nobody new is let in any more.
    pub fn serve<S, B>(
        self,
        service: S,
        limits: Limits,
        tasks: &Tasks,
        open: Connections,
    ) -> JoinHandle<()>
    where
        S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(tls) = &self.tls {
            tls.watch(tasks);
        }
        let door = Door {
            service,
            limits,
            tasks: tasks.clone(),
            open,
            address: self.address,
            tls: self.tls,
            places: Arc::new(Semaphore::new(limits.max_connections.max(1))),
            refused: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
        };
        match self.socket {
            Socket::Tcp(listener) => tasks.spawn("listener", door.keep(listener)),
            Socket::Unix(listener) => tasks.spawn("listener", door.keep(listener)),
        }
    }
}

/// A kind of socket. Each has a loop and connections of its own type, so that one kind's reads and
/// writes cost nothing for the sake of another.
trait Listen: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// What to answer to who is at the other end, when that is not who may come in.
    fn refusal(&self, stream: &Self::Stream) -> Option<Bytes>;

    /// Who is at the other end, for the log.
    fn caller(_: &Self::Stream) -> Option<SocketAddr> {
        None
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // Answers are written whole: waiting to fill a packet would only delay them. A socket that
        // refuses this has been closed already, which its serving will find.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        Ok(stream)
    }

    fn refusal(&self, _: &TcpStream) -> Option<Bytes> {
        None
    }

    fn caller(stream: &TcpStream) -> Option<SocketAddr> {
        stream.peer_addr().ok()
    }
}

impl Listen for UnixDoor {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    fn refusal(&self, stream: &UnixStream) -> Option<Bytes> {
        self.peers.as_ref()?.refusal(stream)
    }
}

/// One listener's way in.
struct Door<S> {
    service: S,
    limits: Limits,
    tasks: Tasks,
    open: Connections,
    address: Address,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
    /// Who may not come in takes none of the places: these few are for saying so.
    refused: Arc<Semaphore>,
}

impl<S, B> Door<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn keep<L: Listen>(self, listener: L) {
        let accepting = async {
            let mut told = None;
            while let Some(place) = self.place(&mut told).await {
                let stream = self.accept(&listener).await;
                let refusal = listener.refusal(&stream);
                let held = match &refusal {
                    None => (place, self.open.enter()),
                    Some(_) => match Arc::clone(&self.refused).try_acquire_owned() {
                        Ok(place) => (place, self.open.enter()),
                        Err(_) => continue,
                    },
                };
                match self.tls.clone() {
                    None => {
                        let serving = self.welcome(stream, refusal);
                        self.tasks.spawn("connection", async move {
                            let _held = held;
                            serving.await;
                        });
                    }
                    Some(tls) => {
                        let caller = L::caller(&stream);
                        let serving = self.welcome_by(tls, stream, caller, refusal);
                        self.tasks.spawn("connection", async move {
                            let _held = held;
                            serving.await;
                        });
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = self.tasks.stopping() => {}
        }
    }

    /// From the accepted stream to the end of its connection, in a task of its own: whatever has to be said
    /// before the first request is said here, and holds up nobody else.
    fn welcome<T>(
        &self,
        stream: T,
        refusal: Option<Bytes>,
    ) -> impl Future<Output = ()> + Send + use<T, S, B>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits_for(refusal.as_ref());
        let service = self.service.clone();
        connection::serve(stream, service, limits, self.tasks.clone(), refusal)
    }

    /// As `welcome`, after a handshake, which has as long as the head of a request.
    fn welcome_by<T>(
        &self,
        tls: Tls,
        stream: T,
        caller: Option<SocketAddr>,
        refusal: Option<Bytes>,
    ) -> impl Future<Output = ()> + Send + use<T, S, B>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (service, tasks) = (self.service.clone(), self.tasks.clone());
        let limits = self.limits_for(refusal.as_ref());
        let caller = caller.map_or_else(|| self.address.to_string(), |caller| caller.to_string());
        async move {
            let secured = tokio::select! {
                secured = tls.shake_hands(stream, limits.header_timeout, caller) => secured,
                () = tasks.stopping() => None,
            };
            if let Some(secured) = secured {
                connection::serve(secured, service, limits, tasks, refusal).await;
            }
        }
    }

    fn limits_for(&self, refusal: Option<&Bytes>) -> Limits {
        match refusal {
            None => self.limits,
            Some(_) => self.limits.for_refused(),
        }
    }

    /// A place for the next caller. Who finds none waits in the system's queue, and the log says so once a minute.
    async fn place(&self, told: &mut Option<Instant>) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        if told.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            *told = Some(Instant::now());
            tracing::warn!(
                address = %self.address,
                max_connections = self.limits.max_connections,
                "all connections of this listener are taken; more callers wait until one closes"
            );
        }
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// The next caller. Failures are waited out: the process may be out of descriptors for a moment,
    /// and a listener that ends is worse than one that pauses.
    async fn accept<L: Listen>(&self, listener: &L) -> L::Stream {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match listener.next().await {
                Ok(stream) => return stream,
                Err(error) if is_callers_fault(&error) => {}
                Err(error) => {
                    let wait = backoff.next_wait();
                    tracing::warn!(
                        address = %self.address,
                        %error,
                        wait_ms = wait.as_millis(),
                        "cannot accept a connection; is the limit of open files (ulimit -n) too low?"
                    );
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

/// The caller was gone before it was let in: nothing is wrong here.
fn is_callers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn unusable(listener: &config::Listener, error: &io::Error) -> Error {
    let address = &listener.address;
    let message = format!("the socket of listener address {address:?} cannot be used: {error}");
    Error::new(Kind::Bind, message)
}

const BETWEEN_LINES: Duration = Duration::from_secs(60);
/// More of them than this are cut off without a word.
const REFUSED_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Full;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio_rustls::TlsConnector;

    use super::super::tls::testing::{self, Authority};
    use super::*;
    use crate::config::ListenerTls;
    use crate::telemetry::Metrics;

    const GET: &[u8] = b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n";

    async fn start(max_connections: usize, tasks: &Tasks, open: &Connections) -> SocketAddr {
        let bound = Bound::bind("127.0.0.1:0").await.unwrap();
        let address = bound.address().tcp().unwrap();
        serve(bound, max_connections, tasks, open);
        address
    }

    fn serve(bound: Bound, max_connections: usize, tasks: &Tasks, open: &Connections) {
        let service = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("here")))
        });
        let limits = Limits {
            max_connections,
            ..Limits::default()
        };
        bound.serve(service, limits, tasks, open.clone());
    }

    async fn ask<T: AsyncRead + AsyncWrite + Unpin>(stream: &mut T) -> String {
        stream.write_all(GET).await.unwrap();
        let mut text = String::new();
        while !text.ends_with("here") {
            text.push(char::from(stream.read_u8().await.unwrap()));
        }
        text
    }

    #[tokio::test]
    async fn several_listeners_share_the_count_of_connections() {
        let (tasks, open) = (Tasks::new(), Connections::default());
        let first = start(8, &tasks, &open).await;
        let second = start(8, &tasks, &open).await;
        let mut callers = Vec::new();
        for address in [first, second, second] {
            let mut caller = TcpStream::connect(address).await.unwrap();
            ask(&mut caller).await;
            // Kept alive: it can ask again.
            ask(&mut caller).await;
            callers.push(caller);
        }
        assert_eq!(open.open(), 3);
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(open.open(), 0);
        assert!(TcpStream::connect(first).await.is_err());
        for mut caller in callers {
            assert_eq!(caller.read(&mut [0; 1]).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn a_unix_socket_is_served_like_any_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let bound = Bound::unix(listener, None, path.clone());
        let (tasks, open) = (Tasks::new(), Connections::default());
        serve(bound, 1, &tasks, &open);
        let mut caller = UnixStream::connect(&path).await.unwrap();
        ask(&mut caller).await;
        ask(&mut caller).await;
        assert_eq!(open.open(), 1);
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(caller.read(&mut [0; 1]).await.unwrap(), 0);
    }

    /// On a paused clock, since who says nothing is let go of by time.
    #[tokio::test(start_paused = true)]
    async fn who_may_not_come_in_takes_no_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut bound = Bound::unix(listener, None, path.clone());
        let nobody = config::AllowedPeers {
            uids: vec![config::Principal::Id(u32::MAX - 1)],
            gids: Vec::new(),
        };
        if let Socket::Unix(door) = &mut bound.socket {
            door.peers = Some(Peers::of(&nobody, Metrics::new()).unwrap());
        }
        let (tasks, open) = (Tasks::new(), Connections::default());
        serve(bound, 1, &tasks, &open);
        let mut callers = Vec::new();
        for _ in 0..REFUSED_AT_ONCE {
            callers.push(UnixStream::connect(&path).await.unwrap());
        }
        let mut last = UnixStream::connect(&path).await.unwrap();
        assert_eq!(last.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(open.open(), REFUSED_AT_ONCE);
        for caller in callers.iter_mut().skip(1) {
            caller.write_all(GET).await.unwrap();
            let mut answer = String::new();
            caller.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
            assert!(answer.contains("Connection: close\r\n"), "{answer}");
            assert!(answer.contains("allowed_uids does not have"), "{answer}");
        }
        let since = Instant::now();
        assert_eq!(callers[0].read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(since.elapsed().as_secs(), 2);
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_waits() {
        let (tasks, open) = (Tasks::new(), Connections::default());
        let address = start(2, &tasks, &open).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        ask(&mut first).await;
        ask(&mut second).await;
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(GET).await.unwrap();
        // Many round trips of another, in which a third one let in would have been answered.
        for _ in 0..50 {
            ask(&mut second).await;
        }
        let waits = third.try_read(&mut [0; 1]).unwrap_err();
        assert_eq!(waits.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(open.open(), 2);
        drop(first);
        assert_eq!(third.read_u8().await.unwrap(), b'H');
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_unix_socket_can_speak_tls_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("authority");
        let (cert, key) = authority.server().save(directory.path(), "tls");
        let tls = Tls::load(&ListenerTls::new(cert, key), Metrics::new()).unwrap();
        let path = directory.path().join("socket");
        let settings = config::UnixSocket {
            mode: 0o600,
            user: None,
            group: None,
            allowed: None,
        };
        let bound = Bound::bind_unix(path.to_str().unwrap(), &settings).await;
        let bound = bound.unwrap().with_tls(Some(tls));
        let service = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("here")))
        });
        let tasks = Tasks::new();
        bound.serve(service, Limits::default(), &tasks, Connections::default());
        let caller = testing::caller(&[&authority], None, rustls::ALL_VERSIONS);
        let name = ServerName::try_from("localhost").unwrap();
        let stream = UnixStream::connect(&path).await.unwrap();
        let connecting = TlsConnector::from(Arc::new(caller)).connect(name, stream);
        let mut stream = connecting.await.unwrap();
        stream.write_all(GET).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        drop(stream);
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_handshake_holds_up_neither_the_others_nor_a_stop() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("authority");
        let (cert, key) = authority.server().save(directory.path(), "tls");
        let tls = Tls::load(&ListenerTls::new(cert, key), Metrics::new()).unwrap();
        let bound = Bound::bind("127.0.0.1:0").await.unwrap();
        let address = bound.address().tcp().unwrap();
        let service = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("here")))
        });
        let (tasks, open) = (Tasks::new(), Connections::default());
        let bound = bound.with_tls(Some(tls));
        bound.serve(service, Limits::default(), &tasks, open.clone());
        let _silent = TcpStream::connect(address).await.unwrap();
        let caller = testing::caller(&[&authority], None, rustls::ALL_VERSIONS);
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let connecting = TlsConnector::from(Arc::new(caller)).connect(name, stream);
        let stream = connecting.await.unwrap();
        // The silent one has a place, as who is served has.
        assert_eq!(open.open(), 2);
        drop(stream);
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(open.open(), 0);
    }

    #[tokio::test]
    async fn a_hang_up_drops_the_request_on_a_real_socket() {
        struct Dropped(Arc<(AtomicUsize, Notify)>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.0.fetch_add(1, Ordering::Relaxed);
                self.0.1.notify_one();
            }
        }
        let tasks = Tasks::new();
        let (started, dropped) = (Arc::new(Notify::new()), Arc::default());
        let service = {
            let (started, dropped) = (Arc::clone(&started), Arc::clone(&dropped));
            tower::service_fn(move |_: Request<Incoming>| {
                let (started, held) = (Arc::clone(&started), Dropped(Arc::clone(&dropped)));
                async move {
                    let _held = held;
                    started.notify_one();
                    std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
                }
            })
        };
        let bound = Bound::bind("127.0.0.1:0").await.unwrap();
        let address = bound.address().tcp().unwrap();
        bound.serve(service, Limits::default(), &tasks, Connections::default());
        let mut caller = TcpStream::connect(address).await.unwrap();
        caller.write_all(GET).await.unwrap();
        started.notified().await;
        drop(caller);
        dropped.1.notified().await;
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(dropped.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn only_a_callers_own_failure_goes_on_without_a_pause() {
        let of = |kind| io::Error::from(kind);
        assert!(is_callers_fault(&of(io::ErrorKind::ConnectionAborted)));
        assert!(is_callers_fault(&of(io::ErrorKind::ConnectionReset)));
        // EMFILE: out of descriptors.
        assert!(!is_callers_fault(&io::Error::from_raw_os_error(24)));
        assert!(!is_callers_fault(&of(io::ErrorKind::OutOfMemory)));
    }
}
