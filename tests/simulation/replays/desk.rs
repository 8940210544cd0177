//! What a process does about requests, as the daemon's loop does it (`driver/replays.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use roomcast::core::letter::LetterId;
use roomcast::core::model::{Epoch, Origin, Record, RecordId};
use roomcast::core::replay::{Book, Opened, Row, nothing};

use super::PARTITION;
use crate::process::source_id;
use crate::spec::Source;
use crate::world::{ProcessNo, World};

/// What one life of a process knows of replays.
pub struct Desk {
    pub book: Book,
    /// Rows of the table that it has heard of.
    pub followed: usize,
    /// Rows on their way, and those that are written, by request.
    pub writing: BTreeMap<RecordId, VecDeque<(LetterId, Row)>>,
    pub written: BTreeMap<RecordId, Vec<(LetterId, Row)>>,
    /// Its assignment of the log, if it has it.
    pub held: Option<Held>,
    pub(super) epoch: u32,
    /// What it did with each request, for the laws.
    pub found: BTreeMap<RecordId, Found>,
    /// Letters that it has heard to be answered.
    pub told: BTreeSet<LetterId>,
}

/// The log in the hands of a process.
pub struct Held {
    pub epoch: Epoch,
    pub(super) generation: u32,
    /// What is read next.
    pub(super) next: usize,
    /// All below it is settled; and what is settled above.
    pub(super) base: usize,
    pub(super) settled: BTreeSet<usize>,
    pub(super) is_open: bool,
    pub(super) revoking: bool,
    pub(super) fetching: bool,
    pub(super) committing: bool,
}

/// What a process made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A letter to be replayed, and whether that is over.
    Replay { letter: LetterId, is_over: bool },
    /// Nothing to be done.
    Nothing { letter: LetterId, is_under_way: bool },
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            book: Book::new(0),
            followed: 0,
            writing: BTreeMap::new(),
            written: BTreeMap::new(),
            held: None,
            epoch: 0,
            found: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }
}

impl Desk {
    pub(super) fn note(&mut self, letter: LetterId, row: &Row) {
        self.book.note(&Row::key(letter), Some(&row.write()));
        if row.state.is_final() {
            self.told.insert(letter);
        }
    }
}

impl World {
    pub(super) fn take_request(&mut self, process: ProcessNo, at: usize) {
        let held = self.processes[process].desk.held.as_ref().expect("it reads the log");
        let source = source_id(Source::Requests);
        let offset = i64::try_from(at).expect("few");
        let id = RecordId { source, partition: PARTITION, epoch: held.epoch, offset };
        let request = &self.replays.log[at];
        let (event, letter) = (request.event, request.letter);
        let known = &self.replays.letters[&letter];
        let mut headers = known.sealed.headers.clone();
        if known.is_truncated {
            headers.push(("roomcast-truncated".into(), Bytes::from_static(b"t/0/0")));
        }
        headers.extend(request.asked.headers());
        let record = Record {
            id,
            origin: Origin { stream: "q".into(), topic: "q".into(), partition: 0, offset },
            key: known.sealed.key.clone(),
            value: known.sealed.value.clone().filter(|_| !known.is_truncated),
            headers,
            timestamp: self.true_wall(),
            maybe_tried: false,
        };
        match self.processes[process].desk.book.open(&record) {
            Opened::Replay(request, restored) => {
                self.law_replays(process, letter, &request, &restored);
                self.processes[process].desk.found.insert(id, Found::Replay { letter, is_over: false });
                self.hand(process, event, restored);
            }
            Opened::Nothing(why) | Opened::Repeated(why) => {
                self.note(&|| format!("  p{process} does nothing about event {event}: {why}"));
                let is_under_way = self.law_leads_to_nothing(process, letter);
                self.seen.repeated_requests += 1;
                self.processes[process].desk.found.insert(id, Found::Nothing { letter, is_under_way });
                self.hand_planned(process, event, record, nothing());
            }
        }
    }

    /// Everything that a request asked for is finished: its rows are written before it is settled.
    pub fn answer_request(&mut self, process: ProcessNo, record: RecordId) {
        let wall = self.wall_of(process);
        let desk = &mut self.processes[process].desk;
        let rows = desk.book.finish(record, wall);
        if let Some(Found::Replay { is_over, .. }) = desk.found.get_mut(&record) {
            *is_over = true;
        }
        if rows.is_empty() {
            let now = self.now_of(process);
            self.processes[process].scheduler.handle_answered(record, now);
            return;
        }
        desk.writing.insert(record, rows.into());
        self.write_row(process, record, 0);
    }
}
