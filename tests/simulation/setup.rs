//! What a seed draws: accounts, records, policies, faults, and when things go wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use roomcast::core::model::{BaseId, ConflateKey, Path, Priority, Room};
use roomcast::core::schedule::backoff::Retry;
use roomcast::core::schedule::{AccountSettings, OnExpiry, OnFull, RoutePolicy, Settings, SourceSettings};
use roomcast::core::time::Mono;

use crate::account::Account;
use crate::faults::{Fault, Faults};
use crate::jetstream::{self, Server};
use crate::kafka::{self, Cluster};
use crate::keys::Keys;
use crate::laws::{Course, Fate, Laws};
use crate::letters::Topics;
use crate::process::Process;
use crate::replays::Replays;
use crate::replicas::Sharing;
use crate::seen::Seen;
use crate::spec::{Event, Message, Source, Spec};
use crate::world::{Happening, World, millis};

/// When every world begins.
const BEGIN: Mono = Mono(1_000_000_000);

impl World {
    /// The world of a seed, without the faults that it is spared.
    pub fn new(seed: u64, trace: bool, spared: Faults) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let isolated = seed % 5 == 3;
        let is_keyed = matches!(seed % 19, 8 | 10) && !isolated;
        let faults = draw_faults(&mut rng, isolated, is_keyed, seed).without_all(spared);
        let (processes, rooms) = draw_size(&mut rng, is_keyed);
        let accounts: Vec<Account> =
            (0..rng.u8(1..3)).map(|_| Account::draw(&mut rng, faults, processes, is_keyed, &rooms)).collect();
        let on_full = match rng.u8(..6) {
            _ if isolated => OnFull::Wait,
            0 => OnFull::DropOldest,
            1 | 2 => OnFull::DeadLetter,
            _ => OnFull::Wait,
        };
        let held_limit = if isolated { [500, 500, 0] } else { [rng.usize(5..120), rng.usize(5..120), 0] };
        let settings = draw_settings(&mut rng, &accounts, on_full, held_limit, isolated, seed);
        let epoch_ms = 1_760_000_000_000 + rng.i64(0..86_400_000);
        let length = if seed % 5 == 4 { rng.u64(5_000..30_000) } else { 60_000 };
        let mut world = Self {
            trace,
            hash: RefCell::default(),
            now: BEGIN,
            epoch_ms,
            faults,
            faults_end: BEGIN + millis(length),
            spec: Spec::default(),
            accounts,
            settings,
            on_full,
            held_limit,
            processes: Vec::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            calls: BTreeMap::new(),
            next_call: 0,
            kafka: Cluster::new(rng.usize(1..5).max(processes as usize), processes as usize),
            jet: Server::default(),
            letters: Topics::default(),
            sharing: draw_sharing(&mut rng, processes as usize, isolated, is_keyed),
            is_keyed,
            bucket: vec![(0, Vec::new()); 2],
            counts: BTreeMap::new(),
            keys: Keys::default(),
            replays: Replays::default(),
            laws: Laws::default(),
            seen: Seen::default(),
            isolated,
            conflates: !isolated && rng.u8(..3) == 0,
            sick_rooms: BTreeSet::new(),
            sick_accounts: BTreeSet::new(),
            published_by: BEGIN,
            deaths: BTreeMap::new(),
            rng,
            reload_rng: fastrand::Rng::with_seed(!seed),
        };
        world.note(&|| {
            format!("{:?} {:?} on_full {on_full:?}, {processes} processes", world.settings, world.faults)
        });
        world.seen.keyed += u64::from(is_keyed);
        world.fill(&rooms);
        world.plan_faults();
        world.plan_reloads();
        world.make_sick(&rooms);
        world.plan(world.faults_end, Happening::Heal);
        world.draw_keys(seed);
        world.draw_replays(seed);
        world.begin(processes as usize);
        world
    }

    /// Draws the records of all sources, and plans their publication.
    fn fill(&mut self, rooms: &[Arc<str>]) {
        let sources = if self.is_keyed { 0 } else { self.rng.u8(..3) };
        let lone = self.kafka.logs.len();
        if sources != 1 {
            for partition in 0..lone {
                let records = self.rng.u32(3..40) * if self.is_keyed { 4 } else { 1 };
                for _ in 0..records {
                    let event = self.event(Source::Kafka, partition, rooms);
                    self.kafka.logs[partition].unpublished.push_back(event);
                }
                let at_once = self.rng.usize(..20) * if self.is_keyed { 8 } else { 1 };
                for _ in 0..at_once {
                    self.kafka_happens(kafka::Event::Publish(partition));
                }
                self.soon(400, Happening::Kafka(kafka::Event::Publish(partition)));
            }
        }
        if sources != 0 {
            for _ in 0..self.rng.u32(3..60) {
                let event = self.event(Source::JetStream, 0, rooms);
                self.jet.unpublished.push_back(event);
            }
            self.soon(100, Happening::Jet(jetstream::Event::Publish));
        }
        self.make_consumer();
        self.laws.fates = vec![Fate::default(); self.spec.messages.len()];
        self.laws.by_id =
            self.spec.messages.iter().enumerate().map(|(number, message)| (message.id, number)).collect();
    }

    fn event(&mut self, source: Source, partition: usize, rooms: &[Arc<str>]) -> usize {
        let number = self.spec.events.len();
        let alone = self.kafka_members() == 1;
        let path = match self.rng.u8(..20) {
            0 => Path::Users,
            1 if alone => Path::Broadcast,
            _ => Path::Room,
        };
        let account = self.rng.usize(..self.accounts.len());
        let priority = Priority::ALL[self.rng.usize(..4)];
        let expires = (self.faults.has(Fault::Expiry) && self.rng.u8(..4) == 0)
            .then(|| self.true_wall() + millis(self.rng.u64(0..30_000)));
        let conflate = (self.conflates && path == Path::Room && self.rng.u8(..3) == 0)
            .then(|| ConflateKey::new(["board", "score", "clock"][self.rng.usize(..3)]));
        let base = BaseId(uuid::Uuid::from_u128(self.rng.u128(..)));
        let content = self.accounts[account].content(number, path, priority, base);
        let names: Vec<Arc<str>> = match path {
            Path::Users | Path::Room if self.is_keyed => {
                let own: Vec<_> = rooms.iter().skip(partition).step_by(self.kafka.logs.len()).collect();
                vec![own[self.rng.usize(..own.len())].clone()]
            }
            Path::Broadcast => vec!["".into()],
            Path::Users => vec![rooms[self.rng.usize(..rooms.len())].clone()],
            Path::Room => {
                let many = if self.rng.u8(..5) == 0 { self.rng.usize(1..=rooms.len()) } else { 1 };
                let first = self.rng.usize(..rooms.len());
                (0..many).map(|step| rooms[(first + step) % rooms.len()].clone()).collect()
            }
        };
        let from = self.spec.messages.len();
        for room in names {
            let id = match path {
                Path::Broadcast => roomcast::core::model::MessageId(base.0),
                _ => base.message(&Room(room.clone())),
            };
            let content = content.clone();
            self.spec.messages.push(Message {
                event: number,
                account,
                path,
                room,
                priority,
                id,
                base,
                content,
                expires,
                conflate,
            });
        }
        let partition = u32::try_from(partition).expect("few");
        let messages = from..self.spec.messages.len();
        self.spec.events.push(Event { source, partition, messages, of: None });
        self.laws.courses.push(Course::default());
        number
    }

    fn plan_faults(&mut self) {
        let end = self.faults_end.since(BEGIN);
        let latest = u64::try_from(end.as_millis()).expect("a minute") * 2 / 3;
        for _ in 0..self.rng.u8(1..5) {
            let at = self.now + millis(self.rng.u64(300..latest));
            self.plan_of_kafka(at);
            self.plan_of_jetstream(at + millis(133));
            self.plan_of_accounts(at + millis(277));
            self.plan_of_processes(at + millis(444));
            if self.faults.has(Fault::RefusedLetters) {
                let until = at + millis(self.rng.u64(100..15_000));
                self.letters.refusing.push((at, until));
            }
        }
    }

    fn plan_of_kafka(&mut self, at: Mono) {
        let process = self.rng.usize(..self.kafka_members());
        let events = [
            (Fault::Rebalance, kafka::Event::Rebalance),
            (Fault::LostAssignment, kafka::Event::Lose(process)),
            (Fault::Rewind, kafka::Event::Rewind(process)),
        ];
        for (fault, event) in events {
            if self.faults.has(fault) {
                let at = at + millis(self.rng.u64(..2_000));
                self.plan(at, Happening::Kafka(event));
            }
        }
        if self.faults.has(Fault::MetadataLost) {
            match self.rng.bool() {
                true => self.kafka.drops_metadata = true,
                false => self.plan(at, Happening::Kafka(kafka::Event::ClearMetadata)),
            }
        }
    }

    fn plan_of_jetstream(&mut self, at: Mono) {
        let events = [
            (Fault::ServerRestart, jetstream::Event::Restart),
            (Fault::ConsumerDeleted, jetstream::Event::Delete),
            (Fault::TailLost, jetstream::Event::LoseTail),
        ];
        for (fault, event) in events {
            if self.faults.has(fault) {
                let at = at + millis(self.rng.u64(..2_000));
                self.plan(at, Happening::Jet(event));
            }
        }
    }

    fn plan_of_accounts(&mut self, at: Mono) {
        let account = self.rng.usize(..self.accounts.len());
        if self.faults.has(Fault::Outage) {
            let hour = self.rng.u8(..40) == 0;
            let length = if hour { 3_600_000 } else { self.rng.u64(500..15_000) };
            let until = at + millis(length);
            self.accounts[account].outage = (at, until);
            self.faults_end = self.faults_end.max(until);
        }
        if self.faults.has(Fault::Storm) {
            self.accounts[account].storm = (at, at + millis(self.rng.u64(500..8_000)));
        }
        if self.faults.has(Fault::Foreigners) {
            self.plan(at, Happening::Foreign(account));
        }
        if self.faults.has(Fault::Tokens) {
            self.plan(at, Happening::Tokens(account));
        }
    }

    fn plan_of_processes(&mut self, at: Mono) {
        let process = self.rng.usize(..self.kafka_members());
        if self.faults.has(Fault::Crash) {
            let effects = self.rng.u32(..12);
            self.plan(at, Happening::Crash(process, effects));
        }
        if self.faults.has(Fault::Restart) {
            self.plan(at + millis(7_000), Happening::Stop(process));
        }
        if self.faults.has(Fault::ClockJump) {
            let hours = if self.rng.bool() { 1 } else { -1 };
            self.plan(at, Happening::Jump(process, hours));
            let back = at + millis(self.rng.u64(1_000..20_000));
            self.plan(back, Happening::Jump(process, -hours));
        }
    }

    /// Some rooms and an account that nothing can be delivered to, where all else is well.
    fn make_sick(&mut self, rooms: &[Arc<str>]) {
        if !self.isolated {
            return;
        }
        self.sick_rooms.extend(rooms.iter().take(2).cloned());
        if self.accounts.len() > 1 {
            self.sick_accounts.insert(1);
            self.accounts[1].outage = (Mono(0), BEGIN + Duration::from_secs(90));
            self.faults_end = BEGIN + Duration::from_secs(90);
        }
    }

    fn begin(&mut self, processes: usize) {
        for number in 0..processes {
            let scheduler = self.new_scheduler(number, 0);
            self.processes.push(Process::new(scheduler, 0));
        }
        for number in 0..processes {
            self.shares_begin(number);
            self.restore_counts(number);
        }
        for number in 0..processes {
            self.kafka_member_joins(number);
            self.jet_client_starts(number);
        }
    }
}

/// How many processes there are, and the rooms.
fn draw_size(rng: &mut fastrand::Rng, is_keyed: bool) -> (u32, Vec<Arc<str>>) {
    let (least_processes, least_rooms) = if is_keyed { (2, 4) } else { (1, 3) };
    let processes = [1, 1, 1, 2, 2, 3][rng.usize(..6)].max(least_processes);
    let count = rng.u32(3..12).max(least_rooms);
    (processes, (0..count).map(|room| (1_001 + room).to_string().into()).collect())
}

fn draw_sharing(rng: &mut fastrand::Rng, processes: usize, isolated: bool, is_keyed: bool) -> Sharing {
    match rng.u8(..3) {
        _ if is_keyed => Sharing::Partitions,
        _ if processes == 1 => Sharing::Whole,
        0 => Sharing::Fixed,
        _ if isolated => Sharing::Fixed,
        1 => Sharing::Partitions,
        _ => Sharing::Leases,
    }
}

fn draw_faults(rng: &mut fastrand::Rng, isolated: bool, is_keyed: bool, seed: u64) -> Faults {
    let faults = Faults::draw(rng, seed);
    // What a process that lost its assignment has away is a stated exception of a room's pace.
    let faults = if is_keyed { faults.without(Fault::LostAssignment) } else { faults };
    if isolated {
        return Faults::of(&[Fault::GoneRooms, Fault::Poison, Fault::Gaps]);
    }
    if faults.has(Fault::ConsumerDeleted) {
        // A process that dies with a consumer that has just been made anew leaves nobody who knows
        // what the old one had delivered: a stated limit of what marks can tell.
        return faults.without(Fault::Crash).without(Fault::Restart);
    }
    faults
}

fn draw_settings(
    rng: &mut fastrand::Rng,
    accounts: &[Account],
    on_full: OnFull,
    held_limit: [usize; 3],
    isolated: bool,
    seed: u64,
) -> Settings {
    let account = |account: &Account| AccountSettings {
        limits: account.limits.clone(),
        timeout: account.provider.timeout(),
        needs_login: account.provider.login().is_some(),
        base_urls: account.provider.base_urls().len(),
    };
    Settings {
        accounts: accounts.iter().map(account).collect(),
        routes: vec![RoutePolicy {
            name: "r".into(),
            retry: Retry::default(),
            on_expiry: if rng.bool() { OnExpiry::Drop } else { OnExpiry::DeadLetter },
            on_full,
        }],
        sources: held_limit[..2]
            .iter()
            .map(|&held_records| SourceSettings { held_records, held_bytes: 1 << 20, is_answered: false })
            .collect(),
        max_waiting_per_room: if isolated { 1_000 } else { rng.usize(3..50) },
        room_gone: Duration::from_secs(rng.u64(0..20)),
        flood_guard: None,
        seed,
    }
}
