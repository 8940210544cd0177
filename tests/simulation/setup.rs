//! What a seed draws: limits, settings, faults, records, and when things go wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast::core::model::{Content, MessageId, Path, Priority};
use roomcast::core::provider::{Limits, PathQuota};
use roomcast::core::schedule::backoff::Retry;
use roomcast::core::schedule::{
    AccountSettings, OnExpiry, OnFull, RoutePolicy, Scheduler, Settings, SourceSettings,
};
use roomcast::core::time::{Mono, Now, Wall};

use crate::laws::{Coverage, Laws, Place};
use crate::world::{Event, Faults, Partition, World, WorldMessage, WorldRecord, millis};

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let easemob = rng.bool();
        let limits = limits(&mut rng, easemob);
        let faults = faults(&mut rng, easemob, &limits);
        let settings = settings(&mut rng, easemob, &limits, seed);
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
        world.note(&|| format!("{:?} {:?}", world.settings, world.faults));
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

    fn messages(&mut self, rooms: usize, place: Place) -> Vec<WorldMessage> {
        let path = match self.rng.u8(..20) {
            0 => Path::Users,
            1 => Path::Broadcast,
            _ => Path::Room,
        };
        let priority = Priority::ALL[self.rng.usize(..3)];
        let expires = (self.faults.ttl && self.rng.u8(..4) == 0)
            .then(|| self.now.wall + millis(self.rng.u64(0..30_000)));
        let content =
            Arc::new(Content { single: Bytes::from_static(b"x"), batched: Bytes::from_static(&[0; 4]) });
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
}

fn limits(rng: &mut fastrand::Rng, easemob: bool) -> Limits {
    let quota = |calls_per_second| PathQuota {
        calls_per_second,
        messages_per_second: None,
        calls_per_minute: None,
        calls_per_day: None,
    };
    let room = PathQuota { messages_per_second: easemob.then(|| rng.u32(10..200)), ..quota(rng.u32(5..100)) };
    let broadcast = PathQuota { calls_per_minute: Some(10), calls_per_day: Some(100), ..quota(1) };
    Limits {
        rooms_per_call: if easemob { 10 } else { 1 },
        messages_per_call: if !easemob && rng.bool() { 10 } else { 1 },
        drops_repeats: !easemob,
        paths: [room, quota(20), broadcast],
        room_messages_per_second: rng.u32(1..25),
        room_high_per_second: (!easemob).then(|| rng.u32(1..12)),
    }
}

fn faults(rng: &mut fastrand::Rng, easemob: bool, limits: &Limits) -> Faults {
    Faults {
        uncertain: rng.bool(),
        outage: rng.bool(),
        bans: rng.bool(),
        refused: rng.bool(),
        gone: rng.bool(),
        revoke: rng.bool(),
        lose: rng.bool(),
        crash: rng.bool(),
        token: easemob && rng.bool(),
        slow_letters: rng.bool(),
        tail: rng.bool(),
        ttl: rng.bool(),
        partial: limits.messages_per_call > 1 && rng.bool(),
    }
}

fn settings(rng: &mut fastrand::Rng, easemob: bool, limits: &Limits, seed: u64) -> Settings {
    Settings {
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
            on_full: [OnFull::Wait, OnFull::DropOldest, OnFull::DeadLetter][rng.usize(..3)],
        }],
        sources: vec![SourceSettings { held_records: rng.usize(5..100), held_bytes: 1 << 20 }],
        max_waiting_per_room: rng.usize(3..50),
        room_gone: Duration::from_secs(rng.u64(0..20)),
        seed,
    }
}

fn uuid(rng: &mut fastrand::Rng) -> uuid::Uuid {
    uuid::Uuid::from_u128(rng.u128(..))
}
