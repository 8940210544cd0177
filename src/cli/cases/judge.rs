//! What became of a case's record, whether it is what was expected, and the difference.
//!
//! The record goes the way it goes in `run`, up to where a message would begin to wait: decoded,
//! routed, rendered, its time-to-live compared with the case's clock. Nothing is sent, and nothing
//! but the arguments decides: the same case has the same result everywhere.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use similar::TextDiff;

use super::read::{Case, Expectation, Expected};
use crate::app::App;
use crate::core::explain::{self, requests};
use crate::core::model::{Class, DropReason, Message};
use crate::core::provider::Stamp;
use crate::core::route::Explanation;
use crate::core::schedule::OnExpiry;
use crate::core::time::Wall;

/// What became of a record.
#[derive(Clone, Debug)]
pub struct Made {
    /// The messages, those of one content together.
    pub messages: Vec<MadeMessage>,
    /// Classes of its letters, sorted.
    pub letters: Vec<String>,
    /// Why it was dropped.
    pub dropped: Option<&'static str>,
    /// The route that took it.
    pub route: Option<String>,
    /// What is said of it beside, for people.
    pub notes: Vec<String>,
}

/// A message to one or more rooms.
#[derive(Clone, Debug)]
pub struct MadeMessage {
    /// `account`, `path`, `priority`, `rooms` (sorted) and `body`.
    pub fields: Map<String, Json>,
    /// The ids of its messages, which follow from the event and the route.
    pub ids: Vec<String>,
    /// The body is a form: its fields are texts, also where an expectation says a number.
    pub is_form: bool,
}

/// Sends the case's record through the routes.
pub fn make(app: &App, case: &Case) -> Made {
    let mut record = case.record.clone();
    let looked = app.look_up();
    let mut found = explain::found(&app.rules, &record, &looked);
    // Without a clock of its own a case happens when its event does, so that nothing is too late.
    if !case.has_timestamp
        && let Some(own) = own_time(&found)
    {
        record.timestamp = own;
        found = explain::found(&app.rules, &record, &looked);
    }
    let now = case.now.unwrap_or(record.timestamp);
    let plan = &found.plan;
    let (late, timely): (Vec<Message>, Vec<Message>) =
        plan.messages.iter().cloned().partition(|message| message.expires.is_some_and(|at| at <= now));
    let mut letters: Vec<String> =
        plan.failures.iter().map(|failure| failure.class.word().to_owned()).collect();
    // No key comes in a test: what waits for one becomes what it is in the end.
    let gives_up = plan.waits.as_deref().is_some_and(|wait| wait.at_most.is_some());
    letters.extend(gives_up.then(|| Class::NoRoute.word().to_owned()));
    let mut dropped = plan.dropped.map(DropReason::word);
    if let Some(message) = late.first() {
        match app.rules.policies()[usize::from(message.route.0)].on_expiry {
            OnExpiry::DeadLetter => letters.push("expired".to_owned()),
            OnExpiry::Drop if timely.is_empty() && letters.is_empty() => dropped = Some("expired"),
            OnExpiry::Drop => {}
        }
    }
    letters.sort();
    letters.dedup();
    let stamp = Stamp { at: now, nonce: 0 };
    let route = found.tried.iter().find(|tried| tried.took).map(|tried| tried.route.to_string());
    Made {
        messages: siblings(&timely).map(|group| message(app, group, &stamp)).collect(),
        letters,
        dropped,
        route,
        notes: notes(app, &found, now),
    }
}

/// Why routes took or left it, up to the one that took it, and what follows.
fn notes(app: &App, found: &Explanation, now: Wall) -> Vec<String> {
    let asked = found.tried.iter().position(|tried| tried.took).map_or(found.tried.len(), |at| at + 1);
    let routes = found.tried[..asked].iter().map(|tried| {
        let took = if tried.took { "took it" } else { "left it" };
        format!("route {} {took}: {}", tried.route, tried.why)
    });
    routes.chain(explain::remarks(found, &app.rules.policies_by_id(), now)).collect()
}

fn own_time(found: &Explanation) -> Option<Wall> {
    let event = found.event.as_ref().filter(|_| found.is_cloud_event)?;
    Wall::parse_rfc3339(event.get("time")?.as_str()?)
}

/// Messages of one content and account.
fn siblings(messages: &[Message]) -> impl Iterator<Item = &[Message]> {
    messages
        .chunk_by(|a, b| a.account == b.account && a.path == b.path && Arc::ptr_eq(&a.content, &b.content))
}

fn message(app: &App, group: &[Message], stamp: &Stamp) -> MadeMessage {
    let calls = requests::of(|id| app.account(id), group, false, stamp);
    let is_form = calls.first().is_some_and(requests::Request::is_form);
    let mut bodies = calls.iter().map(requests::Request::content);
    let first = bodies.next().unwrap_or(Json::Null);
    let body = bodies.fold(first, |common, other| in_common(&common, &other));
    let mut rooms: Vec<String> = calls.iter().flat_map(|call| call.rooms.iter().cloned()).collect();
    rooms.sort();
    let fields = json!({
        "account": calls.first().map(|call| call.account.clone()),
        "path": group[0].path.word(),
        "priority": group[0].priority.word(),
        "rooms": rooms,
        "body": body,
    });
    let Json::Object(fields) = fields else { unreachable!("it is written as an object") };
    let mut ids: Vec<String> = calls.iter().flat_map(|call| call.ids.iter().cloned()).collect();
    ids.push(group[0].base.to_string());
    MadeMessage { fields, ids, is_form }
}

/// What the bodies of several calls have in common: all but their rooms and ids.
fn in_common(a: &Json, b: &Json) -> Json {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) => {
            let both = a.iter().filter_map(|(key, value)| {
                let other = b.get(key)?;
                (value == other || (value.is_object() && other.is_object()))
                    .then(|| (key.clone(), in_common(value, other)))
            });
            Json::Object(both.collect())
        }
        _ => a.clone(),
    }
}

/// Whether what was made is what was expected: in part, or with `exact` in full. Null is as good as
/// nothing there, since TOML cannot say it.
pub fn matches(expected: &Json, made: &Json, exact: bool) -> bool {
    match (expected, made) {
        (Json::Object(expected), Json::Object(made)) => {
            let all = expected.iter().all(|(key, value)| {
                made.get(key).map_or(value.is_null(), |made| matches(value, made, exact))
            });
            all && (!exact || made.iter().all(|(key, value)| value.is_null() || expected.contains_key(key)))
        }
        (Json::Array(expected), Json::Array(made)) => {
            expected.len() == made.len()
                && expected.iter().zip(made).all(|(expected, made)| matches(expected, made, exact))
        }
        // 1 and 1.0 are one value to jq.
        (Json::Number(a), Json::Number(b)) => {
            a == b || (a.is_f64() != b.is_f64() && a.as_f64() == b.as_f64())
        }
        _ => expected == made,
    }
}

impl Expectation {
    /// What is expected, in the types that the message's body has.
    pub fn typed(&self, made: &MadeMessage) -> Map<String, Json> {
        let mut fields = self.fields.clone();
        if let Some(Json::Object(body)) = fields.get_mut("body").filter(|_| made.is_form) {
            for value in body.values_mut().filter(|value| value.is_number() || value.is_boolean()) {
                *value = Json::from(value.to_string());
            }
        }
        fields
    }

    /// Whether the message is the one.
    pub fn fits(&self, made: &MadeMessage) -> bool {
        self.typed(made).iter().all(|(key, expected)| {
            made.fields.get(key).is_some_and(|made| matches(expected, made, self.exact))
        })
    }

    /// Of the message, what the expectation speaks of: the rest would be noise in a difference.
    fn seen(&self, made: &MadeMessage) -> Json {
        let typed = self.typed(made);
        let fields = typed.iter().filter_map(|(key, expected)| {
            Some((key.clone(), project(expected, made.fields.get(key)?, self.exact)))
        });
        Json::Object(fields.collect())
    }
}

fn project(expected: &Json, made: &Json, exact: bool) -> Json {
    match (expected, made) {
        // Where something is missing, what stands in its place is worth seeing.
        (Json::Object(wanted), Json::Object(has)) if wanted.keys().any(|key| !has.contains_key(key)) => {
            made.clone()
        }
        (Json::Object(expected), Json::Object(made)) => {
            let fields = made.iter().filter_map(|(key, made)| match expected.get(key) {
                Some(expected) => Some((key.clone(), project(expected, made, exact))),
                None => (exact && !made.is_null()).then(|| (key.clone(), made.clone())),
            });
            Json::Object(fields.collect())
        }
        (Json::Array(expected), Json::Array(made)) if expected.len() == made.len() => {
            expected.iter().zip(made).map(|(expected, made)| project(expected, made, exact)).collect()
        }
        _ if matches(expected, made, exact) => expected.clone(),
        _ => made.clone(),
    }
}

impl Expected {
    /// Whether what was made is what was expected.
    pub fn fits(&self, made: &Made) -> bool {
        let messages = self.messages.as_deref().unwrap_or_default();
        messages.len() == made.messages.len()
            && messages.iter().zip(&made.messages).all(|(expected, made)| expected.fits(made))
            && self.letters == made.letters
            && self.dropped.as_deref() == made.dropped
    }

    /// What was expected, and what was made as far as it is spoken of.
    pub fn beside(&self, made: &Made) -> (Json, Json) {
        let messages = self.messages.as_deref().unwrap_or_default();
        let expected = messages.iter().enumerate().map(|(index, one)| {
            Json::Object(made.messages.get(index).map_or_else(|| one.fields.clone(), |made| one.typed(made)))
        });
        let seen = made.messages.iter().enumerate().map(|(index, made)| match messages.get(index) {
            Some(expected) => expected.seen(made),
            None => Json::Object(made.fields.clone()),
        });
        (
            shown(expected.collect(), &self.letters, self.dropped.as_deref()),
            shown(seen.collect(), &made.letters, made.dropped),
        )
    }
}

/// The fate of a record in the words of a case file.
fn shown(messages: Vec<Json>, letters: &[String], dropped: Option<&str>) -> Json {
    let mut fate = Map::new();
    if !messages.is_empty() {
        fate.insert("expect".to_owned(), Json::Array(messages));
    }
    match letters {
        [] => {}
        [one] => drop(fate.insert("expect_letter".to_owned(), Json::from(one.as_str()))),
        several => drop(fate.insert("expect_letter".to_owned(), Json::from(several))),
    }
    if let Some(reason) = dropped {
        fate.insert("expect_drop".to_owned(), Json::from(reason));
    }
    Json::Object(fate)
}

/// A unified diff of both.
pub fn diff(expected: &Json, made: &Json) -> String {
    let (expected, made) = (format!("{expected:#}\n"), format!("{made:#}\n"));
    TextDiff::from_lines(&expected, &made).unified_diff().header("expected", "made").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_enough_unless_all_is_wanted() {
        // Expected, made, whether it fits in part, whether in full.
        for (expected, made, part, full) in [
            (json!({}), json!({ "a": 1 }), true, false),
            (json!({ "a": 1 }), json!({ "a": 1 }), true, true),
            (json!({ "a": 1 }), json!({ "a": 1.0 }), true, true),
            (json!({ "a": 1 }), json!({ "a": "1" }), false, false),
            (json!({ "a": 1 }), json!({}), false, false),
            (json!({ "a": { "b": 1 } }), json!({ "a": { "b": 1, "c": 2 } }), true, false),
            (json!([{ "a": 1 }]), json!([{ "a": 1, "b": 2 }]), true, false),
            (json!([1]), json!([1, 2]), false, false),
            (json!([2, 1]), json!([1, 2]), false, false),
            (json!({ "a": 1 }), json!({ "a": 1, "b": null }), true, true),
            (json!({ "a": null }), json!({}), true, true),
            (json!({ "a": null }), json!({ "a": null }), true, true),
            (json!({ "a": null }), json!({ "a": 0 }), false, false),
            (json!([null]), json!([null]), true, true),
            (json!(u64::MAX), json!(u64::MAX - 1), false, false),
        ] {
            assert_eq!(matches(&expected, &made, false), part, "{expected} and {made} in part");
            assert_eq!(matches(&expected, &made, true), full, "{expected} and {made} in full");
        }
    }

    #[test]
    fn a_difference_shows_what_is_spoken_of() {
        let expected = json!({ "type": "a", "body": { "x": 1 }, "list": [{ "y": 1 }] });
        let made =
            json!({ "type": "b", "body": { "x": 1, "z": 2 }, "list": [{ "y": 2, "z": 3 }], "more": 1 });
        let seen = json!({ "type": "b", "body": { "x": 1 }, "list": [{ "y": 2 }] });
        assert_eq!(project(&expected, &made, false), seen);
        assert_eq!(project(&expected, &made, true), made);
        assert_eq!(project(&json!({ "w": 1 }), &made, false), made, "what stands in its place");
    }

    #[test]
    fn bodies_have_in_common_what_is_equal() {
        let a = json!({ "room": 1, "id": "a", "ext": { "id": "a", "from": "x" }, "list": [1] });
        let b = json!({ "room": 2, "id": "b", "ext": { "id": "b", "from": "x" }, "list": [1], "more": 1 });
        assert_eq!(in_common(&a, &b), json!({ "ext": { "from": "x" }, "list": [1] }));
    }
}
