//! Isolation (P5): what is stuck fills its own part and no other's, and is told of by name.

use std::time::Duration;

use super::status::{Bound, Cause, GateCause, Holdup};
use super::test_bed::{ACCEPTED, Bed, SOURCE, failed, message, settings};
use super::{Settings, SourceSettings};
use crate::core::model::{Epoch, PartitionId};
use crate::core::watermark::{METADATA_FULL, Watermark};

/// A source that may hold so many records.
fn holding(held_records: usize) -> Settings {
    Settings {
        sources: vec![SourceSettings { held_records, held_bytes: 256 << 20, is_answered: false }],
        ..settings()
    }
}

/// Records of a partition to a room until it pauses, or so many.
fn feed(bed: &mut Bed, partition: u32, room: &str, most: usize) -> usize {
    for n in 0..most {
        if !bed.intake || bed.paused.contains(&partition) {
            return n;
        }
        bed.record(partition, vec![message(room, "x", None)]);
    }
    most
}

fn told(bed: &Bed) -> Vec<Holdup> {
    bed.scheduler.holdups(SOURCE, &[], bed.now)
}

#[test]
fn p5_a_stuck_room_stops_its_partition_at_the_rooms_bound_and_no_other() {
    let mut bed = Bed::new(settings(), 4);
    assert_eq!(
        feed(&mut bed, 0, "stuck", 5_000),
        1_001,
        "max_waiting_per_room, and the one that found it full"
    );
    for n in 0..20_000 {
        let room = format!("other-{}", n % 49);
        assert_eq!(feed(&mut bed, 1 + n % 3, &room, 1), 1, "{n}: {:?} {}", bed.paused, bed.intake);
        bed.answer_room(&room, &ACCEPTED);
    }
    assert_eq!(bed.settled.len(), 20_000);
    let holdups = told(&bed);
    assert_eq!(holdups.len(), 1);
    let room = &holdups[0].rooms[0];
    assert_eq!((holdups[0].partition, &*holdups[0].bounds), (PartitionId(0), &[Bound::WaitingPerRoom][..]));
    assert_eq!((&*room.room.0, room.messages, room.cause), ("stuck", 1_001, Cause::Answer));
    assert_eq!(
        bed.scheduler.fullest_room().map(|(_, _, room, n)| (room.to_string(), n)),
        Some(("stuck".to_owned(), 1_001))
    );
    while !bed.away.is_empty() {
        bed.answer(&ACCEPTED);
    }
    assert_eq!((bed.settled.len(), bed.paused.len(), told(&bed).len()), (21_001, 0, 0));
    let order: Vec<i64> =
        bed.settled.iter().filter(|(partition, _)| *partition == 0).map(|(_, n)| *n).collect();
    assert_eq!(order, (0..1_001).collect::<Vec<_>>(), "in order");
}

#[test]
fn p5_partitions_that_are_stuck_leave_the_others_their_parts() {
    for stuck in 1..4_u32 {
        let mut bed = Bed::new(holding(1_000), 4);
        for partition in 0..stuck {
            let room = format!("stuck-{partition}");
            assert_eq!(feed(&mut bed, partition, &room, 5_000), 250, "a fourth of 1,000");
        }
        // The others go up and down between empty and full, time and again.
        for _ in 0..5 {
            for partition in stuck..4 {
                let fed = feed(&mut bed, partition, &format!("room-{partition}"), 5_000);
                assert!(fed >= 240, "{stuck} stuck: partition {partition} took {fed} of its 250");
            }
            for partition in stuck..4 {
                bed.answer_room(&format!("room-{partition}"), &ACCEPTED);
            }
            assert!(bed.intake, "{stuck} stuck: the source goes on");
            assert_eq!(bed.paused.len(), stuck as usize);
        }
        let held = bed.scheduler.snapshot(bed.now).sources[0];
        assert_eq!((held.held_records, held.paused_at), (250 * stuck as usize, [0, stuck as usize, 0, 0, 0]));
    }
}

#[test]
fn p10_a_partition_that_waits_for_keys_says_how_many() {
    use crate::core::model::{DirectoryId, Plan, Wait};
    let mut bed = Bed::new(Settings { max_waiting_per_room: 2, ..holding(1_000) }, 1);
    for text in ["a", "b", "c"] {
        bed.one("full", text, None);
    }
    for _ in 0..2 {
        let wait = Wait { directory: DirectoryId(0), key: "k".into(), at_most: None, error: String::new() };
        bed.planned(0, Plan { waits: Some(Box::new(wait)), ..super::test_bed::plan(Vec::new()) });
    }
    let holdups = told(&bed);
    assert_eq!(holdups.len(), 1);
    assert_eq!((holdups[0].waiting_for_keys, holdups[0].letters), (2, 0));
}

#[test]
fn p10_a_partition_that_waits_for_letters_says_how_many() {
    use crate::core::model::{BaseId, Class, Failure};
    let mut bed = Bed::new(Settings { max_waiting_per_room: 2, ..holding(1_000) }, 1);
    bed.hold_letters = true;
    for text in ["a", "b", "c"] {
        bed.one("full", text, None);
    }
    for _ in 0..2 {
        let (base, class, rooms) = (BaseId(uuid::Uuid::nil()), Class::Mapping, Vec::new());
        let failure = Failure { base, class, error: String::new(), rooms };
        bed.record_with(0, Vec::new(), vec![failure]);
    }
    let holdups = told(&bed);
    assert_eq!((holdups.len(), holdups[0].letters, holdups[0].held_records), (1, 2, 5));
}

#[test]
fn p5_bytes_are_divided_like_records() {
    let bytes = 8 << 20;
    let settings = Settings {
        sources: vec![SourceSettings { held_records: 50_000, held_bytes: bytes, is_answered: false }],
        ..settings()
    };
    let mut bed = Bed::new(settings, 4);
    let mut stuck = 0;
    while !bed.paused.contains(&0) {
        bed.record(0, vec![message(&format!("stuck-{}", stuck % 10), &"x".repeat(10_000), None)]);
        stuck += 1;
    }
    let held = bed.scheduler.snapshot(bed.now).sources[0];
    assert!((bytes / 4..bytes / 4 + 12_000).contains(&held.held_bytes), "{held:?}");
    assert_eq!((held.paused_at, bed.intake), ([0, 0, 1, 0, 0], true));
    assert_eq!(feed(&mut bed, 1, "other", 900), 900);
    let holdups = told(&bed);
    assert_eq!(holdups.iter().map(|holdup| &*holdup.bounds).collect::<Vec<_>>(), [[Bound::HeldBytes]]);
    assert_eq!((holdups[0].rooms_waiting, holdups[0].rooms.len()), (10, 3));
}

#[test]
fn parts_follow_the_partitions_that_are_ours() {
    let mut bed = Bed::new(holding(1_000), 4);
    assert_eq!(feed(&mut bed, 0, "stuck", 5_000), 250);
    let gone: Vec<_> = (1..4).map(|n| (PartitionId(n), Epoch(1))).collect();
    bed.scheduler.handle_revoking(SOURCE, &gone[..2], bed.now);
    bed.pass(Duration::ZERO);
    assert_eq!(bed.paused, Vec::<u32>::new(), "250 is half of one of two parts");
    assert_eq!(feed(&mut bed, 0, "stuck", 5_000), 250);
    bed.scheduler.handle_lost(SOURCE, &gone[2..], bed.now);
    bed.pass(Duration::ZERO);
    assert_eq!((feed(&mut bed, 0, "stuck", 5_000), bed.intake), (500, false), "alone it may hold all");
    let holdups = told(&bed);
    assert_eq!((holdups.len(), &*holdups[0].bounds), (1, &[Bound::HeldRecords][..]));
    assert!(holdups[0].since.is_some());
    bed.scheduler.handle_assigned(SOURCE, &[(PartitionId(9), Epoch(2))]);
    for _ in 0..250 {
        bed.answer(&ACCEPTED);
    }
    assert!(bed.intake, "half of a part is free");
}

#[test]
fn p10_what_a_full_room_waits_for_is_told() {
    let cause = |settings: Settings, prepare: &dyn Fn(&mut Bed)| {
        let mut bed = Bed::new(settings, 2);
        assert_eq!(feed(&mut bed, 0, "stuck", 5_000), 1_001);
        prepare(&mut bed);
        bed.pass(Duration::from_millis(100));
        let holdups = told(&bed);
        let room = holdups[0].rooms[0].clone();
        assert_eq!((&*room.room.0, holdups[0].oldest), ("stuck", room.oldest));
        assert!(room.oldest >= Duration::from_millis(100), "{room:?}");
        room
    };
    let own_fault = |bed: &mut Bed| {
        bed.record(1, vec![message("other", "x", None)]);
        bed.answer_room("other", &ACCEPTED);
        bed.answer(&failed());
    };
    let room = cause(settings(), &own_fault);
    assert_eq!((room.cause, room.tries.attempts, room.tries.http_status), (Cause::Backoff, 1, Some(503)));
    assert!(room.until.is_some_and(|until| until < Duration::from_secs(1)), "{room:?}");
    let outage = cause(settings(), &|bed: &mut Bed| bed.answer(&failed()));
    assert_eq!((outage.cause, outage.cause.word()), (Cause::Gate(GateCause::Outage), "outage"));
    let mut paced = settings();
    paced.accounts[0].limits.room_messages_per_second = 5;
    let room = cause(paced, &|bed: &mut Bed| (0..5).for_each(|_| bed.answer(&ACCEPTED)));
    assert_eq!((room.cause, room.cause.word()), (Cause::Pace, "room pace"));
    let mut slots = settings();
    slots.accounts[0].limits.paths[0].calls_per_second = 1;
    let room = cause(slots, &|bed: &mut Bed| bed.answer(&ACCEPTED));
    assert_eq!(room.cause, Cause::Quota);
    let mut session = settings();
    session.accounts[0].limits.paths[0].calls_per_second = 1;
    assert_eq!(cause(settings(), &|_: &mut Bed| {}).cause, Cause::Answer);
}

/// The table "How far past a stuck room" of the README: a room that gets 500 events of 300 bytes a
/// second and delivers none, with the default bounds; 12 partitions, or a JetStream consumer.
#[test]
fn p5_a_hot_room_reaches_each_bound_when_the_readme_says() {
    const RATE: f64 = 500.0;
    let unbounded = |limits: SourceSettings, per_room: usize, partitions: u32| {
        let settings = Settings { sources: vec![limits], max_waiting_per_room: per_room, ..settings() };
        let mut bed = Bed::new(settings, partitions);
        let mut events = 0_u32;
        while bed.intake && bed.paused.is_empty() {
            bed.record(0, vec![message("hot", &"x".repeat(300), None)]);
            events += 1;
        }
        let bound = told(&bed)[0].bounds[0];
        (bound, f64::from(events) / RATE)
    };
    const ALL: usize = usize::MAX;
    let kafka = SourceSettings { held_records: 50_000, held_bytes: 256 << 20, is_answered: false };
    let nats = SourceSettings { held_records: 5_000, ..kafka };
    let bytes = SourceSettings { held_records: ALL, ..kafka };
    for (limits, per_room, partitions, bound, seconds) in [
        (kafka, 1_000, 12, Bound::WaitingPerRoom, 2.0),
        (kafka, ALL, 12, Bound::HeldRecords, 8.3),
        (nats, ALL, 1, Bound::HeldRecords, 10.0),
        (bytes, ALL, 12, Bound::HeldBytes, 30.6),
    ] {
        let (reached, after) = unbounded(limits, per_room, partitions);
        assert_eq!(reached, bound);
        assert!((after / seconds - 1.0).abs() < 0.02, "{bound:?} after {after} s, not {seconds} s");
    }
}

/// The same for the metadata of a commit: the hot room's records stay open, those of other rooms of
/// the partition finish between them.
#[test]
fn p5_the_commits_metadata_is_full_when_the_readme_says() {
    let offsets_until_full = |others: i64| {
        let mut mark = Watermark::new(0, "");
        let mut next = 0;
        while mark.metadata_at_most() < METADATA_FULL {
            for _ in 0..10 {
                for place in 0..=others {
                    mark.receive(next);
                    if place > 0 {
                        mark.finish(next);
                    }
                    next += 1;
                }
            }
        }
        next
    };
    // The hot ones alone; as many others, 500 + 500 a second; one hot one in fifty, 25,000 a second.
    for (others, seconds, rate) in [(0, 36.6, 500.0), (1, 18.3, 1_000.0), (49, 2.05, 25_000.0)] {
        let after = f64::from(u32::try_from(offsets_until_full(others)).expect("few")) / rate;
        assert!((after / seconds - 1.0).abs() < 0.02, "{others} others: after {after} s, not {seconds} s");
    }
}
