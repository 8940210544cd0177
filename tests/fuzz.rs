//! The laws that the fuzzer tries (`fuzz/`), on the inputs that found something once and on its seeds. A
//! stack that ends, or an abort, ends this process, and with it the test.

#[cfg(feature = "daemon")]
#[path = "../fuzz/laws/config.rs"]
mod config;
#[path = "../fuzz/laws/event.rs"]
mod event;
#[path = "../fuzz/laws/filter.rs"]
mod filter;

use std::path::{Path, PathBuf};

/// The stack of a thread of the daemon.
const STACK: usize = 2 << 20;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder").path()).collect();
    files.sort();
    files
}

#[track_caller]
fn holds(folders: &[&str], law: fn(&[u8])) {
    let files: Vec<PathBuf> = folders.iter().flat_map(|folder| files(folder)).collect();
    assert!(files.len() > 5, "inputs in {folders:?}");
    let all = move || {
        for file in &files {
            law(&std::fs::read(file).expect("an input"));
        }
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(all).expect("a thread");
    thread.join().expect("the law holds");
}

#[test]
fn filters_hold() {
    holds(&["fuzz/fixtures/seeds/filter", "fuzz/fixtures/regressions/filter"], filter::holds);
}

#[test]
fn events_hold() {
    holds(&["fuzz/fixtures/seeds/event", "fuzz/fixtures/regressions/event"], event::holds);
}

#[cfg(feature = "daemon")]
#[test]
fn configs_hold() {
    holds(&["tests/fixtures/config", "config", "fuzz/fixtures/regressions/config"], config::holds);
}
