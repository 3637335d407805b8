//! The one integration binary: Leasehold from outside, and the rules of its own tree.

#[cfg(test)]
mod child;
#[cfg(test)]
mod config;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod hcl_fixtures;
#[cfg(test)]
mod process;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod wire;
