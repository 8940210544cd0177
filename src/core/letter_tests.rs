//! What a letter says, header by header.

use bytes::Bytes;

use super::*;
use crate::core::model::{Epoch, Origin, PartitionId, RecordId, SourceId};

fn letter(rooms: &[&str], error: &str) -> Letter {
    let record = Record {
        id: RecordId { source: SourceId(0), partition: PartitionId(3), epoch: Epoch(1), offset: 77 },
        origin: Origin { stream: "events".into(), topic: "events".into(), partition: 3, offset: 77 },
        key: None,
        value: Some(Bytes::from_static(b"{}")),
        headers: Vec::new(),
        timestamp: Wall(1_700_000_000_123),
        maybe_tried: false,
    };
    Letter {
        record: Arc::new(record),
        base: BaseId(Uuid::from_u128(5)),
        class: Class::Rejected,
        error: error.to_owned(),
        route: None,
        account: None,
        rooms: rooms.iter().map(|room| Room((*room).into())).collect(),
        tries: Tries::default(),
    }
}

fn header(letter: &Letter, name: &str) -> Option<String> {
    let names = Names { sources: vec!["live".into()], ..Names::default() };
    let sealed = letter.seal(&names, Wall(1_700_000_009_000));
    let found = sealed.headers.iter().find(|(it, _)| **it == *name);
    found.map(|(_, value)| String::from_utf8(value.to_vec()).expect("text"))
}

#[test]
fn rooms_are_told_where_some_are_owed() {
    assert_eq!(header(&letter(&["r2", "r1"], ""), "roomcast-rooms").as_deref(), Some(r#"["r2","r1"]"#));
    assert_eq!(header(&letter(&[], ""), "roomcast-rooms"), None, "none is known");
}

#[test]
fn a_letters_id_follows_from_what_is_owed_in_any_order() {
    let id = |rooms: &[&str]| letter(rooms, "").id();
    assert_eq!(id(&["r2", "r1"]), id(&["r1", "r2"]));
    assert_ne!(id(&["r1"]), id(&["r1", "r2"]));
    let told = header(&letter(&["r1"], ""), "roomcast-letter");
    assert_eq!(told, Some(id(&["r1"]).to_string()));
    assert_eq!(told.as_deref().map(str::len), Some(36), "a UUID in its usual form");
}

#[test]
fn an_error_is_one_line_cut_between_two_characters() {
    let error = |text: &str| header(&letter(&[], text), "roomcast-error").expect("always there");
    assert_eq!(error("one\ntwo\tthree"), "one two three");
    assert_eq!(error(&"x".repeat(1_024)).len(), 1_024);
    assert_eq!(error(&"x".repeat(1_025)).len(), 1_024);
    // The cut falls into the second, the third and the fourth byte of a character.
    for before in 1..4 {
        let text = "x".repeat(1_024 - before) + "😀 and more";
        assert_eq!(error(&text), "x".repeat(1_024 - before), "{before} bytes before the cut");
    }
}

#[test]
fn a_letter_keeps_the_records_headers_and_counts_its_replays() {
    let mut letter = letter(&[], "");
    assert_eq!(header(&letter, "roomcast-replays").as_deref(), Some("0"));
    let it = |name: &str, value: &'static str| (Arc::from(name), Bytes::from_static(value.as_bytes()));
    Arc::get_mut(&mut letter.record).expect("nobody else has it").headers = vec![
        it("mine", "x"),
        it("Nats-Msg-Id", "7"),
        it("roomcast-replays", "3"),
        it("roomcast-error", "old"),
    ];
    assert_eq!(header(&letter, "mine").as_deref(), Some("x"));
    assert_eq!(header(&letter, "Nats-Msg-Id"), None, "the broker would take it for its own");
    assert_eq!(header(&letter, "roomcast-replays").as_deref(), Some("4"));
    assert_eq!(header(&letter, "roomcast-error").as_deref(), Some(""));
}

#[test]
fn a_letter_says_where_its_record_stands_by_the_last_of_its_own_headers() {
    let names = Names { sources: vec!["live".into()], ..Names::default() };
    let mut sealed = letter(&[], "").seal(&names, Wall(0));
    assert_eq!(sealed.stands(), "events/3/77");
    let truncated = sealed.clone().truncated();
    let told = truncated.headers.iter().find(|(name, _)| &**name == "roomcast-truncated");
    assert_eq!((truncated.value, told.map(|(_, value)| &**value)), (None, Some(&b"events/3/77"[..])));
    sealed.headers.clear();
    assert_eq!(sealed.stands(), "//");
}
