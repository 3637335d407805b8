//! `listener "tcp" { ... }` and `listener "unix" { ... }` as typed.

mod tls;
mod unix;

use std::time::Duration;

use super::super::Product;
use super::super::findings::{At, Given, Note, Phase};
use super::super::forms::Form;
use super::super::read::{Block, Fields, Other, Reader, Shape};
use super::auto_auth::kind;
use super::idle;

pub(in super::super) use tls::Tls;
pub(in super::super) use unix::{Allowed, Unix};

#[derive(Debug)]
pub(in super::super) struct Listener {
    pub(in super::super) at: At,
    /// Others are refused, and nothing more is said about them.
    pub(in super::super) is_tcp: bool,
    /// Of `listener "unix"`.
    pub(in super::super) unix: Option<Unix>,
    pub(in super::super) address: Option<Given<String>>,
    pub(in super::super) role: Option<Given<String>>,
    pub(in super::super) require_request_header: Option<Given<bool>>,
    pub(in super::super) enable_quit: Option<Given<bool>>,
    pub(in super::super) allowed_hosts: Option<Vec<Given<String>>>,
    pub(in super::super) max_request_size: Option<Given<i64>>,
    pub(in super::super) read_timeout: Option<Given<Duration>>,
    pub(in super::super) header_timeout: Option<Given<Duration>>,
    pub(in super::super) idle_timeout: Option<Given<Duration>>,
    pub(in super::super) max_connections: Option<Given<i64>>,
    pub(in super::super) tls: Tls,
}

/// The members of a JSON listener that are blocks, so no types.
pub(super) const BLOCKS: &[&str] = &[
    "agent_api",
    "proxy_api",
    "custom_response_headers",
    "telemetry",
    "profiling",
    "inflight_requests_logging",
];

impl Listener {
    pub(super) fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "listener", block.items.clone());
        let kind = kind(reader, &fields, block, "listener", "tcp");
        let kind = kind.map(|kind| kind.value.to_ascii_lowercase());
        let is_unix = kind.as_deref() == Some("unix");
        let read = Self {
            at: block.at,
            is_tcp: kind.as_deref() == Some("tcp"),
            unix: is_unix.then(|| Unix::read(&fields)),
            address: fields.text("address"),
            role: fields.text("role"),
            require_request_header: fields.boolish("require_request_header"),
            enable_quit: enable_quit(reader, &fields),
            allowed_hosts: fields.list("allowed_hosts"),
            max_request_size: fields.limit("max_request_size"),
            read_timeout: fields.duration("http_read_timeout"),
            header_timeout: fields.duration("http_read_header_timeout"),
            idle_timeout: fields.duration("http_idle_timeout"),
            max_connections: fields.int("max_connections"),
            tls: Tls::read(reader, &fields),
        };
        match kind.as_deref() {
            Some("tcp") => unix::refuse_guards(reader, &fields),
            Some("unix") | None => {}
            Some(other) => {
                let message =
                    format!("unsupported listener type {other:?}: it can be \"tcp\" or \"unix\"");
                let note = Note::error(Phase::Load, Some(block.at), message);
                reader.found.add(note.key("listener.type"));
            }
        }
        if !is_unix {
            fields.others(unix::ELSEWHERE);
        }
        inner_errors(reader, &fields, block.at);
        fields.others(OTHERS);
        fields.finish();
        read
    }
}

/// The agent reads `agent_api`, the proxy `proxy_api`; each passes over the other's.
fn enable_quit(reader: Reader<'_>, fields: &Fields<'_>) -> Option<Given<bool>> {
    let mut quit = None;
    for (name, product) in [("agent_api", Product::Agent), ("proxy_api", Product::Proxy)] {
        let Some(block) = fields.block(name, Shape::Plain) else {
            continue;
        };
        let inner = Fields::new(reader, fields.key(name), block.items);
        let given = inner.strict_bool("enable_quit");
        inner.finish();
        if product == reader.product {
            quit = given;
        } else {
            let message = format!("{name} has no effect in `{}`", reader.product.name());
            let note = Note::warning(Phase::Build, Some(block.at), message);
            reader.found.add(note.key(fields.key(name)));
        }
    }
    quit
}

/// What the peers refuse in keys that neither they nor we use.
fn inner_errors(reader: Reader<'_>, fields: &Fields<'_>, at: At) {
    let wrong = |at: Option<At>, key: &str, message: &str| {
        reader
            .found
            .add(Note::error(Phase::Load, at, message).key(fields.key(key)));
    };
    let hops = fields.int("x_forwarded_for_hop_skips");
    if let Some(hops) = hops.filter(|hops| hops.value < 0) {
        wrong(
            hops.at,
            "x_forwarded_for_hop_skips",
            "x_forwarded_for_hop_skips must not be negative",
        );
    }
    let filled = |name| {
        fields
            .text(name)
            .filter(|given: &Given<String>| !given.value.is_empty())
    };
    let (id, mac) = (
        filled("tls_acme_eab_key_id"),
        filled("tls_acme_eab_mac_key"),
    );
    if let (Some(half), None) | (None, Some(half)) = (id, mac) {
        let message = "tls_acme_eab_key_id and tls_acme_eab_mac_key go together: one is missing";
        wrong(half.at, "tls_acme_eab_key_id", message);
    }
    let origins = fields.list("cors_allowed_origins").unwrap_or_default();
    if origins.len() > 1
        && let Some(star) = origins.iter().find(|origin| origin.value == "*")
    {
        wrong(
            star.at.or(Some(at)),
            "cors_allowed_origins",
            "cors_allowed_origins: \"*\" stands alone or not at all",
        );
    }
}

const AS_THE_PEERS: &str = "Vault's agent and proxy do nothing with it either";
const DURATION: &str = "vault { timeout } or CLIENT_TIMEOUT bounds how long Vault is waited for, \
                        http_read_timeout how long the caller is";

const OTHERS: &[Other] = &[
    idle("proxy_protocol_behavior", Form::Text, AS_THE_PEERS),
    idle("proxy_protocol_authorized_addrs", Form::List, AS_THE_PEERS),
    idle("x_forwarded_for_authorized_addrs", Form::List, AS_THE_PEERS),
    idle("x_forwarded_for_hop_skips", Form::Int, AS_THE_PEERS),
    idle(
        "x_forwarded_for_reject_not_present",
        Form::Bool,
        AS_THE_PEERS,
    ),
    idle(
        "x_forwarded_for_reject_not_authorized",
        Form::Bool,
        AS_THE_PEERS,
    ),
    idle(
        "x_forwarded_for_client_cert_header",
        Form::Text,
        AS_THE_PEERS,
    ),
    idle(
        "x_forwarded_for_client_cert_header_decoders",
        Form::Text,
        AS_THE_PEERS,
    ),
    idle("http_write_timeout", Form::Duration, AS_THE_PEERS),
    idle("max_request_duration", Form::Duration, DURATION),
    idle("max_request_json_memory", Form::Int, AS_THE_PEERS),
    idle("max_request_json_strings", Form::Int, AS_THE_PEERS),
    idle("max_request_json_depth", Form::Int, AS_THE_PEERS),
    idle(
        "max_request_json_string_value_length",
        Form::Int,
        AS_THE_PEERS,
    ),
    idle(
        "max_request_json_object_entry_count",
        Form::Int,
        AS_THE_PEERS,
    ),
    idle(
        "max_request_json_array_element_count",
        Form::Int,
        AS_THE_PEERS,
    ),
    idle("custom_response_headers", Form::Block, AS_THE_PEERS),
    idle("cors_enabled", Form::Bool, AS_THE_PEERS),
    idle("cors_allowed_origins", Form::List, AS_THE_PEERS),
    idle("cors_allowed_headers", Form::List, AS_THE_PEERS),
    idle("telemetry", Form::Block, AS_THE_PEERS),
    idle("profiling", Form::Block, AS_THE_PEERS),
    idle("inflight_requests_logging", Form::Block, AS_THE_PEERS),
    idle("cluster_address", Form::Text, AS_THE_PEERS),
    idle("purpose", Form::List, AS_THE_PEERS),
    idle("disable_unauthed_rekey_endpoints", Form::Bool, AS_THE_PEERS),
    idle(
        "disable_unauthed_generate_root_endpoints",
        Form::Bool,
        AS_THE_PEERS,
    ),
];
