//! Ends: of their own, by revocation, or with a parent.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::State;
use super::lease::Lease;
use crate::dev::engine;

/// When what may end; entries that a renewal outdated are skipped when their time comes.
#[derive(Default)]
pub(super) struct Ends {
    queue: BTreeMap<(Instant, u64), Ending>,
    serial: u64,
}

pub(super) enum Ending {
    Token(String),
    Lease(String),
}

impl Ends {
    pub(super) fn add(&mut self, end: Instant, what: Ending) {
        self.serial += 1;
        self.queue.insert((end, self.serial), what);
    }
}

impl State {
    /// Ends what has ended by `now`.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some(entry) = self.ends.queue.first_entry() {
            let (end, _) = *entry.key();
            if end > now {
                break;
            }
            match entry.remove() {
                Ending::Token(id) => {
                    if self.tokens.get(&id).and_then(|token| token.end) == Some(end) {
                        self.revoke_token(&id);
                    }
                }
                Ending::Lease(id) => {
                    if self.leases.get(&id).map(|lease| lease.end) == Some(end) {
                        self.revoke_lease(&id);
                    }
                }
            }
        }
    }

    /// The token and all below it: children, grandchildren, and the leases of each.
    pub(crate) fn revoke_token(&mut self, id: &str) {
        let mut doomed = vec![id.to_owned()];
        let mut at = 0;
        while let Some(id) = doomed.get(at) {
            let children = self.tokens.children(id);
            doomed.extend(children);
            at += 1;
        }
        for id in doomed.iter().rev() {
            self.revoke_orphaning(id);
        }
    }

    /// The token and its leases; its children live on as orphans.
    pub(crate) fn revoke_orphaning(&mut self, id: &str) {
        for lease in self.leases.of_token(id) {
            self.revoke_lease(&lease);
        }
        self.tokens.remove(id);
    }

    /// A lease of a secret, or a token by its lease. One that does not exist is no error.
    pub(crate) fn revoke_lease(&mut self, id: &str) {
        if let Some(lease) = self.leases.remove(id) {
            self.take_back(&lease);
        } else if let Some(token) = self.tokens.by_lease(id) {
            let id = token.id.clone();
            self.revoke_token(&id);
        }
    }

    /// Every lease and token made at a path that begins with `prefix`, whole segments only.
    pub(crate) fn revoke_under(&mut self, namespace: &str, prefix: &str) {
        if self.leases.get(prefix).is_some() || self.tokens.by_lease(prefix).is_some() {
            return self.revoke_lease(prefix);
        }
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        for lease in self.leases.under(namespace, &prefix) {
            self.revoke_lease(&lease);
        }
        for token in self.tokens.under_lease_prefix(namespace, &prefix) {
            self.revoke_token(&token);
        }
    }

    /// Has the engine undo what it made: drops the database user.
    fn take_back(&mut self, lease: &Lease) {
        if let Some(namespace) = self.namespace_mut(&lease.namespace)
            && let Some(path) = namespace
                .mounts
                .matching(&lease.path)
                .map(|mount| mount.path.clone())
            && let Some(mount) = namespace.mounts.get_mut(&path)
        {
            engine::revoke(&mut mount.engine, &lease.internal);
        }
    }
}
