//! Replacing a file in one step: whoever reads it sees all of the old or all of the new content.
//!
//! Never, not even for a moment and under no umask, is the content open to more readers than the mode
//! says: it is written to a new file that only we can read, in the same directory; group, mode and owner
//! are set before it gets its name.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::config::Sink;
use crate::error::{Error, Kind, Result};

/// # Errors
/// `Kind::File`, naming the file, the step that failed and what to do.
pub(super) fn replace(sink: &Sink, content: &[u8]) -> Result<()> {
    let mut temporary = Temporary::create(sink)?;
    temporary.fill(sink, content)?;
    temporary.become_target(sink)?;
    sync_directory(directory_of(&sink.path)).map_err(|error| failed(sink, "sync", &error))
}

/// Does all but the last step, with no content: so that what can never work is known at start.
///
/// # Errors
/// As `replace`.
pub(super) fn probe(sink: &Sink) -> Result<()> {
    let is_directory = fs::symlink_metadata(&sink.path).is_ok_and(|found| found.is_dir());
    if is_directory || sink.path.file_name().is_none() {
        return Err(Error::new(
            Kind::File,
            format!(
                "sink {}: this is a directory; name a file in it",
                sink.path.display()
            ),
        ));
    }
    Temporary::create(sink)?.fill(sink, b"")
}

/// A new file beside the target; removed when it is dropped, unless it became the target.
struct Temporary {
    file: File,
    path: PathBuf,
    is_target: bool,
}

impl Temporary {
    fn create(sink: &Sink) -> Result<Self> {
        let path = temporary_name(&sink.path);
        // `create_new` is O_EXCL: neither an existing file nor a symbolic link is followed.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(sink.mode & 0o600)
            .open(&path)
            .map_err(|error| failed(sink, "create a file beside it", &error))?;
        Ok(Self {
            file,
            path,
            is_target: false,
        })
    }

    fn fill(&mut self, sink: &Sink, content: &[u8]) -> Result<()> {
        let step = |what| move |error: io::Error| failed(sink, what, &error);
        self.file.write_all(content).map_err(step("write"))?;
        // The group before the mode, or the wrong group could read; the owner last, since then the file
        // is no longer ours to change.
        if sink.gid.is_some() {
            fchown(&self.file, None, sink.gid).map_err(step("set the group"))?;
        }
        let mode = Permissions::from_mode(sink.mode);
        self.file
            .set_permissions(mode)
            .map_err(step("set the mode"))?;
        if sink.uid.is_some() {
            fchown(&self.file, sink.uid, None).map_err(step("set the owner"))?;
        }
        self.file.sync_all().map_err(step("sync"))
    }

    fn become_target(&mut self, sink: &Sink) -> Result<()> {
        fs::rename(&self.path, &sink.path)
            .map_err(|error| failed(sink, "put the new file in place", &error))?;
        self.is_target = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_target {
            // Nothing better can be done about it here, and the write's own error is on its way.
            let _kept = fs::remove_file(&self.path);
        }
    }
}

fn temporary_name(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    // A name of the longest length has no room for more.
    let stem: String = target.file_name().map_or_else(String::new, |name| {
        name.to_string_lossy().chars().take(40).collect()
    });
    name.push(format!("{stem}.{:016x}.tmp", fastrand::u64(..)));
    directory_of(target).join(name)
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the new name last through a power cut.
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Some directories may be written but not read, and some file systems cannot.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn failed(sink: &Sink, what: &str, error: &io::Error) -> Error {
    let directory = directory_of(&sink.path).display();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the system has more errors than there is advice"
    )]
    let advice = match error.kind() {
        io::ErrorKind::NotFound => format!("create the directory {directory}"),
        io::ErrorKind::PermissionDenied if what.starts_with("set the ") => {
            "only root may give files away: run as root, or drop uid and gid".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("let the user that runs Leasehold write to {directory}")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{directory} must be writable, for instance a tmpfs")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there".to_owned(),
        io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices => {
            format!("the file is a mount point itself: mount {directory} instead")
        }
        _ => format!("see to {directory}"),
    };
    Error::new(
        Kind::File,
        format!(
            "sink {}: cannot {what}: {error}; {advice}",
            sink.path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn sink(path: &Path, mode: u32) -> Sink {
        Sink {
            path: path.to_owned(),
            mode,
            uid: None,
            gid: None,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_content_is_replaced_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let sink = sink(&path, 0o640);
        probe(&sink).unwrap();
        assert_eq!(names(directory.path()), Vec::<String>::new());
        for content in ["first", "second, longer", "3"] {
            replace(&sink, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(names(directory.path()), ["token"]);
        }
    }

    /// Under the umask of whoever runs the test: see the next one.
    #[test]
    fn the_mode_is_exact_and_never_wider_before() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o640, 0o644, 0o666, 0o400, 0o440, 0o777, 0o000] {
            let sink = sink(&directory.path().join(format!("token-{mode:o}")), mode);
            let temporary = Temporary::create(&sink).unwrap();
            let at_first = fs::metadata(&temporary.path).unwrap().mode() & 0o7777;
            assert_eq!(
                at_first & !(mode & 0o600),
                0,
                "{mode:o} is {at_first:o} at first"
            );
            drop(temporary);
            for _ in 0..3 {
                replace(&sink, b"x").unwrap();
                assert_eq!(
                    fs::metadata(&sink.path).unwrap().mode() & 0o7777,
                    mode,
                    "{mode:o}"
                );
            }
        }
    }

    #[test]
    fn the_mode_is_exact_under_any_umask() {
        // A umask belongs to the whole process, so each gets one of its own.
        let this = std::env::current_exe().unwrap();
        for umask in ["000", "022", "077", "777"] {
            let run = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!(
                    "umask {umask}; exec \"$0\" --exact \"$1\" --test-threads 1"
                ))
                .arg(&this)
                .arg("sink::file::tests::the_mode_is_exact_and_never_wider_before")
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&run.stdout);
            assert!(
                run.status.success() && told.contains("1 passed"),
                "{umask}: {told}"
            );
        }
    }

    /// Writes two contents in turn while somebody reads; true when a reader saw anything else.
    fn is_ever_torn(path: &Path, rounds: usize, write: impl Fn(&[u8])) -> bool {
        use std::sync::atomic::{AtomicBool, Ordering};
        let contents = [vec![b'a'; 200_000], vec![b'b'; 100_000]];
        write(&contents[0]);
        let (is_over, is_torn) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let read = fs::read(path).unwrap();
                    if !contents.contains(&read) {
                        is_torn.store(true, Ordering::SeqCst);
                    }
                }
            });
            for round in 0..rounds {
                write(&contents[round % 2]);
                if is_torn.load(Ordering::SeqCst) {
                    break;
                }
            }
            is_over.store(true, Ordering::SeqCst);
        });
        is_torn.load(Ordering::SeqCst)
    }

    #[test]
    fn a_reader_sees_all_of_the_old_or_all_of_the_new() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let sink = sink(&path, 0o600);
        assert!(!is_ever_torn(&path, 60, |content| replace(&sink, content).unwrap()));
        // The same check finds a writer that is not careful.
        assert!(is_ever_torn(&path, 100_000, |content| fs::write(
            &path, content
        )
        .unwrap()));
    }

    #[test]
    fn a_link_at_the_target_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let path = directory.path().join("token");
        symlink(&victim, &path).unwrap();
        replace(&sink(&path, 0o600), b"secret").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
    }

    #[test]
    fn owner_and_group_are_set_where_we_may() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let own = fs::metadata(directory.path()).unwrap();
        let ours = Sink {
            uid: Some(own.uid()),
            gid: Some(own.gid()),
            ..sink(&path, 0o440)
        };
        replace(&ours, b"x").unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            (own.uid(), own.gid(), 0o440)
        );
        let theirs = Sink {
            uid: Some(4242),
            gid: Some(4343),
            ..sink(&path, 0o640)
        };
        match replace(&theirs, b"x") {
            Ok(()) => {
                let found = fs::metadata(&path).unwrap();
                assert_eq!(
                    (found.uid(), found.gid(), found.mode() & 0o7777),
                    (4242, 4343, 0o640)
                );
            }
            Err(error) => assert!(error.to_string().contains("drop uid and gid"), "{error}"),
        }
        assert_eq!(names(directory.path()), ["token"]);
    }

    #[test]
    fn what_can_never_work_is_said_at_start_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| sink(&directory.path().join(name), 0o600);
        let error = probe(&at("missing/token")).unwrap_err();
        assert_eq!(error.kind(), Kind::File);
        assert!(error.to_string().contains("missing/token"), "{error}");
        assert!(
            error.to_string().contains("create the directory"),
            "{error}"
        );
        fs::create_dir(directory.path().join("taken")).unwrap();
        let error = probe(&at("taken")).unwrap_err();
        assert!(error.to_string().contains("is a directory"), "{error}");
        let error = replace(&at("taken"), b"secret").unwrap_err();
        assert!(!error.to_string().contains("secret"));
        assert_eq!(names(directory.path()), ["taken"]);
    }

    #[test]
    fn the_longest_name_still_works() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(255));
        replace(&sink(&path, 0o600), b"x").unwrap();
        assert!(path.exists());
    }
}
