//! Messages that share a call: which do, and how each is judged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::gate::REFUSALS_IN_A_ROW;
use super::test_bed::{ACCEPTED, Bed, message, settings};
use crate::core::model::{Class, Message};
use crate::core::provider::{Outcome, Throttle, Trouble};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn refused(class: Class) -> Outcome {
    Outcome::Refused { class, trouble: Trouble::default() }
}

fn wait(time: Duration) -> Outcome {
    Outcome::Throttled { scope: Throttle::Room(time), trouble: Trouble::default() }
}

/// A message that a call may carry together with others whose head is the same.
fn batched(text: &str, head: u8) -> Message {
    let mut message = message("r", text, None);
    let content = Arc::get_mut(&mut message.content).expect("nobody else has it");
    content.batched = Bytes::copy_from_slice(&[0, 0, 0, 1, head]);
    message
}

/// A bed whose calls carry up to ten messages of a room, and one call away, so that others wait.
fn batches() -> Bed {
    let mut settings = settings();
    settings.accounts[0].limits.messages_per_call = 10;
    let mut bed = Bed::new(settings, 1);
    bed.record(0, vec![batched("first", 0)]);
    bed
}

/// Answers the oldest call away, each message by itself.
fn answer(bed: &mut Bed, outcomes: &[Outcome]) {
    let attempt = bed.away.remove(0);
    bed.scheduler.handle_outcome(attempt.id, outcomes, bed.now);
    bed.pass(Duration::ZERO);
}

#[test]
fn only_messages_with_the_same_head_share_a_call() {
    let mut bed = batches();
    for (text, head) in [("a", 1), ("b", 1), ("c", 2), ("d", 2)] {
        bed.record(0, vec![batched(text, head)]);
    }
    bed.answer(&ACCEPTED);
    assert_eq!(bed.contents_away(), ["a", "b"]);
    bed.answer(&ACCEPTED);
    assert_eq!(bed.contents_away(), ["c", "d"]);
}

#[test]
fn what_was_refused_in_company_goes_alone_and_what_waits_its_time_joins_nobody() {
    let mut bed = batches();
    for text in ["a", "b", "c"] {
        bed.record(0, vec![batched(text, 1)]);
    }
    bed.answer(&ACCEPTED);
    assert_eq!(bed.contents_away(), ["a", "b", "c"]);
    // The first is asked to wait, the second refused in company, the third accepted.
    let attempt = bed.away.remove(0);
    let wait = Outcome::Throttled { scope: Throttle::Room(SECOND), trouble: Trouble::default() };
    bed.scheduler.handle_outcome(attempt.id, &[wait, refused(Class::Rejected), ACCEPTED], bed.now);
    bed.pass(SECOND - MS);
    assert!(bed.away.is_empty(), "the room was asked to wait for a second");
    bed.pass(MS);
    assert_eq!(bed.contents_away(), ["a"], "the one that was refused goes alone");
    bed.answer(&ACCEPTED);
    assert_eq!(bed.contents_away(), ["b"]);
    bed.answer(&refused(Class::Rejected));
    assert_eq!(bed.letters, [("rejected", "r".to_owned())]);
}

#[test]
fn a_call_carries_as_many_messages_as_the_account_may_send_in_one() {
    let mut bed = batches();
    for n in 0..25 {
        bed.record(0, vec![batched(&n.to_string(), 1)]);
    }
    let mut sizes = Vec::new();
    bed.answer(&ACCEPTED);
    while !bed.away.is_empty() {
        sizes.push(bed.away[0].items.len());
        bed.answer(&ACCEPTED);
    }
    assert_eq!(sizes, [10, 10, 5]);
}

#[test]
fn who_is_asked_to_wait_longer_joins_when_its_own_time_is_over() {
    for (second, then) in [(SECOND, &["a"][..]), (100 * MS, &["a", "b"][..])] {
        let mut bed = batches();
        for text in ["a", "b"] {
            bed.record(0, vec![batched(text, 1)]);
        }
        bed.answer(&ACCEPTED);
        answer(&mut bed, &[wait(100 * MS), wait(second)]);
        bed.pass(100 * MS);
        assert_eq!(bed.contents_away(), then);
    }
}

#[test]
fn refusals_in_company_say_nothing_about_the_account() {
    let mut settings = settings();
    let many = REFUSALS_IN_A_ROW + 5;
    settings.accounts[0].limits.messages_per_call = many as usize;
    let mut bed = Bed::new(settings, 1);
    bed.record(0, vec![batched("first", 0)]);
    for n in 0..many {
        bed.record(0, vec![batched(&n.to_string(), 1)]);
    }
    bed.answer(&ACCEPTED);
    assert_eq!(bed.away[0].items.len(), many as usize);
    bed.answer(&refused(Class::Rejected));
    assert_eq!(bed.contents_away(), ["0"], "at once, and alone");
}

#[test]
fn what_of_a_call_says_most_of_the_account_is_heard() {
    let closed = || Outcome::Closed(Trouble::default());
    for outcomes in [[ACCEPTED, closed()], [closed(), ACCEPTED], [wait(MS), closed()]] {
        let mut bed = batches();
        for text in ["a", "b"] {
            bed.record(0, vec![batched(text, 1)]);
        }
        bed.answer(&ACCEPTED);
        answer(&mut bed, &outcomes);
        bed.one("other", "x", None);
        assert!(bed.away.is_empty(), "the account takes nothing: {outcomes:?}");
    }
}

#[test]
fn rooms_that_were_refused_together_are_tried_apart() {
    let mut settings = settings();
    settings.accounts[0].limits.rooms_per_call = 10;
    let mut bed = Bed::new(settings, 1);
    let first = message("r", "x", None);
    let to = |room: &str| Message { content: Arc::clone(&first.content), ..message(room, "x", None) };
    bed.record(0, vec![to("r"), to("s"), to("t")]);
    assert_eq!(bed.away[0].items.len(), 3);
    answer(&mut bed, &[refused(Class::Rejected), refused(Class::Rejected), refused(Class::Rejected)]);
    assert_eq!(bed.away.iter().map(|call| call.items.len()).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn who_goes_alone_takes_nobody_along_and_joins_nobody() {
    let mut bed = batches();
    for text in ["a", "b"] {
        bed.record(0, vec![batched(text, 1)]);
    }
    bed.answer(&ACCEPTED);
    bed.record(0, vec![batched("c", 1)]);
    answer(&mut bed, &[refused(Class::Rejected), ACCEPTED]);
    assert_eq!(bed.contents_away(), ["a"], "c could have come along");

    let mut settings = settings();
    settings.accounts[0].limits.rooms_per_call = 10;
    let mut bed = Bed::new(settings, 1);
    let first = message("r", "x", None);
    let to = |room: &str| Message { content: Arc::clone(&first.content), ..message(room, "x", None) };
    bed.record(0, vec![to("r"), to("s"), to("t")]);
    let waits = || wait(100 * MS);
    answer(&mut bed, &[waits(), refused(Class::Rejected), waits()]);
    answer(&mut bed, &[waits()]);
    bed.pass(100 * MS);
    assert_eq!(bed.away.iter().map(|call| call.items.len()).collect::<Vec<_>>(), [2, 1], "s goes alone");
}
