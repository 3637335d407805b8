//! What the program prints, at its most talkative and when it is held wrong: no secret.
//!
//! What a process printed is searched when it ends; see `canary`.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::child::{Home, PROXY, Process, Vault, ask, eventually, get};

#[tokio::test]
async fn nothing_secret_is_printed_at_trace() {
    for format in ["standard", "json"] {
        let (home, mut vault) = (Home::new(), Vault::start().await);
        let sink = format!(
            "sink \"file\" {{ config = {{ path = \"{}\" }} }}",
            home.at("token")
        );
        let config = home.config(&vault, "");
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replacen("  method", &format!("  {sink}\n  method"), 1);
        let config = home.write("leasehold.hcl", &text);
        let format = format!("-log-format={format}");
        let process = Process::start(&["agent", "-config", &config, "-log-level=trace", &format]);
        let address = process.address().await;
        for _ in 0..2 {
            for path in [
                "/v1/secret/data/app/config",
                "/v1/database/creds/app-readonly",
                "/v1/auth/token/lookup-self",
                "/v1/nowhere/at/all?token=canary-in-a-query",
                "/agent/v1/status",
            ] {
                get(address, path).await;
            }
            for path in [
                "auth/token/renew-self",
                "auth/token/revoke-self",
                "auth/token/create",
            ] {
                ask(address, "PUT", &format!("/v1/{path}")).await;
            }
            ask(address, "POST", "/agent/v1/cache-clear").await;
            vault.stop().await;
            get(address, "/v1/secret/data/app/other").await;
            vault.back().await;
        }
        let revoked = vault.dev.log().matching("*", "/v1/secret/*");
        let token = revoked[0].header("x-vault-token").unwrap().to_owned();
        let fields = serde_json::json!({ "token": token });
        vault.dev.root("PUT", "/v1/auth/token/revoke", fields).await;
        eventually("another login", async || {
            get(address, "/v1/secret/data/app/third").await;
            (vault.logins() > 1).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let ended = process.stopped_by(Signal::SIGTERM).await;
        assert!(
            ended.err.contains("TRACE") || ended.err.contains("DEBUG"),
            "{ended:?}"
        );
        assert!(!ended.err.contains("canary-in-a-query"), "{}", ended.err);
    }
}

/// Secrets that somebody typed in the wrong place, or in a file that does not parse.
#[tokio::test]
async fn nothing_secret_is_quoted_from_what_is_wrong() {
    let home = Home::new();
    let files = [
        "auto_auth { method \"approle\" { config = { secret_id = \"canary-1\n} } }",
        "vault {\n  token = \"canary-1\"\n}\nauto_auth { method \"approle\" { config = { role_id_file_path = 7 secret_id = \"canary-2\" } } }",
        "auto_auth { method \"approle\" { config = { \"secret_id\": 'canary-1', wrong wrong } } }",
        "vault { address = \"https://me:canary-1@vault:8200\" adress = 1 }",
        "token = canary-1",
        "secret_key = \"canary-1\" = 2",
    ];
    let json = r#"{"auto_auth": {"method": {"approle": {"config": {"secret_id": "canary-1", "wrong" "x"}}}}}"#;
    let mut paths = vec![home.write("wrong.json", json)];
    for (number, text) in files.iter().enumerate() {
        paths.push(home.write(&format!("wrong-{number}.hcl"), &format!("{text}\n{PROXY}")));
    }
    for path in &paths {
        for args in [
            &["check"][..],
            &["check", "-format=json"],
            &["agent", "-test-verify-only"],
            &["proxy", "-test-verify-only"],
        ] {
            let mut args = args.to_vec();
            args.extend(["-config", path]);
            let ended = Process::start(&args).ended().await;
            let said = ended.out + &ended.err;
            assert!(!said.contains("canary-"), "{args:?}: {said}");
            assert!(
                said.contains("error") || said.contains("warning"),
                "{args:?}: {said}"
            );
        }
    }
    let env = [("VAULT_TOKEN", "canary-env"), ("BAO_TOKEN", "canary-env")];
    for args in [
        &["agent", "-token=canary-1"][..],
        &[
            "agent",
            "-header=X-Vault-Token=canary-1",
            "-nonsense=canary-2",
        ],
        &["agent", "-header=canary-1"],
        &["agent", "canary-1"],
        &["check", "canary-1"],
        &["agent", "-log-level=canary-1", "-config=none"],
        &["dev", "-token=canary-1"],
    ] {
        let ended = Process::start_in(args, &env).ended().await;
        assert_ne!(ended.code, Some(0), "{args:?}: {ended:?}");
        let said = ended.out + &ended.err;
        let is_level = args[1..].iter().any(|arg| arg.contains("log-level"));
        assert!(is_level || !said.contains("canary-"), "{args:?}: {said}");
        assert!(!said.contains("canary-env"), "{args:?}: {said}");
    }
}
