//! TLS to Vault: who is believed, what is shown, and what is said when it fails.

use leasehold::config::VaultTls;
use leasehold::dev::{DevVault, Options};
use leasehold::tasks::Tasks;
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ProtocolVersion};

use super::certs::{Authority, Signed};
use super::stand::{Files, Reached, TlsVault, connect_proxy};
use crate::child::{PROXY, Process};

/// With this authority, and all else as it is by default.
fn trusting(authority: &Authority) -> VaultTls {
    VaultTls {
        ca_pem: Some(authority.pem()),
        ..VaultTls::default()
    }
}

#[tokio::test]
async fn an_authority_is_taken_from_a_file_a_directory_or_a_text() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = Files::new();
    let both = files.put(
        "both.pem",
        &(other.pem() + "\nan authority:\n" + &ours.pem()),
    );
    files.put("all/deeper/ours.crt", &ours.pem());
    files.put("all/README", "The authorities of this house.\n");
    files.put("all/key.pem", &other.server(&["x"]).key);
    files.put("all/.hidden", &other.pem());
    std::os::unix::fs::symlink("deeper", files.path().join("all/..data")).unwrap();
    std::os::unix::fs::symlink("nowhere", files.path().join("all/dangling.pem")).unwrap();
    let vault = TlsVault::plainly(&ours.server(&["localhost"])).await;
    for tls in [
        VaultTls {
            ca_cert: Some(both.clone()),
            ..VaultTls::default()
        },
        VaultTls {
            ca_path: Some(files.path().join("all")),
            ..VaultTls::default()
        },
        trusting(&ours),
        // A file beats a text beats a directory.
        VaultTls {
            ca_cert: Some(both),
            ca_pem: Some(other.pem()),
            ca_path: Some(files.path().join("nowhere")),
            ..VaultTls::default()
        },
    ] {
        vault.leasehold("localhost", tls).await.reads().await;
    }
}

/// What `openssl req -x509` makes is its own authority; Go takes it as a server's certificate too.
#[tokio::test]
async fn a_self_signed_certificate_that_is_named_is_believed() {
    let (own, other) = (
        Signed::by_itself(&["localhost"]),
        Signed::by_itself(&["localhost"]),
    );
    let vault = TlsVault::plainly(&own).await;
    let tls = |cert: &Signed, name: Option<&str>| VaultTls {
        ca_pem: Some(cert.cert.clone()),
        server_name: name.map(str::to_owned),
        ..VaultTls::default()
    };
    vault
        .leasehold("localhost", tls(&own, None))
        .await
        .reads()
        .await;
    for (tls, parts) in [
        (
            tls(&other, None),
            ["itself an authority's (CA:TRUE)", "vault.ca_cert"],
        ),
        (
            tls(&own, Some("elsewhere")),
            [
                "is for localhost, not for elsewhere;",
                "vault.tls_server_name",
            ],
        ),
    ] {
        let failure = vault.leasehold("localhost", tls).await.failure().await;
        for part in parts {
            assert!(failure.contains(part), "{failure}");
        }
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start_and_are_named() {
    let (authority, files) = (Authority::new("ours"), Files::new());
    let (one, two) = (authority.client(), authority.client());
    let vault = TlsVault::plainly(&authority.server(&["localhost"])).await;
    let put = |name: &str, text: &str| Some(files.put(name, text));
    let client = |cert: Option<std::path::PathBuf>, key| VaultTls {
        client_cert: cert,
        client_key: key,
        ..trusting(&authority)
    };
    let cert = put("one.pem", &one.cert);
    let (half, _) = one.cert.split_at(one.cert.len() / 2);
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (tls, parts) in [
        (
            VaultTls {
                ca_cert: Some(files.path().join("gone.pem")),
                ..VaultTls::default()
            },
            ["vault.ca_cert: ", "gone.pem cannot be read: No such file"],
        ),
        (
            VaultTls {
                ca_cert: put("empty.pem", ""),
                ..VaultTls::default()
            },
            ["empty.pem holds no certificate", "BEGIN CERTIFICATE"],
        ),
        (
            VaultTls {
                ca_cert: put("half.pem", half),
                ..VaultTls::default()
            },
            ["half.pem", "is not PEM"],
        ),
        (
            VaultTls {
                ca_cert: put(
                    "junk.pem",
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                ),
                ..VaultTls::default()
            },
            ["junk.pem", "no CA certificate"],
        ),
        (
            VaultTls {
                ca_pem: Some("x".to_owned()),
                ..VaultTls::default()
            },
            ["VAULT_CACERT_BYTES", "holds no certificate"],
        ),
        (
            VaultTls {
                ca_path: Some(files.path().join("nowhere")),
                ..VaultTls::default()
            },
            ["vault.ca_path: ", "nowhere cannot be listed"],
        ),
        (
            client(cert.clone(), put("two.key", &two.key)),
            ["one.pem", "do not go together"],
        ),
        (
            client(cert.clone(), put("encrypted.key", &encrypted)),
            ["vault.client_key: ", "not itself encrypted"],
        ),
        (
            client(put("no.pem", &one.key), put("one.key", &one.key)),
            ["vault.client_cert: ", "no.pem holds no certificate"],
        ),
    ] {
        let started = vault.leasehold_with(|config| {
            config.vault.address = vault.url("localhost");
            config.vault.tls = tls;
        });
        let said = match started.await {
            Ok(_) => panic!("it started with {parts:?}"),
            Err(error) => error.to_string(),
        };
        for part in parts {
            assert!(said.contains(part), "{said}");
        }
        for secret in [&one.key, &two.key] {
            let secret = secret.lines().nth(1).unwrap();
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_believed_is_said_with_the_key_to_set() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = Files::new();
    let ca_cert = Some(files.put("other.pem", &other.pem()));
    let expired = ours.server_with(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 2, 3);
    });
    let too_new = ours.server_with(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2200, 1, 1);
        params.not_after = rcgen::date_time_ymd(2201, 1, 1);
    });
    let nameless = ours.server(&[]);
    for (certificate, tls, parts) in [
        (
            ours.server(&["localhost"]),
            VaultTls {
                ca_cert,
                ..VaultTls::default()
            },
            [
                "its certificate is not signed by an authority in vault.ca_cert (",
                "other.pem) or of this system; vault.ca_cert (or VAULT_CACERT) names",
            ],
        ),
        (
            ours.server(&["localhost"]),
            VaultTls::default(),
            ["not signed by an authority of this system", "vault.ca_cert"],
        ),
        (
            ours.server(&["vault.example", "10.1.2.3"]),
            trusting(&ours),
            [
                "is for vault.example, 10.1.2.3, not for localhost;",
                "vault.tls_server_name",
            ],
        ),
        (
            nameless,
            trusting(&ours),
            ["no subject alternative names", "vault.tls_server_name"],
        ),
        (
            expired,
            trusting(&ours),
            ["expired at 2021-02-03T00:00:00Z", "clock"],
        ),
        (
            too_new,
            trusting(&ours),
            ["not valid before 2200-01-01T00:00:00Z", "clock"],
        ),
    ] {
        let vault = TlsVault::plainly(&certificate).await;
        let reached = vault.leasehold("localhost", tls).await;
        let failure = reached.failure().await;
        for part in parts.into_iter().chain([vault.url("localhost").as_str()]) {
            assert!(failure.contains(part), "{part}: {failure}");
        }
        assert!(vault.vault.log().records().is_empty(), "nothing was asked");
    }
}

#[tokio::test]
async fn a_port_without_tls_is_told_from_one_with_it() {
    let (vault, tasks) = (DevVault::new(&Options::default()), Tasks::new());
    let address = vault.listen("127.0.0.1:0", &tasks).await.unwrap();
    let reached = Reached::start(&vault, |config| {
        config.vault.address = format!("https://{address}");
    });
    let failure = reached.await.unwrap().failure().await;
    assert!(failure.contains("its address is http://"), "{failure}");
}

#[tokio::test]
async fn the_expected_name_is_sent_and_checked() {
    let authority = Authority::new("ours");
    let vault = TlsVault::plainly(&authority.server(&["vault.internal", "127.0.0.1"])).await;
    for (host, server_name, sent) in [
        ("localhost", Some("vault.internal"), Some("vault.internal")),
        ("127.0.0.1", Some("vault.internal"), Some("vault.internal")),
        // An address is checked, and not sent: RFC 6066 has names only.
        ("127.0.0.1", None, None),
        ("localhost", Some("127.0.0.1"), None),
    ] {
        let reached = vault.leasehold(
            host,
            VaultTls {
                server_name: server_name.map(str::to_owned),
                ..trusting(&authority)
            },
        );
        reached.await.reads().await;
        let greeting = vault.greetings().pop().unwrap();
        assert_eq!(greeting.name.as_deref(), sent, "{host} {server_name:?}");
        assert_eq!(greeting.version, Some(ProtocolVersion::TLSv1_3));
        assert!(!greeting.has_certificate);
        for record in vault.vault.log().records() {
            let host = record.header("host").unwrap();
            assert!(!host.contains("internal"), "Host is the address's: {host}");
        }
        vault.vault.log().clear();
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_vault_asks_for_it() {
    let (ours, clients, other) = (
        Authority::new("ours"),
        Authority::new("clients"),
        Authority::new("other"),
    );
    let (good, bad) = (clients.client(), other.client());
    let files = Files::new();
    for versions in [&[&TLS13][..], &[&TLS12], ALL_VERSIONS] {
        let certificate = ours.server(&["localhost"]);
        let vault = TlsVault::start(certificate.server(Some(&clients), versions)).await;
        let in_files = VaultTls {
            client_cert: Some(files.put("client.pem", &good.cert)),
            client_key: Some(files.put("client.key", &good.key)),
            ..trusting(&ours)
        };
        let in_texts = VaultTls {
            client_cert_pem: Some(good.cert.clone()),
            client_key_pem: Some(good.key.clone().into()),
            ..trusting(&ours)
        };
        for tls in [in_files, in_texts] {
            vault.leasehold("localhost", tls).await.reads().await;
            assert!(vault.greetings().pop().unwrap().has_certificate);
        }
        let without = vault.leasehold("localhost", trusting(&ours)).await;
        let failure = without.failure().await;
        for part in [
            "asks for a client certificate",
            "vault.client_cert and vault.client_key",
        ] {
            assert!(failure.contains(part), "{versions:?}: {failure}");
        }
        let wrong = VaultTls {
            client_cert: Some(files.put("bad.pem", &bad.cert)),
            client_key: Some(files.put("bad.key", &bad.key)),
            ..trusting(&ours)
        };
        let failure = vault.leasehold("localhost", wrong).await.failure().await;
        for part in ["refuses the client certificate of", "bad.pem"] {
            assert!(failure.contains(part), "{versions:?}: {failure}");
        }
    }
}

#[tokio::test]
async fn an_older_vault_is_spoken_to_in_tls_1_2() {
    let authority = Authority::new("ours");
    let certificate = authority.server(&["localhost"]);
    let vault = TlsVault::start(certificate.server(None, &[&TLS12])).await;
    let reached = vault.leasehold("localhost", trusting(&authority)).await;
    reached.reads().await;
    let greeting = vault.greetings().pop().unwrap();
    assert_eq!(greeting.version, Some(ProtocolVersion::TLSv1_2));
}

#[tokio::test]
async fn without_the_check_everything_is_believed_and_it_shows() {
    let vault = TlsVault::plainly(&Signed::by_itself(&["elsewhere"])).await;
    for skip in [true, false] {
        let reached = vault.leasehold(
            "localhost",
            VaultTls {
                danger_skip_verify: skip,
                ..VaultTls::default()
            },
        );
        let reached = reached.await;
        if skip {
            reached.reads().await;
        } else {
            reached.failure().await;
        }
        let metric = reached.metric("leasehold_upstream_tls_skip_verify").await;
        assert_eq!(metric, u64::from(skip));
        let status = reached.status().await;
        assert_eq!(status["vault"]["tls_skip_verify"], skip, "{status}");
    }
}

#[tokio::test]
async fn the_start_warns_that_nothing_is_checked() {
    let vault = TlsVault::plainly(&Signed::by_itself(&["elsewhere"])).await;
    let files = Files::new();
    let text = format!(
        "vault {{\n  address = \"{}\"\n  tls_skip_verify = true\n}}\n\
         auto_auth {{\n  method \"token_file\" {{\n    config {{ token_file_path = \"{}\" }}\n  }}\n}}\n{PROXY}",
        vault.url("localhost"),
        files
            .put("token", vault.vault.root_token().expose())
            .display(),
    );
    let config = files.put("leasehold.hcl", &text);
    let process = Process::start(&["agent", "-config", config.to_str().unwrap()]);
    let line = process.err.line("tls_skip_verify is on").await;
    assert!(line.contains("WARN"), "{line}");
    let answer = crate::child::get(process.address().await, "/v1/secret/data/app/config").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn tls_goes_through_an_http_proxy() {
    let (authority, tasks) = (Authority::new("ours"), Tasks::new());
    let vault = TlsVault::plainly(&authority.server(&["localhost"])).await;
    let (proxy, asked) = connect_proxy(&tasks).await;
    let through = async |tls| {
        let reached = vault.leasehold_with(|config| {
            config.vault.address = vault.url("localhost");
            config.vault.http_proxy = Some(format!("http://{proxy}"));
            config.vault.tls = tls;
        });
        reached.await.unwrap()
    };
    through(trusting(&authority)).await.reads().await;
    let port = vault.address.port();
    let line = format!("CONNECT localhost:{port} HTTP/1.1");
    assert!(asked.lock().unwrap().iter().all(|asked| *asked == line));
    assert!(!asked.lock().unwrap().is_empty());
    let failure = through(trusting(&Authority::new("other")))
        .await
        .failure()
        .await;
    assert!(failure.contains("is not signed by"), "{failure}");
}
