//! A token that somebody else puts into a file. There is no login: the token is looked up and then kept
//! alive as if it came from one. The file is read anew whenever a login would be due.

use std::path::Path;

use http::StatusCode;

use super::answer::{self, Login};
use super::credential::Credential;
use super::method::{self, Failure};
use crate::config::CredentialSource;
use crate::error::{Error, Result};
use crate::upstream::Upstream;

#[derive(Debug)]
pub(super) struct TokenFile {
    token: Credential,
}

impl TokenFile {
    pub(super) fn new(path: &Path) -> Self {
        let source = CredentialSource::File(path.to_owned());
        Self {
            token: Credential::new("token", source).private(),
        }
    }

    pub(super) async fn log_in(&mut self, upstream: &Upstream) -> Result<Login, Failure> {
        let token = self.token.read().await?;
        let found = match method::look_up(upstream, &token).await {
            Ok(answer) => answer::look_up(&answer),
            Err(error) if error.refused_with() == Some(StatusCode::FORBIDDEN) => Err(Error::new(
                error.kind(),
                format!("{error}; it is expired, revoked or wrong: write a new one there"),
            )),
            Err(error) => Err(error),
        };
        found.map_err(|error| Failure::passing(error.while_doing(&self.token.describe())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeVault, Running, good};
    use crate::config;
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    fn config(path: PathBuf) -> config::AutoAuth {
        config::AutoAuth {
            method: config::Method::TokenFile { path },
            mount_path: "auth/token".to_owned(),
            ..good()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_token_of_the_file_is_looked_up_and_renewed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "hvs.given\n").unwrap();
        let vault = FakeVault::new(100, 100_000);
        vault.issue("hvs.given", 40);
        let mut running = Running::start(&vault, &config(path));
        let token = running.generation(1).await;
        assert!(token.secret.ct_eq("hvs.given") && token.renewable);
        assert_eq!(token.ttl, Duration::from_secs(40));
        sleep(Duration::from_secs(600)).await;
        assert!(!token.life.is_over(Instant::now()));
        assert_eq!((vault.calls("login"), vault.calls("lookup-self")), (0, 1));
        assert_eq!(running.token.borrow().as_ref().unwrap().generation, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_token_again_is_no_new_generation_and_a_new_one_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "hvs.one").unwrap();
        let vault = FakeVault::new(100, 100).not_renewable();
        vault.issue("hvs.one", 1000);
        vault.issue("hvs.two", 1000);
        let mut running = Running::start(&vault, &config(path.clone()));
        let one = running.generation(1).await;
        sleep(Duration::from_secs(900)).await;
        assert_eq!(running.token.borrow().as_ref().unwrap().generation, 1);
        assert!(
            vault.calls("lookup-self") <= 3,
            "{}",
            vault.calls("lookup-self")
        );
        fs::write(&path, "hvs.two").unwrap();
        let two = running.generation(2).await;
        assert!(two.secret.ct_eq("hvs.two"));
        assert!(!one.life.is_over(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_token_in_the_file_is_waited_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "hvs.dead").unwrap();
        let vault = FakeVault::new(100, 1000);
        vault.issue("hvs.alive", 1000);
        let mut running = Running::start(&vault, &config(path.clone()));
        sleep(Duration::from_secs(600)).await;
        let calls = vault.calls("lookup-self");
        assert!((9..=14).contains(&calls), "{calls}");
        let text = running.auth.handle().status().last_error.unwrap().text;
        assert!(
            text.contains(path.to_str().unwrap()) && text.contains("write a new"),
            "{text}"
        );
        assert!(!text.contains("hvs."), "{text}");
        fs::write(&path, "hvs.alive").unwrap();
        running.generation(1).await;
    }
}
