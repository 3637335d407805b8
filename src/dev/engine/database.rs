//! The database engine, with a database that is only a set of users: tests ask it who can log in.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::Asked;
use crate::dev::answer::{Answer, Outcome, Refusal, Reply, SecretGrant};
use crate::dev::call::Operation;
use crate::dev::fields::Fields;
use crate::dev::random;
use crate::dev::state::lease::Internal;
use crate::dev::state::tree::object;
use crate::secret::Secret;

#[derive(Default)]
pub(crate) struct Database {
    connections: BTreeMap<String, Map<String, Value>>,
    roles: BTreeMap<String, Role>,
    static_roles: BTreeMap<String, StaticRole>,
    users: BTreeMap<String, User>,
    /// Of each role.
    counts: BTreeMap<String, Count>,
}

/// How many users of a role there are and were.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    alive: usize,
    most_at_once: usize,
    total: usize,
}

/// Who can log in to the database.
struct User {
    role: String,
    password: Secret,
}

pub(crate) struct Role {
    pub(crate) default_ttl: Duration,
    pub(crate) max_ttl: Duration,
    /// What the server stores and gives back, as it came.
    kept: Map<String, Value>,
}

struct StaticRole {
    username: String,
    password: Secret,
    rotation_period: Duration,
    last_rotation: Instant,
    kept: Map<String, Value>,
}

impl Database {
    pub(crate) fn set_role(&mut self, name: &str, default_ttl: Duration, max_ttl: Duration) {
        let kept = object([("db_name", json!("dev"))]);
        self.roles.insert(
            name.to_owned(),
            Role {
                default_ttl,
                max_ttl,
                kept,
            },
        );
    }

    pub(crate) fn set_static_role(&mut self, name: &str, rotation_period: Duration, now: Instant) {
        self.static_roles.insert(
            name.to_owned(),
            StaticRole {
                username: name.to_owned(),
                password: Secret::new(random::password()),
                rotation_period,
                last_rotation: now,
                kept: object([("db_name", json!("dev"))]),
            },
        );
    }

    pub(crate) fn is_user(&self, username: &str) -> bool {
        self.users.contains_key(username)
    }

    pub(crate) fn may_log_in(&self, username: &str, password: &str) -> bool {
        let user = self.users.get(username);
        user.is_some_and(|user| user.password.ct_eq(password))
            || self
                .static_roles
                .values()
                .any(|role| role.username == username && role.password.ct_eq(password))
    }

    pub(crate) fn users_of(&self, role: &str) -> usize {
        self.count(role).alive
    }

    /// The most users at once and the number of users made, for `role`.
    pub(crate) fn minted(&self, role: &str) -> (usize, usize) {
        let count = self.count(role);
        (count.most_at_once, count.total)
    }

    fn count(&self, role: &str) -> Count {
        self.counts.get(role).copied().unwrap_or_default()
    }

    pub(super) fn drop_user(&mut self, username: &str) {
        let Some(user) = self.users.remove(username) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&user.role) {
            count.alive -= 1;
        }
    }

    pub(super) fn renewal_terms(&self, role: &str) -> Option<(Duration, Duration)> {
        let role = self.roles.get(role)?;
        Some((role.default_ttl, role.max_ttl))
    }

    pub(super) fn has(&self, rest: &str) -> Option<bool> {
        match rest.split_once('/')? {
            ("config", name) => Some(self.connections.contains_key(name)),
            ("roles", name) => Some(self.roles.contains_key(name)),
            ("static-roles", name) => Some(self.static_roles.contains_key(name)),
            _ => None,
        }
    }

    pub(super) fn handle(&mut self, asked: &Asked<'_>) -> Outcome {
        let Some((kind, name)) = asked.rest.split_once('/') else {
            return Err(Refusal::unsupported_path());
        };
        if name.is_empty() {
            let keys: Vec<String> = match kind {
                "config" => self.connections.keys().cloned().collect(),
                "roles" => self.roles.keys().cloned().collect(),
                "static-roles" => self.static_roles.keys().cloned().collect(),
                _ => return Err(Refusal::unsupported_path()),
            };
            return match asked.call.operation {
                Operation::List => Ok(Answer::keys(&keys)),
                _ => Err(Refusal::unsupported_operation()),
            };
        }
        if name.contains('/') {
            return Err(Refusal::unsupported_path());
        }
        match (kind, asked.call.operation) {
            ("config", _) => self.connection(name, asked),
            ("roles", _) => self.role(name, asked),
            ("static-roles", _) => self.static_role(name, asked),
            ("creds", Operation::Read) => {
                let warning = asked.call.fields.ignored(&["name"]);
                Ok(self.mint(name, asked)?.warn(warning))
            }
            ("static-creds", Operation::Read) => {
                let warning = asked.call.fields.ignored(&["name"]);
                Ok(self.static_credential(name, asked)?.warn(warning))
            }
            ("rotate-role", Operation::Update | Operation::Create) => {
                let Some(role) = self.static_roles.get_mut(name) else {
                    return Err(Refusal::bad("no static role found for role name"));
                };
                role.rotate(asked.now);
                Ok(Answer::Nothing)
            }
            ("creds" | "static-creds" | "rotate-role", _) => Err(Refusal::unsupported_operation()),
            _ => Err(Refusal::unsupported_path()),
        }
    }

    fn mint(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        let Some(role) = self.roles.get(name) else {
            return Err(Refusal::bad(format!("unknown role: {name}")));
        };
        let username = username(asked, name);
        let password = Secret::new(random::password());
        let answer = Answer::reply(Reply {
            data: Some(object([
                ("username", json!(username)),
                ("password", json!(password.expose())),
            ])),
            secret: Some(SecretGrant {
                renewable: true,
                ttl: role.default_ttl,
                max_ttl: role.max_ttl,
                internal: Some(Internal::Database {
                    role: name.to_owned(),
                    username: username.clone(),
                }),
                ..SecretGrant::default()
            }),
            ..Reply::default()
        });
        let role = name.to_owned();
        self.users.insert(username, User { role, password });
        let count = self.counts.entry(name.to_owned()).or_default();
        count.alive += 1;
        count.most_at_once = count.most_at_once.max(count.alive);
        count.total += 1;
        Ok(answer)
    }

    fn static_credential(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        let Some(role) = self.static_roles.get_mut(name) else {
            return Err(Refusal::bad(format!("unknown role: {name}")));
        };
        role.catch_up(asked.now);
        let next = role.last_rotation + role.rotation_period;
        Ok(Answer::data(object([
            ("username", json!(role.username)),
            ("password", json!(role.password.expose())),
            (
                "ttl",
                json!(next.saturating_duration_since(asked.now).as_secs()),
            ),
            ("rotation_period", json!(role.rotation_period.as_secs())),
            (
                "last_vault_rotation",
                json!(asked.clock.rfc3339(role.last_rotation)),
            ),
        ])))
    }

    fn connection(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        match asked.call.operation {
            Operation::Read => Ok(self.connections.get(name).map_or(Answer::Nothing, |kept| {
                let text = |field: &str| kept.get(field).cloned().unwrap_or_else(|| json!(""));
                Answer::data(object([
                    ("plugin_name", text("plugin_name")),
                    ("plugin_version", json!("")),
                    ("password_policy", text("password_policy")),
                    ("allowed_roles", statements(kept, "allowed_roles")),
                    (
                        "connection_details",
                        json!({ "connection_url": text("connection_url") }),
                    ),
                    ("root_credentials_rotate_statements", json!([])),
                ]))
            })),
            Operation::Update | Operation::Create => {
                self.connections
                    .insert(name.to_owned(), asked.call.fields.0.clone());
                Ok(Answer::Nothing)
            }
            Operation::Delete => {
                self.connections.remove(name);
                Ok(Answer::Nothing)
            }
            _ => Err(Refusal::unsupported_operation()),
        }
    }

    fn role(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        match asked.call.operation {
            Operation::Read => Ok(self.roles.get(name).map_or(Answer::Nothing, Role::info)),
            Operation::Update | Operation::Create => {
                let known = self.roles.get(name);
                let kept = merged(known.map(|role| &role.kept), fields);
                require_db_name(&kept)?;
                let role = Role {
                    default_ttl: fields
                        .duration("default_ttl")?
                        .or(known.map(|role| role.default_ttl))
                        .unwrap_or_default(),
                    max_ttl: fields
                        .duration("max_ttl")?
                        .or(known.map(|role| role.max_ttl))
                        .unwrap_or_default(),
                    kept,
                };
                self.roles.insert(name.to_owned(), role);
                Ok(Answer::Nothing)
            }
            Operation::Delete => {
                self.roles.remove(name);
                Ok(Answer::Nothing)
            }
            _ => Err(Refusal::unsupported_operation()),
        }
    }

    fn static_role(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        match asked.call.operation {
            Operation::Read => Ok(self.static_roles.get(name).map_or(Answer::Nothing, |role| {
                Answer::data(object([
                    ("credential_type", json!("password")),
                    (
                        "db_name",
                        role.kept.get("db_name").cloned().unwrap_or_default(),
                    ),
                    ("username", json!(role.username)),
                    ("rotation_period", json!(role.rotation_period.as_secs())),
                    (
                        "rotation_statements",
                        statements(&role.kept, "rotation_statements"),
                    ),
                    (
                        "last_vault_rotation",
                        json!(asked.clock.rfc3339(role.last_rotation)),
                    ),
                ]))
            })),
            Operation::Update | Operation::Create => {
                let kept = merged(self.static_roles.get(name).map(|role| &role.kept), fields);
                require_db_name(&kept)?;
                let username = Fields(kept.clone()).text("username")?;
                let period = Fields(kept.clone()).duration("rotation_period")?;
                if username.is_empty() {
                    return Err(Refusal::bad(
                        "username is a required field to create a static account",
                    ));
                }
                let Some(rotation_period) = period else {
                    return Err(Refusal::bad(
                        "rotation_period is required to create static accounts",
                    ));
                };
                self.set_static_role(name, rotation_period, asked.now);
                if let Some(role) = self.static_roles.get_mut(name) {
                    role.username = username;
                    role.kept = kept;
                }
                Ok(Answer::Nothing)
            }
            Operation::Delete => {
                self.static_roles.remove(name);
                Ok(Answer::Nothing)
            }
            _ => Err(Refusal::unsupported_operation()),
        }
    }
}

impl Role {
    fn info(&self) -> Answer {
        let mut info = object([
            (
                "db_name",
                self.kept.get("db_name").cloned().unwrap_or_default(),
            ),
            ("credential_type", json!("password")),
            ("default_ttl", json!(self.default_ttl.as_secs())),
            ("max_ttl", json!(self.max_ttl.as_secs())),
        ]);
        for name in [
            "creation_statements",
            "revocation_statements",
            "rollback_statements",
            "renew_statements",
        ] {
            info.insert(name.to_owned(), statements(&self.kept, name));
        }
        Answer::data(info)
    }
}

impl StaticRole {
    fn rotate(&mut self, at: Instant) {
        self.password = Secret::new(random::password());
        self.last_rotation = at;
    }

    /// Rotates as often as the time that has passed demands; only the last password matters.
    fn catch_up(&mut self, now: Instant) {
        if self.rotation_period.is_zero() {
            return;
        }
        let mut due = self.last_rotation;
        while due + self.rotation_period <= now {
            due += self.rotation_period;
        }
        if due != self.last_rotation {
            self.rotate(due);
        }
    }
}

/// As the PostgreSQL plugin forms it.
fn username(asked: &Asked<'_>, role: &str) -> String {
    let short = |text: &str| text.chars().take(8).collect::<String>();
    let whole = format!(
        "v-{}-{}-{}-{}",
        short(asked.display_name),
        short(role),
        random::base62(20),
        asked.clock.seconds(asked.now)
    );
    whole.chars().take(63).collect()
}

fn merged(known: Option<&Map<String, Value>>, fields: &Fields) -> Map<String, Value> {
    let mut kept = known.cloned().unwrap_or_default();
    kept.extend(fields.0.clone());
    kept
}

fn require_db_name(kept: &Map<String, Value>) -> Result<(), Refusal> {
    if Fields(kept.clone()).text("db_name")?.is_empty() {
        return Err(Refusal::bad("database name is required"));
    }
    Ok(())
}

fn statements(kept: &Map<String, Value>, name: &str) -> Value {
    match kept.get(name) {
        Some(Value::Array(list)) => json!(list),
        Some(Value::String(one)) if !one.is_empty() => json!([one]),
        _ => json!([]),
    }
}
