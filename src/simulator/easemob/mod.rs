//! Easemob as a server: login, rooms, directed messages and broadcasts, judged in the order
//! app, token, JSON, fields, quota (`reference/providers.md` part E).
//!
//! Written from the provider's page and never from the daemon's own provider module, whose judge it
//! is. What the page leaves open is a knob of [`Easemob`]. `form` reads requests, `token` keeps the
//! tokens, `reply` writes the answers.

mod form;
mod reply;
mod token;

use std::time::Duration;

use http::HeaderMap;

use self::form::Form;
use self::token::Tokens;
use super::faults::Faults;
use super::floor::{Answer, Fate, Floor};
use super::judge::Request;
use super::rule::{Canned, Endpoint};
use super::window::{Day, Shape, Window};
use crate::core::time::Now;

/// An Easemob app and its knobs. The defaults are the page's, where it speaks. Every limit: 0 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Easemob {
    /// First part of the path.
    pub org: String,
    /// Second part of the path.
    pub app: String,
    /// Of `POST …/token`.
    pub client_id: String,
    /// Of `POST …/token`.
    pub client_secret: String,
    /// A token that is good from the start and never expires, for accounts with `app_token`.
    pub app_token: Option<String>,
    /// Life of a token when the login asks for none.
    pub token_life: Duration,
    /// `ttl` and `expires_in` are milliseconds, as on the VIP 5 cluster.
    pub token_in_ms: bool,
    /// A new token ends the older ones (not known of the real service).
    pub one_token: bool,
    /// Logins a second.
    pub token_calls_per_second: u32,
    /// Calls a second to rooms.
    pub calls_per_second: u32,
    /// Messages (rooms × calls) a second.
    pub messages_per_second: u32,
    /// Messages a second that a room's members get to see.
    pub room_messages_per_second: u32,
    /// Calls a second to members of a room.
    pub users_calls_per_second: u32,
    /// Broadcasts a second.
    pub broadcasts_per_second: u32,
    /// Broadcasts in any minute.
    pub broadcasts_per_minute: u32,
    /// Broadcasts in a UTC day.
    pub broadcasts_per_day: u32,
    /// The largest HTTP body in bytes. The page's 5 KB, read strictly: 5,000, and the whole body.
    pub max_body_bytes: usize,
    /// Clients drop an id in `ext.roomcast_id` that they have seen; off, as by itself, they show both.
    pub clients_drop_repeats: bool,
    /// Lets an unknown `chatroom_msg_level` count as normal.
    pub lenient: bool,
}

impl Default for Easemob {
    fn default() -> Self {
        Self {
            org: "acme".into(),
            app: "live".into(),
            client_id: "client".into(),
            client_secret: "secret".into(),
            app_token: None,
            token_life: Duration::from_secs(5_184_000),
            token_in_ms: false,
            one_token: false,
            token_calls_per_second: 300,
            calls_per_second: 20,
            messages_per_second: 100,
            room_messages_per_second: 20,
            users_calls_per_second: 100,
            broadcasts_per_second: 1,
            broadcasts_per_minute: 10,
            broadcasts_per_day: 100,
            max_body_bytes: 5_000,
            clients_drop_repeats: false,
            lenient: false,
        }
    }
}

impl Easemob {
    /// No quota and no pace: everything well-formed is accepted and seen.
    #[must_use]
    pub fn without_limits(self) -> Self {
        Self {
            token_calls_per_second: 0,
            calls_per_second: 0,
            messages_per_second: 0,
            room_messages_per_second: 0,
            users_calls_per_second: 0,
            broadcasts_per_second: 0,
            broadcasts_per_minute: 0,
            broadcasts_per_day: 0,
            ..self
        }
    }
}

/// The app at work: tokens, quotas, ids.
#[derive(Debug)]
pub(super) struct Desk {
    knobs: Easemob,
    application: uuid::Uuid,
    host: String,
    tokens: Tokens,
    logins: Window,
    calls: Window,
    messages: Window,
    users: Window,
    broadcast_second: Window,
    broadcast_minute: Window,
    broadcast_day: Day,
    next_id: u64,
}

/// 19 digits and above 2^53, as the page's ids are.
const FIRST_ID: u64 = 1_029_545_553_039_460_728;

impl Desk {
    pub(super) fn new(knobs: Easemob, host: String, shape: Shape, seed: u64) -> Self {
        let second = |limit| Window::new(limit, Duration::from_secs(1), shape);
        let name = format!("{}#{}", knobs.org, knobs.app);
        Self {
            application: uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()),
            host,
            tokens: Tokens::new(&knobs, seed),
            logins: second(knobs.token_calls_per_second),
            calls: second(knobs.calls_per_second),
            messages: second(knobs.messages_per_second),
            users: second(knobs.users_calls_per_second),
            broadcast_second: second(knobs.broadcasts_per_second),
            broadcast_minute: Window::new(knobs.broadcasts_per_minute, Duration::from_secs(60), shape),
            broadcast_day: Day::new(knobs.broadcasts_per_day),
            next_id: FIRST_ID,
            knobs,
        }
    }

    pub(super) fn revoke_tokens(&mut self) {
        self.tokens.revoke();
    }

    /// The answer; what was accepted has been told to the floor.
    pub(super) fn judge(
        &mut self,
        form: &Form,
        headers: &HeaderMap,
        faults: &Faults,
        floor: &mut Floor,
    ) -> Answer {
        let now = floor.now();
        let answer = self.admit(form, headers, now);
        if let Err(answer) = answer {
            floor.finish(&form.notes, &answer);
            return answer;
        }
        form.warnings.iter().for_each(|warning| floor.warn(warning.clone()));
        if form.endpoint == Endpoint::Token {
            floor.token();
            let answer = self.tokens.give(form, &self.knobs, self.application, now);
            floor.finish(&[], &answer);
            return answer;
        }
        for note in &form.notes {
            let gone = note.room.as_deref().is_some_and(|room| faults.is_gone(room, now.mono));
            floor.accept(note, Fate { gone, directed: form.endpoint == Endpoint::Users, ..Fate::default() });
        }
        let ids: Vec<u64> = form.notes.iter().map(|_| self.id(&mut floor.rng)).collect();
        reply::sent(&self.knobs, &self.host, self.application, form, &ids, now, &mut floor.rng)
    }

    fn id(&mut self, rng: &mut fastrand::Rng) -> u64 {
        self.next_id += rng.u64(1..1_000);
        self.next_id
    }

    /// Everything that can be wrong, in the provider's order; quota is taken only when all is well.
    fn admit(&mut self, form: &Form, headers: &HeaderMap, now: Now) -> Result<(), Answer> {
        if let Some(refusal) = &form.no_such_app {
            return Err(refusal.render(now));
        }
        if form.endpoint != Endpoint::Token {
            self.tokens.check(headers, now).map_err(|refusal| refusal.render(now))?;
        }
        if let Some(refusal) = &form.refusal {
            return Err(refusal.render(now));
        }
        match form.endpoint {
            Endpoint::Token => {
                take(&mut self.logins, now, 1).ok_or_else(|| reply::CALL_LIMIT.render(now))?;
                self.tokens.check_secret(form, &self.knobs).map_err(|refusal| refusal.render(now))
            }
            Endpoint::Users => take(&mut self.users, now, 1).ok_or_else(|| reply::CALL_LIMIT.render(now)),
            Endpoint::Broadcast => self.admit_broadcast(now),
            _ => {
                take(&mut self.calls, now, 1).ok_or_else(|| reply::CALL_LIMIT.render(now))?;
                let rooms = u32::try_from(form.notes.len()).unwrap_or(u32::MAX);
                take(&mut self.messages, now, rooms).ok_or_else(|| reply::MESSAGE_LIMIT.render(now))
            }
        }
    }

    fn admit_broadcast(&mut self, now: Now) -> Result<(), Answer> {
        if !self.broadcast_second.fits(now.mono, 1) || !self.broadcast_minute.fits(now.mono, 1) {
            return Err(reply::CALL_LIMIT.render(now));
        }
        if !self.broadcast_day.fits(now.wall) {
            return Err(reply::BROADCAST_DAY.render(now));
        }
        self.broadcast_second.count(now.mono, 1);
        self.broadcast_minute.count(now.mono, 1);
        self.broadcast_day.count(now.wall);
        Ok(())
    }
}

fn take(window: &mut Window, now: Now, weight: u32) -> Option<()> {
    if !window.fits(now.mono, weight) {
        return None;
    }
    window.count(now.mono, weight);
    Some(())
}

/// Reads a request, whoever sent it; needs no state, so it is done outside the lock.
pub(super) fn read(knobs: &Easemob, request: &Request, content_bytes: usize) -> Form {
    form::read(knobs, request, content_bytes)
}

/// Which endpoint a path names.
pub(super) fn endpoint(path: &str) -> Endpoint {
    form::split(path).2
}

/// A fault's answer, in Easemob's shape.
pub(super) fn canned(canned: &Canned, now: Now) -> Answer {
    reply::canned(canned, now)
}

pub(super) use form::Form as Asked;
