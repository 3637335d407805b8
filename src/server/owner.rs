//! Users and groups by name or number.

use nix::unistd::{Group, User};

use crate::config::{Principal, UnixSocket};

/// Whose a socket's file is to be; `None` is as it is.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

impl Owner {
    /// The error names the key.
    pub(super) fn of(settings: &UnixSocket) -> Result<Self, String> {
        let wrong =
            |key: &'static str| move |message: String| format!("cannot be made: {key}: {message}");
        let (user, group) = (settings.user.as_ref(), settings.group.as_ref());
        Ok(Self {
            uid: user.map(uid).transpose().map_err(wrong("socket_user"))?,
            gid: group.map(gid).transpose().map_err(wrong("socket_group"))?,
        })
    }
}

pub(super) fn uid(user: &Principal) -> Result<u32, String> {
    let name = match user {
        Principal::Id(id) => return Ok(*id),
        Principal::Name(name) => name,
    };
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!(
            "this system has no user {name:?}: create it, or give the number"
        )),
        Err(error) => Err(format!("the user {name:?} cannot be looked up: {error}")),
    }
}

pub(super) fn gid(group: &Principal) -> Result<u32, String> {
    let name = match group {
        Principal::Id(id) => return Ok(*id),
        Principal::Name(name) => name,
    };
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!(
            "this system has no group {name:?}: create it, or give the number"
        )),
        Err(error) => Err(format!("the group {name:?} cannot be looked up: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_system() {
        let name = |text: &str| Principal::Name(text.to_owned());
        assert_eq!(uid(&name("root")), Ok(0));
        assert_eq!(gid(&name("root")), Ok(0));
        assert_eq!(uid(&Principal::Id(4711)), Ok(4711));
        let message = uid(&name("no-such-user")).unwrap_err();
        assert!(message.contains("\"no-such-user\""), "{message}");
        assert!(gid(&name("no-such-group")).is_err());
    }
}
