//! Which records that were finished came after others with the same key. Keys alone are kept.
//!
//! Finished is what the group has committed; what is finished above that is left out. Used by
//! [`super::archive`], on a thread that may wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::Message;

use super::settings::Settings;
use super::sweep::{Next, Reader, Step};
use super::{LATER_MOST, Later, Part, Stands};

/// What is read of one partition: from where, to before which offset, and what is looked for.
struct Stretch<'a> {
    from: i64,
    end: i64,
    stands: &'a Stands,
    last: BTreeMap<Bytes, i64>,
}

/// Reads, topic by topic.
pub(super) fn later(settings: &Settings, of: &BTreeMap<Part, Stands>) -> Result<Later, String> {
    let reader = Reader::new(settings)?;
    let mut later = Later::default();
    let mut topics: BTreeMap<&Arc<str>, BTreeMap<i32, &Stands>> = BTreeMap::new();
    for ((topic, partition), stands) in of {
        topics.entry(topic).or_default().insert(*partition, stands);
    }
    for (topic, partitions) in topics {
        let mut stretches = stretches(&reader, topic, &partitions)?;
        for stretch in stretches.values_mut().filter(|stretch| stretch.end - stretch.from > LATER_MOST) {
            stretch.end = stretch.from + LATER_MOST;
            later.is_cut = true;
        }
        read(&reader, topic, &mut stretches)?;
        for (partition, stretch) in stretches {
            later.last.insert((Arc::clone(topic), partition), stretch.last);
        }
    }
    Ok(later)
}

/// What is to be read of a topic. Of one that is gone, or of which nothing is committed, nothing is.
fn stretches<'a>(
    reader: &Reader,
    topic: &str,
    partitions: &BTreeMap<i32, &'a Stands>,
) -> Result<BTreeMap<i32, Stretch<'a>>, String> {
    let Some(bounds) = reader.bounds(topic)? else { return Ok(BTreeMap::new()) };
    let there = partitions.keys().copied().filter(|partition| bounds.contains_key(partition));
    let committed = reader.committed(topic, there)?;
    let mut stretches = BTreeMap::new();
    for (partition, stands) in partitions {
        let (Some((low, end)), Some(committed)) = (bounds.get(partition), committed.get(partition)) else {
            continue;
        };
        let Some(oldest) = stands.oldest.values().min() else { continue };
        let (from, end) = ((oldest + 1).max(*low), *committed.min(end));
        if from < end {
            stretches.insert(*partition, Stretch { from, end, stands, last: BTreeMap::new() });
        }
    }
    Ok(stretches)
}

fn read(reader: &Reader, topic: &str, stretches: &mut BTreeMap<i32, Stretch<'_>>) -> Result<(), String> {
    let from = stretches.iter().map(|(partition, stretch)| (*partition, stretch.from)).collect();
    reader.follow(topic, &from, |step| {
        let Step::Record(message) = step else { return Next::More };
        let Some(stretch) = stretches.get_mut(&message.partition()) else { return Next::Enough };
        let offset = message.offset();
        if offset < stretch.end {
            stretch.take(offset, message.key());
        }
        if offset + 1 >= stretch.end { Next::Enough } else { Next::More }
    })
}

impl Stretch<'_> {
    fn take(&mut self, offset: i64, key: Option<&[u8]>) {
        let Some(key) = key else { return };
        let Some((key, oldest)) = self.stands.oldest.get_key_value(key) else { return };
        if offset > *oldest && !self.stands.except.contains(&offset) {
            self.last.insert(key.clone(), offset);
        }
    }
}
