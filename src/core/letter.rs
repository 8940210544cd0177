//! A letter: one record that could not be delivered, with all that is known about why.
//!
//! This module decides a letter's id and headers; `broker` writes it. The record's own key, value
//! and headers stay as they were, except that headers of an earlier letter are replaced and that
//! `Nats-…` headers, which a server would obey, are kept as `roomcast-nats-…`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::model::{AccountId, BaseId, Class, Record, Room, RouteId, Tries};
use super::time::Wall;

/// The prefix of every header that roomcast adds.
pub const PREFIX: &str = "roomcast-";
/// What a `Nats-` prefix becomes in a letter.
pub(super) const KEPT_NATS: &str = "roomcast-nats-";
/// The prefix of headers that a NATS server obeys.
const NATS: &str = "nats-";

/// A letter's id: UUIDv5 with the base id as the namespace over the owed rooms, sorted, and the
/// number of replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LetterId(pub Uuid);

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The names that letters and logs use for ids, in the order of those ids.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Names of sources.
    pub sources: Vec<Arc<str>>,
    /// Names of accounts.
    pub accounts: Vec<Arc<str>>,
    /// Names of routes.
    pub routes: Vec<Arc<str>>,
}

/// A letter before it is written.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The record, untouched.
    pub record: Arc<Record>,
    /// The base id of what was owed.
    pub base: BaseId,
    /// Why it could not be delivered.
    pub class: Class,
    /// One line for people.
    pub error: String,
    /// The route that took the event, if one did.
    pub route: Option<RouteId>,
    /// The account of that route.
    pub account: Option<AccountId>,
    /// The rooms still owed; empty when none is known.
    pub rooms: Vec<Room>,
    /// What was tried.
    pub tries: Tries,
}

/// A letter ready for a broker: what is written is exactly this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its id; on JetStream the last token of its subject.
    pub id: LetterId,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's value.
    pub value: Option<Bytes>,
    /// The record's headers and roomcast's own, in that order.
    pub headers: Vec<(Arc<str>, Bytes)>,
}

/// Bytes that the provider's answer may take in `roomcast-error`.
const ERROR_MAX: usize = 1_024;

impl Letter {
    /// How often the record was replayed: once more than the letter that it came from says, if it came
    /// from one.
    pub fn replays(&self) -> u32 {
        let before = self.record.header("roomcast-replays");
        let before = before.and_then(|v| std::str::from_utf8(v).ok()?.parse::<u32>().ok());
        before.map_or(0, |before| before.saturating_add(1))
    }

    /// Its id.
    pub fn id(&self) -> LetterId {
        let mut rooms: Vec<&str> = self.rooms.iter().map(|room| &*room.0).collect();
        rooms.sort_unstable();
        // A JSON list keeps rooms apart whatever characters they are made of.
        let name = format!("{}#{}", serde_json::json!(rooms), self.replays());
        LetterId(Uuid::new_v5(&self.base.0, name.as_bytes()))
    }

    /// The letter as it is written, with all headers that have a meaning.
    pub fn seal(&self, names: &Names, written: Wall) -> Sealed {
        let record = &self.record;
        let id = self.id();
        let mut headers: Vec<(Arc<str>, Bytes)> = record.headers.iter().filter_map(kept).collect();
        let mut add = |name: &str, value: String| {
            headers.push((Arc::from(format!("{PREFIX}{name}")), Bytes::from(value)));
        };
        add("letter", id.to_string());
        add("id", self.base.to_string());
        add("class", self.class.word().to_owned());
        add("error", one_line(&self.error));
        if let Some(route) = self.route.and_then(|id| names.routes.get(usize::from(id.0))) {
            add("route", route.to_string());
        }
        if let Some(account) = self.account.and_then(|id| names.accounts.get(usize::from(id.0))) {
            add("account", account.to_string());
        }
        if !self.rooms.is_empty() {
            let rooms: Vec<&str> = self.rooms.iter().map(|room| &*room.0).collect();
            add("rooms", serde_json::json!(rooms).to_string());
        }
        if let Some(status) = self.tries.http_status {
            add("http-status", status.to_string());
        }
        if let Some(code) = &self.tries.provider_code {
            add("provider-code", one_line(code));
        }
        add("attempts", self.tries.attempts.to_string());
        if let Some(first) = self.tries.first {
            add("first-attempt", first.rfc3339());
        }
        if let Some(last) = self.tries.last {
            add("last-attempt", last.rfc3339());
        }
        add("written", written.rfc3339());
        // The source of a replay is the one whose record it is, not that of the request.
        let asked = record.header("roomcast-request").and(record.header("roomcast-source"));
        let source = asked.map(String::from_utf8_lossy);
        let named = names.sources.get(usize::from(record.id.source.0));
        if let Some(source) = source.or_else(|| named.map(|name| (&**name).into())) {
            add("source", source.into_owned());
        }
        // Ids are made of the stream: without it, what is routed anew or has siblings is not known again.
        if record.origin.stream != record.origin.topic {
            add("stream", record.origin.stream.to_string());
        }
        add("topic", record.origin.topic.to_string());
        add("partition", record.origin.partition.to_string());
        add("offset", record.origin.offset.to_string());
        add("timestamp", record.timestamp.rfc3339());
        add("replays", self.replays().to_string());
        if let Some(original) =
            record.header("roomcast-original").or_else(|| record.header("roomcast-letter"))
        {
            add("original", String::from_utf8_lossy(original).into_owned());
        }
        add("version", env!("CARGO_PKG_VERSION").to_owned());
        Sealed { id, key: record.key.clone(), value: record.value.clone(), headers }
    }
}

impl Sealed {
    /// Where the record of the letter stands: `topic/partition/offset` (JetStream: the subject and the
    /// sequence), from the letter's own headers.
    pub fn stands(&self) -> String {
        let header = |name: &str| {
            let found = self.headers.iter().rev().find(|(key, _)| key.strip_prefix(PREFIX) == Some(name));
            found.map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        format!("{}/{}/{}", header("topic"), header("partition"), header("offset"))
    }

    /// The same letter without its value, for a broker that finds it too large; it says where the
    /// value stands.
    pub fn truncated(mut self) -> Self {
        let stands = Bytes::from(self.stands());
        self.value = None;
        self.headers.push((Arc::from("roomcast-truncated"), stands));
        self
    }
}

/// A header of the record as the letter keeps it; `None` for those that the letter replaces.
fn kept((name, value): &(Arc<str>, Bytes)) -> Option<(Arc<str>, Bytes)> {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(KEPT_NATS) {
        return Some((name.clone(), value.clone()));
    }
    if lower.starts_with(PREFIX) {
        return None;
    }
    match lower.starts_with(NATS) {
        true => Some((Arc::from(format!("{KEPT_NATS}{}", &name[NATS.len()..])), value.clone())),
        false => Some((name.clone(), value.clone())),
    }
}

/// The text on one line, cut at [`ERROR_MAX`] bytes between two characters.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = ERROR_MAX.min(line.len());
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

#[cfg(test)]
#[path = "letter_tests.rs"]
mod tests;
