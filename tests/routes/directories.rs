//! Rooms from a directory: what a known key, an unknown one and none at all become.

use roomcast::core::model::{DirectoryId, Plan};
use roomcast::core::route::Rules;
use roomcast::core::route::directory::{Directories, Map};

use crate::support::{record, rules, told};

/// One directory with three keys.
fn held() -> Directories {
    let mut map = Map::default();
    map.insert("match-1", &["1001"]);
    map.insert("match-2", &["1001", "1002", "1003"]);
    map.insert("closed", &[] as &[&str]);
    map.insert("crowd", &["1", "2", "3", "4", "5", "6"]);
    let mut directories = Directories::new(1);
    directories.load(DirectoryId(0), map);
    directories
}

fn route(unknown: &str, more: &str) -> Rules {
    rules(&format!(
        "[[routes]]\nname = 'r'\naccount = 'live'\nrooms = {{ directory = 'rooms' }}\n{more}\n[directories.rooms]\n{unknown}"
    ))
}

fn plan(rules: &Rules, key: Option<&[u8]>) -> Plan {
    rules.plan_with(&record(key, b"{}"), &held())
}

/// The rooms of a plan's messages.
fn rooms(rules: &Rules, key: &str) -> Vec<String> {
    let plan = plan(rules, Some(key.as_bytes()));
    plan.messages.iter().map(|message| message.room.to_string()).collect()
}

#[test]
fn a_known_key_gives_its_rooms() {
    let rules = route("", "");
    assert_eq!(rooms(&rules, "match-1"), ["1001"]);
    assert_eq!(rooms(&rules, "match-2"), ["1001", "1002", "1003"]);
    assert_eq!(told(&plan(&rules, Some(b"closed"))), "dropped: no_room");
    assert_eq!(
        told(&plan(&rules, Some(b"crowd"))),
        "mapping: rooms: directory \"rooms\" has 6 rooms for the key \"crowd\"; max_rooms_per_event is 5 []"
    );
    assert_eq!(plan(&rules, Some(b"match-1")).unknown, None);
    assert!(
        !rules.rooms_are_keys(roomcast::core::model::AccountId(0)),
        "keys of several partitions may share a room"
    );
}

#[test]
fn an_unknown_key_becomes_what_the_directory_says() {
    for (unknown, wanted) in [
        ("", "no_route: directory \"rooms\" does not hold the key \"x\" []"),
        ("unknown = 'dead_letter'", "no_route: directory \"rooms\" does not hold the key \"x\" []"),
        ("unknown = 'drop'", "dropped: unknown_key"),
        (
            "unknown = 'wait'",
            "waits Some(10s) for \"x\": directory \"rooms\" does not hold the key \"x\", and did not come to hold it within 10s",
        ),
        (
            "unknown = 'wait'\nunknown_wait = '250ms'",
            "waits Some(250ms) for \"x\": directory \"rooms\" does not hold the key \"x\", and did not come to hold it within 250ms",
        ),
    ] {
        let plan = plan(&route(unknown, ""), Some(b"x"));
        assert_eq!((told(&plan).as_str(), plan.unknown), (wanted, Some(DirectoryId(0))));
        assert_eq!(plan.route.map(|id| id.0), Some(0), "the letter says which route took it");
    }
}

#[test]
fn a_record_without_a_key_cannot_be_looked_up() {
    let rules = route("unknown = 'drop'", "");
    let wanted = "mapping: rooms: the record has no key, and directory \"rooms\" is asked for it []";
    assert_eq!(told(&plan(&rules, None)), wanted);
    assert!(
        told(&plan(&rules, Some(b"\xFF"))).starts_with("mapping: rooms: a key of 1 bytes that is not UTF-8")
    );
    assert_eq!(told(&plan(&rules, Some(b""))), "dropped: unknown_key");
}

#[test]
fn members_are_addressed_in_the_one_room_of_the_key() {
    let rules = route("", "users = '\"ann\"'");
    assert!(told(&plan(&rules, Some(b"match-1"))).starts_with("0/users/1001 "));
    assert!(told(&plan(&rules, Some(b"match-2"))).starts_with("mapping: users: 3 rooms"));
}

#[test]
fn explain_says_what_the_directory_said() {
    let rules = route("", "");
    let said = |key: &[u8]| rules.explain_with(&record(Some(key), b"{}"), &held()).directory;
    assert_eq!(
        said(b"match-2").as_deref(),
        Some("Directory \"rooms\": \"match-2\" has \"1001\", \"1002\", \"1003\"")
    );
    assert_eq!(said(b"closed").as_deref(), Some("Directory \"rooms\": \"closed\" has no room"));
    assert_eq!(said(b"x").as_deref(), Some("Directory \"rooms\" does not hold \"x\""));
    let found = rules.explain(&record(Some(b"match-1"), b"{}"));
    assert_eq!(
        found.directory.as_deref(),
        Some("Directory \"rooms\" is not loaded: \"match-1\" was not looked up")
    );
    assert!(found.plan.waits.is_some_and(|wait| wait.at_most.is_none()), "what it becomes is not known");
}
