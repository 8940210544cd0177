//! Dead-letter topics: slow, refusing, losing confirmations, and what they hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use roomcast::core::letter::{Letter, LetterId, Sealed};
use roomcast::core::model::BurialId;

use crate::faults::Fault;
use crate::spec::{EventNo, Source};
use crate::world::{Happening, ProcessNo, World, millis};

/// A letter on its way.
#[derive(Clone, Debug)]
pub struct Writing {
    pub id: LetterId,
    pub event: EventNo,
    pub rooms: Vec<Arc<str>>,
    /// The whole of it, where somebody may ask for it.
    pub sealed: Option<Arc<Sealed>>,
}

/// What happens with letters.
#[derive(Clone, Debug)]
pub enum Event {
    /// A letter reaches the broker.
    Write { process: ProcessNo, life: u32, burial: BurialId },
    /// Its confirmation reaches the process.
    Confirm { process: ProcessNo, life: u32, burial: BurialId },
    /// A letter of a dead process reaches the broker all the same.
    Orphan(Writing),
}

/// What both topics hold: on JetStream each id once.
#[derive(Debug, Default)]
pub struct Topics {
    /// Letters in Kafka's topic, repeats included.
    pub kafka: Vec<LetterId>,
    /// Letters in the stream.
    pub stream: BTreeSet<LetterId>,
    /// While they take nothing.
    pub refusing: Vec<(roomcast::core::time::Mono, roomcast::core::time::Mono)>,
}

impl World {
    /// A process wants a letter written.
    pub fn bury(&mut self, process: ProcessNo, burial: BurialId, letter: &Letter) {
        self.seen.letters += 1;
        let event = self.processes[process].events.get(&letter.record.id).copied();
        let event = event.expect("a letter is about a record that is held");
        let rooms: Vec<Arc<str>> = letter.rooms.iter().map(|room| room.0.clone()).collect();
        self.note(&|| format!("  p{process} buries {:?} of event {event} for {rooms:?}", letter.class));
        self.law_buries(event, &rooms);
        let sealed = self.seal(process, letter);
        let writing = Writing { id: letter.id(), event, rooms, sealed };
        self.processes[process].writing.insert(burial, writing);
        self.write(process, burial, 0);
    }

    fn write(&mut self, process: ProcessNo, burial: BurialId, wait_ms: u64) {
        let life = self.processes[process].life;
        let most = if self.faults_now(Fault::SlowLetters) { 5_000 } else { 20 };
        let wait = millis(wait_ms + self.rng.u64(1..=most));
        self.after(wait, Happening::Letter(Event::Write { process, life, burial }));
    }

    pub fn letter_happens(&mut self, event: Event) {
        match event {
            Event::Write { process, life, burial } => {
                if !self.is_living(process, life) {
                    return;
                }
                let refused =
                    self.letters.refusing.iter().any(|(from, to)| *from <= self.now && self.now < *to);
                if refused {
                    return self.write(process, burial, 250);
                }
                let writing = self.processes[process].writing.get(&burial).expect("it waits").clone();
                self.stored(&writing);
                if self.faults_now(Fault::LostConfirmation) && self.rng.u8(..6) == 0 {
                    return self.write(process, burial, 1_000);
                }
                self.soon(10, Happening::Letter(Event::Confirm { process, life, burial }));
            }
            Event::Confirm { process, life, burial } => {
                if !self.is_living(process, life) {
                    return;
                }
                self.processes[process].writing.remove(&burial);
                let now = self.now_of(process);
                self.processes[process].scheduler.handle_buried(burial, now);
            }
            Event::Orphan(writing) => self.stored(&writing),
        }
    }

    /// The broker has it.
    fn stored(&mut self, writing: &Writing) {
        match self.spec.events[writing.event].source {
            Source::Kafka | Source::Requests => self.letters.kafka.push(writing.id),
            Source::JetStream => drop(self.letters.stream.insert(writing.id)),
        }
        self.law_lettered(writing.id, writing.event, &writing.rooms);
        self.letter_is_known(writing);
    }

    /// Letters that a process was writing when it died arrive, or do not.
    pub fn orphan_letters(&mut self, process: ProcessNo) {
        for (_, writing) in std::mem::take(&mut self.processes[process].writing) {
            if self.rng.bool() {
                self.soon(200, Happening::Letter(Event::Orphan(writing)));
            }
        }
    }
}
