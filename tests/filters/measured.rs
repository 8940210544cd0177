//! One run of a filter with what it took: processor time, the most memory, on a stack of 2 MiB.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use roomcast::core::route::filter::{Filter, Input, Trouble};
use roomcast::core::value::Val;
use roomcast::core::value::budget::Meter;

/// Counts what this thread holds.
struct Counted;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: every call is the system's own; counting touches cells of the thread that need no allocation.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.get().wrapping_add(layout.size());
        HELD.set(held);
        MOST.set(MOST.get().max(held));
        // SAFETY: the caller's layout, as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: the caller's block and layout, as they came.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What became of a run.
pub struct Run {
    /// The outputs as JSON with spaces between, or `Failed: …` or `Fatal: …`.
    pub outcome: String,
    pub work: Duration,
    /// Bytes beyond what was held before.
    pub most: usize,
}

/// Runs a filter on a thread with the stack of a daemon's; a stack that ends aborts the test.
pub fn run(filter: &str, event: impl FnOnce() -> Val + Send + 'static) -> Run {
    let filter = filter.to_owned();
    let run = move || {
        let filter = match Filter::compile(&filter) {
            Ok(filter) => filter,
            Err(refusal) => panic!("{filter}: {refusal:?}"),
        };
        let event = event();
        let input = Input { variables: [Val::text("r1"), Val::text("t"), event.clone()], event };
        let (held, start) = (HELD.get(), work_of_this_thread());
        MOST.set(held);
        let meter = Meter::start();
        let outputs = filter.outputs(&input, 1_000);
        drop(meter);
        let outcome = match outputs {
            Ok(values) => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(Trouble::Failed(why)) => format!("Failed: {why}"),
            Err(Trouble::Fatal(why)) => format!("Fatal: {why}"),
        };
        Run { outcome, work: work_of_this_thread() - start, most: MOST.get() - held }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread");
    thread.join().expect("no panic")
}

/// Processor time of this thread: what others do on the machine must not decide a test.
fn work_of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes into the place it is given, which is a timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the clock of a thread is there on Linux");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("less than a second"))
}
