//! `listener "unix"`: sockets of its own and of systemd's, for whom they are meant and for nobody else.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::{Command as StdCommand, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::child::{Answer, BINARY, Home, Process, Vault, ask_over, get, mode_of, soon};

const SECRET: &str = "/v1/secret/data/app/config";

fn listener(address: &str, more: &str) -> String {
    format!("listener \"unix\" {{\n  address = \"{address}\"\n  {more}\n}}\n")
}

async fn ask(path: &Path, target: &str) -> Answer {
    let stream = UnixStream::connect(path).await.unwrap();
    soon(target, ask_over(stream, "any.host", "GET", target))
        .await
        .unwrap()
}

fn under(umask: &str, config: &str) -> Process {
    let mut command = Command::new("sh");
    let script = format!("umask {umask}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, BINARY, "agent", "-config", config]);
    Process::run(command, &[])
}

#[tokio::test]
async fn a_socket_is_served_like_a_port_with_the_mode_that_was_asked_for() {
    let (home, vault) = (Home::new(), Vault::start().await);
    for (umask, more, mode) in [
        ("000", "", 0o600),
        ("000", "socket_mode = \"0640\"", 0o640),
        ("077", "socket_mode = \"0666\"\n  tls_disable = true", 0o666),
        ("022", "socket_mode = \"0660\"\n  role = \"default\"", 0o660),
    ] {
        let (path, at) = (home.path("vault.sock"), home.at("vault.sock"));
        let config = home.config(&vault, &listener(&at, more));
        let process = under(umask, &config);
        process.err.line(&format!("address=unix://{at}")).await;
        let tcp = process.address().await;
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        assert_eq!(mode_of(&path), mode, "{umask} {more}");
        let answer = ask(&path, SECRET).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // One cache behind all listeners.
        assert_eq!(get(tcp, SECRET).await.header("x-cache"), "HIT");
        let status = get(tcp, "/agent/v1/status").await.text();
        assert!(status.contains(&format!("unix://{at}")), "{status}");
        let ended = process.stopped_by(Signal::SIGTERM).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!path.exists(), "the socket is still there");
    }
}

#[tokio::test]
async fn what_a_killed_process_left_behind_is_replaced_and_nothing_else() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let (path, at) = (home.path("vault.sock"), home.at("vault.sock"));
    let config = home.config(&vault, &listener(&at, ""));
    let first = Process::start(&["agent", "-config", &config]);
    first.err.line("unix://").await;
    let second = Process::start(&["agent", "-config", &config]).ended().await;
    assert_eq!(second.code, Some(1));
    let told = format!("{at} is in use of process {}", first.id());
    assert!(second.err.contains(&told), "{second:?}");
    assert_eq!(ask(&path, SECRET).await.status, 200);
    first.stopped_by(Signal::SIGKILL).await;
    assert!(path.exists());

    let third = Process::start(&["agent", "-config", &config]);
    third.err.line("removed the socket").await;
    third.err.line("listening").await;
    assert_eq!(ask(&path, SECRET).await.status, 200);
    third.stopped_by(Signal::SIGTERM).await;

    fs::write(&path, "kept").unwrap();
    let fourth = Process::start(&["agent", "-config", &config]).ended().await;
    assert_eq!(fourth.code, Some(1));
    let told = format!("{at} is a regular file");
    assert!(fourth.err.contains(&told), "{fourth:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
}

/// What `curl` as another user gets: the answer and its status, or nothing when it cannot connect.
async fn curl_as(ids: &[&str], socket: &[&str]) -> (String, String) {
    let run = Command::new("setpriv")
        .args(ids)
        .args(["curl", "-s", "-w", "\n%{http_code}"])
        .args(socket)
        .arg(format!("http://localhost{SECRET}"))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (body.to_owned(), status.to_owned())
}

/// Says why not.
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn can_be_others() -> bool {
    let runs = |program: &str| {
        let run = StdCommand::new(program).arg("--version").output();
        run.is_ok_and(|run| run.status.success())
    };
    let can = geteuid().is_root() && runs("setpriv") && runs("curl");
    if !can {
        println!("this needs root, setpriv and curl: other users' calls are not tested here");
    }
    can
}

fn ids(uid: u32, groups: &str) -> Vec<String> {
    let groups = match groups {
        "" => "--clear-groups".to_owned(),
        groups => format!("--groups={groups}"),
    };
    vec![format!("--reuid={uid}"), format!("--regid={uid}"), groups]
}

#[tokio::test]
async fn who_is_not_listed_is_told_so_and_who_the_mode_keeps_out_cannot_connect() {
    if !can_be_others() {
        return;
    }
    let (home, vault) = (Home::new(), Vault::start().await);
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(home.path(""), open).unwrap();
    let name = format!("@leasehold-test-{}", std::process::id());
    let listeners = [
        listener(&name, "allowed_uids = [4711]"),
        listener(
            &home.at("both"),
            "socket_mode = \"0666\"\n  allowed_uids = [4711]\n  allowed_gids = [4713]",
        ),
        listener(&home.at("group"), "socket_group = \"4713\""),
        listener(&home.at("user"), "socket_user = \"4711\""),
    ];
    let config = home.config(&vault, &listeners.concat());
    let process = Process::start(&["agent", "-config", &config]);
    process.err.line("@leasehold-test").await;
    process.err.line("/user").await;
    let bare = name.trim_start_matches('@').to_owned();
    let by_name = ["--abstract-unix-socket".to_owned(), bare];
    let by_path = |name: &str| ["--unix-socket".to_owned(), home.at(name)];
    for (uid, groups, socket, status, told) in [
        (4711, "", by_name.clone(), "200", "data"),
        (
            4712,
            "",
            by_name.clone(),
            "403",
            "this listener's allowed_uids does not have the user",
        ),
        (4712, "4713", by_name, "403", "uid 4712"),
        (4711, "", by_path("both"), "200", "data"),
        (4712, "4713", by_path("both"), "200", "data"),
        (4713, "", by_path("both"), "200", "data"),
        (4712, "4714", by_path("both"), "403", "allowed_gids"),
        (4712, "4713", by_path("group"), "200", "data"),
        (4712, "", by_path("group"), "000", ""),
        (4711, "", by_path("user"), "200", "data"),
        (4712, "4713", by_path("user"), "000", ""),
    ] {
        let ids = ids(uid, groups);
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let socket: Vec<_> = socket.iter().map(String::as_str).collect();
        let (body, got) = curl_as(&ids, &socket).await;
        assert_eq!(got, status, "{ids:?} {socket:?}: {body}");
        assert!(body.contains(told), "{ids:?} {socket:?}: {body}");
        if status == "403" {
            assert!(body.starts_with(r#"{"errors":[""#), "{body}");
        }
    }
    let metrics = get(process.address().await, "/agent/v1/metrics")
        .await
        .text();
    let counted = "leasehold_client_rejections_total{reason=\"peer\"} 3";
    assert!(metrics.contains(counted), "{metrics}");
    let ended = process.stopped_by(Signal::SIGTERM).await;
    // Each of the two listeners says it once.
    assert_eq!(
        ended.err.matches("a peer was refused").count(),
        2,
        "{}",
        ended.err
    );
}

/// Does what systemd does: makes the sockets, and becomes the program with them as descriptors from 3 on.
const PARENT: &str = r#"
import os, socket, sys
path, program, *arguments = sys.argv[1:]
unix = socket.socket(socket.AF_UNIX)
unix.bind(path)
unix.listen()
tcp = socket.create_server(("127.0.0.1", 0))
deaf = socket.socket(socket.AF_UNIX)
# Out of the way of where they have to go.
high = [os.dup(it.fileno()) for it in (tcp, unix, deaf)]
high = [os.dup2(it, 50 + number) for number, it in enumerate(high)]
for number, it in enumerate(high):
    os.dup2(it, 3 + number, inheritable=True)
    os.close(it)
os.environ.update(LISTEN_FDS="3", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="port:vault.socket:deaf")
os.execv(program, [program, *arguments])
"#;

#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn has_python() -> bool {
    let run = StdCommand::new("python3").args(["-c", "pass"]).output();
    let has = run.is_ok_and(|run| run.status.success());
    if !has {
        println!("there is no python3 to make sockets as systemd does: that is not tested here");
    }
    has
}

fn activated(home: &Home, config: &str) -> Process {
    let mut command = Command::new("python3");
    command
        .args(["-c", PARENT, &home.at("systemd.sock"), BINARY])
        .args(["agent", "-config", config]);
    Process::run(command, &[])
}

#[tokio::test]
async fn sockets_that_systemd_passes_are_served() {
    if !has_python() {
        return;
    }
    let (home, vault) = (Home::new(), Vault::start().await);
    let uid = geteuid();
    let listeners = listener("systemd:vault.socket", &format!("allowed_uids = [{uid}]"))
        + "listener \"tcp\" {\n  address = \"systemd\"\n  tls_disable = true\n}\n";
    let process = activated(&home, &home.config(&vault, &listeners));
    process.err.line("systemd.sock").await;
    process
        .err
        .line("no listener takes what systemd passed")
        .await;
    let tcp = process.addresses(2).await[1];
    assert_eq!(get(tcp, SECRET).await.status, 200);
    let path = home.path("systemd.sock");
    assert_eq!(ask(&path, SECRET).await.status, 200);
    for descriptor in [3, 4] {
        let about = format!("/proc/{}/fdinfo/{descriptor}", process.id());
        let about = fs::read_to_string(about).unwrap();
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_ne!(
            flags & 0o2_000_000,
            0,
            "{descriptor} is not O_CLOEXEC: {about}"
        );
    }
    let ended = process.stopped_by(Signal::SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(path.exists(), "systemd's socket was removed");
}

#[tokio::test]
async fn what_systemd_passes_must_fit_the_listener() {
    if !has_python() {
        return;
    }
    let (home, vault) = (Home::new(), Vault::start().await);
    let tcp = |name: &str| {
        format!("listener \"tcp\" {{\n  address = \"systemd:{name}\"\n  tls_disable = true\n}}\n")
    };
    for (listener, told) in [
        (tcp("vault.socket"), "is not a TCP socket"),
        (listener("systemd:port", ""), "is not a Unix stream socket"),
        (listener("systemd:deaf", ""), "does not listen"),
        (listener("systemd:other", ""), "port, vault.socket, deaf"),
    ] {
        // Its parent makes the file anew each time.
        fs::remove_file(home.path("systemd.sock")).ok();
        let ended = activated(&home, &home.config(&vault, &listener))
            .ended()
            .await;
        assert_eq!(ended.code, Some(1), "{listener}: {ended:?}");
        assert!(ended.err.contains(told), "{listener}: {ended:?}");
    }
    let config = home.config(&vault, &listener("systemd", ""));
    let ended = Process::start(&["agent", "-config", &config]).ended().await;
    assert!(
        ended.err.contains("start it by its .socket unit"),
        "{ended:?}"
    );
    // Meant for another process, whose child this one is.
    let env = [("LISTEN_FDS", "1"), ("LISTEN_PID", "1")];
    let ended = Process::start_in(&["agent", "-config", &config], &env)
        .ended()
        .await;
    assert!(
        ended.err.contains("start it by its .socket unit"),
        "{ended:?}"
    );
}
