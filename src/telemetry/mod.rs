//! What an operator sees: counters, gauges and log lines.
//!
//! Secrets stay out by construction: metrics take enums and numbers, log lines take fields from an
//! allow-list (method, path, status, counts, durations, addresses, file names), and `Secret` cannot be
//! shown.

mod log;
mod metrics;
mod sample;

pub use log::{LogFile, start};
pub use metrics::{Call, Handshake, LeaseEvent, Metrics, Rejection};
pub use sample::Sample;
