//! Small rules of the scheduler that no law of the simulation weighs, one test each.

use std::time::Duration;

use uuid::Uuid;

use super::status::Bound;
use super::test_bed::{ACCEPTED, ACCOUNT, Bed, failed, limits, message, settings};
use super::{OnFull, Settings, SourceSettings};
use crate::core::model::{BaseId, Class, Failure, Message, Path, Priority, Room};
use crate::core::provider::{Outcome, Trouble};
use crate::core::share::{Grant, Growth, Quotas};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn refused(class: Class) -> Outcome {
    let trouble = Trouble { status: Some(400), code: Some("E1".to_owned()), text: "no".to_owned() };
    Outcome::Refused { class, trouble }
}

#[test]
fn a_letter_tells_what_was_tried_and_what_came_back() {
    let mut bed = Bed::new(settings(), 1);
    bed.one("r", "x", None);
    let first = bed.now.wall;
    bed.answer(&ACCEPTED);
    bed.one("r", "y", None);
    let left = bed.now.wall;
    bed.pass(SECOND);
    bed.answer(&failed());
    bed.pass(SECOND);
    assert_eq!(bed.away.len(), 1);
    bed.answer(&refused(Class::Rejected));
    let letter = bed.letter.take().expect("a letter");
    assert_eq!(letter.error, "HTTP 400, E1: no");
    assert_eq!((letter.tries.attempts, letter.tries.first), (2, Some(left)));
    assert_eq!(letter.tries.last, Some(bed.now.wall));
    assert_eq!((letter.tries.http_status, letter.tries.provider_code.as_deref()), (Some(400), Some("E1")));
    assert_eq!(first, left, "the wall clock stood still between both");
}

#[test]
fn a_letter_of_what_was_never_tried_tells_of_no_try() {
    let mut settings = settings();
    settings.max_waiting_per_room = 1;
    settings.routes[0].on_full = OnFull::DeadLetter;
    let mut bed = Bed::new(settings, 1);
    bed.one("r", "away", None);
    bed.one("r", "too many", None);
    assert_eq!(bed.letters, [("overflow", "r".to_owned())]);
    let tries = bed.letter.take().expect("a letter").tries;
    assert_eq!((tries.attempts, tries.first, tries.last), (0, None, None));
}

#[test]
fn only_a_room_that_is_gone_ends_what_waits_for_it() {
    for (class, waiting) in [(Class::RoomGone, 0), (Class::Rejected, 1)] {
        let mut bed = Bed::new(settings(), 1);
        bed.one("r", "x", None);
        bed.one("r", "y", None);
        bed.answer(&refused(class));
        assert_eq!(bed.away.len(), waiting, "{class:?}");
        assert_eq!(bed.letters.len(), 2 - waiting, "{class:?}");
    }
}

#[test]
fn failures_count_for_a_message_only_when_others_were_accepted_meanwhile() {
    let mut bed = Bed::new(settings(), 1);
    let fail = |bed: &mut Bed| {
        while bed.away.is_empty() {
            bed.pass(SECOND);
        }
        bed.answer(&failed());
    };
    bed.one("r", "x", None);
    for _ in 0..40 {
        fail(&mut bed);
    }
    assert!(bed.letters.is_empty(), "nobody was accepted: the account's fault, however often");
    bed.pass(SECOND * 60);
    bed.answer(&ACCEPTED);
    bed.one("r", "y", None);
    for n in 0..8 {
        assert!(bed.letters.is_empty(), "{n} failures of its own");
        bed.one("s", "accepted", None);
        bed.answer_room("s", &ACCEPTED);
        fail(&mut bed);
    }
    assert_eq!(bed.letters, [("exhausted", "r".to_owned())]);
}

#[test]
fn calls_are_never_mistaken_for_each_other() {
    let mut bed = Bed::new(settings(), 1);
    let mut ids = Vec::new();
    for n in 0..5 {
        bed.one("r", &n.to_string(), None);
        ids.push(bed.away[0].id);
        bed.answer(&ACCEPTED);
    }
    ids.dedup();
    assert_eq!(ids.len(), 5, "an id is never used again");
}

#[test]
fn it_is_idle_when_nothing_is_on_its_way() {
    let mut bed = Bed::new(settings(), 1);
    assert!(bed.scheduler.is_idle() && bed.scheduler.calls_away() == 0);
    bed.one("r", "x", None);
    bed.one("s", "y", None);
    assert!(!bed.scheduler.is_idle());
    assert_eq!(bed.scheduler.calls_away(), 2);
    bed.accept_all();
    assert!(bed.scheduler.is_idle());
}

#[test]
fn after_a_stand_still_whatever_is_held_says_that_it_may_have_been_sent() {
    let mut bed = Bed::new(settings(), 1);
    bed.one("r", "away", None);
    bed.one("r", "waiting", None);
    assert!(!bed.away[0].items[0].resend);
    bed.scheduler.handle_frozen();
    bed.answer(&ACCEPTED);
    assert!(bed.away[0].items[0].resend);
    bed.answer(&ACCEPTED);
    bed.one("r", "new", None);
    assert!(!bed.away[0].items[0].resend, "what comes later does not");
}

#[test]
fn bytes_that_are_held_are_counted_up_and_down() {
    let sources = vec![SourceSettings { held_records: 100, held_bytes: 1 << 20, is_answered: false }];
    let mut bed = Bed::new(Settings { sources, ..settings() }, 1);
    let source = |bed: &Bed| bed.scheduler.snapshot(bed.now).sources[0];
    assert_eq!(source(&bed).max_held_bytes, 1 << 20);
    bed.record(0, vec![message("r", "x", None)]);
    let one = source(&bed).held_bytes;
    assert!((300 + 512..2_000).contains(&one), "the record, its message and what keeps it: {one}");
    bed.record(0, vec![message("r", "x", None), message("s", "x", None), message("t", "x", None)]);
    assert!(source(&bed).held_bytes >= 2 * one + 2 * 512, "each message costs: {}", source(&bed).held_bytes);
    bed.accept_all();
    assert_eq!((source(&bed).held_records, source(&bed).held_bytes), (0, 0));
}

#[test]
fn a_source_goes_on_when_half_of_a_part_is_free_of_records_and_of_bytes() {
    let sources = vec![SourceSettings { held_records: 100, held_bytes: 4 << 20, is_answered: false }];
    let mut bed = Bed::new(Settings { sources, ..settings() }, 1);
    let mut rooms = 0;
    while bed.intake {
        bed.one(&format!("r{rooms}"), "x", None);
        rooms += 1;
    }
    assert_eq!(rooms, 100);
    for left in (50..100).rev() {
        assert!(!bed.intake, "{left} left");
        bed.answer(&ACCEPTED);
    }
    assert!(bed.intake, "half is free");
    // Now bytes bind: few records, much in each.
    while bed.intake {
        bed.one(&format!("r{rooms}"), &"x".repeat(200_000), None);
        rooms += 1;
    }
    let held = |bed: &Bed| bed.scheduler.snapshot(bed.now).sources[0].held_bytes;
    while held(&bed) > 2 << 20 {
        assert!(!bed.intake, "{}", held(&bed));
        bed.answer(&ACCEPTED);
    }
    assert!(bed.intake);
}

#[test]
fn each_of_two_partitions_pauses_at_its_half_until_half_of_that_is_free() {
    let sources = vec![SourceSettings { held_records: 1_000, held_bytes: 256 << 20, is_answered: false }];
    let mut bed = Bed::new(Settings { sources, ..settings() }, 2);
    for n in 0..500 {
        bed.record(0, vec![message(&format!("r{n}"), "x", None)]);
    }
    for n in 0..499 {
        bed.record(1, vec![message(&format!("s{n}"), "x", None)]);
    }
    assert_eq!(bed.paused, [0]);
    let snapshot = bed.scheduler.snapshot(bed.now).sources[0];
    assert_eq!((snapshot.paused_partitions, snapshot.paused_at[Bound::HeldRecords as usize]), (1, 1));
    bed.record(1, vec![message("t", "x", None)]);
    assert_eq!(bed.paused, [0, 1]);
    assert_eq!(bed.scheduler.snapshot(bed.now).sources[0].paused_partitions, 2);
    bed.answer_room("r0", &ACCEPTED);
    assert_eq!(bed.paused, [0, 1], "half of its part is to be free first");
}

#[test]
fn the_oldest_that_waits_gives_way_in_a_full_room_only() {
    let mut settings = settings();
    settings.max_waiting_per_room = 2;
    settings.routes[0].on_full = OnFull::DropOldest;
    let mut bed = Bed::new(settings, 1);
    for text in ["away", "oldest", "newer"] {
        bed.one("r", text, None);
    }
    assert_eq!(bed.settled, [(0, 1)], "the oldest that waits gives way");
    assert_eq!(bed.accept_all(), ["away", "newer"]);
    for (text, room) in [("a", "s"), ("b", "s")] {
        bed.one(room, text, None);
    }
    assert_eq!(bed.settled.len(), 3, "nobody gives way in a room with a place");
}

#[test]
fn a_quicker_pace_of_rooms_waits_until_the_former_holder_counts_no_longer() {
    let mut settings = settings();
    settings.accounts[0].limits.room_messages_per_second = 4;
    let quotas = Quotas::new(&settings.accounts[0].limits, true);
    let mut bed = Bed::new(settings, 1);
    let grant = |replicas| Grant::lasting(quotas.fixed(replicas), Growth::Handed);
    bed.scheduler.handle_share(ACCOUNT, &grant(4), bed.now);
    for n in 0..400 {
        bed.one("r", &n.to_string(), None);
    }
    assert_eq!(leave(&mut bed, ROUND), 1, "a fourth of four, at once");
    bed.scheduler.handle_share(ACCOUNT, &grant(2), bed.now);
    let rounds = Growth::Handed.wait(SECOND, Duration::from_secs(5)).as_millis() / ROUND.as_millis();
    for round in 0..rounds {
        assert_eq!(leave(&mut bed, ROUND), 1, "round {round} of {rounds}: the former holder may count");
    }
    leave(&mut bed, ROUND);
    assert_eq!(leave(&mut bed, ROUND), 2, "a half of four");
    // The whole is told, and only half of it before that counts: once, and then time and again.
    for replicas in [4, 1, 2] {
        bed.scheduler.handle_share(ACCOUNT, &grant(replicas), bed.now);
    }
    for _ in 0..=rounds + 1 {
        leave(&mut bed, ROUND);
    }
    assert_eq!(leave(&mut bed, ROUND), 2, "not the whole");
    bed.scheduler.handle_share(ACCOUNT, &grant(4), bed.now);
    bed.scheduler.handle_share(ACCOUNT, &grant(1), bed.now);
    for _ in 0..=rounds + 1 {
        bed.scheduler.handle_share(ACCOUNT, &grant(2), bed.now);
        leave(&mut bed, ROUND);
    }
    assert_eq!(leave(&mut bed, ROUND), 2, "a half, however often it was told meanwhile");
    // The whole is told, and taken back before it counts.
    bed.scheduler.handle_share(ACCOUNT, &grant(1), bed.now);
    bed.scheduler.handle_share(ACCOUNT, &grant(2), bed.now);
    for _ in 0..2 * rounds {
        assert_eq!(leave(&mut bed, ROUND), 2, "still a half");
    }
}

/// A little longer than a place of a room's pace is taken.
const ROUND: Duration = Duration::from_millis(1_050);

/// How many messages leave when so much time has passed, each answered at once.
fn leave(bed: &mut Bed, time: Duration) -> usize {
    let before = bed.settled.len();
    bed.pass(time);
    while !bed.away.is_empty() {
        bed.answer(&ACCEPTED);
    }
    bed.settled.len() - before
}

#[test]
fn the_oldest_of_the_same_priority_gives_way_else_that_of_the_next_one() {
    for (newcomer, gives_way) in [(Priority::High, "h"), (Priority::Normal, "n"), (Priority::Low, "l")] {
        let mut settings = settings();
        settings.max_waiting_per_room = 4;
        settings.accounts[0].limits.room_messages_per_second = 1;
        settings.routes[0].on_full = OnFull::DropOldest;
        let mut bed = Bed::new(settings, 1);
        bed.one("r", "away", None);
        for (text, priority) in [("h", Priority::High), ("n", Priority::Normal), ("l", Priority::Low)] {
            bed.record(0, vec![Message { priority, ..message("r", text, None) }]);
        }
        bed.record(0, vec![Message { priority: newcomer, ..message("r", "new", None) }]);
        assert_eq!(bed.settled.len(), 1, "{newcomer:?}");
        let left = bed.accept_all();
        assert!(!left.contains(&gives_way.to_owned()) && left.len() == 4, "{newcomer:?}: {left:?}");
    }
}

#[test]
fn what_of_a_record_cannot_be_sent_is_a_letter_and_the_rest_is_sent() {
    let failure = |error: &str| Failure {
        base: BaseId(Uuid::from_u128(9)),
        class: Class::Rejected,
        error: error.to_owned(),
        rooms: vec![Room("f".into())],
    };
    let mut bed = Bed::new(settings(), 1);
    bed.record_with(0, vec![message("r", "x", None)], vec![failure("one"), failure("two")]);
    assert_eq!(bed.letters.len(), 2);
    assert_eq!(bed.letter.as_ref().map(|letter| &*letter.error), Some("two"));
    assert!(bed.settled.is_empty(), "a message is away");
    bed.answer(&ACCEPTED);
    assert_eq!(bed.settled, [(0, 0)]);
    bed.record_with(0, Vec::new(), vec![failure("three")]);
    assert_eq!(bed.settled, [(0, 0), (0, 1)]);
}

#[test]
fn a_room_that_is_gone_is_asked_again_when_its_time_is_over_or_nobody_keeps_it() {
    for (kept, meanwhile) in [(600, 0), (0, 1)] {
        let mut settings = settings();
        settings.room_gone = Duration::from_secs(kept);
        let mut bed = Bed::new(settings, 1);
        bed.one("r", "x", None);
        bed.answer(&refused(Class::RoomGone));
        bed.one("r", "y", None);
        assert_eq!(bed.away.len(), meanwhile, "kept for {kept} s");
        bed.pass(Duration::from_secs(600));
        bed.one("s", "wakes", None);
        bed.one("r", "z", None);
        assert_eq!(bed.away.len(), 2, "kept for {kept} s: {:?}", bed.contents_away());
    }
}

#[test]
fn what_no_pace_remembers_is_not_remembered_as_gone() {
    let mut bed = Bed::new(settings(), 1);
    let broadcast = |text| Message { path: Path::Broadcast, ..message("", text, None) };
    bed.record(0, vec![broadcast("x")]);
    bed.answer(&refused(Class::RoomGone));
    assert_eq!(bed.letters.len(), 1);
    assert_eq!(bed.scheduler.snapshot(bed.now).rooms, 0);
    bed.record(0, vec![broadcast("y")]);
    assert_eq!(bed.contents_away(), ["y"]);
}

#[test]
fn after_a_stop_nothing_new_is_sent_and_what_is_away_lands() {
    let mut bed = Bed::new(settings(), 1);
    bed.one("r", "x", None);
    bed.one("r", "y", None);
    bed.scheduler.stop();
    bed.answer(&ACCEPTED);
    assert_eq!((bed.away.len(), bed.settled.len()), (0, 1));
    assert!(bed.scheduler.is_idle());
}

#[test]
fn a_ban_met_elsewhere_holds_the_path_here() {
    let mut bed = Bed::new(settings(), 1);
    bed.scheduler.handle_ban_elsewhere(ACCOUNT, Path::Room, SECOND * 10, bed.now);
    bed.one("r", "x", None);
    bed.pass(SECOND * 10 - MS);
    assert!(bed.away.is_empty());
    bed.pass(SECOND * 2);
    assert_eq!(bed.away.len(), 1);
}

#[test]
fn a_failure_is_tried_at_once_on_the_next_base_url_until_all_were() {
    let mut settings = settings();
    settings.accounts[0].base_urls = 3;
    let mut bed = Bed::new(settings, 1);
    bed.one("r", "x", None);
    for _ in 0..2 {
        bed.answer(&failed());
        assert_eq!(bed.away.len(), 1, "another base URL is left");
    }
    bed.answer(&failed());
    assert!(bed.away.is_empty(), "all were tried");
}

#[test]
fn only_what_surely_was_not_delivered_hurries_to_the_next_base_url() {
    let mut settings = settings();
    settings.accounts[0].base_urls = 3;
    let mut bed = Bed::new(settings, 1);
    bed.one("r", "x", None);
    bed.answer(&Outcome::Uncertain(Trouble::default()));
    assert!(bed.away.is_empty());
}

#[test]
fn a_room_is_asked_again_the_moment_its_time_is_over() {
    let mut bed = Bed::new(settings(), 1);
    bed.one("r", "x", None);
    bed.answer(&refused(Class::RoomGone));
    bed.now.mono = bed.now.mono + Duration::from_secs(600);
    bed.one("r", "y", None);
    assert_eq!(bed.away.len(), 1, "whatever else was asked meanwhile");
}

#[test]
fn uncertain_tries_are_counted_apart_where_repeats_are_seen() {
    let uncertain = Outcome::Uncertain(Trouble::default());
    let lost = [&uncertain, &uncertain, &uncertain];
    let mixed = [&failed(), &failed(), &uncertain, &failed(), &uncertain];
    for (outcomes, letters) in [(&lost[..], 1), (&mixed[..], 0)] {
        let mut settings = settings();
        settings.accounts[0].limits.drops_repeats = false;
        let mut bed = Bed::new(settings, 1);
        bed.one("r", "x", None);
        for outcome in outcomes {
            bed.one("s", "accepted", None);
            bed.answer_room("s", &ACCEPTED);
            while bed.away.is_empty() {
                bed.pass(SECOND);
            }
            assert!(bed.letters.is_empty());
            bed.answer(outcome);
        }
        assert_eq!(bed.letters.len(), letters, "{outcomes:?}");
    }
}

#[test]
fn rooms_whose_names_have_the_same_hash_are_two() {
    let limits = limits();
    let mut lanes = super::lane::Lanes::new([&limits].into_iter());
    let room = |name: &str| Room(name.into());
    let one = lanes.room(ACCOUNT, Path::Room, &room("r"), 7);
    assert_ne!(lanes.room(ACCOUNT, Path::Room, &room("s"), 7), one);
    assert_ne!(lanes.room(ACCOUNT, Path::Users, &room("r"), 7), one);
    assert_eq!(lanes.room(ACCOUNT, Path::Room, &room("r"), 7), one);
}

#[test]
fn a_partition_among_four_pauses_until_half_of_its_part_is_free_and_one_alone_never() {
    let sources = vec![SourceSettings { held_records: 1_000, held_bytes: 256 << 20, is_answered: false }];
    let settings = Settings { sources, ..settings() };
    let mut bed = Bed::new(settings.clone(), 4);
    for n in 0..250 {
        bed.record(0, vec![message(&format!("r{n}"), "x", None)]);
    }
    assert_eq!(bed.paused, [0]);
    for _ in 0..124 {
        bed.answer(&ACCEPTED);
        assert_eq!(bed.paused, [0]);
    }
    bed.answer(&ACCEPTED);
    assert!(bed.paused.is_empty());
    let mut alone = Bed::new(settings, 1);
    for n in 0..1_000 {
        alone.one(&format!("r{n}"), "x", None);
    }
    assert_eq!((alone.intake, alone.paused.len()), (false, 0), "the source's bound is its own");
}

#[test]
fn a_partition_may_always_hold_a_megabyte() {
    let sources = vec![SourceSettings { held_records: 10_000, held_bytes: 2 << 20, is_answered: false }];
    let mut bed = Bed::new(Settings { sources, ..settings() }, 8);
    let mut bytes = 0;
    while bed.paused.is_empty() {
        bed.record(0, vec![message(&format!("r{bytes}"), &"x".repeat(10_000), None)]);
        bytes += 10_000;
    }
    assert!((900_000..=1 << 20).contains(&bytes), "{bytes}");
}
