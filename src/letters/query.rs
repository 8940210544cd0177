//! Which letters are meant: the filters of `roomcast letters` and `/api/letters`.

use std::collections::BTreeSet;

use super::Found;
use crate::core::letter::LetterId;
use crate::core::model::Class;
use crate::core::replay::State;
use crate::core::time::Wall;

/// Letters by what is known of them. Every part that is set must fit; a list that is empty is not set.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// One of these.
    pub letters: BTreeSet<LetterId>,
    /// Of one of these classes.
    pub classes: BTreeSet<Class>,
    /// Owed to one of these rooms.
    pub rooms: BTreeSet<String>,
    /// Of one of these routes.
    pub routes: BTreeSet<String>,
    /// Of one of these accounts.
    pub accounts: BTreeSet<String>,
    /// In one of these states.
    pub states: BTreeSet<State>,
    /// Written at this time or later.
    pub since: Option<Wall>,
    /// Written before this time.
    pub until: Option<Wall>,
    /// With at least so many attempts.
    pub min_attempts: u64,
    /// With this text in the key, the value, the error, or a header of the record, whatever its case.
    pub text: Option<String>,
}

impl Query {
    /// Whether it means that letter.
    pub fn means(&self, found: &Found) -> bool {
        let told = &found.told;
        let any = |wanted: &BTreeSet<String>, is: Option<String>| {
            wanted.is_empty() || is.is_some_and(|is| wanted.contains(&is))
        };
        (self.letters.is_empty() || self.letters.contains(&told.letter))
            && (self.classes.is_empty() || told.class.is_some_and(|class| self.classes.contains(&class)))
            && (self.rooms.is_empty() || told.rooms.iter().any(|room| self.rooms.contains(&*room.0)))
            && any(&self.routes, told.route.clone())
            && any(&self.accounts, found.header("account"))
            && (self.states.is_empty() || self.states.contains(&found.state))
            && (self.since.is_none() || self.since <= found.written())
            && self.until.is_none_or(|until| found.written().is_some_and(|at| at < until))
            && (self.min_attempts == 0 || found.attempts() >= self.min_attempts)
            && self.text.as_ref().is_none_or(|text| found.has_text(text))
    }
}

impl Found {
    /// A header of the letter, by its name without `roomcast-`.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.record.headers.iter().rev().find(|(key, _)| {
            key.get(..9).is_some_and(|prefix| prefix.eq_ignore_ascii_case("roomcast-"))
                && key[9..].eq_ignore_ascii_case(name)
        });
        value.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// When it was written.
    pub fn written(&self) -> Option<Wall> {
        self.header("written").and_then(|at| Wall::parse_rfc3339(&at))
    }

    /// Calls that carried what it owes.
    pub fn attempts(&self) -> u64 {
        self.header("attempts").and_then(|attempts| attempts.parse().ok()).unwrap_or(0)
    }

    fn has_text(&self, text: &str) -> bool {
        let wanted = text.to_lowercase();
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase().contains(&wanted);
        self.record.key.as_deref().is_some_and(has)
            || self.record.value.as_deref().is_some_and(has)
            || self.record.headers.iter().any(|(_, value)| has(value))
    }
}
