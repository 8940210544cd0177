//! What must hold in every run, each law written once and named after its promise. They are judged by
//! what the provider and the brokers hold, and by what the scheduler asks for, never by what it says
//! of itself.

mod end;
mod live;
mod quota;
mod replays;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use roomcast::core::letter::LetterId;
use roomcast::core::model::{MessageId, PartitionId, Path, Priority, RecordId};
use roomcast::core::partitions::{Held, Slot};
use roomcast::core::provider::{Outcome, Throttle};
use roomcast::core::schedule::{Attempt, OnFull};
use roomcast::core::time::Mono;

use self::live::Waits;
use crate::process::source_id;
use crate::spec::{EventNo, Message, MessageNo, Source};
use crate::world::{ProcessNo, World};

/// The provider counts in windows of a second.
const WINDOW: Duration = Duration::from_secs(1);
/// So often a message may be refused for its own sake. Once is enough, but for twenty refusals in a row, which
/// speak of the account: those may come between the acceptance and the answer.
const REFUSED: u32 = 5;
/// The first wait after a failed try that was the message's own fault; each further one is twice as
/// long, up to the longest, and jitter only adds.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the world knows of a message.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// The provider has it.
    pub accepted: bool,
    /// When it first had it.
    pub accepted_at: Mono,
    /// A try may have been delivered and nobody knows.
    pub maybe: bool,
    /// It stands outside of the order: a letter was asked for, or it may have been dropped.
    pub outside: bool,
    /// From when on some process that got it has found it too late.
    pub late_from: Option<Mono>,
    /// A newer message of its lane and key reached a process that held it.
    pub superseded: bool,
    /// A replay of it was accepted.
    pub replayed: bool,
    /// Confirmed letters that owe it.
    pub letters: Vec<LetterId>,
}

/// What the world knows of an event.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// The broker lost it.
    pub vanished: bool,
    /// When it was last settled, and by which life of which process.
    pub settled: Option<(Mono, ProcessNo, u32)>,
    /// How often it was handed to a scheduler.
    pub handed: u32,
}

/// The lane of a message, as far as order is promised: within a partition.
type Line = (Source, u32, usize, Path, Arc<str>, Priority);

/// A lane within a process.
pub type Lane = (usize, Path, Arc<str>, Priority);

/// What is known across processes.
#[derive(Debug, Default)]
pub struct Laws {
    pub fates: Vec<Fate>,
    pub courses: Vec<Course>,
    windows: BTreeMap<(usize, Path, Counted), VecDeque<Mono>>,
    newest: BTreeMap<Line, EventNo>,
    pub by_id: BTreeMap<MessageId, MessageNo>,
    /// The messages of requests that repeat a message, in the order in which they were asked for.
    pub replays: BTreeMap<MessageId, Vec<MessageNo>>,
    /// What is asked for by events that are requests.
    pub asked: BTreeMap<EventNo, LetterId>,
    /// Messages that processes dropped by a rule, as they counted it.
    pub dropped: u64,
    /// Records that were handed to a process after another one had them.
    pub passed_on: u64,
}

/// What a window counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Calls,
    CallsOfAMinute,
    Messages,
    Room(Arc<str>),
    RoomHigh(Arc<str>),
}

/// What is watched within one life of a process.
#[derive(Debug, Default)]
pub struct Watch {
    /// Lanes with a call away.
    lanes: BTreeMap<Lane, u64>,
    gates: BTreeMap<(usize, Path), Gate>,
    /// Calls made so far.
    sent: u64,
    /// Calls away of a path, each with how many were made before it.
    away: BTreeMap<(usize, Path), BTreeMap<u64, u64>>,
    /// Calls of a path of which a message was accepted.
    accepted: BTreeMap<(usize, Path), u64>,
    tries: BTreeMap<MessageNo, Tries>,
    waits: Waits,
    /// When it is too late for a message, by the clock that never jumps.
    expires: BTreeMap<MessageNo, Mono>,
}

/// The tries of a message in one process.
#[derive(Clone, Copy, Debug)]
struct Tries {
    /// The last call that carried it.
    call: u64,
    /// How many calls had been accepted at its last try.
    mark: u64,
    /// Failed tries that were its own fault: another call was accepted meanwhile.
    own: u32,
    /// Refusals of it alone while another call was accepted: it is the message that is wrong.
    refused: u32,
    not_before: Mono,
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    /// How many calls had been made when it closed: of two things at one time, the later one counts.
    since: u64,
    until: Mono,
}

impl World {
    /// A process sends a call.
    pub fn law_sent(&mut self, process: ProcessNo, attempt: &Attempt) {
        self.law_waited(process, attempt);
        let account = usize::from(attempt.account.0);
        let key = (account, attempt.path);
        let now = self.now;
        let of = &self.accounts[account];
        assert!(
            attempt.session.is_some() || of.provider.login().is_none(),
            "a call without a session leaves"
        );
        let watch = &mut self.processes[process].watch;
        let away = watch.away.entry(key).or_default();
        if let Some(gate) = watch.gates.get(&key) {
            assert!(
                now >= gate.until,
                "P4: a call leaves at {now:?} although the gate is shut until {gate:?}"
            );
            let probes = away.values().filter(|left| **left >= gate.since).count();
            assert_eq!(probes, 0, "P4: more than one call probes a gate that is shut: {key:?}");
        }
        away.insert(attempt.id.0, watch.sent);
        watch.sent += 1;
        let mark = watch.accepted.get(&key).copied().unwrap_or(0);
        for item in &attempt.items {
            let number = self.laws.number(&self.spec, item);
            let message = &self.spec.messages[number];
            assert_eq!((message.account, message.path), key, "a message goes where its route says");
            assert_eq!(item.room.0, message.room, "a message goes to its room");
            assert_eq!(item.id, message.id, "P3: one message, one id");
            let lane = (account, attempt.path, message.room.clone(), message.priority);
            let other = watch.lanes.insert(lane, attempt.id.0);
            assert!(
                other.is_none_or(|other| other == attempt.id.0),
                "P2: two calls away for room {}",
                message.room
            );
            let fate = &self.laws.fates[number];
            let is_replay = self.spec.events[message.event].source == Source::Requests;
            assert!(
                item.resend || !(fate.maybe || fate.replayed || is_replay),
                "P3: message {number} may have been sent before and goes out unmarked"
            );
            let too_late = watch.expires.get(&number).is_some_and(|at| now >= *at);
            assert!(!too_late, "time-to-live: message {number} is sent after {:?}", message.expires);
            let first = Tries { call: 0, mark, own: 0, refused: 0, not_before: now };
            let tries = watch.tries.entry(number).or_insert(first);
            tries.call = attempt.id.0;
            assert!(
                tries.refused < REFUSED,
                "P5: message {number} was refused {REFUSED} times for its own sake and goes out again"
            );
            assert!(
                now >= tries.not_before,
                "backoff: message {number} is repeated at {now:?}, {} failures, not before {:?}",
                tries.own,
                tries.not_before
            );
            self.seen.repeats += u64::from(item.resend);
        }
        self.seen.shared_calls += u64::from(attempt.items.len() > 1 && of.limits.rooms_per_call > 1);
        self.seen.batched_calls += u64::from(attempt.items.len() > 1 && of.limits.rooms_per_call == 1);
    }

    /// The provider has judged a message of a call that left at `left_at`.
    pub fn law_arrived(&mut self, number: MessageNo, accepted: bool, resend: bool, left_at: Mono) {
        if !accepted {
            return;
        }
        let message = &self.spec.messages[number];
        let marks = self.accounts[message.account].limits.drops_repeats && message.path != Path::Broadcast;
        let fate = &mut self.laws.fates[number];
        if fate.accepted {
            // A first try that was on its way already, from a process that lost the record meanwhile, could
            // not know.
            let could_know = left_at > fate.accepted_at;
            assert!(
                resend || !marks || !could_know,
                "P3: message {number} is delivered twice, and the second time unmarked"
            );
            self.seen.duplicates += 1;
            return;
        }
        fate.accepted = true;
        fate.accepted_at = self.now;
        self.seen.accepted += 1;
        let is_outside = fate.outside;
        if self.spec.events[message.event].source == Source::Requests {
            self.seen.replayed += 1;
            let first = self.laws.by_id[&message.id];
            self.laws.fates[first].replayed = true;
        }
        if is_outside || self.in_any_order(number) {
            return;
        }
        let event = &self.spec.events[message.event];
        let line = (
            event.source,
            event.partition,
            message.account,
            message.path,
            message.room.clone(),
            message.priority,
        );
        let newest = self.laws.newest.entry(line).or_insert(message.event);
        assert!(
            message.event >= *newest,
            "P2: room {} gets event {} after event {newest}",
            message.room,
            message.event
        );
        *newest = message.event;
    }

    /// Where the design promises no order: batches may fail in part; and what a process had decided to
    /// drop or to bury before it lost the record may be sent after all by whoever gets it next. A lone
    /// message's letter is asked for at once; a sibling's waits for the last of its group.
    fn in_any_order(&self, number: MessageNo) -> bool {
        let message = &self.spec.messages[number];
        let event = &self.spec.events[message.event];
        // A replay stands outside of the order.
        if event.source == Source::Requests {
            return true;
        }
        let batch = self.accounts[message.account].limits.messages_per_call > 1;
        let may_be_decided =
            event.messages.len() > 1 || self.on_full == OnFull::DropOldest || message.expires.is_some();
        // What took another's place stands where that one stood.
        let conflated = message.conflate.is_some();
        // A stream that lost its tail has broken its own order, and counts of what is pending with it.
        let vanished = event.source == Source::JetStream && self.seen.tails_lost > 0;
        batch || conflated || vanished || (may_be_decided && self.laws.courses[message.event].handed > 1)
    }

    /// The provider refused a call of ours.
    pub fn law_refused(&mut self, account: usize, reason: &str, code: i32) {
        let of = &self.accounts[account];
        let for_too_much =
            matches!(code, 416 | 429) || reason.contains("limit") || reason.contains("frequency");
        assert!(
            !for_too_much || self.now < of.foreign_until,
            "P4: the provider refuses for too much at {:?}: {reason} ({code})",
            self.now
        );
        self.seen.bans += u64::from(for_too_much);
    }

    /// A process hears what became of a call.
    pub fn law_outcome(&mut self, process: ProcessNo, attempt: &Attempt, outcomes: &[Outcome]) {
        self.law_answered(process, attempt);
        let account = usize::from(attempt.account.0);
        let key = (account, attempt.path);
        let now = self.now;
        let watch = &mut self.processes[process].watch;
        let left = watch.away.get_mut(&key).and_then(|away| away.remove(&attempt.id.0));
        watch.lanes.retain(|_, call| *call != attempt.id.0);
        if let (Some(left), Some(gate)) = (left, watch.gates.get(&key)) {
            let answered = |outcome: &Outcome| {
                !matches!(
                    outcome,
                    Outcome::Failed(_)
                        | Outcome::Uncertain(_)
                        | Outcome::Closed(_)
                        | Outcome::Throttled { scope: Throttle::Path(_) | Throttle::PathUntilMidnight, .. }
                )
            };
            if left >= gate.since && outcomes.iter().any(answered) {
                watch.gates.remove(&key);
            }
        }
        let accepted = watch.accepted.entry(key).or_default();
        *accepted += u64::from(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Accepted(_))));
        for (item, outcome) in attempt.items.iter().zip(outcomes) {
            let number = self.laws.number(&self.spec, item);
            // What answers from before its record came anew is no try of the new one.
            if let Some(tries) = watch.tries.get_mut(&number).filter(|tries| tries.call == attempt.id.0) {
                let own_fault = *accepted > tries.mark;
                tries.mark = *accepted;
                let is_refused = matches!(outcome, Outcome::Refused { .. }) && attempt.items.len() == 1;
                tries.refused += u32::from(is_refused && own_fault);
                if matches!(outcome, Outcome::Failed(_) | Outcome::Uncertain(_)) && own_fault {
                    let wait = FIRST_WAIT * 2_u32.pow(tries.own.min(20));
                    tries.own += 1;
                    tries.not_before = now + wait.min(LONGEST_WAIT);
                }
            }
            match outcome {
                Outcome::Uncertain(_) => {
                    self.laws.fates[number].maybe = true;
                    self.seen.uncertain += 1;
                }
                Outcome::Throttled { scope: Throttle::Path(wait), .. } => {
                    let until = now + *wait;
                    let gate = watch.gates.entry(key).or_insert(Gate { since: watch.sent, until });
                    gate.until = gate.until.max(until);
                    gate.since = watch.sent;
                }
                _ => {}
            }
        }
    }

    /// A process died, or lost a partition, while this call was away.
    pub fn law_orphaned(&mut self, attempt: &Attempt) {
        for item in &attempt.items {
            let number = self.laws.number(&self.spec, item);
            self.laws.fates[number].maybe = true;
        }
    }

    /// A letter is asked for.
    pub fn law_buries(&mut self, event: EventNo, rooms: &[Arc<str>]) {
        for number in self.owed(event, rooms) {
            self.laws.fates[number].outside = true;
        }
    }

    /// The dead-letter topic has a letter.
    pub fn law_lettered(&mut self, id: LetterId, event: EventNo, rooms: &[Arc<str>]) {
        for number in self.owed(event, rooms) {
            let letters = &mut self.laws.fates[number].letters;
            if !letters.contains(&id) {
                letters.push(id);
            }
        }
    }

    pub fn owed(&self, event: EventNo, rooms: &[Arc<str>]) -> Vec<MessageNo> {
        let messages = self.spec.events[event].messages.clone();
        let is_owed = |number: &MessageNo| {
            let room = &self.spec.messages[*number].room;
            rooms.is_empty() || rooms.contains(room)
        };
        messages.filter(is_owed).collect()
    }

    /// Whether everything that an event owes is finished.
    pub fn law_is_finished(&self, event: EventNo) -> bool {
        self.laws.courses[event].vanished || self.unfinished(event).is_none()
    }

    fn unfinished(&self, event: EventNo) -> Option<MessageNo> {
        let messages = self.spec.events[event].messages.clone();
        messages.into_iter().find(|&number| {
            let fate = &self.laws.fates[number];
            !fate.accepted && fate.letters.is_empty() && !self.may_be_dropped(number)
        })
    }

    /// Whether a rule of the config allows to drop it.
    fn may_be_dropped(&self, number: MessageNo) -> bool {
        self.laws.fates[number].late_from.is_some_and(|from| from <= self.now)
            || self.laws.fates[number].superseded
            || self.on_full == OnFull::DropOldest
    }

    /// A process settles a record.
    pub fn law_settled(&mut self, process: ProcessNo, event: EventNo) {
        if let Some(number) = self.unfinished(event) {
            panic!("P1: event {event} is settled while message {number} is not finished");
        }
        self.laws.courses[event].settled = Some((self.now, process, self.processes[process].life));
    }

    /// A broker is told that it may forget an event.
    pub fn law_forgotten(&self, event: EventNo, how: &str) {
        assert!(self.law_is_finished(event), "P1: event {event} is {how} and not finished");
    }

    /// A record reaches a scheduler.
    pub fn law_handed(&mut self, process: ProcessNo, event: EventNo, maybe_tried: bool) {
        let course = &mut self.laws.courses[event];
        course.handed += 1;
        self.laws.passed_on += u64::from(course.handed > 1);
        assert!(
            course.handed == 1 || maybe_tried || !self.was_sent(event),
            "P3: event {event} may have been sent before and is handed on unmarked"
        );
        self.law_routed(process, event);
        let source = self.spec.events[event].source;
        let of = &self.processes[process];
        // What is being given up is not held any more: only its calls away are waited for.
        let revoking: Vec<_> = of.kafka.table.held().filter(|(_, _, held)| held.revoking).collect();
        let is_held = |id: &&RecordId| {
            let given_up = |(partition, _, held): &(PartitionId, &Slot, &Held)| {
                source == Source::Kafka && (*partition, held.epoch) == (id.partition, id.epoch)
            };
            id.source == source_id(source) && !revoking.iter().any(given_up)
        };
        let held = of.open.iter().filter(is_held).count();
        assert!(
            held < self.held_limit[source as usize],
            "P7: {source:?} holds {held} records and gets another, {} allowed",
            self.held_limit[source as usize]
        );
    }

    /// A record gets its messages: when it reaches a scheduler, and when its key is known at last.
    pub fn law_routed(&mut self, process: ProcessNo, event: EventNo) {
        self.law_supersedes(process, event);
        self.law_waits(process, event);
        let (now, wall) = (self.now, self.wall_of(process));
        let watch = &mut self.processes[process].watch;
        for number in self.spec.events[event].messages.clone() {
            // Who gets a record anew counts its tries anew.
            watch.tries.remove(&number);
            if let Some(at) = self.spec.messages[number].expires {
                let left = Duration::from_millis(u64::try_from(at.0 - wall.0).unwrap_or(0));
                watch.expires.insert(number, now + left);
                let late_from = &mut self.laws.fates[number].late_from;
                *late_from = Some(late_from.map_or(now + left, |from| from.min(now + left)));
            }
        }
    }

    /// A record's messages may take the place of older ones that its process holds.
    fn law_supersedes(&mut self, process: ProcessNo, event: EventNo) {
        let newer: Vec<MessageNo> = self.spec.events[event].messages.clone().collect();
        if newer.iter().all(|&number| self.spec.messages[number].conflate.is_none()) {
            return;
        }
        let of = &self.processes[process];
        let others = of.open.iter().map(|id| of.events[id]).filter(|other| *other != event);
        let open = others.flat_map(|other| self.spec.events[other].messages.clone());
        let lane = |message: &Message| {
            (message.account, message.path, message.room.clone(), message.priority, message.conflate)
        };
        for older in open {
            let old = &self.spec.messages[older];
            let takes = |&number: &MessageNo| lane(&self.spec.messages[number]) == lane(old);
            if old.conflate.is_some() && newer.iter().any(takes) {
                self.laws.fates[older].superseded = true;
            }
        }
    }

    fn was_sent(&self, event: EventNo) -> bool {
        let mut messages = self.spec.events[event].messages.clone();
        messages.any(|number| {
            let fate = &self.laws.fates[number];
            fate.accepted || fate.maybe || fate.replayed
        })
    }
}
