//! Tests of quota slots.

use super::*;

fn at(ms: u64) -> Mono {
    Mono(ms * 1_000_000)
}

#[test]
fn a_slot_comes_back_one_period_after_the_answer() {
    let mut slots = Slots::new(2, SECOND, at(1_250));
    assert_eq!(slots.free(at(1_249)), 0, "a new process starts with all slots taken");
    assert_eq!(slots.free(at(1_250)), 2);
    slots.take(2);
    assert_eq!((slots.free(at(5_000)), slots.next_free()), (0, None), "no answer, no slot");
    slots.give_back(1, at(5_000));
    assert_eq!(slots.next_free(), Some(at(6_005)));
    assert_eq!(slots.free(at(6_004)), 0);
    assert_eq!(slots.free(at(6_005)), 1);
    assert_eq!((slots.away(), slots.cooling()), (1, 0));
}

#[test]
fn a_minute_without_calls_in_the_table_is_free_at_once() {
    let of = crate::core::provider::PathQuota {
        calls_per_second: 1,
        messages_per_second: None,
        calls_per_minute: Some(10),
        calls_per_day: Some(100),
    };
    let now = at(2_000);
    let mut quota = Quota::new(&of, at(0));
    assert_eq!(quota.room_for(now), 0);
    assert_eq!(quota.next_free(now), Some(at(61_250)));
    quota.restore(0, 3, Some(Wall(900_000)));
    assert_eq!(quota.room_for(now), 0, "the clock that says how old they are may have jumped");
    quota.restore(0, 0, None);
    assert_eq!(quota.room_for(now), u32::MAX);
}

#[test]
fn a_look_at_an_empty_table_forgets_no_call_of_our_own() {
    let of = crate::core::provider::PathQuota {
        calls_per_second: 10,
        messages_per_second: None,
        calls_per_minute: Some(10),
        calls_per_day: Some(100),
    };
    let limits = crate::core::provider::Limits {
        rooms_per_call: 1,
        messages_per_call: 1,
        drops_repeats: true,
        paths: [of; 3],
        room_messages_per_second: 1,
        room_high_per_second: None,
    };
    let quotas = crate::core::share::Quotas::new(&limits, false);
    let mut quota = Quota::new(&of, at(0));
    let share = |quota: &mut Quota, share: &Share, ms| {
        quota.set_share(share, Path::Broadcast, Growth::Fresh, TIMEOUT, at(ms));
    };
    share(&mut quota, &quotas.fixed(2), 0);
    quota.restore(0, 0, None);
    share(&mut quota, &quotas.whole(), 2_000);
    assert!(quota.day.as_mut().is_some_and(|day| day.begin_recount(at(4_000))));
    let day = quota.day.as_mut().expect("it has one");
    assert_eq!(day.ask(Wall(4_000)), Some((0, 1)));
    day.written(Wall(4_000));
    quota.take(1);
    quota.give_back(1, at(4_100));
    quota.restore(0, 1, None);
    let minute = quota.minute.as_mut().expect("it has one");
    assert_eq!((minute.share(), minute.free(at(10_000))), (10, 9), "all are ours, and one is taken");
}

const TIMEOUT: Duration = Duration::from_secs(2);

fn shared(slots: u32) -> Slots {
    let mut of = Slots::new(10, SECOND, at(0));
    of.set_share(slots, Growth::Fresh, TIMEOUT, at(0));
    of
}

#[test]
fn a_share_shrinks_at_once_and_what_is_away_beyond_it_is_not_followed() {
    let mut slots = shared(10);
    slots.take(6);
    slots.set_share(4, Growth::Handed, TIMEOUT, at(100));
    assert_eq!((slots.free(at(100)), slots.share()), (0, 4));
    slots.give_back(3, at(200));
    assert_eq!(slots.free(at(1_205)), 1, "three are away still");
    slots.give_back(3, at(1_300));
    assert_eq!(slots.free(at(2_305)), 4);
}

#[test]
fn a_share_grows_when_its_former_holder_is_counted_no_longer() {
    let mut slots = shared(0);
    assert_eq!((slots.free(at(9)), slots.next_free(), slots.is_shut()), (0, None, true));
    slots.set_share(3, Growth::Handed, TIMEOUT, at(0));
    slots.set_share(8, Growth::Handed, TIMEOUT, at(1_000));
    slots.set_share(5, Growth::Handed, TIMEOUT, at(1_500));
    assert_eq!(slots.next_free(), Some(at(3_250)), "a period, the time limit and a quarter of a second");
    assert_eq!((slots.free(at(3_249)), slots.free(at(3_250))), (0, 3));
    assert_eq!((slots.free(at(4_249)), slots.free(at(4_250))), (3, 5), "not what was taken back");
    slots.set_share(5, Growth::Handed, TIMEOUT, at(5_000));
    assert_eq!(slots.free(at(5_000)), 5, "what is told again is no growth");
    slots.set_share(99, Growth::Fresh, TIMEOUT, at(5_000));
    assert_eq!((slots.free(at(6_249)), slots.free(at(6_250))), (5, 10), "never more than the quota");
}

#[test]
fn growth_that_is_taken_back_and_given_again_waits_again() {
    let mut slots = shared(2);
    slots.set_share(6, Growth::Handed, TIMEOUT, at(0));
    slots.set_share(2, Growth::Handed, TIMEOUT, at(1_000));
    slots.set_share(6, Growth::Handed, TIMEOUT, at(2_000));
    assert_eq!((slots.free(at(5_249)), slots.free(at(5_250))), (2, 6));
    slots.set_share(8, Growth::Handed, TIMEOUT, at(6_000));
    slots.set_share(10, Growth::Fresh, TIMEOUT, at(6_000));
    assert_eq!((slots.free(at(9_249)), slots.free(at(9_250))), (6, 10), "the longer wait counts for both");
}

#[test]
fn what_is_nobodys_brings_no_time() {
    let mut slots = Slots::new(2, SECOND, at(1_250));
    slots.set_share(0, Growth::Fresh, SECOND, at(0));
    assert!(slots.is_shut());
    assert_eq!(slots.next_free(), None, "time alone brings none");
    slots.take(1);
    assert_eq!((slots.away(), slots.limit(), slots.share()), (1, 2, 0));
}

#[test]
fn a_path_is_shut_when_one_of_its_quotas_is_nobodys() {
    let of = crate::core::provider::PathQuota {
        calls_per_second: 10,
        messages_per_second: Some(10),
        calls_per_minute: Some(10),
        calls_per_day: Some(100),
    };
    let open = || Quota::new(&of, at(0));
    assert!(!open().is_shut());
    let none = |slots: &mut Slots| slots.set_share(0, Growth::Fresh, SECOND, at(0));
    let (mut calls, mut messages, mut minute, mut day) = (open(), open(), open(), open());
    none(&mut calls.calls);
    none(messages.messages.as_mut().unwrap());
    none(minute.minute.as_mut().unwrap());
    day.day.as_mut().unwrap().set_share(0, at(0));
    assert!(calls.is_shut() && messages.is_shut() && minute.is_shut() && day.is_shut());
}

#[test]
fn slots_are_ample_while_more_than_the_part_for_live_messages_is_free() {
    let part = 40 / KEPT_FREE;
    let mut slots = Slots::new(40, SECOND, at(0));
    slots.take(40 - part - 1);
    assert!(slots.is_ample(at(10)));
    slots.take(1);
    assert!(!slots.is_ample(at(10)), "the last ones are for live messages");
    let mut one = Slots::new(1, SECOND, at(0));
    assert!(one.is_ample(at(10)));
    one.take(1);
    assert!(!one.is_ample(at(10)), "a part of few is none, and there must be one");
}

#[test]
fn slots_may_be_ample_when_those_that_are_short_get_one_back() {
    let of = crate::core::provider::PathQuota {
        calls_per_second: 2,
        messages_per_second: Some(1_000),
        calls_per_minute: Some(100),
        calls_per_day: None,
    };
    let mut quota = Quota::new(&of, at(0));
    let now = at(100_000);
    assert_eq!((quota.is_ample(now), quota.next_ample(now)), (true, None));
    quota.take(1);
    quota.take(1);
    assert_eq!((quota.is_ample(now), quota.next_ample(now)), (false, None), "no call has answered");
    quota.give_back(1, now);
    assert_eq!(quota.next_ample(now), Some(at(101_005)), "of the minute there are enough");
    assert!(!quota.is_ample(at(101_004)) && quota.is_ample(at(101_005)));
}
