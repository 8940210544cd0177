//! Filters as people write them: the options of `roomcast letters` and the parameters of `/api/letters`.

use serde::Deserialize;
use uuid::Uuid;

use super::query::{Prefix, Query};
use crate::core::letter::LetterId;
use crate::core::model::Class;
use crate::core::replay::State;
use crate::core::section::{nearest, parse_duration};
use crate::core::time::Wall;

/// Which letters are meant, in words. Lists mean one of theirs; all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// Ids, or their beginnings of at least 12 hex digits.
    pub letter: Vec<String>,
    /// Classes.
    pub class: Vec<String>,
    /// Rooms still owed.
    pub room: Vec<String>,
    /// Routes.
    pub route: Vec<String>,
    /// Accounts.
    pub account: Vec<String>,
    /// States.
    pub state: Vec<String>,
    /// Written then or later: RFC 3339, or an age.
    pub since: Option<String>,
    /// Written before then: RFC 3339, or an age.
    pub until: Option<String>,
    /// With at least so many attempts.
    pub min_attempts: Option<u64>,
    /// With this text in the key, the value, the error or a header.
    pub text: Option<String>,
    /// Of the dead-letter topics of these sources.
    pub source: Vec<String>,
}

/// The names of all filters, as the API takes them.
pub const NAMES: [&str; 11] = [
    "letter",
    "class",
    "room",
    "route",
    "account",
    "state",
    "since",
    "until",
    "min_attempts",
    "text",
    "source",
];

impl Filters {
    /// Sets one by its name, as parameters of a query do; those that are lists grow.
    ///
    /// # Errors
    /// A name that is none, or a value that is wrong or stands twice.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let list = match name {
            "letter" => &mut self.letter,
            "class" => &mut self.class,
            "room" => &mut self.room,
            "route" => &mut self.route,
            "account" => &mut self.account,
            "state" => &mut self.state,
            "source" => &mut self.source,
            _ => return self.set_one(name, value),
        };
        list.push(value.to_owned());
        Ok(())
    }

    fn set_one(&mut self, name: &str, value: &str) -> Result<(), String> {
        let place = match name {
            "since" => &mut self.since,
            "until" => &mut self.until,
            "text" => &mut self.text,
            "min_attempts" => {
                let number =
                    value.parse().map_err(|_| format!("min_attempts is {value:?}, a number is wanted"))?;
                return only(&mut self.min_attempts, name, number);
            }
            _ => {
                let near = nearest(name, NAMES.into_iter());
                return Err(match near {
                    Some(near) => format!("there is no filter {name:?}; did you mean {near:?}?"),
                    None => format!("there is no filter {name:?}; there are {}", NAMES.join(", ")),
                });
            }
        };
        only(place, name, value.to_owned())
    }

    /// Whether nothing is asked of a letter (its source and state may be).
    pub fn mean_everything(&self) -> bool {
        let all = Self { source: self.source.clone(), state: self.state.clone(), ..Self::default() };
        *self == all
    }

    /// What they mean at that time. Where neither a letter nor a state is named, the letters are in one
    /// of the states of `unless_named`; none: in any.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn query(&self, now: Wall, unless_named: &[State]) -> Result<Query, String> {
        let mut query = Query {
            rooms: self.room.iter().cloned().collect(),
            routes: self.route.iter().cloned().collect(),
            accounts: self.account.iter().cloned().collect(),
            min_attempts: self.min_attempts.unwrap_or(0),
            text: self.text.clone().filter(|text| !text.is_empty()),
            ..Query::default()
        };
        for text in &self.letter {
            match text.parse::<Uuid>() {
                Ok(id) => drop(query.letters.insert(LetterId(id))),
                Err(_) => query.beginnings.push(Prefix::read(text).ok_or_else(|| no_letter(text))?),
            }
        }
        let classes = || Class::ALL.into_iter().map(|class| (class, class.word()));
        for text in &self.class {
            query.classes.insert(known("class", text, &classes())?);
        }
        let states = || State::ALL.into_iter().map(|state| (state, state.word()));
        for text in &self.state {
            query.states.insert(known("state", text, &states())?);
        }
        if query.states.is_empty() && self.letter.is_empty() {
            query.states.extend(unless_named);
        }
        query.since = self.since.as_deref().map(|text| time("since", text, now)).transpose()?;
        query.until = self.until.as_deref().map(|text| time("until", text, now)).transpose()?;
        Ok(query)
    }
}

fn only<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is given twice; one is wanted")),
    }
}

fn no_letter(text: &str) -> String {
    format!(
        "{text:?} is no letter: its id is wanted, as `roomcast letters list` shows it, \
         or the first 12 digits of it or more"
    )
}

fn known<T>(
    what: &str,
    text: &str,
    all: &(impl Iterator<Item = (T, &'static str)> + Clone),
) -> Result<T, String> {
    let words = || all.clone().map(|(_, word)| word);
    match all.clone().find(|(_, word)| *word == text) {
        Some((found, _)) => Ok(found),
        None => Err(match nearest(text, words()) {
            Some(near) => format!("{what} {text:?}: did you mean {near:?}?"),
            None => format!("{what} {text:?}: one of {} is wanted", words().collect::<Vec<_>>().join(", ")),
        }),
    }
}

/// A time of day or an age before `now`.
fn time(what: &str, text: &str, now: Wall) -> Result<Wall, String> {
    let age = || {
        let age = i64::try_from(parse_duration(text)?.as_millis()).ok()?;
        Some(Wall(now.0.saturating_sub(age)))
    };
    Wall::parse_rfc3339(text).or_else(age).ok_or_else(|| {
        format!(
            "{what} is {text:?}: a time such as 2026-01-31T08:00:00Z or an age such as 2h or 3d is wanted"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_769_903_999_123);

    fn filters(set: &[(&str, &str)]) -> Result<Query, String> {
        let mut filters = Filters::default();
        for (name, value) in set {
            filters.set(name, value)?;
        }
        filters.query(NOW, &[State::Open])
    }

    #[test]
    fn words_become_a_query() {
        let id = "6f2a4c60-8b7e-5d1c-9a52-3f0e1d2c4b5a";
        let query = filters(&[
            ("class", "rejected"),
            ("class", "room_gone"),
            ("room", "房间"),
            ("since", "2h"),
            ("until", "2026-01-31T23:59:59.123Z"),
            ("min_attempts", "3"),
            ("letter", id),
            ("letter", "6f2a4c60-8b7e"),
            ("text", "x"),
        ])
        .unwrap();
        assert_eq!(query.classes.into_iter().collect::<Vec<_>>(), [Class::Rejected, Class::RoomGone]);
        assert_eq!(query.since, Some(Wall(NOW.0 - 7_200_000)));
        assert_eq!(query.until, Some(NOW));
        assert_eq!((query.min_attempts, query.text.as_deref()), (3, Some("x")));
        assert_eq!((query.letters.len(), query.beginnings.len()), (1, 1));
        assert!(query.states.is_empty(), "a letter that is named is meant whatever its state");
        assert!(filters(&[]).unwrap().states.contains(&State::Open));
        assert!(!filters(&[("state", "parked")]).unwrap().states.contains(&State::Open));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        for (set, told) in [
            (("class", "rejcted"), "did you mean \"rejected\"?"),
            (("class", "nonsense-of-some-kind"), "one of garbled, mapping"),
            (("state", "opn"), "did you mean \"open\"?"),
            (("letter", "6f2a"), "first 12 digits"),
            (("letter", "../../etc"), "is no letter"),
            (("since", "yesterday"), "2026-01-31T08:00:00Z"),
            (("until", "2"), "an age such as 2h"),
            (("min_attempts", "-1"), "a number"),
            (("rom", "1"), "did you mean \"room\"?"),
        ] {
            let error = filters(&[set]).unwrap_err();
            assert!(error.contains(told), "{set:?}: {error}");
        }
        assert!(filters(&[("since", "1h"), ("since", "2h")]).unwrap_err().contains("twice"));
    }
}
