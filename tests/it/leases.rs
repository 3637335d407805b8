//! Leases, from outside: how long they are served, when they are renewed and replaced, what ends them.

mod budget;
mod ends;
mod life;
mod logins;
mod revoked;
