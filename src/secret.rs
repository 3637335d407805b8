//! The one type that holds a secret: tokens, accessors, secret ids, lease ids, credential bodies.
//!
//! It deliberately has no `Display`, no `Serialize` and no `PartialEq`: a secret can be shown, written
//! or compared only by somebody who typed `expose()` or `ct_eq()`, and both can be searched for.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text. Cloning shares the one copy; the last clone's drop wipes it.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The secret itself. Every call of this is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// As the value of a header, marked so that nobody prints it. `None` where no header can carry it.
    pub fn to_header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Equality in constant time, so that the answer's speed tells nothing.
    pub fn ct_eq(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_secret() {
        let secret = Secret::new("hvs.canary");
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(***) Secret(***)");
    }

    #[test]
    fn compares_by_content() {
        assert!(Secret::new("a").ct_eq("a"));
        assert!(!Secret::new("a").ct_eq("b"));
        assert!(!Secret::new("a").ct_eq("aa"));
    }
}
