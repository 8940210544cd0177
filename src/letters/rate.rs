//! How many in a time: `50/s`, as people write it, and the pace that keeps it.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Units by their seconds, and by what people call them.
const UNITS: &[(&str, u64)] = &[("s", 1), ("m", 60), ("min", 60), ("h", 3_600), ("d", 86_400)];

/// The most in a second.
const MOST: u64 = 1_000_000;

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; never 0.
    count: u64,
    /// In how many seconds.
    seconds: u64,
}

impl Rate {
    /// Reads `50/s`, `300/m`, `300/min`, `1_000/h`, `10/d`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted =
            || format!("{text:?} is no rate; wanted a number and a time, such as 50/s, 300/min or 1000/h");
        let (count, unit) = text.trim().split_once('/').ok_or_else(wanted)?;
        let count: u64 = count.trim().replace('_', "").parse().map_err(|_| wanted())?;
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim());
        let seconds = unit.ok_or_else(wanted)?.1;
        if count == 0 || count > MOST * seconds {
            return Err(format!(
                "{text:?} is no rate; wanted at least 1 in the time and at most {MOST} a second"
            ));
        }
        Ok(Self { count, seconds })
    }

    /// The time between two.
    pub fn pause(self) -> Duration {
        Duration::from_nanos(self.seconds * 1_000_000_000 / self.count)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.seconds);
        write!(f, "{}/{}", self.count, unit.map_or("s", |(name, _)| name))
    }
}

/// Lets one go after the other, evenly; without a rate all at once. What was not used is not saved up.
#[derive(Debug)]
pub struct Pace {
    pause: Option<Duration>,
    next: Instant,
}

impl Pace {
    /// The first may go at once.
    pub fn new(rate: Option<Rate>) -> Self {
        Self { pause: rate.map(Rate::pause), next: Instant::now() }
    }

    /// Waits until the next may go. Nothing is lost when it is dropped before.
    pub async fn ready(&self) {
        if self.pause.is_some() {
            sleep_until(self.next).await;
        }
    }

    /// One goes.
    pub fn go(&mut self) {
        if let Some(pause) = self.pause {
            // A timer's millisecond is caught up on, and no more than a second's worth.
            let late = Instant::now().saturating_duration_since(self.next).min(Duration::from_secs(1));
            self.next = Instant::now() - late + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_people_write_them() {
        for (text, pause, shown) in [
            ("50/s", 20_000, "50/s"),
            (" 300 / min ", 200_000, "300/m"),
            ("300/m", 200_000, "300/m"),
            ("1_000/h", 3_600_000, "1000/h"),
            ("1/d", 86_400_000_000, "1/d"),
        ] {
            let rate = Rate::parse(text).expect(text);
            assert_eq!((rate.pause(), rate.to_string().as_str()), (Duration::from_micros(pause), shown));
        }
        for text in ["", "50", "50/", "/s", "0/s", "-1/s", "1.5/s", "50/week", "2000000/s", "50 per second"] {
            assert!(Rate::parse(text).expect_err(text).contains("no rate"), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_not_saved_up() {
        let began = Instant::now();
        let mut pace = Pace::new(Some(Rate::parse("50/s").expect("a rate")));
        for _ in 0..101 {
            pace.ready().await;
            pace.go();
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1_990) && took < Duration::from_millis(2_200), "{took:?}");
        // A reader that was slow for long is followed by a second's worth at the most.
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        for _ in 0..101 {
            pace.ready().await;
            pace.go();
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(900), "{took:?}");
        let mut free = Pace::new(None);
        let began = Instant::now();
        for _ in 0..1_000 {
            free.ready().await;
            free.go();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
