//! The partitions of one Kafka source: their numbers, their assignments, and what is finished of each.
//!
//! A plain table without a client in it. [`PartitionId`]s are given out once and stay; an
//! assignment lives in [`Held`] under its own [`Epoch`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::model::{Epoch, PartitionId, RecordId};
use super::schedule::pace;
use super::watermark::{METADATA_EASY, METADATA_FULL, METADATA_MAX, Watermark};

/// How long a partition rests between two readers (P4): the second over which a room's pace is counted. The
/// next reader does not know what the last one sent to a room.
pub const REST: Duration = pace::PERIOD;

/// Where one partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub number: i32,
    /// The first offset to fetch.
    pub start: i64,
    /// The metadata of the commit at that offset.
    pub metadata: String,
    /// The end of the partition now: one past its last record.
    pub end: i64,
    /// Whether the group had no commit there, so that this one is to be committed at once.
    pub is_first: bool,
    /// What people must know about it.
    pub alarm: Option<Alarm>,
}

/// Why a partition does not begin where the group left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The broker deleted records that were not finished: so many offsets.
    LostByBroker(i64),
    /// The partition ends before what was committed: it was made anew, or the broker lost its tail.
    Rewound {
        /// What was committed.
        committed: i64,
    },
    /// The group has committed before, but never here: the partition is new to it, and nothing of
    /// it is skipped.
    NewToGroup,
}

/// Where a partition with a commit begins: at the commit, unless the broker has that no longer.
pub fn committed_begin(offset: i64, metadata: &str, low: i64, end: i64) -> (i64, String, Option<Alarm>) {
    if offset > end {
        return (low, String::new(), Some(Alarm::Rewound { committed: offset }));
    }
    if offset < low {
        return (low, String::new(), Some(Alarm::LostByBroker(low - offset)));
    }
    (offset, metadata.to_owned(), None)
}

/// All partitions this process ever had.
#[derive(Default)]
pub struct Partitions {
    by_topic: HashMap<Arc<str>, HashMap<i32, PartitionId>>,
    slots: Vec<Slot>,
    last_epoch: u32,
}

/// One partition, assigned or not.
pub struct Slot {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number in its topic.
    pub number: i32,
    /// Its assignment, if it is ours.
    pub held: Option<Held>,
    /// What this process knows of the last one, until the next begins.
    left: Option<Left>,
}

/// Where an assignment ended. What was finished is finished whoever has the partition meanwhile, and
/// the broker may not have been there to be told.
struct Left {
    began: i64,
    offset: i64,
    metadata: String,
}

/// One assignment.
pub struct Held {
    /// Which.
    pub epoch: Epoch,
    /// What the broker said was committed when it began, or when the one before it began that it
    /// continues.
    began: i64,
    /// What is received and finished.
    pub mark: Watermark,
    /// The partition's end when it was assigned: what lies below may have been tried before (P3).
    pub end_at_start: i64,
    /// Whether it is being given up: nothing more is taken from it.
    pub revoking: bool,
    /// Whether librdkafka is told to pause it.
    pub paused: bool,
    /// Whether the driver wants nothing more from it.
    closed: bool,
    /// Whether the commit's metadata has no room for more.
    full: bool,
    /// What was last told of it.
    fill_told: Fill,
    /// Whether anything was finished since the last [`Held::progress`].
    dirty: bool,
    /// The last offset and metadata handed to librdkafka.
    told: Option<(i64, String)>,
}

/// How full the metadata of a partition's commit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Bytes that it can come to with what was received, of at most [`METADATA_MAX`].
    pub bytes: usize,
    /// Whether nothing more is taken because of it.
    pub pauses: bool,
}

/// What there is to commit.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    /// The watermark.
    pub offset: i64,
    /// What is finished above it.
    pub metadata: String,
    /// Whether the watermark itself is another than before; librdkafka's own commits see only that.
    pub moved: bool,
}

impl Slot {
    /// Ends the assignment, and says which it was.
    fn end(&mut self) -> Option<Epoch> {
        let held = self.held.take()?;
        self.left = Some(held.left());
        Some(held.epoch)
    }
}

impl Held {
    /// Whether nothing should be fetched, when `intake` says whether the source as a whole is open.
    pub fn wants_pause(&self, intake: bool) -> bool {
        !intake || self.closed || self.full
    }

    /// What was not handed over yet; `None` when there is nothing. `with_metadata` is false where
    /// the broker refuses metadata; without `also_unmoved`, what moved nothing but the metadata is
    /// left for a later call.
    pub fn progress(&mut self, with_metadata: bool, also_unmoved: bool) -> Option<Progress> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        let offset = self.mark.offset();
        let metadata = self.mark.metadata();
        let metadata = if with_metadata { metadata } else { String::new() };
        let moved = self.told.as_ref().is_none_or(|(told, _)| *told != offset);
        if !moved && self.told.as_ref().is_some_and(|(_, told)| *told == metadata) {
            return None;
        }
        if !moved && !also_unmoved {
            self.dirty = true;
            return None;
        }
        self.told = Some((offset, metadata.clone()));
        Some(Progress { offset, metadata, moved })
    }

    /// Finds out how full the commit's metadata can become with what was received, and whether the
    /// partition pauses because of it. Gives that when it is news: the pause begins or ends, or the
    /// metadata changed by a sixteenth of its space.
    fn fill(&mut self) -> Option<Fill> {
        let bytes = self.mark.metadata_at_most();
        self.full = bytes >= if self.full { METADATA_EASY } else { METADATA_FULL };
        let fill = Fill { bytes, pauses: self.full };
        let differs = fill.bytes.abs_diff(self.fill_told.bytes) >= METADATA_MAX / 16;
        let is_news =
            fill.pauses != self.fill_told.pauses || differs || (fill.bytes == 0 && self.fill_told.bytes > 0);
        is_news.then(|| {
            self.fill_told = fill;
            fill
        })
    }

    /// The whole state, whether told before or not: for the last commit.
    pub fn last_progress(&mut self, with_metadata: bool) -> Progress {
        self.forget_told();
        self.progress(with_metadata, true).expect("what is forgotten is told again")
    }

    /// Where it begins again when the broker gives `offset`, which it had given before: at the first
    /// record that is not finished, or there, if that is lower.
    pub fn begins_again(&self, offset: i64) -> i64 {
        self.mark.offset().min(offset)
    }

    fn left(&self) -> Left {
        Left { began: self.began, offset: self.mark.offset(), metadata: self.mark.metadata() }
    }

    /// What was handed over must be handed over again.
    pub fn forget_told(&mut self) {
        self.told = None;
        self.dirty = true;
    }
}

impl Partitions {
    /// The partition of that topic and number, known from the first time it is asked for.
    pub fn intern(&mut self, topic: &str, number: i32) -> PartitionId {
        if let Some(id) = self.find(topic, number) {
            return id;
        }
        let name =
            self.by_topic.get_key_value(topic).map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let id = PartitionId(u32::try_from(self.slots.len()).expect("fewer than 2^32 partitions"));
        self.slots.push(Slot { topic: Arc::clone(&name), number, held: None, left: None });
        self.by_topic.entry(name).or_default().insert(number, id);
        id
    }

    /// The partition, if it was ever ours.
    pub fn find(&self, topic: &str, number: i32) -> Option<PartitionId> {
        self.by_topic.get(topic)?.get(&number).copied()
    }

    /// One partition.
    pub fn slot(&self, id: PartitionId) -> Option<&Slot> {
        self.slots.get(index(id))
    }

    /// One partition.
    pub fn slot_mut(&mut self, id: PartitionId) -> Option<&mut Slot> {
        self.slots.get_mut(index(id))
    }

    /// Begins an assignment at `start`, with the metadata of the commit there.
    pub fn assign(&mut self, id: PartitionId, start: i64, metadata: &str, end_at_start: i64) -> Epoch {
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        let slot = self.slot_mut(id).expect("a partition is interned before it is assigned");
        let left = slot.left.take().filter(|left| left.offset == start && left.metadata == metadata);
        slot.held = Some(Held {
            epoch,
            began: left.as_ref().map_or(start, |left| left.began),
            mark: Watermark::new(start, metadata),
            end_at_start,
            revoking: false,
            paused: false,
            closed: false,
            full: false,
            fill_told: Fill::default(),
            dirty: left.is_some(),
            told: left.is_none().then(|| (start, metadata.to_owned())),
        });
        epoch
    }

    /// Where an assignment begins, with what this process itself finished before it lost the
    /// partition and could not commit (a broker that was away), joined with what others finished
    /// meanwhile, as the commit's metadata tells. The broker's word alone counts when it is further,
    /// when it went back behind what it had said (somebody reset the offsets), and when the partition
    /// is not the same any more.
    pub fn resumed(&mut self, begin: &Begin) -> Begin {
        let id = self.find(&begin.topic, begin.number);
        let left = id.and_then(|id| self.slot_mut(id)?.left.as_mut()).filter(|left| {
            let is_between = left.began <= begin.start && begin.start <= left.offset;
            is_between && left.offset <= begin.end && !begin.is_first && begin.alarm.is_none()
        });
        let Some(left) = left else { return begin.clone() };
        let mut mark = Watermark::new(left.offset, &left.metadata);
        mark.also_finished(begin.start, &begin.metadata);
        (left.offset, left.metadata) = (mark.offset(), mark.metadata());
        Begin { start: left.offset, metadata: left.metadata.clone(), ..begin.clone() }
    }

    /// Every assigned partition.
    pub fn held(&self) -> impl Iterator<Item = (PartitionId, &Slot, &Held)> {
        self.slots.iter().enumerate().filter_map(|(at, slot)| Some((id(at), slot, slot.held.as_ref()?)))
    }

    /// Every assigned partition, to change it.
    pub fn held_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, i32, &mut Held)> {
        self.slots.iter_mut().filter_map(|slot| Some((&slot.topic, slot.number, slot.held.as_mut()?)))
    }

    /// Ends assignments of these partitions where they are ours, and says which.
    pub fn release(&mut self, ids: &[PartitionId]) -> Vec<(PartitionId, Epoch)> {
        ids.iter().filter_map(|&id| Some((id, self.slot_mut(id)?.end()?))).collect()
    }

    /// Ends every assignment, and says which there were.
    pub fn release_all(&mut self) -> Vec<(PartitionId, Epoch)> {
        let ended = self.slots.iter_mut().enumerate();
        ended.filter_map(|(at, slot)| Some((id(at), slot.end()?))).collect()
    }

    /// Marks a record as finished; false when its assignment is over.
    pub fn settle(&mut self, record: RecordId) -> bool {
        let held = self.slot_mut(record.partition).and_then(|slot| slot.held.as_mut());
        let Some(held) = held.filter(|held| held.epoch == record.epoch) else { return false };
        let open = held.mark.finish(record.offset);
        held.dirty |= open;
        open
    }

    /// Finds out of every assigned partition whether its commit's metadata has room for more, to be
    /// asked a few times a second, and gives what is news of it.
    pub fn fills(&mut self) -> Vec<(PartitionId, Epoch, Fill)> {
        let held = self.slots.iter_mut().enumerate();
        held.filter_map(|(at, slot)| {
            let held = slot.held.as_mut()?;
            Some((id(at), held.epoch, held.fill()?))
        })
        .collect()
    }

    /// Opens or closes one assignment for the driver; the next one begins open, whatever was still on its
    /// way to close the one before.
    pub fn set_open(&mut self, id: PartitionId, epoch: Epoch, open: bool) {
        let held = self.slot_mut(id).and_then(|slot| slot.held.as_mut());
        if let Some(held) = held.filter(|held| held.epoch == epoch) {
            held.closed = !open;
        }
    }
}

fn index(id: PartitionId) -> usize {
    usize::try_from(id.0).expect("32 bits fit a usize")
}

fn id(index: usize) -> PartitionId {
    PartitionId(u32::try_from(index).expect("ids were given out from 32 bits"))
}

#[cfg(test)]
#[path = "partitions_tests.rs"]
mod tests;
