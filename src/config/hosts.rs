//! One entry of `allowed_hosts`.

use std::net::{IpAddr, Ipv6Addr};

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AllowedHost {
    Any,
    /// Always allowed, so nothing to remember.
    Loopback,
    /// As `AllowedHosts::Only` has it.
    Named(String),
}

impl AllowedHost {
    /// `*`, a name or an address, `*.suffix`; with a port for that port alone.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Ok(Self::Any);
        }
        let wrong = || {
            format!(
                "{text:?} is not a host: write a name like \"vault-agent\", an address, \"*.suffix\" \
                 or \"*\" for any, with a port or without"
            )
        };
        // An IPv6 address may stand without brackets, but then without a port too.
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self::address(address.into(), &format!("[{text}]"), ""));
        }
        let (host, port) = split_port(&text);
        let is_port = |digits: &str| digits.parse::<u16>().is_ok() && !digits.starts_with('+');
        if !port.strip_prefix(':').is_none_or(is_port) {
            return Err(wrong());
        }
        let inside = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Some(inside) = inside {
            let address = inside.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            return Ok(Self::address(address.into(), host, port));
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self::address(address, host, port));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        if host == "localhost" {
            return Ok(Self::Loopback);
        }
        let name = host.strip_prefix("*.").unwrap_or(host);
        let fits = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if name.is_empty() || !fits {
            return Err(wrong());
        }
        Ok(Self::Named(format!("{host}{port}")))
    }

    fn address(address: IpAddr, host: &str, port: &str) -> Self {
        if address.to_canonical().is_loopback() {
            return Self::Loopback;
        }
        Self::Named(format!("{host}{port}"))
    }
}

/// The port with its colon, or nothing.
fn split_port(text: &str) -> (&str, &str) {
    let port = text.rfind(':').filter(|_| !text.ends_with(']'));
    port.and_then(|at| text.split_at_checked(at))
        .unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let named = |text: &str| Ok(AllowedHost::Named(text.to_owned()));
        for (text, expected) in [
            ("*", Ok(AllowedHost::Any)),
            ("localhost", Ok(AllowedHost::Loopback)),
            ("LocalHost.:8200", Ok(AllowedHost::Loopback)),
            ("127.9.0.1", Ok(AllowedHost::Loopback)),
            ("[::1]:8200", Ok(AllowedHost::Loopback)),
            ("::1", Ok(AllowedHost::Loopback)),
            ("Vault-Agent", named("vault-agent")),
            ("host.docker.internal.", named("host.docker.internal")),
            ("vault_agent:8200", named("vault_agent:8200")),
            ("*.svc.cluster.local", named("*.svc.cluster.local")),
            ("10.0.0.1:8200", named("10.0.0.1:8200")),
            ("fd00::1", named("[fd00::1]")),
            ("[fd00::1]:1", named("[fd00::1]:1")),
        ] {
            assert_eq!(AllowedHost::parse(text), expected, "{text}");
        }
        for text in [
            "", ".", "*.", "a*", "http://a", "a/b", "a b", "a:", "a:x", "a:+1", "a:99999", "me@a",
            "[a]", "[::1", "a:1:2",
        ] {
            assert!(AllowedHost::parse(text).is_err(), "{text}");
        }
    }
}
