//! The few facts of a certificate that an operator asks for: from when to when it holds, which one it is,
//! and who issued it. What it proves is rustls' business.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Of an X.509 certificate (RFC 5280, section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// In hexadecimal, as `openssl x509 -serial` shows it.
    pub(super) serial: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    issuer: Vec<u8>,
    subject: Vec<u8>,
}

impl Facts {
    /// `None`: not a certificate.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let certificate = Element::first(der)?.within(SEQUENCE)?;
        let mut fields = Element::first(certificate)?.within(SEQUENCE)?;
        let mut next = || {
            let element = Element::first(fields)?;
            fields = element.rest;
            Some(element)
        };
        let mut serial = next()?;
        if serial.tag == VERSION {
            serial = next()?;
        }
        let _signature_algorithm = next()?;
        let issuer = next()?;
        let validity = next()?.within(SEQUENCE)?;
        let subject = next()?;
        let not_before = Element::first(validity)?;
        let not_after = Element::first(not_before.rest)?;
        Some(Self {
            serial: hex(serial.within(INTEGER)?),
            not_before: not_before.time()?,
            not_after: not_after.time()?,
            issuer: issuer.content.to_vec(),
            subject: subject.content.to_vec(),
        })
    }

    /// Can `other`'s key have signed this one?
    pub(super) fn is_issued_by(&self, other: &Self) -> bool {
        self.issuer == other.subject
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    pub(super) fn is_early(&self, now: Timestamp) -> bool {
        now < self.not_before
    }
}

/// One element of DER: its tag, what is in it, and what follows.
#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn first(der: &'a [u8]) -> Option<Self> {
        let (tag, der) = der.split_first()?;
        let (first, der) = der.split_first()?;
        let (length, der) = match *first {
            short @ 0..=0x7f => (usize::from(short), der),
            // More than four bytes of length no certificate needs.
            long @ 0x81..=0x84 => {
                let (digits, der) = der.split_at_checked(usize::from(long & 0x7f))?;
                let fold = |length: usize, digit: &u8| length << 8 | usize::from(*digit);
                (digits.iter().fold(0, fold), der)
            }
            _ => return None,
        };
        let (content, rest) = der.split_at_checked(length)?;
        Some(Self {
            tag: *tag,
            content,
            rest,
        })
    }

    fn within(self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }

    /// `YYMMDDhhmmssZ` up to 2049, `YYYYMMDDhhmmssZ` from then on.
    fn time(self) -> Option<Timestamp> {
        let text = std::str::from_utf8(self.content).ok()?.strip_suffix('Z')?;
        let text = match self.tag {
            UTC_TIME if text.len() == 12 => {
                let century = if text.starts_with(|c| c < '5') {
                    20
                } else {
                    19
                };
                format!("{century}{text}")
            }
            GENERALIZED_TIME if text.len() == 14 => text.to_owned(),
            _ => return None,
        };
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
        let year = text.get(..4)?.parse().ok()?;
        let (month, day) = (number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
        let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        // The last second of the year 9999 stands for "never", and is later than a timestamp can be.
        let time = time.to_zoned(TimeZone::UTC);
        Some(time.map_or(Timestamp::MAX, |time| time.timestamp()))
    }
}

fn hex(number: &[u8]) -> String {
    let digits = match number {
        [0, digits @ ..] if !digits.is_empty() => digits,
        digits => digits,
    };
    digits.iter().map(|byte| format!("{byte:02X}")).collect()
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SerialNumber, date_time_ymd};

    use super::*;

    fn certificate(params: &CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn what_openssl_would_show() {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&[0x8a, 0, 1]));
        params.not_before = date_time_ymd(1999, 12, 31);
        params.not_after = date_time_ymd(2050, 1, 2);
        let facts = Facts::of(&certificate(&params)).unwrap();
        assert_eq!(facts.serial, "8A0001");
        assert_eq!(facts.not_before.to_string(), "1999-12-31T00:00:00Z");
        assert_eq!(facts.not_after.to_string(), "2050-01-02T00:00:00Z");
        assert!(facts.is_issued_by(&facts));
        assert!(facts.is_over("2050-01-02T00:00:01Z".parse().unwrap()));
        assert!(!facts.is_over("2050-01-02T00:00:00Z".parse().unwrap()));
        assert!(facts.is_early("1999-12-30T23:59:59Z".parse().unwrap()));
    }

    #[test]
    fn never_is_as_late_as_can_be() {
        let element = Element {
            tag: GENERALIZED_TIME,
            content: b"99991231235959Z",
            rest: &[],
        };
        assert_eq!(element.time(), Some(Timestamp::MAX));
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for (tag, text) in [
            (UTC_TIME, "261301000000Z"),
            (UTC_TIME, "260101000000"),
            (UTC_TIME, "20260101000000Z"),
            (GENERALIZED_TIME, "260101000000Z"),
            (GENERALIZED_TIME, "2026010100000+Z"),
            (INTEGER, "260101000000Z"),
        ] {
            let content = text.as_bytes();
            let rest = &[][..];
            assert_eq!(Element { tag, content, rest }.time(), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_is_refused_or_read_but_never_breaks_anything(
            at in 0usize..400,
            byte in any::<u8>(),
            length in 0usize..400,
        ) {
            let mut params = CertificateParams::default();
            params.serial_number = Some(SerialNumber::from(7));
            let mut der = certificate(&params);
            let length = length.min(der.len());
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _whole = Facts::of(&der);
            prop_assert_eq!(Facts::of(der.get(..length.min(20)).unwrap()), None);
        }
    }
}
