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

/// Bytes of the stack that the filters may use, of the 2 MiB of a thread of the daemon. The rest is for
/// what lies between two looks: a walk of a value, which nests [`super::DEPTH_MAX`] deep, and the drop of a
/// path of [`ASIDE`] parts.
pub const STACK: usize = 768 << 10;

/// How often the filters of one record may take a part of null, or a slice. These alone lead no deeper
/// into a value, so that a path of them has no other end; and jaq drops a path by a call for each part.
pub const ASIDE: u64 = 4_000;

thread_local! {
    /// Where the stack stood at the start of the meter; 0 without one.
    static STACK_START: Cell<usize> = const { Cell::new(0) };
    static STEPS_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static BYTES_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static ASIDE_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
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
        ASIDE_LEFT.set(ASIDE);
        STACK_START.set(stack());
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
        ASIDE_LEFT.set(u64::MAX);
        STACK_START.set(0);
    }
}

/// About where the stack stands: it grows towards lower addresses.
#[inline]
fn stack() -> usize {
    let here = 0_u8;
    (&raw const here).addr()
}

/// Unwinds when the filters have nested too deep for the stack.
#[inline]
pub(crate) fn descend() {
    // Without a meter, or above its start, this is no number of bytes.
    let used = STACK_START.get().wrapping_sub(stack()).cast_signed();
    if used > STACK.cast_signed() {
        exhaust("nested deeper than the stack that the filters of one event may use".to_owned());
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

/// Counts a part of null, or a slice; unwinds after [`ASIDE`] of them.
#[inline]
pub(crate) fn aside() {
    match ASIDE_LEFT.get().checked_sub(1) {
        Some(left) => ASIDE_LEFT.set(left),
        None => exhaust(format!(
            "took more than the {ASIDE} parts of null, or slices, that the filters of one event may take"
        )),
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
