//! The request log: what arrived, byte for byte, so that a test can say what was sent and how often.
//!
//! A bound holds for the records; the counts are of all requests since the start or the last `clear`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::glob;

#[derive(Default)]
pub struct RequestLog {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: VecDeque<Arc<Record>>,
    counts: BTreeMap<(String, String), u64>,
}

/// One request. Holds secrets: shown by `Debug` as method and path only.
pub struct Record {
    pub at: Instant,
    pub method: Method,
    /// The request target as it came, query and all.
    pub target: String,
    /// Names in lower case, in the order in which they came; a repeated name's values stand together.
    pub headers: Vec<(String, Bytes)>,
    body: OnceLock<Bytes>,
    received: OnceLock<u64>,
    status: OnceLock<StatusCode>,
}

impl RequestLog {
    /// The last requests, oldest first.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.lock().records.iter().cloned().collect()
    }

    /// Those among the last requests whose method (`*` for any) and path (a glob, without query) match.
    pub fn matching(&self, method: &str, path: &str) -> Vec<Arc<Record>> {
        let mut records = self.records();
        records.retain(|record| {
            glob::method_matches(method, record.method.as_str())
                && glob::matches(path, record.path())
        });
        records
    }

    /// How many requests came, cut and refused ones too.
    pub fn count(&self, method: &str, path: &str) -> u64 {
        let kept = self.lock();
        let counted = kept.counts.iter().filter(|((of_method, of_path), _)| {
            glob::method_matches(method, of_method) && glob::matches(path, of_path)
        });
        counted.map(|(_, count)| count).sum()
    }

    pub fn total(&self) -> u64 {
        self.count("*", "*")
    }

    pub fn clear(&self) {
        *self.lock() = Kept::default();
    }

    pub(super) fn note(&self, method: &Method, target: &str, headers: &HeaderMap) -> Arc<Record> {
        let headers = headers.iter().map(|(name, value)| {
            (
                name.as_str().to_owned(),
                Bytes::copy_from_slice(value.as_bytes()),
            )
        });
        let record = Arc::new(Record {
            at: Instant::now(),
            method: method.clone(),
            target: target.to_owned(),
            headers: headers.collect(),
            body: OnceLock::new(),
            received: OnceLock::new(),
            status: OnceLock::new(),
        });
        let mut kept = self.lock();
        if kept.records.len() == RECORDS {
            kept.records.pop_front();
        }
        kept.records.push_back(Arc::clone(&record));
        let key = (method.as_str().to_owned(), record.path().to_owned());
        if kept.counts.len() < PATHS || kept.counts.contains_key(&key) {
            *kept.counts.entry(key).or_default() += 1;
        }
        record
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The first value of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(of_header, _)| of_header.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The whole body, if it came and was small.
    pub fn body(&self) -> Option<&Bytes> {
        self.body.get()
    }

    /// How many bytes of body came; `None` while it was not read to its end.
    pub fn received(&self) -> Option<u64> {
        self.received.get().copied()
    }

    /// The answer's status; `None` while there is none, or when the connection was cut.
    pub fn status(&self) -> Option<StatusCode> {
        self.status.get().copied()
    }

    pub(super) fn note_body(&self, body: &Bytes) {
        self.note_received(u64::try_from(body.len()).unwrap_or(u64::MAX));
        if body.len() <= SMALL_BODY {
            self.body.get_or_init(|| body.clone());
        }
    }

    pub(super) fn note_received(&self, bytes: u64) {
        self.received.get_or_init(|| bytes);
    }

    pub(super) fn note_status(&self, status: StatusCode) {
        self.status.get_or_init(|| status);
    }
}

impl fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLog")
            .field("kept", &self.lock().records.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

const RECORDS: usize = 16_384;
const PATHS: usize = 16_384;
const SMALL_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn counts_by_method_and_glob_outlive_the_records() {
        let log = RequestLog::default();
        for _ in 0..RECORDS + 5 {
            log.note(&Method::GET, "/v1/a?x=1", &HeaderMap::new());
        }
        log.note(&Method::PUT, "/v1/a/b", &HeaderMap::new());
        assert_eq!(log.records().len(), RECORDS);
        assert_eq!(log.count("GET", "/v1/a"), 16_389);
        assert_eq!(log.count("*", "/v1/*"), 16_390);
        assert_eq!(log.matching("PUT", "*").len(), 1);
        log.clear();
        assert_eq!(log.total(), 0);
    }

    #[tokio::test]
    async fn a_record_keeps_the_bytes_and_hides_them() {
        let log = RequestLog::default();
        let mut headers = HeaderMap::new();
        headers.append("x-vault-token", "canary".parse().unwrap());
        let record = log.note(&Method::GET, "/v1//a%2Fb/?", &headers);
        record.note_body(&Bytes::from_static(b"canary"));
        assert_eq!(
            (record.path(), record.header("X-Vault-Token")),
            ("/v1//a%2Fb/", Some("canary"))
        );
        assert_eq!(record.received(), Some(6));
        assert!(!format!("{record:?} {log:?}").contains("canary"));
    }
}
