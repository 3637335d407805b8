//! Does the whole make sense? The rules of Vault's agent and proxy; every broken one is reported.

use super::file::{AutoAuth, EnvTemplate, File};
use super::findings::{At, Findings, Given, Note, Phase};
use super::{Product, UseAutoAuthToken};

pub(super) fn validate(file: &File, product: Product, found: &Findings) {
    let rules = Rules {
        file,
        product,
        found,
    };
    rules.both_places();
    rules.cache_is_used();
    rules.token_can_be_had();
    rules.api_proxy_is_used();
    rules.auto_auth_is_used();
    rules.not_nothing();
    rules.supervisor();
}

/// The auto-auth token's use: `api_proxy`'s key, else `cache`'s, with all it says.
pub(super) fn use_auto_auth_token(file: &File) -> Option<&Given<UseAutoAuthToken>> {
    let proxy = file.api_proxy.as_ref();
    let of_proxy = proxy.and_then(|proxy| proxy.use_auto_auth_token.as_ref());
    let of_cache = || file.cache.as_ref()?.use_auto_auth_token.as_ref();
    of_proxy.or_else(of_cache)
}

struct Rules<'a> {
    file: &'a File,
    product: Product,
    found: &'a Findings,
}

impl Rules<'_> {
    fn both_places(&self) {
        let Some(proxy) = self.file.api_proxy.as_ref().filter(|p| !p.from_cache) else {
            return;
        };
        let of_cache = self.cache_use();
        if let (Some(of_cache), Some(of_proxy)) = (of_cache, &proxy.use_auto_auth_token) {
            let message =
                "use_auto_auth_token stands in cache and in api_proxy: keep the one in api_proxy";
            let note = self
                .wrong(of_cache.at, message)
                .related(of_proxy.at, "and here");
            self.found.add(note.key("cache.use_auto_auth_token"));
        }
    }

    fn cache_is_used(&self) {
        let Some(cache) = &self.file.cache else {
            return;
        };
        if self.has_listener() || self.has_templates() {
            return;
        }
        let message = match self.product {
            Product::Agent => {
                "cache needs at least one listener, template or env_template that uses it"
            }
            Product::Proxy => "cache needs at least one listener that uses it",
        };
        self.found
            .add(self.wrong(Some(cache.at), message).key("cache"));
    }

    /// `use_auto_auth_token`, in whichever place, needs a token that is not wrapped.
    fn token_can_be_had(&self) {
        let proxy = self.file.api_proxy.as_ref();
        let proxy = proxy.and_then(|proxy| proxy.use_auto_auth_token.as_ref());
        let mut last = None;
        for used in [self.cache_use(), proxy].into_iter().flatten() {
            if used.value == UseAutoAuthToken::Off || last == Some(used.at) {
                continue;
            }
            last = Some(used.at);
            let key = "use_auto_auth_token";
            let Some(auto_auth) = &self.file.auto_auth else {
                let message = "use_auto_auth_token needs an auto_auth block to get a token from";
                self.found.add(self.wrong(used.at, message).key(key));
                continue;
            };
            if let Some(wrap) = auto_auth.method.as_ref().and_then(|m| m.wrap_ttl.as_ref()) {
                let message = "use_auto_auth_token cannot use a wrapped token: remove wrap_ttl from the method";
                let note = self
                    .wrong(used.at, message)
                    .related(wrap.at, "wrapped here");
                self.found.add(note.key(key));
            }
        }
    }

    fn api_proxy_is_used(&self) {
        let Some(proxy) = &self.file.api_proxy else {
            return;
        };
        // Without templates either, the cache's own rule has said it.
        let told = proxy.from_cache && !self.has_templates();
        if !self.has_listener() && !told {
            let what = if proxy.from_cache {
                "use_auto_auth_token"
            } else {
                "api_proxy"
            };
            let message = format!("{what} needs at least one listener that serves it");
            self.found
                .add(self.wrong(Some(proxy.at), message).key("api_proxy"));
        }
    }

    fn auto_auth_is_used(&self) {
        let Some(auto_auth) = &self.file.auto_auth else {
            return;
        };
        let used =
            use_auto_auth_token(self.file).is_some_and(|used| used.value != UseAutoAuthToken::Off);
        if !auto_auth.sinks.is_empty() || used || self.has_templates() {
            return;
        }
        let templates = match self.product {
            Product::Agent => ", a template or an env_template",
            Product::Proxy => "",
        };
        let message = format!(
            "nothing uses the token of auto_auth: it needs a sink, api_proxy {{ use_auto_auth_token = true }}{templates}"
        );
        self.found
            .add(self.wrong(Some(auto_auth.at), message).key("auto_auth"));
    }

    fn not_nothing(&self) {
        let file = self.file;
        if file.auto_auth.is_none() && file.cache.is_none() && !self.has_listener() {
            let message =
                "nothing to do: the configuration has no auto_auth, no cache and no listener block";
            self.found.add(self.wrong(None, message));
        }
    }

    fn supervisor(&self) {
        let templates = &self.file.templates;
        let (exec, first) = (templates.exec.as_ref(), templates.env.first());
        let at = exec.map(|exec| exec.at).or(first.map(|first| first.at));
        if at.is_none() {
            return;
        }
        let wrong = |at: Option<At>, key: &str, message: &str| {
            self.found.add(self.wrong(at, message).key(key));
        };
        if exec.is_none() {
            wrong(
                at,
                "env_template",
                "env_template needs an exec block with a command to run",
            );
        }
        if first.is_none() {
            wrong(at, "exec", "exec needs at least one env_template");
        }
        if let Some(proxy) = &self.file.api_proxy {
            let message = "api_proxy and use_auto_auth_token do not go with exec and env_template";
            wrong(Some(proxy.at), "api_proxy", message);
        }
        for template in &templates.files {
            let message = "template does not go with exec and env_template";
            wrong(Some(*template), "template", message);
        }
        if let Some(exec) = exec {
            if !exec.has_command {
                wrong(
                    Some(exec.at),
                    "exec.command",
                    "exec needs a command: [\"program\", \"argument\"]",
                );
            }
            let restart = exec.restart_on_secret_changes.as_ref();
            if let Some(restart) =
                restart.filter(|restart| !["always", "never"].contains(&restart.value.as_str()))
            {
                let message = format!(
                    "restart_on_secret_changes can be \"always\" or \"never\", not {:?}",
                    restart.value
                );
                wrong(restart.at, "exec.restart_on_secret_changes", &message);
            }
        }
        for (index, template) in templates.env.iter().enumerate() {
            self.env_template(template, templates.env.get(..index).unwrap_or_default());
        }
    }

    fn env_template(&self, template: &EnvTemplate, earlier: &[EnvTemplate]) {
        let name = template.name.as_deref().unwrap_or_default();
        let wrong = |at: At, message: String| {
            let note = self.wrong(Some(at), format!("env_template {name:?}: {message}"));
            self.found.add(note.key("env_template"));
        };
        if template.name.as_deref() == Some("") {
            wrong(template.at, "the name is empty".to_owned());
        }
        if let Some(first) = earlier
            .iter()
            .find(|first| first.name.is_some() && first.name == template.name)
        {
            let message = format!("env_template {name:?}: the name is taken");
            let note = self.wrong(Some(template.at), message);
            self.found.add(
                note.related(Some(first.at), "the first one")
                    .key("env_template"),
            );
        }
        if template.texts.len() != 1 {
            let message = "needs exactly one of contents and source";
            wrong(template.at, message.to_owned());
        }
        for (key, at) in &template.forbidden {
            wrong(*at, format!("{key} is not allowed here"));
        }
    }

    fn cache_use(&self) -> Option<&Given<UseAutoAuthToken>> {
        self.file.cache.as_ref()?.use_auto_auth_token.as_ref()
    }

    fn has_listener(&self) -> bool {
        !self.file.listeners.is_empty()
    }

    fn has_templates(&self) -> bool {
        !self.file.templates.files.is_empty() || !self.file.templates.env.is_empty()
    }

    fn wrong(&self, at: Option<At>, message: impl Into<String>) -> Note {
        Note::error(Phase::Validate, at, message)
    }
}

/// For who needs the block's own namespace before anything else.
pub(super) fn method_namespace(auto_auth: Option<&AutoAuth>) -> Option<&Given<String>> {
    auto_auth?.method.as_ref()?.namespace.as_ref()
}
