//! What became of each letter, in little memory: a byte and an id for each that has a row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::Table;
use crate::core::letter::LetterId;
use crate::core::replay::{Row, State};

/// The states of all letters of a dead-letter topic: about 35 bytes for each that has a row.
#[derive(Clone, Debug, Default)]
pub struct States(HashMap<LetterId, State>);

impl States {
    /// Reads them.
    ///
    /// # Errors
    /// What the broker says.
    pub async fn load(table: &dyn Table) -> Result<Self, String> {
        let states = Arc::new(Mutex::new(Self::default()));
        let into = Arc::clone(&states);
        let take = move |key: &str, value: Option<&[u8]>| {
            into.lock().unwrap_or_else(PoisonError::into_inner).take(key, value);
        };
        table.each(Box::new(take)).await?;
        Ok(std::mem::take(&mut *states.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Takes note of a row of the table, as it is read or as it changes. A row that is not a letter's is
    /// passed over; one that cannot be read leaves its letter as it was.
    pub fn take(&mut self, key: &str, value: Option<&[u8]>) {
        let Some(letter) = Row::letter(key) else { return };
        match value.map(Row::read) {
            None => drop(self.0.remove(&letter)),
            Some(Ok(row)) => drop(self.0.insert(letter, row.state)),
            Some(Err(_)) => {}
        }
    }

    /// Whether nothing is left to be done about a letter.
    pub fn is_final(&self, letter: LetterId) -> bool {
        self.of(letter).is_final()
    }

    /// The letters that are in that state.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = LetterId> {
        self.0.iter().filter(move |(_, of)| **of == state).map(|(letter, _)| *letter)
    }

    /// What became of a letter; one without a row is open.
    pub fn of(&self, letter: LetterId) -> State {
        self.0.get(&letter).copied().unwrap_or(State::Open)
    }
}

/// The rows of these letters, as far as they have one.
///
/// # Errors
/// What the broker says.
pub async fn rows(table: &dyn Table, wanted: BTreeSet<LetterId>) -> Result<BTreeMap<LetterId, Row>, String> {
    let rows = Arc::new(Mutex::new(BTreeMap::new()));
    let into = Arc::clone(&rows);
    let take = move |key: &str, value: Option<&[u8]>| {
        let Some(letter) = Row::letter(key).filter(|letter| wanted.contains(letter)) else { return };
        let mut rows = into.lock().unwrap_or_else(PoisonError::into_inner);
        match value.map(Row::read) {
            None => drop(rows.remove(&letter)),
            Some(Ok(row)) => drop(rows.insert(letter, row)),
            Some(Err(_)) => {}
        }
    };
    table.each(Box::new(take)).await?;
    Ok(std::mem::take(&mut *rows.lock().unwrap_or_else(PoisonError::into_inner)))
}
