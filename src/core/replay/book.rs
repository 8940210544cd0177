//! The book of one dead-letter topic's replays: which requests are under way, what is answered, and what
//! is written about it.
//!
//! The shell hands it what it reads and asks it what to do; it decides and never waits. A request that
//! comes while the same letter is under way, or after it was answered, leads to nothing: so two people who
//! ask for the same replay cause it once. What it does not remember is sent again under the same ids, marked.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::answered::{Answer, Answered};
use super::{Request, Row, State, open};
use crate::core::letter::{Letter, LetterId};
use crate::core::model::{DropReason, Epoch, PartitionId, Record, RecordId, SourceId};
use crate::core::time::Wall;

/// What a record of the topic of requests leads to.
#[derive(Debug)]
pub enum Opened {
    /// The letter is to be replayed: what is asked, and the record that it was written for.
    Replay(Box<Request>, Record),
    /// Nothing is to be done, and why, for the log.
    Nothing(String),
    /// Nothing is to be done, because the same letter was asked for before, which is nothing to wonder at.
    Repeated(String),
}

/// How many requests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Everything that was owed was accepted, or dropped by a rule of the config.
    pub replayed: u64,
    /// Something failed again, and is in another letter.
    pub failed: u64,
    /// Letters that failed again and are parked.
    pub parked: u64,
    /// Requests for letters that were under way or answered already.
    pub repeated: u64,
    /// Letters that stay open, because their value is gone.
    pub value_gone: u64,
    /// Records that are no requests.
    pub no_request: u64,
}

impl Counts {
    /// Each with its word, for metrics and status.
    pub fn words(&self) -> [(&'static str, u64); 6] {
        [
            ("replayed", self.replayed),
            ("failed", self.failed),
            ("parked", self.parked),
            ("repeated", self.repeated),
            ("value_gone", self.value_gone),
            ("no_request", self.no_request),
        ]
    }
}

/// A request that is under way.
#[derive(Debug)]
struct UnderWay {
    letter: LetterId,
    asked_by: String,
    request: Uuid,
    /// What is written in any case, where nothing is sent.
    instead: Option<(State, String)>,
    /// Why nothing was sent, where the routes drop it.
    dropped: Option<DropReason>,
    /// Letters that were written meanwhile: id, times replayed, class.
    next: Vec<(LetterId, u32, &'static str)>,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    max_replays: u32,
    under_way: BTreeMap<RecordId, UnderWay>,
    /// The letters of those that are to be sent.
    letters: BTreeMap<LetterId, RecordId>,
    answered: Answered,
    counts: Counts,
}

/// Who brings a letter to its end where nobody asked.
const DAEMON: &str = "roomcast";

impl Book {
    /// An empty one. Letters that were replayed more often than `max_replays` are parked.
    pub fn new(max_replays: u32) -> Self {
        Self {
            max_replays,
            under_way: BTreeMap::new(),
            letters: BTreeMap::new(),
            answered: Answered::default(),
            counts: Counts::default(),
        }
    }

    /// Another bound, from now on.
    pub fn set_max_replays(&mut self, max_replays: u32) {
        self.max_replays = max_replays;
    }

    /// How many requests ended how.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes note of a row of the table, as somebody wrote it; `None`: it was taken away. A row that is not
    /// a letter's is passed over.
    pub fn note(&mut self, key: &str, value: Option<&[u8]>) {
        let Some(letter) = Row::letter(key) else { return };
        match value.map(Row::read) {
            Some(Ok(row)) if row.state.is_final() => {
                self.answered.set(letter, Answer { state: row.state, next: row.next.into() });
            }
            // Who asks for an answered letter has come too late, and so has a daemon that parks it: such a row
            // was meant for a letter that nobody had asked for yet.
            Some(Ok(Row { state: State::Requested | State::Parked, .. }) | Err(_)) => {}
            Some(Ok(_)) | None => self.answered.forget(letter),
        }
    }

    /// A record of the topic of requests has come.
    pub fn open(&mut self, record: &Record) -> Opened {
        let (request, restored) = match open(record) {
            Ok(opened) => opened,
            Err(why) => {
                self.counts.no_request += 1;
                return Opened::Nothing(format!("it is no request for a replay: {why}"));
            }
        };
        let letter = request.told.letter;
        let mut entry = UnderWay {
            letter,
            asked_by: request.asked.by.clone(),
            request: request.asked.id,
            instead: None,
            dropped: None,
            next: Vec::new(),
        };
        if self.letters.contains_key(&letter) {
            self.counts.repeated += 1;
            return Opened::Repeated(format!("letter {letter} is under way already"));
        }
        let nothing = if let Some(answer) = self.answered.get(letter) {
            let word = answer.state.word();
            self.counts.repeated += 1;
            entry.instead = Some((answer.state, format!("asked for again when it was {word}")));
            entry.next = answer.next.iter().map(|&next| (next, 0, "")).collect();
            Some(Opened::Repeated(format!("letter {letter} is {word} already")))
        } else if restored.value.is_none() {
            let stands = request.told.truncated.as_deref().unwrap_or("nowhere");
            let why =
                format!("its value was too large for a letter, and is gone from where it stood: {stands}");
            self.counts.value_gone += 1;
            entry.instead = Some((State::Open, why.clone()));
            Some(Opened::Nothing(format!("letter {letter} stays open: {why}")))
        } else {
            self.letters.insert(letter, record.id);
            None
        };
        self.under_way.insert(record.id, entry);
        nothing.unwrap_or_else(|| Opened::Replay(Box::new(request), restored))
    }

    /// The routes drop what was asked for.
    pub fn dropped(&mut self, record: RecordId, reason: DropReason) {
        if let Some(entry) = self.under_way.get_mut(&record) {
            entry.dropped = Some(reason);
        }
    }

    /// Something failed again: a letter is written for it.
    pub fn failed(&mut self, letter: &Letter) {
        if let Some(entry) = self.under_way.get_mut(&letter.record.id) {
            entry.next.push((letter.id(), letter.replays(), letter.class.word()));
        }
    }

    /// Everything that was asked for is finished: the rows to be written now, in this order.
    pub fn finish(&mut self, record: RecordId, now: Wall) -> Vec<(LetterId, Row)> {
        let Some(entry) = self.under_way.remove(&record) else { return Vec::new() };
        let by = if entry.asked_by.is_empty() { DAEMON } else { &entry.asked_by };
        let row = |state, why: String, next: Vec<LetterId>| Row {
            why,
            request: Some(entry.request),
            next,
            ..Row::new(state, by, now)
        };
        let all_next: Vec<LetterId> = entry.next.iter().map(|&(letter, ..)| letter).collect();
        if let Some((state, why)) = entry.instead {
            return vec![(entry.letter, row(state, why, all_next))];
        }
        self.letters.remove(&entry.letter);
        let mut rows = Vec::new();
        for &(letter, replays, class) in &entry.next {
            // One that somebody asked for meanwhile, or decided about, is not parked any more.
            let is_taken = self.letters.contains_key(&letter) || self.answered.get(letter).is_some();
            if replays > self.max_replays && !is_taken {
                self.counts.parked += 1;
                let why = format!(
                    "replayed {replays} times, more than max_replays = {}; {class}",
                    self.max_replays
                );
                rows.push((letter, row(State::Parked, why, Vec::new())));
            }
        }
        let why = match (entry.next.first(), entry.dropped) {
            (Some((_, _, class)), _) => format!("failed again: {class}"),
            (None, Some(reason)) => format!("nothing was sent, the routes drop it: {}", reason.word()),
            (None, None) => String::new(),
        };
        let count = if entry.next.is_empty() { &mut self.counts.replayed } else { &mut self.counts.failed };
        *count += 1;
        self.answered.set(entry.letter, Answer { state: State::Replayed, next: all_next.clone().into() });
        rows.push((entry.letter, row(State::Replayed, why, all_next)));
        rows
    }

    /// A partition of the requests is not ours any more: its requests come again, to whom it belongs now.
    pub fn forget(&mut self, source: SourceId, partition: PartitionId, epoch: Epoch) {
        let of = |offset| RecordId { source, partition, epoch, offset };
        let gone: Vec<RecordId> =
            self.under_way.range(of(i64::MIN)..=of(i64::MAX)).map(|(record, _)| *record).collect();
        for record in gone {
            let Some(entry) = self.under_way.remove(&record) else { continue };
            if self.letters.get(&entry.letter) == Some(&record) {
                self.letters.remove(&entry.letter);
            }
        }
    }

    /// Requests that are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }
}
