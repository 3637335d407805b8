//! The one integration binary: Leasehold from outside, and the rules of its own tree.

#[cfg(test)]
mod auto_auth;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod child;
#[cfg(test)]
mod config;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod hcl_fixtures;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod process;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod support;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod upstream;
#[cfg(test)]
mod wire;
