//! The userpass auth method.

use std::collections::BTreeMap;

use super::Asked;
use super::login::{Terms, TokenSettings};
use crate::dev::answer::{Answer, AuthGrant, Outcome, Refusal, Reply};
use crate::dev::call::Operation;
use crate::dev::state::token::Origin;
use crate::secret::Secret;

#[derive(Default)]
pub(crate) struct Userpass {
    users: BTreeMap<String, User>,
}

struct User {
    password: Secret,
    token: TokenSettings,
}

impl Userpass {
    pub(super) fn has(&self, rest: &str) -> Option<bool> {
        let name = rest.strip_prefix("users/")?;
        (!name.contains('/')).then(|| self.users.contains_key(name))
    }

    pub(super) fn terms(&self, name: &str) -> Option<Terms> {
        self.users.get(name).map(|user| user.token.terms())
    }

    pub(super) fn handle(&mut self, asked: &Asked<'_>) -> Outcome {
        let operation = asked.call.operation;
        match asked.rest.split_once('/') {
            Some(("login", name)) if !name.is_empty() && !name.contains('/') => match operation {
                Operation::Update | Operation::Create => self.login(name, asked),
                _ => Err(Refusal::unsupported_operation()),
            },
            Some(("users", "")) if operation == Operation::List => Ok(Answer::keys(
                &self.users.keys().cloned().collect::<Vec<_>>(),
            )),
            Some(("users", name)) if !name.is_empty() && !name.contains('/') => {
                self.user(&name.to_lowercase(), asked)
            }
            Some(("users", below)) => match below.split_once('/') {
                Some((name, "password")) => self.new_password(&name.to_lowercase(), asked),
                _ => Err(Refusal::unsupported_path()),
            },
            _ => Err(Refusal::unsupported_path()),
        }
    }

    fn new_password(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        if !matches!(asked.call.operation, Operation::Update | Operation::Create) {
            return Err(Refusal::unsupported_operation());
        }
        let Some(user) = self.users.get_mut(name) else {
            return Err(Refusal::internal("username does not exist"));
        };
        let password = asked.call.fields.text("password")?;
        if password.is_empty() {
            return Err(Refusal::bad(NO_PASSWORD));
        }
        user.password = Secret::new(password);
        Ok(Answer::Nothing)
    }

    fn user(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        match asked.call.operation {
            Operation::Read => Ok(self
                .users
                .get(name)
                .map_or(Answer::Nothing, |user| Answer::data(user.token.info()))),
            Operation::Update | Operation::Create => {
                let fields = &asked.call.fields;
                let known = self.users.get(name);
                let password = match known {
                    Some(user) if !fields.has("password") => user.password.clone(),
                    _ => Secret::new(fields.text("password")?),
                };
                if password.is_empty() {
                    return Err(Refusal::bad(NO_PASSWORD));
                }
                let mut token = known.map(|user| user.token.clone()).unwrap_or_default();
                token.update(fields)?;
                self.users.insert(name.to_owned(), User { password, token });
                Ok(Answer::Nothing)
            }
            Operation::Delete => {
                self.users.remove(name);
                Ok(Answer::Nothing)
            }
            _ => Err(Refusal::unsupported_operation()),
        }
    }

    fn login(&self, name: &str, asked: &Asked<'_>) -> Outcome {
        let name = name.to_lowercase();
        let password = asked.call.fields.text("password")?;
        if password.is_empty() {
            return Err(Refusal::new(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                "missing password",
            ));
        }
        let user = self.users.get(&name);
        let user = user.filter(|user| user.password.ct_eq(&password));
        let Some(user) = user else {
            return Err(Refusal::bad("invalid username or password"));
        };
        let auth = AuthGrant {
            metadata: Some(BTreeMap::from([("username".to_owned(), name.clone())])),
            display_name: name.clone(),
            alias: name.clone(),
            // The mount is filled in where it is known.
            origin: Origin::Login {
                mount: String::new(),
                name,
            },
            ..user.token.grant()
        };
        Ok(Answer::reply(Reply {
            auth: Some(auth),
            ..Reply::default()
        }))
    }
}

const NO_PASSWORD: &str = "must provide either password or password_hash";
