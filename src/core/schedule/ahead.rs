//! Tells the processor which memory will be looked at soon. With a million rooms nothing of the next
//! one is in its caches, and each look would wait a quarter of a microsecond for memory. Hints only:
//! a wrong one costs time, never an answer, and nothing is read or written by it.

use std::sync::Arc;

/// Bytes that memory comes by; 64 on all processors that servers run on.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// All of `value` will be looked at soon.
pub fn fetch<T: ?Sized>(value: &T) {
    fetch_bytes(std::ptr::from_ref(value).cast(), size_of_val(value));
}

/// Its first line will.
pub fn fetch_start<T>(value: &T) {
    fetch_bytes(std::ptr::from_ref(value).cast(), 1);
}

/// All of something shared will, with the count of its owners, which stands before it.
pub fn fetch_shared<T: ?Sized>(value: &Arc<T>) {
    const COUNTS: usize = 2 * size_of::<usize>();
    let start = Arc::as_ptr(value).cast::<u8>().wrapping_sub(COUNTS);
    fetch_bytes(start, COUNTS + size_of_val::<T>(value));
}

#[cfg(target_arch = "x86_64")]
fn fetch_bytes(start: *const u8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let first = start.wrapping_sub(start.addr() % LINE);
    for line in 0..(start.addr() % LINE + bytes).div_ceil(LINE) {
        // SAFETY: a prefetch reads nothing and faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line * LINE).cast()) };
    }
}

/// Elsewhere the language has no such hint yet.
#[cfg(not(target_arch = "x86_64"))]
fn fetch_bytes(_start: *const u8, _bytes: usize) {}
