//! From a JetStream message to a [`Record`]: identity, key, headers. Pure; used by [`super::source`].

use std::sync::Arc;

use async_nats::{HeaderMap, Message, header};
use bytes::Bytes;

use super::lane;
use super::rescue::Rescued;
use super::settings::KeyPlace;
use crate::core::ledger::Delivery;
use crate::core::letter::PREFIX;
use crate::core::model::{Epoch, Origin, PartitionId, Record, RecordId, SourceId};
use crate::core::time::Wall;

/// The header that a stream with sources writes: origin stream, sequence, and what was transformed.
pub const STREAM_SOURCE: &str = "Nats-Stream-Source";

/// Makes records of one lane.
#[derive(Clone, Debug)]
pub struct Maker {
    /// The source.
    pub source: SourceId,
    /// The lane's partition.
    pub partition: PartitionId,
    /// The stream that is read.
    pub stream: Arc<str>,
    /// Where the key stands.
    pub key: KeyPlace,
    /// Whether the stream is our own copy, with a partition before each subject.
    pub is_part: bool,
    /// Of such a copy: the origin's sequences that may have been tried before it was made.
    pub tried: u64,
    /// Whether what is read are letters, or requests that were made of letters: what the record came
    /// under is in their headers then.
    pub of_letters: bool,
}

/// What the headers begin with that a server obeys, or adds.
const NATS: &str = "nats-";
/// The letter's header that has the record's subject.
const TOPIC: &str = "roomcast-topic";

impl Maker {
    /// The record of a message.
    pub fn record(&self, message: Message, delivery: Delivery, epoch: Epoch, maybe_tried: bool) -> Record {
        let headers = message.headers.as_ref().map(headers).unwrap_or_default();
        self.make(message.subject.as_str(), message.payload, headers, delivery, epoch, maybe_tried)
    }

    /// The record of a message that was read through the stream's API.
    pub fn rescued(&self, message: Rescued, epoch: Epoch, maybe_tried: bool) -> Record {
        let Rescued { delivery, subject, headers, payload, .. } = message;
        self.make(&subject, payload, headers, delivery, epoch, maybe_tried)
    }

    fn make(
        &self,
        subject: &str,
        payload: Bytes,
        headers: Vec<(Arc<str>, Bytes)>,
        delivery: Delivery,
        epoch: Epoch,
        maybe_tried: bool,
    ) -> Record {
        let offset = delivery.sequence.cast_signed();
        let mut headers = headers;
        if self.of_letters {
            // The conditions of its own publishing; the record's are kept under other names.
            headers.retain(|(name, _)| !is_nats(name));
        }
        let origin = self.origin(&headers, subject, offset);
        if self.is_part {
            // It is there because of the copy, not because of a publisher.
            headers.retain(|(name, _)| &**name != STREAM_SOURCE);
        }
        // A message has always a payload; a letter that could not keep its value has none.
        let is_kept = !self.of_letters || !payload.is_empty() || !headers.iter().any(is_truncated);
        let is_old = self.is_part && origin.offset.cast_unsigned() <= self.tried;
        Record {
            id: RecordId { source: self.source, partition: self.partition, epoch, offset },
            key: self.key(&headers, &origin.topic, subject),
            origin,
            value: is_kept.then_some(payload),
            headers,
            timestamp: Wall(delivery.published.div_euclid(1_000_000)),
            maybe_tried: maybe_tried || is_old,
        }
    }

    fn key(&self, headers: &[(Arc<str>, Bytes)], origin: &str, subject: &str) -> Option<Bytes> {
        match &self.key {
            KeyPlace::Nowhere => None,
            KeyPlace::Token(number) => {
                let told = headers.iter().rev().find(|(name, _)| self.of_letters && &**name == TOPIC);
                let subject = match told {
                    Some((_, told)) => std::str::from_utf8(told).ok()?,
                    None if self.is_part => origin,
                    None => subject,
                };
                let token = subject.split('.').nth(*number)?;
                Some(Bytes::copy_from_slice(token.as_bytes()))
            }
            KeyPlace::Header(wanted) => {
                let kept = (self.of_letters && is_nats(wanted)).then(|| format!("{PREFIX}{wanted}"));
                let wanted = kept.as_ref().unwrap_or(wanted);
                let exact = headers.iter().find(|(name, _)| **name == **wanted);
                // Producers differ in how they write a header's case; the exact one goes first.
                let near = || headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                exact.or_else(near).map(|(_, value)| value.clone())
            }
        }
    }

    /// Where the record was first stored: a stream that sources others says so on each message.
    pub fn origin(&self, headers: &[(Arc<str>, Bytes)], subject: &str, sequence: i64) -> Origin {
        let subject = if self.is_part { lane::published_subject(subject) } else { subject };
        let sourced = headers.iter().rev().find(|(name, _)| &**name == STREAM_SOURCE);
        let sourced = sourced.and_then(|(_, value)| stream_source(std::str::from_utf8(value).ok()?));
        let (stream, topic, offset) = match sourced {
            Some((stream, offset, topic)) => {
                (Arc::from(stream), topic.unwrap_or(subject), offset.cast_signed())
            }
            None => (self.stream.clone(), subject, sequence),
        };
        // A subject named like its stream would be taken for a Kafka topic, whose partition is in ids.
        let is_told = self.is_part && *topic != *stream;
        let partition = if is_told { i32::try_from(self.partition.0).unwrap_or(0) } else { 0 };
        Origin { stream, topic: Arc::from(topic), partition, offset }
    }
}

fn is_nats(name: &str) -> bool {
    name.get(..NATS.len()).is_some_and(|head| head.eq_ignore_ascii_case(NATS))
}

/// Reads `MATCH 17 match.> > match.1.events`: stream (with `:…` when it is in another domain),
/// sequence, filters, transforms (form feeds between several) and, from server 2.10 on, the subject it
/// was published to; 2.15 adds a mark of the origin stream.
pub fn stream_source(value: &str) -> Option<(&str, u64, Option<&str>)> {
    let mut parts = value.split(' ');
    let stream = parts.next()?.split(':').next().filter(|name| !name.is_empty())?;
    let sequence = parts.next()?.parse().ok()?;
    Some((stream, sequence, parts.nth(2)))
}

/// Whether a header says that a letter could not keep its value.
fn is_truncated((name, _): &(Arc<str>, Bytes)) -> bool {
    name.eq_ignore_ascii_case("roomcast-truncated")
}

/// All headers, sorted by name because the client keeps them in a hash map; values of one name stay
/// in their order. The pin is a matter between the server and us.
fn headers(map: &HeaderMap) -> Vec<(Arc<str>, Bytes)> {
    let mut names: Vec<_> = map.iter().filter(|(name, _)| **name != header::NATS_PIN_ID).collect();
    names.sort_by(|a, b| AsRef::<str>::as_ref(a.0).cmp(b.0.as_ref()));
    let mut list = Vec::new();
    for (name, values) in names {
        let name: Arc<str> = Arc::from(AsRef::<str>::as_ref(name));
        for value in values {
            list.push((name.clone(), Bytes::copy_from_slice(value.as_str().as_bytes())));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, headers: HeaderMap) -> Message {
        Message {
            subject: subject.into(),
            reply: None,
            payload: Bytes::from_static(b"{}"),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        }
    }

    fn maker(key: KeyPlace) -> Maker {
        Maker {
            source: SourceId(3),
            partition: PartitionId(0),
            stream: Arc::from("MATCH"),
            key,
            is_part: false,
            tried: 0,
            of_letters: false,
        }
    }

    const AT: Delivery =
        Delivery { sequence: 9, consumer_sequence: 12, count: 1, published: 1_700_000_000_123_456_789 };

    #[test]
    fn identity_is_stream_and_sequence() {
        let record = maker(KeyPlace::Token(1)).record(
            message("match.42.events", HeaderMap::new()),
            AT,
            Epoch(2),
            false,
        );
        assert_eq!(
            record.id,
            RecordId { source: SourceId(3), partition: PartitionId(0), epoch: Epoch(2), offset: 9 }
        );
        assert_eq!(&*record.origin.stream, "MATCH");
        assert_eq!(&*record.origin.topic, "match.42.events");
        assert_eq!((record.origin.partition, record.origin.offset), (0, 9));
        assert_eq!(record.key.as_deref(), Some(&b"42"[..]));
        assert_eq!(record.timestamp, Wall(1_700_000_000_123));
    }

    #[test]
    fn a_sourced_message_keeps_its_first_identity() {
        let mut headers = HeaderMap::new();
        headers.insert(STREAM_SOURCE, "ORIGIN:aBcD 17 match.> > match.7.events");
        let record =
            maker(KeyPlace::Nowhere).record(message("parts.1.match.7", headers), AT, Epoch(0), false);
        assert_eq!(&*record.origin.stream, "ORIGIN");
        assert_eq!(&*record.origin.topic, "match.7.events");
        assert_eq!(record.origin.offset, 17);
        assert_eq!(record.id.offset, 9, "acks go by this stream's own sequence");
        assert_eq!(stream_source("ORIGIN 17"), Some(("ORIGIN", 17, None)));
        assert_eq!(stream_source("nonsense"), None);
    }

    #[test]
    fn a_record_of_a_part_is_what_it_was_in_its_origin() {
        // As nats-server 2.15.1 wrote it.
        const HEADER: &str = "MATCH 6 match.*.ev\x0cmatch.* \
            {{partition(4,1)}}.match.{{wildcard(1)}}.ev\x0c0.match.{{wildcard(1)}} match.0.ev 8SUj2jmR";
        let mut headers = HeaderMap::new();
        headers.insert(STREAM_SOURCE, HEADER);
        headers.insert("Room", "a");
        let part = |tried| Maker {
            partition: PartitionId(3),
            stream: Arc::from("MATCH_roomcast_parts"),
            is_part: true,
            tried,
            ..maker(KeyPlace::Token(1))
        };
        let record = part(5).record(message("3.match.0.ev", headers.clone()), AT, Epoch(0), false);
        assert_eq!((&*record.origin.stream, &*record.origin.topic), ("MATCH", "match.0.ev"));
        assert_eq!((record.origin.partition, record.origin.offset), (3, 6));
        assert_eq!((record.id.partition, record.id.offset), (PartitionId(3), 9));
        assert_eq!(record.key.as_deref(), Some(&b"0"[..]));
        assert_eq!(record.headers.len(), 1, "{:?}", record.headers);
        assert!(!record.maybe_tried);
        assert!(part(6).record(message("3.match.0.ev", headers), AT, Epoch(0), false).maybe_tried);
    }

    #[test]
    fn headers_keep_repeats_and_lose_the_pin() {
        let mut headers = HeaderMap::new();
        headers.append("Room", "b");
        headers.append("Room", "a");
        headers.append("App", "x");
        headers.insert(header::NATS_PIN_ID, "pin");
        let record =
            maker(KeyPlace::Header("room".to_owned())).record(message("s", headers), AT, Epoch(0), true);
        let list: Vec<(&str, &[u8])> = record.headers.iter().map(|(n, v)| (&**n, v.as_ref())).collect();
        assert_eq!(list, [("App", &b"x"[..]), ("Room", b"b"), ("Room", b"a")]);
        assert_eq!(record.key.as_deref(), Some(&b"b"[..]));
        assert!(record.maybe_tried);
    }

    #[test]
    fn a_letter_has_the_key_of_its_record_and_no_condition_of_its_own() {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        headers.insert("roomcast-nats-Msg-Id", "m1");
        headers.insert("Room", "a");
        headers.insert(TOPIC, "match.42.events");
        for (key, wanted) in [
            (KeyPlace::Token(1), Some("42")),
            (KeyPlace::Token(9), None),
            (KeyPlace::Header("room".to_owned()), Some("a")),
            (KeyPlace::Header("Nats-Msg-Id".to_owned()), Some("m1")),
            (KeyPlace::Nowhere, None),
        ] {
            let maker = Maker { of_letters: true, ..maker(key) };
            let letter = message("MATCH_DLQ.letter.5", headers.clone());
            let record = maker.record(letter, AT, Epoch(0), false);
            assert_eq!(record.key.as_deref(), wanted.map(str::as_bytes), "{maker:?}");
            assert_eq!(&*record.origin.topic, "MATCH_DLQ.letter.5", "where the letter stands");
            assert!(!record.headers.iter().any(|(name, _)| name.starts_with("Nats-")), "{record:?}");
        }
    }

    #[test]
    fn a_letter_that_could_not_keep_its_value_has_none() {
        let value = |of_letters: bool, is_truncated: bool, payload: &'static str| {
            let mut headers = HeaderMap::new();
            if is_truncated {
                headers.insert("roomcast-truncated", "match.42.events/0/1");
            }
            let maker = Maker { of_letters, ..maker(KeyPlace::Nowhere) };
            let message = Message { payload: payload.into(), ..message("a.b", headers) };
            maker.record(message, AT, Epoch(0), false).value.map(|value| value.len())
        };
        assert_eq!(value(true, true, ""), None);
        assert_eq!(
            [value(true, false, ""), value(false, true, "")],
            [Some(0), Some(0)],
            "an empty one is one"
        );
        assert_eq!(value(true, true, "{}"), Some(2));
    }

    #[test]
    fn a_key_that_is_not_there_is_none() {
        let headers = HeaderMap::new;
        assert_eq!(
            maker(KeyPlace::Token(9)).record(message("a.b", headers()), AT, Epoch(0), false).key,
            None
        );
        let by_header = maker(KeyPlace::Header("Room".to_owned()));
        assert_eq!(by_header.record(message("a.b", headers()), AT, Epoch(0), false).key, None);
    }
}
