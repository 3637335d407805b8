//! What holds in whatever order things happen.

use leasehold::dev::{Fault, Options};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{CREDS, Rig, kv2, leases_of, millis, pass, seconds};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Read {
        path: usize,
        by: usize,
    },
    /// Whose answer is not waited for.
    ReadSlowly {
        path: usize,
        by: usize,
        late: u64,
    },
    Write {
        path: usize,
        by: usize,
    },
    Delete {
        path: usize,
    },
    Clear,
    Wait(u64),
}

const PATHS: [&str; 3] = ["secret/data/app/a", "secret/data/app/b", "kv/app/c"];

fn step() -> impl Strategy<Value = Step> {
    let (path, by) = (0..PATHS.len(), 0..3_usize);
    prop_oneof![
        6 => (path.clone(), by.clone()).prop_map(|(path, by)| Step::Read { path, by }),
        3 => (path.clone(), by.clone(), 1..2_000_u64)
            .prop_map(|(path, by, late)| Step::ReadSlowly { path, by, late }),
        4 => (path.clone(), by).prop_map(|(path, by)| Step::Write { path, by }),
        1 => path.prop_map(|path| Step::Delete { path }),
        1 => Just(Step::Clear),
        4 => prop_oneof![1..1_500_u64, 280_000..400_000_u64].prop_map(Step::Wait),
    ]
}

/// A read that is asked for after a write was acknowledged never returns an older value, by nobody.
async fn write_and_read(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let rig = Rig::with(leases_of(60, 600), |_| ()).await;
    let stranger = rig.stranger().await;
    let bearer = rig.token(leasehold::dev::TokenWish::default()).await;
    let bearer = rig.header("authorization", &format!("Bearer {bearer}"));
    let clients = [rig.client(), stranger, bearer];
    // The last acknowledged write; `None` after a deletion.
    let mut truth: [Option<u64>; 3] = [None; 3];
    let mut running = Vec::new();
    for (number, step) in (1..).zip(steps.iter().cloned()) {
        match step {
            Step::Read { path, by } => {
                let reply = clients[by].get(PATHS[path]).await;
                let value = reply.json()["data"]["data"]["value"]
                    .as_u64()
                    .or(reply.json()["data"]["value"].as_u64());
                prop_assert_eq!(value, truth[path], "step {} of {:?}", number, steps);
            }
            Step::ReadSlowly { path, by, late } => {
                let target = format!("/v1/{}", PATHS[path]);
                let fault = rig.fault(Fault::on("GET", &target).late(millis(late)).times(1));
                running.push(clients[by].start("GET", PATHS[path], serde_json::Value::Null));
                pass(millis(1)).await;
                rig.vault.faults().remove(fault);
            }
            Step::Write { path, by } => {
                let fields = if path == 2 {
                    json!({ "value": number })
                } else {
                    kv2(number)
                };
                let reply = clients[by].put(PATHS[path], fields).await;
                prop_assert!(reply.status.is_success());
                truth[path] = Some(number);
            }
            Step::Delete { path } => {
                let reply = clients[0].delete(PATHS[path]).await;
                prop_assert_eq!(reply.status.as_u16(), 204);
                truth[path] = None;
            }
            Step::Clear => {
                rig.clear(json!({ "type": "all" })).await;
            }
            Step::Wait(time) => pass(millis(time)).await,
        }
    }
    for read in running {
        let _old_or_new = read.await;
    }
    Ok(())
}

/// One thing that happens to leases.
#[derive(Debug, Clone)]
enum LeaseStep {
    Read {
        n: usize,
        own: bool,
    },
    Renew {
        n: usize,
    },
    Revoke {
        n: usize,
    },
    RevokePrefix,
    /// Our own token, through us.
    RevokeToken,
    Outage(u64),
    Refuse(u64),
    Wait(u64),
}

fn lease_step() -> impl Strategy<Value = LeaseStep> {
    let n = 0..3_usize;
    prop_oneof![
        10 => (n.clone(), any::<bool>()).prop_map(|(n, own)| LeaseStep::Read { n, own }),
        1 => n.clone().prop_map(|n| LeaseStep::Renew { n }),
        2 => n.prop_map(|n| LeaseStep::Revoke { n }),
        1 => Just(LeaseStep::RevokePrefix),
        1 => Just(LeaseStep::RevokeToken),
        1 => (1..20_u64).prop_map(LeaseStep::Outage),
        1 => (1..20_u64).prop_map(LeaseStep::Refuse),
        8 => (1..30_000_u64).prop_map(LeaseStep::Wait),
    ]
}

/// A served credential is alive.
async fn lease_and_revoke(
    ttl: u64,
    more: u64,
    token_ttl: u64,
    steps: Vec<LeaseStep>,
) -> Result<(), TestCaseError> {
    let options = Options {
        token_ttl: seconds(token_ttl),
        token_max_ttl: seconds(3 * token_ttl),
        ..leases_of(ttl, ttl + more)
    };
    let rig = Rig::with(options, |_| ()).await;
    let root = rig.bearing(rig.vault.root_token().expose());
    let stranger = rig.stranger().await;
    let mut served = [(); 3].map(|()| None);
    for (number, step) in steps.iter().cloned().enumerate() {
        match step {
            LeaseStep::Read { n, own } => {
                let client = if own { &stranger } else { &*rig };
                let reply = client.get(&format!("{CREDS}?n={n}")).await;
                if reply.status == 200 {
                    let (user, password) = reply.user();
                    let is_alive = rig.vault.may_log_in(&user, &password);
                    prop_assert!(is_alive, "step {} of {:?}", number, steps);
                    served[n] = Some(reply.at("/lease_id"));
                }
            }
            LeaseStep::Renew { n } => {
                if let Some(lease) = &served[n] {
                    root.put("sys/leases/renew", json!({ "lease_id": lease }))
                        .await;
                }
            }
            LeaseStep::Revoke { n } => {
                if let Some(lease) = served[n].take() {
                    let body = json!({ "lease_id": lease, "sync": false });
                    root.put("sys/leases/revoke", body).await;
                }
            }
            LeaseStep::RevokePrefix => {
                let path = "sys/leases/revoke-prefix/database/creds";
                root.put(path, serde_json::Value::Null).await;
            }
            LeaseStep::RevokeToken => {
                let all = rig.vault.log().matching("GET", "/v1/database/*");
                let mut tokens = all
                    .iter()
                    .filter_map(|record| record.header("x-vault-token"));
                if let Some(token) = tokens.next_back() {
                    root.put("auth/token/revoke", json!({ "token": token }))
                        .await;
                }
            }
            LeaseStep::Outage(time) => {
                let outage = rig.outage();
                pass(seconds(time)).await;
                rig.recover(outage);
            }
            LeaseStep::Refuse(time) => {
                let status = http::StatusCode::INTERNAL_SERVER_ERROR;
                let fault = rig.fault(Fault::on("PUT", "*").refuse(status, "no"));
                pass(seconds(time)).await;
                rig.vault.faults().remove(fault);
            }
            LeaseStep::Wait(time) => pass(millis(time)).await,
        }
    }
    Ok(())
}

fn on_a_paused_clock<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(what)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_reads_less_than_what_was_acknowledged(steps in proptest::collection::vec(step(), 10..60)) {
        on_a_paused_clock(write_and_read(steps))?;
    }

    #[test]
    fn what_is_served_is_alive(
        ttl in 2..40_u64,
        more in 0..100_u64,
        token_ttl in 6..60_u64,
        steps in proptest::collection::vec(lease_step(), 10..60),
    ) {
        on_a_paused_clock(lease_and_revoke(ttl, more, token_ttl, steps))?;
    }
}
