//! What the rest of the house sees of auto-auth, and how it is told that the token may be dead.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::plan::Next;
use crate::error::Error;
use crate::token::Token;

/// Talks to the auto-auth task. Clones talk to the same one; nothing here waits but `settled`.
#[derive(Clone)]
pub struct AuthHandle {
    shared: Arc<Shared>,
}

struct Shared {
    method: &'static str,
    mount: String,
    /// The newest generation that somebody doubts; zero: none. The task takes it.
    suspected: AtomicU64,
    /// The newest generation that somebody knows to be revoked; zero: none.
    revoked: AtomicU64,
    wake: Notify,
    state: watch::Sender<State>,
}

/// How a suspicion ended.
#[derive(Debug)]
pub enum Settled {
    /// There is a newer token.
    Replaced(Arc<Token>),
    /// The token is alive: what was refused with it is refused for good.
    Alive,
    /// It cannot be told in time: Vault does not say, or logins fail.
    Unknown,
}

/// Auto-auth at a glance. Holds no secret.
#[derive(Debug, Clone, Serialize)]
pub struct AuthView {
    /// A token is held that has not ended.
    pub authenticated: bool,
    pub method: &'static str,
    pub mount: String,
    /// Counts the tokens of this process, from 1; 0 before the first.
    pub generation: u64,
    /// The seconds granted at login; 0 for a token that never ends.
    pub ttl: u64,
    /// `None`: there is no token, or it never ends.
    pub remaining: Option<u64>,
    pub renewable: bool,
    /// `renew`, `login` or `none`.
    pub next_action: &'static str,
    pub next_action_in_seconds: Option<u64>,
    /// The last failure, also when it is long over: see `failures`.
    pub last_error: Option<AuthError>,
    /// Failures in a row; 0 when all is well.
    pub failures: u64,
    pub logins: u64,
    pub renewals: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct AuthError {
    /// One of what `error::Kind::name` says.
    pub kind: &'static str,
    pub text: String,
    pub seconds_ago: u64,
}

impl AuthHandle {
    pub(super) fn new(method: &'static str, mount: &str) -> Self {
        Self {
            shared: Arc::new(Shared {
                method,
                mount: mount.to_owned(),
                suspected: AtomicU64::new(0),
                revoked: AtomicU64::new(0),
                wake: Notify::new(),
                state: watch::Sender::new(State::default()),
            }),
        }
    }

    /// A request with the token of `generation` was answered with 403, so it may be dead. The task
    /// looks it up, at most once per [`RECHECK`], and logs in again if it is.
    pub fn suspect(&self, generation: u64) {
        if self
            .shared
            .state
            .borrow()
            .verdict(generation, Instant::now())
            .is_none()
        {
            self.shared
                .suspected
                .fetch_max(generation, Ordering::AcqRel);
            self.shared.wake.notify_one();
        }
    }

    /// The token of `generation` was revoked for certain: a login follows at once.
    pub fn own_token_revoked(&self, generation: u64) {
        if let Some(token) = &self.shared.state.borrow().token
            && token.generation == generation
        {
            token.life.end_now();
        }
        self.shared.revoked.fetch_max(generation, Ordering::AcqRel);
        self.shared.wake.notify_one();
    }

    /// Waits for the outcome of a suspicion that was raised by `suspect`.
    pub async fn settled(&self, generation: u64, deadline: Instant) -> Settled {
        let asked_at = Instant::now();
        let mut state = self.shared.state.subscribe();
        let outcome = async {
            loop {
                if let Some(verdict) = state.borrow_and_update().verdict(generation, asked_at) {
                    return verdict;
                }
                if state.changed().await.is_err() {
                    return Settled::Unknown;
                }
            }
        };
        timeout_at(deadline, outcome)
            .await
            .unwrap_or(Settled::Unknown)
    }

    pub fn status(&self) -> AuthView {
        let now = Instant::now();
        let state = self.shared.state.borrow();
        let token = state.token.as_ref();
        AuthView {
            authenticated: token.is_some_and(|token| !token.life.is_over(now)),
            method: self.shared.method,
            mount: self.shared.mount.clone(),
            generation: token.map_or(0, |token| token.generation),
            ttl: token.map_or(0, |token| token.ttl.as_secs()),
            remaining: token
                .and_then(|token| token.life.remaining(now))
                .map(|left| left.as_secs()),
            renewable: token.is_some_and(|token| token.renewable),
            next_action: state.next.map_or("none", |next| next.action.name()),
            next_action_in_seconds: state
                .next
                .map(|next| next.at.saturating_duration_since(now).as_secs()),
            last_error: state.last_error.as_ref().map(|(at, error)| AuthError {
                kind: error.kind().name(),
                text: error.to_string(),
                seconds_ago: now.saturating_duration_since(*at).as_secs(),
            }),
            failures: state.failures,
            logins: state.logins,
            renewals: state.renewals,
        }
    }

    pub(super) async fn woken(&self) {
        self.shared.wake.notified().await;
    }

    /// What has been raised since the last call.
    pub(super) fn take_raised(&self) -> Raised {
        Raised {
            suspected: self.shared.suspected.swap(0, Ordering::AcqRel),
            revoked: self.shared.revoked.swap(0, Ordering::AcqRel),
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        self.shared.state.send_modify(change);
    }

    pub(super) fn was_checked_lately(&self) -> bool {
        let state = self.shared.state.borrow();
        state.check.is_some_and(|(at, _)| at.elapsed() < RECHECK)
    }
}

impl fmt::Debug for AuthHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthHandle")
            .field("method", &self.shared.method)
            .field("mount", &self.shared.mount)
            .finish_non_exhaustive()
    }
}

/// Generations that somebody raised his hand for; zero: nobody did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raised {
    pub(super) suspected: u64,
    pub(super) revoked: u64,
}

/// What a look-up after a suspicion said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    Alive,
    Unknown,
}

/// Written by the task alone.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) token: Option<Arc<Token>>,
    pub(super) next: Option<Next>,
    pub(super) last_error: Option<(Instant, Error)>,
    pub(super) failures: u64,
    pub(super) logins: u64,
    pub(super) renewals: u64,
    /// The last look-up of `token` after a suspicion.
    pub(super) check: Option<(Instant, Checked)>,
    /// The last login failed, or there will be no more.
    pub(super) is_login_failing: bool,
}

impl State {
    pub(super) fn failed(&mut self, error: &Error) {
        self.last_error = Some((Instant::now(), error.clone()));
        self.failures += 1;
    }

    /// What is known of the token of `generation`, if it is enough for somebody who asks at `asked_at`.
    fn verdict(&self, generation: u64, asked_at: Instant) -> Option<Settled> {
        let token = self.token.as_ref()?;
        if token.generation > generation && !token.life.is_over(asked_at) {
            return Some(Settled::Replaced(Arc::clone(token)));
        }
        if self.is_login_failing {
            return Some(Settled::Unknown);
        }
        match self.check {
            Some((at, checked)) if token.generation == generation && at + RECHECK > asked_at => {
                Some(match checked {
                    Checked::Alive => Settled::Alive,
                    Checked::Unknown => Settled::Unknown,
                })
            }
            _ => None,
        }
    }
}

/// For how long the answer of a look-up holds: refusals by policy cost one look-up in this time.
pub const RECHECK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::Life;

    fn token(generation: u64) -> Arc<Token> {
        Arc::new(Token {
            secret: "hvs.canary".into(),
            accessor: Some("canary".into()),
            life: Arc::new(Life::ending_at(Instant::now() + Duration::from_secs(60))),
            ttl: Duration::from_secs(60),
            renewable: true,
            generation,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspicion_is_settled_by_what_comes_first() {
        let handle = AuthHandle::new("approle", "auth/approle");
        let soon = Instant::now() + Duration::from_secs(2);
        assert!(matches!(handle.settled(1, soon).await, Settled::Unknown));
        assert_eq!(Instant::now(), soon);
        handle.update(|state| state.token = Some(token(1)));
        let later = Instant::now() + Duration::from_secs(2);
        let (settled, ()) = tokio::join!(handle.settled(1, later), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            handle.update(|state| state.check = Some((Instant::now(), Checked::Alive)));
        });
        assert!(matches!(settled, Settled::Alive));
        handle.update(|state| {
            state.token = Some(token(2));
            state.check = None;
        });
        let settled = handle.settled(1, later).await;
        assert!(matches!(settled, Settled::Replaced(token) if token.generation == 2));
        handle.update(|state| state.is_login_failing = true);
        assert!(matches!(handle.settled(2, later).await, Settled::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn status_and_debug_show_no_secret() {
        let handle = AuthHandle::new("approle", "auth/approle");
        handle.update(|state| state.token = Some(token(1)));
        let shown = serde_json::to_string(&handle.status()).unwrap();
        assert!(shown.contains(r#""authenticated":true"#), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!format!("{handle:?}").contains("canary"));
        assert!(!format!("{:?}", handle.shared.state.borrow()).contains("canary"));
    }
}
