//! What a listener's socket is, beyond its address.

use std::fmt;

/// The kind of a listener's socket.
#[derive(Debug, Clone, Default)]
pub enum Socket {
    #[default]
    Tcp,
    Unix(UnixSocket),
}

/// A Unix socket. One that systemd made, or an abstract one, has no file of ours: mode and owner are without
/// effect then.
#[derive(Debug, Clone)]
pub struct UnixSocket {
    pub mode: u32,
    /// `None`: whoever Leasehold runs as.
    pub user: Option<Principal>,
    pub group: Option<Principal>,
    /// `None`: whoever can connect may use it.
    pub allowed: Option<AllowedPeers>,
}

/// A peer is let in when its user is in the one list or a group of its in the other.
#[derive(Debug, Clone, Default)]
pub struct AllowedPeers {
    pub uids: Vec<Principal>,
    pub gids: Vec<Principal>,
}

/// A user or a group. Names are looked up where the listener is bound, which may be another machine than the one
/// that checks the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    Id(u32),
    Name(String),
}

/// Which of the sockets that systemd passes a listener takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// `systemd`: the first that no other listener names.
    Next,
    /// `systemd:NAME`: the first of that `FileDescriptorName=`.
    Named(String),
}

impl Activation {
    pub(super) fn parse(address: &str) -> Option<Self> {
        if address == "systemd" {
            return Some(Self::Next);
        }
        let name = address.strip_prefix("systemd:")?;
        Some(Self::Named(name.to_owned()))
    }
}

impl Principal {
    /// The error says what is wanted.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let is_number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        if is_number {
            let id = text.parse().ok().filter(|id| *id != u32::MAX);
            return id
                .map(Self::Id)
                .ok_or_else(|| format!("{text:?} is not a number from 0 to {}", u32::MAX - 1));
        }
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '/' | ',' | '"');
        if text.is_empty() || !text.chars().all(fits) {
            return Err(format!("{text:?} is neither a number nor a name"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_or_names() {
        assert_eq!(Principal::parse("1000"), Ok(Principal::Id(1000)));
        let name = Principal::Name("www-data".to_owned());
        assert_eq!(Principal::parse("www-data"), Ok(name));
        for wrong in ["", "-1", "4294967295", "4294967296", "1a", "a b", "a:b"] {
            assert!(Principal::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_socket_of_systemd_is_told_from_an_address() {
        let named = |name: &str| Some(Activation::Named(name.to_owned()));
        for (address, activation) in [
            ("systemd", Some(Activation::Next)),
            ("systemd:vault.socket", named("vault.socket")),
            ("./systemd", None),
            ("systemd.example:8200", None),
            ("@systemd", None),
        ] {
            assert_eq!(Activation::parse(address), activation, "{address}");
        }
    }
}
