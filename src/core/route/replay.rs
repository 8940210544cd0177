//! A replay through the routes: what a letter owes is rendered as the routes say now, and no more.
//!
//! The id of what is owed and the rooms it is owed to are the letter's; the content is the routes'. A
//! letter of a record that never became messages (`garbled`, `mapping`, `no_route`) owes all of them:
//! its record is routed anew.

use super::Rules;
use super::directory::Directories;
use super::identity::Identity;
use super::plan::failure;
use crate::core::model::{BaseId, Class, Plan, Priority, Record, Room, SourceId};
use crate::core::replay::{Content, Request, open};

/// Messages of a route among which the one that is owed is looked for.
const MOST_MESSAGES: u32 = 256;

/// What a replay changes of the way through the routes.
#[derive(Debug)]
pub(super) struct Replay<'r> {
    request: &'r Request,
    /// The one route that is asked for, whatever the others say.
    pub only: Option<&'r str>,
    /// Whether the letter owes something of its own; else its record is routed anew.
    is_owed: bool,
}

impl<'r> Replay<'r> {
    fn new(request: &'r Request) -> Self {
        let told = &request.told;
        let never_routed = matches!(told.class, Some(Class::Garbled | Class::Mapping | Class::NoRoute));
        let only = match request.asked.content {
            Content::Original => told.route.as_deref(),
            Content::Current => None,
        };
        Self { request, only, is_owed: !(never_routed && told.rooms.is_empty()) }
    }

    /// The rooms that are owed; `None`: those that the route gives.
    pub(super) fn rooms(&self) -> Option<&'r [Room]> {
        (self.is_owed && !self.request.told.rooms.is_empty()).then_some(&*self.request.told.rooms)
    }

    /// The base id of what is owed; `None`: the event's own.
    pub(super) fn base(&self) -> Option<BaseId> {
        self.is_owed.then_some(self.request.told.base)
    }

    /// Which of its route's messages is owed; `None`: all of them. The id tells, as long as the event is
    /// the same; an event that was changed counts as owing the first.
    pub(super) fn owed_index(&self, identity: &Identity<'_>) -> Option<usize> {
        let base = self.base()?;
        let route = self.request.told.route.as_deref().unwrap_or_default();
        let index = (0..MOST_MESSAGES).find(|&index| identity.base(route, index) == base);
        Some(index.unwrap_or(0) as usize)
    }

    /// Sees to it that nothing that is owed is left out of a plan's letters, and that its messages go behind
    /// live ones, each for itself.
    fn settle(&self, plan: &mut Plan) {
        for message in &mut plan.messages {
            (message.priority, message.conflate) = (Priority::Background, None);
            if !self.request.asked.keep_ttl {
                message.expires = None;
            }
        }
        let Some(base) = self.base() else { return };
        plan.base = base;
        for failure in &mut plan.failures {
            failure.base = base;
            if failure.rooms.is_empty() {
                failure.rooms.clone_from(&self.request.told.rooms);
            }
        }
    }
}

impl Rules {
    /// What becomes of a record that [`crate::core::replay::open`] made of a request, which it still carries.
    pub fn plan_request(&self, record: &Record, beside: SourceId, directories: &Directories) -> Plan {
        match open(record) {
            Ok((request, record)) => self.plan_replay(&request, &record, beside, directories),
            Err(why) => {
                let mut plan = self.plan_with(record, directories);
                (plan.messages, plan.waits, plan.dropped) = (Vec::new(), None, None);
                plan.failures = vec![failure(plan.base, Class::Garbled, why, Vec::new())];
                plan
            }
        }
    }

    /// What becomes of a letter that is replayed: `record` is the one that it was written for, `beside` a
    /// source of its dead-letter topic, for a letter of one that the config does not have any more.
    pub fn plan_replay(
        &self,
        request: &Request,
        record: &Record,
        beside: SourceId,
        directories: &Directories,
    ) -> Plan {
        let replay = Replay::new(request);
        let named = self.sources.iter().find(|source| *source.name == *request.told.source);
        let source = named.map_or(beside, |source| source.id);
        let mut plan = self.turn((record, source), directories, Some(&replay), None);
        if let Some(only) = replay.only
            && plan.route.is_none()
            && !self.rules.iter().any(|rule| *rule.policy.name == *only)
        {
            let why = format!(
                "the replay asks for the letter's own route {only:?}, which the config does not have"
            );
            (plan.dropped, plan.failures) = (None, vec![failure(plan.base, Class::NoRoute, why, Vec::new())]);
        }
        replay.settle(&mut plan);
        plan
    }
}
