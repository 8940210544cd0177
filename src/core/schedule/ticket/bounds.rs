//! What a source may hold, and each of its partitions: when they are asked to pause, and to go on.
//!
//! A source's bound is divided among its partitions. One that stands at its part pauses alone; so a
//! room or an account that is stuck fills the part of its own partition, and the others keep theirs.
//! Each goes on when half of a part is free: a pause throws away what a client has fetched already.

use super::super::status::{Bound, SourceSnapshot};
use super::super::{Effect, IntakeReason};
use super::{Held, NONE, Partition};
use crate::core::model::{Epoch, PartitionId, SourceId};
use crate::core::time::Mono;

/// Records that a partition may always hold: with fewer, every pause would cost more than it brings.
const LEAST_RECORDS: usize = 100;
/// Bytes that it may always hold: the largest record of a broker by default.
const LEAST_BYTES: usize = 1 << 20;

/// What is held, or may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Records.
    pub records: usize,
    /// Bytes of records and their rendered messages.
    pub bytes: usize,
}

impl Load {
    /// Which bound this stands at, if any.
    fn reaches(self, bound: Self) -> Option<IntakeReason> {
        if self.records >= bound.records {
            Some(IntakeReason::HeldRecords)
        } else if self.bytes >= bound.bytes {
            Some(IntakeReason::HeldBytes)
        } else {
            None
        }
    }

    /// Whether half of `part` is free below `bound`.
    fn leaves_half(self, part: Self, bound: Self) -> bool {
        self.records <= bound.records - part.records.div_ceil(2)
            && self.bytes <= bound.bytes - part.bytes.div_ceil(2)
    }

    /// The part of one of so many partitions.
    fn part(self, partitions: usize) -> Self {
        let partitions = partitions.max(1);
        Self {
            records: (self.records / partitions).max(LEAST_RECORDS.min(self.records)),
            bytes: (self.bytes / partitions).max(LEAST_BYTES.min(self.bytes)),
        }
    }
}

impl Partition {
    /// Whether it is asked to pause.
    fn is_paused(&self) -> bool {
        self.full_rooms > 0 || self.over.is_some()
    }

    /// The bounds at which it stands by itself.
    fn bounds(&self) -> Vec<Bound> {
        let room = (self.full_rooms > 0).then_some(Bound::WaitingPerRoom);
        room.into_iter().chain(self.over.map(Bound::from)).collect()
    }
}

impl From<IntakeReason> for Bound {
    fn from(reason: IntakeReason) -> Self {
        match reason {
            IntakeReason::HeldRecords => Self::HeldRecords,
            IntakeReason::HeldBytes => Self::HeldBytes,
            IntakeReason::FloodGuard => Self::FloodGuard,
        }
    }
}

impl Held {
    /// What a partition and its source hold has grown.
    pub(super) fn grown(
        &mut self,
        partition: u32,
        weight: usize,
        now: Mono,
        effects: &mut impl Extend<Effect>,
    ) {
        let it = &mut self.partitions[partition as usize];
        it.load.records += 1;
        let source = &mut self.sources[usize::from(it.source.0)];
        source.load.records += 1;
        source.received += 1;
        self.swell(partition, weight, now, effects);
    }

    /// What a record that is held keeps in memory has grown.
    pub fn add_weight(&mut self, record: u32, weight: usize, now: Mono, effects: &mut impl Extend<Effect>) {
        let held = &mut self.records[record as usize];
        held.weight += weight;
        let partition = held.partition;
        self.swell(partition, weight, now, effects);
    }

    /// Adds bytes to what a partition and its source hold, and closes what stands at its bound.
    fn swell(&mut self, partition: u32, weight: usize, now: Mono, effects: &mut impl Extend<Effect>) {
        let it = &mut self.partitions[partition as usize];
        it.load.bytes += weight;
        let source = &mut self.sources[usize::from(it.source.0)];
        source.load.bytes += weight;
        let limit = source.limit;
        if let (Some(why), true) = (source.load.reaches(limit), source.open) {
            (source.open, source.why, source.since) = (false, Some(why), now);
            effects.extend([Effect::Intake { source: it.source, open: false, why }]);
        }
        // Where there is one partition, its part is the source's bound.
        if source.assigned > 1 && it.over.is_none() {
            let over = it.load.reaches(limit.part(source.assigned));
            if over.is_some() {
                self.change(partition, Some(now), effects, |it| it.over = over);
            }
        }
    }

    /// What a partition and its source hold has shrunk.
    pub(super) fn shrunk(&mut self, partition: u32, weight: usize, effects: &mut impl Extend<Effect>) {
        let it = &mut self.partitions[partition as usize];
        it.load.records -= 1;
        it.load.bytes -= weight;
        let id = it.source;
        let source = &mut self.sources[usize::from(id.0)];
        source.load.records -= 1;
        source.load.bytes -= weight;
        let part = source.limit.part(source.assigned);
        if !source.open && source.load.leaves_half(part, source.limit) {
            source.open = true;
            if !source.is_flooded {
                effects.extend([Effect::Intake { source: id, open: true, why: IntakeReason::HeldRecords }]);
            }
        }
        self.ease(partition, effects);
    }

    /// Lets a partition go on that stood at its part and has half of it free.
    fn ease(&mut self, partition: u32, effects: &mut impl Extend<Effect>) {
        let it = &self.partitions[partition as usize];
        let source = &self.sources[usize::from(it.source.0)];
        let part = source.limit.part(source.assigned);
        if it.over.is_some() && (source.assigned < 2 || it.load.leaves_half(part, part)) {
            self.change(partition, None, effects, |it| it.over = None);
        }
    }

    /// A partition of the source goes: the parts of the others grow.
    pub(super) fn divide_anew(&mut self, source: SourceId, effects: &mut impl Extend<Effect>) {
        self.sources[usize::from(source.0)].assigned -= 1;
        let of_source = self.partitions.iter().filter(|(_, it)| it.source == source && it.over.is_some());
        for key in of_source.map(|(key, _)| super::key(key)).collect::<Vec<_>>() {
            self.ease(key, effects);
        }
    }

    /// A room of that partition is full, since now, or (`None`) has a place again.
    pub fn pause(&mut self, partition: u32, full: Option<Mono>, effects: &mut impl Extend<Effect>) {
        self.change(partition, full, effects, |it| match full {
            Some(_) => it.full_rooms += 1,
            None => it.full_rooms -= 1,
        });
    }

    /// Changes why a partition pauses, and says so when that changes whether it does.
    fn change(
        &mut self,
        partition: u32,
        now: Option<Mono>,
        effects: &mut impl Extend<Effect>,
        change: impl FnOnce(&mut Partition),
    ) {
        let it = &mut self.partitions[partition as usize];
        let was = it.is_paused();
        change(it);
        let is = it.is_paused();
        if was == is {
            return;
        }
        if let Some(now) = now {
            it.since = now;
        }
        let (source, partition, epoch) = (it.source, it.id, it.epoch);
        effects.extend([Effect::PartitionIntake { source, partition, epoch, open: !is }]);
    }

    /// The letters of a source come too fast, or do not any more: whether that changes what it may take.
    pub fn set_flooded(&mut self, source: SourceId, is: bool, now: Mono) -> bool {
        let it = &mut self.sources[usize::from(source.0)];
        it.is_flooded = is;
        if it.open {
            it.since = now;
        }
        it.open
    }

    /// For status and metrics.
    pub fn snapshot(&self, source: SourceId) -> SourceSnapshot {
        let it = &self.sources[usize::from(source.0)];
        let mut snapshot = SourceSnapshot {
            received: it.received,
            settled: it.settled,
            held_records: it.load.records,
            max_held_records: it.limit.records,
            held_bytes: it.load.bytes,
            max_held_bytes: it.limit.bytes,
            intake_open: it.open && !it.is_flooded,
            closed_since: (!it.open || it.is_flooded).then_some(it.since),
            ..SourceSnapshot::default()
        };
        for (_, partition) in self.partitions.iter().filter(|(_, it)| it.source == source && it.is_paused()) {
            snapshot.paused_partitions += 1;
            for bound in partition.bounds() {
                snapshot.paused_at[bound as usize] += 1;
            }
        }
        snapshot
    }

    /// The partitions of a source that pause by themselves; all of them, when the source does. Those
    /// that hold most come first.
    pub fn holding_back(&self, source: SourceId) -> Vec<u32> {
        let is_open =
            self.sources[usize::from(source.0)].open && !self.sources[usize::from(source.0)].is_flooded;
        let of_source = self.partitions.iter().filter(|(_, it)| it.source == source && it.head != NONE);
        let mut found: Vec<(usize, u32)> = of_source
            .filter(|(_, it)| it.is_paused() || !is_open)
            .map(|(key, it)| (it.load.records, super::key(key)))
            .collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.into_iter().map(|(_, key)| key).collect()
    }

    /// Which partition that is.
    pub fn identity(&self, partition: u32) -> (PartitionId, Epoch) {
        let it = &self.partitions[partition as usize];
        (it.id, it.epoch)
    }

    /// Why and since when a partition pauses, what it holds and what its part is. The source's own
    /// bound counts as its bound.
    pub fn standing(&self, partition: u32) -> (Vec<Bound>, Option<Mono>, Load, Load) {
        let it = &self.partitions[partition as usize];
        let source = &self.sources[usize::from(it.source.0)];
        let mut bounds = it.bounds();
        let mut since = it.is_paused().then_some(it.since);
        if !source.open || source.is_flooded {
            since = Some(since.map_or(source.since, |since| since.min(source.since)));
            let whole = source.why.filter(|_| !source.open).map(Bound::from);
            bounds.extend(whole.filter(|bound| !bounds.contains(bound)));
            bounds.extend(source.is_flooded.then_some(Bound::FloodGuard));
        }
        (bounds, since, it.load, source.limit.part(source.assigned))
    }
}
