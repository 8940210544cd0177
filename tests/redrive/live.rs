//! Live traffic at a steady pace, and how long its lines took to the provider.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::bed::{Bed, Event, lines_from};
use crate::support::oracle::Owed;
use crate::support::provider::{Entry, Provider};
use crate::support::{ask_until, http};

/// Rooms of live traffic.
const ROOMS: u64 = 100;
/// Questions by which the simulator's clock is found.
const QUESTIONS: usize = 20;

/// What was published when.
pub type Sent = BTreeMap<Owed, Instant>;

/// Live traffic: published by one thread, looked at by another.
pub struct Live {
    sent: Mutex<Vec<(Owed, Instant)>>,
    ends: AtomicBool,
}

/// Ends live traffic when it goes, whatever the test came to.
pub struct End<'a>(&'a Live);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::Relaxed);
    }
}

impl Live {
    /// Before the first line.
    pub fn new() -> Self {
        Self { sent: Mutex::default(), ends: AtomicBool::new(false) }
    }

    /// What ends it.
    pub fn ends_when_dropped(&self) -> End<'_> {
        End(self)
    }

    /// Publishes so many lines a second, evenly, until it is ended.
    pub fn publish(&self, bed: &Bed, a_second: u32) {
        let began = Instant::now();
        let next = |number: u32| {
            let due = began + Duration::from_secs(1) * number / a_second;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let line = lines_from(number.into(), ROOMS, 1).remove(0);
            let event = Event::line(&line);
            self.sent.lock().expect("nobody panics").push((line, Instant::now()));
            event
        };
        bed.publish((0..).take_while(|_| !self.ends.load(Ordering::Relaxed)).map(next));
    }

    /// Waits until so many more lines were published.
    #[track_caller]
    pub fn await_more(&self, count: usize) {
        let published = || self.sent.lock().expect("nobody panics").len();
        let enough = published() + count;
        ask_until("live lines", PATIENCE, || (published() >= enough).then_some(()));
    }

    /// All that was published.
    pub fn sent(self) -> Sent {
        self.sent.into_inner().expect("nobody panics").into_iter().collect()
    }
}

/// What rooms are owed of it.
pub fn owed(sent: &Sent) -> BTreeSet<Owed> {
    sent.keys().cloned().collect()
}

/// How long the lines that were published in that time took to the provider, in order of length.
pub fn latencies(provider: &Provider, sent: &Sent, during: &Range<Instant>) -> Vec<Duration> {
    let began = began(provider);
    let mut firsts = BTreeMap::new();
    for entry in provider.log().into_iter().filter(|entry| entry.accepted) {
        if let Some(owed) = Owed::find(&entry.content) {
            firsts.entry(owed).or_insert(entry.at_ns);
        }
    }
    let lines = sent.iter().filter(|(_, at)| during.contains(*at));
    let took = |(owed, at): (&Owed, &Instant)| {
        let arrived = began + Duration::from_nanos(*firsts.get(owed).expect("every live line arrives"));
        arrived.saturating_duration_since(*at)
    };
    let mut all: Vec<Duration> = lines.map(took).collect();
    all.sort_unstable();
    all
}

/// When the simulator's clock began, on ours: it logs a question that it does not know, and half of the
/// quickest answer's time is how wrong this can be.
fn began(provider: &Provider) -> Instant {
    let ask = |_| {
        let asked = Instant::now();
        http::get(&format!("{}/what-time-is-it", provider.base_url())).expect("the simulator answers");
        (asked.elapsed(), asked)
    };
    let asked: Vec<(Duration, Instant)> = (0..QUESTIONS).map(ask).collect();
    let log = provider.log();
    let others: Vec<&Entry> =
        log.iter().filter(|entry| entry.path == "other").rev().take(QUESTIONS).collect();
    assert_eq!(others.len(), QUESTIONS, "questions are logged");
    let times = asked.iter().zip(others.iter().rev());
    let ((took, at), entry) = times.min_by_key(|((took, _), _)| *took).expect("there are some");
    *at + *took / 2 - Duration::from_nanos(entry.at_ns)
}

/// Counts what the provider accepted of replays, reading its log as it grows.
pub struct Replays {
    log: String,
    read: u64,
    count: u64,
}

impl Replays {
    /// None yet.
    pub fn of(provider: &Provider) -> Self {
        let base = provider.base_url();
        let host = base.find("://").map_or(0, |at| at + 3);
        let root = base[host..].find('/').map_or(base.len(), |at| host + at);
        Self { log: format!("{}/_sim/log?from=", &base[..root]), read: 0, count: 0 }
    }

    /// How many there were up to now.
    pub fn count(&mut self) -> u64 {
        let answer = http::get(&format!("{}{}", self.log, self.read)).expect("the simulator answers");
        for line in answer.body.lines() {
            let entry: Entry = serde_json::from_str(line).expect("the log is JSON");
            self.read = entry.seq + 1;
            self.count += u64::from(entry.accepted && Owed::find(&entry.content).is_none());
        }
        self.count
    }
}
