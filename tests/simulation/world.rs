//! The world around the scheduler: one account, one source with partitions, a dead-letter topic,
//! and whatever goes wrong with them, all drawn from one seed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use roomcast::core::model::{
    AccountId, AttemptId, BurialId, Class, Content, MessageId, Path, Priority, SourceId,
};
use roomcast::core::provider::{Limits, LoginFault, Outcome, Session, Trouble};
use roomcast::core::schedule::{Attempt, Effect, Scheduler, Settings};
use roomcast::core::time::{Mono, Now, Wall};

use crate::laws::{Coverage, End, Laws, Place};

pub const SOURCE: SourceId = SourceId(0);
pub const ACCOUNT: AccountId = AccountId(0);

/// After this no message is refused: what is left must drain.
pub const FAULTS_END: Mono = Mono(60_000_000_000);

/// Things that will happen.
#[derive(Clone, Copy, Debug)]
pub enum Event {
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

/// Path, room, priority, id, content, and when it is too late.
pub type WorldMessage = (Path, String, Priority, MessageId, Arc<Content>, Option<Wall>);

pub struct WorldRecord {
    pub messages: Vec<WorldMessage>,
}

pub struct Partition {
    pub records: Vec<WorldRecord>,
    /// Offsets settled and committed.
    pub done: BTreeSet<i64>,
    pub next: usize,
    pub epoch: u32,
    pub assigned: bool,
    pub paused: bool,
}

pub struct Flight {
    pub attempt: Attempt,
    pub outcomes: Vec<Outcome>,
}

pub struct World {
    pub rng: fastrand::Rng,
    pub trace: bool,
    pub hash: RefCell<DefaultHasher>,
    pub now: Now,
    pub scheduler: Scheduler,
    pub limits: Limits,
    pub settings: Settings,
    /// Grows with each process: what an earlier one asked for comes back to nobody.
    pub process: u32,
    pub agenda: BTreeMap<(Mono, u64), Event>,
    pub planned: u64,
    pub partitions: Vec<Partition>,
    pub intake: bool,
    pub flights: BTreeMap<AttemptId, Flight>,
    pub letters: BTreeMap<BurialId, Vec<MessageId>>,
    pub laws: Laws,
    pub seen: Coverage,
    pub faults: Faults,
    pub outage_until: Mono,
    /// From the answer that told of it, and until when.
    pub ban: [(Mono, Mono); 3],
    pub ban_begins: bool,
    pub token_good: bool,
    pub gone_rooms: BTreeSet<String>,
    pub day: (i64, u32, Option<Wall>),
    pub of_message: BTreeMap<MessageId, (Place, Priority)>,
    pub expires: BTreeMap<MessageId, Option<Wall>>,
}

/// Which faults a seed has: a random half.
#[derive(Debug)]
pub struct Faults {
    pub uncertain: bool,
    pub outage: bool,
    pub bans: bool,
    pub refused: bool,
    pub gone: bool,
    pub revoke: bool,
    pub lose: bool,
    pub crash: bool,
    pub token: bool,
    pub slow_letters: bool,
    pub tail: bool,
    pub ttl: bool,
    /// Batches fail in part: the one case in which a repeat may come after its successors.
    pub partial: bool,
}

pub fn trouble(text: &str) -> Trouble {
    Trouble { status: Some(500), code: None, text: text.to_owned() }
}

pub fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    pub fn plan(&mut self, at: Mono, event: Event) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), event);
    }

    pub fn after(&mut self, wait: Duration, event: Event) {
        self.plan(self.now.mono + wait, event);
    }

    pub fn note(&self, what: &dyn Fn() -> String) {
        let line = what();
        line.hash(&mut *self.hash.borrow_mut());
        if self.trace {
            writeln!(std::io::stderr(), "{:>10.3} {line}", self.now.mono.0 as f64 / 1e9)
                .expect("stderr is there");
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
    pub fn is_over(&self) -> bool {
        self.partitions.iter().all(|partition| partition.done.len() == partition.records.len())
            && self.agenda.values().all(|event| matches!(event, Event::LoggedIn(..)))
            && self.scheduler.snapshot(self.now).rooms == 0
    }

    pub fn advance(&mut self, to: Mono) {
        let ms = |at: Mono| i64::try_from(at.0 / 1_000_000).expect("short");
        let wall = Wall(self.now.wall.0 + ms(to) - ms(self.now.mono));
        self.now = Now { mono: to, wall };
    }

    pub fn happen(&mut self, event: Event) {
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

    pub fn drain_effects(&mut self) {
        let mut effects = 0;
        while let Some(effect) = self.scheduler.poll_effect(self.now) {
            effects += 1;
            assert!(effects < 100_000, "it never stops asking");
            self.effect(effect);
        }
    }

    pub fn effect(&mut self, effect: Effect) {
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
}
