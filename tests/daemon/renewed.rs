//! Other directories while the daemon runs: SIGHUP adds, moves and takes away files, topics and buckets,
//! or refuses, and what waits for a key gets the new answer.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Bed, await_metric, line_route, on_both};
use crate::directories::{Table, classes, file, owed, publish, rooms};
use crate::reload::{await_config, await_generation, hang_up};
use crate::support::ask_until;
use crate::support::daemon::Daemon;
use crate::support::oracle::judge;
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);

/// A bed, a provider, and a config whose route asks the directory `rooms` where it has one.
struct Stage<'b> {
    bed: &'b Bed,
    provider: Provider,
}

impl<'b> Stage<'b> {
    fn new(bed: &'b Bed) -> Self {
        Self { bed, provider: Provider::start(Kind::Yunxin, &["--no-limits"]) }
    }

    fn config(&self, directories: &str, route: &str) -> String {
        let account = self.provider.account("match", "quota = { room_messages_per_second = 100 }");
        [account, self.bed.source(""), directories.to_owned(), line_route("match", route)].concat()
    }

    fn asking(&self, directories: &str) -> String {
        self.config(directories, "rooms = { directory = \"rooms\" }")
    }

    /// Publishes one line under that key, and waits until it is finished.
    fn send(&self, key: &str, sequence: u64) {
        publish(self.bed, key, &owed("any", sequence..sequence + 1));
        self.bed.await_finished(PATIENCE);
    }
}

fn in_file(path: &std::path::Path, more: &str) -> String {
    format!("[directories.rooms]\nkind = \"file\"\npath = {:?}\n{more}\n\n", path.display().to_string())
}

fn reread(daemon: &mut Daemon, config: &str) {
    daemon.rewrite(config);
    hang_up(daemon);
}

/// The problems of a reload that is refused, as one text.
fn refused(daemon: &mut Daemon, config: &str) -> String {
    let metric = ("roomcast_config_reloads_total", "result=\"refused\"");
    let before = daemon.metric(metric.0, metric.1).unwrap_or(0.0);
    reread(daemon, config);
    await_metric(daemon, metric.0, metric.1, before + 1.0, PATIENCE);
    daemon.status().expect("it answers")["config"]["problems"].to_string()
}

fn directories(daemon: &Daemon) -> Value {
    daemon.status().expect("it answers")["directories"].clone()
}

on_both!(
    a_file_moves_and_one_that_is_broken_or_missing_changes_nothing,
    a_directory_comes_with_the_route_that_asks_it_and_goes_with_it,
    records_wait_for_a_directory_that_came_and_is_not_loaded,
    what_waits_for_a_key_is_planned_anew
);

fn a_file_moves_and_one_that_is_broken_or_missing_changes_nothing(bed: &Bed) {
    let stage = Stage::new(bed);
    let (_one, first) = file("a,1001\n");
    let (folder, second) = file("a,1002\n");
    let mut daemon = Daemon::start_ready(&stage.asking(&in_file(&first, "")));
    stage.send("a", 0);
    reread(&mut daemon, &stage.asking(&in_file(&second, "unknown = \"drop\"")));
    await_generation(&daemon, 2);
    daemon.process().await_line("directories.rooms.path, directories.rooms.unknown", PATIENCE);
    stage.send("a", 1);
    stage.send("b", 2);
    assert_eq!(rooms(&stage.provider), ["1001", "1002"]);
    assert_eq!(classes(bed), [], "it was dropped");

    // The new file is looked at, and the old one is not.
    fs::write(&first, "a,1\nb,1\nc,1\n").expect("it can be written");
    fs::write(&second, "a,1003\nb,1004\n").expect("it can be written");
    await_metric(&daemon, "roomcast_directory_keys", "rooms", 2.0, PATIENCE);
    stage.send("a", 3);
    assert_eq!(directories(&daemon)[0]["keys"], 2);

    let missing = folder.path().join("missing.csv");
    let problems = refused(&mut daemon, &stage.config(&in_file(&missing, ""), "rooms = '\"1\"'"));
    for part in ["directories.rooms.path", "missing.csv", "No such file"] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    fs::write(&missing, "a,1005\nb\n").expect("it can be written");
    let problems = refused(&mut daemon, &stage.config(&in_file(&missing, ""), "rooms = '\"1\"'"));
    assert!(problems.contains("line 2"), "{problems}");
    stage.send("a", 4);
    stage.send("b", 5);
    assert_eq!(rooms(&stage.provider)[2..], ["1003", "1003", "1004"], "nothing has changed");
    assert_eq!(daemon.metric("roomcast_config_reloads_total", "result=\"refused\""), Some(2.0));

    // The files of a config that says the same are read as well.
    fs::write(&second, "a,1006\n").expect("it can be written");
    reread(&mut daemon, &stage.asking(&in_file(&second, "unknown = \"drop\"")));
    await_config(&daemon, "the same again", |config| config["last_reload"]["result"] == "unchanged");
    stage.send("a", 6);
    assert_eq!(rooms(&stage.provider).last().map(String::as_str), Some("1006"));
    assert_eq!(daemon.stop().code(), Some(0));
}

fn a_directory_comes_with_the_route_that_asks_it_and_goes_with_it(bed: &Bed) {
    let stage = Stage::new(bed);
    let (table, other) = (Table::new(bed), Table::new(bed));
    table.set("1001", Some("[2001, 2002]"));
    other.set("1001", Some("3001"));
    let mut daemon = Daemon::start_ready(&stage.config("", ""));
    stage.send("1001", 0);
    assert_eq!(directories(&daemon), json!([]));

    reread(&mut daemon, &stage.asking(&table.section("")));
    await_generation(&daemon, 2);
    // Whether it is loaded by then or not.
    stage.send("1001", 1);
    await_metric(&daemon, "roomcast_directory_loaded", "rooms", 1.0, PATIENCE);
    table.set("1001", Some("2003"));
    await_metric(&daemon, "roomcast_directory_rows_total", "result=\"changed\"", 1.0, PATIENCE);
    stage.send("1001", 2);
    // Its topic or bucket is another one.
    reread(&mut daemon, &stage.asking(&other.section("")));
    await_generation(&daemon, 3);
    stage.send("1001", 3);
    table.set("1001", Some("2004"));
    other.set("1001", Some("3002"));
    await_metric(&daemon, "roomcast_directory_rows_total", "result=\"changed\"", 2.0, PATIENCE);
    stage.send("1001", 4);

    let problems = refused(&mut daemon, &stage.asking(""));
    assert!(problems.contains("which is no directory"), "{problems}");
    reread(&mut daemon, &stage.config("", ""));
    await_generation(&daemon, 4);
    daemon.process().await_line("directories.rooms (gone)", PATIENCE);
    assert_eq!(directories(&daemon), json!([]));
    assert_eq!(daemon.metric("roomcast_directory_loaded", "rooms"), None);
    stage.send("1001", 5);
    let found = rooms(&stage.provider);
    assert_eq!((&*found[0], &found[3..]), ("1001", &["2003", "3001", "3002", "1001"].map(String::from)[..]));
    assert_eq!(BTreeSet::from([&*found[1], &*found[2]]), BTreeSet::from(["2001", "2002"]));
    assert_eq!(classes(bed), []);
    assert_eq!(daemon.stop().code(), Some(0));
}

fn records_wait_for_a_directory_that_came_and_is_not_loaded(bed: &Bed) {
    let stage = Stage::new(bed);
    let table = Table::named(bed);
    let mut daemon = Daemon::start_ready(&stage.config("", ""));
    // One asks the directory, the other does not.
    let plain = "when = '$key | startswith(\"10\")'";
    let both = stage.config(&table.section("unknown = \"wait\"\nunknown_wait = \"10m\""), plain)
        + &line_route("match", "rooms = { directory = \"rooms\" }").replace("\"lines\"", "\"asks\"");
    reread(&mut daemon, &both);
    await_generation(&daemon, 2);
    await_metric(&daemon, "roomcast_directory_loads_total", "result=\"failed\"", 1.0, PATIENCE);
    let late = owed("2001", 0..50);
    publish(bed, "late", &late);
    publish(bed, "1001", &owed("1001", 0..1));
    ask_until("the line that asks no directory", PATIENCE, || {
        (stage.provider.accepted()? == 1).then_some(())
    });
    await_metric(&daemon, "roomcast_directory_waiting_records", "rooms", 50.0, PATIENCE);
    assert_eq!(daemon.metric("roomcast_directory_loaded", "rooms"), Some(0.0));
    assert_eq!(daemon.get("/readyz").map(|answer| answer.status), Some(200), "the rest goes on");
    assert_eq!(
        daemon.metric("roomcast_directory_unknown_total", "rooms"),
        Some(0.0),
        "nobody can say that a key is unknown"
    );
    table.make();
    table.set("late", Some("2001"));
    bed.await_finished(PATIENCE);
    assert_eq!(classes(bed), []);
    assert_eq!(daemon.stop().code(), Some(0));
    let all = late.into_iter().chain(owed("1001", 0..1)).collect();
    judge(&all, &stage.provider.log(), &BTreeSet::new()).assert_kept();
}

fn what_waits_for_a_key_is_planned_anew(bed: &Bed) {
    let stage = Stage::new(bed);
    let (_one, first) = file("a,1001\n");
    let (_two, second) = file("late,1002\n");
    let wait = "unknown = \"wait\"\nunknown_wait = \"10m\"";
    let mut daemon = Daemon::start_ready(&stage.asking(&in_file(&first, wait)));
    let late = owed("1002", 0..300);
    publish(bed, "late", &late[..200]);
    publish(bed, "never", &owed("any", 0..2));
    await_metric(&daemon, "roomcast_directory_waiting_records", "rooms", 202.0, PATIENCE);
    reread(&mut daemon, &stage.asking(&in_file(&second, wait)));
    publish(bed, "late", &late[200..]);
    ask_until("all lines of the key", PATIENCE, || (stage.provider.accepted()? == 300).then_some(()));
    await_metric(&daemon, "roomcast_directory_waiting_records", "rooms", 2.0, PATIENCE);
    // What need not wait any more is not kept waiting.
    reread(&mut daemon, &stage.asking(&in_file(&second, "")));
    bed.await_finished(PATIENCE);
    assert_eq!(classes(bed).len(), 2);
    assert_eq!(daemon.stop().code(), Some(0));
    judge(&late.into_iter().collect(), &stage.provider.log(), &BTreeSet::new()).assert_kept();
}
