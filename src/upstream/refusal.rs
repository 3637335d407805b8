//! Reading what Vault says when it says no.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Call;

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

/// The texts of `{"errors": [...]}` as the tail of a sentence, bounded, and without anything that `call` carries:
/// a server that quotes the request it refuses must not bring a token or a secret id into our log.
pub(super) fn reasons(body: &[u8], call: &Call<'_>) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(body) else {
        return String::new();
    };
    let mut text = errors.join("; ").replace(['\n', '\t'], " ");
    if text.is_empty() {
        return String::new();
    }
    for secret in carried(call) {
        text = text.replace(secret.as_str(), "***");
    }
    let short: String = text.chars().take(LONGEST_REASON).collect();
    format!(": {short}")
}

/// The texts in a call's body and its token, but for those too short to be secret.
fn carried(call: &Call<'_>) -> Vec<Zeroizing<String>> {
    let mut found: Vec<Zeroizing<String>> = Vec::new();
    if let Some(token) = call.token {
        found.push(Zeroizing::new(token.expose().to_owned()));
    }
    if let Some(body) = &call.body
        && let Ok(fields) = serde_json::from_slice::<HashMap<String, Value>>(body)
    {
        // A role's name is no secret, and may be a word that Vault's reason needs.
        let texts = fields.iter().filter(|(name, _)| *name != "role");
        let texts = texts.filter_map(|(_, value)| value.as_str());
        found.extend(texts.map(|text| Zeroizing::new(text.to_owned())));
    }
    found.retain(|text| text.len() >= SHORTEST_SECRET);
    found
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
const SHORTEST_SECRET: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
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
        let call = Call::new(http::Method::PUT, "/v1/auth/approle/login");
        let said = |body: &str| reasons(body.as_bytes(), &call);
        assert_eq!(
            said(r#"{"errors":["permission denied"]}"#),
            ": permission denied"
        );
        assert_eq!(said("<html>"), "");
        assert!(said(&format!(r#"{{"errors":["{}"]}}"#, "x".repeat(9999))).len() < 400);
    }

    /// A role named "audience" blanked the reason out of "invalid audience claim".
    #[test]
    fn the_name_of_a_role_is_no_secret() {
        let call = Call::new(http::Method::PUT, "/v1/auth/kubernetes/login")
            .body(r#"{"role":"audience","jwt":"JWT-CANARY"}"#);
        let body = br#"{"errors":["invalid audience claim of JWT-CANARY"]}"#;
        assert_eq!(reasons(body, &call), ": invalid audience claim of ***");
    }

    /// A server that quoted the login it refused brought role id, secret id and token into log and status.
    #[test]
    fn a_quoted_request_brings_no_secret() {
        let token = Secret::new("hvs.CANARY");
        let call = Call::new(http::Method::PUT, "/v1/auth/approle/login")
            .token(&token)
            .body(r#"{"role_id":"ROLE-CANARY","secret_id":"SECRET-CANARY","increment":0}"#);
        let body = r#"{"errors":["no: ROLE-CANARY/SECRET-CANARY by hvs.CANARY"]}"#;
        assert_eq!(reasons(body.as_bytes(), &call), ": no: ***/*** by ***");
    }
}
