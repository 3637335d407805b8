//! One credential of a login: in a file, which may change or vanish, or in a variable, which cannot.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::method::Failure;
use crate::config::CredentialSource;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// See the module's text. What was read once is remembered, and used while the file is gone or empty.
#[derive(Debug)]
pub(super) struct Credential {
    /// Its name in messages: "role id".
    what: &'static str,
    source: CredentialSource,
    /// Remove the file once it has been read.
    remove: bool,
    /// Others on this machine have no business with it, so a file open to them is worth a warning.
    is_private: bool,
    remembered: Option<Secret>,
    /// It ends by itself: what was read earlier is no substitute.
    is_fleeting: bool,
    has_warned_of_mode: bool,
    has_warned_of_removal: bool,
}

impl Credential {
    pub(super) fn new(what: &'static str, source: CredentialSource) -> Self {
        Self {
            what,
            source,
            remove: false,
            is_private: false,
            remembered: None,
            is_fleeting: false,
            has_warned_of_mode: false,
            has_warned_of_removal: false,
        }
    }

    pub(super) fn private(mut self) -> Self {
        self.is_private = true;
        self
    }

    pub(super) fn never_remembered(mut self) -> Self {
        self.is_fleeting = true;
        self
    }

    pub(super) fn removed_after_reading(mut self, remove: bool) -> Self {
        self.remove = remove;
        self
    }

    /// "role id from the file /x": for messages.
    pub(super) fn describe(&self) -> String {
        match &self.source {
            CredentialSource::File(path) => {
                format!("{} from the file {}", self.what, path.display())
            }
            CredentialSource::Env { name, .. } => {
                format!("{} from the variable {name}", self.what)
            }
        }
    }

    /// It will be the same as long as this process lives.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.source, CredentialSource::Env { .. })
    }

    /// Its present value, trimmed, never empty.
    ///
    /// # Errors
    /// A missing or empty variable is hopeless; a missing, empty or unreadable file is not.
    pub(super) async fn read(&mut self) -> Result<Secret, Failure> {
        match &self.source {
            CredentialSource::Env { name, value } => self.read_variable(name, value.as_ref()),
            CredentialSource::File(path) => {
                let path = path.clone();
                self.read_file(path).await.map_err(Failure::passing)
            }
        }
    }

    fn read_variable(&self, name: &str, value: Option<&Secret>) -> Result<Secret, Failure> {
        let wrong = |how: &str| {
            Failure::hopeless(Error::new(
                Kind::Credentials,
                format!(
                    "the {} is to come from the variable {name}, which is {how}; set it and \
                     start again",
                    self.what
                ),
            ))
        };
        let value = value.ok_or_else(|| wrong("not set"))?;
        let text = value.expose().trim();
        if text.is_empty() {
            return Err(wrong("empty"));
        }
        Ok(Secret::new(text))
    }

    async fn read_file(&mut self, path: PathBuf) -> Result<Secret> {
        let (at, remove) = (path.clone(), self.remove);
        let reading = tokio::task::spawn_blocking(move || Found::read(&at, remove));
        let found = match timeout(FILE_DEADLINE, reading).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err("could not be read".to_owned()),
            Err(_) => Err("could not be read in time".to_owned()),
        };
        match (found, &self.remembered) {
            (Ok(found), _) => {
                self.warn_once(&path, &found);
                if !self.is_fleeting {
                    self.remembered = Some(found.text.clone());
                }
                Ok(found.text)
            }
            (Err(_), Some(remembered)) => Ok(remembered.clone()),
            (Err(how), None) => Err(Error::new(
                Kind::Credentials,
                format!("the {} file {} {how}", self.what, path.display()),
            )),
        }
    }

    fn warn_once(&mut self, path: &Path, found: &Found) {
        if self.is_private && found.is_open_to_others && !self.has_warned_of_mode {
            self.has_warned_of_mode = true;
            tracing::warn!(
                file = %path.display(),
                "others on this machine can read the {}; make the file 0600",
                self.what
            );
        }
        if let Some(error) = &found.not_removed
            && !self.has_warned_of_removal
        {
            self.has_warned_of_removal = true;
            tracing::warn!(
                file = %path.display(),
                %error,
                "the {} could not be removed after reading; remove it, or set \
                 remove_secret_id_file_after_reading = false",
                self.what
            );
        }
    }
}

/// A file that was read.
struct Found {
    text: Secret,
    is_open_to_others: bool,
    not_removed: Option<io::Error>,
}

impl Found {
    /// The error is the rest of a sentence that begins with the file's name.
    fn read(path: &Path, remove: bool) -> Result<Self, String> {
        let unreadable = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound {
                return "does not exist; write it there".to_owned();
            }
            format!("cannot be read: {error}")
        };
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode();
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_FILE));
        let limit = u64::try_from(LARGEST_FILE).unwrap_or(u64::MAX);
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() == LARGEST_FILE {
            return Err("is far too large for a credential".to_owned());
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| "is not a text".to_owned())?
            .trim();
        if text.is_empty() {
            return Err("is empty; write it there".to_owned());
        }
        Ok(Self {
            text: Secret::new(text),
            is_open_to_others: mode & 0o077 != 0,
            not_removed: remove.then(|| fs::remove_file(path).err()).flatten(),
        })
    }
}

/// Room for any token or JWT.
const LARGEST_FILE: usize = 64 * 1024;
/// A file on a dead network disk must not stop the loop for good.
const FILE_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(path: &Path) -> Credential {
        Credential::new("secret id", CredentialSource::File(path.to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_trimmed_read_anew_and_remembered_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret-id");
        let mut credential = file(&path);
        let missing = credential.read().await.unwrap_err();
        assert!(!missing.is_hopeless);
        assert!(
            missing.error.to_string().contains(path.to_str().unwrap()),
            "{missing:?}"
        );
        assert!(
            missing.error.to_string().contains("does not exist"),
            "{missing:?}"
        );
        fs::write(&path, " \n").unwrap();
        let empty = credential.read().await.unwrap_err();
        assert!(empty.error.to_string().contains("is empty"), "{empty:?}");
        fs::write(&path, " one\n").unwrap();
        assert!(credential.read().await.unwrap().ct_eq("one"));
        fs::write(&path, "two").unwrap();
        assert!(credential.read().await.unwrap().ct_eq("two"));
        fs::write(&path, "").unwrap();
        assert!(credential.read().await.unwrap().ct_eq("two"));
        fs::remove_file(&path).unwrap();
        assert!(credential.read().await.unwrap().ct_eq("two"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_removed_only_after_it_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret-id");
        let mut credential = file(&path).removed_after_reading(true);
        fs::write(&path, "\n").unwrap();
        assert!(credential.read().await.is_err());
        assert!(path.exists());
        fs::write(&path, "one").unwrap();
        assert!(credential.read().await.unwrap().ct_eq("one"));
        assert!(!path.exists());
        assert!(credential.read().await.unwrap().ct_eq("one"));
        fs::write(&path, "two").unwrap();
        let mut kept = file(&path);
        kept.read().await.unwrap();
        assert!(path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_open_to_others_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret-id");
        fs::write(&path, "x").unwrap();
        for (mode, expected) in [(0o600, false), (0o640, true), (0o604, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut credential = file(&path).private();
            credential.read().await.unwrap();
            assert_eq!(credential.has_warned_of_mode, expected, "{mode:o}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn huge_and_binary_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret-id");
        for (content, expected) in [
            (vec![b'x'; LARGEST_FILE], "too large"),
            (vec![0xff, 0xfe], "not a text"),
        ] {
            fs::write(&path, content).unwrap();
            let error = file(&path).read().await.unwrap_err().error;
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn a_variable_that_is_missing_or_empty_is_hopeless_and_named() {
        for value in [None, Some(Secret::new("")), Some(Secret::new(" \n"))] {
            let name = "VAULT_ROLE_ID".to_owned();
            let mut credential = Credential::new("role id", CredentialSource::Env { name, value });
            let failure = credential.read().await.unwrap_err();
            assert!(failure.is_hopeless);
            assert_eq!(failure.error.kind(), Kind::Credentials);
            assert!(failure.error.to_string().contains("VAULT_ROLE_ID"));
        }
    }
}
