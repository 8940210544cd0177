//! The two clocks of the core, as values: the shell reads them, the core only calculates with them.
//!
//! [`Mono`] never goes back and paces everything; [`Wall`] is what people and providers call the
//! time and serves signatures, time-to-live and letters. Nothing here reads a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant of the monotonic clock: nanoseconds since the process (or the simulation) began.
/// 64 bits last 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// An instant of the wall clock: milliseconds since 1970-01-01T00:00:00Z. May jump either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// Milliseconds of a UTC day; Unix time has no leap seconds.
const DAY_MS: i64 = 86_400_000;

impl Wall {
    /// Whole seconds since the epoch, as signatures want them; zero before 1970.
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0.div_euclid(1_000)).unwrap_or(0)
    }

    /// The UTC day this instant lies in, counted from 1970-01-01 (day 0).
    pub fn utc_day(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }

    /// How long until the next UTC day begins: more than zero, at most 24 h.
    pub fn until_next_utc_day(self) -> Duration {
        Duration::from_millis(u64::try_from(DAY_MS - self.0.rem_euclid(DAY_MS)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds, as letters carry it (`2026-01-31T23:59:59.123Z`).
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0)
            .map_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned(), |at| format!("{at:.3}"))
    }

    /// Reads an RFC 3339 timestamp (CloudEvents `time`); `None` when it is none.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|at| Self(at.as_millisecond()))
    }
}

impl Add<Duration> for Wall {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Both clocks, read together by the shell once per turn of its loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic reading.
    pub mono: Mono,
    /// The wall-clock reading.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_utc_day_ends_at_midnight() {
        assert_eq!(Wall(0).until_next_utc_day(), Duration::from_secs(86_400));
        assert_eq!(Wall(86_399_999).until_next_utc_day(), Duration::from_millis(1));
        assert_eq!(Wall(86_400_000).utc_day(), 1);
        assert_eq!(Wall(-1).utc_day(), -1);
    }

    #[test]
    fn rfc3339_goes_both_ways() {
        let at = Wall(1_769_903_999_123);
        assert_eq!(at.rfc3339(), "2026-01-31T23:59:59.123Z");
        assert_eq!(Wall::parse_rfc3339("2026-01-31T23:59:59.123Z"), Some(at));
        assert_eq!(Wall::parse_rfc3339("2026-02-01T07:59:59.123+08:00"), Some(at));
        assert_eq!(Wall::parse_rfc3339("yesterday"), None);
    }
}
