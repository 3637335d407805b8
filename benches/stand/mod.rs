//! What the benches that start programs share: starting and pinning them, what Linux knows of them, a client,
//! and the configuration of a Leasehold in front of a development Vault.

pub(crate) mod client;
pub(crate) mod leasehold;
pub(crate) mod linux;
pub(crate) mod program;

/// An error is a sentence for whoever runs the bench.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// `now = "..."`: a sentence with what was wanted in front.
pub(crate) fn while_doing<E: std::fmt::Display>(
    what: &str,
) -> impl FnOnce(E) -> Box<dyn std::error::Error + Send + Sync> {
    move |error| format!("{what}: {error}").into()
}
