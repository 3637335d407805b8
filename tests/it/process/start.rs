//! `leasehold agent` and `leasehold proxy`: what is typed, and what takes effect.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;

use crate::child::{BINARY, Home, PROXY, Process, Vault, eventually, get, mode_of};

const SECRET: &str = "/v1/secret/data/app/config";

#[tokio::test]
async fn a_configuration_is_taken_in_every_form() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let hcl = home.config(&vault, "");
    let json = format!(
        r#"{{
          "vault": {{ "address": "{}" }},
          "auto_auth": {{ "method": {{ "approle": {{ "config": {{
            "role_id_file_path": "{}", "secret_id_file_path": "{}",
            "remove_secret_id_file_after_reading": false }} }} }} }},
          "api_proxy": {{ "use_auto_auth_token": true }},
          "listener": {{ "tcp": {{ "address": "127.0.0.1:0", "tls_disable": true }} }}
        }}"#,
        vault.url(),
        home.at("role-id"),
        home.at("secret-id"),
    );
    let json = home.write("whole.conf", &json);
    let first = format!("vault {{ address = \"{}\" }}\n", vault.url());
    let first = home.write("parts/10-vault.hcl", &first);
    let rest = home.write("parts/20-rest.hcl", &(home.auto_auth(&vault) + PROXY));
    home.write("parts/20-rest.hcl~", "not { this");
    let directory = home.at("parts");
    let (both, list) = (format!("-config={first}"), format!("{first} , {rest}"));
    let agent = "BAO_AGENT_CONFIG_PATH";
    for (args, env) in [
        (&["agent", "-config", &hcl][..], &[][..]),
        (&["proxy", "--config", &hcl], &[]),
        (&["agent", &format!("-config={json}")], &[]),
        (&["proxy", &format!("--config={directory}")], &[]),
        (&["agent", &both, "-config", &rest], &[]),
        (&["agent"], &[(agent, &*hcl)]),
        (&["agent"], &[(agent, &*list)]),
        (&["agent", "-config", &rest], &[(agent, &*first)]),
        (&["proxy"], &[("VAULT_PROXY_CONFIG_PATH", &*hcl)]),
    ] {
        let process = Process::start_in(args, env);
        let answer = get(process.address().await, SECRET).await;
        assert_eq!(answer.status, 200, "{args:?} {env:?}: {}", answer.text());
        let ended = process.stopped_by(Signal::SIGTERM).await;
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        assert_eq!(ended.out, "", "{args:?}");
    }
    let ended = Process::start_in(&["proxy"], &[(agent, &*hcl)])
        .ended()
        .await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("VAULT_PROXY_CONFIG_PATH"), "{ended:?}");
}

#[tokio::test]
async fn flags_go_before_the_environment_and_that_before_the_file() {
    let home = Home::new();
    let vaults = [
        Vault::start().await,
        Vault::start().await,
        Vault::start().await,
    ];
    let config = home.config(&vaults[0], "");
    let [_, second, third] = vaults.each_ref().map(Vault::url);
    let flag = format!("-address={third}");
    let both = &[("VAULT_ADDR", &*second), ("BAO_ADDR", &*third)];
    for (args, env, expected) in [
        (&[][..], &[][..], 0),
        (&[], &[("VAULT_ADDR", &*second)], 1),
        (&[], both, 2),
        (&[&*flag], &[("BAO_ADDR", &*second)], 2),
        (&["--address", &third], &[("VAULT_ADDR", &*second)], 2),
        (&["-agent-address", &second], &[], 0),
    ] {
        let before = vaults.each_ref().map(Vault::logins);
        let args = [&["agent", "-config", &config], args].concat();
        let process = Process::start_in(&args, env);
        process.address().await;
        // The other two do not know these credentials; that they were asked is enough.
        let asked = eventually("a login", async || {
            let after = vaults.each_ref().map(Vault::logins);
            (0..3).find(|at| after[*at] > before[*at])
        });
        assert_eq!(asked.await, expected, "{args:?} {env:?}");
    }
}

#[tokio::test]
async fn namespace_and_headers_are_on_every_call_of_our_own() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let config = home.config(&vault, "");
    for (args, env, namespace, header) in [
        (&[][..], &[][..], None, None),
        (&[], &[("VAULT_NAMESPACE", "of-env")], Some("of-env/"), None),
        (
            &["-namespace=of-flag", "-header=X-Trace=a=b"],
            &[("VAULT_NAMESPACE", "of-env"), ("BAO_NAMESPACE", "of-bao")],
            Some("of-flag/"),
            Some("a=b"),
        ),
        (&["-namespace=x", "-ns", "short"], &[], Some("short/"), None),
    ] {
        vault.dev.log().clear();
        let args = [&["agent", "-config", &config], args].concat();
        let _process = Process::start_in(&args, env);
        let login = eventually("a login", async || {
            let path = "/v1/auth/approle/login";
            vault.dev.log().matching("*", path).first().cloned()
        });
        let login = login.await;
        assert_eq!(login.header("x-vault-namespace"), namespace, "{args:?}");
        assert_eq!(login.header("x-trace"), header, "{args:?}");
    }
}

#[tokio::test]
async fn log_level_and_format_follow_the_same_order() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let config = home.config(&vault, "log_level = \"error\"\nlog_format = \"json\"");
    let level = "VAULT_LOG_LEVEL";
    for (args, env, shows_info, is_json) in [
        (&[][..], &[][..], false, true),
        (&[], &[(level, "info")], true, true),
        (&["-log-level=warn"], &[(level, "info")], false, true),
        (&["-log-level=info"], &[(level, "error")], true, true),
        (
            &["-log-level=info"],
            &[("BAO_LOG_FORMAT", "standard"), ("VAULT_LOG_FORMAT", "json")],
            true,
            false,
        ),
    ] {
        let args = [&["agent", "-config", &config], args].concat();
        let process = Process::start_in(&args, env);
        let before = vault.logins();
        eventually("a login", async || (vault.logins() > before).then_some(())).await;
        let ended = process.stopped_by(Signal::SIGTERM).await;
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        assert_eq!(
            ended.err.contains("logged in") || ended.err.contains("starting"),
            shows_info,
            "{ended:?}"
        );
        if shows_info {
            assert_eq!(ended.err.starts_with('{'), is_json, "{ended:?}");
        }
    }
}

#[tokio::test]
async fn json_logs_are_json_to_the_last_line() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let all_json = |err: &str| -> Vec<Value> {
        let lines = err.lines().map(|line| {
            let line = serde_json::from_str::<Value>(line);
            line.unwrap_or_else(|_| panic!("not all JSON: {err}"))
        });
        lines.collect()
    };
    let config = home.config(&vault, "log_format = \"json\"\nlog_levle = \"info\"");
    let process = Process::start(&["agent", "-config", &config]);
    get(process.address().await, SECRET).await;
    let ended = process.stopped_by(Signal::SIGTERM).await;
    let lines = all_json(&ended.err);
    let warning = &lines[0];
    assert_eq!(
        (&warning["level"], &warning["key"]),
        (&"WARN".into(), &"log_levle".into())
    );
    assert_eq!(warning["suggestion"], "log_level");
    assert!(warning["file"].as_str().unwrap().ends_with("leasehold.hcl"));
    assert!(warning["line"].as_u64() > Some(1), "{warning}");
    for line in &lines {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
    // The reason of a bad end, too, in the same form; and what is wrong with a configuration.
    let sink = "sink \"file\" { config = { path = \"/no/such/place/token\" } }";
    let auth = home.auto_auth(&vault);
    let auth = auth.trim_end().trim_end_matches('}');
    let broken = home.write("broken.hcl", "vault {\n  address = \n}\n");
    let no_sink = home.write("sink.hcl", &format!("{auth}{sink}\n}}\n"));
    for (config, part) in [(no_sink, "/no/such/place"), (broken, "broken.hcl")] {
        let args = ["agent", "-log-format=json", "-config", &config];
        let ended = Process::start(&args).ended().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let lines = all_json(&ended.err);
        let last = lines.last().unwrap();
        assert_eq!(last["level"], "ERROR");
        assert!(last.to_string().contains(part), "{last}");
    }
}

#[tokio::test]
async fn logs_go_where_they_are_wanted() {
    let (home, vault) = (Home::new(), Vault::start().await);
    fs::create_dir(home.path("logs")).unwrap();
    let (file, directory) = (home.at("own.log"), home.at("logs/"));
    let config = home.config(&vault, &format!("log_file = \"{directory}\""));
    for (args, path) in [
        (&[][..], "logs/leasehold.log"),
        (&["-log-file", &file], "own.log"),
    ] {
        let args = [&["agent", "-config", &config], args].concat();
        let process = Process::start(&args);
        process.err.line(": logged in method").await;
        let ended = process.stopped_by(Signal::SIGTERM).await;
        assert_eq!(fs::read_to_string(home.path(path)).unwrap(), ended.err);
        assert_eq!(mode_of(&home.path(path)), 0o640);
    }
    let process = Process::start(&["agent", "-combine-logs", "-config", &config]);
    process.out.line(": logged in method").await;
    assert_eq!(process.stopped_by(Signal::SIGTERM).await.err, "");
    // What ends it is in the file as well.
    let config = home.config(&vault, "pid_file = \"/no/such/place/pid\"");
    let file = home.at("end.log");
    let args = ["agent", "-config", &config, "-log-file", &file];
    let ended = Process::start(&args).ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .contains("/no/such/place/pid")
    );
    let ended = Process::start(&["agent", "-config", &config, "-log-file=/no/such/log"]);
    let ended = ended.ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.starts_with("error: log_file /no/such/log: "),
        "{ended:?}"
    );
}

#[tokio::test]
async fn verifying_only_starts_nothing() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let good = home.config(&vault, "pid_fil = \"x\"");
    for flag in ["-test-verify-only", "--test-verify-only=true"] {
        let ended = Process::start(&["proxy", flag, "-config", &good])
            .ended()
            .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("did you mean"), "{ended:?}");
    }
    let bad = home.write("bad.hcl", "cache {}");
    let ended = Process::start(&["agent", "-test-verify-only", "-config", &bad]);
    assert_eq!(ended.ended().await.code, Some(1));
    assert_eq!(vault.dev.log().total(), 0);
}

#[tokio::test]
async fn exit_after_auth_leaves_the_token_and_ends_well() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let auth = home.auto_auth(&vault);
    let auth = auth.trim_end().trim_end_matches('}');
    let sinks = [("token", "0640"), ("for-me", "\"0600\"")].map(|(name, mode)| {
        let path = home.at(name);
        format!("sink \"file\" {{ config = {{ path = \"{path}\"\n mode = {mode} }} }}\n")
    });
    let text = format!(
        "vault {{ address = \"{}\" }}\n{auth}{}}}\n",
        vault.url(),
        sinks.concat()
    );
    let config = home.write("once.hcl", &text);
    for umask in ["0", "077"] {
        let mut shell = Command::new("sh");
        let script = format!("umask {umask}; exec \"$@\"");
        shell.args([
            "-c",
            &script,
            "sh",
            BINARY,
            "agent",
            "-exit-after-auth",
            "-config",
            &config,
        ]);
        let ended = Process::run(shell, &[]).ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("exit_after_auth"), "{ended:?}");
        for (name, mode) in [("token", 0o640), ("for-me", 0o600)] {
            let token = fs::read_to_string(home.path(name)).unwrap();
            assert!(vault.dev.is_token_alive(&token), "{name}");
            assert!(!ended.err.contains(&token), "{ended:?}");
            assert_eq!(mode_of(&home.path(name)), mode, "{name}, umask {umask}");
            fs::remove_file(home.path(name)).unwrap();
        }
    }
    // The flag goes before the file, both ways.
    let config = home.config(&vault, "exit_after_auth = true");
    let process = Process::start(&["agent", "-exit-after-auth=false", "-config", &config]);
    assert_eq!(get(process.address().await, SECRET).await.status, 200);
    assert_eq!(process.stopped_by(Signal::SIGTERM).await.code, Some(0));
    let ended = Process::start(&["agent", "-config", &config]).ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn the_pid_file_is_there_while_it_runs() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let path = home.write("pid", "left behind");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let config = home.config(&vault, &format!("pid_file = \"{path}\""));
    let process = Process::start(&["agent", "-config", &config]);
    let pid = format!("{}\n", process.id());
    eventually("its id in the pid file", async || {
        (fs::read_to_string(&path).ok()? == pid).then_some(())
    })
    .await;
    assert_eq!(mode_of(&home.path("pid")), 0o600);
    let ended = process.stopped_by(Signal::SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!home.path("pid").exists());
}

#[tokio::test]
async fn several_listeners_serve_the_same_cache() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let more = "listener \"tcp\" {\n  address = \":0\"\n  tls_disable = true\n}\n\
                listener \"tcp\" {\n  address = \"localhost:0\"\n  tls_disable = true\n  \
                role = \"metrics_only\"\n}";
    let config = home.config(&vault, more);
    let process = Process::start(&["agent", "-config", &config]);
    let addresses = process.addresses(3).await;
    assert!(addresses[1].ip().is_unspecified(), "{addresses:?}");
    assert_eq!(addresses[2].ip().to_string(), "127.0.0.1");
    let everywhere = ([127, 0, 0, 1], addresses[1].port()).into();
    assert_eq!(get(addresses[0], SECRET).await.header("x-cache"), "MISS");
    assert_eq!(get(everywhere, SECRET).await.header("x-cache"), "HIT");
    assert_eq!(get(addresses[2], "/agent/v1/metrics").await.status, 200);
    assert_eq!(get(addresses[2], SECRET).await.status, 404);
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_administrator_allows() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let config = home.config(&vault, "");
    for (limits, expected, warned) in [
        ("ulimit -Sn 100 && ulimit -Hn 3000", "3000", false),
        ("ulimit -n 100", "100", true),
    ] {
        let mut shell = Command::new("sh");
        let script = format!("{limits} && exec \"$0\" agent -config \"$1\"");
        shell.args(["-c", &script, BINARY, &config]);
        let process = Process::run(shell, &[]);
        process.address().await;
        let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.unwrap().split_whitespace().nth(3);
        assert_eq!(soft, Some(expected));
        let said = process.stopped_by(Signal::SIGTERM).await.err;
        assert_eq!(said.contains("needed=1120"), warned, "{said}");
    }
}
