//! The world around the scheduler: one account, one source with partitions, a dead-letter topic,
//! and whatever goes wrong with them, all drawn from one seed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast::core::model::{
    AccountId, AttemptId, BaseId, BurialId, Class, Content, Epoch, Message, MessageId, Origin, PartitionId,
    Path, Plan, Priority, Record, RecordId, Room, RouteId, SourceId,
};
use roomcast::core::provider::{
    Acceptance, Item, Limits, LoginFault, Outcome, PathQuota, Session, Throttle, Trouble,
};
use roomcast::core::schedule::backoff::Retry;
use roomcast::core::schedule::{
    AccountSettings, Attempt, Effect, OnExpiry, OnFull, RoutePolicy, Scheduler, Settings, SourceSettings,
};
use roomcast::core::time::{Mono, Now, Wall};

use crate::laws::{Coverage, End, Laws, Place};

const SOURCE: SourceId = SourceId(0);
const ACCOUNT: AccountId = AccountId(0);

/// After this no message is refused: what is left must drain.
const FAULTS_END: Mono = Mono(60_000_000_000);

/// Things that will happen.
#[derive(Clone, Debug)]
enum Event {
    Deliver(u32),
    Answer(AttemptId, u32),
    LoggedIn(bool, u32),
    Buried(BurialId, u32),
    Counted(Path, u32),
    Revoke(u32),
    Lose(u32),
    Crash,
    OutageEnds,
}

struct WorldRecord {
    messages: Vec<(Path, String, Priority, MessageId, Arc<Content>, Option<Wall>)>,
}

struct Partition {
    records: Vec<WorldRecord>,
    /// Offsets settled and committed.
    done: BTreeSet<i64>,
    next: usize,
    epoch: u32,
    assigned: bool,
    paused: bool,
}

struct Flight {
    attempt: Attempt,
    outcomes: Vec<Outcome>,
}

pub struct World {
    rng: fastrand::Rng,
    trace: bool,
    hash: RefCell<DefaultHasher>,
    now: Now,
    scheduler: Scheduler,
    limits: Limits,
    settings: Settings,
    /// Grows with each process: what an earlier one asked for comes back to nobody.
    process: u32,
    agenda: BTreeMap<(Mono, u64), Event>,
    planned: u64,
    partitions: Vec<Partition>,
    intake: bool,
    flights: BTreeMap<AttemptId, Flight>,
    letters: BTreeMap<BurialId, Vec<MessageId>>,
    laws: Laws,
    seen: Coverage,
    faults: Faults,
    outage_until: Mono,
    /// From the answer that told of it, and until when.
    ban: [(Mono, Mono); 3],
    ban_begins: bool,
    token_good: bool,
    gone_rooms: BTreeSet<String>,
    day: (i64, u32, Option<Wall>),
    of_message: BTreeMap<MessageId, (Place, Priority)>,
    expires: BTreeMap<MessageId, Option<Wall>>,
}

/// Which faults a seed has: a random half.
struct Faults {
    uncertain: bool,
    outage: bool,
    bans: bool,
    refused: bool,
    gone: bool,
    revoke: bool,
    lose: bool,
    crash: bool,
    token: bool,
    slow_letters: bool,
    tail: bool,
    ttl: bool,
    /// Batches fail in part: the one case in which a repeat may come after its successors.
    partial: bool,
}

fn uuid(rng: &mut fastrand::Rng) -> uuid::Uuid {
    uuid::Uuid::from_u128(rng.u128(..))
}

fn trouble(text: &str) -> Trouble {
    Trouble { status: Some(500), code: None, text: text.to_owned() }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let easemob = rng.bool();
        let limits = Limits {
            rooms_per_call: if easemob { 10 } else { 1 },
            messages_per_call: if !easemob && rng.bool() { 10 } else { 1 },
            drops_repeats: !easemob,
            paths: [
                PathQuota {
                    calls_per_second: rng.u32(5..100),
                    messages_per_second: easemob.then(|| rng.u32(10..200)),
                    calls_per_minute: None,
                    calls_per_day: None,
                },
                PathQuota {
                    calls_per_second: 20,
                    messages_per_second: None,
                    calls_per_minute: None,
                    calls_per_day: None,
                },
                PathQuota {
                    calls_per_second: 1,
                    messages_per_second: None,
                    calls_per_minute: Some(10),
                    calls_per_day: Some(100),
                },
            ],
            room_messages_per_second: rng.u32(1..25),
            room_high_per_second: (!easemob).then(|| rng.u32(1..12)),
        };
        let flip = |rng: &mut fastrand::Rng| rng.bool();
        let faults = Faults {
            uncertain: flip(&mut rng),
            outage: flip(&mut rng),
            bans: flip(&mut rng),
            refused: flip(&mut rng),
            gone: flip(&mut rng),
            revoke: flip(&mut rng),
            lose: flip(&mut rng),
            crash: flip(&mut rng),
            token: easemob && flip(&mut rng),
            slow_letters: flip(&mut rng),
            tail: flip(&mut rng),
            ttl: flip(&mut rng),
            partial: limits.messages_per_call > 1 && flip(&mut rng),
        };
        let on_full =
            *[OnFull::Wait, OnFull::DropOldest, OnFull::DeadLetter].get(rng.usize(..3)).expect("three");
        let settings = Settings {
            accounts: vec![AccountSettings {
                limits: limits.clone(),
                timeout: millis(5_000),
                needs_login: easemob,
                base_urls: rng.usize(1..3),
            }],
            routes: vec![RoutePolicy {
                name: "r".into(),
                retry: Retry::default(),
                on_expiry: if rng.bool() { OnExpiry::Drop } else { OnExpiry::DeadLetter },
                on_full,
            }],
            sources: vec![SourceSettings { held_records: rng.usize(5..100), held_bytes: 1 << 20 }],
            max_waiting_per_room: rng.usize(3..50),
            room_gone: Duration::from_secs(rng.u64(0..20)),
            seed,
        };
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_760_000_000_000 + rng.i64(0..86_400_000)) };
        let mut world = Self {
            scheduler: Scheduler::new(settings.clone(), now),
            limits,
            settings,
            trace,
            hash: RefCell::default(),
            now,
            process: 0,
            agenda: BTreeMap::new(),
            planned: 0,
            partitions: Vec::new(),
            intake: true,
            flights: BTreeMap::new(),
            letters: BTreeMap::new(),
            laws: Laws::default(),
            seen: Coverage::default(),
            faults,
            outage_until: Mono(0),
            ban: Default::default(),
            ban_begins: false,
            token_good: false,
            gone_rooms: BTreeSet::new(),
            day: (now.wall.utc_day(), 0, None),
            of_message: BTreeMap::new(),
            expires: BTreeMap::new(),
            rng,
        };
        world.fill();
        world.plan_faults();
        for partition in 0..world.partitions.len() {
            world.assign(u32::try_from(partition).expect("few"));
        }
        world.restore();
        world
    }

    /// Writes the records of all partitions.
    fn fill(&mut self) {
        let rooms = self.rng.usize(1..12);
        for partition in 0..self.rng.u32(1..4) {
            let mut records = Vec::new();
            for offset in 0..self.rng.i64(5..60) {
                let messages = self.messages(rooms, (partition, offset));
                records.push(WorldRecord { messages });
            }
            let done = BTreeSet::new();
            self.partitions.push(Partition {
                records,
                done,
                next: 0,
                epoch: 0,
                assigned: false,
                paused: false,
            });
        }
        if self.faults.gone {
            self.gone_rooms.insert("room0".to_owned());
        }
    }

    fn messages(
        &mut self,
        rooms: usize,
        place: Place,
    ) -> Vec<(Path, String, Priority, MessageId, Arc<Content>, Option<Wall>)> {
        let path = match self.rng.u8(..20) {
            0 => Path::Users,
            1 => Path::Broadcast,
            _ => Path::Room,
        };
        let priority = Priority::ALL[self.rng.usize(..3)];
        let expires = (self.faults.ttl && self.rng.u8(..4) == 0)
            .then(|| self.now.wall + millis(self.rng.u64(0..30_000)));
        let content = Arc::new(Content { single: Bytes::from_static(b"x"), batched: Bytes::new() });
        let names: Vec<String> = match path {
            Path::Broadcast => vec![String::new()],
            Path::Users => vec![format!("room{}", self.rng.usize(..rooms))],
            Path::Room => {
                let many = if self.rng.u8(..5) == 0 { self.rng.usize(1..=rooms) } else { 1 };
                let first = self.rng.usize(..rooms);
                (0..many).map(|step| format!("room{}", (first + step) % rooms)).collect()
            }
        };
        let mut messages = Vec::new();
        for name in names {
            let id = MessageId(uuid(&mut self.rng));
            self.of_message.insert(id, (place, priority));
            self.expires.insert(id, expires);
            messages.push((path, name, priority, id, Arc::clone(&content), expires));
        }
        messages
    }

    fn plan_faults(&mut self) {
        for _ in 0..self.rng.u8(1..5) {
            let at = self.now.mono + millis(self.rng.u64(500..20_000));
            let partition = self.rng.u32(..u32::try_from(self.partitions.len()).expect("few"));
            if self.faults.revoke {
                self.plan(at, Event::Revoke(partition));
            }
            if self.faults.lose {
                self.plan(at + millis(777), Event::Lose(partition));
            }
            if self.faults.crash && self.rng.bool() {
                self.plan(at + millis(333), Event::Crash);
            }
            if self.faults.outage {
                self.outage_until = at + millis(self.rng.u64(500..8_000));
                let until = self.outage_until;
                self.plan(until, Event::OutageEnds);
            }
        }
    }

    fn plan(&mut self, at: Mono, event: Event) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), event);
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.plan(self.now.mono + wait, event);
    }

    fn note(&self, what: &dyn Fn() -> String) {
        let line = what();
        line.hash(&mut *self.hash.borrow_mut());
        if self.trace {
            eprintln!("{:>10.3} {line}", self.now.mono.0 as f64 / 1e9);
        }
    }

    /// Runs until everything has ended; every law is checked on the way.
    pub fn run(mut self) -> Coverage {
        let mut steps = 0_u64;
        loop {
            self.drain_effects();
            if self.is_over() {
                break;
            }
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let wake = self.scheduler.poll_wake(self.now);
            let Some(at) = [next, wake].into_iter().flatten().min() else { break };
            assert!(wake.is_none_or(|wake| wake > self.now.mono), "P7: it wakes for nothing at {wake:?}");
            self.advance(at.max(self.now.mono));
            if next.is_some_and(|next| next <= at) {
                let (_, event) = self.agenda.pop_first().expect("there is one");
                self.note(&|| format!("{event:?}"));
                self.happen(event);
            }
            steps += 1;
            assert!(steps < 200_000, "liveness: no end after {steps} steps");
        }
        for (number, partition) in self.partitions.iter().enumerate() {
            assert_eq!(
                partition.done.len(),
                partition.records.len(),
                "P1: partition {number} ends with records unsettled, {:?}",
                self.scheduler.snapshot(self.now)
            );
        }
        let left = self.scheduler.snapshot(self.now);
        assert_eq!(
            (left.rooms, left.calls_away, left.letters_waiting),
            (0, 0, 0),
            "P7: nothing is kept: {left:?}"
        );
        self.seen.trace_hash = self.hash.borrow().finish();
        self.seen
    }

    /// All has ended; only logins would go on for ever.
    fn is_over(&self) -> bool {
        self.partitions.iter().all(|partition| partition.done.len() == partition.records.len())
            && self.agenda.values().all(|event| matches!(event, Event::LoggedIn(..)))
            && self.scheduler.snapshot(self.now).rooms == 0
    }

    fn advance(&mut self, to: Mono) {
        let ms = |at: Mono| i64::try_from(at.0 / 1_000_000).expect("short");
        let wall = Wall(self.now.wall.0 + ms(to) - ms(self.now.mono));
        self.now = Now { mono: to, wall };
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(partition) => self.deliver(partition),
            Event::Answer(attempt, process) if process == self.process => {
                let flight = self.flights.remove(&attempt).expect("a flight lands once");
                self.scheduler.handle_outcome(attempt, &flight.outcomes, self.now);
            }
            Event::LoggedIn(good, process) if process == self.process => {
                let session =
                    Session { token: "t".to_owned().into(), lifetime: Some(Duration::from_secs(40)) };
                self.token_good |= good;
                let result = if good { Ok(session) } else { Err(LoginFault::Failed(trouble("login"))) };
                self.scheduler.handle_login(ACCOUNT, result, self.now);
            }
            Event::Buried(burial, process) if process == self.process => {
                for id in self.letters.remove(&burial).expect("a letter is confirmed once") {
                    self.laws.ended(id, End::Buried);
                }
                self.scheduler.handle_buried(burial, self.now);
            }
            Event::Counted(path, process) if process == self.process => {
                self.scheduler.handle_counted(ACCOUNT, path, self.now);
            }
            Event::Revoke(partition) => self.revoke(partition),
            Event::Lose(partition) => self.lose(partition),
            Event::Crash => self.crash(),
            Event::OutageEnds => self.seen.outages += 1,
            Event::Answer(..) | Event::LoggedIn(..) | Event::Buried(..) | Event::Counted(..) => {}
        }
    }

    fn assign(&mut self, number: u32) {
        let partition = &mut self.partitions[number as usize];
        partition.epoch += 1;
        partition.assigned = true;
        partition.paused = false;
        partition.next = 0;
        let epoch = Epoch(partition.epoch);
        self.scheduler.handle_assigned(SOURCE, &[(PartitionId(number), epoch)]);
        self.after(millis(1), Event::Deliver(number));
    }

    fn deliver(&mut self, number: u32) {
        let pause = millis(self.rng.u64(0..60));
        let partition = &mut self.partitions[number as usize];
        if !partition.assigned {
            return;
        }
        if !self.intake || partition.paused {
            self.after(millis(20), Event::Deliver(number));
            return;
        }
        while partition.done.contains(&i64::try_from(partition.next).expect("few")) {
            partition.next += 1;
        }
        let Some(record) = partition.records.get(partition.next) else { return };
        let offset = i64::try_from(partition.next).expect("few");
        let id = RecordId {
            source: SOURCE,
            partition: PartitionId(number),
            epoch: Epoch(partition.epoch),
            offset,
        };
        partition.next += 1;
        let base = BaseId(uuid::Uuid::from_u64_pair(u64::from(number), offset.unsigned_abs()));
        let messages = record.messages.iter().map(|(path, room, priority, id, content, expires)| Message {
            account: ACCOUNT,
            path: *path,
            room: Room(room.as_str().into()),
            priority: *priority,
            id: *id,
            base,
            route: RouteId(0),
            content: Arc::clone(content),
            expires: *expires,
        });
        let plan = Plan {
            route: Some(RouteId(0)),
            account: Some(ACCOUNT),
            base,
            messages: messages.collect(),
            failures: Vec::new(),
            dropped: None,
            when_errors: 0,
        };
        let record = Record {
            id,
            origin: Origin { stream: "s".into(), topic: "s".into(), partition: 0, offset },
            key: None,
            value: Some(Bytes::from_static(b"{}")),
            headers: Vec::new(),
            timestamp: self.now.wall,
            maybe_tried: partition.epoch > 1,
        };
        self.scheduler.handle_record(Arc::new(record), plan, self.now);
        self.after(pause, Event::Deliver(number));
    }

    fn revoke(&mut self, number: u32) {
        let partition = &mut self.partitions[number as usize];
        if !std::mem::replace(&mut partition.assigned, false) {
            return;
        }
        let epoch = Epoch(partition.epoch);
        self.scheduler.handle_revoking(SOURCE, &[(PartitionId(number), epoch)], self.now);
        self.seen.revoked += 1;
    }

    fn lose(&mut self, number: u32) {
        let partition = &mut self.partitions[number as usize];
        if !std::mem::replace(&mut partition.assigned, false) {
            return;
        }
        let epoch = Epoch(partition.epoch);
        self.scheduler.handle_lost(SOURCE, &[(PartitionId(number), epoch)], self.now);
        self.seen.lost += 1;
        self.assign(number);
    }

    /// The process dies and another one starts: calls away are counted for a quarter of a second
    /// more, and answer nobody.
    fn crash(&mut self) {
        self.seen.crashes += 1;
        self.process += 1;
        self.flights.clear();
        self.letters.clear();
        self.token_good = false;
        // The new process has not been told of a ban.
        self.ban = Default::default();
        self.intake = true;
        self.settings.seed ^= u64::from(self.process) << 32;
        self.scheduler = Scheduler::new(self.settings.clone(), self.now);
        for number in 0..self.partitions.len() {
            self.assign(u32::try_from(number).expect("few"));
        }
        self.restore();
    }

    fn restore(&mut self) {
        let (day, calls, last) = self.day;
        self.scheduler.restore_count(ACCOUNT, Path::Broadcast, day, calls, last, self.now);
    }

    fn drain_effects(&mut self) {
        let mut effects = 0;
        while let Some(effect) = self.scheduler.poll_effect(self.now) {
            effects += 1;
            assert!(effects < 100_000, "it never stops asking");
            self.effect(effect);
        }
    }

    fn effect(&mut self, effect: Effect) {
        let process = self.process;
        match effect {
            Effect::Send(attempt) => self.send(attempt),
            Effect::Login(_) => {
                self.seen.logins += 1;
                let good = self.rng.u8(..5) > 0;
                let wait = millis(self.rng.u64(1..300));
                self.after(wait, Event::LoggedIn(good, process));
            }
            Effect::Bury(burial, letter) => {
                self.seen.letters += 1;
                self.note(&|| format!("bury {:?} {:?} {:?}", letter.record.id, letter.class, letter.rooms));
                let messages = self.messages_of(letter.record.id);
                let owed = messages.into_iter().filter(|(room, _)| {
                    letter.rooms.is_empty() || letter.rooms.iter().any(|owed| *owed.0 == **room)
                });
                self.seen.gone += u64::from(letter.class == Class::RoomGone);
                let owed: Vec<MessageId> = owed.map(|(_, id)| id).collect();
                owed.iter().for_each(|&id| self.laws.p2_stands_outside(id));
                self.letters.insert(burial, owed);
                let wait = if self.faults.slow_letters { self.rng.u64(1..5_000) } else { 5 };
                self.after(millis(wait), Event::Buried(burial, process));
            }
            Effect::Count { utc_day, calls, path, .. } => {
                self.seen.day_counts += 1;
                self.day = (utc_day, calls, Some(self.now.wall));
                self.after(millis(7), Event::Counted(path, process));
            }
            Effect::Settle(id) => self.settle(id),
            Effect::Released(_, partition, _) => {
                self.note(&|| format!("released {partition:?}"));
                if !self.partitions[partition.0 as usize].assigned {
                    self.assign(partition.0);
                }
            }
            Effect::Intake { open, .. } => {
                self.seen.pauses += u64::from(!open);
                self.intake = open;
            }
            Effect::PartitionIntake { partition, open, .. } => {
                self.seen.partition_pauses += u64::from(!open);
                self.partitions[partition.0 as usize].paused = !open;
            }
        }
    }

    /// Whether a message may have been judged to become a letter that a crash or a lost partition
    /// then kept from being written: whoever gets its record next sends it, outside of the order.
    fn letters_may_be_decided(&self) -> bool {
        let route = &self.settings.routes[0];
        let faults = &self.faults;
        route.on_full == OnFull::DeadLetter
            || faults.refused
            || faults.gone
            || faults.uncertain
            || faults.outage
            || faults.ttl
    }

    fn messages_of(&self, id: RecordId) -> Vec<(String, MessageId)> {
        let offset = usize::try_from(id.offset).expect("positive");
        let record = &self.partitions[id.partition.0 as usize].records[offset];
        record.messages.iter().map(|(_, room, _, id, ..)| (room.clone(), *id)).collect()
    }

    fn settle(&mut self, id: RecordId) {
        self.note(&|| format!("settle {id:?}"));
        let messages = self.messages_of(id);
        // What is neither accepted nor in a letter was dropped by a rule: expiry or a full room.
        for (_, message) in &messages {
            let may_drop =
                self.expires[message].is_some() || self.settings.routes[0].on_full == OnFull::DropOldest;
            if may_drop {
                self.laws.ended(*message, End::Dropped);
                self.seen.dropped += 1;
            }
        }
        let messages: Vec<MessageId> = messages.into_iter().map(|(_, id)| id).collect();
        self.laws.p1_settled(id, &messages);
        self.partitions[id.partition.0 as usize].done.insert(id.offset);
    }

    /// A call leaves: when it is counted, what the provider makes of it and when the answer comes
    /// are drawn here; the answer arrives by the agenda.
    fn send(&mut self, attempt: Attempt) {
        let process = self.process;
        self.seen.shared_calls += u64::from(attempt.items.len() > 1 && self.limits.rooms_per_call > 1);
        self.seen.batched_calls += u64::from(attempt.items.len() > 1 && self.limits.rooms_per_call == 1);
        for flight in self.flights.values() {
            for item in &flight.attempt.items {
                let same = |other: &Item| {
                    other.room == item.room && self.of_message[&other.id].1 == self.of_message[&item.id].1
                };
                let clash = flight.attempt.path == attempt.path && attempt.items.iter().any(same);
                assert!(!clash, "P2: two calls away for room {}", item.room);
            }
        }
        for item in &attempt.items {
            self.laws.p3_sent(item.id, item.resend);
            self.seen.repeats += u64::from(item.resend);
            let late = self.expires[&item.id].is_some_and(|at| at < self.now.wall);
            assert!(!late, "time-to-live: {} is sent after {:?}", item.id, self.expires[&item.id]);
        }
        let timeout = 5_000;
        let latency = match (self.faults.tail, self.rng.u8(..20)) {
            (true, 0) => self.rng.u64(1_000..=timeout),
            _ => self.rng.u64(1..80),
        };
        let counted = self.now.mono + millis(self.rng.u64(0..=latency.min(250)));
        let rooms: Vec<String> = attempt.items.iter().map(|item| item.room.0.to_string()).collect();
        self.laws.p4_counted(attempt.path, &rooms, counted, &self.limits);
        self.note(&|| format!("send {:?} {rooms:?}", attempt.path));
        let outcomes = self.outcomes(&attempt);
        self.note(&|| {
            let told: Vec<String> = attempt
                .items
                .iter()
                .zip(&outcomes)
                .map(|(item, outcome)| {
                    format!("{:?} {} {}", self.of_message[&item.id], item.resend, outcome.word())
                })
                .collect();
            format!("  {:?}: {told:?}", attempt.id)
        });
        let whole_call = self.rng.bool();
        for (item, outcome) in attempt.items.iter().zip(&outcomes) {
            if matches!(outcome, Outcome::Uncertain(_)) {
                self.seen.uncertain += 1;
                self.laws.maybe_sent(item.id);
            }
            let delivered = match outcome {
                Outcome::Accepted(_) => true,
                Outcome::Uncertain(_) if self.limits.messages_per_call > 1 => whole_call,
                Outcome::Uncertain(_) => self.rng.bool(),
                _ => false,
            };
            if delivered {
                self.seen.accepted += 1;
                let ((partition, offset), priority) = self.of_message[&item.id];
                if self.faults.partial
                    || (self.letters_may_be_decided() && self.partitions[partition as usize].epoch > 1)
                {
                    self.laws.accepted_in_any_order(item.id);
                    continue;
                }
                self.laws.p2_accepted(partition, attempt.path, &item.room.0, priority, offset, item.id);
            }
        }
        if std::mem::take(&mut self.ban_begins) {
            let answer = self.now.mono + millis(latency);
            self.ban[attempt.path as usize] = (answer, answer + Duration::from_secs(3));
        }
        self.after(millis(latency), Event::Answer(attempt.id, process));
        self.flights.insert(attempt.id, Flight { attempt, outcomes });
    }

    fn outcomes(&mut self, attempt: &Attempt) -> Vec<Outcome> {
        let all = |outcome: Outcome| vec![outcome; attempt.items.len()];
        let now = self.now.mono;
        if attempt.session.is_none() && self.settings.accounts[0].needs_login {
            panic!("a call without a session");
        }
        if self.faults.token && self.rng.u8(..30) == 0 {
            self.token_good = false;
            return all(Outcome::Unauthorized(trouble("401")));
        }
        let (from, until) = self.ban[attempt.path as usize];
        assert!(now <= from || now >= until, "P4: a call during a ban");
        if self.faults.outage && now < self.outage_until && now.0 / 4_000_000_000 % 2 == 0 {
            return all(match self.rng.bool() {
                true => Outcome::Failed(trouble("refused")),
                false => Outcome::Uncertain(trouble("timeout")),
            });
        }
        if self.faults.bans && self.flights.is_empty() && self.rng.u8(..60) == 0 {
            self.seen.bans += 1;
            self.ban_begins = true;
            return all(Outcome::Throttled {
                scope: Throttle::Path(Duration::from_secs(3)),
                trouble: trouble("416"),
            });
        }
        let shared = attempt.items.len() > 1 && self.limits.rooms_per_call > 1;
        if shared && self.faults.refused && self.rng.u8(..6) == 0 {
            return all(Outcome::Refused { class: Class::Rejected, trouble: trouble("400") });
        }
        if self.limits.messages_per_call > 1 && !self.faults.partial {
            // The batch succeeds or fails as one.
            let outcome = self.outcome(&attempt.items[0]);
            return all(outcome);
        }
        attempt.items.iter().map(|item| self.outcome(item)).collect()
    }

    fn outcome(&mut self, item: &Item) -> Outcome {
        if self.now.mono > FAULTS_END {
            return Outcome::Accepted(Acceptance::Plain);
        }
        if self.gone_rooms.contains(&*item.room.0) {
            return Outcome::Refused { class: Class::RoomGone, trouble: trouble("404") };
        }
        match self.rng.u8(..40) {
            0 if self.faults.uncertain => Outcome::Uncertain(trouble("reset")),
            1 if self.faults.refused => Outcome::Refused { class: Class::Rejected, trouble: trouble("400") },
            2 if self.faults.refused => {
                Outcome::Throttled { scope: Throttle::Room(millis(900)), trouble: trouble("403") }
            }
            3 if self.faults.uncertain => Outcome::Failed(trouble("busy")),
            4 => Outcome::Accepted(Acceptance::Duplicate),
            _ => Outcome::Accepted(Acceptance::Plain),
        }
    }
}
