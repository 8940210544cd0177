//! What a typical event costs on its way through a route: it is decoded, asked of one filter, mapped by
//! two more, and rendered for its provider. On one core; the reciprocal is events a second.
//!
//!     cargo bench --no-default-features --bench routes

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use roomcast::core::model::{AccountId, Epoch, Origin, PartitionId, Record, RecordId, SourceId};
use roomcast::core::provider::PROVIDERS;
use roomcast::core::route::{AccountView, Rules};
use roomcast::core::section::{Node, Place, Report, Section, Table, Value};
use roomcast::core::time::Wall;

fn main() {
    divan::main();
}

/// The config as JSON: the core takes it from any form.
fn config(provider: &str) -> serde_json::Value {
    let account = match provider {
        "yunxin" => serde_json::json!({
            "provider": "yunxin", "app_key": "key", "app_secret": "secret", "sender": "system"
        }),
        _ => serde_json::json!({
            "provider": "easemob", "base_url": "https://a1.easemob.com", "org": "acme", "app": "live",
            "app_token": "token"
        }),
    };
    serde_json::json!({
        "accounts": {"live": account},
        "sources": {"events": {}},
        "routes": [
            {"name": "noise", "when": ".type | startswith(\"debug.\")", "drop": true},
            {
                "name": "gifts", "account": "live", "when": ".type == \"gift.sent\"",
                "message": {
                    "kind": "custom", "event": ".type",
                    "fields": "{user: .data.user.name, gift: .data.gift.name, count: .data.gift.count}"
                },
                "priority": "high", "ttl": "10s"
            }
        ]
    })
}

fn node(value: &serde_json::Value) -> Node {
    let value = match value {
        serde_json::Value::Bool(word) => Value::Boolean(*word),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(node).collect()),
        serde_json::Value::Object(_) => Value::Table(table(value)),
        other => unreachable!("the config has no {other}"),
    };
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

fn table(value: &serde_json::Value) -> Table {
    let fields = value.as_object().expect("a table");
    fields.iter().map(|(key, value)| (key.clone(), node(value))).collect()
}

fn rules(provider: &str) -> Rules {
    let config = config(provider);
    let (root, account) = (table(&config), table(&config["accounts"]["live"]));
    let report = Report::new(&|_| Err("closed".to_owned()));
    let section = Section::new("accounts.live", &account, Place::Nowhere, &report);
    let (_, build) = PROVIDERS.iter().find(|(name, _)| *name == provider).expect("a provider");
    let account = AccountView {
        id: AccountId(0),
        name: "live".into(),
        provider: Arc::from(build(&section).expect("an account")),
    };
    let empty = Table::new();
    let source = Section::new("sources.events", &empty, Place::Nowhere, &report);
    let root = Section::new("", &root, Place::Nowhere, &report);
    Rules::build(&root, &[account], &[(SourceId(0), &source)], &[], 1_000).expect("routes")
}

/// A CloudEvent of 370 bytes.
fn record() -> Record {
    let value = br#"{"specversion":"1.0","id":"3b6d9f6e","source":"/live/gifts","type":"gift.sent","time":"2026-01-31T23:59:59.123Z","datacontenttype":"application/json","data":{"user":{"id":"u-1001","name":"Ann","level":12},"gift":{"id":77,"name":"rocket","count":3,"price":9.9},"room":"662169212321793","combo":true,"text":"for the best singer of tonight, from all of us here"}}"#;
    Record {
        id: RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 1 },
        origin: Origin { stream: "live".into(), topic: "live".into(), partition: 0, offset: 1 },
        key: Some(Bytes::from_static(b"662169212321793")),
        value: Some(Bytes::from_static(value)),
        headers: Vec::new(),
        timestamp: Wall(1_769_903_999_123),
        maybe_tried: false,
    }
}

#[divan::bench(args = ["yunxin", "easemob"])]
fn decode_filter_render(bencher: Bencher<'_, '_>, provider: &str) {
    let (rules, record) = (rules(provider), record());
    assert_eq!(rules.plan(&record).messages.len(), 1, "the route takes the event");
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| rules.plan(black_box(&record)));
}
