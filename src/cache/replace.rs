//! Getting a new credential while the old one still works, and asking Vault what is mounted where.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use tokio::time::Instant;
use tower::ServiceExt;

use super::entry::{Entry, Stay};
use super::flight::Verdict;
use super::key::{Identity, Op, Print};
use super::{Ask, Caller, Room, internal};
use crate::error::{Error, Kind, Result};
use crate::lease::{Ended, Lease, Tenant};
use crate::life::{LONGEST, Life};
use crate::secret::Secret;
use crate::tasks::Later;
use crate::upstream::{self, Call};
use crate::vault::envelope::Envelope;
use crate::vault::headers::{X_VAULT_NAMESPACE, X_VAULT_TOKEN};
use crate::vault::path::ApiPath;

impl Tenant for Room {
    fn replace(&self, lease: Arc<Lease>) -> Later<Result<()>> {
        let Some(room) = self.me.upgrade() else {
            return Box::pin(async { Err(Error::new(Kind::Stopping, "the cache is gone")) });
        };
        Box::pin(async move { room.replace_lease(&lease).await })
    }

    fn ended(&self, lease: Arc<Lease>, why: Ended) {
        match why {
            Ended::Idle => {}
            Ended::Expired | Ended::Lost => {
                if let Some(entry) = self.store.remove_lease(lease.key) {
                    self.let_go(vec![entry]);
                }
            }
        }
    }
}

impl Room {
    async fn replace_lease(self: Arc<Self>, lease: &Lease) -> Result<()> {
        // Without an entry nobody is served from this lease any more.
        let Some(entry) = self.store.entry_of_lease(lease.key) else {
            return Ok(());
        };
        let Some(ask) = self.ask_again(&entry) else {
            return Err(Error::new(
                Kind::NoToken,
                "there is no token to replace a credential with",
            ));
        };
        self.upstream.budget().acquire().await;
        match self.fetch_in_background(ask).await {
            Some(Verdict::Stored(new)) if new.lease_key() != Some(lease.key) => {
                if let Stay::Leased(new) = &new.stay {
                    new.inherit_use(lease);
                }
                Ok(())
            }
            Some(Verdict::Stored(_)) => Err(internal("a replacement brought the same lease")),
            Some(Verdict::Shared(answer)) if !answer.status.is_success() => Err(Error::new(
                Kind::Refused(answer.status),
                format!(
                    "Vault answered {} to {}",
                    answer.status.as_u16(),
                    lease.path
                ),
            )
            .retry_after(upstream::retry_after(&answer.headers))),
            Some(Verdict::Failed(error)) => Err(error),
            Some(Verdict::Shared(_) | Verdict::Alone) | None => Err(Error::new(
                Kind::BadAnswer,
                format!("Vault's answer to {} brought no lease to keep", lease.path),
            )),
        }
    }

    /// The request that made an entry, with the token of today. `None` while there is no token.
    pub(super) fn ask_again(&self, entry: &Entry) -> Option<Ask> {
        let replay = &entry.replay;
        let mut headers = HeaderMap::with_capacity(replay.headers.len() + 1);
        for (name, value) in &replay.headers {
            headers.append(name, value.clone());
        }
        let caller = match entry.identity {
            Identity::Anonymous => Caller::Anonymous,
            Identity::Token(_) => Caller::Own(token_in(&headers)?),
            Identity::AutoAuth => Caller::AutoAuth(self.token.borrow().clone()?),
        };
        let uri = Uri::from(replay.target.clone());
        let path = ApiPath::parse(uri.path(), super::namespace_of(&headers))?;
        let op = Op::of(&replay.method, uri.query())?;
        let mut request = Request::new(());
        *request.method_mut() = replay.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let (parts, ()) = request.into_parts();
        let body = replay.body.clone();
        Some(Ask {
            parts,
            body,
            path,
            op,
            key: entry.key,
            caller,
            identity: entry.identity,
        })
    }

    /// Work that nobody waits for: it ends with Leasehold.
    pub(super) fn in_background(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let tasks = self.tasks.clone();
        self.tasks.spawn(name, async move {
            tokio::select! {
                () = work => {}
                () = tasks.stopping() => {}
            }
        });
    }

    /// Asks once what is mounted where a request reads, with the caller's token, beside that request.
    pub(super) fn look_up_mount(self: &Arc<Self>, ask: &Ask) {
        let resource = ask.path.canonical().to_owned();
        let Some(asking) = self.mounts.start_asking(&resource, Instant::now(), || {
            self.upstream.budget().take_spare()
        }) else {
            return;
        };
        let raw = ask
            .parts
            .uri
            .path()
            .strip_prefix("/v1/")
            .unwrap_or_default();
        let Ok(uri) = Uri::try_from(format!("/v1/sys/internal/ui/mounts/{raw}")) else {
            return;
        };
        let mut request = Request::new(upstream::Body::Empty);
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        for name in [X_VAULT_TOKEN, AUTHORIZATION, X_VAULT_NAMESPACE] {
            if let Some(value) = ask.parts.headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        // By itself, not as the caller: that its policy does not allow this question is no sign of a dead token.
        if let Caller::AutoAuth(token) = &ask.caller
            && let Some(value) = token.secret.to_header()
        {
            request.headers_mut().insert(X_VAULT_TOKEN, value);
        }
        let room = Arc::clone(self);
        self.in_background("mount look-up", async move {
            let told = room.ask_mount(request).await;
            room.mounts.learn(&resource, told.as_ref(), Instant::now());
            drop(asking);
        });
    }

    /// Asks once, in the background, what Vault says of a caller's token that brought an answer to keep. So many
    /// wait for their turn as there are callers with rights.
    pub(super) fn look_up_token(self: &Arc<Self>, ask: &Ask, token: &Secret, print: Print) {
        let room = Arc::clone(self);
        let token = token.clone();
        let namespace = super::namespace_of(&ask.parts.headers).map(str::to_owned);
        self.in_background("token look-up", async move {
            let call = Call::new(Method::GET, "/v1/auth/token/lookup-self")
                .token(&token)
                .namespace(Some(namespace.as_deref().unwrap_or_default()));
            // Where it is not told, revocations of unknown accessors end what is kept for the token.
            let answer = match room.upstream.call(call).await {
                Ok(answer) => answer,
                Err(error) if error.refused_with() == Some(StatusCode::FORBIDDEN) => {
                    // So a live token is told that its policies do not allow it; a dead one hears less, or more.
                    if !error.to_string().contains("1 error occurred") {
                        room.tokens.doubt(print);
                        room.drop_dead_leases();
                    }
                    return;
                }
                Err(_) => {
                    room.tokens.ask_later(print);
                    return;
                }
            };
            let told = Envelope::read(&answer.body).and_then(|envelope| envelope.looked_up());
            let Some(told) = told else { return };
            let end = (!told.left.is_zero()).then(|| answer.asked_at + told.left.min(LONGEST));
            let accessor = room.keyer.print(told.accessor.as_bytes());
            room.tokens.learn(print, accessor, end);
            if told.is_counted {
                room.tokens.note_counted(print, Life::endless());
                room.clear_token(print);
            }
        });
    }

    async fn ask_mount(&self, request: Request<upstream::Body>) -> Option<(String, String)> {
        let response = self.next.clone().oneshot(request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = http_body_util::Limited::new(response.into_body(), LARGEST_MOUNT_ANSWER);
        let body = http_body_util::BodyExt::collect(body);
        let body = tokio::time::timeout(MOUNT_DEADLINE, body)
            .await
            .ok()?
            .ok()?
            .to_bytes();
        Envelope::read(&body)?.mount()
    }
}

/// The token that a caller's request carries, as `inject` read it.
fn token_in(headers: &HeaderMap) -> Option<Secret> {
    if let Some(token) = headers.get(X_VAULT_TOKEN) {
        return token.to_str().ok().map(Secret::new);
    }
    let bearer = headers.get(AUTHORIZATION)?.to_str().ok()?;
    bearer
        .get("Bearer ".len()..)
        .map(|token| Secret::new(token.trim()))
}

const LARGEST_MOUNT_ANSWER: usize = 64 * 1024;
const MOUNT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
