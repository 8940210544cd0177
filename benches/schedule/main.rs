//! What a decision of the scheduler costs, by the number of rooms that wait. Needs the core alone:
//!
//!     cargo bench --no-default-features --bench schedule

#[expect(dead_code, reason = "the test of memory uses the rest")]
mod world;

use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use world::World;

/// The daemon's allocator, where the daemon is built.
#[cfg(feature = "daemon")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    divan::main();
}

const ROOMS: [usize; 3] = [1_000, 100_000, 1_000_000];

fn decide(bencher: Bencher<'_, '_>, rooms: usize, mut world: World) {
    (0..2 * rooms).for_each(|_| world.decide());
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| world.decide());
    assert!(world.settled > 2 * rooms as u64, "nothing was decided");
}

/// Record → call → outcome → settled, with a message waiting in every room and 500 calls away.
#[divan::bench(args = ROOMS, sample_count = 100, sample_size = 10_000)]
fn decision(bencher: Bencher<'_, '_>, rooms: usize) {
    decide(bencher, rooms, World::new(rooms, None));
}

/// The same in memory that lies in the order in which it is looked at.
#[divan::bench(args = ROOMS, sample_count = 100, sample_size = 10_000)]
fn decision_in_order(bencher: Bencher<'_, '_>, rooms: usize) {
    decide(bencher, rooms, World::in_order(rooms));
}

/// The same as the first, with a time-to-live on every message.
#[divan::bench(args = ROOMS, sample_count = 100, sample_size = 10_000)]
fn decision_with_ttl(bencher: Bencher<'_, '_>, rooms: usize) {
    decide(bencher, rooms, World::new(rooms, Some(Duration::from_secs(3_600))));
}
