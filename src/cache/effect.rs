//! What requests that pass through change: writes make answers old, revocations end leases and tokens,
//! renewals move their ends. All of it happens before the answer goes back.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use tokio::time::Instant;

use super::entry::{Entry, Stay};
use super::key::Print;
use super::policy;
use super::tokens::Known;
use super::{Caller, Certainty, Room};
use crate::error::Error;
use crate::lease::Grant;
use crate::vault::envelope::{Envelope, Seconds, field_of_body};
use crate::vault::path::{ApiPath, Kind, Named};

/// What a request does to what is cached, if it succeeds.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    None,
    /// These canonical paths read differently from now on (sorted).
    Written(Vec<String>),
    /// Something was changed or revoked, and we cannot tell what.
    Unclear,
    /// Who may read what has changed; a mount may be gone, with all its leases.
    AccessChanged {
        mount: Option<String>,
    },
    TokenRevoked {
        token: Option<Print>,
        orphan: bool,
    },
    /// Whose accessor that is may only become known while the request is with Vault.
    AccessorRevoked(Print),
    LeaseRevoked(Option<Print>),
    PrefixRevoked(String),
    /// The answer says until when.
    TokenRenewed(Option<Print>),
    LeaseRenewed(Option<Print>),
    /// The answer brings a token, child of the caller's.
    TokenMade {
        parent: Option<Print>,
    },
}

impl Effect {
    /// `body` is `None` where it was too large, or too slow, to be read.
    pub(super) fn of(
        room: &Room,
        parts: &Parts,
        path: &ApiPath,
        body: Option<&Bytes>,
        caller: &Caller,
    ) -> Self {
        if matches!(
            parts.method.as_str(),
            "GET" | "HEAD" | "LIST" | "SCAN" | "OPTIONS" | "TRACE"
        ) {
            return Self::None;
        }
        let field = |name: &str, in_path: &Option<String>| {
            let text = in_path.clone().or_else(|| field_of_body(body?, name))?;
            Some(room.keyer.print(text.as_bytes()))
        };
        let own = || match caller {
            Caller::AutoAuth(token) => Some(room.keyer.print_of(&token.secret)),
            Caller::Own(token) => Some(room.keyer.print_of(token)),
            Caller::Anonymous | Caller::Unclear => None,
        };
        let named = |named: &Named| match named {
            Named::Caller => own(),
            Named::Token(in_path) => field("token", in_path),
            Named::Accessor(in_path) => {
                let known = room.tokens.find_accessor(field("accessor", in_path)?)?;
                Some(known.token)
            }
        };
        if !policy::is_clear_namespace(&parts.headers) {
            return Self::Unclear;
        }
        match path.kind() {
            Kind::Secret => Self::Written(path.touched_by_write()),
            Kind::Access
                if mount_in(path).is_none() && path.canonical().ends_with("sys/remount") =>
            {
                Self::Unclear
            }
            Kind::Access => Self::AccessChanged {
                mount: mount_in(path),
            },
            Kind::TokenRevoke {
                named: Named::Accessor(in_path),
                orphan,
            } => match field("accessor", in_path) {
                Some(accessor) => Self::AccessorRevoked(accessor),
                None => Self::TokenRevoked {
                    token: None,
                    orphan: *orphan,
                },
            },
            Kind::TokenRevoke { named: who, orphan } => Self::TokenRevoked {
                token: named(who),
                orphan: *orphan,
            },
            Kind::TokenRenew(who) => Self::TokenRenewed(named(who).or_else(own)),
            Kind::LeaseRevoke(in_path) => Self::LeaseRevoked(field("lease_id", in_path)),
            Kind::LeaseRevokePrefix(prefix) => Self::PrefixRevoked(prefix.clone()),
            Kind::LeaseRenew(in_path) => Self::LeaseRenewed(field("lease_id", in_path)),
            Kind::TokenCreate | Kind::Login => Self::TokenMade { parent: own() },
            // A mount's own path may look like one of these: `kv/sys/...`, `kv/auth/...`.
            Kind::System if !path.is_certain() => Self::Written(path.touched_by_write()),
            Kind::TokenLookup
            | Kind::UiMounts
            | Kind::Wrapping
            | Kind::Unauthenticated
            | Kind::System => Self::None,
        }
    }

    /// Does only the answer's body tell what happened?
    pub(super) fn needs_answer(&self) -> bool {
        matches!(
            self,
            Self::TokenRenewed(_) | Self::LeaseRenewed(_) | Self::TokenMade { .. }
        )
    }

    /// A failed write may have happened all the same; a refused revocation has not.
    fn holds_after(&self, status: StatusCode) -> bool {
        status.is_success() || status.is_server_error() || matches!(self, Self::Written(_))
    }
}

/// An effect that is applied when this is dropped: on every way out, a client that hangs up among them,
/// unless it is known that it did not happen.
pub(super) struct Pending {
    room: Arc<Room>,
    effect: Effect,
    certainty: Certainty,
}

impl Pending {
    pub(super) fn new(room: Arc<Room>, effect: Effect) -> Self {
        Self {
            room,
            effect,
            certainty: Certainty::Doubtful,
        }
    }

    pub(super) fn did_not_happen(mut self) {
        self.effect = Effect::None;
    }

    /// Vault has answered with this.
    pub(super) fn answered(mut self, status: StatusCode) {
        if status.is_success() {
            self.certainty = Certainty::Certain;
        } else if !self.effect.holds_after(status) {
            self.did_not_happen();
        }
    }

    /// The request has failed.
    pub(super) fn failed(self, error: &Error) {
        if error.is_unsent() {
            self.did_not_happen();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.room.apply(&self.effect, self.certainty);
    }
}

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
                    known
                        .life
                        .set_end(asked_at + ttl.value.min(crate::life::LONGEST));
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
                        crate::life::Life::ending_at(asked_at + ttl.value.min(crate::life::LONGEST))
                    }
                    _ => crate::life::Life::endless(),
                };
                let parent =
                    parent.filter(|_| !auth.orphan && !matches!(caller, Caller::Anonymous));
                self.tokens
                    .add(print, accessor, parent, Arc::new(life), None);
                if auth.is_counted {
                    self.tokens
                        .note_counted(print, crate::life::Life::endless());
                }
            }
            Effect::None
            | Effect::Written(_)
            | Effect::AccessChanged { .. }
            | Effect::TokenRevoked { .. }
            | Effect::AccessorRevoked(_)
            | Effect::LeaseRevoked(_)
            | Effect::PrefixRevoked(_)
            | Effect::Unclear => {}
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
            Effect::AccessChanged { mount } => self.access_changed(mount.as_deref()),
            Effect::TokenRevoked {
                token: Some(token),
                orphan,
            } => self.token_revoked(*token, *orphan, certainty),
            Effect::AccessorRevoked(accessor) => match self.tokens.find_accessor(*accessor) {
                Some(known) => self.token_revoked(known.token, false, certainty),
                None => self.tokens_ended(&self.tokens.end_without_accessor()),
            },
            Effect::LeaseRevoked(Some(lease_id)) => {
                if let Some(lease) = self.store.lease_by_id(*lease_id) {
                    self.lease_is_dead(lease);
                }
            }
            // Tokens are revoked by the path of their login; whose those are, nobody told us.
            Effect::PrefixRevoked(prefix) if prefix.starts_with("auth/") => {
                self.everything_revoked();
                self.own_token_is_revoked(certainty);
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
        ttl: ttl.value.min(crate::life::LONGEST),
        renewable,
        asked_at,
    }
}

/// The mount or auth method that `sys/mounts/<path>` and `sys/auth/<path>` are about.
fn mount_in(path: &ApiPath) -> Option<String> {
    let (before, rest) = path.canonical().split_once("sys/")?;
    let mount = rest
        .strip_prefix("mounts/")
        .map(str::to_owned)
        .or_else(|| {
            rest.strip_prefix("auth/")
                .map(|method| format!("auth/{method}"))
        })?;
    let mount = mount
        .strip_suffix("/tune")
        .map_or(mount.clone(), str::to_owned);
    Some(format!("{before}{mount}"))
}
