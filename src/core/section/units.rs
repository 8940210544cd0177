//! Times and sizes as people write them in the config: `250ms`, `1m30s`, `64KiB`.
//!
//! Text in, a value or nothing out; what would have been right is said by the caller, a
//! `Section` that knows the key. A number without a unit is no time: nobody knows of what.

use std::time::Duration;

/// Units of time by their nanoseconds, the longest first.
const TIMES: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// Units of size by their bytes.
const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads `250ms`, `1.5s`, `10m`, `1m30s`, `2h 30min`, `1d`, or `0s`: each unit shorter than the one
/// before it.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0u64;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after.trim_start(), |c| c.is_ascii_alphabetic());
        let (_, nanos) = TIMES.iter().find(|(name, _)| *name == unit)?;
        if *nanos >= last {
            return None;
        }
        total = total.checked_add(times(number, *nanos)?)?;
        (last, rest) = (*nanos, after.trim_start());
    }
    (last != u64::MAX).then_some(Duration::from_nanos(total))
}

/// Reads `100`, `64KiB`, `256 MiB`, `1.5GiB`, `1kB`, `1MB`, `1GB`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text.trim(), |c| c.is_ascii_digit() || matches!(c, '_' | '.'));
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit.trim_start())?;
    times(&number.replace('_', ""), *bytes)
}

/// A time as [`parse_duration`] reads it, with one unit.
pub fn show_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let fits = |(_, unit): &&(&str, u64)| nanos != 0 && nanos.is_multiple_of(u128::from(*unit));
    match TIMES.iter().find(fits) {
        Some((name, unit)) => format!("{}{name}", nanos / u128::from(*unit)),
        None => format!("{}s", time.as_secs_f64()),
    }
}

/// A size as [`parse_bytes`] reads it.
pub fn show_bytes(bytes: u64) -> String {
    let fits =
        |(name, unit): &&(&str, u64)| name.ends_with("iB") && bytes >= *unit && bytes.is_multiple_of(*unit);
    match SIZES.iter().rev().find(fits) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// A decimal number of units, when that is a whole number.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let scale = 10u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let parts = part.parse::<u64>().ok()?.checked_mul(unit)?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    (parts % scale == 0).then_some(whole.checked_add(parts / scale)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        for (text, expected) in [
            ("250ms", 250),
            ("1.5s", 1_500),
            ("10m", 600_000),
            ("1m30s", 90_000),
            ("2h 30min", 9_000_000),
            ("1d12h", 129_600_000),
            (" 500 ms ", 500),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(expected)), "{text}");
        }
        for text in [
            "5",
            "",
            "five seconds",
            "5sec",
            "s",
            "30s1m",
            "1m1min",
            "1m30",
            "-1s",
            "1..5s",
            ".s",
            "1e3s",
            "99999999999d",
            "5S",
            "1_000s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, expected) in [
            ("256MiB", 256 << 20),
            ("50_000", 50_000),
            ("1 MB", 1_000_000),
            ("1.5GiB", 3 << 29),
            ("0.5kB", 500),
            ("7B", 7),
        ] {
            assert_eq!(parse_bytes(text), Some(expected), "{text}");
        }
        for text in ["-1", "", "MiB", "256M", "256mib", "0.3B", "1.2.3MB", "1 M B", "99999999999GiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for (millis, shown) in
            [(250, "250ms"), (5_000, "5s"), (600_000, "10m"), (90_000, "90s"), (7_200_000, "2h")]
        {
            let time = Duration::from_millis(millis);
            assert_eq!(show_duration(time), shown);
            assert_eq!(parse_duration(shown), Some(time));
        }
        assert_eq!(show_duration(Duration::ZERO), "0s");
        for (bytes, shown) in
            [(256 << 20, "256MiB"), (5_000, "5000"), (1 << 30, "1GiB"), (3 << 29, "1536MiB")]
        {
            assert_eq!(show_bytes(bytes), shown);
            assert_eq!(parse_bytes(shown), Some(bytes));
        }
    }
}
