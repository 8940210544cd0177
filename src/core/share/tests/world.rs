//! A world of several processes, a group that hands partitions out, a store with rows, and a provider
//! that counts. Everything that is random hangs on one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::process::{ANSWER, Answer, Asking, Call, MS, PATHS, Process, SECOND, Source, Time, quotas};
use crate::core::model::Path;
use crate::core::provider::{Limits, PathQuota};
use crate::core::share::lease::{Book, Step, Written};
use crate::core::share::spread::{Spread, Unit};
use crate::core::time::Wall;

/// The time limit of a call.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// Replicas that may take part.
pub const MAX_REPLICAS: u32 = 3;
/// Calls and messages a second; broadcasts a second, a minute, a day.
pub const QUOTA: [u32; 5] = [12, 40, 2, 7, 15];

pub fn limits() -> Limits {
    let path = |calls_per_second, messages_per_second, calls_per_minute, calls_per_day| PathQuota {
        calls_per_second,
        messages_per_second,
        calls_per_minute,
        calls_per_day,
    };
    Limits {
        rooms_per_call: 5,
        messages_per_call: 1,
        drops_repeats: false,
        paths: [
            path(QUOTA[0], Some(QUOTA[1]), None, None),
            path(1, None, None, None),
            path(QUOTA[2], None, Some(QUOTA[3]), Some(QUOTA[4])),
        ],
        room_messages_per_second: 20,
        room_high_per_second: None,
    }
}

/// Which kind of share is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Partitions,
    NatsKv,
    Static,
}

/// Calls of the day by day and process, with the time of the last.
pub type Rows = BTreeMap<(i64, u32), (u32, Wall)>;

/// A row with its revision, if there is one.
type Stored = Option<(u64, Vec<u8>)>;

/// What the group does next.
#[derive(Debug)]
enum Move {
    Revoking(u32, Vec<u32>),
    Assigned(u32, Vec<u32>),
    SeesCount(u32, usize),
}

pub struct World {
    pub rng: fastrand::Rng,
    kind: Kind,
    pub now: Time,
    pub processes: BTreeMap<u32, Process>,
    made: u32,
    /// Everything that the provider counted.
    pub counted: Vec<(Time, Path, u32)>,
    /// Wall clock of the hosts at the beginning, and how far the provider's is from it.
    start: Wall,
    provider_is_ahead_ms: i64,
    rows: Rows,
    // The store of shares.
    row: Stored,
    old_rows: Vec<(Time, Stored)>,
    late_writes: Vec<(Time, u64, Vec<u8>)>,
    cut_off: BTreeSet<u32>,
    pub store_is_down: bool,
    /// One in so many requests to the store gets lost.
    loss: u8,
    /// Calls take nearly their time limit, and are counted at its end.
    is_slow: bool,
    /// No request gets lost any more, and calls are quick.
    pub is_calm: bool,
    // The group.
    partitions: usize,
    owners: BTreeMap<u32, u32>,
    moves: Vec<(Time, Move)>,
    dead: Vec<(Time, u32)>,
    members: BTreeSet<u32>,
}

impl World {
    pub fn new(kind: Kind, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Every third world goes through a midnight.
        let day = 86_400_000;
        let start = if rng.u8(0..3) == 0 { day * 20_000 - rng.i64(10_000..60_000) } else { day * 20_000 };
        Self {
            kind,
            now: SECOND,
            processes: BTreeMap::new(),
            made: 0,
            counted: Vec::new(),
            start: Wall(start),
            provider_is_ahead_ms: rng.i64(-15_000..15_000),
            rows: Rows::new(),
            row: None,
            old_rows: Vec::new(),
            late_writes: Vec::new(),
            cut_off: BTreeSet::new(),
            store_is_down: false,
            loss: if rng.bool() { 25 } else { 4 },
            is_slow: rng.bool(),
            is_calm: false,
            partitions: rng.usize(1..9),
            owners: BTreeMap::new(),
            moves: Vec::new(),
            dead: Vec::new(),
            members: BTreeSet::new(),
            rng,
        }
    }

    fn wall(&self) -> Wall {
        Wall(self.start.0 + i64::try_from(self.now / MS).expect("minutes"))
    }

    /// A process begins.
    pub fn join(&mut self) -> u32 {
        self.made += 1;
        let id = self.made;
        let source = match self.kind {
            Kind::Partitions => Source::Spread(Box::new(Spread::partitions(quotas()))),
            Kind::Static => Source::Fixed,
            Kind::NatsKv => Source::Fixed,
        };
        let mut process = Process::new(id, source, self.now, &mut self.rng);
        if self.kind == Kind::NatsKv {
            let at = process.mono(self.now);
            let book = Book::new(format!("process-{id}"), quotas(), MAX_REPLICAS, TIMEOUT, at);
            process.take_book(book, self.now);
        }
        if self.kind == Kind::Partitions {
            let order = (0..self.partitions).map(unit).collect();
            let at = process.mono(self.now);
            process.spread().expect("it has one").handle_order(order, at);
            self.members.insert(id);
        }
        self.processes.insert(id, process);
        self.look_at_topics();
        self.rebalance();
        id
    }

    /// A process stops: nothing new is sent, what is away lands, then it lets go.
    pub fn leave(&mut self, id: u32) {
        let Some(mut process) = self.processes.remove(&id) else { return };
        while !process.is_quiet() {
            self.now += 20 * MS;
            process.take_up(self.now);
        }
        if let Some(book) = process.book() {
            book.leave(crate::core::time::Mono(u64::MAX / 2));
            for _ in 0..5 {
                let Some(Step::Write { expected, bytes }) = leave_step(&mut process, &self.row) else {
                    break;
                };
                self.write(expected, bytes);
            }
        }
        self.gone(id);
    }

    /// kill -9: what is away is counted within a quarter of a second, or never.
    pub fn kill(&mut self, id: u32) {
        let Some(process) = self.processes.remove(&id) else { return };
        let last = self.now + 250 * MS;
        for (at, path, _) in &mut self.counted {
            let is_own = process.away.iter().any(|call| call.counted == *at && call.path == *path);
            if is_own && *at > last {
                *at = self.rng.u64(self.now..last);
            }
        }
        let session = self.rng.u64(6..10) * SECOND;
        self.dead.push((self.now + session, id));
    }

    fn gone(&mut self, id: u32) {
        if self.members.remove(&id) {
            self.owners.retain(|_, owner| *owner != id);
            self.look_at_topics();
            self.rebalance();
        }
    }

    /// The store cannot be reached by one process, or can again.
    pub fn cut_off(&mut self, id: u32, is_off: bool) {
        if is_off {
            self.cut_off.insert(id)
        } else {
            self.cut_off.remove(&id)
        };
    }

    /// The topic gets more partitions: each process sees it in its own time.
    pub fn grow(&mut self) {
        self.partitions += self.rng.usize(1..5);
        for id in self.processes.keys().copied().collect::<Vec<_>>() {
            let at = self.now + self.rng.u64(0..12_000) * MS;
            self.moves.push((at, Move::SeesCount(id, self.partitions)));
        }
        self.rebalance();
    }

    /// At a rebalance everybody looks at the topics, in brokers that may be a second behind.
    fn look_at_topics(&mut self) {
        for id in self.members.iter().copied() {
            let at = self.now + self.rng.u64(0..1_000) * MS;
            self.moves.push((at, Move::SeesCount(id, self.partitions)));
        }
    }

    /// Cooperative: what moves is revoked first, and given on when it was let go.
    fn rebalance(&mut self) {
        let members: Vec<u32> = self.members.iter().copied().collect();
        if self.kind != Kind::Partitions || members.is_empty() {
            return;
        }
        for place in 0..self.partitions {
            let partition = u32::try_from(place).expect("a few");
            let target = members[place * members.len() / self.partitions];
            let delay = self.rng.u64(1..1_500) * MS;
            match self.owners.get(&partition) {
                Some(owner) if *owner == target => {}
                // Only its process knows when it lets go: the answer gives it on.
                Some(owner) => self.moves.push((self.now + delay, Move::Revoking(*owner, vec![partition]))),
                None => {
                    self.owners.insert(partition, target);
                    self.moves.push((self.now + delay, Move::Assigned(target, vec![partition])));
                }
            }
        }
    }

    fn play_group(&mut self) {
        let due: Vec<_> = self.moves.extract_if(.., |(at, _)| *at <= self.now).collect();
        for (_, what) in due {
            match what {
                Move::Revoking(id, partitions) => {
                    for partition in &partitions {
                        if self.owners.get(partition) == Some(&id) {
                            self.owners.remove(partition);
                        }
                    }
                    if let Some(spread) = self.processes.get_mut(&id).and_then(Process::spread) {
                        spread.handle_gone(partitions.iter().map(|partition| Unit(*partition)));
                    }
                    self.rebalance();
                }
                Move::Assigned(id, partitions) => {
                    let owners = &self.owners;
                    if let Some(process) = self.processes.get_mut(&id) {
                        let spread = process.spread().expect("it has one");
                        let own = partitions.iter().filter(|partition| owners.get(partition) == Some(&id));
                        spread.handle_held(own.map(|partition| Unit(*partition)));
                    }
                }
                Move::SeesCount(id, count) => {
                    if let Some(process) = self.processes.get_mut(&id) {
                        let at = process.mono(self.now);
                        let spread = process.spread().expect("it has one");
                        spread.handle_order((0..count).map(unit).collect(), at);
                    }
                }
            }
        }
        let dead: Vec<_> = self.dead.extract_if(.., |(at, _)| *at <= self.now).collect();
        dead.into_iter().for_each(|(_, id)| self.gone(id));
    }

    fn write(&mut self, expected: u64, bytes: Vec<u8>) -> Written {
        let revision = self.row.as_ref().map_or(0, |(revision, _)| *revision);
        if revision != expected {
            return Written::Outrun;
        }
        self.old_rows.push((self.now, self.row.clone()));
        self.row = Some((revision + 1, bytes));
        Written::Done(revision + 1)
    }

    /// The store does what a process asks, or seems not to.
    fn serve(&mut self, id: u32, step: Step) -> Option<Asking> {
        let is_off = self.store_is_down || self.cut_off.contains(&id);
        let lost = is_off || (!self.is_calm && self.rng.u8(0..self.loss) == 0);
        let no_answer = self.now + u64::try_from(ANSWER.as_nanos()).expect("seconds");
        let answered = self.now + self.rng.u64(1..60) * MS;
        Some(match step {
            Step::Wait(_) | Step::Left => return None,
            Step::Read if lost => {
                Asking { answered: no_answer, answer: Answer::Read(Err("no answer".to_owned())) }
            }
            Step::Read => {
                // A follower may answer with what stood there a moment ago.
                let back = self.now.saturating_sub(self.rng.u64(0..300) * MS);
                let old = self.old_rows.iter().find(|(until, _)| *until > back);
                let row = old.map_or_else(|| self.row.clone(), |(_, row)| row.clone());
                Asking { answered, answer: Answer::Read(Ok(row)) }
            }
            Step::Write { expected, bytes } if lost => {
                // It may still come to be, in time or long after.
                match self.rng.u8(0..4) {
                    _ if is_off => {}
                    0 | 1 => drop(self.write(expected, bytes)),
                    2 => self.late_writes.push((self.now + self.rng.u64(1..9_000) * MS, expected, bytes)),
                    _ => {}
                }
                Asking { answered: no_answer, answer: Answer::Written(Err("no answer".to_owned())) }
            }
            Step::Write { expected, bytes } => {
                let written = self.write(expected, bytes);
                Asking { answered, answer: Answer::Written(Ok(written)) }
            }
        })
    }

    /// Everything that happens until then.
    pub fn run(&mut self, span: Time) {
        let end = self.now + span;
        while self.now < end {
            self.now += self.rng.u64(2..30) * MS;
            let late: Vec<_> = self.late_writes.extract_if(.., |(at, ..)| *at <= self.now).collect();
            for (_, expected, bytes) in late {
                self.write(expected, bytes);
            }
            self.play_group();
            let due: Vec<u32> =
                self.processes.iter().filter(|(_, p)| p.next_step <= self.now).map(|(id, _)| *id).collect();
            due.into_iter().for_each(|id| self.step(id));
        }
    }

    fn step(&mut self, id: u32) {
        let (now, wall) = (self.now, self.wall());
        let mut process = self.processes.remove(&id).expect("it is due");
        process.next_step = now + self.rng.u64(1..60) * MS;
        process.take_up(now);
        if let Some(step) = process.step(now) {
            process.asking = self.serve(id, step);
        }
        process.count(now, wall, &mut self.rows, &mut self.rng);
        for path in PATHS {
            while let Some(messages) = process.try_call(path, now, wall, &mut self.rng) {
                let longest = u64::try_from(TIMEOUT.as_nanos()).expect("seconds");
                let took = match self.rng.u8(0..6) {
                    0 => self.rng.u64(MS..=longest),
                    _ if self.is_slow && !self.is_calm => self.rng.u64(longest * 9 / 10..=longest),
                    _ => self.rng.u64(MS..50 * MS),
                };
                let counted = if self.is_slow { now + took } else { now + self.rng.u64(0..=took) };
                process.away.push(Call { path, messages, counted, answered: now + took });
                self.counted.push((counted, path, messages));
            }
        }
        self.processes.insert(id, process);
    }

    /// The most that any window carried, for calls, messages, broadcasts of a second, a minute, a day.
    pub fn most(&self) -> [u32; 5] {
        let of = |path: Path| {
            let mut of: Vec<(Time, u32)> =
                self.counted.iter().filter(|(_, p, _)| *p == path).map(|(at, _, m)| (*at, *m)).collect();
            of.sort_unstable();
            of
        };
        let (room, broadcast) = (of(Path::Room), of(Path::Broadcast));
        let calls: Vec<_> = room.iter().map(|(at, _)| (*at, 1)).collect();
        let mut days: BTreeMap<i64, u32> = BTreeMap::new();
        for (at, _) in &broadcast {
            let at = i64::try_from(at / MS).expect("minutes") + self.provider_is_ahead_ms;
            *days.entry(Wall(self.start.0 + at).utc_day()).or_default() += 1;
        }
        [
            window(&calls, SECOND),
            window(&room, SECOND),
            window(&broadcast, SECOND),
            window(&broadcast, 60 * SECOND),
            days.into_values().max().unwrap_or(0),
        ]
    }

    /// Of the quotas of calls and of messages since then, the part that was used of the one that was
    /// used more, in percent.
    pub fn used_since(&self, from: Time) -> u64 {
        let of = |(at, path, _): &&(Time, Path, u32)| *path == Path::Room && *at >= from && *at < self.now;
        let counted: Vec<_> = self.counted.iter().filter(of).collect();
        let messages: u64 = counted.iter().map(|(_, _, messages)| u64::from(*messages)).sum();
        let seconds = (self.now - from) / SECOND;
        let percent = |used: u64, quota: u32| used * 100 / (u64::from(quota) * seconds);
        percent(counted.len() as u64, QUOTA[0]).max(percent(messages, QUOTA[1]))
    }
}

fn window(counted: &[(Time, u32)], span: Time) -> u32 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (at, weight) in counted {
        sum += weight;
        while counted[first].0 + span <= *at {
            sum -= counted[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

fn unit(place: usize) -> Unit {
    Unit(u32::try_from(place).expect("a few"))
}

fn leave_step(process: &mut Process, row: &Stored) -> Option<Step> {
    let book = process.book()?;
    let far = crate::core::time::Mono(u64::MAX / 2);
    book.leave(far);
    if book.poll(far) == Step::Read {
        book.handle_read(Ok(row.as_ref().map(|(revision, bytes)| (*revision, bytes.as_slice()))), far);
    }
    Some(book.poll(far))
}
