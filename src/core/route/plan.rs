//! One record through the routes: decode, match, address, render.
//!
//! All filters of a record share one budget. A panic anywhere in here is a fault of ours and costs
//! that record a letter, nothing more.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::directory::Directories;
use super::filter::{Input, Trouble};
use super::identity::Identity;
use super::replay::Replay;
use super::rooms::RoomsRule;
use super::rule::{PRIORITIES, PriorityRule, Rule, Send, Target, fits};
use super::{Rules, SourceView, Tried, Unmatched};
use crate::core::decode::{self, Event};
use crate::core::model::{
    BaseId, Class, DropReason, Failure, Plan, Priority, Record, Room, RouteId, SourceId,
};
use crate::core::time::Wall;
use crate::core::value::Val;
use crate::core::value::budget::{Exhausted, Meter};

/// What a turn tells about itself, for `explain`.
#[derive(Debug, Default)]
pub struct Trace {
    /// The routes that were asked, in order.
    pub tried: Vec<Tried>,
    /// The event, once decoded.
    pub event: Option<serde_json::Value>,
    /// Whether it is a CloudEvent.
    pub cloud: bool,
    /// What a directory said of the key, where one was asked.
    pub directory: Option<String>,
    /// What `conflate` gave, where the route has one and it is not null.
    pub conflate: Option<serde_json::Value>,
    /// Steps that the filters took.
    pub steps: u64,
}

impl Rules {
    /// What becomes of a record, where no route asks a directory.
    pub fn plan(&self, record: &Record) -> Plan {
        self.plan_with(record, &Directories::default())
    }

    /// What becomes of a record.
    pub fn plan_with(&self, record: &Record, directories: &Directories) -> Plan {
        self.turn((record, record.id.source), directories, None, None)
    }

    /// The same for a record of that source, with what a replay changes, and with its reasons told to
    /// `trace`.
    pub(super) fn turn(
        &self,
        (record, source): (&Record, SourceId),
        directories: &Directories,
        replay: Option<&Replay<'_>>,
        trace: Option<&mut Trace>,
    ) -> Plan {
        let source = self.sources.iter().find(|known| known.id == source);
        let name = source.map_or("", |source| &source.name);
        let base = Identity::Record(name, &record.origin).base("", 0);
        let mut plan = Plan {
            route: None,
            account: None,
            base,
            messages: Vec::new(),
            failures: Vec::new(),
            dropped: None,
            when_errors: 0,
            unknown: None,
            waits: None,
        };
        if record.value.is_none() {
            plan.dropped = Some(DropReason::Tombstone);
            return plan;
        }
        let Some(source) = source else {
            plan.failures.push(failure(
                plan.base,
                Class::NoRoute,
                "a source that the config does not have",
                Vec::new(),
            ));
            return plan;
        };
        let decoded = catch_unwind(|| decode::event(record, source.payload));
        let event = match decoded {
            Ok(Ok(event)) => event,
            Ok(Err(garbled)) => {
                plan.failures.push(failure(plan.base, Class::Garbled, garbled.0, Vec::new()));
                return plan;
            }
            Err(_) => {
                plan.failures.push(failure(
                    plan.base,
                    Class::Garbled,
                    "decoding panicked: a fault of roomcast",
                    Vec::new(),
                ));
                return plan;
            }
        };
        let before = plan.clone();
        let turn = Turn { rules: self, record, source, event: &event, directories, replay, trace, plan };
        catch_unwind(AssertUnwindSafe(|| turn.run())).unwrap_or_else(|payload| {
            // The budget can also end between two filters, where a value is shown to people.
            let why = match payload.downcast::<Exhausted>() {
                Ok(exhausted) => format!("the filters {}", exhausted.0),
                Err(_) => "routing panicked: a fault of roomcast".to_owned(),
            };
            let mut plan = before;
            plan.failures.push(failure(plan.base, Class::Mapping, why, Vec::new()));
            plan
        })
    }
}

/// Rooms that an event owes a message.
pub(super) fn failure(base: BaseId, class: Class, error: impl Into<String>, rooms: Vec<Room>) -> Failure {
    Failure { base, class, error: error.into(), rooms }
}

/// A record on its way through the routes.
pub(super) struct Turn<'t> {
    pub(super) rules: &'t Rules,
    pub(super) record: &'t Record,
    source: &'t SourceView,
    pub(super) event: &'t Event,
    pub(super) directories: &'t Directories,
    pub(super) replay: Option<&'t Replay<'t>>,
    pub(super) trace: Option<&'t mut Trace>,
    pub(super) plan: Plan,
}

/// What a route says to an event.
enum Answer {
    /// It takes it, because of this.
    Takes(&'static str),
    /// It does not, because of this.
    Leaves(String),
    /// It cannot be asked: the record's budget is spent.
    Fatal(String),
}

impl<'t> Turn<'t> {
    fn run(mut self) -> Plan {
        let meter = Meter::start();
        let key = decode::key(self.record, self.source.key_format);
        let input = self.input(&key);
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.event = Some(self.event.value.to_json());
            trace.cloud = self.event.cloud.is_some();
        }
        let identity = self.identity();
        let rules = self.rules;
        for (id, rule) in rules.routes() {
            if self.plan.route.is_some() {
                if self.trace.is_none() {
                    break;
                }
                self.told(rule, false, || "not asked: an earlier route took the event".to_owned());
                continue;
            }
            let answer = match self.replay.and_then(|replay| replay.only) {
                None => self.ask(rule, &input),
                Some(only) if *rule.policy.name == *only => Answer::Takes("the replay asks for it"),
                Some(only) => self.leaves(|| format!("the replay asks for route {only:?}")),
            };
            match answer {
                Answer::Leaves(why) => self.told(rule, false, || why),
                Answer::Takes(why) => {
                    self.told(rule, true, || why.to_owned());
                    self.plan.base = identity.base(&rule.policy.name, 0);
                    self.take(id, rule, &input, key.as_ref().err());
                }
                Answer::Fatal(why) => {
                    self.told(rule, true, || why.clone());
                    self.plan.route = Some(id);
                    self.plan.account = rule.send.as_ref().map(|send| send.account.id);
                    self.plan.base = identity.base(&rule.policy.name, 0);
                    self.plan.failures.push(failure(self.plan.base, Class::Mapping, why, Vec::new()));
                }
            }
        }
        if self.plan.route.is_none() {
            self.plan.base = identity.base("", 0);
            self.unmatched();
        }
        if let Some(trace) = self.trace {
            trace.steps = meter.steps_taken();
        }
        self.plan
    }

    /// What the event is known by.
    pub(super) fn identity(&self) -> Identity<'t> {
        match &self.event.cloud {
            Some(cloud) => Identity::Event(cloud),
            None => Identity::Record(&self.source.name, &self.record.origin),
        }
    }

    fn told(&mut self, rule: &Rule, took: bool, why: impl FnOnce() -> String) {
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.tried.push(Tried { route: rule.policy.name.clone(), took, why: why() });
        }
    }

    /// A route leaves the event. Why is put into words only for somebody who listens.
    fn leaves(&self, why: impl FnOnce() -> String) -> Answer {
        Answer::Leaves(if self.trace.is_some() { why() } else { String::new() })
    }

    fn input(&self, key: &Result<Option<String>, String>) -> Input {
        let key = key.as_ref().ok().and_then(|key| key.as_deref());
        Input::of(self.event.value.clone(), key, self.record, self.rules.uses_headers)
    }

    /// Whether a route takes the event.
    fn ask(&mut self, rule: &Rule, input: &Input) -> Answer {
        let scope = &rule.scope;
        let topic = &*self.record.origin.topic;
        if scope.source.is_some_and(|source| source != self.source.id) {
            return self.leaves(|| format!("takes events of another source than {:?}", self.source.name));
        }
        if scope.topics.as_ref().is_some_and(|topics| !topics.iter().any(|name| name == topic)) {
            return self.leaves(|| format!("its topics do not have {topic:?}"));
        }
        if scope.subjects.as_ref().is_some_and(|subjects| !subjects.iter().any(|p| fits(p, topic))) {
            return self.leaves(|| format!("none of its subjects fits {topic:?}"));
        }
        let Some(when) = &rule.when else { return Answer::Takes("it has no `when`") };
        match when.output(input) {
            Ok(Val::Null | Val::Bool(false)) => {
                self.leaves(|| format!("its `when` is false: {}", when.text()))
            }
            Ok(_) => Answer::Takes("its `when` is true"),
            Err(Trouble::Failed(why)) => {
                self.plan.when_errors += 1;
                self.leaves(|| format!("its `when` failed, which counts as false: {why}"))
            }
            Err(Trouble::Fatal(why)) => Answer::Fatal(format!("when of route {:?}: {why}", rule.policy.name)),
        }
    }

    fn unmatched(&mut self) {
        match self.source.unmatched {
            Unmatched::Drop => self.plan.dropped = Some(DropReason::Unmatched),
            Unmatched::DeadLetter => {
                let failed = match self.plan.when_errors {
                    0 => String::new(),
                    count => format!(", the `when` of {count} failed"),
                };
                let error = format!(
                    "no route takes it: {} asked{failed}; the source says unmatched = \"dead_letter\"",
                    self.rules.rules.len()
                );
                self.plan.failures.push(failure(self.plan.base, Class::NoRoute, error, Vec::new()));
            }
        }
    }

    /// Makes the messages of the route that took the event.
    fn take(&mut self, id: RouteId, rule: &Rule, input: &Input, key_error: Option<&String>) {
        self.plan.route = Some(id);
        let Some(send) = &rule.send else {
            self.plan.dropped = Some(DropReason::Rule);
            return;
        };
        self.plan.account = Some(send.account.id);
        if let Err(why) = self.send((id, &rule.policy.name), send, input, key_error) {
            self.plan.failures.push(failure(self.plan.base, Class::Mapping, why, Vec::new()));
        }
    }

    fn send(
        &mut self,
        route: (RouteId, &str),
        send: &Send,
        input: &Input,
        key_error: Option<&String>,
    ) -> Result<(), String> {
        let priority = priority(&send.priority, input)?;
        let owed = self.replay.and_then(Replay::rooms);
        if let (Some(_), Target::All) = (owed, &send.target) {
            return Err("the route sends to all rooms now, and the letter owes some".to_owned());
        }
        let looked_up = match (owed, send.target.rooms()) {
            (Some(owed), _) => Some(owed.to_vec()),
            (None, Some(RoomsRule::Directory(directory))) => {
                match self.look_up(directory, input, key_error)? {
                    Some(rooms) => Some(rooms),
                    None => return Ok(()),
                }
            }
            _ => None,
        };
        let Some((rooms, users)) = self.address(send, looked_up, input, key_error)? else {
            self.plan.dropped = Some(DropReason::NoRoom);
            return Ok(());
        };
        self.make(route, send, input, (priority, rooms, &users))
    }

    /// When the event's time to live begins: its own time or the record's, whichever is earlier.
    pub(super) fn begins(&self) -> Wall {
        let own = self.event.cloud.as_ref().and_then(|cloud| cloud.time.as_ref()).map(|(at, _)| *at);
        own.map_or(self.record.timestamp, |own| own.min(self.record.timestamp))
    }
}

fn priority(rule: &PriorityRule, input: &Input) -> Result<Priority, String> {
    let filter = match rule {
        PriorityRule::Fixed(priority) => return Ok(*priority),
        PriorityRule::Filter(filter) => filter,
    };
    let value = filter.output(input).map_err(|trouble| format!("priority: {trouble}"))?;
    let found = PRIORITIES.iter().find(|(word, _)| value.as_text() == Some(word));
    found
        .map(|(_, priority)| *priority)
        .ok_or_else(|| format!("priority gives {}; \"high\", \"normal\" or \"low\" is wanted", value.shown()))
}
