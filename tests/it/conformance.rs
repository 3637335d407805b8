//! The conformance suite: Leasehold answers as Vault does, and so does the development Vault.
//!
//! Each scenario is played directly and through Leasehold (by callers with tokens of their own, and by callers
//! who get Leasehold's), each time on a fresh server, and every answer through Leasehold must be the direct one:
//! status, headers, body. That holds against the development Vault, and against a real development server when
//! `bao` or `vault` is on PATH. What the real server answers is recorded as shapes in `tests/conformance/`, and
//! holds the development Vault to the same shapes where there is no server at hand.
//!
//! ```sh
//! cargo test --test it conformance                       # compares; one line says with which servers
//! LEASEHOLD_RECORD=1 cargo test --test it conformance    # writes the recordings anew, from a real server
//! ```

mod check;
mod client;
mod kinds;
mod kv;
mod leases;
mod logins;
mod recording;
mod run;
mod same;
mod server;
mod shape;
mod spellings;
mod stand;
mod system;
mod table;
mod tokens;
mod valkey;
mod wire;
mod wrapping;

use table::Scenario;

/// A list of all scenarios, in the order in which one server plays them, and a test for each.
macro_rules! scenarios {
    ($($name:ident: $file:ident::$scenario:ident;)*) => {
        fn scenarios() -> Vec<Scenario> {
            vec![$($file::$scenario()),*]
        }

        mod development_vault {
            $(
                #[tokio::test]
                async fn $name() {
                    super::check::development_vault(&super::$file::$scenario()).await;
                }
            )*
        }
    };
}

scenarios! {
    status: system::status;
    kv_version_1: kv::version_1;
    kv_version_2: kv::version_2;
    tokens: tokens::created_and_renewed;
    tokens_revoked: tokens::revoked;
    approle: logins::approle;
    userpass: logins::userpass;
    wrapping: wrapping::wrapping;
    database: leases::database;
    leases_revoked: leases::revoked;
    leased_kv: leases::leased_kv;
    transit: wire::transit;
    policies: system::policies;
    mounts: system::mounts;
    namespaces: system::namespaces;
    refused: wire::refused;
}

/// All scenarios on one server for each way, since a real one takes its time to start.
#[tokio::test]
async fn a_real_server_where_there_is_one() {
    check::real_server(&scenarios()).await;
}
