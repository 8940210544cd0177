//! Yunxin as a server: single, batched and directed messages and broadcasts, judged in the order
//! headers, frequency, repeated request, parameters, room, repeat, priority.
//!
//! Written from the provider's page and never from the daemon's own provider module, whose judge it
//! is. What the page leaves open is a knob of [`Yunxin`]. `auth` checks signatures, `form` and
//! `params` read requests, `reply` writes the answers.

mod auth;
mod form;
mod params;
mod reply;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use http::HeaderMap;

use self::form::{Form, Message};
use super::faults::Faults;
use super::floor::{Answer, Fate, Floor, Note};
use super::judge::Request;
use super::rule::{Canned, Endpoint};
use super::window::{Shape, Window};
use crate::core::model::Priority;
use crate::core::time::{Mono, Now};

/// A Yunxin app and its knobs. The defaults are the page's, where it speaks. Every limit: 0 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yunxin {
    /// The `AppKey` header.
    pub app_key: String,
    /// What signs.
    pub app_secret: String,
    /// How far `CurTime` may be off, either way.
    pub skew: Duration,
    /// Calls a second to `sendMsg.action`; each endpoint is counted for itself.
    pub calls_per_second: u32,
    /// Calls a second to `batchSendMsg.action`.
    pub batch_calls_per_second: u32,
    /// Calls a second to `sendMsgToSomeone.action`.
    pub users_calls_per_second: u32,
    /// Calls to `broadcast.action` in any minute.
    pub broadcasts_per_minute: u32,
    /// How long an endpoint answers 416 once its limit was passed.
    pub ban: Duration,
    /// The same for broadcasts.
    pub broadcast_ban: Duration,
    /// A call during a ban begins it anew (not known of the real service).
    pub calls_extend_ban: bool,
    /// Messages of normal priority a second that a room's members get to see.
    pub room_messages_per_second: u32,
    /// Messages of high priority a second that a room's members get to see.
    pub room_high_per_second: u32,
    /// Messages of high priority a second that a room takes as such.
    pub room_high_sends_per_second: u32,
    /// The code that a recognised repeat gets: 200, 417 or 431 (not known of the real service).
    pub repeat_code: i32,
    /// How long a `RequestId` is remembered, to answer 431 to its repeat; zero: not at all.
    pub request_id_memory: Duration,
    /// Numbers in `desc` are text, as in the page's sample; off, they are numbers, as in its table.
    pub numbers_as_text: bool,
    /// `attach` comes back form-encoded, as in the page's sample.
    pub echo_encoded: bool,
    /// Clients drop an id that they have seen, as the page says.
    pub clients_drop_repeats: bool,
    /// The rooms there are; none given: every room. Others answer 404.
    pub rooms: Option<BTreeSet<String>>,
    /// The accounts there are; none given: every account. Others answer 414.
    pub accounts: Option<BTreeSet<String>>,
}

impl Default for Yunxin {
    fn default() -> Self {
        Self {
            app_key: "key".into(),
            app_secret: "secret".into(),
            skew: Duration::from_secs(300),
            calls_per_second: 100,
            batch_calls_per_second: 100,
            users_calls_per_second: 100,
            broadcasts_per_minute: 10,
            ban: Duration::from_secs(10),
            broadcast_ban: Duration::from_secs(60),
            calls_extend_ban: false,
            room_messages_per_second: 20,
            room_high_per_second: 10,
            room_high_sends_per_second: 10,
            repeat_code: 200,
            request_id_memory: Duration::from_secs(300),
            numbers_as_text: true,
            echo_encoded: true,
            clients_drop_repeats: true,
            rooms: None,
            accounts: None,
        }
    }
}

impl Yunxin {
    /// No quota and no pace: everything well-formed is accepted and seen.
    #[must_use]
    pub fn without_limits(self) -> Self {
        Self {
            calls_per_second: 0,
            batch_calls_per_second: 0,
            users_calls_per_second: 0,
            broadcasts_per_minute: 0,
            room_messages_per_second: 0,
            room_high_per_second: 0,
            room_high_sends_per_second: 0,
            ..self
        }
    }
}

/// An endpoint's frequency control.
#[derive(Debug)]
struct Gate {
    calls: Window,
    ban: Duration,
    banned_until: Mono,
}

/// The app at work: gates, high-priority budgets, request ids.
#[derive(Debug)]
pub(super) struct Desk {
    knobs: Yunxin,
    shape: Shape,
    gates: BTreeMap<Endpoint, Gate>,
    high: HashMap<std::sync::Arc<str>, Window>,
    requests: Requests,
}

/// What became of one message: its `desc`, or a code and why.
type Sent = Result<String, (i32, String)>;

impl Desk {
    pub(super) fn new(knobs: Yunxin, shape: Shape) -> Self {
        let second = Duration::from_secs(1);
        let gate =
            |limit, span, ban| Gate { calls: Window::new(limit, span, shape), ban, banned_until: Mono(0) };
        let gates = BTreeMap::from([
            (Endpoint::Room, gate(knobs.calls_per_second, second, knobs.ban)),
            (Endpoint::Batch, gate(knobs.batch_calls_per_second, second, knobs.ban)),
            (Endpoint::Users, gate(knobs.users_calls_per_second, second, knobs.ban)),
            (
                Endpoint::Broadcast,
                gate(knobs.broadcasts_per_minute, Duration::from_secs(60), knobs.broadcast_ban),
            ),
        ]);
        let requests = Requests::new(knobs.request_id_memory);
        Self { knobs, shape, gates, high: HashMap::new(), requests }
    }

    /// The answer; what was accepted has been told to the floor.
    pub(super) fn judge(
        &mut self,
        form: &Form,
        headers: &HeaderMap,
        faults: &Faults,
        floor: &mut Floor,
    ) -> Answer {
        if let Err(answer) = self.admit(form, headers, faults, floor) {
            floor.finish(&form.notes, &answer);
            return answer;
        }
        form.warnings.iter().for_each(|warning| floor.warn(warning.clone()));
        if form.endpoint == Endpoint::Batch {
            return self.judge_batch(form, floor);
        }
        let (note, message) = (&form.notes[0], &form.messages[0]);
        let first = floor.log.next_seq();
        match self.send(form, note, message, floor) {
            Ok(desc) => reply::success(&desc),
            Err((code, desc)) => {
                let answer = reply::refused(code, reason(code), &desc);
                if floor.log.next_seq() == first {
                    floor.finish(&form.notes, &answer);
                } else {
                    // A recognised repeat: accepted long ago, and told so by a code of its own.
                    floor.amend(first, 200, code);
                }
                answer
            }
        }
    }

    fn judge_batch(&mut self, form: &Form, floor: &mut Floor) -> Answer {
        let (mut success, mut fail) = (Vec::new(), Vec::new());
        for (note, message) in form.notes.iter().zip(&form.messages) {
            let first = floor.log.next_seq();
            let sent = match &message.bad {
                Some(bad) => Err((414, bad.clone())),
                None => self.send(form, note, message, floor),
            };
            match sent {
                Ok(desc) => success.push((message.id.as_str(), desc)),
                Err((code, desc)) => {
                    if floor.log.next_seq() == first {
                        floor.refuse(note, code, reason(code));
                    } else {
                        floor.amend(first, 200, code);
                    }
                    fail.push((message.id.as_str(), desc));
                }
            }
        }
        reply::batch(&success, &fail)
    }

    /// Everything about the request itself; frequency is counted once the signature is right.
    fn admit(
        &mut self,
        form: &Form,
        headers: &HeaderMap,
        faults: &Faults,
        floor: &mut Floor,
    ) -> Result<(), Answer> {
        let now = floor.now();
        if form.endpoint == Endpoint::Other {
            return Err(reply::no_such_path());
        }
        if !form.is_post {
            return Err(reply::method());
        }
        auth::check(&self.knobs, headers, now.wall)?;
        if let Some(code) = self.frequency(form.endpoint, now, floor) {
            return Err(reply::refused(code, "call_limit", "query too fast"));
        }
        if self.requests.is_repeat(headers, now.mono) {
            return Err(reply::refused(431, "repeated_request", "http request repeated"));
        }
        if let Some(refusal) = &form.refusal {
            return Err(reply::refused(414, "invalid", refusal));
        }
        let unknown = |room: &str| self.knobs.rooms.as_ref().is_some_and(|rooms| !rooms.contains(room));
        if form.room.as_deref().is_some_and(|room| unknown(room) || faults.is_gone(room, now.mono)) {
            return Err(reply::refused(404, "gone", "chatroom not exist"));
        }
        if self.knobs.accounts.as_ref().is_some_and(|accounts| !accounts.contains(&form.from)) {
            return Err(reply::refused(414, "invalid", &format!("{} not register", form.from)));
        }
        Ok(())
    }

    fn frequency(&mut self, endpoint: Endpoint, now: Now, floor: &mut Floor) -> Option<i32> {
        let gate = self.gates.get_mut(&endpoint)?;
        let banned = now.mono < gate.banned_until;
        if !banned && gate.calls.fits(now.mono, 1) {
            gate.calls.count(now.mono, 1);
            return None;
        }
        if !banned {
            floor.ban();
        }
        if !banned || self.knobs.calls_extend_ban {
            gate.banned_until = now.mono + gate.ban;
        }
        Some(416)
    }

    fn send(&mut self, form: &Form, note: &Note, message: &Message, floor: &mut Floor) -> Sent {
        let now = floor.now();
        let mut fate = Fate { directed: form.endpoint == Endpoint::Users, ..Fate::default() };
        let known = note.id.as_ref().is_some_and(|id| floor.members.knows(note.room.as_deref(), id));
        if note.resend && known {
            fate.recognised = true;
            floor.accept(note, fate);
            return match self.knobs.repeat_code {
                200 => Ok(reply::desc(&self.knobs, form, message, now, false, false)),
                code => Err((code, "repeated msgId".into())),
            };
        }
        let mut high = note.priority == Priority::High;
        if high && form.abandon_ratio.is_some() {
            // The page: with abandonRatio present, highPriority has no effect.
            (high, fate.downgraded) = (false, true);
        }
        if high && !self.takes_high(note, now) {
            if form.forbid_high {
                return Err((403, "high priority message frequency control".into()));
            }
            (high, fate.downgraded) = (false, true);
        }
        fate.abandoned = form.abandon_ratio.is_some_and(|ratio| floor.rng.u16(0..10_000) < ratio);
        floor.accept(note, fate);
        Ok(reply::desc(&self.knobs, form, message, now, high, fate.abandoned))
    }

    /// Takes one of the room's budget for high priority. A broadcast has none.
    fn takes_high(&mut self, note: &Note, now: Now) -> bool {
        let Some(room) = &note.room else { return true };
        let limit = self.knobs.room_high_sends_per_second;
        if limit == 0 {
            return true;
        }
        let shape = self.shape;
        let budget = self
            .high
            .entry(std::sync::Arc::clone(room))
            .or_insert_with(|| Window::new(limit, Duration::from_secs(1), shape));
        let fits = budget.fits(now.mono, 1);
        if fits {
            budget.count(now.mono, 1);
        }
        fits
    }
}

fn reason(code: i32) -> &'static str {
    match code {
        403 => "high_limit",
        404 => "gone",
        414 => "invalid",
        417 | 431 => "repeated",
        _ => "refused",
    }
}

/// The `RequestId`s of late.
#[derive(Debug)]
struct Requests {
    memory: Duration,
    set: HashSet<Box<str>>,
    order: VecDeque<(Mono, Box<str>)>,
}

/// Request ids kept at most, whatever their age.
const MAX_REQUEST_IDS: usize = 200_000;

impl Requests {
    fn new(memory: Duration) -> Self {
        Self { memory, set: HashSet::new(), order: VecDeque::new() }
    }

    fn is_repeat(&mut self, headers: &HeaderMap, now: Mono) -> bool {
        if self.memory.is_zero() {
            return false;
        }
        while let Some((at, _)) = self.order.front() {
            if now.since(*at) < self.memory && self.order.len() <= MAX_REQUEST_IDS {
                break;
            }
            let (_, id) = self.order.pop_front().expect("it has a front");
            self.set.remove(&id);
        }
        let Some(id) = headers.get("requestid").and_then(|id| id.to_str().ok()) else { return false };
        if self.set.contains(id) {
            return true;
        }
        self.set.insert(id.into());
        self.order.push_back((now, id.into()));
        false
    }
}

/// Reads a request, whoever sent it; needs no state, so it is done outside the lock.
pub(super) fn read(request: &Request, content_bytes: usize) -> Form {
    form::read(request, content_bytes)
}

/// Which endpoint a path names.
pub(super) fn endpoint(path: &str) -> Endpoint {
    form::endpoint(path)
}

/// A fault's answer, in Yunxin's shape.
pub(super) fn canned(canned: &Canned) -> Answer {
    reply::canned(canned)
}

pub(super) use form::Form as Asked;
