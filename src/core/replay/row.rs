//! A row of the state table: what became of a letter. JSON, so that people can read it with the tools
//! of the broker.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::letter::LetterId;
use crate::core::time::Wall;

/// What became of a letter. A letter without a row is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has done anything about it.
    Open,
    /// Somebody asked for a replay, which is under way.
    Requested,
    /// It was replayed: what it owed was accepted, or is in the letter that the row names.
    Replayed,
    /// Somebody decided that it is not wanted any more.
    Discarded,
    /// It failed as often as `max_replays` allows, and waits for somebody to look at it.
    Parked,
}

impl State {
    /// All states, in the design's order.
    pub const ALL: [Self; 5] = [Self::Open, Self::Requested, Self::Replayed, Self::Discarded, Self::Parked];

    /// The word of `--state`, tables and the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Requested => "requested",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Parked => "parked",
        }
    }

    /// Whether nothing is left to be done about the letter itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Replayed | Self::Discarded)
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What became of the letter.
    pub state: State,
    /// Who brought it there.
    pub by: String,
    /// When, in RFC 3339.
    pub at: String,
    /// In their words, or the daemon's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The asking that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// The letters that were written when the replay failed: the next of the chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<LetterId>,
}

impl Row {
    /// A row of this state.
    pub fn new(state: State, by: &str, at: Wall) -> Self {
        Self {
            state,
            by: by.to_owned(),
            at: at.rfc3339(),
            why: String::new(),
            request: None,
            next: Vec::new(),
        }
    }

    /// The key of a letter's row.
    pub fn key(letter: LetterId) -> String {
        letter.to_string()
    }

    /// The letter of a row's key; `None` for the table's other rows.
    pub fn letter(key: &str) -> Option<LetterId> {
        Uuid::parse_str(key).ok().map(LetterId)
    }

    /// As it stands in the table.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and lists are JSON")
    }

    /// Reads it.
    ///
    /// # Errors
    /// What it is instead.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("the row is not one of roomcast's: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_one_word_everywhere() {
        for state in State::ALL {
            let stored = serde_json::to_string(&state).expect("a word");
            assert_eq!(stored, format!("{:?}", state.word()));
        }
        assert_eq!(State::ALL.map(State::is_final), [false, false, true, true, false]);
    }
}
