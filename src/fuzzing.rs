//! What the fuzz targets in `fuzz/` run: each takes any bytes, and panics where a promise about them is
//! broken. The tests below run them on their seeds, so that they do not rot between runs.

#![expect(clippy::expect_used, reason = "a broken promise is a panic here")]

use bytes::Bytes;

use crate::hcl;
use crate::vault::envelope::{Envelope, field_of_body};
use crate::vault::path::{ApiPath, canonical_namespace, is_plain_read};

pub use crate::cache::fuzz_key as key;
pub use crate::proxy::fuzz_headers as headers;
pub use crate::server::fuzz_heads as heads;

/// What reads can be printed, and reads back as the same.
pub fn hcl(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let read = match hcl::parse(text) {
        Ok(read) => read,
        Err(error) => {
            let _place = hcl::position(text, error.span.start);
            return;
        }
    };
    let printed = hcl::print(&read);
    let again = hcl::parse(&printed);
    assert!(
        again.is_ok_and(|again| again.same_value(&read)),
        "printed as {printed:?}"
    );
}

/// Places of numbers are places of those numbers.
pub fn envelope(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let _field = field_of_body(&body, "token");
    let Some(envelope) = Envelope::read(&body) else {
        return;
    };
    let _looked_up = (envelope.looked_up(), envelope.mount());
    let _data = (envelope.is_kv2_version(), envelope.deletes_itself());
    let of_auth = envelope
        .auth
        .as_ref()
        .and_then(|auth| auth.lease_duration.as_ref());
    let rotation = envelope.rotation(&body);
    let all = [envelope.lease_duration.as_ref(), of_auth, rotation.as_ref()];
    for seconds in all.into_iter().flatten() {
        let digits = body
            .get(seconds.place.clone())
            .expect("a place in the body");
        assert!(!digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
        // It can be replaced, and what comes of it is JSON that says the new number.
        let mut spliced = data.to_vec();
        spliced.splice(seconds.place.clone(), *b"7");
        assert!(Envelope::read(&spliced).is_some());
    }
}

/// The namespace in the header and in the path are one, and a canonical path is its own canonical form.
pub fn path(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (path, namespace) = match text.split_once('\n') {
        Some((path, namespace)) => (path, Some(namespace)),
        None => (text, None),
    };
    let _plain = (is_plain_read(path), canonical_namespace(namespace));
    let Some(parsed) = ApiPath::parse(path, namespace) else {
        return;
    };
    let _all = (
        parsed.touched_by_write(),
        parsed.looks_like_kv2(),
        parsed.shown(),
    );
    let canonical = parsed.canonical();
    assert!(!canonical.starts_with('/') && !canonical.ends_with('/') && !canonical.contains("//"));
    // What is decoded once must not be decoded again, so only what has no escapes goes round.
    if !canonical.contains('%') {
        let again = ApiPath::parse(&format!("/v1/{canonical}"), None).expect("a path");
        assert_eq!(again.canonical(), canonical);
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    type Target = fn(&[u8]);

    #[test]
    fn every_target_holds_on_its_seeds() {
        let targets: [(&str, Target, &[&str]); 6] = [
            (
                "hcl",
                hcl,
                &["tests/fixtures/hcl1", "tests/fixtures/config/good"],
            ),
            ("envelope", envelope, &[]),
            ("path", path, &[]),
            ("key", key, &[]),
            ("headers", headers, &[]),
            ("heads", heads, &["tests/corpus/framing"]),
        ];
        for (name, target, shared) in targets {
            let own = [format!("fuzz/seeds/{name}")];
            let own = if shared.is_empty() { &own[..] } else { &[] };
            let mut run = 0;
            for folder in shared.iter().copied().chain(own.iter().map(String::as_str)) {
                for file in files(folder) {
                    target(&std::fs::read(file).unwrap());
                    run += 1;
                }
            }
            assert!(run > 0, "{name} has no seeds");
        }
    }

    fn files(folder: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("no {folder:?}"));
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_file()).collect()
    }
}
