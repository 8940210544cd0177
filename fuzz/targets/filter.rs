//! The fuzzer's way into `laws::filter`.

#![no_main]

#[path = "../laws/filter.rs"]
mod filter;

libfuzzer_sys::fuzz_target!(|input: &[u8]| filter::holds(input));
