//! Letters on their way: each is written in a task of its own, for as long as it takes.
//!
//! A dead-letter topic that cannot be written loses nothing: the letter waits, its record stays
//! unsettled, and the bound on what a source holds stops the intake. It is told loudly, but not
//! once for every letter.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info};

use super::LOG_EVERY;
use super::tasks::Reply;
use crate::broker::Letters;
use crate::clock::Clock;
use crate::core::letter::{Letter, Names};
use crate::core::model::BurialId;
use crate::core::time::Mono;

/// Letters of one source that are with its broker at once; the others wait for their turn, so that
/// an outage of the dead-letter topic is not answered by a flood.
const AT_ONCE: usize = 64;
/// The first wait after a letter could not be written; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Where the letters of one source are written.
pub(super) struct Desk {
    letters: Arc<dyn Letters>,
    turns: Arc<Semaphore>,
    /// Letters that are not confirmed yet.
    waiting: usize,
    failures: u64,
    /// Failures since a letter was last confirmed.
    in_a_row: u64,
    told: Option<Mono>,
}

impl Desk {
    pub(super) fn new(letters: Arc<dyn Letters>) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { letters, turns, waiting: 0, failures: 0, in_a_row: 0, told: None }
    }

    /// Times that a letter could not be written, since the start.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Writes a letter until it is confirmed.
    pub(super) fn write(
        &mut self,
        burial: BurialId,
        letter: Letter,
        names: Arc<Names>,
        clock: Clock,
        answer_to: UnboundedSender<Reply>,
    ) {
        self.waiting += 1;
        let (letters, turns) = (self.letters.clone(), self.turns.clone());
        let source = letter.record.id.source;
        tokio::spawn(async move {
            let mut waits = ExponentialBuilder::default()
                .with_min_delay(FIRST_WAIT)
                .with_max_delay(LONGEST_WAIT)
                .without_max_times()
                .with_jitter()
                .build();
            loop {
                let turn = turns.acquire().await.expect("the semaphore is never closed");
                let written = letters.write(letter.seal(&names, clock.wall())).await;
                drop(turn);
                match written {
                    Ok(()) => break,
                    Err(error) => {
                        let _ = answer_to.send(Reply::NotWritten { source, error });
                        tokio::time::sleep(waits.next().unwrap_or(LONGEST_WAIT)).await;
                    }
                }
            }
            let _ = answer_to.send(Reply::Written { source, burial });
        });
    }

    /// A letter was confirmed.
    pub(super) fn written(&mut self, source: &str) {
        self.waiting -= 1;
        if self.in_a_row > 0 {
            info!(source, failures = self.in_a_row, "letters can be written again");
            self.in_a_row = 0;
            self.told = None;
        }
    }

    /// A letter could not be written: said at once, and then every ten seconds while it lasts.
    pub(super) fn not_written(&mut self, source: &str, error: &str, now: Mono) {
        self.failures += 1;
        self.in_a_row += 1;
        if self.told.is_none_or(|told| now >= told + LOG_EVERY) {
            self.told = Some(now);
            error!(
                source,
                error,
                letters_waiting = self.waiting,
                failures = self.in_a_row,
                "the dead-letter topic cannot be written; nothing is dropped, and intake stops when the source holds all it may"
            );
        }
    }
}
