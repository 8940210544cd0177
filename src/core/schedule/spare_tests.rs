//! Replays beside live traffic, through the whole scheduler: what they use, and what live messages
//! wait for because of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::test_bed::{ACCEPTED, Bed, message, settings};
use crate::core::model::{Message, Path, Priority};
use crate::core::provider::{Outcome, Trouble};

/// Calls a second that the account may make.
const QUOTA: u32 = 100;
/// How long the provider takes.
const ANSWER: Duration = Duration::from_millis(20);
/// A step of the tests' time.
const STEP: Duration = Duration::from_millis(1);

fn bed(quota: u32) -> Bed {
    let mut settings = settings();
    let limits = &mut settings.accounts[0].limits;
    limits.paths[Path::Room as usize].calls_per_second = quota;
    limits.room_messages_per_second = 20;
    settings.max_waiting_per_room = 100_000;
    Bed::new(settings, 1)
}

fn background(room: usize) -> Message {
    let name = format!("b{room}");
    Message { priority: Priority::Background, ..message(&name, &name, None) }
}

/// What ten seconds of so many live messages a second, evenly, meet beside a backlog of replays: the
/// calls of each, and the longest that a live one waited for its call.
fn beside(live: u64, replays: usize) -> (u64, u64, Duration) {
    beside_of(QUOTA, live, replays, ANSWER, STEP)
}

/// The same with another quota, a provider that takes its time, and live messages that come together, all
/// of such a time at once.
fn beside_of(
    quota: u32,
    live: u64,
    replays: usize,
    answer: Duration,
    together: Duration,
) -> (u64, u64, Duration) {
    let every = u64::try_from(together.as_millis()).expect("a few milliseconds");
    let mut bed = bed(quota);
    for room in 0..replays {
        bed.record(0, vec![background(room % 500)]);
    }
    let mut left = BTreeMap::new();
    let (mut calls, mut of_background, mut longest) = (0, 0, Duration::ZERO);
    for ms in 0..20_000_u64 {
        let counts = ms >= 10_000;
        let until = |ms: u64| live * (ms / every * every) / 1_000;
        for nth in until(ms)..until(ms + 1) {
            let name = format!("l{nth}");
            left.insert(name.clone(), bed.now.mono);
            bed.one(&name, &name, None);
        }
        bed.pass(STEP);
        for attempt in &bed.away {
            let room = attempt.items[0].room.0.to_string();
            if let Some(came) = left.remove(&room) {
                calls += u64::from(counts);
                longest = longest.max(if counts { bed.now.mono.since(came) } else { Duration::ZERO });
            }
        }
        of_background += bed.answer_older(answer, &ACCEPTED, counts);
    }
    (calls, of_background - calls, longest)
}

#[test]
fn replays_use_what_is_left_and_a_live_message_waits_for_one_call_of_theirs_at_most() {
    let alone = beside(40, 0);
    assert_eq!(alone.1, 0);
    let (live, replays, longest) = beside(40, 8_000);
    assert_eq!(live, alone.0, "live traffic goes on as if there were no replays");
    // 60 a second are left, and a tenth of all slots stays free.
    assert!((450..=500).contains(&replays), "{replays} replays in ten seconds");
    assert!(longest <= alone.2 + Duration::from_millis(10), "{longest:?}, alone {:?}", alone.2);
}

/// A slow provider makes calls hold their slots for longer: as many calls as live traffic leaves would take
/// every slot, and what live traffic sends at once would wait for them.
#[test]
fn a_part_of_the_slots_stays_free_for_bursts_however_slow_the_provider() {
    for answer in [20, 200, 500].map(Duration::from_millis) {
        let burst = Duration::from_millis(200);
        let alone = beside_of(QUOTA, 40, 0, answer, burst);
        let (live, replays, longest) = beside_of(QUOTA, 40, 8_000, answer, burst);
        assert_eq!(live, alone.0, "{answer:?}");
        let wait = longest.saturating_sub(alone.2);
        assert!(wait <= Duration::from_millis(10), "{answer:?}: {wait:?} more than alone, {replays} replays");
        // Nine tenths of the slots, less those of live calls, at so long a turn each.
        let turn = 1.005 + answer.as_secs_f64();
        let possible = 10.0 * (90.0 / turn - 40.0);
        let used = replays as f64 / possible;
        assert!(used > 0.9, "{answer:?}: {replays} replays, {possible} would be possible");
    }
}

#[test]
fn replays_have_a_twentieth_when_live_traffic_wants_all() {
    let (live, replays, _) = beside(150, 8_000);
    assert!((48..=52).contains(&replays), "{replays} replays, {live} live in ten seconds");
    assert!(live + replays > 950, "{live} live calls: nothing is left unused");
}

/// What live traffic got through, beside replays that had come first, says nothing of what it wants.
#[test]
fn replays_give_way_to_live_traffic_that_waits_however_small_the_quota() {
    for (quota, live) in [(2, 4), (4, 10), (20, 30)] {
        let (calls, replays, _) = beside_of(quota, live, 1_000, ANSWER, STEP);
        let least = u64::from(quota) / 2; // a twentieth of ten seconds
        assert!(replays <= least + 1, "{quota}: {replays} replays in ten seconds");
        assert!(calls + replays >= u64::from(quota) * 9, "{quota}: {calls} live calls");
    }
}

#[test]
fn a_room_keeps_a_quarter_of_its_pace_for_live_messages() {
    let mut bed = bed(QUOTA);
    for _ in 0..40 {
        bed.record(0, vec![background(0)]);
    }
    let mut sent = 0;
    for _ in 0..500 {
        bed.pass(STEP);
        sent += bed.answer_older(Duration::ZERO, &ACCEPTED, true);
    }
    assert_eq!(sent, 15, "of the 20 in a second");
    bed.one("b0", "live", None);
    assert_eq!(bed.contents_away(), ["live"], "a live one finds a place at once");
}

/// Else a path on which only replays wait would stay shut for as long as its quota is slow.
#[test]
fn a_replay_that_probes_a_gate_does_not_wait_for_its_part() {
    let mut settings = settings();
    let room = &mut settings.accounts[0].limits.paths[Path::Room as usize];
    (room.calls_per_second, room.calls_per_minute) = (10, Some(6));
    let mut bed = Bed::new(settings, 1);
    bed.pass(Duration::from_secs(60));
    for n in 0..9 {
        bed.record(0, vec![background(n)]);
    }
    while !bed.away.is_empty() {
        bed.answer(&ACCEPTED);
    }
    bed.pass(Duration::from_secs(60));
    assert_eq!(bed.away.len(), 1);
    bed.answer(&Outcome::Closed(Trouble::default()));
    bed.pass(Duration::from_secs(5));
    assert_eq!(bed.away.len(), 1, "the next of them may leave eleven seconds after the last");
}
