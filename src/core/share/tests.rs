//! Shares in a world of their own: thousands of seeded runs with processes that join, leave and die,
//! partitions that move, a store that is slow, silent or behind, and a provider that counts (P4).
//!
//! `SHARE_RUNS=20000` runs so many seeds of each kind, `SHARE_SEED=7` that one.

mod books;
mod process;
mod world;

use self::process::{SECOND, quotas};
use self::world::{Kind, MAX_REPLICAS, QUOTA, World, limits};
use super::lease::{Book, LEASE, MARGIN, Step, Written};
use super::spread::{SETTLE, Spread, Unit};
use super::{Growth, Quotas, RoomPace, Share};
use crate::core::model::Path;
use crate::core::time::Mono;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Plays one kind with many seeds, and sees that no window was above its quota.
fn play(kind: Kind, act: impl Fn(&mut World)) {
    let seeds = match number("SHARE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SHARE_RUNS").unwrap_or(40),
    };
    for seed in seeds {
        let mut world = World::new(kind, seed);
        act(&mut world);
        let most = world.most();
        let holds = most.iter().zip(QUOTA).all(|(most, quota)| *most <= quota);
        assert!(holds, "{kind:?}, SHARE_SEED={seed}: windows carried {most:?}, the quotas are {QUOTA:?}");
    }
}

/// Somebody joins, leaves, dies or is cut off, again and again; then it is quiet.
fn trouble(world: &mut World, most_alive: usize) {
    world.join();
    for _ in 0..world.rng.usize(3..9) {
        let span = world.rng.u64(100..9_000) * 1_000_000;
        world.run(span);
        let alive: Vec<u32> = world.processes.keys().copied().collect();
        let one = world.rng.choice(&alive).copied();
        match (world.rng.u8(0..10), one) {
            (0..4, _) if alive.len() < most_alive => drop(world.join()),
            (4, Some(one)) => world.leave(one),
            (5 | 6, Some(one)) => world.kill(one),
            (8, Some(one)) => world.cut_off(one, false),
            // Floors are for as many as may be: one more is told so by the store, if it can be.
            _ if most_alive > MAX_REPLICAS as usize => {}
            (7, Some(one)) => world.cut_off(one, true),
            (9, _) => world.store_is_down ^= true,
            _ => {}
        }
    }
}

/// Nothing goes wrong any more: the quota is used.
fn assert_used(world: &mut World, kind: Kind) {
    (world.store_is_down, world.is_calm) = (false, true);
    for id in 0..100 {
        world.cut_off(id, false);
    }
    if world.processes.is_empty() {
        world.join();
    }
    world.run(30 * SECOND);
    let from = world.now;
    world.run(10 * SECOND);
    // A sixth of the calls of this world take a second on average, which each costs its slot.
    let used = world.used_since(from);
    assert!(used >= 60, "{kind:?}: {used} % of the quota were used in ten quiet seconds");
}

#[test]
fn p4_partitions_that_move_carry_their_slots_with_them() {
    play(Kind::Partitions, |world| {
        trouble(world, 4);
        assert_used(world, Kind::Partitions);
    });
}

#[test]
fn p4_a_topic_that_grows_breaks_no_quota() {
    play(Kind::Partitions, |world| {
        for _ in 0..world.rng.usize(1..4) {
            world.join();
        }
        world.run(20 * SECOND);
        world.grow();
        world.run(25 * SECOND);
        trouble(world, 4);
        world.run(15 * SECOND);
        let alive: Vec<u32> = world.processes.keys().copied().collect();
        if let Some(one) = world.rng.choice(alive) {
            world.kill(one);
        }
        world.run(80 * SECOND);
        assert_used(world, Kind::Partitions);
    });
}

#[test]
fn p4_leases_add_up_whatever_the_store_does() {
    play(Kind::NatsKv, |world| {
        trouble(world, MAX_REPLICAS as usize);
        assert_used(world, Kind::NatsKv);
    });
}

#[test]
fn p4_one_replica_too_many_breaks_no_quota() {
    play(Kind::NatsKv, |world| {
        trouble(world, MAX_REPLICAS as usize + 1);
        assert_used(world, Kind::NatsKv);
    });
}

#[test]
fn p4_fixed_parts_add_up() {
    play(Kind::Static, |world| trouble(world, MAX_REPLICAS as usize));
}

fn at(ms: u64) -> Mono {
    Mono(ms * 1_000_000)
}

fn units(of: std::ops::Range<u32>) -> Vec<Unit> {
    of.map(Unit).collect()
}

fn spread(order: u32, held: std::ops::Range<u32>) -> Share {
    let mut spread = Spread::partitions(quotas());
    spread.handle_order(units(0..order), at(0));
    spread.handle_held(units(held));
    spread.poll_grant(at(0)).expect("something new").share
}

#[test]
fn every_slot_has_one_holder_however_partitions_lie() {
    for partitions in 1..30 {
        for cut in 0..=partitions {
            let (one, other) = (spread(partitions, 0..cut), spread(partitions, cut..partitions));
            assert_eq!(one.calls(Path::Room) + other.calls(Path::Room), QUOTA[0], "{cut} of {partitions}");
            assert_eq!(one.minute(Path::Broadcast) + other.minute(Path::Broadcast), QUOTA[3]);
        }
    }
    let of_users = |held| spread(8, held).calls(Path::Users);
    assert_eq!((of_users(0..1), of_users(1..8)), (1, 0), "one slot belongs to partition 0");
    assert_eq!(spread(0, 0..0), quotas().none());
}

#[test]
fn the_first_assignment_of_everything_waits_for_nobody_who_lives() {
    let mut alone = Spread::partitions(quotas());
    alone.handle_order(units(0..4), at(0));
    alone.handle_held(units(0..4));
    assert_eq!(alone.poll_grant(at(0)).map(|grant| grant.growth), Some(Growth::Fresh));
    assert_eq!(alone.poll_grant(at(1)), None, "nothing new");
    alone.handle_gone(units(0..4));
    assert_eq!(alone.poll_grant(at(2)).map(|grant| grant.share), Some(quotas().none()));
    alone.handle_held(units(0..4));
    assert_eq!(alone.poll_grant(at(3)).map(|grant| grant.growth), Some(Growth::Handed));

    let mut second = Spread::partitions(quotas());
    second.handle_order(units(0..4), at(0));
    second.handle_held(units(2..4));
    assert_eq!(second.poll_grant(at(0)).map(|grant| grant.growth), Some(Growth::Handed));
}

#[test]
fn a_changed_number_of_partitions_binds_beside_the_old_one() {
    let mut one = Spread::partitions(quotas());
    one.handle_order(units(0..2), at(0));
    one.handle_held(units(0..1));
    assert_eq!(one.poll_grant(at(0)).map(|grant| grant.share.calls(Path::Room)), Some(6));
    one.handle_order(units(0..4), at(0));
    one.handle_held(units(3..4));
    let both = one.poll_grant(at(0)).map(|grant| grant.share.calls(Path::Room));
    assert_eq!(both, Some(3), "slots 0 to 5 by the old count, 0 to 2 and 9 to 11 by the new one");
    let later = one.poll_grant(at(0) + SETTLE).map(|grant| grant.share.calls(Path::Room));
    assert_eq!(later, Some(6));
}

#[test]
fn what_is_ours_by_both_orders_is_found_in_every_range() {
    let mut one = Spread::partitions(quotas());
    one.handle_order(units(0..4), at(0));
    one.handle_held([Unit(0), Unit(2), Unit(9)]);
    assert_eq!(one.units(), (2, 4));
    one.handle_order(vec![Unit(9)], at(0));
    assert_eq!(one.units(), (1, 1));
    let both = one.poll_grant(at(0)).map(|grant| grant.share.calls(Path::Room));
    assert_eq!(both, Some(6), "all by the new order, 0 to 2 and 6 to 8 by the old one");
}

#[test]
fn who_had_some_follows_others_to_the_rest_and_to_a_larger_quota() {
    let mut one = Spread::partitions(quotas());
    one.handle_order(units(0..4), at(0));
    one.handle_held(units(0..2));
    assert_eq!(one.poll_grant(at(0)).map(|grant| grant.growth), Some(Growth::Handed));
    one.handle_held(units(2..4));
    let grant = one.poll_grant(at(1)).unwrap();
    assert_eq!((grant.share, grant.growth), (quotas().whole(), Growth::Handed), "they had it until now");
    let mut larger = limits();
    larger.paths[Path::Room as usize].calls_per_second = 50;
    one.set_quotas(Quotas::new(&larger, true));
    let grant = one.poll_grant(at(2)).unwrap();
    assert_eq!((grant.share.calls(Path::Room), grant.growth), (50, Growth::Handed));
}

#[test]
fn a_reader_in_doubt_has_nothing_and_waits_for_another_when_it_is_sure_again() {
    let mut reader = Spread::readers(quotas(), units(0..1), Growth::Fresh);
    reader.handle_held(units(0..1));
    let grant = reader.poll_grant(at(0)).unwrap();
    assert_eq!((grant.share, grant.growth), (quotas().whole(), Growth::Fresh));
    reader.handle_doubt(Unit(0));
    assert_eq!(reader.poll_grant(at(1)).map(|grant| grant.share), Some(quotas().none()));
    reader.handle_held(units(0..1));
    assert_eq!(reader.poll_grant(at(2)).map(|grant| grant.growth), Some(Growth::Handed));
    reader.handle_gone(units(0..1));
    reader.poll_grant(at(3));
    reader.handle_held(units(0..1));
    assert_eq!(reader.poll_grant(at(4)).map(|grant| grant.growth), Some(Growth::Fresh));
}

#[test]
fn what_a_frozen_process_held_comes_to_it_as_if_from_another() {
    let mut spread = Spread::partitions(quotas());
    spread.handle_order(units(0..2), at(0));
    spread.handle_held(units(0..2));
    let before = spread.poll_grant(at(0)).unwrap();
    spread.handle_frozen();
    let after = spread.poll_grant(at(9_000)).unwrap();
    assert_eq!((after.share, after.growth), (before.share, Growth::Handed));
    assert_eq!(spread.poll_grant(at(9_001)), None);
}

#[test]
fn a_rooms_pace_is_divided_and_never_below_one() {
    assert_eq!([1, 3, 50].map(|replicas| quotas().fixed(replicas).room_pace().all), [20, 6, 1]);
    assert_eq!(quotas().fixed(3).room_pace().background, u32::MAX, "its part of the pace bounds replays too");
}

#[test]
fn where_the_key_is_the_room_its_pace_is_one_senders_but_for_a_replay_of_others() {
    let mut limits = limits();
    limits.room_high_per_second = Some(10);
    let pace = |all, background| RoomPace { all, high: 10, background };
    let one_reader = Quotas::new(&limits, false);
    assert_eq!(one_reader.whole().room_pace(), pace(20, u32::MAX), "who is alone sends both");
    assert_eq!(one_reader.fixed(3).room_pace(), pace(19, 1));
    assert_eq!(one_reader.none().room_pace(), pace(19, 1));
    limits.room_messages_per_second = 1;
    assert_eq!(Quotas::new(&limits, false).fixed(2).room_pace().all, 1, "never below one");
}

/// Two replicas and a store that always answers at once.
struct Pair {
    books: Vec<Book>,
    row: Option<(u64, Vec<u8>)>,
    now: Mono,
}

impl Pair {
    fn new(replicas: usize, max: u32) -> Self {
        let book = |n| Book::new(format!("{n}"), quotas(), max, world::TIMEOUT, at(0));
        Self { books: (0..replicas).map(book).collect(), row: None, now: at(0) }
    }

    /// So many milliseconds pass.
    fn pass(&mut self, ms: u64) {
        let end = self.now + std::time::Duration::from_millis(ms);
        while self.now < end {
            self.now = self.now + std::time::Duration::from_millis(20);
            for book in &mut self.books {
                match book.poll(self.now) {
                    Step::Read => {
                        let row = self.row.as_ref().map(|(revision, bytes)| (*revision, bytes.as_slice()));
                        book.handle_read(Ok(row), self.now);
                    }
                    Step::Write { expected, bytes } => {
                        let is_first = expected == self.row.as_ref().map_or(0, |(revision, _)| *revision);
                        let written = if is_first { Written::Done(expected + 1) } else { Written::Outrun };
                        self.row = if is_first { Some((expected + 1, bytes)) } else { self.row.take() };
                        book.handle_written(Ok(written), self.now);
                    }
                    Step::Wait(_) | Step::Left => {}
                }
            }
        }
    }

    fn told(&mut self, n: usize) -> super::lease::Told {
        let mut fresh = self.books[n].clone();
        fresh.forget_told();
        fresh.poll_told(self.now).expect("what was forgotten is told again")
    }

    fn calls(&mut self, n: usize) -> u32 {
        self.told(n).grant.share.calls(Path::Room)
    }
}

#[test]
fn more_replicas_than_may_be_get_nothing_and_say_so() {
    let mut pair = Pair::new(3, 2);
    pair.pass(3_000);
    assert_eq!([pair.calls(0), pair.calls(1), pair.calls(2)], [6, 6, 0]);
    let told = pair.told(2);
    assert!(told.grant.share.is_none() && told.standing.why.contains("max_replicas"), "{told:?}");
    pair.books.remove(0);
    pair.pass(9_000);
    assert_eq!([pair.calls(0), pair.calls(1)], [6, 6], "the third takes the dead one's place");
}

#[test]
fn who_follows_a_dead_replica_waits_for_its_last_calls() {
    let mut pair = Pair::new(2, 1);
    pair.pass(1_000);
    assert_eq!(pair.told(0).grant.growth, Growth::Fresh, "the row was empty");
    pair.books.remove(0);
    while pair.calls(0) < QUOTA[0] {
        pair.pass(20);
    }
    assert_eq!(pair.told(0).grant.growth, Growth::Handed, "it may be cut off from the store alone");
}

#[test]
fn what_is_too_little_for_all_goes_round() {
    let mut pair = Pair::new(3, 3);
    pair.pass(2_000);
    let mut turns = [0; 3];
    for _ in 0..12 {
        pair.pass(10_000);
        let slots: Vec<u32> = (0..3).map(|n| pair.told(n).grant.share.calls(Path::Users)).collect();
        assert!(slots.iter().sum::<u32>() <= 1, "{slots:?}");
        turns.iter_mut().zip(slots).for_each(|(turns, slots)| *turns += slots);
    }
    assert!(turns.iter().all(|turns| *turns >= 2), "{turns:?}");
}

#[test]
fn a_lease_ends_for_its_holder_before_it_does_for_the_others() {
    let mut pair = Pair::new(2, 2);
    pair.pass(3_000);
    let told = pair.told(1);
    let (until, rest) = told.grant.lease.expect("a lease");
    assert!(until <= pair.now + LEASE && rest.calls(Path::Room) == 0, "{told:?}");
    // The second one does nothing from now on.
    let mut one = Pair { books: vec![pair.books[0].clone()], row: pair.row.take(), now: pair.now };
    while one.calls(0) == 6 {
        one.pass(20);
    }
    assert!(one.now >= until + MARGIN, "taken at {:?}, good until {until:?}", one.now);
}

#[test]
fn a_ban_is_heard_once_for_what_is_left_of_it() {
    let mut pair = Pair::new(2, 2);
    pair.pass(3_000);
    pair.books[1].poll_told(pair.now);
    let now = pair.now;
    pair.books[0].handle_ban(Path::Room, std::time::Duration::from_secs(2), now);
    pair.pass(600);
    let bans = pair.books[1].poll_told(pair.now).map(|told| told.bans).unwrap_or_default();
    assert!(matches!(bans[..], [(Path::Room, left)] if left.as_millis() > 1_900), "{bans:?}");
    pair.pass(10_000);
    let late = pair.books[1].poll_told(pair.now).map(|told| told.bans).unwrap_or_default();
    assert!(late.iter().all(|(_, left)| left.as_millis() < 1_000), "{late:?}");
}

#[test]
fn replicas_that_are_told_of_another_quota_one_after_the_other_keep_to_the_smaller_one() {
    let of = |calls_per_second| {
        let mut limits = limits();
        limits.paths[Path::Room as usize].calls_per_second = calls_per_second;
        Quotas::new(&limits, true)
    };
    let mut pair = Pair::new(2, 2);
    pair.pass(3_000);
    assert_eq!([pair.calls(0), pair.calls(1)], [6, 6]);
    let now = pair.now;
    pair.books[0].set_quotas(of(4), world::TIMEOUT, now);
    assert_eq!([pair.calls(0), pair.calls(1)], [0, 6], "nothing is left beside what the other has");
    pair.pass(2_000);
    assert_eq!([pair.calls(0), pair.calls(1)], [2, 2], "the row has the smaller one, which counts for both");
    let now = pair.now;
    pair.books[1].set_quotas(of(4), world::TIMEOUT, now);
    assert_eq!([pair.calls(0), pair.calls(1)], [2, 2]);
    pair.books.iter_mut().for_each(|book| book.set_quotas(of(QUOTA[0]), world::TIMEOUT, now));
    assert_eq!([pair.calls(0), pair.calls(1)], [2, 2], "more is theirs when the row says so");
    pair.pass(3_000);
    assert_eq!([pair.calls(0), pair.calls(1)], [6, 6]);
}

#[test]
fn each_quota_of_each_path_has_a_place_of_its_own() {
    let mut limits = limits();
    for (path, quota) in (1..).zip(&mut limits.paths) {
        quota.calls_per_second = path * 10;
        quota.messages_per_second = Some(path * 10 + 1);
        quota.calls_per_minute = Some(path * 10 + 2);
        quota.calls_per_day = Some(path * 10 + 3);
    }
    (limits.room_messages_per_second, limits.room_high_per_second) = (40, Some(41));
    let share = Quotas::new(&limits, true).whole();
    for (path, n) in Path::ALL.into_iter().zip(1..) {
        let slots = [share.calls(path), share.messages(path), share.minute(path), share.day(path)];
        assert_eq!(slots, [0, 1, 2, 3].map(|place| n * 10 + place), "{path:?}");
    }
    assert_eq!(share.room_pace(), RoomPace { all: 40, high: 41, background: u32::MAX });
}

#[test]
fn what_is_gained_lies_idle_for_its_period_and_for_calls_of_who_had_it() {
    use std::time::Duration;
    let [period, timeout] = [1, 5].map(Duration::from_secs);
    assert_eq!(Growth::Fresh.wait(period, timeout), Duration::from_millis(1_250));
    assert_eq!(Growth::Handed.wait(period, timeout), Duration::from_millis(6_250));
}

#[test]
fn a_quota_of_which_a_replica_would_have_nothing_is_named_as_the_config_calls_it() {
    let limits = |change: fn(&mut crate::core::provider::Limits)| {
        let mut limits = limits();
        limits.paths = [crate::core::provider::PathQuota {
            calls_per_second: 8,
            messages_per_second: None,
            calls_per_minute: None,
            calls_per_day: None,
        }; 3];
        change(&mut limits);
        Quotas::new(&limits, false)
    };
    let small = |quotas: &Quotas| Path::ALL.map(|path| super::settings::too_small(quotas, 8, path));
    assert_eq!(small(&limits(|_| ())), [None; 3]);
    let named = [
        small(&limits(|limits| limits.paths[0].calls_per_second = 7)),
        small(&limits(|limits| limits.paths[0].messages_per_second = Some(3))),
        small(&limits(|limits| limits.paths[1].calls_per_second = 6)),
        small(&limits(|limits| limits.paths[2].calls_per_minute = Some(5))),
        small(&limits(|limits| limits.paths[2].calls_per_day = Some(4))),
    ];
    let of = |at: usize, key, slots| std::array::from_fn(|path| (path == at).then_some((key, slots)));
    assert_eq!(
        named,
        [
            of(0, "calls_per_second", 7),
            of(0, "messages_per_second", 3),
            of(1, "users_calls_per_second", 6),
            of(2, "broadcasts_per_minute", 5),
            of(2, "broadcasts_per_day", 4),
        ]
    );
}
