//! Kafka message → record: a copy, because a borrowed message pins the whole fetch it came in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use super::raw;
use crate::core::model::{Origin, Record, RecordId};
use crate::core::time::Wall;

/// Names of headers that are remembered; beyond them each record carries its own copy.
const NAMES_MAX: usize = 256;

/// Header names seen so far: records of a topic mostly carry the same few.
#[derive(Default)]
pub(super) struct HeaderNames(HashMap<Arc<str>, ()>);

impl HeaderNames {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some((known, ())) = self.0.get_key_value(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = Arc::from(name);
        if self.0.len() < NAMES_MAX {
            self.0.insert(Arc::clone(&name), ());
        }
        name
    }
}

/// The record of a message.
pub(super) fn record(
    message: &BorrowedMessage<'_>,
    id: RecordId,
    topic: &Arc<str>,
    maybe_tried: bool,
    names: &mut HeaderNames,
) -> Record {
    let mut headers = Vec::new();
    raw::each_header(message, |name, value| {
        headers.push((names.shared(name), Bytes::copy_from_slice(value)));
    });
    Record {
        id,
        origin: Origin {
            stream: Arc::clone(topic),
            topic: Arc::clone(topic),
            partition: message.partition(),
            offset: message.offset(),
        },
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers,
        timestamp: message.timestamp().to_millis().map_or_else(wall_clock, Wall),
        maybe_tried,
    }
}

/// The time of a record whose broker gives it none (message format 0): when it was read.
fn wall_clock() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
