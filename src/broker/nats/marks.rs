//! How far each partition of a spread source is finished, counted in the origin's sequences.
//!
//! The parts stream and its durables know where reading stands, until somebody deletes them or the
//! number of partitions is to be another. So each reader notes now and then, in the table beside the
//! dead letters, up to where its partition is finished: one row a partition, and one for the parts
//! stream as a whole. A parts stream that is made again begins after the lowest. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::settings::Settings;

/// What there is to know of a parts stream: its row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its own id; progress noted under another says nothing about it.
    pub id: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// When its origin was made, in nanoseconds since 1970: sequences are that stream's.
    pub origin_made: String,
    /// The first of the origin's sequences it holds.
    pub start: u64,
    /// Sequences of the origin up to here may have been tried before it was made.
    pub tried: u64,
}

/// How far one partition is finished: its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// Of which parts stream.
    id: String,
    /// All of the partition up to this sequence of the origin is finished.
    finished: u64,
}

/// The key of the row about the parts stream.
pub fn key(settings: &Settings) -> String {
    format!("parts/{}/{}", settings.stream, settings.durable)
}

/// The key of a partition's row.
pub fn part_key(settings: &Settings, partition: u32) -> String {
    format!("{}/{partition}", key(settings))
}

/// A partition's row.
pub fn part_row(generation: &str, finished: u64) -> Bytes {
    let row = Row { id: generation.to_owned(), finished };
    serde_json::to_vec(&row).expect("texts and numbers are JSON").into()
}

/// The row about the parts stream.
pub fn row(generation: &Generation) -> Bytes {
    serde_json::to_vec(generation).expect("texts and numbers are JSON").into()
}

/// The last parts stream there was, and the first of the origin's sequences that may not be finished.
pub fn read(rows: &[(String, Bytes)], settings: &Settings) -> Option<(Generation, u64)> {
    let value = |key: String| rows.iter().find(|(found, _)| *found == key).map(|(_, value)| value);
    let generation: Generation = serde_json::from_slice(value(key(settings))?).ok()?;
    let finished = |partition| {
        let row = serde_json::from_slice::<Row>(value(part_key(settings, partition))?).ok()?;
        (row.id == generation.id).then_some(row.finished.saturating_add(1))
    };
    let start =
        (0..generation.partitions).map(|partition| finished(partition).unwrap_or(generation.start)).min();
    let start = start.unwrap_or(generation.start).max(generation.start);
    Some((generation, start))
}

/// The progress of one partition while this process reads it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Of what is held, where it stands in the origin.
    held: BTreeMap<u64, u64>,
    /// The highest of the origin's sequences that came.
    top: u64,
    /// Up to where all is finished, as told last.
    told: u64,
}

impl Progress {
    /// Takes a record in; true when it lies before one that came earlier: the copy began anew.
    pub fn arrived(&mut self, sequence: u64, origin: u64) -> bool {
        self.held.insert(sequence, origin);
        let went_back = origin <= self.top;
        self.top = self.top.max(origin);
        went_back
    }

    /// A record is finished.
    pub fn finished(&mut self, sequence: u64) {
        self.held.remove(&sequence);
    }

    /// Everything held is another's now.
    pub fn release(&mut self) {
        *self = Self { told: self.told, ..Self::default() };
    }

    /// The stream is another one.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Up to where the partition is finished, when that is further than told before. To be asked only
    /// while all that was delivered is here; `head` is given when nothing of the partition waits in the
    /// parts stream: where the end of that stream stood before that was known.
    pub fn further(&mut self, head: Option<u64>) -> Option<u64> {
        let finished = match self.held.values().min() {
            Some(lowest) => lowest.saturating_sub(1),
            None => self.top.max(head.unwrap_or(0)),
        };
        (finished > self.told).then(|| {
            self.told = finished;
            finished
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_stops_below_the_lowest_that_is_held() {
        let mut progress = Progress::default();
        assert_eq!(progress.further(None), None);
        assert!(!progress.arrived(1, 10));
        assert!(!progress.arrived(4, 12));
        assert_eq!((progress.further(Some(99)), progress.further(None)), (Some(9), None));
        progress.finished(4);
        assert_eq!(progress.further(None), None);
        progress.finished(1);
        assert_eq!(progress.further(None), Some(12));
        assert_eq!(progress.further(Some(30)), Some(30), "nothing waits up to there");
        assert!(progress.arrived(9, 12), "it came before");
    }

    #[test]
    fn what_is_anothers_is_told_no_more() {
        let mut progress = Progress::default();
        progress.arrived(1, 10);
        progress.release();
        assert_eq!(progress.further(None), None);
        progress.arrived(5, 20);
        assert_eq!(progress.further(None), Some(19));
    }
}
