//! Clearing on request: `cache-clear`, synchronous, all types (`POST /agent/v1/cache-clear`).

use serde::{Deserialize, Serialize};

use super::key::Identity;
use super::{Cache, Room, policy};
use crate::error::{Error, Kind, Result};
use crate::vault::path::{ApiPath, canonical_namespace};

/// The body of a request to clear.
#[derive(Deserialize)]
pub struct Clear {
    /// `request_path`, `token`, `token_accessor`, `lease`, `path` or `all`.
    r#type: Option<String>,
    value: Option<String>,
    namespace: Option<String>,
}

/// How many entries went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cleared {
    pub cleared: usize,
}

impl Cache {
    /// Drops what is asked for before it returns. Leases are let go, not revoked.
    ///
    /// # Errors
    /// `BadRequest` for a missing or unknown type, or a missing value.
    pub fn clear(&self, asked: &Clear) -> Result<Cleared> {
        let Some(kind) = asked.r#type.as_deref().filter(|kind| !kind.is_empty()) else {
            return Err(bad(format!("\"type\" is missing; {TYPES}")));
        };
        let value = || match asked.value.as_deref() {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(bad(format!(
                "\"value\" is missing; a clear of type {kind:?} needs it"
            ))),
        };
        let room = &self.room;
        let cleared = match kind {
            "all" => room.drop_where(|_| true),
            "request_path" => {
                let prefix = canonical(value()?, asked.namespace.as_deref());
                room.drop_where(|entry| entry.resource.starts_with(&prefix))
            }
            "path" => {
                let namespace = canonical_namespace(asked.namespace.as_deref());
                let glob = value()?.trim_start_matches("/v1/").trim_matches('/');
                let glob = [namespace, glob].join("/");
                let glob = glob.trim_start_matches('/');
                room.drop_where(|entry| policy::glob_matches(glob, &entry.resource))
            }
            "lease" => room.clear_lease(value()?),
            "token" => room.clear_token(room.keyer.print(value()?.as_bytes())),
            "token_accessor" => {
                let accessor = room.keyer.print(value()?.as_bytes());
                room.tokens
                    .find_accessor(accessor)
                    .map_or(0, |known| room.clear_token(known.token))
            }
            other => return Err(bad(format!("the type {other:?} is not known; {TYPES}"))),
        };
        Ok(Cleared { cleared })
    }
}

impl Room {
    /// Drops entries and keeps running fetches from storing what was asked for before.
    fn drop_where(&self, picks: impl Fn(&super::Entry) -> bool) -> usize {
        let removed = self
            .flights
            .fence(|_| true, || self.store.remove_where(picks));
        let count = removed.statics + removed.leased.len();
        self.let_go(removed.leased);
        count
    }

    fn clear_lease(&self, lease_id: &str) -> usize {
        let Some(lease) = self
            .store
            .lease_by_id(self.keyer.print(lease_id.as_bytes()))
        else {
            return 0;
        };
        let removed = self.store.remove_lease(lease);
        let count = usize::from(removed.is_some());
        self.let_go(removed.into_iter().collect());
        count
    }

    /// The entries of a token and of everything below it. The token itself stays what it is.
    pub(super) fn clear_token(&self, token: super::key::Print) -> usize {
        let below = self.tokens.family(token);
        let own = self
            .token
            .borrow()
            .clone()
            .map(|own| self.keyer.print_of(&own.secret));
        let is_own = own.is_some_and(|own| below.contains(&own));
        self.drop_where(|entry| match entry.identity {
            Identity::AutoAuth => is_own,
            Identity::Token(print) => below.contains(&print),
            Identity::Anonymous => entry
                .token()
                .is_some_and(|t| below.contains(&self.keyer.print_of(t))),
        })
    }
}

impl super::Entry {
    /// The token that a stored login brought.
    fn token(&self) -> Option<&crate::secret::Secret> {
        match &self.stay {
            super::Stay::Leased(lease) => match lease.what {
                crate::lease::What::Token { .. } => Some(&lease.token),
                crate::lease::What::Secret { .. } => None,
            },
            super::Stay::Static(_) => None,
        }
    }
}

fn canonical(path: &str, namespace: Option<&str>) -> String {
    let path = if path.starts_with("/v1/") {
        path.to_owned()
    } else {
        format!("/v1/{}", path.trim_start_matches('/'))
    };
    ApiPath::parse(&path, namespace).map_or(String::new(), |path| path.canonical().to_owned())
}

fn bad(message: String) -> Error {
    Error::new(Kind::BadRequest, message)
}

impl std::fmt::Debug for Clear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clear")
            .field("type", &self.r#type)
            .finish_non_exhaustive()
    }
}

const TYPES: &str = "types are request_path, token, token_accessor, lease, path, all";
