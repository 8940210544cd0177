//! What is finished but may be redelivered: a server that was killed forgets acks it confirmed.
//!
//! Measured on 2.15.1 with `sync_interval: always`: acks up to 104 ms old came back, and all of a
//! run that took less. So a finished message is remembered past its ack and acked again, without
//! arriving again, when it returns. A message is told by its sequence and its time of publishing:
//! a stream that lost its tail gives old sequences to new messages.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::core::time::Mono;

/// The most messages remembered.
const CAPACITY: usize = 65_536;
/// How long one is remembered at most.
const MEMORY: Duration = Duration::from_secs(600);
/// How long one is remembered after the server's ack floor was seen above it: consumer state is
/// written to disk within seconds.
const BELOW_FLOOR: Duration = Duration::from_secs(60);

/// The finished messages of one consumer.
#[derive(Debug, Default)]
pub struct Finished {
    /// When each was published, in nanoseconds since 1970.
    published: BTreeMap<u64, i64>,
    /// Sequences in the order they were finished.
    order: VecDeque<(Mono, u64)>,
    /// The ack floor as it was seen, oldest first.
    floors: VecDeque<(Mono, u64)>,
}

impl Finished {
    /// Remembers one.
    pub fn insert(&mut self, sequence: u64, published: i64, now: Mono) {
        self.published.insert(sequence, published);
        self.order.push_back((now, sequence));
        self.prune(now);
    }

    /// Whether this very message is finished.
    pub fn contains(&self, sequence: u64, published: i64) -> bool {
        self.published.get(&sequence) == Some(&published)
    }

    /// Whether some message of that sequence is finished.
    pub fn has(&self, sequence: u64) -> bool {
        self.published.contains_key(&sequence)
    }

    /// Those above a sequence, with when each was published.
    pub fn above(&self, floor: u64) -> impl DoubleEndedIterator<Item = (u64, i64)> {
        let above = self.published.range(floor.saturating_add(1)..);
        above.map(|(sequence, published)| (*sequence, *published))
    }

    /// Takes note of the server's ack floor.
    pub fn floor(&mut self, sequence: u64, now: Mono) {
        if self.floors.back().is_none_or(|(_, last)| *last < sequence) {
            self.floors.push_back((now, sequence));
        }
        self.prune(now);
    }

    /// Forgets all: the stream is another one.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn prune(&mut self, now: Mono) {
        let mut floor = None;
        while self.floors.front().is_some_and(|(seen, _)| now.since(*seen) >= BELOW_FLOOR) {
            floor = self.floors.pop_front().map(|(_, sequence)| sequence);
        }
        if let Some(floor) = floor {
            self.published = self.published.split_off(&floor.saturating_add(1));
        }
        // An entry of `order` whose sequence is gone already, or was finished again later, only
        // shortens a memory that is a precaution.
        while self.order.len() > CAPACITY
            || self.order.front().is_some_and(|(at, _)| now.since(*at) >= MEMORY)
        {
            let Some((_, sequence)) = self.order.pop_front() else { break };
            self.published.remove(&sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_by_sequence_and_time() {
        let mut finished = Finished::default();
        let now = Mono(0);
        finished.insert(7, 1_000, now);
        assert!(finished.contains(7, 1_000));
        assert!(!finished.contains(7, 1_001), "a new message under an old sequence is not finished");
        assert!(!finished.contains(8, 1_000));
    }

    #[test]
    fn what_lies_below_the_floor_is_forgotten_a_minute_later() {
        let mut finished = Finished::default();
        let start = Mono(0);
        for sequence in 1..=10 {
            finished.insert(sequence, 0, start);
        }
        finished.floor(5, start);
        assert_eq!(finished.published.len(), 10, "the server may still forget acks below the floor");
        finished.floor(6, start + BELOW_FLOOR);
        assert!(!finished.contains(5, 0));
        assert!(finished.contains(6, 0));
    }

    #[test]
    fn each_floor_counts_from_when_it_was_first_seen() {
        let mut finished = Finished::default();
        let start = Mono(0);
        (1..=10).for_each(|sequence| finished.insert(sequence, 0, start));
        finished.floor(5, start);
        for second in [30, 31] {
            finished.floor(7, start + Duration::from_secs(second));
        }
        assert_eq!(finished.floors.len(), 2, "one that stands still is remembered once");
        finished.floor(7, start + Duration::from_secs(30) + BELOW_FLOOR);
        assert_eq!(finished.above(0).map(|(sequence, _)| sequence).collect::<Vec<_>>(), [8, 9, 10]);
    }

    #[test]
    fn memory_is_bounded_in_number_and_time() {
        let mut finished = Finished::default();
        let start = Mono(0);
        for sequence in 0..100_000 {
            finished.insert(sequence, 0, start);
        }
        assert_eq!(finished.published.len(), CAPACITY);
        assert!(!finished.contains(0, 0));
        assert!(finished.contains(99_999, 0));
        finished.insert(100_000, 0, start + MEMORY);
        assert_eq!(finished.published.len(), 1);
    }
}
