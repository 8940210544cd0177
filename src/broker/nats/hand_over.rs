//! A partition changes its reader: taken, left, and given up in an order that keeps rooms in order.
//!
//! What is given up goes through four steps: nothing more is handed on, the driver's calls away are
//! waited for, and a second of every room's pace, what is not finished is given back newest first, and
//! then the pin. The loop goes on polling meanwhile, or the pin would move on by itself, while calls are
//! away. The part of [`super::source`] for partitions and for requests that are read where their source is.

use std::time::{Duration, Instant};

use async_nats::Subject;
use async_nats::jetstream::consumer;

use super::source::Loop;
use super::stop::give_back;
use super::words::{News, Order, Word};
use crate::broker::Arrival;
use crate::core::model::Epoch;

/// How often what is finished is deleted from the parts stream. What is deleted was finished for as
/// long: a server that is killed may forget younger acks, and would wait for what is not there.
const TRIM: Duration = Duration::from_secs(10);

impl Loop {
    /// Says something to the front, where there is one.
    pub(super) fn say(&self, word: Word) {
        if let Some(tie) = &self.source.front {
            // A front that is gone takes its loops along.
            let _ = tie.words.send((self.source.lane.partition.0, word));
        }
    }

    /// Whether it asks for messages: it should, or it reads.
    pub(super) fn asks(&self) -> bool {
        self.is_wanted || self.is_assigned
    }

    pub(super) fn follow(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Take => {
                let asked = self.asks();
                self.is_wanted = true;
                // Nobody looked meanwhile: others may have made the stream anew.
                if !asked && self.consumer.is_some() {
                    let _ = self.news.send(News::Stale);
                }
            }
            // What was asked for runs out by itself within the 5 s of a pull.
            Order::Leave => self.is_wanted = false,
            Order::GiveUp => self.give_up(now),
        }
    }

    pub(super) fn give_up(&mut self, now: Instant) {
        self.is_wanted = false;
        if !self.is_assigned || std::mem::replace(&mut self.is_leaving, true) {
            return;
        }
        tracing::info!(durable = self.source.lane.durable, "it is another replica's: giving it up");
        self.intake.leave(now);
        let source = self.source.id;
        let partitions = vec![(self.source.lane.partition, self.epoch)];
        self.outbox.push_back(Arrival::Revoking { source, partitions });
    }

    /// The driver has no call away any more: the partition goes to whoever asks for it.
    pub(super) fn released(&mut self, epoch: Epoch) {
        if !self.is_leaving || !self.is_assigned || epoch != self.epoch {
            return;
        }
        // Nothing may be redelivered to this inbox again: the naks below would come straight back.
        self.pulls.inbox = None;
        self.pulls.outstanding = 0;
        self.pulls.last_item = None;
        self.is_assigned = false;
        let held: Vec<Subject> = self.ledger.replies().rev().cloned().collect();
        let (given_back, rested_at) = (held.len(), self.rested_at());
        tracing::info!(durable = self.source.lane.durable, given_back, "it is given up");
        // Without a connection the pin runs out by itself, and naks would come when others read.
        if let Some(consumer) = self.consumer.as_ref().filter(|_| self.link_is_up()) {
            let (client, stream) = (consumer.prepared.client.clone(), consumer.prepared.stream.clone());
            let (name, group) = (consumer.prepared.info.name.clone(), consumer.prepared.group.clone());
            let pin = self.pulls.pin.is_some().then_some(group).flatten();
            tokio::spawn(async move {
                tokio::time::sleep_until(rested_at.into()).await;
                give_back(&client, &stream, &name, held, pin.as_deref()).await;
            });
        }
        self.forget_reading();
        if self.is_wanted {
            self.subscribe();
        }
    }

    /// What was read is another's.
    pub(super) fn forget_reading(&mut self) {
        self.ledger.release();
        self.marks.release();
        self.pulls.pin = None;
        self.pulls.doubt = None;
        self.intake.parked = false;
        self.is_leaving = false;
        self.tell_lag(0);
        self.say(Word::Reads(false));
    }

    /// Notes how far the partition is finished, and deletes what was finished a while ago.
    pub(super) fn note_progress(&mut self, info: &consumer::Info, now: Instant) {
        let nothing_waits = info.num_pending == 0 && info.num_ack_pending == 0;
        let is_whole = self.ledger.gathers_until().is_none()
            && info.num_ack_pending <= self.ledger.held() + self.acking
            && (self.is_assigned || nothing_waits);
        let Some(consumer) = self.consumer.as_ref().filter(|_| self.source.lane.is_part && is_whole) else {
            return;
        };
        let stream = consumer.prepared.stream.clone();
        let generation = consumer.prepared.parts.as_ref().map(|parts| parts.generation.clone());
        self.say_finished(&generation.unwrap_or_default(), nothing_waits.then_some(self.head));
        let (at, floor) = self.trim;
        if now < at {
            return;
        }
        self.trim = (now + TRIM, self.floor);
        let subject = self.source.lane.subjects[0].clone();
        if floor > 1 {
            tokio::spawn(async move {
                // Up to the floor, but not the message there: the server reads in the last one of the
                // stream where its copying stands.
                if let Err(error) = stream.purge().filter(&subject).sequence(floor).await {
                    tracing::warn!(
                        subject,
                        "what is finished cannot be deleted from the parts stream: {error}"
                    );
                }
            });
        }
    }

    /// Says how far the partition is finished, when that is further than it was; `head` as
    /// [`Progress::further`](super::marks::Progress::further) has it.
    pub(super) fn say_finished(&mut self, generation: &str, head: Option<u64>) {
        if let Some(finished) = self.marks.further(head) {
            self.say(Word::Finished(generation.to_owned(), finished));
        }
    }
}
