//! The file that tells others which process this is, for as long as it runs.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// Removed when it is dropped, unless another process has put its own id there by then.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    pub(super) fn write(path: &Path) -> Result<Self> {
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path);
        let written = open.and_then(|mut file| {
            // One that a crash left behind keeps its mode otherwise.
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(own_id().as_bytes())
        });
        written.map_err(|error| {
            Error::new(
                Kind::File,
                format!("pid_file {} cannot be written: {error}", path.display()),
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|id| id != own_id()) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "pid_file was not removed");
        }
    }
}

fn own_id() -> String {
    format!("{}\n", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_while_the_process_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        fs::write(&path, "4194304\nfrom before").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        let error = PidFile::write(&directory.path().join("no/such/pid")).unwrap_err();
        assert!(error.to_string().contains("no/such/pid"));
    }
}
