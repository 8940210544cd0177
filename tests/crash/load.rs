//! What is produced: a list of events fixed by a seed, and a thread that produces it while daemons
//! come and go, a little ahead of what the providers have accepted.

use std::collections::BTreeSet;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::bed::{Feed, Providers};
use super::support::ask_until;
use super::support::oracle::Owed;
use super::support::provider::Kind;

/// Events produced beyond what is accepted: enough that every room has work whenever a daemon comes.
const AHEAD: u64 = 600;
/// Events produced at once.
const CHUNK: usize = 50;
/// A daemon that is killed needs this to be followed by another, at the very most.
const STUCK: Duration = Duration::from_secs(90);

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where it is produced to.
    pub partition: i32,
    /// Its place in that partition.
    pub offset: i64,
    /// Whose room it is.
    pub provider: Kind,
    /// What the room is owed.
    pub owed: Owed,
    /// High priority.
    pub high: bool,
}

impl Event {
    /// The room, which is the key as well.
    pub fn room(&self) -> &str {
        &self.owed.room
    }

    /// The record's value.
    pub fn value(&self) -> Vec<u8> {
        let to = if self.provider == Kind::Yunxin { "yunxin" } else { "easemob" };
        serde_json::json!({ "to": to, "high": self.high, "text": self.owed.token() }).to_string().into_bytes()
    }
}

/// `count` events over `rooms` rooms in each partition. Every second room is Yunxin's; the first two
/// rooms of a partition are busier than the rest, one event in ten is of high priority.
pub fn events(partitions: i32, rooms: u32, count: usize, seed: u64) -> Vec<Event> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut offsets = vec![0; usize::try_from(partitions).expect("a few")];
    let mut sequences = std::collections::BTreeMap::<String, u64>::new();
    let mut event = || {
        let partition = rng.i32(0..partitions);
        let number = if rng.u32(0..20) == 0 { rng.u32(0..2) } else { rng.u32(0..rooms) };
        let room = (100_000 + partition * 1_000).unsigned_abs() + number;
        let offset = &mut offsets[usize::try_from(partition).expect("not negative")];
        let sequence = sequences.entry(room.to_string()).or_default();
        *offset += 1;
        *sequence += 1;
        Event {
            partition,
            offset: *offset - 1,
            provider: if number % 2 == 0 { Kind::Yunxin } else { Kind::Easemob },
            owed: Owed { room: room.to_string(), sequence: *sequence - 1 },
            high: rng.u32(0..10) == 0,
        }
    };
    (0..count).map(|_| event()).collect()
}

/// What the rooms of one provider are owed.
pub fn owed(events: &[Event], provider: Kind) -> BTreeSet<Owed> {
    events.iter().filter(|event| event.provider == provider).map(|event| event.owed.clone()).collect()
}

/// Produces in a thread of its own, in order, and never far ahead of the providers. Join it before
/// the end is looked for.
pub fn produce(feed: Feed, events: Vec<Event>, providers: &Providers) -> JoinHandle<()> {
    let counters = providers.counters();
    thread::spawn(move || {
        let mut produced = 0;
        for chunk in events.chunks(CHUNK) {
            ask_until("daemons to catch up with the producer", STUCK, || {
                (produced < counters.accepted() + AHEAD).then_some(())
            });
            feed.produce(chunk);
            produced += chunk.len() as u64;
        }
    })
}
