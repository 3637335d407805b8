//! The one integration binary, over the public API.

#[cfg(test)]
mod hcl_fixtures;
