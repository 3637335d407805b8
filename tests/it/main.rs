//! The one integration binary, over the public API.

mod hcl_fixtures;
