//! One request, from what was read to what will be answered: faults, then the provider's judgement,
//! then faults again. A [`Judge`] is a plain state that is handed the time: the server keeps one
//! behind a lock, the simulation one in its virtual world.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use super::faults::{Armed, Faults};
use super::floor::{Answer, Floor, Note, Stats};
use super::log::Entry;
use super::members::Pace;
use super::rule::{BadRule, Canned, Effect, Endpoint, Rule};
use super::{Provider, Shape, easemob, yunxin};
use crate::core::time::{Mono, Now};

/// A request, whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// Without the query, which neither provider looks at.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A request, read by its provider.
#[derive(Debug)]
pub struct Asked(Form);

#[derive(Debug)]
enum Form {
    Easemob(easemob::Asked),
    Yunxin(yunxin::Asked),
}

/// How an answer goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
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
pub struct Plan {
    /// The answer.
    pub answer: Answer,
    /// When it goes out, without the time that it takes on its way.
    pub due: Mono,
    /// How it goes out.
    pub manner: Manner,
    /// The provider's own time.
    pub date: HeaderValue,
}

/// What a judge is made of.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Which service, and its app.
    pub provider: Provider,
    /// How windows of a second and of a minute are counted.
    pub window: Shape,
    /// Every chance is drawn from it.
    pub seed: u64,
    /// Log entries that are kept at least.
    pub log_entries: usize,
    /// Accepted message ids that are remembered, to tell repeats.
    pub remembered_ids: usize,
}

/// A provider's app: what it counts, whom it bans, what it has accepted.
#[derive(Debug)]
pub struct Judge {
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

/// Reads a request, as its provider would; the log keeps so many bytes of each content.
pub fn read(provider: &Provider, request: &Request, content_bytes: usize) -> Asked {
    Asked(match provider {
        Provider::Easemob(knobs) => Form::Easemob(easemob::read(knobs, request, content_bytes)),
        Provider::Yunxin(_) => Form::Yunxin(yunxin::read(request, content_bytes)),
    })
}

impl Judge {
    /// An app that nobody has called yet. `host` is what Easemob's answers name as its own.
    pub fn new(knobs: &Knobs, host: String) -> Self {
        let (pace, clients_drop_repeats, desk) = match &knobs.provider {
            Provider::Easemob(app) => (
                Pace::LeastFirst { pace: app.room_messages_per_second },
                app.clients_drop_repeats,
                Desk::Easemob(Box::new(easemob::Desk::new(app.clone(), host, knobs.window, knobs.seed))),
            ),
            Provider::Yunxin(app) => (
                Pace::ByChance { normal: app.room_messages_per_second, high: app.room_high_per_second },
                app.clients_drop_repeats,
                Desk::Yunxin(Box::new(yunxin::Desk::new(app.clone(), knobs.window))),
            ),
        };
        Self {
            // Chance is drawn apart for faults and for members, so that a new rule does not move the other.
            faults: Faults::new(knobs.seed ^ 0x6661_756c_7473),
            floor: Floor::new(
                pace,
                clients_drop_repeats,
                knobs.log_entries,
                knobs.remembered_ids,
                knobs.seed,
            ),
            desk,
            date: (i64::MIN, HeaderValue::from_static("")),
        }
    }

    /// Judges a request that arrives now.
    pub fn take(&mut self, asked: &mut Asked, headers: &HeaderMap, now: Now) -> Plan {
        self.decide(&mut asked.0, headers, now)
    }

    /// Whether a request to this endpoint that comes now is reset before its body is read.
    pub(super) fn resets(&mut self, endpoint: Endpoint, now: Mono) -> bool {
        let hit = self.faults.reset(endpoint, now);
        if hit {
            self.floor.reset();
        }
        hit
    }

    /// Whether there is an outage now, and when it ends.
    pub(super) fn outage(&self, now: Mono) -> Option<Option<Mono>> {
        self.faults.outage(now)
    }

    /// Puts these rules in the place of all others.
    ///
    /// # Errors
    /// A rule is wrong; then none has changed.
    pub fn set_faults(&mut self, rules: Vec<Rule>, now: Mono) -> Result<(), BadRule> {
        self.faults.set(rules, now)
    }

    /// Adds rules to those that stand.
    ///
    /// # Errors
    /// A rule is wrong; then none is added.
    pub(super) fn add_faults(&mut self, rules: Vec<Rule>, now: Mono) -> Result<(), BadRule> {
        self.faults.add(rules, now)
    }

    /// The rules that stand.
    pub(super) fn faults(&self) -> Vec<Armed> {
        self.faults.list()
    }

    /// Ends every Easemob token given out so far.
    pub fn revoke_tokens(&mut self) {
        self.desk.revoke_tokens();
    }

    /// The numbers so far, but for the app's name.
    pub fn stats(&self) -> Stats {
        self.floor.stats()
    }

    /// The log from that entry on, as far as it is kept.
    pub fn log_from(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.floor.log.from(seq)
    }

    /// The number that the next log entry will have.
    pub fn next_entry(&self) -> u64 {
        self.floor.log.next_seq()
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.floor.warn(warning);
    }

    fn decide(&mut self, asked: &mut Form, headers: &HeaderMap, mut now: Now) -> Plan {
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
    fn judge(&mut self, asked: &Form, headers: &HeaderMap, faults: &Faults, floor: &mut Floor) -> Answer {
        match (self, asked) {
            (Self::Easemob(desk), Form::Easemob(form)) => desk.judge(form, headers, faults, floor),
            (Self::Yunxin(desk), Form::Yunxin(form)) => desk.judge(form, headers, faults, floor),
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

impl Form {
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
