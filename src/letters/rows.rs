//! The state table as it changes: what became of letters that were asked for, and of all others.
//!
//! [`Rows`] hears what [`crate::broker::Broker::follow`] tells, in a task of its own that ends with it. It
//! keeps a byte and an id for each letter that has a row, as [`States`] does, and as much for each letter
//! that was asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::states::States;
use crate::broker::Followed;
use crate::core::letter::LetterId;
use crate::core::replay::{Row, State};

/// Batches of rows on their way.
const AHEAD: usize = 16;

/// What became of a letter after it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No daemon has said anything yet.
    Left,
    /// What it owed was accepted.
    Replayed,
    /// It failed again: there is a new letter.
    FailedAgain,
    /// It has failed as often as it may.
    Parked,
    /// Somebody discarded it meanwhile.
    Discarded,
    /// The daemon could not do it, or somebody took the asking back.
    OpenAgain,
}

impl Verdict {
    /// All of them, in the order of a summary.
    pub const ALL: [Self; 6] =
        [Self::Replayed, Self::FailedAgain, Self::Parked, Self::Discarded, Self::OpenAgain, Self::Left];

    /// The word of summaries.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Replayed => "replayed",
            Self::FailedAgain => "failed_again",
            Self::Parked => "parked",
            Self::Discarded => "discarded",
            Self::OpenAgain => "open_again",
        }
    }

    fn of(row: &Row) -> Self {
        match row.state {
            State::Open => Self::OpenAgain,
            State::Requested => Self::Left,
            State::Replayed if row.next.is_empty() => Self::Replayed,
            State::Replayed => Self::FailedAgain,
            State::Discarded => Self::Discarded,
            State::Parked => Self::Parked,
        }
    }
}

/// How many letters that were asked for came to which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts([u64; Verdict::ALL.len()]);

impl Verdicts {
    /// Letters of one verdict.
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// All letters that were asked for.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those of another table beside these.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}

/// A letter that was asked for.
#[derive(Clone, Copy, Debug)]
struct Mine {
    /// The state it was in.
    before: State,
    verdict: Verdict,
}

#[derive(Debug, Default)]
struct Held {
    states: States,
    /// The table as it is read anew, until all of it is there.
    anew: Option<(States, BTreeMap<LetterId, Verdict>)>,
    mine: HashMap<LetterId, Mine>,
    verdicts: Verdicts,
    is_current: bool,
    /// Why it cannot be read now.
    trouble: Option<String>,
}

/// The table, followed.
#[derive(Debug)]
pub struct Rows {
    held: Arc<Mutex<Held>>,
    changed: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Rows {
    /// Begins to listen; the sender is for [`crate::broker::Broker::follow`]. Called within a tokio runtime.
    pub fn listen() -> (Self, mpsc::Sender<Followed>) {
        Self::hear(Arc::default())
    }

    /// Begins to listen anew, without forgetting what was asked for: once the table is current again, all
    /// that stood in it by now is known.
    pub fn listen_again(&mut self) -> mpsc::Sender<Followed> {
        lock(&self.held).is_current = false;
        let (again, told) = Self::hear(Arc::clone(&self.held));
        *self = again;
        told
    }

    fn hear(held: Arc<Mutex<Held>>) -> (Self, mpsc::Sender<Followed>) {
        let (told, mut news) = mpsc::channel(AHEAD);
        let (change, changed) = watch::channel(());
        let into = Arc::clone(&held);
        let task = tokio::spawn(async move {
            while let Some(followed) = news.recv().await {
                lock(&into).take(followed);
                // Nobody looks any more: then this is ended.
                let _ = change.send(());
            }
        });
        (Self { held, changed, task }, told)
    }

    /// Waits until the whole table is known.
    ///
    /// # Errors
    /// Why it is not known within that time.
    pub async fn current(&mut self, patience: Duration) -> Result<(), String> {
        let held = Arc::clone(&self.held);
        let known = self.changed.wait_for(|()| lock(&held).is_current);
        match timeout(patience, known).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("nobody reads the state table any more".to_owned()),
            Err(_) => {
                let trouble = lock(&self.held).trouble.clone();
                let why = trouble.unwrap_or_else(|| format!("it is not read within {patience:?}"));
                Err(format!("the state table: {why}"))
            }
        }
    }

    /// Waits for a change; `false` when none will come any more.
    pub async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }

    /// What became of a letter.
    pub fn of(&self, letter: LetterId) -> State {
        lock(&self.held).states.of(letter)
    }

    /// Notes that a letter is being asked for, if its state is one of those that may be; else says which it
    /// is in. From here on what becomes of it is counted.
    ///
    /// # Errors
    /// The state that it is in.
    pub fn ask(&self, letter: LetterId, may: impl Fn(State) -> bool) -> Result<(), State> {
        let mut held = lock(&self.held);
        let before = held.states.of(letter);
        if !may(before) {
            return Err(before);
        }
        if held.mine.insert(letter, Mine { before, verdict: Verdict::Left }).is_none() {
            held.verdicts.0[Verdict::Left as usize] += 1;
        }
        Ok(())
    }

    /// Takes [`Rows::ask`] back: its row could not be written.
    pub fn take_back(&self, letter: LetterId) {
        let mut held = lock(&self.held);
        if let Some(mine) = held.mine.remove(&letter) {
            held.verdicts.0[mine.verdict as usize] -= 1;
        }
    }

    /// What became of those that were asked for.
    pub fn verdicts(&self) -> Verdicts {
        lock(&self.held).verdicts
    }

    /// Letters that were asked for by others, or earlier, and have no end yet.
    pub fn of_others(&self) -> u64 {
        let held = lock(&self.held);
        let requested = held.states.in_state(State::Requested);
        requested.filter(|letter| !held.mine.contains_key(letter)).count() as u64
    }

    /// Of those that were asked for, letters that others had asked for, or that were before.
    pub fn taken_over(&self) -> u64 {
        let held = lock(&self.held);
        held.mine.values().filter(|mine| mine.before == State::Requested).count() as u64
    }

    /// Why the table cannot be read now, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.held).trouble.clone()
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Held {
    fn take(&mut self, followed: Followed) {
        match followed {
            Followed::Begun => self.anew = Some(<_>::default()),
            Followed::Rows(rows) => {
                self.trouble = None;
                rows.iter().for_each(|(key, value)| self.row(key, value.as_ref()));
            }
            Followed::Current => {
                (self.is_current, self.trouble) = (true, None);
                let Some((states, verdicts)) = self.anew.take() else { return };
                self.states = states;
                for (letter, verdict) in verdicts {
                    // As it was before it was asked for: the row of the asking is on its way.
                    let is_old = |mine: &Mine| self.states.of(letter) == mine.before;
                    if !self.mine.get(&letter).is_some_and(is_old) {
                        self.judge(letter, verdict);
                    }
                }
            }
            Followed::Waiting(why) => self.trouble = Some(why),
        }
    }

    fn row(&mut self, key: &Bytes, value: Option<&Bytes>) {
        let Ok(key) = std::str::from_utf8(key) else { return };
        let Some(letter) = Row::letter(key) else { return };
        let states = self.anew.as_mut().map_or(&mut self.states, |(states, _)| states);
        states.take(key, value.map(|value| &**value));
        let verdict = match value.map(|value| Row::read(value)) {
            None => Verdict::OpenAgain,
            Some(Ok(row)) => Verdict::of(&row),
            Some(Err(_)) => return,
        };
        match &mut self.anew {
            Some((_, verdicts)) if self.mine.contains_key(&letter) => drop(verdicts.insert(letter, verdict)),
            Some(_) => {}
            None => self.judge(letter, verdict),
        }
    }

    fn judge(&mut self, letter: LetterId, verdict: Verdict) {
        let Some(mine) = self.mine.get_mut(&letter) else { return };
        self.verdicts.0[mine.verdict as usize] -= 1;
        self.verdicts.0[verdict as usize] += 1;
        mine.verdict = verdict;
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::core::time::Wall;

    fn row(number: u128, state: State, next: &[u128]) -> (Bytes, Option<Bytes>) {
        let mut row = Row::new(state, "ann@host", Wall(0));
        row.next = next.iter().map(|next| LetterId(Uuid::from_u128(*next))).collect();
        (Bytes::from(Row::key(letter(number))), Some(Bytes::from(row.write())))
    }

    fn letter(number: u128) -> LetterId {
        LetterId(Uuid::from_u128(number))
    }

    fn counts(verdicts: Verdicts) -> [u64; 6] {
        Verdict::ALL.map(|verdict| verdicts.of(verdict))
    }

    async fn hear(rows: &mut Rows, told: &mpsc::Sender<Followed>, news: Vec<Followed>) {
        for one in news {
            told.send(one).await.expect("somebody listens");
            assert!(rows.changed().await);
        }
    }

    #[tokio::test]
    async fn verdicts_are_counted_as_rows_come() {
        let (mut rows, told) = Rows::listen();
        let old = vec![row(5, State::Parked, &[]), row(6, State::Replayed, &[])];
        hear(&mut rows, &told, vec![Followed::Begun, Followed::Rows(old), Followed::Current]).await;
        rows.current(Duration::from_secs(5)).await.expect("it was told");
        assert_eq!((rows.of(letter(5)), rows.of(letter(1))), (State::Parked, State::Open));
        assert_eq!(rows.ask(letter(6), |state| state == State::Open), Err(State::Replayed));
        for number in 1..=5 {
            assert_eq!(rows.ask(letter(number), |state| !state.is_final()), Ok(()));
        }
        assert_eq!(counts(rows.verdicts()), [0, 0, 0, 0, 0, 5]);
        let requested = (1..=5).map(|number| row(number, State::Requested, &[])).collect();
        hear(&mut rows, &told, vec![Followed::Rows(requested)]).await;
        assert_eq!(counts(rows.verdicts()), [0, 0, 0, 0, 0, 5]);
        let done = vec![
            row(1, State::Replayed, &[]),
            row(2, State::Replayed, &[9]),
            row(3, State::Discarded, &[]),
            row(4, State::Open, &[]),
            row(5, State::Parked, &[]),
            row(7, State::Replayed, &[]), // somebody else's
            (Bytes::from_static(b"calls/live/broadcast"), Some(Bytes::from_static(b"1"))),
            (Bytes::from(Row::key(letter(1))), Some(Bytes::from_static(b"no row"))),
        ];
        hear(&mut rows, &told, vec![Followed::Rows(done)]).await;
        assert_eq!(counts(rows.verdicts()), [1, 1, 1, 1, 1, 0]);
        rows.take_back(letter(4));
        assert_eq!((counts(rows.verdicts()), rows.verdicts().all()), ([1, 1, 1, 1, 0, 0], 4));
    }

    /// A connection that was lost: the table is read from its beginning, with old rows on the way.
    #[tokio::test]
    async fn a_table_that_is_read_anew_counts_as_it_ends() {
        let (mut rows, told) = Rows::listen();
        let old = vec![row(5, State::Parked, &[])];
        hear(&mut rows, &told, vec![Followed::Begun, Followed::Rows(old.clone()), Followed::Current]).await;
        for number in [1, 2, 5] {
            assert_eq!(rows.ask(letter(number), |_| true), Ok(()));
        }
        hear(&mut rows, &told, vec![Followed::Waiting("gone".to_owned())]).await;
        assert_eq!(rows.trouble(), Some("gone".to_owned()));
        let anew = vec![row(1, State::Requested, &[]), row(1, State::Replayed, &[]), old[0].clone()];
        hear(&mut rows, &told, vec![Followed::Begun, Followed::Rows(anew)]).await;
        assert_eq!(counts(rows.verdicts()), [0, 0, 0, 0, 0, 3], "nothing counts before all is read");
        assert_eq!(rows.of(letter(5)), State::Parked, "what was known stays");
        hear(&mut rows, &told, vec![Followed::Current]).await;
        assert_eq!(counts(rows.verdicts()), [1, 0, 0, 0, 0, 2], "5 was parked before it was asked for");
        assert_eq!((rows.of(letter(1)), rows.trouble()), (State::Replayed, None));
    }

    /// At the end of a pipeline of one's own: what it wrote last is known once the table is current again.
    #[tokio::test]
    async fn who_listens_again_knows_what_stood_there_by_then() {
        let (mut rows, told) = Rows::listen();
        let old = vec![row(1, State::Requested, &[]), row(2, State::Requested, &[])];
        hear(&mut rows, &told, vec![Followed::Begun, Followed::Rows(old), Followed::Current]).await;
        assert_eq!((rows.of_others(), rows.taken_over()), (2, 0));
        assert_eq!(rows.ask(letter(2), |_| true), Ok(()));
        assert_eq!(rows.ask(letter(3), |_| true), Ok(()));
        assert_eq!((rows.of_others(), rows.taken_over()), (1, 1));
        let again = rows.listen_again();
        assert!(rows.current(Duration::from_millis(1)).await.is_err(), "it is not known yet");
        let done =
            vec![row(1, State::Requested, &[]), row(2, State::Parked, &[]), row(3, State::Replayed, &[])];
        hear(&mut rows, &again, vec![Followed::Begun, Followed::Rows(done), Followed::Current]).await;
        rows.current(Duration::from_secs(5)).await.expect("it was told");
        assert_eq!(counts(rows.verdicts()), [1, 0, 1, 0, 0, 0]);
        assert_eq!((rows.of_others(), rows.taken_over()), (1, 1));
        assert!(told.send(Followed::Current).await.is_err(), "nobody listens there any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_is_not_told_is_not_waited_for_without_end() {
        let (mut rows, told) = Rows::listen();
        told.send(Followed::Waiting("topic x: no leader".to_owned())).await.expect("somebody listens");
        let why = rows.current(Duration::from_secs(30)).await.expect_err("it is not read");
        assert_eq!(why, "the state table: topic x: no leader");
    }
}
