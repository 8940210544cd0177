//! Which letters are meant: the filters of `roomcast letters` and `/api/letters`.

use std::collections::BTreeSet;

use super::Found;
use crate::core::letter::{LetterId, PREFIX};
use crate::core::model::Class;
use crate::core::replay::State;
use crate::core::time::Wall;

/// The fewest digits of an id that stand for it: two of a million letters share them once in 500 times.
const DIGITS: usize = 12;

/// The beginning of a letter's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    first: u128,
    last: u128,
}

impl Prefix {
    /// Reads at least 12 hex digits, with dashes or without.
    pub fn read(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|char| *char != '-').collect();
        let bits = u32::try_from(digits.len()).ok().filter(|_| (DIGITS..=32).contains(&digits.len()))? * 4;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let first = u128::from_str_radix(&digits, 16).ok()?.checked_shl(128 - bits)?;
        Some(Self { first, last: first | u128::MAX.checked_shr(bits).unwrap_or(0) })
    }

    /// Whether an id begins so.
    pub fn begins(self, LetterId(id): LetterId) -> bool {
        (self.first..=self.last).contains(&id.as_u128())
    }
}

/// The beginning of an id that tables show, and that stands for it.
pub fn short(LetterId(id): LetterId) -> String {
    id.to_string()[..=DIGITS].to_owned()
}

/// Letters by what is known of them. Every part that is set must fit; a list that is empty is not set.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// One of these, or one that begins so.
    pub letters: BTreeSet<LetterId>,
    /// The beginnings of ids.
    pub beginnings: Vec<Prefix>,
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
    /// Whether that letter is one of those named, or none is.
    fn names(&self, letter: LetterId) -> bool {
        (self.letters.is_empty() && self.beginnings.is_empty())
            || self.letters.contains(&letter)
            || self.beginnings.iter().any(|beginning| beginning.begins(letter))
    }

    /// Whether it means that letter.
    pub fn means(&self, found: &Found) -> bool {
        let told = &found.told;
        let any = |wanted: &BTreeSet<String>, is: Option<String>| {
            wanted.is_empty() || is.is_some_and(|is| wanted.contains(&is))
        };
        self.names(told.letter)
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
            let (prefix, rest) = key.split_at_checked(PREFIX.len()).unwrap_or_default();
            prefix.eq_ignore_ascii_case(PREFIX) && rest.eq_ignore_ascii_case(name)
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

#[cfg(test)]
mod tests {
    use uuid::uuid;

    use super::*;

    #[test]
    fn a_letter_is_known_by_the_beginning_that_tables_show() {
        let id = LetterId(uuid!("6f2a4c60-8b7e-5d1c-9a52-3f0e1d2c4b5a"));
        let other = LetterId(uuid!("6f2a4c60-8b7f-5d1c-9a52-3f0e1d2c4b5a"));
        assert_eq!(short(id), "6f2a4c60-8b7e");
        for text in [&short(id), "6F2A4C608B7E", "6f2a4c60-8b7e-5d1c", &id.to_string()] {
            let beginning = Prefix::read(text).unwrap();
            assert!(beginning.begins(id) && !beginning.begins(other), "{text}");
        }
        for text in
            ["", "6f2a4c60-8b7", "6f2a4c60-8b7g", "6f2a4c60-8b7e-5d1c-9a52-3f0e1d2c4b5a0", "+6f2a4c60-8b7"]
        {
            assert_eq!(Prefix::read(text), None, "{text}");
        }
    }
}
