//! Writes to Kafka: letters to the dead-letter topic, rows to the table beside it.
//!
//! One idempotent producer for both, made when it is first needed and made anew after an error
//! that librdkafka calls fatal. A write is done when all in-sync replicas have it. Nothing is
//! repeated here beyond what the producer does itself: the caller tries again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use tokio::sync::OnceCell;

use super::context::PlainContext;
use super::settings::Settings;
use super::{Boxed, Letters, topics};
use crate::core::letter::{PREFIX, Sealed};

/// Longer than the producer's own `delivery.timeout.ms` as set by default; only a producer that
/// hangs runs into it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes to the topics beside a source.
pub(super) struct Writer {
    pub(super) settings: Arc<Settings>,
    producer: Mutex<Option<FutureProducer<PlainContext>>>,
    prepared: OnceCell<()>,
}

/// What is written.
struct Write<'a> {
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [(Arc<str>, Bytes)],
}

impl Writer {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, producer: Mutex::default(), prepared: OnceCell::new() }
    }

    /// Makes the topics when they are missing; asks the broker once.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        self.prepared.get_or_try_init(|| topics::prepare(&self.settings)).await.copied()
    }

    fn producer(&self) -> Result<FutureProducer<PlainContext>, KafkaError> {
        let mut place = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = place.as_ref() {
            return Ok(producer.clone());
        }
        let context = PlainContext::new(&self.settings.name);
        let producer = FutureProducer::from_config_and_context(&self.settings.producer(), context)?;
        *place = Some(producer.clone());
        Ok(producer)
    }

    async fn write(&self, write: Write<'_>) -> Result<(), KafkaError> {
        let producer = self.producer()?;
        let mut record = FutureRecord::<[u8], [u8]>::to(write.topic);
        record.key = write.key;
        record.payload = write.value;
        if !write.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(write.headers.len());
            record.headers = Some(write.headers.iter().fold(headers, |headers, (name, value)| {
                headers.insert(Header { key: name, value: Some(value.as_ref()) })
            }));
        }
        let sent = producer.send_result(record).map_err(|(error, _)| error);
        let result = match sent {
            Err(error) => Err(error),
            Ok(delivery) => match tokio::time::timeout(PATIENCE, delivery).await {
                Ok(Ok(delivered)) => delivered.map(drop).map_err(|(error, _)| error),
                Ok(Err(_)) => Err(KafkaError::Canceled),
                Err(_) => Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)),
            },
        };
        if result.is_err() {
            self.drop_a_dead_producer(&producer);
        }
        result
    }

    /// After a fatal error a producer never delivers again: the next write makes a new one.
    fn drop_a_dead_producer(&self, producer: &FutureProducer<PlainContext>) {
        let Some((code, text)) = producer.client().fatal_error() else { return };
        let mut place = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same =
            place.as_ref().is_some_and(|p| p.client().native_ptr() == producer.client().native_ptr());
        if is_same {
            tracing::error!(source = &*self.settings.name, %code, "{text}: the producer of letters is made anew");
            *place = None;
        }
    }

    /// Sets a row of the table; done when it is confirmed.
    pub(super) async fn put(&self, topic: &str, key: &str, value: &[u8]) -> Result<(), String> {
        self.prepare().await?;
        let write = Write { topic, key: Some(key.as_bytes()), value: Some(value), headers: &[] };
        self.write(write).await.map_err(|error| format!("topic {topic}: {error}"))
    }

    async fn write_letter(&self, letter: &Sealed) -> Result<(), KafkaError> {
        let write = Write {
            topic: &self.settings.dead_letter,
            key: letter.key.as_deref(),
            value: letter.value.as_deref(),
            headers: &letter.headers,
        };
        self.write(write).await
    }
}

impl Letters for Writer {
    fn write(&self, letter: Sealed) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            self.prepare().await?;
            let mut letter = letter;
            let mut result = self.write_letter(&letter).await;
            if is_too_large(&result) {
                let stands = stands(&letter);
                letter = letter.truncated(&stands);
                result = self.write_letter(&letter).await;
            }
            if is_too_large(&result) {
                result = self.write_letter(&bare(letter)).await;
            }
            result.map_err(|error| format!("the dead-letter topic {}: {error}", self.settings.dead_letter))
        })
    }
}

fn is_too_large(result: &Result<(), KafkaError>) -> bool {
    let code = result.as_ref().err().and_then(KafkaError::rdkafka_error_code);
    matches!(
        code,
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
        )
    )
}

/// Where the record of a letter stands: `topic/partition/offset`, from the letter's own headers.
fn stands(letter: &Sealed) -> String {
    let header = |name: &str| {
        let name = format!("{PREFIX}{name}");
        let found = letter.headers.iter().rev().find(|(n, _)| **n == *name);
        found.map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    format!("{}/{}/{}", header("topic"), header("partition"), header("offset"))
}

/// A letter that is too large even without its value: key and foreign headers stand where the
/// record does, and `roomcast-truncated` says where that is.
fn bare(mut letter: Sealed) -> Sealed {
    letter.key = None;
    letter.headers.retain(|(name, _)| name.starts_with(PREFIX));
    letter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::letter::LetterId;

    #[test]
    fn a_letter_knows_where_its_record_stands() {
        let header = |name: &str, value: &str| (Arc::from(name), Bytes::copy_from_slice(value.as_bytes()));
        let letter = Sealed {
            id: LetterId(uuid::Uuid::nil()),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers: vec![
                header("mine", "x"),
                header("roomcast-topic", "t"),
                header("roomcast-partition", "3"),
                header("roomcast-offset", "77"),
            ],
        };
        assert_eq!(stands(&letter), "t/3/77");
        let bare = bare(letter.truncated("t/3/77"));
        assert!(bare.key.is_none() && bare.value.is_none());
        assert_eq!(bare.headers.len(), 4, "its own headers and where it stands");
        assert_eq!(&*bare.headers[3].0, "roomcast-truncated");
    }
}
