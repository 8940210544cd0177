//! What the loop counts by itself: answers and how long they took; and the log of the gates.
//!
//! The loop is one task, so these are plain numbers. Label sets are bounded by the config.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::core::model::Path;
use crate::core::provider::Outcome;
use crate::core::schedule::status::{GateCause, GateState, Snapshot};
use crate::core::time::Mono;

/// The words of [`Outcome`], in the order of [`AccountStats::outcomes`].
pub const OUTCOMES: [&str; 7] =
    ["accepted", "throttled", "unauthorized", "refused", "closed", "failed", "uncertain"];

/// Upper bounds of the histogram's buckets, in milliseconds; what is longer is in none of them.
pub const BOUNDS_MS: [u32; 11] = [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// How many calls took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Calls by bucket of [`BOUNDS_MS`], not summed up; the last one holds those above all bounds.
    pub buckets: [u64; BOUNDS_MS.len() + 1],
    /// All together.
    pub sum: Duration,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let nth = BOUNDS_MS.partition_point(|bound| Duration::from_millis(u64::from(*bound)) < took);
        self.buckets[nth] += 1;
        self.sum += took;
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What was counted for one account since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountStats {
    /// Messages in answered calls, by `Path as usize` and by outcome in the order of [`OUTCOMES`].
    pub outcomes: [[u64; OUTCOMES.len()]; 3],
    /// How long calls took, by `Path as usize`.
    pub durations: [Histogram; 3],
    /// Logins that worked and that did not.
    pub logins: [u64; 2],
}

impl AccountStats {
    /// A call was answered.
    pub(super) fn called(&mut self, path: Path, outcomes: &[Outcome], took: Option<Duration>) {
        for outcome in outcomes {
            let nth = match outcome {
                Outcome::Accepted(_) => 0,
                Outcome::Throttled { .. } => 1,
                Outcome::Unauthorized(_) => 2,
                Outcome::Refused { .. } => 3,
                Outcome::Closed(_) => 4,
                Outcome::Failed(_) => 5,
                Outcome::Uncertain(_) => 6,
            };
            self.outcomes[path as usize][nth] += 1;
        }
        if let Some(took) = took {
            self.durations[path as usize].add(took);
        }
    }

    /// A login was answered.
    pub(super) fn logged_in(&mut self, worked: bool) {
        self.logins[usize::from(!worked)] += 1;
    }
}

/// The least time between two looks at the gates.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Remembers each gate, to say when one closes or opens again.
pub(super) struct GateLog {
    accounts: Vec<Arc<str>>,
    closed: Vec<[Option<GateCause>; 3]>,
    looked: Mono,
}

impl GateLog {
    pub(super) fn new(accounts: Vec<Arc<str>>) -> Self {
        let closed = vec![[None; 3]; accounts.len()];
        Self { accounts, closed, looked: Mono(0) }
    }

    /// The earliest time for another look.
    pub(super) fn next_look(&self, now: Mono) -> Mono {
        (self.looked + LOOK_EVERY).max(now)
    }

    /// Compares the gates with how they were.
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: Mono) {
        self.looked = now;
        for ((account, paths), closed) in self.accounts.iter().zip(&snapshot.accounts).zip(&mut self.closed) {
            for path in Path::ALL {
                let was = &mut closed[path as usize];
                let word = path.word();
                match &paths[path as usize].gate {
                    GateState::Closed { cause, reopens_in, text } if *was != Some(*cause) => {
                        warn!(%account, path = word, cause = cause.word(), ?reopens_in, text, "gate closed: calls wait, records stay in the broker");
                        *was = Some(*cause);
                    }
                    GateState::Open => {
                        if let Some(cause) = was.take() {
                            info!(%account, path = word, cause = cause.word(), "gate open again");
                        }
                    }
                    GateState::Closed { .. } | GateState::Probing { .. } | GateState::LoggingIn => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let mut histogram = Histogram::default();
        for millis in [0, 5, 6, 10_000, 10_001] {
            histogram.add(Duration::from_millis(millis));
        }
        assert_eq!(histogram.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((histogram.count(), histogram.sum), (5, Duration::from_millis(20_012)));
    }

    #[test]
    fn each_outcome_is_counted_under_its_own_word() {
        use crate::core::model::Class;
        use crate::core::provider::{Acceptance, Throttle, Trouble};
        let trouble = Trouble::default;
        let all = [
            Outcome::Accepted(Acceptance::Plain),
            Outcome::Throttled { scope: Throttle::PathUntilMidnight, trouble: trouble() },
            Outcome::Unauthorized(trouble()),
            Outcome::Refused { class: Class::Rejected, trouble: trouble() },
            Outcome::Closed(trouble()),
            Outcome::Failed(trouble()),
            Outcome::Uncertain(trouble()),
        ];
        for (nth, outcome) in all.iter().enumerate() {
            let mut stats = AccountStats::default();
            stats.called(Path::Users, std::slice::from_ref(outcome), None);
            assert_eq!(OUTCOMES[nth], outcome.word());
            assert_eq!(stats.outcomes[Path::Users as usize][nth], 1);
            assert_eq!(stats.durations[Path::Users as usize].count(), 0);
        }
    }
}
