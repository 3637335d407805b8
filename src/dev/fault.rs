//! The fault script: what goes wrong, with which requests, how often.
//!
//! It stands where a production fault would: a cut is a closed socket, a hang is silence, an error answer
//! is one that a load balancer or Vault itself would send.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::glob;

/// The rules in force. The first that fires decides; rules that match count, fired or not.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<Rules>,
}

/// Names an added rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(u64);

/// One rule: build it from [`Fault::on`] and give it to [`Faults::add`].
#[derive(Clone)]
pub struct Fault {
    method: String,
    path: String,
    skip: u64,
    times: Option<u64>,
    delay: Duration,
    act: Act,
}

/// What is done to a request that a rule fired on.
#[derive(Clone)]
pub(super) enum Act {
    /// Nothing but the delay.
    Pass,
    /// Never an answer; the request is not processed.
    Hang,
    /// This answer in place of the server's; the request is not processed.
    Answer {
        status: StatusCode,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    },
    /// The connection is closed before anything is processed.
    CutBeforeHead,
    /// The request is processed and the connection closed before a byte of the answer.
    CutAfterProcessing,
    /// The connection is closed after the answer's head and so many bytes of its body.
    CutAfterBody(u64),
    /// The request is processed at once and answered after so long.
    Late(Duration),
    /// The body comes in pieces of `piece` bytes, `every` so long.
    Slow { piece: usize, every: Duration },
}

#[derive(Default)]
struct Rules {
    next: u64,
    rules: Vec<Rule>,
}

struct Rule {
    id: FaultId,
    fault: Fault,
    matched: u64,
    fired: u64,
}

impl Fault {
    /// `method` may be `*`; `path` is a glob over the raw path without its query, `*` standing for any
    /// text.
    pub fn on(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            skip: 0,
            times: None,
            delay: Duration::ZERO,
            act: Act::Pass,
        }
    }

    /// Only the `nth` request that matches, counted from 1.
    #[must_use]
    pub fn nth(self, nth: u64) -> Self {
        self.after(nth.saturating_sub(1)).times(1)
    }

    /// Not the first `requests` that match.
    #[must_use]
    pub fn after(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// At most so often; without this until it is removed.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Waits before anything else is done.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    #[must_use]
    pub fn hang(mut self) -> Self {
        self.act = Act::Hang;
        self
    }

    /// Answers with `status` and Vault's error shape around `text`; 412 and 5xx alike.
    #[must_use]
    pub fn refuse(self, status: StatusCode, text: &str) -> Self {
        let errors: &[&str] = if text.is_empty() { &[] } else { &[text] };
        let body = format!("{}\n", serde_json::json!({ "errors": errors }));
        self.answer(status, body)
    }

    /// Answers with exactly this body, `application/json`.
    #[must_use]
    pub fn answer(mut self, status: StatusCode, body: impl Into<Bytes>) -> Self {
        self.act = Act::Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
        };
        self
    }

    /// A header of the answer given by `refuse` or `answer`, in place of one that it has.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Act::Answer { headers, .. } = &mut self.act {
            headers.push((name, value));
        }
        self
    }

    #[must_use]
    pub fn cut_before_head(mut self) -> Self {
        self.act = Act::CutBeforeHead;
        self
    }

    #[must_use]
    pub fn cut_after_processing(mut self) -> Self {
        self.act = Act::CutAfterProcessing;
        self
    }

    #[must_use]
    pub fn cut_after_head(self) -> Self {
        self.cut_after_body(0)
    }

    #[must_use]
    pub fn cut_after_body(mut self, bytes: u64) -> Self {
        self.act = Act::CutAfterBody(bytes);
        self
    }

    /// What was read is old by then, and what was written is done although its writer may have left.
    #[must_use]
    pub fn late(mut self, wait: Duration) -> Self {
        self.act = Act::Late(wait);
        self
    }

    #[must_use]
    pub fn slow(mut self, piece: usize, every: Duration) -> Self {
        self.act = Act::Slow { piece, every };
        self
    }
}

impl Faults {
    pub fn add(&self, fault: Fault) -> FaultId {
        let mut rules = self.lock();
        rules.next += 1;
        let id = FaultId(rules.next);
        rules.rules.push(Rule {
            id,
            fault,
            matched: 0,
            fired: 0,
        });
        id
    }

    pub fn remove(&self, id: FaultId) {
        self.lock().rules.retain(|rule| rule.id != id);
    }

    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// How often the rule fired.
    pub fn fired(&self, id: FaultId) -> u64 {
        let rules = self.lock();
        let rule = rules.rules.iter().find(|rule| rule.id == id);
        rule.map_or(0, |rule| rule.fired)
    }

    /// What to do with this request. Hanging and cutting need no answer, the rest is the caller's.
    pub(super) fn judge(&self, method: &str, path: &str) -> (Duration, Act) {
        let mut verdict = None;
        for rule in &mut self.lock().rules {
            if !glob::method_matches(&rule.fault.method, method)
                || !glob::matches(&rule.fault.path, path)
            {
                continue;
            }
            rule.matched += 1;
            let due = rule.matched > rule.fault.skip
                && rule.fault.times.is_none_or(|times| rule.fired < times);
            if verdict.is_none() && due {
                rule.fired += 1;
                verdict = Some((rule.fault.delay, rule.fault.act.clone()));
            }
        }
        verdict.unwrap_or((Duration::ZERO, Act::Pass))
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("rules", &self.lock().rules.len())
            .finish()
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hangs(faults: &Faults, method: &str, path: &str) -> bool {
        matches!(faults.judge(method, path).1, Act::Hang)
    }

    #[test]
    fn a_rule_fires_on_what_it_matches_as_often_as_it_says() {
        let faults = Faults::default();
        let id = faults.add(Fault::on("GET", "/v1/secret/*").after(1).times(2).hang());
        assert!(!hangs(&faults, "PUT", "/v1/secret/a"));
        let fired: Vec<bool> = (0..4)
            .map(|_| hangs(&faults, "GET", "/v1/secret/a"))
            .collect();
        assert_eq!(fired, [false, true, true, false]);
        assert_eq!(faults.fired(id), 2);
    }

    #[test]
    fn nth_is_that_one_alone_and_clear_ends_all() {
        let faults = Faults::default();
        faults.add(Fault::on("*", "*").nth(2).hang());
        let fired: Vec<bool> = (0..3).map(|_| hangs(&faults, "GET", "/x")).collect();
        assert_eq!(fired, [false, true, false]);
        let forever = faults.add(Fault::on("*", "*").hang());
        assert!(hangs(&faults, "GET", "/x"));
        faults.remove(forever);
        assert!(!hangs(&faults, "GET", "/x"));
    }

    #[test]
    fn the_first_that_fires_decides() {
        let faults = Faults::default();
        faults.add(Fault::on("*", "*").delay(Duration::from_secs(1)).times(1));
        faults.add(Fault::on("*", "*").hang());
        assert!(matches!(faults.judge("GET", "/"), (delay, Act::Pass) if delay.as_secs() == 1));
        assert!(hangs(&faults, "GET", "/"));
    }
}
