//! The one integration binary: Leasehold from outside, and the rules of its own tree.

#[cfg(test)]
mod config;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod hcl_fixtures;
#[cfg(test)]
mod tidy;
