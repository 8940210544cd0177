//! One event, several messages: each room gets all of them in the order of the list, event after event,
//! each with an id of its own; one that is refused becomes its own letter and holds nothing back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, Event, on_both};
use crate::support::daemon::Daemon;
use crate::support::provider::{Entry, Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);
const ROOMS: u64 = 4;
const EVENTS: u64 = 10;
/// The event whose second message is too long for the provider.
const LONG: u64 = 7;

on_both!(every_room_gets_all_messages_of_an_event_in_their_order);

fn every_room_gets_all_messages_of_an_event_in_their_order(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let account = provider.account("match", "quota = { room_messages_per_second = 1000 }");
    let routes = r#"
[[routes]]
name = "several"
account = "match"
rooms = '$key, "2000"'
messages = [
  { kind = "text", text = '"first of \(.n)"' },
  { kind = "text", text = '"second of \(.n)" + .more' },
  { kind = "tip", text = '"third of \(.n)"' },
]
"#;
    let mut daemon = Daemon::start_ready(&[&account, &bed.source(""), routes].concat());
    let room = |n: u64| (1_001 + n % ROOMS).to_string();
    bed.publish((0..EVENTS).map(|n| {
        let more = if n == LONG { "x".repeat(5_000) } else { String::new() };
        Event::new(&room(n), json!({"n": n, "more": more}).to_string())
    }));
    bed.await_finished(PATIENCE);
    assert!(daemon.stop().success());

    let log = provider.log();
    assert!(log.iter().all(|entry| entry.accepted && !entry.resend), "{log:#?}");
    let ids: BTreeSet<&str> = log.iter().filter_map(|entry| entry.id.as_deref()).collect();
    assert_eq!(ids.len(), log.len(), "each message has an id of its own");
    let mut rooms: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in &log {
        rooms.entry(entry.room.as_deref().expect("every message has a room")).or_default().push(entry);
    }
    let words = |n: u64| {
        let all = [format!("first of {n}"), format!("second of {n}"), format!("third of {n}")];
        all.into_iter().filter(move |text| n != LONG || !text.starts_with("second"))
    };
    let said = |room: &str| -> Vec<String> {
        let word = |entry: &&Entry| {
            let text = ["first", "second", "third"]
                .iter()
                .find_map(|word| Some(&entry.content[entry.content.find(word)?..]));
            let text = text.unwrap_or_else(|| panic!("{entry:?}"));
            text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == ' ').collect::<String>()
        };
        rooms[room].iter().map(word).collect()
    };
    for n in 0..ROOMS {
        let wanted: Vec<String> = (0..EVENTS).filter(|event| event % ROOMS == n).flat_map(words).collect();
        assert_eq!(said(&room(n)), wanted);
    }
    // The room of all events has each event's messages together, whatever the order of partitions.
    let common = said("2000");
    assert_eq!(common.iter().cloned().collect::<BTreeSet<String>>(), (0..EVENTS).flat_map(words).collect());
    for n in 0..EVENTS {
        let places: Vec<usize> = words(n)
            .map(|text| common.iter().position(|other| *other == text).expect("it is there"))
            .collect();
        assert!(places.is_sorted(), "event {n}: {common:?}");
    }
    let letters = bed.letters();
    let [letter] = letters.as_slice() else { panic!("{letters:#?}") };
    let header = |name: &str| letter.headers[name].as_str();
    assert_eq!((header("roomcast-class"), header("roomcast-attempts")), ("invalid", "0"));
    let owed: Vec<String> = serde_json::from_str(header("roomcast-rooms")).expect("rooms are JSON");
    assert_eq!(owed, [room(LONG), "2000".to_owned()], "both rooms are owed the second message alone");
}
