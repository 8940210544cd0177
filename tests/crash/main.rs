//! Crashes: the real binary on real Kafka and real NATS, against both provider simulators, killed and
//! joined by others while events keep coming (P1 to P4 and P9 of the design).
//!
//! Everything that is random hangs on a seed, which is printed; moments are counts of accepted
//! messages, never times. `CRASH_KILLS=200` kills that often (10 by default), `CRASH_SEED=7` takes one
//! seed in place of the fixed one. Needs `.ci/brokers.sh`.

#[path = "../support/mod.rs"]
mod support;

mod bed;
mod group;
mod judge;
mod kills;
mod load;
mod outage;
mod replicas;
mod spread;
mod standby;

/// A number from the environment.
fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => otherwise,
    }
}

/// The seed of a test: its own, or the one that somebody asks for.
#[expect(clippy::print_stderr, reason = "a failure can be had again with the seed it tells")]
fn seed(name: &str, own: u64) -> u64 {
    let seed = number("CRASH_SEED", own);
    eprintln!("{name}: CRASH_SEED={seed}");
    seed
}
