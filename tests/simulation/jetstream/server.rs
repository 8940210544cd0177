//! What the server does: it delivers and redelivers, takes acks and forgets some, loses its consumer or
//! the stream's tail, and lets one process read.

use roomcast::core::ledger::Delivery;
use roomcast::core::time::Mono;

use super::{ACK_WAIT, Consumer, Event, FORGOTTEN, Pending, Reply};
use crate::spec::Source;
use crate::world::{Happening, ProcessNo, World};

impl World {
    pub(super) fn jet_publish(&mut self) {
        let Some(event) = self.jet.unpublished.pop_front() else { return };
        self.jet.last += 1;
        self.jet.published += 1_000_000;
        self.jet.stream.insert(self.jet.last, (event, self.jet.published));
        self.published_by = self.now;
        if !self.jet.unpublished.is_empty() {
            self.soon(400, Happening::Jet(Event::Publish));
        }
    }

    /// Makes the consumer, which has never existed before.
    pub fn make_consumer(&mut self) {
        self.jet.consumer = Some(Consumer::new(1));
        self.jet.generation = 1;
    }

    pub(super) fn find_holder(&mut self) {
        if self.jet.holder.is_some() {
            return;
        }
        let ready = |process: &&ProcessNo| {
            let of = &self.processes[**process];
            of.alive && !of.stopping
        };
        let all: Vec<ProcessNo> = (0..self.processes.len()).collect();
        let found = all.iter().find(ready).copied();
        if let Some(process) = found {
            self.jet.holder = Some((process, self.processes[process].life));
            self.note(&|| format!("  p{process} reads the stream"));
        }
    }

    /// When there is something to deliver: new, or not acked in time.
    pub(super) fn has_to_deliver(&self) -> Option<Mono> {
        let consumer = self.jet.consumer.as_ref()?;
        let redelivery = consumer.pending.values().map(|pending| pending.deadline).min();
        let limit = self.held_limit[Source::JetStream as usize];
        let fresh = consumer.pending.len() < limit
            && self.jet.stream.range(consumer.delivered + 1..).next().is_some();
        if fresh { Some(self.now) } else { redelivery }
    }

    pub(super) fn deliver(&mut self) {
        if self.jet.delivers_at.is_some_and(|at| at <= self.now) {
            self.jet.delivers_at = None;
        }
        let Some((process, life)) = self.jet.holder else { return };
        if !self.is_living(process, life) || !self.wants_more(process) {
            return;
        }
        let (now, limit) = (self.now, self.held_limit[Source::JetStream as usize]);
        let Some(consumer) = self.jet.consumer.as_mut() else { return };
        let late: Vec<u64> = consumer
            .pending
            .iter()
            .filter(|(_, pending)| pending.deadline <= now)
            .map(|(sequence, _)| *sequence)
            .collect();
        let sequence = if late.is_empty() {
            let next = self.jet.stream.range(consumer.delivered + 1..).next();
            let Some((&sequence, _)) = next.filter(|_| consumer.pending.len() < limit) else { return };
            consumer.delivered = sequence;
            sequence
        } else {
            self.seen.redeliveries += 1;
            // The server redelivers in no order.
            late[self.rng.usize(..late.len())]
        };
        consumer.deliveries += 1;
        let pending = consumer.pending.entry(sequence).or_insert(Pending { deadline: now, count: 0 });
        pending.deadline = now + ACK_WAIT;
        pending.count += 1;
        let Some(&(event, published)) = self.jet.stream.get(&sequence) else {
            consumer.pending.remove(&sequence);
            return;
        };
        let delivery =
            Delivery { sequence, consumer_sequence: consumer.deliveries, count: pending.count, published };
        self.arrives(process, delivery, event);
    }

    pub(super) fn acked(&mut self, (generation, sequence, published): Reply) {
        let now = self.now;
        if generation != self.jet.generation {
            return;
        }
        let Some(&(event, of)) = self.jet.stream.get(&sequence) else { return };
        if of != published {
            return;
        }
        self.law_forgotten(event, "acked");
        let Some(consumer) = self.jet.consumer.as_mut() else { return };
        consumer.pending.remove(&sequence);
        if sequence > consumer.delivered || !consumer.acked.insert(sequence) {
            return;
        }
        consumer.recent.push_back((now, sequence));
        while consumer.recent.front().is_some_and(|(at, _)| now.since(*at) > FORGOTTEN) {
            consumer.recent.pop_front();
        }
        while consumer.acked.contains(&(consumer.floor + 1)) {
            consumer.floor += 1;
        }
    }

    pub(super) fn server_restarts(&mut self) {
        let now = self.now;
        let Some(consumer) = self.jet.consumer.as_mut() else { return };
        for (at, sequence) in std::mem::take(&mut consumer.recent) {
            if now.since(at) <= FORGOTTEN && consumer.acked.remove(&sequence) {
                consumer.floor = consumer.floor.min(sequence - 1);
                consumer.pending.insert(sequence, Pending { deadline: now + ACK_WAIT, count: 1 });
            }
        }
        let floor = consumer.floor;
        self.note(&|| format!("  the server is back, its ack floor at {floor}"));
        for process in 0..self.processes.len() {
            let of = &mut self.processes[process];
            if !of.alive {
                continue;
            }
            of.jet.broken = true;
            match of.jet.assigned {
                true => self.gather(process),
                false => self.look_anew(process),
            }
        }
    }

    pub(super) fn consumer_is_deleted(&mut self) {
        let Some((process, life)) = self.jet.holder.filter(|(process, life)| self.is_living(*process, *life))
        else {
            return;
        };
        self.jet.consumer = None;
        self.soon(500, Happening::Jet(Event::Gone { process, life }));
    }

    pub(super) fn consumer_is_made_anew(&mut self, process: ProcessNo) {
        if self.jet.consumer.is_some() {
            return;
        }
        self.seen.consumers_made_anew += 1;
        let client = &mut self.processes[process].jet;
        client.ledger.consumer_gone();
        let start = client.floor + 1;
        let start = client.ledger.lowest().map_or(start, |lowest| lowest.min(start));
        self.jet.consumer = Some(Consumer::new(start));
        self.jet.generation += 1;
        client.ledger.begin(0, start - 1, 0);
        let assigned = client.assigned;
        self.note(&|| format!("  the consumer is made anew at {start}"));
        match assigned {
            true => self.gather(process),
            false => self.look_anew(process),
        }
    }

    pub(super) fn tail_is_lost(&mut self) {
        let keep = self.jet.last.saturating_sub(self.rng.u64(1..4));
        let Some(consumer) = self.jet.consumer.as_mut() else { return };
        if keep < consumer.floor || self.jet.unpublished.is_empty() {
            return;
        }
        self.seen.tails_lost += 1;
        for (_, (event, _)) in self.jet.stream.split_off(&(keep + 1)) {
            self.laws.courses[event].vanished = true;
        }
        self.jet.last = keep;
        consumer.delivered = consumer.delivered.min(keep);
        consumer.pending.split_off(&(keep + 1));
        consumer.acked.split_off(&(keep + 1));
        consumer.recent.retain(|(_, sequence)| *sequence <= keep);
        consumer.floor = consumer.floor.min(keep);
    }

    pub(super) fn pin_ends(&mut self, process: ProcessNo, life: u32) {
        if self.jet.holder == Some((process, life)) {
            self.jet.holder = None;
        }
        self.find_holder();
    }

    /// Everything published is acked.
    pub fn jet_is_over(&self) -> bool {
        let Some(consumer) = &self.jet.consumer else { return false };
        self.jet.unpublished.is_empty() && consumer.pending.is_empty() && consumer.delivered >= self.jet.last
    }

    pub fn jet_left(&self) -> String {
        let consumer = self.jet.consumer.as_ref();
        let told = consumer.map(|consumer| (consumer.delivered, consumer.floor, consumer.pending.len()));
        format!("stream at {}, consumer {told:?}, read by {:?}", self.jet.last, self.jet.holder)
    }
}
