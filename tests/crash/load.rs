//! What is produced: events fixed by a seed, and a thread that produces them while daemons come and
//! go, a little ahead of what the providers have accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::bed::{Feed, Providers};
use super::support::ask_until;
use super::support::oracle::Owed;
use super::support::provider::Kind;

/// Events produced beyond what is accepted: enough that every room has work whenever a daemon comes.
const AHEAD: u64 = 600;
/// Events produced at once.
const CHUNK: usize = 200;
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

/// Events without an end, fixed by a seed, over `rooms` rooms in each partition. Every second room is
/// Yunxin's; the first two rooms of a partition are busier than the rest, one event in ten is of high
/// priority.
pub struct Script {
    rng: fastrand::Rng,
    rooms: u32,
    offsets: Vec<i64>,
    sequences: BTreeMap<String, u64>,
}

impl Script {
    /// A script at its beginning.
    pub fn new(partitions: usize, rooms: u32, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { rng, rooms, offsets: vec![0; partitions], sequences: BTreeMap::new() }
    }

    fn event(&mut self) -> Event {
        let rng = &mut self.rng;
        let partition = rng.usize(0..self.offsets.len());
        let number = if rng.u32(0..20) == 0 { rng.u32(0..2) } else { rng.u32(0..self.rooms) };
        let room = format!("{}{number:03}", 100 + partition);
        let high = rng.u32(0..10) == 0;
        let next = |counter: &mut i64| std::mem::replace(counter, *counter + 1);
        let sequence = self.sequences.entry(room.clone()).or_default();
        *sequence += 1;
        Event {
            partition: i32::try_from(partition).expect("a few"),
            offset: next(&mut self.offsets[partition]),
            provider: if number.is_multiple_of(2) { Kind::Yunxin } else { Kind::Easemob },
            owed: Owed { room, sequence: *sequence },
            high,
        }
    }
}

/// What the rooms of one provider are owed.
pub fn owed(events: &[Event], provider: Kind) -> BTreeSet<Owed> {
    events.iter().filter(|event| event.provider == provider).map(|event| event.owed.clone()).collect()
}

/// A thread that produces until it is told to stop.
pub struct Producer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Event>>,
}

impl Producer {
    /// Produces in order, and never far ahead of the providers.
    pub fn start(feed: Feed, mut script: Script, providers: &Providers) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counters = providers.counters();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut produced = Vec::new();
            loop {
                let is_behind = || (produced.len() as u64) < counters.accepted() + AHEAD;
                let goes_on = ask_until("daemons to catch up with the producer", STUCK, || {
                    if stopped.load(Ordering::Relaxed) { Some(false) } else { is_behind().then_some(true) }
                });
                if !goes_on {
                    return produced;
                }
                let chunk: Vec<Event> = (0..CHUNK).map(|_| script.event()).collect();
                feed.produce(&chunk);
                produced.extend(chunk);
            }
        });
        Self { stop, thread }
    }

    /// Stops, and tells all that was produced.
    #[track_caller]
    pub fn finish(self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the producer gets rid of its events")
    }
}
