//! The AppRole auth method.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use super::Asked;
use super::login::{Terms, TokenSettings};
use crate::dev::answer::{Answer, AuthGrant, Outcome, Refusal, Reply};
use crate::dev::call::Operation;
use crate::dev::clock::Clock;
use crate::dev::fields::Fields;
use crate::dev::random;
use crate::dev::state::token::Origin;
use crate::dev::state::tree::object;
use crate::secret::Secret;

#[derive(Default)]
pub(crate) struct AppRole {
    roles: BTreeMap<String, Role>,
}

pub(crate) struct Role {
    pub(crate) role_id: String,
    pub(crate) token: TokenSettings,
    pub(crate) secret_id_num_uses: u64,
    pub(crate) secret_id_ttl: Duration,
    bind_secret_id: bool,
    secret_ids: Vec<SecretId>,
}

struct SecretId {
    secret_id: Secret,
    accessor: String,
    /// 0: unlimited.
    uses_left: u64,
    ttl: Duration,
    created: Instant,
    updated: Instant,
    metadata: BTreeMap<String, String>,
}

impl AppRole {
    pub(crate) fn role_or_new(&mut self, name: &str) -> &mut Role {
        self.roles.entry(name.to_owned()).or_insert_with(Role::new)
    }

    pub(crate) fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    pub(super) fn has(&self, rest: &str) -> Option<bool> {
        let name = rest.strip_prefix("role/")?;
        (!name.contains('/')).then(|| self.roles.contains_key(name))
    }

    pub(super) fn terms(&self, name: &str) -> Option<Terms> {
        self.roles.get(name).map(|role| role.token.terms())
    }

    pub(super) fn handle(&mut self, asked: &Asked<'_>) -> Outcome {
        let operation = asked.call.operation;
        match super::segments(asked.rest).as_slice() {
            ["login"] => match operation {
                // A GET is taken for a login too: its fields are those of the query.
                Operation::Update | Operation::Create | Operation::Read => self.login(asked),
                _ => Err(Refusal::unsupported_operation()),
            },
            ["role", ""] | ["role"] if operation == Operation::List => Ok(Answer::keys(
                &self.roles.keys().cloned().collect::<Vec<_>>(),
            )),
            ["role", ""] | ["role"] => Err(Refusal::unsupported_operation()),
            ["role", name] => self.role_call(name, asked),
            ["role", name, rest @ ..] if !rest.is_empty() => self.below_role(name, rest, asked),
            _ => Err(Refusal::unsupported_path()),
        }
    }

    fn role_call(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        match asked.call.operation {
            Operation::Read => Ok(self.roles.get(name).map_or(Answer::Nothing, Role::info)),
            Operation::Update | Operation::Create => {
                let known = self.roles.get(name);
                let mut token = known.map(|role| role.token.clone()).unwrap_or_default();
                token.update(fields)?;
                let uses = fields.number("secret_id_num_uses")?;
                let ttl = fields.duration("secret_id_ttl")?;
                let bound = fields.flag("bind_secret_id")?;
                let role = self.role_or_new(name);
                role.token = token;
                if let Some(uses) = uses {
                    role.secret_id_num_uses = u64::try_from(uses).unwrap_or(0);
                }
                role.secret_id_ttl = ttl.unwrap_or(role.secret_id_ttl);
                role.bind_secret_id = bound.unwrap_or(role.bind_secret_id);
                if fields.has("role_id") {
                    role.role_id = fields.text("role_id")?;
                }
                Ok(Answer::Nothing)
            }
            Operation::Delete => {
                self.roles.remove(name);
                Ok(Answer::Nothing)
            }
            _ => Err(Refusal::unsupported_operation()),
        }
    }

    fn below_role(&mut self, name: &str, rest: &[&str], asked: &Asked<'_>) -> Outcome {
        let operation = asked.call.operation;
        let fields = &asked.call.fields;
        let is_update = operation.is_update();
        match allowed_below_role(rest) {
            None => return Err(Refusal::unsupported_path()),
            Some(allowed) if !allowed(operation) => return Err(Refusal::unsupported_operation()),
            Some(_) => {}
        }
        let Some(role) = self.roles.get_mut(name) else {
            return match operation {
                Operation::Read => Ok(Answer::Nothing),
                _ => Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    format!("role {name:?} does not exist"),
                )),
            };
        };
        role.drop_expired(asked.now);
        match rest {
            ["role-id"] if operation == Operation::Read => {
                Ok(Answer::json(json!({ "role_id": role.role_id })))
            }
            ["role-id"] if is_update => {
                role.role_id = fields.text("role_id")?;
                Ok(Answer::Nothing)
            }
            ["secret-id"] if is_update => {
                let secret_id = Secret::new(random::uuid());
                role.add(secret_id, fields, asked.now)
            }
            ["secret-id", ""] if operation == Operation::List => {
                let accessors = role.secret_ids.iter().map(|known| known.accessor.clone());
                Ok(Answer::keys(&accessors.collect::<Vec<_>>()))
            }
            ["custom-secret-id"] if is_update => {
                let secret_id = fields.text("secret_id")?;
                if secret_id.is_empty() {
                    return Err(Refusal::bad("missing secret_id"));
                }
                role.add(Secret::new(secret_id), fields, asked.now)
            }
            [
                kind @ ("secret-id" | "secret-id-accessor"),
                verb @ ("lookup" | "destroy"),
            ] if is_update || (*verb == "destroy" && operation == Operation::Delete) => {
                let by_accessor = *kind == "secret-id-accessor";
                role.one_secret_id(by_accessor, *verb == "destroy", fields, asked.clock)
            }
            _ => Err(Refusal::unsupported_operation()),
        }
    }

    fn login(&mut self, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        let role_id = fields.text("role_id")?;
        let role_id = role_id.trim();
        if role_id.is_empty() {
            // The server finds this while it looks for the role, before the method is asked.
            return Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "missing role_id",
            ));
        }
        let wrong = || Refusal::bad("invalid role or secret ID");
        let mut roles = self.roles.iter_mut();
        let (name, role) = roles
            .find(|(_, role)| role.role_id == role_id)
            .ok_or_else(wrong)?;
        role.drop_expired(asked.now);
        let mut metadata = BTreeMap::new();
        if role.bind_secret_id {
            let secret_id = fields.text("secret_id")?;
            let secret_id = secret_id.trim();
            if secret_id.is_empty() {
                return Err(Refusal::bad("missing secret_id"));
            }
            metadata = role.use_secret_id(secret_id, asked.now).ok_or_else(wrong)?;
        }
        metadata.insert("role_name".to_owned(), name.clone());
        let auth = AuthGrant {
            metadata: Some(metadata),
            alias: role.role_id.clone(),
            // The mount is filled in where it is known.
            origin: Origin::Login {
                mount: String::new(),
                name: name.clone(),
            },
            ..role.token.grant()
        };
        let warning = fields.ignored(&["role_id", "secret_id"]);
        Ok(Answer::reply(Reply {
            auth: Some(auth),
            ..Reply::default()
        })
        .warn(warning))
    }
}

impl Role {
    fn new() -> Self {
        Self {
            role_id: random::uuid(),
            token: TokenSettings::default(),
            secret_id_num_uses: 0,
            secret_id_ttl: Duration::ZERO,
            bind_secret_id: true,
            secret_ids: Vec::new(),
        }
    }

    /// A new secret id with the role's own limits.
    pub(crate) fn new_secret_id(&mut self, now: Instant) -> Secret {
        let secret_id = Secret::new(random::uuid());
        self.keep(
            secret_id.clone(),
            self.secret_id_num_uses,
            self.secret_id_ttl,
            BTreeMap::new(),
            now,
        );
        secret_id
    }

    fn add(&mut self, secret_id: Secret, fields: &Fields, now: Instant) -> Outcome {
        if !self.bind_secret_id {
            return Err(Refusal::bad("bind_secret_id is not set on the role"));
        }
        let uses = match fields.number("num_uses")? {
            None => self.secret_id_num_uses,
            Some(uses) => {
                let uses =
                    u64::try_from(uses).map_err(|_| Refusal::bad("num_uses cannot be negative"))?;
                if self.secret_id_num_uses > 0 && (uses == 0 || uses > self.secret_id_num_uses) {
                    return Err(Refusal::bad(
                        "num_uses cannot be higher than the role's secret_id_num_uses",
                    ));
                }
                uses
            }
        };
        let ttl = match fields.duration("ttl")? {
            None => self.secret_id_ttl,
            Some(ttl) if self.secret_id_ttl.is_zero() => ttl,
            Some(ttl) if ttl.is_zero() || ttl > self.secret_id_ttl => {
                return Err(Refusal::bad(
                    "ttl cannot be longer than the role's secret_id_ttl",
                ));
            }
            Some(ttl) => ttl,
        };
        let metadata = metadata(&fields.text("metadata")?)?;
        let shown = secret_id.clone();
        let accessor = self.keep(secret_id, uses, ttl, metadata, now);
        let known = [
            "secret_id",
            "num_uses",
            "ttl",
            "metadata",
            "cidr_list",
            "token_bound_cidrs",
        ];
        Ok(Answer::data(object([
            ("secret_id", json!(shown.expose())),
            ("secret_id_accessor", json!(accessor)),
            ("secret_id_num_uses", json!(uses)),
            ("secret_id_ttl", json!(ttl.as_secs())),
        ]))
        .warn(fields.ignored(&known)))
    }

    fn keep(
        &mut self,
        secret_id: Secret,
        uses_left: u64,
        ttl: Duration,
        metadata: BTreeMap<String, String>,
        now: Instant,
    ) -> String {
        let accessor = random::uuid();
        self.secret_ids.push(SecretId {
            secret_id,
            accessor: accessor.clone(),
            uses_left,
            ttl,
            created: now,
            updated: now,
            metadata,
        });
        accessor
    }

    /// `None`: there is none such, or none any more.
    fn use_secret_id(&mut self, text: &str, now: Instant) -> Option<BTreeMap<String, String>> {
        let at = self
            .secret_ids
            .iter()
            .position(|known| known.secret_id.ct_eq(text))?;
        let known = self.secret_ids.get_mut(at)?;
        let metadata = known.metadata.clone();
        match known.uses_left {
            0 => {}
            1 => {
                self.secret_ids.remove(at);
            }
            _ => {
                known.uses_left -= 1;
                known.updated = now;
            }
        }
        Some(metadata)
    }

    fn drop_expired(&mut self, now: Instant) {
        self.secret_ids
            .retain(|known| known.ttl.is_zero() || known.created + known.ttl > now);
    }

    fn one_secret_id(
        &mut self,
        by_accessor: bool,
        destroy: bool,
        fields: &Fields,
        clock: Clock,
    ) -> Outcome {
        let field = if by_accessor {
            "secret_id_accessor"
        } else {
            "secret_id"
        };
        let wanted = fields.text(field)?;
        if wanted.is_empty() {
            return Err(Refusal::bad(format!("missing {field}")));
        }
        let at = self.secret_ids.iter().position(|known| match by_accessor {
            true => known.accessor == wanted,
            false => known.secret_id.ct_eq(&wanted),
        });
        let Some(at) = at else {
            return match by_accessor {
                true => {
                    let why =
                        format!("failed to find accessor entry for secret_id_accessor: {wanted:?}");
                    let data = object([("error", json!(why))]);
                    Ok(Answer::Coded(
                        StatusCode::NOT_FOUND,
                        Box::new(Reply {
                            data: Some(data),
                            ..Reply::default()
                        }),
                    ))
                }
                false => Ok(Answer::Nothing),
            };
        };
        if destroy {
            self.secret_ids.remove(at);
            return Ok(Answer::Nothing);
        }
        Ok(self
            .secret_ids
            .get(at)
            .map_or(Answer::Nothing, |known| known.info(clock)))
    }

    fn info(&self) -> Answer {
        let mut info = self.token.info();
        info.append(&mut object([
            ("bind_secret_id", json!(self.bind_secret_id)),
            ("local_secret_ids", json!(false)),
            ("secret_id_bound_cidrs", json!(null)),
            ("secret_id_num_uses", json!(self.secret_id_num_uses)),
            ("secret_id_ttl", json!(self.secret_id_ttl.as_secs())),
        ]));
        Answer::data(info)
    }
}

impl SecretId {
    fn info(&self, clock: Clock) -> Answer {
        let expiration = if self.ttl.is_zero() {
            NEVER.to_owned()
        } else {
            clock.rfc3339(self.created + self.ttl)
        };
        Answer::data(object([
            ("cidr_list", json!([])),
            ("creation_time", json!(clock.rfc3339(self.created))),
            ("expiration_time", json!(expiration)),
            ("last_updated_time", json!(clock.rfc3339(self.updated))),
            ("metadata", json!(self.metadata)),
            ("secret_id_accessor", json!(self.accessor)),
            ("secret_id_num_uses", json!(self.uses_left)),
            ("secret_id_ttl", json!(self.ttl.as_secs())),
            ("token_bound_cidrs", json!([])),
        ]))
    }
}

/// Which operations the endpoint below a role takes; `None`: there is no such endpoint.
fn allowed_below_role(rest: &[&str]) -> Option<fn(Operation) -> bool> {
    Some(match rest {
        ["role-id"] => |operation| operation == Operation::Read || operation.is_update(),
        ["secret-id" | "custom-secret-id"] | ["secret-id" | "secret-id-accessor", "lookup"] => {
            Operation::is_update
        }
        ["secret-id", ""] => |operation| operation == Operation::List,
        ["secret-id" | "secret-id-accessor", "destroy"] => {
            |operation| operation == Operation::Delete || operation.is_update()
        }
        _ => return None,
    })
}

fn metadata(text: &str) -> Result<BTreeMap<String, String>, Refusal> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_str(text)
        .map_err(|error| Refusal::bad(format!("failed to parse metadata: {error}")))
}

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";
