//! Leasehold: a local caching proxy for the Vault API.
//!
//! The map of the rooms, and which may name which: `src/architecture.md`.

pub mod admin;
pub mod app;
pub mod auth;
pub mod backoff;
pub mod cache;
pub mod cli;
pub mod config;
#[cfg(feature = "dev")]
pub mod dev;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod hcl;
pub mod lease;
pub mod life;
pub mod proxy;
pub mod secret;
pub mod server;
pub mod sink;
pub mod tasks;
pub mod telemetry;
pub mod token;
pub mod upstream;
pub mod vault;
