//! The tree's own rules: the order of the rooms, the length of files, and what may not be written.
//!
//! `src/architecture.md` says why the rooms stand in this order.

use std::fs;
use std::path::{Path, PathBuf};

/// A room may name only rooms on lines above its own.
const ROOMS: [&[&str]; 11] = [
    &["secret", "backoff", "tasks", "life", "vault", "hcl"],
    &["error", "token", "config"],
    &["telemetry"],
    &["upstream"],
    &["auth", "lease"],
    &["cache"],
    &["proxy"],
    &["sink", "template", "exec"],
    &["server", "admin"],
    &["dev"],
    &["app", "cli", "main", "fuzzing"],
];

/// Rooms on one line that still build on each other: the first may name the second.
const NEIGHBOURS: [(&str, &str); 1] = [("cli", "app")];

/// `dev` stands in for Vault: what it shared with the rooms it tests, they could both have wrong.
const DEV_MAY_NAME: [&str; 4] = ["error", "secret", "tasks", "vault"];

/// Libraries that belong to one room.
const OWNED: [(&str, &str); 2] = [("dashmap", "cache"), ("hyper_util::client", "upstream")];

const LONGEST_FILE: usize = 500;

#[test]
fn every_room_is_on_a_line() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rooms = lib.lines().filter_map(|line| {
        let line = line
            .trim()
            .trim_start_matches("pub ")
            .trim_start_matches("pub(crate) ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    for room in rooms {
        assert!(
            line_of(room).is_some(),
            "{room} has no line in tests/it/tidy.rs"
        );
    }
}

#[test]
fn rooms_name_only_rooms_above_them() {
    let found: Vec<String> = sources().iter().flat_map(Source::out_of_order).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_order_is_really_looked_at() {
    let cases = [
        ("src/cache/store.rs", "use crate::proxy::Stack;", true),
        (
            "src/cache/store.rs",
            "let it = crate::admin::Ids::default();",
            true,
        ),
        (
            "src/cache/store.rs",
            "use super::super::proxy::Stack;",
            true,
        ),
        ("src/cache/mod.rs", "use super::proxy::Stack;", true),
        ("src/cache.rs", "use super::proxy::Stack;", true),
        ("src/server/listen.rs", "use crate::admin::Admin;", true),
        ("src/dev/state.rs", "use crate::cache::Cache;", true),
        ("src/cache/store.rs", "use crate::{lease, proxy};", true),
        ("src/upstream/x.rs", "use dashmap::DashMap;", true),
        ("src/cache/store.rs", "use dashmap::DashMap;", false),
        ("src/cache/store.rs", "use crate::lease::Lease;", false),
        ("src/cache/store.rs", "use super::key::Key;", false),
        ("src/cache/store.rs", "// crate::proxy uses this", false),
        (
            "src/cache/store.rs",
            "pub(in crate::cache) fn x() {}",
            false,
        ),
        (
            "src/cache/store.rs",
            "\n#[cfg(test)]\nmod tests {\nuse crate::proxy::Stack;",
            false,
        ),
        ("src/dev/state.rs", "use crate::secret::Secret;", false),
        ("src/main.rs", "use leasehold::cli;", false),
    ];
    for (path, text, refused) in cases {
        let source = Source::new(path.into(), text);
        let found = source.out_of_order();
        assert_eq!(!found.is_empty(), refused, "{path}: {text}: {found:?}");
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for source in sources() {
        let lines = source.code.lines().count();
        let path = &source.path;
        assert!(
            lines <= LONGEST_FILE,
            "{path} has {lines} lines before its tests"
        );
    }
}

#[test]
fn no_test_is_switched_off() {
    let ignored = concat!("#[", "ignore");
    for (path, text) in texts(&["src", "tests"]) {
        assert!(
            !text.contains(ignored),
            "{path} has a test that does not run"
        );
    }
}

#[test]
fn nothing_names_a_place_on_one_machine() {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/fa", "rm/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let mut found = Vec::new();
    for (path, text) in texts(&["src", "tests", "benches", "config", ".ci", "."]) {
        // Inputs and their verdicts are what they were when they were recorded.
        if path.starts_with("tests/fixtures/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            // The home in our images, and where the Kubernetes injector writes its configuration.
            let line = &line.replace(concat!("/ho", "me/vault"), "");
            let own = |rest: &str| rest.starts_with(|first: char| first.is_ascii_lowercase());
            let temporary = line.split(concat!("/t", "mp/")).skip(1).any(own);
            if temporary || places.iter().any(|place| line.contains(place)) {
                found.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// One file of `src`, without its tests.
struct Source {
    path: String,
    /// The rooms and modules that lead to it: `["cache", "store"]`.
    modules: Vec<String>,
    code: String,
}

impl Source {
    fn new(path: String, text: &str) -> Self {
        let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
        let inside = inside.trim_end_matches("/mod");
        let is_test = text.lines().any(|line| line == "#![cfg(test)]");
        let before_tests = ["\n#[cfg(test)]\nmod ", "\n#[cfg(test)]\npub(super) mod "]
            .iter()
            .filter_map(|begin| text.find(begin))
            .min();
        let code = match before_tests {
            _ if is_test => "",
            Some(end) => text.get(..end).unwrap_or_default(),
            None => text,
        };
        Self {
            modules: inside.split('/').map(str::to_owned).collect(),
            code: code.to_owned(),
            path,
        }
    }

    fn room(&self) -> &str {
        &self.modules[0]
    }

    fn out_of_order(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.room() == "lib" {
            return found;
        }
        let to_the_top = "super::".repeat(self.modules.len());
        for (number, line) in self.code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            let mut refuse = |why: String| {
                found.push(format!(
                    "{}:{}: {why}: {}",
                    self.path,
                    number + 1,
                    line.trim()
                ));
            };
            if line.contains("use crate::{") {
                refuse("one `use crate::room` for each room".into());
            }
            if line.contains(&to_the_top) {
                refuse("a room is named by `crate::`, so that it can be found".into());
            }
            for named in names_after(line, "crate::") {
                if !may_name(self.room(), named) {
                    refuse(format!("{} may not name {named}", self.room()));
                }
            }
            for (library, owner) in OWNED {
                if line.contains(library) && self.room() != owner {
                    refuse(format!("{library} belongs to {owner}"));
                }
            }
        }
        found
    }
}

fn may_name(room: &str, named: &str) -> bool {
    let (Some(own), Some(its)) = (line_of(room), line_of(named)) else {
        // What is no room is a macro or a re-export at the top; only rooms have an order.
        return line_of(named).is_none();
    };
    if room == named {
        return true;
    }
    if room == "dev" {
        return DEV_MAY_NAME.contains(&named);
    }
    its < own || NEIGHBOURS.contains(&(room, named))
}

fn line_of(room: &str) -> Option<usize> {
    ROOMS.iter().position(|line| line.contains(&room))
}

fn names_after<'a>(line: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    line.split(before).skip(1).filter_map(|rest| {
        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .filter(|name| !name.is_empty())
    })
}

fn sources() -> Vec<Source> {
    let sources: Vec<Source> = texts(&["src"])
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs") && !path.ends_with("/tests.rs"))
        .map(|(path, text)| Source::new(path, &text))
        .collect();
    assert!(sources.len() > 10, "the sources were not found");
    sources
}

/// Path (from the root) and text of every file below these folders; of `.` only its own files.
fn texts(folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), *folder != ".", &mut found);
    }
    let root = root();
    found
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            let path = path.strip_prefix(&root).unwrap_or(&path);
            let path = path.to_string_lossy().trim_start_matches("./").to_owned();
            Some((path, text))
        })
        .filter(|(path, _)| path != "Cargo.lock" && path != ".git")
        .collect()
}

fn collect(folder: &Path, deeper: bool, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            found.push(path);
        } else if deeper {
            collect(&path, deeper, found);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
