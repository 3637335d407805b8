//! Addresses: Vault's, and those that Leasehold listens on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use http::Uri;

use super::Vault;

/// Where Vault is: `https://host[:port][/base]`, or `unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VaultAddress {
    pub(super) text: String,
    host: String,
    port: u16,
    is_socket: bool,
}

impl Vault {
    /// The path of the socket, where the address is one; an abstract name begins with a zero byte.
    pub fn socket(&self) -> Option<PathBuf> {
        let path = self.address.strip_prefix("unix://")?;
        Some(match path.strip_prefix('@') {
            Some(name) => PathBuf::from(format!("\0{name}")),
            None => PathBuf::from(path),
        })
    }
}

/// `host:port` of a listener; an empty host is every interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listen {
    host: String,
    port: u16,
}

impl VaultAddress {
    /// The error says what to write, and never repeats an address with a password in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!(
                "the address {text:?} has no scheme: write \"https://{text}\" or \"http://{text}\""
            ));
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => {}
            "unix" => return Self::of_socket(rest),
            _ => {
                return Err(format!(
                    "the scheme of an address is http, https or unix, not {scheme:?}"
                ));
            }
        }
        if rest
            .split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
        {
            return Err("an address must not hold a user name or password".to_owned());
        }
        if rest.contains(['?', '#']) {
            return Err(format!(
                "the address {text:?} must not have a query or fragment"
            ));
        }
        let text = format!("{scheme}://{}", rest.trim_end_matches('/'));
        let wrong = || format!("{text:?} is not an address like \"https://vault.example:8200\"");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host();
        let after_host = authority.as_str().strip_prefix(host).ok_or_else(wrong)?;
        let port = match after_host {
            "" if scheme == "http" => 80,
            "" => 443,
            _ => authority
                .port_u16()
                .filter(|port| *port > 0)
                .ok_or_else(wrong)?,
        };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port,
            text,
            is_socket: false,
        })
    }

    fn of_socket(path: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            Err(format!(
                "the address \"unix://{path}\" {what}: write \"unix:///run/vault.sock\""
            ))
        };
        if path.is_empty() || path == "@" || path.ends_with('/') || path.contains('\0') {
            return wrong("names no socket");
        }
        if path.len() > LONGEST_SOCKET {
            return wrong("is longer than the 107 bytes that the path of a socket may have");
        }
        Ok(Self {
            text: format!("unix://{path}"),
            host: String::new(),
            port: 0,
            is_socket: true,
        })
    }

    /// Would a request to this address arrive at that listener?
    pub(super) fn reaches(&self, listen: &Listen) -> bool {
        if self.is_socket {
            return false;
        }
        let same_host = self.host == listen.host
            || (listen.is_loopback() || listen.is_every_interface()) && is_loopback(&self.host);
        self.port == listen.port && same_host && !different_loopbacks(&self.host, &listen.host)
    }
}

impl VaultAddress {
    /// Is it the socket that a listener has at this path, however that is written?
    pub(super) fn is_socket_at(&self, path: &str) -> bool {
        let plain = |text: &str| -> PathBuf { Path::new(text).components().collect() };
        let path = path.strip_prefix("unix://").unwrap_or(path);
        self.text
            .strip_prefix("unix://")
            .is_some_and(|own| plain(own) == plain(path))
    }
}

impl Listen {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("{{") {
            return Err(
                "this version of Leasehold has no address templates: write host:port".to_owned(),
            );
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!(
                "the address {text:?} has no port: write \"{text}:8200\""
            ));
        };
        let port = port
            .parse()
            .ok()
            .filter(|_| port.chars().all(|c| c.is_ascii_digit()))
            .ok_or_else(|| format!("{port:?} is not a port: it is a number from 0 to 65535"))?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let fits = match bracketed {
            Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
            None => host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
        };
        if !fits {
            return Err(format!(
                "{text:?} is not an address to listen on: write \"127.0.0.1:8200\" or \"[::1]:8200\""
            ));
        }
        Ok(Self {
            host: bracketed.unwrap_or(host).to_ascii_lowercase(),
            port,
        })
    }

    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    fn is_every_interface(&self) -> bool {
        self.host.is_empty()
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_unspecified())
    }

    /// Could both not be bound at once? Port 0 is always free.
    pub(super) fn clashes(&self, other: &Self) -> bool {
        self.port == other.port
            && self.port != 0
            && (self.host == other.host || self.is_every_interface() || other.is_every_interface())
    }
}

/// As a socket address: the empty host is written `[::]`, which takes IPv4 as well.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_str() {
            "" => write!(f, "[::]:{}", self.port),
            host if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// `sun_path` of Linux (unix(7)), without the zero at its end.
pub(super) const LONGEST_SOCKET: usize = 107;

/// 127.0.0.1 does not reach 127.0.0.2; `localhost` may be anything.
fn different_loopbacks(a: &str, b: &str) -> bool {
    match (a.parse::<Ipv4Addr>(), b.parse::<Ipv4Addr>()) {
        (Ok(a), Ok(b)) => a != b && a.is_loopback() && b.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vault_addresses() {
        for (text, kept) in [
            ("https://vault.example:8200/", "https://vault.example:8200"),
            ("HTTP://127.0.0.1", "http://127.0.0.1"),
            ("https://host/vault//", "https://host/vault"),
            ("https://[::1]:8200", "https://[::1]:8200"),
            ("unix:///run/v.sock", "unix:///run/v.sock"),
            ("UNIX://@vault", "unix://@vault"),
            ("unix://v.sock", "unix://v.sock"),
        ] {
            assert_eq!(VaultAddress::parse(text).unwrap().text, kept);
        }
        for text in [
            "",
            "vault:8200",
            "127.0.0.1:8200",
            "unix://",
            "unix://@",
            "unix:///run/",
            &format!("unix:///{}", "x".repeat(107)),
            "ftp://x",
            "https://",
            "https://x:99999",
            "https://x:0",
            "https://x:",
            "https://a b",
            "https://x?y=1",
        ] {
            assert!(VaultAddress::parse(text).is_err(), "{text}");
        }
        let refused = VaultAddress::parse("https://me:hunter2@vault").unwrap_err();
        assert!(!refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn listeners() {
        for (text, kept) in [
            ("127.0.0.1:8200", "127.0.0.1:8200"),
            (":8201", "[::]:8201"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), kept);
        }
        for text in [
            "",
            "127.0.0.1",
            "::1:8200",
            "x:",
            "x:-1",
            "x:+1",
            "x:65536",
            "a b:1",
            "[x]:1",
            "{{ GetPrivateIP }}:8200",
            "http://x:1",
        ] {
            assert!(Listen::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_loop_is_seen() {
        for (vault, listen, loops) in [
            ("http://127.0.0.1:8200", "127.0.0.1:8200", true),
            ("http://localhost:8200", "127.0.0.1:8200", true),
            ("http://127.0.0.1:8200", ":8200", true),
            ("http://[::1]:8200", "localhost:8200", true),
            ("https://vault.example", "vault.example:443", true),
            ("http://127.0.0.2:8200", "127.0.0.1:8200", false),
            ("http://127.0.0.1:8200", "127.0.0.1:8201", false),
            ("https://vault.example:8200", ":8200", false),
        ] {
            let (vault, listen) = (VaultAddress::parse(vault), Listen::parse(listen));
            assert_eq!(vault.unwrap().reaches(&listen.unwrap()), loops);
        }
    }

    #[test]
    fn a_loop_over_a_socket_is_seen() {
        for (vault, listen, loops) in [
            ("unix:///run/v.sock", "/run/v.sock", true),
            ("unix:///run//./v.sock", "/run/v.sock", true),
            ("unix:///run/v.sock", "unix:///run/v.sock", true),
            ("unix://@v", "@v", true),
            ("unix:///run/v.sock", "/run/w.sock", false),
            ("unix:///run/v.sock", "run/v.sock", false),
            ("http://127.0.0.1:8200", "127.0.0.1:8200", false),
        ] {
            let address = VaultAddress::parse(vault).unwrap();
            assert_eq!(address.is_socket_at(listen), loops, "{vault} {listen}");
        }
        let socket = VaultAddress::parse("unix:///run/v.sock").unwrap();
        assert!(!socket.reaches(&Listen::parse(":0").unwrap()));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,32}", near in "(https?://)?[\\[\\]a-z0-9.:@/-]{0,24}") {
            for text in [text, near] {
                let _read = (VaultAddress::parse(&text), Listen::parse(&text));
            }
        }

        #[test]
        fn a_listener_reads_back(host in "|localhost|127\\.0\\.0\\.1|\\[::1\\]|0\\.0\\.0\\.0", port: u16) {
            let read = Listen::parse(&format!("{host}:{port}")).unwrap();
            let again = Listen::parse(&read.to_string()).unwrap();
            prop_assert_eq!(read.to_string(), again.to_string());
        }
    }
}
