//! The forms that single values have: durations, sizes, modes, booleans.

use std::time::Duration;

/// As Vault reads one: digits are seconds, `2d` is days, the rest is Go's (`1h30m`, `500ms`, `1.5h`).
/// Empty text is zero. Negative ones make no sense anywhere and are refused.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    let wrong = || {
        format!(
            "{text:?} is not a duration: write seconds as a number, or a text like \"90s\", \"5m\", \"1h30m\", \"2d\""
        )
    };
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let nanos = whole(rest)
        .map(|seconds| seconds.checked_mul(SECOND))
        .or_else(|| Some(whole(rest.strip_suffix('d')?)?.checked_mul(DAY)))
        .or_else(|| Some(go_duration(rest)?.checked_mul(1)))
        .ok_or_else(wrong)?
        .filter(|nanos| *nanos <= i64::MAX.unsigned_abs())
        .ok_or_else(|| format!("{text:?} is too long: a duration has at most 292 years"))?;
    if sign == "-" && nanos > 0 {
        return Err(format!("{text:?} is negative: a duration must not be"));
    }
    Ok(Duration::from_nanos(nanos))
}

/// The shortest form that [`parse_duration`] reads back to the same: `1h30m`, `1.5s`, `250ms`.
pub(super) fn format_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if seconds == 0 && nanos > 0 {
        return match nanos {
            n if n % 1_000_000 == 0 => format!("{}ms", n / 1_000_000),
            n if n % 1_000 == 0 => format!("{}us", n / 1_000),
            n => format!("{n}ns"),
        };
    }
    let mut text = String::new();
    for (count, unit) in [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm')] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if nanos > 0 {
        let fraction = format!("{nanos:09}");
        let fraction = fraction.trim_end_matches('0');
        text.push_str(&format!("{}.{fraction}s", seconds % 60));
    } else if seconds % 60 > 0 || text.is_empty() {
        text.push_str(&format!("{}s", seconds % 60));
    }
    text
}

/// Bytes: a number, or a number with `KiB MiB GiB TiB` (1024) or `KB MB GB TB` (1000).
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(split).unwrap_or((text, ""));
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        "tib" => Some(1 << 40),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "tb" => Some(1_000_000_000_000_u64),
        _ => None,
    };
    whole(digits)
        .zip(factor)
        .ok_or_else(|| {
            format!("{text:?} is not a size: write bytes as a number, or a text like \"64MiB\"")
        })
        .and_then(|(count, factor)| {
            let bytes = count.checked_mul(factor);
            bytes.ok_or_else(|| format!("{text:?} is more bytes than can be counted"))
        })
}

/// The shortest form that [`parse_size`] reads back to the same.
pub(super) fn format_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// As Go's `ParseBool`, and empty is false.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A file mode as octal text: `0640`, `640`, `0o640`.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    let mode = plain
        .then(|| u32::from_str_radix(digits, 8).ok())
        .flatten()
        .ok_or_else(|| format!("{text:?} is not a file mode: write it in octal, as \"0640\""))?;
    fitting(mode)
}

/// A file mode as a number. `raw` is how it stands in the file: `0640` and `0x1a0` say what they are, while
/// a decimal one that reads like an octal one is a slip that would give a file the wrong readers.
pub(super) fn mode_of_number(number: i64, raw: &str) -> Result<u32, String> {
    let decimal = !raw.starts_with('0') || raw == "0";
    let meant = u32::from_str_radix(raw, 8).ok().filter(|_| decimal);
    let mode = u32::try_from(number).map_err(|_| format!("{raw} is not a file mode"))?;
    match meant {
        Some(meant) if is_sensible(meant) && !is_sensible(mode) => Err(format!(
            "{raw} is a decimal number and would mean the mode 0{mode:o}: write \"0{raw}\""
        )),
        _ => fitting(mode),
    }
}

fn fitting(mode: u32) -> Result<u32, String> {
    if mode <= 0o777 {
        Ok(mode)
    } else {
        Err(format!(
            "the mode 0{mode:o} has more than read, write and execute bits: the most is 0777"
        ))
    }
}

/// Nobody is given more than those before them, and nobody may write what they may not read.
fn is_sensible(mode: u32) -> bool {
    let [owner, group, other] = [mode >> 6, mode >> 3 & 7, mode & 7];
    owner <= 7
        && group & !owner == 0
        && other & !group == 0
        && [owner, group, other].iter().all(|who| who & 6 != 2)
}

fn whole(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// `1h2.5m`: numbers with units, nothing between them. Nanoseconds.
fn go_duration(mut rest: &str) -> Option<u64> {
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(split)?;
        let split = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(split)?;
        total = total.checked_add(times(number, unit_nanos(unit)?)?)?;
        rest = tail;
    }
    Some(total)
}

fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole_part, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole_part.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut nanos = match whole_part {
        "" => 0,
        digits => whole(digits)?.checked_mul(unit)?,
    };
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        nanos = nanos.checked_add(u64::from(digit.to_digit(10)?).checked_mul(place)?)?;
    }
    Some(nanos)
}

fn unit_nanos(unit: &str) -> Option<u64> {
    match unit {
        "ns" => Some(1),
        "us" | "µs" | "μs" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(SECOND),
        "m" => Some(60 * SECOND),
        "h" => Some(3600 * SECOND),
        _ => None,
    }
}

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 24 * 3600 * SECOND;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_as_vault_reads_them() {
        let seconds = |n| Ok(Duration::from_secs(n));
        for (text, expected) in [
            ("", seconds(0)),
            ("0", seconds(0)),
            ("300", seconds(300)),
            ("010", seconds(10)),
            ("+5", seconds(5)),
            ("1h30m", seconds(5400)),
            ("1.5h", seconds(5400)),
            (".5m", seconds(30)),
            ("2d", seconds(172_800)),
            ("-0s", seconds(0)),
            ("500ms", Ok(Duration::from_millis(500))),
            ("1us", Ok(Duration::from_micros(1))),
            ("1µs", Ok(Duration::from_micros(1))),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
        for text in [
            "1.5",
            "1d12h",
            "1.5d",
            "1 m",
            " 5s",
            "5s ",
            "s",
            ".s",
            "5x",
            "0x10",
            "-1",
            "-5m",
            "1h-5m",
            "9999999999999",
            "99999999999999999999",
            "5.5.5s",
            "d",
            "ten",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_in_every_spelling() {
        for text in ["0640", "640", "0o640"] {
            assert_eq!(parse_mode(text), Ok(0o640), "{text}");
        }
        for text in [
            "",
            "rw-r-----",
            "0680",
            "01640",
            "+640",
            "-1",
            "0o",
            "99999999999",
        ] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
        for (number, raw, mode) in [
            (0o640, "0640", 0o640),
            (0o640, "0x1a0", 0o640),
            (416, "416", 0o640),
            (384, "384", 0o600),
            (288, "288", 0o440),
            (256, "256", 0o400),
        ] {
            assert_eq!(mode_of_number(number, raw), Ok(mode), "{raw}");
        }
        for (number, raw) in [
            (640, "640"),
            (600, "600"),
            (644, "644"),
            (400, "400"),
            (440, "440"),
        ] {
            let message = mode_of_number(number, raw).unwrap_err();
            assert!(message.contains(&format!("write \"0{raw}\"")), "{message}");
        }
        assert!(mode_of_number(0o1640, "01640").is_err());
        assert!(mode_of_number(-1, "-1").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("64 mib"), Ok(64 << 20));
        assert_eq!(parse_size("5GB"), Ok(5_000_000_000));
        assert_eq!(parse_size("123"), Ok(123));
        for text in ["", "MiB", "64M", "-1", "1.5GiB", "99999999999TiB", "1 2"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn durations_round_trip(nanos in 0..i64::MAX.unsigned_abs()) {
            for duration in [Duration::from_nanos(nanos), Duration::from_secs(nanos / SECOND)] {
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            }
        }

        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn nothing_panics(text in "[-+0-9.a-zµ ]{0,24}", any in ".{0,12}", number: i64) {
            for text in [text, any] {
                let _read = (parse_duration(&text), parse_size(&text), parse_mode(&text));
                let _mode = mode_of_number(number, &text);
            }
        }
    }
}
