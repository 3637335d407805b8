//! The token store: tokens, their accessors and who is whose child.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use tokio::time::Instant;

pub(crate) struct Token {
    pub(crate) id: String,
    /// Empty for batch tokens.
    pub(crate) accessor: String,
    /// `None`: an orphan.
    pub(crate) parent: Option<String>,
    pub(crate) namespace: String,
    pub(crate) policies: Vec<String>,
    /// The path that made it.
    pub(crate) path: String,
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    pub(crate) display_name: String,
    pub(crate) entity_id: String,
    pub(crate) uses: Uses,
    /// What `uses` began with; 0 for unlimited.
    pub(crate) num_uses: u64,
    pub(crate) is_batch: bool,
    pub(crate) renewable: bool,
    pub(crate) issued: Instant,
    /// `None`: a root token that never ends.
    pub(crate) end: Option<Instant>,
    pub(crate) last_renewal: Option<Instant>,
    pub(crate) creation_ttl: Duration,
    /// The TTL last granted: what a token of the token store asks for at its next renewal.
    pub(crate) granted_ttl: Duration,
    pub(crate) period: Duration,
    pub(crate) explicit_max_ttl: Duration,
    pub(crate) origin: Origin,
    /// The lease under which `sys/leases` knows it: its path and a hash.
    pub(crate) lease_id: String,
    pub(crate) cubbyhole: BTreeMap<String, Map<String, Value>>,
    pub(crate) wrapped: Option<Wrapped>,
}

/// Who decides about its renewal.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    #[default]
    TokenStore,
    /// The auth mount and the role or user in it.
    Login { mount: String, name: String },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uses {
    Unlimited,
    Left(u64),
    /// The last use is going on; with its answer the token ends.
    Last,
}

/// What a wrapping token holds.
pub(crate) struct Wrapped {
    pub(crate) response: String,
    pub(crate) path: String,
    pub(crate) ttl: Duration,
}

#[derive(Default)]
pub(crate) struct Tokens {
    by_id: HashMap<String, Token>,
    by_accessor: HashMap<String, String>,
    by_lease: BTreeMap<String, String>,
    children: HashMap<String, BTreeSet<String>>,
}

impl Token {
    pub(crate) fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    pub(crate) fn is_wrapping(&self) -> bool {
        self.policies == [WRAPPING_POLICY]
    }
}

impl Uses {
    /// As Vault shows them: 0 for unlimited, -1 while the last one goes on.
    pub(crate) fn shown(self) -> i64 {
        match self {
            Self::Unlimited => 0,
            Self::Left(left) => i64::try_from(left).unwrap_or(i64::MAX),
            Self::Last => -1,
        }
    }
}

impl Tokens {
    pub(crate) fn insert(&mut self, token: Token) {
        if let Some(parent) = &token.parent {
            let siblings = self.children.entry(parent.clone()).or_default();
            siblings.insert(token.id.clone());
        }
        if !token.accessor.is_empty() {
            self.by_accessor
                .insert(token.accessor.clone(), token.id.clone());
        }
        if token.end.is_some() && !token.is_batch {
            self.by_lease
                .insert(token.lease_id.clone(), token.id.clone());
        }
        self.by_id.insert(token.id.clone(), token);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Token> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Token> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn by_accessor(&self, accessor: &str) -> Option<&Token> {
        self.by_id.get(self.by_accessor.get(accessor)?)
    }

    pub(crate) fn by_lease(&self, lease_id: &str) -> Option<&Token> {
        self.by_id.get(self.by_lease.get(lease_id)?)
    }

    pub(crate) fn under_lease_prefix(&self, namespace: &str, prefix: &str) -> Vec<String> {
        self.by_lease
            .range(prefix.to_owned()..)
            .take_while(|(lease_id, _)| lease_id.starts_with(prefix))
            .filter(|(_, id)| {
                self.get(id)
                    .is_some_and(|token| token.namespace == namespace)
            })
            .map(|(_, id)| id.clone())
            .collect()
    }

    pub(crate) fn lease_ids(&self, namespace: &str) -> Vec<String> {
        let owned = self.by_lease.iter().filter(|(_, id)| {
            self.get(id)
                .is_some_and(|token| token.namespace == namespace)
        });
        owned.map(|(lease_id, _)| lease_id.clone()).collect()
    }

    pub(crate) fn children(&self, id: &str) -> Vec<String> {
        let children = self.children.get(id);
        children
            .map(|children| children.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Its children, if it still has any, become orphans.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Token> {
        let token = self.by_id.remove(id)?;
        self.by_accessor.remove(&token.accessor);
        self.by_lease.remove(&token.lease_id);
        if let Some(parent) = &token.parent
            && let Some(siblings) = self.children.get_mut(parent)
        {
            siblings.remove(id);
        }
        for child in self.children.remove(id).unwrap_or_default() {
            if let Some(child) = self.by_id.get_mut(&child) {
                child.parent = None;
            }
        }
        Some(token)
    }

    pub(crate) fn accessors(&self, namespace: &str) -> Vec<String> {
        let owned = self.by_accessor.iter().filter(|(_, id)| {
            self.get(id)
                .is_some_and(|token| token.namespace == namespace)
        });
        let mut accessors: Vec<String> = owned.map(|(accessor, _)| accessor.clone()).collect();
        accessors.sort_unstable();
        accessors
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// The one policy of wrapping tokens.
pub(crate) const WRAPPING_POLICY: &str = "response-wrapping";
