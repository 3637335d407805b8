//! What is quoted of a configuration, without its secrets: a credential file may be given in place of a
//! configuration, and a secret typed into one.

/// Covers what looks like a token, a role id or a secret id, the user in an address, and the value of a key that
/// is named like a secret, byte for byte, so that the caret stays where it is.
pub(super) fn mask(line: &str) -> String {
    mask_words(&mask_values(line, true))
}

/// The same in a sentence, where what comes behind a colon is a value only if it has quotes.
pub(super) fn mask_message(message: &str) -> String {
    mask_words(&mask_values(message, false))
}

fn mask_words(line: &str) -> String {
    let line = mask_users(line);
    let mut masked = String::with_capacity(line.len());
    let mut word = String::new();
    for c in line.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            word.push(c);
        } else {
            push_word(&mut masked, &word);
            word.clear();
            masked.push(c);
        }
    }
    push_word(&mut masked, &word);
    masked
}

/// `https://user:password@host`
fn mask_users(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut parts = line.split_inclusive("://");
    masked.extend(parts.next());
    for part in parts {
        let end = part.find(['/', '"', '\'', ' ', '\t']).unwrap_or(part.len());
        match part.split_at_checked(end) {
            Some((authority, rest)) => match authority.rsplit_once('@') {
                Some((user, host)) => {
                    masked.extend(std::iter::repeat_n('*', user.len()));
                    masked.extend(["@", host, rest]);
                }
                None => masked.push_str(part),
            },
            None => masked.push_str(part),
        }
    }
    masked
}

fn push_word(line: &mut String, word: &str) {
    if is_credential(word) {
        line.extend(std::iter::repeat_n('*', word.len()));
    } else {
        line.push_str(word);
    }
}

fn is_credential(word: &str) -> bool {
    let token = ["hvs.", "hvb.", "hvr.", "s.", "b.", "r."]
        .iter()
        .any(|prefix| {
            word.strip_prefix(prefix)
                .is_some_and(|rest| rest.len() >= 20 && !rest.contains('.'))
        });
    let groups: Vec<usize> = word.split('-').map(str::len).collect();
    let uuid =
        groups == [8, 4, 4, 4, 12] && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    token || uuid
}

/// `secret_id = "..."`, `"token": "..."`, whether or not the value's quotes are closed, or there at all.
fn mask_values(line: &str, bare: bool) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(is_of_a_key) {
        let (before, from_key) = rest.split_at(at);
        let end = from_key.find(|c| !is_of_a_key(c)).unwrap_or(from_key.len());
        let (key, after) = from_key.split_at(end);
        masked.extend([before, key]);
        rest = after;
        if !is_named_like_a_secret(key) {
            continue;
        }
        let Some(start) = start_of_value(after) else {
            continue;
        };
        let (sign, value) = after.split_at(start);
        let (quote, secret, behind) = split_value(value);
        let is_bare = quote.is_empty();
        let harmless = ["true", "false", "force"].contains(&secret) || (is_bare && !bare);
        let covered = if harmless {
            secret.to_owned()
        } else {
            "*".repeat(secret.len())
        };
        masked.extend([sign, quote, &covered]);
        rest = behind;
    }
    masked.push_str(rest);
    masked
}

fn is_of_a_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn is_named_like_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let about = ["_path", "_file", "_var", "_ttl", "_create"];
    let whether = ["use_", "allow_", "remove_"];
    SECRET_NAMES.iter().any(|name| key.contains(name))
        && !about.iter().any(|ending| key.ends_with(ending))
        && !whether.iter().any(|beginning| key.starts_with(beginning))
}

/// Behind a key: its closing quote, an equals sign or a colon, and blanks.
fn start_of_value(text: &str) -> Option<usize> {
    let blanks = |text: &str| text.len() - text.trim_start().len();
    let quote = text.len() - text.strip_prefix(['"', '\'']).unwrap_or(text).len();
    let sign = quote + blanks(text.get(quote..)?);
    let rest = text.get(sign..)?.strip_prefix(['=', ':'])?;
    let at = text.len() - rest.len() + blanks(rest);
    // A block, a list and a heredoc have their values elsewhere.
    (!text.get(at..)?.starts_with(['{', '[', '<', '/'])).then_some(at)
}

/// A value's opening quote, what it says, and what comes behind.
fn split_value(value: &str) -> (&str, &str, &str) {
    let quoted = value.strip_prefix(['"', '\'']);
    let (text, is_quoted) = (quoted.unwrap_or(value), quoted.is_some());
    let (opening, _) = value.split_at(value.len() - text.len());
    let mut is_escaped = false;
    let end = text.find(|c: char| {
        let ends = !is_escaped
            && if is_quoted {
                matches!(c, '"' | '\'')
            } else {
                c.is_whitespace() || matches!(c, ',' | '}' | ']')
            };
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    let (secret, behind) = text.split_at(end.unwrap_or(text.len()));
    (opening, secret, behind)
}

const SECRET_NAMES: [&str; 9] = [
    "secret",
    "token",
    "password",
    "passphrase",
    "credential",
    "access_key",
    "private_key",
    "jwt",
    "aad",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_are_covered_by_their_look() {
        for secret in [
            "hvs.CAESIJ1234567890abcdefghij",
            "s.1234567890abcdefghijklmn",
            "db02de05-fa39-4855-059b-67221c5c2f63",
        ] {
            let text = format!("id = \"{secret}\"");
            assert_eq!(
                mask(&text),
                format!("id = \"{}\"", "*".repeat(secret.len()))
            );
        }
        let shown = mask("address = \"https://me:hunter2@vault/x\"");
        assert_eq!(shown, "address = \"https://**********@vault/x\"");
    }

    #[test]
    fn values_are_covered_by_their_keys() {
        for (line, shown) in [
            (
                r#"secret_id = "canary" x = "y""#,
                r#"secret_id = "******" x = "y""#,
            ),
            (r#"  token="can\"ary","#, r#"  token="********","#),
            (
                r#"{"password": "canary", "a": 1}"#,
                r#"{"password": "******", "a": 1}"#,
            ),
            (r#"secret_id = "canary"#, r#"secret_id = "******"#),
            ("token = canary }", "token = ****** }"),
            ("SECRET_KEY: 'canary'", "SECRET_KEY: '******'"),
            ("access_key = \"é\"", "access_key = \"**\""),
        ] {
            assert_eq!(mask(line), shown);
        }
        for harmless in [
            r#"secret_id_file_path = "/etc/secret-id""#,
            r#"use_auto_auth_token = "force""#,
            "token_create = false",
            r#"token_file_path = "/run/token" mode = "0640""#,
            r#"api_proxy { use_auto_auth_token = true }"#,
            "secret {",
            r#"path "secret/data/x" { mode = "bypass" }"#,
            r#"address = "https://vault.shared.internal-1.example.io""#,
        ] {
            assert_eq!(mask(harmless), harmless);
        }
    }

    #[test]
    fn a_sentence_is_not_a_value() {
        let sentence = "cannot use a wrapped token: remove wrap_ttl";
        assert_eq!(mask_message(sentence), sentence);
        assert_eq!(
            mask_message(r#"token: "canary" is"#),
            r#"token: "******" is"#
        );
    }

    proptest! {
        #[test]
        fn the_caret_stays_where_it_is(line in "[ -~é]{0,60}|token *[=:] *[\"' -~]{0,20}") {
            prop_assert_eq!(mask(&line).len(), line.len());
        }
    }
}
