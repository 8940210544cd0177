//! Calls on their way: what leaves a process, when the provider counts it, what it answers, and what
//! of that comes back. Requests and replies are the real ones.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use roomcast::core::model::{Path, Priority, Room};
use roomcast::core::provider::{Answer, Call, Fault as NoAnswer, Item, Reply, Session, Stamp};
use roomcast::core::schedule::Attempt;
use roomcast::core::time::{Mono, Wall};
use roomcast::simulator::{self, Request};

use crate::account::{FOREIGN_TOKEN, Kind};
use crate::faults::Fault;
use crate::spec::event_in;
use crate::world::{Happening, ProcessNo, World, millis};

/// A call under way.
#[derive(Debug)]
pub struct Away {
    pub process: ProcessNo,
    /// Which life of that process made it.
    pub life: u32,
    pub account: usize,
    pub what: What,
    pub call: Call,
    pub left_at: Mono,
    pub answers_at: Mono,
    pub end: End,
    pub answer: Option<Answer>,
    /// Whether the provider has judged it.
    pub arrived: bool,
}

/// What it is for.
#[derive(Debug)]
pub enum What {
    /// Messages.
    Send(Attempt),
    /// A session.
    Login,
    /// Somebody else's message.
    Foreign,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The provider's answer comes back.
    Whole,
    /// It never left.
    NotSent,
    /// It never arrived, and nobody says so.
    RequestLost,
    /// It arrived, and the answer is lost.
    AnswerLost,
    /// A gateway answered instead, before or after the provider.
    Gateway { status: u16, arrives: bool },
    /// The answer's body breaks off.
    Broken,
}

impl End {
    fn arrives(self) -> bool {
        match self {
            Self::Whole | Self::AnswerLost | Self::Broken => true,
            Self::NotSent | Self::RequestLost => false,
            Self::Gateway { arrives, .. } => arrives,
        }
    }
}

impl World {
    /// A process makes a call with messages.
    pub fn send(&mut self, process: ProcessNo, attempt: Attempt) {
        let account = usize::from(attempt.account.0);
        let stamp = Stamp { at: self.wall_of(process), nonce: self.rng.u128(..) };
        let provider = &self.accounts[account].provider;
        let call = provider.call(attempt.path, &attempt.items, attempt.session.as_deref(), &stamp);
        self.note(&|| {
            let items = attempt.items.iter().map(|item| {
                let message = &self.spec.messages[self.laws.number(&self.spec, item)];
                let priority = message.priority.word();
                format!("{}/{priority}:{}{}", item.room, message.event, mark(item.resend))
            });
            let items: Vec<String> = items.collect();
            format!("  p{process} sends {:?} {:?} {}", attempt.id, attempt.path, items.join(" "))
        });
        self.law_sent(process, &attempt);
        self.leave(process, account, What::Send(attempt), call);
    }

    /// A process logs an account in.
    pub fn login(&mut self, process: ProcessNo, account: usize) {
        self.seen.logins += 1;
        let call = self.accounts[account].provider.login().expect("only accounts with a login ask for one");
        self.leave(process, account, What::Login, call);
    }

    fn leave(&mut self, process: ProcessNo, account: usize, what: What, call: Call) {
        let timeout = self.accounts[account].provider.timeout();
        let end = self.draw_end(account);
        let latency = match self.faults_now(Fault::HeavyTail) && self.rng.u8(..16) == 0 {
            true => millis(self.rng.u64(1_000..4_990)),
            false => millis(self.rng.u64(1..80)),
        };
        let waits_for_timeout = matches!(end, End::RequestLost | End::AnswerLost) && self.rng.bool();
        let answers_at = self.now + if waits_for_timeout { timeout } else { latency };
        let id = self.next_call;
        self.next_call += 1;
        if end.arrives() {
            let within = answers_at.since(self.now).as_nanos();
            let after = self.rng.u64(..=u64::try_from(within).expect("seconds"));
            self.plan(self.now + Duration::from_nanos(after), Happening::Arrive(id));
        }
        self.plan(answers_at, Happening::Answer(id));
        let life = self.processes[process].life;
        let away = Away {
            process,
            life,
            account,
            what,
            call,
            left_at: self.now,
            answers_at,
            end,
            answer: None,
            arrived: false,
        };
        self.calls.insert(id, away);
    }

    fn draw_end(&mut self, account: usize) -> End {
        let (from, until) = self.accounts[account].outage;
        if from <= self.now && self.now < until {
            return if self.rng.bool() { End::NotSent } else { End::RequestLost };
        }
        let (from, until) = self.accounts[account].storm;
        if from <= self.now && self.now < until && self.rng.u8(..4) > 0 {
            let status = [500, 502, 503, 504][self.rng.usize(..4)];
            return End::Gateway { status, arrives: self.rng.bool() };
        }
        if !self.faulty() {
            return End::Whole;
        }
        match self.rng.u8(..64) {
            0..3 if self.faults.has(Fault::LostAnswer) => End::AnswerLost,
            3..5 if self.faults.has(Fault::LostRequest) => End::RequestLost,
            5..7 if self.faults.has(Fault::Unreachable) => End::NotSent,
            7 if self.faults.has(Fault::BrokenAnswer) => End::Broken,
            _ => End::Whole,
        }
    }

    /// The provider takes a request up.
    pub fn arrive(&mut self, id: u64) {
        let Some(mut away) = self.calls.remove(&id) else { return };
        away.arrived = true;
        let plan = self.judge(&away);
        let date = Wall(self.true_wall().0 / 1_000 * 1_000);
        let body = plan.answer.body;
        let reply = Reply {
            status: plan.answer.status,
            retry_after: plan.answer.retry_after.map(|seconds| Duration::from_secs(u64::from(seconds))),
            date: Some(date),
            body,
            whole: true,
        };
        away.answer = Some(Ok(reply));
        let over = away.process == usize::MAX || away.answers_at <= self.now;
        if !over || matches!(away.what, What::Send(_) | What::Login) {
            self.calls.insert(id, away);
        }
    }

    /// Asks the judge, and reads its log for the laws.
    fn judge(&mut self, away: &Away) -> simulator::Plan {
        let now = self.true_now();
        let account = &mut self.accounts[away.account];
        let prefix = match account.kind {
            Kind::Easemob => "",
            Kind::Yunxin => "/nimserver",
        };
        let request = Request {
            method: Method::POST,
            path: format!("{prefix}{}", away.call.path),
            headers: away.call.headers.clone(),
            body: away.call.body.clone(),
        };
        let mut asked = simulator::read(&account.service, &request, 256);
        let first = account.judge.next_entry();
        let plan = account.judge.take(&mut asked, &request.headers, now);
        if let What::Send(attempt) = &away.what {
            let found: Vec<_> = account
                .judge
                .log_from(first)
                .map(|entry| (event_in(&entry.content), entry.room.clone(), entry.accepted, entry.resend))
                .collect();
            assert_eq!(
                found.len(),
                attempt.items.len(),
                "the provider reads one message for each item: {:?}",
                String::from_utf8_lossy(&plan.answer.body)
            );
            self.law_counted(away.account, attempt.path, &attempt.items);
            for (event, room, accepted, resend) in found {
                let event = event.expect("the token came through");
                let room = room.filter(|_| attempt.path != Path::Broadcast);
                let message = self.spec.message_for(event, room.as_deref().unwrap_or(""));
                let message = message.expect("the room is one of the event's");
                self.law_arrived(message, accepted, resend, away.left_at);
                if accepted && away.end != End::Whole {
                    // Whoever asked will not hear of it, whatever it is told instead.
                    self.laws.fates[message].maybe = true;
                }
            }
            if plan.answer.reason != "accepted" {
                self.law_refused(away.account, plan.answer.reason, plan.answer.code);
            }
        }
        plan
    }

    /// An answer, or the lack of one, comes back to whoever is left to hear it.
    pub fn answer(&mut self, id: u64) {
        let Some(away) = self.calls.remove(&id) else { return };
        let Away { process, life, account, what, end, answer, .. } = away;
        if process == usize::MAX || self.processes[process].life != life || !self.processes[process].alive {
            return;
        }
        let answer = self.what_comes_back(end, answer);
        match what {
            What::Send(attempt) => {
                let provider = &self.accounts[account].provider;
                let outcomes = provider.outcomes(attempt.path, &attempt.items, &answer);
                self.note(&|| {
                    let words: Vec<_> =
                        outcomes.iter().map(roomcast::core::provider::Outcome::word).collect();
                    format!("  p{process} {:?} {end:?}: {}", attempt.id, words.join(" "))
                });
                self.law_outcome(process, &attempt, &outcomes);
                self.share_ban(process, account, attempt.path, &outcomes);
                let now = self.now_of(process);
                self.processes[process].scheduler.handle_outcome(attempt.id, &outcomes, now);
            }
            What::Login => {
                let result = self.accounts[account].provider.session(&answer);
                let now = self.now_of(process);
                let id = roomcast::core::model::AccountId(u16::try_from(account).expect("few"));
                self.processes[process].scheduler.handle_login(id, result, now);
            }
            What::Foreign => {}
        }
    }

    fn what_comes_back(&mut self, end: End, answer: Option<Answer>) -> Answer {
        let lost = || Err(NoAnswer::Unknown("connection reset".to_owned()));
        match (end, answer) {
            (End::Whole, Some(answer)) => answer,
            (End::NotSent, _) => Err(NoAnswer::NotSent("connection refused".to_owned())),
            (End::Gateway { status, .. }, _) => {
                let body = Bytes::from_static(b"<html><h1>gateway</h1></html>");
                Ok(Reply { status, retry_after: None, date: None, body, whole: true })
            }
            (End::Broken, Some(Ok(reply))) => {
                let cut = self.rng.usize(..=reply.body.len());
                Ok(Reply { body: reply.body.slice(..cut), whole: false, ..reply })
            }
            _ => lost(),
        }
    }

    /// The calls of a process that has just died: what is not there yet arrives within a quarter of a
    /// second, or never.
    pub fn orphan_calls(&mut self, process: ProcessNo) {
        let life = self.processes[process].life;
        let ids: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, away)| away.process == process && away.life == life)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let mut away = self.calls.remove(&id).expect("it was listed");
            if let What::Send(attempt) = &away.what {
                self.law_orphaned(attempt);
            }
            if away.end.arrives() && !away.arrived && self.rng.bool() {
                let at = self.now + millis(self.rng.u64(0..250));
                away.answers_at = at;
                // Under a number of its own: the arrival that was planned finds nothing.
                let id = self.next_call;
                self.next_call += 1;
                self.calls.insert(id, away);
                self.plan(at, Happening::Arrive(id));
            }
        }
    }

    /// Others use the account until it is full, and beyond.
    pub fn foreigners(&mut self, account: usize) {
        let of = &self.accounts[account];
        let count = of.full.paths[Path::Room as usize].calls_per_second + 1;
        let content = of.content(
            usize::MAX,
            Path::Room,
            Priority::Normal,
            roomcast::core::model::BaseId(uuid::Uuid::nil()),
        );
        let session = Session { token: FOREIGN_TOKEN.to_owned().into(), lifetime: None };
        for _ in 0..count {
            let id = roomcast::core::model::MessageId(uuid::Uuid::from_u128(self.rng.u128(..)));
            let item = Item { room: Room("999".into()), id, content: content.clone(), resend: false };
            let stamp = Stamp { at: self.true_wall(), nonce: self.rng.u128(..) };
            let call = self.accounts[account].provider.call(Path::Room, &[item], Some(&session), &stamp);
            let away = Away {
                process: usize::MAX,
                life: 0,
                account,
                what: What::Foreign,
                call,
                left_at: self.now,
                answers_at: self.now,
                end: End::Whole,
                answer: None,
                arrived: true,
            };
            drop(self.judge(&away));
        }
        self.accounts[account].foreign_until = self.now + Duration::from_secs(25);
        self.seen.foreign += 1;
    }
}

fn mark(resend: bool) -> &'static str {
    if resend { "*" } else { "" }
}
