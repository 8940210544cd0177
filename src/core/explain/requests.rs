//! The exact calls that messages become, with their secrets masked: what `explain` shows.
//!
//! Messages are put together as the scheduler would with every room idle: siblings share a call, up
//! to what the provider takes in one. Nothing is sent from here.

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value as Json, json};

use crate::core::model::{AccountId, Message, Path};
pub use crate::core::provider::MASK;
use crate::core::provider::{ByHand, Call, Item, Provider, Session, Stamp, shell_word};

/// Headers that are masked whatever the provider says of them.
const ALWAYS_SECRET: &[&str] = &["authorization", "checksum", "cookie", "proxy-authorization"];

/// One HTTP request as it may be shown. The method is always POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who would send it.
    pub account: String,
    /// Which path of the account: `room`, `users`, `broadcast`.
    pub path: Path,
    /// The whole address, at the first base URL.
    pub url: String,
    /// Names and values, secret ones as [`MASK`].
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The rooms it is for; empty for a broadcast.
    pub rooms: Vec<String>,
    /// The ids of its messages, in the order of the rooms.
    pub ids: Vec<String>,
    /// How a person makes what is masked.
    pub by_hand: ByHand,
}

/// The requests that carry these messages. `account` gives the name and the provider of each account.
pub fn of<'a>(
    account: impl Fn(AccountId) -> (&'a str, &'a dyn Provider),
    messages: &[Message],
    resend: bool,
    stamp: &Stamp,
) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut rest = messages;
    while let Some(first) = rest.first() {
        let (name, provider) = account(first.account);
        let most = match first.path {
            Path::Room => provider.limits().rooms_per_call.max(1),
            Path::Users | Path::Broadcast => 1,
        };
        let sibling = |m: &&Message| {
            m.account == first.account && m.path == first.path && Arc::ptr_eq(&m.content, &first.content)
        };
        let (call, after) = rest.split_at(rest.iter().take_while(sibling).take(most).count());
        let items: Vec<Item> = call
            .iter()
            .map(|m| Item { room: m.room.clone(), id: m.id, content: m.content.clone(), resend })
            .collect();
        let session = provider.login().map(|_| Session { token: SecretString::from(MASK), lifetime: None });
        let made = provider.call(first.path, &items, session.as_ref(), stamp);
        let base = provider.base_urls().first().map_or("", String::as_str);
        requests.push(Request {
            account: name.to_owned(),
            path: first.path,
            url: format!("{base}{}", made.path),
            by_hand: provider.by_hand(&made),
            headers: masked_headers(&made),
            body: String::from_utf8_lossy(&made.body).into_owned(),
            rooms: call.iter().map(|m| m.room.to_string()).filter(|room| !room.is_empty()).collect(),
            ids: call.iter().map(|m| m.id.to_string()).collect(),
        });
        rest = after;
    }
    requests
}

fn masked_headers(call: &Call) -> Vec<(String, String)> {
    let shown = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let secret = value.is_sensitive() || ALWAYS_SECRET.contains(&name.as_str());
        let value = if secret { MASK } else { value.to_str().unwrap_or(MASK) };
        (name.to_string(), value.to_owned())
    };
    call.headers.iter().map(shown).collect()
}

impl Request {
    /// For people: the request as it goes over the wire, then what it carries.
    pub fn text(&self) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("  {name}: {value}\n")).collect();
        let rooms = match self.rooms.as_slice() {
            [] => "all rooms".to_owned(),
            rooms => rooms.join(", "),
        };
        format!("POST {}\n{headers}\n  {}\n\n  account {}, {rooms}\n", self.url, self.body, self.account)
    }

    /// For a shell: commands that make the call, once the secret is put in where [`MASK`] stands.
    pub fn curl(&self) -> String {
        let by_hand = |name: &str| self.by_hand.headers.iter().find(|(header, _)| *header == name);
        let header = |(name, value): &(String, String)| match by_hand(name) {
            Some((_, word)) => format!("\"{name}: {word}\""),
            None => shell_word(&format!("{name}: {value}")),
        };
        let headers: String = self.headers.iter().map(|pair| format!("  -H {} \\\n", header(pair))).collect();
        let (url, body) = (shell_word(&self.url), shell_word(&self.body));
        format!("{}curl -sS -X POST {url} \\\n{headers}  --data-raw {body}\n", self.by_hand.each)
    }

    /// Whether the body is a form.
    pub fn is_form(&self) -> bool {
        let has = |(name, value): &(String, String)| {
            name == "content-type" && value.starts_with("application/x-www-form-urlencoded")
        };
        self.headers.iter().any(has)
    }

    /// What the body says: JSON as it is; a form as an object of its fields, those that hold an object
    /// or a list of JSON parsed.
    pub fn content(&self) -> Json {
        if !self.is_form() {
            return serde_json::from_str(&self.body).unwrap_or_else(|_| Json::from(self.body.as_str()));
        }
        let fields = form_urlencoded::parse(self.body.as_bytes()).map(|(name, text)| {
            let json =
                serde_json::from_str(&text).ok().filter(|value: &Json| value.is_object() || value.is_array());
            (name.into_owned(), json.unwrap_or_else(|| Json::from(text.as_ref())))
        });
        Json::Object(fields.collect())
    }

    /// For machines.
    pub fn json(&self) -> Json {
        let headers: serde_json::Map<String, Json> =
            self.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "account": self.account,
            "path": self.path.word(),
            "method": "POST",
            "url": self.url,
            "headers": headers,
            "body": self.body,
            "rooms": self.rooms,
            "message_ids": self.ids,
        })
    }
}
