//! Everything that the development Vault knows, behind one lock.
//!
//! Nothing happens by itself: whoever takes the state settles first what has ended by now, in the order in
//! which it ended, so that no background task is needed and a paused clock is obeyed to the millisecond.

mod ends;
pub(crate) mod grants;
pub(crate) mod lease;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod policy;
pub(crate) mod token;
pub(crate) mod tree;
pub(crate) mod ttl;

use std::collections::BTreeMap;

use self::ends::Ends;
use self::lease::Leases;
use self::mount::Mount;
use self::namespace::Namespace;
use self::policy::{Acl, Capabilities, Rule};
use self::token::{Token, Tokens, WRAPPING_POLICY};
use super::clock::Clock;
use super::random;

pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) tokens: Tokens,
    pub(crate) leases: Leases,
    pub(crate) sealed: bool,
    pub(crate) unseal_key: String,
    pub(crate) cluster_name: String,
    pub(crate) cluster_id: String,
    /// By the auth mount's accessor and the name in it.
    entities: BTreeMap<(String, String), Entity>,
    ends: Ends,
}

/// Who is behind a login; known in its own namespace only.
struct Entity {
    id: String,
    namespace: String,
}

impl State {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            namespaces: vec![Namespace::new("", clock.now())],
            tokens: Tokens::default(),
            leases: Leases::default(),
            sealed: false,
            unseal_key: random::hex(32),
            cluster_name: format!("vault-cluster-{}", random::hex(4)),
            cluster_id: random::uuid(),
            entities: BTreeMap::new(),
            ends: Ends::default(),
        }
    }

    pub(crate) fn namespace(&self, id: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.id == id)
    }

    pub(crate) fn namespace_mut(&mut self, id: &str) -> Option<&mut Namespace> {
        self.namespaces
            .iter_mut()
            .find(|namespace| namespace.id == id)
    }

    pub(crate) fn namespace_path(&self, id: &str) -> &str {
        self.namespace(id)
            .map_or("", |namespace| namespace.path.as_str())
    }

    pub(crate) fn mount(&self, namespace: &str, path: &str) -> Option<&Mount> {
        self.namespace(namespace)?.mounts.matching(path)
    }

    /// Everything that the token's policies allow. Policies are looked up now, not when it was made.
    pub(crate) fn acl(&self, token: &Token) -> Acl {
        if token.is_root() {
            return Acl::root();
        }
        let mut acl = Acl::default();
        let Some(namespace) = self.namespace(&token.namespace) else {
            return acl;
        };
        for name in &token.policies {
            if name == WRAPPING_POLICY {
                let capabilities = Capabilities::UPDATE;
                let path = "sys/wrapping/unwrap".to_owned();
                acl.add(&namespace.path, &[Rule { path, capabilities }]);
            } else if let Some(policy) = namespace.policies.get(name) {
                acl.add(&namespace.path, &policy.rules);
            }
        }
        acl
    }

    /// The identity behind a login, the same at each.
    pub(crate) fn entity(&mut self, namespace: &str, mount_accessor: &str, alias: &str) -> String {
        let key = (mount_accessor.to_owned(), alias.to_owned());
        let entity = self.entities.entry(key).or_insert_with(|| Entity {
            id: random::uuid(),
            namespace: namespace.to_owned(),
        });
        entity.id.clone()
    }

    /// A token that was made in another namespace than the one its maker logged in to is good for nothing: its
    /// entity is not found where it lives.
    pub(crate) fn knows_entity(&self, token: &Token) -> bool {
        let is_its =
            |entity: &Entity| entity.id == token.entity_id && entity.namespace == token.namespace;
        token.entity_id.is_empty() || self.entities.values().any(is_its)
    }
}
