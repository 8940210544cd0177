//! The real core in a simulated world: one seed is one run is one trace.
//!
//! `SIM_SEED=n` runs one seed, `SIM_RUNS=n` that many from 0 on (2,000 unless told otherwise, 300 where
//! the core is compiled with the daemon), `SIM_FROM=n` another beginning. With one seed `SIM_TRACE=1`
//! prints every event and `SIM_SHRINK=1` strikes the faults that a failure does not need. With many,
//! `SIM_ALL=1` goes on after a failure and tells of each in a line. Seeds that once failed stand in
//! `seeds.txt` and are always run. The readme beside this file says what is in the world, what must
//! hold, and how it is known that the laws bite.

mod account;
mod calls;
mod faults;
mod jetstream;
mod kafka;
mod keys;
mod laws;
mod letters;
mod process;
mod reloads;
mod replays;
mod replicas;
mod seen;
mod setup;
mod spec;
mod world;

use std::io::Write as _;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use faults::{Fault, Faults};
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
    let go_on = std::env::var_os("SIM_ALL").is_some();
    if go_on {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let work = || {
        let mut seen = Seen::default();
        while go_on || failed.lock().expect("no panic holds it").is_empty() {
            let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("few");
            let Some(&seed) = seeds.get(at) else { break };
            match std::panic::catch_unwind(|| World::new(seed, false, Faults::default()).run()) {
                Ok(run) => seen.add(&run),
                Err(why) => {
                    if go_on {
                        let why = why.downcast_ref::<String>().map_or("(no words)", String::as_str);
                        tell(&format!("seed {seed}: {why}"));
                    }
                    failed.lock().expect("no panic holds it").push(seed);
                }
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
    if go_on {
        drop(std::panic::take_hook());
    }
    let failed = failed.into_inner().expect("no panic holds it");
    if let Some(seed) = failed.iter().min() {
        panic!("seed {seed} failed; repeat it, event by event, with SIM_SEED={seed} SIM_TRACE=1");
    }
    all.into_inner().expect("no panic holds it")
}

/// With `SIM_SHRINK`, as many faults as a failing seed can be spared and still fail, by trying each: what
/// is left is what the failure needs.
fn shrink(seed: u64) -> Faults {
    let fails = |spared| std::panic::catch_unwind(|| World::new(seed, false, spared).run()).is_err();
    let mut spared = Faults::default();
    if std::env::var_os("SIM_SHRINK").is_none() || !fails(spared) {
        return spared;
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for fault in Fault::ALL {
        let more = spared.with(fault);
        if fails(more) {
            spared = more;
        }
    }
    std::panic::set_hook(hook);
    tell(&format!("seed {seed} still fails when it is spared {spared:?}"));
    spared
}

#[test]
fn p1_to_p9_hold_under_every_seed() {
    if let Some(seed) = number("SIM_SEED") {
        let spared = shrink(seed);
        World::new(seed, std::env::var_os("SIM_TRACE").is_some(), spared).run();
        return;
    }
    let kept = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let kept = kept.map(|line| line.parse::<u64>().expect("seeds.txt has a number a line"));
    let from = number("SIM_FROM").unwrap_or(0);
    // Beside the daemon's own tests it is not optimised, and takes ten times as long.
    let usual = if cfg!(feature = "daemon") { 300 } else { 2_000 };
    let runs = number("SIM_RUNS").unwrap_or(usual);
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
            World::new(seed, false, Faults::default()).run().trace_hash,
            World::new(seed, false, Faults::default()).run().trace_hash,
            "seed {seed}"
        );
    }
}
