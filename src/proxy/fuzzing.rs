//! Rules about headers under fuzzing.

use http::header::{CONNECTION, HOST};
use http::{HeaderName, HeaderValue, Request};

use super::forward::without_hop_by_hop;
use super::hosts::Hosts;

/// Nobody is let in whose `Host` is not one of ours, whatever is around it; and of headers that belong to a
/// connection none is left, nor anything that `Connection` names.
pub fn fuzz_headers(data: &[u8]) {
    let mut request = Request::new(());
    for line in data.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            request.headers_mut().append(name, value);
        }
    }
    let hosts = Hosts::Only(["vault-agent".to_owned(), "*.svc:80".to_owned()].into());
    let is_refused = hosts.refusal(&request).is_some();
    for host in request.headers().get_all(HOST) {
        let is_ours = host.to_str().is_ok_and(is_ours);
        assert!(is_ours || is_refused, "{host:?} gets in");
    }
    let named: Vec<HeaderName> = request
        .headers()
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let request = without_hop_by_hop(request);
    for name in named
        .iter()
        .map(HeaderName::as_str)
        .chain(["connection", "te", "upgrade"])
    {
        assert!(!request.headers().contains_key(name), "{name} is left");
    }
}

/// As the rule is written down, and not as it is computed.
fn is_ours(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let name = host.trim_end_matches(|c: char| c.is_ascii_digit());
    let (name, port) = match name.strip_suffix(':') {
        Some(name) => (name, host.rsplit(':').next().unwrap_or_default()),
        None => (host.as_str(), ""),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let inside = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: std::net::IpAddr| address.to_canonical().is_loopback();
    name == "localhost"
        || name == "vault-agent"
        || (name.ends_with(".svc") && name != ".svc" && port == "80")
        || inside.parse().is_ok_and(is_loopback)
}
