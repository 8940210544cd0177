//! The loop with a source that is two channels and a server that speaks raw HTTP.

mod directories;
mod reload;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use self::world::{EPOCH, Options, PARTITION, SOURCE, Treat, start};
use super::*;
use crate::broker::Status;
use crate::core::model::AccountId;
use crate::core::model::{Class, Path};
use crate::core::provider::Acceptance;
use crate::core::schedule::status::{Fate, GateCause, GateState};
use crate::core::share::lease::{News, Told};
use crate::core::share::{Grant, Growth, Standing};

#[tokio::test]
async fn every_record_is_settled_and_rooms_keep_their_order_through_an_inbox_of_one() {
    const RECORDS: i64 = 2_000;
    let options = Options { inbox: 1, held: 100, ..Options::default() };
    let mut world = start(|_| Treat::Answer(200), options).await;
    let inbox = world.inbox.clone();
    // A source that waits for a place in the inbox while the driver tells it things.
    let feeding = tokio::spawn(async move {
        for n in 0..RECORDS {
            let record = world::record(n, &format!("room-{}", n % 40), &n.to_string());
            inbox.send(Arrival::Record(record)).await.unwrap();
        }
    });
    let mut settled = BTreeSet::new();
    while settled.len() < usize::try_from(RECORDS).unwrap() {
        assert!(settled.insert(world.settled().await), "a record is settled once");
    }
    feeding.await.unwrap();
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    let log = world.log.lock().unwrap().clone();
    assert_eq!(log.len(), settled.len());
    for body in log {
        let (room, n) = body.split_once(':').unwrap();
        let n: i64 = n.parse().unwrap();
        assert!(last.insert(room.to_owned(), n).is_none_or(|before| before < n), "order of {room}");
    }
    let report = world.handle.report().await.unwrap();
    let delivered = (Some(AccountId(0)), Fate::Accepted(Acceptance::Plain));
    assert_eq!(report.snapshot.fates[&delivered], 2_000);
    assert_eq!(report.accounts[0].outcomes[Path::Room as usize][0], 2_000);
    assert_eq!(report.accounts[0].durations[Path::Room as usize].count(), 2_000);
    assert_eq!(report.snapshot.sources[0].held_records, 0);
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn a_full_source_is_told_to_pause_and_to_go_on() {
    let options = Options { held: 10, ..Options::default() };
    let mut world = start(|_| Treat::Slow(20), options).await;
    for n in 0..10 {
        world.send(n, "one", "x").await;
    }
    let mut intake = Vec::new();
    let mut settled = 0;
    while settled < 10 {
        match world.commands.recv().await.unwrap() {
            Command::Intake(open) => intake.push(open),
            Command::Settle(_) => settled += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(intake, [false, true]);
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn a_letter_is_written_until_it_is_confirmed_and_only_then_the_record_settles() {
    let options = Options { refuse_letters: 2, ..Options::default() };
    let mut world =
        start(|body| Treat::Answer(if body.contains("poison") { 400 } else { 200 }), options).await;
    world.send(1, "a", "garbled").await;
    world.send(2, "b", "poison").await;
    world.send(3, "b", "fine").await;
    let mut settled = vec![world.settled().await, world.settled().await, world.settled().await];
    settled.sort_unstable();
    assert_eq!(settled, [1, 2, 3]);
    let report = world.handle.report().await.unwrap();
    assert_eq!((report.sources[0].letter_failures, report.snapshot.letters_waiting), (2, 0));
    let letters = world.shelf.letters.lock().unwrap().clone();
    let classes: BTreeSet<_> = letters
        .iter()
        .map(|letter| letter.headers.iter().find(|(name, _)| &**name == "roomcast-class").unwrap().1.clone())
        .collect();
    assert_eq!(classes, BTreeSet::from([Bytes::from("garbled"), Bytes::from("rejected")]));
    assert_eq!(report.snapshot.fates.get(&(Some(AccountId(0)), Fate::Buried(Class::Garbled))), Some(&1));
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn letters_that_cannot_be_written_stay_and_do_not_flood() {
    let options =
        Options { refuse_letters: u32::MAX, drain: Duration::from_millis(300), ..Options::default() };
    let world = start(|_| Treat::Answer(200), options).await;
    for n in 0..300 {
        world.send(n, "a", "garbled").await;
    }
    let waiting = async {
        loop {
            let report = world.handle.report().await.unwrap();
            if report.sources[0].letter_failures >= 300 {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let report = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    assert_eq!((report.snapshot.letters_waiting, report.snapshot.sources[0].held_records), (300, 300));
    assert!(world.shelf.most_at_once.load(Ordering::SeqCst) <= 64);
    let shelf = world.shelf.clone();
    assert_eq!(world.stop().await, Ended::TimedOut);
    assert_eq!(shelf.letters.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_stop_waits_for_the_call_away_and_sends_nothing_new() {
    let mut world = start(|_| Treat::Slow(400), Options::default()).await;
    world.send(1, "a", "first").await;
    world.seen(1).await;
    world.send(2, "a", "second").await;
    world.handle.stop();
    world.send(3, "b", "third").await;
    assert_eq!(world.settled().await, 1);
    assert_eq!(world.command().await, Command::Stop);
    world.ended.take().unwrap().send(Ok(())).unwrap();
    assert_eq!(world.running.await.unwrap(), Ended::Drained);
    assert_eq!(*world.log.lock().unwrap(), ["a:first"]);
}

#[tokio::test]
async fn a_stop_takes_no_longer_than_the_drain_and_the_sources_may() {
    let options =
        Options { drain: Duration::from_millis(200), timeout: Duration::from_secs(30), ..Options::default() };
    let mut world = start(|_| Treat::Hold, options).await;
    world.send(1, "a", "first").await;
    world.seen(1).await;
    let began = Instant::now();
    world.handle.stop();
    assert_eq!(world.command().await, Command::Stop);
    assert!(began.elapsed() >= Duration::from_millis(200));
    // The source never says that it has ended.
    assert_eq!(world.running.await.unwrap(), Ended::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_source_that_cannot_commit_at_the_end_is_not_a_clean_end() {
    let mut world = start(|_| Treat::Answer(200), Options::default()).await;
    world.handle.stop();
    assert_eq!(world.command().await, Command::Stop);
    world.ended.take().unwrap().send(Err("the last commit failed".to_owned())).unwrap();
    assert_eq!(world.running.await.unwrap(), Ended::TimedOut);
}

#[tokio::test]
async fn a_login_comes_before_the_first_call() {
    let options = Options { login: true, ..Options::default() };
    let mut world = start(|_| Treat::Answer(200), options).await;
    world.send(1, "a", "x").await;
    assert_eq!(world.settled().await, 1);
    assert_eq!(*world.log.lock().unwrap(), ["login", "a:x"]);
    assert_eq!(world.handle.report().await.unwrap().accounts[0].logins, [1, 0]);
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn a_panic_in_a_call_is_an_outcome_and_the_next_record_flows() {
    let mut world = start(|_| Treat::Answer(200), Options::default()).await;
    // What was accepted in between makes the failures count against the messages.
    for n in 0..40 {
        let value = match n {
            10 => "panic before the call",
            20 => "panic after the call",
            _ => "x",
        };
        world.send(n, &format!("room-{n}"), value).await;
    }
    let mut settled = BTreeSet::new();
    for _ in 0..38 {
        settled.insert(world.settled().await);
    }
    assert!(settled.iter().all(|n| *n != 10 && *n != 20), "{settled:?}");
    let outcomes = world.handle.report().await.unwrap().accounts[0].outcomes[Path::Room as usize];
    assert_eq!(outcomes[0], 38);
    assert!(outcomes[5] >= 1 && outcomes[6] >= 1, "failed and uncertain: {outcomes:?}");
}

#[tokio::test]
async fn a_broadcast_is_counted_in_the_table_before_it_is_called() {
    let day = Clock::start().wall().utc_day();
    let row = |holder: &str, calls: u32| {
        let value = format!("{{\"calls\":{calls},\"last\":{}}}", day * 86_400_000);
        (format!("count/acme/broadcast/{day}/{holder}"), Bytes::from(value))
    };
    let stale = (format!("count/acme/broadcast/{}/x", day - 1), Bytes::from("{\"calls\":90,\"last\":0}"));
    let foreign = (format!("count/other/broadcast/{day}/x"), Bytes::from("{\"calls\":90,\"last\":0}"));
    // 97 of 100 are used, by two earlier holders.
    let rows = vec![row("x", 60), stale, foreign, row("y", 37), ("letter/1".to_owned(), Bytes::from("open"))];
    let options = Options { rows, ..Options::default() };
    let mut world = start(|_| Treat::Answer(200), options).await;
    for n in 1..=4 {
        world.send(n, "*", &n.to_string()).await;
    }
    for n in 1..=3 {
        assert_eq!(world.settled().await, n);
    }
    assert_eq!(*world.log.lock().unwrap(), [":1", ":2", ":3"], "the fourth is above the quota of the day");
    let rows = world.shelf.rows.lock().unwrap().clone();
    let own: Vec<_> = rows[5..]
        .iter()
        .map(|(key, value)| {
            assert!(key.starts_with(&format!("count/acme/broadcast/{day}/")), "{key}");
            let row: serde_json::Value = serde_json::from_slice(value).unwrap();
            row["calls"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(own, [1, 2, 3], "rows count what this process called");
    assert_eq!(*world.shelf.calls_at_put.lock().unwrap(), [0, 1, 2], "each was written before its call");
}

#[tokio::test]
async fn a_revoked_partition_is_released_when_its_call_has_answered() {
    let mut world = start(|_| Treat::Slow(300), Options::default()).await;
    world.send(1, "a", "first").await;
    world.seen(1).await;
    world.send(2, "a", "second").await;
    world
        .inbox
        .send(Arrival::Revoking { source: SOURCE, partitions: vec![(PARTITION, EPOCH)] })
        .await
        .unwrap();
    assert_eq!(world.settled().await, 1);
    assert_eq!(world.command().await, Command::Released(PARTITION, EPOCH));
    assert!(world.handle.report().await.unwrap().sources[0].partitions.is_empty());
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn ready_once_joined_and_live_until_a_source_ends_by_itself() {
    let mut world = start(|_| Treat::Answer(200), Options::default()).await;
    let status = |status| Arrival::Status { source: SOURCE, status };
    let report = world.handle.report().await.unwrap();
    assert_eq!(report.sources[0].state, SourceState::Starting);
    assert!(world.handle.is_live() && !world.handle.is_ready());
    world.inbox.send(status(Status::Ready)).await.unwrap();
    world.inbox.send(Arrival::Lag { source: SOURCE, records: 17 }).await.unwrap();
    world.inbox.send(status(Status::Waiting("no broker".to_owned()))).await.unwrap();
    while world.handle.report().await.unwrap().sources[0].state.word() != "waiting" {
        tokio::task::yield_now().await;
    }
    assert!(world.handle.is_live() && world.handle.is_ready(), "once joined is enough");
    assert_eq!(world.handle.report().await.unwrap().sources[0].lag, Some(17));
    world.ended.take().unwrap().send(Err("fenced".to_owned())).unwrap();
    assert_eq!(world.running.await.unwrap(), Ended::TimedOut, "nothing is left to do");
    assert!(!world.handle.is_live());
    assert!(world.handle.report().await.is_none());
}

/// What the loop has of the room path's slots.
async fn slots(world: &world::World) -> u32 {
    world.handle.report().await.unwrap().snapshot.accounts[0][Path::Room as usize].share
}

#[tokio::test]
async fn a_share_by_partitions_follows_what_is_assigned() {
    const OTHER: PartitionId = PartitionId(PARTITION.0 + 1);
    let sharing = Sharing::Partitions(SOURCE);
    let options = Options { sharing, timeout: Duration::from_millis(200), ..Options::default() };
    let mut world = start(|_| Treat::Answer(200), options).await;
    world.send(1, "a", "first").await;
    let waits = loop {
        let room = world.handle.report().await.unwrap().snapshot.accounts[0][Path::Room as usize].clone();
        if room.waiting.share + room.waiting.quota > 0 {
            break room.waiting.share;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(waits, 1, "for its share, and it says so");
    assert_eq!(slots(&world).await, 0, "how many partitions there are was not told");
    let tell = |partitions, order: &[PartitionId]| Arrival::Assigned {
        source: SOURCE,
        partitions,
        order: Some(order.to_vec()),
    };
    world.inbox.send(tell(Vec::new(), &[PARTITION, OTHER])).await.unwrap();
    let began = Instant::now();
    assert_eq!(world.settled().await, 1);
    assert!(
        began.elapsed() >= Duration::from_millis(1_450),
        "{:?}: another may have had it",
        began.elapsed()
    );
    let report = world.handle.report().await.unwrap();
    assert_eq!(report.snapshot.accounts[0][Path::Room as usize].share, 50_000, "half of the quota");
    assert_eq!((report.shares[0].kind, &*report.shares[0].why), ("partitions", "1 of 2 partitions"));
    world.inbox.send(Arrival::Lost { source: SOURCE, partitions: vec![(PARTITION, EPOCH)] }).await.unwrap();
    while slots(&world).await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn leases_are_told_and_bans_go_both_ways() {
    let (told, hears) = mpsc::unbounded_channel();
    let (ban, mut bans) = mpsc::unbounded_channel();
    let account = AccountId(0);
    let options = Options {
        sharing: Sharing::Leased { source: SOURCE, bucket: "b".to_owned(), max_replicas: 2 },
        leases: Leases { told: Some(hears), keepers: vec![(account, ban)] },
        ..Options::default()
    };
    let mut world = start(|body| Treat::Answer(if body.ends_with("ban") { 429 } else { 200 }), options).await;
    let quotas = Quotas::new(&world::Plain::new("http://here").limits, false);
    let tell = |share, until, bans| Told {
        grant: Grant { share, growth: Growth::Fresh, lease: Some((until, quotas.none())) },
        standing: Standing { kind: "nats_kv", replicas: Some(2), why: String::new() },
        bans,
    };
    let now = Clock::start().mono();
    let long = now + Duration::from_secs(3_600);
    told.send((account, tell(quotas.fixed(4), long, Vec::new()))).unwrap();
    world.send(1, "a", "fine").await;
    assert_eq!(world.settled().await, 1);
    assert_eq!(slots(&world).await, 25_000);
    world.send(2, "b", "ban").await;
    let Some(News::Ban(path, wait)) = bans.recv().await else { panic!("no ban was told") };
    assert_eq!((path, wait), (Path::Room, Duration::from_secs(7)));
    let gate = |report: &Report, path: Path| report.snapshot.accounts[0][path as usize].gate.clone();
    let elsewhere = vec![(Path::Users, Duration::from_secs(5))];
    told.send((account, tell(quotas.fixed(4), now, elsewhere))).unwrap();
    let report = loop {
        let report = world.handle.report().await.unwrap();
        if gate(&report, Path::Users) != GateState::Open && slots(&world).await == 0 {
            break report;
        }
        tokio::task::yield_now().await;
    };
    let is_ban = |path| matches!(gate(&report, path), GateState::Closed { cause: GateCause::Ban, .. });
    assert!(is_ban(Path::Users) && is_ban(Path::Room), "and the lease has ended");
}
