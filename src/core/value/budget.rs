//! What filters may still spend on one record: steps and bytes.
//!
//! jaq calls the operations of our value type without any context, so what is left stands in two
//! cells of the thread, set by [`Meter::start`] and taken away when the meter is dropped. Outside a
//! meter nothing is counted. When nothing is left the filter is unwound with [`Exhausted`], which no
//! `try`, `?` or `//` of the filter's text can catch; [`crate::core::route::filter`] turns it into
//! an error of the record. Nothing here ever charges while values are dropped.

use std::cell::Cell;
use std::panic::resume_unwind;

/// Steps that all filters of one record may take together. A step is one node of a filter, or one
/// element of a value that is looked at: 20 to 100 ns, so that the worst record takes about 50 ms.
pub const STEPS: u64 = 500_000;

/// Bytes that all filters of one record may build together, whether they are kept or not.
pub const BYTES: u64 = 32 << 20;

thread_local! {
    static STEPS_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static BYTES_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// The payload of the unwinding: what ran out, as a sentence.
pub struct Exhausted(pub String);

/// While it lives, this thread's filters are counted.
#[derive(Debug)]
pub struct Meter(());

impl Meter {
    /// Begins to count down from [`STEPS`] and [`BYTES`].
    pub fn start() -> Self {
        STEPS_LEFT.set(STEPS);
        BYTES_LEFT.set(BYTES);
        Self(())
    }

    /// Steps taken since the start.
    pub fn steps_taken(&self) -> u64 {
        STEPS.saturating_sub(STEPS_LEFT.get())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        STEPS_LEFT.set(u64::MAX);
        BYTES_LEFT.set(u64::MAX);
    }
}

/// Takes `count` steps; unwinds when so many are not left.
#[inline]
pub(crate) fn step(count: usize) {
    match STEPS_LEFT.get().checked_sub(count as u64) {
        Some(left) => STEPS_LEFT.set(left),
        None => exhaust(format!("took more than the {STEPS} steps that the filters of one event may take")),
    }
}

/// Takes `count` bytes, and a step for every 64 of them; unwinds when so many are not left.
#[inline]
pub(crate) fn spend(count: usize) {
    step(1 + count / 64);
    match BYTES_LEFT.get().checked_sub(count as u64) {
        Some(left) => BYTES_LEFT.set(left),
        None => exhaust(format!(
            "built more than the {} MiB that the filters of one event may build",
            BYTES >> 20
        )),
    }
}

/// Ends the filter that is running, for a reason that it cannot catch.
#[cold]
pub(crate) fn exhaust(why: String) -> ! {
    resume_unwind(Box::new(Exhausted(why)))
}
