//! A scheduler with nothing around it, for tests of what it promises: records in, effects out,
//! answers in, at times that the test chooses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::backoff::Retry;
use super::{
    AccountSettings, Attempt, Effect, OnExpiry, OnFull, RoutePolicy, Scheduler, Settings, SourceSettings,
};
use crate::core::letter::Letter;
use crate::core::model::{
    AccountId, BaseId, ConflateKey, Content, Epoch, Failure, Message, Origin, PartitionId, Path, Plan,
    Priority, Record, RecordId, Room, RouteId, SourceId,
};
use crate::core::provider::{Acceptance, Limits, Outcome, PathQuota, Trouble};
use crate::core::time::{Mono, Now, Wall};

/// The one source.
pub const SOURCE: SourceId = SourceId(0);
/// The one account.
pub const ACCOUNT: AccountId = AccountId(0);
/// More than any test sends.
pub const PLENTY: u32 = 1_000_000;

/// A scheduler at work, and what it has asked for.
pub struct Bed {
    pub scheduler: Scheduler,
    pub now: Now,
    offsets: BTreeMap<PartitionId, i64>,
    /// Calls away, in their order.
    pub away: Vec<Attempt>,
    /// When they left.
    left: Vec<Mono>,
    /// Offsets of settled records, with their partitions.
    pub settled: Vec<(u32, i64)>,
    /// Records of which what became is to be written down.
    pub unanswered: Vec<RecordId>,
    /// Letters' classes and rooms.
    pub letters: Vec<(&'static str, String)>,
    /// The last letter.
    pub letter: Option<Letter>,
    /// Partitions that are asked to pause.
    pub paused: Vec<u32>,
    /// Whether the source as a whole may read.
    pub intake: bool,
    /// Letters are not confirmed.
    pub hold_letters: bool,
}

/// Limits that never bind, one message a call.
pub fn limits() -> Limits {
    let quota = PathQuota {
        calls_per_second: PLENTY,
        messages_per_second: None,
        calls_per_minute: None,
        calls_per_day: None,
    };
    Limits {
        rooms_per_call: 1,
        messages_per_call: 1,
        drops_repeats: true,
        paths: [quota; 3],
        room_messages_per_second: PLENTY,
        room_high_per_second: None,
    }
}

/// One account and source, two routes that differ in nothing, bounds as by default.
pub fn settings() -> Settings {
    let route = |name: &str| RoutePolicy {
        name: name.into(),
        retry: Retry::default(),
        on_expiry: OnExpiry::Drop,
        on_full: OnFull::Wait,
    };
    Settings {
        accounts: vec![AccountSettings {
            limits: limits(),
            timeout: Duration::from_secs(5),
            needs_login: false,
            base_urls: 1,
        }],
        routes: vec![route("one"), route("other")],
        sources: vec![SourceSettings { held_records: 50_000, held_bytes: 256 << 20, is_answered: false }],
        max_waiting_per_room: 1_000,
        room_gone: Duration::from_secs(600),
        flood_guard: None,
        seed: 1,
    }
}

/// A message of the first route to a room; its content is `text`.
pub fn message(room: &str, text: &str, conflate: Option<&str>) -> Message {
    let base = BaseId(Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()));
    let room = Room(room.into());
    Message {
        account: ACCOUNT,
        path: Path::Room,
        id: base.message(&room),
        room,
        priority: Priority::Normal,
        base,
        route: RouteId(0),
        content: Arc::new(Content { single: Bytes::copy_from_slice(text.as_bytes()), batched: Bytes::new() }),
        expires: None,
        conflate: conflate.map(ConflateKey::new),
    }
}

/// The plan of a record with these messages.
pub fn plan(messages: Vec<Message>) -> Plan {
    Plan {
        route: Some(RouteId(0)),
        account: Some(ACCOUNT),
        base: BaseId(Uuid::nil()),
        messages,
        failures: Vec::new(),
        dropped: None,
        when_errors: 0,
        unknown: None,
        waits: None,
    }
}

/// An answer that says nothing about the message.
pub fn failed() -> Outcome {
    Outcome::Failed(Trouble { status: Some(503), code: None, text: "unavailable".to_owned() })
}

/// The provider took it.
pub const ACCEPTED: Outcome = Outcome::Accepted(Acceptance::Plain);

/// What a call carries.
fn contents(attempt: &Attempt) -> Vec<String> {
    attempt.items.iter().map(|item| String::from_utf8_lossy(&item.content.single).into_owned()).collect()
}

impl Bed {
    /// With so many partitions, whose slots of a new process are free.
    pub fn new(settings: Settings, partitions: u32) -> Self {
        let start = Now { mono: Mono(0), wall: Wall(1_700_000_000_000) };
        let mut bed = Self {
            scheduler: Scheduler::new(settings, start),
            now: start,
            offsets: BTreeMap::new(),
            away: Vec::new(),
            left: Vec::new(),
            settled: Vec::new(),
            unanswered: Vec::new(),
            letters: Vec::new(),
            letter: None,
            paused: Vec::new(),
            intake: true,
            hold_letters: false,
        };
        let ids: Vec<_> = (0..partitions).map(|n| (PartitionId(n), Epoch(1))).collect();
        bed.scheduler.handle_assigned(SOURCE, &ids);
        bed.pass(Duration::from_secs(2));
        bed
    }

    /// Time goes on, and what is due is done.
    pub fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall = self.now.wall + time;
        self.obey();
    }

    /// A record of a partition with these messages; its offset.
    pub fn record(&mut self, partition: u32, messages: Vec<Message>) -> i64 {
        self.planned(partition, plan(messages))
    }

    /// A record of a partition with these messages, and what of it cannot be sent; its offset.
    pub fn record_with(&mut self, partition: u32, messages: Vec<Message>, failures: Vec<Failure>) -> i64 {
        self.planned(partition, Plan { failures, ..plan(messages) })
    }

    /// A record of a partition with this plan; its offset.
    pub fn planned(&mut self, partition: u32, plan: Plan) -> i64 {
        let offset = self.offsets.entry(PartitionId(partition)).or_default();
        let id =
            RecordId { source: SOURCE, partition: PartitionId(partition), epoch: Epoch(1), offset: *offset };
        *offset += 1;
        let record = Record {
            id,
            origin: Origin { stream: "t".into(), topic: "t".into(), partition: 0, offset: id.offset },
            key: None,
            value: Some(Bytes::from_static(&[b'x'; 300])),
            headers: Vec::new(),
            timestamp: self.now.wall,
            maybe_tried: false,
        };
        self.scheduler.handle_record(Arc::new(record), plan, self.now);
        self.obey();
        id.offset
    }

    /// A record with one message.
    pub fn one(&mut self, room: &str, text: &str, conflate: Option<&str>) -> i64 {
        self.record(0, vec![message(room, text, conflate)])
    }

    /// Answers the oldest call away.
    #[track_caller]
    pub fn answer(&mut self, outcome: &Outcome) {
        let attempt = self.away.remove(0);
        self.left.remove(0);
        let outcomes = vec![outcome.clone(); attempt.items.len()];
        self.scheduler.handle_outcome(attempt.id, &outcomes, self.now);
        self.obey();
    }

    /// What became of the oldest such record is written down.
    pub fn write_down(&mut self) {
        let record = self.unanswered.remove(0);
        self.scheduler.handle_answered(record, self.now);
        self.obey();
    }

    /// Answers the calls to one room, and only those, for as long as there are any.
    pub fn answer_room(&mut self, room: &str, outcome: &Outcome) {
        while let Some(at) = self.away.iter().position(|attempt| &*attempt.items[0].room.0 == room) {
            let attempt = self.away.remove(at);
            self.left.remove(at);
            self.scheduler.handle_outcome(attempt.id, std::slice::from_ref(outcome), self.now);
            self.obey();
        }
    }

    /// Answers the calls that left so long ago, in their order; how many those are, or none when it
    /// does not count.
    pub fn answer_older(&mut self, than: Duration, outcome: &Outcome, counts: bool) -> u64 {
        let mut answered = 0;
        while self.left.first().is_some_and(|left| self.now.mono.since(*left) >= than) {
            self.answer(outcome);
            answered += u64::from(counts);
        }
        answered
    }

    /// Accepts whatever is away and becomes due, until nothing is left; the contents in their order.
    pub fn accept_all(&mut self) -> Vec<String> {
        let mut accepted = Vec::new();
        loop {
            while !self.away.is_empty() {
                accepted.extend(contents(&self.away[0]));
                self.answer(&ACCEPTED);
            }
            match self.scheduler.poll_wake(self.now) {
                Some(at) if at > self.now.mono => self.pass(at.since(self.now.mono)),
                _ => return accepted,
            }
        }
    }

    /// What the calls away carry.
    pub fn contents_away(&self) -> Vec<String> {
        self.away.iter().flat_map(contents).collect()
    }

    fn obey(&mut self) {
        while let Some(effect) = self.scheduler.poll_effect(self.now) {
            match effect {
                Effect::Send(attempt) => {
                    self.away.push(attempt);
                    self.left.push(self.now.mono);
                }
                Effect::Answer(id) => self.unanswered.push(id),
                Effect::Settle(id) => self.settled.push((id.partition.0, id.offset)),
                Effect::Bury(burial, letter) => {
                    let rooms: Vec<_> = letter.rooms.iter().map(ToString::to_string).collect();
                    self.letters.push((letter.class.word(), rooms.join(",")));
                    self.letter = Some(*letter);
                    if !self.hold_letters {
                        self.scheduler.handle_buried(burial, self.now);
                    }
                }
                Effect::Intake { open, .. } => self.intake = open,
                Effect::PartitionIntake { partition, open: false, .. } => self.paused.push(partition.0),
                Effect::PartitionIntake { partition, open: true, .. } => {
                    self.paused.retain(|paused| *paused != partition.0);
                }
                Effect::Released(..) | Effect::Login(_) => {}
                Effect::Count { .. } => panic!("nothing here counts"),
            }
        }
    }
}
