//! One letter with all that is known of it, and the letters before and after it: a replay that failed
//! wrote the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use serde_json::{Value as Json, json};

use super::place::Place;
use super::query::Query;
use super::{Found, Look, states, tell};
use crate::core::letter::LetterId;
use crate::core::replay::{Row, State};

/// The most letters of a chain that are shown. An event for many rooms can leave as many letters.
const MOST: usize = 1_000;

/// A letter and what became of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The letter.
    pub found: Found,
    /// Its row, if it has one.
    pub row: Option<Row>,
    /// All letters of its chain, itself among them, the first one first; empty when it is alone.
    pub chain: Vec<Part>,
}

/// A letter of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub letter: LetterId,
    /// Times that the record was replayed before; `None` where the topic has the letter no more.
    pub replays: Option<u32>,
    /// Why it was written.
    pub class: Option<String>,
    /// When it was written.
    pub written: Option<String>,
    /// Its row.
    pub row: Option<Row>,
}

impl Part {
    /// What became of it.
    pub fn state(&self) -> State {
        self.row.as_ref().map_or(State::Open, |row| row.state)
    }
}

/// The letter that is meant, the first if several are; `None` when there is none.
///
/// # Errors
/// What the broker says.
pub async fn show(places: &[Place], query: &Query, passed: &AtomicU64) -> Result<Option<Shown>, String> {
    let mut first = None;
    let looked = Look { places, query, passed }.each(|place, found| {
        first = Some((place, found));
        false
    });
    let looked = looked.await;
    let Some((number, found)) = first else { return looked.map(|_| None) };
    let place = &places[number..=number];
    let table = place[0].archive.table();
    let id = found.told.letter;
    let row = states::rows(&*table, BTreeSet::from([id])).await?.remove(&id);
    let is_alone = original(&found).is_none() && row.as_ref().is_none_or(|row| row.next.is_empty());
    let chain = if is_alone { Vec::new() } else { chain(place, &found, passed).await? };
    Ok(Some(Shown { found, row, chain }))
}

/// All letters that came of the same first one, in their order.
async fn chain(place: &[Place], found: &Found, passed: &AtomicU64) -> Result<Vec<Part>, String> {
    let mut parts = BTreeMap::new();
    let root = original(found).unwrap_or(found.told.letter);
    // Whatever the letter is, others may have come of the one that it came of.
    let everything = Query::default();
    let looked = Look { places: place, query: &everything, passed }.each(|_, other| {
        if other.told.letter == root || original(&other) == Some(root) {
            parts.insert(other.told.letter, part(&other));
        }
        parts.len() < MOST
    });
    looked.await?;
    let table = place[0].archive.table();
    let mut rows = states::rows(&*table, parts.keys().copied().collect()).await?;
    // A letter that a row names and that its topic has no more is told of as well.
    let named: BTreeSet<LetterId> = rows.values().flat_map(|row| row.next.iter().copied()).collect();
    let gone: BTreeSet<LetterId> = named.into_iter().filter(|letter| !parts.contains_key(letter)).collect();
    if !gone.is_empty() {
        rows.extend(states::rows(&*table, gone.clone()).await?);
        let nothing = |letter| Part { letter, replays: None, class: None, written: None, row: None };
        parts.extend(gone.into_iter().map(|letter| (letter, nothing(letter))));
    }
    let mut chain: Vec<Part> = parts.into_values().collect();
    for part in &mut chain {
        part.row = rows.get(&part.letter).cloned();
    }
    chain.sort_by_key(|part| (part.replays.unwrap_or(u32::MAX), part.written.clone(), part.letter));
    Ok(chain)
}

/// The first letter of the chain, where this is not the first.
fn original(found: &Found) -> Option<LetterId> {
    found.header("original").and_then(|id| id.parse().ok()).map(LetterId)
}

fn part(found: &Found) -> Part {
    Part {
        letter: found.told.letter,
        replays: Some(found.told.replays),
        class: found.header("class"),
        written: found.header("written"),
        row: None,
    }
}

impl Shown {
    /// For machines; `today`: what would become of its event.
    pub fn json(&self, today: &Json) -> Json {
        let part = |part: &Part| {
            json!({
                "letter": part.letter.to_string(),
                "replays": part.replays,
                "class": part.class,
                "written": part.written,
                "row": tell::row(part.row.as_ref()),
            })
        };
        json!({
            "letter": tell::fields(&self.found),
            "record": tell::record(&self.found),
            "row": tell::row(self.row.as_ref()),
            "chain": self.chain.iter().map(part).collect::<Vec<_>>(),
            "today": today,
        })
    }
}
