//! The two clocks of the shell, read together into the core's [`Now`].
//!
//! This is the one place that asks the system for the time; the driver reads it once per turn of
//! its loop, a call once when it is signed. It never sleeps and never corrects a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::{Mono, Now, Wall};

/// Reads both clocks. Copies share their beginning, so their readings can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic reading is zero now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both readings.
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), wall: self.wall() }
    }

    /// The monotonic reading alone: nanoseconds since [`Clock::start`].
    pub fn mono(&self) -> Mono {
        // 64 bits of nanoseconds last 584 years.
        Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The wall clock alone. A clock set before 1970 reads as a negative number.
    pub fn wall(&self) -> Wall {
        let millis = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Wall(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => millis(after),
            Err(before) => -millis(before.duration()),
        })
    }

    /// The instant that a monotonic reading stands for, for timers; `None` when it is further away
    /// than the system can count.
    pub fn instant(&self, at: Mono) -> Option<Instant> {
        self.start.checked_add(std::time::Duration::from_nanos(at.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_and_instants_agree() {
        let clock = Clock::start();
        let before = Instant::now();
        let mono = clock.mono();
        let after = Instant::now();
        let instant = clock.instant(mono).unwrap();
        assert!(before <= instant && instant <= after);
        assert_eq!(clock.instant(Mono(0)), Some(clock.start));
    }

    #[test]
    fn the_wall_clock_is_in_milliseconds_since_1970() {
        let read = Clock::start().wall();
        let text = read.rfc3339();
        assert_eq!(Wall::parse_rfc3339(&text), Some(read));
        assert!(read > Wall::parse_rfc3339("2024-01-01T00:00:00Z").unwrap(), "{text}");
    }
}
