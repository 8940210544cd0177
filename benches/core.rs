//! What the core costs around a decision: a record's plan, a call's two ends at a provider, and the
//! watermark. A decision itself is in `schedule`.
//!
//!     cargo bench --bench core

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use roomcast::app::{self, App};
use roomcast::core::model::{Epoch, Message, Origin, PartitionId, Path, Record, RecordId, SourceId};
use roomcast::core::provider::{Item, Reply, Stamp};
use roomcast::core::time::Wall;
use roomcast::core::watermark::Watermark;

/// The daemon's allocator, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<tikv_jemallocator::Jemalloc> =
    AllocProfiler::new(tikv_jemallocator::Jemalloc);

fn main() {
    divan::main();
}

const SOURCE: SourceId = SourceId(0);

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
