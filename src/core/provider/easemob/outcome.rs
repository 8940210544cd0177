//! What Easemob's answers mean (`reference/providers.md` A4, A8, A9).
//!
//! A status of 2xx wins even when its body is cut off: the message was taken. Whatever may have been
//! delivered is uncertain. Nothing here waits or counts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::trouble::Cleaner;
use super::super::{Acceptance, Answer, Fault, Item, Outcome, Outcomes, Reply, Throttle};
use crate::core::model::{Class, Path};

/// How long a path is held back, at least, after too many calls or messages.
const PAUSE: Duration = Duration::from_secs(1);
/// The same for broadcasts, of which ten a minute are allowed.
const BROADCAST_PAUSE: Duration = Duration::from_secs(6);

/// Reads an answer. `can_login` tells an account that logs in from one whose token was made elsewhere.
pub(super) fn read(
    cleaner: &Cleaner,
    can_login: bool,
    path: Path,
    items: &[Item],
    answer: &Answer,
) -> Outcomes {
    let reply = match answer {
        Ok(reply) => reply,
        Err(fault) => {
            let trouble = cleaner.unanswered(fault);
            let outcome = match fault {
                Fault::NotSent(_) => Outcome::Failed(trouble),
                Fault::Unknown(_) => Outcome::Uncertain(trouble),
            };
            return all(items, &outcome);
        }
    };
    if (200..300).contains(&reply.status) {
        return accepted(cleaner, path, items, reply);
    }
    all(items, &refused(cleaner, can_login, path, reply))
}

fn all(items: &[Item], outcome: &Outcome) -> Outcomes {
    items.iter().map(|_| outcome.clone()).collect()
}

#[derive(Deserialize)]
struct Accepted<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

fn accepted(cleaner: &Cleaner, path: Path, items: &[Item], reply: &Reply) -> Outcomes {
    if !reply.whole {
        return all(items, &Outcome::Accepted(Acceptance::Plain));
    }
    let data = serde_json::from_slice::<Accepted<'_>>(&reply.body)
        .ok()
        .and_then(|body| serde_json::from_str::<BTreeMap<String, &RawValue>>(body.data.get()).ok());
    let Some(data) = data else {
        let text = format!("answered {} without `data`: {}", reply.status, cleaner.raw(reply));
        return all(items, &Outcome::Uncertain(cleaner.answered(reply, None, &text)));
    };
    items
        .iter()
        .map(|item| {
            let key = if path == Path::Broadcast { "id" } else { &*item.room.0 };
            match data.get(key) {
                Some(id) if is_id(id) => Outcome::Accepted(Acceptance::Plain),
                _ => {
                    let text = format!("answered {} without an id at data.{key}", reply.status);
                    Outcome::Uncertain(cleaner.answered(reply, None, &text))
                }
            }
        })
        .collect()
}

/// An id is a text or a bare integer, which may be above 2^53 and is never read as a number.
fn is_id(raw: &RawValue) -> bool {
    let raw = raw.get();
    raw.starts_with(|c: char| c.is_ascii_digit()) || (raw.starts_with('"') && raw.len() > 2)
}

/// The parts of an error body that are looked at; each may be missing.
#[derive(Default)]
pub(super) struct ErrorBody {
    /// The error's word.
    pub(super) error: Option<String>,
    /// What it says for people.
    pub(super) description: Option<String>,
    /// All of the above and the exception, in lower case, to look for words in.
    haystack: String,
}

impl ErrorBody {
    /// Reads what there is; a body that is not JSON is looked at as text.
    pub(super) fn read(reply: &Reply) -> Self {
        let body: Option<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_slice(&reply.body).ok();
        let Some(body) = body else {
            let haystack = String::from_utf8_lossy(&reply.body).to_lowercase();
            return Self { haystack, ..Self::default() };
        };
        let text = |key: &str| {
            body.get(key).and_then(|value| value.as_str()).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (error, description, exception) = (text("error"), text("error_description"), text("exception"));
        let parts = [&error, &description, &exception];
        let haystack = parts.map(|part| part.as_deref().unwrap_or_default()).join("\n").to_lowercase();
        Self { error, description, haystack }
    }

    /// Whether it says this; `words` are in lower case.
    pub(super) fn says(&self, words: &str) -> bool {
        self.haystack.contains(words)
    }

    fn is(&self, error: &str) -> bool {
        self.error.as_deref().is_some_and(|word| word.eq_ignore_ascii_case(error))
    }

    /// Whether a 404 is about the room rather than about the address.
    fn is_about_a_room(&self) -> bool {
        self.is("resource_not_found")
            || ["room", "grpid", "does not exist"].iter().any(|words| self.says(words))
    }
}

fn refused(cleaner: &Cleaner, can_login: bool, path: Path, reply: &Reply) -> Outcome {
    let body = ErrorBody::read(reply);
    let text = body.description.clone().unwrap_or_else(|| cleaner.raw(reply));
    let trouble = cleaner.answered(reply, body.error.as_deref(), &text);
    let refused = |class| Outcome::Refused { class, trouble: trouble.clone() };
    let throttled = || {
        let least = if path == Path::Broadcast { BROADCAST_PAUSE } else { PAUSE };
        let pause = reply.retry_after.map_or(least, |asked| asked.max(least));
        Outcome::Throttled { scope: Throttle::Path(pause), trouble: trouble.clone() }
    };
    match reply.status {
        // Redirects are not followed: the base URL is wrong.
        300..400 => Outcome::Closed(trouble),
        401 if can_login => Outcome::Unauthorized(trouble),
        // 401 with a token made elsewhere, and 402 (unpaid): only the operator can mend it.
        401 | 402 => Outcome::Closed(trouble),
        403 if body.says("broadcast limit exceeded") => {
            Outcome::Throttled { scope: Throttle::PathUntilMidnight, trouble }
        }
        403 if body.says("reach limit") || body.says("reach_limit") => throttled(),
        403 if body.says("service is unopened") => Outcome::Closed(trouble),
        // Its text may have been cut off, and it decides whether this is throttling.
        403 if !reply.whole => Outcome::Failed(trouble),
        404 if body.says("organization_application_not_found") => Outcome::Closed(trouble),
        404 if path != Path::Broadcast && body.is_about_a_room() => refused(Class::RoomGone),
        // Only the token call has a meaning for it.
        409 => Outcome::Failed(trouble),
        429 if body.says("resource_limited") => Outcome::Closed(trouble),
        429 => throttled(),
        500 if ["no_full_text_index", "unsupported_service_operation", "web_application"]
            .iter()
            .any(|word| body.is(word)) =>
        {
            refused(Class::Rejected)
        }
        400..=407 | 410..=499 => refused(Class::Rejected),
        // 408 and 5xx: it may have been delivered before that was said.
        _ => Outcome::Uncertain(trouble),
    }
}
