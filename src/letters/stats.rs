//! How many letters there are, of which kinds, and how old they are.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value as Json, json};

use super::Found;
use crate::core::time::Wall;

/// The most rooms that are counted apart; letters of further rooms are counted together.
const ROOMS: usize = 100_000;

/// What letters are counted by.
pub const KINDS: [&str; 5] = ["state", "class", "route", "account", "dead_letter"];

/// Counts.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Letters.
    pub letters: u64,
    /// By [`KINDS`]: counts by word. Letters without such a word stand under an empty one.
    pub by: [BTreeMap<String, u64>; KINDS.len()],
    rooms: HashMap<String, u64>,
    /// Letters owed to rooms that are not counted apart.
    pub other_rooms: u64,
    /// When the oldest was written.
    pub oldest: Option<Wall>,
    /// When the newest was written.
    pub newest: Option<Wall>,
}

impl Stats {
    /// Counts a letter.
    pub fn take(&mut self, found: &Found) {
        self.letters += 1;
        let words = [
            found.state.word().to_owned(),
            found.header("class").unwrap_or_default(),
            found.told.route.clone().unwrap_or_default(),
            found.header("account").unwrap_or_default(),
            found.record.origin.stream.to_string(),
        ];
        for (counts, word) in self.by.iter_mut().zip(words) {
            *counts.entry(word).or_default() += 1;
        }
        for room in &found.told.rooms {
            if let Some(count) = self.rooms.get_mut(&*room.0) {
                *count += 1;
            } else if self.rooms.len() < ROOMS {
                self.rooms.insert(room.0.to_string(), 1);
            } else {
                self.other_rooms += 1;
            }
        }
        if let Some(written) = found.written() {
            self.oldest = Some(self.oldest.map_or(written, |oldest| oldest.min(written)));
            self.newest = self.newest.max(Some(written));
        }
    }

    /// The rooms with the most letters, most first, then by name.
    pub fn top_rooms(&self, most: usize) -> Vec<(&str, u64)> {
        let mut rooms: Vec<(&str, u64)> = self.rooms.iter().map(|(room, count)| (&**room, *count)).collect();
        rooms.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
        rooms.truncate(most);
        rooms
    }

    /// Rooms that were counted apart.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// A kind's words and counts, most first, then by name.
    pub fn top(&self, kind: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<(&str, u64)> =
            self.by[kind].iter().map(|(word, count)| (&**word, *count)).collect();
        words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        words
    }

    /// For machines, with that many rooms.
    pub fn json(&self, rooms: usize) -> Json {
        let mut told = Map::new();
        told.insert("letters".to_owned(), self.letters.into());
        for (kind, counts) in KINDS.iter().zip(&self.by) {
            told.insert((*kind).to_owned(), json!(counts));
        }
        let top = self.top_rooms(rooms).into_iter();
        let top = top.map(|(room, letters)| json!({ "room": room, "letters": letters }));
        told.insert("top_rooms".to_owned(), top.collect());
        told.insert("rooms".to_owned(), self.rooms.len().into());
        told.insert("owed_to_other_rooms".to_owned(), self.other_rooms.into());
        told.insert("oldest".to_owned(), json!(self.oldest.map(Wall::rfc3339)));
        told.insert("newest".to_owned(), json!(self.newest.map(Wall::rfc3339)));
        Json::Object(told)
    }
}
