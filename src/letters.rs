//! Dead letters seen from outside the loop: found, looked at, asked for, discarded.
//!
//! ```text
//! query    which letters are meant           states   what became of each, in little memory
//! source   requests for replays, as the loop reads them
//! ```
//!
//! [`scan`] goes through the letters of one dead-letter topic as they stand there, a few in memory at a
//! time, and hands over those that a [`query::Query`] means. It knows `core` and `broker` alone; the
//! command line and the API are built on it. What a letter's row says is `core::replay`'s business.

pub mod query;
pub mod source;
pub mod states;

use tokio::sync::mpsc;

use self::query::Query;
use self::states::States;
use crate::broker::Archive;
use crate::core::model::Record;
use crate::core::replay::{State, Told};

/// Letters on their way from the broker to whoever looks at them.
const AHEAD: usize = 256;

/// A letter as it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What its headers tell.
    pub told: Told,
    /// The record in the dead-letter topic: key, value, all headers; its origin is where it stands.
    pub record: Record,
    /// What became of it.
    pub state: State,
}

/// What a scan came upon, beside the letters that it handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Letters.
    pub letters: u64,
    /// Records of the topic that are no letters.
    pub others: u64,
}

/// Hands over every letter that is meant, oldest first within a partition, until `take` says `false`.
/// The same letter may stand in a Kafka topic twice; it is handed over twice, with one id.
///
/// # Errors
/// What the broker says.
pub async fn scan(
    archive: &dyn Archive,
    states: &States,
    query: &Query,
    mut take: impl FnMut(Found) -> bool,
) -> Result<Seen, String> {
    let (into, mut records) = mpsc::channel(AHEAD);
    let look = async {
        let mut seen = Seen::default();
        while let Some(record) = records.recv().await {
            let Ok(told) = Told::read(&record) else {
                seen.others += 1;
                continue;
            };
            seen.letters += 1;
            let state = states.of(told.letter);
            let found = Found { told, record, state };
            if query.means(&found) && !take(found) {
                break;
            }
        }
        // The archive sees that nobody takes any more.
        drop(records);
        seen
    };
    let (read, seen) = tokio::join!(archive.read(into), look);
    read.map(|()| seen)
}
