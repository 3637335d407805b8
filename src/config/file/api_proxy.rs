//! `api_proxy { ... }` as typed, or as the old key in `cache` stands for it.

use super::super::UseAutoAuthToken;
use super::super::findings::{At, Given};
use super::super::forms::Form;
use super::super::read::{Block, Fields, Other, Reader};
use super::{Cache, consistency, refused};

#[derive(Debug)]
pub(in super::super) struct ApiProxy {
    pub(in super::super) at: At,
    pub(in super::super) whole: At,
    pub(in super::super) use_auto_auth_token: Option<Given<UseAutoAuthToken>>,
    pub(in super::super) allow_child_tokens: Option<Given<bool>>,
    /// There is no such block: `cache { use_auto_auth_token }` made it.
    pub(in super::super) from_cache: bool,
}

impl ApiProxy {
    pub(super) fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "api_proxy", block.items.clone());
        let read = Self {
            at: block.at,
            whole: block.whole,
            use_auto_auth_token: fields.auto_auth_use("use_auto_auth_token"),
            allow_child_tokens: fields.boolish("allow_child_tokens"),
            from_cache: false,
        };
        fields.others(OTHERS);
        consistency(reader, &fields);
        fields.finish();
        read
    }

    /// The old place of the key, in a file without `api_proxy`.
    pub(super) fn of_cache(cache: &mut Cache) -> Option<Self> {
        let used = cache.use_auto_auth_token.clone()?;
        Some(Self {
            at: used.at.unwrap_or(cache.at),
            whole: cache.whole,
            use_auto_auth_token: Some(used),
            allow_child_tokens: None,
            from_cache: true,
        })
    }
}

const OTHERS: &[Other] = &[refused(
    "prepend_configured_namespace",
    Form::Bool,
    "let clients send X-Vault-Namespace",
)];
