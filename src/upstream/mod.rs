//! The only room that talks to Vault.
//!
//! Two ways in: `Upstream::send` forwards a caller's request as it is, streamed both ways;
//! `Upstream::call` makes one of Leasehold's own small JSON calls (login, renewal, look-up).

mod body;
mod budget;
mod call;
mod causes;
mod client;
mod dial;
mod link;
mod patience;
mod pem;
mod pool;
mod reach;
mod refusal;
mod replay;
mod tls;
mod verify;

pub use body::{Body, Stream, UpstreamBody, broke_off};
pub use budget::Budget;
pub use call::{Answer, Call, Place};
pub use client::Upstream;
pub use dial::Way;
pub use link::{Io, Link};
pub use refusal::retry_after;
pub use tls::TlsView;
