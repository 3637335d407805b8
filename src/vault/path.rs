//! What a request's path asks for: `/v1/<namespaces>/<mount>/...` read without knowing which mounts exist.
//!
//! Namespaces may stand in the path, so `sys/` and `auth/` are looked for behind leading segments, but
//! not behind one that only a secret engine has (`data`, `creds`, ...). Taking a secret for a system path
//! costs a cache hit; the other way round would cost correctness, so doubt goes that way.

mod kind;

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use kind::classify;
pub use kind::{Kind, Named};

/// A request's path under `/v1/`, in one canonical form: percent-decoded, namespace in front, single
/// slashes, none at either end. Used for rules and invalidation; what goes on the wire is the original.
#[derive(Clone)]
pub struct ApiPath {
    canonical: String,
    /// How much of it is the header's namespace.
    header: usize,
    kind: Kind,
}

impl ApiPath {
    /// `None` for what is not under `/v1/`. `namespace` is the header's text.
    pub fn parse(path: &str, namespace: Option<&str>) -> Option<Self> {
        let decoded = decoded(path);
        let tidied;
        // Most paths come as they should; the others are put in order first.
        let inside = match decoded.strip_prefix("/v1/").filter(|rest| is_tidy(rest)) {
            Some(rest) => rest,
            None => {
                tidied = tidy(&decoded);
                // `/v%31/x` is `/v1/x` for Vault.
                match tidied.strip_prefix("v1")? {
                    "" => "",
                    rest => rest.strip_prefix('/')?,
                }
            }
        };
        let namespace = canonical_namespace(namespace);
        let mut canonical = String::with_capacity(namespace.len() + 1 + inside.len());
        append_segments(&mut canonical, namespace);
        // As `root` itself, `./root` and `a/../root` are no namespace for Vault.
        if canonical == "root" {
            canonical.clear();
        }
        let header = canonical.len();
        if header > 0 && !inside.is_empty() {
            canonical.push('/');
        }
        canonical.push_str(inside);
        let kind = classify(inside, true);
        Some(Self {
            canonical,
            header,
            kind,
        })
    }

    /// The kind of call it is if something is written by it. Behind a segment that only an engine has, `sys` and
    /// `auth` are most likely names of secrets, but a namespace may have such a name too: a read is taken for
    /// the first, a write for the second, since overlooking a revocation costs more than a cache entry.
    pub fn kind_of_write(&self) -> Kind {
        classify(self.inside(), false)
    }

    /// The kind that it is for somebody with bad intentions: as of a write, whatever the method.
    pub fn kind_in_doubt(&self) -> Cow<'_, Kind> {
        let mut segments = self.canonical.split('/').skip(1);
        if self.kind == Kind::Secret && segments.any(|name| matches!(name, "auth" | "sys")) {
            return Cow::Owned(self.kind_of_write());
        }
        Cow::Borrowed(&self.kind)
    }

    /// The namespace of a `sys/` path, in header and path together.
    pub fn namespace_of_sys(&self) -> &str {
        let inside = self.inside();
        let at = self.canonical.len() - inside.len();
        let path = match inside.strip_prefix("sys/") {
            Some(_) => 0,
            None => inside.find("/sys/").unwrap_or_default(),
        };
        let namespace = self.canonical.get(..at + path).unwrap_or_default();
        namespace.trim_end_matches('/')
    }

    /// `auth/<mount>` of a path below it, with the namespaces in front.
    pub fn auth_mount(&self) -> Option<&str> {
        let segments: Vec<&str> = self.canonical.split('/').collect();
        let at = segments.iter().position(|segment| *segment == "auth")?;
        let names = segments.get(..at + 2)?;
        let length: usize = names.iter().map(|name| name.len() + 1).sum();
        self.canonical.get(..length - 1)
    }

    /// What stands behind the header's namespace.
    fn inside(&self) -> &str {
        let inside = self.canonical.get(self.header..).unwrap_or_default();
        inside.strip_prefix('/').unwrap_or(inside)
    }

    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Does the path begin with `sys` or `auth`? Behind other segments those may be a namespace's, or just
    /// names inside a mount.
    pub fn is_certain(&self) -> bool {
        matches!(
            self.inside().split('/').next(),
            Some("sys" | "auth" | "identity")
        )
    }

    pub fn is_login(&self) -> bool {
        self.kind == Kind::Login
    }

    /// Does only the request's body tell what this revokes or renews?
    pub fn is_told_by_body(&self) -> bool {
        match &self.kind {
            Kind::TokenRevoke { named, .. } | Kind::TokenRenew(named) => {
                matches!(named, Named::Token(None) | Named::Accessor(None))
            }
            Kind::LeaseRevoke(id) | Kind::LeaseRenew(id) => id.is_none(),
            Kind::Login
            | Kind::TokenCreate
            | Kind::TokenLookup
            | Kind::LeaseRevokePrefix(_)
            | Kind::UiMounts
            | Kind::Access
            | Kind::Wrapping
            | Kind::Unauthenticated
            | Kind::System
            | Kind::Secret => false,
        }
    }

    /// For logs: the canonical path without what may be secret in it, a lease id, a token, an accessor.
    pub fn shown(&self) -> String {
        let verbs = ["renew", "revoke", "lookup"];
        let is_about_one = matches!(
            self.kind,
            Kind::LeaseRenew(_)
                | Kind::LeaseRevoke(_)
                | Kind::TokenRenew(_)
                | Kind::TokenRevoke { .. }
                | Kind::TokenLookup
        );
        let mut shown = String::with_capacity(self.canonical.len());
        for segment in self.canonical.split('/') {
            if !shown.is_empty() {
                shown.push('/');
            }
            shown.push_str(segment);
            if is_about_one && verbs.iter().any(|verb| segment.starts_with(verb)) {
                if shown.len() < self.canonical.len() {
                    shown.push_str("/...");
                }
                break;
            }
        }
        shown
    }

    /// The paths whose cached answers a write to this one makes wrong: itself, its other views (KV v2 has
    /// data, metadata, subkeys), and every list above. May name more than exist, never fewer; `None` for a path
    /// so long or odd that naming them all would cost more than forgetting everything.
    pub fn touched_by_write(&self) -> Option<Vec<String>> {
        let segments: Vec<&str> = self.canonical.split('/').collect();
        let views = segments.iter().filter(|segment| is_view(segment)).count();
        if self.canonical.len() > LONGEST_NAMED
            || segments.len() > MOST_SEGMENTS
            || views > MOST_VIEWS
        {
            return None;
        }
        let mut touched = ancestors(&segments);
        for (at, segment) in segments.iter().enumerate().skip(1) {
            let (Some(mount), Some(rest)) = (segments.get(..at), segments.get(at + 1..)) else {
                continue;
            };
            let views: &[&str] = match *segment {
                "data" | "metadata" | "delete" | "undelete" | "destroy" | "subkeys"
                | "detailed-metadata" => &["data", "metadata", "subkeys", "detailed-metadata"],
                "static-roles" | "rotate-role" => &["static-creds"],
                "static-role" => &["static-cred"],
                _ => continue,
            };
            for view in views {
                let mut path = mount.to_vec();
                path.push(view);
                path.extend_from_slice(rest);
                touched.extend(ancestors(&path));
            }
        }
        touched.sort_unstable();
        touched.dedup();
        Some(touched)
    }

    /// Is this a KV v2 path by its look? (`<mount>/data/...`, `<mount>/metadata/...`)
    pub fn looks_like_kv2(&self) -> bool {
        self.canonical.split('/').skip(1).any(is_kv2_view)
    }

    /// As above, and not of a role that happens to be called `data`: reading `database/creds/data` creates something.
    fn is_kv2_read(&self) -> bool {
        let mut segments = self.canonical.split('/').skip(1);
        let first = segments.find(|segment| is_kv2_view(segment) || makes_by_reading(segment));
        first.is_some_and(is_kv2_view)
    }

    /// Is this a path whose answers come with a lease, by its look? (`<mount>/creds/...`)
    pub fn looks_leased(&self) -> bool {
        let mut segments = self.canonical.split('/').skip(1);
        segments.any(|segment| matches!(segment, "creds" | "cred" | "sts" | "static-creds"))
    }
}

/// Where the namespace was said makes no difference.
impl PartialEq for ApiPath {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical && self.kind == other.kind
    }
}

/// As in logs: a path may end in a lease id or a token.
impl fmt::Debug for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// The header's namespace in one form: no slashes at its ends, the root as nothing.
pub fn canonical_namespace(header: Option<&str>) -> &str {
    match header.map_or("", |text| text.trim().trim_matches('/')) {
        "root" => "",
        other => other,
    }
}

/// A read that surely creates nothing, so that it may be sent again when the first try broke.
pub fn is_plain_read(path: &str) -> bool {
    ApiPath::parse(path, None).is_some_and(|path| match path.kind() {
        Kind::UiMounts | Kind::Unauthenticated | Kind::TokenLookup => true,
        Kind::Secret => path.is_kv2_read(),
        Kind::Login
        | Kind::TokenCreate
        | Kind::TokenRenew(_)
        | Kind::TokenRevoke { .. }
        | Kind::LeaseRenew(_)
        | Kind::LeaseRevoke(_)
        | Kind::LeaseRevokePrefix(_)
        | Kind::Access
        | Kind::Wrapping
        | Kind::System => false,
    })
}

fn is_kv2_view(segment: &str) -> bool {
    matches!(
        segment,
        "data" | "metadata" | "subkeys" | "detailed-metadata"
    )
}

/// Behind these, engines make a credential for whoever reads the role's name.
fn makes_by_reading(segment: &str) -> bool {
    matches!(
        segment,
        "creds"
            | "cred"
            | "sts"
            | "key"
            | "token"
            | "roleset"
            | "static-account"
            | "impersonated-account"
    )
}

/// The first segment behind a mount of a KV v2 or database engine, by name.
fn is_view(segment: &str) -> bool {
    matches!(
        segment,
        "data"
            | "metadata"
            | "delete"
            | "undelete"
            | "destroy"
            | "subkeys"
            | "detailed-metadata"
            | "static-roles"
            | "rotate-role"
            | "static-role"
    )
}

/// The path itself and everything above it, by name.
fn ancestors(segments: &[&str]) -> Vec<String> {
    (1..=segments.len())
        .filter_map(|end| segments.get(..end))
        .map(|head| head.join("/"))
        .collect()
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte != b'%') {
        return Cow::Borrowed(text);
    }
    percent_decode_str(text).decode_utf8_lossy()
}

/// No empty segments and none that may be `.` or `..`. Says no where in doubt.
fn is_tidy(text: &str) -> bool {
    let mut at_start = true;
    for byte in text.bytes() {
        if at_start && matches!(byte, b'/' | b'.') {
            return false;
        }
        at_start = byte == b'/';
    }
    !at_start
}

fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    append_segments(&mut tidy, text);
    tidy
}

fn append_segments(canonical: &mut String, text: &str) {
    for segment in text
        .split('/')
        .filter(|segment| !segment.is_empty() && *segment != ".")
    {
        if segment == ".." {
            let end = canonical.rfind('/').unwrap_or(0);
            canonical.truncate(end);
            continue;
        }
        if !canonical.is_empty() {
            canonical.push('/');
        }
        canonical.push_str(segment);
    }
}

/// Beyond these a write is taken to touch everything: each view names all paths above it again.
const LONGEST_NAMED: usize = 1024;
const MOST_SEGMENTS: usize = 64;
const MOST_VIEWS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(path: &str) -> Kind {
        ApiPath::parse(path, None).unwrap().kind
    }

    #[test]
    fn namespaces_in_header_and_path_agree() {
        let by_path = ApiPath::parse("/v1/team/a/secret/data/x", None).unwrap();
        for (path, header) in [
            ("/v1/secret/data/x", "team/a/"),
            ("/v1/secret/data/x", "/team/a"),
            ("/v1/a/secret//data/%78", "team"),
            ("/v1/a/secret/data/x/", "team/"),
        ] {
            assert_eq!(
                ApiPath::parse(path, Some(header)).unwrap(),
                by_path,
                "{path} {header}"
            );
        }
        let root = ApiPath::parse("/v1/kv/x", None).unwrap();
        for header in [
            "",
            "root",
            "/",
            "root/",
            "./root",
            "root/.",
            "root//",
            "a/../root",
            "a/..",
        ] {
            assert_eq!(ApiPath::parse("/v1/kv/x", Some(header)).unwrap(), root);
        }
    }

    #[test]
    fn kinds_of_calls() {
        let id = Some("database/creds/app/abc".to_owned());
        for (path, expected) in [
            ("/v1/auth/approle/login", Kind::Login),
            ("/v1/team/auth/userpass/login/bob", Kind::Login),
            ("/v1/auth/deep/mount/login", Kind::Login),
            ("/v1/auth/approle/role/app", Kind::System),
            ("/v1/auth/token/create-orphan", Kind::TokenCreate),
            ("/v1/auth/token/renew-self", Kind::TokenRenew(Named::Caller)),
            (
                "/v1/auth/token/renew-self/",
                Kind::TokenRenew(Named::Caller),
            ),
            ("/v1/auth/token/renew", Kind::TokenRenew(Named::Token(None))),
            (
                "/v1/auth/token/revoke-orphan",
                Kind::TokenRevoke {
                    named: Named::Token(None),
                    orphan: true,
                },
            ),
            ("/v1/auth//token/lookup-self", Kind::TokenLookup),
            ("/v1/sys/leases/renew", Kind::LeaseRenew(None)),
            (
                "/v1/sys/leases/revoke/database/creds/app/abc",
                Kind::LeaseRevoke(id.clone()),
            ),
            (
                "/v1/team/sys/revoke/database/creds/app/abc",
                Kind::LeaseRevoke(id),
            ),
            (
                "/v1/sys/leases/revoke-force/database/creds",
                Kind::LeaseRevokePrefix("database/creds".into()),
            ),
            (
                "/v1/sys/revoke-prefix/aws",
                Kind::LeaseRevokePrefix("aws".into()),
            ),
            ("/v1/sys/internal/ui/mounts/secret/app", Kind::UiMounts),
            ("/v1/sys/health", Kind::Unauthenticated),
            ("/v1/sys/policies/acl/app", Kind::Access),
            ("/v1/identity/lookup/entity", Kind::System),
            ("/v1/identity/entity/id/x", Kind::Access),
            ("/v1/secret/data/sys/health", Kind::Secret),
            ("/v1/secret/metadata/auth/x/login", Kind::Secret),
            ("/v1/database/creds/auth", Kind::Secret),
            ("/v1/kv/app", Kind::Secret),
        ] {
            assert_eq!(kind(path), expected, "{path}");
        }
        assert_eq!(ApiPath::parse("/ui/vault", None), None);
    }

    #[test]
    fn shown_paths_have_no_ids() {
        let shown = |path: &str| ApiPath::parse(path, None).unwrap().shown();
        for (path, expected) in [
            (
                "/v1/sys/leases/revoke/database/creds/app/abc",
                "sys/leases/revoke/...",
            ),
            (
                "/v1/team/sys/renew/database/creds/app/abc",
                "team/sys/renew/...",
            ),
            ("/v1/auth/token/lookup/hvs.x", "auth/token/lookup/..."),
            ("/v1/auth/token/lookup-self", "auth/token/lookup-self"),
            (
                "/v1/auth/token/revoke-accessor/a",
                "auth/token/revoke-accessor/...",
            ),
            ("/v1/secret/data/renew/x", "secret/data/renew/x"),
        ] {
            assert_eq!(shown(path), expected);
        }
    }

    #[test]
    fn a_write_touches_all_views_and_the_lists_above() {
        let touched = |path: &str| {
            ApiPath::parse(path, None)
                .unwrap()
                .touched_by_write()
                .unwrap()
        };
        let v2 = touched("/v1/secret/delete/a/b");
        for path in [
            "secret/data/a/b",
            "secret/metadata/a/b",
            "secret/metadata/a",
            "secret/metadata",
            "secret/subkeys/a/b",
        ] {
            assert!(v2.contains(&path.to_owned()), "{path} not in {v2:?}");
        }
        let v1 = touched("/v1/kv/a/b");
        for path in ["kv/a/b", "kv/a", "kv"] {
            assert!(v1.contains(&path.to_owned()));
        }
        assert!(touched("/v1/team/secret/data/x").contains(&"team/secret/metadata/x".to_owned()));
        assert!(
            touched("/v1/database/rotate-role/r").contains(&"database/static-creds/r".to_owned())
        );
        // A mount that is itself called `data`.
        assert!(touched("/v1/data/data/x").contains(&"data/metadata/x".to_owned()));
    }

    /// One unauthenticated write to 600 segments took gigabytes and seconds.
    #[test]
    fn a_write_to_an_absurd_path_names_nothing() {
        for path in [
            format!("/v1/{}", "data/".repeat(600)),
            format!("/v1/{}", "x/".repeat(600)),
            format!("/v1/{}", "x".repeat(60_000)),
        ] {
            assert_eq!(
                ApiPath::parse(&path, None).unwrap().touched_by_write(),
                None
            );
        }
    }

    #[test]
    fn a_namespace_may_have_the_name_of_an_engines_part() {
        let by_header = ApiPath::parse("/v1/sys/leases/revoke", Some("prod/config")).unwrap();
        assert_eq!(by_header.kind, Kind::LeaseRevoke(None));
        assert!(by_header.is_certain());
        let by_path = ApiPath::parse("/v1/prod/config/sys/leases/revoke", None).unwrap();
        assert_eq!(by_path.kind, Kind::Secret);
        assert_eq!(by_path.kind_of_write(), Kind::LeaseRevoke(None));
        let secret = ApiPath::parse("/v1/secret/data/auth/x", None).unwrap();
        assert_eq!(
            (&secret.kind, secret.auth_mount()),
            (&Kind::Secret, Some("secret/data/auth/x"))
        );
    }

    #[test]
    fn vault_decodes_the_version_too() {
        let plain = ApiPath::parse("/v1/secret/data/x", None).unwrap();
        for odd in [
            "/%761/secret/data/x",
            "/v%31/secret/data/x",
            "//v1/secret/data/x",
        ] {
            assert_eq!(ApiPath::parse(odd, None).unwrap(), plain, "{odd}");
        }
        assert_eq!(ApiPath::parse("/v10/x", None), None);
    }

    #[test]
    fn a_role_called_data_is_not_taken_for_a_plain_read() {
        assert!(is_plain_read("/v1/secret/data/creds/app"));
        for role in [
            "database/creds/data",
            "aws/sts/metadata",
            "gcp/roleset/data/key",
            "team/db/creds/subkeys",
        ] {
            assert!(!is_plain_read(&format!("/v1/{role}")), "{role}");
        }
    }

    #[test]
    fn plain_reads_are_only_what_surely_mints_nothing() {
        assert!(is_plain_read("/v1/secret/data/x"));
        assert!(is_plain_read("/v1/sys/health"));
        assert!(!is_plain_read("/v1/database/creds/app"));
        assert!(!is_plain_read("/v1/kv/app"));
        assert!(!is_plain_read("/v1/sys/wrapping/unwrap"));
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_panic_and_canonical_again(path in "[/a-z.%0-9A-F]{0,40}") {
            if let Some(parsed) = ApiPath::parse(&format!("/v1/{path}"), None) {
                let canonical = parsed.canonical();
                prop_assert!(!canonical.starts_with('/') && !canonical.ends_with('/'));
                prop_assert!(!canonical.contains("//"));
                if !canonical.is_empty() {
                    let touched = parsed.touched_by_write();
                    prop_assert!(touched.is_none_or(|touched| touched.contains(&canonical.to_owned())));
                }
            }
        }
    }
}
