//! Paths as a tree, and JSON objects from pairs: what listing and showing need everywhere.

use std::collections::BTreeSet;

use serde_json::Map;
use serde_json::Value;

/// The names below `prefix` in a list of paths: what lies deeper is shown once, with a slash.
pub(crate) fn children<'a>(paths: impl Iterator<Item = &'a str>, prefix: &str) -> Vec<String> {
    let mut names = BTreeSet::new();
    for path in paths {
        if let Some(rest) = path.strip_prefix(prefix)
            && !rest.is_empty()
        {
            names.insert(match rest.split_once('/') {
                Some((directory, _)) => format!("{directory}/"),
                None => rest.to_owned(),
            });
        }
    }
    names.into_iter().collect()
}

/// All paths below `prefix`, those with fewer slashes first: the server walks level by level.
pub(crate) fn descendants<'a>(paths: impl Iterator<Item = &'a str>, prefix: &str) -> Vec<String> {
    let below = paths.filter_map(|path| path.strip_prefix(prefix));
    let mut all: Vec<String> = below
        .filter(|rest| !rest.is_empty())
        .map(str::to_owned)
        .collect();
    all.sort_by_key(|path| (path.matches('/').count(), path.clone()));
    all
}

/// A JSON object from pairs.
pub(crate) fn object<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_a_prefix() {
        let paths = ["a/b", "a/c/d", "a/c/e", "x", "ab"];
        assert_eq!(children(paths.into_iter(), "a/"), ["b", "c/"]);
        assert_eq!(children(paths.into_iter(), ""), ["a/", "ab", "x"]);
        assert!(children(paths.into_iter(), "zz/").is_empty());
        assert_eq!(
            descendants(paths.into_iter(), ""),
            ["ab", "x", "a/b", "a/c/d", "a/c/e"]
        );
    }
}
