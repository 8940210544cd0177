//! Requests in, rows out.

use bytes::Bytes;

use super::tests::{asked, letter, names, record, request};
use super::*;
use crate::core::letter::Sealed;
use crate::core::model::{DropReason, Epoch, PartitionId, RecordId, SourceId};

const NOW: Wall = Wall(1_700_000_300_000);

fn sealed() -> Sealed {
    letter(record()).seal(&names(), Wall(0))
}

/// The request of a letter, at an offset of the topic of requests.
fn at(offset: i64, sealed: &Sealed) -> Record {
    let mut record = request(sealed);
    record.id.offset = offset;
    record
}

#[track_caller]
fn replayed(book: &mut Book, record: &Record) -> Record {
    match book.open(record) {
        Opened::Replay(_, restored) => restored,
        Opened::Nothing(why) | Opened::Repeated(why) => panic!("nothing: {why}"),
    }
}

#[track_caller]
fn nothing(book: &mut Book, record: &Record) -> String {
    match book.open(record) {
        Opened::Nothing(why) | Opened::Repeated(why) => why,
        Opened::Replay(..) => panic!("it is replayed"),
    }
}

#[test]
fn a_replay_that_works_leaves_a_row_that_says_who_asked_and_when() {
    let (mut book, sealed) = (Book::new(3), sealed());
    let request = at(1, &sealed);
    replayed(&mut book, &request);
    assert_eq!(book.under_way(), 1);
    let rows = book.finish(request.id, NOW);
    let expected = Row { request: Some(asked().id), ..Row::new(State::Replayed, "ann@host", NOW) };
    assert_eq!(rows, [(sealed.id, expected)]);
    assert_eq!((book.under_way(), book.counts().replayed), (0, 1));
    assert!(book.finish(request.id, NOW).is_empty());
}

#[test]
fn the_same_letter_asked_twice_is_replayed_once() {
    let (mut book, sealed) = (Book::new(3), sealed());
    let (first, second, third) = (at(1, &sealed), at(2, &sealed), at(3, &sealed));
    replayed(&mut book, &first);
    assert!(nothing(&mut book, &second).contains("under way"));
    assert!(book.finish(second.id, NOW).is_empty(), "the first one says what becomes of it");
    assert_eq!(book.finish(first.id, NOW).len(), 1);
    // Whoever asked last may have written over the row: it is written again.
    assert!(nothing(&mut book, &third).contains("replayed already"));
    let rows = book.finish(third.id, NOW);
    assert_eq!((rows.len(), rows[0].1.state), (1, State::Replayed));
    assert_eq!((book.counts().replayed, book.counts().repeated), (1, 2));
}

#[test]
fn what_fails_again_is_named_and_beyond_max_replays_parked() {
    let mut book = Book::new(1);
    let mut sealed = sealed();
    for round in 1..=3_u32 {
        let request = at(i64::from(round), &sealed);
        let again = letter(replayed(&mut book, &request));
        assert_eq!(again.replays(), round);
        book.failed(&again);
        let mut rows = book.finish(request.id, NOW);
        let (of, row) = rows.pop().expect("the letter has a row");
        assert_eq!((of, row.state, &*row.next), (sealed.id, State::Replayed, &[again.id()][..]));
        assert!(row.why.contains("rejected"), "{}", row.why);
        match round {
            1 => assert!(rows.is_empty()),
            _ => {
                assert_eq!((rows[0].0, rows[0].1.state), (again.id(), State::Parked));
                assert!(rows[0].1.why.contains("max_replays"), "{}", rows[0].1.why);
            }
        }
        sealed = again.seal(&names(), NOW);
    }
    assert_eq!((book.counts().failed, book.counts().parked), (3, 2));
    // A repeat of a request whose letter failed again keeps the chain.
    let request = at(9, &sealed);
    let again = letter(replayed(&mut book, &request));
    book.failed(&again);
    book.finish(request.id, NOW);
    nothing(&mut book, &at(10, &sealed));
    assert_eq!(book.finish(at(10, &sealed).id, NOW)[0].1.next, [again.id()]);
}

/// A reload: what failed before keeps what became of it.
#[test]
fn another_max_replays_counts_from_then_on() {
    let mut book = Book::new(2);
    let (mut sealed, mut parked) = (sealed(), Vec::new());
    for (round, bound) in [(1, 2), (2, 1), (3, 3), (4, 3)] {
        book.set_max_replays(bound);
        let request = at(round, &sealed);
        let again = letter(replayed(&mut book, &request));
        book.failed(&again);
        let rows = book.finish(request.id, NOW);
        parked.push(rows.len() == 2 && rows[0].1.state == State::Parked);
        sealed = again.seal(&names(), NOW);
    }
    assert_eq!(parked, [false, true, false, true]);
}

#[test]
fn what_others_decided_meanwhile_counts() {
    let (mut book, sealed) = (Book::new(3), sealed());
    let key = Row::key(sealed.id);
    let row = |state| Row::new(state, "bob@host", NOW).write();
    book.note("count/live/broadcast/1/x", Some(b"{}"));
    book.note(&key, Some(b"not a row"));
    book.note(&key, Some(&row(State::Discarded)));
    assert!(nothing(&mut book, &at(1, &sealed)).contains("discarded already"));
    let rows = book.finish(at(1, &sealed).id, NOW);
    assert_eq!(rows[0].1.state, State::Discarded, "it stays what it was");
    book.note(&key, Some(&row(State::Requested)));
    nothing(&mut book, &at(2, &sealed));
    book.finish(at(2, &sealed).id, NOW);
    // Opened again by hand, or its row taken away.
    book.note(&key, Some(&row(State::Open)));
    replayed(&mut book, &at(3, &sealed));
    book.finish(at(3, &sealed).id, NOW);
    nothing(&mut book, &at(4, &sealed));
    book.note(&key, None);
    replayed(&mut book, &at(5, &sealed));
}

/// A letter of the book's that has failed again and may not be replayed any more, before its row is written.
fn failed_too_often(book: &mut Book, sealed: &Sealed) -> Sealed {
    let again = letter(replayed(book, &at(1, sealed)));
    book.failed(&again);
    again.seal(&names(), NOW)
}

#[test]
fn a_letter_that_was_taken_up_meanwhile_is_not_parked() {
    // Under way already, answered already, and decided about by somebody.
    for case in 0..3 {
        let (mut book, sealed) = (Book::new(0), sealed());
        let next = failed_too_often(&mut book, &sealed);
        let request = at(2, &next);
        match case {
            2 => book.note(&Row::key(next.id), Some(&Row::new(State::Discarded, "bob", NOW).write())),
            _ => drop(replayed(&mut book, &request)),
        }
        if case == 1 {
            book.finish(request.id, NOW);
        }
        let rows = book.finish(at(1, &sealed).id, NOW);
        let of: Vec<_> = rows.iter().map(|(of, row)| (*of, row.state)).collect();
        assert_eq!(of, [(sealed.id, State::Replayed)], "case {case}");
        assert_eq!((book.counts().failed, book.counts().parked), (1, 0));
    }
}

#[test]
fn a_late_row_that_parks_a_letter_does_not_have_it_sent_again() {
    let (mut book, sealed) = (Book::new(3), sealed());
    replayed(&mut book, &at(1, &sealed));
    book.finish(at(1, &sealed).id, NOW);
    book.note(&Row::key(sealed.id), Some(&Row::new(State::Parked, "roomcast", NOW).write()));
    assert!(nothing(&mut book, &at(2, &sealed)).contains("replayed already"));
    assert_eq!(book.finish(at(2, &sealed).id, NOW)[0].1.state, State::Replayed);
}

#[test]
fn a_letter_whose_value_is_gone_stays_open_and_says_where_it_stood() {
    let mut book = Book::new(3);
    let request = at(1, &sealed().truncated());
    let why = nothing(&mut book, &request);
    assert!(why.contains("events/3/77") && why.contains("gone"), "{why}");
    let rows = book.finish(request.id, NOW);
    assert_eq!(rows[0].1.state, State::Open);
    assert!(rows[0].1.why.contains("events/3/77"));
    // Found where it stands, it is a replay like any other.
    let mut found = at(2, &sealed().truncated());
    found.value = Some(Bytes::from_static(b"{}"));
    replayed(&mut book, &found);
}

#[test]
fn what_is_no_request_leaves_no_row() {
    let mut book = Book::new(3);
    let mut stray = record();
    stray.id.source = SourceId(1);
    assert!(nothing(&mut book, &stray).contains("no request"));
    assert!(book.finish(stray.id, NOW).is_empty());
    assert_eq!(book.counts().no_request, 1);
}

#[test]
fn a_drop_by_the_routes_is_said() {
    let (mut book, sealed) = (Book::new(3), sealed());
    let request = at(1, &sealed);
    let restored = replayed(&mut book, &request);
    book.dropped(restored.id, DropReason::Rule);
    let rows = book.finish(request.id, NOW);
    assert!(rows[0].1.why.contains("rule"), "{}", rows[0].1.why);
}

#[test]
fn a_request_that_comes_back_under_another_assignment_is_no_repeat() {
    let (mut book, sealed) = (Book::new(3), sealed());
    let first = at(1, &sealed);
    replayed(&mut book, &first);
    let RecordId { source, partition, epoch, .. } = first.id;
    book.forget(source, PartitionId(partition.0 + 1), epoch);
    nothing(&mut book, &at(2, &sealed));
    book.forget(source, partition, epoch);
    assert_eq!(book.under_way(), 0);
    let mut again = first.clone();
    again.id.epoch = Epoch(epoch.0 + 1);
    replayed(&mut book, &again);
    assert!(book.finish(first.id, NOW).is_empty(), "the old assignment says nothing any more");
    assert_eq!(book.finish(again.id, NOW).len(), 1);
}
