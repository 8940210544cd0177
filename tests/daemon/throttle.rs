//! A backlog at the providers' own limits and 20 ms answers: not one refusal, and the quota used.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, Event, on_both};
use crate::support::daemon::Daemon;
use crate::support::oracle::{Owed, busiest, calls, judge};
use crate::support::provider::{Entry, Kind, Provider};

const MESSAGES: u64 = 3_000;
const ROOMS: u64 = 100;
/// Rooms of one Easemob event: 20 calls a second carry 100 messages.
const SIBLINGS: u64 = 5;
/// Both pages say a hundred messages a second.
const PER_SECOND: f64 = 100.0;
/// 30 s at the full quota, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const ROUTES: &str = r#"
[[routes]]
name = "rooms"
when = '.type == "rooms"'
account = "live"
rooms = '.lines[].room'
message = { kind = "text", text = '.text' }

[[routes]]
name = "line"
account = "match"
message = { kind = "text", text = '.text' }
"#;

/// An event for five rooms has one text, so it is found again by its own number: one owed to each.
fn siblings() -> Vec<(Event, u64)> {
    let event = |n: u64| {
        let first = n * SIBLINGS % ROOMS;
        let lines: Vec<_> =
            (first..first + SIBLINGS).map(|room| json!({"room": (5_001 + room).to_string()})).collect();
        let event = json!({"type": "rooms", "lines": lines, "text": format!("<{n}>")});
        (Event::new(&(5_001 + first).to_string(), event.to_string()), n)
    };
    (0..MESSAGES / SIBLINGS).map(event).collect()
}

/// Part of the quota used between the first and the last acceptance.
fn quota_used(entries: &[Entry]) -> f64 {
    let accepted: Vec<u64> =
        entries.iter().filter(|entry| entry.accepted && entry.path != "token").map(|e| e.at_ns).collect();
    assert_eq!(accepted.len() as u64, MESSAGES, "each message once");
    let span = Duration::from_nanos(accepted[accepted.len() - 1] - accepted[0]);
    f64::from(u32::try_from(MESSAGES - 1).expect("few")) / span.as_secs_f64() / PER_SECOND
}

fn judge_siblings(entries: &[Entry]) {
    let mut newest = std::collections::BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.accepted && entry.path == "room") {
        let number = entry.content.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let number: u64 = number.expect("a number in the text").0.parse().expect("a number");
        let before = newest.insert(entry.room.clone(), number);
        assert!(before.is_none_or(|before| before < number), "{:?}: {number} after {before:?}", entry.room);
    }
    assert_eq!(newest.len() as u64, ROOMS);
    assert!(busiest(calls(entries, "room"), Duration::from_secs(1)) <= 20, "calls of Easemob");
}

on_both!(a_backlog_uses_the_quota_without_one_refusal);

fn a_backlog_uses_the_quota_without_one_refusal(bed: &Bed) {
    let easemob = Provider::start(Kind::Easemob, &["--latency", "20ms"]);
    let yunxin = Provider::start(Kind::Yunxin, &["--latency", "20ms"]);
    let lines: Vec<Owed> = crate::bed::lines(ROOMS, MESSAGES);
    bed.publish(siblings().into_iter().map(|(event, _)| event));
    bed.publish_lines(&lines);
    let config =
        [easemob.account("live", ""), yunxin.account("match", ""), bed.source(""), ROUTES.to_owned()];
    let mut daemon = Daemon::start_ready(&config.concat());
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    let (live, game) = (easemob.log(), yunxin.log());
    let used = [quota_used(&live), quota_used(&game)];
    report(&format!("quota used: Easemob {:.1} %, Yunxin {:.1} %", used[0] * 100.0, used[1] * 100.0));
    judge_siblings(&live);
    let owed: BTreeSet<Owed> = lines.into_iter().collect();
    let judgement = judge(&owed, &game, &BTreeSet::new());
    judgement.assert_kept();
    assert_eq!(judgement.repeated_marked + judgement.repeated_unmarked.len(), 0);
    easemob.assert_content();
    yunxin.assert_content();
    assert!(used.iter().all(|used| *used >= 0.95), "of the quota was used: {used:?}");
}

#[expect(clippy::print_stderr, reason = "the figure is what this test is read for")]
fn report(line: &str) {
    eprintln!("{line}");
}
