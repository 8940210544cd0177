//! How a provider counts: limits over a sliding or a fixed window, over a UTC day, and meters that
//! remember the most they saw.
//!
//! Everything is counted at the instant it is handed; nothing here reads a clock. Whoever is over
//! the limit is refused and does not count.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::time::{Mono, Wall};

/// Where a window begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// At every instant: no interval of the window's length holds more than the limit. The
    /// strictest reading of "so many a second", and the default.
    #[default]
    Sliding,
    /// At whole multiples of its length since the simulator began.
    Fixed,
}

/// At most `limit` in any window; a limit of 0 is none.
#[derive(Debug)]
pub struct Window {
    limit: u32,
    span: Duration,
    shape: Shape,
    hits: VecDeque<(Mono, u32)>,
    sum: u64,
}

impl Window {
    /// A window of that length, empty.
    pub fn new(limit: u32, span: Duration, shape: Shape) -> Self {
        Self { limit, span, shape, hits: VecDeque::new(), sum: 0 }
    }

    /// Whether `weight` more would be within the limit at this instant.
    pub fn fits(&mut self, now: Mono, weight: u32) -> bool {
        if self.limit == 0 {
            return true;
        }
        self.forget(now);
        self.sum + u64::from(weight) <= u64::from(self.limit)
    }

    /// Counts `weight` at this instant, whether it fits or not.
    pub fn count(&mut self, now: Mono, weight: u32) {
        if self.limit != 0 {
            self.push(now, weight);
        }
    }

    fn push(&mut self, now: Mono, weight: u32) {
        self.forget(now);
        self.sum += u64::from(weight);
        match self.hits.back_mut() {
            Some((at, sum)) if *at == now => *sum += weight,
            _ => self.hits.push_back((now, weight)),
        }
    }

    fn forget(&mut self, now: Mono) {
        let span = u64::try_from(self.span.as_nanos()).unwrap_or(u64::MAX).max(1);
        while let Some(&(at, weight)) = self.hits.front() {
            let inside = match self.shape {
                Shape::Sliding => now.since(at) < self.span,
                Shape::Fixed => at.0 / span == now.0 / span,
            };
            if inside {
                break;
            }
            self.hits.pop_front();
            self.sum -= u64::from(weight);
        }
    }
}

/// At most `limit` in a UTC day; a limit of 0 is none.
#[derive(Debug)]
pub struct Day {
    limit: u32,
    day: i64,
    sum: u32,
}

impl Day {
    /// Nothing counted yet.
    pub fn new(limit: u32) -> Self {
        Self { limit, day: i64::MIN, sum: 0 }
    }

    /// Whether one more would be within the limit.
    pub fn fits(&mut self, wall: Wall) -> bool {
        self.turn(wall);
        self.limit == 0 || self.sum < self.limit
    }

    /// Counts one.
    pub fn count(&mut self, wall: Wall) {
        self.turn(wall);
        self.sum = self.sum.saturating_add(1);
    }

    fn turn(&mut self, wall: Wall) {
        if wall.utc_day() != self.day {
            self.day = wall.utc_day();
            self.sum = 0;
        }
    }
}

/// The most that any sliding second has carried.
#[derive(Debug)]
pub struct Meter {
    window: Window,
    most: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { window: Window::new(0, Duration::from_secs(1), Shape::Sliding), most: 0 }
    }
}

impl Meter {
    /// Counts `weight` at this instant.
    pub fn count(&mut self, now: Mono, weight: u32) {
        self.window.push(now, weight);
        self.most = self.most.max(self.window.sum);
    }

    /// The most there ever was in one second.
    pub fn most(&self) -> u64 {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn take(window: &mut Window, at_ms: u64, weight: u32) -> bool {
        let now = Mono(at_ms * 1_000_000);
        let fits = window.fits(now, weight);
        if fits {
            window.count(now, weight);
        }
        fits
    }

    #[test]
    fn a_sliding_window_fires_at_exactly_the_next_one() {
        let mut window = Window::new(3, SECOND, Shape::Sliding);
        assert!(take(&mut window, 0, 1));
        assert!(take(&mut window, 500, 2));
        assert!(!take(&mut window, 999, 1), "the fourth within a second");
        assert!(take(&mut window, 1_000, 1), "the first left as the second ended");
        assert!(!take(&mut window, 1_499, 1));
        assert!(take(&mut window, 1_500, 2));
    }

    #[test]
    fn a_fixed_window_lets_nearly_twice_as_many_pass_at_its_edge() {
        let mut window = Window::new(2, SECOND, Shape::Fixed);
        assert!(take(&mut window, 999, 2));
        assert!(!take(&mut window, 999, 1));
        assert!(take(&mut window, 1_000, 2));
        assert!(!take(&mut window, 1_999, 1));
    }

    #[test]
    fn zero_is_no_limit() {
        let mut window = Window::new(0, SECOND, Shape::Sliding);
        assert!((0..1_000).all(|_| take(&mut window, 1, 1)));
        let mut day = Day::new(0);
        day.count(Wall(0));
        assert!(day.fits(Wall(0)));
    }

    #[test]
    fn a_day_is_a_utc_day() {
        let mut day = Day::new(1);
        assert!(day.fits(Wall(86_399_999)));
        day.count(Wall(86_399_999));
        assert!(!day.fits(Wall(86_399_999)));
        assert!(day.fits(Wall(86_400_000)));
    }

    #[test]
    fn a_meter_keeps_the_most_it_saw() {
        let mut meter = Meter::default();
        meter.count(Mono(0), 2);
        meter.count(Mono(999_999_999), 3);
        meter.count(Mono(1_000_000_000), 1);
        assert_eq!(meter.most(), 5);
    }
}
