//! Keys that a directory does not hold for a while. All records of a partition have one key; while it is
//! not known they wait for it (`unknown = "wait"`), and go in their order when it is.
//!
//! Some seeds have such keys, told by the seed alone and drawn from a generator of their own: what other
//! seeds draw does not depend on it.

use std::collections::BTreeSet;

use roomcast::core::model::{DirectoryId, Plan, Wait};
use roomcast::core::schedule::Woken;

use crate::spec::{EventNo, Source};
use crate::world::{Happening, ProcessNo, World, millis};

/// The one directory.
const ROOMS: DirectoryId = DirectoryId(0);

/// A key: that of all records of a partition.
pub type Key = (Source, u32);

/// Which keys are not known now.
#[derive(Debug, Default)]
pub struct Keys {
    unknown: BTreeSet<Key>,
}

/// A key comes or goes.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    key: Key,
    is_known: bool,
}

fn text((source, partition): Key) -> String {
    format!("{source:?}-{partition}")
}

impl World {
    /// Draws when keys are not known: at the beginning, and later once or twice.
    pub fn draw_keys(&mut self, seed: u64) {
        if self.isolated || seed % 8 != 2 {
            return;
        }
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x006b_6579);
        let length = u64::try_from(self.faults_end.since(self.now).as_millis()).expect("an hour at most");
        let partitions = u32::try_from(self.kafka.logs.len()).expect("few");
        let keys =
            (0..partitions).map(|partition| (Source::Kafka, partition)).chain([(Source::JetStream, 0)]);
        for key in keys {
            let mut from = self.now;
            for _ in 0..rng.u8(1..4) {
                let until = (from + millis(rng.u64(1..8_000))).min(self.faults_end);
                self.plan(from, Happening::Key(Event { key, is_known: false }));
                self.plan(until, Happening::Key(Event { key, is_known: true }));
                from = until + millis(rng.u64(1..length.max(2)));
                if from >= self.faults_end {
                    break;
                }
            }
        }
    }

    /// What becomes of a record whose key is not known: `None` when it is.
    pub fn waiting_plan(&self, event: EventNo, routed: &Plan) -> Option<Plan> {
        // A replay is about the record that its letter was written for.
        let event = &self.spec.events[self.spec.origin(event)];
        let key = (event.source, event.partition);
        let wait = || Wait { directory: ROOMS, key: text(key).into(), at_most: None, error: String::new() };
        self.keys.unknown.contains(&key).then(|| Plan {
            messages: Vec::new(),
            unknown: Some(ROOMS),
            waits: Some(Box::new(wait())),
            ..routed.clone()
        })
    }

    pub fn key_happens(&mut self, Event { key, is_known }: Event) {
        self.note(&|| format!("the key of {key:?} is known: {is_known}"));
        match is_known {
            true => drop(self.keys.unknown.remove(&key)),
            false => drop(self.keys.unknown.insert(key)),
        }
        if !is_known {
            return;
        }
        for process in 0..self.processes.len() {
            self.wake(process, &text(key));
        }
    }

    fn wake(&mut self, process: ProcessNo, key: &str) {
        let of = &mut self.processes[process];
        // One that stops sends nothing new.
        if !of.alive || of.stopping {
            return;
        }
        let woken = self.processes[process].scheduler.wake_key(ROOMS, key);
        self.seen.waited_for_keys += woken.len() as u64;
        self.plan_woken(process, woken);
    }

    /// Plans records anew that waited; those whose key is not known still go on waiting.
    pub fn plan_woken(&mut self, process: ProcessNo, woken: Vec<Woken>) {
        let now = self.now_of(process);
        for woken in woken {
            let event = self.processes[process].events[&woken.record().id];
            let routed = self.plan_of(process, event);
            let plan = self.waiting_plan(event, &routed).unwrap_or(routed);
            if plan.waits.is_none() {
                self.law_routed(process, event);
            }
            self.processes[process].scheduler.handle_woken(woken, plan, now);
        }
        self.drain(process);
    }

    /// Nobody waits for a key that is known. (A run may end before every key is.)
    pub fn law_keys(&self) {
        if !self.keys.unknown.is_empty() {
            return;
        }
        for (number, process) in self.processes.iter().enumerate().filter(|(_, process)| process.alive) {
            let waiting = process.scheduler.snapshot(self.now_of(number)).waiting_for_keys;
            assert!(
                waiting.values().all(|count| *count == 0),
                "p{number} has records that wait for a known key"
            );
        }
    }
}
