//! The flood guard, through the whole scheduler.

use std::time::Duration;

use super::status::Bound;
use super::test_bed::{ACCEPTED, Bed, SOURCE, message, plan, settings};
use super::{OnExpiry, Settings};
use crate::core::model::{Class, Failure, Message, Plan, RouteId};

fn guarded() -> Bed {
    Bed::new(Settings { flood_guard: Some(10), ..settings() }, 2)
}

/// Letters of a class and route, all at once.
fn letters(bed: &mut Bed, count: usize, class: Class, route: Option<u16>) {
    for _ in 0..count {
        let failure = Failure { base: plan(Vec::new()).base, class, error: String::new(), rooms: Vec::new() };
        let plan = Plan { failures: vec![failure], route: route.map(RouteId), ..plan(Vec::new()) };
        bed.planned(0, plan);
    }
}

fn floods(bed: &Bed) -> u64 {
    bed.scheduler.snapshot(bed.now).sources[0].floods
}

#[test]
fn more_letters_a_second_than_allowed_pause_their_source_for_a_minute() {
    let mut bed = guarded();
    letters(&mut bed, 10, Class::Mapping, Some(0));
    assert!(bed.intake, "so many are allowed");
    letters(&mut bed, 1, Class::Mapping, Some(0));
    assert!(!bed.intake);
    let source = &bed.scheduler.snapshot(bed.now).sources[0];
    assert_eq!((source.intake_open, source.floods), (false, 1));
    let flood = bed.scheduler.flood(SOURCE).expect("it says what came");
    assert_eq!((flood.class, flood.route), (Class::Mapping, Some(RouteId(0))));
    assert_eq!(bed.letters.len(), 11, "no letter is kept back");
    assert_eq!(bed.scheduler.poll_wake(bed.now), Some(bed.now.mono + Duration::from_secs(60)));
    bed.pass(Duration::from_secs(59));
    assert!(!bed.intake);
    bed.pass(Duration::from_secs(1));
    assert!(bed.intake && bed.scheduler.flood(SOURCE).is_none());
    assert!(bed.scheduler.snapshot(bed.now).sources[0].intake_open);
}

#[test]
fn letters_of_other_routes_classes_and_seconds_are_counted_apart() {
    let mut bed = guarded();
    letters(&mut bed, 10, Class::Mapping, Some(0));
    letters(&mut bed, 10, Class::Mapping, Some(1));
    letters(&mut bed, 10, Class::Mapping, None);
    letters(&mut bed, 10, Class::Garbled, Some(0));
    bed.pass(Duration::from_secs(1));
    letters(&mut bed, 10, Class::Mapping, Some(0));
    assert!(bed.intake);
    letters(&mut bed, 1, Class::Mapping, Some(0));
    assert!(!bed.intake);
}

#[test]
fn what_a_rule_says_of_single_messages_is_no_flood() {
    let mut bed = guarded();
    for class in [Class::Expired, Class::Overflow, Class::RoomGone] {
        letters(&mut bed, 100, class, Some(0));
    }
    assert!(bed.intake && floods(&bed) == 0, "a room that is known to be gone is not asked again");
    letters(&mut bed, 11, Class::Rejected, Some(0));
    assert!(!bed.intake);
}

#[test]
fn whoever_looks_at_the_letters_or_reloads_lets_the_source_go_on() {
    let mut bed = guarded();
    letters(&mut bed, 11, Class::Mapping, Some(0));
    bed.scheduler.handle_looked_at(bed.now.mono);
    bed.pass(Duration::ZERO);
    assert!(bed.intake);
    letters(&mut bed, 11, Class::Mapping, Some(0));
    assert!(!bed.intake && floods(&bed) == 2);
    bed.scheduler.handle_reload(
        Settings { flood_guard: None, ..settings() },
        &[super::Renewal::None],
        bed.now,
    );
    bed.pass(Duration::ZERO);
    assert!(bed.intake);
    letters(&mut bed, 1_000, Class::Mapping, Some(0));
    assert!(bed.intake, "it is off");
}

/// A source that holds all it may and floods goes on when neither is so any more.
#[test]
fn a_flood_and_a_bound_hold_back_together() {
    let sources = vec![super::SourceSettings { held_records: 20, ..settings().sources[0] }];
    let mut bed = Bed::new(Settings { flood_guard: Some(10), sources, ..settings() }, 1);
    let later = || Message { expires: None, ..message("r", "x", None) };
    bed.hold_letters = true;
    letters(&mut bed, 11, Class::Mapping, Some(0));
    for _ in 0..9 {
        bed.record(0, vec![later()]);
    }
    assert!(!bed.intake);
    let paused = bed.scheduler.holdups(SOURCE, &[], bed.now);
    assert_eq!(paused[0].bounds, [Bound::HeldRecords, Bound::FloodGuard]);
    bed.pass(Duration::from_secs(60));
    assert!(!bed.intake, "it holds all it may");
    assert_eq!(bed.scheduler.holdups(SOURCE, &[], bed.now)[0].bounds, [Bound::HeldRecords]);
    bed.accept_all();
    assert!(!bed.intake, "more than half of it is letters that wait");
    // The other way round: room again, and a flood that lasts.
    let mut bed = Bed::new(Settings { flood_guard: Some(10), ..settings() }, 1);
    letters(&mut bed, 11, Class::Mapping, Some(0));
    bed.record(0, vec![later()]);
    bed.pass(Duration::from_millis(20));
    bed.answer(&ACCEPTED);
    assert_eq!(bed.settled.len(), 12);
    assert!(!bed.intake, "what is settled does not end a flood");
}

#[test]
fn expired_messages_are_letters_and_no_flood() {
    let mut settings = settings();
    settings.flood_guard = Some(10);
    settings.routes[0].on_expiry = OnExpiry::DeadLetter;
    let mut bed = Bed::new(settings, 1);
    for n in 0..50 {
        let expires = Some(bed.now.wall);
        bed.record(0, vec![Message { expires, ..message(&format!("r{n}"), "late", None) }]);
    }
    bed.pass(Duration::from_secs(1));
    assert!(bed.intake && bed.letters.len() == 50);
}

#[test]
fn after_a_flood_its_source_is_counted_anew_in_all_classes() {
    let mut bed = guarded();
    letters(&mut bed, 10, Class::Garbled, Some(0));
    letters(&mut bed, 11, Class::Mapping, Some(0));
    assert!(!bed.intake);
    bed.scheduler.handle_looked_at(bed.now.mono);
    bed.pass(Duration::ZERO);
    letters(&mut bed, 10, Class::Garbled, Some(0));
    assert!(bed.intake, "those from before the flood count no more");
    letters(&mut bed, 1, Class::Garbled, Some(0));
    assert!(!bed.intake);
}
