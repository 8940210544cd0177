//! Records that wait for their key: who goes when it is known, in which order, and who does not.

use std::time::Duration;

use super::Woken;
use super::test_bed::{ACCEPTED, Bed, SOURCE, message, plan, settings};
use crate::core::model::{DirectoryId, Epoch, PartitionId, Plan, Wait};

const ROOMS: DirectoryId = DirectoryId(0);
const OTHER: DirectoryId = DirectoryId(1);
const SECONDS: Duration = Duration::from_secs(1);

/// The plan of a record that waits for a key, ten seconds at most.
fn waits(directory: DirectoryId, key: &str) -> Plan {
    let wait = Wait {
        directory,
        key: key.into(),
        at_most: Some(10 * SECONDS),
        error: format!("the key {key:?} is not known"),
    };
    Plan { unknown: Some(directory), waits: Some(Box::new(wait)), ..plan(Vec::new()) }
}

/// Hands woken records back, each with a message that says which record it is.
fn route(bed: &mut Bed, woken: Vec<Woken>, room: &str) {
    for woken in woken {
        let id = woken.record().id;
        let text = format!("{}-{}", id.partition.0, id.offset);
        bed.scheduler.handle_woken(woken, plan(vec![message(room, &text, None)]), bed.now);
    }
    bed.pass(Duration::ZERO);
}

/// Accepts what is away and what follows it at once; the contents in their order.
fn accept(bed: &mut Bed) -> Vec<String> {
    let mut accepted = Vec::new();
    while let Some(text) = bed.contents_away().first() {
        accepted.push(text.clone());
        bed.answer(&ACCEPTED);
    }
    accepted
}

fn waiting(bed: &Bed, directory: DirectoryId) -> usize {
    bed.scheduler.snapshot(bed.now).waiting_for_keys.get(&directory).copied().unwrap_or(0)
}

#[test]
fn records_of_a_key_go_in_their_order_when_it_is_known_and_others_stay() {
    let mut bed = Bed::new(settings(), 2);
    for partition in [0, 1, 0] {
        bed.planned(partition, waits(ROOMS, "a"));
        bed.planned(partition, waits(ROOMS, "b"));
        bed.planned(partition, waits(OTHER, "a"));
    }
    assert_eq!((waiting(&bed, ROOMS), waiting(&bed, OTHER)), (6, 3));
    let woken = bed.scheduler.wake_key(ROOMS, "a");
    route(&mut bed, woken, "1001");
    assert_eq!(accept(&mut bed), ["0-0", "1-0", "0-3"]);
    assert_eq!(bed.settled, [(0, 0), (1, 0), (0, 3)]);
    assert!(bed.scheduler.wake_key(ROOMS, "a").is_empty(), "each goes once");
    assert!(bed.scheduler.wake_key(ROOMS, "").is_empty());
    assert_eq!((waiting(&bed, ROOMS), waiting(&bed, OTHER)), (3, 3));
}

#[test]
fn a_directory_loaded_as_a_whole_lets_all_known_ones_go_in_the_order_of_arrival() {
    let mut bed = Bed::new(settings(), 1);
    for key in ["c", "a", "b", "c", "a"] {
        bed.planned(0, waits(ROOMS, key));
    }
    bed.planned(0, waits(OTHER, "a"));
    let mut asked = Vec::new();
    let woken = bed.scheduler.wake_known(ROOMS, |key| {
        asked.push(key.to_owned());
        key != "b"
    });
    assert_eq!(asked, ["a", "b", "c"], "each key once, and those of no other directory");
    route(&mut bed, woken, "1001");
    assert_eq!(accept(&mut bed), ["0-0", "0-1", "0-3", "0-4"]);
    assert_eq!((waiting(&bed, ROOMS), waiting(&bed, OTHER)), (1, 1));
}

#[test]
fn a_wait_ends_as_a_letter_at_its_time_and_no_sooner() {
    let mut bed = Bed::new(settings(), 1);
    bed.planned(0, waits(ROOMS, "a"));
    bed.pass(3 * SECONDS);
    bed.planned(0, waits(ROOMS, "a"));
    assert_eq!(bed.scheduler.poll_wake(bed.now), Some(bed.now.mono + 7 * SECONDS));
    bed.pass(7 * SECONDS - Duration::from_nanos(1));
    assert!(bed.letters.is_empty() && bed.settled.is_empty());
    bed.pass(Duration::from_nanos(1));
    assert_eq!(bed.letters, [("no_route", String::new())]);
    assert_eq!(bed.settled, [(0, 0)], "its letter is confirmed");
    let woken = bed.scheduler.wake_key(ROOMS, "a");
    route(&mut bed, woken, "1001");
    assert_eq!(accept(&mut bed), ["0-1"]);
    bed.pass(20 * SECONDS);
    assert_eq!((bed.letters.len(), bed.settled.len()), (1, 2));
}

#[test]
fn one_that_waits_again_keeps_its_place_and_its_time() {
    let mut bed = Bed::new(settings(), 1);
    bed.planned(0, waits(ROOMS, "a"));
    bed.pass(4 * SECONDS);
    let woken = bed.scheduler.wake_key(ROOMS, "a");
    // Between the two the key went away again, and another record of it came.
    bed.planned(0, waits(ROOMS, "a"));
    for woken in woken {
        bed.scheduler.handle_woken(woken, waits(ROOMS, "a"), bed.now);
    }
    assert_eq!(bed.scheduler.poll_wake(bed.now), Some(bed.now.mono + 6 * SECONDS));
    let woken = bed.scheduler.wake_key(ROOMS, "a");
    route(&mut bed, woken, "1001");
    assert_eq!(accept(&mut bed), ["0-0", "0-1"]);
}

#[test]
fn what_waits_is_held_and_counted_and_so_is_what_it_becomes() {
    let mut of = settings();
    of.sources[0].held_records = 3;
    let mut bed = Bed::new(of, 1);
    for _ in 0..3 {
        bed.planned(0, waits(ROOMS, "a"));
    }
    assert!(!bed.intake, "three records are held, as many as may be");
    let held = bed.scheduler.snapshot(bed.now).sources[0];
    assert!(held.held_bytes > 3 * (300 + 512), "{held:?}");
    let woken = bed.scheduler.wake_key(ROOMS, "a");
    let text = "x".repeat(10_000);
    for woken in woken {
        bed.scheduler.handle_woken(woken, plan(vec![message("1001", &text, None)]), bed.now);
    }
    let routed = bed.scheduler.snapshot(bed.now).sources[0];
    assert!(routed.held_bytes > held.held_bytes + 30_000, "rendered bodies count");
    assert_eq!(routed.held_records, 3);
    bed.pass(Duration::ZERO);
    accept(&mut bed);
    let done = bed.scheduler.snapshot(bed.now).sources[0];
    assert_eq!((done.held_records, done.held_bytes, done.settled), (0, 0, 3));
    assert!(bed.intake);
}

#[test]
fn a_partition_that_goes_takes_its_waiting_records_along_unsettled() {
    for lost in [false, true] {
        let mut bed = Bed::new(settings(), 2);
        bed.planned(0, waits(ROOMS, "a"));
        bed.planned(1, waits(ROOMS, "a"));
        bed.planned(0, waits(ROOMS, "a"));
        let limbo = bed.scheduler.wake_key(ROOMS, "a");
        bed.planned(0, waits(ROOMS, "b"));
        bed.planned(1, waits(ROOMS, "b"));
        let gone = [(PartitionId(0), Epoch(1))];
        match lost {
            true => bed.scheduler.handle_lost(SOURCE, &gone, bed.now),
            false => bed.scheduler.handle_revoking(SOURCE, &gone, bed.now),
        }
        route(&mut bed, limbo, "1001");
        let woken = bed.scheduler.wake_key(ROOMS, "b");
        route(&mut bed, woken, "1001");
        assert_eq!(accept(&mut bed), ["1-0", "1-1"]);
        bed.pass(60 * SECONDS);
        assert_eq!((bed.settled, bed.letters.len()), (vec![(1, 0), (1, 1)], 0), "lost: {lost}");
        assert_eq!(bed.scheduler.snapshot(bed.now).sources[0].held_records, 0);
    }
}

#[test]
fn a_partition_with_a_call_away_takes_them_along_all_the_same() {
    let mut bed = Bed::new(settings(), 1);
    bed.one("1001", "away", None);
    bed.planned(0, waits(ROOMS, "a"));
    bed.planned(0, waits(ROOMS, "b"));
    let limbo = bed.scheduler.wake_key(ROOMS, "b");
    bed.scheduler.handle_revoking(SOURCE, &[(PartitionId(0), Epoch(1))], bed.now);
    route(&mut bed, limbo, "1001");
    assert!(bed.scheduler.wake_key(ROOMS, "a").is_empty());
    bed.pass(60 * SECONDS);
    assert_eq!(accept(&mut bed), ["away"]);
    assert_eq!((bed.settled, bed.letters.len()), (vec![(0, 0)], 0));
}

#[test]
fn a_stop_makes_no_letter_of_what_waits() {
    let mut bed = Bed::new(settings(), 1);
    bed.planned(0, waits(ROOMS, "a"));
    bed.scheduler.stop();
    assert!(bed.scheduler.is_idle(), "nothing of it is on its way");
    bed.pass(60 * SECONDS);
    assert!(bed.letters.is_empty() && bed.settled.is_empty(), "it comes again");
    assert_eq!(bed.scheduler.poll_wake(bed.now), None);
}

#[test]
fn what_waited_while_the_process_was_frozen_says_that_others_may_have_sent_it() {
    let mut bed = Bed::new(settings(), 1);
    bed.planned(0, waits(ROOMS, "a"));
    bed.scheduler.handle_frozen();
    bed.planned(0, waits(ROOMS, "a"));
    let woken = bed.scheduler.wake_key(ROOMS, "a");
    route(&mut bed, woken, "1001");
    assert!(bed.away[0].items[0].resend, "the first try is marked");
    bed.answer(&ACCEPTED);
    assert!(!bed.away[0].items[0].resend, "it came after");
}

#[test]
fn what_was_frozen_on_its_way_back_says_so_too() {
    let mut bed = Bed::new(settings(), 1);
    bed.planned(0, waits(ROOMS, "a"));
    let mut woken = bed.scheduler.wake_key(ROOMS, "a");
    woken.iter_mut().for_each(Woken::mark_maybe_sent);
    route(&mut bed, woken, "1001");
    assert!(bed.away[0].items[0].resend);
}

#[test]
fn p7_a_wait_weighs_what_it_keeps() {
    let held = |key: &str| {
        let mut bed = Bed::new(settings(), 1);
        bed.planned(0, waits(ROOMS, key));
        bed.scheduler.snapshot(bed.now).sources[0].held_bytes
    };
    let (short, long) = (held("a"), held(&"a".repeat(101)));
    assert_eq!(long - short, 200, "the key, and the text of the letter that names it");
    assert!((300 + 512..2_000).contains(&short), "{short} bytes, the record's value with them");
}

#[test]
fn all_that_wait_are_woken_in_the_order_of_arrival_and_keep_their_time() {
    let mut bed = Bed::new(settings(), 2);
    for (partition, directory, key) in [(0, OTHER, "b"), (1, ROOMS, "c"), (0, ROOMS, "a"), (1, OTHER, "b")] {
        bed.planned(partition, waits(directory, key));
    }
    bed.pass(6 * SECONDS);
    let mut woken = bed.scheduler.wake_all();
    assert!(woken.is_sorted_by(|one, next| one.number() < next.number()) && woken.len() == 4);
    assert_eq!((waiting(&bed, ROOMS), waiting(&bed, OTHER)), (0, 0));
    assert!(bed.scheduler.wake_all().is_empty());
    for again in woken.split_off(2) {
        bed.scheduler.handle_woken(again, waits(ROOMS, "a"), bed.now);
    }
    route(&mut bed, woken, "1001");
    assert_eq!(accept(&mut bed), ["0-0", "1-0"]);
    assert_eq!(waiting(&bed, ROOMS), 2);
    bed.pass(4 * SECONDS);
    assert_eq!(bed.letters.len(), 2, "ten seconds since they came");
}
