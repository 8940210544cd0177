//! What the core costs: a scheduler's decision by the number of rooms, a record's plan, a call's
//! two ends at a provider, and the watermark.
//!
//!     cargo bench --bench core

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use roomcast::app::{self, App};
use roomcast::core::model::{
    AccountId, BaseId, Content, Epoch, Message, MessageId, Origin, PartitionId, Path, Plan, Priority, Record,
    RecordId, Room, RouteId, SourceId,
};
use roomcast::core::provider::{Acceptance, Item, Limits, Outcome, PathQuota, Reply, Stamp};
use roomcast::core::schedule::backoff::Retry;
use roomcast::core::schedule::{
    AccountSettings, Effect, OnExpiry, OnFull, RoutePolicy, Scheduler, Settings, SourceSettings,
};
use roomcast::core::time::{Mono, Now, Wall};
use roomcast::core::watermark::Watermark;
use uuid::Uuid;

/// The daemon's allocator, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<tikv_jemallocator::Jemalloc> =
    AllocProfiler::new(tikv_jemallocator::Jemalloc);

fn main() {
    divan::main();
}

const SOURCE: SourceId = SourceId(0);
const ACCOUNT: AccountId = AccountId(0);
const ROUTE: RouteId = RouteId(0);
/// A quota that is never reached: the scheduler's own cost is measured, not its patience.
const PLENTY: u32 = 100_000_000;
/// Time goes on by so much with each decision: a million a second.
const STEP: Duration = Duration::from_micros(1);
/// Calls away at once. Fewer than the fewest rooms: a room has one call away.
const AWAY: usize = 500;

/// A scheduler with one message waiting in each of its rooms.
struct World {
    scheduler: Scheduler,
    now: Now,
    rooms: Vec<Room>,
    next: usize,
    content: Arc<Content>,
    topic: Arc<str>,
    away: VecDeque<roomcast::core::model::AttemptId>,
    settled: u64,
}

impl World {
    fn new(rooms: usize) -> Self {
        let now = Now { mono: Mono(0), wall: Wall(1_700_000_000_000) };
        let mut scheduler = Scheduler::new(settings(), now);
        scheduler.handle_assigned(SOURCE, &[(PartitionId(0), Epoch(1))]);
        let mut world = Self {
            scheduler,
            now,
            rooms: (1..=rooms).map(|room| Room(room.to_string().into())).collect(),
            next: 0,
            content: Arc::new(Content { single: Bytes::from_static(&[b'x'; 300]), batched: Bytes::new() }),
            topic: Arc::from("events"),
            away: VecDeque::new(),
            settled: 0,
        };
        // Before the slots of a new process are free nothing is sent: messages gather.
        (0..rooms).for_each(|_| world.arrive());
        assert!(world.scheduler.poll_effect(world.now).is_none(), "slots of a new process are taken");
        world.now.mono = world.now.mono + Duration::from_secs(2);
        (0..2 * AWAY).for_each(|_| world.decide());
        world
    }

    fn arrive(&mut self) {
        let offset = i64::try_from(self.next).expect("a bench ends");
        let room = self.rooms[self.next % self.rooms.len()].clone();
        self.next += 1;
        let base = BaseId(Uuid::from_u128(self.next as u128));
        let record = Record {
            id: RecordId { source: SOURCE, partition: PartitionId(0), epoch: Epoch(1), offset },
            origin: Origin {
                stream: Arc::clone(&self.topic),
                topic: Arc::clone(&self.topic),
                partition: 0,
                offset,
            },
            key: None,
            value: Some(self.content.single.clone()),
            headers: Vec::new(),
            timestamp: self.now.wall,
            maybe_tried: false,
        };
        let message = Message {
            account: ACCOUNT,
            path: Path::Room,
            room,
            priority: Priority::Normal,
            id: MessageId(base.0),
            base,
            route: ROUTE,
            content: Arc::new(Content { single: self.content.single.clone(), batched: Bytes::new() }),
            expires: None,
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
        };
        self.scheduler.handle_record(Arc::new(record), plan, self.now);
    }

    /// One record comes, one call leaves, one is answered, one record is settled.
    fn decide(&mut self) {
        self.now.mono = self.now.mono + STEP;
        self.arrive();
        self.obey();
        if self.away.len() > AWAY {
            let attempt = self.away.pop_front().expect("some are away");
            self.scheduler.handle_outcome(attempt, &[Outcome::Accepted(Acceptance::Plain)], self.now);
            self.obey();
        }
        black_box(self.scheduler.poll_wake(self.now));
    }

    /// Effects until there are none, but not more calls than are to be away.
    fn obey(&mut self) {
        while self.away.len() <= AWAY
            && let Some(effect) = self.scheduler.poll_effect(self.now)
        {
            match effect {
                Effect::Send(attempt) => self.away.push_back(attempt.id),
                Effect::Settle(_) => self.settled += 1,
                other => panic!("nothing else is due: {other:?}"),
            }
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
        sources: vec![SourceSettings { held_records: usize::MAX, held_bytes: usize::MAX }],
        max_waiting_per_room: usize::MAX,
        room_gone: Duration::from_secs(600),
        seed: 1,
    }
}

/// Record → call → outcome → settled, with a message waiting in every room and 500 calls away.
#[divan::bench(args = [1_000, 100_000, 1_000_000], sample_count = 50, sample_size = 10_000)]
fn decision(bencher: Bencher<'_, '_>, rooms: usize) {
    let mut world = World::new(rooms);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| world.decide());
    assert!(world.settled > 0, "nothing was decided");
}

const MACHINE: &str = "";
const MAPPED: &str = r#"
[[routes]]
name = "noise"
when = '.type | startswith("debug.")'
drop = true

[[routes]]
name = "gifts"
when = '.type == "gift.sent"'
account = "a"
message = { kind = "custom", event = '.type', fields = '{user: .user, gift: .gift.id}' }
priority = "high"
ttl = "10s"
"#;

fn app(provider: &str, routes: &str) -> App {
    let account = match provider {
        "yunxin" => "app_key = \"key\"\napp_secret = \"secret\"\nsender = \"system\"",
        _ => "base_url = \"https://a1.easemob.com\"\norg = \"acme\"\napp = \"live\"\napp_token = \"YWMt\"",
    };
    let text = format!(
        "[accounts.a]\nprovider = \"{provider}\"\n{account}\n[sources.s]\nkind = \"kafka\"\n\
         brokers = \"127.0.0.1:9092\"\ngroup = \"g\"\ntopics = [\"t\"]\ndead_letter = \"d\"\n{routes}"
    );
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a scratch file");
    std::fs::write(file.path(), text).expect("a scratch file");
    let loaded = roomcast::config::load(&[file.path().to_owned()], std::iter::empty());
    let loaded = loaded.unwrap_or_else(|broken| panic!("{:?}", broken.problems));
    app::build(&loaded, &app::open_secret).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// An event of 300 bytes.
fn record() -> Record {
    let mut value =
        r#"{"type":"gift.sent","user":"player-77","gift":{"id":4711,"count":3},"text":""#.to_owned();
    while value.len() < 298 {
        value.push('x');
    }
    value.push_str("\"}");
    let topic: Arc<str> = Arc::from("t");
    Record {
        id: RecordId { source: SOURCE, partition: PartitionId(0), epoch: Epoch(1), offset: 1 },
        origin: Origin { stream: Arc::clone(&topic), topic, partition: 0, offset: 1 },
        key: Some(Bytes::from_static(b"1234567")),
        value: Some(value.into()),
        headers: Vec::new(),
        timestamp: Wall(1_700_000_000_000),
        maybe_tried: false,
    }
}

/// Decoding, routing and rendering of one event.
#[divan::bench(args = ["yunxin machine", "yunxin mapped", "easemob machine", "easemob mapped"])]
fn plan(bencher: Bencher<'_, '_>, case: &str) {
    let (provider, routes) = case.split_once(' ').expect("a provider and its routes");
    let (app, record) = (app(provider, if routes == "mapped" { MAPPED } else { MACHINE }), record());
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| app.rules.plan(black_box(&record)));
}

fn items(app: &App) -> Vec<Item> {
    let plan = app.rules.plan(&record());
    let item = |message: Message| Item {
        room: message.room,
        id: message.id,
        content: message.content,
        resend: false,
    };
    plan.messages.into_iter().map(item).collect()
}

/// A message becomes a request.
#[divan::bench]
fn yunxin_call(bencher: Bencher<'_, '_>) {
    let app = app("yunxin", MACHINE);
    let (provider, items) = (Arc::clone(&app.accounts[0].provider), items(&app));
    let stamp = Stamp { at: Wall(1_700_000_000_000), nonce: 1 << 100 };
    bencher.bench_local(|| provider.call(Path::Room, black_box(&items), None, &stamp));
}

/// An answer becomes an outcome.
#[divan::bench]
fn yunxin_outcomes(bencher: Bencher<'_, '_>) {
    let app = app("yunxin", MACHINE);
    let (provider, items) = (Arc::clone(&app.accounts[0].provider), items(&app));
    let body = r#"{"code":200,"desc":{"roomId":"36","fromAccount":"system","type":"100"}}"#;
    let answer =
        Ok(Reply { status: 200, retry_after: None, date: None, body: Bytes::from(body), whole: true });
    bencher.bench_local(|| provider.outcomes(Path::Room, &items, black_box(&answer)));
}

/// Offsets received in order and finished with so many others open between.
#[divan::bench(args = [1, 1_000, 10_000])]
fn watermark(bencher: Bencher<'_, '_>, open: i64) {
    let mut mark = Watermark::new(0, "");
    for offset in 0..open {
        mark.receive(offset);
    }
    let mut next = open;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        mark.receive(next);
        mark.finish(next - open);
        next += 1;
        mark.offset()
    });
}
