//! A Unix socket to listen on, and its file.
//!
//! The file never has more rights than were asked for, and the process's umask is left alone: changing it would
//! change the modes of whatever other threads create at that moment. Linux gives the file the mode of the
//! unbound socket, so that is narrowed first (where a system does not, see the next sentence); and nobody can
//! connect before `listen`, which comes after owner and mode are as configured.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchownat, geteuid};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use super::owner::Owner;
use crate::config;
use crate::error::{Error, Kind, Result};

/// Binds a path, or an abstract name that starts with `@`, which has no file.
///
/// # Errors
/// `Kind::Bind`, naming the path and what can be done.
pub(super) async fn bind(
    address: &str,
    settings: &config::UnixSocket,
) -> Result<(UnixListener, Option<SocketFile>)> {
    if address.len() > LONGEST {
        let length = address.len();
        let what = format!(
            "has {length} bytes, and a socket's path has {LONGEST} at most: choose a shorter one"
        );
        return Err(refused(address, &what));
    }
    let failed = |error: io::Error| refused(address, &explain(Path::new(address), &error));
    let socket = UnixSocket::new_stream().map_err(failed)?;
    if let Some(name) = address.strip_prefix('@') {
        socket.bind(format!("\0{name}")).map_err(failed)?;
        return Ok((socket.listen(BACKLOG).map_err(failed)?, None));
    }
    let path = Path::new(address);
    let owner = Owner::of(settings).map_err(|message| refused(address, &message))?;
    // Held up to `listen`, so that of two that start at once neither takes the other's for a stale one.
    let _lock = lock(directory_of(path)).await;
    make_way(path, &owner)
        .await
        .map_err(|message| refused(address, &message))?;
    narrow(&socket, settings.mode).map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    let file = SocketFile::settle(path, settings.mode, &owner)
        .map_err(|message| refused(address, &message))?;
    Ok((socket.listen(BACKLOG).map_err(failed)?, Some(file)))
}

/// The file of a bound socket; it goes when this is dropped, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Held, or the system could give the inode's number to another file once ours is gone.
    _handle: File,
}

impl SocketFile {
    /// Gives the new file its owner and mode, through a handle: a name could mean another file by now.
    fn settle(path: &Path, mode: u32, owner: &Owner) -> Result<Self, String> {
        let handle = open(
            path,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        let handle = File::from(handle.map_err(|error| format!("cannot be looked at: {error}"))?);
        let found = handle
            .metadata()
            .map_err(|error| format!("cannot be looked at: {error}"))?;
        if !found.file_type().is_socket() || found.uid() != geteuid().as_raw() {
            return Err(
                "was replaced by something else in the moment it was made: choose a \
                        directory that only Leasehold writes to"
                    .to_owned(),
            );
        }
        let through = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let given = owner.give(&handle);
        let file = Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            _handle: handle,
        };
        given?;
        if found.mode() & 0o777 != mode {
            fs::set_permissions(through, Permissions::from_mode(mode)).map_err(|error| {
                format!("cannot be given the mode 0{mode:o}: {error} (this needs /proc)")
            })?;
        }
        Ok(file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if !is_ours {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the listener's socket was not removed");
        }
    }
}

impl Owner {
    fn give(&self, handle: &File) -> Result<(), String> {
        let give = |uid: Option<u32>, gid: Option<u32>| {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            fchownat(handle, "", uid, gid, AtFlags::AT_EMPTY_PATH)
        };
        if let Some(gid) = self.gid {
            give(None, Some(gid)).map_err(|error| {
                format!(
                    "cannot be given to the group {gid} (socket_group): {error}: Leasehold's own user \
                     has to be in that group, or root"
                )
            })?;
        }
        if let Some(uid) = self.uid.filter(|uid| *uid != geteuid().as_raw()) {
            give(Some(uid), None).map_err(|error| {
                format!(
                    "cannot be given to the user {uid} (socket_user): {error}: only root can; run \
                     Leasehold as that user, or give the socket a group by socket_group"
                )
            })?;
        }
        Ok(())
    }

    /// A socket that an earlier Leasehold of ours may have left behind.
    fn may_have_left(&self, found: &Metadata) -> bool {
        found.uid() == geteuid().as_raw() || Some(found.uid()) == self.uid
    }
}

/// Removes a socket that is ours and that nobody listens on; whatever else is there stays and is an error.
async fn make_way(path: &Path, owner: &Owner) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(explain(path, &error)),
    };
    let kind = found.file_type();
    if !kind.is_socket() {
        let what = if kind.is_symlink() {
            "a symbolic link"
        } else if kind.is_dir() {
            "a directory"
        } else if kind.is_file() {
            "a regular file"
        } else {
            "no socket"
        };
        return Err(format!(
            "is {what}, which Leasehold does not replace: remove it, or choose another address"
        ));
    }
    if !owner.may_have_left(&found) {
        let uid = found.uid();
        return Err(format!(
            "is a socket of another user (uid {uid}): remove it if nothing uses it, or choose another address"
        ));
    }
    match timeout(PATIENCE, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            let who = pid.map_or_else(String::new, |pid| format!(" of process {pid}"));
            return Err(format!(
                "is in use{who}: stop what listens there, or choose another address"
            ));
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(Err(error)) => return Err(doubtful(&error.to_string())),
        Err(_) => return Err(doubtful("it does not answer")),
    }
    fs::remove_file(path).map_err(|error| format!("is stale and cannot be removed: {error}"))?;
    let path = path.display();
    tracing::info!(%path, "removed the socket that an earlier process left behind");
    Ok(())
}

fn doubtful(why: &str) -> String {
    format!("may be in use ({why}): remove it if nothing uses it, or choose another address")
}

/// Lets the file that `bind` makes be ours alone.
fn narrow(socket: &UnixSocket, mode: u32) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(mode & 0o600);
    fchmod(socket, mode).map_err(io::Error::from)
}

/// No lock where the directory cannot be read, or another holds it for too long: it is one guard more, and no
/// reason not to start.
async fn lock(directory: &Path) -> Option<Flock<File>> {
    let mut directory = File::open(directory).ok()?;
    let end = Instant::now() + PATIENCE;
    loop {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((unlocked, _)) if Instant::now() < end => directory = unlocked,
            Err(_) => return None,
        }
        sleep(BETWEEN_TRIES).await;
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the system's own words do for what cannot be helped by ours"
)]
fn explain(path: &Path, error: &io::Error) -> String {
    if path.as_os_str().as_bytes().starts_with(b"@") {
        return match error.kind() {
            io::ErrorKind::AddrInUse => {
                "is in use: stop what listens there, or choose another name".to_owned()
            }
            _ => format!("cannot be bound: {error}"),
        };
    }
    let directory = directory_of(path).display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "cannot be made: the directory {directory} does not exist; create it (in a systemd unit: \
             RuntimeDirectory=)"
        ),
        io::ErrorKind::NotADirectory => {
            format!("cannot be made: {directory} is no directory")
        }
        io::ErrorKind::PermissionDenied => format!(
            "cannot be made: user {} may not create files in {directory}; choose a directory of that \
             user's own",
            geteuid()
        ),
        io::ErrorKind::ReadOnlyFilesystem => format!(
            "cannot be made: {directory} is on a read-only file system; choose a directory that can be \
             written, as a tmpfs"
        ),
        io::ErrorKind::AddrInUse => {
            "was made by another process at this very moment: is Leasehold started twice?"
                .to_owned()
        }
        _ => format!("cannot be made: {error}"),
    }
}

fn refused(address: &str, what: &str) -> Error {
    Error::new(Kind::Bind, format!("the listener socket {address} {what}"))
}

/// `sun_path` of unix(7), less the NUL at its end.
const LONGEST: usize = 107;
/// As the system's default (`net.core.somaxconn` bounds it further).
const BACKLOG: u32 = 1024;
const PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::Principal;

    fn settings(mode: u32) -> config::UnixSocket {
        config::UnixSocket {
            mode,
            user: None,
            group: None,
            allowed: None,
        }
    }

    async fn bound(path: &Path, mode: u32) -> (UnixListener, Option<SocketFile>) {
        bind(path.to_str().unwrap(), &settings(mode)).await.unwrap()
    }

    async fn refusal(path: &Path) -> String {
        let error = bind(path.to_str().unwrap(), &settings(0o600)).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), Kind::Bind);
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        text
    }

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    /// Under the umask of whoever runs the test: see the next one.
    #[tokio::test]
    async fn the_mode_is_exact_and_never_wider_before() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        for mode in [0o600, 0o660, 0o666, 0o777, 0o620, 0o060, 0] {
            let path = directory.path().join(format!("{mode:o}"));
            let socket = UnixSocket::new_stream().unwrap();
            narrow(&socket, mode).unwrap();
            socket.bind(&path).unwrap();
            // What there is between the creation and the last word.
            let at_first = mode_of(&path);
            assert_eq!(
                at_first & !(mode & 0o600),
                0,
                "{mode:o}: {at_first:o} at first"
            );
            let early = UnixStream::connect(&path).await.unwrap_err();
            let root = geteuid().is_root();
            assert!(
                !root || early.kind() == io::ErrorKind::ConnectionRefused,
                "{early}"
            );
            fs::remove_file(&path).unwrap();
            let (_listener, _file) = bound(&path, mode).await;
            assert_eq!(mode_of(&path), mode, "{mode:o}");
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
                .arg("server::unix::tests::the_mode_is_exact_and_never_wider_before")
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&run.stdout);
            assert!(
                run.status.success() && told.contains("1 passed"),
                "{umask}: {told}"
            );
        }
    }

    #[tokio::test]
    #[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
    async fn owner_and_group_work_alone() {
        if !geteuid().is_root() {
            println!("not root: no socket can be given away, so that is not tested here");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (user, group) = (Some(Principal::Id(4711)), Some(Principal::Id(4712)));
        for (user, group, uid, gid) in [
            (user.clone(), None, 4711, 0),
            (None, group.clone(), 0, 4712),
            (user, group, 4711, 4712),
        ] {
            let settings = config::UnixSocket {
                user,
                group,
                ..settings(0o640)
            };
            // What is left behind is ours, even if it was given away.
            for _ in 0..2 {
                let (_listener, file) = bind(path.to_str().unwrap(), &settings).await.unwrap();
                let found = fs::symlink_metadata(&path).unwrap();
                assert_eq!((found.uid(), found.gid()), (uid, gid));
                assert_eq!(found.mode() & 0o7777, 0o640);
                std::mem::forget(file);
            }
            fs::remove_file(&path).unwrap();
        }
        let nobody = config::UnixSocket {
            user: Some(Principal::Name("no-such-user".to_owned())),
            ..settings(0o600)
        };
        let error = bind(path.to_str().unwrap(), &nobody).await.unwrap_err();
        assert!(error.to_string().contains("socket_user"), "{error}");
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_a_stale_socket_of_ours_makes_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        drop(std::os::unix::net::UnixListener::bind(path("stale")).unwrap());
        assert!(UnixStream::connect(path("stale")).await.is_err());
        let (_listener, _file) = bound(&path("stale"), 0o600).await;
        assert!(UnixStream::connect(path("stale")).await.is_ok());

        let _live = std::os::unix::net::UnixListener::bind(path("live")).unwrap();
        let _datagrams = std::os::unix::net::UnixDatagram::bind(path("datagrams")).unwrap();
        fs::write(path("file"), "kept").unwrap();
        fs::create_dir(path("directory")).unwrap();
        symlink(path("file"), path("link")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        for (name, what) in [
            ("live", "is in use of process"),
            ("datagrams", "may be in use"),
            ("file", "a regular file"),
            ("directory", "a directory"),
            ("link", "a symbolic link"),
            ("dangling", "a symbolic link"),
        ] {
            let text = refusal(&path(name)).await;
            assert!(text.contains(what), "{text}");
            assert!(fs::symlink_metadata(path(name)).is_ok(), "{name} is gone");
        }
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "kept");
        assert!(UnixStream::connect(path("live")).await.is_ok());
    }

    #[tokio::test]
    #[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
    async fn a_socket_of_another_user_stays() {
        if !geteuid().is_root() {
            println!("not root: no socket can be given away, so that is not tested here");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
        let text = refusal(&path).await;
        assert!(text.contains("another user (uid 4711)"), "{text}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn the_file_goes_with_the_listener_while_it_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, file) = bound(&path, 0o600).await;
        drop((listener, file));
        assert!(!path.exists());
        let (_listener, file) = bound(&path, 0o600).await;
        // Another has removed it and put its own there.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn of_two_that_start_at_once_one_serves() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = directory.path().join(round.to_string());
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let (address, settings) = (path.to_str().unwrap(), settings(0o600));
            let both = tokio::join!(bind(address, &settings), bind(address, &settings));
            let (served, refused) = match both {
                (Ok(served), Err(error)) | (Err(error), Ok(served)) => (served, error),
                other => panic!("{other:?}"),
            };
            assert!(refused.to_string().contains("is in use"), "{refused}");
            assert!(UnixStream::connect(&path).await.is_ok());
            drop(served);
        }
    }

    #[tokio::test]
    async fn places_where_no_socket_can_be_say_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "").unwrap();
        for (path, what) in [
            (path("missing/socket"), "does not exist; create it"),
            (path("file/socket"), "is no directory"),
            (path(&"x".repeat(120)), "107 at most"),
        ] {
            let text = refusal(&path).await;
            assert!(text.contains(what), "{text}");
        }
        let denied = explain(
            &path("x"),
            &io::Error::from(io::ErrorKind::PermissionDenied),
        );
        assert!(denied.contains("may not create files in"), "{denied}");
    }

    #[tokio::test]
    async fn an_abstract_socket_has_no_file() {
        let name = format!("@leasehold-{}-{}", std::process::id(), fastrand::u64(..));
        let (listener, file) = bind(&name, &settings(0o600)).await.unwrap();
        assert!(file.is_none() && !Path::new(&name).exists());
        let text = bind(&name, &settings(0o600)).await.unwrap_err().to_string();
        assert!(text.contains(&name) && text.contains("is in use"), "{text}");
        drop(listener);
        assert!(bind(&name, &settings(0o600)).await.is_ok());
    }
}
