//! The small table beside the dead letters: the compacted topic `<dead_letter>.state`.
//!
//! Loaded by reading the topic from its first record to its end without joining a group, the last
//! value of a key being the row; a record without a value takes the row away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::context::PlainContext;
use super::letters::Writer;
use super::settings::Settings;
use super::{Boxed, Table};
use crate::broker::EachRow;

/// How long the broker may be silent before loading fails.
const PATIENCE: Duration = Duration::from_secs(15);

/// The table of one source.
pub(super) struct StateTable {
    writer: Arc<Writer>,
    topic: String,
}

impl StateTable {
    pub(super) fn new(writer: Arc<Writer>) -> Self {
        let topic = writer.settings.state_topic();
        Self { writer, topic }
    }
}

impl Table for StateTable {
    fn each(&self, mut row: EachRow) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            self.writer.prepare().await?;
            let (settings, topic) = (Arc::clone(&self.writer.settings), self.topic.clone());
            let read = tokio::task::spawn_blocking(move || read_all(&settings, &topic, &mut row));
            read.await
                .map_err(|error| format!("topic {}: {error}", self.topic))?
                .map_err(|error| format!("topic {}: {error}", self.topic))
        })
    }

    fn put(&self, key: String, value: Bytes) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move { self.writer.put(&self.topic, &key, &value).await })
    }
}

fn read_all(settings: &Settings, topic: &str, row: &mut EachRow) -> Result<(), KafkaError> {
    let context = PlainContext::new(&settings.name);
    let consumer: BaseConsumer<PlainContext> =
        BaseConsumer::from_config_and_context(&settings.reader(), context)?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions: BTreeSet<i32> = metadata
        .topics()
        .iter()
        .flat_map(rdkafka::metadata::MetadataTopic::partitions)
        .map(rdkafka::metadata::MetadataPartition::id)
        .collect();
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut unread = partitions;
    let mut heard = Instant::now();
    while !unread.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                row(&String::from_utf8_lossy(message.key().unwrap_or_default()), message.payload());
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) if heard.elapsed() >= PATIENCE => return Err(error),
            None if heard.elapsed() >= PATIENCE => {
                return Err(KafkaError::MessageConsumption(
                    rdkafka::error::RDKafkaErrorCode::OperationTimedOut,
                ));
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}
