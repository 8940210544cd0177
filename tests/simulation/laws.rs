//! What must hold in every run, each law named after its promise, and what every set of runs must
//! have met.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use roomcast::core::model::{MessageId, Path, Priority, RecordId};
use roomcast::core::provider::Limits;
use roomcast::core::time::Mono;

/// A record of the world: partition and offset, whatever the epoch.
pub type Place = (u32, i64);

/// A lane within a partition: where order is promised.
type OrderKey = (u32, Path, String, Priority);

/// What became of a message in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Buried,
    Dropped,
}

#[derive(Default)]
pub struct Laws {
    /// Instants at which the provider counted calls and messages, by path.
    calls: BTreeMap<Path, VecDeque<Mono>>,
    messages: BTreeMap<Path, VecDeque<Mono>>,
    rooms: BTreeMap<(Path, String), VecDeque<Mono>>,
    first_accepted: BTreeMap<OrderKey, i64>,
    accepted: BTreeSet<MessageId>,
    /// Messages of which a try may have been delivered.
    maybe: BTreeSet<MessageId>,
    /// Messages for which a letter was asked: whoever gets their record before it is confirmed may
    /// send them again, and letters stand outside of the order.
    outside: BTreeSet<MessageId>,
    ends: BTreeMap<MessageId, End>,
    settled: BTreeSet<RecordId>,
}

/// The provider counts in windows of a second.
const WINDOW: Duration = Duration::from_secs(1);

fn count(window: &mut VecDeque<Mono>, at: Mono, limit: u32, what: &str) {
    // Instants come in any order within a call's life: keep them sorted, and check around the new one.
    let place = window.partition_point(|&other| other <= at);
    window.insert(place, at);
    let limit = limit as usize;
    for start in place.saturating_sub(limit)..=place {
        if let Some(&end) = window.get(start + limit) {
            let span = end.since(window[start]);
            assert!(span >= WINDOW, "P4: {what}: {} in {span:?} at {at:?}", limit + 1);
        }
    }
    while window.front().is_some_and(|&first| at.since(first) > Duration::from_secs(100)) {
        window.pop_front();
    }
}

impl Laws {
    /// The provider counts a call with these rooms at that instant.
    pub fn p4_counted(&mut self, path: Path, rooms: &[String], at: Mono, limits: &Limits) {
        let quota = &limits.paths[path as usize];
        count(self.calls.entry(path).or_default(), at, quota.calls_per_second, "calls");
        for room in rooms {
            if let Some(limit) = quota.messages_per_second {
                count(self.messages.entry(path).or_default(), at, limit, "messages");
            }
            if path != Path::Broadcast {
                let window = self.rooms.entry((path, room.clone())).or_default();
                count(window, at, limits.room_messages_per_second, "messages of one room");
            }
        }
    }

    /// A message is sent (again).
    pub fn p3_sent(&mut self, id: MessageId, resend: bool) {
        let repeat = self.maybe.contains(&id) || self.accepted.contains(&id);
        assert!(!repeat || resend, "P3: {id} may have been delivered and is sent again unmarked");
    }

    pub fn maybe_sent(&mut self, id: MessageId) {
        self.maybe.insert(id);
    }

    /// The provider takes a message.
    pub fn p2_accepted(
        &mut self,
        partition: u32,
        path: Path,
        room: &str,
        priority: Priority,
        offset: i64,
        id: MessageId,
    ) {
        if !self.accepted.insert(id) || self.outside.contains(&id) {
            return;
        }
        let last = self.first_accepted.entry((partition, path, room.to_owned(), priority)).or_insert(-1);
        assert!(offset >= *last, "P2: room {room} got offset {offset} of partition {partition} after {last}");
        *last = offset;
    }

    pub fn p2_stands_outside(&mut self, id: MessageId) {
        self.outside.insert(id);
    }

    /// The provider takes a message of a batch that may fail in part.
    pub fn accepted_in_any_order(&mut self, id: MessageId) {
        self.accepted.insert(id);
    }

    pub fn ended(&mut self, id: MessageId, end: End) {
        self.ends.insert(id, end);
    }

    /// A record is settled: each of its messages has ended.
    pub fn p1_settled(&mut self, record: RecordId, messages: &[MessageId]) {
        assert!(self.settled.insert(record), "P1: {record:?} settled twice");
        for id in messages {
            assert!(
                self.ends.contains_key(id) || self.accepted.contains(id),
                "P1: {record:?} settled while {id} has not ended"
            );
        }
    }
}

/// What runs have met: a generator that stops reaching a case fails the test.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub trace_hash: u64,
    pub accepted: u64,
    pub repeats: u64,
    pub letters: u64,
    pub dropped: u64,
    pub bans: u64,
    pub outages: u64,
    pub uncertain: u64,
    pub revoked: u64,
    pub lost: u64,
    pub crashes: u64,
    pub shared_calls: u64,
    pub batched_calls: u64,
    pub pauses: u64,
    pub partition_pauses: u64,
    pub logins: u64,
    pub day_counts: u64,
    pub gone: u64,
}

impl Coverage {
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts().into_iter().zip(other.clone().counts()) {
            *mine.1 += *theirs.1;
        }
    }

    fn counts(&mut self) -> [(&'static str, &mut u64); 17] {
        [
            ("accepted", &mut self.accepted),
            ("repeats", &mut self.repeats),
            ("letters", &mut self.letters),
            ("dropped", &mut self.dropped),
            ("bans", &mut self.bans),
            ("outages", &mut self.outages),
            ("uncertain", &mut self.uncertain),
            ("revoked", &mut self.revoked),
            ("lost", &mut self.lost),
            ("crashes", &mut self.crashes),
            ("shared calls", &mut self.shared_calls),
            ("batched calls", &mut self.batched_calls),
            ("pauses", &mut self.pauses),
            ("partition pauses", &mut self.partition_pauses),
            ("logins", &mut self.logins),
            ("day counts", &mut self.day_counts),
            ("gone", &mut self.gone),
        ]
    }

    /// Every case was met.
    pub fn check(&mut self) {
        for (what, count) in self.counts() {
            assert!(*count > 0, "no run met: {what}");
        }
    }
}
