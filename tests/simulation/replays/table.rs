//! The table of what became of letters: it takes its time, refuses, loses confirmations, and is followed
//! by every process a while behind.

use roomcast::core::letter::LetterId;
use roomcast::core::model::RecordId;
use roomcast::core::replay::{Row, State};

use super::Event;
use crate::faults::Fault;
use crate::world::{Happening, ProcessNo, World, millis};

impl World {
    /// A row stands in the table.
    pub(super) fn put(&mut self, letter: LetterId, row: Row) {
        self.note(&|| format!("  letter {letter} is {} by {}: {:?}", row.state.word(), row.by, row.why));
        self.seen.parked += u64::from(row.state == State::Parked);
        self.replays.table.push((letter, row));
        for process in 0..self.processes.len() {
            if self.processes[process].alive {
                self.plan_follow(process);
            }
        }
    }

    /// A process hears of all rows so far, soon or late.
    pub fn plan_follow(&mut self, process: ProcessNo) {
        if !self.replays.are_on {
            return;
        }
        let (life, upto) = (self.processes[process].life, self.replays.table.len());
        let rng = &mut self.replays.rng;
        let wait = if rng.u8(..6) == 0 { rng.u64(100..8_000) } else { rng.u64(1..40) };
        self.after(millis(wait), Happening::Replay(Event::Follow { process, life, upto }));
    }

    pub(super) fn follow(&mut self, process: ProcessNo, upto: usize) {
        let desk = &mut self.processes[process].desk;
        let news = self.replays.table.get(desk.followed..upto).unwrap_or_default();
        for (letter, row) in news {
            desk.note(*letter, row);
        }
        desk.followed = desk.followed.max(upto);
    }

    /// The next row of a request leaves for the table.
    pub(super) fn write_row(&mut self, process: ProcessNo, record: RecordId, wait_ms: u64) {
        let life = self.processes[process].life;
        let most = if self.faults_now(Fault::SlowLetters) { 3_000 } else { 20 };
        let wait = millis(wait_ms + self.replays.rng.u64(1..=most));
        self.after(wait, Happening::Replay(Event::Put { process, life, record }));
    }

    pub(super) fn row_arrives(&mut self, process: ProcessNo, record: RecordId) {
        if self.letters.refusing.iter().any(|(from, to)| *from <= self.now && self.now < *to) {
            self.seen.refused_rows += 1;
            return self.write_row(process, record, 250);
        }
        let rows = self.processes[process].desk.writing.get_mut(&record).expect("it waits");
        let (letter, row) = rows.front().expect("it waits for one").clone();
        let lost = self.faults.has(Fault::LostConfirmation) && self.now < self.faults_end;
        if lost && self.replays.rng.u8(..6) == 0 {
            self.put(letter, row);
            return self.write_row(process, record, 1_000);
        }
        rows.pop_front();
        let is_last = rows.is_empty();
        self.processes[process].desk.written.entry(record).or_default().push((letter, row.clone()));
        self.put(letter, row);
        if is_last {
            let life = self.processes[process].life;
            self.soon(10, Happening::Replay(Event::Written { process, life, record }));
        } else {
            self.write_row(process, record, 0);
        }
    }

    pub(super) fn rows_are_written(&mut self, process: ProcessNo, record: RecordId) {
        self.processes[process].desk.writing.remove(&record);
        let now = self.now_of(process);
        self.processes[process].scheduler.handle_answered(record, now);
    }

    /// Rows that a process was writing when it went reach the table, or do not.
    pub(super) fn orphan_rows(&mut self, process: ProcessNo) {
        for (_, mut rows) in std::mem::take(&mut self.processes[process].desk.writing) {
            if let Some((letter, row)) = rows.pop_front().filter(|_| self.replays.rng.bool()) {
                let wait = millis(self.replays.rng.u64(1..200));
                self.after(wait, Happening::Replay(Event::Orphan(letter, Box::new(row))));
            }
        }
    }
}
