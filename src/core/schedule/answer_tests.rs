//! Records that somebody waits to hear of, and the background's part in full rooms.

use std::time::Duration;

use super::test_bed::{ACCEPTED, Bed, SOURCE, failed, message, plan, settings};
use super::{OnFull, Settings, SourceSettings};
use crate::core::model::{Class, DropReason, Epoch, Failure, Message, PartitionId, Plan, Priority};

fn answered() -> Settings {
    let mut settings = settings();
    settings.sources = vec![SourceSettings { is_answered: true, ..settings.sources[0] }];
    settings
}

fn background(room: &str, text: &str) -> Message {
    Message { priority: Priority::Background, ..message(room, text, None) }
}

#[test]
fn a_record_is_settled_when_what_became_of_it_is_written_down() {
    let mut bed = Bed::new(answered(), 1);
    bed.record(0, vec![background("a", "1"), background("b", "2")]);
    bed.pass(Duration::from_secs(1));
    bed.accept_all();
    assert_eq!((bed.unanswered.len(), bed.settled.len()), (1, 0));
    assert!(!bed.scheduler.is_idle(), "a drain waits for it");
    bed.write_down();
    assert_eq!((bed.unanswered.len(), &*bed.settled), (0, &[(0, 0)][..]));
    assert!(bed.scheduler.is_idle());
}

#[test]
fn what_leads_to_nothing_is_answered_too() {
    let mut bed = Bed::new(answered(), 1);
    bed.planned(0, Plan { dropped: Some(DropReason::Replay), ..plan(Vec::new()) });
    assert_eq!((bed.unanswered.len(), bed.settled.len()), (1, 0));
    bed.write_down();
    assert_eq!(bed.settled, [(0, 0)]);
}

#[test]
fn a_letter_is_confirmed_before_anything_is_said_of_its_record() {
    let mut bed = Bed::new(answered(), 1);
    bed.hold_letters = true;
    let (class, error) = (Class::Invalid, String::new());
    let owed = Failure { base: plan(Vec::new()).base, class, error, rooms: Vec::new() };
    bed.record_with(0, Vec::new(), vec![owed]);
    assert_eq!((bed.letters.len(), bed.unanswered.len()), (1, 0));
}

#[test]
fn a_partition_that_goes_takes_its_answers_with_it() {
    let mut bed = Bed::new(answered(), 1);
    bed.record(0, vec![background("a", "1")]);
    bed.pass(Duration::from_secs(1));
    bed.accept_all();
    assert_eq!(bed.unanswered.len(), 1);
    bed.scheduler.handle_revoking(SOURCE, &[(PartitionId(0), Epoch(1))], bed.now);
    bed.write_down();
    assert!(bed.settled.is_empty(), "whoever has the partition now settles it");
    assert!(bed.scheduler.is_idle());
}

/// A room takes ten; so many replays wait in it before anything live comes.
fn crowded(on_full: OnFull) -> Bed {
    let mut settings = settings();
    settings.max_waiting_per_room = 10;
    settings.routes[0].on_full = on_full;
    let mut bed = Bed::new(settings, 1);
    for n in 0..30 {
        bed.record(0, vec![background("a", &format!("replay {n}"))]);
    }
    bed
}

#[test]
fn replays_neither_fill_a_room_nor_give_way_in_it() {
    for on_full in [OnFull::Wait, OnFull::DropOldest, OnFull::DeadLetter] {
        let mut bed = crowded(on_full);
        assert!(bed.paused.is_empty() && bed.letters.is_empty(), "{on_full:?}");
        for n in 0..10 {
            bed.one("a", &format!("live {n}"), None);
        }
        assert!(bed.paused.is_empty() && bed.letters.is_empty(), "{on_full:?}: ten are not too many");
        bed.one("a", "live 10", None);
        let (paused, letters) = (bed.paused.len(), bed.letters.len());
        match on_full {
            OnFull::Wait => assert_eq!((paused, letters), (1, 0)),
            OnFull::DeadLetter => assert_eq!((paused, bed.letters[0].0), (0, "overflow")),
            OnFull::DropOldest => assert_eq!((paused, letters), (0, 0)),
        }
        bed.pass(Duration::from_secs(1));
        let accepted = bed.accept_all();
        let replays = accepted.iter().filter(|text| text.starts_with("replay")).count();
        let live = accepted.iter().filter(|text| text.starts_with("live")).count();
        assert_eq!(replays, 30, "{on_full:?}: no replay gives way");
        assert_eq!(live, if on_full == OnFull::Wait { 11 } else { 10 }, "{on_full:?}");
        assert!(bed.paused.is_empty(), "{on_full:?}");
    }
}

#[test]
fn a_full_room_goes_on_when_its_live_messages_are_fewer_whatever_replays_wait() {
    let mut bed = crowded(OnFull::Wait);
    for n in 0..11 {
        bed.one("a", &format!("live {n}"), None);
    }
    assert_eq!(bed.paused.len(), 1);
    bed.pass(Duration::from_secs(1));
    for _ in 0..12 {
        bed.answer_room("a", &ACCEPTED);
        bed.pass(Duration::from_millis(60));
        if bed.paused.is_empty() {
            break;
        }
    }
    assert!(bed.paused.is_empty());
    bed.answer_room("a", &failed());
}

#[test]
fn a_full_room_goes_on_the_moment_half_of_it_is_free_and_one_of_a_single_place_when_it_is_empty() {
    for (most, left) in [(10, 5), (7, 3), (1, 0)] {
        let mut settings = settings();
        settings.max_waiting_per_room = most;
        let mut bed = Bed::new(settings, 1);
        for n in 0..=most {
            bed.one("a", &n.to_string(), None);
        }
        for finished in 0..=most {
            let holds = most + 1 - finished;
            assert_eq!(bed.paused.is_empty(), holds <= left, "{holds} of {most}");
            bed.answer(&ACCEPTED);
        }
    }
}
