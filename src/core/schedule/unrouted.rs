//! Records that wait for their key: a directory does not hold it yet, so they have no rooms.
//!
//! Such a record is held and counted like any other. When its key becomes known the shell takes it
//! out, asks the routes again, and hands the plan back; all of a key leave in the order they came in.
//! What is looked at is the key that changed and the deadline that is due, never all that wait; only a
//! directory that is loaded anew as a whole has each waiting key looked up once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Scheduler;
use crate::core::letter::Letter;
use crate::core::model::{AccountId, BaseId, Class, DirectoryId, Plan, Record, RouteId, Tries, Wait};
use crate::core::time::{Mono, Now};

/// Memory of one waiting record beside its key and the text of its letter, for `max_held_bytes`.
const WAIT_WEIGHT: usize = 512;

/// All records that wait for their key.
#[derive(Debug, Default)]
pub struct Unrouted {
    /// By number, in the order of arrival.
    waiting: BTreeMap<u64, Waiting>,
    by_key: BTreeSet<(DirectoryId, Arc<str>, u64)>,
    by_record: BTreeMap<u32, u64>,
    deadlines: BTreeSet<(Mono, u64)>,
    counts: BTreeMap<DirectoryId, usize>,
    arrived: u64,
}

#[derive(Debug)]
struct Waiting {
    record: u32,
    wait: Wait,
    since: Mono,
    deadline: Option<Mono>,
    maybe_sent: bool,
    base: BaseId,
    route: Option<RouteId>,
    account: Option<AccountId>,
}

/// A record whose key has become known: it is to be planned anew and handed back with
/// [`Scheduler::handle_woken`], before any record that comes later, those taken out first going first.
#[derive(Debug)]
#[must_use = "the record waits to be routed"]
pub struct Woken {
    record: Arc<Record>,
    held: u32,
    number: u64,
    since: Mono,
    maybe_sent: bool,
}

impl Woken {
    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its place in the order of arrival.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Others may have sent it meanwhile (P3).
    pub fn mark_maybe_sent(&mut self) {
        self.maybe_sent = true;
    }
}

/// Memory that a waiting record takes beside itself.
pub fn weight(wait: &Wait) -> usize {
    WAIT_WEIGHT + wait.key.len() + wait.error.len()
}

impl Unrouted {
    fn add(&mut self, number: u64, waiting: Waiting) {
        self.by_key.insert((waiting.wait.directory, Arc::clone(&waiting.wait.key), number));
        self.by_record.insert(waiting.record, number);
        self.deadlines.extend(waiting.deadline.map(|at| (at, number)));
        *self.counts.entry(waiting.wait.directory).or_default() += 1;
        self.waiting.insert(number, waiting);
    }

    fn take(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.by_key.remove(&(waiting.wait.directory, Arc::clone(&waiting.wait.key), number));
        self.by_record.remove(&waiting.record);
        if let Some(at) = waiting.deadline {
            self.deadlines.remove(&(at, number));
        }
        if let Some(count) = self.counts.get_mut(&waiting.wait.directory) {
            *count -= 1;
        }
        Some(waiting)
    }

    /// Forgets a record, if it waits here; whether it did.
    pub fn forget(&mut self, record: u32) -> bool {
        let number = self.by_record.get(&record).copied();
        number.and_then(|number| self.take(number)).is_some()
    }

    /// Whether a record waits here.
    pub fn has(&self, record: u32) -> bool {
        self.by_record.contains_key(&record)
    }

    /// Others may have sent all that waits.
    pub fn mark_all_maybe_sent(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.maybe_sent = true);
    }

    /// The next deadline.
    pub fn wake(&self) -> Option<Mono> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// The routes that those who wait had.
    pub fn routes(&self) -> impl Iterator<Item = RouteId> {
        self.waiting.values().filter_map(|waiting| waiting.route)
    }

    /// How many wait for keys of each directory.
    pub fn counts(&self) -> BTreeMap<DirectoryId, usize> {
        self.counts.clone()
    }

    /// The numbers of those that wait for a key, in their order.
    fn of_key(&self, directory: DirectoryId, key: &str) -> Vec<u64> {
        let key: Arc<str> = key.into();
        let range = (directory, Arc::clone(&key), 0)..=(directory, key, u64::MAX);
        self.by_key.range(range).map(|&(_, _, number)| number).collect()
    }

    /// The numbers of those of a directory whose key is known, in the order of arrival.
    fn of_known(&self, directory: DirectoryId, mut is_known: impl FnMut(&str) -> bool) -> Vec<u64> {
        let mut last: Option<(&Arc<str>, bool)> = None;
        let all = self.by_key.range((directory, Arc::from(""), 0)..);
        let mut found: Vec<u64> = Vec::new();
        for (_, key, number) in all.take_while(|(of, _, _)| *of == directory) {
            let known = match last {
                Some((before, known)) if before == key => known,
                _ => is_known(key),
            };
            last = Some((key, known));
            found.extend(known.then_some(*number));
        }
        found.sort_unstable();
        found
    }
}

impl Scheduler {
    /// A directory holds this key now: the records that wait for it, in the order they came in.
    pub fn wake_key(&mut self, directory: DirectoryId, key: &str) -> Vec<Woken> {
        let numbers = self.unrouted.of_key(directory, key);
        self.wake(&numbers)
    }

    /// A directory was loaded as a whole: the records whose key it knows now, in the order they came in.
    pub fn wake_known(&mut self, directory: DirectoryId, is_known: impl FnMut(&str) -> bool) -> Vec<Woken> {
        let numbers = self.unrouted.of_known(directory, is_known);
        self.wake(&numbers)
    }

    /// There are other directories and routes from now on: all records that wait, in the order they came
    /// in. Those that are woken and not handed back yet are not among them.
    pub fn wake_all(&mut self) -> Vec<Woken> {
        let numbers: Vec<u64> = self.unrouted.waiting.keys().copied().collect();
        self.wake(&numbers)
    }

    fn wake(&mut self, numbers: &[u64]) -> Vec<Woken> {
        let woken = numbers.iter().filter_map(|&number| {
            let waiting = self.unrouted.take(number)?;
            let record = Arc::clone(&self.held.records[waiting.record as usize].record);
            let Waiting { record: held, since, maybe_sent, .. } = waiting;
            Some(Woken { record, held, number, since, maybe_sent })
        });
        woken.collect()
    }

    /// What the routes make of a record that has waited for its key. One whose partition has gone
    /// meanwhile is forgotten; one that has to wait again keeps its place and its time.
    pub fn handle_woken(&mut self, woken: Woken, plan: Plan, now: Now) {
        let Woken { record, held, number, since, maybe_sent } = woken;
        let is_ours = self.held.id_is_held(held, record.id);
        if !is_ours || self.held.is_revoking(self.held.partition_of(held)) {
            return;
        }
        self.held.add_weight(held, super::intake::weight(&plan), now.mono, &mut self.effects);
        self.route(held, plan, None, (number, since, maybe_sent), now);
    }

    /// Keeps a record until its key is known. Its one ticket stays open.
    pub(super) fn wait_for_key(
        &mut self,
        record: u32,
        (number, since, maybe_sent): (u64, Mono, bool),
        plan: Plan,
    ) {
        let Plan { waits: Some(wait), base, route, account, .. } = plan else {
            unreachable!("only a plan that waits is kept")
        };
        let deadline = wait.at_most.map(|at_most| since + at_most);
        let waiting = Waiting { record, wait: *wait, since, deadline, maybe_sent, base, route, account };
        self.unrouted.add(number, waiting);
    }

    /// The number of a record that arrives.
    pub(super) fn number_arrival(&mut self) -> u64 {
        self.unrouted.arrived += 1;
        self.unrouted.arrived
    }

    /// Makes letters of the records that have waited as long as they may.
    pub(super) fn expire_waits(&mut self, now: Mono) {
        while let Some(&(at, number)) = self.unrouted.deadlines.first()
            && at <= now
        {
            let waiting = self.unrouted.take(number).expect("a deadline is that of a record that waits");
            let record = Arc::clone(&self.held.records[waiting.record as usize].record);
            let letter = Letter {
                record,
                base: waiting.base,
                class: Class::NoRoute,
                error: waiting.wait.error,
                route: waiting.route,
                account: waiting.account,
                rooms: Vec::new(),
                tries: Tries::default(),
            };
            self.bury(waiting.record, letter);
        }
    }
}
