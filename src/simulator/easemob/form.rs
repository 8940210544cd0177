//! Reads an Easemob request: which endpoint, which messages, and what the page would refuse.
//!
//! Pure and without state: whether the token is good or the quota left is judged later. A request
//! that is refused still yields the messages it meant to carry, as far as they can be read, so that
//! the log can tell them.

use std::sync::Arc;

use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Map, Value};

use super::Easemob;
use super::reply::{self, Refusal, invalid};
use crate::core::model::Priority;
use crate::simulator::floor::{Note, beginning};
use crate::simulator::judge::Request;
use crate::simulator::log::{Id, hash};
use crate::simulator::rule::Endpoint;

/// Rooms in one call, by the page.
const MAX_ROOMS: usize = 10;
/// Members in one directed call, by the page.
const MAX_USERS: usize = 20;
/// Members kept out of roaming, by the current public page.
const MAX_ROAM_IGNORE: usize = 20;
/// Entries of `customExts`, by the page.
const MAX_CUSTOM_EXTS: usize = 16;
/// Where clients of roomcast look for the message's id: this service has no place for one.
const ID_IN_EXT: &str = "roomcast_id";

/// A login's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub client_id: String,
    pub client_secret: String,
    /// As given, in the cluster's unit.
    pub ttl: Option<u64>,
}

/// A request, read.
#[derive(Debug)]
pub(in crate::simulator) struct Form {
    pub endpoint: Endpoint,
    pub notes: Vec<Note>,
    pub(super) login: Option<Login>,
    pub(super) no_such_app: Option<Refusal>,
    pub(super) refusal: Option<Refusal>,
    pub(super) warnings: Vec<String>,
}

/// Organisation, app and endpoint of a path. Paths compare with case, as the service does.
pub(super) fn split(path: &str) -> (&str, &str, Endpoint) {
    let mut parts = path.trim_start_matches('/').splitn(3, '/');
    let (org, app) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let endpoint = match parts.next().unwrap_or("") {
        "token" => Endpoint::Token,
        "messages/chatrooms" => Endpoint::Room,
        "messages/chatrooms/users" => Endpoint::Users,
        "messages/chatrooms/broadcast" => Endpoint::Broadcast,
        _ => Endpoint::Other,
    };
    (org, app, endpoint)
}

pub(super) fn read(knobs: &Easemob, request: &Request, content_bytes: usize) -> Form {
    let (org, app, endpoint) = split(&request.path);
    let mut form = Form {
        endpoint,
        notes: Vec::new(),
        login: None,
        no_such_app: (org != knobs.org || app != knobs.app).then(|| reply::no_such_app(org, app)),
        refusal: None,
        warnings: Vec::new(),
    };
    form.refusal = form.fill(knobs, request, content_bytes).err();
    form
}

impl Form {
    fn fill(&mut self, knobs: &Easemob, request: &Request, content_bytes: usize) -> Result<(), Refusal> {
        if self.endpoint == Endpoint::Other {
            return Err(reply::NO_SUCH_RESOURCE);
        }
        if request.method != Method::POST {
            return Err(reply::METHOD);
        }
        self.check_headers(request)?;
        let body: Value = serde_json::from_slice(&request.body).map_err(|_| reply::NOT_JSON)?;
        let Value::Object(body) = body else {
            return Err(invalid("request body must be JSONObject".into()));
        };
        if self.endpoint == Endpoint::Token {
            return self.read_login(&body);
        }
        self.note(&body, content_bytes);
        if request.body.len() > knobs.max_body_bytes {
            return Err(reply::too_large());
        }
        self.check_common(&body, knobs)?;
        match self.endpoint {
            Endpoint::Broadcast => {
                let content = object(&body, "msg")?;
                let content_type = required_text(content, "type")?;
                self.check_content(content_type, content, true)?;
            }
            endpoint => {
                self.check_target(&body, endpoint)?;
                let content_type = required_text(&body, "type")?;
                self.check_content(content_type, object(&body, "body")?, false)?;
            }
        }
        Ok(())
    }

    fn check_headers(&mut self, request: &Request) -> Result<(), Refusal> {
        match request.headers.get(CONTENT_TYPE) {
            None => self.warnings.push("header Content-Type is missing".into()),
            Some(media) => {
                let media = media.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
                if !media.eq_ignore_ascii_case("application/json") {
                    return Err(reply::MEDIA_TYPE);
                }
            }
        }
        if self.endpoint != Endpoint::Broadcast && !request.headers.contains_key(ACCEPT) {
            self.warnings.push("header Accept is missing".into());
        }
        Ok(())
    }

    fn read_login(&mut self, body: &Map<String, Value>) -> Result<(), Refusal> {
        if body.get("grant_type").and_then(Value::as_str) != Some("client_credentials") {
            return Err(reply::BAD_GRANT);
        }
        // The page's table says Long, its example sends text: both are let pass.
        let ttl = match body.get("ttl") {
            None => None,
            Some(Value::String(ttl)) => Some(ttl.parse().map_err(|_| invalid("ttl is illegal".into()))?),
            Some(ttl) => Some(ttl.as_u64().ok_or_else(|| invalid("ttl is illegal".into()))?),
        };
        self.login = Some(Login {
            client_id: required_text(body, "client_id")?.to_owned(),
            client_secret: required_text(body, "client_secret")?.to_owned(),
            ttl,
        });
        Ok(())
    }

    /// What the request means to carry, before anything is checked.
    fn note(&mut self, body: &Map<String, Value>, content_bytes: usize) {
        let content = body.get(if self.endpoint == Endpoint::Broadcast { "msg" } else { "body" });
        let content = content.map(Value::to_string).unwrap_or_default();
        let id = body.get("ext").and_then(|ext| ext.get(ID_IN_EXT)).and_then(Value::as_str).map(Id::from);
        let priority = match body.get("chatroom_msg_level").and_then(Value::as_str) {
            Some("high") => Priority::High,
            Some("low") => Priority::Low,
            _ => Priority::Normal,
        };
        let note = Note {
            room: None,
            id,
            resend: false,
            priority,
            hash: hash(content.as_bytes()),
            content: beginning(&content, content_bytes),
        };
        if self.endpoint == Endpoint::Broadcast {
            self.notes.push(note);
            return;
        }
        let rooms = body.get("to").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let rooms = rooms.iter().filter_map(Value::as_str);
        self.notes.extend(rooms.map(|room| Note { room: Some(Arc::from(room)), ..note.clone() }));
    }

    fn check_common(&mut self, body: &Map<String, Value>, knobs: &Easemob) -> Result<(), Refusal> {
        if let Some(from) = body.get("from") {
            match from.as_str() {
                Some("") => return Err(invalid("from can't be empty".into())),
                Some(_) => {}
                None => return Err(invalid("from must be String".into())),
            }
        }
        match body.get("chatroom_msg_level") {
            None => {}
            Some(Value::String(level)) if matches!(level.as_str(), "high" | "normal" | "low") => {}
            Some(_) if knobs.lenient => {
                self.warnings.push("chatroom_msg_level is not high, normal or low".into());
            }
            Some(_) => return Err(invalid("chatroom_msg_level must be high, normal or low".into())),
        }
        if body.get("ext").is_some_and(|ext| !ext.is_object()) {
            return Err(invalid("ext must be JSONObject".into()));
        }
        if let Some(ignored) = body.get("roam_ignore_users") {
            check_names("roam_ignore_users", ignored, 0, MAX_ROAM_IGNORE)?;
        }
        if let Some(env) = body.get("env") {
            let plain = |env: &str| env.len() <= 8 && env.bytes().all(|b| b.is_ascii_alphanumeric());
            if !env.as_str().is_some_and(plain) {
                return Err(invalid("env must be at most 8 letters and digits".into()));
            }
        }
        if body.get("sync_device").is_some_and(|sync| !sync.is_boolean()) {
            return Err(invalid("sync_device must be Boolean".into()));
        }
        if body.get("routetype").is_some_and(|route| route != "ROUTE_ONLINE") {
            return Err(invalid("routetype must be ROUTE_ONLINE".into()));
        }
        self.warn_of_unknown(body);
        Ok(())
    }

    /// Unknown fields are let pass: `users` on the plain path goes to everybody, as it would.
    fn warn_of_unknown(&mut self, body: &Map<String, Value>) {
        let own: &[&str] = match self.endpoint {
            Endpoint::Broadcast => &["msg"],
            Endpoint::Users => &["to", "type", "body", "users"],
            _ => &["to", "type", "body"],
        };
        const SHARED: [&str; 7] =
            ["from", "chatroom_msg_level", "ext", "roam_ignore_users", "env", "sync_device", "routetype"];
        for name in
            body.keys().filter(|name| !own.contains(&name.as_str()) && !SHARED.contains(&name.as_str()))
        {
            self.warnings.push(format!("unknown field {} on {}", beginning(name, 40), self.endpoint.word()));
        }
    }

    fn check_target(&self, body: &Map<String, Value>, endpoint: Endpoint) -> Result<(), Refusal> {
        let to = body.get("to").ok_or_else(|| invalid("to can't be empty".into()))?;
        if endpoint == Endpoint::Users {
            check_names("to", to, 1, 1)?;
            let users = body.get("users").ok_or_else(|| invalid("users can't be empty".into()))?;
            return check_names("users", users, 1, MAX_USERS);
        }
        check_names("to", to, 1, MAX_ROOMS)
    }

    fn check_content(&mut self, kind: &str, content: &Map<String, Value>, flat: bool) -> Result<(), Refusal> {
        let (texts, optional, whole_numbers): (&[&str], &[&str], &[&str]) = match kind {
            "txt" => (&["msg"], &[], &[]),
            "img" => (&["url"], &["filename", "secret"], &[]),
            "audio" => (&["url"], &["filename", "secret"], &["length"]),
            "video" => {
                (&["url"], &["filename", "thumb", "secret", "thumb_secret"], &["length", "file_length"])
            }
            "file" => (&["url"], &["filename", "secret"], &[]),
            "loc" => (&["addr"], &[], &[]),
            "cmd" => (&["action"], &[], &[]),
            "custom" => (&[], &["customEvent"], &[]),
            _ => return Err(invalid("type is not txt, img, audio, video, file, loc, cmd or custom".into())),
        };
        for name in texts {
            required_text(content, name)?;
        }
        for name in optional {
            if content.get(*name).is_some_and(|value| !value.is_string()) {
                return Err(invalid(format!("{name} must be String")));
            }
        }
        for name in whole_numbers {
            if content.get(*name).is_some_and(|value| value.as_u64().is_none()) {
                return Err(invalid(format!("{name} must be a whole number")));
            }
        }
        match kind {
            "img" => check_size(content)?,
            "loc" => self.check_place(content)?,
            "custom" => check_custom(content)?,
            _ => {}
        }
        let special: &[&str] = match kind {
            "img" => &["size"],
            "loc" => &["lat", "lng"],
            "custom" => &["customExts"],
            _ => &[],
        };
        for name in content.keys().map(String::as_str) {
            let known = texts.contains(&name)
                || optional.contains(&name)
                || whole_numbers.contains(&name)
                || special.contains(&name)
                || (flat && name == "type");
            if !known {
                self.warnings.push(format!("unknown field {} in the body of {kind}", beginning(name, 40)));
            }
        }
        Ok(())
    }

    /// The page wants text; the service is known to take numbers.
    fn check_place(&mut self, content: &Map<String, Value>) -> Result<(), Refusal> {
        for name in ["lat", "lng"] {
            if content.get(name).is_some_and(Value::is_number) {
                self.warnings.push(format!("{name} is a number; the page wants text"));
            } else {
                required_text(content, name)?;
            }
        }
        Ok(())
    }
}

fn check_size(content: &Map<String, Value>) -> Result<(), Refusal> {
    let Some(size) = content.get("size") else { return Ok(()) };
    let Some(size) = size.as_object() else { return Err(invalid("size must be JSONObject".into())) };
    for name in ["width", "height"] {
        if size.get(name).is_some_and(|pixels| pixels.as_u64().is_none()) {
            return Err(invalid(format!("size.{name} must be a whole number")));
        }
    }
    Ok(())
}

fn check_custom(content: &Map<String, Value>) -> Result<(), Refusal> {
    if let Some(event) = content.get("customEvent").and_then(Value::as_str) {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_/.".contains(&b);
        if event.is_empty() || event.len() > 32 || !event.bytes().all(fits) {
            return Err(invalid(r"customEvent must match [a-zA-Z0-9-_/\.]{1,32}".into()));
        }
    }
    let Some(exts) = content.get("customExts") else { return Ok(()) };
    let Some(exts) = exts.as_object() else {
        return Err(invalid("customExts must be Map<String,String>".into()));
    };
    if exts.len() > MAX_CUSTOM_EXTS {
        return Err(invalid(format!("customExts size can't exceed limit {MAX_CUSTOM_EXTS}")));
    }
    if exts.values().any(|value| !value.is_string()) {
        return Err(invalid("customExts must be Map<String,String>".into()));
    }
    Ok(())
}

/// A list of names: ids of rooms or users.
fn check_names(field: &str, value: &Value, least: usize, most: usize) -> Result<(), Refusal> {
    let Some(names) = value.as_array() else { return Err(invalid(format!("{field} must be JSONArray"))) };
    if names.len() < least {
        return Err(invalid(format!("{field} can't be empty")));
    }
    if names.len() > most {
        return Err(invalid(format!("{field} size can't exceed limit {most}")));
    }
    if names.iter().any(|name| name.as_str().is_none_or(str::is_empty)) {
        return Err(invalid(format!("{field} must hold non-empty Strings")));
    }
    Ok(())
}

fn required_text<'a>(from: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    match from.get(name) {
        None | Some(Value::Null) => Err(invalid(format!("{name} can't be empty"))),
        Some(Value::String(text)) if text.is_empty() => Err(invalid(format!("{name} can't be empty"))),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(invalid(format!("{name} must be String"))),
    }
}

fn object<'a>(from: &'a Map<String, Value>, name: &str) -> Result<&'a Map<String, Value>, Refusal> {
    match from.get(name) {
        None | Some(Value::Null) => Err(invalid(format!("{name} can't be empty"))),
        Some(value) => value.as_object().ok_or_else(|| invalid(format!("{name} must be JSONObject"))),
    }
}
