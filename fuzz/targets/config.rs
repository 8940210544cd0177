//! The fuzzer's way into `laws::config`.

#![no_main]

#[path = "../laws/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| config::holds(input));
