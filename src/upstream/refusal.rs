//! Reading what Vault says when it says no.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), at most five minutes.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(std::time::SystemTime::now())
            .unwrap_or_default(),
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The texts of `{"errors": [...]}` as the tail of a sentence, bounded. Vault's error texts name
/// policies and paths, not values; one that quotes something long is cut.
pub(super) fn reasons(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(body) else {
        return String::new();
    };
    let text = errors.join("; ").replace(['\n', '\t'], " ");
    if text.is_empty() {
        return String::new();
    }
    let short: String = text.chars().take(LONGEST_REASON).collect();
    format!(": {short}")
}

/// The path of a call without what may be secret in it: the lease id at its end.
pub(super) fn shown_path(path: &str) -> &str {
    const BEFORE_A_LEASE_ID: [&str; 2] = ["/v1/sys/leases/renew/", "/v1/sys/leases/revoke/"];
    BEFORE_A_LEASE_ID
        .into_iter()
        .find(|prefix| path.starts_with(prefix))
        .unwrap_or(path)
}

const LONGEST_WAIT: Duration = Duration::from_secs(300);
const LONGEST_REASON: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn reads_seconds_and_dates_and_bounds_both() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("999999999"));
        assert_eq!(retry_after(&headers), Some(LONGEST_WAIT));
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"),
        );
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("soon"));
        assert_eq!(retry_after(&headers), None);
    }

    #[test]
    fn reasons_are_one_bounded_line() {
        assert_eq!(
            reasons(br#"{"errors":["permission denied"]}"#),
            ": permission denied"
        );
        assert_eq!(reasons(b"<html>"), "");
        assert!(
            reasons(format!(r#"{{"errors":["{}"]}}"#, "x".repeat(9999)).as_bytes()).len() < 400
        );
    }
}
