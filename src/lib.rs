//! Leasehold: a local caching proxy for the Vault API.
//!
//! The map of the rooms, and which may name which: `src/architecture.md`.

pub mod backoff;
pub mod config;
#[cfg(feature = "dev")]
pub mod dev;
pub mod error;
pub mod lease;
pub mod life;
pub mod secret;
pub mod tasks;
pub mod token;
pub mod upstream;
pub mod vault;
