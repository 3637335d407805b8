//! Grants: tokens and leases made, and renewed.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::State;
use super::ends::Ending;
use super::lease::Lease;
use super::namespace::Namespace;
use super::token::{Origin, Token, Uses};
use super::ttl::{self, SYSTEM, Wish};
use crate::dev::answer::{AuthGrant, Refusal, Reply, SecretGrant};
use crate::dev::engine;
use crate::dev::random::{self, ID_LENGTH};

/// A token to be made.
pub(crate) struct NewToken<'a> {
    pub(crate) namespace: &'a str,
    /// `None`: a random one.
    pub(crate) id: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) path: String,
    pub(crate) auth: &'a AuthGrant,
}

impl State {
    /// Makes the token; the grant that comes back says what it is.
    ///
    /// # Errors
    /// A chosen id that exists or is not allowed.
    pub(crate) fn create_token(
        &mut self,
        new: NewToken<'_>,
        now: Instant,
    ) -> Result<AuthGrant, Refusal> {
        let suffix = self.suffix(new.namespace);
        let mut auth = new.auth.clone();
        let id = match new.id {
            Some(id) => self.chosen_id(id)?,
            None if auth.is_batch => format!("hvb.{}{suffix}", random::base62(138)),
            None => format!("hvs.{}{suffix}", random::base62(91)),
        };
        if !auth.is_batch {
            auth.accessor = format!("{}{suffix}", random::base62(ID_LENGTH));
        }
        auth.client_token.clone_from(&id);
        auth.orphan = new.parent.is_none();
        auth.policies.sort_unstable();
        auth.policies.dedup();
        let end = (!auth.ttl.is_zero()).then(|| now + auth.ttl);
        if let Some(end) = end {
            self.ends.add(end, Ending::Token(id.clone()));
        }
        self.tokens.insert(Token {
            id,
            accessor: auth.accessor.clone(),
            parent: new.parent,
            namespace: new.namespace.to_owned(),
            policies: auth.policies.clone(),
            metadata: auth.metadata.clone(),
            display_name: auth.display_name.clone(),
            entity_id: auth.entity_id.clone(),
            uses: match auth.num_uses {
                0 => Uses::Unlimited,
                uses => Uses::Left(uses),
            },
            num_uses: auth.num_uses,
            is_batch: auth.is_batch,
            renewable: auth.renewable,
            issued: now,
            end,
            last_renewal: None,
            creation_ttl: auth.ttl,
            granted_ttl: auth.ttl,
            period: auth.period,
            explicit_max_ttl: auth.explicit_max_ttl,
            origin: auth.origin.clone(),
            lease_id: format!("{}/h{}{suffix}", new.path, random::hex(32)),
            path: new.path,
            cubbyhole: BTreeMap::new(),
            wrapped: None,
        });
        Ok(auth)
    }

    /// Registers the lease of a secret made at `path` with the token, and completes the grant.
    pub(crate) fn register_lease(
        &mut self,
        namespace: &str,
        path: &str,
        token: &str,
        grant: &mut SecretGrant,
        now: Instant,
    ) {
        let (Some(internal), Some(token)) = (grant.internal.clone(), self.tokens.get(token)) else {
            return;
        };
        let cap = token.end.filter(|_| token.is_batch);
        let owner = token.parent.as_ref().filter(|_| token.is_batch);
        let owner = owner.unwrap_or(&token.id).clone();
        let path = path.trim_end_matches('/');
        let id = random::base62(ID_LENGTH);
        grant.id = format!("{path}/{id}{}", self.suffix(namespace));
        let end = now + grant.ttl;
        let end = cap.map_or(end, |cap| cap.min(end));
        grant.ttl = rounded(end.saturating_duration_since(now));
        self.ends.add(end, Ending::Lease(grant.id.clone()));
        self.leases.insert(Lease {
            id: grant.id.clone(),
            token: owner,
            cap,
            namespace: namespace.to_owned(),
            path: path.to_owned(),
            renewable: grant.renewable,
            issued: now,
            end,
            last_renewal: None,
            internal,
        });
    }

    /// # Errors
    /// In the server's words: not found, not renewable, a token, past its maximum.
    pub(crate) fn renew_lease(
        &mut self,
        id: &str,
        increment: Duration,
        now: Instant,
    ) -> Result<Reply, Refusal> {
        let Some(lease) = self.leases.get(id) else {
            return Err(Refusal::bad(match self.tokens.by_lease(id) {
                Some(token) if token.renewable => "tokens cannot be renewed through this endpoint",
                Some(_) => "lease is not renewable",
                None => "lease not found",
            }));
        };
        if !lease.renewable {
            return Err(Refusal::bad("lease is not renewable"));
        }
        let mount = self.mount(&lease.namespace, &lease.path);
        let mount =
            mount.ok_or_else(|| Refusal::bad("unable to retrieve system view from router"))?;
        let terms = engine::renewal_terms(&mount.engine, &lease.internal);
        let (backend, backend_max) = terms.map_err(|why| {
            Refusal::bad(format!(
                "failed to renew entry: resp: (*logical.Response)(nil) err: {why}"
            ))
        })?;
        let wish = Wish {
            increment,
            backend,
            backend_max,
            ..Wish::default()
        };
        let granted = ttl::grant(self.clock, mount.limits(), wish, Some(lease.issued), now);
        let mut granted = granted.map_err(Refusal::bad)?;
        let mut end = now + granted.ttl;
        if let Some(cap) = lease.cap.filter(|cap| *cap < end) {
            granted.ttl = cap.saturating_duration_since(now);
            end = cap;
        }
        self.ends.add(end, Ending::Lease(id.to_owned()));
        if let Some(lease) = self.leases.get_mut(id) {
            lease.end = end;
            lease.last_renewal = Some(now);
        }
        Ok(Reply {
            warnings: granted.warnings,
            secret: Some(SecretGrant {
                id: id.to_owned(),
                renewable: true,
                ttl: granted.ttl,
                ..SecretGrant::default()
            }),
            ..Reply::default()
        })
    }

    /// # Errors
    /// In the server's words: a batch token, not renewable, its login gone, past its maximum.
    pub(crate) fn renew_token(
        &mut self,
        id: &str,
        increment: Duration,
        now: Instant,
    ) -> Result<Reply, Refusal> {
        // One in its last use is not found any more.
        let token = self.tokens.get(id).filter(|token| token.uses != Uses::Last);
        let Some(token) = token else {
            return Err(Refusal::bad("token not found"));
        };
        if token.is_batch {
            return Err(Refusal::bad("batch tokens cannot be renewed"));
        }
        if !token.renewable || token.end.is_none() {
            return Err(Refusal::bad("lease is not renewable"));
        }
        let (wish, limits) = match &token.origin {
            Origin::TokenStore => {
                let wish = Wish {
                    increment,
                    backend: token.granted_ttl,
                    period: token.period,
                    backend_max: Duration::ZERO,
                    explicit_max: token.explicit_max_ttl,
                };
                (wish, SYSTEM)
            }
            Origin::Login { mount, name } => {
                let mount = self
                    .namespace(&token.namespace)
                    .and_then(|namespace| namespace.mounts.get(mount))
                    .ok_or_else(|| Refusal::internal("auth method is gone"))?;
                let terms = engine::login_terms(&mount.engine, name).ok_or_else(|| {
                    Refusal::internal(&format!("role {name:?} does not exist during renewal"))
                })?;
                let wish = Wish {
                    increment,
                    backend: terms.ttl,
                    period: terms.period,
                    backend_max: terms.max_ttl,
                    explicit_max: token.explicit_max_ttl,
                };
                (wish, mount.limits())
            }
        };
        let granted = ttl::grant(self.clock, limits, wish, Some(token.issued), now).map_err(
            // The token endpoints pass this on as an error of their own, unlike the lease endpoints.
            |why| Refusal::listed(StatusCode::INTERNAL_SERVER_ERROR, why),
        )?;
        let end = now + granted.ttl;
        self.ends.add(end, Ending::Token(id.to_owned()));
        let mut auth = AuthGrant::default();
        if let Some(token) = self.tokens.get_mut(id) {
            token.end = Some(end);
            token.last_renewal = Some(now);
            token.granted_ttl = granted.ttl;
            auth = described(token, granted.ttl);
        }
        Ok(Reply {
            warnings: granted.warnings,
            auth: Some(auth),
            ..Reply::default()
        })
    }

    fn chosen_id(&self, id: String) -> Result<String, Refusal> {
        let why = if id.starts_with("hvs.") {
            "custom token ID cannot have the 'hvs.' prefix"
        } else if id.starts_with("s.") {
            "custom token ID cannot have the 's.' prefix"
        } else if id.contains('.') {
            "custom token ID cannot have a '.' in the value"
        } else if self.tokens.get(&id).is_some() {
            "cannot create a token with a duplicate ID"
        } else {
            return Ok(id);
        };
        Err(Refusal::bad(why))
    }

    fn suffix(&self, namespace: &str) -> String {
        self.namespace(namespace)
            .map_or_else(String::new, Namespace::suffix)
    }
}

/// What an answer's `auth` says of a token.
fn described(token: &Token, ttl: Duration) -> AuthGrant {
    AuthGrant {
        client_token: token.id.clone(),
        accessor: token.accessor.clone(),
        policies: token.policies.clone(),
        metadata: token.metadata.clone(),
        ttl,
        renewable: token.renewable,
        // The server shows what was set, not what is left.
        num_uses: token.num_uses,
        orphan: token.parent.is_none(),
        entity_id: token.entity_id.clone(),
        ..AuthGrant::default()
    }
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_secs((duration + Duration::from_millis(500)).as_secs())
}
