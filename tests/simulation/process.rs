//! One daemon of the world: a scheduler, the client sides of its sources, and what it does for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use roomcast::core::model::{
    AccountId, BurialId, Epoch, Message, Origin, PartitionId, Path, Plan, Record, RecordId, Room, RouteId,
    SourceId,
};
use roomcast::core::schedule::{Effect, Scheduler};

use crate::jetstream::JetClient;
use crate::kafka::KafkaClient;
use crate::laws::Watch;
use crate::letters::Writing;
use crate::replays::Desk;
use crate::replicas::Shares;
use crate::spec::{EventNo, Source};
use crate::world::{Happening, ProcessNo, World, millis};

pub struct Process {
    pub alive: bool,
    /// Grows with each start: what an earlier life asked for comes back to nobody.
    pub life: u32,
    pub scheduler: Scheduler,
    /// How far its wall clock is off.
    pub skew_ms: i64,
    /// Effects until it dies.
    pub dies_in: Option<u32>,
    pub stopping: bool,
    pub intake: [bool; 3],
    pub kafka: KafkaClient,
    pub jet: JetClient,
    pub shares: Shares,
    pub desk: Desk,
    /// The id of its one route.
    pub route: RouteId,
    pub writing: BTreeMap<BurialId, Writing>,
    pub watch: Watch,
    /// Every record that it got.
    pub events: BTreeMap<RecordId, EventNo>,
    /// Those that are neither settled nor lost.
    pub open: BTreeSet<RecordId>,
}

pub fn account_id(account: usize) -> AccountId {
    AccountId(u16::try_from(account).expect("few"))
}

pub fn source_id(source: Source) -> SourceId {
    SourceId(source as u16)
}

impl Process {
    pub fn new(scheduler: Scheduler, life: u32) -> Self {
        Self {
            alive: true,
            life,
            scheduler,
            skew_ms: 0,
            dies_in: None,
            stopping: false,
            intake: [true; 3],
            kafka: KafkaClient::default(),
            jet: JetClient::default(),
            shares: Shares::default(),
            desk: Desk::default(),
            route: RouteId(0),
            writing: BTreeMap::new(),
            watch: Watch::default(),
            events: BTreeMap::new(),
            open: BTreeSet::new(),
        }
    }

    /// Whether nothing of it is under way.
    pub fn is_quiet(&self) -> bool {
        !self.stopping && self.writing.is_empty() && self.desk.writing.is_empty()
    }
}

impl World {
    /// Every process does what its scheduler wants done by now.
    pub fn let_processes_act(&mut self) {
        for process in 0..self.processes.len() {
            self.drain(process);
            if !self.processes[process].alive {
                continue;
            }
            if self.processes[process].stopping && self.processes[process].scheduler.is_idle() {
                self.end(process);
                continue;
            }
            self.kafka_acts(process);
            self.jet_acts(process);
            self.requests_act(process);
        }
    }

    /// One `handle_*` is followed by this, before the next.
    pub fn drain(&mut self, process: ProcessNo) {
        let mut effects = 0;
        while self.processes[process].alive {
            let now = self.now_of(process);
            let Some(effect) = self.processes[process].scheduler.poll_effect(now) else { return };
            effects += 1;
            assert!(effects < 100_000, "it never stops asking");
            self.effect(process, effect);
            if let Some(left) = self.processes[process].dies_in.as_mut() {
                match left.checked_sub(1) {
                    Some(less) => *left = less,
                    None => return self.crash(process),
                }
            }
        }
    }

    fn effect(&mut self, process: ProcessNo, effect: Effect) {
        let life = self.processes[process].life;
        match effect {
            Effect::Send(attempt) => self.send(process, attempt),
            Effect::Login(account) => self.login(process, usize::from(account.0)),
            Effect::Bury(burial, letter) => self.bury(process, burial, &letter),
            Effect::Count { account, path, utc_day, calls } => {
                self.seen.day_counts += 1;
                let account = usize::from(account.0);
                self.counts.insert((process, account, path), (utc_day, calls, self.wall_of(process)));
                self.soon(20, Happening::Counted { process, life, account, path });
            }
            Effect::Answer(record) => self.answer_request(process, record),
            Effect::Settle(record) => self.settle(process, record),
            Effect::Released(source, partition, epoch) => {
                if source == source_id(Source::Kafka) {
                    self.released(process, partition, epoch);
                } else if source == source_id(Source::Requests) {
                    self.requests_released(process, epoch);
                }
            }
            Effect::Intake { source, open, .. } => {
                self.seen.pauses += u64::from(!open);
                self.processes[process].intake[usize::from(source.0)] = open;
            }
            Effect::PartitionIntake { source, partition, epoch, open } => {
                self.seen.partition_pauses += u64::from(!open);
                match Source::ALL[usize::from(source.0)] {
                    Source::Kafka => self.processes[process].kafka.table.set_open(partition, epoch, open),
                    Source::JetStream => self.jet_is_asked(process, epoch, open),
                    Source::Requests => self.requests_are_asked(process, epoch, open),
                }
            }
        }
    }

    /// Gives a record to a process's scheduler, with the plan that its routes make of it.
    pub fn hand(&mut self, process: ProcessNo, event: EventNo, record: Record) {
        let routed = self.plan_of(process, event);
        let plan = self.waiting_plan(event, &routed).unwrap_or(routed);
        self.hand_planned(process, event, record, plan);
    }

    /// Gives a record to a process's scheduler, with this plan.
    pub fn hand_planned(&mut self, process: ProcessNo, event: EventNo, record: Record, plan: Plan) {
        let id = record.id;
        self.note(&|| {
            format!("  p{process} gets event {event} as {id:?}, maybe tried {}", record.maybe_tried)
        });
        let leads_to_nothing = plan.dropped.is_some();
        self.law_handed(process, event, record.maybe_tried || leads_to_nothing);
        self.processes[process].events.insert(id, event);
        self.processes[process].open.insert(id);
        let now = self.now_of(process);
        self.processes[process].scheduler.handle_record(Arc::new(record), plan, now);
        self.drain(process);
    }

    /// What the routes make of an event.
    pub fn plan_of(&self, process: ProcessNo, event: EventNo) -> Plan {
        let messages: Vec<Message> = self.spec.events[event]
            .messages
            .clone()
            .map(|number| {
                let message = &self.spec.messages[number];
                Message {
                    account: account_id(message.account),
                    path: message.path,
                    room: Room(message.room.clone()),
                    priority: message.priority,
                    id: message.id,
                    base: message.base,
                    route: self.processes[process].route,
                    content: message.content.clone(),
                    expires: message.expires,
                    conflate: message.conflate,
                }
            })
            .collect();
        let first = messages.first().expect("every event has a message");
        Plan {
            route: Some(self.processes[process].route),
            account: Some(first.account),
            base: first.base,
            messages,
            failures: Vec::new(),
            dropped: None,
            when_errors: 0,
            unknown: None,
            waits: None,
        }
    }

    fn settle(&mut self, process: ProcessNo, record: RecordId) {
        let of = &mut self.processes[process];
        assert!(of.open.remove(&record), "P1: {record:?} is settled twice, or after its partition was lost");
        let event = of.events[&record];
        let source = self.spec.events[event].source;
        self.note(&|| format!("  p{process} settles event {event}"));
        match source {
            Source::Requests => self.law_request_settled(process, record, event),
            Source::Kafka | Source::JetStream => self.law_settled(process, event),
        }
        match source {
            Source::Kafka => self.kafka_settled(process, record),
            Source::JetStream => self.jet_settled(process, record),
            Source::Requests => self.request_settled(process, record),
        }
    }

    /// Forgets what a process held under an assignment that is over.
    pub fn forget(&mut self, process: ProcessNo, source: Source, partition: PartitionId, epoch: Epoch) {
        let of = &mut self.processes[process];
        of.open.retain(|id| (id.source, id.partition, id.epoch) != (source_id(source), partition, epoch));
    }

    /// kill -9.
    pub fn crash(&mut self, process: ProcessNo) {
        self.note(&|| format!("  p{process} dies"));
        self.seen.crashes += 1;
        self.deaths.insert((process, self.processes[process].life), self.now);
        self.law_tally(process);
        self.orphan_calls(process);
        self.orphan_letters(process);
        self.processes[process].alive = false;
        self.kafka_member_dies(process);
        self.jet_client_dies(process);
        self.reader_dies(process);
        let pause = self.rng.u64(10..6_000);
        self.after(millis(pause), Happening::Start(process));
    }

    /// SIGTERM: nothing new is sent, what is away may land.
    pub fn stop(&mut self, process: ProcessNo) {
        let of = &mut self.processes[process];
        if !of.alive || of.stopping {
            return;
        }
        self.seen.restarts += 1;
        of.stopping = true;
        of.scheduler.stop();
    }

    fn end(&mut self, process: ProcessNo) {
        self.note(&|| format!("  p{process} ends"));
        self.law_tally(process);
        self.kafka_member_leaves(process);
        self.jet_client_leaves(process);
        self.processes[process].alive = false;
        self.reader_leaves(process);
        let pause = self.rng.u64(10..6_000);
        self.after(millis(pause), Happening::Start(process));
    }

    /// A new process in the place of one that ended.
    pub fn start(&mut self, process: ProcessNo) {
        if self.processes[process].alive {
            return;
        }
        let life = self.processes[process].life + 1;
        let skew_ms = self.processes[process].skew_ms;
        let scheduler = self.new_scheduler(process, life);
        self.processes[process] = Process { skew_ms, ..Process::new(scheduler, life) };
        self.shares_begin(process);
        self.restore_counts(process);
        self.kafka_member_joins(process);
        self.jet_client_starts(process);
        self.plan_follow(process);
    }

    /// A scheduler as a process begins with it.
    pub fn new_scheduler(&self, process: ProcessNo, life: u32) -> Scheduler {
        let mut settings = self.settings.clone();
        settings.seed ^= (process as u64) << 32 | u64::from(life) << 40;
        let now = match self.processes.get(process) {
            Some(_) => self.now_of(process),
            None => self.true_now(),
        };
        Scheduler::new(settings, now)
    }

    /// Tells a scheduler what the table knows of this day.
    pub fn restore_counts(&mut self, process: ProcessNo) {
        let now = self.now_of(process);
        for account in 0..self.accounts.len() {
            for path in Path::ALL {
                if self.accounts[account].limits.paths[path as usize].calls_per_day.is_none() {
                    continue;
                }
                let row = self.counts.get(&(process, account, path)).copied();
                let (day, calls, last) =
                    row.map_or((now.wall.utc_day(), 0, None), |(day, calls, at)| (day, calls, Some(at)));
                let id = account_id(account);
                self.processes[process].scheduler.restore_count(id, path, day, calls, last);
            }
        }
    }
}

/// A record as a source makes it.
pub fn record(id: RecordId, event: EventNo, maybe_tried: bool, world: &World) -> Record {
    let offset = i64::try_from(event).expect("few");
    Record {
        id,
        origin: Origin { stream: "s".into(), topic: "t".into(), partition: 0, offset },
        key: None,
        value: Some(Bytes::from_static(b"{}")),
        headers: Vec::new(),
        timestamp: world.true_wall(),
        maybe_tried,
    }
}
