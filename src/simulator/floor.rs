//! The ground both providers stand on: it turns what a provider decides into the log, the members'
//! view and the stats, in one place, so that the three never disagree.
//!
//! A provider module judges a request and tells the floor of each message. The floor refuses
//! nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::log::{Entry, Id, Log, Repeat, Unseen};
use super::members::{Members, Pace};
use super::rule::Endpoint;
use super::window::Meter;
use crate::core::model::Priority;
use crate::core::time::{Mono, Now, Wall};

/// A message that a request carries, as far as the log cares.
#[derive(Clone, Debug)]
pub(super) struct Note {
    /// The room; none on a broadcast or where it could not be read.
    pub room: Option<Arc<str>>,
    /// The client's id of it.
    pub id: Option<Id>,
    /// `resendFlag=1`.
    pub resend: bool,
    /// As asked for.
    pub priority: Priority,
    /// Of the whole content.
    pub hash: u64,
    /// The beginning of the content.
    pub content: Arc<str>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Yunxin: the body's code; else the HTTP status.
    pub code: i32,
    /// `accepted`, or the kind of refusal, for log and stats.
    pub reason: &'static str,
    /// The `Content-Type`.
    pub media: &'static str,
    /// The `Retry-After`, seconds.
    pub retry_after: Option<u32>,
    /// The body.
    pub body: Bytes,
}

/// What becomes of one message that a provider accepted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// It counts as normal although high was asked.
    pub downgraded: bool,
    /// The provider recognised a repeat (told of a resend) and drops it.
    pub recognised: bool,
    /// It was thrown away by `abandonRatio`.
    pub abandoned: bool,
    /// The room is gone.
    pub gone: bool,
    /// It goes to some members only, so the room's pace and order do not see it.
    pub directed: bool,
}

/// What happened so far, in numbers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// The one app it serves: `org/app` at Easemob, the app key at Yunxin.
    pub app: String,
    /// Requests that came in whole, by endpoint.
    pub calls: BTreeMap<&'static str, u64>,
    /// Messages accepted, repeats included.
    pub accepted: u64,
    /// Messages that members saw.
    pub seen: u64,
    /// Messages accepted and not seen, by cause.
    pub unseen: BTreeMap<Unseen, u64>,
    /// Requests refused (Yunxin batches: messages too), by kind.
    pub refused: BTreeMap<&'static str, u64>,
    /// Repeats that said so.
    pub repeats_marked: u64,
    /// Repeats of an accepted id that did not say so.
    pub repeats_unmarked: u64,
    /// High-priority messages that became normal ones.
    pub downgraded: u64,
    /// Bans that began (Yunxin 416).
    pub bans: u64,
    /// Tokens given out.
    pub tokens: u64,
    /// Requests that met a fault, by fault.
    pub faults: BTreeMap<&'static str, u64>,
    /// The most calls that any sliding second saw, refused ones included, by endpoint.
    pub max_calls_per_second: BTreeMap<&'static str, u64>,
    /// The most messages (rooms × calls) that any sliding second saw, refused ones included.
    pub max_messages_per_second: u64,
    /// The most messages that any sliding second saw for one room, refused ones included.
    pub max_room_messages_per_second: u64,
    /// First acceptance, nanoseconds since the simulator began.
    pub first_accepted_ns: Option<u64>,
    /// Last acceptance, nanoseconds since the simulator began.
    pub last_accepted_ns: Option<u64>,
    /// Log entries that the bound made it forget.
    pub log_forgotten: u64,
    /// What a page asks for and the service is known to let pass, as it came in (at most 64 kinds).
    pub warnings: BTreeMap<String, u64>,
}

/// Kinds of warning that are kept apart.
const MAX_WARNINGS: usize = 64;

/// Log, members and numbers.
#[derive(Debug)]
pub(super) struct Floor {
    pub members: Members,
    pub log: Log,
    pub rng: fastrand::Rng,
    /// Clients drop an id that they have seen (Yunxin's do).
    clients_drop_repeats: bool,
    stats: Stats,
    calls: BTreeMap<Endpoint, Meter>,
    messages: Meter,
    call: u64,
    now: Now,
    endpoint: Endpoint,
    fault: Option<&'static str>,
}

impl Floor {
    pub(super) fn new(
        pace: Pace,
        clients_drop_repeats: bool,
        log_entries: usize,
        ids: usize,
        seed: u64,
    ) -> Self {
        Self {
            clients_drop_repeats,
            members: Members::new(pace, ids),
            log: Log::new(log_entries),
            rng: fastrand::Rng::with_seed(seed),
            stats: Stats::default(),
            calls: BTreeMap::new(),
            messages: Meter::default(),
            call: 0,
            now: Now { mono: Mono(0), wall: Wall(0) },
            endpoint: Endpoint::Other,
            fault: None,
        }
    }

    /// A request has arrived with these messages. Everything told until the next one is of it.
    pub(super) fn begin(
        &mut self,
        now: Now,
        endpoint: Endpoint,
        notes: &mut [Note],
        fault: Option<&'static str>,
    ) {
        self.call += 1;
        self.now = now;
        self.endpoint = endpoint;
        self.fault = fault;
        *self.stats.calls.entry(endpoint.word()).or_default() += 1;
        if let Some(fault) = fault {
            *self.stats.faults.entry(fault).or_default() += 1;
        }
        self.calls.entry(endpoint).or_default().count(now.mono, 1);
        if !notes.is_empty() {
            self.messages.count(now.mono, u32::try_from(notes.len()).unwrap_or(u32::MAX));
        }
        for note in notes {
            if let Some(room) = &mut note.room {
                let (shared, most) = self.members.carry(room, now.mono);
                *room = shared;
                self.stats.max_room_messages_per_second = self.stats.max_room_messages_per_second.max(most);
            }
        }
    }

    /// Arrival of the request that is being judged.
    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// A message was accepted. Says whether members see it.
    pub(super) fn accept(&mut self, note: &Note, fate: Fate) {
        let known = note.id.as_ref().is_some_and(|id| self.members.knows(note.room.as_deref(), id));
        let repeat = known.then_some(if fate.recognised { Repeat::Marked } else { Repeat::Unmarked });
        let mut entry = self.entry(note, 200, 200, "accepted");
        entry.accepted = true;
        entry.downgraded = fate.downgraded;
        entry.repeat = repeat;
        self.tally(&entry, repeat);
        if let Some(id) = &note.id {
            self.members.remember(note.room.as_ref(), id);
        }
        let room = note.room.as_deref();
        let dropped =
            self.clients_drop_repeats && note.id.as_ref().is_some_and(|id| self.members.has_seen(room, id));
        entry.unseen = if fate.recognised || dropped {
            Some(Unseen::Repeated)
        } else if fate.abandoned {
            Some(Unseen::Abandoned)
        } else if fate.gone {
            Some(Unseen::Gone)
        } else {
            None
        };
        if entry.unseen.is_none() {
            self.show(note, fate, &mut entry);
        }
        match entry.unseen {
            Some(cause) => *self.stats.unseen.entry(cause).or_default() += 1,
            None => {
                self.stats.seen += 1;
                note.id.iter().for_each(|id| self.members.mark_seen(room, id));
            }
        }
        self.log.push(entry);
    }

    fn show(&mut self, note: &Note, fate: Fate, entry: &mut Entry) {
        let Some(room) = note.room.as_deref().filter(|_| !fate.directed) else {
            entry.order = Some(0);
            return;
        };
        let priority = if fate.downgraded { Priority::Normal } else { note.priority };
        let shown = self.members.show(room, priority, self.log.next_seq(), self.now.mono, &mut self.rng);
        entry.order = shown.order;
        if shown.order.is_none() {
            entry.unseen = Some(Unseen::Pace);
        }
        if let Some(out) = shown.pushed_out {
            self.stats.seen -= 1;
            *self.stats.unseen.entry(Unseen::Pace).or_default() += 1;
            if let Some(earlier) = self.log.get_mut(out) {
                earlier.order = None;
                earlier.unseen = Some(Unseen::Pace);
            }
        }
    }

    fn tally(&mut self, entry: &Entry, repeat: Option<Repeat>) {
        let stats = &mut self.stats;
        stats.accepted += 1;
        stats.downgraded += u64::from(entry.downgraded);
        stats.first_accepted_ns.get_or_insert(self.now.mono.0);
        stats.last_accepted_ns = Some(self.now.mono.0);
        match repeat {
            Some(Repeat::Marked) => stats.repeats_marked += 1,
            Some(Repeat::Unmarked) => stats.repeats_unmarked += 1,
            None => {}
        }
    }

    /// The whole request was refused, or answered without carrying a message.
    pub(super) fn finish(&mut self, notes: &[Note], answer: &Answer) {
        if answer.reason != "accepted" {
            *self.stats.refused.entry(answer.reason).or_default() += 1;
        }
        for note in notes {
            let entry = self.entry(note, answer.status, answer.code, answer.reason);
            self.log.push(entry);
        }
        if notes.is_empty() {
            let blank = Note {
                room: None,
                id: None,
                resend: false,
                priority: Priority::Normal,
                hash: 0,
                content: "".into(),
            };
            let entry = self.entry(&blank, answer.status, answer.code, answer.reason);
            self.log.push(entry);
        }
    }

    /// One message of an accepted request was refused.
    pub(super) fn refuse(&mut self, note: &Note, code: i32, reason: &'static str) {
        *self.stats.refused.entry(reason).or_default() += 1;
        let entry = self.entry(note, 200, code, reason);
        self.log.push(entry);
    }

    /// What was judged since `first` is answered otherwise, or not at all (status 0).
    pub(super) fn amend(&mut self, first: u64, status: u16, code: i32) {
        for seq in first..self.log.next_seq() {
            if let Some(entry) = self.log.get_mut(seq) {
                entry.status = status;
                entry.code = code;
            }
        }
    }

    pub(super) fn ban(&mut self) {
        self.stats.bans += 1;
    }

    pub(super) fn token(&mut self) {
        self.stats.tokens += 1;
    }

    pub(super) fn warn(&mut self, warning: String) {
        if self.stats.warnings.len() < MAX_WARNINGS || self.stats.warnings.contains_key(&warning) {
            *self.stats.warnings.entry(warning).or_default() += 1;
        }
    }

    /// The connection was reset before the request was read.
    pub(super) fn reset(&mut self) {
        *self.stats.faults.entry("reset").or_default() += 1;
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.max_calls_per_second =
            self.calls.iter().map(|(endpoint, meter)| (endpoint.word(), meter.most())).collect();
        stats.max_messages_per_second = self.messages.most();
        stats.log_forgotten = self.log.forgotten();
        stats
    }

    fn entry(&self, note: &Note, status: u16, code: i32, reason: &'static str) -> Entry {
        Entry {
            seq: 0,
            call: self.call - 1,
            at: self.now.mono,
            wall: self.now.wall,
            path: self.endpoint,
            room: note.room.clone(),
            id: note.id.clone(),
            resend: note.resend,
            priority: note.priority,
            hash: note.hash,
            content: Arc::clone(&note.content),
            status,
            code,
            reason,
            accepted: false,
            downgraded: false,
            repeat: None,
            order: None,
            unseen: None,
            fault: self.fault,
        }
    }
}

/// The beginning of a content, cut between characters.
pub(super) fn beginning(text: &str, bytes: usize) -> Arc<str> {
    text[..text.floor_char_boundary(bytes)].into()
}
