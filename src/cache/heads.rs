//! The headers of stored answers. Those of one Vault are the same for nearly all, and a map of them is larger
//! than most secrets: equal ones are kept once.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{AGE, CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::vault::headers::X_CACHE;

/// Those that were met last.
#[derive(Debug, Default)]
pub(super) struct Heads {
    met: Mutex<Vec<Arc<HeaderMap>>>,
}

impl Heads {
    /// Of an answer's headers, those that a hit sends; `Age` is to be set then.
    pub(super) fn of_hit(&self, answer: &HeaderMap) -> Arc<HeaderMap> {
        let mut head = HeaderMap::with_capacity(answer.len() + 2);
        for (name, value) in answer.iter().filter(|(name, _)| !is_per_transfer(name)) {
            head.append(name, on_its_own(value));
        }
        head.insert(X_CACHE, HeaderValue::from_static("HIT"));
        head.insert(AGE, HeaderValue::from_static("0"));
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = met.iter().find(|known| ***known == head) {
            return Arc::clone(known);
        }
        if met.len() >= REMEMBERED {
            met.remove(0);
        }
        let head = Arc::new(head);
        met.push(Arc::clone(&head));
        head
    }
}

/// A copy: what hyper hands out are views of the buffers it reads into, eight KiB and more each. Kept as they
/// come, a small answer would keep two of them.
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

const REMEMBERED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tag: u32) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from(tag));
        headers.insert("x-tag", HeaderValue::from(tag));
        headers
    }

    #[test]
    fn equal_heads_are_kept_once_and_only_so_many_are_remembered() {
        let heads = Heads::default();
        let first = heads.of_hit(&answer(0));
        let mut later = answer(0);
        later.insert(DATE, HeaderValue::from_static("later"));
        assert!(Arc::ptr_eq(&first, &heads.of_hit(&later)));
        for tag in 1..=100 {
            assert_eq!(heads.of_hit(&answer(tag))["x-tag"], tag.to_string());
        }
        assert_eq!(heads.met.lock().unwrap().len(), REMEMBERED);
        assert!(!Arc::ptr_eq(&first, &heads.of_hit(&later)));
    }
}
