//! How a scenario is written down: calls in order, each with what it needs from the answers before it.
//!
//! `{name}` in a target, a header or a body stands for what an earlier step took from its answer, or for
//! what the stand knows: `{role_id}` of the callers' AppRole role; `{plugin}`, `{port}` and `{password}` of a
//! database that the database engine can use.

/// Calls that belong together; they use mounts, policies and roles that no other scenario uses.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone)]
pub(super) struct Step {
    pub(super) method: &'static str,
    /// Behind `/v1/`; from the root where it begins with a slash.
    pub(super) target: &'static str,
    pub(super) body: &'static str,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) caller: Caller,
    /// Names for what is at these places of the answer.
    pub(super) takes: Vec<(&'static str, &'static str)>,
    pub(super) memory: Memory,
    /// The places that a recording keeps; none: the whole answer.
    pub(super) only: Vec<&'static str>,
    /// The server writes the keys in another order each time.
    pub(super) unordered: bool,
    /// The answer shows the usual caller's token. Leasehold lends its own, but does not give it away.
    pub(super) shows_token: bool,
    pub(super) status: u16,
}

/// By which token a step is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// One that may everything. Through Leasehold with a token of its own, there is none in the request.
    Usual,
    Root,
    /// None, on an endpoint that asks for none.
    Anyone,
    /// None, though one is needed: where Leasehold has a token for such callers, this is left out.
    Nobody,
    Token(&'static str),
    /// The same in an `Authorization` header.
    Bearer(&'static str),
}

/// What Leasehold may answer without asking.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Never,
    /// Asked twice, the second answer comes from memory.
    Second,
    /// A step before asked the same: the first answer does already.
    First,
}

pub(super) fn scenario(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Scenario {
    Scenario {
        name,
        steps: steps.into_iter().collect(),
    }
}

pub(super) fn call(method: &'static str, target: &'static str, status: u16) -> Step {
    Step {
        method,
        target,
        body: "",
        headers: Vec::new(),
        caller: Caller::Usual,
        takes: Vec::new(),
        memory: Memory::Never,
        only: Vec::new(),
        unordered: false,
        shows_token: false,
        status,
    }
}

pub(super) fn get(target: &'static str, status: u16) -> Step {
    call("GET", target, status)
}

pub(super) fn list(target: &'static str, status: u16) -> Step {
    call("LIST", target, status)
}

pub(super) fn delete(target: &'static str, status: u16) -> Step {
    call("DELETE", target, status)
}

pub(super) fn put(target: &'static str, body: &'static str, status: u16) -> Step {
    call("PUT", target, status).body(body)
}

pub(super) fn post(target: &'static str, body: &'static str, status: u16) -> Step {
    call("POST", target, status).body(body)
}

pub(super) fn patch(target: &'static str, body: &'static str, status: u16) -> Step {
    call("PATCH", target, status)
        .body(body)
        .header("content-type", "application/merge-patch+json")
}

impl Step {
    pub(super) fn body(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// In a namespace, by header.
    pub(super) fn within(self, namespace: &'static str) -> Self {
        self.header("x-vault-namespace", namespace)
    }

    pub(super) fn wrapped(self, ttl: &'static str) -> Self {
        self.header("x-vault-wrap-ttl", ttl)
    }

    pub(super) fn by(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    pub(super) fn take(mut self, name: &'static str, place: &'static str) -> Self {
        self.takes.push((name, place));
        self
    }

    /// Asked twice; the second answer comes from memory.
    pub(super) fn twice(mut self) -> Self {
        self.memory = Memory::Second;
        self
    }

    pub(super) fn known(mut self) -> Self {
        self.memory = Memory::First;
        self
    }

    /// A recording keeps this place only: the rest of the answer depends on the server's set-up.
    pub(super) fn only(mut self, place: &'static str) -> Self {
        self.only.push(place);
        self
    }

    /// The server writes the keys in another order each time.
    pub(super) fn unordered(mut self) -> Self {
        self.unordered = true;
        self
    }

    /// The answer shows the usual caller's token. Leasehold lends its own, but does not give it away.
    pub(super) fn showing_token(mut self) -> Self {
        self.shows_token = true;
        self
    }

    /// As it is written in the table.
    pub(super) fn call(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}
