//! Why a record becomes what it becomes: the data that `roomcast explain` prints.

use std::sync::Arc;

use serde_json::Value;

use super::Rules;
use super::directory::Directories;
use super::plan::Trace;
use crate::core::decode;
use crate::core::model::{DropReason, Plan, Record, Room};

/// What was found out about a record.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The event as filters see it; `None` when the record is none (the plan says why).
    pub event: Option<Value>,
    /// Whether it is a CloudEvent.
    pub is_cloud_event: bool,
    /// `$key`, or why the key cannot be read.
    pub key: Result<Option<String>, String>,
    /// Every route in order: whether it took the event, and why or why not.
    pub tried: Vec<Tried>,
    /// What a directory said of the key, where the route asked one.
    pub directory: Option<String>,
    /// The rooms concerned, those of letters included, in the order of the plan.
    pub rooms: Vec<Room>,
    /// What the messages are the newest of; `None` where nothing conflates them.
    pub conflate: Option<Value>,
    /// Steps that the filters took, of [`crate::core::value::budget::STEPS`].
    pub steps: u64,
    /// What the daemon would do.
    pub plan: Plan,
}

/// What one route said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its name.
    pub route: Arc<str>,
    /// Whether it took the event.
    pub took: bool,
    /// Why, or why not.
    pub why: String,
}

impl Rules {
    /// What becomes of a record, and why, where no route asks a directory.
    pub fn explain(&self, record: &Record) -> Explanation {
        self.explain_with(record, &Directories::default())
    }

    /// What becomes of a record, and why.
    pub fn explain_with(&self, record: &Record, directories: &Directories) -> Explanation {
        let mut trace = Trace::default();
        let plan = self.turn((record, record.id.source), directories, None, Some(&mut trace));
        if trace.tried.is_empty() {
            let why = match &plan.dropped {
                Some(DropReason::Tombstone) => "not asked: a record without a value is no event",
                _ => "not asked: the record is no event that can be read",
            };
            let names = self.rules.iter().map(|rule| rule.policy.name.clone());
            trace.tried = names.map(|route| Tried { route, took: false, why: why.to_owned() }).collect();
        }
        let source = self.sources.iter().find(|source| source.id == record.id.source);
        let key = decode::key(record, source.map(|source| source.key_format).unwrap_or_default());
        let sent = plan.messages.iter().map(|message| message.room.clone());
        let failed = plan.failures.iter().flat_map(|failure| failure.rooms.iter().cloned());
        Explanation {
            event: trace.event,
            is_cloud_event: trace.cloud,
            key,
            tried: trace.tried,
            rooms: sent.chain(failed).filter(|room| !room.0.is_empty()).collect(),
            directory: trace.directory,
            conflate: trace.conflate,
            steps: trace.steps,
            plan,
        }
    }
}
