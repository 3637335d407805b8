//! Configuration files, each with everything that is to be said about it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::Duration;

use leasehold::config::{
    self, AppRole, Config, CredentialSource, Finding, Loaded, Method, Overrides, Product, Report,
    Strictness, UseAutoAuthToken,
};
use proptest::prelude::*;

/// `expected.txt` is one section per fixture: its name, then a line per finding. A change of it is a change of
/// what users are told, and is reviewed as one.
#[test]
fn every_fixture_gets_its_verdict() {
    let root = root("tests/fixtures/config");
    let mut actual = String::new();
    for name in fixtures(&root) {
        let path = root.join(&name);
        for (product, strictness) in runs(&name) {
            let mode = format!("{product:?} {strictness:?}").to_lowercase();
            writeln!(actual, "## {name} ({mode})").unwrap();
            let result = load(from_ref(&path), product, strictness, &[]);
            actual.push_str(&verdict(&result, &path));
            actual.push('\n');
        }
    }
    let expected = fs::read_to_string(root.join("expected.txt")).unwrap_or_default();
    if actual != expected {
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config-expected.txt");
        fs::write(&copy, &actual).unwrap();
        let (line, (got, wanted)) = actual
            .lines()
            .chain(["<end>"])
            .zip(expected.lines().chain(["<end>"]))
            .enumerate()
            .find(|(_, (got, wanted))| got != wanted)
            .unwrap();
        panic!(
            "expected.txt:{}: said {got:?}, expected {wanted:?}; all that was said is in {}",
            line + 1,
            copy.display()
        );
    }
}

#[test]
fn what_the_peers_refuse_is_refused_and_what_they_take_is_taken() {
    let root = root("tests/fixtures/config");
    for name in fixtures(&root) {
        let result = load(&[root.join(&name)], Product::Agent, Strictness::Run, &[]);
        let expected = name.starts_with("good/") || name == "bad/typos.hcl";
        assert_eq!(result.is_ok(), expected, "{name}: {result:?}");
    }
}

#[test]
fn everything_that_is_said_takes_effect() {
    let file = root("tests/fixtures/config/good/everything.hcl");
    let vars = [("ROLE_ID", "the-role"), ("SECRET_ID", "the-secret")];
    let loaded = load(&[file], Product::Agent, Strictness::Check, &vars).unwrap();
    let config = &loaded.config;
    assert_eq!(config.vault.address, "https://vault.example:8200/base");
    assert_eq!(config.vault.namespace.as_deref(), Some("team/"));
    assert_eq!(config.vault.num_retries, 0);
    assert_eq!(config.vault.timeout, Duration::from_secs(90));
    assert_eq!(config.vault.max_connections, 16);
    assert!(!config.vault.tls.danger_skip_verify);
    assert_eq!(config.use_auto_auth_token, UseAutoAuthToken::Force);
    let auto_auth = config.auto_auth.as_ref().unwrap();
    assert_eq!(auto_auth.mount_path, "auth/approle");
    assert!(auto_auth.exit_on_err);
    assert_eq!(auto_auth.sinks[0].mode, 0o600);
    assert_eq!(auto_auth.sinks[0].uid, Some(1000));
    let (name, value) = secret_id_variable(config);
    assert_eq!(name, "SECRET_ID");
    assert!(value.unwrap().ct_eq("the-secret"));
    let cache = config.cache.as_ref().unwrap();
    assert_eq!(cache.max_size, 32 << 20);
    assert!(!cache.logins && cache.token_create);
    assert_eq!(
        cache.static_secrets.as_ref().unwrap().ttl,
        Duration::from_secs(60)
    );
    assert_eq!(cache.leases.idle_ttl, Some(Duration::from_secs(3600)));
    let globs: Vec<_> = cache.paths.iter().map(|rule| rule.glob.as_str()).collect();
    assert_eq!(globs, ["database/creds/one-shot", "secret/data/hot/*"]);
    assert_eq!(config.background.burst, 4);
    assert_eq!(config.listeners.len(), 2);
    assert!(config.listeners[0].enable_quit && config.listeners[0].require_request_header);
    assert!(config.listeners[1].metrics_only);
    assert_eq!(
        config.log.file,
        Some(PathBuf::from("/var/log/leasehold/leasehold.log"))
    );
    assert_eq!(config.startup_wait, Duration::from_secs(2));
    let shown = format!("{config:?}{}", loaded.effective);
    assert!(
        !shown.contains("the-role") && !shown.contains("the-secret"),
        "{shown}"
    );
}

/// In HCL and in natural JSON, in blocks, lists and labels: the same configuration.
#[test]
fn json_means_what_it_says() {
    let root = root("tests/fixtures/config/good");
    let of = |name: &str| load(&[root.join(name)], Product::Agent, Strictness::Check, &[]).unwrap();
    let config = of("types.json").config;
    let auto_auth = config.auto_auth.as_ref().unwrap();
    assert!(matches!(&auto_auth.method, Method::AppRole(_)));
    assert_eq!(auto_auth.sinks[0].mode, 0o640);
    assert_eq!(config.vault.num_retries, 5);
    assert_eq!(config.cache.unwrap().paths[0].glob, "secret/data/hot/*");
    assert_eq!(config.listeners.len(), 2);
    assert!(config.listeners[0].enable_quit);
    let config = of("objects-only.json").config;
    assert_eq!(config.auto_auth.unwrap().sinks.len(), 1);
    assert_eq!(config.listeners[0].address, "[::]:8201");
    let config = of("lists.json").config;
    assert_eq!(config.auto_auth.unwrap().sinks.len(), 1);
    assert_eq!(config.listeners.len(), 2);
}

#[test]
fn a_mode_is_the_same_in_every_spelling() {
    for (text, mode) in [
        (sink_with("mode = \"0640\""), Some(0o640)),
        (sink_with("mode = 0640"), Some(0o640)),
        (sink_with("mode = 416"), Some(0o640)),
        (sink_with(""), Some(0o640)),
        (sink_with("mode = 0600"), Some(0o600)),
        (sink_with("mode = 640"), None),
        (sink_with("mode = 400"), None),
        (sink_with("mode = \"0999\""), None),
    ] {
        let read = load_text(&text, &[]).ok();
        let read = read.map(|loaded| loaded.config.auto_auth.unwrap().sinks[0].mode);
        assert_eq!(read, mode, "{text}");
    }
}

#[test]
fn later_files_add_replace_and_override() {
    let dir = root("tests/fixtures/config/good/merged");
    let config = load(&[dir], Product::Agent, Strictness::Check, &[])
        .unwrap()
        .config;
    assert_eq!(config.vault.address, "https://site.example:8200");
    assert_eq!(config.vault.namespace, None);
    assert_eq!(config.cache.unwrap().max_size, 64 << 20);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.pid_file, Some(PathBuf::from("/run/base.pid")));
    assert_eq!(config.log.level, config::LogLevel::Error);
    assert!(config.exit_after_auth);
}

#[test]
fn values_that_vaults_own_tests_pin() {
    let root = root("tests/fixtures/config/good");
    let of = |name: &str| load(&[root.join(name)], Product::Agent, Strictness::Check, &[]).unwrap();
    let config = of("type-keys.hcl").config;
    assert_eq!(config.vault.namespace.as_deref(), Some("my-namespace/"));
    assert_eq!(config.vault.num_retries, 5);
    let auto_auth = config.auto_auth.unwrap();
    assert_eq!(auto_auth.mount_path, "auth/app");
    assert_eq!(auto_auth.min_backoff, auto_auth.max_backoff);
    // `sinks { sink {} }` is read like `sink {}`.
    assert_eq!(auto_auth.sinks.len(), 2);
    assert_eq!(
        (auto_auth.sinks[0].uid, auto_auth.sinks[0].gid),
        (Some(1000), None)
    );
    assert_eq!(of("minimal.hcl").config.vault.num_retries, 12);
    // `force` is copied with all it means.
    let used = |name| of(name).config.use_auto_auth_token;
    assert_eq!(used("force-in-cache.hcl"), UseAutoAuthToken::Force);
    assert_eq!(used("upper-case.hcl"), UseAutoAuthToken::Force);
    assert_eq!(used("minimal.hcl"), UseAutoAuthToken::Off);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "vault { address = \"https://file.example\" } log_level = \"error\"";
    let text = format!("{file} {LISTENER}");
    let address = |text: &str, vars: &[(&str, &str)], flag: Option<&str>| {
        let overrides = Overrides {
            address: flag.map(str::to_owned),
            ..Overrides::default()
        };
        load_with(text, vars, &overrides)
            .unwrap()
            .config
            .vault
            .address
    };
    let both = [
        ("VAULT_ADDR", "https://vault.example"),
        ("BAO_ADDR", "https://bao.example"),
    ];
    assert_eq!(address(LISTENER, &[], None), "https://127.0.0.1:8200");
    assert_eq!(address(&text, &[], None), "https://file.example");
    assert_eq!(address(&text, &both[..1], None), "https://vault.example");
    assert_eq!(address(&text, &both, None), "https://bao.example");
    assert_eq!(
        address(&text, &both, Some("https://flag.example")),
        "https://flag.example"
    );
    // Set but empty is set, as in Vault, and said.
    let hidden = load_text(&text, &[("VAULT_ADDR", "")]).unwrap();
    assert_eq!(hidden.config.vault.address, "https://127.0.0.1:8200");
    assert!(
        hidden.findings[0]
            .message
            .contains("VAULT_ADDR is set but empty")
    );
}

#[test]
fn the_environment_is_read_as_vaults() {
    let loaded = load_text(
        &format!("cache {{}} {LISTENER}"),
        &[
            ("VAULT_CACHE_TTL", "90"),
            ("VAULT_CLIENT_TIMEOUT", "10s"),
            ("VAULT_MAX_RETRIES", "0"),
            ("VAULT_RATE_LIMIT", "2.5:7"),
            ("VAULT_SKIP_VERIFY", "false"),
            ("VAULT_NAMESPACE", "/a//b"),
            ("VAULT_CACERT_BYTES", "pem"),
            ("VAULT_CLIENT_CERT_BYTES", "cert"),
            ("VAULT_CLIENT_KEY_BYTES", "canary-key"),
            ("VAULT_HTTP_PROXY", "http://no.example:1"),
            ("VAULT_PROXY_ADDR", "http://proxy.example:3128"),
            ("HTTPS_PROXY", "http://never.example:1"),
            ("VAULT_LOG_LEVEL", "trace"),
            ("VAULT_LOG_FORMAT", "json"),
            ("VAULT_AGENT_ADDR", "http://127.0.0.1:8201"),
            ("VAULT_TOKEN", "canary-token"),
        ],
    )
    .unwrap();
    let config = &loaded.config;
    let ttl = config
        .cache
        .as_ref()
        .unwrap()
        .static_secrets
        .as_ref()
        .unwrap()
        .ttl;
    assert_eq!(ttl, Duration::from_secs(90));
    assert_eq!(config.vault.timeout, Duration::from_secs(10));
    assert_eq!(config.vault.num_retries, 0);
    assert_eq!((config.background.rate, config.background.burst), (2.5, 7));
    assert!(!config.vault.tls.danger_skip_verify);
    assert_eq!(config.vault.namespace.as_deref(), Some("a/b/"));
    assert_eq!(
        config.vault.http_proxy.as_deref(),
        Some("http://proxy.example:3128")
    );
    assert_eq!(config.vault.address, "https://127.0.0.1:8200");
    assert!(config.log.json);
    let shown = format!("{:?} {}", loaded, loaded.effective);
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn a_variable_that_cannot_be_read_is_named() {
    for (name, text) in [
        ("VAULT_SKIP_VERIFY", "nope"),
        ("BAO_CLIENT_TIMEOUT", "1.5"),
        ("VAULT_MAX_RETRIES", "-1"),
        ("VAULT_RATE_LIMIT", "fast"),
        ("VAULT_CACHE_TTL", "0"),
        ("VAULT_SRV_LOOKUP", "true"),
        ("VAULT_DISABLE_REDIRECTS", "x"),
        ("BAO_ADDR", "vault.example:8200"),
        ("VAULT_ADDR", "unix://"),
        ("VAULT_ADDR", "https://me:canary@vault.example"),
        ("VAULT_HTTP_PROXY", "http://me:canary@proxy.example"),
        ("VAULT_PROXY_ADDR", "socks5://proxy.example"),
        ("VAULT_LOG_LEVEL", "loud"),
        ("BAO_LOG_FORMAT", "xml"),
        ("VAULT_NAMESPACE", "a b"),
        ("VAULT_AGENT_DISABLE_KEEP_ALIVES", "caching"),
    ] {
        let text = load_text(&format!("cache {{}} {LISTENER}"), &[(name, text)]);
        let findings = text.expect_err(name);
        let shown = config::render_text(&findings);
        assert!(shown.contains(&format!("the variable {name}: ")), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn configuration_paths_come_from_the_environment_too() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first.conf");
    fs::write(&first, format!("log_level = \"debug\" {LISTENER}")).unwrap();
    let second = dir.path().join("second.hcl");
    fs::write(&second, "log_level = \"warn\"").unwrap();
    let list = format!(" {} , ", first.display());
    let vars = [("VAULT_AGENT_CONFIG_PATH", list.as_str())];
    let loaded = load(&[second], Product::Agent, Strictness::Check, &vars).unwrap();
    assert_eq!(loaded.config.log.level, config::LogLevel::Warn);
    assert_eq!(loaded.config.listeners.len(), 1);
    let none = load(&[], Product::Proxy, Strictness::Check, &vars).unwrap_err();
    assert_eq!(none.len(), 1);
    assert!(
        none[0].message.contains("BAO_PROXY_CONFIG_PATH"),
        "{none:?}"
    );
}

#[test]
fn every_bad_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.hcl", "b.hcl", "c.json"] {
        fs::write(dir.path().join(name), "{{{").unwrap();
    }
    let paths = [dir.path().to_owned(), dir.path().join("none.hcl")];
    let findings = load(&paths, Product::Agent, Strictness::Check, &[]).unwrap_err();
    assert_eq!(findings.len(), 4, "{findings:?}");
    assert_eq!(
        findings
            .iter()
            .filter(|finding| finding.line == Some(1))
            .count(),
        3
    );
}

/// What takes effect is itself a configuration, and means the same.
#[test]
fn the_effective_configuration_reads_back() {
    let root = root("tests/fixtures/config");
    let dir = tempfile::tempdir().unwrap();
    let vars = [("ROLE_ID", "r"), ("SECRET_ID", "s")];
    for name in fixtures(&root).filter(|name| name.starts_with("good/")) {
        let first = load(
            &[root.join(&name)],
            Product::Agent,
            Strictness::Check,
            &vars,
        )
        .unwrap();
        for (form, text) in [
            ("hcl", config::render_effective(&first.effective)),
            ("json", first.effective.to_string()),
        ] {
            let file = dir.path().join(format!("again.{form}"));
            fs::write(&file, &text).unwrap();
            let again = load(&[file], Product::Agent, Strictness::Check, &vars);
            let again =
                again.unwrap_or_else(|f| panic!("{name}: {text}{}", config::render_text(&f)));
            assert_eq!(again.effective, first.effective, "{name} as {form}: {text}");
        }
    }
}

/// The commented lines of the example are the defaults: with them and without, the same takes effect.
#[test]
fn the_example_shows_the_defaults() {
    let file = root("config/leasehold.hcl");
    let text = fs::read_to_string(&file).unwrap();
    let said: String = text
        .lines()
        .map(|line| {
            let rest = line.trim_start();
            let shown = rest.strip_prefix("#").filter(|rest| is_default(rest));
            format!("{}\n", shown.unwrap_or(line))
        })
        .collect();
    assert_ne!(said, text);
    let plain = load(&[file], Product::Agent, Strictness::Check, &[]).unwrap();
    let full = load_text(&said, &[]).unwrap_or_else(|f| panic!("{}", config::render_text(&f)));
    assert!(
        plain.findings.is_empty(),
        "{}",
        config::render_text(&plain.findings)
    );
    assert_eq!(full.effective, plain.effective);
}

#[test]
fn the_seeds_are_understood() {
    let dir = root("config/seeds");
    for name in fixtures(&dir) {
        let vars = [("VAULT_ROLE_ID", "r"), ("VAULT_SECRET_ID", "s")];
        let result = load(&[dir.join(&name)], Product::Agent, Strictness::Check, &vars);
        let findings = match &result {
            Ok(loaded) => &loaded.findings,
            Err(findings) => findings,
        };
        let shown = config::render_text(findings);
        // Nothing in them is unknown or wrong; what is left is what this version has not.
        assert!(
            findings
                .iter()
                .all(|f| f.message.contains("this version of Leasehold")),
            "{shown}"
        );
        assert_eq!(result.is_ok(), name.contains("runnable"), "{name}: {shown}");
    }
}

/// With a listener, `proxy` takes no token from `cache`'s key, and quits only by `proxy_api`.
#[test]
fn a_proxy_reads_its_own_keys() {
    let root = root("tests/fixtures/config/good");
    let of =
        |name: &str, product| load(&[root.join(name)], product, Strictness::Check, &[]).unwrap();
    let quit = |product| of("idle-keys.hcl", product).config.listeners[0].enable_quit;
    assert!(quit(Product::Proxy));
    assert!(!quit(Product::Agent));
    let vars = [("VAULT_PROXY_DISABLE_KEEP_ALIVES", "caching")];
    let file = root.join("minimal.hcl");
    assert!(load(from_ref(&file), Product::Proxy, Strictness::Check, &vars).is_err());
    assert!(load(&[file], Product::Agent, Strictness::Check, &vars).is_ok());
}

#[test]
fn findings_are_for_machines_too() {
    let text = format!("vault {{\n  adress = \"x\"\n}}\n{LISTENER}");
    let result = load_text(&text, &[]);
    let json = serde_json::to_value(Report::from(&result)).unwrap();
    assert!(json["effective"].is_null());
    let first = &json["findings"][0];
    assert_eq!(first["severity"], "error");
    assert_eq!(first["line"], 2);
    assert_eq!(first["column"], 3);
    assert_eq!(first["key"], "vault.adress");
    assert_eq!(first["suggestion"], "address");
    assert!(first["file"].as_str().unwrap().ends_with("text.hcl"));
}

/// One letter too few, too many, another, or two swapped, in every key of a full configuration.
#[test]
fn no_slip_in_a_key_goes_unnoticed() {
    let text = fs::read_to_string(root("tests/fixtures/config/good/everything.hcl")).unwrap();
    let vars = [("ROLE_ID", "r"), ("SECRET_ID", "s")];
    let mut tried = 0;
    for (start, line) in lines(&text) {
        let key = line.trim_start().split([' ', '{']).next().unwrap();
        let at = start + (line.len() - line.trim_start().len());
        if key.is_empty() || key == "}" {
            continue;
        }
        for slip in slips(key) {
            let mut wrong = text.clone();
            wrong.replace_range(at..at + key.len(), &slip);
            let findings = load_text(&wrong, &vars).expect_err(&slip);
            let message = format!("unknown key {slip:?}");
            assert!(
                findings.iter().any(|f| f.message.contains(&message)),
                "{slip}"
            );
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _loaded = load_text(&text, &[]);
    }

    #[test]
    fn no_torn_configuration_panics(cut in 0..4000_usize, with in "[\"{}\\[\\]=,a0 \n-]{0,3}", gone in 0..40_usize) {
        for name in ["everything.hcl", "types.json", "idle-keys.hcl"] {
            let text = fs::read_to_string(root("tests/fixtures/config/good").join(name)).unwrap();
            let cut = cut % text.len();
            let rest = (cut + gone).min(text.len());
            if let (Some(head), Some(tail)) = (text.get(..cut), text.get(rest..)) {
                let result = load_text(&format!("{head}{with}{tail}"), &[]);
                if let Err(findings) = result {
                    prop_assert!(config::render_text(&findings).starts_with("error: "));
                }
            }
        }
    }
}

const LISTENER: &str = "listener \"tcp\" { address = \"127.0.0.1:8201\" tls_disable = true }";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Files and directories of configurations, by name, sorted.
fn fixtures(root: &Path) -> impl Iterator<Item = String> {
    let mut names = Vec::new();
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for path in list(&dir) {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let whole =
                name.ends_with("merged") || name.ends_with(".hcl") || name.ends_with(".json");
            match (whole, path.is_dir()) {
                (true, _) => names.push(name),
                (false, true) => dirs.push(path),
                (false, false) => {}
            }
        }
    }
    names.sort();
    names.into_iter()
}

/// `#key = value`, and `#  key = value` within a block; `# words` are words.
fn is_default(rest: &str) -> bool {
    !rest.starts_with([' ', '#']) || rest.starts_with("  ")
}

fn runs(name: &str) -> Vec<(Product, Strictness)> {
    let mut runs = vec![(Product::Agent, Strictness::Check)];
    if ["bad/typos.hcl", "good/type-keys.hcl"].contains(&name) {
        runs.push((Product::Agent, Strictness::Run));
    }
    if [
        "good/idle-keys.hcl",
        "unbuilt/templates.hcl",
        "bad/wrapped-and-used.hcl",
    ]
    .contains(&name)
    {
        runs.push((Product::Proxy, Strictness::Check));
    }
    runs
}

fn verdict(result: &Result<Loaded, Vec<Finding>>, path: &Path) -> String {
    let (mut text, findings) = match result {
        Ok(loaded) => ("ok\n".to_owned(), &loaded.findings),
        Err(findings) => (String::new(), findings),
    };
    for finding in findings {
        let level = if finding.is_error() {
            "error"
        } else {
            "warning"
        };
        let place = match (finding.line, finding.column) {
            (Some(line), Some(column)) => format!(" {line}:{column}"),
            _ => String::new(),
        };
        let message = finding
            .message
            .replace(&path.display().to_string(), "<path>");
        writeln!(text, "{level}{place} {message}").unwrap();
    }
    text
}

fn load(
    paths: &[PathBuf],
    product: Product,
    strictness: Strictness,
    vars: &[(&str, &str)],
) -> Result<Loaded, Vec<Finding>> {
    config::load(
        paths,
        product,
        &Overrides::default(),
        &variables(vars),
        strictness,
    )
}

fn load_text(text: &str, vars: &[(&str, &str)]) -> Result<Loaded, Vec<Finding>> {
    load_with(text, vars, &Overrides::default())
}

fn load_with(
    text: &str,
    vars: &[(&str, &str)],
    overrides: &Overrides,
) -> Result<Loaded, Vec<Finding>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.hcl");
    fs::write(&file, text).unwrap();
    config::load(
        &[file],
        Product::Agent,
        overrides,
        &variables(vars),
        Strictness::Check,
    )
}

fn variables(vars: &[(&str, &str)]) -> BTreeMap<String, String> {
    let vars = vars.iter();
    vars.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

fn sink_with(mode: &str) -> String {
    format!(
        "auto_auth {{ method \"token_file\" {{ config = {{ token_file_path = \"/t\" }} }}\n\
         sink \"file\" {{ config = {{ path = \"/run/token\" {mode} }} }} }}"
    )
}

fn secret_id_variable(config: &Config) -> (&str, Option<&leasehold::secret::Secret>) {
    match &config.auto_auth.as_ref().unwrap().method {
        Method::AppRole(AppRole {
            secret_id: Some(CredentialSource::Env { name, value }),
            ..
        }) => (name, value.as_ref()),
        other @ (Method::AppRole(_) | Method::TokenFile { .. } | Method::Kubernetes(_)) => {
            panic!("{other:?}")
        }
    }
}

/// Each line with where it begins.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |offset, line| {
        let start = *offset;
        *offset += line.len();
        Some((start, line.trim_end()))
    })
}

fn slips(key: &str) -> Vec<String> {
    let letters: Vec<char> = key.chars().collect();
    let (first, last) = (letters[0], letters[letters.len() - 1]);
    let mut swapped = letters.clone();
    if letters.len() > 3 {
        swapped.swap(1, 2);
    }
    let mut slips = vec![
        format!("{key}{last}"),
        key.strip_suffix(last).unwrap().to_owned(),
        format!("x{}", key.strip_prefix(first).unwrap()),
        swapped.into_iter().collect(),
    ];
    slips.retain(|slip| slip != key);
    slips
}
