//! How much is asked of the server, and how intake stops without giving the pin away.
//!
//! A pinned consumer that is not polled loses its pin, and the next replica would read past what
//! this one holds. So a short stop is only silence, within the time that the last pull still
//! keeps the pin; a longer one lowers the consumer's `max_ack_pending` to what is held and polls on:
//! the consumer is **parked**. Pure; used by [`super::source`].

use std::time::{Duration, Instant};

use async_nats::Subject;

use crate::core::ledger::Ledger;

/// The most asked for at once. What is under way when intake stops still arrives.
const BATCH: usize = 256;
/// How long a stop is mere silence: with the 5 s of a pull well below `priority_timeout`, and long
/// enough that back-pressure coming and going costs no requests.
const SILENT: Duration = Duration::from_secs(3);
/// What a record is taken to weigh until some have come, in bytes.
const SMALL: usize = 1_024;

/// Whether, and how much, to take.
#[derive(Debug)]
pub struct Intake {
    /// The driver's word for the source.
    wanted: bool,
    /// The driver's word for its one partition.
    partition_wanted: bool,
    /// The partition is being given up.
    is_leaving: bool,
    /// Bytes that may be held.
    max_bytes: usize,
    /// Bytes are held up to the limit, and not yet down to half of it.
    is_full: bool,
    stopped: Option<Instant>,
    /// `max_ack_pending` is lowered.
    pub parked: bool,
}

/// Who is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The one pinned client, or the only one where nothing is pinned.
    Active,
    /// One that stands by until the pin is free.
    Standby,
}

impl Intake {
    /// Open, with that many bytes to be held at most.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            wanted: true,
            partition_wanted: true,
            is_leaving: false,
            max_bytes,
            is_full: false,
            stopped: None,
            parked: false,
        }
    }

    /// The driver's word for the source.
    pub fn set(&mut self, wanted: bool, now: Instant) {
        self.wanted = wanted;
        self.note(now);
    }

    /// The driver's word for the partition.
    pub fn set_partition(&mut self, wanted: bool, now: Instant) {
        self.partition_wanted = wanted;
        self.note(now);
    }

    /// A new assignment: what was said of the partition before was said of another.
    pub fn begin(&mut self) {
        self.partition_wanted = true;
        self.is_leaving = false;
        self.parked = false;
        if !self.is_stopped() {
            self.stopped = None;
        }
    }

    /// The partition is being given up: nothing more of it is handed on.
    pub fn leave(&mut self, now: Instant) {
        self.is_leaving = true;
        self.note(now);
    }

    /// Looks at the bytes held.
    pub fn weigh(&mut self, bytes: usize, now: Instant) {
        let is_full = if self.is_full { bytes > self.max_bytes / 2 } else { bytes >= self.max_bytes };
        if is_full != self.is_full {
            self.is_full = is_full;
            self.note(now);
        }
    }

    fn note(&mut self, now: Instant) {
        match self.is_stopped() {
            true => drop(self.stopped.get_or_insert(now)),
            false => self.stopped = None,
        }
    }

    /// Whether nothing more is to be taken.
    pub fn is_stopped(&self) -> bool {
        !self.is_wanted() || self.is_full
    }

    /// Whether the driver takes records: bytes alone do not keep those held from being handed on.
    pub fn is_wanted(&self) -> bool {
        self.wanted && self.partition_wanted && !self.is_leaving
    }

    /// When a stop has lasted so long that a pinned consumer is to be parked.
    pub fn park_at(&self) -> Option<Instant> {
        self.stopped.filter(|_| !self.parked).map(|since| since + SILENT)
    }

    /// How many messages should be under way.
    pub fn want(&self, reader: Reader, ledger: &Ledger<Subject>) -> usize {
        // What was pending comes back whatever is stopped: without it nothing may be handed on.
        if reader == Reader::Standby || ledger.gathers_until().is_some() {
            return BATCH;
        }
        if self.is_stopped() {
            return usize::from(self.parked);
        }
        let room = self.max_bytes.saturating_sub(ledger.bytes());
        (room / ledger.big().max(SMALL)).clamp(1, BATCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_stop_is_silence_and_a_long_one_parks() {
        let start = Instant::now();
        let mut intake = Intake::new(1 << 20);
        let ledger = Ledger::<Subject>::default();
        assert_eq!(intake.want(Reader::Active, &ledger), BATCH);
        intake.set(false, start);
        assert_eq!((intake.want(Reader::Active, &ledger), intake.park_at()), (0, Some(start + SILENT)));
        intake.set_partition(false, start + SILENT / 2);
        assert_eq!(intake.park_at(), Some(start + SILENT), "the stop began with the first word");
        intake.parked = true;
        assert_eq!((intake.want(Reader::Active, &ledger), intake.park_at()), (1, None));
        intake.set(true, start);
        assert!(intake.is_stopped());
        intake.set_partition(true, start);
        assert!(!intake.is_stopped());
    }

    #[test]
    fn bytes_stop_intake_at_the_limit_and_let_it_go_on_at_half() {
        let now = Instant::now();
        let mut intake = Intake::new(1_000);
        intake.weigh(999, now);
        assert!(!intake.is_stopped());
        intake.weigh(1_000, now);
        assert!(intake.is_stopped() && intake.is_wanted());
        intake.weigh(501, now);
        assert!(intake.is_stopped());
        intake.weigh(500, now);
        assert!(!intake.is_stopped());
    }

    #[test]
    fn one_that_stands_by_keeps_asking() {
        let mut intake = Intake::new(1_000);
        intake.set(false, Instant::now());
        assert_eq!(intake.want(Reader::Standby, &Ledger::<Subject>::default()), BATCH);
    }
}
