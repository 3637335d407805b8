//! AppRole: a role id and, mostly, a secret id, which may come wrapped.

use bytes::Bytes;
use http::{Method as Verb, StatusCode};
use serde::{Deserialize, Serialize};

use super::answer::{self, Login};
use super::credential::Credential;
use super::method::{self, Failure};
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::upstream::{Call, Upstream};

#[derive(Debug)]
pub(super) struct AppRole {
    login_path: String,
    role_id: Credential,
    /// What its source holds is the wrapping token when there is a `wrapping_path`.
    secret_id: Option<Credential>,
    /// The `creation_path` that a wrapped secret id must have.
    wrapping_path: Option<String>,
    unwrapped: Option<Unwrapped>,
}

/// A wrapping token opens once, so what was in it is kept beside it.
#[derive(Debug)]
struct Unwrapped {
    wrapping: Secret,
    secret_id: Secret,
}

impl AppRole {
    pub(super) fn new(config: &config::AppRole, mount_path: &str) -> Self {
        let secret_id = config.secret_id.clone().map(|source| {
            let remove = config.remove_secret_id_file_after_reading;
            Credential::new("secret id", source)
                .private()
                .removed_after_reading(remove)
        });
        Self {
            login_path: method::login_path(mount_path),
            role_id: Credential::new("role id", config.role_id.clone()),
            secret_id,
            wrapping_path: config.secret_id_response_wrapping_path.clone(),
            unwrapped: None,
        }
    }

    pub(super) async fn log_in(&mut self, upstream: &Upstream) -> Result<Login, Failure> {
        let role_id = self.role_id.read().await?;
        let secret_id = self.secret_id(upstream).await?;
        let call = Call::new(Verb::PUT, &self.login_path)
            .first()
            .body(body(&role_id, secret_id.as_ref()).map_err(Failure::passing)?);
        let answer = upstream
            .call(call)
            .await
            .map_err(|error| self.refused(&error))?;
        answer::login(&answer)
            .map_err(|error| Failure::passing(error.while_doing(&self.login_path)))
    }

    async fn secret_id(&mut self, upstream: &Upstream) -> Result<Option<Secret>, Failure> {
        let Some(source) = &mut self.secret_id else {
            return Ok(None);
        };
        let read = source.read().await?;
        let Some(expected) = &self.wrapping_path else {
            return Ok(Some(read));
        };
        if let Some(known) = &self.unwrapped
            && known.wrapping.ct_eq(read.expose())
        {
            return Ok(Some(known.secret_id.clone()));
        }
        let secret_id = unwrap(upstream, &read, expected).await.map_err(|error| {
            let is_hopeless = source.is_fixed() && is_for_good(&error);
            Failure {
                error: error.while_doing(&format!("wrapped {}", source.describe())),
                is_hopeless,
            }
        })?;
        self.unwrapped = Some(Unwrapped {
            wrapping: read,
            secret_id: secret_id.clone(),
        });
        Ok(Some(secret_id))
    }

    fn refused(&self, error: &Error) -> Failure {
        let mut from = self.role_id.describe();
        if let Some(secret_id) = &self.secret_id {
            from = format!("{from} and {}", secret_id.describe());
        }
        let advice = match error.refused_with() {
            Some(StatusCode::BAD_REQUEST) => "; they are wrong, used up or expired",
            // Vault's words for both are the same.
            Some(StatusCode::FORBIDDEN) => {
                "; no such mount path, or the role is locked for some minutes after failed logins"
            }
            Some(StatusCode::NOT_FOUND) => "; is the AppRole method enabled at this mount path?",
            _ => "",
        };
        let is_fixed =
            self.role_id.is_fixed() && self.secret_id.as_ref().is_none_or(Credential::is_fixed);
        Failure {
            error: Error::new(
                error.kind(),
                format!("login with the {from}: {error}{advice}"),
            )
            .retry_after(error.wait_hint()),
            is_hopeless: is_fixed && is_for_good(error),
        }
    }
}

/// Would the same credentials be refused again?
fn is_for_good(error: &Error) -> bool {
    match error.kind() {
        Kind::Refused(status) => {
            matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
        }
        Kind::Credentials => true,
        Kind::Unreachable
        | Kind::Deadline
        | Kind::NoToken
        | Kind::Busy
        | Kind::BadRequest
        | Kind::TooLarge
        | Kind::NotAdmitted(_)
        | Kind::BadAnswer
        | Kind::File
        | Kind::Bind
        | Kind::Stopping
        | Kind::Internal => false,
    }
}

/// Checks where the wrapping token was made before it is opened, so that a planted one is noticed.
async fn unwrap(upstream: &Upstream, wrapping: &Secret, expected: &str) -> Result<Secret> {
    let look_up = Call::new(Verb::GET, "/v1/sys/wrapping/lookup")
        .first()
        .token(wrapping);
    let answer = upstream
        .call(look_up)
        .await
        .map_err(|error| spent(&error))?;
    let Wrapped { data } = serde_json::from_slice(&answer.body).map_err(|_| {
        Error::new(
            Kind::BadAnswer,
            "the look-up of the wrapping token was answered without creation_path",
        )
    })?;
    if data.creation_path != expected {
        tracing::error!(
            expected,
            found = data.creation_path,
            "the wrapping token was not made where secret_id_response_wrapping_path says; \
             somebody may have put it there to catch or replace the secret id"
        );
        return Err(Error::new(
            Kind::Credentials,
            format!(
                "the wrapping token was made at {:?}, not at {expected:?} \
                 (secret_id_response_wrapping_path); it was not opened, in case it was planted",
                data.creation_path
            ),
        ));
    }
    let open = Call::new(Verb::PUT, "/v1/sys/wrapping/unwrap")
        .first()
        .token(wrapping);
    let answer = upstream.call(open).await.map_err(|error| spent(&error))?;
    let Unwrapping { data } = serde_json::from_slice(&answer.body).map_err(|_| {
        Error::new(
            Kind::BadAnswer,
            "there is no secret_id in what the wrapping token held",
        )
    })?;
    Ok(data.secret_id.into())
}

#[derive(Deserialize)]
struct Wrapped {
    data: Creation,
}

#[derive(Deserialize)]
struct Creation {
    creation_path: String,
}

#[derive(Deserialize)]
struct Unwrapping {
    data: SecretId,
}

#[derive(Deserialize)]
struct SecretId {
    secret_id: String,
}

fn spent(error: &Error) -> Error {
    let advice = match error.refused_with() {
        Some(StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) => {
            "; it is expired, or was opened before: if not by this process, treat the secret id \
             as stolen; a new wrapping token is needed"
        }
        _ => "",
    };
    Error::new(error.kind(), format!("{error}{advice}")).retry_after(error.wait_hint())
}

fn body(role_id: &Secret, secret_id: Option<&Secret>) -> Result<Bytes> {
    #[derive(Serialize)]
    struct Credentials<'a> {
        role_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret_id: Option<&'a str>,
    }
    let credentials = Credentials {
        role_id: role_id.expose(),
        secret_id: secret_id.map(Secret::expose),
    };
    method::body(&credentials)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeVault, Running, approle, in_files, variable};
    use super::*;
    use std::fs;
    use std::time::Duration;
    use tokio::time::sleep;

    const CREATED_AT: &str = "auth/approle/role/app/secret-id";

    fn wrapped(
        mut config: config::AutoAuth,
        creation_path: &str,
        remove: bool,
    ) -> config::AutoAuth {
        if let config::Method::AppRole(approle) = &mut config.method {
            approle.secret_id_response_wrapping_path = Some(creation_path.to_owned());
            approle.remove_secret_id_file_after_reading = remove;
        }
        config
    }

    #[test]
    fn the_body_is_json_whatever_the_ids_hold() {
        let (role_id, secret_id) = (Secret::new("a\"b\\"), Secret::new("\u{1}ü"));
        let read = |bytes: &Bytes| -> serde_json::Value { serde_json::from_slice(bytes).unwrap() };
        let both = read(&body(&role_id, Some(&secret_id)).unwrap());
        assert_eq!(
            both,
            serde_json::json!({"role_id": "a\"b\\", "secret_id": "\u{1}ü"})
        );
        let one = read(&body(&role_id, None).unwrap());
        assert_eq!(one, serde_json::json!({"role_id": "a\"b\\"}));
    }

    #[test]
    fn a_mount_path_with_odd_characters_is_a_path() {
        let source = variable("ROLE_ID", "role");
        let config = config::AppRole {
            role_id: source,
            secret_id: None,
            remove_secret_id_file_after_reading: true,
            secret_id_response_wrapping_path: None,
        };
        let path = |mount| AppRole::new(&config, mount).login_path;
        assert_eq!(path("auth/approle"), "/v1/auth/approle/login");
        assert_eq!(path("auth/a b/c?d%"), "/v1/auth/a%20b/c%3Fd%25/login");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrapped_secret_id_is_unwrapped_once_for_all_logins() {
        for remove in [true, false] {
            let vault = FakeVault::new(100, 100);
            let (config, files) = in_files("role", "wrapped\n");
            let config = wrapped(config, CREATED_AT, remove);
            let mut running = Running::start(&vault, &config);
            running.generation(3).await;
            assert_eq!(vault.calls("approle/login"), 3);
            assert_eq!(
                (
                    vault.calls("wrapping/lookup"),
                    vault.calls("wrapping/unwrap")
                ),
                (1, 1)
            );
            assert_eq!(files.path().join("secret-id").exists(), !remove);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_login_after_unwrapping_does_not_unwrap_again() {
        let vault = FakeVault::new(100, 1000);
        vault.fault(|path| {
            path.ends_with("login")
                .then(|| (500, serde_json::json!({})))
        });
        let (config, _files) = in_files("role", "wrapped");
        let mut running = Running::start(&vault, &wrapped(config, CREATED_AT, true));
        sleep(Duration::from_secs(60)).await;
        vault.no_fault();
        running.generation(1).await;
        assert_eq!(vault.calls("wrapping/unwrap"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrapping_token_made_elsewhere_is_not_opened() {
        let vault = FakeVault::new(100, 1000);
        let (config, _files) = in_files("role", "wrapped");
        let mut config = wrapped(config, "auth/approle/role/other/secret-id", true);
        config.exit_on_err = true;
        let error = Running::start(&vault, &config).fatal().await;
        assert_eq!(error.kind(), Kind::Credentials);
        assert!(error.to_string().contains(CREATED_AT), "{error}");
        assert_eq!((vault.calls("unwrap"), vault.calls("login")), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_wrapping_token_is_called_that_and_a_new_one_is_taken() {
        let vault = FakeVault::new(100, 1000);
        let (config, files) = in_files("role", "spent");
        let mut running = Running::start(&vault, &wrapped(config, CREATED_AT, false));
        sleep(Duration::from_secs(60)).await;
        let text = running.auth.handle().status().last_error.unwrap().text;
        assert!(
            text.contains("opened before") && text.contains("secret-id"),
            "{text}"
        );
        assert_eq!(vault.calls("login"), 0);
        fs::write(files.path().join("secret-id"), "wrapped").unwrap();
        running.generation(1).await;
        // From a variable it cannot get better.
        let config = approle(variable("ROLE_ID", "role"), variable("SECRET_ID", "spent"));
        let running = Running::start(&vault, &wrapped(config, CREATED_AT, true));
        let error = running.fatal().await;
        assert!(error.to_string().contains("SECRET_ID"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_role_id_is_read_anew_and_remembered_when_it_is_gone() {
        let vault = FakeVault::new(100, 100);
        let (config, files) = in_files("role", "secret");
        let mut running = Running::start(&vault, &config);
        running.generation(1).await;
        assert!(!files.path().join("secret-id").exists());
        fs::remove_file(files.path().join("role-id")).unwrap();
        running.generation(2).await;
        fs::write(files.path().join("role-id"), "another").unwrap();
        sleep(Duration::from_secs(100)).await;
        let text = running.auth.handle().status().last_error.unwrap().text;
        assert!(
            text.contains("role-id") && text.contains("invalid role"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_mount_is_named() {
        let vault = FakeVault::new(100, 100);
        let (config, _files) = in_files("role", "secret");
        let config = config::AutoAuth {
            mount_path: "auth/nowhere".to_owned(),
            exit_on_err: true,
            ..config
        };
        let error = Running::start(&vault, &config).fatal().await.to_string();
        assert!(
            error.contains("/v1/auth/nowhere/login") && error.contains("enabled"),
            "{error}"
        );
    }
}
