//! Kubernetes: the token of the pod's service account, which the kubelet replaces in its file well before it
//! ends; so it is read anew at each login, and never remembered.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method as Verb, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::answer::{self, Login};
use super::credential::Credential;
use super::method::{self, Failure};
use crate::config::{self, CredentialSource};
use crate::error::{Error, Kind};
use crate::secret::Secret;
use crate::upstream::{Call, Upstream};

#[derive(Debug)]
pub(super) struct Kubernetes {
    login_path: String,
    role: String,
    jwt: Credential,
}

impl Kubernetes {
    pub(super) fn new(config: &config::Kubernetes, mount_path: &str) -> Self {
        let source = CredentialSource::File(config.token_path.clone());
        Self {
            login_path: method::login_path(mount_path),
            role: config.role.clone(),
            jwt: Credential::new("service account token", source).never_remembered(),
        }
    }

    pub(super) async fn log_in(&mut self, upstream: &Upstream) -> Result<Login, Failure> {
        let jwt = self.jwt.read().await?;
        if !is_jwt(jwt.expose()) {
            return Err(Failure::passing(Error::new(
                Kind::Credentials,
                format!(
                    "the {} is not a whole JWT; was it read while it was being written, or is it another \
                     file's path?",
                    self.jwt.describe()
                ),
            )));
        }
        let body = method::body(&Credentials {
            role: &self.role,
            jwt: jwt.expose(),
        });
        let call = Call::new(Verb::PUT, &self.login_path)
            .first()
            .body(body.map_err(Failure::passing)?);
        let answer = upstream
            .call(call)
            .await
            .map_err(|error| self.refused(&error, &jwt))?;
        answer::login(&answer)
            .map_err(|error| Failure::passing(error.while_doing(&self.login_path)))
    }

    /// Nothing here is hopeless: the file will hold another token, and a role can be made or bound anew.
    fn refused(&self, error: &Error, jwt: &Secret) -> Failure {
        let (role, from) = (&self.role, self.jwt.describe());
        let message = format!("login for the role {role:?} with the {from}: {error}");
        let advice = match error.refused_with() {
            Some(StatusCode::BAD_REQUEST) => {
                "; is there such a role at this mount path? Names count letter by letter"
            }
            Some(StatusCode::FORBIDDEN) => advice(&error.to_string()),
            Some(StatusCode::NOT_FOUND) => "; is the Kubernetes method enabled at this mount path?",
            Some(StatusCode::INTERNAL_SERVER_ERROR) => {
                "; is the method configured at this mount path (kubernetes_host)?"
            }
            _ => "",
        };
        let whose = match Claims::of(jwt) {
            Some(claims) if !advice.is_empty() => format!(" (the token is {claims})"),
            Some(_) | None => String::new(),
        };
        Failure::passing(
            Error::new(error.kind(), format!("{message}{advice}{whose}"))
                .retry_after(error.wait_hint()),
        )
    }
}

#[derive(Serialize)]
struct Credentials<'a> {
    role: &'a str,
    jwt: &'a str,
}

/// By the words in which the method says no.
fn advice(said: &str) -> &'static str {
    if said.contains("not authorized") {
        "; the role is bound to other service accounts or namespaces \
         (bound_service_account_names, bound_service_account_namespaces)"
    } else if said.contains("audience") {
        "; the role expects another audience than the token has: set it on the role, or project a token \
         with that audience and name its file by token_path"
    } else if said.contains("expir") {
        "; the file holds a token that is over: is it a projected one, which the kubelet renews? Are the \
         clocks right?"
    } else {
        "; no such mount path, or Vault could not have the token reviewed: it was taken back (the pod or \
         its service account is gone), or kubernetes_host or token_reviewer_jwt are wrong"
    }
}

/// What an operator wants to know of a JWT, and nothing by which anybody could log in.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audience,
    exp: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Claims {
    fn of(jwt: &Secret) -> Option<Self> {
        let payload = jwt.expose().split('.').nth(1)?;
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        serde_json::from_slice(&payload).ok()
    }
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audience = match &self.aud {
            Audience::One(one) => one.clone(),
            Audience::Many(many) => many.join(", "),
        };
        write!(
            f,
            "of {:?}, for the audience {:?}",
            short(&self.sub),
            short(&audience)
        )?;
        match self
            .exp
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
        {
            Some(end) => write!(f, ", until {end}"),
            None => f.write_str(", without an end"),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST_CLAIM).collect()
}

/// Three parts of base64 (RFC 7515 §3.1): a half-written file is noticed before its content is sent anywhere.
fn is_jwt(text: &str) -> bool {
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        !part.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

const LONGEST_CLAIM: usize = 200;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::sleep;

    use super::super::testing::{FakeVault, Running, good};
    use super::*;

    /// Its signature is `canary`, which is to be seen nowhere.
    fn jwt(claims: &serde_json::Value) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.canary", part("{}"), part(&claims.to_string()))
    }

    fn of_app() -> String {
        jwt(
            &json!({"sub": "system:serviceaccount:default:app", "aud": ["here", "there"], "exp": 86_400}),
        )
    }

    fn config(token_path: PathBuf) -> config::AutoAuth {
        config::AutoAuth {
            method: config::Method::Kubernetes(config::Kubernetes {
                role: "app".to_owned(),
                token_path,
            }),
            mount_path: "auth/kubernetes".to_owned(),
            ..good()
        }
    }

    fn put(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn a_jwt_has_three_parts() {
        for (text, expected) in [
            ("a.b-_9.C", true),
            ("a.b.", false),
            ("a.b", false),
            ("a.b.c.d", false),
            ("a.b=.c", false),
            ("a.b .c", false),
            ("", false),
        ] {
            assert_eq!(is_jwt(text), expected, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_login_reads_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        put(&path, &format!("{}\n", of_app()));
        let vault = FakeVault::new(100, 100).not_renewable();
        let mut running = Running::start(&vault, &config(path.clone()));
        let first = running.generation(1).await;
        assert_eq!(vault.jwts(), [of_app()]);
        let next = jwt(&json!({"sub": "next"}));
        put(&path, &next);
        running.generation(2).await;
        assert_eq!(vault.jwts(), [of_app(), next]);
        assert!(!first.life.is_over(tokio::time::Instant::now()));
        assert_eq!(vault.calls("/v1/auth/kubernetes/login"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_gone_empty_or_half_written_is_waited_for_and_nothing_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let vault = FakeVault::new(100, 100).not_renewable();
        let mut running = Running::start(&vault, &config(path.clone()));
        for (content, expected) in [
            (None, "does not exist"),
            (Some(""), "is empty"),
            (Some("eyJhbGciOiJSUzI1NiJ9.eyJ"), "not a whole JWT"),
            (Some("canary canary canary"), "not a whole JWT"),
        ] {
            if let Some(content) = content {
                put(&path, content);
            }
            sleep(Duration::from_secs(600)).await;
            let said = running.auth.handle().status().last_error.unwrap().text;
            assert!(said.contains(path.to_str().unwrap()), "{said}");
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("canary") && !said.contains("eyJ"), "{said}");
        }
        assert_eq!(vault.calls("login"), 0);
        put(&path, &of_app());
        running.generation(1).await;
        // Unlike a secret id it is not remembered: an old one may be over, and another pod's.
        fs::remove_file(&path).unwrap();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(vault.calls("login"), 1);
        let said = running.auth.handle().status().last_error.unwrap().text;
        assert!(said.contains("does not exist"), "{said}");
        put(&path, &of_app());
        running.generation(2).await;
    }

    /// As the kubelet does it.
    #[tokio::test(start_paused = true)]
    async fn a_projected_volume_is_swapped_by_its_link() {
        let directory = tempfile::tempdir().unwrap();
        let swap = |version: &str, token: &str| {
            fs::create_dir(directory.path().join(version)).unwrap();
            put(&directory.path().join(version).join("token"), token);
            let new = directory.path().join("..data_tmp");
            symlink(version, &new).unwrap();
            fs::rename(new, directory.path().join("..data")).unwrap();
        };
        let path = directory.path().join("token");
        swap("..1", &of_app());
        symlink("..data/token", &path).unwrap();
        let vault = FakeVault::new(100, 100).not_renewable();
        let mut running = Running::start(&vault, &config(path));
        running.generation(1).await;
        let next = jwt(&json!({"sub": "next"}));
        swap("..2", &next);
        fs::remove_dir_all(directory.path().join("..1")).unwrap();
        running.generation(2).await;
        assert_eq!(vault.jwts(), [of_app(), next]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_explained_and_tried_again() {
        let whose =
            r#"of "system:serviceaccount:default:app", for the audience "here, there", until 1970"#;
        for (status, said, parts) in [
            (
                400,
                "invalid role name \"app\"",
                ["such a role at this mount path", whose],
            ),
            (
                403,
                "service account name not authorized",
                ["bound_service_account_names", whose],
            ),
            (
                403,
                "namespace not authorized",
                ["bound_service_account_namespaces", whose],
            ),
            (
                403,
                "invalid audience (aud) claim: audience claim does not match any expected audience",
                ["expects another audience", whose],
            ),
            (
                403,
                "invalid expiration time (exp) claim: token is expired",
                ["token that is over", whose],
            ),
            (
                403,
                "permission denied",
                ["could not have the token reviewed", whose],
            ),
            (
                404,
                "no handler for route",
                ["enabled at this mount path", whose],
            ),
            (
                500,
                "could not load backend configuration",
                ["kubernetes_host", whose],
            ),
            (503, "Vault is sealed", ["503", "sealed"]),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("token");
            put(&path, &of_app());
            let vault = FakeVault::new(100, 1000);
            let errors = json!({"errors": [said]});
            vault.fault(move |_| Some((status, errors.clone())));
            let mut running = Running::start(&vault, &config(path.clone()));
            sleep(Duration::from_secs(60)).await;
            let calls = vault.calls("login");
            assert!((4..=8).contains(&calls), "{calls} in a minute");
            let text = running.auth.handle().status().last_error.unwrap().text;
            let (file, role) = (path.to_str().unwrap(), "the role \"app\"");
            for part in parts.into_iter().chain([file, role, &status.to_string()]) {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!text.contains("canary"), "{text}");
            vault.no_fault();
            running.generation(1).await;
        }
    }
}
