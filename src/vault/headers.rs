//! Names of the headers that Vault and Leasehold speak.

use http::HeaderName;

pub const X_VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
pub const X_VAULT_NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
pub const X_VAULT_REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
pub const X_VAULT_WRAP_TTL: HeaderName = HeaderName::from_static("x-vault-wrap-ttl");
pub const X_VAULT_MFA: HeaderName = HeaderName::from_static("x-vault-mfa");
/// OpenBao: the request carries its own login.
pub const INLINE_AUTH_PREFIX: &str = "x-vault-inline-auth-";
/// `HIT`, `MISS` or `STALE`.
pub const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
