//! What Yunxin's answers mean (`reference/providers.md` B3 to B6).
//!
//! The application answers with HTTP status 200 whatever happened, and says in `code` what did; any
//! other status is a gateway's. Whatever may have been delivered is uncertain: the next try has the
//! same `msgId` and says that it is one. Nothing here waits or counts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::trouble::Cleaner;
use super::super::{Acceptance, Answer, Fault, Item, Outcome, Outcomes, Reply, Throttle, Trouble};
use super::content::{FORBID, HIGH};
use crate::core::model::{Class, Path};

/// How long an app is blocked that called too often (page: ten seconds).
const BLOCK: Duration = Duration::from_secs(10);
/// The same for broadcasts.
const BROADCAST_BLOCK: Duration = Duration::from_secs(60);
/// How long a room gets no message of high priority after too many of them: the page counts by second.
const HIGH_PAUSE: Duration = Duration::from_secs(1);

/// The answer of an application; what is missing is absent.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    code: &'a RawValue,
    #[serde(borrow, default)]
    desc: Option<&'a RawValue>,
    #[serde(borrow, default)]
    success: Option<&'a RawValue>,
    #[serde(borrow, default)]
    fail: Option<&'a RawValue>,
}

/// The flags in a message's description.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flags<'a> {
    #[serde(borrow, default)]
    high_priority_flag: Option<&'a RawValue>,
    #[serde(borrow, default)]
    msg_abandon_flag: Option<&'a RawValue>,
}

/// Where a batch's lists stand inside `desc`, if not beside it.
#[derive(Deserialize)]
struct Lists<'a> {
    #[serde(borrow, default)]
    success: Option<&'a RawValue>,
    #[serde(borrow, default)]
    fail: Option<&'a RawValue>,
}

/// A whole number, bare or in a text: the page and its samples disagree (part D).
fn integer(raw: &RawValue) -> Option<i64> {
    raw.get().trim_matches('"').trim().parse().ok()
}

/// A text without its quotes, anything else as it is written.
fn words(raw: &RawValue) -> String {
    serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

/// What became of an item that the call had no place for, because it differs in sender or options
/// from those before it: it was never sent and may go at once.
pub(super) fn not_in_the_call() -> Outcome {
    let text =
        "not in this call: its sender or options differ from those of the messages before it".to_owned();
    Outcome::Throttled {
        scope: Throttle::Room(Duration::ZERO),
        trouble: Trouble { text, ..Trouble::default() },
    }
}

/// Reads an answer to a call with these items; several are a batch.
pub(super) fn read(cleaner: &Cleaner, path: Path, items: &[Item], answer: &Answer) -> Outcomes {
    let reply = match answer {
        Ok(reply) => reply,
        Err(fault) => {
            let trouble = cleaner.unanswered(fault);
            let outcome = match fault {
                Fault::NotSent(_) => Outcome::Failed(trouble),
                Fault::Unknown(_) => Outcome::Uncertain(trouble),
            };
            return items.iter().map(|_| outcome.clone()).collect();
        }
    };
    let reader = Reader { cleaner, path, reply };
    let body = serde_json::from_slice::<Body<'_>>(&reply.body).ok().filter(|_| reply.whole);
    let coded = body.as_ref().and_then(|body| Some((integer(body.code)?, body)));
    match (reply.status, coded) {
        (200..=299, Some((200, body))) if items.len() > 1 => reader.batch(items, body),
        // A refusal is one with these statuses too; taken it is with 2xx only.
        (200..=499, Some((code, body))) if code_counts(reply.status, code) => {
            items.iter().map(|item| reader.coded(item, code, body.desc)).collect()
        }
        (status, _) => {
            let outcome = reader.gateway(status);
            items.iter().map(|_| outcome.clone()).collect()
        }
    }
}

/// Whether the application's code stands above the HTTP status.
fn code_counts(status: u16, code: i64) -> bool {
    (200..300).contains(&status) || (status >= 400 && code != 200)
}

/// An answer and what is needed to understand it.
struct Reader<'a> {
    cleaner: &'a Cleaner,
    path: Path,
    reply: &'a Reply,
}

impl Reader<'_> {
    /// What a status means when no application spoke.
    fn gateway(&self, status: u16) -> Outcome {
        let text = self.cleaner.raw(self.reply);
        let trouble = self.cleaner.answered(self.reply, None, &text);
        match status {
            // Redirects are not followed: the base URL is wrong.
            300..=399 => Outcome::Closed(trouble),
            408 => Outcome::Uncertain(trouble),
            413 => Outcome::Refused { class: Class::Rejected, trouble },
            429 => self.blocked(trouble),
            // A gateway that refuses has not passed it on.
            400..=499 => Outcome::Failed(trouble),
            // 200 without a code that can be read (cut off, no JSON), and 5xx.
            _ => Outcome::Uncertain(trouble),
        }
    }

    fn blocked(&self, trouble: Trouble) -> Outcome {
        let least = if self.path == Path::Broadcast { BROADCAST_BLOCK } else { BLOCK };
        let pause = self.reply.retry_after.map_or(least, |asked| asked.max(least));
        Outcome::Throttled { scope: Throttle::Path(pause), trouble }
    }

    /// What a code means for one message.
    fn coded(&self, item: &Item, code: i64, desc: Option<&RawValue>) -> Outcome {
        if code == 200 {
            return Outcome::Accepted(self.acceptance(item, desc));
        }
        self.refusal(item, code, &desc.map(words).unwrap_or_default())
    }

    fn acceptance(&self, item: &Item, desc: Option<&RawValue>) -> Acceptance {
        let Some(flags) = desc.and_then(|desc| serde_json::from_str::<Flags<'_>>(desc.get()).ok()) else {
            return Acceptance::Plain;
        };
        let set = |flag: Option<&RawValue>| flag.and_then(integer).is_some_and(|number| number != 0);
        if set(flags.msg_abandon_flag) {
            return Acceptance::Discarded;
        }
        // Only the page of this endpoint says that the flag is missing on a message of normal priority.
        let asked = self.path == Path::Room && item.content.single.ends_with(HIGH);
        if asked && !set(flags.high_priority_flag) { Acceptance::Downgraded } else { Acceptance::Plain }
    }

    fn refusal(&self, item: &Item, code: i64, said: &str) -> Outcome {
        let trouble = |text: &str| self.cleaner.answered(self.reply, Some(&code.to_string()), text);
        let refused = |class| Outcome::Refused { class, trouble: trouble(said) };
        match code {
            // Banned, wrong credentials, address not allowed.
            301 | 302 | 315 | 402 => Outcome::Closed(trouble(said)),
            403 if asks_for_403(item) => {
                Outcome::Throttled { scope: Throttle::Room(HIGH_PAUSE), trouble: trouble(said) }
            }
            404 if self.path != Path::Broadcast && !is_about_a_user(said) => refused(Class::RoomGone),
            408 | 415 | 500 | 503 | 509 | 514 | 998 | 999 => Outcome::Uncertain(trouble(said)),
            414 if is_about_the_clock(said) => Outcome::Closed(trouble(&self.with_their_clock(said))),
            414 if is_about_the_signature(said) => Outcome::Closed(trouble(said)),
            416 => self.blocked(trouble(said)),
            // Repeated operation, repeated request. On a first try it is not known whose repeat it
            // is; the next one is marked as a resend and tells.
            417 | 431 if item.resend => Outcome::Accepted(Acceptance::Duplicate),
            417 | 431 => Outcome::Uncertain(trouble(said)),
            13_001 | 13_002 => Outcome::Failed(trouble(said)),
            201 | 403..=406 | 413 | 414 | 418 | 419 | 422 | 423 | 508 | 13_003..=13_005 => {
                refused(Class::Rejected)
            }
            // Codes of other interfaces: they cannot occur here, and refuse whatever they are about.
            800..=899 | 10_400..=10_499 => refused(Class::Rejected),
            _ => Outcome::Uncertain(trouble(said)),
        }
    }

    /// A clock that is off is mended sooner when both are told.
    fn with_their_clock(&self, said: &str) -> String {
        match self.reply.date {
            Some(date) => format!("{said} (the provider's clock says {})", date.rfc3339()),
            None => said.to_owned(),
        }
    }

    /// A batch that was taken, in part or in whole: each message stands in one of two lists.
    fn batch(&self, items: &[Item], body: &Body<'_>) -> Outcomes {
        let within = body.desc.and_then(|desc| serde_json::from_str::<Lists<'_>>(desc.get()).ok());
        let (inner_success, inner_fail) = within.map_or((None, None), |lists| (lists.success, lists.fail));
        let success = by_id(body.success.or(inner_success));
        let fail = by_id(body.fail.or(inner_fail));
        items
            .iter()
            .map(|item| {
                let id = item.id.to_string();
                match (success.get(&id), fail.get(&id)) {
                    (Some(desc), None) => Outcome::Accepted(self.acceptance(item, Some(*desc))),
                    (None, Some(reason)) => self.failed_in_batch(item, reason),
                    _ => {
                        let text = "the batch was answered without a word about this message";
                        Outcome::Uncertain(self.cleaner.answered(self.reply, Some("200"), text))
                    }
                }
            })
            .collect()
    }

    /// A reason is a code, an object with one, or words. It was not delivered in any case, or its
    /// code says otherwise.
    fn failed_in_batch(&self, item: &Item, reason: &RawValue) -> Outcome {
        let nested = serde_json::from_str::<Body<'_>>(reason.get()).ok();
        let code = integer(reason).or_else(|| nested.as_ref().and_then(|body| integer(body.code)));
        let said = nested.and_then(|body| body.desc).map_or_else(|| words(reason), words);
        match code.filter(|code| *code != 200) {
            Some(code) => self.refusal(item, code, &said),
            None => Outcome::Refused {
                class: Class::Rejected,
                trouble: self.cleaner.answered(self.reply, None, &said),
            },
        }
    }
}

/// A batch's list `[{id: …}, …]`, or one object, by id.
fn by_id(list: Option<&RawValue>) -> BTreeMap<String, &RawValue> {
    let Some(list) = list.map(RawValue::get) else { return BTreeMap::new() };
    match serde_json::from_str::<Vec<BTreeMap<String, &RawValue>>>(list) {
        Ok(entries) => entries.into_iter().flatten().collect(),
        Err(_) => serde_json::from_str(list).unwrap_or_default(),
    }
}

/// Whether the message asked to be refused when its room has too many of high priority: a 403 says
/// that then. Values are encoded, so the bytes stand nowhere else.
fn asks_for_403(item: &Item) -> bool {
    let form = &item.content.single;
    form.ends_with(HIGH) && form.windows(FORBID.len()).any(|part| part == FORBID)
}

/// Whether a 404 is about an account rather than the room.
fn is_about_a_user(said: &str) -> bool {
    let said = said.to_lowercase();
    !said.contains("room") && ["accid", "account", "user"].iter().any(|word| said.contains(word))
}

fn is_about_the_signature(said: &str) -> bool {
    let said = said.to_lowercase();
    ["appkey", "checksum", "bad http header"].iter().any(|word| said.contains(word))
}

fn is_about_the_clock(said: &str) -> bool {
    said.to_lowercase().contains("curtime")
}
