//! The cache, from outside: what is kept and for how long, who shares a fetch, what a write drops, and
//! whose answers are whose.

mod clearing;
mod flights;
mod identities;
mod properties;

mod statics;
mod untouched;
mod writes;
