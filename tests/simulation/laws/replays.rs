//! What is promised of replays: every request has an end that can be read, what is sent is marked and is
//! what the letter owes, who asks twice causes one sending, and no letter comes round for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roomcast::core::letter::{LetterId, PREFIX};
use roomcast::core::model::{Record, RecordId, Room};
use roomcast::core::provider::Item;
use roomcast::core::replay::{Request, Row, State};

use super::Laws;
use crate::replays::{Found, Known};
use crate::spec::{EventNo, MessageNo, Spec};
use crate::world::{ProcessNo, World};

impl Laws {
    /// The message that an item of a call is: a replay has the id of what it repeats, and a content of its own.
    pub fn number(&self, spec: &Spec, item: &Item) -> MessageNo {
        let first = self.by_id[&item.id];
        let is_it = |number: &&MessageNo| Arc::ptr_eq(&spec.messages[**number].content, &item.content);
        let replay = self.replays.get(&item.id).and_then(|replays| replays.iter().find(is_it));
        replay.copied().unwrap_or(first)
    }
}

impl World {
    /// A letter of a letter names the first of its chain, and counts on.
    pub fn law_linked(&self, known: &Known) {
        let header = |name: &str| {
            let is_it = |(key, _): &&(Arc<str>, _)| key.strip_prefix(PREFIX) == Some(name);
            let found = known.sealed.headers.iter().rev().find(is_it);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let original = (known.first != known.sealed.id).then(|| known.first.to_string());
        assert_eq!(header("original"), original, "chain: letter {} names its first", known.sealed.id);
        let count = header("replays").and_then(|text| text.parse().ok());
        assert_eq!(count, Some(known.replays), "chain: letter {} counts its replays", known.sealed.id);
    }

    /// A process is about to replay a letter: what it owes, marked, and not a second time.
    pub fn law_replays(&self, process: ProcessNo, letter: LetterId, request: &Request, restored: &Record) {
        let (known, desk) = (&self.replays.letters[&letter], &self.processes[process].desk);
        let told = &request.told;
        let owed: BTreeSet<Room> = known
            .messages
            .iter()
            .map(|&number| Room(self.spec.messages[number].room.clone()))
            .filter(|room| !room.0.is_empty())
            .collect();
        let rooms: BTreeSet<Room> = told.rooms.iter().cloned().collect();
        assert_eq!((told.letter, told.replays), (letter, known.replays), "replay: it is that letter");
        assert_eq!(told.base, self.spec.messages[known.messages[0]].base, "replay: it keeps the id");
        assert_eq!(rooms, owed, "replay: only the rooms that letter {letter} owes");
        assert!(restored.maybe_tried, "replay: letter {letter} is replayed and not marked");
        assert!(!known.is_truncated, "replay: letter {letter} is replayed without its value");
        let before = desk
            .found
            .iter()
            .find(|(_, found)| matches!(found, Found::Replay { letter: other, .. } if *other == letter));
        assert!(before.is_none(), "replay: letter {letter} is sent twice in one life: {before:?}");
        assert!(
            !desk.told.contains(&letter),
            "replay: letter {letter} is known to be answered and sent again"
        );
    }

    /// A process does nothing about a request: there must be a reason. Gives whether it is that the letter is
    /// under way.
    pub fn law_leads_to_nothing(&self, process: ProcessNo, letter: LetterId) -> bool {
        let desk = &self.processes[process].desk;
        let replays = |over: bool| {
            let wanted = Found::Replay { letter, is_over: over };
            desk.found.values().any(|found| *found == wanted)
        };
        let is_answered = replays(true) || desk.told.contains(&letter);
        let is_truncated = self.replays.letters[&letter].is_truncated;
        assert!(
            replays(false) || is_answered || is_truncated,
            "P1: nothing is done about letter {letter}, which nobody has answered"
        );
        replays(false)
    }

    /// A process settles a request: its rows are in the table, and say what became of every message.
    pub fn law_request_settled(&mut self, process: ProcessNo, record: RecordId, event: EventNo) {
        let desk = &self.processes[process].desk;
        let rows = desk.written.get(&record).map(Vec::as_slice).unwrap_or_default();
        let row = |letter: LetterId| rows.iter().find(|(of, _)| *of == letter).map(|(_, row)| row);
        match desk.found[&record] {
            Found::Nothing { is_under_way: true, .. } => {}
            Found::Nothing { letter, .. } => {
                let row =
                    row(letter).unwrap_or_else(|| panic!("P1: a request for {letter} ends without a row"));
                let is_said = !row.why.is_empty() && (row.state.is_final() || row.state == State::Open);
                assert!(is_said, "P1: a request for {letter} ends with {row:?}");
            }
            Found::Replay { letter, .. } => {
                let row =
                    row(letter).unwrap_or_else(|| panic!("P1: letter {letter} is replayed without a row"));
                assert_eq!(row.state, State::Replayed, "P1: what became of letter {letter}");
                self.law_is_told(process, event, (letter, row), rows);
            }
        }
        let life = self.processes[process].life;
        self.laws.courses[event].settled = Some((self.now, process, life));
    }

    /// A row tells the truth: every message of the request is accepted, or in a letter that the row names;
    /// and it names no others.
    fn law_is_told(
        &self,
        process: ProcessNo,
        event: EventNo,
        (letter, row): (LetterId, &Row),
        rows: &[(LetterId, Row)],
    ) {
        for number in self.spec.events[event].messages.clone() {
            let fate = &self.laws.fates[number];
            assert!(
                fate.accepted || fate.letters.iter().any(|id| row.next.contains(id)),
                "P1: the replay {number} of letter {letter} is neither accepted nor in one of {:?}",
                row.next
            );
            let stray = fate.letters.iter().find(|id| !row.next.contains(id));
            let alone = self.laws.courses[event].handed == 1;
            assert!(stray.is_none() || !alone, "chain: the row of letter {letter} does not name {stray:?}");
        }
        let replays = self.replays.letters[&letter].replays + 1;
        for next in &row.next {
            let known = self.replays.letters.get(next);
            let known = known.unwrap_or_else(|| panic!("P1: letter {letter} names {next}, which nobody has"));
            assert_eq!(known.replays, replays, "chain: letter {next} after letter {letter}");
            let parked = rows.iter().any(|(of, row)| of == next && row.state == State::Parked);
            let is_to_be = replays > self.replays.max_replays;
            let desk = &self.processes[process].desk;
            let replays_it = |found: &Found| matches!(found, Found::Replay { letter, .. } if letter == next);
            let is_taken = desk.told.contains(next) || desk.found.values().any(replays_it);
            assert!(
                if is_to_be { parked || is_taken } else { !parked },
                "max_replays: letter {next}, replayed {replays} times, is parked: {parked}"
            );
        }
    }

    /// The broker is told that it may forget the requests below a place.
    pub fn law_requests_forgotten(&self, at: usize) {
        for request in &self.replays.log[..at] {
            let settled = self.laws.courses[request.event].settled.is_some();
            assert!(settled, "P1: the request {} is below the commit and not settled", request.event);
        }
    }

    /// Every letter that was asked for has an end that can be read, and it is true.
    pub(super) fn law_replays_end(&self) {
        let mut events: BTreeMap<LetterId, Vec<EventNo>> = BTreeMap::new();
        for request in &self.replays.log {
            events.entry(request.letter).or_default().push(request.event);
        }
        let rows: BTreeMap<LetterId, &Row> =
            self.replays.table.iter().map(|(letter, row)| (*letter, row)).collect();
        for (letter, events) in events {
            let (row, known) = (rows[&letter], &self.replays.letters[&letter]);
            let is_ended = match row.state {
                State::Requested => false,
                State::Open => known.is_truncated && !row.why.is_empty(),
                State::Discarded => self.replays.discarded.contains(&letter),
                State::Parked => known.replays > self.replays.max_replays && !row.why.is_empty(),
                State::Replayed => !known.is_truncated,
            };
            assert!(is_ended, "P1: letter {letter} was asked for and stays so: {row:?}");
            if row.state != State::Replayed {
                continue;
            }
            for place in 0..known.messages.len() {
                let ended = events.iter().any(|&event| {
                    let fate = &self.laws.fates[self.spec.events[event].messages.start + place];
                    fate.accepted || fate.letters.iter().any(|id| row.next.contains(id))
                });
                assert!(ended, "P1: letter {letter} is called replayed, and its message {place} is nowhere");
            }
        }
    }
}
