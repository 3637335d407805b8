//! What takes effect, under the configuration's own key names. Secrets are named by where they come from.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::tls::{cipher_suite_name, key_exchange_name};
use super::units::{format_duration, format_size};
use super::{
    AllowedHosts, AppRole, AutoAuth, Cache, ClientCerts, Config, CredentialSource, Listener,
    ListenerTls, LogLevel, Method, PathMode, PathRule, Principal, Product, Sink, Socket,
    UnixSocket, UseAutoAuthToken, Vault,
};

/// As JSON that is itself a configuration with the same effect.
pub(super) fn of(config: &Config, product: Product) -> Value {
    let mut top = Map::new();
    let mut put = |key: &str, value: Value| {
        top.insert(key.to_owned(), value);
    };
    put("vault", vault(&config.vault));
    if let Some(auto) = &config.auto_auth {
        put("auto_auth", auto_auth(auto));
    }
    if !config.listeners.is_empty() {
        put(
            "api_proxy",
            json!({
                "use_auto_auth_token": use_token(config.use_auto_auth_token),
                "allow_child_tokens": config.allow_child_tokens,
            }),
        );
        put(
            "listener",
            config
                .listeners
                .iter()
                .map(|one| listener(one, product))
                .collect(),
        );
    }
    if let Some(of_cache) = &config.cache {
        put("cache", cache(of_cache));
    }
    put(
        "background",
        json!({ "rate": config.background.rate, "burst": config.background.burst }),
    );
    put("log_level", json!(level(config.log.level)));
    put(
        "log_format",
        json!(if config.log.json { "json" } else { "standard" }),
    );
    if let Some(file) = &config.log.file {
        put("log_file", path(file));
    }
    if let Some(file) = &config.pid_file {
        put("pid_file", path(file));
    }
    put("exit_after_auth", json!(config.exit_after_auth));
    put("shutdown_timeout", duration(config.shutdown_timeout));
    put("startup_wait", duration(config.startup_wait));
    put("worker_threads", json!(config.worker_threads));
    Value::Object(top)
}

/// The same as text, in the file's own syntax.
pub fn render_effective(effective: &Value) -> String {
    let mut text = String::new();
    if let Value::Object(top) = effective {
        block(&mut text, top, 0);
    }
    text
}

fn vault(vault: &Vault) -> Value {
    let tls = &vault.tls;
    let retries = match vault.num_retries {
        0 => -1,
        n => i64::from(n),
    };
    let mut shown = json!({
        "address": vault.address,
        "timeout": duration(vault.timeout),
        "max_connections": vault.max_connections,
        "tls_skip_verify": tls.danger_skip_verify,
        "retry": { "num_retries": retries },
    });
    let mut put = |key: &str, value: Option<Value>| {
        if let (Value::Object(shown), Some(value)) = (&mut shown, value) {
            shown.insert(key.to_owned(), value);
        }
    };
    put(
        "namespace",
        vault.namespace.as_ref().map(|text| json!(text)),
    );
    put(
        "http_proxy",
        vault.http_proxy.as_ref().map(|text| json!(text)),
    );
    put("ca_cert", tls.ca_cert.as_deref().map(path));
    put("ca_path", tls.ca_path.as_deref().map(path));
    put("client_cert", tls.client_cert.as_deref().map(path));
    put("client_key", tls.client_key.as_deref().map(path));
    put(
        "tls_server_name",
        tls.server_name.as_ref().map(|text| json!(text)),
    );
    for (key, given) in [
        ("ca_cert_bytes", tls.ca_pem.is_some()),
        ("client_cert_bytes", tls.client_cert_pem.is_some()),
        ("client_key_bytes", tls.client_key_pem.is_some()),
    ] {
        put(key, given.then(|| json!("***")));
    }
    shown
}

fn auto_auth(auto: &AutoAuth) -> Value {
    let config = match &auto.method {
        Method::AppRole(role) => approle(role),
        Method::TokenFile { path: file } => json!({ "token_file_path": path(file) }),
        Method::Kubernetes(by) => json!({ "role": by.role, "token_path": path(&by.token_path) }),
    };
    let mut shown = json!({
        "method": {
            "type": auto.method.name(),
            "mount_path": auto.mount_path,
            "min_backoff": duration(auto.min_backoff),
            "max_backoff": duration(auto.max_backoff),
            "exit_on_err": auto.exit_on_err,
            "config": config,
        },
    });
    if let (Value::Object(shown), false) = (&mut shown, auto.sinks.is_empty()) {
        shown.insert("sink".to_owned(), auto.sinks.iter().map(sink).collect());
    }
    shown
}

fn approle(role: &AppRole) -> Value {
    let mut shown = Map::new();
    for (what, source) in [
        ("role_id", Some(&role.role_id)),
        ("secret_id", role.secret_id.as_ref()),
    ] {
        match source {
            None => {}
            Some(CredentialSource::File(file)) => {
                shown.insert(format!("{what}_file_path"), path(file));
            }
            Some(CredentialSource::Env { name, .. }) => {
                shown.insert(format!("{what}_env_var"), json!(name));
            }
        }
    }
    if matches!(role.secret_id, Some(CredentialSource::File(_))) {
        shown.insert(
            "remove_secret_id_file_after_reading".to_owned(),
            json!(role.remove_secret_id_file_after_reading),
        );
    }
    if let Some(creation_path) = &role.secret_id_response_wrapping_path {
        shown.insert(
            "secret_id_response_wrapping_path".to_owned(),
            json!(creation_path),
        );
    }
    Value::Object(shown)
}

fn sink(sink: &Sink) -> Value {
    let mut config = json!({ "path": path(&sink.path), "mode": format!("0{:o}", sink.mode) });
    if let Value::Object(config) = &mut config {
        for (key, id) in [("uid", sink.uid), ("gid", sink.gid)] {
            if let Some(id) = id {
                config.insert(key.to_owned(), json!(id));
            }
        }
    }
    json!({ "type": "file", "config": config })
}

fn listener(listener: &Listener, product: Product) -> Value {
    let quit = match product {
        Product::Agent => "agent_api",
        Product::Proxy => "proxy_api",
    };
    let mut shown = json!({
        "type": "tcp",
        "address": listener.address,
        "tls_disable": listener.tls.is_none(),
        "role": if listener.metrics_only { "metrics_only" } else { "default" },
        "require_request_header": listener.require_request_header,
        (quit): { "enable_quit": listener.enable_quit },
        "allowed_hosts": allowed_hosts(&listener.allowed_hosts),
        "max_request_size": listener.max_request_size.map_or(json!(-1), |size| json!(size)),
        "http_read_timeout": duration(listener.read_timeout),
        "http_read_header_timeout": duration(listener.header_timeout),
        "http_idle_timeout": duration(listener.idle_timeout),
        "max_connections": listener.max_connections,
    });
    if let (Value::Object(shown), Socket::Unix(socket)) = (&mut shown, &listener.socket) {
        let has_file = listener.systemd.is_none() && !listener.address.starts_with('@');
        unix(shown, socket, has_file);
    }
    if let (Value::Object(shown), Some(of_tls)) = (&mut shown, &listener.tls) {
        tls(shown, of_tls);
    }
    shown
}

fn unix(shown: &mut Map<String, Value>, socket: &UnixSocket, has_file: bool) {
    let mut put = |key: &str, value: Value| shown.insert(key.to_owned(), value);
    put("type", json!("unix"));
    if has_file {
        put("socket_mode", json!(format!("0{:o}", socket.mode)));
    }
    for (key, principal) in [
        ("socket_user", &socket.user),
        ("socket_group", &socket.group),
    ] {
        if let Some(principal) = principal {
            put(key, json!(principal.to_string()));
        }
    }
    let Some(allowed) = &socket.allowed else {
        return;
    };
    for (key, principals) in [
        ("allowed_uids", &allowed.uids),
        ("allowed_gids", &allowed.gids),
    ] {
        if !principals.is_empty() {
            put(key, principals.iter().map(shown_principal).collect());
        }
    }
}

fn shown_principal(principal: &Principal) -> Value {
    match principal {
        Principal::Id(id) => json!(id),
        Principal::Name(name) => json!(name),
    }
}

fn tls(shown: &mut Map<String, Value>, tls: &ListenerTls) {
    let mut put = |key: &str, value: Value| {
        shown.insert(key.to_owned(), value);
    };
    put("tls_cert_file", path(&tls.cert_file));
    put("tls_key_file", path(&tls.key_file));
    put("tls_min_version", json!(tls.min_version.name()));
    put("tls_max_version", json!(tls.max_version.name()));
    put("tls_auto_reload_interval", duration(tls.reload_interval));
    let suites = tls.cipher_suites.iter().copied();
    let suites: Vec<_> = suites.filter_map(cipher_suite_name).collect();
    if !suites.is_empty() {
        put("tls_cipher_suites", json!(suites.join(",")));
    }
    let groups = tls.key_exchanges.iter().copied();
    let groups: Vec<_> = groups.filter_map(key_exchange_name).collect();
    if !groups.is_empty() {
        put("tls_key_exchange_preferences", json!(groups.join(",")));
    }
    let ca_file = match &tls.client_certs {
        ClientCerts::Ignored => None,
        ClientCerts::Checked { ca_file } => Some(ca_file),
        ClientCerts::Required { ca_file } => {
            put("tls_require_and_verify_client_cert", json!(true));
            ca_file.as_ref()
        }
    };
    if let Some(file) = ca_file {
        put("tls_client_ca_file", path(file));
    }
}

/// As a list that reads back: what is always allowed is shown by its best known name.
fn allowed_hosts(hosts: &AllowedHosts) -> Value {
    match hosts {
        AllowedHosts::Any => json!("*"),
        AllowedHosts::Only(names) => {
            let names = names.iter().map(String::as_str);
            json!(
                std::iter::once("localhost")
                    .chain(names)
                    .collect::<Vec<_>>()
                    .join(",")
            )
        }
    }
}

fn cache(cache: &Cache) -> Value {
    let leases = &cache.leases;
    let mut of_leases = json!({
        "renew_at": leases.renew_at,
        "replace_at": leases.replace_at,
        "min_remaining": duration(leases.min_remaining),
        "revoke_idle": leases.revoke_idle,
        "revoke_on_exit": leases.revoke_on_exit,
    });
    if let (Value::Object(shown), Some(idle)) = (&mut of_leases, leases.idle_ttl) {
        shown.insert("idle_ttl".to_owned(), duration(idle));
    }
    let of_static = match &cache.static_secrets {
        None => json!({ "enabled": false }),
        Some(on) => json!({
            "enabled": true,
            "ttl": duration(on.ttl),
            "max_stale": duration(on.max_stale),
        }),
    };
    let mut shown = json!({
        "max_size": format_size(cache.max_size),
        "logins": cache.logins,
        "token_create": cache.token_create,
        "static_secrets": of_static,
        "leases": of_leases,
    });
    if let (Value::Object(shown), false) = (&mut shown, cache.paths.is_empty()) {
        shown.insert(
            "path".to_owned(),
            cache.paths.iter().map(path_rule).collect(),
        );
    }
    shown
}

fn path_rule(rule: &PathRule) -> Value {
    let mut shown = Map::new();
    if let Some(mode) = rule.mode {
        let mode = match mode {
            PathMode::Bypass => "bypass",
            PathMode::Static => "static",
            PathMode::Leased => "leased",
        };
        shown.insert("mode".to_owned(), json!(mode));
    }
    if let Some(ttl) = rule.ttl {
        shown.insert("ttl".to_owned(), duration(ttl));
    }
    if let Some(stale) = rule.max_stale {
        shown.insert("max_stale".to_owned(), duration(stale));
    }
    json!({ rule.glob.as_str(): shown })
}

fn use_token(used: UseAutoAuthToken) -> Value {
    match used {
        UseAutoAuthToken::Off => json!(false),
        UseAutoAuthToken::WhenAbsent => json!(true),
        UseAutoAuthToken::Force => json!("force"),
    }
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

fn duration(duration: Duration) -> Value {
    json!(format_duration(duration))
}

fn path(path: &Path) -> Value {
    json!(path.display().to_string())
}

fn block(text: &mut String, members: &Map<String, Value>, depth: usize) {
    let indent = "  ".repeat(depth);
    let (blocks, values): (Vec<_>, Vec<_>) = members
        .iter()
        .partition(|(_, value)| value.is_object() || is_of_blocks(value));
    let width = values.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in values {
        text.push_str(&format!("{indent}{key:width$} = {value}\n"));
    }
    for (key, value) in blocks {
        let one = [value.clone()];
        let all = value.as_array().map_or(one.as_slice(), Vec::as_slice);
        for value in all {
            let Value::Object(members) = value else {
                continue;
            };
            let (label, members) = labelled(key, members);
            let label = label.map_or(String::new(), |label| format!(" {}", json!(label)));
            text.push_str(&format!("{indent}{key}{label} {{\n"));
            block(text, &members, depth + 1);
            text.push_str(&format!("{indent}}}\n"));
        }
    }
}

fn is_of_blocks(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|values| values.iter().all(Value::is_object))
}

/// `listener "tcp"` for a `type`, `path "glob"` for the one member.
fn labelled(key: &str, members: &Map<String, Value>) -> (Option<String>, Map<String, Value>) {
    let mut members = members.clone();
    if let Some(Value::String(kind)) = members.remove("type") {
        return (Some(kind), members);
    }
    match members.iter().next() {
        Some((glob, Value::Object(inner))) if key == "path" => (Some(glob.clone()), inner.clone()),
        _ => (None, members),
    }
}
