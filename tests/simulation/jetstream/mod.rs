//! A stream with one consumer on a JetStream server, and the client side of each process: the real
//! ledger, driven as the source's loop drives it. One process reads (it has the pin), others wait.

mod server;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use roomcast::core::ledger::{Arrived, Delivery, Gathered, Ledger};
use roomcast::core::model::{Epoch, PartitionId, RecordId};
use roomcast::core::time::Mono;

use crate::faults::Fault;
use crate::process::{record, source_id};
use crate::spec::{EventNo, Source};
use crate::world::{Happening, ProcessNo, World, millis};

/// How long a message may be held without a word.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// What the source waits beyond it for what is pending.
const GATHER_MORE: Duration = Duration::from_secs(5);
/// `priority_timeout`: the life of an unused pin.
const PIN: Duration = Duration::from_secs(20);
/// Acks that a killed server forgets.
const FORGOTTEN: Duration = Duration::from_millis(100);
/// The one partition.
const PARTITION: PartitionId = PartitionId(0);

/// The server's side.
#[derive(Debug, Default)]
pub struct Server {
    stream: BTreeMap<u64, (EventNo, i64)>,
    last: u64,
    published: i64,
    pub unpublished: VecDeque<EventNo>,
    consumer: Option<Consumer>,
    /// Which consumer of that name it is.
    generation: u32,
    holder: Option<(ProcessNo, u32)>,
    /// When the next delivery is planned.
    delivers_at: Option<Mono>,
}

#[derive(Debug)]
struct Consumer {
    /// The highest sequence delivered.
    delivered: u64,
    /// Deliveries so far.
    deliveries: u64,
    floor: u64,
    pending: BTreeMap<u64, Pending>,
    acked: BTreeSet<u64>,
    recent: VecDeque<(Mono, u64)>,
}

#[derive(Debug)]
struct Pending {
    deadline: Mono,
    count: i64,
}

/// Where an ack goes: the consumer, the sequence, and when the message was published.
type Reply = (u32, u64, i64);

/// The client's side in one process.
#[derive(Default)]
pub struct JetClient {
    ledger: Ledger<Reply>,
    epoch: Epochs,
    assigned: bool,
    /// Whether the scheduler wants more of it.
    is_open: bool,
    gathering: u64,
    broken: bool,
    floor: u64,
    progressing: bool,
    /// Acks on their way, in their order.
    acks: VecDeque<Reply>,
}

/// The epochs of one life.
#[derive(Default)]
struct Epochs(u32);

/// What happens there.
#[derive(Clone, Debug)]
pub enum Event {
    Publish,
    Deliver,
    Ack {
        process: ProcessNo,
        life: u32,
        reply: Reply,
    },
    AckAgain {
        process: ProcessNo,
        life: u32,
        reply: Reply,
    },
    Look {
        process: ProcessNo,
        life: u32,
        gathering: u64,
    },
    /// Time to look whether gathering is over.
    Turn,
    Progress {
        process: ProcessNo,
        life: u32,
    },
    Restart,
    Delete,
    Gone {
        process: ProcessNo,
        life: u32,
    },
    LoseTail,
    PinEnds {
        process: ProcessNo,
        life: u32,
    },
}

impl Consumer {
    fn new(start: u64) -> Self {
        Self {
            delivered: start - 1,
            deliveries: 0,
            floor: start - 1,
            pending: BTreeMap::new(),
            acked: BTreeSet::new(),
            recent: VecDeque::new(),
        }
    }
}

impl World {
    pub fn jet_happens(&mut self, event: &Event) {
        match *event {
            Event::Publish => self.jet_publish(),
            Event::Deliver => self.deliver(),
            Event::Ack { process, life, reply } => {
                if self.processes[process].life == life {
                    self.processes[process].jet.acks.retain(|other| *other != reply);
                }
                self.acked(reply);
            }
            Event::AckAgain { process, life, reply } if self.is_living(process, life) => {
                self.ack(process, reply);
            }
            Event::Look { process, life, gathering } if self.is_living(process, life) => {
                self.look(process, gathering);
            }
            Event::Progress { process, life } if self.is_living(process, life) => self.progress(process),
            Event::Restart => self.server_restarts(),
            Event::Delete => self.consumer_is_deleted(),
            Event::Gone { process, life } if self.is_living(process, life) => {
                self.consumer_is_made_anew(process);
            }
            Event::LoseTail => self.tail_is_lost(),
            Event::PinEnds { process, life } => self.pin_ends(process, life),
            Event::AckAgain { .. }
            | Event::Look { .. }
            | Event::Turn
            | Event::Progress { .. }
            | Event::Gone { .. } => {}
        }
    }

    pub fn jet_client_starts(&mut self, process: ProcessNo) {
        self.processes[process].jet.is_open = true;
        if let Some(consumer) = &self.jet.consumer {
            let pending = consumer.pending.len();
            self.processes[process].jet.ledger.begin(consumer.deliveries, consumer.delivered, pending);
        }
        self.find_holder();
    }

    /// Hands on what may be handed on, ends what is to be gathered, and asks for more.
    pub fn jet_acts(&mut self, process: ProcessNo) {
        let now = self.now;
        let client = &mut self.processes[process].jet;
        if let Some(ended) = client.ledger.end_gathering(now) {
            let missing = matches!(ended, Gathered::Overdue(_));
            self.note(&|| format!("  p{process} has gathered, overdue {missing}"));
        }
        self.hand_on(process);
        let life = self.processes[process].life;
        let wants = self.jet.holder == Some((process, life)) && self.wants_more(process);
        let Some(at) = self.has_to_deliver().filter(|_| wants) else { return };
        let at = at.max(now) + millis(self.rng.u64(1..10));
        if self.jet.delivers_at.is_none_or(|planned| planned > at + millis(10)) {
            self.jet.delivers_at = Some(at);
            self.plan(at, Happening::Jet(Event::Deliver));
        }
    }

    fn wants_more(&self, process: ProcessNo) -> bool {
        let of = &self.processes[process];
        let open = of.intake[Source::JetStream as usize] && of.jet.is_open;
        of.alive && !of.stopping && (open || of.jet.ledger.gathers_until().is_some())
    }

    fn arrives(&mut self, process: ProcessNo, delivery: Delivery, event: EventNo) {
        let follows = self.processes[process].jet.ledger.continues(delivery);
        if !self.processes[process].jet.assigned {
            let client = &mut self.processes[process].jet;
            client.epoch.0 += 1;
            client.assigned = true;
            let epoch = Epoch(client.epoch.0);
            client.ledger.taken_over(delivery);
            self.processes[process]
                .scheduler
                .handle_assigned(source_id(Source::JetStream), &[(PARTITION, epoch)]);
            self.drain(process);
        }
        if !self.processes[process].alive {
            return;
        }
        if !follows {
            self.gather(process);
        }
        let epoch = Epoch(self.processes[process].jet.epoch.0);
        let offset = delivery.sequence.cast_signed();
        let id = RecordId { source: source_id(Source::JetStream), partition: PARTITION, epoch, offset };
        let made = record(id, event, false, self);
        let reply = (self.jet.generation, delivery.sequence, delivery.published);
        let ledger = &mut self.processes[process].jet.ledger;
        let arrived =
            ledger.take(delivery, reply, |maybe_tried| roomcast::core::model::Record { maybe_tried, ..made });
        self.note(&|| format!("  p{process} {delivery:?} of event {event}: {arrived:?}"));
        match arrived {
            Arrived::New | Arrived::Held => {}
            Arrived::Finished => self.ack(process, reply),
            Arrived::Rewound => {
                self.jet_is_lost(process);
                self.processes[process].jet.ledger.forget();
            }
        }
        self.plan_progress(process);
    }

    fn hand_on(&mut self, process: ProcessNo) {
        loop {
            let of = &mut self.processes[process];
            let open = of.intake[Source::JetStream as usize] && of.jet.is_open;
            if !of.alive || of.stopping || !open {
                return;
            }
            let Some(record) = of.jet.ledger.hand_on() else { return };
            let event = usize::try_from(record.origin.offset).expect("an event's number");
            self.hand(process, event, record);
        }
    }

    fn gather(&mut self, process: ProcessNo) {
        self.seen.gatherings += 1;
        let now = self.now;
        let client = &mut self.processes[process].jet;
        client.ledger.start_gathering(now, ACK_WAIT + GATHER_MORE);
        let until = client.ledger.gathers_until().expect("it gathers");
        self.plan(until, Happening::Jet(Event::Turn));
        self.look_anew(process);
    }

    fn look_anew(&mut self, process: ProcessNo) {
        let of = &mut self.processes[process];
        of.jet.gathering += 1;
        let (life, gathering) = (of.life, of.jet.gathering);
        self.soon(20, Happening::Jet(Event::Look { process, life, gathering }));
    }

    fn look(&mut self, process: ProcessNo, gathering: u64) {
        let now = self.now;
        let of = &mut self.processes[process];
        if gathering != of.jet.gathering {
            return;
        }
        let Some(consumer) = &self.jet.consumer else { return };
        of.jet.floor = consumer.floor;
        of.jet.ledger.floor(consumer.floor, now);
        of.jet.ledger.pending(consumer.pending.len(), consumer.delivered);
        let life = of.life;
        let gathers = of.jet.ledger.gathers_until().is_some();
        if std::mem::take(&mut of.jet.broken) {
            let again: Vec<(u64, i64)> = of.jet.ledger.finished_above(consumer.floor).rev().collect();
            let generation = self.jet.generation;
            for (sequence, published) in again {
                self.ack(process, (generation, sequence, published));
            }
        }
        if gathers {
            self.after(millis(200), Happening::Jet(Event::Look { process, life, gathering }));
        }
    }

    /// A scheduler has settled a record.
    pub fn jet_settled(&mut self, process: ProcessNo, record: RecordId) {
        let now = self.now;
        let client = &mut self.processes[process].jet;
        if !client.assigned || record.epoch != Epoch(client.epoch.0) {
            return;
        }
        if let Some(reply) = client.ledger.settle(record.offset.cast_unsigned(), now) {
            self.ack(process, reply);
        }
    }

    fn ack(&mut self, process: ProcessNo, reply: Reply) {
        if self.faults_now(Fault::LostAck) && self.rng.u8(..8) == 0 {
            let life = self.processes[process].life;
            return self.after(millis(1_000), Happening::Jet(Event::AckAgain { process, life, reply }));
        }
        self.processes[process].jet.acks.push_back(reply);
        let life = self.processes[process].life;
        self.soon(20, Happening::Jet(Event::Ack { process, life, reply }));
    }

    fn plan_progress(&mut self, process: ProcessNo) {
        let of = &mut self.processes[process];
        if std::mem::replace(&mut of.jet.progressing, true) {
            return;
        }
        let life = of.life;
        self.after(ACK_WAIT / 3, Happening::Jet(Event::Progress { process, life }));
    }

    fn progress(&mut self, process: ProcessNo) {
        self.processes[process].jet.progressing = false;
        let lost = self.faults_now(Fault::ProgressLost) && self.rng.u8(..3) > 0;
        let (now, generation) = (self.now, self.jet.generation);
        let held: Vec<Reply> = self.processes[process].jet.ledger.replies().copied().collect();
        let any = !held.is_empty();
        if let Some(consumer) = self.jet.consumer.as_mut().filter(|_| !lost) {
            for (_, sequence, _) in held.into_iter().filter(|reply| reply.0 == generation) {
                if let Some(pending) = consumer.pending.get_mut(&sequence) {
                    pending.deadline = now + ACK_WAIT;
                }
            }
        }
        if any {
            self.plan_progress(process);
        }
    }

    fn jet_is_lost(&mut self, process: ProcessNo) {
        let client = &mut self.processes[process].jet;
        if !std::mem::take(&mut client.assigned) {
            return;
        }
        let epoch = Epoch(client.epoch.0);
        client.is_open = true;
        client.ledger.release();
        self.orphan_flights(process, Source::JetStream, PARTITION);
        let now = self.now_of(process);
        self.processes[process].scheduler.handle_lost(
            source_id(Source::JetStream),
            &[(PARTITION, epoch)],
            now,
        );
        self.forget(process, Source::JetStream, PARTITION, epoch);
        self.drain(process);
    }

    /// A scheduler wants more, or no more, of an assignment.
    pub fn jet_is_asked(&mut self, process: ProcessNo, epoch: Epoch, open: bool) {
        let client = &mut self.processes[process].jet;
        if epoch == Epoch(client.epoch.0) {
            client.is_open = open;
        }
    }

    /// The pin of a dead process lasts for a while.
    pub fn jet_client_dies(&mut self, process: ProcessNo) {
        let life = self.processes[process].life;
        if self.jet.consumer.is_none() && self.jet.holder == Some((process, life)) {
            self.consumer_is_made_anew(process);
        }
        self.after(PIN, Happening::Jet(Event::PinEnds { process, life }));
    }

    /// It gives back what it holds, and the pin.
    pub fn jet_client_leaves(&mut self, process: ProcessNo) {
        let (now, life) = (self.now, self.processes[process].life);
        if self.jet.consumer.is_none() && self.jet.holder == Some((process, life)) {
            self.consumer_is_made_anew(process);
        }
        // On one connection nothing overtakes: what it said before is done before.
        while let Some(reply) = self.processes[process].jet.acks.pop_front() {
            self.acked(reply);
        }
        let held: Vec<Reply> = self.processes[process].jet.ledger.replies().copied().collect();
        let generation = self.jet.generation;
        if let Some(consumer) = self.jet.consumer.as_mut() {
            for (_, sequence, _) in held.into_iter().filter(|reply| reply.0 == generation) {
                if let Some(pending) = consumer.pending.get_mut(&sequence) {
                    pending.deadline = now;
                }
            }
        }
        self.processes[process].alive = false;
        self.pin_ends(process, life);
    }
}
