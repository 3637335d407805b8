//! The Kubernetes auth method, and the service accounts of a cluster that it knows by heart: nobody else is
//! asked to review a token.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::Deserialize;
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
pub(crate) struct Kubernetes {
    roles: BTreeMap<String, Role>,
    /// Tokens that the cluster gave out and has not taken back.
    issued: Vec<Secret>,
}

#[derive(Default, Clone)]
pub(crate) struct Role {
    pub(crate) token: TokenSettings,
    pub(crate) names: Vec<String>,
    pub(crate) namespaces: Vec<String>,
    audience: String,
}

/// What is read of a JWT.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Vec<String>,
    exp: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Account,
}

#[derive(Deserialize)]
struct Account {
    name: String,
    uid: String,
}

impl Kubernetes {
    pub(crate) fn role_or_new(&mut self, name: &str) -> &mut Role {
        self.roles.entry(name.to_owned()).or_default()
    }

    /// A new token of the service account `app` in the namespace `default`.
    pub(crate) fn issue(&mut self, ttl: Duration, clock: Clock, now: Instant) -> Secret {
        let claims = json!({
            "aud": [AUDIENCE],
            "exp": clock.seconds(now) + ttl.as_secs(),
            "iat": clock.seconds(now),
            "iss": AUDIENCE,
            "jti": random::uuid(),
            "kubernetes.io": {
                "namespace": "default",
                "serviceaccount": { "name": "app", "uid": UID },
            },
            "sub": "system:serviceaccount:default:app",
        });
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = Secret::new(format!(
            "{}.{}.{}",
            part(r#"{"alg":"RS256","typ":"JWT"}"#),
            part(&claims.to_string()),
            part(&random::uuid()),
        ));
        self.issued.push(token.clone());
        token
    }

    /// The cluster takes back what it gave out so far.
    pub(crate) fn forget_issued(&mut self) {
        self.issued.clear();
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
            ["login"] if operation.is_update() => self.login(asked),
            ["role", ""] | ["role"] if operation == Operation::List => Ok(Answer::keys(
                &self.roles.keys().cloned().collect::<Vec<_>>(),
            )),
            ["role", name] if !name.is_empty() => self.role_call(name, asked),
            ["login"] | ["role", ""] | ["role"] => Err(Refusal::unsupported_operation()),
            _ => Err(Refusal::unsupported_path()),
        }
    }

    fn role_call(&mut self, name: &str, asked: &Asked<'_>) -> Outcome {
        match asked.call.operation {
            Operation::Read => Ok(self.roles.get(name).map_or(Answer::Nothing, Role::info)),
            Operation::Update | Operation::Create => {
                let mut role = self.roles.get(name).cloned().unwrap_or_default();
                role.update(&asked.call.fields)?;
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

    fn login(&self, asked: &Asked<'_>) -> Outcome {
        let fields = &asked.call.fields;
        let name = fields.text("role")?;
        if name.is_empty() {
            return Err(Refusal::bad("missing role"));
        }
        let jwt = fields.text("jwt")?;
        let jwt = jwt.trim();
        if jwt.is_empty() {
            return Err(Refusal::bad("missing jwt"));
        }
        let role = self
            .roles
            .get(&name)
            .ok_or_else(|| Refusal::bad(format!("invalid role name {name:?}")))?;
        let forbidden = |why: &str| Refusal::new(StatusCode::FORBIDDEN, why);
        let claims = claims(jwt).ok_or_else(|| forbidden("permission denied"))?;
        role.may_log_in(&claims, asked.clock.seconds(asked.now))
            .map_err(forbidden)?;
        if !self.issued.iter().any(|issued| issued.ct_eq(jwt)) {
            return Err(forbidden("permission denied"));
        }
        let Account { name: account, uid } = claims.kubernetes.serviceaccount;
        let namespace = claims.kubernetes.namespace;
        let auth = AuthGrant {
            display_name: format!("{namespace}-{account}"),
            alias: uid.clone(),
            metadata: Some(BTreeMap::from([
                ("role".to_owned(), name.clone()),
                ("service_account_name".to_owned(), account),
                ("service_account_namespace".to_owned(), namespace),
                ("service_account_secret_name".to_owned(), String::new()),
                ("service_account_uid".to_owned(), uid),
            ])),
            // The mount is filled in where it is known.
            origin: Origin::Login {
                mount: String::new(),
                name,
            },
            ..role.token.grant()
        };
        Ok(Answer::reply(Reply {
            auth: Some(auth),
            ..Reply::default()
        }))
    }
}

impl Role {
    fn update(&mut self, fields: &Fields) -> Result<(), Refusal> {
        self.token.update(fields)?;
        for (slot, name) in [
            (&mut self.names, "bound_service_account_names"),
            (&mut self.namespaces, "bound_service_account_namespaces"),
        ] {
            if let Some(given) = fields.list(name)? {
                *slot = given;
            }
            if slot.is_empty() {
                return Err(Refusal::bad(format!("{name:?} can not be empty")));
            }
        }
        if fields.has("audience") {
            self.audience = fields.text("audience")?;
        }
        Ok(())
    }

    /// In the order in which a server finds it.
    fn may_log_in(&self, claims: &Claims, now: u64) -> Result<(), &'static str> {
        let is_bound = |to: &[String], name: &str| to.iter().any(|one| one == "*" || one == name);
        let bound = &claims.kubernetes;
        if claims.exp <= now {
            return Err("invalid expiration time (exp) claim: token is expired");
        }
        if !self.audience.is_empty() && !claims.aud.contains(&self.audience) {
            return Err(
                "invalid audience (aud) claim: audience claim does not match any expected audience",
            );
        }
        if !is_bound(&self.namespaces, &bound.namespace) {
            return Err("namespace not authorized");
        }
        if !is_bound(&self.names, &bound.serviceaccount.name) {
            return Err("service account name not authorized");
        }
        Ok(())
    }

    fn info(&self) -> Answer {
        let mut info = object([
            ("alias_name_source", json!("serviceaccount_uid")),
            ("bound_service_account_names", json!(self.names)),
            ("bound_service_account_namespace_selector", json!("")),
            ("bound_service_account_namespaces", json!(self.namespaces)),
        ]);
        if !self.audience.is_empty() {
            info.insert("audience".to_owned(), json!(self.audience));
        }
        info.append(&mut self.token.info());
        Answer::data(info)
    }
}

fn claims(jwt: &str) -> Option<Claims> {
    let payload = jwt.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

const AUDIENCE: &str = "https://kubernetes.default.svc";
const UID: &str = "5d1b2c3e-0000-4000-8000-000000000001";
