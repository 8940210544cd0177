//! The log: what was asked, what became of it, and what members would have seen.
//!
//! One entry a message (a call to ten rooms leaves ten with the same `call`), one for a request
//! that carried none. Entries are numbered without gaps; beyond the bound the oldest are forgotten.
//! The log records; it never decides. `floor` writes it, `control` and tests read it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::rule::Endpoint;
use crate::core::model::Priority;
use crate::core::time::{Mono, Wall};

/// A message's id as the client gave it: Yunxin `msgId`, Easemob `ext.roomcast_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// A UUID in its usual form, 36 lower-case characters: kept small.
    Uuid(uuid::Uuid),
    /// Anything else.
    Text(Box<str>),
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if text == id.hyphenated().to_string() => Self::Uuid(id),
            _ => Self::Text(text.into()),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => id.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// That an accepted id came again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// With `resendFlag=1`: the provider dropped it.
    Marked,
    /// Without: the provider took it for a new message.
    Unmarked,
}

/// Why members never saw an accepted message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// `abandonRatio` threw it away.
    Abandoned,
    /// The room is gone.
    Gone,
    /// The room had too many in that second.
    Pace,
    /// It was seen before: the provider (marked) or the clients (unmarked, by its id) dropped it.
    Repeated,
}

/// One message, or one request without a message.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its number in the log, from 0, in the order of arrival.
    pub seq: u64,
    /// The number of its request, from 0; siblings and a batch share one.
    pub call: u64,
    /// Arrival, nanoseconds since the simulator began.
    #[serde(rename = "at_ns", serialize_with = "mono")]
    pub at: Mono,
    /// Arrival by the provider's wall clock, milliseconds since 1970.
    #[serde(rename = "wall_ms", serialize_with = "wall")]
    pub wall: Wall,
    /// Which endpoint.
    pub path: Endpoint,
    /// The room; none on a broadcast, or where the request named none that could be read.
    #[serde(serialize_with = "shown")]
    pub room: Option<Arc<str>>,
    /// The client's id of the message.
    #[serde(serialize_with = "shown")]
    pub id: Option<Id>,
    /// `resendFlag=1`.
    pub resend: bool,
    /// As asked for.
    #[serde(serialize_with = "priority")]
    pub priority: Priority,
    /// FNV-1a of the whole content, 64 bits; in JSON 16 hexadecimal digits.
    #[serde(serialize_with = "hex")]
    pub hash: u64,
    /// The beginning of the content.
    #[serde(serialize_with = "text")]
    pub content: Arc<str>,
    /// HTTP status answered; 0 when the connection ended without an answer.
    pub status: u16,
    /// Yunxin: `code` in the body, else the HTTP status.
    pub code: i32,
    /// `accepted`, or the kind of refusal.
    pub reason: &'static str,
    /// The provider has it, whatever was answered.
    pub accepted: bool,
    /// High priority was asked for and not given.
    pub downgraded: bool,
    /// Whether the id had been accepted before.
    pub repeat: Option<Repeat>,
    /// Its place in what all members of the room saw, from 1; 0 for a message that some members of
    /// the room or all rooms saw; none: not seen. There may be gaps, where a later message pushed
    /// one out.
    pub order: Option<u32>,
    /// Why it was accepted and not seen.
    pub unseen: Option<Unseen>,
    /// The fault that met its request.
    pub fault: Option<&'static str>,
}

impl Entry {
    /// Whether members would have seen it.
    pub fn is_seen(&self) -> bool {
        self.order.is_some()
    }
}

fn mono<S: Serializer>(at: &Mono, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(at.0)
}

fn wall<S: Serializer>(at: &Wall, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(at.0)
}

fn text<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

fn shown<T: fmt::Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

fn priority<S: Serializer>(priority: &Priority, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(priority.word())
}

fn hex<S: Serializer>(hash: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{hash:016x}"))
}

/// FNV-1a over 64 bits: short, and the same everywhere.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Which entries to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this number on.
    pub from: u64,
    /// At most so many; none: all.
    pub limit: Option<usize>,
    /// Only this room.
    pub room: Option<String>,
    /// Only this id.
    pub id: Option<String>,
    /// Only this endpoint.
    pub path: Option<Endpoint>,
    /// Only accepted ones (`false`: only others).
    pub accepted: Option<bool>,
    /// Only seen ones (`false`: only others).
    pub seen: Option<bool>,
    /// Only this reason.
    pub reason: Option<String>,
}

impl Filter {
    /// Reads `from=…&limit=…&room=…&id=…&path=…&accepted=…&seen=…&reason=…`; says what is wrong.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = |wanted: &str| format!("`{name}` is `{value}`, and wants {wanted}");
            let truth = || value.parse::<bool>().map(Some).map_err(|_| wrong("true or false"));
            match name.as_ref() {
                "from" => filter.from = value.parse().map_err(|_| wrong("a number"))?,
                "limit" => filter.limit = Some(value.parse().map_err(|_| wrong("a number"))?),
                "room" => filter.room = Some(value.into_owned()),
                "id" => filter.id = Some(value.into_owned()),
                "path" => {
                    let known = Endpoint::ALL.into_iter().find(|endpoint| endpoint.word() == value);
                    filter.path =
                        Some(known.ok_or_else(|| wrong("token, room, batch, users, broadcast or other"))?);
                }
                "accepted" => filter.accepted = truth()?,
                "seen" => filter.seen = truth()?,
                "reason" => filter.reason = Some(value.into_owned()),
                _ => {
                    return Err(format!(
                        "`{name}` is no filter; there are from, limit, room, id, path, accepted, seen and reason"
                    ));
                }
            }
        }
        Ok(filter)
    }

    /// Whether the entry is wanted, its number and the limit aside.
    pub fn takes(&self, entry: &Entry) -> bool {
        self.room.as_deref().is_none_or(|room| entry.room.as_deref() == Some(room))
            && self.id.as_deref().is_none_or(|id| entry.id.as_ref().is_some_and(|own| own.to_string() == id))
            && self.path.is_none_or(|path| entry.path == path)
            && self.accepted.is_none_or(|accepted| entry.accepted == accepted)
            && self.seen.is_none_or(|seen| entry.is_seen() == seen)
            && self.reason.as_deref().is_none_or(|reason| entry.reason == reason)
    }
}

/// Entries are kept in pieces of this size, so that growing never copies what is there.
const PIECE: usize = 4_096;

/// The newest entries, up to a bound.
#[derive(Debug)]
pub(super) struct Log {
    pieces: VecDeque<Vec<Entry>>,
    /// The number of the first entry that is kept.
    first: u64,
    next: u64,
    bound: u64,
}

impl Log {
    /// Keeps at least `bound` entries, and at most 4,095 more.
    pub(super) fn new(bound: usize) -> Self {
        Self { pieces: VecDeque::new(), first: 0, next: 0, bound: u64::try_from(bound).unwrap_or(u64::MAX) }
    }

    /// The number that the next entry will have.
    pub(super) fn next_seq(&self) -> u64 {
        self.next
    }

    /// How many were forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.first
    }

    /// Adds one; its `seq` is set here.
    pub(super) fn push(&mut self, mut entry: Entry) {
        entry.seq = self.next;
        self.next += 1;
        match self.pieces.back_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(entry),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(entry);
                self.pieces.push_back(piece);
            }
        }
        while self
            .pieces
            .front()
            .is_some_and(|piece| self.next - self.first >= self.bound.saturating_add(piece.len() as u64))
        {
            self.first += self.pieces.pop_front().map_or(0, |piece| piece.len() as u64);
        }
    }

    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let place = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.pieces.get_mut(place / PIECE)?.get_mut(place % PIECE)
    }

    /// The entries from a number on.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        let skip = usize::try_from(seq.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.pieces.iter().skip(skip / PIECE).flatten().skip(skip % PIECE)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::simulator) fn entry() -> Entry {
        Entry {
            seq: 0,
            call: 0,
            at: Mono(1),
            wall: Wall(2),
            path: Endpoint::Room,
            room: Some("7".into()),
            id: Some("m".into()),
            resend: false,
            priority: Priority::High,
            hash: hash(b"x"),
            content: "x".into(),
            status: 200,
            code: 200,
            reason: "accepted",
            accepted: true,
            downgraded: false,
            repeat: None,
            order: Some(1),
            unseen: None,
            fault: None,
        }
    }

    #[test]
    fn the_oldest_are_forgotten_and_numbers_stay() {
        let mut log = Log::new(10_000);
        (0..20_000).for_each(|_| log.push(entry()));
        let kept: Vec<u64> = log.from(0).map(|entry| entry.seq).collect();
        assert!((10_000..10_000 + PIECE).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last(), Some(&19_999));
        assert_eq!(kept[0], log.forgotten());
        assert_eq!(log.from(15_001).next().map(|entry| entry.seq), Some(15_001));
        assert_eq!(log.get_mut(15_001).map(|entry| entry.seq), Some(15_001));
        assert!(log.get_mut(0).is_none() && log.get_mut(20_000).is_none());
        assert_eq!(log.from(20_000).count(), 0);
    }

    #[test]
    fn an_id_reads_as_it_was_given() {
        for text in
            ["c9e6c306-804f-4ec3-b8f0-573778829419", "C9E6C306-804F-4EC3-B8F0-573778829419", "plain", ""]
        {
            assert_eq!(Id::from(text).to_string(), text);
        }
        assert!(matches!(Id::from("c9e6c306-804f-4ec3-b8f0-573778829419"), Id::Uuid(_)));
    }

    #[test]
    fn filters_narrow() {
        let entry = entry();
        for (query, takes) in [
            ("", true),
            ("room=7&id=m&path=room&accepted=true&seen=true&reason=accepted&from=3&limit=1", true),
            ("room=8", false),
            ("id=n", false),
            ("path=users", false),
            ("accepted=false", false),
            ("seen=false", false),
            ("reason=invalid", false),
        ] {
            let filter = Filter::from_query(query).expect("a filter");
            assert_eq!(filter.takes(&entry), takes, "{query}");
        }
        for (query, part) in [
            ("from=x", "a number"),
            ("path=rooms", "broadcast"),
            ("seen=1", "true or false"),
            ("rom=1", "no filter"),
        ] {
            assert!(Filter::from_query(query).expect_err(query).contains(part), "{query}");
        }
    }
}
