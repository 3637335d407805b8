//! The vocabulary of Vault's wire: paths, envelopes, header names. No I/O, no clock.

pub mod envelope;
pub mod headers;
pub mod path;
pub mod strings;
