//! What one JetStream consumer holds, in which order it may be handed on, and what is finished.
//!
//! The server redelivers in no order and forgets acks when it is killed; this is where order (P2)
//! and once-ness are made good again. Its one idea is **gathering**: whenever deliveries may have
//! gone elsewhere (a start, a takeover, a connection that broke), nothing is handed on until every
//! message the server counts as pending is here, or `ack_wait` and a little has passed; then all is
//! handed on by sequence. Such a moment shows without trust in any event: each delivery of a
//! consumer has a number one higher than the last, so a missing number is a delivery that went
//! elsewhere. The NATS source drives it.

#[cfg(test)]
mod detail_tests;
mod finished;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::finished::Finished;
use super::model::Record;
use super::time::Mono;

/// What the broker tells of one delivery of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The message's place in the stream.
    pub sequence: u64,
    /// The delivery's place among the consumer's: one more for each, redeliveries included.
    pub consumer_sequence: u64,
    /// Which delivery of this message it is, from 1.
    pub count: i64,
    /// When it was published, in nanoseconds since 1970.
    pub published: i64,
}

/// The state of one consumer in this process. `Reply` is where the ack of a delivery goes.
#[derive(Debug)]
pub struct Ledger<Reply> {
    held: BTreeMap<u64, Held<Reply>>,
    /// Of those held, what was not handed on yet.
    waiting: BTreeMap<u64, Record>,
    finished: Finished,
    /// The number that the next delivery has when nothing goes elsewhere.
    next: Option<u64>,
    /// Sequences up to here may have been tried, whatever their count of deliveries says.
    tried: u64,
    /// The highest sequence that was ever delivered to this process.
    highest: u64,
    gather: Option<Gather>,
    bytes: usize,
    /// The weight of a big record: the largest lately, forgotten slowly.
    big: usize,
}

#[derive(Debug)]
struct Held<Reply> {
    /// Where the latest delivery is acked to.
    reply: Reply,
    published: i64,
    weight: usize,
}

#[derive(Debug)]
struct Gather {
    until: Mono,
    /// Of the latest answer of the server.
    missing: Option<Missing>,
}

#[derive(Debug)]
struct Missing {
    count: usize,
    /// The highest sequence delivered to anybody.
    delivered: u64,
}

/// What a delivery turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A message that is now held and waits to be handed on.
    New,
    /// One that is held already: its ack now goes to the later delivery.
    Held,
    /// One that is finished: it is to be acked again.
    Finished,
    /// Another message than the one held under this sequence: the stream went back and began anew.
    Rewound,
}

/// How a gathering ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// All that was pending is here.
    Whole,
    /// The time was over with that many missing (`None`: the server never answered).
    Overdue(Option<usize>),
}

impl<Reply> Default for Ledger<Reply> {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            finished: Finished::default(),
            next: None,
            tried: 0,
            highest: 0,
            gather: None,
            bytes: 0,
            big: 0,
        }
    }
}

impl<Reply> Ledger<Reply> {
    /// The consumer as it stands before the first pull: how many it delivered, up to which sequence
    /// of the stream, and how many of them are pending.
    pub fn begin(&mut self, deliveries: u64, delivered: u64, pending: usize) {
        self.tried = self.tried.max(delivered);
        // With something pending, the first delivery is a gap by definition.
        self.next = (pending == 0).then(|| deliveries.saturating_add(1));
    }

    /// Takes note of a delivery's number: false when it is not the one after the last.
    pub fn continues(&mut self, delivery: Delivery) -> bool {
        self.next.replace(delivery.consumer_sequence.saturating_add(1)) == Some(delivery.consumer_sequence)
    }

    /// Says that others may have had messages before this one, the first of ours.
    pub fn taken_over(&mut self, delivery: Delivery) {
        if delivery.count <= 1 {
            self.tried = self.tried.max(delivery.sequence.saturating_sub(1));
        }
    }

    /// Takes a delivery in; `make` turns it into a record that is (or is not) maybe tried.
    pub fn take(&mut self, delivery: Delivery, reply: Reply, make: impl FnOnce(bool) -> Record) -> Arrived {
        let sequence = delivery.sequence;
        self.highest = self.highest.max(sequence);
        if let Some(held) = self.held.get_mut(&sequence) {
            if held.published != delivery.published {
                return Arrived::Rewound;
            }
            held.reply = reply;
            return Arrived::Held;
        }
        if self.finished.contains(sequence, delivery.published) {
            return Arrived::Finished;
        }
        let record = make(delivery.count > 1 || sequence <= self.tried);
        let weight = record.weight();
        self.bytes += weight;
        self.big = weight.max(self.big - self.big / 64);
        self.held.insert(sequence, Held { reply, published: delivery.published, weight });
        self.waiting.insert(sequence, record);
        if let Some(missing) = self.gather.as_mut().and_then(|gather| gather.missing.as_mut())
            && sequence <= missing.delivered
        {
            missing.count = missing.count.saturating_sub(1);
        }
        Arrived::New
    }

    /// The next record to hand on; `None` while gathering.
    pub fn hand_on(&mut self) -> Option<Record> {
        if self.gather.is_some() {
            return None;
        }
        self.waiting.pop_first().map(|(_, record)| record)
    }

    /// Whether [`Ledger::hand_on`] would give a record.
    pub fn is_ready(&self) -> bool {
        self.gather.is_none() && !self.waiting.is_empty()
    }

    /// Finishes a record that was handed on: where its ack goes, `None` when it is not held.
    pub fn settle(&mut self, sequence: u64, now: Mono) -> Option<Reply> {
        if self.waiting.contains_key(&sequence) {
            return None;
        }
        let held = self.held.remove(&sequence)?;
        self.bytes = self.bytes.saturating_sub(held.weight);
        self.finished.insert(sequence, held.published, now);
        Some(held.reply)
    }

    /// Starts to gather, for at most `longest`; goes on when it does already.
    pub fn start_gathering(&mut self, now: Mono, longest: Duration) {
        self.gather.get_or_insert(Gather { until: now + longest, missing: None }).missing = None;
    }

    /// The server's count of what is pending, and the highest sequence it delivered: what is not
    /// here of it is missing.
    pub fn pending(&mut self, pending: usize, delivered: u64) {
        let here = self.held.range(..=delivered).count();
        if let Some(gather) = &mut self.gather {
            gather.missing = Some(Missing { count: pending.saturating_sub(here), delivered });
        }
    }

    /// Ends the gathering when it is time.
    pub fn end_gathering(&mut self, now: Mono) -> Option<Gathered> {
        let gather = self.gather.as_ref()?;
        let missing = gather.missing.as_ref().map(|missing| missing.count);
        let ended = match missing {
            Some(0) => Gathered::Whole,
            _ if now >= gather.until => Gathered::Overdue(missing),
            _ => return None,
        };
        self.gather = None;
        Some(ended)
    }

    /// Until when it gathers at most, while it does.
    pub fn gathers_until(&self) -> Option<Mono> {
        self.gather.as_ref().map(|gather| gather.until)
    }

    /// Takes note of the server's ack floor.
    pub fn floor(&mut self, sequence: u64, now: Mono) {
        self.finished.floor(sequence, now);
    }

    /// The consumer was deleted and is made anew: it counts deliveries from one again, so that its counts
    /// do not tell any more what was tried, and it delivers what was not handed on once more, after what
    /// lies before it.
    pub fn consumer_gone(&mut self) {
        self.tried = self.highest;
        for sequence in std::mem::take(&mut self.waiting).into_keys() {
            if let Some(held) = self.held.remove(&sequence) {
                self.bytes = self.bytes.saturating_sub(held.weight);
            }
        }
    }

    /// Lets go of everything held: it is another's now. What is finished stays known.
    pub fn release(&mut self) {
        self.held.clear();
        self.waiting.clear();
        self.gather = None;
        self.next = None;
        self.bytes = 0;
    }

    /// Forgets everything: the stream is another one under the same name, or lost its tail. What lies
    /// below counts as tried, because what was finished is forgotten too.
    pub fn forget(&mut self) {
        self.release();
        self.finished.clear();
        self.tried = self.highest;
    }

    /// Where acks of all that is held go, oldest first.
    pub fn replies(&self) -> impl DoubleEndedIterator<Item = &Reply> {
        self.held.values().map(|held| &held.reply)
    }

    /// What is finished above a sequence, with when each was published.
    pub fn finished_above(&self, floor: u64) -> impl DoubleEndedIterator<Item = (u64, i64)> {
        self.finished.above(floor)
    }

    /// Whether a message of that sequence is held or finished.
    pub fn knows(&self, sequence: u64) -> bool {
        self.held.contains_key(&sequence) || self.finished.has(sequence)
    }

    /// The sequences from one on that are held or finished.
    pub fn known(&self, from: u64) -> BTreeSet<u64> {
        let held = self.held.range(from..).map(|(sequence, _)| *sequence);
        held.chain(self.finished.above(from.saturating_sub(1)).map(|(sequence, _)| sequence)).collect()
    }

    /// The lowest sequence held.
    pub fn lowest(&self) -> Option<u64> {
        self.held.first_key_value().map(|(sequence, _)| *sequence)
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Bytes of what is held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a big record weighed lately, in bytes; 0 before the first.
    pub fn big(&self) -> usize {
        self.big
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::model::{Epoch, Origin, PartitionId, RecordId, SourceId};
    use crate::core::time::Wall;

    pub(super) fn delivery(sequence: u64, consumer_sequence: u64, count: i64) -> Delivery {
        Delivery { sequence, consumer_sequence, count, published: sequence.cast_signed() * 1_000 }
    }

    pub(super) fn record(sequence: u64, maybe_tried: bool) -> Record {
        let name: Arc<str> = Arc::from("S");
        let offset = sequence.cast_signed();
        Record {
            id: RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(1), offset },
            origin: Origin { stream: name.clone(), topic: name, partition: 0, offset },
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: Wall(0),
            maybe_tried,
        }
    }

    pub(super) fn take(ledger: &mut Ledger<String>, delivery: Delivery) -> Arrived {
        let reply = format!("ack.{}.{}", delivery.sequence, delivery.count);
        ledger.take(delivery, reply, |tried| record(delivery.sequence, tried))
    }

    pub(super) fn drain(ledger: &mut Ledger<String>) -> Vec<(i64, bool)> {
        std::iter::from_fn(|| ledger.hand_on()).map(|r| (r.id.offset, r.maybe_tried)).collect()
    }

    #[test]
    fn a_held_message_arrives_once_and_is_acked_where_it_came_last() {
        let mut ledger = Ledger::<String>::default();
        let now = Mono(0);
        assert_eq!(take(&mut ledger, delivery(1, 1, 1)), Arrived::New);
        assert_eq!(ledger.settle(1, now), None, "what was not handed on cannot be settled");
        assert_eq!(drain(&mut ledger), [(1, false)]);
        assert_eq!(take(&mut ledger, delivery(1, 2, 2)), Arrived::Held);
        assert_eq!(drain(&mut ledger), []);
        assert_eq!(ledger.settle(1, now), Some("ack.1.2".to_owned()));
        assert_eq!(take(&mut ledger, delivery(1, 3, 3)), Arrived::Finished);
        assert_eq!((ledger.held(), ledger.bytes()), (0, 0));
    }

    #[test]
    fn another_message_under_a_held_sequence_is_a_rewound_stream() {
        let mut ledger = Ledger::<String>::default();
        take(&mut ledger, delivery(1, 1, 1));
        let other = Delivery { published: 77, ..delivery(1, 2, 1) };
        assert_eq!(take(&mut ledger, other), Arrived::Rewound);
    }

    #[test]
    fn a_finished_sequence_with_another_message_arrives() {
        let mut ledger = Ledger::<String>::default();
        take(&mut ledger, delivery(1, 1, 1));
        drain(&mut ledger);
        ledger.settle(1, Mono(0));
        assert_eq!(take(&mut ledger, Delivery { published: 77, ..delivery(1, 2, 1) }), Arrived::New);
    }

    #[test]
    fn a_missing_delivery_shows() {
        let mut ledger = Ledger::<String>::default();
        ledger.begin(10, 10, 0);
        assert!(ledger.continues(delivery(11, 11, 1)));
        assert!(ledger.continues(delivery(12, 12, 1)));
        assert!(!ledger.continues(delivery(14, 14, 1)));
        assert!(ledger.continues(delivery(15, 15, 1)));
        assert!(!ledger.continues(delivery(12, 13, 2)), "a server that went back");
        ledger.begin(20, 20, 3);
        assert!(!ledger.continues(delivery(21, 21, 1)), "something is pending");
    }

    #[test]
    fn nothing_is_handed_on_before_all_that_was_pending_is_back() {
        let mut ledger = Ledger::<String>::default();
        let now = Mono(0);
        let longest = Duration::from_secs(15);
        ledger.begin(5, 5, 3);
        ledger.start_gathering(now, longest);
        take(&mut ledger, delivery(6, 6, 1));
        ledger.pending(4, 6);
        assert_eq!(ledger.end_gathering(now), None);
        take(&mut ledger, delivery(4, 7, 2));
        take(&mut ledger, delivery(2, 8, 2));
        assert_eq!((ledger.end_gathering(now), ledger.is_ready()), (None, false));
        take(&mut ledger, delivery(3, 9, 2));
        assert_eq!(ledger.end_gathering(now), Some(Gathered::Whole));
        assert_eq!(drain(&mut ledger), [(2, true), (3, true), (4, true), (6, false)]);
    }

    #[test]
    fn what_was_delivered_before_the_start_counts_as_maybe_tried() {
        let mut ledger = Ledger::<String>::default();
        ledger.begin(5, 5, 0);
        take(&mut ledger, delivery(5, 6, 1));
        take(&mut ledger, delivery(6, 7, 1));
        assert_eq!(drain(&mut ledger), [(5, true), (6, false)]);
        ledger.taken_over(delivery(9, 8, 1));
        take(&mut ledger, delivery(8, 9, 1));
        take(&mut ledger, delivery(9, 8, 1));
        assert_eq!(drain(&mut ledger), [(8, true), (9, false)]);
    }

    #[test]
    fn gathering_ends_in_time_whatever_is_missing() {
        let mut ledger = Ledger::<String>::default();
        let now = Mono(0);
        ledger.start_gathering(now, Duration::from_secs(15));
        take(&mut ledger, delivery(8, 1, 1));
        ledger.pending(3, 8);
        ledger.start_gathering(now + Duration::from_secs(10), Duration::from_secs(15));
        ledger.pending(3, 8);
        assert_eq!(ledger.end_gathering(now + Duration::from_secs(14)), None);
        let ended = ledger.end_gathering(now + Duration::from_secs(15));
        assert_eq!(ended, Some(Gathered::Overdue(Some(2))));
        assert_eq!(drain(&mut ledger), [(8, false)]);
    }

    #[test]
    fn what_is_held_counts_as_here() {
        let mut ledger = Ledger::<String>::default();
        let now = Mono(0);
        take(&mut ledger, delivery(1, 1, 1));
        drain(&mut ledger);
        ledger.start_gathering(now, Duration::from_secs(15));
        ledger.pending(1, 1);
        assert_eq!(ledger.end_gathering(now), Some(Gathered::Whole));
    }

    #[test]
    fn p2_what_waits_when_the_consumer_is_made_anew_comes_again_in_its_turn() {
        let mut ledger = Ledger::<String>::default();
        take(&mut ledger, delivery(1, 1, 1));
        drain(&mut ledger);
        ledger.start_gathering(Mono(0), Duration::from_secs(15));
        take(&mut ledger, delivery(3, 3, 1));
        ledger.consumer_gone();
        assert_eq!((ledger.held(), ledger.lowest()), (1, Some(1)));
        ledger.begin(0, 0, 0);
        ledger.pending(0, 0);
        assert_eq!(ledger.end_gathering(Mono(0)), Some(Gathered::Whole));
        assert_eq!(take(&mut ledger, delivery(1, 1, 1)), Arrived::Held);
        take(&mut ledger, delivery(2, 2, 1));
        take(&mut ledger, delivery(3, 3, 1));
        take(&mut ledger, delivery(4, 4, 1));
        assert_eq!(drain(&mut ledger), [(2, true), (3, true), (4, false)]);
    }
}
