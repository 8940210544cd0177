//! Reads records without a group: a whole topic as it stands, or the one at a place.
//!
//! Used by [`super::archive`], on a thread that may wait. What is fetched ahead is bounded by the reader's
//! properties (4 MiB), what is handed over by the receiver's channel.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::context::PlainContext;
use super::offsets;
use super::probe::unreachable;
use super::record::{HeaderNames, record};
use super::settings::Settings;
use crate::core::model::{Epoch, Origin, PartitionId, Record, RecordId};

/// How long one question to the broker may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the broker may be silent in the middle of a topic.
const SILENCE: Duration = Duration::from_secs(30);

/// The longest wait of one poll: how late a receiver that is gone may be noticed.
const POLL: Duration = Duration::from_millis(100);

/// A consumer without a group.
pub(super) struct Reader {
    consumer: BaseConsumer<PlainContext>,
    brokers: String,
}

/// Where each partition of a topic begins and ends.
pub(super) type Bounds = BTreeMap<i32, (i64, i64)>;

impl Reader {
    /// One that will connect.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let context = PlainContext::new(&settings.name);
        let consumer = BaseConsumer::from_config_and_context(&settings.reader(), context)
            .map_err(|error| format!("the Kafka client cannot be made: {error}"))?;
        Ok(Self { consumer, brokers: settings.brokers.clone() })
    }

    /// The partitions of a topic with the first offset and the end of each; `None` when there is no
    /// such topic.
    pub(super) fn bounds(&self, topic: &str) -> Result<Option<Bounds>, String> {
        let metadata = self.consumer.fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.map_err(|error| unreachable(&self.brokers, &error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        if let Some(error) = found.error().map(RDKafkaErrorCode::from) {
            return match error {
                RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => Ok(None),
                _ => Err(format!("topic {topic} cannot be read: {error}")),
            };
        }
        let numbers: Vec<i32> =
            found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
        let mut list = TopicPartitionList::new();
        for number in &numbers {
            list.add_partition(topic, *number);
        }
        let ask = |which| {
            offsets::bounds(&self.consumer, &list, which, PATIENCE).map_err(|error| {
                format!("the broker does not tell where topic {topic} begins and ends: {error}")
            })
        };
        let (lows, ends) = (ask(Offset::Beginning)?, ask(Offset::End)?);
        let of = |bounds: &HashMap<(String, i32), i64>, number| {
            bounds.get(&(topic.to_owned(), number)).copied().ok_or_else(|| {
                format!("partition {number} of topic {topic} has no leader now: try again later")
            })
        };
        numbers
            .into_iter()
            .map(|number| Ok((number, (of(&lows, number)?, of(&ends, number)?))))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// What the group has committed of these partitions, as far as it has.
    pub(super) fn committed(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = i32>,
    ) -> Result<BTreeMap<i32, i64>, String> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(topic, partition);
        }
        if list.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let told = self.consumer.committed_offsets(list, PATIENCE).map_err(|error| {
            format!("the broker does not tell what the group has committed of topic {topic}: {error}")
        })?;
        let offset = |at| if let Offset::Offset(offset) = at { Some(offset) } else { None };
        let of =
            |element: &TopicPartitionListElem<'_>| Some((element.partition(), offset(element.offset())?));
        Ok(told.elements().iter().filter_map(of).collect())
    }

    /// Reads partitions of a topic from these offsets on until `take` has had enough of each.
    pub(super) fn follow(
        &self,
        topic: &str,
        from: &BTreeMap<i32, i64>,
        mut take: impl FnMut(Step<'_>) -> Next,
    ) -> Result<(), String> {
        let failed = |error: KafkaError| format!("topic {topic} cannot be read: {error}");
        let mut list = TopicPartitionList::new();
        for (number, offset) in from {
            list.add_partition_offset(topic, *number, Offset::Offset(*offset)).map_err(failed)?;
        }
        self.consumer.assign(&list).map_err(failed)?;
        let read = self.turn(topic, from.keys().copied().collect(), &mut take).map_err(failed);
        // What is fetched ahead is let go of.
        read.and(self.consumer.unassign().map_err(failed))
    }

    fn turn(
        &self,
        topic: &str,
        mut unread: Vec<i32>,
        take: &mut impl FnMut(Step<'_>) -> Next,
    ) -> KafkaResult<()> {
        let silent = || KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
        let mut heard = Instant::now();
        while !unread.is_empty() {
            let (number, next) = match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let next = match unread.contains(&message.partition()) {
                        true => take(Step::Record(&message)),
                        false => Next::More,
                    };
                    // Taking may last as long as it likes.
                    heard = Instant::now();
                    (message.partition(), next)
                }
                Some(Err(KafkaError::PartitionEOF(number))) => (number, Next::Enough),
                Some(Err(error)) if heard.elapsed() >= SILENCE => return Err(error),
                None if heard.elapsed() >= SILENCE => return Err(silent()),
                Some(Err(_)) | None => (-1, take(Step::Quiet)),
            };
            match next {
                Next::More => {}
                Next::Enough => {
                    unread.retain(|unread| *unread != number);
                    let mut list = TopicPartitionList::new();
                    list.add_partition(topic, number);
                    self.consumer.pause(&list)?;
                }
                Next::Stop => return Ok(()),
            }
        }
        Ok(())
    }

    /// The value of the record at a place; `None` when it is not there.
    pub(super) fn value_at(&self, origin: &Origin) -> Result<Option<Bytes>, String> {
        let Origin { topic, partition, offset, .. } = origin;
        let bounds = self.bounds(topic)?.unwrap_or_default();
        if !bounds.get(partition).is_some_and(|(low, end)| (*low..*end).contains(offset)) {
            return Ok(None);
        }
        let mut value = None;
        self.follow(topic, &BTreeMap::from([(*partition, *offset)]), |step| match step {
            Step::Record(message) => {
                // A topic that is compacted goes on with a later one.
                if message.offset() == *offset {
                    value = message.payload().map(Bytes::copy_from_slice);
                }
                Next::Stop
            }
            Step::Quiet => Next::More,
        })?;
        Ok(value)
    }
}

/// What there is to take.
pub(super) enum Step<'a> {
    Record(&'a BorrowedMessage<'a>),
    /// Nothing came for a moment.
    Quiet,
}

/// What is to come then.
pub(super) enum Next {
    More,
    /// No more of this partition.
    Enough,
    Stop,
}

/// Hands over the letters that stand in the dead-letter topic now.
pub(super) fn letters(settings: &Settings, into: &mpsc::Sender<Record>) -> Result<(), String> {
    let reader = Reader::new(settings)?;
    let topic: Arc<str> = Arc::from(settings.dead_letter.as_str());
    let bounds = reader.bounds(&topic)?.unwrap_or_default();
    let bounds: Bounds = bounds.into_iter().filter(|(_, (low, end))| low < end).collect();
    let from = bounds.iter().map(|(number, (low, _))| (*number, *low)).collect();
    let mut names = HeaderNames::default();
    reader.follow(&topic, &from, |step| {
        let Step::Record(message) = step else {
            return if into.is_closed() { Next::Stop } else { Next::More };
        };
        let (number, offset) = (message.partition(), message.offset());
        let end = bounds.get(&number).map_or(0, |(_, end)| *end);
        if offset < end {
            let partition = PartitionId(u32::try_from(number).unwrap_or(0));
            let id = RecordId { source: settings.source, partition, epoch: Epoch(0), offset };
            let letter = record(message, id, &topic, false, &mut names);
            if into.blocking_send(letter).is_err() {
                return Next::Stop;
            }
        }
        if offset + 1 >= end { Next::Enough } else { Next::More }
    })
}
