//! The lease store: what was minted, for which token, until when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::time::Instant;

pub(crate) struct Lease {
    pub(crate) id: String,
    /// It dies with this one; for a batch token's lease that is the batch token's parent.
    pub(crate) token: String,
    /// The end of the batch token that it was made with: renewals stop there.
    pub(crate) cap: Option<Instant>,
    pub(crate) namespace: String,
    /// The path that made it, relative to its namespace.
    pub(crate) path: String,
    pub(crate) renewable: bool,
    pub(crate) issued: Instant,
    pub(crate) end: Instant,
    pub(crate) last_renewal: Option<Instant>,
    pub(crate) internal: Internal,
}

/// What an engine needs to know to renew or revoke what it made.
#[derive(Clone)]
pub(crate) enum Internal {
    Database {
        role: String,
        username: String,
    },
    /// A secret of KV v1 with `leased_passthrough`.
    Kv {
        key: String,
    },
    /// Made by the engine that mints what cannot be renewed.
    Cloud {
        access_key: String,
    },
}

#[derive(Default)]
pub(crate) struct Leases {
    by_id: BTreeMap<String, Lease>,
    by_token: HashMap<String, BTreeSet<String>>,
}

impl Leases {
    pub(crate) fn insert(&mut self, lease: Lease) {
        self.by_token
            .entry(lease.token.clone())
            .or_default()
            .insert(lease.id.clone());
        self.by_id.insert(lease.id.clone(), lease);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Lease> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Lease> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Lease> {
        let lease = self.by_id.remove(id)?;
        if let Some(of_token) = self.by_token.get_mut(&lease.token) {
            of_token.remove(id);
            if of_token.is_empty() {
                self.by_token.remove(&lease.token);
            }
        }
        Some(lease)
    }

    pub(crate) fn of_token(&self, token: &str) -> Vec<String> {
        let ids = self.by_token.get(token);
        ids.map(|ids| ids.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// In the order of their ids.
    pub(crate) fn under(&self, namespace: &str, prefix: &str) -> Vec<String> {
        self.by_id
            .range(prefix.to_owned()..)
            .take_while(|(id, _)| id.starts_with(prefix))
            .filter(|(_, lease)| lease.namespace == namespace)
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leases_are_found_by_token_and_prefix() {
        let now = Instant::now();
        let mut leases = Leases::default();
        for (id, token) in [
            ("db/creds/a/1", "t"),
            ("db/creds/a/2", "u"),
            ("kv/x/3", "t"),
        ] {
            leases.insert(Lease {
                id: id.into(),
                token: token.into(),
                cap: None,
                namespace: "root".into(),
                path: String::new(),
                renewable: true,
                issued: now,
                end: now,
                last_renewal: None,
                internal: Internal::Kv { key: String::new() },
            });
        }
        assert_eq!(leases.of_token("t"), ["db/creds/a/1", "kv/x/3"]);
        assert_eq!(
            leases.under("root", "db/creds/a/"),
            ["db/creds/a/1", "db/creds/a/2"]
        );
        assert!(leases.under("other", "db/").is_empty());
        leases.remove("db/creds/a/1");
        assert_eq!(leases.of_token("t"), ["kv/x/3"]);
        assert_eq!(leases.len(), 2);
    }
}
