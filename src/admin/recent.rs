//! The last errors, for `status`: bounded, and the same one is counted, not repeated.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::status::rounded;
use crate::error::{Error, Side};

/// A ring of errors. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    ring: Arc<Mutex<VecDeque<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    kind: &'static str,
    side: Side,
    message: String,
    count: u64,
    first: Instant,
    last: Instant,
    /// When `note` last called it news.
    told: Instant,
}

/// One error as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Noted {
    pub kind: &'static str,
    /// Whose side it was on: `client`, `leasehold`, `vault`.
    pub side: &'static str,
    pub message: String,
    pub count: u64,
    pub first_seconds_ago: u64,
    pub last_seconds_ago: u64,
}

impl Recent {
    /// Notes an error. One that is here already is counted and becomes the newest. True where it is news: new,
    /// or there all along and not called news for a minute.
    pub fn note(&self, error: &Error) -> bool {
        let now = Instant::now();
        let message: String = error.to_string().chars().take(LONGEST_MESSAGE).collect();
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let same = ring.iter().position(|it| it.message == message);
        let entry = match same.and_then(|at| ring.remove(at)) {
            Some(known) => Entry {
                count: known.count.saturating_add(1),
                last: now,
                told: if now - known.told >= BETWEEN_NEWS {
                    now
                } else {
                    known.told
                },
                ..known
            },
            None => Entry {
                kind: error.kind().name(),
                side: error.side(),
                message,
                count: 1,
                first: now,
                last: now,
                told: now,
            },
        };
        if ring.len() >= MOST_ERRORS {
            ring.pop_front();
        }
        let is_news = entry.told == now;
        ring.push_back(entry);
        is_news
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Noted> {
        let now = Instant::now();
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = ring.iter().rev().map(|entry| Noted {
            kind: entry.kind,
            side: match entry.side {
                Side::Client => "client",
                Side::Leasehold => "leasehold",
                Side::Vault => "vault",
            },
            message: entry.message.clone(),
            count: entry.count,
            first_seconds_ago: rounded(now - entry.first),
            last_seconds_ago: rounded(now - entry.last),
        });
        noted.collect()
    }
}

const MOST_ERRORS: usize = 16;
const LONGEST_MESSAGE: usize = 500;
const BETWEEN_NEWS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test(start_paused = true)]
    async fn the_same_error_is_news_once_a_minute() {
        let recent = Recent::default();
        let error = |text: &str| Error::new(Kind::Busy, text);
        let mut news = Vec::new();
        for second in 0..150 {
            if recent.note(&error("all busy")) {
                news.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(news, [0, 60, 120]);
        assert!(recent.note(&error("another")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_error_is_counted_and_the_oldest_forgotten() {
        let recent = Recent::default();
        let error = |text: &str| Error::new(Kind::Unreachable, text);
        recent.note(&error("first"));
        tokio::time::advance(Duration::from_secs(60)).await;
        recent.note(&error("second"));
        recent.note(&error("first"));
        tokio::time::advance(Duration::from_secs(5)).await;
        let list = recent.list();
        assert_eq!(list.len(), 2);
        assert_eq!(
            list[0],
            Noted {
                kind: "unreachable",
                side: "vault",
                message: "first".into(),
                count: 2,
                first_seconds_ago: 65,
                last_seconds_ago: 5,
            }
        );
        for number in 0..100 {
            recent.note(&error(&format!("number {number} {}", "x".repeat(5000))));
        }
        let list = recent.list();
        assert_eq!(list.len(), MOST_ERRORS);
        assert!(list[0].message.starts_with("number 99 "));
        assert_eq!(list[0].message.len(), LONGEST_MESSAGE);
    }
}
