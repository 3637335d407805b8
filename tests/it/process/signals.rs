//! How it ends, and what does not end it.

use std::time::Duration;

use leasehold::dev::Fault;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::child::{Answer, Home, PROXY, Process, Vault, ask, eventually, get, soon, try_ask};

const SECRET: &str = "/v1/secret/data/app/config";

type Asked = tokio::task::JoinHandle<Option<Answer>>;

/// Begins a request, and comes back once Vault has it.
async fn begin(vault: &Vault, process: &Process, path: &'static str) -> Asked {
    let address = process.address().await;
    let asked = leasehold::tasks::Tasks::new().spawn("caller", async move {
        try_ask(address, "GET", path).await.ok()
    });
    let log = vault.dev.log();
    eventually("the request at Vault", async || {
        (log.count("GET", path) > 0).then_some(())
    })
    .await;
    asked
}

#[tokio::test]
async fn a_signal_lets_running_requests_finish_and_nobody_new_in() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (home, vault) = (Home::new(), Vault::start().await);
        let slow = Fault::on("GET", SECRET).delay(Duration::from_millis(1500));
        vault.dev.faults().add(slow);
        let config = home.config(&vault, "");
        let process = Process::start(&["agent", "-config", &config]);
        let address = process.address().await;
        let running = begin(&vault, &process, SECRET).await;
        process.signal(signal);
        let line = process.err.line("stopping by").await;
        assert!(line.contains(signal.as_str()), "{line}");
        eventually("new callers to be refused", async || {
            try_ask(address, "GET", "/agent/v1/health")
                .await
                .is_err()
                .then_some(())
        })
        .await;
        assert!(
            !running.is_finished(),
            "the slow answer came too early to tell"
        );
        let answer = soon("the slow answer", running).await.unwrap().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("connection"), "close");
        let ended = process.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.trim_end().ends_with("stopped"), "{ended:?}");
    }
}

#[tokio::test]
async fn what_takes_longer_than_the_shutdown_timeout_is_cut_off() {
    let (home, vault) = (Home::new(), Vault::start().await);
    vault.dev.faults().add(Fault::on("GET", SECRET).hang());
    let config = home.config(&vault, "shutdown_timeout = \"1s\"\n");
    let process = Process::start(&["agent", "-config", &config]);
    let running = begin(&vault, &process, SECRET).await;
    let began = Instant::now();
    let ended = process.stopped_by(Signal::SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(10),
        "{took:?}"
    );
    assert!(ended.err.contains("shutdown_timeout is over"), "{ended:?}");
    assert!(soon("the cut", running).await.unwrap().is_none());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (home, vault) = (Home::new(), Vault::start().await);
    vault.dev.faults().add(Fault::on("GET", SECRET).hang());
    let config = home.config(&vault, "shutdown_timeout = \"10m\"\n");
    let process = Process::start(&["agent", "-config", &config]);
    let _running = begin(&vault, &process, SECRET).await;
    process.signal(Signal::SIGTERM);
    process.err.line("a second signal ends it at once").await;
    let ended = process.stopped_by(Signal::SIGINT).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.err.contains("a second signal: ending at once"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn signals_that_mean_nothing_yet_do_not_end_it() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let config = home.config(&vault, "");
    let process = Process::start(&["agent", "-config", &config]);
    let address = process.address().await;
    for (signal, advice) in [
        (Signal::SIGHUP, "restart Leasehold to apply a change"),
        (Signal::SIGUSR1, "/agent/v1/metrics"),
    ] {
        process.signal(signal);
        let line = process.err.line(signal.as_str()).await;
        assert!(line.contains(advice), "{line}");
    }
    process.signal(Signal::SIGPIPE);
    assert_eq!(get(address, SECRET).await.status, 200);
    // Nor during a stop.
    vault.dev.faults().add(Fault::on("GET", "/v1/kv/*").hang());
    let _running = begin(&vault, &process, "/v1/kv/app/config").await;
    process.signal(Signal::SIGTERM);
    process.err.line("stopping by").await;
    process.signal(Signal::SIGHUP);
    eventually("a second line about SIGHUP", async || {
        (process.err.text().matches("SIGHUP").count() == 2).then_some(())
    })
    .await;
    assert_eq!(process.stopped_by(Signal::SIGTERM).await.code, Some(0));
}

#[tokio::test]
async fn a_reader_of_the_log_that_is_gone_does_not_end_it() {
    let (home, vault) = (Home::new(), Vault::start().await);
    for args in [&["agent"][..], &["agent", "-combine-logs"]] {
        let config = home.config(&vault, "log_level = \"debug\"\n");
        let args = [args, &["-config", &config]].concat();
        let mut process = Process::start(&args);
        let address = process.address().await;
        process.close_outputs().await;
        for _ in 0..5 {
            let answer = get(address, SECRET).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_eq!(process.code_after(Signal::SIGTERM).await, Some(0));
    }
}

#[tokio::test]
async fn quit_is_there_only_where_it_is_wanted() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let other = "listener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n}\n";
    let config = home.config(&vault, other);
    let process = Process::start(&["agent", "-config", &config]);
    let [on, off] = process.addresses(2).await[..] else {
        panic!("two listeners")
    };
    let refused = ask(off, "POST", "/agent/v1/quit").await;
    assert_eq!(refused.status, 404, "{refused:?}");
    assert_eq!(get(on, "/agent/v1/quit").await.status, 405);
    assert_eq!(get(off, SECRET).await.status, 200, "it goes on");
    assert_eq!(ask(on, "POST", "/agent/v1/quit").await.status, 200);
    let ended = process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.err.contains("stopping by POST /agent/v1/quit"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn the_first_signal_after_a_quit_still_lets_requests_finish() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let slow = Fault::on("GET", SECRET).delay(Duration::from_millis(1500));
    vault.dev.faults().add(slow);
    let config = home.config(&vault, "");
    let process = Process::start(&["agent", "-config", &config]);
    let address = process.address().await;
    let running = begin(&vault, &process, SECRET).await;
    assert_eq!(ask(address, "POST", "/agent/v1/quit").await.status, 200);
    process.err.line("stopping by POST").await;
    process.signal(Signal::SIGTERM);
    process.err.line("already stopping").await;
    let answer = soon("the slow answer", running).await.unwrap().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(process.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_signal_before_the_first_login_ends_it_as_well() {
    let (home, vault) = (Home::new(), Vault::start().await);
    vault.dev.faults().add(Fault::on("*", "/v1/auth/*").hang());
    let auth = home.auto_auth(&vault);
    let text = format!("vault {{ address = \"{}\" }}\n{auth}{PROXY}", vault.url());
    let config = home.write("hang.hcl", &text);
    let process = Process::start(&["agent", "-config", &config]);
    process.address().await;
    eventually("a login", async || (vault.logins() > 0).then_some(())).await;
    let began = Instant::now();
    let ended = process.stopped_by(Signal::SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}
