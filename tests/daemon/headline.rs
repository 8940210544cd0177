//! One room of fifty gets nothing delivered: the others go on past it until its bound is full, then
//! only the partition that holds it pauses, and the status says so. Once it recovers, all arrives.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{Bed, Event, line_route};
use crate::support::ask_until;
use crate::support::daemon::Daemon;
use crate::support::kafka::Record;
use crate::support::oracle::{Owed, judge};
use crate::support::provider::{Entry, Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);
const ROOMS: u64 = 50;
const PARTITIONS: u64 = 4;
const STUCK: u64 = 1_001;
/// Events go out ten times a second: so many for the stuck room, and as many for the others.
const EACH: u64 = 50;
const SLOT: Duration = Duration::from_millis(100);
/// Five seconds at 500 a second: two more than it takes to fill `max_waiting_per_room`.
const SLOTS: u64 = 50;
/// In so many slots the room is surely not full yet.
const BEFORE: u64 = 15;

/// Where a room's events are, and how many it got so far.
struct Rooms {
    sent: Vec<u64>,
    owed: BTreeSet<Owed>,
}

fn partition(room: u64) -> u64 {
    (room - STUCK) % PARTITIONS
}

impl Rooms {
    fn new() -> Self {
        Self { sent: vec![0; usize::try_from(ROOMS).expect("few")], owed: BTreeSet::new() }
    }

    fn next(&mut self, room: u64) -> (u64, Owed) {
        let sent = &mut self.sent[usize::try_from(room - STUCK).expect("a room")];
        let owed = Owed { room: room.to_string(), sequence: *sent };
        *sent += 1;
        self.owed.insert(owed.clone());
        (room, owed)
    }

    /// One slot of the load.
    fn slot(&mut self, slot: u64) -> Vec<(u64, Owed)> {
        let mut events = Vec::new();
        for n in 0..EACH {
            events.push(self.next(STUCK));
            events.push(self.next(STUCK + 1 + (slot * EACH + n) % (ROOMS - 1)));
        }
        events
    }

    /// How many events rooms of this kind got.
    fn sent_to(&self, kind: impl Fn(u64) -> bool) -> u64 {
        self.sent.iter().zip(STUCK..).filter(|(_, room)| kind(*room)).map(|(sent, _)| *sent).sum()
    }
}

/// Publishes at once.
fn publish(bed: &Bed, events: impl IntoIterator<Item = (u64, Owed)>) {
    match bed {
        Bed::Kafka { kafka, topic } => kafka.produce(
            topic,
            events.into_iter().map(|(room, owed)| {
                let Event { key, value, .. } = Event::line(&owed);
                let partition = i32::try_from(partition(room)).ok();
                Record { partition, key, value, headers: Vec::new() }
            }),
        ),
        Bed::Nats(_) => bed.publish(events.into_iter().map(|(_, owed)| Event::line(&owed))),
    }
}

/// Hands events out at their pace, one slot after another, from the first one on.
fn paced<'a>(
    events: &'a [(u64, Owed)],
    began: &'a OnceLock<Instant>,
) -> impl Iterator<Item = (u64, Owed)> + 'a {
    events.iter().enumerate().map(|(n, event)| {
        let slot = u32::try_from(n as u64 / (2 * EACH)).expect("few");
        let due = *began.get_or_init(Instant::now) + SLOT * slot;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        event.clone()
    })
}

/// Accepted messages of rooms of this kind.
fn accepted(entries: &[Entry], kind: impl Fn(u64) -> bool) -> u64 {
    let rooms = entries.iter().filter(|entry| entry.accepted).filter_map(|entry| entry.room.as_ref());
    rooms.filter_map(|room| room.parse().ok()).filter(|room| kind(*room)).count() as u64
}

/// A measured figure, for people.
fn tell(figure: &str) {
    writeln!(std::io::stderr(), "{figure}").expect("stderr is there");
}

struct Run {
    provider: Provider,
    daemon: Daemon,
    rooms: Rooms,
    /// From the first event until the partition paused.
    paused_after: Duration,
    sent_before: u64,
}

/// A provider that delivers everything but what is for the stuck room, and a daemon.
fn start(bed: &Bed, limits: &str) -> (Provider, Daemon) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let quota = "timeout = \"1s\"\nquota = { calls_per_second = 3000, room_messages_per_second = 1000 }";
    let config = [
        format!("[limits]\n{limits}\n\n"),
        "[retry]\nmax = \"1s\"\nmax_attempts = 1_000\n\n".to_owned(),
        provider.account("match", quota),
        bed.source(""),
        line_route("match", ""),
    ];
    let room = [STUCK.to_string()];
    provider.set_faults(&json!([
        {"effect": {"answer": {"status": 503}}, "rooms": room, "probability": 0.5},
        {"effect": "black_hole_before", "rooms": room},
    ]));
    let daemon = Daemon::start_ready(&config.concat());
    (provider, daemon)
}

/// Publishes past the moment at which the stuck room is full.
fn run(bed: &Bed) -> Run {
    let (provider, daemon) = start(bed, "");
    let mut rooms = Rooms::new();
    let mut events = Vec::new();
    let mut sent_before = 0;
    for slot in 0..SLOTS {
        events.extend(rooms.slot(slot));
        if slot + 1 == BEFORE {
            sent_before = rooms.sent_to(|room| room != STUCK && partition(room) == 0);
        }
    }
    let began: OnceLock<Instant> = OnceLock::new();
    let paused_after = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            ask_until("the partition to pause", PATIENCE, || {
                let began = began.get()?;
                (paused(&daemon) > 0.0).then(|| began.elapsed())
            })
        });
        publish(bed, paced(&events, &began));
        watch.join().expect("it pauses")
    });
    let name = if matches!(bed, Bed::Kafka { .. }) { "Kafka" } else { "JetStream" };
    tell(&format!(
        "{name}: a room at {} events a second held its partition after {paused_after:?}",
        EACH * 10
    ));
    assert!(paused_after >= Duration::from_millis(1_900), "1,000 messages at 500 a second take 2 s");
    assert!(
        paused_after < SLOT * u32::try_from(SLOTS).expect("few"),
        "while the load goes on: {paused_after:?}"
    );
    Run { provider, daemon, rooms, paused_after, sent_before }
}

fn paused(daemon: &Daemon) -> f64 {
    daemon.metric("roomcast_paused_partitions", "bound=\"max_waiting_per_room\"").unwrap_or(0.0)
}

/// The one entry of the status, which must be about the stuck room.
fn told(daemon: &Daemon, partition: &str) -> Value {
    let status = daemon.status().expect("the daemon answers");
    let paused = status["sources"][0]["paused"].as_array().expect("a list").clone();
    assert_eq!(paused.len(), 1, "one partition pauses: {paused:?}");
    assert_eq!(paused[0]["partition"], partition);
    assert_eq!(paused[0]["bounds"], json!(["max_waiting_per_room"]));
    let room = &paused[0]["rooms"][0];
    let place = (&room["account"], &room["path"], &room["room"], &room["priority"]);
    assert_eq!(place, (&"match".into(), &"room".into(), &STUCK.to_string().into(), &"normal".into()));
    assert!(
        room["messages"].as_u64() >= Some(1_000) && room["oldest_seconds"].as_f64() >= Some(1.0),
        "{room}"
    );
    assert_eq!(status["fullest_room"]["room"], STUCK.to_string());
    assert_eq!(status["fullest_room"]["max_waiting_per_room"], 1_000);
    assert!(paused[0]["since"].as_str().is_some_and(|since| since.starts_with("20")), "{paused:?}");
    paused[0].clone()
}

/// Ends the faults; everything arrives, in order.
fn recover(bed: &Bed, mut run: Run) {
    run.provider.set_faults(&json!([]));
    bed.await_finished(PATIENCE);
    ask_until("the partition to go on", PATIENCE, || (paused(&run.daemon) == 0.0).then_some(()));
    let status = run.daemon.status().expect("the daemon answers");
    assert_eq!(status["sources"][0]["paused"], json!([]));
    assert_eq!(run.daemon.stop().code(), Some(0));
    let judgement = judge(&run.rooms.owed, &run.provider.log(), &BTreeSet::new());
    judgement.assert_kept();
    assert_eq!((judgement.repeated_marked, judgement.repeated_unmarked.len()), (0, 0));
    assert!(bed.letters_if_any().is_empty(), "it was only away for a while");
}

#[test]
fn p5_a_stuck_room_of_fifty_stops_only_its_partition_and_is_named() {
    let bed = Bed::kafka();
    let mut run = run(&bed);
    let apart = |room: u64| partition(room) != 0;
    let beside = |room: u64| room != STUCK && partition(room) == 0;
    // The stuck room is still stuck, and every event of the other partitions is delivered.
    let sent = run.rooms.sent_to(apart);
    let entries = ask_until("the other partitions", PATIENCE, || {
        let entries = run.provider.log();
        (accepted(&entries, apart) == sent).then_some(entries)
    });
    assert_eq!(accepted(&entries, |room| room == STUCK), 0);
    let passed = accepted(&entries, beside);
    assert!(passed >= run.sent_before, "{passed} of {} went past the stuck room", run.sent_before);
    assert!(passed < run.rooms.sent_to(beside), "until its partition paused after {:?}", run.paused_after);
    let told = told(&run.daemon, &format!("{}/0", bed.topic()));
    let cause = told["rooms"][0]["cause"].as_str().expect("a word");
    assert!(["backoff", "answer"].contains(&cause), "{told}");
    let held = told["held_records"].as_u64().expect("a number");
    let part = told["part_of_max_held_records"].as_u64();
    assert!((1_000..2_000).contains(&held) && part == Some(12_500), "{told}");
    let is_told = |line: &crate::support::process::Line| {
        line.text.contains("intake pauses") && line.text.contains(&format!("\"{STUCK}\""))
    };
    run.daemon.process().await_line_from(0, "a line that names the room", PATIENCE, is_told);
    // More for everybody else: it goes on.
    let more: Vec<_> = (0..10)
        .flat_map(|_| (STUCK + 1..STUCK + ROOMS).filter(|room| apart(*room)))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|room| run.rooms.next(room))
        .collect();
    let before = accepted(&entries, apart) + more.len() as u64;
    publish(&bed, more);
    ask_until("the other partitions to go on", PATIENCE, || {
        (accepted(&run.provider.log(), apart) == before).then_some(())
    });
    recover(&bed, run);
}

#[test]
fn p5_on_jetstream_the_consumer_pauses_and_says_because_of_whom() {
    let bed = Bed::nats();
    let run = run(&bed);
    let others = |room: u64| room != STUCK;
    let entries = ask_until("what was taken before the pause", PATIENCE, || {
        let entries = run.provider.log();
        (accepted(&entries, others) >= run.sent_before).then_some(entries)
    });
    assert_eq!(accepted(&entries, |room| room == STUCK), 0);
    let told = told(&run.daemon, crate::bed::STREAM);
    let cause = told["rooms"][0]["cause"].as_str().expect("a word");
    // Where nothing else is sent, nothing shows that the account works.
    assert!(["backoff", "answer", "outage"].contains(&cause), "{told}");
    recover(&bed, run);
}

/// The stuck room and others share a partition; limits make it stand at one bound after the other.
#[test]
fn p5_each_bound_stops_the_partition_that_stands_at_it_and_no_other() {
    // Parts of a fourth. For the last, the commit must have room for all that was received.
    for (limits, bound, count) in [
        ("max_held_records = 1000", "max_held_records", 600),
        ("max_held_bytes = \"4MiB\"\nmax_waiting_per_room = 100_000", "max_held_bytes", 3_000),
        ("max_held_records = 200_000\nmax_waiting_per_room = 100_000", "commit_metadata", 24_000),
    ] {
        let bed = Bed::kafka();
        let (provider, mut daemon) = start(&bed, limits);
        let mut rooms = Rooms::new();
        let beside: Vec<u64> = (STUCK + 1..STUCK + ROOMS).filter(|room| partition(*room) == 0).collect();
        let event = |n: usize| if n.is_multiple_of(2) { STUCK } else { beside[n / 2 % beside.len()] };
        let events: Vec<_> = (0..count).map(|n| rooms.next(event(n))).collect();
        publish(&bed, events);
        let told = ask_until(&format!("a partition at {bound}"), PATIENCE, || {
            let status = daemon.status()?;
            let paused = status["sources"][0]["paused"].as_array()?.first()?.clone();
            (paused["bounds"] == json!([bound])).then_some(paused)
        });
        assert_eq!(told["partition"], format!("{}/0", bed.topic()));
        assert_eq!(told["rooms"][0]["room"], STUCK.to_string(), "{told}");
        assert!(daemon.metric("roomcast_paused_partitions", bound) == Some(1.0), "{told}");
        assert_eq!(daemon.metric("roomcast_intake_open", "source=\"main\""), Some(1.0));
        let more: Vec<_> = (0..400).map(|n| rooms.next(STUCK + 1 + n % 3)).collect();
        publish(&bed, more);
        ask_until("the other partitions", PATIENCE, || {
            (accepted(&provider.log(), |room| partition(room) != 0) == 400).then_some(())
        });
        if bound == "commit_metadata" {
            let bytes = told["commit_metadata_bytes"].as_u64();
            assert!(bytes >= Some(3_072) && bytes < Some(4_096), "{told}");
            let passed = ask_until("what was received to be finished", PATIENCE, || {
                let passed = accepted(&provider.log(), |room| partition(room) == 0);
                (passed >= 9_000).then_some(passed)
            });
            tell(&format!("the commit's metadata was full with {passed} finished behind the stuck room"));
            assert!((9_000..12_000).contains(&passed), "half of 18,300, and what was on its way: {passed}");
        }
        provider.set_faults(&json!([]));
        bed.await_finished(PATIENCE);
        assert_eq!(daemon.stop().code(), Some(0));
        judge(&rooms.owed, &provider.log(), &BTreeSet::new()).assert_kept();
    }
}
