//! Listeners for callers: TCP and Unix sockets, plain or TLS, HTTP/1.1, several at once.
//!
//! A connection costs a caller nothing but bytes: it is closed when a head or a body does not arrive in time,
//! when nothing is asked for too long, and when the caller stops taking an answer. What a caller sends is
//! read by the letter: a request whose head is not in order is refused before anybody else sees it, and is
//! the last of its connection. A caller that hangs up cancels its request. Once the tasks are stopping,
//! running requests are finished and idle connections closed at once.

mod activated;
mod connection;
mod flaw;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod grammar;
mod guard;
mod heads;
mod limits;
mod line;
mod listen;
mod owner;
mod peer;
mod tcp;
mod tls;
mod unix;
mod wire;

pub use activated::Activated;
pub use connection::Connections;
#[cfg(any(test, fuzzing))]
pub use fuzzing::fuzz_heads;
pub use guard::Answered;
pub use limits::Limits;
pub use listen::{Address, Bound};
pub use tls::{Certificate, Reload, Tls};
