//! Writes to Kafka: letters to the dead-letter topic, requests and rows to the topics beside it.
//!
//! One idempotent producer for all, made when it is first needed and made anew after an error
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

/// How long a write may wait for a place in the producer's queue, which many at once can fill.
const QUEUE: Duration = Duration::from_secs(10);

/// Writes to the topics beside a source.
pub(super) struct Writer {
    pub(super) settings: Arc<Settings>,
    /// Whether what is doubtful about the dead-letter topic is logged here.
    tells_doubts: bool,
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
    /// One of several beside a source: exactly one of them should tell what is doubtful.
    pub(super) fn new(settings: Arc<Settings>, tells_doubts: bool) -> Self {
        Self { settings, tells_doubts, producer: Mutex::default(), prepared: OnceCell::new() }
    }

    /// Makes the topics when they are missing; asks the broker once.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        let prepare = || topics::prepare(&self.settings, self.tells_doubts);
        self.prepared.get_or_try_init(prepare).await.copied()
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
        let result = match tokio::time::timeout(PATIENCE, producer.send(record, QUEUE)).await {
            Ok(delivered) => delivered.map(drop).map_err(|(error, _)| error),
            Err(_) => Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)),
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

    /// Writes a letter, or the request that was made of one, with as much of it as the topic takes.
    pub(super) async fn place(&self, topic: &str, letter: Sealed) -> Result<(), KafkaError> {
        let mut letter = letter;
        let mut result = self.place_whole(topic, &letter).await;
        if is_too_large(&result) {
            letter = letter.truncated();
            result = self.place_whole(topic, &letter).await;
        }
        if is_too_large(&result) {
            result = self.place_whole(topic, &bare(letter)).await;
        }
        result
    }

    async fn place_whole(&self, topic: &str, letter: &Sealed) -> Result<(), KafkaError> {
        let write = Write {
            topic,
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
            let topic = &self.settings.dead_letter;
            self.place(topic, letter).await.map_err(|error| format!("the dead-letter topic {topic}: {error}"))
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
        assert_eq!(letter.stands(), "t/3/77");
        let bare = bare(letter.truncated());
        assert!(bare.key.is_none() && bare.value.is_none());
        assert_eq!(bare.headers.len(), 4, "its own headers and where it stands");
        assert_eq!(&*bare.headers[3].0, "roomcast-truncated");
    }
}
