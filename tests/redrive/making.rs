//! Letters of mixed classes, made by a daemon whose routes and provider are wrong in several ways.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::PATIENCE;
use crate::bed::{Bed, Event};
use crate::support::ask_until;
use crate::support::daemon::Daemon;
use crate::support::provider::{Kind, Provider};

/// Rooms of each other kind of letter.
const ROOMS: usize = 25;
/// Rooms whose letters the provider refuses.
pub const REFUSED_ROOMS: usize = 10;
/// Rooms of the lines between them that have no flaw, and that are sent at least as long as there is something
/// to be refused: twenty refusals in a row would speak against the account.
const GOOD_ROOMS: usize = 40;
/// Of the rooms whose letters were not mapped, those that got something later.
const OVERTAKEN: usize = 5;
/// What the first daemon makes of an event.
const BROKEN: &str = ".text";
/// What the second makes of it: what stood under another name is found, what was too long is cut.
pub const REPAIRED: &str = "(.text // .txt) | .[:100]";
/// Letters as fast as they come.
pub const GUARD_OFF: &str = "[letters]\nflood_guard = \"off\"\n\n";

/// Why an event becomes a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The provider refuses it.
    Rejected,
    /// The provider says that the room is gone.
    Gone,
    /// Its text stands where only the repaired route looks.
    Unmapped,
    /// It has no text at all.
    Irreparable,
    /// It is longer than the provider takes.
    TooLong,
    /// It is older than its time-to-live.
    Late,
}

/// What was made.
pub struct Made {
    /// Of each event: why it became a letter, and its room.
    pub letters: Vec<(Flaw, String)>,
}

impl Flaw {
    fn of(number: usize) -> Self {
        match number % 50 {
            0..4 => Self::Rejected,
            4..14 => Self::Gone,
            14..28 => Self::Unmapped,
            28 => Self::Irreparable,
            29..35 => Self::TooLong,
            _ => Self::Late,
        }
    }

    /// The class of its letter.
    pub fn class(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Gone => "room_gone",
            Self::Unmapped | Self::Irreparable => "mapping",
            Self::TooLong => "invalid",
            Self::Late => "expired",
        }
    }

    /// Its first room: those of what is not mapped are rooms of live traffic as well.
    fn rooms(self) -> usize {
        match self {
            Self::Rejected => 3_001,
            Self::Gone => 4_001,
            Self::Unmapped | Self::Irreparable => 1_001,
            Self::TooLong | Self::Late => 5_001,
        }
    }

    /// How many rooms it has.
    fn count(self) -> usize {
        if matches!(self, Self::Rejected | Self::Gone) { REFUSED_ROOMS } else { ROOMS }
    }

    fn list(self) -> Vec<String> {
        (self.rooms()..self.rooms() + self.count()).map(|room| room.to_string()).collect()
    }
}

impl Made {
    /// Letters by class.
    pub fn classes(&self) -> BTreeMap<&'static str, u64> {
        let mut classes = BTreeMap::new();
        for (flaw, _) in &self.letters {
            *classes.entry(flaw.class()).or_default() += 1;
        }
        classes
    }

    /// Letters that fail again.
    pub fn irreparable(&self) -> u64 {
        self.letters.iter().filter(|(flaw, _)| *flaw == Flaw::Irreparable).count() as u64
    }

    /// Letters whose room got something later.
    pub fn overtaken(&self) -> u64 {
        let list = &Flaw::Unmapped.list()[..OVERTAKEN];
        self.letters.iter().filter(|(_, room)| list.contains(room)).count() as u64
    }

    /// Which event has this value.
    pub fn values(&self) -> BTreeMap<Vec<u8>, usize> {
        let value = |(number, (flaw, room)): (usize, &(Flaw, String))| {
            (event(number, *flaw, room).value.expect("it is no tombstone"), number)
        };
        self.letters.iter().enumerate().map(value).collect()
    }

    /// Letters of one room and class.
    pub fn of(&self, flaw: Flaw, room: &str) -> u64 {
        self.letters.iter().filter(|letter| letter.0 == flaw && letter.1 == room).count() as u64
    }

    /// A room with letters of that kind.
    pub fn room(&self, flaw: Flaw) -> &str {
        &self.letters.iter().find(|letter| letter.0 == flaw).expect("there are all kinds").1
    }
}

/// The text by which a letter's message is found in the simulator's log.
pub fn mark(number: usize) -> String {
    format!("<{number}>")
}

fn event(number: usize, flaw: Flaw, room: &str) -> Event {
    let text = mark(number);
    let value = match flaw {
        Flaw::Unmapped => json!({ "type": "line", "txt": text }),
        Flaw::Irreparable => json!({ "type": "line", "n": number }),
        Flaw::TooLong => json!({ "type": "line", "text": text + &"x".repeat(5_000) }),
        Flaw::Late => json!({ "type": "late", "text": text }),
        Flaw::Rejected | Flaw::Gone => json!({ "type": "line", "text": text }),
    };
    Event::new(room, value.to_string())
}

/// A line without a flaw.
fn good(room: &str) -> Event {
    Event::new(room, r#"{"type":"line","text":"good"}"#)
}

/// More lines of the source: a dead daemon is noticed as soon as the brokers and roomcast allow.
pub fn source(bed: &Bed) -> &'static str {
    match bed {
        Bed::Kafka { .. } => {
            "properties = { \"session.timeout.ms\" = 6000, \"heartbeat.interval.ms\" = 500 }"
        }
        Bed::Nats(_) => "ack_wait = \"1s\"",
    }
}

/// Both routes with that filter for the text.
pub fn routes(text: &str) -> String {
    let route = |name: &str, more: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\naccount = \"match\"\nmessage = {{ kind = \"text\", text = '{text}' }}\n{more}\n\n"
        )
    };
    let late = "when = '.type == \"late\"'\nttl = \"1s\"\non_expiry = \"dead_letter\"";
    route("late", late) + &route("lines", "")
}

/// Publishes events, lets a daemon make letters of all of them, and a few good lines after them.
pub fn make(bed: &Bed, count: usize) -> Made {
    let letters = (0..count).map(|number| {
        let flaw = Flaw::of(number);
        // Neighbours of a kind are for different rooms.
        (flaw, (flaw.rooms() + (number / 50 + number % 50) % flaw.count()).to_string())
    });
    let made = Made { letters: letters.collect() };
    bed.publish(made.letters.iter().enumerate().flat_map(|(number, (flaw, room))| {
        [event(number, *flaw, room), good(&(6_001 + number % GOOD_ROOMS).to_string())]
    }));
    let published = Instant::now();
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    provider.set_faults(&json!([
        { "effect": { "answer": { "status": 200, "code": 414, "description": "illegal" } },
          "rooms": Flaw::Rejected.list() },
        { "effect": { "answer": { "status": 200, "code": 404, "description": "no such room" } },
          "rooms": Flaw::Gone.list() },
    ]));
    let quota = "quota = { calls_per_second = 3000, room_messages_per_second = 1000 }";
    let config =
        [provider.account("match", quota), bed.source(source(bed)), routes(BROKEN), GUARD_OFF.to_owned()];
    ask_until("the time-to-live to be over", PATIENCE, || {
        (published.elapsed() > Duration::from_millis(1_200)).then_some(())
    });
    let mut daemon = Daemon::start_ready(&config.concat());
    bed.await_finished(PATIENCE);
    bed.publish(Flaw::Unmapped.list()[..OVERTAKEN].iter().map(|room| good(room)));
    bed.await_finished(PATIENCE);
    assert!(daemon.stop().success());
    crate::tell(&format!("{}: {count} letters made in {:.1?}", crate::name(bed), published.elapsed()));
    made
}
