//! The simulator's clocks: the machine's own, and one that a test turns by hand.
//!
//! Every instant the simulator counts, stamps or waits for comes from here, so that a ban of ten
//! seconds or a UTC day passes in a test without waiting. Nothing here counts or decides.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::core::time::{Mono, Now, Wall};

/// A wait that ends when the clock has come to an instant.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the simulator takes its time from. Readings of `mono` never go back.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Both clocks, read together.
    fn now(&self) -> Now;

    /// Ends once `now().mono` is `at` or later.
    fn sleep_until(&self, at: Mono) -> Wait;
}

/// The machine's clocks; `mono` counts from when this value was made.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            wall: Wall(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    fn sleep_until(&self, at: Mono) -> Wait {
        let until = self.start + Duration::from_nanos(at.0);
        Box::pin(async move { tokio::time::sleep_until(until.into()).await })
    }
}

/// A clock that stands still until [`ManualClock::advance`] moves it, both hands at once.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Now>,
}

impl ManualClock {
    /// A clock that shows `wall`, with the monotonic hand at zero.
    pub fn at(wall: Wall) -> Self {
        Self { now: watch::Sender::new(Now { mono: Mono(0), wall }) }
    }

    /// Moves both hands on, and wakes whoever waited for an instant that has come.
    pub fn advance(&self, span: Duration) {
        self.now.send_modify(|now| {
            now.mono = now.mono + span;
            now.wall = now.wall + span;
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.now.borrow()
    }

    fn sleep_until(&self, at: Mono) -> Wait {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The clock gone means that nobody will turn it again: the wait has no end.
            if now.wait_for(|now| now.mono >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_in_time() {
        let clock = ManualClock::at(Wall(1_000));
        let due = clock.now().mono + Duration::from_secs(10);
        let mut sleeper = polled(clock.sleep_until(due));
        clock.advance(Duration::from_nanos(9_999_999_999));
        assert!(!sleeper.ready(), "one nanosecond early");
        clock.advance(Duration::from_nanos(1));
        assert!(sleeper.ready());
        assert_eq!(clock.now().mono, due);
    }

    /// A future polled by hand.
    struct Polled(Wait);

    impl Polled {
        fn ready(&mut self) -> bool {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            self.0.as_mut().poll(&mut context).is_ready()
        }
    }

    fn polled(wait: Wait) -> Polled {
        let mut polled = Polled(wait);
        assert!(!polled.ready());
        polled
    }
}
