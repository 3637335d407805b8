//! Stage one: what was typed, in one file or in all of them merged. Everything is optional and has its place.

mod api_proxy;
mod auto_auth;
mod cache;
mod listener;
mod log;
mod telemetry;
mod template;
mod vault;

use std::time::Duration;

pub(super) use api_proxy::ApiProxy;
pub(super) use auto_auth::{AppRoleConfig, AutoAuth, Credentials, Method, Sink};
use cache::consistency;
pub(super) use cache::{Cache, Leases, PathRule};
pub(super) use listener::{Allowed, Listener, Tls as ListenerTls, Unix};
pub(super) use log::Log;
pub(super) use telemetry::connections_by_variable;
pub(super) use template::{EnvTemplate, Templates};
pub(super) use vault::Vault;

use super::findings::{At, Given, Note, Phase};
use super::forms::Form;
use super::read::{Block, Fate, Fields, Other, Reader, Shape};
use crate::hcl::Object;

/// The top level.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) vault: Option<Vault>,
    pub(super) auto_auth: Option<AutoAuth>,
    pub(super) api_proxy: Option<ApiProxy>,
    pub(super) cache: Option<Cache>,
    pub(super) listeners: Vec<Listener>,
    pub(super) templates: Templates,
    pub(super) background: Option<Background>,
    pub(super) log: Log,
    pub(super) pid_file: Option<Given<String>>,
    pub(super) exit_after_auth: Option<Given<bool>>,
    pub(super) shutdown_timeout: Option<Given<Duration>>,
    pub(super) startup_wait: Option<Given<Duration>>,
    pub(super) worker_threads: Option<Given<i64>>,
    /// Blocks that a later file may replace and that nothing else is kept of.
    pub(super) telemetry: Option<At>,
    pub(super) circuit_breaker: Option<At>,
}

#[derive(Debug)]
pub(super) struct Background {
    pub(super) whole: At,
    pub(super) rate: Option<Given<f64>>,
    pub(super) burst: Option<Given<i64>>,
}

impl File {
    pub(super) fn read(reader: Reader<'_>, object: &Object) -> Self {
        let fields = Fields::new(reader, "", object.items.iter().collect());
        let mut cache = fields
            .block("cache", Shape::Plain)
            .map(|block| Cache::read(reader, &block));
        let file = Self {
            vault: fields
                .block("vault", Shape::Plain)
                .map(|block| Vault::read(reader, &block)),
            auto_auth: fields
                .block("auto_auth", Shape::Plain)
                .map(|block| AutoAuth::read(reader, &block)),
            api_proxy: fields
                .block("api_proxy", Shape::Plain)
                .map(|block| ApiProxy::read(reader, &block))
                .or_else(|| cache.as_mut().and_then(ApiProxy::of_cache)),
            cache,
            listeners: fields
                .blocks("listener", Shape::Labelled(listener::BLOCKS))
                .iter()
                .map(|block| Listener::read(reader, block))
                .collect(),
            templates: Templates::read(reader, &fields),
            background: fields
                .block("background", Shape::Plain)
                .map(|block| Background::read(reader, &block)),
            log: Log::read(&fields),
            pid_file: fields.text("pid_file"),
            exit_after_auth: fields.strict_bool("exit_after_auth"),
            shutdown_timeout: fields.duration("shutdown_timeout"),
            startup_wait: fields.duration("startup_wait"),
            worker_threads: fields.int("worker_threads"),
            telemetry: fields
                .block("telemetry", Shape::Plain)
                .map(|block| telemetry::read(reader, &block)),
            circuit_breaker: fields
                .block("circuit_breaker", Shape::Plain)
                .map(|block| circuit_breaker(reader, &block)),
        };
        telemetry::connections(reader, &fields);
        fields.others(OTHERS);
        fields.finish();
        file
    }
}

impl Background {
    fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "background", block.items.clone());
        let read = Self {
            whole: block.whole,
            rate: fields.float("rate"),
            burst: fields.int("burst"),
        };
        fields.finish();
        read
    }
}

fn circuit_breaker(reader: Reader<'_>, block: &Block<'_>) -> At {
    let fields = Fields::new(reader, "circuit_breaker", block.items.clone());
    fields.others(&[
        silent("failure_threshold", Form::Int),
        silent("recovery_timeout", Form::Duration),
        silent("max_recovery_timeout", Form::Duration),
    ]);
    fields.finish();
    refuse(
        reader,
        block.at,
        "circuit_breaker",
        "this version of Leasehold has no circuit breaker: remove the block",
    );
    block.whole
}

/// A block or value that this version cannot do.
fn refuse(reader: Reader<'_>, at: impl Into<Option<At>>, key: &str, message: impl Into<String>) {
    let note = Note::error(Phase::Build, at.into(), message);
    reader.found.add(note.key(key));
}

const fn silent(name: &'static str, form: Form) -> Other {
    Other {
        name,
        form,
        fate: Fate::Silent,
    }
}

const fn idle(name: &'static str, form: Form, reason: &'static str) -> Other {
    Other {
        name,
        form,
        fate: Fate::Idle(reason),
    }
}

const fn refused(name: &'static str, form: Form, advice: &'static str) -> Other {
    Other {
        name,
        form,
        fate: Fate::Refused(advice),
    }
}

const OF_THE_SERVER: &str = "it is a key of the Vault server";

const OTHERS: &[Other] = &[
    idle("cluster_name", Form::Text, "it only labelled metrics"),
    idle(
        "default_max_request_duration",
        Form::Duration,
        OF_THE_SERVER,
    ),
    idle("user_lockout", Form::Block, OF_THE_SERVER),
    idle("seal", Form::Block, OF_THE_SERVER),
    idle("kms", Form::Block, OF_THE_SERVER),
    idle("hsm", Form::Block, OF_THE_SERVER),
    idle(
        "disable_mlock",
        Form::Bool,
        "Leasehold locks no memory; it wipes secrets when they are let go",
    ),
];
