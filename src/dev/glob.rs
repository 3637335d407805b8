//! Which requests a fault rule or a count is about: a method and a glob over the path.

/// `*` in `glob` stands for any text, slashes too; everything else for itself.
pub(super) fn matches(glob: &str, path: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(rest) = parts.next().and_then(|head| path.strip_prefix(head)) else {
        return false;
    };
    let mut rest = rest;
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    true
}

/// `*` is every method.
pub(super) fn method_matches(wanted: &str, method: &str) -> bool {
    wanted == "*" || wanted == method
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_over_paths() {
        for (glob, path, expected) in [
            ("/v1/a", "/v1/a", true),
            ("/v1/a", "/v1/ab", false),
            ("/v1/a*", "/v1/a/b", true),
            ("*/creds/*", "/v1/database/creds/app", true),
            ("*creds/app", "/v1/database/creds/app", true),
            ("*creds/app", "/v1/database/creds/apps", false),
            ("/v1/*/b*c", "/v1/a/bxc", true),
            ("/v1/*/b*c", "/v1/a/xxc", false),
            ("*", "", true),
            ("", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(glob, path), expected, "{glob} {path}");
        }
        assert!(method_matches("*", "LIST") && !method_matches("GET", "PUT"));
    }
}
