//! What is said, and with which code it ends, when what it was given is wrong.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::child::{Home, PROXY, Process, Vault, eventually, get, taken_port};

const SECRET: &str = "/v1/secret/data/app/config";

#[tokio::test]
async fn an_unknown_key_is_a_warning_and_it_runs() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let config = home.config(&vault, "exit_after_atuh = true\n");
    let process = Process::start(&["agent", "-config", &config]);
    assert_eq!(get(process.address().await, SECRET).await.status, 200);
    let warning = process.err.line("exit_after_atuh").await;
    assert!(
        warning.starts_with(&format!("warning: {config}:")),
        "{warning}"
    );
    assert!(
        warning.contains("did you mean \"exit_after_auth\"?"),
        "{warning}"
    );
}

#[tokio::test]
async fn what_it_cannot_start_with_ends_it_with_1() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let (_held, port) = taken_port().await;
    let auth = home.auto_auth(&vault);
    let open = auth.trim_end().trim_end_matches('}');
    let listener = |address: &str, more: &str| {
        format!(
            "listener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n  {more}\n}}\n"
        )
    };
    let sink =
        |path: &str| format!("{open}sink \"file\" {{ config = {{ path = \"{path}\" }} }}\n}}\n");
    let proxy = "api_proxy { use_auto_auth_token = true }\n";
    let taken = format!("127.0.0.1:{port}");
    let (no_directory, directory) = (home.at("no/token"), home.at("directory"));
    std::fs::create_dir(&directory).unwrap();
    for (text, parts) in [
        (
            listener(&taken, ""),
            &[&*taken, "is in use", "another address or port"][..],
        ),
        (
            listener("192.0.2.1:8201", ""),
            &["192.0.2.1:8201", "does not belong to this machine"],
        ),
        (
            listener("no.such.host.invalid:8201", ""),
            &["no.such.host.invalid:8201"],
        ),
        (listener("127.0.0.1", ""), &["wrong.hcl:", "has no port"]),
        (
            "listener \"tcp\" {
  address = \"127.0.0.1:0\"
  tls_cert_file = \"/x\"
}
"
            .to_owned(),
            &["wrong.hcl:3:", "tls_cert_file"],
        ),
        (
            "listener \"unix\" {\n  address = \"/no/where/x.sock\"\n}".to_owned(),
            &["/no/where/x.sock", "create it"],
        ),
        (
            sink(&no_directory),
            &[&*no_directory, "create the directory"],
        ),
        (sink(&directory), &["this is a directory"]),
        (
            format!(
                "auto_auth {{\n  method \"jwt\" {{ config = {{ role = \"x\" }} }}\n}}\n{proxy}{}",
                listener("127.0.0.1:0", "")
            ),
            &["wrong.hcl:2:", "jwt", "kubernetes"],
        ),
        (
            format!(
                "auto_auth {{\n  method \"aprole\" {{}}\n}}\n{proxy}{}",
                listener("127.0.0.1:0", "")
            ),
            &["wrong.hcl:2:", "aprole", "approle"],
        ),
        (
            format!("{proxy}{}", listener("127.0.0.1:0", "")),
            &["auto_auth"],
        ),
        (
            "vault { address = \"http://x\" }\n".to_owned(),
            &["listener"],
        ),
        (
            "template { contents = \"x\" }\n".to_owned(),
            &["wrong.hcl:1:", "template"],
        ),
        (
            "vault {\n  ca_cert = \"/no/such/ca.pem\"\n}\n".to_owned()
                + &listener("127.0.0.1:0", ""),
            &["/no/such/ca.pem"],
        ),
        (
            "pid_file = \"/no/such/pid\"\n".to_owned() + &listener("127.0.0.1:0", ""),
            &["/no/such/pid"],
        ),
        ("vault {".to_owned(), &["wrong.hcl:1:"]),
    ] {
        let config = home.write("wrong.hcl", &text);
        let ended = Process::start(&["agent", "-config", &config]).ended().await;
        assert_eq!(
            (ended.code, &*ended.out),
            (Some(1), ""),
            "{text}: {ended:?}"
        );
        let errors: Vec<_> = ended
            .err
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert!(!errors.is_empty(), "{text}: {ended:?}");
        for part in parts {
            assert!(
                errors.iter().any(|line| line.contains(part)),
                "{part}: {text}: {}",
                ended.err
            );
        }
    }
}

#[tokio::test]
async fn a_variable_that_cannot_be_understood_is_named() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let config = home.config(&vault, "");
    for (name, value) in [
        ("VAULT_SKIP_VERIFY", "maybe"),
        ("VAULT_MAX_RETRIES", "many"),
        ("BAO_CLIENT_TIMEOUT", "soon"),
        ("VAULT_CACHE_TTL", "1 fortnight"),
        ("VAULT_LOG_LEVEL", "loud"),
        ("BAO_LOG_FORMAT", "xml"),
        ("VAULT_ADDR", "vault:8200"),
        ("VAULT_PROXY_ADDR", "::"),
        ("BAO_AGENT_DISABLE_KEEP_ALIVES", "everything"),
    ] {
        let args = ["agent", "-config", &config];
        let ended = Process::start_in(&args, &[(name, value)]).ended().await;
        assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
        assert!(ended.err.contains(name), "{name}: {}", ended.err);
    }
    assert_eq!(vault.dev.log().total(), 0);
}

#[tokio::test]
async fn wrong_credentials_from_files_are_waited_out() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let more = "startup_wait = \"100ms\"\n";
    let config = home.config(&vault, more);
    let secret_id = home.write("secret-id", "a-wrong-canary");
    let process = Process::start(&["agent", "-config", &config]);
    let address = process.address().await;
    let line = process.err.line("login failed").await;
    for part in [
        "WARN",
        &*secret_id,
        &home.at("role-id"),
        &vault.url(),
        "400",
        "wrong, used up or expired",
        "next_try_in_seconds",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let refused = get(address, SECRET).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(refused.json()["errors"][0].is_string());
    assert_eq!(get(address, "/agent/v1/health").await.status, 200);
    let ready = get(address, "/agent/v1/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains(&secret_id), "{}", ready.text());
    // Somebody mends it, and nothing has to be started again.
    home.write("secret-id", vault.dev.secret_id().expose());
    process.err.line(": logged in method").await;
    let answer = get(address, SECRET).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let ended = process.stopped_by(Signal::SIGTERM).await;
    assert!(!ended.err.contains("canary"), "{}", ended.err);
}

#[tokio::test]
async fn with_exit_on_err_wrong_credentials_end_it() {
    let (home, vault) = (Home::new(), Vault::start().await);
    home.auto_auth(&vault);
    home.write("secret-id", "a-wrong-canary");
    let auth = home.auto_auth_by_files("exit_on_err = true");
    let text = format!("vault {{ address = \"{}\" }}\n{auth}{PROXY}", vault.url());
    let config = home.write("exit.hcl", &text);
    let ended = Process::start(&["agent", "-config", &config]).ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.err.lines().last().unwrap();
    assert!(
        last.starts_with("error: ") && last.contains(&home.at("secret-id")),
        "{last}"
    );
    assert!(!ended.err.contains("canary"), "{}", ended.err);
    assert_eq!(vault.logins(), 1);
}

#[tokio::test]
async fn credentials_from_the_environment_that_are_wrong_end_it_at_once() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let text = format!(
        "vault {{ address = \"{}\" }}\nauto_auth {{\n  method \"approle\" {{\n    config = {{\n      \
         role_id_env_var = \"VAULT_ROLE_ID\"\n      secret_id_env_var = \"VAULT_SECRET_ID\"\n    \
         }}\n  }}\n}}\n{PROXY}",
        vault.url()
    );
    let config = home.write("env.hcl", &text);
    let (role_id, secret_id) = (vault.dev.role_id(), vault.dev.secret_id());
    for (env, named) in [
        (
            &[
                ("VAULT_ROLE_ID", &*role_id),
                ("VAULT_SECRET_ID", "a-wrong-canary"),
            ][..],
            "VAULT_SECRET_ID",
        ),
        (
            &[
                ("VAULT_ROLE_ID", "a-canary"),
                ("VAULT_SECRET_ID", secret_id.expose()),
            ],
            "VAULT_ROLE_ID",
        ),
        (
            &[("VAULT_ROLE_ID", &*role_id)],
            "VAULT_SECRET_ID, which is not set",
        ),
        (
            &[
                ("VAULT_ROLE_ID", ""),
                ("VAULT_SECRET_ID", secret_id.expose()),
            ],
            "VAULT_ROLE_ID, which is empty",
        ),
    ] {
        let began = Instant::now();
        let ended = Process::start_in(&["agent", "-config", &config], env)
            .ended()
            .await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        let last = ended.err.lines().last().unwrap();
        assert!(
            last.starts_with("error: ") && last.contains(named),
            "{named}: {last}"
        );
        for value in ["canary", &role_id, secret_id.expose()] {
            assert!(!ended.err.contains(value), "{}", ended.err);
        }
    }
    let env = [
        ("VAULT_ROLE_ID", &*role_id),
        ("VAULT_SECRET_ID", secret_id.expose()),
    ];
    let process = Process::start_in(&["agent", "-config", &config], &env);
    let address = process.address().await;
    eventually("an answer", async || {
        (get(address, SECRET).await.status == 200).then_some(())
    })
    .await;
}
