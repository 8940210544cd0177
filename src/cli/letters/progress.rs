//! How far a long look is: a line on stderr that is written over, where that is a terminal.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cli::output;

/// How often the line changes; what is done sooner shows none.
const EVERY: Duration = Duration::from_millis(500);

/// Takes the line away.
const CLEAR: &str = "\r\x1b[K";

/// A count that grows while somebody waits.
#[derive(Debug)]
pub struct Progress {
    /// The count.
    pub count: AtomicU64,
    of: &'static str,
    is_seen: bool,
    drawn: Cell<bool>,
}

impl Progress {
    /// One that counts such things (`letters looked at`).
    pub fn new(of: &'static str) -> Self {
        let is_seen = std::io::stderr().is_terminal();
        Self { count: AtomicU64::new(0), of, is_seen, drawn: Cell::new(false) }
    }

    /// Takes the line away before something else is written.
    pub fn clear(&self) {
        if self.drawn.replace(false) {
            output::complain(CLEAR);
        }
    }

    /// Shows the count until the work is done.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let begins = tokio::time::Instant::now() + EVERY;
        let mut ticks = tokio::time::interval_at(begins, EVERY);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    self.clear();
                    return done;
                }
                _ = ticks.tick(), if self.is_seen => {
                    let count = self.count.load(Ordering::Relaxed);
                    output::complain(&format!("{CLEAR}{count} {} …", self.of));
                    self.drawn.set(true);
                }
            }
        }
    }
}
