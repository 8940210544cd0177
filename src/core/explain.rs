//! What would become of an event: what `roomcast explain` prints, and what a letter's page says of today.
//!
//! The event goes through the routes as in `run`. Directories are looked up as far as somebody could open
//! them; nothing is sent, and what is shown where a secret would stand is `***`.

pub mod requests;

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::model::{DirectoryId, DropReason, Failure, Plan, Record, RouteId};
use super::route::directory::Directories;
use super::route::{Explanation, Rules, Tried};
use super::schedule::{OnExpiry, RoutePolicy};
use super::time::Wall;

/// What routes say of waiting, by their ids.
pub type Policies = BTreeMap<RouteId, RoutePolicy>;

/// Directories, as far as they could be opened.
#[derive(Debug, Default)]
pub struct Looked {
    /// What they hold.
    pub directories: Directories,
    /// Of the others, why they are not looked up, a sentence each.
    pub closed: BTreeMap<DirectoryId, String>,
}

/// What becomes of a record, and why.
pub fn found(rules: &Rules, record: &Record, looked: &Looked) -> Explanation {
    let mut found = rules.explain_with(record, &looked.directories);
    if let Some(wait) = found.plan.waits.as_deref().filter(|wait| wait.at_most.is_none()) {
        let why = looked.closed.get(&wait.directory).cloned();
        found.directory = why.or(found.directory);
    }
    found
}

/// All that is told of an event.
#[derive(Debug)]
pub struct Told<'a> {
    /// The source it comes from.
    pub source: &'a str,
    /// Its topic or subject.
    pub topic: &'a str,
    /// The requests that carry its messages.
    pub requests: Vec<requests::Request>,
    /// What the routes made of it, and why.
    pub found: &'a Explanation,
    /// What the routes say of waiting.
    pub policies: &'a Policies,
    /// The time it is.
    pub now: Wall,
}

impl Told<'_> {
    /// What became of the event, a line each; the requests follow it.
    pub fn fates(&self) -> Vec<String> {
        let mut lines = remarks(self.found, self.policies, self.now);
        lines.extend(match self.found.plan.messages.len() {
            0 => None,
            1 => Some("1 message:".to_owned()),
            n => Some(format!("{n} messages:")),
        });
        lines
    }

    /// For machines.
    pub fn json(&self) -> Json {
        let plan = &self.found.plan;
        let tried = &self.found.tried;
        let one = |t: &Tried| json!({ "route": *t.route, "took": t.took, "why": t.why });
        json!({
            "source": self.source,
            "topic": self.topic,
            "event": self.found.event,
            "key": self.found.key.as_ref().ok(),
            "route": tried.iter().find(|t| t.took).map(|t| t.route.to_string()),
            "routes": tried.iter().map(one).collect::<Vec<_>>(),
            "filter_steps": self.found.steps,
            "conflate": self.found.conflate,
            "expires": plan.messages.iter().find_map(|message| message.expires).map(Wall::rfc3339),
            "directory": self.found.directory,
            "waits_seconds": plan.waits.as_deref().and_then(|wait| wait.at_most).map(|at_most| at_most.as_secs_f64()),
            "dropped": plan.dropped.map(DropReason::word),
            "letters": plan.failures.iter().map(letter).collect::<Vec<_>>(),
            "requests": self.requests.iter().map(requests::Request::json).collect::<Vec<_>>(),
        })
    }
}

fn letter(failure: &Failure) -> Json {
    let rooms: Vec<String> = failure.rooms.iter().map(ToString::to_string).collect();
    json!({ "class": failure.class.word(), "error": failure.error, "rooms": rooms })
}

/// What is to be said of an event beside its requests: letters, drops, and what would become of a
/// message while it waits.
pub fn remarks(found: &Explanation, policies: &Policies, now: Wall) -> Vec<String> {
    let plan = &found.plan;
    let mut lines: Vec<String> = found.directory.iter().cloned().collect();
    for failure in &plan.failures {
        let rooms: Vec<String> = failure.rooms.iter().map(ToString::to_string).collect();
        let of = if rooms.is_empty() { String::new() } else { format!(" (rooms {})", rooms.join(", ")) };
        lines.push(format!("A letter of class {}{of}: {}", failure.class.word(), failure.error));
    }
    if let Some(reason) = plan.dropped {
        lines.push(format!("Dropped: {}", reason.word()));
    }
    match plan.waits.as_deref().map(|wait| wait.at_most) {
        None => {}
        Some(Some(at_most)) => lines.push(format!(
            "It waits until the key is known, {at_most:?} at most, then a letter of class no_route"
        )),
        Some(None) => lines.push("What it becomes is known to `roomcast run` alone".to_owned()),
    }
    lines.extend(expiry(plan, policies, now));
    if let Some(value) = &found.conflate {
        lines.push(format!(
            "Conflated by {value}: while it waits, a newer message of its lane with the same value takes its place"
        ));
    }
    lines
}

/// Until when the messages may wait, and what becomes of them then.
fn expiry(plan: &Plan, policies: &Policies, now: Wall) -> Option<String> {
    let (message, at) = plan.messages.iter().find_map(|message| Some((message, message.expires?)))?;
    let fate = match policies.get(&message.route)?.on_expiry {
        OnExpiry::Drop => "dropped (expired)",
        OnExpiry::DeadLetter => "a letter of class expired",
    };
    Some(match at <= now {
        true => format!("Too late: its time-to-live ended at {}, so that it is {fate}", at.rfc3339()),
        false => format!("It may wait until {}; then it is {fate}", at.rfc3339()),
    })
}
