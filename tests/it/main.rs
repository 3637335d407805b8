//! Leasehold from outside: the public API and the program, in one test binary.

#[cfg(test)]
mod config;
