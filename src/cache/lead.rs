//! Fetching: one leader per flight, its answer passed on as it arrives and looked at as a whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::body::{PipeWriter, ReplyBody, pipe};
use super::effect::{Effect, Pending};
use super::entry::Entry;
use super::flight::{Collected, Flight, Follower, Seat, Verdict};
use super::policy;
use super::{Ask, Room, internal, mark_miss};
use crate::error::{Error, Kind, Result};
use crate::upstream::{self, UpstreamBody};

/// Where the answer goes first: the client whose request started the flight.
type Client = oneshot::Sender<Result<Response<ReplyBody>>>;

impl Room {
    /// Joins the flight for this key, or leads it.
    pub(super) async fn fetch_shared(self: Arc<Self>, ask: Ask) -> Result<Response<ReplyBody>> {
        for _ in 0..MOST_ABANDONED {
            match self
                .flights
                .board(ask.key, ask.path.canonical(), self.token_of(&ask))
            {
                Seat::Leader(flight) => return self.take_off(ask, flight, false).await,
                Seat::Follower(follower) => {
                    self.metrics.cache_coalesced();
                    match self.follow(follower).await? {
                        Some(Verdict::Stored(entry)) => return Ok(entry.answer(Instant::now())),
                        Some(Verdict::Shared(answer)) => {
                            let mut response = answer.response();
                            mark_miss(response.headers_mut());
                            return Ok(response);
                        }
                        Some(Verdict::Failed(error)) => return Err(error),
                        Some(Verdict::Alone) => return self.fetch_alone(ask).await,
                        // Its leader's client left: somebody else leads now.
                        None => {}
                    }
                }
            }
        }
        self.fetch_alone(ask).await
    }

    /// Fetches without letting others join; a write that may bring a lease.
    pub(super) async fn fetch_alone(self: Arc<Self>, ask: Ask) -> Result<Response<ReplyBody>> {
        let flight = self
            .flights
            .alone(ask.path.canonical(), self.token_of(&ask));
        let is_write = !ask.op.is_read();
        self.take_off(ask, flight, is_write).await
    }

    /// Starts the leader's task and waits for the head of its answer.
    async fn take_off(
        self: Arc<Self>,
        ask: Ask,
        flight: Arc<Flight>,
        is_write: bool,
    ) -> Result<Response<ReplyBody>> {
        let (client, answer) = oneshot::channel();
        let tasks = self.tasks.clone();
        let write = is_write.then(|| Pending::new(Arc::clone(&self), Effect::written(&ask.path)));
        tasks.spawn("fetch", self.lead(ask, flight, Some(client), write));
        answer
            .await
            .unwrap_or_else(|_| Err(internal("a fetch ended without an answer")))
    }

    /// Asks again in the background for an entry that is due; nobody waits for it.
    pub(super) fn revalidate(self: &Arc<Self>, entry: &Arc<Entry>) {
        if !entry.begins_asking(Instant::now()) {
            return;
        }
        if !self.upstream.budget().take_spare() {
            entry.asking_failed(Instant::now(), None, fastrand::f64());
            return;
        }
        let room = Arc::clone(self);
        let entry = Arc::clone(entry);
        self.in_background("revalidate", async move {
            let outcome = match room.ask_again(&entry) {
                Some(ask) => Arc::clone(&room).fetch_in_background(ask).await,
                None => None,
            };
            let hint = match outcome {
                Some(Verdict::Stored(_)) => return,
                Some(Verdict::Shared(answer)) => upstream::retry_after(&answer.headers),
                Some(Verdict::Failed(error)) => error.wait_hint(),
                Some(Verdict::Alone) | None => None,
            };
            entry.asking_failed(Instant::now(), hint, fastrand::f64());
        });
    }

    /// Leads, or follows who leads already; the verdict, or `None` where there was none. Where Vault asks
    /// for peace, everything else in the background leaves it in peace too.
    pub(super) async fn fetch_in_background(self: Arc<Self>, ask: Ask) -> Option<Verdict> {
        let token = self.token_of(&ask);
        let follower = match self.flights.board(ask.key, ask.path.canonical(), token) {
            Seat::Follower(follower) => follower,
            Seat::Leader(flight) => {
                let tasks = self.tasks.clone();
                let follower = flight.follow();
                tasks.spawn(
                    "background fetch",
                    Arc::clone(&self).lead(ask, flight, None, None),
                );
                follower
            }
        };
        let verdict = self.follow(follower).await.ok().flatten();
        if let Some(Verdict::Shared(answer)) = &verdict
            && !answer.status.is_success()
            && let Some(wait) = upstream::retry_after(&answer.headers)
        {
            self.upstream.budget().hold_until(Instant::now() + wait);
        }
        verdict
    }

    async fn follow(&self, mut follower: Follower) -> Result<Option<Verdict>> {
        // The leader may need a look-up of its token and a second try, each within its own deadline.
        let patience = self.upstream.timeout() + FOLLOWERS_EXTRA;
        match timeout(patience, follower.wait_for(Option::is_some)).await {
            Ok(Ok(verdict)) => Ok(verdict.clone()),
            Ok(Err(_)) => Ok(None),
            Err(_) => Err(Error::new(
                Kind::Deadline,
                format!(
                    "Vault at {} did not answer the first of several equal requests within {} s",
                    self.upstream.address(),
                    patience.as_secs()
                ),
            )),
        }
    }

    /// The leader's task. `client` is `None` in the background; `write` is what the request may have changed.
    async fn lead(
        self: Arc<Self>,
        ask: Ask,
        flight: Arc<Flight>,
        mut client: Option<Client>,
        write: Option<Pending>,
    ) {
        // Should this task end without a verdict, its followers must not wait for one.
        let _landing = self.flights.landing(&flight);
        let asked_at = Instant::now();
        if policy::may_need_mount(&ask.path, ask.op) {
            self.look_up_mount(&ask);
        }
        let answer = tokio::select! {
            answer = (self.next)(ask.request()) => answer,
            () = self.deserted(&ask, &flight, client.as_mut()) => return,
        };
        match answer {
            Err(error) => {
                if let Some(write) = write {
                    write.failed(&error);
                }
                self.flights.land(&flight, Verdict::Failed(error.clone()));
                reply(client, Err(error));
            }
            Ok(response) if may_collect(response.headers()) => {
                self.pass_on(&ask, &flight, response, client, write, asked_at)
                    .await;
            }
            Ok(mut response) => {
                drop(write);
                self.forget_if_gone(&ask, response.status());
                self.flights.land(&flight, Verdict::Alone);
                mark_miss(response.headers_mut());
                reply(client, Ok(response.map(ReplyBody::Upstream)));
            }
        }
    }

    /// Passes an answer on as it arrives, and concludes what becomes of it before its end goes out.
    async fn pass_on(
        self: &Arc<Self>,
        ask: &Ask,
        flight: &Flight,
        response: Response<UpstreamBody>,
        client: Option<Client>,
        write: Option<Pending>,
        asked_at: Instant,
    ) {
        let (mut head, body) = response.into_parts();
        let (status, headers) = (head.status, head.headers.clone());
        // A write that brought no lease is done when its head is in.
        let write = write.filter(|_| status == StatusCode::OK);
        let length = content_length(&headers);
        let writer = client.is_some().then(|| {
            let (writer, reader) = pipe(length);
            head.headers.remove(TRANSFER_ENCODING);
            mark_miss(&mut head.headers);
            reply(
                client,
                Ok(Response::from_parts(head, ReplyBody::Piped(reader))),
            );
            writer
        });
        let Some((body, last, writer)) = self.collect(ask, flight, body, length, writer).await
        else {
            return;
        };
        let answer = Collected {
            status,
            headers,
            body,
        };
        let verdict = self.conclude(ask, flight, answer, asked_at).await;
        if let (Some(write), Verdict::Stored(_)) = (write, &verdict) {
            write.did_not_happen();
        }
        self.flights.land(flight, verdict);
        // Only now may the client know that its answer is complete: its next request finds the entry.
        if let Some(writer) = writer {
            if let Some(last) = last {
                writer.push(last);
            }
            writer.finish();
        }
    }

    /// Reads the body whole, passing it on as it comes; the last bytes are held back. `None`: it was too
    /// large, broke, or nobody wants it any more, and the flight has landed.
    async fn collect(
        &self,
        ask: &Ask,
        flight: &Flight,
        mut body: UpstreamBody,
        length: Option<u64>,
        writer: Option<PipeWriter>,
    ) -> Option<(Bytes, Option<Bytes>, Option<PipeWriter>)> {
        let mut collected = BytesMut::new();
        loop {
            let frame = tokio::select! {
                frame = timeout(STALL, body.frame()) => frame,
                () = self.deserted_pipe(ask, flight, writer.as_ref()) => return None,
            };
            let data = match frame {
                Ok(None) => return Some((Bytes::copy_from_slice(&collected), None, writer)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(_))) | Err(_) => {
                    let error = Error::new(
                        Kind::Unreachable,
                        format!(
                            "the answer of Vault at {} broke off",
                            self.upstream.address()
                        ),
                    );
                    self.flights.land(flight, Verdict::Failed(error));
                    return None;
                }
            };
            collected.extend_from_slice(&data);
            let total = u64::try_from(collected.len()).unwrap_or(u64::MAX);
            if total > LARGEST_ENTRY {
                self.flights.land(flight, Verdict::Alone);
                if let Some(writer) = writer {
                    writer.push(data);
                    writer.hand_over(body);
                }
                return None;
            }
            if length == Some(total) {
                return Some((Bytes::copy_from_slice(&collected), Some(data), writer));
            }
            if let Some(writer) = &writer {
                writer.push(data);
            }
        }
    }

    /// Resolves when the client has left and nobody shares the flight, which then is no more. Never for a read
    /// that creates a credential: what Vault has begun to make is kept for the client's next try.
    async fn deserted(&self, ask: &Ask, flight: &Flight, client: Option<&mut Client>) {
        match client {
            Some(client) if !ask.path.looks_leased() => client.closed().await,
            Some(_) | None => std::future::pending().await,
        }
        self.unshared(flight).await;
    }

    async fn deserted_pipe(&self, ask: &Ask, flight: &Flight, writer: Option<&PipeWriter>) {
        match writer {
            Some(writer) if !ask.path.looks_leased() => writer.reader_gone().await,
            Some(_) | None => std::future::pending().await,
        }
        self.unshared(flight).await;
    }

    async fn unshared(&self, flight: &Flight) {
        loop {
            flight.unshared().await;
            if self.flights.abandon(flight) {
                return;
            }
            // Somebody joined in between.
            tokio::task::yield_now().await;
        }
    }
}

fn reply(client: Option<Client>, answer: Result<Response<ReplyBody>>) {
    if let Some(client) = client {
        // A client that has left needs no answer.
        let _left = client.send(answer);
    }
}

/// May the answer be looked at as a whole? Decided by its head.
fn may_collect(headers: &HeaderMap) -> bool {
    policy::is_readable(headers)
        && content_length(headers).is_none_or(|length| length <= LARGEST_ENTRY)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Answers up to this size are collected, and so may be stored.
const LARGEST_ENTRY: u64 = 1024 * 1024;
/// A collected body that brings nothing for this long is given up.
const STALL: Duration = Duration::from_secs(60);
const FOLLOWERS_EXTRA: Duration = Duration::from_secs(30);
const MOST_ABANDONED: usize = 3;
