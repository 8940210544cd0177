//! Asking for replays: for each letter that is meant, a row that says so, then the request.
//!
//! [`ask`] writes `requested` into the state table FIRST and the request after it: a process that ends in
//! between leaves a letter that is looked for by its state, never a replay that nobody knows of. The daemons
//! do the rest, and write what became of it. A request that they have answered, and left its letter open, is
//! followed by another one (JetStream keeps one of a letter at a time: see [`Archive::request_unless`]).
//!
//! Right before a row is written its letter is looked at once more, in the table as it is followed
//! (JetStream: with compare and set): one that somebody else asked for, or that is finished, stays. On Kafka a
//! row may still go over one that was written within the same moment; the request that follows makes the
//! daemon write what became of the letter once more.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use super::query::Query;
use super::rate::Pace;
use super::rows::Rows;
use super::{Found, scan_into};
use crate::broker::{Archive, Placed, Table};
use crate::core::letter::LetterId;
use crate::core::model::Record;
use crate::core::replay::{Asked, Row, State, Told, open};

/// Letters that are asked for at the same time.
pub const AT_ONCE: usize = 64;
/// Letters on their way from the broker.
const AHEAD: usize = 256;
/// Reasons that are kept, one for each letter that was not asked for.
const NOTES: usize = 10;

/// Makes another value of a letter's record: a patch.
pub type Change = dyn Fn(&Told, &Record) -> Result<Bytes, String> + Send + Sync;

/// The letters of one dead-letter topic.
pub struct Target<'a> {
    /// The letters.
    pub archive: &'a dyn Archive,
    /// What became of them, followed and current.
    pub rows: &'a Rows,
    /// By the name of a source whose records are here: who finds the value of a letter that could not keep
    /// it. Of other sources it is not looked for.
    pub values: BTreeMap<String, Arc<dyn Archive>>,
}

/// What is asked for, and how.
pub struct Wish {
    /// Which letters.
    pub query: Query,
    /// Who asks, and how.
    pub asked: Asked,
    /// Why, in their words.
    pub why: String,
    /// At most so many.
    pub limit: Option<u64>,
    /// What is changed first.
    pub change: Option<Box<Change>>,
}

/// How far it came, and at the end what came of it. Every letter that was meant is in one of the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Letters that the query means, of those that were looked at.
    pub meant: u64,
    /// Asked for.
    pub asked: u64,
    /// Of these, those whose request was there before.
    pub before: u64,
    /// Left as they are because of the state they are in.
    pub skipped: BTreeMap<State, u64>,
    /// Left as they are because the patch failed.
    pub unpatched: u64,
    /// Left as they are because their value could not be kept and is not where it stood.
    pub gone: u64,
    /// Left as they are because their row could not be written.
    pub unwritten: u64,
    /// In state `requested`, and their request may not have been written.
    pub stuck: u64,
    /// Why letters were not asked for: of the first few.
    pub notes: Vec<(LetterId, String)>,
}

impl Tally {
    /// Letters that are in one of the counts: all that are meant, once those under way are through.
    pub fn told(&self) -> u64 {
        self.asked + self.unasked() + self.skipped.values().sum::<u64>()
    }

    /// Letters that should have been asked for and were not.
    pub fn unasked(&self) -> u64 {
        self.unpatched + self.gone + self.unwritten + self.stuck
    }

    fn note(&mut self, letter: LetterId, why: String) {
        if self.notes.len() < NOTES {
            self.notes.push((letter, why));
        }
    }
}

/// Why asking ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All letters were looked at.
    Through,
    /// As many were asked for as the limit says; there may be more.
    Limit,
    /// It was told to stop.
    Stopped,
    /// The broker failed, and how.
    Failed(String),
}

/// Whether a letter that is meant may be asked for in that state: open ones, and of the others those whose
/// state the query names, or parked ones whose id it names.
pub fn may(state: State, query: &Query) -> bool {
    match state {
        State::Open => true,
        State::Parked => {
            query.states.contains(&State::Parked) || !query.letters.is_empty() || !query.beginnings.is_empty()
        }
        State::Requested => query.states.contains(&State::Requested),
        State::Replayed | State::Discarded => false,
    }
}

/// Asks for all letters that are meant, [`AT_ONCE`] at a time at `pace`, until `stop` is true; then those
/// that are under way are finished. `tally` goes on from where it stands: several places share one, and the
/// limit with it.
pub async fn ask(
    place: &Target<'_>,
    wish: &Wish,
    pace: &mut Pace,
    tally: &watch::Sender<Tally>,
    stop: watch::Receiver<bool>,
) -> Ended {
    let (into, found) = mpsc::channel(AHEAD);
    let asking = Asking { place, table: place.archive.table(), wish, tally, seen: HashSet::new() };
    let reading = scan_into(place.archive, |letter| place.rows.of(letter), &wish.query, into);
    let (read, ended) = tokio::join!(reading, asking.run(found, pace, stop));
    match read {
        Err(why) if ended == Ended::Through => Ended::Failed(why),
        _ => ended,
    }
}

/// What came of one letter.
pub(super) enum Fate {
    Asked(Placed),
    Skipped(State),
    Unpatched(String),
    Gone(String),
    Unwritten(String),
    Stuck(String),
}

struct Asking<'a> {
    place: &'a Target<'a>,
    table: Arc<dyn Table>,
    wish: &'a Wish,
    tally: &'a watch::Sender<Tally>,
    /// Letters that were met: a letter may stand in the topic twice.
    seen: HashSet<LetterId>,
}

impl Asking<'_> {
    async fn run(
        mut self,
        mut found: mpsc::Receiver<Found>,
        pace: &mut Pace,
        mut stop: watch::Receiver<bool>,
    ) -> Ended {
        let (place, table, wish) = (self.place, Arc::clone(&self.table), self.wish);
        let (mut away, mut ended, mut is_paced) = (FuturesUnordered::new(), None, false);
        loop {
            let asked = self.tally.borrow().asked;
            let left = wish.limit.map_or(u64::MAX, |limit| limit.saturating_sub(asked));
            if away.is_empty() && left == 0 && ended.is_none() {
                ended = Some(Ended::Limit);
            }
            let is_open = ended.is_none();
            let has_room = is_open && away.len() < AT_ONCE && (away.len() as u64) < left;
            tokio::select! {
                biased;
                Some((letter, fate)) = away.next(), if !away.is_empty() => {
                    if let Some(why) = self.count(letter, fate) {
                        ended = Some(Ended::Failed(why));
                    }
                }
                // A sender that is gone stops nothing.
                Ok(_) = stop.wait_for(|stop| *stop), if is_open => ended = Some(Ended::Stopped),
                () = pace.ready(), if has_room && !is_paced => is_paced = true,
                next = found.recv(), if has_room && is_paced => match next {
                    None => ended = Some(Ended::Through),
                    Some(letter) => {
                        if let Some(letter) = self.meet(letter) {
                            (is_paced, _) = (false, pace.go());
                            away.push(one(place, &*table, wish, letter));
                        }
                    }
                },
                else => break,
            }
        }
        ended.unwrap_or(Ended::Through)
    }

    /// Counts a letter that is meant; gives it back if it is to be asked for.
    fn meet(&mut self, found: Found) -> Option<Found> {
        let letter = found.told.letter;
        if !self.seen.insert(letter) {
            return None;
        }
        let state = self.place.rows.of(letter);
        let is_wanted = may(state, &self.wish.query);
        self.tally.send_modify(|tally| {
            tally.meant += 1;
            if !is_wanted {
                *tally.skipped.entry(state).or_default() += 1;
            }
        });
        is_wanted.then_some(found)
    }

    /// Counts what came of a letter; says so when the broker fails.
    fn count(&self, letter: LetterId, fate: Fate) -> Option<String> {
        let mut failed = None;
        self.tally.send_modify(|tally| match fate {
            Fate::Asked(placed) => {
                tally.asked += 1;
                tally.before += u64::from(placed == Placed::Before);
            }
            Fate::Skipped(state) => *tally.skipped.entry(state).or_default() += 1,
            Fate::Unpatched(why) => {
                tally.unpatched += 1;
                tally.note(letter, format!("the patch: {why}"));
            }
            Fate::Gone(stood) => {
                tally.gone += 1;
                tally
                    .note(letter, format!("its value was too large to keep, and is not at {stood} any more"));
            }
            Fate::Unwritten(why) => {
                tally.unwritten += 1;
                failed = Some(why);
            }
            Fate::Stuck(why) => {
                tally.stuck += 1;
                failed = Some(why);
            }
        });
        failed
    }
}

/// Asks for one letter.
async fn one(place: &Target<'_>, table: &dyn Table, wish: &Wish, found: Found) -> (LetterId, Fate) {
    let letter = found.told.letter;
    let fate = match prepare(place, wish, found).await {
        Ok((request, _)) => write(place, table, wish, letter, request).await,
        Err(fate) => fate,
    };
    (letter, fate)
}

/// The request as it will be written, without the headers of the asking; and the value that it will have at
/// its turn, where the letter could not keep it.
pub(super) async fn prepare(
    place: &Target<'_>,
    wish: &Wish,
    found: Found,
) -> Result<(Record, Option<Bytes>), Fate> {
    let Found { told, mut record, .. } = found;
    let mut whole = None;
    if let Some(stood) = &told.truncated
        && let Some(archive) = place.values.get(&told.source)
    {
        let value = archive.value_at(told.origin.clone()).await.map_err(Fate::Unwritten)?;
        whole = Some(value.ok_or_else(|| Fate::Gone(stood.clone()))?);
    }
    let Some(change) = &wish.change else { return Ok((record, whole)) };
    if told.truncated.is_some() && whole.is_none() {
        return Err(Fate::Unpatched(
            "its value was too large to keep, and its source is not here".to_owned(),
        ));
    }
    // What a route would see of it.
    let mut request = record.clone();
    request.headers.extend(wish.asked.headers());
    let (_, mut restored) = open(&request).map_err(Fate::Unpatched)?;
    if whole.is_some() {
        restored.value = whole;
        record.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("roomcast-truncated"));
    }
    // At most 64 KiB, so that the request is never too large with it.
    record.value = Some(change(&told, &restored).map_err(Fate::Unpatched)?);
    Ok((record, None))
}

/// The row, then the request.
async fn write(
    place: &Target<'_>,
    table: &dyn Table,
    wish: &Wish,
    letter: LetterId,
    request: Record,
) -> Fate {
    if let Err(state) = place.rows.ask(letter, |state| may(state, &wish.query)) {
        return Fate::Skipped(state);
    }
    let asked = &wish.asked;
    let mut row = Row::new(State::Requested, &asked.by, asked.at);
    row.why.clone_from(&wish.why);
    row.request = Some(asked.id);
    // The asking whose request may still be in the daemons' hands: one that they have answered says so.
    let under_way = Mutex::new(None);
    let stays = |there: &[u8]| {
        let Ok(there) = Row::read(there) else { return false };
        let request = there.request.filter(|_| there.state == State::Requested);
        *under_way.lock().unwrap_or_else(PoisonError::into_inner) = request;
        !may(there.state, &wish.query)
    };
    match table.put_unless(Row::key(letter), Bytes::from(row.write()), &stays).await {
        Ok(None) => {}
        Ok(Some(there)) => {
            place.rows.take_back(letter);
            return Fate::Skipped(Row::read(&there).map_or(State::Open, |there| there.state));
        }
        Err(why) => {
            place.rows.take_back(letter);
            return Fate::Unwritten(format!("the state table: {why}"));
        }
    }
    let under_way = under_way.into_inner().unwrap_or_else(PoisonError::into_inner);
    match place.archive.request_unless(under_way, request, asked.headers()).await {
        Ok(placed) => Fate::Asked(placed),
        Err(why) => {
            place.rows.take_back(letter);
            Fate::Stuck(why)
        }
    }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
