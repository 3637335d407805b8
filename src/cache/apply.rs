//! What a request has changed, done to what is kept: before its answer goes back.

use std::sync::Arc;

use tokio::time::Instant;

use super::effect::Effect;
use super::entry::{Entry, Stay};
use super::key::Print;
use super::tokens::Known;
use super::{Caller, Certainty, Room};
use crate::lease::Grant;
use crate::life::{LONGEST, Life};
use crate::vault::envelope::{Envelope, Seconds};

impl Room {
    /// Takes from an answer what a renewal or a new token brought.
    pub(super) fn read_effect(
        &self,
        effect: &Effect,
        body: &[u8],
        asked_at: Instant,
        caller: &Caller,
    ) {
        let Some(envelope) = Envelope::read(body) else {
            return;
        };
        match effect {
            Effect::LeaseRenewed(named) => {
                let told = (!envelope.lease_id.is_empty())
                    .then(|| self.keyer.print(envelope.lease_id.as_bytes()));
                let lease = told
                    .or(*named)
                    .and_then(|print| self.store.lease_by_id(print));
                let (Some(lease), Some(ttl)) = (lease, &envelope.lease_duration) else {
                    return;
                };
                if let Some(entry) = self.store.entry_of_lease(lease)
                    && let Stay::Leased(lease) = &entry.stay
                {
                    lease.life.set_end(asked_at + ttl.value);
                }
                self.scheduler
                    .renewed(lease, grant(ttl, envelope.renewable, asked_at));
            }
            Effect::TokenRenewed(named) => {
                let Some(auth) = &envelope.auth else { return };
                let Some(ttl) = &auth.lease_duration else {
                    return;
                };
                let told = (!auth.client_token.is_empty())
                    .then(|| self.keyer.print(auth.client_token.as_bytes()));
                let Some(known) = told.or(*named).and_then(|print| self.tokens.find(print)) else {
                    return;
                };
                if !ttl.value.is_zero() {
                    known.life.set_end(asked_at + ttl.value.min(LONGEST));
                }
                if let Some(lease) = known.lease {
                    self.scheduler
                        .renewed(lease.key, grant(ttl, auth.renewable, asked_at));
                }
            }
            Effect::TokenMade { parent } => {
                let Some(auth) = &envelope.auth else { return };
                if auth.client_token.is_empty() {
                    return;
                }
                let print = self.keyer.print(auth.client_token.as_bytes());
                let accessor =
                    (!auth.accessor.is_empty()).then(|| self.keyer.print(auth.accessor.as_bytes()));
                let life = match &auth.lease_duration {
                    Some(ttl) if !ttl.value.is_zero() => {
                        Life::ending_at(asked_at + ttl.value.min(LONGEST))
                    }
                    _ => Life::endless(),
                };
                let parent =
                    parent.filter(|_| !auth.orphan && !matches!(caller, Caller::Anonymous));
                self.tokens
                    .add(print, accessor, parent, Arc::new(life), None);
                if auth.is_counted {
                    self.tokens.note_counted(print, Life::endless());
                }
            }
            Effect::None
            | Effect::Written(_)
            | Effect::AccessChanged { .. }
            | Effect::TokenRevoked { .. }
            | Effect::AccessorRevoked(_)
            | Effect::LeaseRevoked(_)
            | Effect::PrefixRevoked(_)
            | Effect::LoginsChanged(_)
            | Effect::Unclear => {}
            Effect::Either(both) => {
                for effect in both.iter() {
                    self.read_effect(effect, body, asked_at, caller);
                }
            }
        }
    }

    pub(super) fn apply(&self, effect: &Effect, certainty: Certainty) {
        match effect {
            Effect::None
            | Effect::TokenRenewed(_)
            | Effect::LeaseRenewed(_)
            | Effect::TokenMade { .. } => {}
            Effect::Written(touched) => {
                let is_touched = |resource: &str| {
                    touched
                        .binary_search_by(|path| path.as_str().cmp(resource))
                        .is_ok()
                };
                self.flights.fence(
                    |flight| is_touched(flight.resource()),
                    || {
                        self.store
                            .remove_resources(touched.iter().map(String::as_str))
                    },
                );
            }
            Effect::Either(both) => {
                for effect in both.iter() {
                    self.apply(effect, certainty);
                }
            }
            Effect::LoginsChanged(mount) => {
                let below = |path: &str| {
                    path.strip_prefix(mount.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
                };
                self.flights.fence(|flight| below(flight.resource()), || ());
                let gone = self.store.remove_where(|entry| below(&entry.resource));
                self.forget(&gone.leased);
            }
            Effect::AccessChanged { mount } => self.access_changed(mount.as_deref()),
            Effect::TokenRevoked {
                token: Some(token),
                orphan,
            } => self.token_revoked(*token, *orphan, certainty),
            Effect::AccessorRevoked(accessor) => match self.tokens.find_accessor(*accessor) {
                Some(known) => self.token_revoked(known.token, false, certainty),
                None => {
                    // Nor are those known that only a read under way carries.
                    let is_known = |token| self.tokens.has_accessor(token);
                    self.flights.fence(
                        |flight| flight.token().is_some_and(|token| !is_known(token)),
                        || (),
                    );
                    self.tokens_ended(&self.tokens.end_without_accessor());
                }
            },
            Effect::LeaseRevoked(Some(lease_id)) => {
                if let Some(lease) = self.store.lease_by_id(*lease_id) {
                    self.lease_is_dead(lease);
                }
            }
            // Tokens are revoked by the path of their login; whose those are, nobody told us.
            Effect::PrefixRevoked(prefix) if prefix.starts_with("auth/") => {
                self.everything_revoked();
                // What surely covers it is not let through: one question to Vault is enough.
                self.own_token_is_revoked(Certainty::Doubtful);
            }
            Effect::PrefixRevoked(prefix) if !prefix.is_empty() => {
                let below = |path: &str| path.contains(prefix.as_str());
                self.flights.fence(|flight| below(flight.resource()), || ());
                let dead = self.store.remove_where(|entry| {
                    entry
                        .lease_id()
                        .is_some_and(|id| id.starts_with(prefix.as_str()))
                });
                self.let_go(dead.leased);
            }
            Effect::Unclear
            | Effect::TokenRevoked { token: None, .. }
            | Effect::LeaseRevoked(None)
            | Effect::PrefixRevoked(_) => self.everything_revoked(),
        }
    }

    fn access_changed(&self, mount: Option<&str>) {
        self.mounts.forget_all();
        self.flights.fence(
            |_| true,
            || self.store.remove_where(|entry| entry.lease_key().is_none()),
        );
        if let Some(mount) = mount {
            let below = |path: &str| {
                path.strip_prefix(mount)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let dead = self.store.remove_where(|entry| below(&entry.resource));
            self.let_go(dead.leased);
        }
    }

    fn token_revoked(&self, token: Print, orphan: bool, certainty: Certainty) {
        // Were it ended on a mere suspicion, any caller could leave all others without a token.
        if certainty == Certainty::Doubtful && self.is_own(token) {
            return self.own_token_is_revoked(certainty);
        }
        let mut ended = self.tokens.end(token, orphan);
        if ended.is_empty() {
            // Never seen before: what is being fetched with it right now must not be stored.
            let (life, _) = self.tokens.life_of(token);
            life.end_now();
            ended.push(Known {
                token,
                life,
                lease: None,
            });
        }
        self.tokens_ended(&ended);
    }

    /// Drops what was kept for tokens that have ended, and keeps what is fetched with them from being stored.
    fn tokens_ended(&self, ended: &[Known]) {
        let is_ended = |token: Print| ended.iter().any(|known| known.token == token);
        self.flights
            .fence(|flight| flight.token().is_some_and(is_ended), || ());
        for lease in ended.iter().filter_map(|known| known.lease.as_ref()) {
            self.lease_is_dead(lease.key);
        }
        self.drop_dead_leases();
        if ended.iter().any(|known| self.is_own(known.token)) {
            self.own_token_is_revoked(Certainty::Certain);
        }
    }

    fn is_own(&self, token: Print) -> bool {
        let own = self.token.borrow();
        own.as_deref()
            .is_some_and(|own| self.keyer.print_of(&own.secret) == token)
    }

    fn own_token_is_revoked(&self, certainty: Certainty) {
        if let Some(own) = self.token.borrow().as_deref() {
            (self.own_token_revoked)(own.generation, certainty);
        }
    }

    fn everything_revoked(&self) {
        self.flights.fence(|_| true, || ());
        let dead = self.store.remove_where(|_| true);
        self.let_go(dead.leased);
    }

    /// Ends a lease that Vault no longer knows.
    pub(super) fn lease_is_dead(&self, lease: u64) {
        if let Some(entry) = self.store.remove_lease(lease) {
            self.let_go(vec![entry]);
        }
        self.scheduler.forget(lease);
    }

    /// Serves entries no more whose tokens live on with those who have them.
    fn forget(&self, entries: &[Arc<Entry>]) {
        for key in entries.iter().filter_map(|entry| entry.lease_key()) {
            self.scheduler.forget(key);
        }
    }

    pub(super) fn let_go(&self, entries: Vec<Arc<Entry>>) {
        for entry in entries {
            if let Stay::Leased(lease) = &entry.stay {
                lease.life.end_now();
                self.scheduler.forget(lease.key);
            }
        }
    }

    /// Removes the entries of leases that have ended, by themselves or with their tokens.
    pub(super) fn drop_dead_leases(&self) {
        let now = Instant::now();
        let is_dead = |entry: &Entry| match &entry.stay {
            Stay::Leased(lease) => lease.remaining(now).is_zero(),
            Stay::Static(stay) => stay.owner.as_ref().is_some_and(|owner| owner.is_over(now)),
        };
        let dead = self.flights.hold(|| self.store.remove_where(is_dead));
        self.let_go(dead.leased);
    }
}

impl Entry {
    fn lease_id(&self) -> Option<&str> {
        match &self.stay {
            Stay::Leased(lease) => match &lease.what {
                crate::lease::What::Secret { lease_id } => Some(lease_id.expose()),
                crate::lease::What::Token { .. } => None,
            },
            Stay::Static(_) => None,
        }
    }
}

fn grant(ttl: &Seconds, renewable: bool, asked_at: Instant) -> Grant {
    Grant {
        ttl: ttl.value.min(LONGEST),
        renewable,
        asked_at,
    }
}
