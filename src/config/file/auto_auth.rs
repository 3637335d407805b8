//! `auto_auth { ... }` as typed: the method, its credentials, the sinks.

use std::time::Duration;

use super::super::findings::{At, Given, Note, Phase};
use super::super::read::{Block, Fields, Reader, Shape, nearest};
use super::refuse;

#[derive(Debug)]
pub(in super::super) struct AutoAuth {
    pub(in super::super) at: At,
    pub(in super::super) whole: At,
    pub(in super::super) method: Option<Method>,
    pub(in super::super) sinks: Vec<Sink>,
}

#[derive(Debug)]
pub(in super::super) struct Method {
    pub(in super::super) at: At,
    pub(in super::super) kind: Option<Given<String>>,
    pub(in super::super) mount_path: Option<Given<String>>,
    pub(in super::super) namespace: Option<Given<String>>,
    /// Only when it asks for wrapping: more than zero.
    pub(in super::super) wrap_ttl: Option<Given<Duration>>,
    pub(in super::super) min_backoff: Option<Given<Duration>>,
    pub(in super::super) max_backoff: Option<Given<Duration>>,
    pub(in super::super) exit_on_err: Option<Given<bool>>,
    pub(in super::super) credentials: Credentials,
}

#[derive(Debug)]
pub(in super::super) enum Credentials {
    AppRole(Box<AppRoleConfig>),
    TokenFile(Option<Given<String>>),
    Kubernetes {
        role: Option<Given<String>>,
        token_path: Option<Given<String>>,
    },
    /// A method without a name, or one that this version cannot do.
    Other,
}

#[derive(Debug)]
pub(in super::super) struct AppRoleConfig {
    pub(in super::super) role_id_file_path: Option<Given<String>>,
    pub(in super::super) role_id_env_var: Option<Given<String>>,
    pub(in super::super) secret_id_file_path: Option<Given<String>>,
    pub(in super::super) secret_id_env_var: Option<Given<String>>,
    pub(in super::super) remove_secret_id_file_after_reading: Option<Given<bool>>,
    pub(in super::super) secret_id_response_wrapping_path: Option<Given<String>>,
}

#[derive(Debug)]
pub(in super::super) struct Sink {
    pub(in super::super) at: At,
    pub(in super::super) kind: Option<Given<String>>,
    pub(in super::super) wrap_ttl: Option<Given<Duration>>,
    pub(in super::super) path: Option<Given<String>>,
    pub(in super::super) mode: Option<Given<u32>>,
    pub(in super::super) uid: Option<Given<i64>>,
    pub(in super::super) gid: Option<Given<i64>>,
}

impl AutoAuth {
    pub(super) fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "auto_auth", block.items.clone());
        let shape = Shape::Labelled(&["config"]);
        let method = fields.block("method", shape);
        if method.is_none() && fields.has("method").is_none() {
            let message = "auto_auth needs exactly one method block: method \"approle\" { ... }";
            let note = Note::error(Phase::Load, Some(block.at), message);
            reader.found.add(note.key("auto_auth.method"));
        }
        let mut sinks = fields.blocks("sink", shape);
        for list in fields.blocks("sinks", Shape::Plain) {
            let inner = Fields::new(reader, "auto_auth.sinks", list.items);
            sinks.extend(inner.blocks("sink", shape));
            inner.finish();
        }
        let read = Self {
            at: block.at,
            whole: block.whole,
            method: method.map(|block| Method::read(reader, &block)),
            sinks: sinks
                .iter()
                .map(|block| Sink::read(reader, block))
                .collect(),
        };
        if let Some(flag) = fields.strict_bool("enable_reauth_on_new_credentials")
            && flag.value
        {
            let message = "enable_reauth_on_new_credentials has no effect with the methods of this version: \
                           changed credential files are read at the next login";
            reader.found.warn(Phase::Build, flag.at, message);
        }
        fields.finish();
        read.check_wrapping(reader);
        read
    }

    fn check_wrapping(&self, reader: Reader<'_>) {
        let Some(wrap) = self.method.as_ref().and_then(|m| m.wrap_ttl.as_ref()) else {
            return;
        };
        let (at, key) = (wrap.at, "auto_auth.method.wrap_ttl");
        if self.sinks.len() != 1 {
            let message = format!(
                "wrap_ttl on the method needs exactly one sink, and there are {}",
                self.sinks.len()
            );
            reader
                .found
                .add(Note::error(Phase::Load, at, message).key(key));
        }
        for sink in self.sinks.iter().filter_map(|sink| sink.wrap_ttl.as_ref()) {
            let message = "wrap_ttl on the method and on the sink: a token is wrapped once";
            let note = Note::error(Phase::Load, at, message).related(sink.at, "and here");
            reader.found.add(note.key(key));
        }
        let message = "this version of Leasehold does not wrap its token: remove wrap_ttl";
        refuse(reader, at, key, message);
    }
}

impl Method {
    fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "auto_auth.method", block.items.clone());
        let kind = kind(reader, &fields, block, "method", "approle");
        Self {
            at: block.at,
            credentials: Credentials::read(reader, &fields, kind.as_ref()),
            kind,
            mount_path: fields.text("mount_path"),
            namespace: fields.text("namespace"),
            wrap_ttl: fields
                .duration("wrap_ttl")
                .filter(|wrap| !wrap.value.is_zero()),
            min_backoff: fields.duration("min_backoff"),
            max_backoff: fields.duration("max_backoff"),
            exit_on_err: fields.strict_bool("exit_on_err"),
        }
        .finish(fields)
    }

    fn finish(self, fields: Fields<'_>) -> Self {
        fields.finish();
        self
    }
}

impl Credentials {
    fn read(reader: Reader<'_>, fields: &Fields<'_>, kind: Option<&Given<String>>) -> Self {
        let config = fields.config();
        let Some(kind) = kind else {
            return Self::Other;
        };
        let read = match kind.value.as_str() {
            "approle" => Self::AppRole(Box::new(AppRoleConfig {
                role_id_file_path: config.text("role_id_file_path"),
                role_id_env_var: config.text("role_id_env_var"),
                secret_id_file_path: config.text("secret_id_file_path"),
                secret_id_env_var: config.text("secret_id_env_var"),
                remove_secret_id_file_after_reading: config
                    .boolish("remove_secret_id_file_after_reading"),
                secret_id_response_wrapping_path: config.text("secret_id_response_wrapping_path"),
            })),
            "token_file" => Self::TokenFile(config.text("token_file_path")),
            "kubernetes" => Self::Kubernetes {
                role: config.text("role"),
                token_path: config.text("token_path"),
            },
            name => {
                refuse(reader, kind.at, "auto_auth.method", unbuilt_method(name));
                match OTHER_METHODS.iter().find(|(known, _)| *known == name) {
                    Some((_, keys)) if !keys.is_empty() => keys.iter().for_each(|key| {
                        config.has(key);
                    }),
                    _ => return Self::Other,
                }
                Self::Other
            }
        };
        config.finish();
        read
    }
}

impl Sink {
    fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "auto_auth.sink", block.items.clone());
        let kind = kind(reader, &fields, block, "sink", "file");
        if let Some(kind) = &kind
            && kind.value != "file"
        {
            let message = format!(
                "sink {:?}: there are only sinks of type \"file\"",
                kind.value
            );
            let note = Note::error(Phase::Validate, kind.at, message);
            reader.found.add(note.key("auto_auth.sink"));
        }
        let config = fields.config();
        let read = Self {
            at: block.at,
            kind,
            wrap_ttl: fields
                .duration("wrap_ttl")
                .filter(|wrap| !wrap.value.is_zero()),
            path: config.text("path"),
            mode: config.mode("mode"),
            uid: config.int("uid").or(config.int("owner")),
            gid: config.int("gid").or(config.int("group")),
        };
        config.finish();
        wrapped_or_sealed(reader, &fields, read.kind.as_ref());
        fields.finish();
        read
    }
}

/// `dh_type` and its company, and `wrap_ttl`: first what the peers find wrong with it, then that we cannot.
fn wrapped_or_sealed(reader: Reader<'_>, fields: &Fields<'_>, kind: Option<&Given<String>>) {
    let kind = kind.map_or("file", |kind| kind.value.as_str());
    let wrong = |at: Option<At>, key: &str, message: &str| {
        let note = Note::error(Phase::Load, at, format!("sink.{kind}: {message}"));
        reader.found.add(note.key(fields.key(key)));
    };
    let filled = |given: Option<Given<String>>| given.filter(|given| !given.value.is_empty());
    let dh_type = filled(fields.text("dh_type"));
    let dh_path = filled(fields.text("dh_path"));
    let aad = filled(fields.text("aad"));
    let aad_env_var = filled(fields.text("aad_env_var"));
    let derive = fields.strict_bool("derive_key").filter(|given| given.value);
    if let Some(dh) = dh_type.as_ref().filter(|dh| dh.value != "curve25519") {
        wrong(dh.at, "dh_type", "dh_type can only be \"curve25519\"");
    }
    match (&dh_type, &dh_path) {
        (Some(dh), None) => wrong(dh.at, "dh_type", "dh_type needs dh_path"),
        (None, Some(dh)) => wrong(dh.at, "dh_path", "dh_path needs dh_type"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    for (key, given) in [("aad", &aad), ("aad_env_var", &aad_env_var)] {
        if let (Some(given), None) = (given, &dh_type) {
            wrong(given.at, key, "additional data needs dh_type and dh_path");
        }
    }
    if let (Some(derive), None) = (&derive, &dh_type) {
        wrong(
            derive.at,
            "derive_key",
            "derive_key needs dh_type and dh_path",
        );
    }
    let wrap = fields
        .duration("wrap_ttl")
        .filter(|wrap| !wrap.value.is_zero());
    let asked = [
        ("wrap_ttl", wrap.and_then(|given| given.at)),
        ("dh_type", dh_type.and_then(|given| given.at)),
        ("dh_path", dh_path.and_then(|given| given.at)),
        ("aad", aad.and_then(|given| given.at)),
        ("aad_env_var", aad_env_var.and_then(|given| given.at)),
        ("derive_key", derive.and_then(|given| given.at)),
    ];
    for (key, at) in asked {
        if let Some(at) = at {
            let message =
                format!("this version of Leasehold writes plain token files only: it has no {key}");
            refuse(reader, at, &fields.key(key), message);
        }
    }
}

/// `type`, or the one label, which is taken in lower case.
pub(super) fn kind(
    reader: Reader<'_>,
    fields: &Fields<'_>,
    block: &Block<'_>,
    name: &str,
    example: &str,
) -> Option<Given<String>> {
    let typed = fields.text("type").filter(|kind| !kind.value.is_empty());
    let label = match block.labels.as_slice() {
        [label] if !label.value.is_empty() => Some(Given {
            value: label.value.to_ascii_lowercase(),
            at: label.at,
        }),
        _ => None,
    };
    let kind = typed.or(label);
    if kind.is_none() {
        let key = fields.key("type");
        let message =
            format!("the type of a {name} must be specified: {name} {example:?} {{ ... }}");
        reader
            .found
            .add(Note::error(Phase::Load, Some(block.at), message).key(key));
    }
    kind
}

fn unbuilt_method(name: &str) -> String {
    let built = "this version of Leasehold has approle, kubernetes and token_file";
    if OTHER_METHODS.iter().any(|(known, _)| *known == name) {
        return format!("cannot log in by {name:?}: {built}");
    }
    let mut names: Vec<_> = OTHER_METHODS.iter().map(|(known, _)| *known).collect();
    names.extend(["approle", "kubernetes", "token_file"]);
    match nearest(name, &names) {
        Some(meant) => format!("no auto-auth method {name:?}; did you mean {meant:?}? {built}"),
        None => format!("no auto-auth method {name:?}: {built}"),
    }
}

/// The peers' other methods, and the keys of their `config` where they are known for sure.
const OTHER_METHODS: &[(&str, &[&str])] = &[
    (
        "jwt",
        &[
            "path",
            "role",
            "remove_jwt_after_reading",
            "remove_jwt_follows_symlinks",
            "jwt_read_period",
        ],
    ),
    (
        "cert",
        &["name", "ca_cert", "client_cert", "client_key", "reload"],
    ),
    (
        "kerberos",
        &[
            "username",
            "service",
            "realm",
            "keytab_path",
            "krb5conf_path",
            "disable_fast_negotiation",
        ],
    ),
    ("aws", &[]),
    ("gcp", &[]),
    ("azure", &[]),
    ("alicloud", &[]),
    ("oci", &[]),
    ("cf", &[]),
    ("ldap", &[]),
    ("userpass", &[]),
];
