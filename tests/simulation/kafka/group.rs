//! The cluster's side: the log, the group and what it has committed.

use std::time::Duration;

use roomcast::core::partitions::{Begin, REST, committed_begin};
use roomcast::core::watermark::{Received, Watermark};

use super::{Event, Log, TOPIC};
use crate::faults::Fault;
use crate::process::source_id;
use crate::spec::Source;
use crate::world::{Happening, ProcessNo, World, millis};

impl World {
    pub(super) fn publish(&mut self, partition: usize) {
        let gap = if self.faults.has(Fault::Gaps) { self.rng.i64(0..3) } else { 0 };
        let log = &mut self.kafka.logs[partition];
        let Some(event) = log.unpublished.pop_front() else { return };
        log.records.push((log.end + gap, event));
        log.end += gap + 1;
        self.published_by = self.now;
        if !self.kafka.logs[partition].unpublished.is_empty() {
            self.soon(400, Happening::Kafka(Event::Publish(partition)));
        }
    }

    pub(super) fn commit_arrives(
        &mut self,
        process: ProcessNo,
        generation: u32,
        partition: usize,
        offset: i64,
        metadata: String,
    ) {
        // The group takes commits from whoever has the partition since then, and from nobody else.
        let is_owner = self.kafka.owner[partition].is_some_and(|(owner, _)| owner == process);
        if !is_owner || self.kafka.generations[partition] != generation {
            return;
        }
        self.committed(partition, offset, metadata);
    }

    pub(super) fn committed(&mut self, partition: usize, offset: i64, metadata: String) {
        let before = self.kafka.committed[partition].as_ref().map_or(0, |(offset, _)| *offset);
        self.note(&|| format!("  partition {partition} is committed at {offset} {metadata:?}"));
        assert!(
            offset >= before || self.faults.has(Fault::Rewind) || self.faults.has(Fault::CommitFails),
            "P1: the commit of partition {partition} falls from {before} to {offset}"
        );
        let mut told = Watermark::new(offset, &metadata);
        for (at, event) in &self.kafka.logs[partition].records {
            if *at < offset {
                self.law_forgotten(*event, "below the commit");
            } else if told.receive(*at) == Received::Finished {
                self.law_forgotten(*event, "finished by the metadata");
            }
        }
        let metadata = if self.kafka.drops_metadata { String::new() } else { metadata };
        self.kafka.committed[partition] = Some((offset, metadata));
    }

    /// Moves what the group wants elsewhere.
    pub(super) fn reconcile(&mut self) {
        for partition in 0..self.kafka.logs.len() {
            let target = self.kafka.target(partition);
            match self.kafka.owner[partition] {
                Some((process, life)) if self.is_living(process, life) => {
                    let leaves = target != Some((process, life));
                    if leaves && !std::mem::replace(&mut self.kafka.moving[partition], true) {
                        self.revoke(process, partition);
                    }
                }
                Some(_) => {}
                None => self.plan_assign(partition),
            }
        }
    }

    pub(super) fn plan_assign(&mut self, partition: usize) {
        if !std::mem::replace(&mut self.kafka.assigning[partition], true) {
            let wait = self.rest() + millis(self.rng.u64(1..=200));
            self.after(wait, Happening::Kafka(Event::Assign(partition)));
        }
    }

    /// How long the source lets the rooms of what it gives up rest. Where rooms are not keys their pace does
    /// not hang on it, and the rest is left out: what moves at once is harder on everything else.
    pub fn rest(&self) -> Duration {
        if self.is_keyed { REST } else { Duration::ZERO }
    }

    pub(super) fn assign(&mut self, partition: usize) {
        self.kafka.assigning[partition] = false;
        if self.kafka.owner[partition].is_some() {
            return;
        }
        let Some((process, life)) = self.kafka.target(partition) else { return };
        if !self.is_living(process, life) || self.processes[process].stopping {
            return self.plan_assign(partition);
        }
        let (end, partitions) = (self.kafka.logs[partition].end, self.kafka.logs.len());
        let committed = self.kafka.committed[partition].clone();
        let is_first = committed.is_none();
        let (offset, metadata) = committed.unwrap_or_default();
        let (start, metadata, alarm) = committed_begin(offset, &metadata, 0, end);
        let number = i32::try_from(partition).expect("few");
        let begin = Begin { topic: TOPIC.to_owned(), number, start, metadata, end, is_first, alarm };
        let client = &mut self.processes[process].kafka;
        let begin = client.table.resumed(&begin);
        let known = client.table.intern(TOPIC, number);
        let epoch = client.table.assign(known, begin.start, &begin.metadata, begin.end);
        client.positions.resize(partitions, 0);
        client.positions[partition] = begin.start;
        self.kafka.owner[partition] = Some((process, life));
        self.kafka.generations[partition] += 1;
        self.note(&|| format!("  p{process} has partition {partition} from {} as {epoch:?}", begin.start));
        self.processes[process].scheduler.handle_assigned(source_id(Source::Kafka), &[(known, epoch)]);
        self.share_of_partition(process, partition, true);
        if is_first {
            self.committed(partition, begin.start, String::new());
        }
        // What an earlier life finished and could not commit is told now.
        self.plan_commit(process);
        self.drain(process);
    }

    pub(super) fn lose_all(&mut self, process: ProcessNo) {
        if !self.processes[process].alive {
            return;
        }
        let lost = self.processes[process].kafka.table.release_all();
        for (known, epoch) in lost {
            self.seen.lost += 1;
            self.partition_is_lost(process, known, epoch);
        }
        for partition in 0..self.kafka.logs.len() {
            if self.kafka.owner[partition].is_some_and(|(owner, _)| owner == process) {
                self.share_of_partition(process, partition, false);
                self.kafka.owner[partition] = None;
                self.kafka.moving[partition] = false;
                self.plan_assign(partition);
            }
        }
        self.kafka.shuffle += self.rng.usize(..2);
        self.drain(process);
        self.reconcile();
    }

    /// How many processes there are.
    pub fn kafka_members(&self) -> usize {
        self.kafka.members.len()
    }

    pub fn kafka_member_joins(&mut self, process: ProcessNo) {
        self.kafka.members[process] = Some(self.processes[process].life);
        self.reconcile();
    }

    /// It is missed only after a while.
    pub fn kafka_member_dies(&mut self, process: ProcessNo) {
        let life = self.processes[process].life;
        // A static member that comes back in time gets its partitions at once.
        let wait = if self.rng.bool() { self.rng.u64(20..400) } else { self.rng.u64(1_000..6_000) };
        // Nobody else has them before the session is over, whose shortest is six seconds.
        let wait = if self.is_keyed { wait.max(6_000) } else { wait };
        self.after(millis(wait), Happening::Kafka(Event::SessionTimeout { process, life }));
    }

    pub(super) fn session_ends(&mut self, process: ProcessNo, life: u32) {
        if self.kafka.members[process] == Some(life) {
            self.kafka.members[process] = None;
        }
        for partition in 0..self.kafka.logs.len() {
            if self.kafka.owner[partition] == Some((process, life)) {
                self.kafka.owner[partition] = None;
                self.kafka.moving[partition] = false;
            }
        }
        self.reconcile();
    }

    /// It commits everything and says goodbye.
    pub fn kafka_member_leaves(&mut self, process: ProcessNo) {
        let life = self.processes[process].life;
        let mut last = Vec::new();
        for (_, number, held) in self.processes[process].kafka.table.held_mut() {
            let progress = held.last_progress(true);
            last.push((usize::try_from(number).expect("few"), progress.offset, progress.metadata));
        }
        for (partition, offset, metadata) in last {
            if !(self.faults_now(Fault::CommitFails) && self.rng.u8(..3) == 0) {
                self.commit_arrives(process, life, partition, offset, metadata);
            }
        }
        self.processes[process].alive = false;
        self.session_ends(process, life);
    }

    /// Everything published is committed.
    pub fn kafka_is_over(&self) -> bool {
        self.kafka.logs.iter().enumerate().all(|(partition, log)| {
            let committed = self.kafka.committed[partition].as_ref().map_or(0, |(offset, _)| *offset);
            log.unpublished.is_empty() && log.records.last().is_none_or(|(last, _)| committed > *last)
        })
    }

    pub fn kafka_left(&self) -> String {
        let log = |(partition, log): (usize, &Log)| {
            format!(
                "{partition}: {:?} of {}, {:?}",
                self.kafka.committed[partition], log.end, self.kafka.owner[partition]
            )
        };
        let logs: Vec<String> = self.kafka.logs.iter().enumerate().map(log).collect();
        format!("kafka {}", logs.join(", "))
    }
}
