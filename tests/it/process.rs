//! The program as a user and an operator see it.

mod bad_input;
mod check;
mod dev;
mod outage;
mod signals;
mod start;
mod tls;
mod unix;
mod usage;
