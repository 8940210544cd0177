//! Rules of a leased share that the seeded worlds do not weigh: times to wait, what people read, who
//! leaves, and how slots go round.

use std::time::Duration;

use super::world::{TIMEOUT, limits};
use super::{Pair, at, quotas};
use crate::core::model::Path;
use crate::core::provider::Limits;
use crate::core::share::lease::{Book, LEASE, News, Step, Told, Written};
use crate::core::share::{Growth, Quotas};
use crate::core::time::Mono;

const POLL: Duration = Duration::from_millis(500);

/// Quotas like those of the world, but for what `change` does to them.
fn with(change: impl FnOnce(&mut Limits)) -> Quotas {
    let mut limits = limits();
    change(&mut limits);
    Quotas::new(&limits, true)
}

fn told(book: &Book, now: Mono) -> Told {
    let mut fresh = book.clone();
    fresh.forget_told();
    fresh.poll_told(now).expect("what was forgotten is told again")
}

fn pair(replicas: usize, quotas: &Quotas) -> Pair {
    let max = u32::try_from(replicas).expect("a few");
    let book = |n| Book::new(format!("{n}"), quotas.clone(), max, TIMEOUT, at(0));
    Pair { books: (0..replicas).map(book).collect(), row: None, now: at(0) }
}

#[test]
fn without_the_store_a_replica_has_its_floor_once_nobody_counts_on_the_whole() {
    let quotas = with(|limits| limits.paths[Path::Room as usize].calls_per_second = 60);
    let mut book = Book::new("a".to_owned(), quotas, 3, TIMEOUT, at(0));
    book.handle_read(Err("it is down".to_owned()), at(0));
    let before = told(&book, at(0) + LEASE - Duration::from_nanos(1));
    assert!(before.grant.share.is_none() && before.standing.why.contains("it is down"), "{before:?}");
    let after = told(&book, at(0) + LEASE).grant;
    assert_eq!(after.share.calls(Path::Room), 2, "a third of a tenth of sixty");
    assert_eq!((after.growth, after.lease), (Growth::Fresh, None));
    assert!(!after.share.is_none());
}

#[test]
fn a_lease_that_cannot_be_renewed_says_so_when_only_the_floor_is_left() {
    let mut pair = pair(1, &quotas());
    pair.pass(1_000);
    let book = &mut pair.books[0];
    let (until, _) = told(book, pair.now).grant.lease.expect("a lease");
    book.handle_read(Err("it is down".to_owned()), pair.now);
    let why = |now| told(book, now).standing.why;
    assert_eq!(why(until - Duration::from_nanos(1)), "", "the lease is good");
    assert!(why(until).contains("only the floor is left: it is down"), "{}", why(until));
}

#[test]
fn the_row_is_looked_at_twice_a_second_and_at_once_for_news() {
    let mut book = Book::new("a".to_owned(), quotas(), 2, TIMEOUT, at(0));
    assert_eq!(book.poll(at(0)), Step::Read);
    book.handle_read(Err("it is down".to_owned()), at(100));
    assert_eq!(book.poll(at(100)), Step::Wait(at(100) + POLL));
    assert_eq!(book.poll(at(600)), Step::Read);
    book.handle_read(Ok(None), at(700));
    assert!(matches!(book.poll(at(700)), Step::Write { expected: 0, .. }));
    book.handle_written(Ok(Written::Done(1)), at(800));
    assert_eq!(book.poll(at(800)), Step::Wait(at(800) + POLL));
    book.handle_news(News::Ban(Path::Room, Duration::from_secs(9)), at(900));
    assert_eq!(book.poll(at(900)), Step::Read, "the others are to hear of it");
}

#[test]
fn who_was_outrun_looks_again_soon_and_not_all_at_one_moment() {
    let wait = |name: &str| {
        let mut book = Book::new(name.to_owned(), quotas(), 2, TIMEOUT, at(0));
        book.handle_read(Ok(None), at(1_000));
        assert!(matches!(book.poll(at(1_000)), Step::Write { .. }));
        book.handle_written(Ok(Written::Outrun), at(1_000));
        match book.poll(at(1_000)) {
            Step::Wait(until) => until.since(at(1_000)),
            Step::Read => Duration::ZERO,
            other => panic!("{other:?}"),
        }
    };
    let waits: Vec<Duration> = (0..40).map(|n| wait(&format!("roomcast-{n}-7f3a9"))).collect();
    assert!(waits.iter().all(|wait| *wait < Duration::from_millis(60)), "{waits:?}");
    let different: std::collections::BTreeSet<_> = waits.iter().collect();
    assert!(different.len() > 20, "{waits:?}");
}

#[test]
fn who_leaves_takes_its_name_out_and_leaves_its_slots_at_once() {
    let mut pair = pair(2, &quotas());
    pair.pass(3_000);
    assert_eq!(told(&pair.books[0], pair.now).grant.growth, Growth::Handed, "the other has joined since");
    let now = pair.now;
    pair.books[0].leave(now);
    assert_eq!(pair.calls(0), 0, "it sends nothing from now on");
    pair.pass(1_200);
    let now = pair.now;
    assert_eq!(pair.books[0].poll(now), Step::Left);
    assert_eq!(pair.calls(1), 12, "long before a lease of the other would have ended");
    assert_eq!(pair.told(1).standing.replicas, Some(1));
}

#[test]
fn one_alone_keeps_to_a_smaller_quota_at_once() {
    let mut pair = pair(1, &quotas());
    pair.pass(1_000);
    assert_eq!(pair.calls(0), 12);
    let now = pair.now;
    let smaller = with(|limits| limits.paths[Path::Room as usize].calls_per_second = 4);
    pair.books[0].handle_news(News::Quotas(Box::new(smaller), TIMEOUT), now);
    assert_eq!(pair.calls(0), 4);
}

#[test]
fn what_suffices_for_all_stays_where_it_is() {
    let quotas = with(|limits| limits.paths[Path::Room as usize].calls_per_second = 13);
    let mut pair = pair(2, &quotas);
    pair.pass(5_000);
    let before = [pair.calls(0), pair.calls(1)];
    assert_eq!(before[0] + before[1], 13);
    for _ in 0..20 {
        pair.pass(3_000);
        assert_eq!([pair.calls(0), pair.calls(1)], before);
    }
}

#[test]
fn slots_of_a_minute_or_a_day_go_round_more_seldom_than_those_of_a_second() {
    let quotas = with(|limits| {
        let broadcasts = &mut limits.paths[Path::Broadcast as usize];
        (broadcasts.calls_per_second, broadcasts.calls_per_minute, broadcasts.calls_per_day) =
            (1, Some(2), Some(2));
    });
    let mut pair = pair(3, &quotas);
    pair.pass(5_000);
    let holders = |pair: &mut Pair, slots: fn(&crate::core::share::Share) -> u32| {
        [0, 1, 2].map(|n| slots(&pair.told(n).grant.share))
    };
    let mut moved = [0; 4];
    let mut last = [[0; 3]; 4];
    for _ in 0..650 {
        pair.pass(1_000);
        let now = [
            holders(&mut pair, |share| share.calls(Path::Users)),
            holders(&mut pair, |share| share.minute(Path::Broadcast)),
            holders(&mut pair, |share| share.day(Path::Broadcast)),
            holders(&mut pair, |share| share.calls(Path::Broadcast)),
        ];
        for ((moved, last), now) in moved.iter_mut().zip(&mut last).zip(now) {
            // Between two holders nobody has it for a moment.
            if now.iter().sum::<u32>() > 0 && std::mem::replace(last, now) != now {
                *moved += 1;
            }
        }
    }
    // A turn is ten seconds and four time limits of two.
    assert!((30..=37).contains(&moved[0]) && moved[0] == moved[3], "{moved:?}");
    assert!((2..=12).contains(&moved[1]) && moved[1] == moved[2], "{moved:?}");
}
