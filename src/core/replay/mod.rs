//! Replays: a letter that somebody wants sent again, and what became of it.
//!
//! A *request* is the letter itself, with its headers, as a record of `<dead_letter>.replay`, plus a
//! few headers that say who asked and how. The daemons read requests as a source like any other;
//! [`open`] makes of such a record the one that the letter was written for. What became of a letter is
//! a [`Row`] of the state table, under the letter's id.

mod answered;
mod book;
#[cfg(test)]
mod book_tests;
mod patch;
mod row;

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

pub use self::book::{Book, Counts, Opened};
pub use self::patch::Patch;
pub use self::row::{Row, State};

use super::letter::{KEPT_NATS, LetterId, PREFIX};
use super::model::{BaseId, Class, DropReason, Origin, Plan, Record, Room};
use super::time::Wall;

/// What the headers of a request begin with, beside those of the letter.
const REQUEST: &str = "roomcast-request";

/// Where a replay takes its content from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// The routes as they are now.
    #[default]
    Current,
    /// The route that the letter names, whatever the others say now.
    Original,
}

/// Who asked for a replay, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The asking: one id for all letters of one command.
    pub id: Uuid,
    /// Who, in their own words: a user and a host.
    pub by: String,
    /// When.
    pub at: Wall,
    /// Where the content comes from.
    pub content: Content,
    /// Whether the time-to-live still counts.
    pub keep_ttl: bool,
}

/// A letter as its headers tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    pub letter: LetterId,
    /// The base id of what is owed.
    pub base: BaseId,
    /// Why it was written; `None` for a word that this version does not know.
    pub class: Option<Class>,
    /// The route that took the event, if one did.
    pub route: Option<String>,
    /// The rooms still owed; empty where none is known, and for broadcasts.
    pub rooms: Vec<Room>,
    /// How often the record was replayed before the letter was written.
    pub replays: u32,
    /// The source that the record came from.
    pub source: String,
    /// Where the record stood.
    pub origin: Origin,
    /// The record's timestamp.
    pub timestamp: Wall,
    /// Where the value stands, if the letter could not keep it.
    pub truncated: Option<String>,
}

/// A request, opened.
#[derive(Clone, Debug)]
pub struct Request {
    /// The letter.
    pub told: Told,
    /// Who asked.
    pub asked: Asked,
}

impl Asked {
    /// The headers that make a request of a letter.
    pub fn headers(&self) -> Vec<(Arc<str>, Bytes)> {
        let mut headers = Vec::new();
        let mut add = |name: &str, value: String| {
            headers.push((Arc::from(format!("{REQUEST}{name}")), Bytes::from(value)));
        };
        add("", self.id.to_string());
        add("-by", self.by.clone());
        add("-at", self.at.rfc3339());
        if self.content == Content::Original {
            add("-route", "original".to_owned());
        }
        if self.keep_ttl {
            add("-ttl", "keep".to_owned());
        }
        headers
    }

    fn read(record: &Record) -> Result<Self, String> {
        let text = |name: &str| header(record, &format!("{REQUEST}{name}"));
        let id = text("").ok_or("it has no roomcast-request header")?;
        Ok(Self {
            id: id.parse().map_err(|_| format!("roomcast-request is {id:?}, a UUID is wanted"))?,
            by: text("-by").unwrap_or_default(),
            at: text("-at").and_then(|at| Wall::parse_rfc3339(&at)).unwrap_or(record.timestamp),
            content: match text("-route").as_deref() {
                None => Content::Current,
                Some("original") => Content::Original,
                Some(other) => {
                    return Err(format!(
                        "roomcast-request-route is {other:?}, \"original\" is wanted, or none"
                    ));
                }
            },
            keep_ttl: text("-ttl").is_some(),
        })
    }
}

impl Told {
    /// Reads a letter's headers, or those of a request that was made of it.
    ///
    /// # Errors
    /// Which header is missing or wrong: then it is no letter.
    pub fn read(record: &Record) -> Result<Self, String> {
        let text = |name: &str| header(record, &format!("{PREFIX}{name}"));
        let wanted = |name: &str| text(name).ok_or_else(|| format!("it has no roomcast-{name} header"));
        let uuid = |name: &str| -> Result<Uuid, String> {
            let text = wanted(name)?;
            text.parse().map_err(|_| format!("roomcast-{name} is {text:?}, a UUID is wanted"))
        };
        let number = |name: &str| -> Result<i64, String> {
            let text = wanted(name)?;
            text.parse().map_err(|_| format!("roomcast-{name} is {text:?}, a whole number is wanted"))
        };
        let class = wanted("class")?;
        let rooms: Vec<String> = match text("rooms") {
            None => Vec::new(),
            Some(list) => serde_json::from_str(&list)
                .map_err(|_| format!("roomcast-rooms is {list:?}, a JSON list of texts is wanted"))?,
        };
        let topic: Arc<str> = wanted("topic")?.into();
        let stream = text("stream").map_or_else(|| Arc::clone(&topic), Arc::from);
        let timestamp = wanted("timestamp")?;
        Ok(Self {
            letter: LetterId(uuid("letter")?),
            base: BaseId(uuid("id")?),
            class: Class::ALL.into_iter().find(|known| known.word() == class),
            route: text("route"),
            rooms: rooms.into_iter().map(|room| Room(room.into())).collect(),
            replays: u32::try_from(number("replays")?)
                .map_err(|_| "roomcast-replays is negative".to_owned())?,
            source: wanted("source")?,
            origin: Origin {
                stream,
                topic,
                partition: i32::try_from(number("partition")?)
                    .map_err(|_| "roomcast-partition is no partition".to_owned())?,
                offset: number("offset")?,
            },
            timestamp: Wall::parse_rfc3339(&timestamp)
                .ok_or_else(|| format!("roomcast-timestamp is {timestamp:?}, RFC 3339 is wanted"))?,
            truncated: text("truncated"),
        })
    }
}

/// Opens a request: what it says, and the record as it was when the letter was written. The record
/// keeps its id in this process, by which it is settled, and the letter's headers, by which a letter
/// that is written for it is known as one of its chain.
///
/// # Errors
/// Why the record is no request.
pub fn open(record: &Record) -> Result<(Request, Record), String> {
    let request = Request { told: Told::read(record)?, asked: Asked::read(record)? };
    let restored = restored(record, &request.told);
    Ok((request, restored))
}

/// The plan of a request that leads to nothing.
pub fn nothing() -> Plan {
    Plan {
        route: None,
        account: None,
        base: BaseId(Uuid::nil()),
        messages: Vec::new(),
        failures: Vec::new(),
        dropped: Some(DropReason::Replay),
        when_errors: 0,
        unknown: None,
        waits: None,
    }
}

/// The record that a letter, or a request made of it, was written for: as it was then, with the letter's
/// headers beside its own.
pub fn restored(record: &Record, told: &Told) -> Record {
    let mut restored = record.clone();
    restored.origin = told.origin.clone();
    restored.timestamp = told.timestamp;
    restored.maybe_tried = true;
    for (name, _) in &mut restored.headers {
        if let Some(own) = strip(name, KEPT_NATS) {
            *name = Arc::from(format!("Nats-{own}"));
        }
    }
    restored
}

fn strip<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let head = name.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &name[prefix.len()..])
}

/// A header as text: the last of that name, which is the one that roomcast wrote.
fn header(record: &Record, name: &str) -> Option<String> {
    let found = record.headers.iter().rev().find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
pub(super) mod tests;
