//! Another config while the daemon works: under load, wrong, in two steps, watched, and too late.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Bed, line_route, lines, on_both};
use crate::support::ask_until;
use crate::support::daemon::Daemon;
use crate::support::oracle::{busiest, calls, judge};
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(90);
const ROOMS: u64 = 40;

fn slow() -> Provider {
    Provider::start(Kind::Yunxin, &["--no-limits", "--latency", "60ms"])
}

fn config(bed: &Bed, provider: &Provider, calls: u32, route: &str) -> String {
    let quota = format!("quota = {{ calls_per_second = {calls}, room_messages_per_second = 20 }}");
    [provider.account("match", &quota), bed.source(""), line_route("match", route)].concat()
}

#[track_caller]
fn await_accepted(provider: &Provider, at_least: u64) {
    ask_until(&format!("{at_least} acceptances"), PATIENCE, || {
        provider.accepted().filter(|accepted| *accepted >= at_least)
    });
}

#[track_caller]
pub fn hang_up(daemon: &mut Daemon) {
    daemon.process().signal(libc::SIGHUP);
}

/// What `/api/status` says of the config, once it says something about a reload that `is_it`.
#[track_caller]
pub fn await_config(daemon: &Daemon, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    ask_until(what, PATIENCE, || Some(daemon.status()?["config"].clone()).filter(|config| is_it(config)))
}

#[track_caller]
pub fn await_generation(daemon: &Daemon, generation: u64) -> Value {
    await_config(daemon, &format!("generation {generation}"), |config| config["generation"] == generation)
}

/// Lines of its log that hold this text.
fn said(daemon: &mut Daemon, text: &str) -> usize {
    daemon.process().lines().iter().filter(|line| line.text.contains(text)).count()
}

on_both!(reloads_under_load_lose_and_reorder_nothing);

fn reloads_under_load_lose_and_reorder_nothing(bed: &Bed) {
    let provider = slow();
    let owed = lines(ROOMS, 1_600);
    let (before, after) = owed.split_at(1_200);
    bed.publish_lines(before);
    // A route that is gone after the first reload leaves the other one an id that is not its place. No reload
    // changes a priority: order is that of a room and priority.
    let former = line_route("match", "when = '.former'").replace("\"lines\"", "\"former\"");
    let first = config(bed, &provider, 200, "").replacen("[[routes]]", &format!("{former}[[routes]]"), 1);
    let mut daemon = Daemon::start_ready(&first);
    await_accepted(&provider, 200);
    daemon.rewrite(&config(bed, &provider, 100, ""));
    hang_up(&mut daemon);
    await_generation(&daemon, 2);
    bed.publish_lines(after);
    await_accepted(&provider, 400);
    // A wrong one changes nothing and is told.
    daemon.rewrite(&config(bed, &provider, 0, "when = '.type =='"));
    hang_up(&mut daemon);
    let told = await_config(&daemon, "a refusal", |config| config["last_reload"]["result"] == "refused");
    assert_eq!(told["generation"], 2);
    let problems = told["problems"].as_array().expect("a list").clone();
    let names = |key: &str| problems.iter().any(|problem| problem.as_str().is_some_and(|p| p.contains(key)));
    assert!(names("calls_per_second") && names("routes[0].when"), "all of them: {problems:?}");
    assert_eq!(daemon.metric("roomcast_config_last_reload_successful", ""), Some(0.0));
    assert_eq!(said(&mut daemon, "the config is wrong: nothing changed"), 1);
    // Two signals at once; the second may find nothing new.
    daemon.rewrite(&config(bed, &provider, 40, "retry = { max_attempts = 4 }"));
    hang_up(&mut daemon);
    hang_up(&mut daemon);
    let told = await_generation(&daemon, 3);
    assert_eq!(told["problems"], json!([]));
    assert_eq!(daemon.metric("roomcast_quota_slots", "path=\"room\""), Some(40.0));
    let smaller_from = provider.log().len();
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.metric("roomcast_config_reloads_total", "result=\"refused\""), Some(1.0));
    assert_eq!(daemon.metric("roomcast_config_reloads_total", "result=\"took\""), Some(2.0));
    // No rebalance: each partition was assigned once, and none was given up. (Requests for replays come by a
    // source of their own.)
    let assigned =
        daemon.process().lines().into_iter().filter(|line| line.text.contains("partitions assigned"));
    let of_main = assigned.filter(|line| line.text.contains("\"source\":\"main\"")).count();
    assert_eq!((of_main, said(&mut daemon, "partitions given up")), (1, 0));
    assert_eq!(daemon.stop().code(), Some(0));
    let entries = provider.log();
    let judgement = judge(&owed.into_iter().collect(), &entries, &BTreeSet::new());
    judgement.assert_kept();
    assert_eq!((judgement.repeated_marked, judgement.repeated_unmarked), (0, Vec::new()));
    let after: Vec<u64> = calls(&entries[smaller_from..], "room").collect();
    assert!(after.len() > 400, "the smaller quota was used: {}", after.len());
    assert!(busiest(after, Duration::from_secs(1)) <= 40, "P4: it held");
    assert_eq!(bed.letters_if_any(), []);
}

/// What needs a restart is said by key, until the restart; the rest takes.
#[test]
fn what_needs_a_restart_is_said_and_the_rest_takes() {
    let (bed, provider) = (Bed::kafka(), slow());
    let mut daemon = Daemon::start_ready(&config(&bed, &provider, 200, ""));
    let text =
        config(&bed, &provider, 100, "").replace("start_from = \"earliest\"", "start_from = \"latest\"");
    daemon.rewrite(&text);
    hang_up(&mut daemon);
    let line = "sources.main.start_from changed: needs a restart; everything else took";
    daemon.process().await_line(line, PATIENCE);
    let told = await_generation(&daemon, 2);
    assert_eq!(told["needs_restart"], json!(["sources.main.start_from"]));
    assert_eq!(daemon.metric("roomcast_config_needs_restart", ""), Some(1.0));
    hang_up(&mut daemon);
    await_config(&daemon, "the same again", |config| config["last_reload"]["result"] == "unchanged");
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.restart();
    daemon.await_ready();
    assert_eq!(daemon.status().expect("it answers")["config"]["needs_restart"], json!([]));
    assert_eq!(daemon.stop().code(), Some(0));
}

/// A secret that the provider refuses is put right in its file.
fn a_rotated_secret_takes_effect(kind: Kind, key: &str) {
    let (bed, provider) = (Bed::kafka(), Provider::start(kind, &["--no-limits"]));
    let owed = lines(5, 50);
    bed.publish_lines(&owed);
    let account = provider
        .account("live", "")
        .replace(&format!("{key} = \"secret\""), &format!("{key}_file = \"the-secret\""));
    let text = [account, bed.source(""), line_route("live", "")].concat();
    let mut daemon = Daemon::prepare("", &text);
    daemon.write("the-secret", "wrong-secret-of-before\n");
    daemon.restart();
    daemon.await_ready();
    ask_until("the account to be refused", PATIENCE, || {
        daemon.metric("roomcast_account_up", "").filter(|up| *up == 0.0)
    });
    assert_eq!(provider.accepted(), Some(0));
    daemon.write("the-secret", "secret\n");
    hang_up(&mut daemon);
    await_generation(&daemon, 2);
    bed.await_finished(Duration::from_secs(15));
    assert_eq!(said(&mut daemon, "wrong-secret-of-before"), 0, "P8");
    let status = daemon.status().expect("it answers").to_string();
    assert!(!status.contains("wrong-secret-of-before"), "P8");
    assert_eq!(daemon.stop().code(), Some(0));
    judge(&owed.into_iter().collect(), &provider.log(), &BTreeSet::new()).assert_kept();
    assert_eq!(bed.letters_if_any(), []);
}

#[test]
fn a_rotated_secret_of_a_login_takes_effect() {
    a_rotated_secret_takes_effect(Kind::Easemob, "client_secret");
}

#[test]
fn a_rotated_secret_of_signed_calls_takes_effect() {
    a_rotated_secret_takes_effect(Kind::Yunxin, "app_secret");
}

/// `[admin] watch = true`: a file that is replaced, one that is written by halves, and a secret file
/// behind a symbolic link that is swapped, as Kubernetes does it.
#[test]
fn watched_files_take_when_they_change() {
    let (bed, provider) = (Bed::kafka(), slow());
    let text = |calls: u32| {
        config(&bed, &provider, calls, "")
            .replace("app_secret = \"secret\"", "app_secret_file = \"now/secret\"")
    };
    let mut daemon = Daemon::prepare("watch = true", &text(200));
    daemon.write("v1/secret", "secret");
    daemon.write("v2/secret", "secret\n");
    daemon.link("now", "v1");
    daemon.restart();
    daemon.await_ready();
    daemon.rewrite(&text(100));
    await_generation(&daemon, 2);
    assert_eq!(daemon.metric("roomcast_quota_slots", "path=\"room\""), Some(100.0));
    let whole = text(50);
    daemon.rewrite(&whole[..whole.len() * 2 / 3]);
    await_config(&daemon, "a refusal", |config| config["last_reload"]["result"] == "refused");
    daemon.rewrite(&whole);
    await_generation(&daemon, 3);
    assert_eq!(daemon.metric("roomcast_quota_slots", "path=\"room\""), Some(50.0));
    daemon.link("now", "v2");
    let told = await_generation(&daemon, 4);
    assert_eq!((&told["needs_restart"], &told["problems"]), (&json!([]), &json!([])));
    assert_eq!(said(&mut daemon, "accounts.match.app_secret_file"), 1);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// A reload that comes while the process ends changes neither it nor the end.
#[test]
fn a_reload_during_the_drain_changes_nothing() {
    let bed = Bed::kafka();
    let provider = Provider::start(Kind::Yunxin, &["--no-limits", "--latency", "2s"]);
    let owed = lines(ROOMS, 400);
    bed.publish_lines(&owed);
    let mut daemon = Daemon::start_ready(&config(&bed, &provider, 200, ""));
    ask_until("calls away", PATIENCE, || {
        daemon.metric("roomcast_calls_away", "").filter(|away| *away > 10.0)
    });
    daemon.process().signal(libc::SIGTERM);
    daemon.process().await_line("asked to stop", PATIENCE);
    daemon.rewrite(&config(&bed, &provider, 100, ""));
    hang_up(&mut daemon);
    daemon.process().await_line("nothing of the config was taken", PATIENCE);
    assert_eq!(daemon.process().await_end(PATIENCE).code(), Some(0), "drained");
    daemon.restart();
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    let judgement = judge(&owed.into_iter().collect(), &provider.log(), &BTreeSet::new());
    judgement.assert_kept();
    assert_eq!((judgement.repeated_marked, judgement.repeated_unmarked), (0, Vec::new()));
}
