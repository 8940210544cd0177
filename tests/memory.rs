//! What the scheduler keeps in memory and how often it asks for some, counted by an allocator: idle
//! rooms are small, forgotten ones cost nothing, and a decision allocates nothing. And what a directory
//! keeps: a million keys fit in 200 MB, however they came in.
//!
//!     cargo test --no-default-features --profile simulation --test memory

#![expect(clippy::print_stdout, reason = "the figures are worth reading when it passes, too")]

#[expect(dead_code, reason = "the bench uses the rest")]
#[path = "../benches/schedule/world.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

use roomcast::core::model::Class;
use roomcast::core::provider::{Acceptance, Outcome, Trouble};
use roomcast::core::route::directory::{self, Map};
use world::World;

/// The system's allocator, counted.
struct Counting;

thread_local! {
    /// The most of `BYTES` since it was last set back.
    static PEAK: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has allocated and not given back: what other tests and the harness do
    /// in theirs is no part of it.
    static BYTES: Cell<usize> = const { Cell::new(0) };
    /// Allocations so far; one that grows or shrinks counts as well.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count(more: usize, less: usize, allocations: u64) {
    // Wrapping: a thread may give back what another has taken.
    let bytes = BYTES.get().wrapping_add(more).wrapping_sub(less);
    BYTES.set(bytes);
    // A thread that gave back more than it took is below nothing, which is no peak.
    if isize::try_from(bytes).is_ok_and(|_| bytes > PEAK.get()) {
        PEAK.set(bytes);
    }
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0, 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size(), 0);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size(), 1);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HOUR: Duration = Duration::from_secs(3_600);
const ACCEPTED: Outcome = Outcome::Accepted(Acceptance::Plain);

/// What may stay when nothing is held, whatever number there was: of each kind of thing one empty
/// chunk, less than a megabyte.
const SPARE: usize = 4 << 20;

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
    let mut world = World::empty(None);
    visit(&mut world, 0..1, &ACCEPTED);
    world.pass(Duration::from_secs(2));
    let before = BYTES.get();
    // Printed at the end: what the harness keeps of it is counted, too.
    let mut figures = [(0, 0); 3];
    for (round, (kept, left)) in figures.iter_mut().enumerate() {
        // Other rooms each time: what is kept must not grow with the rooms ever seen.
        visit(&mut world, round * ROOMS..(round + 1) * ROOMS, &ACCEPTED);
        assert_eq!(world.rooms_in_memory(), ROOMS, "none is forgotten while its pace remembers it");
        *kept = BYTES.get() - before;
        world.pass(Duration::from_secs(2));
        assert_eq!(world.rooms_in_memory(), 0);
        *left = BYTES.get().saturating_sub(before);
    }
    let kept = figures[0].0;
    println!("{} bytes per idle room; when all are forgotten {} in all", kept / ROOMS, figures[0].1);
    assert!(kept / ROOMS < 200, "{} bytes per idle room", kept / ROOMS);
    for (again, left) in figures {
        assert!(again <= kept, "{again} bytes are more than the {kept} of the first round");
        assert!(left < SPARE, "{left} bytes when all rooms are forgotten");
    }
}

#[test]
fn a_room_known_to_be_gone_takes_less_than_200_bytes_until_it_is_forgotten() {
    let mut world = World::empty(None);
    visit(&mut world, 0..1, &ACCEPTED);
    world.pass(Duration::from_secs(2));
    let before = BYTES.get();
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
    let kept = (BYTES.get() - before) / 100_000;
    println!("{kept} bytes per room that is gone");
    assert!(kept < 200, "{kept} bytes per room that is gone");
    world.pass(HOUR);
    assert_eq!(world.rooms_in_memory(), 0);
    let left = BYTES.get().saturating_sub(before);
    assert!(left < SPARE, "{left} bytes when all rooms are forgotten");
}

/// Allocations in 100,000 decisions beside those of their messages, once everything that is kept for
/// a period has its size.
fn allocations(ttl: Option<Duration>) -> u64 {
    let mut world = World::new(20_000, ttl);
    // The largest quota sold: 50,000 a second.
    world.step = Duration::from_micros(20);
    (0..110_000).for_each(|_| world.decide());
    let before = ALLOCATIONS.get();
    drop(world.message(0));
    let message = ALLOCATIONS.get() - before;
    assert_eq!(message, 4, "the record, the room's name, the content, and the plan's list");
    let (before, settled) = (ALLOCATIONS.get(), world.settled);
    (0..100_000).for_each(|_| world.decide());
    assert_eq!(world.settled - settled, 100_000);
    let more = ALLOCATIONS.get() - before - 100_000 * message;
    println!("{more} allocations in 100,000 decisions beside those of their messages, time-to-live {ttl:?}");
    more
}

#[test]
fn a_decision_allocates_nothing_beyond_the_message_itself() {
    assert_eq!(allocations(None), 0);
}

/// The ordered set of deadlines is a tree, which takes and gives back its nodes.
#[test]
fn a_deadline_costs_a_fraction_of_an_allocation() {
    assert!(allocations(Some(HOUR)) < 100_000 / 4);
}

const KEYS: usize = 1_000_000;
/// What a million keys may take.
const DIRECTORY_MAX: usize = 200_000_000;

/// Keys and rooms of the length that people use: 20 and 15 bytes.
fn pair(number: usize) -> (String, String) {
    (format!("match-{number:08}-final"), format!("29{:013}", number * 7))
}

fn pairs(map: &Map) -> usize {
    (0..KEYS)
        .filter(|&number| {
            let (key, room) = pair(number);
            map.get(&key).is_some_and(|mut rooms| rooms.next() == Some(&room) && rooms.next().is_none())
        })
        .count()
}

/// What stays beside what there was `before`, and the most that was taken meanwhile.
fn measured<T>(what: &str, before: usize, make: impl FnOnce() -> T) -> T {
    PEAK.set(BYTES.get());
    let made = make();
    let (kept, peak) = (BYTES.get() - before, PEAK.get() - before);
    println!("{what}: {} MB kept, {} MB at most", kept / 1_000_000, peak / 1_000_000);
    assert!(peak < DIRECTORY_MAX, "{what}: {peak} bytes");
    made
}

#[test]
fn a_million_keys_of_a_directory_fit_in_200_mb_while_a_file_is_read_and_read_again() {
    let csv: String = (0..KEYS).map(pair).map(|(key, room)| format!("{key},{room}\n")).collect();
    let json: Vec<String> = (0..KEYS).map(pair).map(|(key, room)| format!("{key:?}: [{room:?}]")).collect();
    let json = format!("{{{}}}", json.join(",\n"));
    println!("the files: {} MB of CSV, {} MB of JSON", csv.len() / 1_000_000, json.len() / 1_000_000);
    let old = measured("from CSV", BYTES.get(), || directory::file("rooms.csv", csv.as_bytes()).unwrap());
    assert_eq!((old.len(), pairs(&old)), (KEYS, KEYS));
    let before = BYTES.get();
    let new = measured("from JSON", before, || directory::file("rooms.json", json.as_bytes()).unwrap());
    assert_eq!(new.len(), KEYS);
    // Until the new one has taken its place there are both, and the file's text.
    let both = old.weight() + (PEAK.get() - before) + json.len();
    println!("while it is read again, with the file's text: {} MB", both / 1_000_000);
    assert!(both < DIRECTORY_MAX, "{both} bytes");
}

#[test]
fn a_million_keys_of_a_directory_fit_in_200_mb_when_they_come_and_change_row_by_row() {
    let before = BYTES.get();
    let mut map = measured("row by row", before, || {
        let mut map = Map::default();
        for (key, room) in (0..KEYS).map(pair) {
            map.insert(&key, &[room]);
        }
        map
    });
    assert_eq!(pairs(&map), KEYS);
    map = measured("each key with a longer room, and back again", before, move || {
        for number in 0..KEYS {
            // Too long for its old place.
            map.insert(&pair(number).0, &[format!("{number:048}")]);
        }
        for number in 0..KEYS {
            let (key, room) = pair(number);
            map.insert(&key, &[room]);
        }
        map
    });
    assert_eq!(map.len(), KEYS);
    let kept = map.weight();
    for number in 0..KEYS {
        assert!(map.remove(&pair(number).0));
    }
    println!("a million keys: {} MB; when all are taken away: {} KB", kept / 1_000_000, map.weight() / 1_000);
    assert!(map.weight() < 4 << 20, "{} bytes without a key", map.weight());
}
