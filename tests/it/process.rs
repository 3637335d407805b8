//! The program as a user and an operator see it.

mod bad_input;
mod check;
mod dev;
mod memory;
mod modes;
mod outage;
mod secrets;
mod signals;
mod start;
mod tls;
mod unix;
mod usage;
