//! What status tells of the scheduler, and when it asks to be woken.

use std::time::Duration;

use super::status::{Cause, GateState};
use super::test_bed::{ACCEPTED, Bed, SOURCE, failed, message, settings};
use super::{Settings, SourceSettings, pace};
use crate::core::model::{AccountId, Epoch, Message, PartitionId, Path};
use crate::core::provider::{Outcome, Trouble};

const SECOND: Duration = Duration::from_secs(1);

/// One source that may hold so many records.
fn holding(held_records: usize) -> Settings {
    Settings {
        sources: vec![SourceSettings { held_records, held_bytes: 256 << 20, is_answered: false }],
        ..settings()
    }
}

#[test]
fn status_counts_what_comes_and_goes() {
    let mut bed = Bed::new(holding(1), 1);
    let source = |bed: &Bed| bed.scheduler.snapshot(bed.now).sources[0];
    assert_eq!((source(&bed).received, source(&bed).settled, source(&bed).max_held_records), (0, 0, 1));
    assert_eq!((source(&bed).intake_open, source(&bed).closed_since), (true, None));
    bed.one("r", "x", None);
    let closed = bed.now.mono;
    assert_eq!((source(&bed).received, source(&bed).intake_open), (1, false));
    bed.pass(SECOND);
    assert_eq!(source(&bed).closed_since, Some(closed));
    bed.answer(&ACCEPTED);
    assert_eq!((source(&bed).received, source(&bed).settled, source(&bed).closed_since), (1, 1, None));
    assert_eq!((bed.scheduler.sources(), bed.scheduler.max_waiting_per_room()), (1, 1_000));
}

#[test]
fn what_waits_is_told_by_its_cause() {
    let mut settings = settings();
    settings.accounts[0].limits.paths[Path::Users as usize].calls_per_second = 1;
    let mut bed = Bed::new(settings, 1);
    let waiting = |bed: &Bed, path: Path| bed.scheduler.snapshot(bed.now).accounts[0][path as usize].waiting;
    for n in 0..3 {
        bed.record(0, vec![Message { path: Path::Users, ..message(&format!("u{n}"), "x", None) }]);
    }
    assert_eq!(bed.away.len(), 1);
    assert_eq!((waiting(&bed, Path::Users).quota, waiting(&bed, Path::Users).gate), (2, 0));
    assert_eq!((waiting(&bed, Path::Room).quota, waiting(&bed, Path::Room).gate), (0, 0));
    bed.answer(&Outcome::Closed(Trouble::default()));
    assert_eq!((waiting(&bed, Path::Users).quota, waiting(&bed, Path::Users).gate), (0, 3));
}

/// What waits on a path, of whatever cause.
fn waiting(bed: &Bed, account: usize, path: Path) -> [usize; 6] {
    let it = bed.scheduler.snapshot(bed.now).accounts[account][path as usize].waiting;
    [it.quota, it.share, it.pace, it.backoff, it.order, it.gate]
}

#[test]
fn each_message_waits_for_one_thing_and_none_is_left_behind() {
    let mut settings = settings();
    settings.accounts[0].limits.room_messages_per_second = 1;
    let mut bed = Bed::new(settings, 1);
    for room in ["r", "s", "t"] {
        for _ in 0..3 {
            bed.one(room, "x", None);
        }
    }
    assert_eq!(waiting(&bed, 0, Path::Room), [0, 0, 0, 0, 6, 0], "behind the three that are away");
    bed.answer_room("r", &ACCEPTED);
    assert_eq!(waiting(&bed, 0, Path::Room), [0, 0, 1, 0, 5, 0]);
    bed.answer_room("s", &failed());
    assert_eq!(waiting(&bed, 0, Path::Room)[1..], [0, 1, 1, 5, 0], "one for its pace, one for its backoff");
    let path = &bed.scheduler.snapshot(bed.now).accounts[0][Path::Room as usize];
    assert_eq!((path.slots_waiting_for_answer, path.slots_cooling), (1, 2));
    let rooms = bed.scheduler.snapshot(bed.now).rooms;
    assert_eq!(rooms, 3);
    assert_eq!(bed.accept_all().len(), 8, "it asks to be woken when a room's pace has a place again");
    assert_eq!(waiting(&bed, 0, Path::Room), [0; 6]);
    assert_eq!(bed.scheduler.snapshot(bed.now).accounts[0][Path::Room as usize].calls, 10);
}

#[test]
fn accounts_and_paths_are_told_apart() {
    let mut settings = settings();
    settings.accounts.push(super::AccountSettings { needs_login: true, ..settings.accounts[0].clone() });
    let mut bed = Bed::new(settings, 1);
    let second = AccountId(1);
    bed.record(0, vec![Message { account: second, path: Path::Users, ..message("u", "x", None) }]);
    let gate = |bed: &Bed, account: usize| {
        bed.scheduler.snapshot(bed.now).accounts[account][Path::Users as usize].gate.clone()
    };
    assert_eq!((gate(&bed, 0), gate(&bed, 1)), (GateState::Open, GateState::LoggingIn));
    assert_eq!(waiting(&bed, 1, Path::Users), [0, 0, 0, 0, 0, 1], "it waits for the login");
    assert_eq!((waiting(&bed, 0, Path::Users), waiting(&bed, 1, Path::Room)), ([0; 6], [0; 6]));
    let holdups = bed.scheduler.holdups(SOURCE, &[(PartitionId(0), Epoch(1))], bed.now);
    assert_eq!((holdups.len(), holdups[0].rooms[0].cause), (1, Cause::Login));
}

#[test]
fn a_partition_that_others_hold_back_is_told_of_once_and_with_its_letters() {
    let mut settings = settings();
    settings.accounts[0].limits.room_messages_per_second = 1;
    let mut bed = Bed::new(settings, 1);
    let told = |bed: &Bed| bed.scheduler.holdups(SOURCE, &[(PartitionId(0), Epoch(1)); 2], bed.now);
    for text in ["x", "y", "z"] {
        bed.one("r", text, None);
    }
    let before = told(&bed)[0].held_bytes;
    bed.answer(&ACCEPTED);
    bed.pass(SECOND / 2);
    assert_eq!(told(&bed)[0].held_bytes, before / 3 * 2, "three alike, and one has left");
    let holdups = told(&bed);
    assert_eq!((holdups.len(), holdups[0].held_records, holdups[0].letters), (1, 2, 0));
    let room = &holdups[0].rooms[0];
    assert_eq!((room.cause, room.of_partition, room.messages), (Cause::Pace, 2, 2));
    assert_eq!(room.until, Some(pace::PERIOD - SECOND / 2));
}

#[test]
fn it_is_woken_for_the_first_room_whose_pace_has_a_place_again() {
    let mut settings = settings();
    settings.accounts[0].limits.room_messages_per_second = 1;
    let mut bed = Bed::new(settings, 1);
    for room in ["r", "r", "s", "s"] {
        bed.one(room, "x", None);
    }
    bed.answer_room("r", &ACCEPTED);
    let free = bed.now.mono + pace::PERIOD;
    bed.pass(SECOND / 2);
    bed.answer_room("s", &ACCEPTED);
    assert_eq!(bed.scheduler.poll_wake(bed.now), Some(free));
}
