//! The part of the loop in which a token is held: renewals, doubts, and when to give it up.

use std::future::pending;

use http::{Method as Verb, StatusCode};
use tokio::time::{Instant, sleep_until};

use super::super::answer;
use super::super::handle::Checked;
use super::super::method;
use super::super::plan::{self, Action, Grant, Next};
use super::{Due, Held, Keeper, asked_for, seconds_until, tenths};
use crate::error::Error;
use crate::upstream::Call;

impl Keeper {
    /// Returns when a new login is due.
    pub(super) async fn keep(&mut self, held: &mut Held) -> Due {
        loop {
            self.announce(held.next);
            tokio::select! {
                () = reached(held.next) => {
                    let renew = held.next.is_some_and(|next| next.action == Action::Renew);
                    if !renew {
                        return Due::Planned;
                    }
                    if let Some(due) = self.renew(held).await {
                        return due;
                    }
                }
                () = self.handle.woken() => {
                    if let Some(due) = self.look_into_what_was_raised(held).await {
                        return due;
                    }
                }
            }
        }
    }

    async fn renew(&mut self, held: &mut Held) -> Option<Due> {
        let call = Call::new(Verb::PUT, "/v1/auth/token/renew-self")
            .first()
            .token(&held.token.secret)
            .body("{}");
        let renewed = match self.upstream.call(call).await {
            Ok(answer) => answer::renewal(&answer),
            Err(error) => Err(error),
        };
        self.metrics.auth(renewed.is_ok());
        match renewed {
            Ok(grant) => self.renewed(held, &grant),
            Err(error) => {
                let error = error.while_doing("renewing the auto-auth token");
                self.handle.update(|state| state.failed(&error));
                if error.is_retryable() {
                    self.retry_renewal(held, &error);
                    return None;
                }
                Some(self.renewal_refused(held, &error).await)
            }
        }
    }

    fn renewed(&mut self, held: &mut Held, grant: &Grant) -> Option<Due> {
        self.backoff.reset();
        self.churn.reset();
        self.losses = 0;
        self.refused_renewals = 0;
        held.full = held.full.max(grant.ttl);
        held.token.life.set_end(grant.end());
        held.next = Some(plan::after_grant(grant, held.full, fastrand::f64()));
        self.handle.update(|state| {
            state.next = held.next;
            state.failures = 0;
            state.renewals += 1;
        });
        tracing::info!(
            generation = held.token.generation,
            ttl = grant.ttl.as_secs(),
            next = held.next.map_or("none", |next| next.action.name()),
            in_seconds = held.next.map(|next| seconds_until(next.at)),
            "token renewed"
        );
        // Less than a second was left to grant: never "for ever".
        grant.ttl.is_zero().then_some(Due::Planned)
    }

    fn retry_renewal(&mut self, held: &mut Held, error: &Error) {
        let now = Instant::now();
        let next = plan::after_failure(
            now,
            held.token.life.end().unwrap_or(now),
            held.full,
            error.refused_with().is_some(),
            self.backoff.next_wait(),
            asked_for(error),
        );
        held.next = Some(next);
        tracing::warn!(
            kind = error.kind().name(),
            %error,
            next = next.action.name(),
            in_seconds = tenths(next.at - now),
            token_ends_in_seconds = held.token.life.remaining(now).map(|left| left.as_secs()),
            "the token was not renewed"
        );
    }

    /// Either the token is dead or nobody may renew it. Both mean a login; only the first means that the
    /// leases made with it are gone.
    async fn renewal_refused(&mut self, held: &Held, error: &Error) -> Due {
        let is_dead = self.is_alive(held).await == Some(false);
        tracing::warn!(
            kind = error.kind().name(),
            %error,
            is_dead,
            "the token cannot be renewed; logging in again"
        );
        if is_dead {
            return lost(held);
        }
        self.refused_renewals += 1;
        Due::Planned
    }

    async fn look_into_what_was_raised(&self, held: &Held) -> Option<Due> {
        let generation = held.token.generation;
        let raised = self.handle.take_raised();
        if raised.revoked >= generation {
            tracing::warn!(generation, "the token was revoked; logging in again");
            return Some(lost(held));
        }
        if raised.suspected < generation || self.handle.was_checked_lately() {
            return None;
        }
        let checked = match self.is_alive(held).await {
            Some(false) => {
                tracing::warn!(
                    generation,
                    "the token is dead before its time; logging in again"
                );
                return Some(lost(held));
            }
            Some(true) => Checked::Alive,
            None => Checked::Unknown,
        };
        self.handle
            .update(|state| state.check = Some((Instant::now(), checked)));
        None
    }

    /// `None`: Vault does not say.
    async fn is_alive(&self, held: &Held) -> Option<bool> {
        if !self.can_look_up {
            return None;
        }
        match method::look_up(&self.upstream, &held.token.secret).await {
            Ok(_) => Some(true),
            Err(error) if error.refused_with() == Some(StatusCode::FORBIDDEN) => Some(false),
            Err(error) => {
                tracing::debug!(%error, "whether the token is alive cannot be told");
                None
            }
        }
    }

    /// When one token after the other seems dead: if a fresh one does too, looking up is what is
    /// forbidden, and would mean a login for each refusal by policy.
    pub(super) async fn prove_look_up(&mut self, held: &Held) {
        self.can_look_up = true;
        self.can_look_up = self.is_alive(held).await != Some(false);
        if !self.can_look_up && !self.has_warned_of_look_up {
            self.has_warned_of_look_up = true;
            tracing::warn!(
                "the token may not read auth/token/lookup-self, so a revoked one is noticed only \
                 when its renewal is due; allow it (the default policy does)"
            );
        }
    }
}

fn lost(held: &Held) -> Due {
    held.token.life.end_now();
    Due::Lost
}

async fn reached(next: Option<Next>) {
    match next {
        Some(next) => sleep_until(next.at).await,
        None => pending().await,
    }
}
