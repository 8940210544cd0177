//! The binary: arguments → command → exit code.

use std::process::ExitCode;

use clap::Parser as _;

/// librdkafka allocates with malloc: one allocator for both halves keeps memory bounded and countable.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    roomcast::cli::main(&roomcast::cli::Cli::parse())
}
