//! Templates, environment templates and the supervised command: checked as the peers check them, then refused.

use std::str::FromStr;

use nix::sys::signal::Signal;

use super::super::Product;
use super::super::findings::{At, Given, Note, Phase};
use super::super::forms::{self, Form};
use super::super::read::{Block, Fields, Other, Reader, Shape};
use super::{idle, refuse, silent};
use crate::hcl::ValueKind;

#[derive(Debug, Default)]
pub(in super::super) struct Templates {
    pub(in super::super) files: Vec<At>,
    pub(in super::super) env: Vec<EnvTemplate>,
    pub(in super::super) exec: Option<Exec>,
    pub(in super::super) config: Option<At>,
}

#[derive(Debug)]
pub(in super::super) struct EnvTemplate {
    pub(in super::super) at: At,
    pub(in super::super) name: Option<String>,
    /// `source` and `contents`, those that are given.
    pub(in super::super) texts: Vec<At>,
    /// Keys that only file templates may have.
    pub(in super::super) forbidden: Vec<(&'static str, At)>,
}

#[derive(Debug)]
pub(in super::super) struct Exec {
    pub(in super::super) at: At,
    pub(in super::super) whole: At,
    pub(in super::super) has_command: bool,
    pub(in super::super) restart_on_secret_changes: Option<Given<String>>,
}

impl Templates {
    pub(super) fn read(reader: Reader<'_>, fields: &Fields<'_>) -> Self {
        if reader.product == Product::Proxy {
            fields.others(IN_A_PROXY);
            return Self::default();
        }
        let read = Self {
            files: fields
                .blocks("template", Shape::Plain)
                .iter()
                .map(|block| template(reader, block))
                .collect(),
            env: fields
                .blocks("env_template", Shape::Labelled(&["exec", "wait"]))
                .iter()
                .map(|block| EnvTemplate::read(reader, block))
                .collect(),
            exec: fields
                .block("exec", Shape::Plain)
                .map(|block| Exec::read(reader, &block)),
            config: fields
                .block("template_config", Shape::Plain)
                .map(|block| template_config(reader, &block)),
        };
        let env = read
            .env
            .iter()
            .map(|template| (template.at, "env_template"));
        let files = read.files.iter().map(|at| (*at, "template"));
        for (at, key) in files.chain(env) {
            let message = format!(
                "{key}: this version of Leasehold renders no templates: remove the block, \
                 and let the application read through the listener"
            );
            refuse(reader, at, key, message);
        }
        if let Some(exec) = &read.exec {
            let message =
                "exec: this version of Leasehold starts no other program: remove the block";
            refuse(reader, exec.at, "exec", message);
        }
        read
    }
}

fn template(reader: Reader<'_>, block: &Block<'_>) -> At {
    let fields = Fields::new(reader, "template", block.items.clone()).strict();
    fields.others(TEMPLATE);
    fields.others(FILE_TEMPLATE);
    for inner in fields.blocks("exec", Shape::Plain) {
        let inner = Fields::new(reader, "template.exec", inner.items).strict();
        inner.others(TEMPLATE_EXEC);
        inner.finish();
    }
    wait(reader, &fields);
    fields.finish();
    block.at
}

impl EnvTemplate {
    fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "env_template", block.items.clone()).strict();
        let wrong = |at: Option<At>, key: &str, message: &str| {
            let note = Note::error(Phase::Load, at, format!("env_template: {message}"));
            reader.found.add(note.key(fields.key(key)));
        };
        let name = match block.labels.as_slice() {
            [name] => Some(name.value.clone()),
            labels => {
                let message = format!(
                    "expected one and only one environment variable name, got {}",
                    labels.len()
                );
                wrong(Some(block.at), "name", &message);
                None
            }
        };
        fields.others(TEMPLATE);
        fields.others(FILE_TEMPLATE);
        for key in ["perms", "wait", "exec"] {
            if let Some(at) = fields.has(key) {
                wrong(Some(at), key, &format!("{key} is not allowed here"));
            }
        }
        let command = fields.raw("command");
        if let Some(given) = command.filter(|c| matches!(c.value.kind, ValueKind::String(_))) {
            wrong(given.at, "command", "command is not allowed here");
        }
        let place = |key: &&'static str| Some((*key, fields.has(key)?));
        let read = Self {
            at: block.at,
            name,
            texts: [
                fields.text("source").filter(|text| !text.value.is_empty()),
                fields
                    .text("contents")
                    .filter(|text| !text.value.is_empty()),
            ]
            .into_iter()
            .flatten()
            .filter_map(|text| text.at)
            .collect(),
            forbidden: FORBIDDEN_IN_ENV.iter().filter_map(place).collect(),
        };
        fields.finish();
        read
    }
}

impl Exec {
    fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "exec", block.items.clone()).strict();
        fields.others(&[silent("command", Form::StrictList)]);
        let command = fields.raw("command");
        if let Some(signal) = fields.text("restart_stop_signal")
            && !is_signal(&signal.value)
        {
            let message = format!("restart_stop_signal: invalid signal {:?}", signal.value);
            let note = Note::error(Phase::Load, signal.at, message);
            reader.found.add(note.key("exec.restart_stop_signal"));
        }
        let read = Self {
            at: block.at,
            whole: block.whole,
            has_command: command.is_some_and(|command| {
                forms::list(command.value).is_ok_and(|parts| !parts.is_empty())
            }),
            restart_on_secret_changes: fields.text("restart_on_secret_changes"),
        };
        fields.finish();
        read
    }
}

fn template_config(reader: Reader<'_>, block: &Block<'_>) -> At {
    let fields = Fields::new(reader, "template_config", block.items.clone());
    fields.others(&[
        silent("exit_on_retry_failure", Form::StrictBool),
        silent("static_secret_render_interval", Form::Duration),
        silent("max_connections_per_host", Form::Int),
        silent("lease_renewal_threshold", Form::Float),
    ]);
    fields.finish();
    let message = "template_config has no effect: this version of Leasehold renders no templates";
    let note = Note::warning(Phase::Build, Some(block.at), message);
    reader.found.add(note.key("template_config"));
    block.whole
}

/// A block `wait { min, max }` or a text `min[:max]`.
fn wait(reader: Reader<'_>, fields: &Fields<'_>) {
    let Some(given) = fields.raw("wait") else {
        return;
    };
    let wrong = |message: String| {
        let note = Note::error(Phase::Load, given.at, format!("wait: {message}"));
        reader.found.add(note.key(fields.key("wait")));
    };
    match &given.value.kind {
        ValueKind::String(text) => {
            let parts: Vec<_> = text
                .split(':')
                .map(super::super::units::parse_duration)
                .collect();
            match parts.as_slice() {
                [Ok(_)] => {}
                [Ok(min), Ok(max)] if min <= max => {}
                [Err(message), ..] | [_, Err(message)] => wrong(message.clone()),
                _ => wrong("needs \"min\" or \"min:max\", max not below min".to_owned()),
            }
        }
        ValueKind::Object(_) | ValueKind::List(_) => {
            for block in fields.blocks("wait", Shape::Plain) {
                let inner = Fields::new(reader, fields.key("wait"), block.items).strict();
                inner.others(&[
                    silent("min", Form::GoDuration),
                    silent("max", Form::GoDuration),
                    silent("bool", Form::StrictBool),
                    silent("enabled", Form::StrictBool),
                ]);
                inner.finish();
            }
        }
        ValueKind::Null | ValueKind::Bool(_) | ValueKind::Int(_) | ValueKind::Float(_) => {
            wrong(forms::wanted("a block { min, max } or a text", given.value));
        }
    }
}

fn is_signal(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.is_empty() || name == "SIGNULL" || Signal::from_str(&name).is_ok()
}

/// What neither of the peers lets an environment template have.
const FORBIDDEN_IN_ENV: &[&str] = &[
    "backup",
    "command",
    "command_timeout",
    "create_dest_dirs",
    "destination",
    "exec",
    "perms",
    "user",
    "uid",
    "group",
    "gid",
    "wait",
    "sandbox_path",
];

const TEMPLATE: &[Other] = &[
    silent("source", Form::StrictText),
    silent("contents", Form::StrictText),
    silent("error_on_missing_key", Form::StrictBool),
    silent("error_fatal", Form::StrictBool),
    silent("left_delimiter", Form::StrictText),
    silent("right_delimiter", Form::StrictText),
    silent("function_denylist", Form::StrictList),
    silent("function_blacklist", Form::StrictList),
    silent("refresh_interval", Form::Duration),
];

const FILE_TEMPLATE: &[Other] = &[
    silent("destination", Form::StrictText),
    silent("perms", Form::Mode),
    silent("user", Form::StrictText),
    silent("group", Form::StrictText),
    silent("uid", Form::StrictInt),
    silent("gid", Form::StrictInt),
    silent("create_dest_dirs", Form::StrictBool),
    silent("backup", Form::StrictBool),
    silent("command", Form::Any),
    silent("command_timeout", Form::GoDuration),
    silent("sandbox_path", Form::StrictText),
];

const TEMPLATE_EXEC: &[Other] = &[
    silent("command", Form::Any),
    silent("timeout", Form::GoDuration),
    silent("env", Form::Block),
    silent("kill_signal", Form::StrictText),
    silent("kill_timeout", Form::GoDuration),
    silent("reload_signal", Form::StrictText),
    silent("splay", Form::GoDuration),
    silent("enabled", Form::StrictBool),
];

const ONLY_AGENTS: &str = "as in Vault, only `agent` reads it, `proxy` does not";

const IN_A_PROXY: &[Other] = &[
    idle("template", Form::Any, ONLY_AGENTS),
    idle("env_template", Form::Any, ONLY_AGENTS),
    idle("exec", Form::Any, ONLY_AGENTS),
    idle("template_config", Form::Any, ONLY_AGENTS),
];
