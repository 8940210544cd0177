//! Rooms from directories: files, compacted topics and KV buckets that change while the daemon runs, and
//! records that wait for their key.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::bed::{Bed, Event, await_metric, line_route, on_both};
use crate::support::daemon::{Daemon, roomcast};
use crate::support::kafka::Record;
use crate::support::oracle::{Owed, judge};
use crate::support::provider::{Kind, Provider};
use crate::support::{ask_until, block_on, unique};

const PATIENCE: Duration = Duration::from_secs(60);

/// A table on a bed's broker: a compacted topic, or a bucket.
pub struct Table<'b> {
    bed: &'b Bed,
    /// Of the topic or bucket.
    pub name: String,
}

impl<'b> Table<'b> {
    /// One that is not there yet.
    pub fn named(bed: &'b Bed) -> Self {
        Self { bed, name: unique("rooms") }
    }

    /// An empty one.
    pub fn new(bed: &'b Bed) -> Self {
        let table = Self::named(bed);
        table.make();
        table
    }

    /// Makes it.
    pub fn make(&self) {
        match self.bed {
            Bed::Kafka { kafka, .. } => kafka.create_topic(&self.name, 2, &[("cleanup.policy", "compact")]),
            Bed::Nats(nats) => {
                let config =
                    async_nats::jetstream::kv::Config { bucket: self.name.clone(), ..Default::default() };
                drop(block_on(nats.jetstream().create_key_value(config)).expect("the server makes buckets"));
            }
        }
    }

    /// Sets a row; `None` takes it away.
    pub fn set(&self, key: &str, rooms: Option<&str>) {
        match self.bed {
            Bed::Kafka { kafka, .. } => {
                let value = rooms.map(|rooms| rooms.as_bytes().to_vec());
                let row = Record { partition: None, key: Some(key.into()), value, headers: Vec::new() };
                kafka.produce(&self.name, [row]);
            }
            Bed::Nats(nats) => {
                let jetstream = nats.jetstream();
                block_on(async {
                    let bucket = jetstream.get_key_value(&self.name).await.expect("the bucket is there");
                    match rooms {
                        Some(rooms) => {
                            bucket.put(key, rooms.to_owned().into()).await.expect("it is put");
                        }
                        None => bucket.delete(key).await.expect("it is deleted"),
                    }
                });
            }
        }
    }

    /// `[directories.rooms]`, with more lines.
    pub fn section(&self, more: &str) -> String {
        let kept = match self.bed {
            Bed::Kafka { .. } => format!("kind = \"kafka\"\ntopic = \"{}\"", self.name),
            Bed::Nats(_) => format!("kind = \"nats_kv\"\nbucket = \"{}\"", self.name),
        };
        format!("[directories.rooms]\nsource = \"main\"\n{kept}\n{more}\n\n")
    }
}

/// A file of rooms, and its folder.
pub fn file(contents: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("rooms.csv");
    fs::write(&path, contents).expect("it can be written");
    (folder, path)
}

fn config(bed: &Bed, provider: &Provider, directory: &str) -> String {
    let account = provider.account("match", "quota = { room_messages_per_second = 100 }");
    let route = line_route("match", "rooms = { directory = \"rooms\" }");
    [account, bed.source(""), directory.to_owned(), route].concat()
}

fn line(key: &str, owed: &Owed) -> Event {
    Event::new(key, json!({"type": "line", "text": owed.token()}).to_string())
}

/// Lines of a room.
pub fn owed(room: &str, sequences: std::ops::Range<u64>) -> Vec<Owed> {
    sequences.map(|sequence| Owed { room: room.to_owned(), sequence }).collect()
}

/// Publishes lines under a key that is not their room.
pub fn publish(bed: &Bed, key: &str, lines: &[Owed]) {
    bed.publish(lines.iter().map(|owed| line(key, owed)));
}

/// Rooms of accepted messages, in the order of arrival.
pub fn rooms(provider: &Provider) -> Vec<String> {
    provider.log().into_iter().filter(|entry| entry.accepted).filter_map(|entry| entry.room).collect()
}

/// Classes and errors of letters.
pub fn classes(bed: &Bed) -> Vec<(String, String)> {
    let header =
        |letter: &crate::bed::Letter, name: &str| letter.headers[&format!("roomcast-{name}")].clone();
    let both = |letter: &crate::bed::Letter| (header(letter, "class"), header(letter, "error"));
    bed.letters_if_any().iter().map(both).collect()
}

on_both!(
    a_file_is_read_anew_while_running_and_a_broken_one_changes_nothing,
    rows_that_change_while_running_change_where_events_go,
    records_wait_for_their_key_and_go_in_their_order,
    a_wait_that_is_over_is_a_letter,
    nothing_is_ready_or_read_before_the_first_load,
    what_waits_at_a_stop_is_not_lost
);

fn a_file_is_read_anew_while_running_and_a_broken_one_changes_nothing(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let (_folder, path) = file("key,rooms\na,1001\n");
    let directory =
        format!("[directories.rooms]\nkind = \"file\"\npath = {:?}\n\n", path.display().to_string());
    let mut daemon = Daemon::start_ready(&config(bed, &provider, &directory));
    publish(bed, "a", &owed("1001", 0..1));
    bed.await_finished(PATIENCE);

    fs::write(&path, "a,1001\nb\n").expect("it can be written");
    await_metric(&daemon, "roomcast_directory_loads_total", "result=\"failed\"", 1.0, PATIENCE);
    let status = daemon.status().expect("it answers");
    let why = status["directories"][0]["why"].as_str().expect("it says why");
    assert!(why.contains("line 2"), "{why}");
    publish(bed, "a", &owed("1001", 1..2));
    publish(bed, "b", &owed("1002", 0..1));
    bed.await_finished(PATIENCE);
    assert_eq!(rooms(&provider), ["1001", "1001"], "what was known stays");

    fs::write(&path, "a,1003\nb,1004\n").expect("it can be written");
    await_metric(&daemon, "roomcast_directory_keys", "rooms", 2.0, PATIENCE);
    publish(bed, "a", &owed("1003", 0..1));
    bed.await_finished(PATIENCE);
    publish(bed, "b", &owed("1004", 0..1));
    bed.await_finished(PATIENCE);
    assert_eq!(rooms(&provider), ["1001", "1001", "1003", "1004"]);
    let told = ("no_route".to_owned(), "directory \"rooms\" does not hold the key \"b\"".to_owned());
    assert_eq!(classes(bed), [told]);
    let metric = |name: &str| daemon.metric(name, "rooms");
    assert_eq!(
        (metric("roomcast_directory_unknown_total"), metric("roomcast_directory_loaded")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(daemon.status().expect("it answers")["directories"][0]["why"], json!(null));
    assert_eq!(daemon.stop().code(), Some(0));
}

fn rows_that_change_while_running_change_where_events_go(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let table = Table::new(bed);
    table.set("a", Some("999"));
    table.set("a", Some("1001"));
    table.set("gone", Some("998"));
    table.set("gone", None);
    let mut daemon = Daemon::start_ready(&config(bed, &provider, &table.section("unknown = \"drop\"")));
    assert_eq!(daemon.metric("roomcast_directory_keys", "rooms"), Some(1.0), "the last row of a key counts");
    publish(bed, "a", &owed("1001", 0..1));
    publish(bed, "gone", &owed("998", 0..1));
    bed.await_finished(PATIENCE);
    let changed =
        |rows| await_metric(&daemon, "roomcast_directory_rows_total", "result=\"changed\"", rows, PATIENCE);
    table.set("a", Some("[\"1002\", 1003]"));
    changed(1.0);
    publish(bed, "a", &owed("1002", 0..1));
    bed.await_finished(PATIENCE);
    table.set("a", Some("[broken"));
    await_metric(&daemon, "roomcast_directory_rows_total", "result=\"refused\"", 1.0, PATIENCE);
    publish(bed, "a", &owed("1002", 1..2));
    bed.await_finished(PATIENCE);
    table.set("a", None);
    changed(2.0);
    publish(bed, "a", &owed("1002", 2..3));
    bed.await_finished(PATIENCE);
    let mut found = rooms(&provider);
    found.sort();
    assert_eq!(found, ["1001", "1002", "1002", "1003", "1003"]);
    let dropped = daemon.metric("roomcast_messages_total", "fate=\"dropped\",kind=\"unknown_key\"");
    assert_eq!((dropped, bed.letters_if_any().len()), (Some(2.0), 0));
    assert_eq!(daemon.stop().code(), Some(0));
}

fn records_wait_for_their_key_and_go_in_their_order(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let table = Table::new(bed);
    table.set("known", Some("1002"));
    let wait = table.section("unknown = \"wait\"\nunknown_wait = \"10m\"");
    let mut daemon = Daemon::start_ready(&config(bed, &provider, &wait));
    let (late, known) = (owed("1001", 0..300), owed("1002", 0..20));
    publish(bed, "late", &late[..200]);
    publish(bed, "known", &known);
    await_metric(&daemon, "roomcast_directory_waiting_records", "rooms", 200.0, PATIENCE);
    ask_until("the known key's messages", PATIENCE, || (provider.accepted()? == 20).then_some(()));
    assert!(daemon.metric("roomcast_held_records", "source=\"main\"") >= Some(200.0), "what waits is held");
    table.set("late", Some("1001"));
    publish(bed, "late", &late[200..]);
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.metric("roomcast_directory_waiting_records", "rooms"), Some(0.0));
    assert_eq!(daemon.stop().code(), Some(0));
    let all: BTreeSet<Owed> = late.into_iter().chain(known).collect();
    judge(&all, &provider.log(), &BTreeSet::new()).assert_kept();
    assert_eq!(bed.letters_if_any().len(), 0);
}

fn a_wait_that_is_over_is_a_letter(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let table = Table::new(bed);
    let wait = table.section("unknown = \"wait\"\nunknown_wait = \"1s\"");
    let mut daemon = Daemon::start_ready(&config(bed, &provider, &wait));
    publish(bed, "never", &owed("1001", 0..3));
    bed.await_finished(PATIENCE);
    let told = "directory \"rooms\" does not hold the key \"never\", and did not come to hold it within 1s";
    assert_eq!(classes(bed), vec![("no_route".to_owned(), told.to_owned()); 3]);
    let letter = &bed.letters()[0];
    assert_eq!(
        (&*letter.headers["roomcast-route"], &*letter.headers["roomcast-account"]),
        ("lines", "match")
    );
    assert_eq!(rooms(&provider), Vec::<String>::new());
    assert_eq!(daemon.stop().code(), Some(0));
}

fn nothing_is_ready_or_read_before_the_first_load(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let table = Table::named(bed);
    publish(bed, "a", &owed("1001", 0..5));
    let mut daemon = Daemon::start(&config(bed, &provider, &table.section("")));
    await_metric(&daemon, "roomcast_directory_loads_total", "result=\"failed\"", 1.0, PATIENCE);
    // The source has joined: it waits for nothing but the directory.
    await_metric(&daemon, "roomcast_source_state", "state=\"ready\"", 1.0, PATIENCE);
    let status = daemon.status().expect("it answers");
    assert_eq!(
        (&status["directories"][0]["loaded"], &status["sources"][0]["intake_open"]),
        (&json!(false), &json!(false))
    );
    assert!(
        status["directories"][0]["why"].as_str().is_some_and(|why| why.contains(&table.name)),
        "{status}"
    );
    assert_eq!(daemon.get("/readyz").map(|answer| answer.status), Some(503));
    assert_eq!(daemon.metric("roomcast_records_settled_total", "source=\"main\""), Some(0.0));
    table.make();
    table.set("a", Some("1001"));
    daemon.await_ready();
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    // The topic may have been read before its row was written: then the first key was not known.
    let letters = bed.letters_if_any().len();
    assert_eq!(rooms(&provider).len() + letters, 5, "nothing was lost");
}

fn what_waits_at_a_stop_is_not_lost(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let table = Table::new(bed);
    let wait = table.section("unknown = \"wait\"\nunknown_wait = \"10m\"");
    let mut daemon = Daemon::start_ready(&config(bed, &provider, &wait));
    let lines = owed("1001", 0..20);
    publish(bed, "late", &lines);
    await_metric(&daemon, "roomcast_directory_waiting_records", "rooms", 20.0, PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0), "drained: nothing was on its way");
    assert_eq!((rooms(&provider).len(), bed.letters_if_any().len()), (0, 0));
    table.set("late", Some("1001"));
    daemon.restart();
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    judge(&lines.into_iter().collect(), &provider.log(), &BTreeSet::new()).assert_kept();
}

#[test]
fn a_missing_file_is_told_by_run_and_check_live_and_not_by_check() {
    let bed = Bed::kafka();
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let folder = tempfile::tempdir().expect("a scratch folder");
    let table = Table::new(&bed);
    table.set("a", Some("[1, 2]"));
    let directories = "[directories.rooms]\nkind = \"file\"\npath = \"rooms.csv\"\n\n".to_owned()
        + &table.section("").replace("directories.rooms", "directories.table");
    let text = config(&bed, &provider, &directories);
    fs::write(folder.path().join("roomcast.toml"), text).expect("it can be written");
    let run = |arguments: &[&str]| {
        let mut command = roomcast(arguments);
        let done =
            command.args(["-c", "roomcast.toml"]).current_dir(folder.path()).output().expect("it runs");
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.code(), said)
    };
    let (code, said) = run(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["check", "--live"]);
    assert_eq!(code, Some(1), "{said}");
    let told =
        |said: &str, what: &str| said.lines().any(|line| what.split('|').all(|part| line.contains(part)));
    let place = format!(
        "\"rooms.csv\" in {}: No such file",
        folder.path().canonicalize().expect("it is there").display()
    );
    assert!(told(&said, &format!("directory rooms|WRONG|{place}")), "{said}");
    assert!(told(&said, "directory table|ok|1 key(s)"), "{said}");
    let (code, said) = run(&["run"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(told(&said, &format!("directories.rooms.path|{place}")), "{said}");
    fs::write(folder.path().join("rooms.csv"), "a,1\nb,2\n").expect("it can be written");
    let (code, said) = run(&["check", "--live"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(told(&said, "directory rooms|ok|2 key(s)"), "{said}");
}
