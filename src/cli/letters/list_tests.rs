//! What tables, csv and json look like: golden outputs.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::core::letter::{Letter, Names};
use crate::core::model::{
    AccountId, BaseId, Class, Epoch, Origin, PartitionId, Record, RecordId, Room, RouteId, SourceId, Tries,
};
use crate::core::replay::Told;

const NOW: Wall = Wall(1_769_903_999_123);

fn found(number: u128, class: Class, rooms: &[&str], error: &str, state: State) -> Found {
    let id = RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 0 };
    let origin =
        Origin { stream: "live.events".into(), topic: "live.events".into(), partition: 3, offset: 815 };
    let header = |name: &str, value: &str| (Arc::from(name), Bytes::copy_from_slice(value.as_bytes()));
    let record = Record {
        id,
        origin,
        key: Some(Bytes::from("42")),
        value: Some(Bytes::from(r#"{"type":"gift.sent","from":"安妮"}"#)),
        headers: vec![header("trace", "a,b\"c\"")],
        timestamp: Wall(NOW.0 - 9_000),
        maybe_tried: false,
    };
    let letter = Letter {
        record: Arc::new(record.clone()),
        base: BaseId(uuid::Uuid::from_u128(number)),
        class,
        error: error.to_owned(),
        route: Some(RouteId(0)),
        account: Some(AccountId(0)),
        rooms: rooms.iter().map(|room| Room((*room).into())).collect(),
        tries: Tries {
            attempts: 4,
            first: Some(Wall(NOW.0 - 8_000)),
            last: Some(Wall(NOW.0 - 7_000)),
            http_status: Some(403),
            provider_code: Some("forbidden_op".to_owned()),
        },
    };
    let names =
        Names { sources: vec!["live".into()], accounts: vec!["acme".into()], routes: vec!["gifts".into()] };
    let sealed = letter.seal(&names, Wall(NOW.0 - 7_200_000));
    let record = Record { headers: sealed.headers, ..record };
    Found { told: Told::read(&record).unwrap(), record, state }
}

fn all() -> Vec<Found> {
    let long = "the room 直播间一百零八号 is not there: \u{1b}[31mchatroom_not_found\u{1b}[0m, said the provider at great length and with more words than a line has";
    vec![
        found(1, Class::RoomGone, &["直播间一百零八号", "1002"], long, State::Open),
        found(2, Class::Rejected, &["185145305923585"], "muted", State::Parked),
        found(3, Class::Garbled, &[], "not JSON", State::Discarded),
    ]
}

fn printed(format: Format, query: &Query, width: Option<usize>) -> String {
    let mut printer = Printer::new(format, query, false, width);
    let mut text = printer.head().unwrap();
    for found in all() {
        text += &printer.letter(&found, NOW).unwrap();
    }
    text + &printer.settle()
}

fn one_state() -> Query {
    Query { states: [State::Open].into(), ..Query::default() }
}

#[test]
fn a_table_fits_eighty_columns() {
    let table = printed(Format::Table, &one_state(), Some(80));
    let wanted = "\
LETTER         CLASS      AGE  ROUTE  ROOM             TRIES  ERROR
ff3e0b71-c725  room_gone   2h  gifts  直播间一百零八…      4  the room 直播间一…
d2fcb42b-1b9c  rejected    2h  gifts  185145305923585      4  muted
443a148d-1c53  garbled     2h  gifts                       4  not JSON
";
    assert_eq!(table, wanted, "\n{table}");
    assert!(table.lines().all(|line| output::columns_of(line) <= 80));
}

#[test]
fn a_table_fits_a_hundred_and_twenty_columns_with_states() {
    let table = printed(Format::Table, &Query::default(), Some(120));
    let wanted = "\
LETTER         CLASS      AGE  STATE      ROUTE  ROOM                 TRIES  ERROR
ff3e0b71-c725  room_gone   2h  open       gifts  直播间一百零八号 +1      4  the room 直播间一百零八号 is not there:  […
d2fcb42b-1b9c  rejected    2h  parked     gifts  185145305923585          4  muted
443a148d-1c53  garbled     2h  discarded  gifts                           4  not JSON
";
    assert_eq!(table, wanted, "\n{table}");
    assert!(table.lines().all(|line| output::columns_of(line) <= 120));
}

#[test]
fn without_a_terminal_nothing_is_cut() {
    let table = printed(Format::Table, &one_state(), None);
    assert!(table.contains("more words than a line has\n"), "{table}");
    assert!(!table.contains('\u{1b}') && !table.contains('…'), "{table}");
}

#[test]
fn json_has_a_letter_a_line_with_the_names_of_its_headers() {
    let json = printed(Format::Json, &one_state(), None);
    assert_eq!(
        json.lines().nth(1).unwrap(),
        r#"{"account":"acme","attempts":4,"class":"rejected","error":"muted","first_attempt":"2026-01-31T23:59:51.123Z","http_status":403,"id":"00000000-0000-0000-0000-000000000002","key":"42","last_attempt":"2026-01-31T23:59:52.123Z","letter":"d2fcb42b-1b9c-54d3-aafc-ca4b4830611a","offset":815,"partition":3,"provider_code":"forbidden_op","replays":0,"rooms":["185145305923585"],"route":"gifts","source":"live","state":"parked","timestamp":"2026-01-31T23:59:50.123Z","topic":"live.events","version":"0.1.0","written":"2026-01-31T21:59:59.123Z"}"#
    );
}

#[test]
fn csv_has_a_line_of_titles_and_quotes_what_needs_it() {
    let csv = printed(Format::Csv, &one_state(), None);
    let titles = "letter,state,class,error,route,account,rooms,key,http_status,provider_code,attempts,\
                  first_attempt,last_attempt,written,source,topic,partition,offset,timestamp,replays,original,id,version,\
                  truncated";
    assert_eq!(csv.lines().next(), Some(titles));
    let wanted = r#"ff3e0b71-c725-5428-9c4c-3b5bb49d0c58,open,room_gone,"the room 直播间一百零八号 is not there:  [31mchatroom_not_found [0m, said the provider at great length and with more words than a line has",gifts,acme,"[""直播间一百零八号"",""1002""]",42,403,forbidden_op,4,2026-01-31T23:59:51.123Z,2026-01-31T23:59:52.123Z,2026-01-31T21:59:59.123Z,live,live.events,3,815,2026-01-31T23:59:50.123Z,0,,00000000-0000-0000-0000-000000000001,0.1.0,"#;
    assert_eq!(csv.lines().nth(1), Some(wanted));
}

#[test]
fn ages_are_short() {
    for (seconds, told) in [(0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (86_400 * 3, "3d"), (-5, "0s")]
    {
        assert_eq!(age(Wall(NOW.0 - seconds * 1_000), NOW), told);
    }
}
