//! Replays: people ask for letters, their requests are one log that one process at a time reads, and what
//! became of each letter stands in a table that all processes follow.
//!
//! Some seeds have them, told by the seed alone and drawn from a generator of their own: the other seeds
//! stay the worlds they were before there were any.

mod desk;
mod people;
mod reader;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast::core::letter::{LetterId, Sealed};
use roomcast::core::model::{PartitionId, RecordId};
use roomcast::core::replay::{Asked, Row};
use roomcast::core::schedule::SourceSettings;

pub use self::desk::{Desk, Found};
use crate::spec::{EventNo, MessageNo, Source};
use crate::world::{Happening, ProcessNo, World, millis};

/// The one partition of the log of requests.
pub const PARTITION: PartitionId = PartitionId(0);

/// A letter that somebody may ask for.
#[derive(Clone, Debug)]
pub struct Known {
    /// As it stands in its topic.
    pub sealed: Arc<Sealed>,
    /// What it was written for: a record, or the request for an earlier letter.
    pub event: EventNo,
    /// What it owes.
    pub messages: Vec<MessageNo>,
    /// The first of its chain; itself where it is no letter of a letter.
    pub first: LetterId,
    /// How often what it owes was replayed before.
    pub replays: u32,
    /// It could not keep its value, which is gone from where it stood.
    pub is_truncated: bool,
}

/// One record of the log.
#[derive(Clone, Debug)]
pub struct Request {
    pub event: EventNo,
    pub letter: LetterId,
    pub asked: Asked,
}

/// All that a world has of them.
#[derive(Default)]
pub struct Replays {
    /// Whether this world has any.
    pub are_on: bool,
    rng: fastrand::Rng,
    pub max_replays: u32,
    pub letters: BTreeMap<LetterId, Known>,
    pub log: Vec<Request>,
    /// Requests that will still be written, and how many more there may be.
    planned: u32,
    left: u32,
    pub committed: usize,
    reader: Option<(ProcessNo, u32)>,
    /// Grows with each assignment: a commit of an earlier one is refused.
    generation: u32,
    /// Every row that was ever put, in order.
    pub table: Vec<(LetterId, Row)>,
    /// Letters that somebody discarded.
    pub discarded: std::collections::BTreeSet<LetterId>,
}

/// What happens around them.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody wants a letter replayed: a row that says so, then the request.
    Ask {
        letter: LetterId,
        by: &'static str,
    },
    /// The request reaches the log.
    Publish {
        letter: LetterId,
        by: &'static str,
    },
    /// Somebody does not want a letter any more.
    Discard(LetterId),
    /// Somebody is to read the log.
    Assign,
    /// Its reader is missed.
    SessionTimeout {
        process: ProcessNo,
        life: u32,
    },
    /// Its reader loses it at once.
    Lose,
    /// Its reader is to give it up.
    Revoke,
    Fetch {
        process: ProcessNo,
        life: u32,
    },
    Commit {
        process: ProcessNo,
        life: u32,
    },
    Committed {
        generation: u32,
        at: usize,
    },
    /// A row reaches the table.
    Put {
        process: ProcessNo,
        life: u32,
        record: RecordId,
    },
    /// The last row of a request is confirmed.
    Written {
        process: ProcessNo,
        life: u32,
        record: RecordId,
    },
    /// A row of a dead process reaches the table all the same.
    Orphan(LetterId, Box<Row>),
    /// A process hears of the rows up to there.
    Follow {
        process: ProcessNo,
        life: u32,
        upto: usize,
    },
}

impl World {
    /// Draws whether there are any, and when their log changes hands.
    pub fn draw_replays(&mut self, seed: u64) {
        let is_drawn = matches!(seed % 13, 2 | 8 | 10) || (self.is_keyed && seed.is_multiple_of(2));
        if !is_drawn {
            return;
        }
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x7265_706c);
        self.held_limit[Source::Requests as usize] = rng.usize(2..40);
        self.settings.sources.push(SourceSettings {
            held_records: self.held_limit[Source::Requests as usize],
            held_bytes: 1 << 20,
            is_answered: true,
        });
        let length = u64::try_from(self.faults_end.since(self.now).as_millis()).expect("an hour at most");
        if !self.isolated {
            for _ in 0..rng.u8(..4) {
                let at = self.now + millis(rng.u64(..length));
                // Where a room is a key nobody loses an assignment: what is away then is a stated exception.
                let is_lost = rng.bool() && !self.is_keyed;
                let event = if is_lost { Event::Lose } else { Event::Revoke };
                self.plan(at, Happening::Replay(event));
            }
        }
        let (left, max_replays) = (rng.u32(5..50), rng.u32(1..4));
        self.replays = Replays { are_on: true, rng, max_replays, left, ..Replays::default() };
        self.plan(self.now + millis(500), Happening::Replay(Event::Assign));
    }

    pub fn replay_happens(&mut self, event: Event) {
        match event {
            Event::Ask { letter, by } => self.ask(letter, by),
            Event::Publish { letter, by } => self.publish_request(letter, by),
            Event::Discard(letter) => self.discard(letter),
            Event::Assign => self.assign_requests(),
            Event::SessionTimeout { process, life } => self.reader_is_missed(process, life),
            Event::Lose => self.lose_requests(),
            Event::Revoke => self.revoke_requests(),
            Event::Fetch { process, life } if self.is_living(process, life) => self.fetch_requests(process),
            Event::Commit { process, life } if self.is_living(process, life) => self.commit_requests(process),
            Event::Committed { generation, at } => self.requests_are_committed(generation, at),
            Event::Put { process, life, record } if self.is_living(process, life) => {
                self.row_arrives(process, record);
            }
            Event::Written { process, life, record } if self.is_living(process, life) => {
                self.rows_are_written(process, record);
            }
            Event::Orphan(letter, row) => self.put(letter, *row),
            Event::Follow { process, life, upto } if self.is_living(process, life) => {
                self.follow(process, upto);
            }
            Event::Fetch { .. }
            | Event::Commit { .. }
            | Event::Put { .. }
            | Event::Written { .. }
            | Event::Follow { .. } => {}
        }
    }

    /// Everything that was asked for is answered, and told to the broker.
    pub fn replays_are_over(&self) -> bool {
        self.replays.planned == 0 && self.replays.committed == self.replays.log.len()
    }

    pub fn replays_left(&self) -> String {
        let of = &self.replays;
        let (log, committed, reader) = (of.log.len(), of.committed, of.reader);
        format!("requests {committed} of {log}, {} planned, {reader:?}", of.planned)
    }
}
