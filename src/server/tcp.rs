//! A TCP socket to listen on.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use tokio::net::{TcpListener, lookup_host};

use crate::error::{Error, Kind, Result};

/// See `Bound::bind`.
pub(super) async fn bind(address: &str) -> Result<(TcpListener, SocketAddr)> {
    let error = match bind_first(address).await {
        Ok(bound) => return Ok(bound),
        Err(error) => error,
    };
    let Some(without_ipv6) = without_ipv6(address, &error) else {
        return Err(explain(address, &error));
    };
    tracing::info!(
        asked = address,
        address = without_ipv6,
        "the system has no IPv6: this listener takes IPv4 alone"
    );
    let bound = bind_first(&without_ipv6).await;
    bound.map_err(|error| explain(&without_ipv6, &error))
}

async fn bind_first(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let mut addresses: Vec<SocketAddr> = lookup_host(address).await?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let listener = TcpListener::bind(addresses.as_slice()).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// What takes the place of every interface on a system without IPv6.
fn without_ipv6(address: &str, error: &io::Error) -> Option<String> {
    let port = address.strip_prefix("[::]:")?;
    let code = Errno::from_raw(error.raw_os_error()?);
    matches!(code, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL).then(|| format!("0.0.0.0:{port}"))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the system's own words do for what cannot be helped by ours"
)]
fn explain(address: &str, error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "is in use: stop what listens there, or choose another address or port for this listener"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "does not belong to this machine: choose an address that `ip addr` shows, 127.0.0.1 for \
             callers on this machine"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "may not be bound by this user: choose a port from 1024 on".to_owned()
        }
        io::ErrorKind::InvalidInput => format!("is not host:port ({error})"),
        _ => format!("cannot be bound: {error}"),
    };
    Error::new(Kind::Bind, format!("the listener address {address} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_what_to_do() {
        let (_first, address) = bind("127.0.0.1:0").await.unwrap();
        let address = address.to_string();
        let error = bind(&address).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Bind);
        let text = error.to_string();
        for part in [
            address.as_str(),
            "is in use",
            "choose another address or port",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn addresses_that_cannot_be_bound_say_why() {
        let cases = [
            ("192.0.2.1:0", "does not belong to this machine"),
            ("nonsense", "host:port"),
        ];
        for (address, part) in cases {
            let text = bind(address).await.unwrap_err().to_string();
            assert!(text.contains(address) && text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_is_bound_where_most_callers_look_for_it() {
        let (_listener, address) = bind("localhost:0").await.unwrap();
        assert!(address.is_ipv4(), "{address}");
    }

    #[test]
    fn every_interface_is_every_ipv4_one_on_a_system_without_ipv6() {
        let [no_family, no_address, in_use] =
            [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL, Errno::EADDRINUSE].map(io::Error::from);
        for (address, error, instead) in [
            ("[::]:8201", &no_family, Some("0.0.0.0:8201")),
            ("[::]:8201", &no_address, Some("0.0.0.0:8201")),
            ("[::]:8201", &in_use, None),
            ("[::1]:8201", &no_family, None),
            ("192.0.2.1:8201", &no_address, None),
        ] {
            assert_eq!(
                without_ipv6(address, error).as_deref(),
                instead,
                "{address}"
            );
        }
    }
}
