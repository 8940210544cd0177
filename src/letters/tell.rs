//! A letter as data: what `list --format json` and csv, `show` and the API have of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::Found;
use crate::core::letter::{LetterId, PREFIX};
use crate::core::replay::{Row, State};

/// The columns of a table for machines, in their order: `state` and `key`, and the names of headers.
pub const COLUMNS: [&str; 24] = [
    "letter",
    "state",
    "class",
    "error",
    "route",
    "account",
    "rooms",
    "key",
    "http_status",
    "provider_code",
    "attempts",
    "first_attempt",
    "last_attempt",
    "written",
    "source",
    "topic",
    "partition",
    "offset",
    "timestamp",
    "replays",
    "original",
    "id",
    "version",
    "truncated",
];

/// Headers that are numbers.
const NUMBERS: [&str; 5] = ["http_status", "attempts", "partition", "offset", "replays"];

/// What a letter's headers may be called beside these: headers of the record and of requests.
const OTHERS: [&str; 2] = ["nats-", "request"];

/// The letter's headers by their names without `roomcast-`, with underscores for dashes; `key` and
/// `state`. Numbers are numbers, rooms a list, a key that is no text base64 under `key_base64`.
pub fn fields(found: &Found) -> Map<String, Json> {
    let mut fields = Map::new();
    for (name, value) in &found.record.headers {
        let Some(name) = own(name) else { continue };
        let name = name.to_ascii_lowercase().replace('-', "_");
        let text = String::from_utf8_lossy(value);
        let value = match name.as_str() {
            "rooms" => serde_json::from_str(&text).unwrap_or_else(|_| Json::from(&*text)),
            number if NUMBERS.contains(&number) => {
                text.parse::<i64>().map_or_else(|_| Json::from(&*text), Json::from)
            }
            _ => Json::from(&*text),
        };
        fields.insert(name, value);
    }
    fields.insert("letter".to_owned(), json!(found.told.letter.to_string()));
    fields.insert("state".to_owned(), json!(found.state.word()));
    if let Some(key) = &found.record.key {
        let (name, value) = text_or_base64("key", key);
        fields.insert(name, value);
    }
    fields
}

/// A header's name without `roomcast-`, if it is one of the letter's own.
fn own(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
    let rest = prefix.eq_ignore_ascii_case(PREFIX).then_some(rest)?;
    let is_other =
        |other: &&str| rest.get(..other.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(other));
    (!OTHERS.iter().any(is_other)).then_some(rest)
}

/// Bytes under a name, or base64 under that name and `_base64` where they are no text.
fn text_or_base64(name: &str, bytes: &[u8]) -> (String, Json) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), json!(text)),
        Err(_) => (format!("{name}_base64"), json!(STANDARD.encode(bytes))),
    }
}

/// The record that the letter was written for: key, headers of its own in their order, value; the value
/// as JSON where it is JSON, else as text or base64. `stands`: where the letter stands.
pub fn record(found: &Found) -> Json {
    let record = &found.record;
    let mut told = Map::new();
    let at = &record.origin;
    told.insert("stands".to_owned(), json!(format!("{}/{}/{}", at.topic, at.partition, at.offset)));
    if let Some(key) = &record.key {
        told.extend([text_or_base64("key", key)]);
    }
    let headers = own_headers(found).map(|(name, value)| {
        let (key, value) = text_or_base64("value", value);
        json!({ "name": name, key: value })
    });
    told.insert("headers".to_owned(), headers.collect());
    match record.value.as_deref() {
        None => {
            told.insert("value".to_owned(), Json::Null);
        }
        Some(value) => match serde_json::from_slice::<Json>(value) {
            Ok(json) => {
                told.insert("value".to_owned(), json);
            }
            Err(_) => told.extend([text_or_base64("value_text", value)]),
        },
    }
    Json::Object(told)
}

/// The headers that the record had itself.
pub fn own_headers(found: &Found) -> impl Iterator<Item = (String, &[u8])> {
    found.record.headers.iter().filter_map(|(name, value)| {
        let kept =
            name.split_at_checked(PREFIX.len()).filter(|(prefix, _)| prefix.eq_ignore_ascii_case(PREFIX));
        let name = match kept {
            None => name.to_string(),
            // What a NATS server would obey stands in a letter as `roomcast-nats-…`.
            Some((_, rest)) => {
                let nats = rest.get(..5).is_some_and(|begins| begins.eq_ignore_ascii_case(OTHERS[0]));
                nats.then(|| format!("Nats-{}", &rest[5..]))?
            }
        };
        Some((name, &**value))
    })
}

/// A row, or what stands for none.
pub fn row(row: Option<&Row>) -> Json {
    match row {
        None => json!({ "state": State::Open.word() }),
        Some(row) => serde_json::to_value(row).unwrap_or_default(),
    }
}

/// Several ids as texts.
pub fn ids<'i>(ids: impl IntoIterator<Item = &'i LetterId>) -> Vec<String> {
    ids.into_iter().map(ToString::to_string).collect()
}
