//! The real core in a simulated world: one seed is one run is one trace.
//!
//! `SIM_SEED=n` runs one seed, `SIM_RUNS=n` that many from 0 on (2,000 unless told otherwise),
//! `SIM_FROM=n` another beginning; `SIM_TRACE=1` prints every event. Seeds that once failed stand in
//! `seeds.txt` and are always run. The readme beside this file says what is in the world, what must
//! hold, and how it is known that the laws bite.

mod account;
mod calls;
mod faults;
mod jetstream;
mod kafka;
mod laws;
mod letters;
mod process;
mod replicas;
mod seen;
mod setup;
mod spec;
mod world;

use std::io::Write as _;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use seen::Seen;
use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("stderr is there");
}

/// Runs these seeds on every core, and gives what they met.
fn run_all(seeds: &[u64]) -> Seen {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let all = Mutex::new(Seen::default());
    let work = || {
        let mut seen = Seen::default();
        while failed.lock().expect("no panic holds it").is_empty() {
            let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("few");
            let Some(&seed) = seeds.get(at) else { break };
            match std::panic::catch_unwind(|| World::new(seed, false).run()) {
                Ok(run) => seen.add(&run),
                Err(_) => failed.lock().expect("no panic holds it").push(seed),
            }
        }
        all.lock().expect("no panic holds it").add(&seen);
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no panic holds it");
    if let Some(seed) = failed.iter().min() {
        panic!("seed {seed} failed; repeat it, event by event, with SIM_SEED={seed} SIM_TRACE=1");
    }
    all.into_inner().expect("no panic holds it")
}

#[test]
fn p1_to_p9_hold_under_every_seed() {
    if let Some(seed) = number("SIM_SEED") {
        World::new(seed, std::env::var_os("SIM_TRACE").is_some()).run();
        return;
    }
    let kept = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let kept = kept.map(|line| line.parse::<u64>().expect("seeds.txt has a number a line"));
    let from = number("SIM_FROM").unwrap_or(0);
    let runs = number("SIM_RUNS").unwrap_or(2_000);
    let seeds: Vec<u64> = kept.chain(from..from + runs).collect();
    let began = std::time::Instant::now();
    let mut seen = run_all(&seeds);
    tell(&format!("{} seeds in {:.1?}: {}", seeds.len(), began.elapsed(), seen.line()));
    seen.check();
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
