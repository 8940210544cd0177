//! What was produced, what each event is due, and what has been heard of it so far.
//!
//! Every event carries a tag (`ev-00042`) that its message repeats, so that an entry of a
//! simulator's log leads back to its event without asking the daemon anything. Pure: `play` tells
//! it what it read, `account` draws the sum.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::time::Mono;
use crate::simulator::Entry;

/// The providers of the demo; as a number, the index of its simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Easemob, account `live`.
    Easemob,
    /// NetEase Yunxin, account `match`.
    Yunxin,
}

impl Service {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Easemob, Self::Yunxin];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Easemob => "Easemob",
            Self::Yunxin => "Yunxin",
        }
    }
}

/// What an event has to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// A message in each of these rooms; the room of a broadcast is the empty text.
    Delivered(Service, Vec<String>),
    /// A dead letter of this class.
    Letter(&'static str),
    /// Nothing: a rule of the config drops it.
    Dropped,
    /// A dead letter of this class, and after it was repaired and replayed a message in this room.
    Repaired(&'static str, Service, String),
    /// A dead letter of this class, and when it was replayed another one.
    GivenUp(&'static str),
}

impl Due {
    /// Whether a message in that room is due at that provider.
    pub fn is_for(&self, service: Service, room: &str) -> bool {
        match self {
            Self::Delivered(to, rooms) => *to == service && rooms.iter().any(|due| due == room),
            Self::Repaired(_, to, due) => *to == service && due == room,
            Self::Letter(_) | Self::Dropped | Self::GivenUp(_) => false,
        }
    }
}

/// One event that was produced.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its type, or what is wrong with it.
    pub what: &'static str,
    /// What it has to become.
    pub due: Due,
    /// Topic and partition: events of the same have an order.
    pub from: (&'static str, i32),
    /// When it was handed to the broker.
    pub at: Mono,
    /// One of many: it gets no line of its own, and counts for the quota used.
    pub burst: bool,
}

/// What is worth telling about an entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Every room that is due has it.
    Delivered(usize),
    /// The provider took it, and its answer was lost.
    AnswerLost(usize),
    /// It came again; whether it said so.
    Again(usize, bool),
}

/// A dead letter, as read from the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The event.
    pub event: usize,
    /// `roomcast-class`.
    pub class: String,
    /// `roomcast-error`.
    pub error: String,
}

/// Events by their number, and what was heard.
#[derive(Debug, Default)]
pub struct Ledger {
    events: Vec<Event>,
    reached: BTreeMap<usize, BTreeSet<String>>,
    letters: Vec<Letter>,
    repeats: usize,
    open: BTreeSet<usize>,
}

impl Ledger {
    /// The tag of the next event.
    pub fn next_tag(&self) -> String {
        tag(self.events.len())
    }

    /// Takes down an event that is being produced.
    pub fn push(&mut self, event: Event) {
        if event.due != Due::Dropped {
            self.open.insert(self.events.len());
        }
        self.events.push(event);
    }

    /// The letter of an event is replayed: now this is due.
    pub fn replay(&mut self, event: usize, due: Due) {
        if let Some(replayed) = self.events.get_mut(event) {
            replayed.due = due;
            self.open.insert(event);
        }
    }

    /// All events so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// All letters so far.
    pub fn letters(&self) -> &[Letter] {
        &self.letters
    }

    /// How many events lack something that is due; those that are dropped leave no trace to wait for.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many messages came again.
    pub fn repeats(&self) -> usize {
        self.repeats
    }

    /// Takes down an entry of a simulator's log.
    pub fn heard(&mut self, entry: &Entry) -> Option<News> {
        let event = event_of(&entry.content).filter(|event| *event < self.events.len() && entry.accepted)?;
        if let Some(repeat) = entry.repeat {
            self.repeats += 1;
            return Some(News::Again(event, repeat == crate::simulator::Repeat::Marked));
        }
        let reached = self.reached.entry(event).or_default();
        reached.insert(entry.room.as_deref().unwrap_or_default().to_owned());
        let done = match &self.events[event].due {
            Due::Delivered(_, rooms) => rooms.iter().all(|room| reached.contains(room)),
            Due::Repaired(_, _, room) => reached.contains(room),
            Due::Letter(_) | Due::Dropped | Due::GivenUp(_) => false,
        };
        if done {
            self.open.remove(&event);
        }
        match entry.status {
            0 => Some(News::AnswerLost(event)),
            _ => done.then_some(News::Delivered(event)),
        }
    }

    /// Takes down a letter.
    pub fn buried(&mut self, letter: Letter) {
        self.open.remove(&letter.event);
        self.letters.push(letter);
    }
}

/// The tag of the event with that number.
pub fn tag(event: usize) -> String {
    format!("ev-{event:05}")
}

/// The number of the event that a content (or a tag) is of.
pub fn event_of(content: &str) -> Option<usize> {
    content.match_indices("ev-").find_map(|(at, _)| {
        let digits = content.get(at + 3..at + 8)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_what_members_read() {
        for (content, event) in [
            (r#"{"customEvent":"gift.sent","customExts":{"id":"ev-00042"}}"#, Some(42)),
            ("ev-x ev-00007", Some(7)),
            ("ev-0000", None),
            ("ev-1234é", None),
            ("nothing", None),
        ] {
            assert_eq!(event_of(content), event, "{content}");
        }
        assert_eq!(event_of(&tag(99_999)), Some(99_999));
    }
}
