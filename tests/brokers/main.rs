//! The conformance suite of brokers: what the driver relies on, for every entry of `BROKERS`, on a
//! real server of each. What only one broker has (rebalances, pins, truncation, logins) is tested in
//! `brokers_kafka` and `brokers_nats`.

mod archive;
mod beds;
mod source;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use beds::{BEDS, Bed, Sample, by_name};
use bytes::Bytes;
use roomcast::broker::{BROKERS, Build, Command};
use roomcast::core::letter::{Letter, Names, Sealed};
use roomcast::core::model::{AccountId, BaseId, Class, Record, Room, RouteId, Tries};
use roomcast::core::time::Wall;
use source::Source;
use uuid::Uuid;

/// Runs a test on every broker, each in a thread that bears its name, so that a failure says which.
fn on_every_broker(test: fn(&dyn Bed, Build)) {
    thread::scope(|scope| {
        for (kind, build) in BROKERS {
            let run = move || {
                let bed = BEDS.iter().find(|(name, _)| name == kind);
                let (_, make) =
                    bed.unwrap_or_else(|| panic!("the broker `{kind}` has no bed in tests/brokers"));
                test(&*make(), *build);
            };
            thread::Builder::new().name((*kind).to_owned()).spawn_scoped(scope, run).expect("a thread");
        }
    });
}

fn samples(numbers: std::ops::Range<usize>) -> Vec<Sample> {
    let header = |name: &str, value: String| (name.to_owned(), value);
    let sample = |number: usize| Sample {
        key: format!("room-{}", number % 7),
        value: [&[0xff, 0x00][..], number.to_string().as_bytes()].concat(),
        headers: vec![
            header("Trace", number.to_string()),
            header("trace", "another case is another name".to_owned()),
            header("Trace", "a second value".to_owned()),
        ],
    };
    numbers.map(sample).collect()
}

fn values(records: &[Record]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.value.as_deref().expect("a value").to_vec()).collect()
}

fn values_of(samples: &[Sample]) -> Vec<Vec<u8>> {
    samples.iter().map(|sample| sample.value.clone()).collect()
}

fn wall() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Wall(i64::try_from(since.as_millis()).expect("it fits"))
}

fn headers_of(record: &Record) -> BTreeMap<String, Vec<String>> {
    by_name(record.headers.iter().map(|(name, value)| (&**name, &**value)))
}

#[test]
fn every_broker_has_a_bed_and_every_bed_a_broker() {
    let brokers: Vec<&str> = BROKERS.iter().map(|(kind, _)| *kind).collect();
    let beds: Vec<&str> = BEDS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(brokers, beds);
}

#[test]
fn records_arrive_in_order_and_whole() {
    on_every_broker(|bed, build| {
        let mut source = Source::ready(build, &bed.settings());
        let published = samples(0..500);
        let before = wall();
        bed.publish(&published);
        let after = wall();
        let records = source.records(published.len());
        for (record, sample) in records.iter().zip(&published) {
            assert_eq!(record.key.as_deref(), Some(sample.key.as_bytes()));
            assert_eq!(record.value.as_deref(), Some(&*sample.value));
            let sent = sample.headers.iter().map(|(name, value)| (&**name, value.as_bytes()));
            assert_eq!(headers_of(record), by_name(sent));
            assert!((before..=after).contains(&record.timestamp), "{record:?} {before:?} {after:?}");
            let (stream, topic) = bed.stands(&sample.key);
            assert_eq!((&*record.origin.stream, &*record.origin.topic), (&*stream, &*topic));
            assert_eq!(record.id.offset, record.origin.offset);
            assert!(!record.maybe_tried, "nobody was there before: {record:?}");
        }
        assert!(records.is_sorted_by(|one, next| one.id.offset < next.id.offset));
        source.stop();
    });
}

#[test]
fn what_is_settled_does_not_come_again_after_a_restart() {
    on_every_broker(|bed, build| {
        let mut source = Source::ready(build, &bed.settings());
        bed.publish(&samples(0..200));
        let records = source.records(200);
        source.settle(&records);
        source.stop();
        let mut source = Source::ready(build, &bed.settings());
        source.silence(bed.repeats_within());
        bed.publish(&samples(200..203));
        let new = source.records(3);
        assert_eq!(values(&new), values_of(&samples(200..203)));
        assert!(new.iter().all(|record| !record.maybe_tried), "{new:?}");
        source.stop();
    });
}

#[test]
fn p1_p3_what_is_not_settled_comes_again_in_order_and_marked() {
    on_every_broker(|bed, build| {
        let mut source = Source::ready(build, &bed.settings());
        let published = samples(0..100);
        bed.publish(&published);
        let records = source.records(published.len());
        let is_open = |number: usize| number % 3 == 1;
        // From the end to the beginning: out of order as much as can be.
        source
            .settle(records.iter().enumerate().rev().filter(|(n, _)| !is_open(*n)).map(|(_, record)| record));
        source.stop();
        let mut source = Source::ready(build, &bed.settings());
        let open: Vec<Sample> = published
            .into_iter()
            .enumerate()
            .filter(|(n, _)| is_open(*n))
            .map(|(_, sample)| sample)
            .collect();
        let again = source.records(open.len());
        assert_eq!(values(&again), values_of(&open));
        assert!(again.iter().all(|record| record.maybe_tried), "{again:?}");
        source.silence(bed.repeats_within());
        bed.publish(&samples(100..101));
        let new = source.records(1);
        assert_eq!(values(&new), values_of(&samples(100..101)));
        assert!(!new[0].maybe_tried, "{new:?}");
        source.stop();
    });
}

#[test]
fn a_closed_intake_takes_nothing_and_an_open_one_everything() {
    on_every_broker(|bed, build| {
        let mut source = Source::ready(build, &bed.settings());
        bed.publish(&samples(0..5));
        let held = source.records(5);
        let (partition, epoch) = (source.partition(), held[0].id.epoch);
        for round in 0..2 {
            let switch = |open| match round {
                0 => Command::Intake(open),
                _ => Command::PartitionIntake(partition, epoch, open),
            };
            source.tell(switch(false));
            bed.await_closed(5);
            let published = samples(10 * round + 5..10 * round + 15);
            bed.publish(&published);
            source.silence(Duration::from_secs(2));
            source.tell(switch(true));
            let records = source.records(published.len());
            assert_eq!(values(&records), values_of(&published), "round {round}");
            source.settle(&records);
        }
        source.settle(&held);
        source.stop();
    });
}

/// A letter of a record that was replayed once already, with everything known about it.
fn letter(record: &Record) -> (Sealed, BTreeMap<String, String>) {
    let letter = Letter {
        record: Arc::new(record.clone()),
        base: BaseId(Uuid::from_u128(7)),
        class: Class::Rejected,
        error: "refused: the room is 只读".to_owned(),
        route: Some(RouteId(0)),
        account: Some(AccountId(0)),
        rooms: vec![Room("r2".into()), Room("r1".into())],
        tries: Tries {
            attempts: 4,
            first: Some(Wall(1_000)),
            last: Some(Wall(2_500)),
            http_status: Some(403),
            provider_code: Some("forbidden_op".to_owned()),
        },
    };
    let name = |name: &str| vec![Arc::from(name)];
    let sources = (0..=record.id.source.0).map(|_| Arc::from("live")).collect();
    let names = Names { sources, accounts: name("main"), routes: name("gifts") };
    let sealed = letter.seal(&names, Wall(3_000));
    let origin = &record.origin;
    let expected = [
        ("letter", sealed.id.to_string()),
        ("id", letter.base.to_string()),
        ("class", "rejected".to_owned()),
        ("error", "refused: the room is 只读".to_owned()),
        ("route", "gifts".to_owned()),
        ("account", "main".to_owned()),
        ("rooms", r#"["r2","r1"]"#.to_owned()),
        ("http-status", "403".to_owned()),
        ("provider-code", "forbidden_op".to_owned()),
        ("attempts", "4".to_owned()),
        ("first-attempt", "1970-01-01T00:00:01.000Z".to_owned()),
        ("last-attempt", "1970-01-01T00:00:02.500Z".to_owned()),
        ("written", "1970-01-01T00:00:03.000Z".to_owned()),
        ("source", "live".to_owned()),
        ("topic", origin.topic.to_string()),
        ("partition", "0".to_owned()),
        ("offset", origin.offset.to_string()),
        ("timestamp", record.timestamp.rfc3339()),
        ("replays", "2".to_owned()),
        ("original", "the-first-letter".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut expected: BTreeMap<String, String> =
        expected.map(|(name, value)| (format!("roomcast-{name}"), value)).into();
    if origin.stream != origin.topic {
        expected.insert("roomcast-stream".to_owned(), origin.stream.to_string());
    }
    (sealed, expected)
}

#[test]
fn letters_are_written_once_and_confirmed_with_all_their_headers() {
    on_every_broker(|bed, build| {
        let mut source = Source::ready(build, &bed.settings());
        let mut sample = samples(0..1).remove(0);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        sample.headers.push(header("roomcast-letter", "the-first-letter"));
        sample.headers.push(header("roomcast-replays", "1"));
        bed.publish(std::slice::from_ref(&sample));
        let record = source.records(1).remove(0);
        let (sealed, own) = letter(&record);
        support::block_on(source.started.letters.write(sealed.clone())).expect("the letter is confirmed");
        let letters = bed.letters();
        assert_eq!(letters.len(), 1, "{letters:#?}");
        let written = &letters[0];
        assert_eq!(written.value, sample.value);
        assert_eq!(written.key.as_deref(), bed.letters_have_keys().then_some(sample.key.as_bytes()));
        let mut wanted: BTreeMap<String, Vec<String>> =
            own.into_iter().map(|(name, value)| (name, vec![value])).collect();
        wanted.extend(by_name(sample.headers[..3].iter().map(|(name, value)| (&**name, value.as_bytes()))));
        assert_eq!(by_name(written.headers.iter().map(|(name, value)| (&**name, value.as_bytes()))), wanted);

        // Too large for the broker: where the value stands is kept instead.
        let large = Letter {
            record: Arc::new(Record { value: Some(Bytes::from(vec![b'x'; 3 << 20])), ..record.clone() }),
            base: BaseId(Uuid::from_u128(8)),
            class: Class::Garbled,
            error: "not JSON".to_owned(),
            route: None,
            account: None,
            rooms: Vec::new(),
            tries: Tries { attempts: 0, first: None, last: None, http_status: None, provider_code: None },
        };
        let sealed = large.seal(&Names::default(), Wall(3_000));
        support::block_on(source.started.letters.write(sealed)).expect("the letter is confirmed");
        let letters = bed.letters();
        assert_eq!(letters.len(), 2);
        assert!(letters[1].value.is_empty());
        let stands = format!("{}/0/{}", record.origin.topic, record.origin.offset);
        let headers = &letters[1].headers;
        assert!(headers.contains(&("roomcast-truncated".to_owned(), stands)), "{headers:#?}");
        source.stop();
    });
}

#[test]
fn the_table_survives_a_restart() {
    on_every_broker(|bed, build| {
        let source = Source::ready(build, &bed.settings());
        let table = &source.started.table;
        assert_eq!(support::block_on(table.load(|_| true)), Ok(Vec::new()), "it is made, and empty");
        for (key, value) in [("a", "1"), ("quota/live 房 2026-01-31", "2"), ("a", "3")] {
            support::block_on(table.put(key.to_owned(), Bytes::from(value))).expect("the row is confirmed");
        }
        source.stop();
        let source = Source::ready(build, &bed.settings());
        let mut rows = support::block_on(source.started.table.load(|_| true)).expect("the table can be read");
        rows.sort();
        let expected = [("a", "3"), ("quota/live 房 2026-01-31", "2")];
        assert_eq!(rows, expected.map(|(key, value)| (key.to_owned(), Bytes::from(value))));
        source.stop();
    });
}

#[test]
fn p1_a_stop_ends_with_records_held_and_gives_them_back() {
    on_every_broker(|bed, build| {
        let mut source = Source::ready(build, &bed.settings());
        let published = samples(0..300);
        bed.publish(&published);
        // Fewer than there are: the rest waits in the inbox, which a stop must not be held up by.
        source.records(20);
        source.stop();
        let mut source = Source::ready(build, &bed.settings());
        assert_eq!(values(&source.records(published.len())), values_of(&published));
        source.stop();
    });
}
