//! Conflation, as the design says it: the newest waiting message takes the place of the older one
//! in its lane, never while a try is away.

use std::time::Duration;

use super::OnFull;
use super::status::Fate;
use super::test_bed::{ACCEPTED, ACCOUNT, Bed, failed, message, settings};
use crate::core::model::{Message, Path, Priority, RouteId};

fn bed() -> Bed {
    Bed::new(settings(), 1)
}

fn conflated(bed: &Bed) -> (u64, Vec<u64>) {
    let snapshot = bed.scheduler.snapshot(bed.now);
    let by_route = snapshot.conflated.into_iter().map(|(_, count)| count).collect();
    (snapshot.fates.get(&(Some(ACCOUNT), Fate::Conflated)).copied().unwrap_or(0), by_route)
}

fn waiting_in(bed: &Bed) -> usize {
    let waiting = bed.scheduler.snapshot(bed.now).accounts[0][Path::Room as usize].waiting;
    waiting.quota + waiting.pace + waiting.backoff + waiting.order
}

#[test]
fn p10_the_newest_takes_the_place_of_the_older_one_and_the_older_one_is_counted() {
    let mut bed = bed();
    for (text, key) in [
        ("first", None),
        ("a1", Some("a")),
        ("line", None),
        ("b1", Some("b")),
        ("a2", Some("a")),
        ("a3", Some("a")),
    ] {
        bed.one("r", text, key);
    }
    assert_eq!(bed.settled, [(0, 1), (0, 4)], "records of replaced messages are settled");
    assert_eq!(conflated(&bed), (2, vec![2, 0]));
    assert_eq!(bed.accept_all(), ["first", "a3", "line", "b1"]);
    assert_eq!(bed.settled.len(), 6);
}

#[test]
fn p7_a_thousand_updates_hold_one_message() {
    let mut bed = bed();
    bed.one("r", "away", Some("score"));
    for n in 0..1_000 {
        bed.one("r", &format!("update {n}"), Some("score"));
    }
    assert_eq!(waiting_in(&bed), 1, "the newest, beside the one away");
    assert_eq!(bed.scheduler.snapshot(bed.now).sources[0].held_records, 2);
    assert_eq!((bed.paused.len(), conflated(&bed).0), (0, 999));
    assert_eq!(bed.accept_all(), ["away", "update 999"]);
    assert!(bed.scheduler.newest.is_empty(), "nothing is remembered of what has gone");
}

#[test]
fn a_message_away_is_not_replaced_and_gives_way_when_it_would_wait_again() {
    let mut bed = bed();
    bed.one("r", "old", Some("k"));
    bed.one("r", "between", None);
    bed.one("r", "new", Some("k"));
    assert_eq!(conflated(&bed).0, 0, "the old one is away");
    let old = bed.away[0].items[0].clone();
    // Another call is accepted meanwhile: the failure counts against the message, which would wait.
    bed.one("other", "x", None);
    bed.answer_room("other", &ACCEPTED);
    bed.answer(&failed());
    assert_eq!((conflated(&bed).0, bed.settled.contains(&(0, 0))), (1, true));
    assert!(bed.away.is_empty(), "the backoff is the room's");
    bed.pass(Duration::from_secs(1));
    let new = bed.away[0].items[0].clone();
    assert_eq!(bed.contents_away(), ["new"], "it stands where the old one stood");
    assert!(!new.resend && new.id != old.id, "its own id, its own mark");
    assert_eq!(bed.accept_all(), ["new", "between"]);
}

#[test]
fn one_in_backoff_is_replaced_and_the_tries_begin_anew() {
    let mut settings = settings();
    settings.routes[0].retry.max_attempts = 2;
    let mut bed = Bed::new(settings, 1);
    for n in 0..6 {
        // Each update fails once, by its own fault; two failures would be a letter.
        bed.one("r", &format!("v{n}"), Some("k"));
        bed.pass(Duration::from_secs(1));
        bed.one("other", &format!("x{n}"), None);
        bed.answer_room("other", &ACCEPTED);
        bed.answer_room("r", &failed());
    }
    assert_eq!((bed.letters.len(), conflated(&bed).0), (0, 5));
    bed.pass(Duration::from_secs(1));
    assert_eq!(bed.accept_all(), ["v5"]);
}

#[test]
fn p3_a_replaced_message_takes_its_resend_mark_with_it() {
    let mut bed = bed();
    bed.one("r", "old", Some("k"));
    bed.one("other", "x", None);
    bed.answer_room("other", &ACCEPTED);
    bed.answer(&crate::core::provider::Outcome::Uncertain(crate::core::provider::Trouble::default()));
    assert!(bed.away.is_empty(), "the old one waits and may have been sent");
    bed.one("r", "new", Some("k"));
    bed.pass(Duration::from_secs(1));
    assert_eq!((bed.contents_away(), bed.away[0].items[0].resend), (vec!["new".to_owned()], false));
}

#[test]
fn lanes_routes_and_keys_stand_apart() {
    let mut bed = bed();
    bed.one("r", "away", None);
    bed.one("s", "away", None);
    let other_route = |text| Message { route: RouteId(1), ..message("r", text, Some("k")) };
    let high = |text| Message { priority: Priority::High, ..message("r", text, Some("k")) };
    bed.record(0, vec![message("r", "one", Some("k"))]);
    bed.record(0, vec![other_route("two")]);
    bed.record(0, vec![high("three")]);
    bed.record(0, vec![message("s", "four", Some("k"))]);
    bed.record(0, vec![message("r", "five", Some("l"))]);
    bed.record(0, vec![message("r", "six", None)]);
    assert_eq!(conflated(&bed).0, 0);
    bed.record(0, vec![other_route("seven")]);
    assert_eq!(conflated(&bed), (1, vec![0, 1]));
}

#[test]
fn siblings_conflate_each_in_its_own_lane_and_the_record_settles_with_the_last() {
    let mut bed = bed();
    bed.one("r", "away", None);
    let siblings = |text: &str, rooms: &[&str]| {
        let first = message(rooms[0], text, Some("k"));
        rooms.iter().map(|room| Message { room: message(room, text, None).room, ..first.clone() }).collect()
    };
    bed.one("s", "away too", None);
    let both = bed.record(0, siblings("both", &["r", "s"]));
    bed.record(0, siblings("r alone", &["r"]));
    assert!(!bed.settled.contains(&(0, both)), "the other room still waits for it");
    bed.record(0, siblings("s alone", &["s"]));
    assert!(bed.settled.contains(&(0, both)));
    // Two messages of one record for one lane: the second one stays, and settles it.
    let twice = bed.record(0, siblings("twice", &["r", "r"]));
    assert_eq!(conflated(&bed).0, 4);
    let mut accepted = bed.accept_all();
    accepted.sort();
    assert_eq!(accepted, ["away", "away too", "s alone", "twice"]);
    assert!(bed.settled.contains(&(0, twice)));
}

#[test]
fn a_full_room_has_a_place_for_what_replaces() {
    for (on_full, rest) in [(OnFull::Wait, 0), (OnFull::DropOldest, 0), (OnFull::DeadLetter, 0)] {
        let mut settings = settings();
        settings.max_waiting_per_room = 3;
        settings.routes[0].on_full = on_full;
        let mut bed = Bed::new(settings, 1);
        bed.one("r", "away", None);
        bed.one("r", "score 1", Some("k"));
        bed.one("r", "line", None);
        bed.one("r", "score 2", Some("k"));
        let fates = bed.scheduler.snapshot(bed.now).fates;
        assert_eq!((fates.len(), bed.letters.len(), bed.paused.len()), (1, rest, rest), "{on_full:?}");
        assert_eq!(bed.accept_all(), ["away", "score 2", "line"], "{on_full:?}");
    }
}

#[test]
fn the_time_to_live_is_the_newer_ones_and_one_that_is_late_already_replaces_nothing() {
    let mut bed = bed();
    let within = |bed: &Bed, text: &str, ms: u64| Message {
        expires: Some(bed.now.wall + Duration::from_millis(ms)),
        ..message("r", text, Some("k"))
    };
    bed.one("r", "away", None);
    let (short, long) = (within(&bed, "short", 100), within(&bed, "long", 10_000));
    bed.record(0, vec![short]);
    bed.record(0, vec![long]);
    bed.pass(Duration::from_secs(1));
    let fates = bed.scheduler.snapshot(bed.now).fates;
    assert_eq!(fates.keys().map(|(_, fate)| fate.words().0).collect::<Vec<_>>(), ["conflated"]);
    let late = Message { expires: Some(bed.now.wall), ..message("r", "late", Some("k")) };
    bed.record(0, vec![late]);
    assert_eq!(bed.accept_all(), ["away", "long"]);
    assert_eq!(conflated(&bed).0, 1);
}

#[test]
fn what_a_lost_partition_leaves_is_replaced_by_nobody() {
    use super::test_bed::SOURCE;
    use crate::core::model::{Epoch, PartitionId};
    let mut bed = Bed::new(settings(), 2);
    bed.one("r", "away", None);
    bed.record(0, vec![message("r", "old", Some("k"))]);
    bed.scheduler.handle_lost(SOURCE, &[(PartitionId(0), Epoch(1))], bed.now);
    bed.record(1, vec![message("r", "new", Some("k"))]);
    assert_eq!(conflated(&bed).0, 0, "the next owner of the partition sends the old one");
    assert_eq!(bed.accept_all(), ["away", "new"]);
}

#[test]
fn a_batch_gives_way_message_by_message() {
    let mut settings = settings();
    settings.accounts[0].limits.messages_per_call = 10;
    let mut bed = Bed::new(settings, 1);
    // Contents of a batch share the head of `batched`; an empty head of length 0 joins all.
    let batched = |text: &str, key| {
        let mut message = message("r", text, key);
        let content = std::sync::Arc::get_mut(&mut message.content).expect("nobody else has it");
        content.batched = bytes::Bytes::from_static(&[0; 4]);
        message
    };
    bed.record(0, vec![batched("alone", None)]);
    for (text, key) in [("a1", Some("a")), ("x", None), ("b1", Some("b"))] {
        bed.record(0, vec![batched(text, key)]);
    }
    bed.answer(&ACCEPTED);
    assert_eq!(bed.contents_away(), ["a1", "x", "b1"]);
    bed.record(0, vec![batched("b2", Some("b"))]);
    bed.record(0, vec![batched("a2", Some("a"))]);
    bed.answer(&crate::core::provider::Outcome::Closed(crate::core::provider::Trouble::default()));
    assert_eq!(conflated(&bed).0, 2);
    bed.pass(Duration::from_secs(60));
    assert_eq!(bed.accept_all(), ["a2", "x", "b2"]);
    assert_eq!(bed.settled.len(), 6);
}
