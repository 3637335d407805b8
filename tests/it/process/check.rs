//! `leasehold check`.

use std::fs;

use serde_json::Value;

use crate::child::{Ended, Home, Process, Vault};

async fn check(args: &[&str], env: &[(&str, &str)]) -> Ended {
    let args = [&["check"], args].concat();
    Process::start_in(&args, env).ended().await
}

#[tokio::test]
async fn a_good_configuration_is_shown_as_it_takes_effect() {
    let home = Home::new();
    let text = "auto_auth {\n  method \"approle\" {\n    config = {\n      role_id_env_var = \
                \"ROLE\"\n      secret_id_env_var = \"SECRET\"\n    }\n  }\n}\n\
                api_proxy { use_auto_auth_token = true }\n\
                listener \"tcp\" { address = \"127.0.0.1:8300\" tls_disable = true }\n";
    let config = home.write("good.hcl", text);
    let env = &[
        ("ROLE", "role-canary"),
        ("SECRET", "secret-canary"),
        ("VAULT_ADDR", "https://vault.example:8200"),
        ("VAULT_CLIENT_TIMEOUT", "7s"),
        ("VAULT_SKIP_VERIFY", "false"),
    ];
    let ended = check(&["-config", &config], env).await;
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{ended:?}");
    for part in [
        "https://vault.example:8200",
        "127.0.0.1:8300",
        "SECRET",
        "7s",
    ] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    let ended = check(&["-config", &config, "-format=json"], env).await;
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    let effective = &report["effective"];
    assert_eq!(effective["vault"]["address"], "https://vault.example:8200");
    assert_eq!(effective["vault"]["tls_skip_verify"], false);
    let all = format!("{}{}", ended.out, ended.err);
    assert!(!all.contains("canary"), "{all}");
    // The variable is a boolean, not a presence.
    let env = &[
        ("ROLE", "r"),
        ("SECRET", "s"),
        ("BAO_SKIP_VERIFY", "1"),
        ("VAULT_SKIP_VERIFY", "0"),
    ];
    let ended = check(&["-config", &config, "-format=json"], env).await;
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["effective"]["vault"]["tls_skip_verify"], true);
}

#[tokio::test]
async fn a_finding_is_a_place_a_line_a_caret_and_the_nearest_key() {
    let home = Home::new();
    let config = home.write(
        "typo.hcl",
        "cache {}\nvault {\n  adress = \"http://x\"\n}\n\
        listener \"tcp\" {\n  address = \"127.0.0.1:8201\"\n  tls_disable = true\n}\n",
    );
    let ended = check(&["-config", &config], &[]).await;
    assert_eq!((ended.code, &*ended.out), (Some(1), ""));
    let lines: Vec<&str> = ended.err.lines().collect();
    assert!(
        lines[0].starts_with(&format!("error: {config}:3:3: ")),
        "{ended:?}"
    );
    assert!(
        lines[0].contains("adress") && lines[0].contains("address"),
        "{ended:?}"
    );
    let source = lines
        .iter()
        .position(|line| line.contains("3 |   adress = \"http://x\""));
    let source = source.unwrap_or_else(|| panic!("{}", ended.err));
    let (at, caret) = (
        lines[source].find("adress"),
        lines[source + 1].find("^^^^^^"),
    );
    assert!(at.is_some() && at == caret, "{}", ended.err);
}

#[tokio::test]
async fn every_culprit_of_every_file_is_reported_in_one_run() {
    let home = Home::new();
    let text = "cache {}\nlistener \"tpc\" {\n  address = \"127.0.0.1\"\n}\n\
                auto_auth {\n  method \"aprole\" {}\n}\nlog_level = \"loud\"\n";
    let first = home.write("a.hcl", text);
    let second = home.write("b.json", "{\"vault\": {\"adress\": 1},\n \"cache\": tru}");
    let third = home.at("absent.hcl");
    let args = ["-config", &first, "-config", &second, "-config", &third];
    let ended = check(&args, &[("VAULT_SKIP_VERIFY", "maybe")]).await;
    assert_eq!((ended.code, &*ended.out), (Some(1), ""), "{ended:?}");
    for start in [
        format!("error: {first}:2:"),
        format!("error: {first}:6:"),
        format!("error: {first}:8:"),
        format!("error: {second}:2:"),
        format!("error: {third}: cannot be read"),
    ] {
        let found = ended.err.lines().any(|line| line.starts_with(&start));
        assert!(found, "no {start:?} in\n{}", ended.err);
    }
    assert!(ended.err.contains("VAULT_SKIP_VERIFY"), "{}", ended.err);
    let args = [&args[..], &["-format", "json"]].concat();
    let ended = check(&args, &[]).await;
    assert_eq!((ended.code, &*ended.err), (Some(1), ""), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["effective"], Value::Null);
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() >= 5, "{findings:?}");
    let placed = findings.iter().find(|it| it["line"] == 8).unwrap();
    assert_eq!(placed["severity"], "error");
    assert_eq!(placed["file"], *first);
    assert!(placed["column"].as_u64() > Some(0), "{placed}");
    assert!(placed["message"].as_str().unwrap().contains("loud"));
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_not_printed() {
    let home = Home::new();
    let secret = "hvs.CAESIJ1234567890abcdefghijCANARY";
    let id = "db02de05-fa39-4855-059b-67221c5c2f63";
    for text in [
        format!("token = \"{secret}\"\ncache {{}}\n"),
        format!("{id}\n"),
        "vault { address = \"https://me:hunter2@vault.example\" }\n".to_owned(),
    ] {
        let config = home.write("secret.hcl", &text);
        for format in ["text", "json"] {
            let ended = check(&["-config", &config, "-format", format], &[]).await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            let all = format!("{}{}", ended.out, ended.err);
            for secret in [secret, id, "hunter2"] {
                assert!(!all.contains(secret), "{all}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let home = Home::new();
    let binary = home.at("binary.hcl");
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    fs::create_dir(home.path("empty")).unwrap();
    let (absent, empty) = (home.at("absent"), home.at("empty"));
    let broken = home.write(
        "broken.hcl",
        "vault {\n  address = \"http://127.0.0.1:1\n}\n",
    );
    let unclosed = home.write("unclosed.json", "{\"vault\": {}");
    for (args, parts) in [
        (&[][..], &["no configuration", "-config="][..]),
        (&["-config", &absent], &[&*absent, "No such file"]),
        (&["-config", &binary], &[&*binary, "UTF-8"]),
        (&["-config", &empty], &[&*empty, ".hcl"]),
        (&["-config", &broken], &[":2:"]),
        (&["-config", &unclosed], &[":1:"]),
    ] {
        for command in ["check", "agent", "proxy"] {
            let all = [&[command], args].concat();
            let ended = Process::start(&all).ended().await;
            assert_eq!(
                (ended.code, &*ended.out),
                (Some(1), ""),
                "{args:?}: {ended:?}"
            );
            assert!(ended.err.starts_with("error: "), "{args:?}: {ended:?}");
            for part in parts {
                assert!(ended.err.contains(part), "{args:?}: {part}: {ended:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_directory_is_checked_as_a_whole() {
    let (home, vault) = (Home::new(), Vault::start().await);
    let config = fs::read_to_string(home.config(&vault, "")).unwrap();
    home.write("parts/10.hcl", &config);
    home.write("parts/20.json", "{\"log_level\": \"debug\"}");
    let directory = home.at("parts");
    let ended = check(&["-config", &directory, "-format=json"], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["effective"]["log_level"], "debug");
    home.write("parts/30.hcl", "log_level = \"loud\"");
    let ended = check(&["-config", &directory], &[]).await;
    assert!(ended.err.contains("30.hcl:1:"), "{ended:?}");
    assert_eq!(vault.dev.log().total(), 0, "it talks to nobody");
}
