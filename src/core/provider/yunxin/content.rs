//! What a Yunxin call carries: checks of the page, and forms that are encoded once per message.
//!
//! [`Content::single`] is everything after room, `msgId` and `resendFlag`
//! (`&fromAccid=…&msgType=…`). Where `batch` is on, [`Content::batched`] is what all messages of a
//! batch must share, behind its length (see [`Content::joins`]), then this message's object without
//! `msgId` and `resendFlag` (`,"msgType":…}`). Nothing here looks at answers.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::options::{Form, Spec, Specs, units};
use super::super::{Draft, Invalid, Item, Kind, KindName, Media};
use super::{ACCID_CHARS, Yunxin};
use crate::core::model::{Content, Path, Priority};

/// The longest `attach` and `ext` (page).
const TEXT_CHARS: usize = 4_096;
/// Members of one directed call (`reference/providers.md` B6).
const USERS: usize = 100;
/// The end of a form that asks for high priority: always the last parameter.
pub(super) const HIGH: &[u8] = b"&highPriority=true";
/// The parameter that turns a downgrade into an error.
pub(super) const FORBID: &[u8] = b"&forbiddenIfHighPriorityMsgFreq=1";

const ROOM: &[Path] = &[Path::Room];
const ROOM_OR_BROADCAST: &[Path] = &[Path::Room, Path::Broadcast];
const ALL: &[Path] = &Path::ALL;

/// Every parameter of the page beyond content. The page is about `sendMsg.action`; which of them the
/// other endpoints have is from their own pages as far as they are known (B6).
pub(super) const OPTIONS: Specs = Specs {
    options: &[
        Spec { name: "ignoreMute", form: Form::Flag, paths: ROOM },
        Spec { name: "subType", form: Form::Integer(1, i32::MAX as i64), paths: ALL },
        Spec { name: "route", form: Form::ZeroOne, paths: ALL },
        Spec { name: "skipHistory", form: Form::ZeroOne, paths: ROOM },
        Spec { name: "abandonRatio", form: Form::Integer(0, 9_999), paths: ROOM },
        Spec { name: "highPriority", form: Form::Flag, paths: ROOM_OR_BROADCAST },
        Spec { name: "needHighPriorityMsgResend", form: Form::Flag, paths: ROOM_OR_BROADCAST },
        Spec { name: "forbiddenIfHighPriorityMsgFreq", form: Form::ZeroOne, paths: ROOM },
        Spec { name: "chatMsgPriority", form: Form::Integer(0, 3), paths: ROOM },
        Spec { name: "notifyTargetTags", form: Form::Text(128), paths: ROOM_OR_BROADCAST },
        Spec { name: "env", form: Form::Text(32), paths: ALL },
        Spec { name: "useYidun", form: Form::OnlyZero, paths: ALL },
        Spec { name: "bid", form: Form::Text(TEXT_CHARS), paths: ALL },
        Spec { name: "yidunAntiCheating", form: Form::Json(1_024), paths: ALL },
        Spec { name: "yidunAntiSpamExt", form: Form::Json(1_024), paths: ALL },
        Spec { name: "antispam", form: Form::Flag, paths: ALL },
        Spec { name: "antispamCustom", form: Form::Json(5_000), paths: ALL },
        Spec { name: "locX", form: Form::Number, paths: ROOM },
        Spec { name: "locY", form: Form::Number, paths: ROOM },
        Spec { name: "locZ", form: Form::Number, paths: ROOM },
    ],
    elsewhere: &[
        ("roomid", "the route's `rooms` set it"),
        ("toAccids", "the route's `users` set it"),
        ("fromAccid", "`sender` in the account or the message table sets it"),
        ("msgId", "it is made from the event, so that every try has the same"),
        ("resendFlag", "it is set by itself when an earlier try may have been delivered"),
        ("msgType", "`kind` in the message table sets it"),
        ("attach", "the fields of the message table make it (kind custom takes `attach` there)"),
        ("ext", "it stands in the message table itself, not in `options`"),
    ],
};

/// Options that stand in a message's own object of a batch; all others are shared by the batch.
const OF_A_MESSAGE: &[&str] = &["subType", "locX", "locY", "locZ"];

/// What is wrong with options together, as far as constants tell.
pub(super) fn clashes(kind: KindName, options: &Map<String, Value>) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    let mut tell = |name: &str, what: &str| wrong.push((name.to_owned(), what.to_owned()));
    let off = |name: &str| options.get(name).is_none_or(|v| v.is_null() || *v == false || *v == 0);
    let on = |name: &str| options.get(name).is_some_and(|v| *v == true || *v == 1);
    if !off("abandonRatio") && on("highPriority") {
        tell("abandonRatio", "excludes highPriority: Yunxin ignores it then; only one of them is allowed");
    }
    let custom = matches!(kind, KindName::Command | KindName::Custom | KindName::Machine);
    if on("antispam") && !custom {
        tell("antispam", "has a meaning for kinds command and custom (msgType 100) only");
    }
    if !off("antispamCustom") && off("antispam") {
        tell("antispamCustom", "has a meaning only with antispam = true");
    }
    wrong
}

/// What is wrong with the priority and the options together.
pub(super) fn check_priority(
    priority: Priority,
    options: &Map<String, Value>,
) -> Result<(), (String, String)> {
    let ratio = options.get("abandonRatio").is_some_and(|v| !v.is_null() && *v != 0);
    let wants_high = options.get("highPriority").is_some_and(|v| *v == true || *v == 1);
    let wants_low = options.get("highPriority").is_some_and(|v| *v == false || *v == 0);
    if ratio && priority == Priority::High && !wants_low {
        let what =
            "excludes priority = \"high\": Yunxin ignores the priority then; only one of them is allowed";
        return Err(("abandonRatio".to_owned(), what.to_owned()));
    }
    if wants_high && matches!(priority, Priority::Normal | Priority::Low) {
        let what = "is set by priority = \"high\" in the route, which also keeps the room's pace";
        return Err(("highPriority".to_owned(), what.to_owned()));
    }
    Ok(())
}

/// A form being written, in the order of the parameters.
#[derive(Default)]
struct FormText(String);

impl FormText {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push('&');
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    /// Options, and at the very end the high priority: answers are read by it (see [`HIGH`]).
    fn add_options<'a>(&mut self, options: impl Iterator<Item = &'a (&'static str, Value)>, high: bool) {
        for (name, value) in options {
            self.add(name, &form_value(value));
        }
        if high {
            self.add("highPriority", "true");
        }
    }
}

/// A value of an option as a form wants it: numbers never in exponent form.
fn form_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map(|n| n.to_string()).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

impl Yunxin {
    /// Checks a draft by the page and writes everything but room, id and resend flag.
    pub(super) fn render_content(&self, draft: &Draft<'_>) -> Result<Arc<Content>, Invalid> {
        let sender = draft.sender.as_deref().unwrap_or(&self.sender);
        self.check_accid("the sender", sender)?;
        self.check_users(draft)?;
        check_together(draft)?;
        let mut options = OPTIONS.read(draft.path, &draft.options).map_err(Invalid)?;
        // Its mere presence switches the priority off; 0 is the default.
        options.retain(|(name, value)| *name != "highPriority" && !(*name == "abandonRatio" && *value == 0));
        check_antispam(&draft.kind, &options)?;
        let (msg_type, attach) = attach_of(&draft.kind)?;
        self.check_length("the message's content (attach)", &attach, TEXT_CHARS)?;
        let ext = self.extension(draft.ext.as_ref())?;

        let high = is_high(draft);
        // JSON in a form takes about half as much again; the rest is short.
        let mut form = FormText(String::with_capacity(attach.len() * 3 / 2 + 256));
        if draft.path == Path::Users {
            form.add("toAccids", &Value::from(draft.users).to_string());
        }
        form.add("fromAccid", sender);
        form.add("msgType", msg_type);
        form.add("attach", &attach);
        if let Some(ext) = &ext {
            form.add("ext", ext);
        }
        form.add_options(options.iter(), high);
        let batched = if draft.path == Path::Room && self.limits.messages_per_call > 1 {
            let mut shared = FormText::default();
            shared.add("fromAccid", sender);
            shared.add_options(options.iter().filter(|(name, _)| !OF_A_MESSAGE.contains(name)), high);
            batched(&shared.0, msg_type, &attach, ext.as_deref(), &options)
        } else {
            Bytes::new()
        };
        // A message may wait for long: it keeps no more than it needs.
        Ok(Arc::new(Content { single: Bytes::from(form.0.into_boxed_str().into_boxed_bytes()), batched }))
    }

    fn check_length(&self, what: &str, text: &str, allowed: usize) -> Result<(), Invalid> {
        let (length, unit) = match self.strict_bytes {
            true => (text.len(), "bytes"),
            false => (units(text), "characters"),
        };
        if length <= allowed {
            return Ok(());
        }
        Err(Invalid(format!("{what} has {length} {unit}; allowed are {allowed}")))
    }

    fn check_accid(&self, what: &str, accid: &str) -> Result<(), Invalid> {
        if accid.is_empty() {
            return Err(Invalid(format!(
                "{what} is empty; allowed is an accid of 1 to {ACCID_CHARS} characters"
            )));
        }
        self.check_length(what, accid, ACCID_CHARS)
    }

    fn check_users(&self, draft: &Draft<'_>) -> Result<(), Invalid> {
        if draft.path != Path::Users {
            return Ok(());
        }
        if draft.users.is_empty() || draft.users.len() > USERS {
            return Err(Invalid(format!(
                "{} members in `users`; allowed are 1 to {USERS}",
                draft.users.len()
            )));
        }
        draft.users.iter().try_for_each(|user| self.check_accid("a user id in `users`", user))
    }

    /// `ext` as the JSON text of an object; nothing for null and the empty object.
    fn extension(&self, ext: Option<&Value>) -> Result<Option<String>, Invalid> {
        match ext {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) if fields.is_empty() => Ok(None),
            Some(ext @ Value::Object(_)) => {
                let text = ext.to_string();
                self.check_length("`ext` as JSON", &text, TEXT_CHARS)?;
                Ok(Some(text))
            }
            Some(_) => Err(Invalid("`ext` is not an object; allowed is an object".to_owned())),
        }
    }
}

/// Whether the call asks for high priority. A replay has background priority and never does.
fn is_high(draft: &Draft<'_>) -> bool {
    let refused = draft.options.get("highPriority").is_some_and(|v| *v == false || *v == 0);
    draft.priority == Priority::High && draft.path != Path::Users && !refused
}

/// The same checks as at start, for values that only the message knows.
fn check_together(draft: &Draft<'_>) -> Result<(), Invalid> {
    let told = |(name, what): (String, String)| Err(Invalid(format!("option {name} {what}")));
    check_priority(draft.priority, &draft.options).or_else(told)?;
    clashes(draft.kind.name(), &draft.options).into_iter().next().map_or(Ok(()), told)
}

/// `antispamCustom` is `{"type":1|2,"data":"…"}` (page).
fn check_antispam(kind: &Kind, options: &[(&'static str, Value)]) -> Result<(), Invalid> {
    let Some((_, Value::String(custom))) = options.iter().find(|(name, _)| *name == "antispamCustom") else {
        return Ok(());
    };
    #[derive(serde::Deserialize)]
    struct Checked {
        r#type: u8,
        #[expect(dead_code, reason = "only its being a text matters")]
        data: String,
    }
    match serde_json::from_str::<Checked>(custom) {
        Ok(Checked { r#type: 1 | 2, .. }) => Ok(()),
        _ => Err(Invalid(format!(
            "option antispamCustom of a {:?} has another form; allowed is {{\"type\":1 or 2,\"data\":text}}",
            kind.name()
        ))),
    }
}

/// The part that messages of a batch share, then this message's own.
fn batched(
    shared: &str,
    msg_type: &str,
    attach: &str,
    ext: Option<&str>,
    options: &[(&'static str, Value)],
) -> Bytes {
    let mut own = String::with_capacity(attach.len() + 64);
    let _ = write!(own, r#","msgType":{msg_type},"attach":{}"#, Value::from(attach));
    if let Some(ext) = ext {
        let _ = write!(own, r#","ext":{}"#, Value::from(ext));
    }
    for (name, value) in options.iter().filter(|(name, _)| OF_A_MESSAGE.contains(name)) {
        let _ = write!(own, r#","{name}":{}"#, form_value(value));
    }
    own.push('}');
    let length = u32::try_from(shared.len()).expect("lengths of all parameters are bounded");
    let mut bytes = Vec::with_capacity(4 + shared.len() + own.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(shared.as_bytes());
    bytes.extend_from_slice(own.as_bytes());
    Bytes::from(bytes)
}

/// The body of a call that carries one message. One allocation.
pub(super) fn body(item: &Item) -> Bytes {
    let content = &item.content.single;
    let mut body = String::with_capacity(content.len() + item.room.0.len() + 80);
    if !item.room.0.is_empty() {
        let _ = write!(body, "roomid={}&", item.room);
    }
    let _ = write!(body, "msgId={}&resendFlag={}", item.id, u8::from(item.resend));
    let mut body = body.into_bytes();
    body.extend_from_slice(content);
    Bytes::from(body)
}

/// The body of a batch: one room, what all share, and a list of messages. The items join.
pub(super) fn batch_body(items: &[Item]) -> Bytes {
    let Some(first) = items.first() else { return Bytes::new() };
    let (shared, _) = split(&first.content);
    let mut list = Vec::with_capacity(items.iter().map(|item| item.content.batched.len() + 80).sum());
    for item in items {
        list.push(if list.is_empty() { b'[' } else { b',' });
        let head = format!(r#"{{"msgId":"{}","resendFlag":{}"#, item.id, u8::from(item.resend));
        list.extend_from_slice(head.as_bytes());
        list.extend_from_slice(split(&item.content).1);
    }
    list.push(b']');
    let mut body = String::with_capacity(list.len() * 2 + shared.len() + 64);
    let _ = write!(body, "roomid={}&msgList=", first.room);
    body.extend(form_urlencoded::byte_serialize(&list));
    let mut body = body.into_bytes();
    body.extend_from_slice(shared);
    Bytes::from(body)
}

/// The two halves of [`Content::batched`].
fn split(content: &Content) -> (&[u8], &[u8]) {
    content
        .batched
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?))
        .unwrap_or_default()
}

/// `attach` of an image, an audio, a video or a file.
#[derive(Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5: Option<&'a str>,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// `attach` of a place; degrees are written without an exponent.
#[derive(Serialize)]
struct Place<'a> {
    title: &'a str,
    lng: Box<RawValue>,
    lat: Box<RawValue>,
}

/// `attach` of whatever is an event.
#[derive(Serialize)]
struct Event<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

/// `msgType` and `attach` (design, section 10).
fn attach_of(kind: &Kind) -> Result<(&'static str, String), Invalid> {
    Ok(match kind {
        Kind::Text { text } => ("0", filled("text", text)?.to_owned()),
        Kind::Tip { text } => ("10", filled("text", text)?.to_owned()),
        Kind::Image(media) => {
            let File { name, w, h, .. } = every_field(media)?;
            ("1", json(&File { name, w, h, ..common(media) }))
        }
        Kind::Audio(media) => {
            let File { dur, .. } = every_field(media)?;
            ("2", json(&File { dur, ..common(media) }))
        }
        Kind::Video(media) => {
            let File { dur, w, h, .. } = every_field(media)?;
            ("3", json(&File { dur, w, h, ..common(media) }))
        }
        Kind::File(media) => {
            let File { name, .. } = every_field(media)?;
            ("6", json(&File { name, ..common(media) }))
        }
        Kind::Location { lat, lng, address } => {
            let place = Place {
                title: filled("address", address)?,
                lng: degrees("lng", *lng, 180.0)?,
                lat: degrees("lat", *lat, 90.0)?,
            };
            ("4", json(&place))
        }
        Kind::Command { action, data } => {
            let data = data.as_ref().filter(|data| !data.is_null());
            ("100", json(&Event { event: filled("action", action)?, id: None, time: None, data }))
        }
        Kind::Custom { attach: Some(attach), .. } if !attach.is_null() => ("100", attach.to_string()),
        Kind::Custom { event, fields, .. } => {
            let data = fields.as_ref().filter(|data| !data.is_null());
            ("100", json(&Event { event: filled("event", event)?, id: None, time: None, data }))
        }
        Kind::Machine(event) => {
            let attach = Event {
                event: &event.event_type,
                id: Some(&event.id),
                time: Some(&event.time),
                data: Some(&event.data),
            };
            ("100", json(&attach))
        }
    })
}

/// The fields that all four kinds have.
fn common(media: &Media) -> File<'_> {
    File {
        name: None,
        dur: None,
        md5: media.md5.as_deref(),
        url: &media.url,
        w: None,
        h: None,
        ext: media.extension.as_deref(),
        size: media.bytes,
    }
}

/// The fields of all four kinds; each takes the ones that it has.
fn every_field(media: &Media) -> Result<File<'_>, Invalid> {
    filled("url", &media.url)?;
    Ok(File {
        name: media.name.as_deref(),
        dur: media.duration_ms,
        w: media.width,
        h: media.height,
        ..common(media)
    })
}

fn json(attach: &impl Serialize) -> String {
    serde_json::to_string(attach).expect("texts, numbers and maps with text keys are JSON")
}

/// Degrees as a number without an exponent.
fn degrees(name: &str, value: f64, bound: f64) -> Result<Box<RawValue>, Invalid> {
    if !(-bound..=bound).contains(&value) {
        return Err(Invalid(format!("{name} is {value}; allowed are degrees from -{bound} to {bound}")));
    }
    Ok(RawValue::from_string(value.to_string()).expect("a finite number without an exponent is JSON"))
}

fn filled<'a>(name: &str, value: &'a str) -> Result<&'a str, Invalid> {
    if value.is_empty() {
        Err(Invalid(format!("{name} is empty; it has to say something")))
    } else {
        Ok(value)
    }
}
