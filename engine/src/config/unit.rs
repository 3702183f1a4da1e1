//! Durations and sizes as people write them: `90s`, `1h30m`, `64KiB`, `25MB`.

use std::time::Duration;

/// Reads a duration: numbers with units, largest first, without spaces.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut unit_before = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_ms = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?.1;
        if unit_ms >= unit_before {
            return None;
        }
        total_ms = total_ms.checked_add(number.checked_mul(unit_ms)?)?;
        unit_before = unit_ms;
        rest = after;
    }
    (unit_before != u64::MAX).then(|| Duration::from_millis(total_ms))
}

/// Reads a size: a whole number with a unit.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let unit_bytes = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1;
    number.checked_mul(unit_bytes)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// A duration in the form that is read back, for messages.
#[must_use]
pub fn shown_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut shown = String::new();
    for (name, unit_ms) in DURATION_UNITS {
        if rest / unit_ms > 0 {
            shown.push_str(&format!("{}{name}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    shown
}

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, expected) in [
            ("5m", Some(300_000)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("250ms", Some(250)),
            ("1s500ms", Some(1_500)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("5 m", None),
            ("m", None),
            ("5m5m", None),
            ("5s5m", None),
            ("1.5h", None),
            ("-5m", None),
            ("99999999999999999999d", None),
            ("999999999999999999d", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(duration(text), expected, "{text}");
            if let Some(expected) = expected {
                assert_eq!(duration(&shown_duration(expected)), Some(expected), "{text}");
            }
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("64KiB", Some(65_536)),
            ("25MB", Some(25_000_000)),
            ("25MiB", Some(26_214_400)),
            ("2GiB", Some(2_147_483_648)),
            ("1000", Some(1_000)),
            ("10B", Some(10)),
            ("10 MB", None),
            ("10mb", None),
            ("MB", None),
            ("1.5MB", None),
            ("-1", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
