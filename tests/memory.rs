//! What the scheduler keeps in memory and how often it asks for some, counted by an allocator: idle
//! rooms are small, forgotten ones cost nothing, and a decision allocates nothing.
//!
//!     cargo test --no-default-features --profile simulation --test memory

#![expect(clippy::print_stdout, reason = "the figures are worth reading when it passes, too")]

#[path = "../benches/schedule/world.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use roomcast::core::model::Class;
use roomcast::core::provider::{Acceptance, Outcome, Trouble};
use world::World;

/// The system's allocator, counted.
struct Counting;

/// Bytes that are allocated now.
static BYTES: AtomicUsize = AtomicUsize::new(0);
/// Allocations so far; one that grows or shrinks counts as well.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(size, Relaxed);
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counters are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const HOUR: Duration = Duration::from_secs(3_600);
const ACCEPTED: Outcome = Outcome::Accepted(Acceptance::Plain);

/// What may stay when nothing is held: of each kind of thing one empty chunk, half a megabyte and
/// less, whatever number there was.
const SPARE: usize = 4 << 20;

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const ROOMS: usize = 1_000_000;

/// A thousand rooms a millisecond have a message each, so that all fit into one period of the pace.
fn visit(world: &mut World, rooms: Range<usize>, outcome: &Outcome) {
    for room in rooms {
        world.visit(room, outcome);
        if room % 1_000 == 999 {
            world.pass(Duration::from_millis(1));
        }
    }
}

#[test]
fn an_idle_room_takes_less_than_200_bytes_and_a_forgotten_one_nothing() {
    let _alone = alone();
    let mut world = World::empty(None);
    visit(&mut world, 0..1, &ACCEPTED);
    world.pass(Duration::from_secs(2));
    let before = BYTES.load(Relaxed);
    let mut most = 0;
    for round in 0..3 {
        // Other rooms each time: what is kept must not grow with the rooms ever seen.
        visit(&mut world, round * ROOMS..(round + 1) * ROOMS, &ACCEPTED);
        assert_eq!(world.rooms_in_memory(), ROOMS, "none is forgotten while its pace remembers it");
        let kept = BYTES.load(Relaxed) - before;
        println!("round {round}: {} bytes per idle room", kept / ROOMS);
        assert!(kept / ROOMS < 200, "{} bytes per idle room", kept / ROOMS);
        assert!(most == 0 || kept <= most, "{kept} bytes are more than the {most} of the first round");
        most = kept;
        world.pass(Duration::from_secs(2));
        assert_eq!(world.rooms_in_memory(), 0);
        let left = BYTES.load(Relaxed).saturating_sub(before);
        println!("round {round}: {left} bytes when all are forgotten");
        assert!(left < SPARE, "{left} bytes when all rooms are forgotten");
    }
}

#[test]
fn a_room_known_to_be_gone_takes_less_than_200_bytes_until_it_is_forgotten() {
    let _alone = alone();
    let mut world = World::empty(None);
    visit(&mut world, 0..1, &ACCEPTED);
    world.pass(Duration::from_secs(2));
    let before = BYTES.load(Relaxed);
    let gone = Outcome::Refused {
        class: Class::RoomGone,
        trouble: Trouble { status: Some(404), code: None, text: String::new() },
    };
    for room in 0..100_000 {
        world.visit(room, &gone);
        // Twenty refusals in a row would speak against the account.
        if room % 10 == 9 {
            world.visit(1_000_000, &ACCEPTED);
        }
    }
    world.pass(Duration::from_secs(2));
    assert_eq!(world.rooms_in_memory(), 100_000);
    let kept = (BYTES.load(Relaxed) - before) / 100_000;
    println!("{kept} bytes per room that is gone");
    assert!(kept < 200, "{kept} bytes per room that is gone");
    world.pass(HOUR);
    assert_eq!(world.rooms_in_memory(), 0);
    let left = BYTES.load(Relaxed).saturating_sub(before);
    assert!(left < SPARE, "{left} bytes when all rooms are forgotten");
}

/// Allocations in 100,000 decisions beside those of their messages, once everything that is kept for
/// a period has its size.
fn allocations(ttl: Option<Duration>) -> u64 {
    let mut world = World::new(20_000, ttl);
    // The largest quota sold: 50,000 a second.
    world.step = Duration::from_micros(20);
    (0..110_000).for_each(|_| world.decide());
    let before = ALLOCATIONS.load(Relaxed);
    drop(world.message(0));
    let message = ALLOCATIONS.load(Relaxed) - before;
    assert_eq!(message, 4, "the record, the room's name, the content, and the plan's list");
    let (before, settled) = (ALLOCATIONS.load(Relaxed), world.settled);
    (0..100_000).for_each(|_| world.decide());
    assert_eq!(world.settled - settled, 100_000);
    let more = ALLOCATIONS.load(Relaxed) - before - 100_000 * message;
    println!("{more} allocations in 100,000 decisions beside those of their messages, time-to-live {ttl:?}");
    more
}

#[test]
fn a_decision_allocates_nothing_beyond_the_message_itself() {
    let _alone = alone();
    assert_eq!(allocations(None), 0);
}

/// The ordered set of deadlines is a tree, which takes and gives back its nodes.
#[test]
fn a_deadline_costs_a_fraction_of_an_allocation() {
    let _alone = alone();
    assert!(allocations(Some(HOUR)) < 100_000 / 4);
}
