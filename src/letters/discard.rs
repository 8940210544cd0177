//! Letters that nobody wants any more: chosen first, so that somebody can be asked, then written down.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value as Json, json};

use super::Look;
use super::place::Place;
use super::query::Query;
use super::states::States;
use crate::core::letter::LetterId;
use crate::core::replay::{Row, State};
use crate::core::time::Wall;

/// Rows on their way at once.
const AT_ONCE: usize = 64;

/// What is chosen to be discarded: some 24 bytes for each letter.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    letters: Vec<(usize, LetterId)>,
    finals: u64,
    named: usize,
}

/// Whose decision it is.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Who.
    pub by: String,
    /// When.
    pub at: Wall,
    /// Why, in their words.
    pub why: String,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Letters that are discarded now.
    pub discarded: u64,
    /// Letters that had been replayed or discarded before, and stay so.
    pub finals: u64,
    /// Ids that no letter has.
    pub missing: u64,
}

/// Finds the letters that are meant.
///
/// # Errors
/// What the broker says.
pub async fn choose(places: &[Place], query: &Query, passed: &AtomicU64) -> Result<Chosen, String> {
    let mut chosen = Chosen { named: query.letters.len() + query.beginnings.len(), ..Chosen::default() };
    let look = Look { places, query, passed };
    let take = |place, found: super::Found| {
        match found.state.is_final() {
            true => chosen.finals += 1,
            false => chosen.letters.push((place, found.told.letter)),
        }
        true
    };
    look.each(take).await?;
    Ok(chosen)
}

impl Chosen {
    /// Letters that would be discarded.
    pub fn count(&self) -> u64 {
        self.letters.len() as u64
    }

    /// Letters that are final already.
    pub fn finals(&self) -> u64 {
        self.finals
    }

    /// Writes the rows; a letter that has become final since it was chosen is left as it is. `done` counts
    /// the rows that are confirmed. Asked again, it goes on where it stopped.
    ///
    /// # Errors
    /// What the broker says; what is confirmed stays.
    pub async fn discard(
        &self,
        places: &[Place],
        decision: &Decision,
        done: &AtomicU64,
    ) -> Result<Discarded, String> {
        let found = self.count() + self.finals;
        let missing = (self.named as u64).saturating_sub(found);
        let mut tally = Discarded { discarded: 0, finals: self.finals, missing };
        let row = Row { why: decision.why.clone(), ..Row::new(State::Discarded, &decision.by, decision.at) };
        let row = Bytes::from(row.write());
        for (number, place) in places.iter().enumerate() {
            let here = || self.letters.iter().filter(|(at, _)| *at == number).map(|(_, letter)| *letter);
            if here().next().is_none() {
                continue;
            }
            let table = place.archive.table();
            let now = States::load(&*table).await.map_err(|why| format!("{place}: {why}"))?;
            let open: Vec<LetterId> = here().filter(|letter| !now.is_final(*letter)).collect();
            tally.finals += (here().count() - open.len()) as u64;
            let table = &table;
            let row = &row;
            let puts = open.into_iter().map(|letter| async move {
                let put = table.put(Row::key(letter), row.clone()).await;
                put.map(|()| {
                    done.fetch_add(1, Ordering::Relaxed);
                })
            });
            let puts = futures_util::stream::iter(puts).buffer_unordered(AT_ONCE);
            let before = done.load(Ordering::Relaxed);
            let put = puts.try_for_each(|()| std::future::ready(Ok(()))).await;
            tally.discarded += done.load(Ordering::Relaxed) - before;
            put.map_err(|why| {
                format!("{place}: {why}; {} discarded until then, ask again for the rest", tally.discarded)
            })?;
        }
        Ok(tally)
    }
}

impl Discarded {
    /// For machines.
    pub fn json(&self) -> Json {
        json!({ "discarded": self.discarded, "final_already": self.finals, "not_found": self.missing })
    }
}
