//! Which texts differ from run to run, and what stays the same of them.

/// What two runs of one call must have in common: random parts as `~` or by kind, everything else as it is.
pub(super) fn masked(field: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    if field == "username" && text.len() > 20 {
        return "made username".to_owned();
    }
    if field == "id" && text.len() == 6 {
        return "namespace".to_owned();
    }
    if field == "warnings"
        && let Some((before, after)) = text.split_once("max_ttl of \"")
        && let Some((_, after)) = after.split_once('"')
    {
        // What is left of it, to the second.
        return format!("{before}max_ttl of \"~\"{after}");
    }
    if RANDOM_FIELDS.contains(&field) {
        return "random".to_owned();
    }
    if let Some(rest) = text.strip_prefix("vault:v") {
        let version: String = rest.chars().take_while(char::is_ascii_digit).collect();
        return format!("vault:v{version}:~");
    }
    if let Some((path, id)) = text.rsplit_once('/')
        && is_random(id)
    {
        return format!("{path}/~");
    }
    if is_uuid(text) {
        return "uuid".to_owned();
    }
    if is_time(text) {
        return "time".to_owned();
    }
    if ["hvs.", "hvb.", "s.", "b."].iter().any(|begin| {
        text.strip_prefix(begin)
            .is_some_and(|rest| rest.len() >= 20)
    }) {
        return "token".to_owned();
    }
    if is_random(text) {
        return "accessor".to_owned();
    }
    match text.rsplit_once('_') {
        Some((kind, id)) if id.len() == 8 && id.chars().all(|c| c.is_ascii_hexdigit()) => {
            format!("{kind}_~")
        }
        _ => text.to_owned(),
    }
}

/// May these two numbers of two runs differ as they do? Seconds that are left fall while a run goes on, and moments
/// (seconds since 1970) are later ones.
pub(super) fn may_differ(field: &str, one: u64, other: u64) -> bool {
    let apart = one.abs_diff(other);
    REMAINING.contains(&field) && apart <= 30 || one.min(other) > YEAR_2020 && apart <= 60
}

/// Texts that say what a thing is, not which: a recording keeps them.
pub(super) fn is_telling(field: &str) -> bool {
    TELLING.contains(&field)
}

/// As the server makes accessors, and the ends of lease ids; in a namespace its id is added.
fn is_random(text: &str) -> bool {
    let own = match text.split_once('.') {
        Some((own, namespace)) if namespace.len() <= 6 => own,
        Some(_) => return false,
        None => text,
    };
    let alphanumeric = own.chars().all(|c| c.is_ascii_alphanumeric());
    own.len() == 24 && alphanumeric && !own.chars().all(|c| c.is_ascii_lowercase())
        || own.len() == 65 && own.starts_with('h') && alphanumeric
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// `2026-11-24T21:35:00.740Z`, with any or no fraction, or an offset.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20
        && bytes[4] == b'-'
        && bytes[10] == b'T'
        && bytes[13] == b':'
        && bytes[..4].iter().all(u8::is_ascii_digit)
}

const RANDOM_FIELDS: [&str; 2] = ["cluster_name", "password"];
const REMAINING: [&str; 3] = ["lease_duration", "ttl", "creation_ttl"];
const YEAR_2020: u64 = 1_577_836_800;
const TELLING: [&str; 13] = [
    "accessor",
    "capabilities",
    "creation_path",
    "display_name",
    "errors",
    "keys",
    "lease_id",
    "path",
    "policies",
    "token_policies",
    "token_type",
    "type",
    "warnings",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_random_is_told_apart_from_what_is_said() {
        let table = [
            ("request_id", "823963b5-b865-cd07-344f-7dca1c3b6cb6", "uuid"),
            ("lease_id", "lk/a/BPfEw7exucwott9MaSe3psfs", "lk/a/~"),
            ("lease_id", "lk/a/BPfEw7exucwott9MaSe3psfs.Ab3de", "lk/a/~"),
            ("accessor", "Bv6O2HDMVtN8jTSKg3yQqXyt", "accessor"),
            ("accessor", "kv_a862a546", "kv_~"),
            ("id", "hvs.CAESIJ0123456789abcdef", "token"),
            ("created_time", "2026-11-24T21:35:00.740Z", "time"),
            ("ciphertext", "vault:v12:abc", "vault:v12:~"),
            (
                "ciphertext",
                "vault:v1:a/HXnbuVfafb6F9UlixWGsjF9A",
                "vault:v1:~",
            ),
            ("errors", "permission denied", "permission denied"),
            ("display_name", "caller", "caller"),
            ("deletion_time", "", ""),
        ];
        for (field, text, expected) in table {
            assert_eq!(masked(field, text), expected, "{field}: {text}");
        }
    }
}
