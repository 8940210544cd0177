//! Exponential backoff with jitter, from backon, as a pure function of a seed.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::core::section::{Section, show_duration};

/// What becomes of a message that may have been delivered: `uncertain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUncertain {
    /// It is sent again, marked.
    #[default]
    Resend,
    /// It becomes a letter of class `uncertain` after the first such try, whoever's fault.
    DeadLetter,
}

/// How failures are repeated: `[retry]`, and a route's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// The wait before the first repeat; jitter adds up to once more.
    pub initial: Duration,
    /// What each wait is multiplied by; 1 to 10.
    pub factor: f64,
    /// The longest wait.
    pub max: Duration,
    /// Tries that count against the message before it becomes a letter of class `exhausted`.
    pub max_attempts: u32,
    /// Of those, maybe-delivered ones where the provider has no id to drop repeats by.
    pub max_uncertain: u32,
    /// What becomes of a message after its first maybe-delivered try.
    pub uncertain: OnUncertain,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(250),
            factor: 2.0,
            max: Duration::from_secs(30),
            max_attempts: 8,
            max_uncertain: 3,
            uncertain: OnUncertain::Resend,
        }
    }
}

impl Retry {
    /// Reads `initial`, `factor`, `max`, `max_attempts`, `max_uncertain` and `uncertain`; what is
    /// absent stays as in `base`. Does not finish the section.
    pub fn read(section: &Section<'_>, base: &Self) -> Self {
        let count = |key, default: u32| {
            u32::try_from(section.integer(key, i64::from(default), 1..1_001)).unwrap_or(default)
        };
        let retry = Self {
            initial: section.duration("initial", base.initial),
            factor: section.float("factor", base.factor, 1.0, 10.0),
            max: section.duration("max", base.max),
            max_attempts: count("max_attempts", base.max_attempts),
            max_uncertain: count("max_uncertain", base.max_uncertain),
            uncertain: section.word(
                "uncertain",
                base.uncertain,
                &[("resend", OnUncertain::Resend), ("dead_letter", OnUncertain::DeadLetter)],
            ),
        };
        if retry.initial.is_zero() {
            section.wrong(
                "initial",
                "no time at all",
                "at least \"1ms\": a failure repeated at once helps nobody",
            );
        }
        if retry.max < retry.initial {
            section.wrong(
                "max",
                show_duration(retry.max),
                format!("at least `initial`, {}", show_duration(retry.initial)),
            );
        }
        retry
    }

    /// The wait after failure number `failures` (from 1): `initial × factor^(failures-1)`, at most
    /// `max`, plus jitter of up to once itself. The same seed gives the same wait.
    pub fn wait(&self, failures: u32, seed: u64) -> Duration {
        #[expect(clippy::cast_possible_truncation, reason = "backon takes an f32; a factor has two digits")]
        let factor = self.factor as f32;
        let nth = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(MAX_DOUBLINGS);
        ExponentialBuilder::default()
            .with_min_delay(self.initial)
            .with_factor(factor)
            .with_max_delay(self.max)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
            .nth(nth)
            .unwrap_or(self.max)
    }
}

/// Steps after which every backoff has reached its longest wait, or has a factor of 1: bounds the
/// walk along backon's iterator (2^64 ms is 584 million years).
const MAX_DOUBLINGS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_stay_within_their_jitter() {
        let retry = Retry::default();
        for failures in 1..=40 {
            let plain = 0.25 * 2f64.powi(failures - 1);
            let plain = plain.min(30.0);
            for seed in 0..50 {
                let wait = retry.wait(u32::try_from(failures).unwrap(), seed).as_secs_f64();
                assert!(
                    wait >= plain * 0.999 && wait <= plain * 2.001,
                    "failure {failures}, seed {seed}: {wait}"
                );
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_wait_and_seeds_differ() {
        let retry = Retry::default();
        assert_eq!(retry.wait(3, 7), retry.wait(3, 7));
        let different: std::collections::BTreeSet<Duration> =
            (0..20).map(|seed| retry.wait(3, seed)).collect();
        assert!(different.len() > 15, "twenty seeds gave {} waits", different.len());
    }
}
