//! A topic in a Kafka cluster, its group, and the client side of each process: the real table of
//! partitions and watermarks, driven as the source's thread drives it.

mod group;

use roomcast::core::model::{Epoch, PartitionId, RecordId};
use roomcast::core::partitions::Partitions;
use roomcast::core::time::Mono;
use roomcast::core::watermark::Received;

use crate::faults::Fault;
use crate::process::{record, source_id};
use crate::spec::{EventNo, Source};
use crate::world::{Happening, ProcessNo, World, millis};

const TOPIC: &str = "t";

/// The broker's side.
#[derive(Debug, Default)]
pub struct Cluster {
    pub logs: Vec<Log>,
    /// Where the fetch of each partition stands is the client's; what is committed is here.
    committed: Vec<Option<(i64, String)>>,
    owner: Vec<Option<(ProcessNo, u32)>>,
    /// How often each was assigned: a commit of an earlier generation is refused.
    generations: Vec<u32>,
    moving: Vec<bool>,
    assigning: Vec<bool>,
    members: Vec<Option<u32>>,
    shuffle: usize,
    /// The broker keeps no metadata.
    pub drops_metadata: bool,
}

/// One partition.
#[derive(Debug, Default)]
pub struct Log {
    pub records: Vec<(i64, EventNo)>,
    pub end: i64,
    /// Events that will still be published.
    pub unpublished: std::collections::VecDeque<EventNo>,
}

/// The client's side in one process.
#[derive(Default)]
pub struct KafkaClient {
    pub table: Partitions,
    positions: Vec<i64>,
    fetching: bool,
    committing: bool,
    /// When the last commit that is on its way arrives: they stay in order.
    commits_until: Mono,
    turn: usize,
}

/// What happens there.
#[derive(Clone, Debug)]
pub enum Event {
    Publish(usize),
    Fetch { process: ProcessNo, life: u32 },
    Commit { process: ProcessNo, life: u32 },
    Committed { process: ProcessNo, generation: u32, partition: usize, offset: i64, metadata: String },
    SessionTimeout { process: ProcessNo, life: u32 },
    Assign(usize),
    Rebalance,
    Lose(ProcessNo),
    Rewind(ProcessNo),
    ClearMetadata,
}

impl Cluster {
    pub fn new(partitions: usize, processes: usize) -> Self {
        Self {
            logs: (0..partitions).map(|_| Log::default()).collect(),
            committed: vec![None; partitions],
            owner: vec![None; partitions],
            generations: vec![0; partitions],
            moving: vec![false; partitions],
            assigning: vec![false; partitions],
            members: vec![None; processes],
            shuffle: 0,
            drops_metadata: false,
        }
    }

    /// Who is to have a partition.
    fn target(&self, partition: usize) -> Option<(ProcessNo, u32)> {
        let live: Vec<(ProcessNo, u32)> =
            self.members.iter().enumerate().filter_map(|(process, life)| Some((process, (*life)?))).collect();
        let at = (partition + self.shuffle).checked_rem(live.len())?;
        Some(live[at])
    }
}

impl World {
    pub fn kafka_happens(&mut self, event: Event) {
        match event {
            Event::Publish(partition) => self.publish(partition),
            Event::Fetch { process, life } if self.is_living(process, life) => self.fetch(process),
            Event::Commit { process, life } if self.is_living(process, life) => self.commit(process),
            Event::Committed { process, generation, partition, offset, metadata } => {
                self.commit_arrives(process, generation, partition, offset, metadata);
            }
            Event::SessionTimeout { process, life } => self.session_ends(process, life),
            Event::Assign(partition) => self.assign(partition),
            Event::Rebalance => {
                self.kafka.shuffle += self.rng.usize(1..4);
                self.reconcile();
            }
            Event::Lose(process) => self.lose_all(process),
            Event::Rewind(process) => self.rewind(process),
            Event::ClearMetadata => {
                for (_, metadata) in self.kafka.committed.iter_mut().flatten() {
                    metadata.clear();
                }
            }
            Event::Fetch { .. } | Event::Commit { .. } => {}
        }
    }

    /// Plans a fetch when there is something to take.
    pub fn kafka_acts(&mut self, process: ProcessNo) {
        let of = &mut self.processes[process];
        if of.stopping || of.kafka.fetching {
            return;
        }
        of.kafka.table.fills();
        if !self.fetchable(process).is_empty() {
            self.processes[process].kafka.fetching = true;
            let life = self.processes[process].life;
            self.soon(15, Happening::Kafka(Event::Fetch { process, life }));
        }
    }

    fn fetchable(&self, process: ProcessNo) -> Vec<usize> {
        let of = &self.processes[process];
        let open = of.intake[Source::Kafka as usize];
        let wanted = of.kafka.table.held().filter(|(_, _, held)| !held.revoking && !held.wants_pause(open));
        let partitions = wanted.map(|(_, slot, _)| usize::try_from(slot.number).expect("few"));
        partitions.filter(|&partition| self.next_record(process, partition).is_some()).collect()
    }

    fn next_record(&self, process: ProcessNo, partition: usize) -> Option<(i64, EventNo)> {
        let position = *self.processes[process].kafka.positions.get(partition)?;
        let records = &self.kafka.logs[partition].records;
        let at = records.partition_point(|(offset, _)| *offset < position);
        records.get(at).copied()
    }

    fn fetch(&mut self, process: ProcessNo) {
        self.processes[process].kafka.fetching = false;
        for _ in 0..self.rng.u8(1..6) {
            if !self.processes[process].alive || self.processes[process].stopping {
                return;
            }
            self.processes[process].kafka.table.fills();
            let fetchable = self.fetchable(process);
            let turn = self.processes[process].kafka.turn;
            let Some(partition) = fetchable.get(turn.checked_rem(fetchable.len()).unwrap_or(0)) else {
                return;
            };
            self.processes[process].kafka.turn += 1;
            self.take_in(process, *partition);
        }
    }

    fn take_in(&mut self, process: ProcessNo, partition: usize) {
        let (offset, event) = self.next_record(process, partition).expect("it was looked for");
        let client = &mut self.processes[process].kafka;
        client.positions[partition] = offset + 1;
        let number = i32::try_from(partition).expect("few");
        let known = client.table.find(TOPIC, number).expect("it is assigned");
        let held = client.table.slot_mut(known).and_then(|slot| slot.held.as_mut()).expect("it is assigned");
        let (epoch, maybe_tried) = (held.epoch, offset < held.end_at_start);
        match held.mark.receive(offset) {
            Received::New => {}
            Received::Finished => {
                self.seen.skipped_by_metadata += 1;
                self.law_forgotten(event, "skipped as the metadata tells");
                return;
            }
            Received::Backwards => {
                let (start, end) = (held.begins_again(offset), held.end_at_start.max(held.mark.next()));
                self.partition_is_lost(process, known, epoch);
                let epoch = self.processes[process].kafka.table.assign(known, start, "", end);
                self.processes[process]
                    .scheduler
                    .handle_assigned(source_id(Source::Kafka), &[(known, epoch)]);
                self.processes[process].kafka.positions[partition] = start;
                return self.drain(process);
            }
        }
        if self.commits_are_sure()
            && let Some((settled, by, life)) = self.laws.courses[event].settled.take()
            && let Some(death) = self.deaths.get(&(by, life))
        {
            let age = death.since(settled);
            assert!(age <= millis(1_300), "P9: event {event}, settled {age:?} before the crash, comes again");
        }
        let id = RecordId { source: source_id(Source::Kafka), partition: known, epoch, offset };
        let record = record(id, event, maybe_tried, self);
        self.hand(process, event, record);
    }

    /// A scheduler has settled a record.
    pub fn kafka_settled(&mut self, process: ProcessNo, record: RecordId) {
        self.processes[process].kafka.table.settle(record);
        self.plan_commit(process);
    }

    fn plan_commit(&mut self, process: ProcessNo) {
        let of = &mut self.processes[process];
        if std::mem::replace(&mut of.kafka.committing, true) {
            return;
        }
        let life = of.life;
        self.soon(1_000, Happening::Kafka(Event::Commit { process, life }));
    }

    fn commit(&mut self, process: ProcessNo) {
        let of = &mut self.processes[process];
        of.kafka.committing = false;
        let mut all = Vec::new();
        for (_, number, held) in of.kafka.table.held_mut() {
            if let Some(progress) = held.progress(true, true) {
                all.push((usize::try_from(number).expect("few"), progress.offset, progress.metadata));
            }
        }
        for (partition, offset, metadata) in all {
            if self.faults_now(Fault::CommitFails) && self.rng.u8(..3) == 0 {
                self.seen.failed_commits += 1;
                self.processes[process].kafka.table.held_mut().for_each(|(_, _, held)| held.forget_told());
                self.plan_commit(process);
                continue;
            }
            let wait = millis(self.rng.u64(1..=30));
            let client = &mut self.processes[process].kafka;
            client.commits_until = client.commits_until.max(self.now + wait);
            let at = client.commits_until;
            let generation = self.kafka.generations[partition];
            let event = Event::Committed { process, generation, partition, offset, metadata };
            self.plan(at, Happening::Kafka(event));
        }
    }

    fn revoke(&mut self, process: ProcessNo, partition: usize) {
        self.seen.revoked += 1;
        let number = i32::try_from(partition).expect("few");
        let table = &mut self.processes[process].kafka.table;
        let known = table.find(TOPIC, number).expect("it is assigned");
        let held = table.slot_mut(known).and_then(|slot| slot.held.as_mut()).expect("it is assigned");
        held.revoking = true;
        let epoch = held.epoch;
        self.note(&|| format!("  p{process} is to give up partition {partition}, {epoch:?}"));
        self.share_of_partition(process, partition, false);
        let now = self.now_of(process);
        self.processes[process].scheduler.handle_revoking(source_id(Source::Kafka), &[(known, epoch)], now);
        self.drain(process);
    }

    /// A scheduler has let go of a partition: the last commit, and it is another's.
    pub fn released(&mut self, process: ProcessNo, known: PartitionId, epoch: Epoch) {
        let table = &mut self.processes[process].kafka.table;
        let Some(slot) = table.slot_mut(known) else { return };
        let partition = usize::try_from(slot.number).expect("few");
        let Some(held) = slot.held.as_mut().filter(|held| held.epoch == epoch && held.revoking) else {
            return;
        };
        let last = held.last_progress(true);
        if !(self.faults_now(Fault::CommitFails) && self.rng.u8(..3) == 0) {
            self.committed(partition, last.offset, last.metadata);
        }
        self.processes[process].kafka.table.release(&[known]);
        self.forget(process, Source::Kafka, known, epoch);
        self.kafka.owner[partition] = None;
        self.kafka.moving[partition] = false;
        self.plan_assign(partition);
    }

    /// What a process held under an assignment is another's, or comes anew.
    fn partition_is_lost(&mut self, process: ProcessNo, known: PartitionId, epoch: Epoch) {
        self.orphan_flights(process, Source::Kafka, known);
        let now = self.now_of(process);
        self.processes[process].scheduler.handle_lost(source_id(Source::Kafka), &[(known, epoch)], now);
        self.forget(process, Source::Kafka, known, epoch);
    }

    fn rewind(&mut self, process: ProcessNo) {
        if !self.processes[process].alive {
            return;
        }
        let positions = self.processes[process].kafka.positions.len();
        if positions == 0 {
            return;
        }
        let partition = self.rng.usize(..positions);
        let number = i32::try_from(partition).expect("few");
        let table = &self.processes[process].kafka.table;
        let held = table.find(TOPIC, number).and_then(|known| table.slot(known)?.held.as_ref());
        if held.is_none_or(|held| held.revoking) {
            return;
        }
        self.seen.rewinds += 1;
        let back = self.rng.i64(1..10);
        let position = &mut self.processes[process].kafka.positions[partition];
        *position = (*position - back).max(0);
    }

    /// Calls away with messages of a partition that is lost: whoever gets them next does not know.
    pub fn orphan_flights(&mut self, process: ProcessNo, source: Source, known: PartitionId) {
        let life = self.processes[process].life;
        let partition = match source {
            Source::Kafka => self.processes[process].kafka.table.slot(known).map_or(0, |slot| slot.number),
            Source::JetStream | Source::Requests => 0,
        };
        let partition = u32::try_from(partition).expect("few");
        for away in self.calls.values().filter(|away| away.process == process && away.life == life) {
            let crate::calls::What::Send(attempt) = &away.what else { continue };
            for item in &attempt.items {
                let number = self.laws.number(&self.spec, item);
                let event = &self.spec.events[self.spec.messages[number].event];
                if (event.source, event.partition) == (source, partition) {
                    self.laws.fates[number].maybe = true;
                }
            }
        }
    }
}
