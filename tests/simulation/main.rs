//! The real scheduler in a simulated world: one seed is one run is one trace.
//!
//! `SIM_SEED=n` runs one seed, `SIM_RUNS=n` that many (2,000 unless told otherwise); `SIM_TRACE=1`
//! prints every event. Seeds that once failed stand in `seeds.txt` and are always run.

mod broker;
mod laws;
mod provider;
mod setup;
mod world;

use std::io::Write as _;

use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

#[test]
fn p1_to_p9_hold_under_every_seed() {
    let trace = std::env::var_os("SIM_TRACE").is_some();
    if let Some(seed) = number("SIM_SEED") {
        World::new(seed, trace).run();
        return;
    }
    let kept = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let kept: Vec<u64> = kept.map(|line| line.parse().expect("seeds.txt has a number a line")).collect();
    let mut covered = laws::Coverage::default();
    for seed in kept.into_iter().chain(0..number("SIM_RUNS").unwrap_or(2_000)) {
        let run = std::panic::catch_unwind(|| World::new(seed, trace).run());
        match run {
            Ok(seen) => covered.add(&seen),
            Err(panic) => {
                let _told = writeln!(
                    std::io::stderr(),
                    "seed {seed} failed; repeat it with SIM_SEED={seed} SIM_TRACE=1"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    covered.check();
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..50 {
        assert_eq!(
            World::new(seed, false).run().trace_hash,
            World::new(seed, false).run().trace_hash,
            "seed {seed}"
        );
    }
}
