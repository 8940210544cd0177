//! Where an assigned partition begins: what the group committed, what the broker still has, and
//! where a group that never committed starts.
//!
//! These are calls that wait for the broker, a few seconds at most; the source's thread makes them
//! while its answer to a rebalance is due. An error means that nothing is known, and that the
//! caller asks again later: a position is never guessed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

use super::context::GroupContext;
use super::raw;
use super::settings::{Settings, StartFrom};
use crate::core::partitions::{Alarm, Begin, committed_begin};

/// How long one question to the broker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a group that begins at `latest` found when it began.
pub(super) enum Beginning {
    /// No commit anywhere: these were the ends of its partitions.
    Fresh(HashMap<(String, i32), i64>),
    /// It has committed before.
    Known,
}

/// Where the partitions of the list begin. `beginning` is found out once, when it is first needed.
pub(super) fn begins(
    consumer: &BaseConsumer<GroupContext>,
    settings: &Settings,
    list: &TopicPartitionList,
    beginning: &mut Option<Beginning>,
) -> KafkaResult<Vec<Begin>> {
    let committed = consumer.committed_offsets(bare(list), PATIENCE)?;
    let lows = bounds(consumer, list, Offset::Beginning, PATIENCE)?;
    let ends = bounds(consumer, list, Offset::End, PATIENCE)?;
    let mut begins = Vec::with_capacity(list.count());
    for (index, element) in committed.elements().iter().enumerate() {
        element.error()?;
        let place = (element.topic().to_owned(), element.partition());
        let known = |bounds: &HashMap<(String, i32), i64>| bounds.get(&place).copied();
        let (Some(low), Some(end)) = (known(&lows), known(&ends)) else {
            return Err(KafkaError::OffsetFetch(rdkafka::error::RDKafkaErrorCode::LeaderNotAvailable));
        };
        let found = match element.offset() {
            Offset::Offset(offset) => committed_begin(offset, raw::metadata(&committed, index), low, end),
            _ if settings.start_from == StartFrom::Earliest => (low, String::new(), None),
            _ => {
                if beginning.is_none() {
                    *beginning = Some(look_around(consumer, settings, list)?);
                }
                match beginning {
                    Some(Beginning::Fresh(at)) => match known(at) {
                        Some(start) => (start.clamp(low, end), String::new(), None),
                        // Made after the group began: all of it is new.
                        None => (low, String::new(), None),
                    },
                    _ => (low, String::new(), Some(Alarm::NewToGroup)),
                }
            }
        };
        let (start, metadata, alarm) = found;
        let is_first = !matches!(element.offset(), Offset::Offset(_));
        begins.push(Begin { topic: place.0, number: place.1, start, metadata, end, is_first, alarm });
    }
    Ok(begins)
}

/// The first or the end offset of each partition of the list, as far as its leader answers.
pub(super) fn bounds<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
    which: Offset,
    patience: Duration,
) -> KafkaResult<HashMap<(String, i32), i64>> {
    let mut asked = bare(list);
    // The two "times" that stand for the first and the end offset are these offsets themselves.
    asked.set_all_offsets(which)?;
    let found = consumer.offsets_for_times(asked, patience)?;
    let told = found
        .elements()
        .iter()
        .filter_map(|element| match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => {
                Some(((element.topic().to_owned(), element.partition()), offset))
            }
            _ => None,
        })
        .collect();
    Ok(told)
}

/// The topics that the source reads, with how many partitions each has, as far as the broker tells
/// them now.
pub(super) fn topics(
    consumer: &BaseConsumer<GroupContext>,
    settings: &Settings,
) -> KafkaResult<BTreeMap<String, i32>> {
    let mut found = BTreeMap::new();
    let named: Vec<&str> = settings.named_topics().collect();
    // A question for a few names is small in a large cluster; a pattern needs all of them.
    let asked: Vec<Option<&str>> = match settings.has_regex() || named.len() > 8 {
        true => vec![None],
        false => named.iter().copied().map(Some).collect(),
    };
    let read = settings.reading();
    let is_read = |topic: &&MetadataTopic| topic.error().is_none() && read.takes(topic.name());
    for name in asked {
        let metadata = consumer.fetch_metadata(name, PATIENCE)?;
        for topic in metadata.topics().iter().filter(is_read) {
            let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            found.insert(topic.name().to_owned(), count);
        }
    }
    Ok(found)
}

/// Whether the group has committed anything, anywhere in the cluster, and if not, where the
/// partitions it may ever be given end.
fn look_around(
    consumer: &BaseConsumer<GroupContext>,
    settings: &Settings,
    assigned: &TopicPartitionList,
) -> KafkaResult<Beginning> {
    let metadata = consumer.fetch_metadata(None, PATIENCE)?;
    let (mut all, mut ours) = (TopicPartitionList::new(), bare(assigned));
    for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
        let is_ours = settings.named_topics().any(|name| name == topic.name())
            || (settings.has_regex()
                && !settings.is_avoided(topic.name())
                && !topic.name().starts_with("__"));
        for partition in topic.partitions() {
            all.add_partition(topic.name(), partition.id());
            if is_ours && ours.find_partition(topic.name(), partition.id()).is_none() {
                ours.add_partition(topic.name(), partition.id());
            }
        }
    }
    let committed = consumer.committed_offsets(all, PATIENCE)?;
    if committed.elements().iter().any(|element| matches!(element.offset(), Offset::Offset(_))) {
        return Ok(Beginning::Known);
    }
    Ok(Beginning::Fresh(bounds(consumer, &ours, Offset::End, PATIENCE)?))
}

/// The partitions of a list without offsets and metadata.
fn bare(list: &TopicPartitionList) -> TopicPartitionList {
    let mut copy = TopicPartitionList::with_capacity(list.count());
    for element in list.elements() {
        copy.add_partition(element.topic(), element.partition());
    }
    copy
}

/// The list of these places, for calls that take one.
pub(super) fn list_of<'a>(places: impl IntoIterator<Item = (&'a Arc<str>, i32)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, number) in places {
        list.add_partition(topic, number);
    }
    list
}
