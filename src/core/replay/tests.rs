//! Letters → requests → records again, and the rows of the state table.

use super::*;
use crate::core::letter::{Letter, Names, Sealed};
use crate::core::model::{AccountId, Epoch, PartitionId, RecordId, RouteId, SourceId, Tries};

pub(in crate::core) fn record() -> Record {
    let header = |name: &str, value: &str| (Arc::from(name), Bytes::copy_from_slice(value.as_bytes()));
    Record {
        id: RecordId { source: SourceId(0), partition: PartitionId(3), epoch: Epoch(1), offset: 77 },
        origin: Origin { stream: "events".into(), topic: "events".into(), partition: 3, offset: 77 },
        key: Some(Bytes::from_static(b"r1")),
        value: Some(Bytes::from_static(b"{}")),
        headers: vec![header("mine", "x"), header("Nats-Expected-Stream", "S")],
        timestamp: Wall(1_700_000_000_123),
        maybe_tried: false,
    }
}

pub(in crate::core) fn letter(record: Record) -> Letter {
    Letter {
        record: Arc::new(record),
        base: BaseId(Uuid::from_u128(5)),
        class: Class::Rejected,
        error: "no".to_owned(),
        route: Some(RouteId(0)),
        account: Some(AccountId(0)),
        rooms: vec![Room("r2".into()), Room("r1".into())],
        tries: Tries::default(),
    }
}

pub(in crate::core) fn names() -> Names {
    Names {
        sources: vec!["live".into(), "live.replay".into()],
        accounts: vec!["match".into()],
        routes: vec!["gifts".into()],
    }
}

pub(in crate::core) fn asked() -> Asked {
    Asked {
        id: Uuid::from_u128(9),
        by: "ann@host".to_owned(),
        at: Wall(1_700_000_100_000),
        content: Content::Original,
        keep_ttl: true,
    }
}

/// The record of a request, as the replay source reads it.
pub(in crate::core) fn request(sealed: &Sealed) -> Record {
    let mut headers = sealed.headers.clone();
    headers.extend(asked().headers());
    Record {
        id: RecordId { source: SourceId(1), partition: PartitionId(0), epoch: Epoch(4), offset: 2 },
        origin: Origin { stream: "dlq.replay".into(), topic: "dlq.replay".into(), partition: 0, offset: 2 },
        key: sealed.key.clone(),
        value: sealed.value.clone(),
        headers,
        timestamp: Wall(1_700_000_200_000),
        maybe_tried: false,
    }
}

#[test]
fn a_request_opens_to_the_record_that_the_letter_was_written_for() {
    let sealed = letter(record()).seal(&names(), Wall(1_700_000_050_000));
    let (opened, restored) = open(&request(&sealed)).expect("it is a request");
    assert_eq!(opened.asked, asked());
    assert_eq!((opened.told.letter, opened.told.base), (sealed.id, BaseId(Uuid::from_u128(5))));
    assert_eq!((opened.told.class, opened.told.route.as_deref()), (Some(Class::Rejected), Some("gifts")));
    assert_eq!(opened.told.rooms, [Room("r2".into()), Room("r1".into())]);
    assert_eq!((opened.told.replays, opened.told.source.as_str()), (0, "live"));
    let original = record();
    assert_eq!((&restored.origin, restored.timestamp), (&original.origin, original.timestamp));
    assert_eq!((&restored.key, &restored.value), (&original.key, &original.value));
    assert_eq!(restored.header("nats-expected-stream"), Some(&b"S"[..]), "put back for decoding");
    assert!(restored.maybe_tried, "a replay says that it may have been sent");
    assert_eq!(restored.id.source, SourceId(1), "it is settled where the request stands");
}

/// On JetStream the subject is not the stream: ids are made of the stream.
#[test]
fn a_record_of_jetstream_stands_where_it_stood() {
    let origin = Origin { stream: "MATCH".into(), topic: "match.1.events".into(), partition: 0, offset: 77 };
    let mut first = record();
    first.origin = origin.clone();
    let sealed = letter(first).seal(&names(), Wall(0));
    let (_, restored) = open(&request(&sealed)).unwrap();
    assert_eq!(restored.origin, origin);
    let (_, again) = open(&request(&letter(restored).seal(&names(), Wall(0)))).unwrap();
    assert_eq!(again.origin, origin);
    let streams =
        |sealed: &Sealed| sealed.headers.iter().filter(|(name, _)| &**name == "roomcast-stream").count();
    assert_eq!((streams(&sealed), streams(&letter(record()).seal(&names(), Wall(0)))), (1, 0));
}

#[test]
fn a_letter_of_a_replay_counts_on_and_names_the_first_of_its_chain() {
    let first = letter(record()).seal(&names(), Wall(0));
    let (_, restored) = open(&request(&first)).unwrap();
    let second = letter(restored).seal(&names(), Wall(0));
    let (_, restored) = open(&request(&second)).unwrap();
    let third = letter(restored).seal(&names(), Wall(0));
    assert!(first.id != second.id && second.id != third.id);
    for (sealed, replays) in [(&second, 1), (&third, 2)] {
        let (opened, _) = open(&request(sealed)).unwrap();
        assert_eq!(opened.told.replays, replays);
        assert_eq!((opened.told.source.as_str(), opened.told.origin), ("live", record().origin));
        let original = sealed.headers.iter().find(|(name, _)| &**name == "roomcast-original").unwrap();
        assert_eq!(original.1, first.id.to_string());
        assert!(!sealed.headers.iter().any(|(name, _)| name.starts_with(REQUEST)), "the asking is not kept");
    }
    assert_eq!(second.headers.len(), third.headers.len(), "letters of letters do not grow");
}

#[test]
fn what_is_no_letter_says_why() {
    let sealed = letter(record()).seal(&names(), Wall(0));
    let without = |name: &str| {
        let mut record = request(&sealed);
        record.headers.retain(|(known, _)| &**known != name);
        open(&record).map(drop)
    };
    assert_eq!(without("roomcast-request"), Err("it has no roomcast-request header".to_owned()));
    assert_eq!(without("roomcast-letter"), Err("it has no roomcast-letter header".to_owned()));
    assert_eq!(without("roomcast-rooms"), Ok(()), "a broadcast owes no rooms");
    let mut record = request(&sealed);
    record.headers.push((Arc::from("roomcast-rooms"), Bytes::from_static(b"r1")));
    assert_eq!(
        open(&record).map(drop),
        Err("roomcast-rooms is \"r1\", a JSON list of texts is wanted".to_owned())
    );
}

#[test]
fn rows_of_the_state_table_are_read_as_they_were_written() {
    let mut row = Row::new(State::Replayed, "ann@host", Wall(1_700_000_000_000));
    let letter = LetterId(Uuid::from_u128(1));
    assert_eq!(Row::read(&row.write()), Ok(row.clone()));
    assert_eq!(
        String::from_utf8(row.write()).unwrap(),
        r#"{"state":"replayed","by":"ann@host","at":"2023-11-14T22:13:20.000Z"}"#
    );
    row.next.push(letter);
    row.request = Some(Uuid::from_u128(2));
    row.why = "failed again".to_owned();
    assert_eq!(Row::read(&row.write()), Ok(row));
    assert_eq!(Row::letter(&Row::key(letter)), Some(letter));
    assert_eq!(Row::letter("calls/live/broadcast/20000/abc"), None);
    assert!(Row::read(b"{\"state\":\"eaten\"}").is_err());
}
