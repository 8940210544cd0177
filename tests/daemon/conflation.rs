//! A scoreboard while the provider is away: of a thousand updates the newest of each board arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Bed, Event, await_metric, on_both};
use crate::support::daemon::Daemon;
use crate::support::oracle::Owed;
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);
const UPDATES: u64 = 1_000;
const BOARDS: u64 = 4;
const LINES: u64 = 10;
const ROOM: &str = "1001";

const ROUTES: &str = r#"
[[routes]]
name = "scores"
when = '.type == "score"'
account = "match"
message = { kind = "text", text = '.text' }
conflate = '.board'

[[routes]]
name = "lines"
account = "match"
message = { kind = "text", text = '.text' }
"#;

fn update(n: u64) -> Event {
    Event::new(ROOM, json!({"type": "score", "board": n % BOARDS, "text": score(n)}).to_string())
}

fn score(n: u64) -> String {
    Owed { room: ROOM.to_owned(), sequence: n }.token()
}

/// Scores and lines of the log that were accepted, in order.
fn accepted(provider: &Provider) -> (Vec<u64>, Vec<String>) {
    let entries = provider.log();
    let contents = entries.iter().filter(|entry| entry.accepted).map(|entry| entry.content.clone());
    let (scores, lines): (Vec<_>, Vec<_>) = contents.partition(|content| Owed::find(content).is_some());
    (scores.iter().filter_map(|content| Owed::find(content)).map(|owed| owed.sequence).collect(), lines)
}

on_both!(p10_of_a_thousand_updates_the_newest_of_each_board_arrives_and_all_are_told_of);

fn p10_of_a_thousand_updates_the_newest_of_each_board_arrives_and_all_are_told_of(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let config = [provider.account("match", ""), bed.source(""), ROUTES.to_owned()];
    let mut daemon = Daemon::start_ready(&config.concat());
    provider.set_faults(&json!({"effect": "drop_before", "paths": ["room"]}));
    let mut events = Vec::new();
    for n in 0..UPDATES {
        events.push(update(n));
        if n % (UPDATES / LINES) == 0 {
            events
                .push(Event::new(ROOM, json!({"type": "line", "text": format!("line {n:04}")}).to_string()));
        }
    }
    bed.publish(events);
    // All but the newest of each board, and what may be away, are finished while nobody can be reached.
    let settled = f64::from(u32::try_from(UPDATES - BOARDS - 1).expect("few"));
    await_metric(&daemon, "roomcast_conflated_total", "route=\"scores\"", settled, PATIENCE);
    await_metric(&daemon, "roomcast_records_settled_total", "source=\"main\"", settled, PATIENCE);
    let held = daemon.metric("roomcast_held_records", "source=\"main\"").expect("the daemon answers");
    assert!(held <= (LINES + BOARDS + 1) as f64, "{held} records are held");
    assert_eq!(daemon.metric("roomcast_paused_partitions", "source=\"main\""), Some(0.0));
    provider.set_faults(&json!([]));
    bed.await_finished(PATIENCE);
    let status = daemon.status().expect("the daemon answers");
    assert_eq!(daemon.stop().code(), Some(0));

    let (scores, lines) = accepted(&provider);
    let mut of_board: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for n in &scores {
        of_board.entry(n % BOARDS).or_default().push(*n);
    }
    let newest: Vec<u64> = of_board.values().filter_map(|of_board| of_board.last().copied()).collect();
    assert_eq!(newest, (UPDATES - BOARDS..UPDATES).collect::<Vec<_>>(), "the newest of each is the last");
    assert!(scores.len() as u64 <= BOARDS + 1, "those, and one that was away: {scores:?}");
    assert!(of_board.values().all(|of_board| of_board.is_sorted()), "{scores:?}");
    let wanted: Vec<String> = (0..LINES).map(|n| format!("line {:04}", n * UPDATES / LINES)).collect();
    assert!(wanted.iter().zip(&lines).all(|(wanted, line)| line.contains(wanted)), "in order: {lines:?}");
    assert_eq!(lines.len() as u64, LINES);

    let conflated = UPDATES - scores.len() as u64;
    assert_eq!(status["routes"][0], json!({"name": "scores", "conflated": conflated}));
    let fate = json!({"account": "match", "fate": "conflated", "kind": "replaced", "count": conflated});
    let messages: &Vec<Value> = status["messages"].as_array().expect("a list");
    assert!(messages.contains(&fate), "{messages:?}");
    assert!(bed.letters_if_any().is_empty(), "nobody is blamed for an outage");
    assert_eq!(provider.stats()["warnings"], json!({}));
}
