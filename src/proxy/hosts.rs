//! By which names a listener may be called.
//!
//! A web page can let its own name point at 127.0.0.1 (DNS rebinding) and then ask as if it belonged there;
//! what it cannot change is the name in `Host`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use http::header::HOST;
use http::{Request, StatusCode};

use crate::config;
use crate::error::{Error, Kind};

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub enum Hosts {
    #[default]
    Any,
    /// The names of loopback and these.
    Only(Arc<[String]>),
}

impl From<&config::AllowedHosts> for Hosts {
    fn from(hosts: &config::AllowedHosts) -> Self {
        match hosts {
            config::AllowedHosts::Any => Self::Any,
            config::AllowedHosts::Only(names) => Self::Only(names.as_slice().into()),
        }
    }
}

impl Hosts {
    /// Both the name in `Host` and that of a whole `http://name/...` target count. Without either, as HTTP/1.0
    /// may be, no browser is asking.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<Error> {
        let of_target = request
            .uri()
            .authority()
            .map(|name| name.as_str().as_bytes());
        let of_headers = request.headers().get_all(HOST).iter();
        let mut names = of_headers.map(|name| name.as_bytes()).chain(of_target);
        names.find_map(|name| self.judge(name))
    }

    fn judge(&self, name: &[u8]) -> Option<Error> {
        let Some(called) = Called::parse(name) else {
            return Some(Error::new(
                Kind::BadRequest,
                "the request's Host is not a host name or address, with or without a port",
            ));
        };
        let Self::Only(names) = self else {
            return None;
        };
        if called.is_loopback() || names.iter().any(|name| called.matches(name)) {
            return None;
        }
        let shown: String = called.host.chars().take(LONGEST_SHOWN).collect();
        Some(Error::new(
            Kind::NotAdmitted(StatusCode::MISDIRECTED_REQUEST),
            format!(
                "this listener does not go by the name {shown:?}: if its callers call it so, add \
                 allowed_hosts = [{shown:?}] to its listener block"
            ),
        ))
    }
}

/// A `Host` that was understood.
struct Called<'a> {
    /// Without the dot that ends a full name, with the brackets of an address.
    host: &'a str,
    port: &'a str,
}

impl<'a> Called<'a> {
    fn parse(name: &'a [u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok()?;
        let end = if name.starts_with('[') {
            name.find(']')? + 1
        } else {
            name.find(':').unwrap_or(name.len())
        };
        let (host, port) = name.split_at_checked(end)?;
        let port = match port.strip_prefix(':') {
            Some(port) => port,
            None if port.is_empty() => "",
            None => return None,
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[:]".contains(&byte);
        let fits = host.bytes().all(is_host) && port.bytes().all(|byte| byte.is_ascii_digit());
        let host = host.strip_suffix('.').unwrap_or(host);
        fits.then_some(Self { host, port })
    }

    fn is_loopback(&self) -> bool {
        if self.host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let inside = self
            .host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match inside {
            Some(inside) => inside
                .parse::<Ipv6Addr>()
                .is_ok_and(|address| address.to_canonical().is_loopback()),
            None => self
                .host
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback()),
        }
    }

    /// Does an entry of `allowed_hosts` mean this?
    fn matches(&self, entry: &str) -> bool {
        let (host, port) = match entry.rfind(':').filter(|_| !entry.ends_with(']')) {
            Some(at) => entry.split_at_checked(at).unwrap_or((entry, "")),
            None => (entry, ""),
        };
        if !port.is_empty() && port.strip_prefix(':') != Some(self.port) {
            return false;
        }
        match host.strip_prefix('*') {
            // `*.suffix`: with something in front of the dot.
            Some(suffix) => self
                .host
                .len()
                .checked_sub(suffix.len())
                .and_then(|at| self.host.split_at_checked(at))
                .is_some_and(|(label, rest)| {
                    !label.is_empty() && rest.eq_ignore_ascii_case(suffix)
                }),
            None => self.host.eq_ignore_ascii_case(host),
        }
    }
}

const LONGEST_SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only(names: &[&str]) -> Hosts {
        Hosts::Only(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn status(hosts: &Hosts, name: &str) -> u16 {
        hosts
            .judge(name.as_bytes())
            .map_or(200, |error| error.kind().status().as_u16())
    }

    #[test]
    fn loopback_is_called_by_its_own_names() {
        let hosts = only(&[]);
        for (name, expected) in [
            ("localhost", 200),
            ("LocalHost:8201", 200),
            ("localhost.", 200),
            ("localhost.:80", 200),
            ("127.0.0.1", 200),
            ("127.0.0.1:1", 200),
            ("127.4.5.6:", 200),
            ("[::1]", 200),
            ("[::1]:8201", 200),
            ("[::ffff:127.0.0.1]", 200),
            ("", 421),
            ("evil.example", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("127.0.0.1evil", 421),
            ("evil.example:8201", 421),
            ("host.docker.internal:8201", 421),
            ("10.0.0.1", 421),
            ("0.0.0.0", 421),
            ("127.1", 421),
            ("2130706433", 421),
            ("[::2]", 421),
            ("[::1", 400),
            ("[::1]x", 400),
            ("::1", 400),
            ("localhost:80:80", 400),
            ("localhost:x", 400),
            ("me@localhost", 400),
            ("evil.example@localhost", 400),
            ("localhost, evil.example", 400),
            ("localhost/x", 400),
            ("http://localhost", 400),
            ("löcalhost", 400),
        ] {
            assert_eq!(status(&hosts, name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_listed_is_allowed_too() {
        let hosts = only(&[
            "vault-agent",
            "a.example:8200",
            "*.svc.local",
            "[fd00::1]",
            "10.0.0.1",
        ]);
        for (name, expected) in [
            ("Vault-Agent:1", 200),
            ("vault-agent.", 200),
            ("a.example:8200", 200),
            ("a.example", 421),
            ("a.example:8201", 421),
            ("x.y.svc.local:3", 200),
            ("svc.local", 421),
            (".svc.local", 421),
            ("xsvc.local", 421),
            ("[FD00::1]:5", 200),
            ("10.0.0.1:9", 200),
            ("localhost", 200),
            ("b.example", 421),
        ] {
            assert_eq!(status(&hosts, name), expected, "{name}");
            let nonsense = status(&Hosts::Any, name) != 200;
            assert!(!nonsense, "{name}");
        }
    }

    #[test]
    fn the_refusal_says_what_to_write() {
        let error = only(&[]).judge(b"host.docker.internal:8201").unwrap();
        let text = error.to_string();
        assert!(
            text.contains("allowed_hosts = [\"host.docker.internal\"]"),
            "{text}"
        );
    }

    #[test]
    fn the_target_counts_as_well() {
        let hosts = only(&[]);
        for (target, host, refused) in [
            ("/v1/a", Some("localhost"), false),
            ("/v1/a", None, false),
            ("http://localhost/v1/a", Some("localhost"), false),
            ("http://evil.example/v1/a", Some("localhost"), true),
            ("http://localhost/v1/a", Some("evil.example"), true),
        ] {
            let mut request = Request::builder().uri(target);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(
                hosts.refusal(&request).is_some(),
                refused,
                "{target} {host:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn only_loopback_gets_in_unlisted(name in "[\\[\\]a-z0-9.:@]{0,20}|127\\.[0-9.]{1,9}|localhost.{0,3}") {
            let admitted = only(&[]).judge(name.as_bytes()).is_none();
            let host = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let host = host.strip_suffix(':').unwrap_or(&name);
            let host = host.strip_suffix('.').unwrap_or(host).trim_matches(['[', ']']);
            let is_loopback = host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
            prop_assert!(is_loopback || !admitted, "{name}");
        }
    }
}
