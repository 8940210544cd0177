//! What the reading loop does with what comes: messages, and looks at the consumer.
//!
//! The other half of [`super::source`]; nothing here waits.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer};

use super::letter_stream;
use super::pull::{self, Item};
use super::rescue::{self, BREAKS, Rescued};
use super::settings::MAX_HELD;
use super::setup;
use super::source::{LOOK_CLOSELY, Loop};
use super::words::{News, Word};
use crate::broker::{Arrival, Status};
use crate::core::ledger::{Arrived, Delivery, Gathered};
use crate::core::model::Epoch;

/// How often the consumer is looked at, for the lag and the ack floor.
const LOOK: Duration = Duration::from_secs(3);
/// What gathering waits for beyond `ack_wait` (design, section 7).
const GATHER_MORE: Duration = Duration::from_secs(5);
/// How long another must have the pin before it counts as lost: the message that tells of ours may
/// be on its way.
const PIN_DOUBT: Duration = Duration::from_secs(1);
/// The wait after a refused pull.
const REFUSED: Duration = Duration::from_secs(1);

impl Loop {
    pub(super) fn take(&mut self, message: Option<async_nats::Message>) {
        let now = Instant::now();
        let Some(message) = message else { return self.subscribe() };
        self.pulls.last_item = Some(now);
        match Item::from(message) {
            Item::Record(message) => self.arrive(message, now),
            Item::Heartbeat => {}
            Item::Ended(left) => {
                let left = left.unwrap_or(self.pulls.outstanding);
                self.pulls.outstanding = self.pulls.outstanding.saturating_sub(left);
            }
            Item::PinLost => {
                tracing::info!(durable = self.source.lane.durable, "the pin is not ours any more");
                self.pulls.pin = None;
                self.pulls.outstanding = 0;
                self.look_at = now;
            }
            Item::Deleted => drop(self.news.send(News::Gone)),
            Item::Nobody => {
                self.pulls.outstanding = 0;
                self.pulls.not_before = Some(now + REFUSED);
                self.look_at = now;
            }
            Item::Refused(why) => {
                tracing::warn!(durable = self.source.lane.durable, "the server refuses a pull: {why}");
                self.pulls.outstanding = 0;
                self.pulls.not_before = Some(now + REFUSED);
            }
        }
    }

    fn arrive(&mut self, message: async_nats::Message, now: Instant) {
        self.pulls.outstanding = self.pulls.outstanding.saturating_sub(1);
        let Some(consumer) = &self.consumer else { return };
        let context = consumer.prepared.jetstream.clone();
        let message = jetstream::Message { message, context };
        let delivery = match message.info() {
            Ok(info) => Delivery {
                sequence: info.stream_sequence,
                consumer_sequence: info.consumer_sequence,
                count: info.delivered,
                published: i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(i64::MAX),
            },
            Err(error) => {
                return tracing::error!("a message whose ack subject cannot be read is left: {error}");
            }
        };
        let message = message.message;
        let Some(reply) = message.reply.clone() else { return };
        if let Some(pin) = pull::pin(message.headers.as_ref()).filter(|_| self.is_pinned()) {
            self.pulls.doubt = None;
            if self.pulls.pin.as_deref() != Some(pin) {
                self.pulls.pin = Some(pin.to_owned());
            }
        }
        self.pulls.breaks = 0;
        let follows = self.ledger.continues(delivery);
        if !self.is_assigned {
            self.assign();
            self.ledger.taken_over(delivery);
        }
        if !follows && self.is_pinned() {
            self.gather(now);
        }
        let (epoch, maker, marks) = (self.epoch, &self.maker, &mut self.marks);
        let make = |maybe_tried| {
            let mut record = maker.record(message, delivery, epoch, maybe_tried);
            let origin = record.origin.offset.cast_unsigned();
            record.maybe_tried |= maker.is_part && marks.arrived(delivery.sequence, origin);
            record
        };
        match self.ledger.take(delivery, reply.clone(), make) {
            Arrived::New => self.intake.weigh(self.ledger.bytes(), now),
            Arrived::Held => tracing::debug!(sequence = delivery.sequence, "redelivered while it is held"),
            Arrived::Finished => self.ack(delivery.sequence, reply),
            Arrived::Rewound => {
                // It comes again, since nobody speaks for it, and is then a message like any other.
                self.lose("the stream lost its end and began anew");
                self.ledger.forget();
                self.marks.forget();
            }
        }
    }

    pub(super) fn assign(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.is_assigned = true;
        self.intake.begin();
        let lane = &self.source.lane;
        self.outbox.push_back(Arrival::Assigned {
            source: self.source.id,
            partitions: vec![(lane.partition, self.epoch, lane.label.clone())],
            order: None,
        });
        self.say(Word::Reads(true));
        // What was asked for before it was told to stand by.
        if !self.is_wanted && self.source.front.is_none() {
            self.give_up(Instant::now());
        }
    }

    pub(super) fn lose(&mut self, why: &str) {
        if !std::mem::take(&mut self.is_assigned) {
            return;
        }
        tracing::warn!(durable = self.source.lane.durable, held = self.ledger.held(), "lost: {why}");
        let source = self.source.id;
        let partitions = vec![(self.source.lane.partition, self.epoch)];
        self.outbox.push_back(Arrival::Lost { source, partitions });
        self.forget_reading();
    }

    /// Holds everything back until what is pending is here.
    pub(super) fn gather(&mut self, now: Instant) {
        self.ledger.start_gathering(self.mono(now), self.source.settings.ack_wait + GATHER_MORE);
        self.look_anew(now);
    }

    /// Looks at once, whatever is under way: that was asked for too early and does not count.
    pub(super) fn look_anew(&mut self, now: Instant) {
        self.gathering += 1;
        self.looking = false;
        self.look_at = now;
    }

    pub(super) fn told_gathered(&self, ended: Gathered) {
        let durable = &self.source.lane.durable;
        match ended {
            Gathered::Whole => tracing::debug!(durable, "all that was pending is here"),
            Gathered::Overdue(missing) => tracing::warn!(
                durable,
                missing,
                "not all that was pending came back in time (deleted from the stream?): going on without"
            ),
        }
    }

    /// Asks for the consumer as the server sees it.
    pub(super) fn look(&mut self, now: Instant) {
        let Some(consumer) = &self.consumer else { return };
        self.looking = true;
        self.head = self.source.front.as_ref().map_or(0, |tie| tie.head.load(Ordering::Relaxed));
        let closely = self.ledger.gathers_until().is_some() || self.pulls.doubt.is_some();
        self.look_at = now + if closely { LOOK_CLOSELY } else { LOOK };
        let (stream, name) = (consumer.prepared.stream.clone(), consumer.prepared.info.name.clone());
        let (news, gathering) = (self.news.clone(), self.gathering);
        tokio::spawn(async move {
            let _ = news.send(match stream.consumer_info(&name).await {
                Ok(info) => News::Looked(gathering, Box::new(info)),
                Err(error) if setup::is_no_consumer(&error.kind()) => News::Gone,
                Err(error) => {
                    tracing::debug!("cannot look at the consumer: {error}");
                    News::LookFailed
                }
            });
        });
    }

    pub(super) fn looked(&mut self, gathering: u64, info: &consumer::Info, now: Instant) {
        self.looking = false;
        let known = self.consumer.as_ref().map(|consumer| &consumer.prepared.info);
        if self.source.lane.is_part && known.is_some_and(|known| known.created != info.created) {
            let _ = self.news.send(News::Stale);
            return;
        }
        self.floor = info.ack_floor.stream_sequence;
        self.ledger.floor(self.floor, self.mono(now));
        if gathering == self.gathering {
            self.ledger.pending(info.num_ack_pending, info.delivered.stream_sequence);
        }
        self.doubt_pin(info, now);
        let is_due = self.is_assigned || self.pulls.breaks >= BREAKS;
        if self.pulls.is_broken && is_due && gathering == self.gathering {
            self.ack_again(info);
            self.rescue(info);
        }
        self.note_progress(info, now);
        if !self.is_active() {
            return;
        }
        self.keep_limit(info);
        self.tell_lag(info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX));
    }

    /// Tells how many records wait. A driver that is busy gets the next one.
    pub(super) fn tell_lag(&mut self, records: u64) {
        if self.source.front.is_some() {
            return self.say(Word::Lag(records));
        }
        let source = self.source.id;
        if !self.outbox.iter().any(|arrival| matches!(arrival, Arrival::Lag { .. })) || records == 0 {
            self.outbox.push_back(Arrival::Lag { source, records });
        }
    }

    /// A server that was killed forgets acks, and would wait for `ack_wait` to say so: what is finished
    /// above its ack floor is acked again, newest first, so that gathering waits only for what is
    /// missing.
    fn ack_again(&mut self, info: &consumer::Info) {
        let finished = self.ledger.finished_above(self.floor).rev().take(MAX_HELD);
        let forgotten: Vec<(u64, i64)> = finished.collect();
        for (sequence, published) in forgotten {
            self.ack(sequence, pull::ack_subject(&info.stream_name, &info.name, sequence, published));
        }
    }

    /// Looks for what breaks the connection among what was delivered and is not here.
    fn rescue(&mut self, info: &consumer::Info) {
        self.pulls.is_broken = false;
        let Some(consumer) = &self.consumer else { return };
        let (first, last) = (info.ack_floor.stream_sequence + 1, info.delivered.stream_sequence);
        let (context, news) = (consumer.prepared.jetstream.clone(), self.news.clone());
        let (stream, durable) = (info.stream_name.clone(), info.name.clone());
        if let [subject] = &self.source.lane.subjects[..]
            && self.source.lane.is_part
        {
            // Most of the stream is other partitions'.
            if info.num_ack_pending <= self.ledger.held() {
                return;
            }
            let known = self.ledger.known(first);
            let subject = subject.clone();
            tokio::spawn(async move {
                let missing = rescue::missing(&context, &stream, &subject, first..=last, known).await;
                let _ = news.send(News::Rescued(rescue::rescue(&context, &stream, &durable, missing).await));
            });
            return;
        }
        let missing = (first..=last).rev().filter(|sequence| !self.ledger.knows(*sequence));
        let sequences = missing.take(rescue::MOST).collect();
        tokio::spawn(async move {
            let _ = news.send(News::Rescued(rescue::rescue(&context, &stream, &durable, sequences).await));
        });
    }

    pub(super) fn rescued(&mut self, rescued: Vec<Rescued>, now: Instant) {
        self.pulls.breaks = 0;
        if !rescued.is_empty() && !self.is_assigned {
            self.assign();
        }
        for message in rescued {
            tracing::warn!(
                sequence = message.delivery.sequence,
                "a message has headers that break the connection: it was read another way"
            );
            let (reply, delivery) = (message.reply.clone(), message.delivery);
            if !letter_stream::takes(&self.source.lane.subjects, &message.subject) {
                continue;
            }
            let (epoch, maker, marks) = (self.epoch, &self.maker, &mut self.marks);
            let taken = self.ledger.take(delivery, reply, |maybe_tried| {
                let record = maker.rescued(message, epoch, maybe_tried);
                if maker.is_part {
                    marks.arrived(delivery.sequence, record.origin.offset.cast_unsigned());
                }
                record
            });
            if taken != Arrived::New {
                tracing::debug!(sequence = delivery.sequence, "it came by itself meanwhile");
            }
        }
        // It is progress told for them that keeps the server from sending them: tell it at once.
        self.progress_at = now;
    }

    /// Without a pin: when another has had it for a moment, ours is lost.
    fn doubt_pin(&mut self, info: &consumer::Info, now: Instant) {
        let is_taken = info.priority_groups.iter().any(|group| group.pinned_client_id.is_some());
        if !self.is_assigned || !self.is_pinned() || self.pulls.pin.is_some() || !is_taken {
            self.pulls.doubt = None;
            return;
        }
        let since = *self.pulls.doubt.get_or_insert(now);
        self.look_at = self.look_at.min(now + LOOK_CLOSELY);
        if now.duration_since(since) >= PIN_DOUBT {
            self.lose("another replica reads now");
        }
    }

    /// The limit is ours to keep while we read: an earlier reader may have left it lowered.
    fn keep_limit(&self, info: &consumer::Info) {
        let held =
            if self.intake.parked { self.ledger.held().max(1) } else { self.source.limits.held_records };
        let wanted = i64::try_from(held).unwrap_or(i64::MAX);
        let found = info.config.max_ack_pending;
        if if self.intake.parked { found > wanted } else { found != wanted } {
            self.limit(held);
        }
    }

    /// Sets how many messages the server lets be held. A failure is made good at the next look.
    pub(super) fn limit(&self, held: usize) {
        let Some(consumer) = &self.consumer else { return };
        let (stream, name) = (consumer.prepared.stream.clone(), consumer.prepared.info.name.clone());
        tokio::spawn(async move {
            if let Err(why) = setup::limit(&stream, &name, held).await {
                tracing::warn!(held, "cannot set the consumer's max_ack_pending: {why}");
            }
        });
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.consumer.as_ref().is_some_and(|consumer| consumer.prepared.group.is_some())
    }

    /// Whether this replica is the one that reads.
    pub(super) fn is_active(&self) -> bool {
        self.is_assigned
    }

    pub(super) fn tell(&mut self, status: Status) {
        if self.source.front.is_some() {
            return self.say(Word::Status(status));
        }
        let source = self.source.id;
        self.outbox.retain(|arrival| !matches!(arrival, Arrival::Status { .. }));
        self.outbox.push_back(Arrival::Status { source, status });
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty() || (self.intake.is_wanted() && self.ledger.is_ready())
    }

    pub(super) fn outgoing(&mut self) -> Option<Arrival> {
        match self.outbox.pop_front() {
            Some(arrival) => Some(arrival),
            None => self.ledger.hand_on().map(Arrival::Record),
        }
    }
}
