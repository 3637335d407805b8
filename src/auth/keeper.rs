//! The loop that always has a token: log in, publish, keep alive, log in again in time.

mod keep;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::answer::Login;
use super::handle::AuthHandle;
use super::method::Method;
use super::plan::{self, Action, Grant, Next};
use crate::backoff::Backoff;
use crate::config;
use crate::error::Error;
use crate::life::Life;
use crate::telemetry::Metrics;
use crate::token::{Token, TokenTx};
use crate::upstream::Upstream;

/// See the module's text. One task runs it; nobody else writes the token.
#[derive(Debug)]
pub(super) struct Keeper {
    method: Method,
    upstream: Upstream,
    published: TokenTx,
    handle: AuthHandle,
    metrics: Metrics,
    exit_on_err: bool,
    min_backoff: Duration,
    /// Between failed logins, and between failed renewals; reset by each success.
    backoff: Backoff,
    /// Between logins that succeeded but brought a token which died before its time.
    churn: Backoff,
    /// No login before this.
    not_before: Instant,
    logged_in_at: Instant,
    /// Tokens in a row that died before their time.
    losses: u32,
    /// Tokens in a row that lived although their renewal was refused.
    refused_renewals: u32,
    /// False when even a fresh token was refused `lookup-self`: a refusal then says nothing.
    can_look_up: bool,
    has_warned_of_look_up: bool,
    has_warned_of_uses: bool,
}

/// The token that is held, and its schedule.
struct Held {
    token: Arc<Token>,
    /// The longest TTL it was granted.
    full: Duration,
    /// `None`: it never ends.
    next: Option<Next>,
}

/// Why a new login is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// As planned; the old token lives on for a while.
    Planned,
    /// The old token is dead.
    Lost,
}

impl Keeper {
    pub(super) fn new(
        config: &config::AutoAuth,
        method: Method,
        upstream: Upstream,
        published: TokenTx,
        handle: AuthHandle,
        metrics: Metrics,
    ) -> Self {
        let now = Instant::now();
        Self {
            method,
            upstream,
            published,
            handle,
            metrics,
            exit_on_err: config.exit_on_err,
            backoff: Backoff::new(config.min_backoff, config.max_backoff),
            churn: Backoff::new(BETWEEN_LOGINS, LONGEST_CHURN),
            not_before: now,
            logged_in_at: now,
            min_backoff: config.min_backoff,
            losses: 0,
            refused_renewals: 0,
            can_look_up: true,
            has_warned_of_look_up: false,
            has_warned_of_uses: false,
        }
    }

    /// Keeps a token until something makes that hopeless.
    pub(super) async fn run(mut self) -> Error {
        loop {
            let mut held = match self.log_in().await {
                Ok(held) => held,
                Err(fatal) => return fatal,
            };
            if self.losses > 1 || !self.can_look_up {
                self.prove_look_up(&held).await;
            }
            let due = self.keep(&mut held).await;
            // Failed renewals say nothing about how long to wait between logins.
            self.backoff.reset();
            self.space_logins(due);
        }
    }

    /// Tries until it succeeds. The error is fatal.
    async fn log_in(&mut self) -> Result<Held, Error> {
        loop {
            self.announce(Some(Next {
                action: Action::LogIn,
                at: self.not_before,
            }));
            sleep_until(self.not_before).await;
            self.logged_in_at = Instant::now();
            self.not_before = self.logged_in_at + BETWEEN_LOGINS;
            let tried = self.method.log_in(&self.upstream).await;
            self.metrics.auth(tried.is_ok());
            match tried {
                Ok(login) => return Ok(self.publish(login)),
                Err(failure) => {
                    let is_fatal = failure.is_hopeless || self.exit_on_err;
                    self.login_failed(&failure.error, is_fatal);
                    if is_fatal {
                        return Err(failure.error);
                    }
                }
            }
        }
    }

    fn login_failed(&mut self, error: &Error, is_fatal: bool) {
        let now = Instant::now();
        let mut wait = self.backoff.next_wait();
        if let Some(left) = self.left_of_the_old(now) {
            wait = wait.min((left / 3).max(self.min_backoff));
        }
        let wait = wait.max(asked_for(error));
        self.not_before = self.not_before.max(now + wait);
        let not_before = self.not_before;
        self.handle.update(|state| {
            state.failed(error);
            state.is_login_failing = true;
            state.next = (!is_fatal).then_some(Next {
                action: Action::LogIn,
                at: not_before,
            });
        });
        if !is_fatal {
            tracing::warn!(
                method = self.method.name(),
                kind = error.kind().name(),
                %error,
                next_try_in_seconds = tenths(not_before - now),
                "login failed"
            );
        }
    }

    /// What is left of the token in use, while it lives.
    fn left_of_the_old(&self, now: Instant) -> Option<Duration> {
        let left = self.published.borrow().as_ref()?.life.remaining(now)?;
        (!left.is_zero()).then_some(left)
    }

    fn publish(&mut self, login: Login) -> Held {
        self.backoff.reset();
        self.warn_of_uses(login.uses);
        let grant = login.grant;
        let current = self.published.borrow().clone();
        let same = current
            .clone()
            .filter(|token| token.secret.ct_eq(login.secret.expose()));
        let token = match same {
            // A token file may hold the same token as before: its leases need no replacing.
            Some(token) => {
                token
                    .life
                    .set_end(end_of(&grant).unwrap_or(grant.asked_at + crate::life::LONGEST));
                token
            }
            None => {
                let token = Arc::new(Token {
                    secret: login.secret,
                    accessor: login.accessor,
                    life: Arc::new(end_of(&grant).map_or_else(Life::endless, Life::ending_at)),
                    ttl: grant.ttl,
                    renewable: grant.renewable,
                    generation: current.map_or(0, |token| token.generation) + 1,
                });
                self.published.send_replace(Some(Arc::clone(&token)));
                token
            }
        };
        let held = Held {
            next: self.plan(&grant, token.generation),
            full: grant.ttl,
            token,
        };
        self.handle.update(|state| {
            state.token = Some(Arc::clone(&held.token));
            state.next = held.next;
            state.check = None;
            state.failures = 0;
            state.is_login_failing = false;
            state.logins += 1;
        });
        tracing::info!(
            method = self.method.name(),
            generation = held.token.generation,
            ttl = grant.ttl.as_secs(),
            renewable = grant.renewable,
            next = held.next.map_or("none", |next| next.action.name()),
            in_seconds = held.next.map(|next| seconds_until(next.at)),
            "logged in"
        );
        held
    }

    fn warn_of_uses(&mut self, uses: u64) {
        if uses > 0 && !self.has_warned_of_uses {
            self.has_warned_of_uses = true;
            tracing::warn!(
                uses,
                "the token dies after a number of uses, which nobody counts; expect refusals and \
                 many logins, or set token_num_uses = 0 on the role"
            );
        }
    }

    fn plan(&self, grant: &Grant, generation: u64) -> Option<Next> {
        end_of(grant)?;
        // Where renewals are refused as a rule, most tokens are spared the question.
        let is_worth_it = self.refused_renewals < 2 || generation.is_multiple_of(8);
        let grant = Grant {
            renewable: grant.renewable && is_worth_it,
            ..*grant
        };
        Some(plan::after_grant(&grant, grant.ttl, fastrand::f64()))
    }

    /// Tokens that die young are not fetched in a loop.
    fn space_logins(&mut self, due: Due) {
        match due {
            Due::Planned => self.losses = 0,
            Due::Lost => self.losses += 1,
        }
        if due == Due::Planned || self.logged_in_at.elapsed() > LONGEST_CHURN {
            self.churn.reset();
        }
        if due == Due::Lost {
            let not_before = self.logged_in_at + self.churn.next_wait();
            self.not_before = self.not_before.max(not_before);
        }
    }

    fn announce(&self, next: Option<Next>) {
        self.handle.update(|state| state.next = next);
    }
}

/// `None`: it never ends.
fn end_of(grant: &Grant) -> Option<Instant> {
    (!grant.ttl.is_zero()).then(|| grant.end())
}

/// The wait that Vault itself asked for.
fn asked_for(error: &Error) -> Duration {
    error
        .refused_with()
        .and_then(|_| error.wait_hint())
        .unwrap_or_default()
}

/// For log lines: nobody reads more digits.
fn tenths(span: Duration) -> f64 {
    (span.as_secs_f64() * 10.0).round() / 10.0
}

fn seconds_until(at: Instant) -> u64 {
    at.saturating_duration_since(Instant::now()).as_secs()
}

/// The shortest time between two logins, whatever they bring.
const BETWEEN_LOGINS: Duration = Duration::from_millis(500);
/// The longest wait between logins whose tokens die young.
const LONGEST_CHURN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeVault, Running, approle, good, in_files, variable};
    use super::super::{RECHECK, Settled};
    use crate::config::{self, CredentialSource};
    use crate::error::Kind;
    use serde_json::json;
    use std::time::Duration;
    use tokio::time::{Instant, sleep, timeout};

    const LOGIN: &str = "approle/login";
    const RENEWAL: &str = "renew-self";
    const LOOK_UP: &str = "lookup-self";
    const MINUTE: Duration = Duration::from_secs(60);

    fn all_calls(vault: &FakeVault) -> usize {
        vault.calls("")
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn renews_at_three_quarters_of_the_ttl() {
        let vault = FakeVault::new(100, 100_000);
        let mut running = Running::start(&vault, &good());
        let token = running.generation(1).await;
        sleep(10 * MINUTE).await;
        let mut before = vault.times(LOGIN)[0];
        for at in vault.times(RENEWAL) {
            let after = (at - before).as_secs_f64();
            assert!((70.0..=75.01).contains(&after), "{after}");
            before = at;
        }
        assert!((7..=9).contains(&vault.calls(RENEWAL)));
        assert_eq!(vault.calls(LOGIN), 1);
        let left = token.life.remaining(Instant::now()).unwrap();
        assert!(left >= Duration::from_secs(24) && left <= vault.left_of(&token.secret));
        let view = running.auth.handle().status();
        assert!(view.authenticated && view.next_action == "renew" && view.failures == 0);
        assert_eq!((view.generation, view.logins, view.ttl), (1, 1, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_token_is_published_while_the_last_one_lives() {
        for (vault, least) in [
            (FakeVault::new(100, 250), 24),
            (FakeVault::new(100, 100).not_renewable(), 24),
            // Renewed, but never for longer than the first grant.
            (FakeVault::new(100, 100), 24),
        ] {
            let mut running = Running::start(&vault, &good());
            let mut old = running.generation(1).await;
            for generation in 2..10 {
                let new = running.generation(generation).await;
                let left = vault.left_of(&old.secret).as_secs();
                assert!(left >= least, "{left} s of the old token left");
                assert!(!old.life.is_over(Instant::now()));
                old = new;
            }
        }
    }

    /// Reads the token all the time: how much life the shortest-lived one that was read had left.
    async fn shortest_life_seen(ttl: u64, max_ttl: u64, during: Duration) -> (Duration, FakeVault) {
        let vault = FakeVault::new(ttl, max_ttl);
        let mut running = Running::start(&vault, &good());
        running.generation(1).await;
        let (end, mut shortest) = (Instant::now() + during, Duration::MAX);
        while Instant::now() < end {
            let token = running.token.borrow().clone().unwrap();
            let left = vault.left_of(&token.secret);
            let believed = token.life.remaining(Instant::now()).unwrap();
            assert!(believed <= left, "{believed:?} believed, {left:?} left");
            shortest = shortest.min(left);
            sleep(Duration::from_millis(20)).await;
        }
        (shortest, vault)
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_live_token_at_every_moment_however_short_they_live() {
        for (ttl, max_ttl, least) in [(8, 16, 1.9), (8, 10, 1.4), (4, 9, 0.9), (2, 5, 0.4)] {
            let (shortest, vault) = shortest_life_seen(ttl, max_ttl, 10 * MINUTE).await;
            let shortest = shortest.as_secs_f64();
            assert!(
                shortest > least,
                "TTL {ttl} s, max {max_ttl} s: {shortest} s"
            );
            let per_minute = all_calls(&vault) / 10;
            assert!(
                per_minute <= 120 / usize::try_from(ttl).unwrap(),
                "{per_minute} calls"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ttl_of_a_second_does_not_become_a_loop() {
        for renewable in [true, false] {
            let vault = FakeVault::new(1, 3);
            let vault = if renewable {
                vault
            } else {
                vault.not_renewable()
            };
            let _running = Running::start(&vault, &good());
            sleep(MINUTE).await;
            let calls = all_calls(&vault);
            assert!(calls <= 120, "{calls} calls in a minute");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_without_end_is_left_alone() {
        let vault = FakeVault::new(0, 0);
        let mut running = Running::start(&vault, &good());
        let token = running.generation(1).await;
        sleep(Duration::from_secs(10 * 24 * 3600)).await;
        assert_eq!(all_calls(&vault), 1);
        assert_eq!(token.life.end(), None);
        assert_eq!(running.auth.handle().status().next_action, "none");
        vault.revoke(&token.secret);
        running.auth.handle().suspect(1);
        running.generation(2).await;
    }

    // Failing logins

    /// What makes a login fail, and the kind it fails with.
    fn login_faults() -> Vec<(u16, serde_json::Value, Kind)> {
        let refused = |status: u16| Kind::Refused(status.try_into().unwrap());
        vec![
            (
                400,
                json!({"errors": ["invalid role or secret ID"]}),
                refused(400),
            ),
            (403, json!({"errors": ["permission denied"]}), refused(403)),
            (404, json!({"errors": []}), refused(404)),
            (429, json!({"errors": ["slow down"]}), refused(429)),
            (500, json!({"errors": ["internal error"]}), refused(500)),
            (503, json!({"errors": ["Vault is sealed"]}), refused(503)),
            (200, json!({}), Kind::BadAnswer),
            (200, json!({"auth": null}), Kind::BadAnswer),
            (200, json!({"auth": {"client_token": ""}}), Kind::BadAnswer),
            (
                200,
                json!({"auth": {"client_token": "x", "lease_duration": "1h"}}),
                Kind::BadAnswer,
            ),
            (200, json!({"wrap_info": {"token": "x"}}), Kind::BadAnswer),
            (200, json!("<html>"), Kind::BadAnswer),
            (204, json!(""), Kind::BadAnswer),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn exit_on_err_ends_with_the_first_failure_of_any_kind() {
        let start = Instant::now();
        for (status, body, kind) in login_faults() {
            let vault = FakeVault::new(100, 1000);
            vault.fault(move |_| Some((status, body.clone())));
            let (mut config, _files) = in_files("role", "secret");
            config.exit_on_err = true;
            let running = Running::start(&vault, &config);
            let error = running.fatal().await;
            assert_eq!(error.kind(), kind, "{status}: {error}");
            assert_eq!(all_calls(&vault), 1);
            assert!(!running.auth.handle().status().authenticated);
        }
        let vault = FakeVault::new(100, 1000);
        vault.down(true);
        let config = config::AutoAuth {
            exit_on_err: true,
            ..good()
        };
        let error = Running::start(&vault, &config).fatal().await;
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(
            error.to_string().contains("http://vault.test:8200"),
            "{error}"
        );
        let (mut config, files) = in_files("role", "secret");
        config.exit_on_err = true;
        std::fs::remove_file(files.path().join("role-id")).unwrap();
        let error = Running::start(&vault, &config).fatal().await;
        assert_eq!(error.kind(), Kind::Credentials);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn exit_on_err_holds_for_a_later_login_but_not_for_renewals() {
        let vault = FakeVault::new(100, 1000);
        let config = config::AutoAuth {
            exit_on_err: true,
            ..good()
        };
        let mut running = Running::start(&vault, &config);
        running.generation(1).await;
        vault.fault(|path| {
            path.ends_with(RENEWAL)
                .then(|| (500, json!({"errors": []})))
        });
        running.generation(2).await;
        vault.fault(|_| Some((500, json!({"errors": []}))));
        let error = timeout(10 * MINUTE, running.auth.fatal()).await.unwrap();
        assert_eq!(error.refused_with().unwrap().as_u16(), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_credentials_from_the_environment_are_fatal_at_once_and_named() {
        let start = Instant::now();
        let unset = CredentialSource::Env {
            name: "SECRET_ID".to_owned(),
            value: None,
        };
        for (config, name, kind) in [
            (
                approle(variable("ROLE_ID", "role"), unset),
                "SECRET_ID",
                Kind::Credentials,
            ),
            (
                approle(variable("ROLE_ID", " "), variable("SECRET_ID", "secret")),
                "ROLE_ID",
                Kind::Credentials,
            ),
            (
                approle(
                    variable("ROLE_ID", "canary"),
                    variable("SECRET_ID", "secret"),
                ),
                "ROLE_ID",
                Kind::Refused(http::StatusCode::BAD_REQUEST),
            ),
            (
                approle(variable("ROLE_ID", "role"), variable("SECRET_ID", "canary")),
                "SECRET_ID",
                Kind::Refused(http::StatusCode::BAD_REQUEST),
            ),
        ] {
            let running = Running::start(&FakeVault::new(100, 1000), &config);
            let error = running.fatal().await;
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(name), "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn other_failures_with_credentials_from_the_environment_are_tried_again() {
        for (status, body, _) in login_faults() {
            let vault = FakeVault::new(100, 1000);
            vault.fault(move |_| Some((status, body.clone())));
            let mut running = Running::start(&vault, &good());
            let fatal = timeout(2 * MINUTE, running.auth.fatal()).await;
            assert_eq!(fatal.is_ok(), [400, 403].contains(&status), "{status}");
            if fatal.is_err() {
                assert!(
                    (5..=12).contains(&all_calls(&vault)),
                    "{}",
                    all_calls(&vault)
                );
                vault.no_fault();
                running.generation(1).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_credentials_in_files_are_tried_again_until_they_are_right() {
        let vault = FakeVault::new(100, 1000);
        let (config, files) = in_files("role", "wrong");
        let mut running = Running::start(&vault, &config);
        sleep(10 * MINUTE).await;
        let tries = vault.calls(LOGIN);
        assert!((9..=14).contains(&tries), "{tries}");
        let view = running.auth.handle().status();
        assert!(!view.authenticated && view.next_action == "login");
        assert_eq!(view.failures, u64::try_from(tries).unwrap());
        let error = view.last_error.unwrap();
        assert_eq!(error.kind, "refused");
        let file = files.path().join("secret-id");
        assert!(
            error.text.contains(file.to_str().unwrap()),
            "{}",
            error.text
        );
        std::fs::write(file, "secret").unwrap();
        timeout(6 * MINUTE, running.generation(1)).await.unwrap();
        assert_eq!(running.auth.handle().status().failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_absent_vault_is_waited_for() {
        let vault = FakeVault::new(100, 1000);
        vault.down(true);
        let mut running = Running::start(&vault, &good());
        sleep(20 * MINUTE).await;
        let view = running.auth.handle().status();
        assert!(view.failures <= 15, "{view:?}");
        assert!(
            view.last_error
                .unwrap()
                .text
                .contains("http://vault.test:8200")
        );
        vault.down(false);
        timeout(6 * MINUTE, running.generation(1)).await.unwrap();
        assert!(running.tasks.stop(Duration::from_secs(1)).await);
        let text = running
            .metrics
            .json(&crate::telemetry::Sample::default(), "now")
            .to_string();
        assert!(
            text.contains(r#"{"Count":1,"Labels":{},"Name":"agent.auth.success""#),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured() {
        let vault = FakeVault::new(100, 1000);
        vault.fault(|_| Some((429, json!({"errors": [], "retry_after": 77}))));
        let _running = Running::start(&vault, &good());
        sleep(10 * MINUTE).await;
        let times = vault.times(LOGIN);
        assert!(times.len() >= 3);
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_secs(77));
        }
    }

    // Failing renewals

    #[tokio::test(start_paused = true)]
    async fn an_outage_inside_the_life_that_is_left_costs_no_login() {
        let vault = FakeVault::new(1000, 1_000_000);
        let mut running = Running::start(&vault, &good());
        let token = running.generation(1).await;
        sleep(Duration::from_secs(500)).await;
        vault.down(true);
        sleep(Duration::from_secs(440)).await;
        vault.down(false);
        sleep(Duration::from_secs(500)).await;
        assert_eq!(vault.calls(LOGIN), 1);
        assert!(!token.life.is_over(Instant::now()));
        assert_eq!(running.token.borrow().as_ref().unwrap().generation, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn logins_are_tried_until_the_old_token_ends() {
        for ttl in [40, 400, 4_000, 40_000] {
            let vault = FakeVault::new(ttl, ttl).not_renewable();
            let mut running = Running::start(&vault, &good());
            let old = running.generation(1).await;
            let ttl = Duration::from_secs(ttl);
            vault.down(true);
            sleep(ttl.mul_f64(0.97)).await;
            vault.down(false);
            running.generation(2).await;
            let left = vault.left_of(&old.secret);
            assert!(left > ttl.mul_f64(0.005), "{left:?} of {ttl:?} left");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_that_never_succeed_lead_to_a_login_in_time() {
        for status in [500, 429, 412] {
            let vault = FakeVault::new(1000, 1_000_000);
            vault.fault(move |path| {
                path.ends_with(RENEWAL)
                    .then(|| (status, json!({"errors": []})))
            });
            let mut running = Running::start(&vault, &good());
            let first = running.generation(1).await;
            running.generation(2).await;
            let left = vault.left_of(&first.secret).as_secs();
            assert!((100..=130).contains(&left), "{left} s left");
            assert!(
                (3..=12).contains(&vault.calls(RENEWAL)),
                "{}",
                vault.calls(RENEWAL)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_refused_for_ten_minutes_cost_a_handful_of_calls() {
        for (ttl, most) in [(3600, 0), (600, 6), (120, 12)] {
            let vault = FakeVault::new(ttl, 1_000_000);
            vault.fault(|path| {
                path.ends_with(RENEWAL)
                    .then(|| (403, json!({"errors": ["permission denied"]})))
            });
            let mut running = Running::start(&vault, &good());
            let mut old = running.generation(1).await;
            sleep(10 * MINUTE).await;
            let calls = all_calls(&vault) - 1;
            assert!(calls <= most, "TTL {ttl} s: {calls} calls");
            // Refused is not dead: the next token comes while the old one lives.
            old = running.generation(old.generation).await;
            for generation in old.generation + 1..old.generation + 10 {
                let new = running.generation(generation).await;
                assert_eq!(new.generation, generation);
                assert!(!old.life.is_over(Instant::now()));
                old = new;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_of_a_dead_token_leads_to_a_login_at_once() {
        let vault = FakeVault::new(100, 1000);
        let mut running = Running::start(&vault, &good());
        let token = running.generation(1).await;
        vault.revoke(&token.secret);
        running.generation(2).await;
        assert_eq!(vault.times(RENEWAL)[0], vault.times(LOGIN)[1]);
        assert!(token.life.is_over(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_renewals_do_not_make_the_login_after_them_wait() {
        let vault = FakeVault::new(20, 100_000);
        let mut running = Running::start(&vault, &good());
        running.generation(1).await;
        sleep(Duration::from_secs(10)).await;
        vault.down(true);
        sleep(Duration::from_secs(15)).await;
        let failures = running.auth.handle().status().failures;
        assert!(failures >= 4, "{failures}");
        vault.down(false);
        let up = Instant::now();
        running.generation(2).await;
        assert!(
            up.elapsed() <= Duration::from_secs(8),
            "{:?} after Vault was back",
            up.elapsed()
        );
    }

    // Suspicions

    #[tokio::test(start_paused = true)]
    async fn five_hundred_suspicions_of_a_dead_token_are_one_look_up_and_one_login() {
        let vault = FakeVault::new(100, 1000);
        let mut running = Running::start(&vault, &good());
        let token = running.generation(1).await;
        vault.revoke(&token.secret);
        let start = Instant::now();
        let waiting: Vec<_> = (0..500)
            .map(|_| {
                let handle = running.auth.handle();
                running.tasks.spawn("caller", async move {
                    handle.suspect(1);
                    handle.settled(1, later(2)).await
                })
            })
            .collect();
        for caller in waiting {
            let settled = caller.await.unwrap();
            assert!(matches!(settled, Settled::Replaced(token) if token.generation == 2));
        }
        assert!(
            start.elapsed() <= Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
        assert_eq!((vault.calls(LOOK_UP), vault.calls(LOGIN)), (1, 2));
        assert!(token.life.is_over(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn suspicions_raised_during_a_look_up_are_settled_by_it() {
        let vault = FakeVault::new(3600, 10_000);
        let mut running = Running::start(&vault, &good());
        running.generation(1).await;
        let handle = running.auth.handle();
        let during = handle.clone();
        vault.fault(move |path| {
            if path.ends_with(LOOK_UP) {
                during.suspect(1);
            }
            None
        });
        handle.suspect(1);
        assert!(matches!(handle.settled(1, later(2)).await, Settled::Alive));
        sleep(10 * MINUTE).await;
        assert_eq!(vault.calls(LOOK_UP), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_by_policy_cost_a_look_up_now_and_then() {
        let vault = FakeVault::new(3600, 10_000);
        let mut running = Running::start(&vault, &good());
        running.generation(1).await;
        let handle = running.auth.handle();
        let end = later(60);
        while Instant::now() < end {
            handle.suspect(1);
            assert!(matches!(handle.settled(1, later(2)).await, Settled::Alive));
            sleep(Duration::from_millis(10)).await;
        }
        let look_ups = vault.calls(LOOK_UP);
        assert!(
            (11..=13).contains(&look_ups),
            "{look_ups} in a minute, one per {RECHECK:?}"
        );
        assert_eq!(vault.calls(LOGIN), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn where_look_ups_are_forbidden_refusals_by_policy_are_not_taken_for_death() {
        let vault = FakeVault::new(3600, 10_000);
        vault.fault(|path| {
            path.ends_with(LOOK_UP)
                .then(|| (403, json!({"errors": []})))
        });
        let mut running = Running::start(&vault, &good());
        running.generation(1).await;
        let handle = running.auth.handle();
        let end = later(600);
        while Instant::now() < end {
            let generation = handle.status().generation;
            handle.suspect(generation);
            handle.settled(generation, later(2)).await;
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!((vault.calls(LOOK_UP), vault.calls(LOGIN)), (3, 3));
        assert!(handle.status().authenticated);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspicion_that_vault_does_not_settle_changes_nothing() {
        let vault = FakeVault::new(3600, 10_000);
        let mut running = Running::start(&vault, &good());
        running.generation(1).await;
        vault.down(true);
        let handle = running.auth.handle();
        handle.suspect(1);
        assert!(matches!(
            handle.settled(1, later(2)).await,
            Settled::Unknown
        ));
        // Of a token that is gone already.
        handle.suspect(0);
        handle.own_token_revoked(0);
        sleep(MINUTE).await;
        assert_eq!(vault.calls(LOGIN), 1);
        assert!(handle.status().authenticated);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_die_young_are_not_fetched_in_a_loop() {
        let vault = FakeVault::new(3600, 10_000);
        let mut running = Running::start(&vault, &good());
        let handle = running.auth.handle();
        running.generation(1).await;
        let start = Instant::now();
        handle.own_token_revoked(1);
        running.generation(2).await;
        assert!(start.elapsed() <= Duration::from_secs(1));
        let end = later(600);
        while Instant::now() < end {
            handle.own_token_revoked(handle.status().generation);
            sleep(Duration::from_millis(100)).await;
        }
        let logins = vault.calls(LOGIN);
        assert!(
            (15..=50).contains(&logins),
            "{logins} logins in ten minutes"
        );
        // One that lived is replaced at once.
        sleep(10 * MINUTE).await;
        let view = handle.status();
        let start = Instant::now();
        handle.own_token_revoked(view.generation);
        running.generation(view.generation + 1).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_not_held_up_by_a_vault_that_hangs() {
        let vault = FakeVault::new(100, 1000);
        vault.down(true);
        let running = Running::start(&vault, &good());
        sleep(Duration::from_millis(100)).await;
        assert!(running.tasks.stop(Duration::from_secs(1)).await);
        let fatal = timeout(MINUTE, running.auth.fatal()).await;
        assert!(fatal.is_err(), "a stop is no failure");
    }
}
