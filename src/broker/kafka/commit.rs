//! What is committed when: the watermark and, above it, what is finished already.
//!
//! A watermark that moved is stored with librdkafka, which commits it within a second and again
//! when a commit fails. Where only the metadata changed, librdkafka sees no reason to commit, so
//! that is committed by a call of our own, no more often than librdkafka's. On revocation and at the end the
//! whole is committed and waited for.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::Arrival;
use super::context::GroupContext;
use super::source::{Gone, Source};
use crate::core::partitions::Progress;

/// How often progress is handed to librdkafka.
const STORE_EVERY: Duration = Duration::from_millis(200);

/// How often a commit is made whose offset is the same as before: with [`STORE_EVERY`], what is
/// finished is committed within a second (P9).
const METADATA_EVERY: Duration = Duration::from_millis(750);

/// When what was done, and whether the broker takes metadata.
pub(super) struct Commits {
    stored_at: Instant,
    metadata_at: Instant,
    with_metadata: bool,
}

impl Commits {
    pub(super) fn new(now: Instant) -> Self {
        Self { stored_at: now, metadata_at: now, with_metadata: true }
    }
}

impl Source {
    /// Hands over what was finished since the last time.
    pub(super) fn hand_over_progress(&mut self) -> Result<(), Gone> {
        if self.commits.stored_at.elapsed() < STORE_EVERY {
            return Ok(());
        }
        self.commits.stored_at = Instant::now();
        let also_unmoved = self.commits.metadata_at.elapsed() >= METADATA_EVERY;
        let with_metadata = self.commits.with_metadata;
        let (mut moved, mut unmoved) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (topic, number, held) in self.partitions.held_mut() {
            if let Some(progress) = held.progress(with_metadata, also_unmoved) {
                add(if progress.moved { &mut moved } else { &mut unmoved }, topic, number, &progress);
            }
        }
        if moved.count() > 0
            && let Err(error) = self.consumer.store_offsets(&moved)
        {
            // Partitions that were taken away at this very moment: their new owner does it again.
            tracing::debug!(source = &*self.settings.name, %error, "offsets were not stored");
        }
        if unmoved.count() > 0 {
            self.commits.metadata_at = Instant::now();
            if let Err(error) = self.consumer.commit(&unmoved, CommitMode::Async) {
                tracing::debug!(source = &*self.settings.name, %error, "metadata was not committed");
            }
        }
        self.tell_fill()
    }

    /// Tells how full the metadata of commits is, where that is news.
    fn tell_fill(&mut self) -> Result<(), Gone> {
        let partitions = self.partitions.fills();
        if partitions.is_empty() {
            return Ok(());
        }
        self.send(Arrival::CommitMetadata { source: self.settings.source, partitions })
    }

    /// What became of a commit.
    pub(super) fn committed(&mut self, result: Result<(), RDKafkaErrorCode>) -> Result<(), Gone> {
        let Err(code) = result else { return self.sign_of_life() };
        if code == RDKafkaErrorCode::OffsetMetadataTooLarge && self.commits.with_metadata {
            tracing::warn!(
                source = &*self.settings.name,
                "the broker takes no commit metadata of 4096 bytes (offset.metadata.max.bytes): committing without \
                 it, so a restart may post again what was finished behind a record that waits"
            );
            self.commits.with_metadata = false;
            self.partitions.held_mut().for_each(|(_, _, held)| held.forget_told());
            return Ok(());
        }
        if let Some(left_out) = self.quiet.pass("commit") {
            tracing::warn!(source = &*self.settings.name, %code, left_out, "a commit failed and will be repeated");
        }
        Ok(())
    }

    /// Commits these partitions now and waits for the answer.
    pub(super) fn commit_now(&mut self, list: &TopicPartitionList) {
        let consumer = std::sync::Arc::clone(&self.consumer);
        self.commit_where(&consumer, |topic, number| list.find_partition(topic, number).is_some());
    }

    /// Commits everything with this consumer and waits for the answer.
    pub(super) fn commit_everything(&mut self, consumer: &BaseConsumer<GroupContext>) {
        self.commit_where(consumer, |_, _| true);
    }

    fn commit_where(&mut self, consumer: &BaseConsumer<GroupContext>, which: impl Fn(&str, i32) -> bool) {
        let with_metadata = self.commits.with_metadata;
        let mut list = TopicPartitionList::new();
        for (topic, number, held) in
            self.partitions.held_mut().filter(|(topic, number, _)| which(topic, *number))
        {
            add(&mut list, topic, number, &held.last_progress(with_metadata));
        }
        if list.count() == 0 {
            return;
        }
        // librdkafka commits what is stored once more when the partition goes: let it be the same.
        let stored = consumer.store_offsets(&list);
        if let Err(error) = stored.and_then(|()| consumer.commit(&list, CommitMode::Sync)) {
            tracing::warn!(
                source = &*self.settings.name,
                %error,
                "the last commit failed: what was finished since the one before may be posted again"
            );
        }
    }
}

fn add(list: &mut TopicPartitionList, topic: &str, number: i32, progress: &Progress) {
    let mut element = list.add_partition(topic, number);
    element.set_offset(Offset::Offset(progress.offset)).expect("offsets of records are not negative");
    if !progress.metadata.is_empty() {
        element.set_metadata(&progress.metadata);
    }
}
