//! The oracle: joins what was produced with what the provider accepted, and says which promises of
//! the design hold. It counts; what is allowed in a test, the test says. It trusts nothing that
//! roomcast says of itself.
//!
//! Every produced event carries a [`Owed::token`] in its text, which the simulator's log keeps, so
//! that the join depends neither on ids nor on mappings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::provider::Entry;

const OPEN: &str = "[[";
const CLOSE: &str = "]]";

/// One event that one room is owed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owed {
    /// The room.
    pub room: String,
    /// Its place among the events of this room, in source order.
    pub sequence: u64,
}

/// What the join says. Every list names tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Owed, and never accepted nor excused (P1).
    pub lost: Vec<String>,
    /// Accepted in a room that was not owed them.
    pub strange: Vec<String>,
    /// First acceptances that came after one of a later event of that path, room and priority (P2).
    pub disordered: Vec<String>,
    /// Acceptances after the first that said so with `resendFlag=1`, under the same id.
    pub repeated_marked: usize,
    /// Acceptances after the first that did not say so.
    pub repeated_unmarked: Vec<String>,
    /// Accepted under two ids (P3).
    pub ids_changed: Vec<String>,
    /// Messages that were refused, by reason.
    pub refused: BTreeMap<String, usize>,
}

impl Owed {
    /// What stands in the event's text.
    pub fn token(&self) -> String {
        format!("{OPEN}{}#{}{CLOSE}", self.room, self.sequence)
    }

    /// Reads the token in a content.
    pub fn find(content: &str) -> Option<Self> {
        let (_, rest) = content.split_once(OPEN)?;
        let (token, _) = rest.split_once(CLOSE)?;
        let (room, sequence) = token.rsplit_once('#')?;
        Some(Self { room: room.to_owned(), sequence: sequence.parse().ok()? })
    }
}

/// Joins. `entries` stand in the order of arrival; `excused` are those whose fate is another one
/// (a letter, a drop that the config states).
pub fn judge(owed: &BTreeSet<Owed>, entries: &[Entry], excused: &BTreeSet<Owed>) -> Judgement {
    let mut judgement = Judgement::default();
    let mut first_ids: BTreeMap<Owed, Option<&str>> = BTreeMap::new();
    let mut newest: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for entry in entries {
        let Some(event) = Owed::find(&entry.content) else { continue };
        let token = event.token();
        if !entry.accepted {
            *judgement.refused.entry(entry.reason.clone()).or_default() += 1;
            continue;
        }
        if entry.room.as_deref().is_some_and(|room| room != event.room) || !owed.contains(&event) {
            judgement.strange.push(token);
            continue;
        }
        let id = entry.id.as_deref();
        if let Some(first) = first_ids.get(&event) {
            if *first != id {
                judgement.ids_changed.push(token.clone());
            }
            if entry.resend {
                judgement.repeated_marked += 1;
            } else {
                judgement.repeated_unmarked.push(token);
            }
            continue;
        }
        let lane =
            (lane_path(&entry.path), entry.room.as_deref().unwrap_or_default(), entry.priority.as_str());
        let newest = newest.entry(lane).or_insert(event.sequence);
        if event.sequence < *newest {
            judgement.disordered.push(token);
        }
        *newest = event.sequence.max(*newest);
        first_ids.insert(event, id);
    }
    let missing = owed.iter().filter(|event| !first_ids.contains_key(event) && !excused.contains(event));
    judgement.lost = missing.map(Owed::token).collect();
    judgement
}

/// A batch call is another way onto the same path.
fn lane_path(path: &str) -> &str {
    if path == "batch" { "room" } else { path }
}

impl Judgement {
    /// Nothing lost, nothing out of order, nothing where it does not belong, one id for one message.
    #[track_caller]
    pub fn assert_kept(&self) {
        let broken = [
            ("lost", &self.lost),
            ("in the wrong room", &self.strange),
            ("out of order", &self.disordered),
            ("under two ids", &self.ids_changed),
        ];
        let told: Vec<String> = broken
            .iter()
            .filter(|(_, tokens)| !tokens.is_empty())
            .map(|(what, tokens)| format!("{} {what}: {:?}", tokens.len(), &tokens[..tokens.len().min(10)]))
            .collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}

/// The most that any window of this length holds, for arrivals in nanoseconds and in their order:
/// P4 holds when it is at most the quota. Windows slide, which is stricter than any fixed raster.
pub fn busiest(arrivals: impl IntoIterator<Item = u64>, window: Duration) -> usize {
    let window = u64::try_from(window.as_nanos()).expect("windows are short");
    let mut inside = std::collections::VecDeque::new();
    let mut most = 0;
    for arrival in arrivals {
        inside.push_back(arrival);
        while inside.front().is_some_and(|first| arrival - first >= window) {
            inside.pop_front();
        }
        most = most.max(inside.len());
    }
    most
}

/// Arrivals of calls on one path (`room` counts batches as well), each call once.
pub fn calls<'a>(entries: &'a [Entry], path: &'a str) -> impl Iterator<Item = u64> + 'a {
    let mut last = None;
    entries.iter().filter(move |entry| lane_path(&entry.path) == path).filter_map(move |entry| {
        let new = last != Some(entry.call);
        last = Some(entry.call);
        new.then_some(entry.at_ns)
    })
}

/// Arrivals of messages in one room.
pub fn messages_of<'a>(entries: &'a [Entry], room: &'a str) -> impl Iterator<Item = u64> + 'a {
    entries.iter().filter(move |entry| entry.room.as_deref() == Some(room)).map(|entry| entry.at_ns)
}
