//! The way of a request through a whole Leasehold, with and without a cache, held to raw bytes at both ends.

mod admission;
mod answers;
mod bad_answers;
mod failures;
mod framing;
mod hidden;
mod process;
mod requests;
mod streams;

use leasehold::app::Leasehold;
use leasehold::config::{Cache, Config, Listener, Vault};

use crate::wire::Wire;

/// Without and with a `cache` block.
const EACH: [bool; 2] = [false, true];

fn config(vault: String, cached: bool) -> Config {
    Config {
        vault: Vault {
            address: vault,
            ..Vault::default()
        },
        cache: cached.then(Cache::default),
        listeners: vec![Listener {
            address: "127.0.0.1:0".to_owned(),
            ..Listener::default()
        }],
        ..Config::default()
    }
}

/// A client of a Leasehold in front of `vault`.
async fn client(vault: String, cached: bool) -> Wire {
    client_of(&start(config(vault, cached)).await).await
}

async fn start(config: Config) -> Leasehold {
    Leasehold::start(config).await.unwrap()
}

async fn client_of(leasehold: &Leasehold) -> Wire {
    Wire::connect(leasehold.addresses()[0].tcp().unwrap()).await
}

/// A request without a body, by a token of the caller's own.
fn ask(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: t\r\n\r\n")
}
