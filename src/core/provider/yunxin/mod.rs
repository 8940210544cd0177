//! NetEase Yunxin (网易云信), server API V1: form calls, each signed anew.
//!
//! It says how a call looks and what an answer means; it never makes one. `content` renders what all
//! rooms share, `outcome` reads answers. The facts are from Yunxin's page on chatroom messages and
//! from what is known beyond it (`reference/providers.md`, part B).
//! Built by the table [`super::PROVIDERS`]; called by routes (render), driver (call, outcomes).

mod content;
mod outcome;

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};

use super::settings::{self, QuotaTable};
use super::trouble::Cleaner;
use super::{
    Answer, ByHand, Call, Draft, Invalid, Item, KindName, Limits, LoginFault, MASK, Outcomes, PathQuota,
    Provider, Section, Session, Stamp, Trouble,
};
use crate::core::model::{Content, Path, Priority};

/// The address on Yunxin's page. Apps overseas have others.
const BASE_URL: &str = "https://api.netease.im/nimserver";
/// Messages of one `batchSendMsg.action` (`reference/providers.md` B6).
const MESSAGES_PER_BATCH: usize = 10;
/// The longest accid, in characters (B2).
const ACCID_CHARS: usize = 32;

/// Endpoints by `Path as usize`; the batch form of the first one.
const ENDPOINTS: [&str; 3] =
    ["/chatroom/sendMsg.action", "/chatroom/sendMsgToSomeone.action", "/chatroom/broadcast.action"];
const BATCH_ENDPOINT: &str = "/chatroom/batchSendMsg.action";

const APP_KEY: HeaderName = HeaderName::from_static("appkey");
const NONCE: HeaderName = HeaderName::from_static("nonce");
const CUR_TIME: HeaderName = HeaderName::from_static("curtime");
const CHECK_SUM: HeaderName = HeaderName::from_static("checksum");

/// One account at Yunxin.
pub struct Yunxin {
    urls: Vec<String>,
    timeout: Duration,
    limits: Limits,
    app_key: HeaderValue,
    app_secret: SecretString,
    sender: String,
    /// Counts bytes where the page says characters.
    strict_bytes: bool,
    cleaner: Cleaner,
}

impl fmt::Debug for Yunxin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yunxin")
            .field("urls", &self.urls)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Makes the provider from its account's section. Keys: `base_url` (one or a list), `app_key`,
/// `app_secret(_file)`, `sender`, `timeout`, `quota`, and
///
/// - `batch` (default false): up to ten waiting messages of one lane share a call.
/// - `strict_bytes` (default false): lengths that the page gives in characters are counted in UTF-8
///   bytes; by default they are UTF-16 units, because the page does not say.
pub fn build(section: &Section<'_>) -> Option<Box<dyn Provider>> {
    let urls = settings::base_urls(section, Some(BASE_URL), true);
    let timeout = settings::timeout(section);
    let app_key = section.required_text("app_key");
    let app_secret = settings::usable(section, "app_secret", section.required_secret("app_secret"), false);
    let sender = section.required_text("sender");
    let batch = section.boolean("batch", false);
    let strict_bytes = section.boolean("strict_bytes", false);
    let limits = limits(section, batch);
    if let Some(sender) = &sender {
        check_sender(section, sender);
    }
    let app_key = app_key.and_then(|key| {
        let value = HeaderValue::from_str(&key).ok().filter(|_| key.bytes().all(|b| b.is_ascii_graphic()));
        if value.is_none() {
            section.wrong("app_key", format!("{key:?}"), "the App Key from the console: ASCII, no spaces");
        }
        value
    });
    let app_secret = app_secret?;
    let cleaner = Cleaner::new([&app_secret]);
    Some(Box::new(Yunxin {
        urls: urls?,
        timeout,
        limits,
        app_key: app_key?,
        app_secret,
        sender: sender?,
        strict_bytes,
        cleaner,
    }))
}

fn check_sender(section: &Section<'_>, sender: &str) {
    let length = sender.chars().count();
    if length > ACCID_CHARS {
        section.wrong(
            "sender",
            format!("{length} characters"),
            format!("an accid of at most {ACCID_CHARS} characters"),
        );
    } else if sender.chars().any(char::is_uppercase) {
        section.warn("sender", format!("{sender:?}"), "an accid in lower case: Yunxin keeps them so");
    }
}

fn limits(section: &Section<'_>, batch: bool) -> Limits {
    let quota = QuotaTable::of(section);
    let calls = |calls_per_second| PathQuota {
        calls_per_second,
        messages_per_second: None,
        calls_per_minute: None,
        calls_per_day: None,
    };
    let limits = Limits {
        rooms_per_call: 1,
        messages_per_call: if batch { MESSAGES_PER_BATCH } else { 1 },
        drops_repeats: true,
        paths: [
            calls(quota.number("calls_per_second", 100, 100)),
            calls(quota.number("users_calls_per_second", 100, 100)),
            PathQuota {
                calls_per_minute: Some(quota.number("broadcasts_per_minute", 10, 10)),
                calls_per_day: quota.optional("broadcasts_per_day", None),
                ..calls(quota.number("broadcasts_per_second", 1, 10))
            },
        ],
        room_messages_per_second: quota.number("room_messages_per_second", 20, 20),
        room_high_per_second: Some(quota.number("room_high_per_second", 10, 10)),
    };
    quota.finish();
    limits
}

/// `CheckSum`: SHA-1 of secret, nonce and time without separators, in lower-case hexadecimal (B1).
fn check_sum(secret: &str, nonce: &str, cur_time: &str) -> String {
    let digest = Sha1::new().chain_update(secret).chain_update(nonce).chain_update(cur_time).finalize();
    let mut hex = String::with_capacity(40);
    for byte in digest {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

impl Yunxin {
    fn sign(&self, stamp: &Stamp) -> HeaderMap {
        let nonce = format!("{:032x}", stamp.nonce);
        let cur_time = stamp.at.seconds().to_string();
        let sum = check_sum(self.app_secret.expose_secret(), &nonce, &cur_time);
        let header = |text: String| {
            HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("digits and letters fit a header")
        };
        let mut sum = header(sum);
        sum.set_sensitive(true);
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded;charset=utf-8"),
        );
        headers.insert(APP_KEY, self.app_key.clone());
        headers.insert(NONCE, header(nonce));
        headers.insert(CUR_TIME, header(cur_time));
        headers.insert(CHECK_SUM, sum);
        headers
    }
}

/// How many of the items one call can carry: those at the head that share a sender and options. A
/// caller that asks [`Content::joins`] first never has a rest.
fn carried(items: &[Item]) -> usize {
    match items {
        [] => 0,
        [first, rest @ ..] => {
            let joining = rest.iter().take(MESSAGES_PER_BATCH - 1);
            1 + joining.take_while(|item| item.content.joins(&first.content)).count()
        }
    }
}

impl Provider for Yunxin {
    fn name(&self) -> &'static str {
        "yunxin"
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

    fn supports(&self, _kind: KindName, _path: Path) -> Result<(), String> {
        Ok(())
    }

    fn check_options(
        &self,
        kind: KindName,
        path: Path,
        options: &Map<String, Value>,
    ) -> Result<(), Vec<(String, String)>> {
        let mut wrong = content::OPTIONS.check(path, options);
        wrong.extend(content::clashes(kind, options));
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn check_priority(
        &self,
        _path: Path,
        priority: Priority,
        options: &Map<String, Value>,
    ) -> Result<(), (String, String)> {
        content::check_priority(priority, options)
    }

    fn ignored_fields(&self, kind: KindName) -> &'static [&'static str] {
        match kind {
            KindName::Image | KindName::File => &["secret"],
            KindName::Audio => &["name", "secret"],
            KindName::Video => &["name", "secret", "thumb", "thumb_secret"],
            _ => &[],
        }
    }

    fn render(&self, draft: &Draft<'_>) -> Result<Arc<Content>, Invalid> {
        self.render_content(draft)
    }

    fn check_room(&self, room: &str) -> Result<(), Invalid> {
        // One spelling only: `7`, `+7` and `07` would be three lanes of one room.
        let id = room.parse::<i64>().ok().filter(|id| *id > 0 && room.as_bytes()[0].is_ascii_digit());
        if id.is_some() && !room.starts_with('0') {
            return Ok(());
        }
        let shown: String = room.chars().take(40).collect();
        let cut = if shown.len() < room.len() { "…" } else { "" };
        Err(Invalid(format!(
            "the room id {shown:?}{cut} is no Yunxin roomid; allowed is a decimal number from 1 to {}, \
             without leading zeros",
            i64::MAX
        )))
    }

    fn clean(&self, text: &str) -> String {
        self.cleaner.clean(text)
    }

    fn login(&self) -> Option<Call> {
        None
    }

    fn session(&self, _answer: &Answer) -> Result<Session, LoginFault> {
        let text = "Yunxin has no login; each call is signed".to_owned();
        Err(LoginFault::Refused(Trouble { text, ..Trouble::default() }))
    }

    fn call(&self, path: Path, items: &[Item], _session: Option<&Session>, stamp: &Stamp) -> Call {
        let items = &items[..carried(items)];
        let (endpoint, body) = match items {
            [_, _, ..] => (BATCH_ENDPOINT, content::batch_body(items)),
            _ => (ENDPOINTS[path as usize], items.first().map(content::body).unwrap_or_default()),
        };
        Call { path: endpoint.to_owned(), headers: self.sign(stamp), body }
    }

    fn by_hand(&self, call: &Call) -> ByHand {
        // Hexadecimal digits, which mean nothing to a shell.
        let nonce = call.headers.get(NONCE).and_then(|nonce| nonce.to_str().ok()).unwrap_or_default();
        ByHand {
            once: format!("APP_SECRET='{MASK}'\n"),
            // A signature is good for five minutes: it is made when the call is. macOS has shasum.
            each: format!(
                "CUR_TIME=$(date +%s)\n\
                 CHECK_SUM=$(printf %s \"${{APP_SECRET}}{nonce}${{CUR_TIME}}\" | \
                 {{ sha1sum 2>/dev/null || shasum; }} | cut -c1-40)\n"
            ),
            headers: vec![("curtime", "$CUR_TIME"), ("checksum", "$CHECK_SUM")],
        }
    }

    fn outcomes(&self, path: Path, items: &[Item], answer: &Answer) -> Outcomes {
        let (sent, rest) = items.split_at(carried(items));
        let mut outcomes = outcome::read(&self.cleaner, path, sent, answer);
        outcomes.extend(rest.iter().map(|_| outcome::not_in_the_call()));
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sum_has_these_values() {
        for (secret, nonce, cur_time, sum) in [
            ("mysecret", "4tgggergigwow323t23t", "1451207708", "5f99e97095a11265efc9fe5020d258025bdc21b3"),
            ("mysecret", "1", "1451207708", "52a0963149c3b8938c951d876a737165b2be51b4"),
            ("sec", "n", "0", "4acec84f71d533e5dfa6326374c2629cf9b8027c"),
            ("mysecret", "随机", "1700000000", "11b28babe8b9e1dc8b892579698d20b6b16cf10a"),
        ] {
            assert_eq!(check_sum(secret, nonce, cur_time), sum, "{secret} {nonce} {cur_time}");
        }
    }
}
