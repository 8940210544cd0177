//! Letters that are asked for again: a request in, the message marked and out, and a row that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use roomcast::app;
use roomcast::broker::Archive;
use roomcast::config;
use roomcast::core::model::Record;
use roomcast::core::replay::{Asked, Content, Row, State, Told};
use roomcast::core::time::Wall;
use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::bed::{Bed, Event, line_route, lines};
use crate::reload::{await_generation, hang_up};
use crate::support::daemon::{Daemon, roomcast};
use crate::support::oracle::judge;
use crate::support::process::Process;
use crate::support::provider::{Kind, Provider};
use crate::support::{ask_until, block_on};

const PATIENCE: Duration = Duration::from_secs(60);
/// The room whose messages the provider refuses at first.
const REFUSING: &str = "1001";

/// The archive of a config's only source, as another process has it.
pub fn archive(config: &str) -> Arc<dyn Archive> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, config).expect("the scratch folder can be written");
    let loaded = config::load(&[path], std::iter::empty()).unwrap_or_else(|_| panic!("{config}"));
    let app = app::build(&loaded, &app::open_secret).unwrap_or_else(|problems| panic!("{problems:?}"));
    app.sources[0].broker.archive()
}

pub fn letters(archive: &dyn Archive) -> Vec<Record> {
    let (into, mut found) = mpsc::channel(64);
    let collect = async {
        let mut all = Vec::new();
        while let Some(record) = found.recv().await {
            all.push(record);
        }
        all
    };
    let (read, all) = block_on(async { tokio::join!(archive.read(into), collect) });
    read.expect("the letters can be read");
    all
}

pub fn asked(by: &str) -> Asked {
    let id = Uuid::new_v4();
    Asked { id, by: by.to_owned(), at: Wall(1_700_000_000_000), content: Content::Current, keep_ttl: false }
}

/// The rows of all letters.
pub fn rows(archive: &dyn Archive) -> BTreeMap<String, Row> {
    let rows =
        block_on(archive.table().load(|key| Row::letter(key).is_some())).expect("the table can be read");
    let row = |value: &[u8]| Row::read(value).expect("a row of a letter");
    rows.into_iter().map(|(key, value)| (key, row(&value))).collect()
}

fn in_state(archive: &dyn Archive, state: State) -> Option<BTreeMap<String, Row>> {
    let rows = rows(archive);
    rows.values().all(|row| row.state == state).then_some(rows)
}

/// Refused at first, accepted once the provider takes the room: two people ask for every letter, and
/// each is sent once more, under its id, marked.
fn letters_are_replayed_once_whoever_asks(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--room", REFUSING, "--room", "1002", "--no-limits"]);
    let illegal = json!({"answer": {"status": 200, "code": 414, "description": "illegal"}});
    provider.set_faults(&json!({"effect": illegal, "rooms": [REFUSING]}));
    let config = [
        provider.account("match", "quota = { calls_per_second = 500, room_messages_per_second = 500 }"),
        bed.source(""),
        line_route("match", ""),
    ]
    .concat();
    let mut daemon = Daemon::start_ready(&config);
    let owed = lines(2, 40);
    bed.publish_lines(&owed);
    bed.await_finished(PATIENCE);
    let archive = archive(&config);
    let found = letters(&*archive);
    assert_eq!(found.len(), 20, "the lines of the room that refuses");
    provider.set_faults(&json!([]));
    for person in ["ann@a", "bob@b"] {
        for letter in &found {
            block_on(archive.request(letter.clone(), asked(person).headers())).expect("it is confirmed");
        }
    }
    let rows = ask_until("a row for every letter", PATIENCE, || {
        in_state(&*archive, State::Replayed).filter(|rows| rows.len() == found.len())
    });
    let ids: BTreeSet<String> =
        found.iter().map(|letter| Told::read(letter).expect("a letter").letter.to_string()).collect();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), ids);
    assert!(rows.values().all(|row| ["ann@a", "bob@b"].contains(&&*row.by) && row.next.is_empty()));
    let entries = provider.log();
    judge(&owed.iter().cloned().collect(), &entries, &BTreeSet::new()).assert_kept();
    let replays: Vec<_> =
        entries.iter().filter(|entry| entry.accepted && entry.room.as_deref() == Some(REFUSING)).collect();
    assert_eq!(replays.len(), found.len(), "each of them once");
    assert!(replays.iter().all(|entry| entry.resend), "and each says that it may be a repeat");
    assert!(daemon.stop().success());
}

/// What fails again is another letter that names the first; after `max_replays` it is parked.
fn what_fails_again_is_linked_and_parked(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--room", REFUSING, "--no-limits"]);
    let illegal = json!({"answer": {"status": 200, "code": 414, "description": "illegal"}});
    provider.set_faults(&json!({"effect": illegal, "rooms": [REFUSING]}));
    let config = [
        provider.account("match", ""),
        bed.source(""),
        line_route("match", ""),
        "[letters]\nmax_replays = 1\n".to_owned(),
    ]
    .concat();
    let mut daemon = Daemon::start_ready(&config);
    bed.publish([Event::new(REFUSING, r#"{"text":"no"}"#)]);
    bed.await_finished(PATIENCE);
    let archive = archive(&config);
    let mut chain = Vec::new();
    for round in 0..2_usize {
        let found = letters(&*archive);
        assert_eq!(found.len(), round + 1);
        let last = found.into_iter().max_by_key(|letter| Told::read(letter).expect("a letter").replays);
        let last = last.expect("there is one");
        let told = Told::read(&last).expect("a letter");
        assert_eq!(usize::try_from(told.replays), Ok(round));
        chain.push(told.letter);
        block_on(archive.request(last, asked("ann@a").headers())).expect("it is confirmed");
        let next = ask_until("what became of it", PATIENCE, || {
            let row = rows(&*archive).remove(&told.letter.to_string())?;
            (row.state == State::Replayed).then_some(row.next)
        });
        assert_eq!(next.len(), 1);
        chain.extend(if round == 1 { next } else { Vec::new() });
    }
    let parked = rows(&*archive).remove(&chain[2].to_string()).expect("the last of the chain has a row");
    assert_eq!(parked.state, State::Parked);
    assert!(parked.why.contains("max_replays = 1"), "{}", parked.why);
    let last = letters(&*archive).into_iter().find(|letter| Told::read(letter).unwrap().letter == chain[2]);
    let last = last.expect("the last letter is there");
    let original = last.header("roomcast-original").map(String::from_utf8_lossy);
    assert_eq!(original.as_deref(), Some(&*chain[0].to_string()));
    assert!(daemon.stop().success());
}

/// The same letter's chain under two bounds: the daemon parks by the one that its config has now.
fn another_max_replays_takes_with_a_reload(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--room", REFUSING, "--no-limits"]);
    let illegal = json!({"answer": {"status": 200, "code": 414, "description": "illegal"}});
    provider.set_faults(&json!({"effect": illegal, "rooms": [REFUSING]}));
    let with = |letters: &str| {
        [provider.account("match", ""), bed.source(""), line_route("match", ""), letters.to_owned()].concat()
    };
    let config = with("");
    let mut daemon = Daemon::start_ready(&config);
    bed.publish([Event::new(REFUSING, r#"{"text":"no"}"#)]);
    bed.await_finished(PATIENCE);
    let archive = archive(&config);
    let fail_again = |replays: u32| {
        let found = letters(&*archive);
        let of = |letter: &Record| Told::read(letter).expect("a letter");
        let last = found.into_iter().find(|letter| of(letter).replays == replays).expect("it failed before");
        let letter = of(&last).letter.to_string();
        block_on(archive.request(last, asked("ann@a").headers())).expect("it is confirmed");
        let row = ask_until("what became of it", PATIENCE, || {
            rows(&*archive).remove(&letter).filter(|row| row.state == State::Replayed)
        });
        assert_eq!(row.next.len(), 1);
        rows(&*archive).remove(&row.next[0].to_string())
    };
    assert_eq!(fail_again(0), None, "3 is the default");
    daemon.rewrite(&with("[letters]\nmax_replays = 1\n"));
    hang_up(&mut daemon);
    let told = await_generation(&daemon, 2);
    assert_eq!(told["needs_restart"], json!([]));
    let parked = fail_again(1).expect("it has a row");
    assert_eq!(parked.state, State::Parked);
    assert!(parked.why.contains("max_replays = 1"), "{}", parked.why);
    daemon.rewrite(&with("[letters]\nmax_replays = 3\n"));
    hang_up(&mut daemon);
    await_generation(&daemon, 3);
    assert_eq!(fail_again(2), None, "3 are allowed again");
    assert!(daemon.stop().success());
}

/// Of letters that could not keep their values, those are replayed whose values stand where they stood; the
/// others stay open. These have their values after all: whoever asks again gets what they owe sent, once and
/// marked, though the requests of before stand there still.
fn what_the_daemon_left_open_is_replayed_when_it_is_asked_for_again(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--room", REFUSING, "--no-limits"]);
    let illegal = json!({"answer": {"status": 200, "code": 414, "description": "illegal"}});
    provider.set_faults(&json!({"effect": illegal, "rooms": [REFUSING]}));
    let config = [provider.account("match", ""), bed.source(""), line_route("match", "")].concat();
    let mut daemon = Daemon::start_ready(&config);
    let owed = lines(1, 10);
    bed.publish_lines(&owed);
    bed.await_finished(PATIENCE);
    provider.set_faults(&json!([]));
    let archive = archive(&config);
    for (number, letter) in letters(&*archive).into_iter().enumerate() {
        let mut bare = Record { value: None, ..letter };
        let mut more = vec![("roomcast-truncated", "where it stood")];
        if number % 2 == 0 {
            bare.headers.retain(|(name, _)| &**name != "roomcast-offset");
            more.push(("roomcast-offset", "999999"));
        }
        bare.headers.extend(more.into_iter().map(|(name, value)| (name.into(), value.into())));
        block_on(archive.request(bare, asked("ann@a").headers())).expect("it is confirmed");
    }
    let in_state = |state| rows(&*archive).into_values().filter(|row| row.state == state).count();
    ask_until("half of them to stay open", PATIENCE, || {
        (in_state(State::Open) == 5 && in_state(State::Replayed) == 5).then_some(())
    });
    assert_eq!(provider.accepted(), Some(5));
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, &config).expect("the scratch folder can be written");
    let path = path.to_str().expect("scratch folders have plain names");
    let ask = || Process::start("letters replay", roomcast(&["letters", "replay", "-c", path, "--yes"]));
    let (mut one, mut other) = (ask(), ask());
    assert!(one.await_end(PATIENCE).success() && other.await_end(PATIENCE).success(), "{}", one.tail());
    ask_until("all to be replayed", PATIENCE, || (in_state(State::Replayed) == owed.len()).then_some(()));
    let entries = provider.log();
    // Replays stand outside of order.
    let judgement = judge(&owed.iter().cloned().collect(), &entries, &BTreeSet::new());
    let wrong = [judgement.lost, judgement.strange, judgement.ids_changed].concat();
    assert_eq!(wrong, Vec::<String>::new());
    let accepted: Vec<_> = entries.iter().filter(|entry| entry.accepted).collect();
    assert!(accepted.len() == owed.len() && accepted.iter().all(|entry| entry.resend), "each once, marked");
    assert_eq!(letters(&*archive).len(), owed.len(), "none failed again");
    assert!(daemon.stop().success());
}

crate::bed::on_both!(
    letters_are_replayed_once_whoever_asks,
    what_the_daemon_left_open_is_replayed_when_it_is_asked_for_again,
    what_fails_again_is_linked_and_parked,
    another_max_replays_takes_with_a_reload
);
