//! The record that a command line or a case file describes, as its broker would hand it over.
//!
//! What the broker derives is derived here too: on JetStream the key stands in the subject or in a
//! header. What the source would never read is refused, because nothing that is found out about
//! such a record would come true. Used by `explain` and `cases`.

use std::sync::Arc;

use bytes::Bytes;

use super::check;
use crate::config::Loaded;
use crate::core::letter::Names;
use crate::core::model::{Epoch, Origin, PartitionId, Record, RecordId, SourceId};
use crate::core::route::fits;
use crate::core::section::Value;
use crate::core::time::Wall;

/// What is told of a record; the rest follows from its source.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The source's name; may be left out when there is one source.
    pub source: Option<String>,
    /// The key as people write it.
    pub key: Option<String>,
    /// The topic or subject; the source's first, if that is no pattern.
    pub topic: Option<String>,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The broker's timestamp.
    pub timestamp: Wall,
}

/// What is told of a record and cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// `source`, `key` or `topic`.
    pub key: &'static str,
    /// What was found.
    pub found: String,
    /// What would be right.
    pub wanted: String,
}

impl Misfit {
    fn new(key: &'static str, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { key, found: found.into(), wanted: wanted.into() }
    }
}

/// Makes the record.
///
/// # Errors
/// What names something that the config does not have, or what its source would never read.
pub fn make(names: &Names, loaded: &Loaded, given: Given) -> Result<Record, Misfit> {
    let index = source(names, given.source.as_deref())?;
    let source = Source { loaded, name: &names.sources[index] };
    let place = source.key_place();
    let topic = source.topic(&place, given.topic.as_deref(), given.key.as_deref())?;
    let mut headers = given.headers;
    let key = source.key(&place, &topic, given.key, &mut headers)?;
    let topic: Arc<str> = topic.into();
    // On JetStream the record is known by its stream, whatever its subject.
    let stream = source.text("stream").map_or_else(|| topic.clone(), Arc::from);
    let id = RecordId {
        source: SourceId(u16::try_from(index).expect("sources are numbered by 16 bits")),
        partition: PartitionId(0),
        epoch: Epoch(0),
        offset: 0,
    };
    Ok(Record {
        id,
        origin: Origin { stream, topic, partition: 0, offset: 0 },
        key,
        value: given.value.map(Bytes::from),
        headers: headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        timestamp: given.timestamp,
        maybe_tried: false,
    })
}

fn source(names: &Names, given: Option<&str>) -> Result<usize, Misfit> {
    let known: Vec<&str> = names.sources.iter().map(|name| &**name).collect();
    let wanted = || format!("one of {}", known.join(", "));
    match (given, known.as_slice()) {
        (Some(name), _) => known
            .iter()
            .position(|source| *source == name)
            .ok_or_else(|| Misfit::new("source", format!("{name:?}"), wanted())),
        (None, [_]) => Ok(0),
        (None, _) => Err(Misfit::new("source", "nothing", wanted())),
    }
}

/// Where a record's key stands.
enum KeyPlace {
    /// In the record itself.
    Record,
    /// JetStream: a token of the subject, from 0.
    Token(usize),
    /// JetStream: a header.
    Header(String),
    /// JetStream: the source says no place, so no record has a key.
    Nowhere,
}

/// A source as it was written.
struct Source<'a> {
    loaded: &'a Loaded,
    name: &'a str,
}

impl Source<'_> {
    fn value(&self, path: &[&str]) -> Option<&Value> {
        let path: Vec<&str> = ["sources", self.name].iter().chain(path).copied().collect();
        self.loaded.node(&path).map(|node| &node.value)
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.value(&[key]) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn key_place(&self) -> KeyPlace {
        if self.value(&["subjects"]).is_none() {
            return KeyPlace::Record;
        }
        let token = match self.value(&["key", "token"]) {
            Some(Value::Integer(token)) => usize::try_from(*token).ok(),
            Some(Value::Text(token)) => token.trim().parse().ok(),
            _ => None,
        };
        match (token, self.value(&["key", "header"])) {
            (Some(token), _) => KeyPlace::Token(token),
            (None, Some(Value::Text(header))) => KeyPlace::Header(header.clone()),
            _ => KeyPlace::Nowhere,
        }
    }

    /// The topic or subject: as given, else the source's first, with the key put in where a subject
    /// has a place for it.
    fn topic(&self, place: &KeyPlace, given: Option<&str>, key: Option<&str>) -> Result<String, Misfit> {
        let known = check::topics(self.loaded, self.name);
        let subjects = !matches!(place, KeyPlace::Record);
        let pattern = |topic: &str| match subjects {
            true => topic.split('.').any(|token| matches!(token, "*" | ">")),
            false => topic.starts_with('^'),
        };
        if let Some(topic) = given {
            let read = match subjects {
                true => known.iter().any(|subject| fits(subject, topic)),
                // Which topics a regex takes is librdkafka's to say.
                false => known.iter().any(|name| pattern(name) || name == topic),
            };
            let wanted = match pattern(topic) {
                true => format!("one topic or subject, no pattern, that source {} reads", self.name),
                false if read => return Ok(topic.to_owned()),
                false => format!("one that source {} reads: {}", self.name, known.join(", ")),
            };
            return Err(Misfit::new("topic", format!("{topic:?}"), wanted));
        }
        let first = known.first().cloned().unwrap_or_default();
        let first = match (place, key) {
            (KeyPlace::Token(at), Some(key)) => {
                let tokens = first.split('.').enumerate();
                let filled = tokens.map(|(n, token)| if n == *at && token == "*" { key } else { token });
                filled.collect::<Vec<_>>().join(".")
            }
            _ => first,
        };
        if pattern(&first) {
            return Err(Misfit::new("topic", "nothing", format!("one that fits {}", known.join(", "))));
        }
        Ok(first)
    }

    fn key(
        &self,
        place: &KeyPlace,
        topic: &str,
        given: Option<String>,
        headers: &mut Vec<(String, String)>,
    ) -> Result<Option<Bytes>, Misfit> {
        let derived = match place {
            KeyPlace::Record => return given.map(|key| self.key_bytes(&key)).transpose(),
            KeyPlace::Token(at) => topic.split('.').nth(*at).map(str::to_owned),
            KeyPlace::Header(name) => {
                let has = |(header, _): &&(String, String)| header.eq_ignore_ascii_case(name);
                match (headers.iter().find(has), &given) {
                    (Some((_, value)), _) => Some(value.clone()),
                    (None, None) => None,
                    (None, Some(key)) => {
                        headers.push((name.clone(), key.clone()));
                        Some(key.clone())
                    }
                }
            }
            KeyPlace::Nowhere => None,
        };
        match (given, derived) {
            (Some(key), derived) if derived.as_ref() != Some(&key) => {
                let wanted = match (place, derived) {
                    (KeyPlace::Nowhere, _) => {
                        format!("no key: source {} does not say where one stands", self.name)
                    }
                    (KeyPlace::Header(name), Some(key)) => {
                        format!("{key:?}, which is in the header {name:?}")
                    }
                    (_, Some(key)) => format!("{key:?}, which is in the subject {topic:?}"),
                    (_, None) => format!("none: the subject {topic:?} has no such token"),
                };
                Err(Misfit::new("key", format!("{key:?}"), wanted))
            }
            (_, derived) => Ok(derived.map(Bytes::from)),
        }
    }

    /// The key's bytes as Kafka holds them: `key_format` says how numbers are written.
    fn key_bytes(&self, key: &str) -> Result<Bytes, Misfit> {
        let format = self.text("key_format").unwrap_or("text");
        let wanted = || format!("a whole number: the source's key_format is {format:?}");
        let wrong = |_| Misfit::new("key", format!("{key:?}"), wanted());
        Ok(match format {
            "int64" => Bytes::copy_from_slice(&key.parse::<i64>().map_err(wrong)?.to_be_bytes()),
            "int32" => Bytes::copy_from_slice(&key.parse::<i32>().map_err(wrong)?.to_be_bytes()),
            _ => Bytes::copy_from_slice(key.as_bytes()),
        })
    }
}
