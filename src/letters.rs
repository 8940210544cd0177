//! Dead letters seen from outside the loop: found, looked at, asked for, discarded.
//!
//! ```text
//! place    dead-letter topics, each once      filters  words → query
//! query    which letters are meant           states   what became of each, in little memory
//! tell     a letter as data                  chain    a letter, its row, those before and after it
//! stats    counts                            discard  letters that nobody wants any more
//! source   requests for replays, as the loop reads them
//! ask      requests for replays               rows     the state table as it changes
//! plan     what a replay would do            rate     so many a second
//! forecast the plan with the time it takes    summary  what came of asking
//! asking   all of that for several topics    today    the config that runs, as letters are measured by it
//! patch    what is changed on the way
//! ```
//!
//! [`scan`] goes through the letters of one dead-letter topic as they stand there, a few in memory at a
//! time, and hands over those that a [`query::Query`] means; [`Look`] does so for several topics, reads
//! their states when it comes upon the first letter, and hands over each letter once. It knows `core` and
//! `broker` alone; the command line and the API are built on it. What a letter's row says is
//! `core::replay`'s business.

pub mod ask;
pub mod asking;
pub mod chain;
pub mod discard;
pub mod filters;
pub mod forecast;
pub mod patch;
pub mod place;
pub mod plan;
pub mod query;
pub mod rate;
pub mod rows;
pub mod source;
pub mod states;
pub mod stats;
pub mod summary;
pub mod tell;
pub mod today;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

use self::place::Place;
use self::query::Query;
use self::states::States;
use crate::broker::Archive;
use crate::core::letter::LetterId;
use crate::core::model::Record;
use crate::core::replay::{State, Told};
use crate::core::time::Wall;

/// Letters on their way from the broker to whoever looks at them. Each may be as large as a record.
const AHEAD: usize = 32;

/// The time it is.
pub fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

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
            if let Some(found) = seen.meant(record, |letter| states.of(letter), query)
                && !take(found)
            {
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

/// The same for one who takes at their own pace: the letters go `into` a channel, until it is closed.
///
/// # Errors
/// What the broker says.
pub async fn scan_into(
    archive: &dyn Archive,
    state: impl Fn(LetterId) -> State,
    query: &Query,
    into: mpsc::Sender<Found>,
) -> Result<Seen, String> {
    let (read_into, mut records) = mpsc::channel(AHEAD);
    let look = async {
        let mut seen = Seen::default();
        while let Some(record) = records.recv().await {
            let Some(found) = seen.meant(record, &state, query) else { continue };
            if into.send(found).await.is_err() {
                break;
            }
        }
        // The archive sees that nobody takes any more, and the one who takes that there is no more.
        drop((records, into));
        seen
    };
    let (read, seen) = tokio::join!(archive.read(read_into), look);
    read.map(|()| seen)
}

impl Seen {
    /// Counts a record; the letter that it is, if that is meant.
    fn meant(&mut self, record: Record, state: impl Fn(LetterId) -> State, query: &Query) -> Option<Found> {
        let Ok(told) = Told::read(&record) else {
            self.others += 1;
            return None;
        };
        self.letters += 1;
        let state = state(told.letter);
        let found = Found { told, record, state };
        query.means(&found).then_some(found)
    }
}

/// A look through the letters of several dead-letter topics, one topic after the other.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The topics.
    pub places: &'a [Place],
    /// Which letters are meant.
    pub query: &'a Query,
    /// Counts the letters looked at, for those who show how far it is.
    pub passed: &'a AtomicU64,
}

impl Look<'_> {
    /// Sends every letter that is meant with the number of its place, each once (a Kafka topic may hold it
    /// twice; the ids handed over are kept, some 35 bytes each), until nobody receives any more. A place
    /// without letters is not asked for their states.
    ///
    /// # Errors
    /// What the brokers say; the letters of those that can be read are sent nevertheless.
    pub async fn send(self, into: mpsc::Sender<(usize, Found)>) -> Result<Seen, String> {
        let (mut seen, mut wrong) = (Seen::default(), Vec::new());
        for (number, place) in self.places.iter().enumerate() {
            if into.is_closed() {
                break;
            }
            if let Err(why) = self.one(number, place, &into, &mut seen).await {
                wrong.push(format!("{place}: {why}"));
            }
        }
        if wrong.is_empty() { Ok(seen) } else { Err(wrong.join("; ")) }
    }

    /// Hands every letter that is meant to `take`, as [`Self::send`] would send it, until that says `false`.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn each(self, mut take: impl FnMut(usize, Found) -> bool) -> Result<Seen, String> {
        let (into, mut letters) = mpsc::channel(1);
        let hear = async {
            while let Some((place, found)) = letters.recv().await {
                if !take(place, found) {
                    break;
                }
            }
            drop(letters);
        };
        tokio::join!(self.send(into), hear).0
    }

    async fn one(
        self,
        number: usize,
        place: &Place,
        into: &mpsc::Sender<(usize, Found)>,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let (found, mut records) = mpsc::channel(AHEAD);
        let look = async {
            let mut states = None;
            let mut sent = HashSet::new();
            while let Some(record) = records.recv().await {
                let states = match &states {
                    Some(states) => states,
                    None => &*states.insert(States::load(&*place.archive.table()).await?),
                };
                let letter = seen.meant(record, |letter| states.of(letter), self.query);
                self.passed.fetch_add(1, Ordering::Relaxed);
                let Some(letter) = letter.filter(|letter| sent.insert(letter.told.letter)) else { continue };
                if into.send((number, letter)).await.is_err() {
                    break;
                }
            }
            drop(records);
            Ok(())
        };
        let (read, looked) = tokio::join!(place.archive.read(found), look);
        looked.and(read)
    }
}
