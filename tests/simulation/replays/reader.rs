//! The log of requests in a process's hands: read from what is committed on, settled, committed, and
//! given up or lost to another one.

use std::collections::BTreeSet;

use roomcast::core::model::{Epoch, RecordId};

use super::desk::Held;
use super::{Event, PARTITION};
use crate::faults::Fault;
use crate::process::source_id;
use crate::spec::Source;
use crate::world::{Happening, ProcessNo, World, millis};

impl World {
    /// One of the living reads the log.
    pub(super) fn assign_requests(&mut self) {
        if self.replays.reader.is_some() {
            return;
        }
        let ready = |process: &ProcessNo| {
            let of = &self.processes[*process];
            of.alive && !of.stopping
        };
        let all: Vec<ProcessNo> = (0..self.processes.len()).filter(ready).collect();
        if all.is_empty() {
            return self.after(millis(300), Happening::Replay(Event::Assign));
        }
        let process = all[self.replays.rng.usize(..all.len())];
        self.seen.takeovers += u64::from(self.replays.generation > 0);
        self.replays.generation += 1;
        let (max_replays, from) = (self.replays.max_replays, self.replays.committed);
        let of = &mut self.processes[process];
        of.desk.book.set_max_replays(max_replays);
        of.desk.epoch += 1;
        let epoch = Epoch(of.desk.epoch);
        of.desk.held = Some(Held {
            epoch,
            generation: self.replays.generation,
            next: from,
            base: from,
            settled: BTreeSet::new(),
            is_open: true,
            revoking: false,
            fetching: false,
            committing: false,
        });
        self.replays.reader = Some((process, of.life));
        of.scheduler.handle_assigned(source_id(Source::Requests), &[(PARTITION, epoch)]);
        self.note(&|| format!("  p{process} reads the requests from {from} as {epoch:?}"));
        self.drain(process);
    }

    fn is_reader(&self, process: ProcessNo) -> bool {
        self.replays.reader == Some((process, self.processes[process].life))
    }

    /// Plans a fetch when there is something to take.
    pub fn requests_act(&mut self, process: ProcessNo) {
        let (all, of) = (self.replays.log.len(), &mut self.processes[process]);
        let Some(held) = of.desk.held.as_mut().filter(|_| of.intake[Source::Requests as usize]) else {
            return;
        };
        if of.stopping || held.fetching || held.revoking || !held.is_open || held.next >= all {
            return;
        }
        held.fetching = true;
        let life = of.life;
        self.soon(15, Happening::Replay(Event::Fetch { process, life }));
    }

    pub(super) fn fetch_requests(&mut self, process: ProcessNo) {
        if let Some(held) = &mut self.processes[process].desk.held {
            held.fetching = false;
        }
        for _ in 0..self.replays.rng.u8(1..6) {
            let (all, of) = (self.replays.log.len(), &mut self.processes[process]);
            let Some(held) = of.desk.held.as_mut().filter(|_| of.intake[Source::Requests as usize]) else {
                return;
            };
            if !of.alive || of.stopping || held.revoking || !held.is_open || held.next >= all {
                return;
            }
            held.next += 1;
            let at = held.next - 1;
            self.take_request(process, at);
        }
    }

    /// The scheduler wants more of it, or no more.
    pub fn requests_are_asked(&mut self, process: ProcessNo, epoch: Epoch, open: bool) {
        if let Some(held) = self.processes[process].desk.held.as_mut().filter(|held| held.epoch == epoch) {
            held.is_open = open;
        }
    }

    /// A scheduler has settled a request.
    pub fn request_settled(&mut self, process: ProcessNo, record: RecordId) {
        let at = usize::try_from(record.offset).expect("it is a place in the log");
        if let Some(held) = &mut self.processes[process].desk.held {
            held.settled.insert(at);
            while held.settled.remove(&held.base) {
                held.base += 1;
            }
        }
        self.plan_request_commit(process);
    }

    fn plan_request_commit(&mut self, process: ProcessNo) {
        let of = &mut self.processes[process];
        let Some(held) = of.desk.held.as_mut().filter(|held| !held.committing) else { return };
        held.committing = true;
        let life = of.life;
        self.soon(1_000, Happening::Replay(Event::Commit { process, life }));
    }

    pub(super) fn commit_requests(&mut self, process: ProcessNo) {
        let Some(held) = &mut self.processes[process].desk.held else { return };
        held.committing = false;
        let (generation, at) = (held.generation, held.base);
        if self.faults_now(Fault::CommitFails) && self.replays.rng.u8(..3) == 0 {
            return self.plan_request_commit(process);
        }
        self.soon(30, Happening::Replay(Event::Committed { generation, at }));
    }

    pub(super) fn requests_are_committed(&mut self, generation: u32, at: usize) {
        if self.replays.reader.is_some() && generation == self.replays.generation {
            self.law_requests_forgotten(at);
            self.replays.committed = self.replays.committed.max(at);
        }
    }

    /// The reader loses the log, and another one, or itself, has it next.
    pub(super) fn lose_requests(&mut self) {
        let Some((process, life)) = self.replays.reader else { return };
        if !self.is_living(process, life) {
            return;
        }
        let Some(held) = self.processes[process].desk.held.take() else { return };
        self.note(&|| format!("  p{process} loses the requests"));
        self.orphan_flights(process, Source::Requests, PARTITION);
        let now = self.now_of(process);
        let given_up = [(PARTITION, held.epoch)];
        self.processes[process].scheduler.handle_lost(source_id(Source::Requests), &given_up, now);
        self.requests_are_gone(process, held.epoch);
        self.drain(process);
    }

    pub(super) fn revoke_requests(&mut self) {
        let Some((process, life)) =
            self.replays.reader.filter(|(process, life)| self.is_living(*process, *life))
        else {
            return;
        };
        let now = self.now_of(process);
        let of = &mut self.processes[process];
        let Some(held) = of.desk.held.as_mut().filter(|held| !held.revoking) else { return };
        held.revoking = true;
        let given_up = [(PARTITION, held.epoch)];
        of.scheduler.handle_revoking(source_id(Source::Requests), &given_up, now);
        self.note(&|| format!("  p{process} in its life {life} is to give up the requests"));
        self.drain(process);
    }

    /// A scheduler has let go of it: the last commit, and it is another's.
    pub fn requests_released(&mut self, process: ProcessNo, epoch: Epoch) {
        let desk = &mut self.processes[process].desk;
        let Some(held) = desk.held.take_if(|held| held.epoch == epoch) else { return };
        self.requests_are_committed(held.generation, held.base);
        self.requests_are_gone(process, epoch);
    }

    fn requests_are_gone(&mut self, process: ProcessNo, epoch: Epoch) {
        let desk = &mut self.processes[process].desk;
        desk.book.forget(source_id(Source::Requests), PARTITION, epoch);
        // What was not over comes again.
        desk.found.retain(|record, found| {
            record.epoch != epoch || matches!(found, super::Found::Replay { is_over: true, .. })
        });
        self.forget(process, Source::Requests, PARTITION, epoch);
        self.replays.reader = None;
        let wait = self.rest() + millis(self.replays.rng.u64(1..2_000));
        self.after(wait, Happening::Replay(Event::Assign));
    }

    /// The reader died: it is missed only after a while.
    pub fn reader_dies(&mut self, process: ProcessNo) {
        if !self.replays.are_on {
            return;
        }
        self.orphan_rows(process);
        if self.is_reader(process) {
            let life = self.processes[process].life;
            let wait = self.replays.rng.u64(20..5_000);
            let wait = millis(if self.is_keyed { wait.max(6_000) } else { wait });
            self.after(wait, Happening::Replay(Event::SessionTimeout { process, life }));
        }
    }

    pub(super) fn reader_is_missed(&mut self, process: ProcessNo, life: u32) {
        if self.replays.reader == Some((process, life)) {
            self.replays.reader = None;
            let wait = self.rest() + millis(self.replays.rng.u64(1..=200));
            self.after(wait, Happening::Replay(Event::Assign));
        }
    }

    /// The reader ends in good order.
    pub fn reader_leaves(&mut self, process: ProcessNo) {
        if !self.replays.are_on {
            return;
        }
        self.orphan_rows(process);
        if let Some(held) = self.processes[process].desk.held.take() {
            self.requests_are_committed(held.generation, held.base);
        }
        let life = self.processes[process].life;
        self.reader_is_missed(process, life);
    }
}
