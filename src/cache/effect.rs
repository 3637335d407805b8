//! What requests that pass through change: writes make answers old, revocations end leases and tokens,
//! renewals move their ends. All of it happens before the answer goes back.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::key::Print;
use super::policy;
use super::{Caller, Certainty, Errand, Room};
use crate::error::Error;
use crate::upstream;
use crate::vault::envelope::field_of_body;
use crate::vault::path::{ApiPath, Kind, Named};

/// What a request does to what is cached, if it succeeds.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    None,
    /// These canonical paths read differently from now on (sorted).
    Written(Vec<String>),
    /// It is one of these; which, only Vault knows.
    Either(Box<[Self; 2]>),
    /// What an auth method's logins depend on: `auth/<mount>`, namespaces in front.
    LoginsChanged(String),
    /// Something was changed or revoked, and we cannot tell what.
    Unclear,
    /// Who may read what has changed; a mount may be gone, with all its leases.
    AccessChanged {
        mount: Option<String>,
    },
    TokenRevoked {
        token: Option<Print>,
        orphan: bool,
    },
    /// Whose accessor that is may only become known while the request is with Vault.
    AccessorRevoked(Print),
    LeaseRevoked(Option<Print>),
    PrefixRevoked(String),
    /// The answer says until when.
    TokenRenewed(Option<Print>),
    LeaseRenewed(Option<Print>),
    /// The answer brings a token, child of the caller's.
    TokenMade {
        parent: Option<Print>,
    },
}

impl Effect {
    /// What a write to this path makes old.
    pub(super) fn written(path: &ApiPath) -> Self {
        path.touched_by_write()
            .map_or(Self::AccessChanged { mount: None }, Self::Written)
    }

    /// `None` for what is not a call of Vault's API. A body that was too large, or too slow, to be read tells nothing.
    pub(super) fn of(room: &Room, errand: &Errand) -> Option<Self> {
        let path = errand.path.as_ref()?;
        let is_read = matches!(
            errand.request.method().as_str(),
            "GET" | "HEAD" | "LIST" | "SCAN" | "OPTIONS" | "TRACE"
        );
        Some(match is_read {
            true => Self::None,
            false => Self::of_write(room, errand, path),
        })
    }

    fn of_write(room: &Room, errand: &Errand, path: &ApiPath) -> Self {
        let field = |name: &str, in_path: &Option<String>| {
            let in_body = || match errand.request.body() {
                upstream::Body::Full(body) => field_of_body(body, name),
                upstream::Body::Empty | upstream::Body::Streamed(_) => None,
            };
            let text = in_path.clone().or_else(in_body)?;
            Some(room.keyer.print(text.as_bytes()))
        };
        let own = || match &errand.caller {
            Caller::AutoAuth(token) => Some(room.keyer.print_of(&token.secret)),
            Caller::Own(token) => Some(room.keyer.print_of(token)),
            Caller::Anonymous | Caller::Unclear => None,
        };
        let named = |named: &Named| match named {
            Named::Caller => own(),
            Named::Token(in_path) => field("token", in_path),
            Named::Accessor(in_path) => {
                let known = room.tokens.find_accessor(field("accessor", in_path)?)?;
                Some(known.token)
            }
        };
        if !policy::is_clear_namespace(errand.request.headers()) {
            return Self::Unclear;
        }
        let kind = path.kind_of_write();
        let of_system = match &kind {
            Kind::Secret => return Self::written(path),
            Kind::Access => Self::of_access(errand.request.method(), path),
            Kind::TokenRevoke {
                named: Named::Accessor(in_path),
                orphan,
            } => match field("accessor", in_path) {
                Some(accessor) => Self::AccessorRevoked(accessor),
                None => Self::TokenRevoked {
                    token: None,
                    orphan: *orphan,
                },
            },
            Kind::TokenRevoke { named: who, orphan } => Self::TokenRevoked {
                token: named(who),
                orphan: *orphan,
            },
            Kind::TokenRenew(who) => Self::TokenRenewed(named(who).or_else(own)),
            Kind::LeaseRevoke(in_path) => Self::LeaseRevoked(field("lease_id", in_path)),
            Kind::LeaseRevokePrefix(prefix) => Self::PrefixRevoked(prefix.clone()),
            Kind::LeaseRenew(in_path) => Self::LeaseRenewed(field("lease_id", in_path)),
            Kind::TokenCreate | Kind::Login => Self::TokenMade { parent: own() },
            Kind::System => path
                .auth_mount()
                .map_or(Self::None, |mount| Self::LoginsChanged(mount.to_owned())),
            Kind::TokenLookup | Kind::UiMounts | Kind::Wrapping | Kind::Unauthenticated => {
                Self::None
            }
        };
        if path.is_certain() {
            return of_system;
        }
        // A mount's own path may look like one of these: `kv/sys/...`, `secret/data/auth/...`.
        Self::Either(Box::new([of_system, Self::written(path)]))
    }

    /// Mounts, policies, namespaces, identity. What is disabled takes its leases with it, and an auth method its tokens.
    fn of_access(method: &Method, path: &ApiPath) -> Self {
        let segments: Vec<&str> = path.canonical().split('/').collect();
        let about = |names: &[&str]| {
            segments
                .windows(2)
                .any(|pair| matches!(pair, ["sys", name] if names.contains(name)))
        };
        if about(&["remount", "namespaces"]) {
            return Self::Unclear;
        }
        if about(&["auth"]) && *method == Method::DELETE {
            return Self::PrefixRevoked("auth/".to_owned());
        }
        Self::AccessChanged {
            mount: mount_in(&segments),
        }
    }

    /// Does only the answer's body tell what happened?
    pub(super) fn needs_answer(&self) -> bool {
        if let Self::Either(both) = self {
            return both.iter().any(Self::needs_answer);
        }
        matches!(
            self,
            Self::TokenRenewed(_) | Self::LeaseRenewed(_) | Self::TokenMade { .. }
        )
    }

    /// Does it end more than one who knows a lease's id, or a token, could end? Then a caller's hang-up must neither
    /// stop it nor leave us in doubt: anybody could make us forget everything so.
    pub(super) fn is_sweeping(&self) -> bool {
        if let Self::Either(both) = self {
            return both.iter().any(Self::is_sweeping);
        }
        matches!(
            self,
            Self::AccessorRevoked(_)
                | Self::PrefixRevoked(_)
                | Self::AccessChanged { .. }
                | Self::Unclear
        ) || self.is_unnamed()
    }

    /// A revocation whose body, which names what it revokes, we could not read.
    fn is_unnamed(&self) -> bool {
        matches!(
            self,
            Self::TokenRevoked { token: None, .. } | Self::LeaseRevoked(None)
        )
    }
}

/// An effect that is applied when this is dropped: on every way out, a client that hangs up among them,
/// unless it is known that it did not happen.
pub(super) struct Pending {
    room: Arc<Room>,
    effect: Effect,
    certainty: Certainty,
}

impl Pending {
    pub(super) fn new(room: Arc<Room>, effect: Effect) -> Self {
        Self {
            room,
            effect,
            certainty: Certainty::Doubtful,
        }
    }

    pub(super) fn did_not_happen(mut self) {
        self.effect = Effect::None;
    }

    /// Vault has answered with this.
    pub(super) fn answered(mut self, status: StatusCode) {
        if status.is_success() {
            self.certainty = Certainty::Certain;
        } else if !may_have_happened(status) {
            self.did_not_happen();
        }
    }

    /// The request has failed.
    pub(super) fn failed(self, error: &Error) {
        // A body that its caller broke off was no whole request for Vault either.
        if error.is_unsent() || self.effect.is_unnamed() {
            self.did_not_happen();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.room.apply(&self.effect, self.certainty);
    }
}

/// The mount or auth method that `sys/mounts/<path>` and `sys/auth/<path>` are about.
fn mount_in(segments: &[&str]) -> Option<String> {
    let is_it = |pair: &[&str]| matches!(pair, ["sys", "mounts" | "auth"]);
    let at = segments.windows(2).position(is_it)?;
    let namespaces = segments.get(..at)?;
    let method = segments.get(at + 1).filter(|kind| **kind == "auth");
    let mount = segments.get(at + 2..)?;
    let mount = mount.strip_suffix(&["tune"]).unwrap_or(mount);
    if mount.is_empty() {
        return None;
    }
    let mut path = namespaces.to_vec();
    path.extend(method);
    path.extend_from_slice(mount);
    Some(path.join("/"))
}

/// An answer after which a write or revocation may have happened: good ones, and failures in the middle. Vault
/// refuses (4xx), or is sealed or standby (503), before it does anything.
fn may_have_happened(status: StatusCode) -> bool {
    status.is_success() || status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE
}
