//! A bound socket, and the loop that accepts from it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::{self, Connections};
use super::guard::BoxError;
use super::limits::Limits;
use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::tasks::Tasks;

/// A socket that is bound and accepts nobody yet: all listeners are bound before any is served, so that
/// a taken port is found before anything has happened.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds `host:port`; port 0 takes a free one. Of a name's addresses an IPv4 one goes first, and `[::]`,
    /// every interface, is every IPv4 one where the system has no IPv6.
    ///
    /// # Errors
    /// `Kind::Bind`, naming the address and what can be done.
    pub async fn bind(address: &str) -> Result<Self> {
        let error = match Self::bind_first(address).await {
            Ok(bound) => return Ok(bound),
            Err(error) => error,
        };
        let Some(without_ipv6) = without_ipv6(address, &error) else {
            return Err(explain(address, &error));
        };
        tracing::info!(
            asked = address,
            address = without_ipv6,
            "the system has no IPv6: this listener takes IPv4 alone"
        );
        let bound = Self::bind_first(&without_ipv6).await;
        bound.map_err(|error| explain(&without_ipv6, &error))
    }

    async fn bind_first(address: &str) -> io::Result<Self> {
        let mut addresses: Vec<SocketAddr> = lookup_host(address).await?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let listener = TcpListener::bind(addresses.as_slice()).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
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
        let all = tasks.clone();
        tasks.spawn("listener", async move {
            let places = Arc::new(Semaphore::new(limits.max_connections.max(1)));
            let accepting = async {
                let mut told = None;
                loop {
                    let Some(place) = self.place(&places, &mut told, limits).await else {
                        return;
                    };
                    let stream = self.accept().await;
                    let held = (place, open.enter());
                    let serving = connection::serve(stream, service.clone(), limits, all.clone());
                    all.spawn("connection", async move {
                        let _held = held;
                        serving.await;
                    });
                }
            };
            tokio::select! {
                () = accepting => {}
                () = all.stopping() => {}
            }
        })
    }

    /// A place for the next caller. Who finds none waits in the system's queue, and the log says so once a minute.
    async fn place(
        &self,
        places: &Arc<Semaphore>,
        told: &mut Option<Instant>,
        limits: Limits,
    ) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        if told.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            *told = Some(Instant::now());
            tracing::warn!(
                address = %self.address,
                max_connections = limits.max_connections,
                "all connections of this listener are taken; more callers wait until one closes"
            );
        }
        Arc::clone(places).acquire_owned().await.ok()
    }

    /// The next caller. Failures are waited out: the process may be out of descriptors for a moment,
    /// and a listener that ends is worse than one that pauses.
    async fn accept(&self) -> TcpStream {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are written whole: waiting to fill a packet would only delay them. A
                    // socket that refuses this has been closed already, which its serving will find.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY was refused");
                    }
                    return stream;
                }
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

/// What takes the place of every interface on a system without IPv6.
fn without_ipv6(address: &str, error: &io::Error) -> Option<String> {
    let port = address.strip_prefix("[::]:")?;
    let code = Errno::from_raw(error.raw_os_error()?);
    matches!(code, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL).then(|| format!("0.0.0.0:{port}"))
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

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the system's own words do for what cannot be helped by ours"
)]
fn explain(address: &str, error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "is in use: stop what listens there, or choose another address or port for this listener"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "does not belong to this machine: choose an address that `ip addr` shows, 127.0.0.1 for \
             callers on this machine"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "may not be bound by this user: choose a port from 1024 on".to_owned()
        }
        io::ErrorKind::InvalidInput => format!("is not host:port ({error})"),
        _ => format!("cannot be bound: {error}"),
    };
    Error::new(Kind::Bind, format!("the listener address {address} {what}"))
}

const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    use super::*;

    const GET: &[u8] = b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n";

    async fn start(max_connections: usize, tasks: &Tasks, open: &Connections) -> SocketAddr {
        let bound = Bound::bind("127.0.0.1:0").await.unwrap();
        let address = bound.local_addr();
        let service = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("here")))
        });
        let limits = Limits {
            max_connections,
            ..Limits::default()
        };
        bound.serve(service, limits, tasks, open.clone());
        address
    }

    async fn ask(stream: &mut TcpStream) -> String {
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
        let address = bound.local_addr();
        bound.serve(service, Limits::default(), &tasks, Connections::default());
        let mut caller = TcpStream::connect(address).await.unwrap();
        caller.write_all(GET).await.unwrap();
        started.notified().await;
        drop(caller);
        dropped.1.notified().await;
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(dropped.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_what_to_do() {
        let first = Bound::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().to_string();
        let error = Bound::bind(&address).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Bind);
        let text = error.to_string();
        for part in [
            address.as_str(),
            "is in use",
            "choose another address or port",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn addresses_that_cannot_be_bound_say_why() {
        let cases = [
            ("192.0.2.1:0", "does not belong to this machine"),
            ("nonsense", "host:port"),
        ];
        for (address, part) in cases {
            let text = Bound::bind(address).await.unwrap_err().to_string();
            assert!(text.contains(address) && text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_is_bound_where_most_callers_look_for_it() {
        let bound = Bound::bind("localhost:0").await.unwrap();
        assert!(bound.local_addr().is_ipv4(), "{}", bound.local_addr());
    }

    #[test]
    fn every_interface_is_every_ipv4_one_on_a_system_without_ipv6() {
        let [no_family, no_address, in_use] =
            [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL, Errno::EADDRINUSE].map(io::Error::from);
        for (address, error, instead) in [
            ("[::]:8201", &no_family, Some("0.0.0.0:8201")),
            ("[::]:8201", &no_address, Some("0.0.0.0:8201")),
            ("[::]:8201", &in_use, None),
            ("[::1]:8201", &no_family, None),
            ("192.0.2.1:8201", &no_address, None),
        ] {
            assert_eq!(
                without_ipv6(address, error).as_deref(),
                instead,
                "{address}"
            );
        }
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
