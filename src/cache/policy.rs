//! What may be cached, and for how long. Pure: no clock, no I/O. README, "What it does", says
//! the same in words.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};

use super::key::Op;
use crate::config::{Cache as Settings, PathMode, PathRule, StaticSecrets};
use crate::secret::Secret;
use crate::vault::envelope::{Auth, Envelope, Seconds};
use crate::vault::headers::{INLINE_AUTH_PREFIX, X_VAULT_MFA, X_VAULT_NAMESPACE, X_VAULT_WRAP_TTL};
use crate::vault::path::{ApiPath, Kind};

/// How a request is treated, decided before anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Looked up, shared in a flight, perhaps stored: reads, and logins where those are shared.
    Shared(Op),
    /// Looked up and perhaps stored, never held for another: a write that may bring a lease.
    Alone(Op),
    /// Passed through. What it changes is still noticed (`effect`).
    Through,
}

/// What becomes of an answer.
#[derive(Debug)]
pub(super) enum Keep {
    /// Until the lease's end.
    Leased(Brought),
    /// Until the end of the token that it brought.
    Token(Login),
    /// It brought a token of few uses, which is its owner's alone.
    Counted { token: Secret, ttl: Duration },
    /// For `ttl`; `rotation` is when Vault will change it, a hard end.
    Static {
        ttl: Duration,
        rotation: Option<Seconds>,
    },
    /// Not stored, but good for those who asked the same at the same time.
    Share,
    /// For the one who asked.
    No,
    /// As `Share`, unless it turns out that something is mounted there whose answers may be stored.
    AskMount,
}

/// The lease of an answer.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) lease_id: Secret,
    pub(super) renewable: bool,
    pub(super) ttl: Seconds,
}

/// The token of an answer.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) token: Secret,
    pub(super) accessor: Option<Secret>,
    pub(super) orphan: bool,
    pub(super) renewable: bool,
    pub(super) ttl: Seconds,
}

/// The first rule whose glob matches the path (`secret/data/hot/*`).
pub(super) fn rule_for<'a>(settings: &'a Settings, path: &ApiPath) -> Option<&'a PathRule> {
    settings
        .paths
        .iter()
        .find(|rule| glob_matches(rule.glob.trim_matches('/'), path.canonical()))
}

pub(super) fn treatment(
    settings: &Settings,
    method: &Method,
    query: Option<&str>,
    path: &ApiPath,
    headers: &HeaderMap,
) -> Treatment {
    if is_personal(headers) {
        return Treatment::Through;
    }
    let Some(op) = Op::of(method, query) else {
        return Treatment::Through;
    };
    if rule_for(settings, path).is_some_and(|rule| rule.mode == Some(PathMode::Bypass)) {
        return Treatment::Through;
    }
    let of_write;
    let kind = if op.is_read() {
        path.kind()
    } else {
        of_write = path.kind_of_write();
        &of_write
    };
    match kind {
        Kind::Secret if op.is_read() => Treatment::Shared(op),
        Kind::UiMounts if op == Op::Read => Treatment::Shared(op),
        Kind::Secret if !path.looks_like_kv2() => Treatment::Alone(op),
        Kind::Login if settings.logins && !op.is_read() => Treatment::Shared(op),
        Kind::TokenCreate if settings.token_create && !op.is_read() => Treatment::Shared(op),
        Kind::Secret
        | Kind::UiMounts
        | Kind::Login
        | Kind::TokenCreate
        | Kind::TokenRenew(_)
        | Kind::TokenRevoke { .. }
        | Kind::TokenLookup
        | Kind::LeaseRenew(_)
        | Kind::LeaseRevoke(_)
        | Kind::LeaseRevokePrefix(_)
        | Kind::Access
        | Kind::Wrapping
        | Kind::Unauthenticated
        | Kind::System => Treatment::Through,
    }
}

/// Does a request ask for something that is meant for it alone: wrapping, MFA, its own login?
pub(super) fn is_personal(headers: &HeaderMap) -> bool {
    !is_clear_namespace(headers)
        || headers.contains_key(X_VAULT_WRAP_TTL)
        || headers.contains_key(X_VAULT_MFA)
        || headers.contains_key("x-vault-policy-override")
        || headers
            .keys()
            .any(|name| name.as_str().starts_with(INLINE_AUTH_PREFIX))
}

/// One namespace header at most, and one that is text: else nobody knows which namespace Vault reads.
pub(super) fn is_clear_namespace(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(X_VAULT_NAMESPACE).iter();
    named.next().is_none_or(|value| value.to_str().is_ok()) && named.next().is_none()
}

/// May the answer's body be collected to be looked at? Decided by its head.
pub(super) fn is_readable(headers: &HeaderMap) -> bool {
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|value| {
        value.to_str().is_ok_and(|text| {
            let kind = text.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json")
        })
    });
    is_json && !headers.contains_key(CONTENT_ENCODING)
}

/// Might the answer be kept once it is known what is mounted there? Versions of
/// KV v2 and leases show by themselves.
pub(super) fn may_need_mount(path: &ApiPath, op: Op) -> bool {
    let shows = path.looks_like_kv2() && op == Op::Read || path.looks_leased();
    *path.kind() == Kind::Secret && op.is_read() && !shows
}

/// `mount_looked_up` is the kind of mount as looked up, for servers that do not say it in their answers.
pub(super) fn verdict(
    settings: &Settings,
    op: Op,
    path: &ApiPath,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    mount_looked_up: Option<&str>,
) -> Keep {
    let shared = if op.is_read() { Keep::Share } else { Keep::No };
    if !status.is_success() || !is_readable(headers) {
        return shared;
    }
    let Some(envelope) = Envelope::read(body) else {
        return shared;
    };
    if envelope.is_wrapped {
        return Keep::No;
    }
    if let Some(auth) = &envelope.auth {
        let is_login = matches!(path.kind(), Kind::Login | Kind::TokenCreate);
        return if is_login { of_login(auth) } else { Keep::No };
    }
    let mount = envelope.mount_type.clone();
    let mount = mount.as_deref().or(mount_looked_up);
    let rule = rule_for(settings, path);
    let mode = rule.and_then(|rule| rule.mode);
    if !envelope.lease_id.is_empty() {
        return of_lease(envelope, mount, mode);
    }
    if !op.is_read() || mode == Some(PathMode::Leased) || status != StatusCode::OK {
        return shared;
    }
    match static_ttl(settings, rule) {
        Some(ttl) => of_static(&envelope, body, path, mount, mode, ttl),
        None => shared,
    }
}

fn of_login(auth: &Auth<'_>) -> Keep {
    match &auth.lease_duration {
        // Shared, its uses would not last for those who share it.
        ttl if auth.is_counted => Keep::Counted {
            token: Secret::new(auth.client_token.as_ref()),
            ttl: ttl.as_ref().map_or(Duration::ZERO, |ttl| ttl.value),
        },
        Some(ttl) if !ttl.value.is_zero() && !auth.client_token.is_empty() => Keep::Token(Login {
            token: Secret::new(auth.client_token.as_ref()),
            accessor: (!auth.accessor.is_empty()).then(|| Secret::new(auth.accessor.as_ref())),
            orphan: auth.orphan,
            renewable: auth.renewable,
            ttl: ttl.clone(),
        }),
        _ => Keep::No,
    }
}

fn of_lease(envelope: Envelope<'_>, mount: Option<&str>, mode: Option<PathMode>) -> Keep {
    match envelope.lease_duration {
        // A one-time password is spent by its first use.
        _ if matches!(mount, Some("ssh" | "totp")) => Keep::No,
        Some(ttl) if !ttl.value.is_zero() && mode != Some(PathMode::Static) => {
            Keep::Leased(Brought {
                lease_id: Secret::new(envelope.lease_id),
                renewable: envelope.renewable,
                ttl,
            })
        }
        _ => Keep::No,
    }
}

fn of_static(
    envelope: &Envelope<'_>,
    body: &[u8],
    path: &ApiPath,
    mount: Option<&str>,
    mode: Option<PathMode>,
    ttl: Duration,
) -> Keep {
    let kept = Keep::Static {
        ttl,
        rotation: None,
    };
    if mode == Some(PathMode::Static) || *path.kind() == Kind::UiMounts {
        return kept;
    }
    if let Some(rotation) = envelope.rotation(body) {
        return Keep::Static {
            ttl: rotation.value,
            rotation: Some(rotation),
        };
    }
    if envelope.deletes_itself() {
        return Keep::Share;
    }
    match mount {
        None if path.looks_like_kv2() && envelope.is_kv2_version() => kept,
        Some("kv" | "generic") if envelope.has_data() => kept,
        None if envelope.has_data() => Keep::AskMount,
        Some(_) | None => Keep::Share,
    }
}

/// How long static answers of a path are kept; `None`: they are not. A rule of mode `static` keeps them even
/// where static secrets are turned off.
fn static_ttl(settings: &Settings, rule: Option<&PathRule>) -> Option<Duration> {
    let defaults = settings.static_secrets.as_ref();
    let is_forced = rule.is_some_and(|rule| rule.mode == Some(PathMode::Static));
    if defaults.is_none() && !is_forced {
        return None;
    }
    let of_rule = rule.and_then(|rule| rule.ttl);
    of_rule
        .or(defaults.map(|defaults| defaults.ttl))
        .or_else(|| Some(StaticSecrets::default().ttl))
}

/// `*` stands for any text, slashes too; everything else for itself.
pub(super) fn glob_matches(glob: &str, text: &str) -> bool {
    let Some((first, globbed)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = globbed.rsplit_once('*').unwrap_or(("", globbed));
    for part in middle.split('*') {
        let Some((_, behind)) = rest.split_once(part) else {
            return false;
        };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn json() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        headers
    }

    fn answer(method: &str, path: &str, body: &str, mount: Option<&str>) -> String {
        let settings = Settings::default();
        let path = ApiPath::parse(path, None).unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let op = Op::of(&method, None).unwrap();
        said(verdict(
            &settings,
            op,
            &path,
            StatusCode::OK,
            &json(),
            body.as_bytes(),
            mount,
        ))
    }

    /// What `Keep` says, without what it holds.
    fn said(keep: Keep) -> String {
        match keep {
            Keep::Static { ttl, rotation } => {
                format!("static {} {}", ttl.as_secs(), rotation.is_some())
            }
            Keep::Leased(_) => "leased".into(),
            Keep::Token(_) => "token".into(),
            Keep::Counted { .. } => "counted".into(),
            Keep::Share => "share".into(),
            Keep::No => "no".into(),
            Keep::AskMount => "ask".into(),
        }
    }

    fn treated(method: &str, path: &str) -> Treatment {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = ApiPath::parse(path, None).unwrap();
        treatment(
            &Settings::default(),
            &method,
            None,
            &path,
            &HeaderMap::new(),
        )
    }

    const LEASE: &str = r#"{"lease_id":"a/b/c","renewable":true,"lease_duration":60,"data":{}}"#;

    #[test]
    fn requests_are_treated_by_method_and_path() {
        assert_eq!(
            treated("GET", "/v1/secret/data/x"),
            Treatment::Shared(Op::Read)
        );
        assert_eq!(treated("LIST", "/v1/kv/x"), Treatment::Shared(Op::List));
        assert_eq!(treated("POST", "/v1/aws/sts/x"), Treatment::Alone(Op::Post));
        assert_eq!(treated("POST", "/v1/secret/data/x"), Treatment::Through);
        assert_eq!(
            treated("PUT", "/v1/auth/approle/login"),
            Treatment::Shared(Op::Put)
        );
        for (method, path) in [
            ("POST", "/v1/auth/token/create"),
            ("PUT", "/v1/sys/leases/renew"),
            ("POST", "/v1/auth/token/renew-self"),
            ("GET", "/v1/auth/token/lookup-self"),
            ("GET", "/v1/sys/health"),
            ("GET", "/v1/sys/mounts"),
            ("DELETE", "/v1/secret/data/x"),
            ("HEAD", "/v1/secret/data/x"),
            ("PATCH", "/v1/secret/data/x"),
        ] {
            assert_eq!(treated(method, path), Treatment::Through, "{method} {path}");
        }
    }

    #[test]
    fn wrapping_mfa_and_inline_logins_are_personal() {
        for name in [
            "x-vault-wrap-ttl",
            "x-vault-mfa",
            "x-vault-inline-auth-path",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                http::HeaderName::from_static(name),
                HeaderValue::from_static("x"),
            );
            let path = ApiPath::parse("/v1/secret/data/x", None).unwrap();
            let treated = treatment(&Settings::default(), &Method::GET, None, &path, &headers);
            assert_eq!(treated, Treatment::Through, "{name}");
        }
    }

    #[test]
    fn leases_are_kept_whatever_the_method() {
        assert_eq!(answer("GET", "/v1/a/b", LEASE, None), "leased");
        assert_eq!(answer("POST", "/v1/a/b", LEASE, None), "leased");
        assert_eq!(answer("GET", "/v1/a/b", LEASE, Some("ssh")), "no");
        let endless = r#"{"lease_id":"a","lease_duration":0}"#;
        assert_eq!(answer("GET", "/v1/a/b", endless, None), "no");
    }

    #[test]
    fn kv_is_static_and_the_rest_is_shared_at_most() {
        let read = r#"{"data":{"x":1},"mount_type":"kv"}"#;
        assert_eq!(
            answer("GET", "/v1/secret/data/x", read, None),
            "static 300 false"
        );
        let plain = r#"{"data":{"x":1}}"#;
        let version = r#"{"data":{"data":{},"metadata":{"version":1,"created_time":"t"}}}"#;
        assert_eq!(
            answer("GET", "/v1/secret/data/x", version, None),
            "static 300 false"
        );
        assert_eq!(answer("GET", "/v1/other/x", version, None), "ask");
        let brief = version.replace(
            r#""version""#,
            r#""deletion_time":"2030-01-01T00:00:00Z","version""#,
        );
        assert_eq!(answer("GET", "/v1/secret/data/x", &brief, None), "share");
        assert_eq!(answer("GET", "/v1/kv/x", plain, None), "ask");
        assert_eq!(
            answer("GET", "/v1/kv/x", plain, Some("kv")),
            "static 300 false"
        );
        assert_eq!(
            answer("GET", "/v1/transit/keys/x", plain, Some("transit")),
            "share"
        );
        assert_eq!(
            answer("POST", "/v1/transit/encrypt/x", plain, Some("transit")),
            "no"
        );
        let wrapped = r#"{"wrap_info":{"token":"t"}}"#;
        assert_eq!(answer("GET", "/v1/kv/x", wrapped, Some("kv")), "no");
        assert_eq!(answer("GET", "/v1/kv/x", "[1]", Some("kv")), "share");
        assert_eq!(
            answer("GET", "/v1/sys/internal/ui/mounts/kv", plain, None),
            "static 300 false"
        );
    }

    #[test]
    fn a_static_credential_is_kept_until_its_rotation() {
        let body = r#"{"data":{"username":"u","ttl":42,"rotation_period":60}}"#;
        let kept = answer("GET", "/v1/database/static-creds/r", body, Some("database"));
        assert_eq!(kept, "static 42 true");
    }

    #[test]
    fn logins_are_kept_by_the_life_of_their_token() {
        let body = r#"{"auth":{"client_token":"t","lease_duration":60,"renewable":true}}"#;
        assert_eq!(answer("PUT", "/v1/auth/x/login", body, None), "token");
        assert_eq!(answer("GET", "/v1/kv/x", body, Some("kv")), "no");
        let counted = r#"{"auth":{"client_token":"t","lease_duration":60,"num_uses":3}}"#;
        assert_eq!(answer("PUT", "/v1/auth/x/login", counted, None), "counted");
        let batch = r#"{"auth":{"client_token":"t","lease_duration":0}}"#;
        assert_eq!(answer("PUT", "/v1/auth/x/login", batch, None), "no");
    }

    #[test]
    fn errors_are_shared_but_never_stored() {
        let path = ApiPath::parse("/v1/secret/data/x", None).unwrap();
        for status in [404, 403, 500, 302] {
            let status = StatusCode::from_u16(status).unwrap();
            let body = br#"{"data":{"x":1},"mount_type":"kv"}"#;
            let kept = verdict(
                &Settings::default(),
                Op::Read,
                &path,
                status,
                &json(),
                body,
                None,
            );
            assert_eq!(said(kept), "share");
        }
    }

    #[test]
    fn rules_win() {
        let rule = |mode| PathRule {
            glob: "secret/data/hot/*".into(),
            mode,
            ttl: Some(Duration::from_secs(7)),
            max_stale: None,
        };
        let path = ApiPath::parse("/v1/secret/data/hot/x", None).unwrap();
        let body = br#"{"data":{"x":1},"mount_type":"transit"}"#;
        let mut settings = Settings {
            paths: vec![rule(Some(PathMode::Static))],
            ..Settings::default()
        };
        let kept = verdict(
            &settings,
            Op::Read,
            &path,
            StatusCode::OK,
            &json(),
            body,
            None,
        );
        assert_eq!(said(kept), "static 7 false");
        settings.paths = vec![rule(Some(PathMode::Bypass))];
        let treated = treatment(&settings, &Method::GET, None, &path, &HeaderMap::new());
        assert_eq!(treated, Treatment::Through);
    }

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("a/*", "a/b/c", true),
            ("a/*", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("*/creds/*", "x/y/creds/z", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} {text}");
        }
    }
}
