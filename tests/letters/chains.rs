//! Letters of letters: what a replay that failed leaves, as `show` tells it; and letters that stand twice
//! or are seen by two sources.

use std::sync::Arc;

use bytes::Bytes;
use roomcast::core::letter::{Letter, LetterId, Names, Sealed};
use roomcast::core::model::{
    BaseId, Class, Epoch, Origin, PartitionId, Record, RecordId, Room, SourceId, Tries,
};
use roomcast::core::replay::{Row, State};
use roomcast::core::time::Wall;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::bed::{Bed, Broker, field, on_both};
use crate::support::block_on;

on_both!(a_chain_is_shown_from_its_first_letter_to_its_last, no_letter_is_listed_twice);

/// A letter, of a record that has those headers of its own.
pub fn letter(number: u128, class: Class, headers: Vec<(Arc<str>, Bytes)>) -> Sealed {
    let id = RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 0 };
    let topic: Arc<str> = "events".into();
    let record = Record {
        id,
        origin: Origin { stream: topic.clone(), topic, partition: 0, offset: 7 },
        key: Some("1001".into()),
        value: Some(Bytes::from(r#"{"type":"line","text":"hi"}"#)),
        headers,
        timestamp: Wall(1_700_000_000_000),
        maybe_tried: false,
    };
    let letter = Letter {
        record: Arc::new(record),
        base: BaseId(Uuid::from_u128(number)),
        class,
        error: "the room is muted".to_owned(),
        route: None,
        account: None,
        rooms: vec![Room("1001".into())],
        tries: Tries {
            attempts: 2,
            first: Some(Wall(1_700_000_000_000)),
            last: Some(Wall(1_700_000_001_000)),
            http_status: Some(403),
            provider_code: Some("forbidden_op".to_owned()),
        },
    };
    let names = Names { sources: vec!["live".into()], ..Names::default() };
    letter.seal(&names, Wall(1_700_000_002_000 + i64::try_from(number).expect("small")))
}

/// Writes letters and rows with the source's own writers.
fn write(bed: &Bed, letters: &[Sealed], rows: &[(LetterId, Row)]) {
    let (inbox, _arrivals) = mpsc::channel(16);
    let source = bed.source(inbox);
    block_on(async {
        for letter in letters {
            while source.letters.write(letter.clone()).await.is_err() {
                tokio::task::yield_now().await; // the connection is still being made
            }
        }
        for (letter, row) in rows {
            source.table.put(Row::key(*letter), row.write().into()).await.expect("the row is confirmed");
        }
        source.commands.send(roomcast::broker::Command::Stop).expect("the source runs");
        source.ended.await.expect("an orderly end");
    });
}

fn a_chain_is_shown_from_its_first_letter_to_its_last(bed: &Bed) {
    let first = letter(1, Class::Rejected, Vec::new());
    let second = letter(1, Class::Uncertain, first.headers.clone());
    let third = letter(1, Class::Exhausted, second.headers.clone());
    let ids = [first.id, second.id, third.id];
    let row = |state, why: &str, next: Option<LetterId>| Row {
        why: why.to_owned(),
        next: next.into_iter().collect(),
        ..Row::new(state, "ann@host", Wall(1_700_000_100_000))
    };
    let rows = [
        (ids[0], row(State::Replayed, "", Some(ids[1]))),
        (ids[1], row(State::Replayed, "", Some(ids[2]))),
        (ids[2], row(State::Parked, "replayed twice", None)),
    ];
    write(bed, &[letter(9, Class::Garbled, Vec::new()), first, second, third], &rows);
    for id in ids {
        let text = bed.letters(&["show", &id.to_string()]).ok();
        let (_, chain) = text.split_once("\nIts chain, the first letter first\n").expect("a chain");
        let links: Vec<Vec<&str>> =
            chain.lines().take(3).map(|line| line.split_whitespace().collect()).collect();
        let told: Vec<(String, &str, &str)> =
            links.iter().map(|link| (link[0].to_owned(), link[1], link[2])).collect();
        let wanted = [("rejected", "replayed"), ("uncertain", "replayed"), ("exhausted", "parked")];
        let wanted: Vec<_> = ids.iter().zip(wanted).map(|(id, (c, s))| (id.to_string(), c, s)).collect();
        assert_eq!(told, wanted, "{text}");
        let this: Vec<bool> = links.iter().map(|link| link.last() == Some(&"one")).collect();
        assert_eq!(this, ids.map(|other| other == id), "{text}");
        assert!(text.contains("HTTP 403, code forbidden_op"), "{text}");
    }
    let parked = bed.letters(&["list", "--state", "parked", "--format", "json"]).lines();
    assert_eq!(field(&parked, "letter"), [ids[2].to_string()]);
    assert_eq!(field(&parked, "original"), [ids[0].to_string()]);
    let text = bed.letters(&["show", &ids[2].to_string()]).ok();
    assert!(text.contains("parked by ann@host at 2023-11-14T22:15:00.000Z: replayed twice"), "{text}");
    let first = bed.letters(&["show", &ids[0].to_string()]).ok();
    assert!(first.contains(&format!("what failed again is in {}", ids[1])), "{first}");
}

fn no_letter_is_listed_twice(bed: &Bed) {
    let one = letter(1, Class::Rejected, Vec::new());
    write(bed, &[one.clone(), one.clone(), letter(2, Class::Rejected, Vec::new())], &[]);
    if let Broker::Kafka(kafka) = &bed.broker {
        assert_eq!(kafka.read(&bed.dead_letter()).len(), 3, "Kafka has it twice");
    }
    // A second source that shares the dead-letter topic.
    let account = crate::bed::account("http://127.0.0.1:1", "x");
    let config = bed.config(&account, "");
    let (_, source) = config.split_once("[sources.live]").expect("a source");
    let (source, _) = source.split_once("[[routes]]").expect("routes");
    let other = source.replace(&format!("\"{}\"]", bed.topic), "\"match.other\"]");
    let other = match &bed.broker {
        Broker::Kafka(_) => other,
        // A stream is read by one durable once.
        Broker::Nats(_) => other.replace("stream = \"MATCH\"", "stream = \"OTHER\""),
    };
    bed.write_config(&bed.config(&account, &format!("\n[sources.other]{other}")));
    let listed = bed.letters(&["list", "--format", "json"]).lines();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(bed.letters(&["list", "--format", "json", "--source", "other"]).lines().len(), 2);
    let table = bed.letters_at(&["list"], Some(120)).ok();
    assert!(table.lines().next().is_some_and(|titles| titles.contains("  SOURCE  ")), "{table}");
}
