//! What becomes of a whole answer: stored as static or leased, shared once, or forgotten.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::entry::{Entry, Static, Stay};
use super::flight::{Collected, Flight, Verdict};
use super::key::Print;
use super::policy::{self, Keep, Login};
use super::{Ask, Caller, Room};
use crate::lease::{Lease, What};
use crate::life::Life;
use crate::secret::Secret;
use crate::vault::envelope::Seconds;

impl Room {
    /// Decides what becomes of a whole answer, and stores it where it may be.
    pub(super) async fn conclude(
        self: &Arc<Self>,
        ask: &Ask,
        flight: &Flight,
        answer: Collected,
        asked_at: Instant,
    ) -> Verdict {
        let mut keep = self.decide(ask, &answer);
        if matches!(keep, Keep::AskMount) {
            self.look_up_mount(ask);
            // The look-up began with the request, so this wait is short, and one per mount.
            self.mounts
                .settled(ask.path.canonical(), MOUNT_PATIENCE)
                .await;
            keep = self.decide(ask, &answer);
        }
        self.forget_if_gone(ask, answer.status);
        let stored = match keep {
            Keep::No => return Verdict::Alone,
            Keep::Counted { token, ttl } => {
                let life = Life::ending_at(asked_at + ttl.min(crate::life::LONGEST));
                self.tokens.note_counted(self.keyer.print_of(&token), life);
                return Verdict::Alone;
            }
            Keep::Share | Keep::AskMount => None,
            Keep::Static { ttl, rotation } => {
                let entry = self.static_entry(ask, &answer, asked_at, ttl, rotation);
                self.flights.store_unless_fenced(flight, || {
                    self.store.insert_static(Arc::clone(&entry));
                    entry
                })
            }
            Keep::Leased(brought) => {
                let what = What::Secret {
                    lease_id: brought.lease_id,
                };
                let (token, parent) = self.parent_of(ask);
                let renewable = brought.renewable;
                let lease = self.lease(ask, what, token, renewable, &brought.ttl, asked_at, parent);
                self.store_lease(ask, flight, &answer, asked_at, brought.ttl, lease)
            }
            Keep::Token(login) => {
                let lease = self.token_lease(ask, &login, asked_at);
                self.store_lease(ask, flight, &answer, asked_at, login.ttl, lease)
            }
        };
        match stored {
            Some(entry) => Verdict::Stored(entry),
            None if ask.op.is_read() || ask.path.is_login() => Verdict::Shared(Arc::new(answer)),
            None => Verdict::Alone,
        }
    }

    /// The lease of a login's token, which from now on is known as whose child it is.
    fn token_lease(self: &Arc<Self>, ask: &Ask, login: &Login, asked_at: Instant) -> Arc<Lease> {
        let accessor = login.accessor.as_ref();
        let (parent, parent_print) = if login.orphan {
            (None, None)
        } else {
            (self.parent_of(ask).1, self.token_of(ask))
        };
        let what = What::Token {
            accessor: login.accessor.clone(),
        };
        let token = login.token.clone();
        let lease = self.lease(
            ask,
            what,
            token,
            login.renewable,
            &login.ttl,
            asked_at,
            parent,
        );
        self.tokens.add(
            self.keyer.print_of(&login.token),
            accessor.map(|text| self.keyer.print_of(text)),
            parent_print,
            Arc::clone(&lease.life),
            Some(Arc::clone(&lease)),
        );
        lease
    }

    fn decide(&self, ask: &Ask, answer: &Collected) -> Keep {
        let mount = self.mounts.kind_of(ask.path.canonical(), Instant::now());
        policy::verdict(
            &self.settings,
            ask.op,
            &ask.path,
            answer.status,
            &answer.headers,
            &answer.body,
            mount.as_deref(),
        )
    }

    fn static_entry(
        self: &Arc<Self>,
        ask: &Ask,
        answer: &Collected,
        asked_at: Instant,
        ttl: Duration,
        rotation: Option<Seconds>,
    ) -> Arc<Entry> {
        let owner = match &ask.caller {
            Caller::Own(token) => Some(self.life_of(ask, token)),
            Caller::AutoAuth(_) | Caller::Anonymous | Caller::Unclear => None,
        };
        let stay = Stay::Static(Static {
            ttl,
            hard_end: rotation
                .as_ref()
                .map(|rotation| asked_at + rotation.value.min(crate::life::LONGEST)),
            owner,
            generation: match &ask.caller {
                Caller::AutoAuth(token) => Some(token.generation),
                Caller::Own(_) | Caller::Anonymous | Caller::Unclear => None,
            },
            next_asking: 0.into(),
        });
        let countdowns = rotation
            .into_iter()
            .map(|rotation| rotation.place)
            .collect();
        Arc::new(Entry::new(
            ask.key,
            ask.identity,
            ask.path.canonical(),
            answer.status,
            self.heads.of_hit(&answer.headers),
            &answer.body,
            countdowns,
            asked_at,
            stay,
            ask.replay(),
            None,
        ))
    }

    fn store_lease(
        &self,
        ask: &Ask,
        flight: &Flight,
        answer: &Collected,
        asked_at: Instant,
        ttl: Seconds,
        lease: Arc<Lease>,
    ) -> Option<Arc<Entry>> {
        let lease_print = match &lease.what {
            What::Secret { lease_id } => Some(self.keyer.print_of(lease_id)),
            What::Token { .. } => None,
        };
        let entry = Arc::new(Entry::new(
            ask.key,
            ask.identity,
            ask.path.canonical(),
            answer.status,
            self.heads.of_hit(&answer.headers),
            &answer.body,
            vec![ttl.place],
            asked_at,
            Stay::Leased(Arc::clone(&lease)),
            ask.replay(),
            lease_print,
        ));
        let inserted = self
            .flights
            .store_unless_fenced(flight, || self.store.insert_leased(&entry))?;
        let Ok(old) = inserted else {
            self.metrics.cache_full();
            tracing::warn!(path = %lease.path, "cache.max_size is used up by leased answers; this one is not kept");
            return None;
        };
        if let Some(old) = old.and_then(|old| old.lease_key()) {
            self.scheduler.forget(old);
        }
        self.scheduler.track(lease);
        Some(entry)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a lease has that many properties"
    )]
    fn lease(
        &self,
        ask: &Ask,
        what: What,
        token: Secret,
        renewable: bool,
        ttl: &Seconds,
        asked_at: Instant,
        parent: Option<Arc<Life>>,
    ) -> Arc<Lease> {
        let ttl = ttl.value.min(crate::life::LONGEST);
        Arc::new(Lease::new(
            self.lease_numbers.fetch_add(1, Ordering::Relaxed),
            what,
            token,
            super::namespace_of(&ask.parts.headers).map(str::to_owned),
            ask.path.canonical().to_owned(),
            renewable,
            ttl,
            asked_at + ttl,
            parent,
        ))
    }

    /// The token that a lease is made with, and its life.
    fn parent_of(self: &Arc<Self>, ask: &Ask) -> (Secret, Option<Arc<Life>>) {
        match &ask.caller {
            Caller::AutoAuth(token) => (token.secret.clone(), Some(Arc::clone(&token.life))),
            Caller::Own(token) => (token.clone(), Some(self.life_of(ask, token))),
            Caller::Anonymous | Caller::Unclear => (Secret::new(""), None),
        }
    }

    /// The life of a caller's own token. Of one that is new here Vault is asked how long it lives, since what
    /// is made with it dies with it.
    fn life_of(self: &Arc<Self>, ask: &Ask, token: &Secret) -> Arc<Life> {
        let print = self.keyer.print_of(token);
        let (life, should_ask) = self.tokens.life_of(print);
        if should_ask {
            self.look_up_token(ask, token, print);
        }
        life
    }

    pub(super) fn token_of(&self, ask: &Ask) -> Option<Print> {
        match &ask.caller {
            Caller::AutoAuth(token) => Some(self.keyer.print_of(&token.secret)),
            Caller::Own(token) => Some(self.keyer.print_of(token)),
            Caller::Anonymous | Caller::Unclear => None,
        }
    }

    /// A 403 or 404 from Vault ends a static entry at once.
    pub(super) fn forget_if_gone(&self, ask: &Ask, status: StatusCode) {
        if matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) && ask.op.is_read() {
            self.flights.hold(|| self.store.remove_static(&ask.key));
        }
    }
}

/// How long an answer's last bytes wait for the look-up of its mount.
const MOUNT_PATIENCE: Duration = Duration::from_millis(100);
