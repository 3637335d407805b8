//! Reading what Vault answers to a login, a renewal or a look-up of a token.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::plan::Grant;
use crate::error::{Error, Kind, Result};
use crate::life;
use crate::secret::Secret;
use crate::upstream::Answer;
use crate::vault::envelope::Envelope;

/// A token as a login brought it. A TTL of zero: it never ends.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) secret: Secret,
    pub(super) accessor: Option<Secret>,
    pub(super) grant: Grant,
    /// The token dies after so many uses; zero: it does not.
    pub(super) uses: u64,
}

/// # Errors
/// `BadAnswer` for everything that brings no usable token.
pub(super) fn login(answer: &Answer) -> Result<Login> {
    let envelope = Envelope::read(&answer.body).ok_or_else(|| {
        bad("the login's answer is not Vault's JSON; is the address that of a Vault?")
    })?;
    if envelope.is_wrapped {
        return Err(bad(
            "the login was answered with a wrapped token, which cannot be used; does something on \
             the way add a wrap TTL?",
        ));
    }
    let extra = AuthExtra::read(&answer.body);
    let auth = envelope
        .auth
        .ok_or_else(|| bad("the login was answered without a token; is the mount path right?"))?;
    if auth.client_token.is_empty() {
        return Err(bad(if extra.mfa_requirement.is_some() {
            "the login needs a second factor, which nobody is there to give; exempt this role \
             from the login MFA enforcement"
        } else {
            "the login was answered with an empty token"
        }));
    }
    Ok(Login {
        secret: auth.client_token.into_owned().into(),
        accessor: some(auth.accessor.into_owned()),
        grant: Grant {
            asked_at: answer.asked_at,
            ttl: auth
                .lease_duration
                .map_or(Duration::ZERO, |s| s.value)
                .min(life::LONGEST),
            renewable: auth.renewable,
        },
        uses: extra.num_uses.unwrap_or(0),
    })
}

/// # Errors
/// `BadAnswer` where there is no grant in it.
pub(super) fn renewal(answer: &Answer) -> Result<Grant> {
    let envelope = Envelope::read(&answer.body)
        .ok_or_else(|| bad("the renewal's answer is not Vault's JSON"))?;
    let auth = envelope
        .auth
        .ok_or_else(|| bad("the renewal was answered without `auth`"))?;
    let ttl = auth
        .lease_duration
        .ok_or_else(|| bad("the renewal was answered without a lease_duration"))?;
    Ok(Grant {
        asked_at: answer.asked_at,
        ttl: ttl.value.min(life::LONGEST),
        renewable: auth.renewable,
    })
}

/// A `lookup-self` as if it had been a login.
///
/// # Errors
/// `BadAnswer` where it does not describe a token.
pub(super) fn look_up(answer: &Answer) -> Result<Login> {
    #[derive(Deserialize)]
    struct LookUp {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        id: String,
        accessor: Option<String>,
        ttl: u64,
        renewable: Option<bool>,
        num_uses: Option<u64>,
    }
    let LookUp { data } = serde_json::from_slice(&answer.body)
        .map_err(|_| bad("the look-up's answer does not describe a token"))?;
    if data.id.is_empty() {
        return Err(bad("the look-up was answered with an empty token"));
    }
    Ok(Login {
        secret: data.id.into(),
        accessor: some(data.accessor.unwrap_or_default()),
        grant: Grant {
            asked_at: answer.asked_at,
            ttl: Duration::from_secs(data.ttl).min(life::LONGEST),
            renewable: data.renewable.unwrap_or(false),
        },
        uses: data.num_uses.unwrap_or(0),
    })
}

fn bad(message: &str) -> Error {
    Error::new(Kind::BadAnswer, message)
}

fn some(text: String) -> Option<Secret> {
    (!text.is_empty()).then(|| text.into())
}

/// What only auto-auth wants to know of `auth`.
#[derive(Deserialize, Default)]
struct AuthExtra {
    mfa_requirement: Option<IgnoredAny>,
    num_uses: Option<u64>,
}

impl AuthExtra {
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Outer {
            auth: AuthExtra,
        }
        serde_json::from_slice(body).map_or_else(|_| Self::default(), |outer: Outer| outer.auth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use tokio::time::Instant;

    fn answer(body: &str) -> Answer {
        Answer {
            status: StatusCode::OK,
            body: body.to_owned().into(),
            asked_at: Instant::now(),
        }
    }

    #[test]
    fn a_login_brings_a_token() {
        let login = login(&answer(
            r#"{"auth":{"client_token":"hvs.t","accessor":"a","lease_duration":60,"renewable":true,
                "num_uses":3,"mfa_requirement":null}}"#,
        ))
        .unwrap();
        assert!(login.secret.ct_eq("hvs.t") && login.accessor.unwrap().ct_eq("a"));
        assert_eq!(login.grant.ttl, Duration::from_secs(60));
        assert!(login.grant.renewable);
        assert_eq!(login.uses, 3);
    }

    #[test]
    fn answers_without_a_token_say_what_is_wrong() {
        for (body, expected) in [
            ("<html>", "not Vault's JSON"),
            ("{}", "without a token"),
            (r#"{"auth":null}"#, "without a token"),
            (r#"{"auth":{"client_token":""}}"#, "empty token"),
            (r#"{"auth":{}}"#, "empty token"),
            (r#"{"wrap_info":{"token":"hvs.canary"}}"#, "wrapped"),
            (
                r#"{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"canary"}}}"#,
                "second factor",
            ),
        ] {
            let error = login(&answer(body)).unwrap_err();
            assert_eq!(error.kind(), Kind::BadAnswer);
            assert!(error.to_string().contains(expected), "{body}: {error}");
            assert!(!error.to_string().contains("canary"));
        }
        for body in ["", "{}", r#"{"auth":{"client_token":"x"}}"#] {
            assert!(renewal(&answer(body)).is_err(), "{body}");
        }
        for body in [
            "",
            "{}",
            r#"{"data":{"id":"","ttl":1}}"#,
            r#"{"data":{"id":"x"}}"#,
        ] {
            assert!(look_up(&answer(body)).is_err(), "{body}");
        }
    }

    #[test]
    fn a_life_of_centuries_is_believed_for_ten_years() {
        let body = r#"{"auth":{"client_token":"t","lease_duration":9223372036854775807}}"#;
        assert_eq!(login(&answer(body)).unwrap().grant.ttl, life::LONGEST);
    }
}
