//! What becomes of messages that wait: time-to-live, full rooms, priorities. The provider is away
//! while they pile up, and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, Event, await_metric, on_both};
use crate::support::ask_until;
use crate::support::daemon::Daemon;
use crate::support::oracle::{Owed, judge};
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);
/// Messages that may wait in one room.
const PLACES: u64 = 5;
/// Messages that each kind of route gets.
const EACH: u64 = 20;

const ROUTES: &str = r#"
[[routes]]
name = "expire"
when = '.type == "expire"'
account = "match"
message = { kind = "text", text = '.text' }
ttl = "1s"

[[routes]]
name = "expire-letter"
when = '.type == "expire-letter"'
account = "match"
message = { kind = "text", text = '.text' }
ttl = "1s"
on_expiry = "dead_letter"

[[routes]]
name = "long"
when = '.type == "long"'
account = "match"
message = { kind = "text", text = '.text' }
ttl = "10m"

[[routes]]
name = "oldest"
when = '.type == "oldest"'
account = "match"
message = { kind = "text", text = '.text' }
on_full = "drop_oldest"

[[routes]]
name = "newest"
when = '.type == "newest"'
account = "match"
message = { kind = "text", text = '.text' }
on_full = "dead_letter"

[[routes]]
name = "wait"
when = '.type == "wait"'
account = "match"
message = { kind = "text", text = '.text' }
on_full = "wait"
"#;

fn typed(kind: &str, owed: &Owed) -> Event {
    Event::new(&owed.room, json!({"type": kind, "text": owed.token()}).to_string())
}

fn room(number: u64, count: u64) -> Vec<Owed> {
    (0..count).map(|sequence| Owed { room: number.to_string(), sequence }).collect()
}

/// The sequences of a room that were accepted, in order.
fn accepted(provider: &Provider, room: &str) -> Vec<u64> {
    let entries = provider.log();
    let of_room = entries.iter().filter(|entry| entry.accepted && entry.room.as_deref() == Some(room));
    of_room.filter_map(|entry| Owed::find(&entry.content)).map(|owed| owed.sequence).collect()
}

on_both!(expiry_and_full_rooms_do_what_the_config_says, priorities_share_a_backlog_by_their_weights);

fn expiry_and_full_rooms_do_what_the_config_says(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let config = [
        format!("[limits]\nmax_waiting_per_room = {PLACES}\n\n"),
        provider.account("match", "quota = { room_messages_per_second = 100 }"),
        bed.source(""),
        ROUTES.to_owned(),
    ];
    let mut daemon = Daemon::start_ready(&config.concat());
    // Until the last message is where it belongs, the provider is away; then faults end it.
    let all = json!({"effect": "drop_before", "paths": ["room"]});
    provider.set_faults(&all);
    let kinds = [("expire", 1_001), ("expire-letter", 1_002), ("long", 1_003)];
    let mut events: Vec<Event> = kinds
        .iter()
        .flat_map(|(kind, number)| {
            room(*number, PLACES).iter().map(|owed| typed(kind, owed)).collect::<Vec<_>>()
        })
        .collect();
    for (kind, number) in [("oldest", 1_004), ("newest", 1_005)] {
        events.extend(room(number, EACH).iter().map(|owed| typed(kind, owed)));
    }
    bed.publish(events);
    let few = f64::from(u32::try_from(PLACES).expect("few"));
    let beyond = f64::from(u32::try_from(EACH - PLACES).expect("few"));
    for (labels, count) in [
        ("fate=\"dropped\",kind=\"expired\"", few),
        ("fate=\"letter\",kind=\"expired\"", few),
        ("fate=\"letter\",kind=\"overflow\"", beyond),
    ] {
        await_metric(&daemon, "roomcast_messages_total", labels, count, PATIENCE);
    }
    // A full room that waits holds its partition, so it comes last.
    let waiting = room(1_006, EACH);
    bed.publish(waiting.iter().map(|owed| typed("wait", owed)));
    ask_until("a partition to pause", PATIENCE, || {
        daemon.metric("roomcast_paused_partitions", "source=\"main\"").filter(|paused| *paused >= 1.0)
    });
    await_metric(&daemon, "roomcast_gate_closed", "cause=\"outage\"", 1.0, PATIENCE);
    provider.set_faults(&json!([]));
    bed.await_finished(PATIENCE);
    let dropped = daemon.metric("roomcast_messages_total", "fate=\"dropped\",kind=\"overflow\"");
    assert_eq!(daemon.stop().code(), Some(0));

    assert_eq!(accepted(&provider, "1001"), Vec::<u64>::new(), "expired");
    assert_eq!(accepted(&provider, "1002"), Vec::<u64>::new(), "expired");
    assert_eq!(accepted(&provider, "1003"), (0..PLACES).collect::<Vec<_>>());
    assert_eq!(accepted(&provider, "1005"), (0..PLACES).collect::<Vec<_>>(), "the oldest stay");
    assert_eq!(accepted(&provider, "1006"), (0..EACH).collect::<Vec<_>>(), "all waited");
    // One that was away when the room was full is not dropped, whatever its age.
    let oldest = accepted(&provider, "1004");
    assert_eq!(oldest[1..], (EACH - PLACES + 1..EACH).collect::<Vec<_>>(), "the newest stay");
    assert_eq!((oldest.len() as u64, dropped), (PLACES, Some(beyond)));

    let mut classes: BTreeMap<(String, String), u64> = BTreeMap::new();
    for letter in bed.letters() {
        let header = |name: &str| letter.headers[&format!("roomcast-{name}")].clone();
        *classes.entry((header("route"), header("class"))).or_default() += 1;
    }
    let wanted = [("expire-letter", "expired", PLACES), ("newest", "overflow", EACH - PLACES)];
    let wanted = wanted.map(|(route, class, count)| ((route.to_owned(), class.to_owned()), count));
    assert_eq!(classes, wanted.into());
    assert_eq!(provider.stats()["warnings"], json!({}));
}

fn priorities_share_a_backlog_by_their_weights(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let priorities = ["high", "normal", "low"];
    let routes: String = priorities.iter().map(|word| format!(
            "[[routes]]\nname = \"{word}\"\nwhen = '.type == \"{word}\"'\naccount = \"match\"\npriority = \"{word}\"\nmessage = {{ kind = \"text\", text = '.text' }}\n\n"
        )).collect();
    let config = [provider.account("match", "quota = { calls_per_second = 50 }"), bed.source(""), routes];
    provider.set_faults(&json!({"effect": "drop_before", "paths": ["room"]}));
    let mut daemon = Daemon::start_ready(&config.concat());
    let mut owed = BTreeSet::new();
    let mut events = Vec::new();
    // One message a room, so that nothing but weights and the quota decides.
    for n in 0..100 {
        for (word, first) in priorities.iter().zip([1_000, 2_000, 3_000]) {
            let line = Owed { room: (first + n).to_string(), sequence: 0 };
            events.push(typed(word, &line));
            owed.insert(line);
        }
    }
    bed.publish(events);
    await_metric(&daemon, "roomcast_held_records", "source=\"main\"", 300.0, PATIENCE);
    provider.set_faults(&json!([]));
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    let entries = provider.log();
    judge(&owed, &entries, &BTreeSet::new()).assert_kept();
    // The first ones are sent as they come, before the provider is known to be away.
    let order: Vec<u64> = entries
        .iter()
        .filter(|entry| entry.accepted)
        .filter_map(|entry| entry.room.as_ref()?.parse().ok())
        .collect();
    let count = |from: u64| order[..96].iter().filter(|room| (from..from + 1_000).contains(*room)).count();
    let shares = [count(1_000), count(2_000), count(3_000)];
    assert!(
        shares[0] > shares[1] && shares[1] > shares[2] && shares[2] >= 4,
        "8 : 3 : 1 of 96, not {shares:?}"
    );
    assert!((58..=72).contains(&shares[0]), "8 of 12 parts of 96 are 64, not {shares:?}");
}
