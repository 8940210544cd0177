//! Records that are held, and the tickets that keep them: a record is settled when its last message
//! is finished. What each source and partition may hold at most is `bounds`.
//!
//! A record has one ticket for each group of siblings and one for each letter. A group's failures
//! are gathered until its last message is finished, so that siblings that failed alike share one
//! letter.

mod bounds;

use std::collections::BTreeMap;
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

pub use self::bounds::Load;
use super::ahead;
use super::pool::Pool;
use super::{Effect, IntakeReason, SourceSettings};

use crate::core::model::{
    AccountId, BaseId, Class, Epoch, PartitionId, Record, RecordId, Room, RouteId, SourceId, Tries,
};
use crate::core::time::Mono;

/// A record that is held: one line of a processor's cache.
#[derive(Debug)]
#[repr(align(64))]
pub struct HeldRecord {
    /// The record.
    pub record: Arc<Record>,
    /// Tickets not yet punched.
    pub open: u32,
    /// Groups of siblings that are not finished.
    pub groups: SmallVec<[u32; 1]>,
    /// A message was given up with its partition: the record will not be settled by this process.
    pub abandoned: bool,
    /// All is finished, and what became of it is being written down.
    is_answering: bool,
    partition: u32,
    weight: usize,
    prev: u32,
    next: u32,
}

const _: () = assert!(size_of::<HeldRecord>() == 64);

/// Messages of one record that share their content: one line of a processor's cache.
#[derive(Debug)]
#[repr(align(64))]
pub struct Group {
    /// The record.
    pub record: u32,
    /// Where the messages came from.
    pub route: RouteId,
    /// Who sends them.
    pub account: AccountId,
    /// Jobs not finished.
    pub jobs: SmallVec<[u32; 2]>,
    /// Rooms that will not get theirs.
    pub failed: Vec<FailedRoom>,
}

const _: () = assert!(size_of::<Group>() == 64);

/// A room that will not get its message.
#[derive(Debug)]
pub struct FailedRoom {
    /// The letter's class.
    pub class: Class,
    /// The base id of its message, which siblings share.
    pub base: BaseId,
    /// The room; empty for a broadcast.
    pub room: Room,
    /// One line for people.
    pub error: String,
    /// What was tried.
    pub tries: Tries,
}

#[derive(Debug)]
struct Partition {
    source: SourceId,
    id: PartitionId,
    epoch: Epoch,
    head: u32,
    /// Messages away.
    away: u32,
    revoking: bool,
    /// What it holds.
    load: Load,
    /// Rooms that are full and hold it back.
    full_rooms: u32,
    /// It stands at its part of the source's bound.
    over: Option<IntakeReason>,
    /// When it was last asked to pause.
    since: Mono,
}

#[derive(Debug)]
struct Source {
    limit: Load,
    load: Load,
    /// Partitions that are ours and not being given up: the bound is divided among them.
    assigned: usize,
    open: bool,
    /// Why and when it was last asked to pause.
    why: Option<IntakeReason>,
    since: Mono,
    is_answered: bool,
    /// Its letters come too fast: it takes nothing, whatever it holds.
    is_flooded: bool,
    received: u64,
    settled: u64,
}

/// All records that are held.
#[derive(Debug)]
pub struct Held {
    /// Records by key.
    pub records: Pool<HeldRecord>,
    /// Groups by key.
    pub groups: Pool<Group>,
    partitions: Slab<Partition>,
    by_id: BTreeMap<(SourceId, PartitionId, Epoch), u32>,
    /// Records that are finished, and of which what became is being written down.
    answering: BTreeMap<RecordId, u32>,
    sources: Vec<Source>,
}

const NONE: u32 = u32::MAX;

impl Held {
    /// Nothing held yet.
    pub fn new(sources: &[SourceSettings]) -> Self {
        let sources = sources
            .iter()
            .map(|settings| Source {
                limit: Load { records: settings.held_records, bytes: settings.held_bytes },
                load: Load::default(),
                assigned: 0,
                open: true,
                why: None,
                since: Mono::default(),
                is_answered: settings.is_answered,
                is_flooded: false,
                received: 0,
                settled: 0,
            })
            .collect();
        Self {
            records: Pool::new(),
            groups: Pool::new(),
            partitions: Slab::new(),
            by_id: BTreeMap::new(),
            answering: BTreeMap::new(),
            sources,
        }
    }

    /// A partition is ours under a new epoch.
    pub fn assign(&mut self, source: SourceId, id: PartitionId, epoch: Epoch) {
        self.by_id.entry((source, id, epoch)).or_insert_with(|| {
            self.sources[usize::from(source.0)].assigned += 1;
            key(self.partitions.insert(Partition {
                source,
                id,
                epoch,
                head: NONE,
                away: 0,
                revoking: false,
                load: Load::default(),
                full_rooms: 0,
                over: None,
                since: Mono::default(),
            }))
        });
    }

    /// The key of a partition; `None` when it is not ours under that epoch.
    pub fn partition(&self, source: SourceId, id: PartitionId, epoch: Epoch) -> Option<u32> {
        self.by_id.get(&(source, id, epoch)).copied()
    }

    /// The partition a record came from.
    pub fn partition_of(&self, record: u32) -> u32 {
        self.records[record as usize].partition
    }

    /// A record arrived; `None` when its partition is not ours or is being given up.
    pub fn hold(
        &mut self,
        record: Arc<Record>,
        contents: usize,
        now: Mono,
        effects: &mut impl Extend<Effect>,
    ) -> Option<u32> {
        let id = record.id;
        let partition = self.partition(id.source, id.partition, id.epoch)?;
        if self.partitions[partition as usize].revoking {
            return None;
        }
        let weight = record.weight() + contents;
        let head = self.partitions[partition as usize].head;
        let record = key(self.records.insert(HeldRecord {
            record,
            open: 0,
            groups: SmallVec::new(),
            abandoned: false,
            is_answering: false,
            partition,
            weight,
            prev: NONE,
            next: head,
        }));
        if head != NONE {
            self.records[head as usize].prev = record;
        }
        self.partitions[partition as usize].head = record;
        self.grown(partition, weight, now, effects);
        Some(record)
    }

    /// One ticket of a record is punched. The last one settles it.
    pub fn punch(&mut self, record: u32, effects: &mut impl Extend<Effect>) {
        let held = &mut self.records[record as usize];
        debug_assert!(held.open > 0, "a ticket punched twice");
        held.open -= 1;
        if held.open > 0 || held.abandoned {
            return;
        }
        let id = held.record.id;
        if !held.is_answering && self.sources[usize::from(id.source.0)].is_answered {
            (held.is_answering, held.open) = (true, 1);
            self.answering.insert(id, record);
            effects.extend([Effect::Answer(id)]);
        } else {
            self.settle(record, effects);
        }
    }

    /// What became of a record is written down.
    pub fn answered(&mut self, id: RecordId, effects: &mut impl Extend<Effect>) {
        // One whose partition went meanwhile is held no more.
        if let Some(record) = self.answering.remove(&id) {
            self.punch(record, effects);
        }
    }

    /// Whether nothing is being written down.
    pub fn all_are_answered(&self) -> bool {
        self.answering.is_empty()
    }

    /// A record without tickets is settled.
    pub fn settle(&mut self, record: u32, effects: &mut impl Extend<Effect>) {
        let id = self.records[record as usize].record.id;
        self.sources[usize::from(id.source.0)].settled += 1;
        effects.extend([Effect::Settle(id)]);
        self.release(record, effects);
    }

    /// A record leaves, settled or not.
    pub fn release(&mut self, record: u32, effects: &mut impl Extend<Effect>) {
        let held = self.records.remove(record as usize);
        if held.is_answering {
            self.answering.remove(&held.record.id);
        }
        match held.prev {
            NONE => self.partitions[held.partition as usize].head = held.next,
            prev => self.records[prev as usize].next = held.next,
        }
        if held.next != NONE {
            self.records[held.next as usize].prev = held.prev;
        }
        self.shrunk(held.partition, held.weight, effects);
    }

    /// Keys of all records of a partition.
    pub fn records_of(&self, partition: u32) -> Vec<u32> {
        let mut keys = Vec::new();
        let mut next = self.partitions[partition as usize].head;
        while next != NONE {
            keys.push(next);
            next = self.records[next as usize].next;
        }
        keys
    }

    /// A message of that record leaves.
    pub fn leaves(&mut self, record: u32) {
        let held = &self.records[record as usize];
        // It is looked at again when the record is settled.
        ahead::fetch_shared(&held.record);
        self.partitions[held.partition as usize].away += 1;
    }

    /// A message of a partition came back and was judged.
    pub fn returned(&mut self, partition: u32) {
        self.partitions[partition as usize].away -= 1;
    }

    /// The memory of a record and its group will be looked at soon.
    pub fn expect(&self, group: u32, record: u32) {
        self.groups.expect(group as usize);
        self.records.expect(record as usize);
    }

    /// The partition is being given up: it takes no more records.
    pub fn begin_revoking(&mut self, partition: u32, effects: &mut impl Extend<Effect>) {
        let it = &mut self.partitions[partition as usize];
        if !std::mem::replace(&mut it.revoking, true) {
            let source = it.source;
            self.divide_anew(source, effects);
        }
    }

    /// Whether the partition is being given up.
    pub fn is_revoking(&self, partition: u32) -> bool {
        self.partitions[partition as usize].revoking
    }

    /// A partition under revocation whose calls have all answered is let go.
    pub fn finish_revoking(&mut self, partition: u32, effects: &mut impl Extend<Effect>) -> bool {
        let it = &self.partitions[partition as usize];
        if !it.revoking || it.away > 0 {
            return false;
        }
        effects.extend([Effect::Released(it.source, it.id, it.epoch)]);
        true
    }

    /// Forgets a partition that holds no records any more.
    pub fn forget(&mut self, partition: u32) {
        let it = self.partitions.remove(partition as usize);
        debug_assert!(it.head == NONE, "a partition forgotten with records in it");
        self.by_id.remove(&(it.source, it.id, it.epoch));
    }

    /// A new group of siblings of a record.
    pub fn add_group(&mut self, group: Group) -> u32 {
        let record = group.record;
        let group = key(self.groups.insert(group));
        let held = &mut self.records[record as usize];
        held.groups.push(group);
        held.open += 1;
        group
    }

    /// A group whose last job is finished.
    pub fn take_group(&mut self, group: u32) -> Group {
        let taken = self.groups.remove(group as usize);
        self.records[taken.record as usize].groups.retain(|other| *other != group);
        taken
    }

    /// How many sources there are.
    pub fn sources(&self) -> u16 {
        u16::try_from(self.sources.len()).expect("a source has a 16-bit id")
    }

    /// Whether that key still stands for that record: keys are used again, ids are not.
    pub fn id_is_held(&self, record: u32, id: RecordId) -> bool {
        self.records.get(record as usize).is_some_and(|held| held.record.id == id)
    }
}

/// Keys as they are kept.
fn key(key: usize) -> u32 {
    u32::try_from(key).expect("fewer than 2^32 records fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_a_partition_that_was_let_go() {
        let mut held = Held::new(&super::super::test_bed::settings().sources);
        for epoch in (1..100).map(Epoch) {
            held.assign(SourceId(0), PartitionId(0), epoch);
            let partition = held.partition(SourceId(0), PartitionId(0), epoch).expect("it is ours");
            held.begin_revoking(partition, &mut Vec::new());
            assert!(held.finish_revoking(partition, &mut Vec::new()), "no call of it is away");
            held.forget(partition);
            assert_eq!(held.partition(SourceId(0), PartitionId(0), epoch), None, "{epoch:?}");
        }
        assert!(held.partitions.is_empty() && held.by_id.is_empty(), "however often it comes and goes");
    }
}
