//! What an Easemob call carries: checks of the page, and JSON that is written once per message.
//!
//! [`Content::single`] is the body without `to` (`,"from":…}`), so that a call copies it once behind
//! its rooms; for a broadcast it is the whole body. Nothing here looks at answers.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::options::{Form, Spec, Specs, text, units};
use super::super::{Draft, Invalid, Item, Kind, MachineEvent, Media};
use super::{Easemob, ROOM_BYTES};
use crate::core::model::{Content, Path, Priority};

/// Members of one directed call (page).
const USERS: usize = 20;
/// Fields of `customExts` (page).
const CUSTOM_EXTS: usize = 16;
/// The event of a machine event whose type does not fit the page's pattern.
const ANY_EVENT: &str = "event";

const ROOM: &[Path] = &[Path::Room];
const ROOM_OR_USERS: &[Path] = &[Path::Room, Path::Users];

/// Easemob's parameters beyond content. `env`, `sync_device` and `routetype` stand in documents and
/// SDKs outside the page (`reference/providers.md` A2).
pub(super) const OPTIONS: Specs = Specs {
    options: &[
        Spec { name: "chatroom_msg_level", form: Form::Word(&["high", "normal", "low"]), paths: &Path::ALL },
        Spec { name: "roam_ignore_users", form: Form::Texts(20), paths: ROOM },
        Spec { name: "env", form: Form::Letters(8), paths: ROOM_OR_USERS },
        Spec { name: "sync_device", form: Form::Flag, paths: ROOM_OR_USERS },
        Spec { name: "routetype", form: Form::Word(&["ROUTE_ONLINE"]), paths: ROOM_OR_USERS },
    ],
    elsewhere: &[
        ("from", "`sender` in the account or the message table sets it"),
        ("to", "the route's `rooms` set it"),
        ("users", "the route's `users` set it"),
        ("type", "`kind` in the message table sets it"),
        ("body", "the fields of the message table make it"),
        ("msg", "the fields of the message table make it"),
        ("ext", "it stands in the message table itself, not in `options`"),
    ],
};

/// The fields of a type, in `body` or flat in a broadcast's `msg`.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Text {
        msg: &'a str,
    },
    Image {
        #[serde(flatten)]
        file: File<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<Size>,
    },
    /// A file, or an audio with its length.
    File {
        #[serde(flatten)]
        file: File<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        length: Option<u64>,
    },
    Video {
        #[serde(flatten)]
        file: File<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thumb: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        length: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_length: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thumb_secret: Option<&'a str>,
    },
    Location {
        lat: String,
        lng: String,
        addr: &'a str,
    },
    Command {
        action: &'a str,
    },
    #[serde(rename_all = "camelCase")]
    Custom {
        custom_event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        custom_exts: Option<Map<String, Value>>,
    },
}

#[derive(Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    url: &'a str,
}

#[derive(Serialize)]
struct Size {
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
}

/// The whole body but `to`.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    chatroom_msg_level: &'a str,
    #[serde(flatten)]
    message: Placed<'a>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    ext: Map<String, Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    users: &'a [String],
    #[serde(flatten)]
    options: Map<String, Value>,
}

/// Type and fields where the endpoint wants them.
#[derive(Serialize)]
#[serde(untagged)]
enum Placed<'a> {
    Apart {
        #[serde(rename = "type")]
        word: &'a str,
        body: Body<'a>,
    },
    Flat {
        msg: Flat<'a>,
    },
}

#[derive(Serialize)]
struct Flat<'a> {
    #[serde(rename = "type")]
    word: &'a str,
    #[serde(flatten)]
    body: Body<'a>,
}

impl Easemob {
    /// Checks a draft by the page and writes everything but the rooms.
    pub(super) fn render_content(&self, draft: &Draft<'_>) -> Result<Arc<Content>, Invalid> {
        check_users(draft)?;
        let from = draft.sender.as_deref().or(self.sender.as_deref());
        if from == Some("") {
            return Err(Invalid(
                "the sender is empty; allowed is a user id, or none for \"admin\"".to_owned(),
            ));
        }
        let mut options: Map<String, Value> = OPTIONS
            .read(draft.path, &draft.options)
            .map_err(Invalid)?
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let level = options.remove("chatroom_msg_level");
        let level = level.as_ref().and_then(Value::as_str).unwrap_or(match draft.priority {
            Priority::High => "high",
            Priority::Normal | Priority::Background => "normal",
            Priority::Low => "low",
        });
        let mut ext = extension(draft.ext.as_ref())?;
        let (word, body) = body_of(&draft.kind, &mut ext)?;
        if let Some(key) = &self.ext_id_key {
            ext.insert(key.clone(), Value::from(draft.base.to_string()));
        }
        let message = match draft.path {
            Path::Room | Path::Users => Placed::Apart { word, body },
            Path::Broadcast => Placed::Flat { msg: Flat { word, body } },
        };
        let users = if draft.path == Path::Users { draft.users } else { &[] };
        let envelope = Envelope { from, chatroom_msg_level: level, message, ext, users, options };
        let mut single =
            serde_json::to_vec(&envelope).expect("texts, numbers and maps with text keys are JSON");
        self.check_size(draft.path, single.len())?;
        if draft.path != Path::Broadcast {
            // `{"from"…` becomes the second half of `{"to":[…],"from"…`.
            single[0] = b',';
        }
        Ok(Arc::new(Content { single: Bytes::from(single), batched: Bytes::new() }))
    }

    /// The size rule: the whole body of the largest call that may carry this content, with as many
    /// rooms as siblings may share, each of the longest id.
    fn check_size(&self, path: Path, envelope: usize) -> Result<(), Invalid> {
        let rooms = match path {
            Path::Room => self.limits.rooms_per_call,
            Path::Users => 1,
            Path::Broadcast => 0,
        };
        let reserve = if rooms == 0 { 0 } else { to_len(rooms, ROOM_BYTES) };
        if envelope + reserve <= self.body_bytes {
            return Ok(());
        }
        let allowed = self.body_bytes.saturating_sub(reserve);
        Err(Invalid(format!(
            "the message has {envelope} bytes as JSON; allowed are {allowed}: {} for the whole call, less \
             {reserve} for {rooms} room ids",
            self.body_bytes
        )))
    }
}

/// The length of `{"to":["…","…"]` where each id has `room_bytes`, less the `{` that it replaces.
fn to_len(rooms: usize, room_bytes: usize) -> usize {
    "{\"to\":[]".len() + rooms * (room_bytes + 2) + (rooms - 1)
}

fn check_users(draft: &Draft<'_>) -> Result<(), Invalid> {
    if draft.path != Path::Users {
        return Ok(());
    }
    if draft.users.is_empty() || draft.users.len() > USERS {
        return Err(Invalid(format!("{} members in `users`; allowed are 1 to {USERS}", draft.users.len())));
    }
    match draft.users.iter().any(String::is_empty) {
        true => Err(Invalid("an empty user id in `users`; each needs one".to_owned())),
        false => Ok(()),
    }
}

/// `ext` as an object; null and nothing are the empty one.
fn extension(ext: Option<&Value>) -> Result<Map<String, Value>, Invalid> {
    match ext {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields.clone()),
        Some(_) => Err(Invalid("`ext` is not an object; Easemob takes an object only".to_owned())),
    }
}

/// The page's word for the type, and its fields. A command's data goes into `ext`.
fn body_of<'a>(kind: &'a Kind, ext: &mut Map<String, Value>) -> Result<(&'static str, Body<'a>), Invalid> {
    Ok(match kind {
        Kind::Text { text } => ("txt", Body::Text { msg: filled("text", text)? }),
        Kind::Image(media) => {
            let size = (media.width.is_some() || media.height.is_some())
                .then_some(Size { width: media.width, height: media.height });
            ("img", Body::Image { file: file(media)?, size })
        }
        Kind::Audio(media) => ("audio", Body::File { file: file(media)?, length: seconds(media) }),
        Kind::Video(media) => {
            let body = Body::Video {
                file: file(media)?,
                thumb: media.thumb.as_deref(),
                length: seconds(media),
                file_length: media.bytes,
                thumb_secret: media.thumb_secret.as_deref(),
            };
            ("video", body)
        }
        Kind::File(media) => ("file", Body::File { file: file(media)?, length: None }),
        Kind::Location { lat, lng, address } => {
            let lat = degrees("lat", *lat, 90.0)?;
            let lng = degrees("lng", *lng, 180.0)?;
            ("loc", Body::Location { lat, lng, addr: filled("address", address)? })
        }
        Kind::Command { action, data } => {
            if let Some(data) = data.as_ref().filter(|data| !data.is_null()) {
                ext.insert("data".to_owned(), data.clone());
            }
            ("cmd", Body::Command { action: filled("action", action)? })
        }
        Kind::Custom { event, fields, attach: _ } => {
            if !is_custom_event(event) {
                return Err(Invalid(format!(
                    "event {} is not allowed; allowed are 1 to 32 of a-z A-Z 0-9 - _ / .",
                    quoted(event)
                )));
            }
            let custom_exts = fields.as_ref().map(custom_exts).transpose()?.filter(|exts| !exts.is_empty());
            ("custom", Body::Custom { custom_event: event, custom_exts })
        }
        Kind::Tip { .. } => {
            return Err(Invalid("Easemob has no tip; allowed is a text or a custom".to_owned()));
        }
        Kind::Machine(event) => machine(event, ext),
    })
}

/// The one shape of a machine event (design, section 10).
fn machine<'a>(event: &'a MachineEvent, ext: &mut Map<String, Value>) -> (&'static str, Body<'a>) {
    let shared = [("id", &event.id), ("type", &event.event_type), ("time", &event.time)];
    let shared = shared.map(|(key, value)| (key.to_owned(), Value::from(value.as_str())));
    if event.as_command {
        ext.extend(shared);
        ext.insert("data".to_owned(), event.data.clone());
        let action = if event.event_type.is_empty() { ANY_EVENT } else { &event.event_type };
        return ("cmd", Body::Command { action });
    }
    let mut exts = Map::from_iter(shared);
    exts.insert("data".to_owned(), Value::from(event.data.to_string()));
    let custom_event = if is_custom_event(&event.event_type) { &event.event_type } else { ANY_EVENT };
    ("custom", Body::Custom { custom_event, custom_exts: Some(exts) })
}

/// The page's pattern `[a-zA-Z0-9-_/\.]{1,32}`.
fn is_custom_event(event: &str) -> bool {
    (1..=32).contains(&event.len())
        && event.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'.'))
}

/// At most 16 texts by name. Numbers and booleans become texts; null is left out, because a field
/// that an event lacks is null to a filter.
fn custom_exts(fields: &Value) -> Result<Map<String, Value>, Invalid> {
    let Value::Object(fields) = fields else {
        return match fields {
            Value::Null => Ok(Map::new()),
            _ => Err(Invalid("`fields` is not an object; Easemob takes an object of texts".to_owned())),
        };
    };
    let mut exts = Map::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let Some(value) = text(value) else {
            return Err(Invalid(format!(
                "field {} is a list or an object; Easemob takes texts, numbers and booleans only (use tojson)",
                quoted(name)
            )));
        };
        exts.insert(name.clone(), Value::String(value));
    }
    if exts.len() > CUSTOM_EXTS {
        return Err(Invalid(format!("{} fields; allowed are {CUSTOM_EXTS}", exts.len())));
    }
    Ok(exts)
}

fn file(media: &Media) -> Result<File<'_>, Invalid> {
    Ok(File {
        filename: media.name.as_deref(),
        secret: media.secret.as_deref(),
        url: filled("url", &media.url)?,
    })
}

/// Whole seconds, rounded up: nobody shows a sound of half a second as one of none.
fn seconds(media: &Media) -> Option<u64> {
    media.duration_ms.map(|ms| ms.div_ceil(1_000))
}

/// Degrees as a text without an exponent.
fn degrees(name: &str, value: f64, bound: f64) -> Result<String, Invalid> {
    if (-bound..=bound).contains(&value) {
        return Ok(value.to_string());
    }
    Err(Invalid(format!("{name} is {value}; allowed are degrees from -{bound} to {bound}")))
}

fn filled<'a>(name: &str, value: &'a str) -> Result<&'a str, Invalid> {
    if value.is_empty() {
        Err(Invalid(format!("{name} is empty; it has to say something")))
    } else {
        Ok(value)
    }
}

/// A name for people, cut where it is long.
fn quoted(name: &str) -> String {
    let end = name.floor_char_boundary(40);
    let cut = if end < name.len() { format!("… ({} characters)", units(name)) } else { String::new() };
    format!("{:?}{cut}", &name[..end])
}

/// The body of a call: the rooms, then what they share. One allocation; a broadcast needs none.
pub(super) fn body(path: Path, items: &[Item]) -> Bytes {
    let Some(first) = items.first() else { return Bytes::new() };
    if path == Path::Broadcast {
        return first.content.single.clone();
    }
    let rooms: usize = items.iter().map(|item| item.room.0.len() + 3).sum();
    let mut body = Vec::with_capacity(first.content.single.len() + rooms + 16);
    body.extend_from_slice(b"{\"to\":[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, &*item.room.0).expect("a text is JSON, and a vector takes it");
    }
    body.push(b']');
    body.extend_from_slice(&first.content.single);
    Bytes::from(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_have_no_exponent() {
        assert_eq!(degrees("lat", 1e-7, 90.0).unwrap(), "0.0000001");
        assert_eq!(degrees("lat", 39.966, 90.0).unwrap(), "39.966");
        assert_eq!(degrees("lng", -180.0, 180.0).unwrap(), "-180");
        assert_eq!(
            degrees("lat", 90.5, 90.0).unwrap_err().0,
            "lat is 90.5; allowed are degrees from -90 to 90"
        );
        assert!(degrees("lat", f64::NAN, 90.0).is_err());
    }

    #[test]
    fn the_length_of_the_rooms_is_what_a_call_writes() {
        let item = |room: &str| Item {
            room: crate::core::model::Room(room.into()),
            id: crate::core::model::MessageId(uuid::Uuid::nil()),
            content: Arc::new(Content { single: Bytes::from_static(b",}"), batched: Bytes::new() }),
            resend: false,
        };
        for rooms in [1, 3, 10] {
            let items: Vec<Item> = (0..rooms).map(|_| item("0123456789")).collect();
            let written = body(Path::Room, &items).len();
            assert_eq!(written, to_len(rooms, 10) + ",}".len(), "{rooms} rooms");
        }
    }
}
