//! People who find letters: they ask for some of them, two for the same one, or discard them first.

use roomcast::core::letter::{Letter, LetterId, Names, Sealed};
use roomcast::core::model::Priority;
use roomcast::core::replay::{Asked, Content, Row, State};

use std::sync::Arc;

use super::{Event, Known, Request};
use crate::laws::{Course, Fate};
use crate::letters::Writing;
use crate::process::source_id;
use crate::spec::{self, EventNo, Message, Source};
use crate::world::{Happening, ProcessNo, World, millis};

impl World {
    /// A letter as it is written, where somebody may ask for it.
    pub fn seal(&mut self, process: ProcessNo, letter: &Letter) -> Option<Arc<Sealed>> {
        if !self.replays.are_on {
            return None;
        }
        if letter.record.id.source == source_id(Source::Requests) {
            self.processes[process].desk.book.failed(letter);
        }
        let names = Names {
            sources: ["kafka", "jetstream", "requests"].map(Arc::from).to_vec(),
            accounts: ["a", "b", "c"].map(Arc::from).to_vec(),
            routes: vec!["r".into()],
        };
        Some(Arc::new(letter.seal(&names, self.wall_of(process))))
    }

    /// A letter stands in its topic: some people read those.
    pub fn letter_is_known(&mut self, writing: &Writing) {
        let Some(sealed) = writing.sealed.clone().filter(|_| !self.replays.letters.contains_key(&writing.id))
        else {
            return;
        };
        let before = self.request_of(writing.event).map(|letter| &self.replays.letters[&letter]);
        let known = Known {
            sealed,
            event: writing.event,
            messages: self.owed(writing.event, &writing.rooms),
            first: before.map_or(writing.id, |before| before.first),
            replays: before.map_or(0, |before| before.replays + 1),
            is_truncated: self.replays.rng.u8(..20) == 0,
        };
        self.law_linked(&known);
        let replays = known.replays;
        self.seen.letters_of_letters += u64::from(replays > 0);
        self.replays.letters.insert(writing.id, known);
        // Who parks a letter looks at it once more at most.
        if self.replays.left == 0 || replays > self.replays.max_replays + 1 || self.replays.rng.u8(..5) < 2 {
            return;
        }
        let rng = &mut self.replays.rng;
        let at = match rng.u8(..5) {
            0 | 1 => self.now + millis(rng.u64(1..2_000)),
            2 | 3 => self.now + millis(rng.u64(1..30_000)),
            // When everything is well again.
            _ => self.now.max(self.faults_end) + millis(rng.u64(1..20_000)),
        };
        let again = (rng.u8(..3) == 0).then(|| at + millis(rng.u64(..5_000)));
        let discarded = (rng.u8(..8) == 0).then(|| at + millis(rng.u64(..1_000)));
        self.plan_ask(writing.id, "ann", at);
        if let Some(at) = again {
            self.plan_ask(writing.id, "bob", at);
        }
        if let Some(at) = discarded {
            self.plan(at, Happening::Replay(Event::Discard(writing.id)));
        }
    }

    fn plan_ask(&mut self, letter: LetterId, by: &'static str, at: roomcast::core::time::Mono) {
        if let Some(left) = self.replays.left.checked_sub(1) {
            self.replays.left = left;
            self.replays.planned += 1;
            self.plan(at, Happening::Replay(Event::Ask { letter, by }));
        }
    }

    pub(super) fn ask(&mut self, letter: LetterId, by: &'static str) {
        self.put(letter, Row::new(State::Requested, by, self.true_wall()));
        self.soon(50, Happening::Replay(Event::Publish { letter, by }));
    }

    pub(super) fn discard(&mut self, letter: LetterId) {
        self.seen.discards += 1;
        self.replays.discarded.insert(letter);
        self.put(
            letter,
            Row { why: "old".to_owned(), ..Row::new(State::Discarded, "eve", self.true_wall()) },
        );
    }

    pub(super) fn publish_request(&mut self, letter: LetterId, by: &'static str) {
        let event = self.request_event(letter);
        self.seen.requests += 1;
        self.note(&|| format!("  {by} asks for letter {letter} as event {event}"));
        let asked = Asked {
            id: uuid::Uuid::from_u128(self.replays.rng.u128(..)),
            by: by.to_owned(),
            at: self.true_wall(),
            content: Content::Current,
            keep_ttl: false,
        };
        self.replays.log.push(Request { event, letter, asked });
        self.replays.planned -= 1;
    }

    /// The event that a request is: what its letter owes, behind everything that is live, each message for
    /// itself and never too late.
    fn request_event(&mut self, letter: LetterId) -> EventNo {
        let Known { event: of, messages, .. } = self.replays.letters[&letter].clone();
        let (number, from) = (self.spec.events.len(), self.spec.messages.len());
        let first = self.spec.messages[messages[0]].clone();
        let content =
            self.accounts[first.account].content(number, first.path, Priority::Background, first.base);
        for owed in messages {
            let message = Message {
                event: number,
                priority: Priority::Background,
                content: content.clone(),
                expires: None,
                conflate: None,
                ..self.spec.messages[owed].clone()
            };
            self.laws.replays.entry(message.id).or_default().push(self.spec.messages.len());
            self.laws.fates.push(Fate::default());
            self.spec.messages.push(message);
        }
        let messages = from..self.spec.messages.len();
        self.spec.events.push(spec::Event { source: Source::Requests, partition: 0, messages, of: Some(of) });
        self.laws.courses.push(Course::default());
        self.laws.asked.insert(number, letter);
        number
    }

    /// The letter that an event is a request for.
    pub fn request_of(&self, event: EventNo) -> Option<LetterId> {
        self.laws.asked.get(&event).copied()
    }
}
