//! The test helpers, tested: an oracle that finds nothing, or a broker that was never really
//! killed, would make every other test a lie.

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use async_nats::HeaderMap;
use support::kafka::{Kafka, Record};
use support::nats::Nats;
use support::oracle::{self, Judgement, Owed, judge};
use support::process::Process;
use support::provider::Entry;
use support::{daemon, unique};

const SECONDS: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Process::start("sh", command)
}

fn owed(room: &str, sequence: u64) -> Owed {
    Owed { room: room.to_owned(), sequence }
}

fn entry(event: &Owed, id: &str) -> Entry {
    Entry {
        seq: 0,
        call: 0,
        at_ns: 0,
        path: "room".to_owned(),
        room: Some(event.room.clone()),
        id: Some(id.to_owned()),
        resend: false,
        priority: "normal".to_owned(),
        content: format!("{{\"msg\":\"{}\"}}", event.token()),
        reason: "accepted".to_owned(),
        accepted: true,
    }
}

/// Three events of one room, accepted in order.
fn good() -> (BTreeSet<Owed>, Vec<Entry>) {
    let events: BTreeSet<_> = (0..3).map(|sequence| owed("r", sequence)).collect();
    let entries = events.iter().map(|event| entry(event, &event.sequence.to_string())).collect();
    (events, entries)
}

#[test]
fn the_oracle_is_content_with_a_good_run() {
    let (events, entries) = good();
    let judgement = judge(&events, &entries, &BTreeSet::new());
    judgement.assert_kept();
    assert_eq!(judgement, Judgement::default());
}

#[test]
fn the_oracle_finds_each_planted_fault() {
    let none = BTreeSet::new();
    let verdict = |change: fn(&mut Vec<Entry>)| {
        let (events, mut entries) = good();
        change(&mut entries);
        judge(&events, &entries, &none)
    };
    assert_eq!(verdict(|entries| drop(entries.remove(1))).lost, ["[[r#1]]"]);
    assert_eq!(verdict(|entries| entries.swap(0, 1)).disordered, ["[[r#0]]"]);
    assert_eq!(verdict(|entries| entries.push(entries[0].clone())).repeated_unmarked, ["[[r#0]]"]);
    assert_eq!(verdict(|entries| entries[2].room = Some("s".to_owned())).strange, ["[[r#2]]"]);
    assert_eq!(verdict(|entries| entries.push(entry(&owed("q", 9), "9"))).strange, ["[[q#9]]"]);
    let marked = verdict(|entries| entries.push(Entry { resend: true, ..entries[0].clone() }));
    assert_eq!((marked.repeated_marked, marked.repeated_unmarked.len(), marked.disordered.len()), (1, 0, 0));
    let other_id = verdict(|entries| entries.push(entry(&owed("r", 0), "other")));
    assert_eq!(other_id.ids_changed, ["[[r#0]]"]);
    let refused = verdict(|entries| {
        entries[1].accepted = false;
        entries[1].reason = "throttled".to_owned();
    });
    assert_eq!(
        (refused.lost.as_slice(), refused.refused["throttled"]),
        (["[[r#1]]".to_owned()].as_slice(), 1)
    );
}

#[test]
fn the_oracle_lets_priorities_overtake_each_other_and_excuses_letters() {
    let (events, mut entries) = good();
    entries[2].priority = "high".to_owned();
    entries.swap(0, 2);
    entries.swap(1, 2);
    judge(&events, &entries, &BTreeSet::new()).assert_kept();
    entries.remove(0);
    judge(&events, &entries, &[owed("r", 2)].into()).assert_kept();
}

#[test]
fn the_busiest_second_slides() {
    let arrivals = [0, 900, 999, 1_000, 1_850, 5_000].map(|ms: u64| ms * 1_000_000);
    assert_eq!(oracle::busiest(arrivals, Duration::from_secs(1)), 4, "900, 999, 1,000 and 1,850");
    let (_, mut entries) = good();
    entries[2].call = 1;
    assert_eq!(oracle::calls(&entries, "room").count(), 2, "siblings share a call");
    assert_eq!(oracle::messages_of(&entries, "r").count(), 3);
}

#[test]
fn a_process_is_heard_signalled_and_awaited() {
    let mut process =
        shell("trap 'echo bye; exit 3' TERM; echo one; echo two >&2; while :; do sleep 0.05; done");
    process.await_line("one", SECONDS);
    assert_eq!(process.await_line_from(0, "stderr", SECONDS, |line| !line.stdout), "two");
    let mark = process.mark();
    assert_eq!(process.find_line(mark, Duration::ZERO, |_| true), Err("took longer than 0ns".to_owned()));
    process.signal(libc::SIGTERM);
    process.await_line_from(mark, "a farewell", SECONDS, |line| line.text == "bye");
    assert_eq!(process.await_end(SECONDS).code(), Some(3));
    assert_eq!(process.find_line(process.mark(), SECONDS, |_| true), Err("ended".to_owned()));
}

#[test]
fn a_dropped_process_is_gone() {
    let process = shell("exec sleep 600");
    let pid = i32::try_from(process.pid()).expect("process ids are small");
    drop(process);
    // SAFETY: kill(2) with signal 0 only asks whether the process is there.
    assert_eq!(unsafe { libc::kill(pid, 0) }, -1);
}

#[test]
fn metrics_are_summed_over_label_sets() {
    let text = "# TYPE a counter\na_total{x=\"1\",y=\"b c\"} 2\na_total{x=\"2\"} 3.5\na_total_more 9\nb 7\n";
    assert_eq!(daemon::metric(text, "a_total", ""), Some(5.5));
    assert_eq!(daemon::metric(text, "a_total", "x=\"1\""), Some(2.0));
    assert_eq!(daemon::metric(text, "b", ""), Some(7.0));
    assert_eq!(daemon::metric(text, "c", ""), None);
}

fn record(key: &str, value: &str) -> Record {
    Record { key: Some(key.into()), value: Some(value.into()), ..Record::default() }
}

#[test]
fn the_shared_kafka_keeps_the_order_of_a_key_on_a_new_topic() {
    let kafka = Kafka::shared();
    let topic = unique("harness");
    kafka.create_topic(&topic, 12, &[]);
    let sent = (0..20_000).map(|n| record(&format!("room-{}", n % 40), &n.to_string()));
    kafka.produce(&topic, sent);
    let held = kafka.read(&topic);
    assert_eq!(held.len(), 20_000);
    let mut newest = std::collections::BTreeMap::new();
    for held in &held {
        let text = String::from_utf8(held.record.value.clone().expect("a value")).expect("text");
        let number: u64 = text.parse().expect("a number");
        let before = newest.insert(held.record.key.clone(), (held.partition, number));
        assert!(before.is_none_or(|(partition, before)| partition == held.partition && before < number));
    }
    assert_eq!(newest.len(), 40);
    assert!(kafka.committed(&unique("nobody"), &topic).is_empty());
}

#[test]
fn a_private_kafka_survives_kill_9() {
    let mut kafka = Kafka::start(&[]);
    kafka.create_topic("kept", 3, &[("max.message.bytes", "12000000")]);
    let tombstone = Record { key: Some(b"k".to_vec()), partition: Some(2), ..Record::default() };
    let headers = vec![("h".to_owned(), vec![0xff]), ("h".to_owned(), b"2".to_vec())];
    let large = Record { value: Some(vec![b'x'; 10_000_000]), partition: Some(0), headers, key: None };
    kafka.produce("kept", [tombstone.clone(), large.clone()]);
    kafka.kill();
    kafka.restart();
    let held = kafka.read("kept");
    assert_eq!(held.len(), 2);
    assert!(held[0].record == Record { partition: None, ..large }, "the large one, with its headers");
    assert_eq!(held[1].record, Record { partition: None, ..tombstone });
    assert_eq!(kafka.ends("kept").into_values().collect::<Vec<_>>(), [1, 0, 1]);
}

#[test]
fn a_private_nats_server_survives_kill_9() {
    let mut nats = Nats::start();
    nats.create_stream("KEPT", &["kept.>"]);
    let mut headers = HeaderMap::new();
    headers.insert("Room", "r1");
    let sent = (0..2_000).map(|n| (format!("kept.{n}"), headers.clone(), n.to_string().into_bytes()));
    nats.publish(sent);
    nats.kill();
    nats.restart();
    let held = nats.read("KEPT");
    assert_eq!(held.len(), 2_000);
    for (n, held) in (0_u64..).zip(&held) {
        assert_eq!((held.sequence, &held.subject), (n + 1, &format!("kept.{n}")));
        assert_eq!(held.payload, n.to_string().into_bytes());
        assert_eq!(held.headers.get("Room").map(async_nats::HeaderValue::as_str), Some("r1"));
    }
}
