//! The keys of `listener "unix"` alone.

use super::super::super::findings::{Given, Note, Phase};
use super::super::super::forms::Form;
use super::super::super::read::{Fields, Other, Reader};
use super::super::{idle, silent};

#[derive(Debug)]
pub(in super::super::super) struct Unix {
    pub(in super::super::super) mode: Option<Given<u32>>,
    pub(in super::super::super) user: Option<Given<String>>,
    pub(in super::super::super) group: Option<Given<String>>,
    pub(in super::super::super) allowed_uids: Option<Allowed>,
    pub(in super::super::super) allowed_gids: Option<Allowed>,
}

/// The key's own place, for what is said of the whole list, and its entries.
pub(in super::super::super) type Allowed = Given<Vec<Given<String>>>;

impl Unix {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let filled = |given: &Given<String>| !given.value.is_empty();
        let allowed = |name: &'static str| {
            Some(Given {
                value: fields.list(name)?,
                at: fields.has(name),
            })
        };
        // As in the peers, an empty text is as good as none.
        let has_mode = fields
            .text("socket_mode")
            .is_none_or(|given| filled(&given));
        Self {
            mode: has_mode.then(|| fields.mode("socket_mode")).flatten(),
            user: fields.text("socket_user").filter(filled),
            group: fields.text("socket_group").filter(filled),
            allowed_uids: allowed("allowed_uids"),
            allowed_gids: allowed("allowed_gids"),
        }
    }
}

/// On a TCP listener, where the kernel does not say who connects: a guard that is not there must not seem to be.
pub(super) fn refuse_guards(reader: Reader<'_>, fields: &Fields<'_>) {
    for name in ["allowed_uids", "allowed_gids"] {
        let Some(at) = fields.has(name) else {
            continue;
        };
        let message = format!(
            "{name} belongs to unix listeners: over TCP nobody can say whose process calls"
        );
        let note = Note::error(Phase::Build, Some(at), message);
        reader.found.add(note.key(fields.key(name)));
    }
}

pub(super) const ELSEWHERE: &[Other] = &[
    idle("socket_mode", Form::Text, "it belongs to unix listeners"),
    idle("socket_user", Form::Text, "it belongs to unix listeners"),
    idle("socket_group", Form::Text, "it belongs to unix listeners"),
    silent("allowed_uids", Form::Any),
    silent("allowed_gids", Form::Any),
];
