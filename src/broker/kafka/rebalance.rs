//! What the group gives and takes, and how it is answered.
//!
//! librdkafka waits for the answer to each rebalance, and goes on being polled meanwhile. An
//! assignment is answered when it is known where each partition begins; a revocation when every
//! call away of its partitions has answered, or after [`PATIENCE`], and a second of their rooms' pace has
//! passed ([`crate::core::partitions::REST`]). What is lost already is given up at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer, RebalanceProtocol};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Statistics, give_up};
use super::offsets::{self, list_of};
use super::source::{Gone, Source};
use super::{Arrival, Status};
use crate::broker::rested_at;
use crate::core::model::{Epoch, PartitionId};
use crate::core::partitions::{Alarm, Begin, Partitions};

/// The longest that a revocation is held up for calls away; an account's time limit is shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long after a failed look at offsets the next one is made.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// An assignment that is not answered yet.
pub(super) struct Assigning {
    list: TopicPartitionList,
    not_before: Instant,
}

impl Assigning {
    pub(super) fn new(list: TopicPartitionList) -> Self {
        Self { list, not_before: Instant::now() }
    }
}

/// A revocation that is not answered yet.
pub(super) struct Revoking {
    list: TopicPartitionList,
    waiting: BTreeSet<(PartitionId, Epoch)>,
    since: Instant,
    /// When its rooms have rested, once no call is away.
    rested_at: Option<Instant>,
}

impl Source {
    /// The group takes partitions: asks the driver to let go, or says that they are lost.
    pub(super) fn revoke(&mut self, list: TopicPartitionList) -> Result<(), Gone> {
        if self.consumer.assignment_lost() {
            return self.lose(&list);
        }
        let ids: Vec<PartitionId> = ids_of(&self.partitions, &list);
        let mut waiting = BTreeSet::new();
        for id in ids {
            let held = self.partitions.slot_mut(id).and_then(|slot| slot.held.as_mut());
            if let Some(held) = held.filter(|held| !held.revoking) {
                held.revoking = true;
                waiting.insert((id, held.epoch));
            }
        }
        if !waiting.is_empty() {
            let partitions = waiting.iter().copied().collect();
            self.send(Arrival::Revoking { source: self.settings.source, partitions })?;
        }
        self.revoking.push_back(Revoking { list, waiting, since: Instant::now(), rested_at: None });
        Ok(())
    }

    /// The driver has let go of a partition.
    pub(super) fn released(&mut self, partition: PartitionId, epoch: Epoch) {
        for revoking in &mut self.revoking {
            revoking.waiting.remove(&(partition, epoch));
        }
    }

    /// Answers what can be answered, oldest first.
    pub(super) fn answer_rebalances(&mut self) -> Result<(), Gone> {
        while let Some(first) = self.revoking.front() {
            let is_lost = self.consumer.assignment_lost();
            if !is_lost && !first.waiting.is_empty() && first.since.elapsed() < PATIENCE {
                return Ok(());
            }
            if !is_lost && !self.have_rested() {
                return Ok(());
            }
            let Revoking { list, waiting, .. } = self.revoking.pop_front().expect("it was looked at");
            if is_lost {
                self.lose(&list)?;
                continue;
            }
            if !waiting.is_empty() {
                tracing::warn!(
                    source = &*self.settings.name,
                    "calls are still away after {PATIENCE:?}: their partitions are given up all the same"
                );
            }
            self.commit_now(&list);
            self.end_assignment(&list, |held| waiting.contains(&held))?;
        }
        while let Some(first) = self.assigning.front() {
            if first.not_before > Instant::now() || !self.try_assign()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the rooms of the oldest revocation have rested since their last call.
    fn have_rested(&mut self) -> bool {
        let rested_at = self.rested_at();
        let first = self.revoking.front_mut().expect("the caller looked at it");
        *first.rested_at.get_or_insert(rested_at) <= Instant::now()
    }

    /// When the rooms of this source have rested since their last call.
    pub(super) fn rested_at(&self) -> Instant {
        let is_finished = self.partitions.held().all(|(_, _, held)| held.mark.open() == 0);
        rested_at(is_finished, self.last_settled)
    }

    /// Partitions that others have already: nothing is committed.
    fn lose(&mut self, list: &TopicPartitionList) -> Result<(), Gone> {
        tracing::warn!(
            source = &*self.settings.name,
            "the group gave {} partitions to others without waiting for us: what is away may be posted twice",
            list.count()
        );
        self.end_assignment(list, |_| true)
    }

    /// Answers a revocation. Tells the driver what is lost to it: what it has not let go of itself.
    fn end_assignment(
        &mut self,
        list: &TopicPartitionList,
        is_lost: impl Fn((PartitionId, Epoch)) -> bool,
    ) -> Result<(), Gone> {
        // librdkafka remembers a pause past the assignment it was made for.
        let gone = ids_of(&self.partitions, list);
        let slots = gone.iter().filter_map(|&id| self.partitions.slot(id));
        let paused = slots.filter(|slot| slot.held.as_ref().is_some_and(|held| held.paused));
        let paused = list_of(paused.map(|slot| (&slot.topic, slot.number)));
        if paused.count() > 0
            && let Err(error) = self.consumer.resume(&paused)
        {
            tracing::debug!(source = &*self.settings.name, %error, "a pause was not undone");
        }
        let mut partitions = self.partitions.release(&gone);
        partitions.retain(|held| is_lost(*held));
        if let Err(error) = give_up(&self.consumer, list) {
            tracing::warn!(source = &*self.settings.name, %error, "a revocation was not taken");
        }
        if partitions.is_empty() {
            return Ok(());
        }
        self.send(Arrival::Lost { source: self.settings.source, partitions })
    }

    /// Begins the oldest assignment; false when it must be tried again later.
    fn try_assign(&mut self) -> Result<bool, Gone> {
        let Some(mut assigning) = self.assigning.pop_front() else { return Ok(false) };
        if self.consumer.assignment_lost() {
            self.end_assignment(&assigning.list, |_| true)?;
            return Ok(true);
        }
        let order = offsets::topics(&self.consumer, &self.settings);
        let begins = match assigning.list.count() {
            // Who is given nothing may learn of the topics later.
            0 => Ok((Vec::new(), order.ok())),
            _ => order.and_then(|order| {
                let (settings, beginning) = (&self.settings, &mut self.beginning);
                Ok((offsets::begins(&self.consumer, settings, &assigning.list, beginning)?, Some(order)))
            }),
        };
        match begins {
            Ok((begins, order)) => {
                let order = order.map(|topics| self.order(topics));
                self.assign(&begins, order)?;
                Ok(true)
            }
            Err(error) => {
                if let Some(left_out) = self.quiet.pass("offsets") {
                    tracing::warn!(
                        source = &*self.settings.name, %error, left_out,
                        "cannot yet tell where the partitions begin; asking again"
                    );
                }
                assigning.not_before = Instant::now() + ASK_AGAIN;
                self.assigning.push_front(assigning);
                Ok(false)
            }
        }
    }

    fn assign(&mut self, begins: &[Begin], order: Option<Vec<PartitionId>>) -> Result<(), Gone> {
        let begins: Vec<Begin> = begins.iter().map(|begin| self.partitions.resumed(begin)).collect();
        let mut list = TopicPartitionList::new();
        let mut first = TopicPartitionList::new();
        for begin in &begins {
            add(&mut list, begin);
            if begin.is_first {
                add(&mut first, begin);
            }
            if let Some(alarm) = begin.alarm {
                self.sound(begin, alarm);
            }
        }
        let taken = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&list),
            _ => self.consumer.assign(&list),
        };
        if let Err(error) = taken {
            // The group moved on meanwhile; it will say what is ours now.
            tracing::warn!(source = &*self.settings.name, %error, "an assignment was not taken");
            return Ok(());
        }
        let mut assigned = Vec::with_capacity(begins.len());
        for begin in &begins {
            let id = self.partitions.intern(&begin.topic, begin.number);
            let epoch = self.partitions.assign(id, begin.start, &begin.metadata, begin.end);
            assigned.push((id, epoch, Arc::from(format!("{}/{}", begin.topic, begin.number))));
        }
        self.commit_first(&first);
        self.joined = true;
        self.lacks_topics &= begins.is_empty();
        self.send(Arrival::Assigned { source: self.settings.source, partitions: assigned, order })?;
        if self.lacks_topics { Ok(()) } else { self.set_status(Status::Ready) }
    }

    /// All partitions of these topics, in the order that every replica has them in: by topic and number.
    fn order(&mut self, topics: BTreeMap<String, i32>) -> Vec<PartitionId> {
        let mut order = Vec::new();
        for (topic, count) in &topics {
            order.extend((0..*count).map(|number| self.partitions.intern(topic, number)));
        }
        self.topics = topics;
        order
    }

    /// Looks at the topics anew when the client has seen that one of them has more partitions, or
    /// less, than it had; the shares of quotas hang on their number.
    pub(super) fn look_at_topics(&mut self, statistics: &Statistics) -> Result<(), Gone> {
        let has_changed = |(topic, count): (&String, &i32)| {
            statistics.partitions_of(topic).is_some_and(|seen| seen > 0 && seen != *count)
        };
        if !self.topics.iter().any(has_changed) {
            return Ok(());
        }
        match offsets::topics(&self.consumer, &self.settings) {
            Ok(topics) => {
                let order = Some(self.order(topics));
                let source = self.settings.source;
                self.send(Arrival::Assigned { source, partitions: Vec::new(), order })
            }
            Err(error) => {
                tracing::debug!(source = &*self.settings.name, %error, "the topics cannot be looked at");
                Ok(())
            }
        }
    }

    /// Where a group begins is committed at once, so that a restart begins at the same place.
    fn commit_first(&mut self, first: &TopicPartitionList) {
        if first.count() == 0 {
            return;
        }
        if let Err(error) = self.consumer.commit(first, CommitMode::Sync) {
            tracing::warn!(source = &*self.settings.name, %error, "the beginning could not be committed yet");
            let ids: Vec<PartitionId> = ids_of(&self.partitions, first);
            for id in ids {
                if let Some(held) = self.partitions.slot_mut(id).and_then(|slot| slot.held.as_mut()) {
                    held.forget_told();
                }
            }
        }
    }

    /// Tells people that the broker does not give what the group left.
    fn sound(&self, begin: &Begin, alarm: Alarm) {
        let (source, partition) = (&*self.settings.name, format!("{}/{}", begin.topic, begin.number));
        let start = begin.start;
        match alarm {
            Alarm::LostByBroker(offsets) => tracing::error!(
                source,
                partition,
                offsets,
                start,
                "the broker deleted records that were not finished: they are lost"
            ),
            Alarm::Rewound { committed } => tracing::error!(
                source,
                partition,
                committed,
                end = begin.end,
                start,
                "the partition ends before what was committed: it is read from its first record"
            ),
            Alarm::NewToGroup => tracing::warn!(
                source,
                partition,
                start,
                "the group has committed before, but never here: the partition is read from its first record"
            ),
        }
    }

    /// A partition went backwards to `offset` under its assignment (the broker lost its tail, or was
    /// told to reset): what is held of it means nothing any more, and it is read again from its first
    /// unfinished record, which may lie below. True when the message at `offset` is the first of all.
    pub(super) fn begin_again(&mut self, id: PartitionId, offset: i64) -> Result<bool, Gone> {
        let source = self.settings.source;
        let slot = self.partitions.slot(id).expect("the partition was found by its message");
        let held = slot.held.as_ref().expect("only an assigned partition receives");
        let (old, start, end) =
            (held.epoch, held.begins_again(offset), held.end_at_start.max(held.mark.next()));
        let (topic, number) = (Arc::clone(&slot.topic), slot.number);
        let name: Arc<str> = Arc::from(format!("{topic}/{number}"));
        tracing::error!(
            source = &*self.settings.name,
            partition = &*name,
            offset,
            start,
            "the partition went backwards: it is read again from its first unfinished record"
        );
        self.send(Arrival::Lost { source, partitions: vec![(id, old)] })?;
        let epoch = self.partitions.assign(id, start, "", end);
        if start < offset
            && let Err(error) = self.consumer.seek(&topic, number, Offset::Offset(start), Duration::ZERO)
        {
            tracing::error!(source = &*self.settings.name, partition = &*name, %error, "cannot go back: connecting anew");
            self.stalled = true;
        }
        self.send(Arrival::Assigned { source, partitions: vec![(id, epoch, name)], order: None })?;
        Ok(start == offset)
    }

    /// Answers everything that is open, for a consumer that closes: it would wait for it.
    pub(super) fn answer_all(&mut self) {
        for assigning in std::mem::take(&mut self.assigning) {
            if let Err(error) = self.consumer.incremental_assign(&assigning.list) {
                tracing::debug!(%error, "an assignment while closing");
            }
        }
        for revoking in std::mem::take(&mut self.revoking) {
            if let Err(error) = give_up(&self.consumer, &revoking.list) {
                tracing::debug!(%error, "a revocation while closing");
            }
        }
    }
}

fn add(list: &mut TopicPartitionList, begin: &Begin) {
    list.add_partition_offset(&begin.topic, begin.number, Offset::Offset(begin.start))
        .expect("offsets of records are not negative");
}

/// The known partitions of a list.
fn ids_of(partitions: &Partitions, list: &TopicPartitionList) -> Vec<PartitionId> {
    let elements = list.elements();
    elements.iter().filter_map(|element| partitions.find(element.topic(), element.partition())).collect()
}
