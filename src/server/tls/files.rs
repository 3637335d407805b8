//! A listener's certificate files: what is in them, and whether that has changed.

use std::fs::Metadata;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::pem::{self, Bytes};
use crate::config::{ClientCerts, ListenerTls};
use crate::error::Result;

/// The files that a listener's TLS is made of, under the names of their keys.
#[derive(Debug)]
pub(super) struct Files {
    named: Vec<(&'static str, PathBuf)>,
    hasher: RandomState,
}

/// What is in them.
pub(super) struct Contents {
    pub(super) cert: Bytes,
    pub(super) key: Bytes,
    /// Empty where there is none.
    pub(super) ca: Bytes,
}

/// One look at the files from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    marks: Vec<Option<Mark>>,
    /// Nothing was written so lately that a further write could leave the same mark.
    pub(super) is_settled: bool,
}

/// What changes with a file. The time of the inode is there for who sets the time of the content by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    place: (u64, u64),
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    pub(super) fn of(settings: &ListenerTls) -> Self {
        let mut named = vec![
            (CERT, settings.cert_file.clone()),
            (KEY, settings.key_file.clone()),
        ];
        match &settings.client_certs {
            ClientCerts::Checked { ca_file }
            | ClientCerts::Required {
                ca_file: Some(ca_file),
            } => named.push((CA, ca_file.clone())),
            ClientCerts::Ignored | ClientCerts::Required { ca_file: None } => {}
        }
        Self {
            named,
            hasher: RandomState::new(),
        }
    }

    /// Costs a system call for each file, and reads none.
    pub(super) fn look(&self) -> Look {
        self.look_at(SystemTime::now())
    }

    pub(super) fn look_at(&self, now: SystemTime) -> Look {
        let found: Vec<Option<Metadata>> = self
            .named
            .iter()
            .map(|(_, path)| std::fs::metadata(path).ok())
            .collect();
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let lately = i64::try_from(now.saturating_sub(SETTLED_AFTER).as_secs());
        let lately = lately.unwrap_or(i64::MAX);
        let is_old = |about: &Metadata| about.mtime().max(about.ctime()) < lately;
        Look {
            is_settled: found.iter().flatten().all(is_old),
            marks: found.iter().map(|about| about.as_ref().map(mark)).collect(),
        }
    }

    /// The contents, or why one of them cannot be had; and a number that is another for anything else.
    pub(super) fn read(&self) -> (Result<Contents>, u64) {
        let read: Vec<Result<Bytes>> = self
            .named
            .iter()
            .map(|(key, path)| pem::read(key, path))
            .collect();
        let told: Vec<Result<&[u8], String>> = read
            .iter()
            .map(|one| match one {
                Ok(bytes) => Ok(bytes.as_slice()),
                Err(error) => Err(error.to_string()),
            })
            .collect();
        let number = self.hasher.hash_one(told);
        let mut read = read.into_iter();
        let mut next = || read.next().unwrap_or_else(|| Ok(Bytes::default()));
        let contents = (|| {
            Ok(Contents {
                cert: next()?,
                key: next()?,
                ca: next()?,
            })
        })();
        (contents, number)
    }

    pub(super) fn cert(&self) -> &Path {
        self.named.first().map_or(Path::new(""), |(_, path)| path)
    }
}

fn mark(about: &Metadata) -> Mark {
    Mark {
        place: (about.dev(), about.ino()),
        length: about.len(),
        written: (about.mtime(), about.mtime_nsec()),
        changed: (about.ctime(), about.ctime_nsec()),
    }
}

pub(super) const CERT: &str = "tls_cert_file";
pub(super) const KEY: &str = "tls_key_file";
pub(super) const CA: &str = "tls_client_ca_file";
/// File systems keep times in steps, of up to two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_again_until_nothing_can_have_been_missed() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name| directory.path().join(name);
        for name in ["crt", "key"] {
            fs::write(place(name), "1").unwrap();
        }
        let files = Files::of(&ListenerTls::new(place("crt"), place("key")));
        assert!(!files.look().is_settled);
        let later = SystemTime::now() + Duration::from_secs(10);
        let first = files.look_at(later);
        assert!(first.is_settled);
        assert_eq!(files.look_at(later), first);
        let number = files.read().1;
        assert_eq!(files.read().1, number);
        // As long, and with the time it had: the inode's own time tells.
        let written = fs::metadata(place("key")).unwrap().modified().unwrap();
        fs::write(place("new"), "2").unwrap();
        fs::File::options()
            .write(true)
            .open(place("new"))
            .unwrap()
            .set_modified(written)
            .unwrap();
        fs::rename(place("new"), place("key")).unwrap();
        assert_ne!(files.look_at(later), first);
        assert_ne!(files.read().1, number);
        fs::remove_file(place("key")).unwrap();
        let (contents, missing) = files.read();
        assert!(contents.is_err());
        assert_ne!(missing, number);
        assert_ne!(files.look_at(later), first);
    }
}
