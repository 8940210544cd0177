//! What a source asks a ledger beside records: what is here, what it weighs, what it knows of.

use std::time::Duration;

use bytes::Bytes;

use super::tests::{delivery, drain, record, take};
use super::{Arrived, Delivery, Gathered, Ledger};
use crate::core::model::Record;
use crate::core::time::Mono;

const LONGEST: Duration = Duration::from_secs(15);

/// A record whose value has so many bytes.
fn heavy(sequence: u64, bytes: usize) -> Record {
    Record { value: Some(Bytes::from(vec![b'x'; bytes])), ..record(sequence, false) }
}

/// Takes a record of so many bytes, and says what it weighs.
fn take_heavy(ledger: &mut Ledger<String>, sequence: u64, bytes: usize) -> usize {
    let weight = heavy(sequence, bytes).weight();
    let it = Delivery { published: 0, ..delivery(sequence, sequence, 1) };
    assert_eq!(ledger.take(it, String::new(), |_| heavy(sequence, bytes)), Arrived::New);
    weight
}

#[test]
fn p7_what_is_held_is_weighed_and_a_big_record_is_forgotten_slowly() {
    let mut ledger = Ledger::<String>::default();
    assert_eq!((ledger.bytes(), ledger.big()), (0, 0));
    let one = take_heavy(&mut ledger, 1, 6_400);
    assert_eq!((ledger.bytes(), ledger.big()), (one, one));
    let other = take_heavy(&mut ledger, 2, 100);
    assert_eq!((ledger.bytes(), ledger.big()), (one + other, one - one / 64));
    let bigger = take_heavy(&mut ledger, 3, 64_000);
    assert_eq!((ledger.bytes(), ledger.big()), (one + other + bigger, bigger));
    drain(&mut ledger);
    ledger.settle(2, Mono(0));
    assert_eq!(ledger.bytes(), one + bigger);
    ledger.release();
    assert_eq!((ledger.bytes(), ledger.held(), ledger.replies().count()), (0, 0, 0));
}

#[test]
fn p3_a_message_that_is_delivered_again_may_have_been_tried_wherever_it_stands() {
    let mut ledger = Ledger::<String>::default();
    take(&mut ledger, delivery(7, 1, 1));
    take(&mut ledger, delivery(8, 2, 2));
    assert_eq!(drain(&mut ledger), [(7, false), (8, true)]);
}

#[test]
fn it_is_ready_when_something_waits_and_nothing_is_gathered() {
    let mut ledger = Ledger::<String>::default();
    assert!(!ledger.is_ready());
    take(&mut ledger, delivery(1, 1, 1));
    assert!(ledger.is_ready());
    ledger.start_gathering(Mono(5), LONGEST);
    assert_eq!((ledger.is_ready(), ledger.gathers_until()), (false, Some(Mono(5) + LONGEST)));
    ledger.pending(1, 1);
    assert_eq!(ledger.end_gathering(Mono(5)), Some(Gathered::Whole));
    assert_eq!((ledger.is_ready(), ledger.gathers_until()), (true, None));
    drain(&mut ledger);
    assert!(!ledger.is_ready());
}

#[test]
fn what_is_held_or_finished_is_known() {
    let mut ledger = Ledger::<String>::default();
    for sequence in [3, 5, 8] {
        take(&mut ledger, delivery(sequence, sequence, 1));
    }
    drain(&mut ledger);
    ledger.settle(5, Mono(0));
    assert_eq!([3, 4, 5, 8, 9].map(|sequence| ledger.knows(sequence)), [true, false, true, true, false]);
    assert_eq!(ledger.known(3).into_iter().collect::<Vec<_>>(), [3, 5, 8]);
    assert_eq!(ledger.known(5).into_iter().collect::<Vec<_>>(), [5, 8]);
    assert_eq!(ledger.known(6).into_iter().collect::<Vec<_>>(), [8]);
    assert_eq!(ledger.finished_above(4).collect::<Vec<_>>(), [(5, 5_000)]);
    assert_eq!(ledger.finished_above(5).count(), 0);
    assert_eq!(ledger.lowest(), Some(3));
}

#[test]
fn what_lies_below_the_servers_floor_is_new_again_a_minute_later() {
    let mut ledger = Ledger::<String>::default();
    take(&mut ledger, delivery(1, 1, 1));
    take(&mut ledger, delivery(2, 2, 1));
    drain(&mut ledger);
    ledger.settle(1, Mono(0));
    ledger.floor(1, Mono(0));
    assert!(ledger.knows(1));
    ledger.floor(2, Mono(0) + Duration::from_secs(60));
    assert_eq!((ledger.knows(1), ledger.knows(2)), (false, true));
}

#[test]
fn another_stream_under_the_same_name_knows_nothing_and_what_lies_below_may_have_been_tried() {
    let mut ledger = Ledger::<String>::default();
    for sequence in [1, 2, 4] {
        take(&mut ledger, delivery(sequence, sequence, 1));
    }
    drain(&mut ledger);
    ledger.settle(2, Mono(0));
    ledger.forget();
    assert_eq!((ledger.held(), ledger.lowest(), ledger.known(0).len()), (0, None, 0));
    for sequence in [2, 4, 5] {
        assert_eq!(take(&mut ledger, delivery(sequence, sequence, 1)), Arrived::New);
    }
    assert_eq!(drain(&mut ledger), [(2, true), (4, true), (5, false)]);
}
