//! The fuzzer's way into `laws::event`.

#![no_main]

#[path = "../laws/event.rs"]
mod event;

libfuzzer_sys::fuzz_target!(|input: &[u8]| event::holds(input));
