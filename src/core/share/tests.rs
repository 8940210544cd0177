//! Shares in a world of their own: thousands of seeded runs with processes that join, leave and die,
//! partitions that move, a store that is slow, silent or behind, and a provider that counts (P4).
//!
//! `SHARE_RUNS=20000` runs so many seeds of each kind, `SHARE_SEED=7` that one.

mod process;
mod world;

use self::process::{SECOND, Source, quotas};
use self::world::{Kind, MAX_REPLICAS, QUOTA, World};
use super::settings;
use super::spread::{SETTLE, Spread, Unit};
use super::{Grant, Growth};
use crate::core::model::Path;
use crate::core::time::Mono;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Plays one kind with many seeds, and sees that no window was above its quota.
fn play(kind: Kind, act: impl Fn(&mut World)) {
    let seeds = match number("SHARE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SHARE_RUNS").unwrap_or(100),
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
            (7, Some(one)) => world.cut_off(one, true),
            (8, Some(one)) => world.cut_off(one, false),
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
fn p4_fixed_parts_add_up() {
    play(Kind::Static, |world| trouble(world, MAX_REPLICAS as usize));
}
