//! The headers of stored answers. Nearly all answers of a Vault have the same ones, which then lie here once: a map
//! of its own for each would be half of what a small entry costs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{AGE, CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::vault::headers::X_CACHE;

/// Remembers the sets used last.
#[derive(Debug, Default)]
pub(super) struct HeaderSets {
    recent: Mutex<VecDeque<Arc<HeaderMap>>>,
}

impl HeaderSets {
    /// An answer's headers as a hit sends them; `Age` is set then.
    pub(super) fn keep(&self, headers: &HeaderMap) -> Arc<HeaderMap> {
        let mut kept = HeaderMap::with_capacity(headers.len() + 2);
        for (name, value) in headers.iter().filter(|(name, _)| !is_per_transfer(name)) {
            kept.append(name, on_its_own(value));
        }
        kept.insert(X_CACHE, HeaderValue::from_static("HIT"));
        kept.insert(AGE, HeaderValue::from_static("0"));
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|known| **known == kept)
            && let Some(known) = recent.remove(at)
        {
            recent.push_front(Arc::clone(&known));
            return known;
        }
        let kept = Arc::new(kept);
        recent.push_front(Arc::clone(&kept));
        recent.truncate(REMEMBERED);
        kept
    }
}

/// What hyper hands out are views of the buffers it reads into, eight KiB and more each: kept as they come,
/// a small answer would keep two of them.
pub(super) fn on_its_own(value: &HeaderValue) -> HeaderValue {
    let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) else {
        return value.clone();
    };
    copy.set_sensitive(value.is_sensitive());
    copy
}

/// Headers that belong to one transfer, not to the answer.
fn is_per_transfer(name: &HeaderName) -> bool {
    *name == DATE
        || *name == CONTENT_LENGTH
        || *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == AGE
        || *name == X_CACHE
}

const REMEMBERED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_headers_are_kept_once_and_few_are_remembered() {
        let sets = HeaderSets::default();
        let of = |text: &str, date: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("server", HeaderValue::from_str(text).unwrap());
            headers.insert(DATE, HeaderValue::from_static(date));
            sets.keep(&headers)
        };
        let first = of("a", "Mon");
        assert!(Arc::ptr_eq(&first, &of("a", "Tue")));
        assert!(!Arc::ptr_eq(&first, &of("b", "Mon")));
        for number in 0..REMEMBERED {
            of(&number.to_string(), "Mon");
        }
        assert!(!Arc::ptr_eq(&first, &of("a", "Mon")));
        assert_eq!(sets.recent.lock().unwrap().len(), REMEMBERED);
    }
}
