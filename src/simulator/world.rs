//! One request, from what was read to what will be answered: faults, then the provider's judgement,
//! then faults again.
//!
//! Everything that changes is in [`World`], under one lock that is held for microseconds; requests
//! are judged in the order in which they take it, and that instant is their arrival. Reading a
//! request needs no lock, writing the answer neither.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::sync::watch;

use super::clock::Clock;
use super::faults::{Armed, Faults};
use super::floor::{Answer, Floor, Note, Stats};
use super::log::{Entry, Filter};
use super::members::Pace;
use super::rule::{BadRule, Canned, Effect, Endpoint, Rule};
use super::server::Request;
use super::{Options, Provider, easemob, yunxin};
use crate::core::time::{Mono, Now};

/// A request, read by its provider.
#[derive(Debug)]
pub(super) enum Asked {
    Easemob(easemob::Asked),
    Yunxin(yunxin::Asked),
}

/// How an answer goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As it is.
    Whole,
    /// Half of it, as if that were all.
    Truncate,
    /// Half of it, then the connection closes.
    Cut,
    /// Without a body.
    Empty,
    /// Over this time.
    Slow(Duration),
    /// As gzip.
    Gzip,
    /// Not at all: the connection closes.
    Close,
    /// Not at all: the connection stays.
    Silence,
}

/// What will be answered, when, and how.
#[derive(Debug)]
pub(super) struct Plan {
    pub answer: Answer,
    pub due: Mono,
    pub manner: Manner,
    /// The provider's own time.
    pub date: HeaderValue,
}

/// The part of a simulator that all its connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub options: Options,
    /// Counts changes of the rules, so that an outage begins and ends at once.
    pub changed: watch::Sender<u64>,
    /// True once the simulator is to stop.
    pub stop: watch::Sender<bool>,
    world: Mutex<World>,
}

#[derive(Debug)]
struct World {
    faults: Faults,
    floor: Floor,
    desk: Desk,
    date: (i64, HeaderValue),
}

#[derive(Debug)]
enum Desk {
    Easemob(Box<easemob::Desk>),
    Yunxin(Box<yunxin::Desk>),
}

impl Shared {
    pub(super) fn new(options: Options, host: String) -> Result<Self, BadRule> {
        let (pace, clients_drop_repeats, desk) = match &options.provider {
            Provider::Easemob(knobs) => (
                Pace::LeastFirst { pace: knobs.room_messages_per_second },
                knobs.clients_drop_repeats,
                Desk::Easemob(Box::new(easemob::Desk::new(
                    knobs.clone(),
                    host,
                    options.window,
                    options.seed,
                ))),
            ),
            Provider::Yunxin(knobs) => (
                Pace::ByChance { normal: knobs.room_messages_per_second, high: knobs.room_high_per_second },
                knobs.clients_drop_repeats,
                Desk::Yunxin(Box::new(yunxin::Desk::new(knobs.clone(), options.window))),
            ),
        };
        // Chance is drawn apart for faults and for members, so that a new rule does not move the other.
        let mut faults = Faults::new(options.seed ^ 0x6661_756c_7473);
        faults.set(options.faults.clone(), options.clock.now().mono)?;
        let floor =
            Floor::new(pace, clients_drop_repeats, options.log_entries, options.remembered_ids, options.seed);
        Ok(Self {
            changed: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            world: Mutex::new(World { faults, floor, desk, date: (i64::MIN, HeaderValue::from_static("")) }),
            options,
        })
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.options.clock
    }

    pub(super) fn endpoint(&self, path: &str) -> Endpoint {
        match &self.options.provider {
            Provider::Easemob(_) => easemob::endpoint(path),
            Provider::Yunxin(_) => yunxin::endpoint(path),
        }
    }

    /// Reads and judges a request.
    pub(super) fn take(&self, request: &Request) -> Plan {
        let content_bytes = self.options.log_content_bytes;
        let mut asked = match &self.options.provider {
            Provider::Easemob(knobs) => Asked::Easemob(easemob::read(knobs, request, content_bytes)),
            Provider::Yunxin(_) => Asked::Yunxin(yunxin::read(request, content_bytes)),
        };
        let mut world = self.world();
        let mut plan = world.decide(&mut asked, &request.headers, self.clock().now());
        plan.due = plan.due + self.options.latency;
        plan
    }

    /// Whether this request's connection is to be reset before its body is read.
    pub(super) fn resets(&self, endpoint: Endpoint) -> bool {
        let now = self.clock().now().mono;
        let mut world = self.world();
        let hit = world.faults.reset(endpoint, now);
        if hit {
            world.floor.reset();
        }
        hit
    }

    /// Whether there is an outage now, and when it ends.
    pub(super) fn outage(&self) -> Option<Option<Mono>> {
        let now = self.clock().now().mono;
        self.world().faults.outage(now)
    }

    pub(super) fn set_faults(&self, rules: Vec<Rule>) -> Result<(), BadRule> {
        let now = self.clock().now().mono;
        self.world().faults.set(rules, now)?;
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(super) fn add_faults(&self, rules: Vec<Rule>) -> Result<(), BadRule> {
        let now = self.clock().now().mono;
        self.world().faults.add(rules, now)?;
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(super) fn faults(&self) -> Vec<Armed> {
        self.world().faults.list()
    }

    pub(super) fn revoke_tokens(&self) {
        self.world().desk.revoke_tokens();
    }

    pub(super) fn stats(&self) -> Stats {
        let app = match &self.options.provider {
            Provider::Easemob(knobs) => format!("{}/{}", knobs.org, knobs.app),
            Provider::Yunxin(knobs) => knobs.app_key.clone(),
        };
        Stats { app, ..self.world().floor.stats() }
    }

    /// The entries that the filter takes, in their order. The lock is let go between pieces, so that
    /// a reader of a long log does not hold up requests.
    pub(super) fn log(&self, filter: &Filter) -> Vec<Entry> {
        const PIECE: usize = 4_096;
        let mut found = Vec::new();
        let mut from = filter.from;
        loop {
            let world = self.world();
            let mut looked = 0;
            for entry in world.floor.log.from(from).take(PIECE) {
                if filter.limit.is_some_and(|limit| found.len() >= limit) {
                    return found;
                }
                looked += 1;
                from = entry.seq + 1;
                if filter.takes(entry) {
                    found.push(entry.clone());
                }
            }
            if looked < PIECE {
                return found;
            }
        }
    }

    pub(super) fn warn(&self, warning: String) {
        self.world().floor.warn(warning);
    }

    /// A panic of one request (there is none that is known) must not end the others.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn decide(&mut self, asked: &mut Asked, headers: &HeaderMap, mut now: Now) -> Plan {
        now.wall.0 = now.wall.0.saturating_add(self.faults.clock_offset_ms(now.mono));
        let endpoint = asked.endpoint();
        let rooms: Vec<&str> = asked.notes().iter().filter_map(|note| note.room.as_deref()).collect();
        let picked = self.faults.pick(endpoint, &rooms, now.mono);
        if picked.revoke {
            self.desk.revoke_tokens();
        }
        self.floor.begin(now, endpoint, asked.notes_mut(), picked.word);
        let due = now.mono + picked.delay;
        let (answer, manner) = match picked.effect {
            Some(effect) if effect.is_before() => {
                let (answer, manner) = self.desk.fault(&effect, now);
                self.floor.finish(asked.notes(), &answer);
                (answer, manner)
            }
            effect => {
                let first = self.floor.log.next_seq();
                let answer = self.desk.judge(asked, headers, &self.faults, &mut self.floor);
                self.after(effect, answer, first, now)
            }
        };
        Plan { answer, due, manner, date: self.date(now) }
    }

    /// What a fault makes of an answer that the provider gave.
    fn after(&mut self, effect: Option<Effect>, answer: Answer, first: u64, now: Now) -> (Answer, Manner) {
        let Some(effect) = effect else { return (answer, Manner::Whole) };
        match effect {
            Effect::Truncate => (answer, Manner::Truncate),
            Effect::Cut => (answer, Manner::Cut),
            Effect::Empty => (answer, Manner::Empty),
            Effect::Slow { ms } => (answer, Manner::Slow(Duration::from_millis(ms))),
            Effect::Gzip => (answer, Manner::Gzip),
            // What the provider refused stays refused in its own words.
            Effect::Answer(_) if answer.reason != "accepted" => (answer, Manner::Whole),
            other => {
                let (instead, manner) = self.desk.fault(&other, now);
                self.floor.amend(first, instead.status, instead.code);
                (instead, manner)
            }
        }
    }

    /// The provider's time for the `Date` header, made once a second.
    fn date(&mut self, now: Now) -> HeaderValue {
        let second = now.wall.0.div_euclid(1_000);
        if self.date.0 != second {
            let date = jiff::Timestamp::from_second(second).unwrap_or_default();
            let text = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            self.date = (second, text.parse().expect("a date is made of visible ASCII"));
        }
        self.date.1.clone()
    }
}

impl Desk {
    fn judge(&mut self, asked: &Asked, headers: &HeaderMap, faults: &Faults, floor: &mut Floor) -> Answer {
        match (self, asked) {
            (Self::Easemob(desk), Asked::Easemob(form)) => desk.judge(form, headers, faults, floor),
            (Self::Yunxin(desk), Asked::Yunxin(form)) => desk.judge(form, headers, faults, floor),
            _ => unreachable!("a request is read by the provider that judges it"),
        }
    }

    fn revoke_tokens(&mut self) {
        if let Self::Easemob(desk) = self {
            desk.revoke_tokens();
        }
    }

    /// What stands in place of the provider's answer.
    fn fault(&self, effect: &Effect, now: Now) -> (Answer, Manner) {
        match effect {
            Effect::Answer(canned) => (self.canned(canned, now), Manner::Whole),
            Effect::BlackHoleBefore | Effect::BlackHoleAfter => (no_answer(), Manner::Silence),
            _ => (no_answer(), Manner::Close),
        }
    }

    fn canned(&self, canned: &Canned, now: Now) -> Answer {
        if canned.html.unwrap_or(canned.status == 502) {
            let status = canned.status;
            let page = format!(
                "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
            );
            return Answer {
                status,
                code: i32::from(status),
                reason: "fault",
                media: "text/html",
                retry_after: canned.retry_after,
                body: page.into(),
            };
        }
        match self {
            Self::Easemob(_) => easemob::canned(canned, now),
            Self::Yunxin(_) => yunxin::canned(canned),
        }
    }
}

/// For the log: the connection ends, or hangs, without an answer.
fn no_answer() -> Answer {
    Answer { status: 0, code: 0, reason: "fault", media: "", retry_after: None, body: Bytes::new() }
}

impl Asked {
    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Easemob(form) => form.endpoint,
            Self::Yunxin(form) => form.endpoint,
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Easemob(form) => &form.notes,
            Self::Yunxin(form) => &form.notes,
        }
    }

    fn notes_mut(&mut self) -> &mut [Note] {
        match self {
            Self::Easemob(form) => &mut form.notes,
            Self::Yunxin(form) => &mut form.notes,
        }
    }
}
