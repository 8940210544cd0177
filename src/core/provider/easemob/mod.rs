//! Easemob (环信): JSON calls to one host, with an app token in a header.
//!
//! It says how a call looks and what an answer means; it never makes one. `content` renders what all
//! rooms share, `outcome` reads answers, `login` the token call. The facts are from Easemob's page
//! on chatroom messages and from what is known beyond it (`reference/providers.md`, part A).
//! Built by the table [`super::PROVIDERS`]; called by routes (render), driver (call, outcomes).

mod content;
mod login;
mod outcome;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::settings::{self, QuotaTable};
use super::trouble::Cleaner;
use super::{
    Answer, ByHand, Call, Draft, Invalid, Item, KindName, Limits, LoginFault, MASK, Outcomes, PathQuota,
    Provider, Section, Session, Stamp,
};
use crate::core::model::{Content, Path};

/// Rooms of one call to `/messages/chatrooms` (page).
const ROOMS_PER_CALL: u32 = 10;
/// The longest room id that is taken, in bytes of JSON without quotes. Easemob makes decimal ids of
/// up to 20 digits and takes any text without a word (page); the bound keeps the size rule exact.
const ROOM_BYTES: usize = 64;
/// The whole of a request's body, in UTF-8 bytes: the page says 5 KB for body and `ext` together,
/// and does not say whether that is 5,000 or 5,120, nor what else is counted.
const BODY_BYTES: i64 = 5_000;
/// Where the base id stands in `ext`, unless the config says otherwise.
const EXT_ID_KEY: &str = "roomcast_id";

/// One account at Easemob.
pub struct Easemob {
    urls: Vec<String>,
    timeout: Duration,
    limits: Limits,
    /// Paths by `Path as usize`.
    paths: [String; 3],
    sender: Option<String>,
    ext_id_key: Option<String>,
    body_bytes: usize,
    auth: Auth,
    cleaner: Cleaner,
}

/// How calls prove who makes them.
enum Auth {
    /// By a token that a login gives.
    Login {
        /// The login call, always the same.
        call: Call,
        /// The unit of `expires_in`.
        unit: Duration,
    },
    /// By a token that was made elsewhere: the header's value.
    Token(HeaderValue),
}

impl fmt::Debug for Easemob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Easemob")
            .field("urls", &self.urls)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Makes the provider from its account's section. Keys: `base_url`, `org`, `app`, `client_id` and
/// `client_secret(_file)` or `app_token(_file)`, `sender`, `timeout`, `quota`, and
///
/// - `ext_id_key` (default `"roomcast_id"`): the key of `ext` that holds the base id, by which
///   clients drop repeats; `""` or `false` switches it off. A field of that name in a message's own
///   `ext` gives way.
/// - `max_body_bytes` (default 5000, 1000 to 65536): the most one call's body may have.
/// - `rooms_per_call` (default 10, 1 to 10): how many rooms siblings may share a call for. Every
///   message leaves space for so many room ids of 64 bytes, so 1 makes the longest messages possible.
/// - `token_ttl` (default: the console's setting): the lifetime asked for at login.
/// - `token_time_unit` (`"s"`, or `"ms"` for the VIP 5 cluster): the unit of the token's times.
pub fn build(section: &Section<'_>) -> Option<Box<dyn Provider>> {
    let urls = settings::base_urls(section, None, false);
    let timeout = settings::timeout(section);
    let org = path_part(section, "org");
    let app = path_part(section, "app");
    let sender = section.text("sender");
    if sender.as_deref() == Some("") {
        section.wrong("sender", "an empty text", "a user id, or no `sender` (Easemob then shows \"admin\")");
    }
    let ext_id_key = ext_id_key(section);
    let rooms = u32::try_from(section.integer("rooms_per_call", i64::from(ROOMS_PER_CALL), 1..11))
        .expect("the range ends at ten");
    let body_bytes = section.integer("max_body_bytes", BODY_BYTES, 1_000..65_537);
    let limits = limits(section, rooms);
    let credentials = credentials(section);
    let (urls, org, app) = (urls?, org?, app?);
    let (auth, secrets) = match credentials? {
        Credentials::Client { id, secret, ttl, unit } => {
            let call = login::call(&format!("/{org}/{app}/token"), &id, &secret, ttl, unit);
            (Auth::Login { call, unit }, secret)
        }
        Credentials::Token(token) => (Auth::Token(bearer(&token)?), token),
    };
    let rooms_path = format!("/{org}/{app}/messages/chatrooms");
    Some(Box::new(Easemob {
        urls,
        timeout,
        limits,
        paths: [rooms_path.clone(), format!("{rooms_path}/users"), format!("{rooms_path}/broadcast")],
        sender,
        ext_id_key,
        body_bytes: usize::try_from(body_bytes).expect("the range is positive"),
        auth,
        cleaner: Cleaner::new([&secrets]),
    }))
}

/// `org` or `app`: a part of the URL's path.
fn path_part(section: &Section<'_>, key: &str) -> Option<String> {
    let part = section.required_text(key)?;
    let fits = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !fits || part.starts_with('.') {
        section.wrong(
            key,
            format!("{part:?}"),
            "letters, digits, - _ and . only (of the AppKey \"org#app\" the part that the key names)",
        );
        return None;
    }
    Some(part)
}

fn ext_id_key(section: &Section<'_>) -> Option<String> {
    use crate::core::section::Value;
    match section.node("ext_id_key").map(|node| &node.value) {
        None => Some(EXT_ID_KEY.to_owned()),
        Some(Value::Boolean(false)) => None,
        // A variable is always text.
        Some(Value::Text(key)) if key.is_empty() || key == "false" => None,
        Some(Value::Text(key)) => Some(key.clone()),
        Some(other) => {
            section.wrong(
                "ext_id_key",
                other.kind(),
                "the name of a key in `ext`, or \"\" or false for none",
            );
            None
        }
    }
}

fn limits(section: &Section<'_>, rooms: u32) -> Limits {
    let quota = QuotaTable::of(section);
    let users = quota.number("users_calls_per_second", 100, 100);
    let limits = Limits {
        rooms_per_call: rooms as usize,
        messages_per_call: 1,
        drops_repeats: false,
        paths: [
            PathQuota {
                calls_per_second: quota.number("calls_per_second", 20, 20),
                messages_per_second: Some(quota.number("messages_per_second", 100, 100)),
                calls_per_minute: None,
                calls_per_day: None,
            },
            PathQuota {
                calls_per_second: users,
                messages_per_second: None,
                calls_per_minute: None,
                calls_per_day: None,
            },
            PathQuota {
                calls_per_second: quota.number("broadcasts_per_second", 1, 1),
                messages_per_second: None,
                calls_per_minute: Some(quota.number("broadcasts_per_minute", 10, 10)),
                calls_per_day: Some(quota.number("broadcasts_per_day", 100, 100)),
            },
        ],
        room_messages_per_second: quota.number("room_messages_per_second", 20, 20),
        room_high_per_second: None,
    };
    quota.finish();
    limits
}

enum Credentials {
    Client { id: String, secret: SecretString, ttl: Option<Duration>, unit: Duration },
    Token(SecretString),
}

/// Reads `client_id` with its secret, or `app_token`. All keys are asked for in any case, so that
/// none of them counts as unknown when another is wrong.
fn credentials(section: &Section<'_>) -> Option<Credentials> {
    let has = |key: &str| section.node(key).is_some();
    let client = [has("client_id"), has("client_secret"), has("client_secret_file")].contains(&true);
    let token = [has("app_token"), has("app_token_file")].contains(&true);
    let ttl = section.optional_duration("token_ttl");
    let unit = section.word(
        "token_time_unit",
        Duration::from_secs(1),
        &[("s", Duration::from_secs(1)), ("ms", Duration::from_millis(1))],
    );
    if token && client {
        section.wrong(
            "app_token",
            "both app_token and client_id or client_secret",
            "one of the two ways to log in",
        );
        return None;
    }
    if token {
        let token = settings::usable(section, "app_token", section.secret("app_token"), true);
        return Some(Credentials::Token(token?));
    }
    let id = section.required_text("client_id");
    let secret = settings::usable(section, "client_secret", section.required_secret("client_secret"), false);
    Some(Credentials::Client { id: id?, secret: secret?, ttl, unit })
}

/// The value of `Authorization`, marked as secret; `None` when the token has characters that no
/// header takes.
fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let text = format!("Bearer {}", token.expose_secret());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The headers of every call (page): JSON there and back.
fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers
}

/// The length of a text in JSON, without its quotes.
fn json_len(text: &str) -> usize {
    let escapes = text.bytes().map(|b| match b {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0a | 0x0c | 0x0d => 1,
        0x00..0x20 => 5,
        _ => 0,
    });
    text.len() + escapes.sum::<usize>()
}

impl Provider for Easemob {
    fn name(&self) -> &'static str {
        "easemob"
    }

    fn base_urls(&self) -> &[String] {
        &self.urls
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn supports(&self, kind: KindName, _path: Path) -> Result<(), String> {
        match kind {
            KindName::Tip => Err("Easemob has no tip; it has text, image, audio, video, file, location, \
                                  command and custom"
                .to_owned()),
            _ => Ok(()),
        }
    }

    fn check_options(
        &self,
        _kind: KindName,
        path: Path,
        options: &Map<String, Value>,
    ) -> Result<(), Vec<(String, String)>> {
        let wrong = content::OPTIONS.check(path, options);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn ignored_fields(&self, kind: KindName) -> &'static [&'static str] {
        match kind {
            KindName::Image | KindName::Audio | KindName::File => &["bytes", "md5", "extension"],
            KindName::Video => &["width", "height", "md5", "extension"],
            KindName::Custom => &["attach"],
            _ => &[],
        }
    }

    fn render(&self, draft: &Draft<'_>) -> Result<Arc<Content>, Invalid> {
        self.render_content(draft)
    }

    fn check_room(&self, room: &str) -> Result<(), Invalid> {
        if room.is_empty() {
            return Err(Invalid(
                "the room id is empty; an Easemob chatroom id is a decimal number".to_owned(),
            ));
        }
        let length = json_len(room);
        if length > ROOM_BYTES {
            return Err(Invalid(format!(
                "the room id has {length} bytes; allowed are {ROOM_BYTES} (Easemob's own have up to 20 digits)"
            )));
        }
        if room.chars().any(char::is_control) {
            return Err(Invalid(format!("the room id {room:?} has control characters; none are allowed")));
        }
        Ok(())
    }

    fn clean(&self, text: &str) -> String {
        self.cleaner.clean(text)
    }

    fn login(&self) -> Option<Call> {
        match &self.auth {
            Auth::Login { call, .. } => Some(call.clone()),
            Auth::Token(_) => None,
        }
    }

    fn session(&self, answer: &Answer) -> Result<Session, LoginFault> {
        let unit = match &self.auth {
            Auth::Login { unit, .. } => *unit,
            Auth::Token(_) => Duration::from_secs(1),
        };
        login::session(&self.cleaner, unit, answer)
    }

    fn call(&self, path: Path, items: &[Item], session: Option<&Session>, _stamp: &Stamp) -> Call {
        let mut headers = json_headers();
        let authorization = match &self.auth {
            Auth::Token(value) => Some(value.clone()),
            // A login's answer with a token that fits no header is no session.
            Auth::Login { .. } => session.and_then(|session| bearer(&session.token)),
        };
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        Call { path: self.paths[path as usize].clone(), headers, body: content::body(path, items) }
    }

    fn by_hand(&self, _call: &Call) -> ByHand {
        let once = match &self.auth {
            Auth::Login { call, .. } => login::by_hand(&self.urls[0], call),
            Auth::Token(_) => format!("TOKEN='{MASK}'\n"),
        };
        ByHand { once, each: String::new(), headers: vec![("authorization", "Bearer $TOKEN")] }
    }

    fn outcomes(&self, path: Path, items: &[Item], answer: &Answer) -> Outcomes {
        outcome::read(&self.cleaner, matches!(self.auth, Auth::Login { .. }), path, items, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_json_is_what_serde_writes() {
        for text in ["", "plain", "环信 😀", "a\"b\\c\n\t\u{1}\u{7f}\u{8}\u{c}\r/"] {
            assert_eq!(json_len(text) + 2, serde_json::to_string(text).unwrap().len(), "{text:?}");
        }
    }
}
