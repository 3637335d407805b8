//! Help, versions, and command lines that cannot be followed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::child::{Ended, Process};

async fn run(args: &[&str]) -> Ended {
    Process::start(args).ended().await
}

#[tokio::test]
async fn help_names_every_flag_and_ends_well() {
    for (args, parts) in [
        (
            &["-h"][..],
            &["agent", "proxy", "check", "dev", "version"][..],
        ),
        (
            &["agent", "-h"],
            &[
                "-config",
                "-exit-after-auth",
                "-log-level",
                "-address",
                "-namespace",
            ],
        ),
        (
            &["proxy", "--help"],
            &["-config", "-log-format", "-tls-skip-verify", "-header"],
        ),
        (&["check", "-help"], &["-config", "-format", "text, json"]),
        (
            &["dev", "--help"],
            &["-port", "-vault-port", "-ttl", "8200", "8201", "30s"],
        ),
    ] {
        let ended = run(args).await;
        assert_eq!(
            (ended.code, &*ended.err),
            (Some(0), ""),
            "{args:?}: {ended:?}"
        );
        assert!(ended.out.contains("Usage: leasehold"), "{}", ended.out);
        for part in parts {
            assert!(ended.out.contains(part), "{args:?}: {part}: {}", ended.out);
        }
        for line in ended.out.lines() {
            assert!(line.chars().count() <= 140, "{line}");
        }
    }
    for args in [&["version"], &["-v"], &["--version"]] {
        let ended = run(args).await;
        assert_eq!(ended.code, Some(0));
        assert_eq!(
            ended.out,
            concat!("leasehold ", env!("CARGO_PKG_VERSION"), "\n")
        );
    }
}

#[tokio::test]
async fn a_wrong_command_line_ends_as_the_peers_end_it() {
    for (args, code, message) in [
        (&[][..], 127, "error: a subcommand is missing"),
        (
            &["agnet"],
            127,
            "error: no subcommand `agnet`: did you mean `agent`?",
        ),
        (&["server"], 127, "error: no subcommand `server`"),
        (
            &["agent", "-cofnig=x"],
            1,
            "error: unknown flag -cofnig: did you mean -config?",
        ),
        (&["agent", "-config"], 1, "error: -config needs a value"),
        (
            &["agent", "-exit-after-auth=maybe"],
            1,
            "error: -exit-after-auth is a boolean",
        ),
        (
            &["proxy", "-log-rotate-bytes=x"],
            1,
            "error: invalid value 'x' for '-log-rotate-bytes",
        ),
        (
            &["agent", "-header=X-Vault-Token=canary"],
            1,
            "error: -header: X-Vault-Token",
        ),
        (
            &["agent", "-header=canary"],
            1,
            "error: -header is NAME=VALUE",
        ),
        (
            &["agent", "-wrap-ttl=5m"],
            1,
            "error: -wrap-ttl is not supported",
        ),
        (
            &["agent", "generate-config"],
            1,
            "error: generate-config is not part of Leasehold",
        ),
        (
            &["check", "-format=xml"],
            1,
            "error: invalid value 'xml' for '-format <FORMAT>' [possible values: text, json]",
        ),
        (
            &["check", "file.hcl"],
            1,
            "error: an argument is no flag (a file is given as -config=FILE)",
        ),
    ] {
        let ended = run(args).await;
        assert_eq!(
            (ended.code, &*ended.out),
            (Some(code), ""),
            "{args:?}: {ended:?}"
        );
        assert!(ended.err.starts_with(message), "{args:?}: {}", ended.err);
        assert!(!ended.err.contains("canary"), "{}", ended.err);
    }
    // What the peers ignore is ignored, and said.
    let ended = run(&["agent", "-config=/no/such", "stray", "-log-level=debug"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.starts_with("warning: 2 arguments"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("-log-level"), "{}", ended.err);
}

/// Whoever pastes a line of the README gets no `unknown flag`.
#[tokio::test]
async fn the_flags_of_the_readme_exist() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let named = flags_in(&fs::read_to_string(readme).unwrap());
    let subcommands: BTreeSet<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    for expected in ["agent", "check", "dev"] {
        assert!(subcommands.contains(expected), "{subcommands:?}");
    }
    for subcommand in subcommands {
        let help = run(&[subcommand, "-help"]).await;
        assert_eq!(help.code, Some(0), "{subcommand}: {help:?}");
        for (_, flag) in named.iter().filter(|(of, _)| of == subcommand) {
            let known = help.out.split_whitespace().any(|word| {
                word.trim_start_matches('-').split(['=', '[', ',']).next() == Some(flag)
                    && word.starts_with('-')
            });
            assert!(
                flag.is_empty() || known,
                "leasehold {subcommand} has no -{flag}"
            );
        }
    }
}

/// Subcommand and flag (empty for none) of every `leasehold SUBCOMMAND -flag`, `cargo run` included.
fn flags_in(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let pieces = text.lines().flat_map(|line| {
        let line = line.split(" #").next().unwrap_or_default();
        line.split('`').collect::<Vec<_>>()
    });
    for piece in pieces {
        let mut words = piece.split_whitespace();
        let is_ours = |word: &str| word == "leasehold" || word.ends_with("/leasehold");
        let starts = words.any(is_ours) || {
            words = piece.split_whitespace();
            piece.contains("cargo run") && words.any(|word| word == "--")
        };
        let Some(subcommand) = words.next().filter(|_| starts) else {
            continue;
        };
        if !["agent", "proxy", "check", "dev", "version"].contains(&subcommand) {
            continue;
        }
        found.insert((subcommand.to_owned(), String::new()));
        for word in words.filter(|word| word.starts_with('-')) {
            let flag = word.trim_start_matches('-');
            let flag = flag.split(['=', ' ']).next().unwrap_or_default();
            let flag = flag.trim_end_matches(['.', ',', ')', ';']);
            found.insert((subcommand.to_owned(), flag.to_owned()));
        }
    }
    found
}

#[test]
fn readme_lines_are_found() {
    let text = "Run `leasehold dev -port 1 --ttl=3s`, or\n  cargo run --release -- dev -x\n\
                target/release/leasehold check -config=a.hcl  # not -this\nleasehold is -no-command";
    let found = flags_in(text);
    let found: Vec<String> = found
        .into_iter()
        .map(|(of, flag)| format!("{of} {flag}"))
        .collect();
    assert_eq!(
        found,
        [
            "check ",
            "check config",
            "dev ",
            "dev port",
            "dev ttl",
            "dev x"
        ]
    );
}
