//! Unix sockets: where, whose, and for whom.

use super::super::super::address::LONGEST_SOCKET;
use super::super::super::file;
use super::super::super::findings::{At, Given, Note, Phase};
use super::super::super::socket::{Activation, AllowedPeers, Principal, UnixSocket};
use super::super::Check;
use super::place;

impl Check<'_> {
    /// Its address, where there is one that can be.
    pub(super) fn unix_address(&self, typed: &file::Listener) -> Option<String> {
        let given = typed.address.as_ref();
        let address = given.map_or("", |given| given.value.as_str());
        let refuse = |message: String| {
            let note = Note::error(Phase::Validate, place(typed), message);
            self.found.add(note.key("listener.address"));
            None
        };
        let bare = address
            .strip_prefix("unix:")
            .map(|path| path.strip_prefix("//").unwrap_or(path));
        if address.is_empty() {
            return refuse(
                "listener \"unix\" needs an address: the path of its socket, like \"/run/leasehold/vault.sock\""
                    .to_owned(),
            );
        }
        if let Some(bare) = bare {
            return refuse(format!(
                "the address of a Unix listener is the path alone: write {bare:?}"
            ));
        }
        if address.contains("{{") {
            return refuse(
                "this version of Leasehold has no address templates: write the path".to_owned(),
            );
        }
        if address.len() > LONGEST_SOCKET {
            let length = address.len();
            return refuse(format!(
                "the address has {length} bytes, and a socket's path has {LONGEST_SOCKET} at most: choose a shorter one"
            ));
        }
        if address.contains('\0') || address == "@" || address.ends_with('/') {
            return refuse(format!(
                "{address:?} is no path of a socket: write one like \"/run/leasehold/vault.sock\", or \"@name\""
            ));
        }
        Some(address.to_owned())
    }

    pub(super) fn unix_socket(
        &self,
        typed: &file::Unix,
        address: &str,
        place: Option<At>,
    ) -> UnixSocket {
        let fallback = match &typed.group {
            Some(_) => GROUP_MODE,
            None => MODE,
        };
        let mode = typed.mode.as_ref().map_or(fallback, |mode| mode.value);
        let allowed = AllowedPeers {
            uids: self.principals("allowed_uids", typed.allowed_uids.as_ref()),
            gids: self.principals("allowed_gids", typed.allowed_gids.as_ref()),
        };
        let is_guarded = !allowed.uids.is_empty() || !allowed.gids.is_empty();
        let has_file = !address.starts_with('@') && Activation::parse(address).is_none();
        if has_file {
            self.unreachable_for_others(typed, mode);
        } else {
            self.without_file(typed, address, place, is_guarded);
        }
        let principal =
            |key, given: Option<&Given<String>>| given.and_then(|given| self.principal(key, given));
        UnixSocket {
            mode,
            user: principal("socket_user", typed.user.as_ref()),
            group: principal("socket_group", typed.group.as_ref()),
            allowed: is_guarded.then_some(allowed),
        }
    }

    /// Lists of peers let nobody in whom the file's mode keeps out.
    fn unreachable_for_others(&self, typed: &file::Unix, mode: u32) {
        let list = typed.allowed_uids.as_ref().or(typed.allowed_gids.as_ref());
        if let Some(list) = list.filter(|_| typed.mode.is_none() && typed.group.is_none()) {
            let message = format!(
                "without socket_mode only the socket's owner can connect (0{mode:o}), whoever is listed here: \
                 set socket_mode = \"0666\" to let this list decide alone"
            );
            let note = Note::warning(Phase::Validate, list.at, message);
            self.found.add(note.key("listener.socket_mode"));
        }
    }

    fn without_file(&self, typed: &file::Unix, address: &str, place: Option<At>, is_guarded: bool) {
        let is_abstract = address.starts_with('@');
        let reason = if is_abstract {
            "an abstract socket has no file: use allowed_uids or allowed_gids"
        } else {
            "systemd makes the file: use SocketMode=, SocketUser= and SocketGroup= of the .socket unit"
        };
        let keys = [
            ("socket_mode", typed.mode.as_ref().map(|given| given.at)),
            ("socket_user", typed.user.as_ref().map(|given| given.at)),
            ("socket_group", typed.group.as_ref().map(|given| given.at)),
        ];
        for (key, at) in keys {
            let Some(at) = at else { continue };
            let note = Note::error(
                Phase::Validate,
                at,
                format!("{key} cannot take effect: {reason}"),
            );
            self.found.add(note.key(format!("listener.{key}")));
        }
        if is_abstract && !is_guarded {
            let message = "every process that shares the network namespace can connect to an abstract socket: \
                           list who may in allowed_uids or allowed_gids";
            let note = Note::warning(Phase::Validate, place, message);
            self.found.add(note.key("listener.allowed_uids"));
        }
    }

    fn principals(&self, key: &str, list: Option<&file::Allowed>) -> Vec<Principal> {
        let Some(list) = list else {
            return Vec::new();
        };
        if list.value.is_empty() {
            let message =
                format!("{key} is empty, and would let nobody in: list who may, or leave it out");
            let note = Note::error(Phase::Validate, list.at, message);
            self.found.add(note.key(format!("listener.{key}")));
        }
        let read = list.value.iter();
        read.filter_map(|given| self.principal(key, given))
            .collect()
    }

    fn principal(&self, key: &str, given: &Given<String>) -> Option<Principal> {
        Principal::parse(&given.value)
            .map_err(|message| {
                let note = Note::error(Phase::Validate, given.at, format!("{key}: {message}"));
                self.found.add(note.key(format!("listener.{key}")));
            })
            .ok()
    }
}

/// For the owner: no other user can connect.
const MODE: u32 = 0o600;
/// A group is named so that it can connect.
const GROUP_MODE: u32 = 0o660;
