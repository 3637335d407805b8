//! Random identifiers of the kinds that Vault makes, from the TLS provider's generator.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::OnceLock;

use rustls::crypto::SecureRandom;

/// What Vault's tokens, accessors and lease ids are made of.
pub(super) const ID_LENGTH: usize = 24;

pub(super) fn base62(length: usize) -> String {
    text(length, BASE62)
}

/// A password as Vault's default policy makes them: letters, digits and a dash.
pub(super) fn password() -> String {
    let mut password = text(17, BASE62);
    password.push('-');
    password.push_str(&text(2, BASE62));
    password
}

/// Vault fills all 128 bits of its UUIDs, version and variant included.
pub(super) fn uuid() -> String {
    let digits = hex(16);
    let mut uuid = String::with_capacity(36);
    for (at, digit) in digits.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            uuid.push('-');
        }
        uuid.push(digit);
    }
    uuid
}

pub(super) fn hex(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes * 2);
    for byte in self::bytes(bytes) {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
    text
}

pub(super) fn bytes(length: usize) -> Vec<u8> {
    static SOURCE: OnceLock<&'static dyn SecureRandom> = OnceLock::new();
    let source = SOURCE.get_or_init(|| rustls::crypto::ring::default_provider().secure_random);
    let mut bytes = vec![0; length];
    if source.fill(&mut bytes).is_err() {
        // The standard library's hasher keys are seeded by the system too: unguessable all the same.
        for byte in &mut bytes {
            *byte = RandomState::new().hash_one(()).to_le_bytes()[0];
        }
    }
    bytes
}

fn text(length: usize, alphabet: &[u8]) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        for byte in bytes(length * 2) {
            // Bytes past the last whole alphabet would favour its first letters.
            let bound = 256 - 256 % alphabet.len();
            if usize::from(byte) < bound
                && let Some(letter) = alphabet.get(usize::from(byte) % alphabet.len())
                && text.len() < length
            {
                text.push(char::from(*letter));
            }
        }
    }
    text
}

const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_vaults_shapes_and_differ() {
        let (one, two) = (base62(ID_LENGTH), base62(ID_LENGTH));
        assert!(one.len() == 24 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, two);
        let uuid = uuid();
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(password().len(), 20);
        assert_eq!(hex(32).len(), 64);
    }
}
