//! A scheduler with a message waiting in each of its rooms, and what its surroundings do: records
//! come, calls are answered, time goes on. For the bench of decisions and the test of memory.

use std::collections::VecDeque;
use std::hint::black_box;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast::core::model::{
    AccountId, AttemptId, BaseId, Content, Epoch, Message, MessageId, Origin, PartitionId, Path, Plan,
    Priority, Record, RecordId, Room, RouteId, SourceId,
};
use roomcast::core::provider::{Acceptance, Limits, Outcome, PathQuota};
use roomcast::core::schedule::backoff::Retry;
use roomcast::core::schedule::{
    AccountSettings, Effect, OnExpiry, OnFull, RoutePolicy, Scheduler, Settings, SourceSettings,
};
use roomcast::core::time::{Mono, Now, Wall};
use uuid::Uuid;

const SOURCE: SourceId = SourceId(0);
const ACCOUNT: AccountId = AccountId(0);
const ROUTE: RouteId = RouteId(0);
/// A quota that is never reached: the scheduler's own cost is measured, not its patience.
const PLENTY: u32 = 100_000_000;
/// Calls away at once: 20,000 a second at answers of 25 ms. Fewer than the fewest rooms, because a
/// room has one call away.
const AWAY: usize = 500;

/// The scheduler and its surroundings.
pub struct World {
    scheduler: Scheduler,
    /// The present.
    pub now: Now,
    rooms: usize,
    stride: usize,
    arrivals: usize,
    ttl: Option<Duration>,
    /// Time goes on by so much with each decision.
    pub step: Duration,
    content: Bytes,
    topic: Arc<str>,
    away: VecDeque<AttemptId>,
    /// Records settled so far.
    pub settled: u64,
}

impl World {
    /// No room has had a message yet. Messages will have that time-to-live.
    pub fn empty(ttl: Option<Duration>) -> Self {
        let now = Now { mono: Mono(0), wall: Wall(1_700_000_000_000) };
        let mut scheduler = Scheduler::new(settings(), now);
        scheduler.handle_assigned(SOURCE, &[(PartitionId(0), Epoch(1))]);
        Self {
            scheduler,
            // The slots of a new process are free.
            now: Now { mono: now.mono + Duration::from_secs(2), ..now },
            rooms: 1,
            // A prime that divides no number of rooms used here; no room is near the one before.
            stride: 7_368_787,
            arrivals: 0,
            ttl,
            step: Duration::from_micros(1),
            content: Bytes::from_static(&[b'x'; 300]),
            topic: Arc::from("events"),
            away: VecDeque::new(),
            settled: 0,
        }
    }

    /// One message waits in each of so many rooms. They lie in memory in the order in which they are
    /// served, which processors read ahead.
    pub fn in_order(rooms: usize) -> Self {
        let mut world = Self { rooms, stride: 1, ..Self::empty(None) };
        (0..rooms).for_each(|_| world.arrive_next());
        world.obey(AWAY);
        world
    }

    /// One message waits in each of so many rooms. Rooms, messages and records lie in memory in no
    /// order: who is next is nobody's neighbour. That is how it is in a process that runs for long.
    pub fn new(rooms: usize, ttl: Option<Duration>) -> Self {
        let mut world = Self { rooms, ..Self::empty(ttl) };
        (0..rooms).for_each(|room| world.arrive(room));
        // Two rounds in which answers come in any order leave no order in what lies where.
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2 {
            world.obey(usize::MAX);
            rng.shuffle(world.away.make_contiguous());
            (0..rooms).for_each(|_| world.answer());
            (0..rooms).for_each(|_| world.arrive_next());
        }
        world.obey(AWAY);
        world
    }

    /// Rooms take turns, each once a round.
    fn arrive_next(&mut self) {
        self.arrive(self.arrivals.wrapping_mul(self.stride) % self.rooms);
    }

    fn arrive(&mut self, room: usize) {
        self.arrivals += 1;
        let (record, plan) = self.message(room);
        self.scheduler.handle_record(record, plan, self.now);
    }

    /// A record and its plan, with all that they own, as decoding and routing make them.
    pub fn message(&self, room: usize) -> (Arc<Record>, Plan) {
        let offset = i64::try_from(self.arrivals).expect("a bench ends");
        let base = BaseId(Uuid::from_u128(self.arrivals as u128));
        let record = Record {
            id: RecordId { source: SOURCE, partition: PartitionId(0), epoch: Epoch(1), offset },
            origin: Origin {
                stream: Arc::clone(&self.topic),
                topic: Arc::clone(&self.topic),
                partition: 0,
                offset,
            },
            key: None,
            value: Some(self.content.clone()),
            headers: Vec::new(),
            timestamp: self.now.wall,
            maybe_tried: false,
        };
        let message = Message {
            account: ACCOUNT,
            path: Path::Room,
            room: Room(Arc::from(digits(&mut [0; 20], room))),
            priority: Priority::Normal,
            id: MessageId(base.0),
            base,
            route: ROUTE,
            content: Arc::new(Content { single: self.content.clone(), batched: Bytes::new() }),
            expires: self.ttl.map(|ttl| self.now.wall + ttl),
            conflate: None,
        };
        let plan = Plan {
            route: Some(ROUTE),
            account: Some(ACCOUNT),
            base,
            messages: vec![message],
            failures: Vec::new(),
            dropped: None,
            when_errors: 0,
            unknown: None,
            waits: None,
        };
        (Arc::new(record), plan)
    }

    /// One record comes, one call is answered, one record is settled, one call leaves.
    pub fn decide(&mut self) {
        self.now.mono = self.now.mono + self.step;
        self.arrive_next();
        self.answer();
        self.obey(AWAY);
        black_box(self.scheduler.poll_wake(self.now));
    }

    fn answer(&mut self) {
        self.answer_with(&Outcome::Accepted(Acceptance::Plain));
    }

    fn answer_with(&mut self, outcome: &Outcome) {
        let attempt = self.away.pop_front().expect("some are away");
        self.scheduler.handle_outcome(attempt, slice::from_ref(outcome), self.now);
    }

    /// A message to that room comes, is called out, answered, and finished.
    pub fn visit(&mut self, room: usize, outcome: &Outcome) {
        self.arrive(room);
        self.obey(1);
        self.answer_with(outcome);
        self.obey(1);
    }

    /// Time goes on, and what is due is done.
    pub fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono + time, wall: self.now.wall + time };
        self.obey(usize::MAX);
    }

    /// Rooms that the scheduler remembers.
    pub fn rooms_in_memory(&self) -> usize {
        self.scheduler.snapshot(self.now).rooms
    }

    /// Effects until there are none, but no more calls than are to be away.
    fn obey(&mut self, most: usize) {
        while self.away.len() < most
            && let Some(effect) = self.scheduler.poll_effect(self.now)
        {
            match effect {
                Effect::Send(attempt) => self.away.push_back(attempt.id),
                Effect::Settle(_) => self.settled += 1,
                Effect::Bury(letter, _) => self.scheduler.handle_buried(letter, self.now),
                other => panic!("nothing else is due: {other:?}"),
            }
        }
    }
}

fn digits(buffer: &mut [u8; 20], mut number: usize) -> &str {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&buffer[at..]).expect("digits");
        }
    }
}

fn settings() -> Settings {
    let quota = PathQuota {
        calls_per_second: PLENTY,
        messages_per_second: None,
        calls_per_minute: None,
        calls_per_day: None,
    };
    let limits = Limits {
        rooms_per_call: 1,
        messages_per_call: 1,
        drops_repeats: true,
        paths: [quota; 3],
        room_messages_per_second: PLENTY,
        room_high_per_second: Some(PLENTY),
    };
    let account =
        AccountSettings { limits, timeout: Duration::from_secs(5), needs_login: false, base_urls: 1 };
    let route = RoutePolicy {
        name: Arc::from("all"),
        retry: Retry::default(),
        on_expiry: OnExpiry::Drop,
        on_full: OnFull::Wait,
    };
    Settings {
        accounts: vec![account],
        routes: vec![route],
        sources: vec![SourceSettings {
            held_records: usize::MAX,
            held_bytes: usize::MAX,
            is_answered: false,
        }],
        max_waiting_per_room: usize::MAX,
        room_gone: Duration::from_secs(600),
        flood_guard: None,
        seed: 1,
    }
}
