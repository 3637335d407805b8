//! Policies: which path which capabilities, and which rule decides.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::time::Instant;

/// A stored policy.
pub(crate) struct Policy {
    pub(crate) text: String,
    pub(crate) rules: Vec<Rule>,
    pub(crate) version: u64,
    pub(crate) modified: Instant,
}

/// One `path` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) path: String,
    pub(crate) capabilities: Capabilities,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(u16);

/// Everything that the policies of one token allow.
#[derive(Default)]
pub(crate) struct Acl {
    pub(crate) is_root: bool,
    /// By full path, namespace in front; of one path in several policies the union, but a deny wins.
    rules: BTreeMap<String, Capabilities>,
}

impl Capabilities {
    pub(crate) const CREATE: Self = Self(1);
    pub(crate) const READ: Self = Self(1 << 1);
    pub(crate) const UPDATE: Self = Self(1 << 2);
    pub(crate) const DELETE: Self = Self(1 << 3);
    pub(crate) const LIST: Self = Self(1 << 4);
    pub(crate) const SUDO: Self = Self(1 << 5);
    pub(crate) const DENY: Self = Self(1 << 6);
    pub(crate) const PATCH: Self = Self(1 << 7);
    pub(crate) const SCAN: Self = Self(1 << 8);

    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find_map(|(known, capability)| (*known == name).then_some(*capability))
    }

    pub(crate) fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        let both = Self(self.0 | other.0);
        if both.has(Self::DENY) {
            Self::DENY
        } else {
            both
        }
    }

    /// As `sys/capabilities` lists them: sorted by name.
    pub(crate) fn names(self) -> Vec<&'static str> {
        if self.is_empty() || self.has(Self::DENY) {
            return vec!["deny"];
        }
        let mut names: Vec<&str> = NAMES
            .iter()
            .filter(|(_, capability)| self.has(*capability))
            .map(|(name, _)| *name)
            .collect();
        names.sort_unstable();
        names
    }
}

impl Acl {
    pub(crate) fn root() -> Self {
        Self {
            is_root: true,
            rules: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, namespace_path: &str, rules: &[Rule]) {
        for rule in rules {
            let path = format!("{namespace_path}{}", rule.path);
            let known = self.rules.entry(path).or_default();
            *known = known.with(rule.capabilities);
        }
    }

    /// `listing` also tries the path without its slash at the end.
    pub(crate) fn capabilities(&self, path: &str, listing: bool) -> Capabilities {
        let bare = path.strip_suffix('/').filter(|_| listing);
        let exact = self.rules.get(path);
        exact
            .or_else(|| bare.and_then(|bare| self.rules.get(bare)))
            .copied()
            .or_else(|| self.by_pattern(path))
            .or_else(|| bare.and_then(|bare| self.by_pattern(bare)))
            .unwrap_or_default()
    }

    /// Does any rule grant anything on or below the mount? That is what shows a mount in the UI's list.
    pub(crate) fn touches_mount(&self, mount_path: &str) -> bool {
        let granted = |capabilities: &Capabilities| {
            !capabilities.is_empty() && !capabilities.has(Capabilities::DENY)
        };
        self.is_root
            || self
                .rules
                .iter()
                .any(|(path, capabilities)| granted(capabilities) && reaches(path, mount_path))
    }

    fn by_pattern(&self, path: &str) -> Option<Capabilities> {
        self.rules
            .iter()
            .filter_map(|(rule, capabilities)| {
                let pattern = Pattern::of(rule)?;
                pattern
                    .matches(path)
                    .then(|| (pattern.rank(), *capabilities))
            })
            .max_by(|(one, _), (two, _)| one.cmp(two))
            .map(|(_, capabilities)| capabilities)
    }
}

/// A rule's path with `+` segments or a `*` at its end.
struct Pattern<'a> {
    text: &'a str,
    is_prefix: bool,
}

/// Of two patterns that match, the greater decides: the later first wildcard, then not being a prefix, then
/// fewer `+`, then the longer text, then the alphabet (Vault, "Policies", "Priority matching").
type Rank<'a> = (usize, bool, std::cmp::Reverse<usize>, usize, &'a str);

impl<'a> Pattern<'a> {
    /// `None` for a path without wildcards: that one matches exactly or not at all.
    fn of(path: &'a str) -> Option<Self> {
        let (text, is_prefix) = match path.strip_suffix('*') {
            Some(text) => (text, true),
            None => (path, false),
        };
        let has_plus = text.split('/').any(|segment| segment == "+");
        (is_prefix || has_plus).then_some(Self { text, is_prefix })
    }

    fn matches(&self, path: &str) -> bool {
        let wanted: Vec<&str> = self.text.split('/').collect();
        let given: Vec<&str> = path.split('/').collect();
        if given.len() < wanted.len() || (!self.is_prefix && given.len() != wanted.len()) {
            return false;
        }
        let last = wanted.len() - 1;
        wanted
            .iter()
            .zip(&given)
            .enumerate()
            .all(|(at, (wanted, given))| {
                *wanted == "+"
                    || wanted == given
                    || (self.is_prefix && at == last && given.starts_with(wanted))
            })
    }

    fn rank(&self) -> Rank<'a> {
        let first_wildcard = self.text.find('+').unwrap_or(self.text.len());
        let plusses = self
            .text
            .split('/')
            .filter(|segment| *segment == "+")
            .count();
        (
            first_wildcard,
            !self.is_prefix,
            std::cmp::Reverse(plusses),
            self.text.len(),
            self.text,
        )
    }
}

/// Could a path that `rule` is about lie under `mount_path`, or be it?
fn reaches(rule: &str, mount_path: &str) -> bool {
    let (text, is_prefix) = match rule.strip_suffix('*') {
        Some(text) => (text, true),
        None => (rule, false),
    };
    let mount: Vec<&str> = mount_path.trim_end_matches('/').split('/').collect();
    let segments: Vec<&str> = text.split('/').collect();
    let last = segments.len() - 1;
    for (at, wanted) in mount.iter().enumerate() {
        match segments.get(at) {
            None => return is_prefix,
            Some(&segment) if is_prefix && at == last => return wanted.starts_with(segment),
            Some(&segment) if segment == "+" || segment == *wanted => {}
            Some(_) => return false,
        }
    }
    segments.len() > mount.len() || text == mount_path.trim_end_matches('/')
}

/// Reads a policy in HCL or JSON.
///
/// # Errors
/// What is not understood. Constraints on parameters and wrapping, which this server does not enforce, are
/// refused rather than ignored.
pub(crate) fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let trimmed = text.trim_start();
    if trimmed.starts_with('{') {
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return from_json(&json);
    }
    hcl::parse(text)
}

fn from_json(json: &Value) -> Result<Vec<Rule>, String> {
    let Some(paths) = json.get("path").and_then(Value::as_object) else {
        return Err("a policy is an object with \"path\"".to_owned());
    };
    let rules = paths.iter().map(|(path, block)| {
        let Some(block) = block.as_object() else {
            return Err(format!("path {path:?}: an object is needed"));
        };
        let mut capabilities = Capabilities::default();
        for (key, value) in block {
            let listed = value
                .as_array()
                .map_or(std::slice::from_ref(value), Vec::as_slice);
            let names: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
            capabilities = capabilities.with(attribute(path, key, &names)?);
        }
        Ok(Rule {
            path: path.trim_start_matches('/').to_owned(),
            capabilities,
        })
    });
    rules.collect()
}

fn attribute(path: &str, key: &str, values: &[&str]) -> Result<Capabilities, String> {
    match key {
        "capabilities" => values
            .iter()
            .try_fold(Capabilities::default(), |all, name| {
                let one = Capabilities::named(name)
                    .ok_or_else(|| format!("path {path:?}: invalid capability {name:?}"))?;
                Ok(all.with(one))
            }),
        // As policies were written before there were capabilities.
        "policy" => {
            let name = values.first().copied().unwrap_or_default();
            let granted = OLD_POLICIES.iter().find(|(known, _)| *known == name);
            let (_, names) =
                granted.ok_or_else(|| format!("path {path:?}: invalid policy {name:?}"))?;
            let granted = names.iter().filter_map(|name| Capabilities::named(name));
            Ok(granted.fold(Capabilities::default(), Capabilities::with))
        }
        "comment" => Ok(Capabilities::default()),
        other => Err(format!(
            "path {path:?}: {other:?} is not enforced by the development Vault"
        )),
    }
}

const NAMES: &[(&str, Capabilities)] = &[
    ("create", Capabilities::CREATE),
    ("read", Capabilities::READ),
    ("update", Capabilities::UPDATE),
    ("delete", Capabilities::DELETE),
    ("list", Capabilities::LIST),
    ("sudo", Capabilities::SUDO),
    ("deny", Capabilities::DENY),
    ("patch", Capabilities::PATCH),
    ("scan", Capabilities::SCAN),
];

const OLD_POLICIES: [(&str, &[&str]); 4] = [
    ("deny", &["deny"]),
    ("read", &["read", "list"]),
    ("write", &["create", "read", "update", "delete", "list"]),
    (
        "sudo",
        &["create", "read", "update", "delete", "list", "sudo"],
    ),
];

/// The little HCL that policies are written in.
mod hcl {
    use super::{Capabilities, Rule, attribute};

    pub(super) fn parse(text: &str) -> Result<Vec<Rule>, String> {
        let tokens = tokens(text)?;
        let mut tokens = tokens.iter().peekable();
        let mut rules = Vec::new();
        while let Some(token) = tokens.next() {
            if !matches!(token, Token::Word(word) if word == "path") {
                return Err(format!("\"path\" is expected, not {token:?}"));
            }
            let Some(Token::Text(path)) = tokens.next() else {
                return Err("\"path\" is followed by a quoted path".to_owned());
            };
            expect(tokens.next(), '{')?;
            let mut capabilities = Capabilities::default();
            loop {
                match tokens.next() {
                    None => {
                        // A column behind the end, and one that counts from 1.
                        let (line, column) = end_of(text);
                        let column = column + 1;
                        return Err(format!(
                            "At {line}:{column}: object expected closing RBRACE got: EOF"
                        ));
                    }
                    Some(Token::Mark('}')) => break,
                    Some(Token::Word(key) | Token::Text(key)) => {
                        expect(tokens.next(), '=')?;
                        let values = values(&mut tokens)?;
                        capabilities = capabilities.with(attribute(path, key, &values)?);
                    }
                    other => return Err(format!("path {path:?}: {} is not expected", show(other))),
                }
            }
            rules.push(Rule {
                path: path.trim_start_matches('/').to_owned(),
                capabilities,
            });
        }
        Ok(rules)
    }

    /// The line and column behind the last letter, from 1.
    fn end_of(text: &str) -> (usize, usize) {
        let last = text.rsplit('\n').next().unwrap_or_default();
        (text.matches('\n').count() + 1, last.chars().count() + 1)
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Token {
        Word(String),
        Text(String),
        Mark(char),
    }

    fn values<'a>(tokens: &mut impl Iterator<Item = &'a Token>) -> Result<Vec<&'a str>, String> {
        match tokens.next() {
            Some(Token::Text(text) | Token::Word(text)) => Ok(vec![text]),
            Some(Token::Mark('[')) => {
                let mut values = Vec::new();
                for token in tokens {
                    match token {
                        Token::Mark(']') => return Ok(values),
                        Token::Mark(',') => {}
                        Token::Text(text) => values.push(text.as_str()),
                        Token::Word(_) | Token::Mark(_) => {
                            return Err(format!("{} is not expected in a list", show(Some(token))));
                        }
                    }
                }
                Err("a list has no end".to_owned())
            }
            other => Err(format!("a value is expected, not {}", show(other))),
        }
    }

    fn expect(token: Option<&Token>, mark: char) -> Result<(), String> {
        if token == Some(&Token::Mark(mark)) {
            return Ok(());
        }
        Err(format!("{mark:?} is expected, not {}", show(token)))
    }

    fn show(token: Option<&Token>) -> String {
        token.map_or_else(|| "the end".to_owned(), |token| format!("{token:?}"))
    }

    fn tokens(text: &str) -> Result<Vec<Token>, String> {
        let mut tokens = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '#' => skip_line(&mut letters),
                '/' if letters.peek() == Some(&'/') => skip_line(&mut letters),
                '/' if letters.next_if_eq(&'*').is_some() => skip_comment(&mut letters)?,
                '"' => tokens.push(Token::Text(quoted(&mut letters)?)),
                '{' | '}' | '[' | ']' | '=' | ',' => tokens.push(Token::Mark(letter)),
                _ if letter.is_whitespace() => {}
                _ if is_word(letter) => {
                    let mut word = String::from(letter);
                    while let Some(letter) = letters.next_if(|letter| is_word(*letter)) {
                        word.push(letter);
                    }
                    tokens.push(Token::Word(word));
                }
                _ => return Err(format!("{letter:?} is not expected")),
            }
        }
        Ok(tokens)
    }

    fn is_word(letter: char) -> bool {
        letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.')
    }

    fn skip_line(letters: &mut impl Iterator<Item = char>) {
        for letter in letters {
            if letter == '\n' {
                break;
            }
        }
    }

    fn skip_comment(letters: &mut impl Iterator<Item = char>) -> Result<(), String> {
        let mut star = false;
        for letter in letters {
            if star && letter == '/' {
                return Ok(());
            }
            star = letter == '*';
        }
        Err("a comment has no end".to_owned())
    }

    fn quoted(letters: &mut impl Iterator<Item = char>) -> Result<String, String> {
        let mut text = String::new();
        while let Some(letter) = letters.next() {
            match letter {
                '"' => return Ok(text),
                '\\' => text.extend(letters.next()),
                '\n' => break,
                other => text.push(other),
            }
        }
        Err("a quoted text has no end".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(text: &str) -> Acl {
        let mut acl = Acl::default();
        acl.add("", &parse(text).unwrap());
        acl
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let acl = acl(r#"
            # comment
            path "secret/*" { capabilities = ["read"] }
            path "secret/data/+/x" { capabilities = ["update"] }   // plus
            path "secret/data/a/*" { capabilities = ["delete"] }
            path "secret/data/a/y" { capabilities = ["list"] }
            path "secret/data/no/*" { capabilities = ["deny"] }
            path "exact" { capabilities = ["create", "read",] }
        "#);
        for (path, expected) in [
            ("secret/other", &["read"][..]),
            ("secret/data/b/x", &["update"]),
            ("secret/data/a/x", &["delete"]),
            ("secret/data/a/y", &["list"]),
            ("secret/data/no/x", &["deny"]),
            ("exact", &["create", "read"]),
            ("exact/more", &["deny"]),
            ("secret", &["deny"]),
        ] {
            assert_eq!(acl.capabilities(path, false).names(), expected, "{path}");
        }
    }

    #[test]
    fn listing_tries_the_path_without_its_slash() {
        let acl = acl(r#"path "kv/app" { capabilities = ["list"] }"#);
        assert!(acl.capabilities("kv/app/", true).has(Capabilities::LIST));
        assert!(!acl.capabilities("kv/app/", false).has(Capabilities::LIST));
    }

    #[test]
    fn of_one_path_in_two_policies_the_union_counts_and_a_deny_wins() {
        let mut acl = acl(r#"path "a" { capabilities = ["read"] }"#);
        acl.add(
            "",
            &parse(r#"{"path": {"a": {"capabilities": ["list"]}}}"#).unwrap(),
        );
        assert_eq!(acl.capabilities("a", false).names(), ["list", "read"]);
        acl.add(
            "",
            &parse(r#"path "a" { capabilities = ["deny"] }"#).unwrap(),
        );
        assert_eq!(acl.capabilities("a", false).names(), ["deny"]);
    }

    #[test]
    fn a_namespaces_rules_hold_below_it_alone() {
        let mut acl = Acl::default();
        acl.add(
            "team/",
            &parse(r#"path "kv/*" { capabilities = ["read"] }"#).unwrap(),
        );
        assert!(acl.capabilities("team/kv/a", false).has(Capabilities::READ));
        assert!(acl.capabilities("kv/a", false).is_empty());
    }

    #[test]
    fn a_mount_shows_when_a_rule_reaches_it() {
        let acl = acl(r#"
            path "secret/data/+/x" { capabilities = ["read"] }
            path "kv/*" { capabilities = ["deny"] }
            path "d*" { capabilities = ["read"] }
        "#);
        assert!(acl.touches_mount("secret/") && acl.touches_mount("database/"));
        assert!(!acl.touches_mount("kv/") && !acl.touches_mount("secretive/"));
    }

    #[test]
    fn what_is_not_enforced_is_refused() {
        for text in [
            "path {",
            r#"path "a" { capabilities = ["fly"] }"#,
            r#"path "a" { allowed_parameters = ["x"] }"#,
            r#"path "a" { capabilities = ["read" }"#,
            r#"path "a { }"#,
            r#"{"path": 1}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
