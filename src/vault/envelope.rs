//! Reading Vault's JSON answers leniently: what is understood is used, what is not is left alone.
//!
//! Nothing is ever re-serialised. Where a hit must say another number than the stored answer, the bytes
//! of that number are replaced, so the envelope also knows where they are.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The parts of an answer that matter to caching. Borrowed from the body.
pub struct Envelope<'a> {
    /// Empty where there is none.
    pub lease_id: Cow<'a, str>,
    pub lease_duration: Option<Seconds>,
    pub renewable: bool,
    pub auth: Option<Auth<'a>>,
    pub is_wrapped: bool,
    /// Sent by newer servers: `kv`, `database`, ...
    pub mount_type: Option<Cow<'a, str>>,
    data: Option<&'a RawValue>,
}

/// What a login or a token creation brought.
pub struct Auth<'a> {
    pub client_token: Cow<'a, str>,
    pub accessor: Cow<'a, str>,
    pub lease_duration: Option<Seconds>,
    pub renewable: bool,
    pub orphan: bool,
    /// The token dies after a number of uses: each is its owner's to spend.
    pub is_counted: bool,
}

/// A caller's token as `auth/token/lookup-self` shows it.
pub struct LookedUp {
    pub accessor: String,
    /// Zero: it never ends.
    pub left: Duration,
    /// See [`Auth::is_counted`].
    pub is_counted: bool,
}

/// A whole number of seconds and where it stands in the body. What is longer than any life that is believed
/// is read as that, since the number is input and clocks overflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seconds {
    pub value: Duration,
    pub place: Range<usize>,
}

impl<'a> Envelope<'a> {
    /// `None`: not a JSON object, or one whose lease fields are of kinds that Vault does not send. Such
    /// an answer is passed on as it is and never stored.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let raw: RawEnvelope<'a> = serde_json::from_slice(body).ok()?;
        Some(Self {
            lease_id: text(raw.lease_id)?,
            lease_duration: seconds(raw.lease_duration, body)?,
            renewable: flag(raw.renewable)?,
            auth: match present(raw.auth) {
                None => None,
                Some(auth) => Some(Auth::read(auth, body)?),
            },
            is_wrapped: present(raw.wrap_info).is_some(),
            mount_type: Some(text(raw.mount_type)?).filter(|kind| !kind.is_empty()),
            data: present(raw.data),
        })
    }

    pub fn has_data(&self) -> bool {
        self.data.is_some()
    }

    /// The time until a database static credential is rotated (`data.ttl`, beside `rotation_period` or
    /// `last_vault_rotation`; Vault API, database secrets engine, "Get static credentials").
    pub fn rotation(&self, body: &[u8]) -> Option<Seconds> {
        #[derive(Deserialize)]
        struct StaticCredential<'a> {
            #[serde(borrow)]
            ttl: Option<&'a RawValue>,
            #[serde(borrow)]
            rotation_period: Option<&'a RawValue>,
            #[serde(borrow)]
            rotation_schedule: Option<&'a RawValue>,
            #[serde(borrow)]
            last_vault_rotation: Option<&'a RawValue>,
        }
        let data: StaticCredential<'_> = serde_json::from_str(self.data?.get()).ok()?;
        let rotates = data
            .rotation_period
            .or(data.rotation_schedule)
            .or(data.last_vault_rotation);
        rotates?;
        seconds(Some(data.ttl?), body)?
    }

    /// Is `data` a version of a KV v2 secret: `data` and `metadata` with its version and time of creation?
    pub fn is_kv2_version(&self) -> bool {
        #[derive(Deserialize)]
        struct Version<'a> {
            #[serde(borrow, rename = "data")]
            _data: &'a RawValue,
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        struct Metadata {
            version: u64,
            created_time: String,
        }
        self.data.is_some_and(|data| {
            serde_json::from_str::<Version<'_>>(data.get()).is_ok_and(|version| {
                version.metadata.version > 0 && !version.metadata.created_time.is_empty()
            })
        })
    }

    /// What `auth/token/lookup-self` says of its caller.
    pub fn looked_up(&self) -> Option<LookedUp> {
        #[derive(Deserialize)]
        struct Token {
            accessor: String,
            ttl: u64,
            #[serde(default)]
            num_uses: u64,
        }
        let token: Token = serde_json::from_str(self.data?.get()).ok()?;
        Some(LookedUp {
            accessor: token.accessor,
            left: Duration::from_secs(token.ttl).min(LONGEST),
            is_counted: token.num_uses > 0,
        })
    }

    /// `data.type` and `data.path` of an answer of `sys/internal/ui/mounts/<path>`.
    pub fn mount(&self) -> Option<(String, String)> {
        #[derive(Deserialize)]
        struct Mount {
            path: String,
            r#type: String,
        }
        let mount: Mount = serde_json::from_str(self.data?.get()).ok()?;
        Some((mount.path, mount.r#type))
    }
}

impl<'a> Auth<'a> {
    fn read(raw: &'a RawValue, body: &[u8]) -> Option<Self> {
        let raw: RawAuth<'a> = serde_json::from_str(raw.get()).ok()?;
        Some(Self {
            client_token: text(raw.client_token)?,
            accessor: text(raw.accessor)?,
            lease_duration: seconds(raw.lease_duration, body)?,
            renewable: flag(raw.renewable)?,
            orphan: flag(raw.orphan)?,
            is_counted: present(raw.num_uses).is_some_and(|uses| uses.get() != "0"),
        })
    }
}

/// One string field of a request's JSON body, such as `lease_id` of a revocation.
pub fn field_of_body(body: &[u8], name: &str) -> Option<String> {
    let fields: std::collections::HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(body).ok()?;
    serde_json::from_str(fields.get(name)?.get()).ok()
}

#[derive(Deserialize)]
struct RawEnvelope<'a> {
    #[serde(borrow)]
    lease_id: Option<&'a RawValue>,
    #[serde(borrow)]
    lease_duration: Option<&'a RawValue>,
    #[serde(borrow)]
    renewable: Option<&'a RawValue>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    wrap_info: Option<&'a RawValue>,
    #[serde(borrow)]
    mount_type: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawAuth<'a> {
    #[serde(borrow)]
    client_token: Option<&'a RawValue>,
    #[serde(borrow)]
    accessor: Option<&'a RawValue>,
    #[serde(borrow)]
    lease_duration: Option<&'a RawValue>,
    #[serde(borrow)]
    renewable: Option<&'a RawValue>,
    #[serde(borrow)]
    orphan: Option<&'a RawValue>,
    #[serde(borrow)]
    num_uses: Option<&'a RawValue>,
}

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

/// The outer `None` says "of a kind not understood".
fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    match present(raw) {
        None => Some(Cow::Borrowed("")),
        Some(raw) => serde_json::from_str::<String>(raw.get())
            .ok()
            .map(Cow::Owned),
    }
}

fn flag(raw: Option<&RawValue>) -> Option<bool> {
    match present(raw).map(RawValue::get) {
        None | Some("false") => Some(false),
        Some("true") => Some(true),
        Some(_) => None,
    }
}

#[expect(
    clippy::option_option,
    reason = "absent and not understood are two things"
)]
fn seconds(raw: Option<&RawValue>, body: &[u8]) -> Option<Option<Seconds>> {
    let Some(raw) = present(raw) else {
        return Some(None);
    };
    let digits = raw.get();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = Duration::from_secs(digits.parse().ok()?).min(LONGEST);
    // The raw value is a slice of the body, so its place is the distance of the two.
    let start = digits.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let place = start..start + digits.len();
    (body.get(place.clone())? == digits.as_bytes()).then_some(Some(Seconds { value, place }))
}

/// Ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("renewable", &self.renewable)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LookedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookedUp").finish_non_exhaustive()
    }
}

impl fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("renewable", &self.renewable)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_lease_and_where_its_number_is() {
        let body = br#"{"request_id":"r","lease_id":"database/creds/app/x","renewable":true,
            "lease_duration": 3600 ,"data":{"lease_duration":7},"auth":null,"mount_type":"database"}"#;
        let envelope = Envelope::read(body).unwrap();
        assert_eq!(envelope.lease_id, "database/creds/app/x");
        let seconds = envelope.lease_duration.unwrap();
        assert_eq!(seconds.value.as_secs(), 3600);
        assert_eq!(&body[seconds.place], b"3600");
        assert_eq!(envelope.mount_type.as_deref(), Some("database"));
        assert!(envelope.auth.is_none() && !envelope.is_wrapped);
    }

    #[test]
    fn reads_a_login() {
        let body = br#"{"auth":{"client_token":"hvs.x","accessor":"a","lease_duration":60,"renewable":true,"orphan":true}}"#;
        let auth = Envelope::read(body).unwrap().auth.unwrap();
        assert_eq!(auth.client_token, "hvs.x");
        assert_eq!(&body[auth.lease_duration.unwrap().place], b"60");
        assert!(auth.orphan);
    }

    #[test]
    fn what_vault_does_not_send_is_not_understood() {
        for body in [
            "[1,2]",
            "\"text\"",
            "",
            "{",
            r#"{"lease_duration":1.5}"#,
            r#"{"lease_duration":"60"}"#,
            r#"{"lease_duration":-1}"#,
            r#"{"lease_duration":99999999999999999999999}"#,
            r#"{"renewable":"yes"}"#,
            r#"{"lease_id":7}"#,
            r#"{"auth":"x"}"#,
            r#"{"lease_id":"a","lease_id":"b"}"#,
        ] {
            assert!(Envelope::read(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn a_secret_may_have_fields_of_those_names() {
        let body =
            br#"{"data":{"renewable":"maybe","lease_duration":1.5,"ttl":"1h"},"warnings":"text"}"#;
        let envelope = Envelope::read(body).unwrap();
        assert!(!envelope.renewable && envelope.has_data());
        assert!(envelope.rotation(body).is_none());
    }

    #[test]
    fn a_static_credential_says_when_it_rotates() {
        let body = br#"{"data":{"username":"u","ttl":42,"rotation_period":60}}"#;
        let rotation = Envelope::read(body).unwrap().rotation(body).unwrap();
        assert_eq!(
            (rotation.value.as_secs(), &body[rotation.place]),
            (42, &b"42"[..])
        );
        let kv = br#"{"data":{"ttl":42}}"#;
        assert!(Envelope::read(kv).unwrap().rotation(kv).is_none());
    }

    #[test]
    fn a_number_that_overflows_clocks_is_clamped() {
        let body = br#"{"lease_duration":18446744073709551615}"#;
        let seconds = Envelope::read(body).unwrap().lease_duration.unwrap();
        assert_eq!(seconds.value, LONGEST);
        assert_eq!(&body[seconds.place], b"18446744073709551615");
    }

    #[test]
    fn finds_a_field_of_a_request_body() {
        assert_eq!(
            field_of_body(br#"{"lease_id":"a\/b"}"#, "lease_id").as_deref(),
            Some("a/b")
        );
        assert_eq!(field_of_body(br#"{"lease_id":7}"#, "lease_id"), None);
        assert_eq!(field_of_body(b"lease_id=7", "lease_id"), None);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = Envelope::read(&body).map(|envelope| envelope.renewable);
        }

        #[test]
        fn a_number_is_found_wherever_it_stands(value in 0u32.., pad in "[ \n\t]{0,5}") {
            let body = format!("{{{pad}\"data\":{{\"x\":{value}}},{pad}\"lease_duration\":{pad}{value}{pad}}}");
            let envelope = Envelope::read(body.as_bytes()).unwrap();
            let seconds = envelope.lease_duration.unwrap();
            prop_assert_eq!(seconds.value, Duration::from_secs(value.into()).min(LONGEST));
            let text = value.to_string();
            prop_assert_eq!(body.get(seconds.place.clone()), Some(text.as_str()));
            prop_assert!(seconds.place.start > body.rfind("lease_duration").unwrap());
        }
    }
}
