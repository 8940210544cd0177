//! Providers and brokers that read the usual keys and do nothing: what is tested is what becomes of
//! a config before and between its modules, not what each module says of its own keys.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast::app::Parts;
use roomcast::broker::{Archive, Boxed, Broker, Inbox, Reading, SourceLimits, Started};
use roomcast::core::model::{Content, Path, SourceId};
use roomcast::core::provider::{
    Acceptance, Answer, Call, Draft, Invalid, Item, KindName, Limits, LoginFault, Outcome, Outcomes,
    PathQuota, Provider, Session, Stamp, Trouble,
};
use roomcast::core::section::Section;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

/// Registries with the names of the real ones.
pub const PARTS: Parts<'static> = Parts {
    providers: &[("easemob", easemob), ("yunxin", yunxin)],
    brokers: &[("kafka", kafka), ("nats", nats)],
};

/// A provider that puts its secret into a sensitive header, a plain `authorization` header and
/// nowhere else.
#[derive(Debug)]
pub struct FakeProvider {
    pub name: &'static str,
    pub base_urls: Vec<String>,
    pub timeout: Duration,
    pub limits: Limits,
    pub secret: SecretString,
    pub logs_in: bool,
}

fn provider(section: &Section<'_>, name: &'static str, id: &str, secret: &str) -> Option<Box<dyn Provider>> {
    let id = section.required_text(id);
    let secret = section.required_secret(secret);
    let base_urls = section.texts("base_url").unwrap_or_else(|| vec!["https://fake.invalid".to_owned()]);
    let timeout = section.duration("timeout", Duration::from_secs(5));
    section.text("sender");
    let mut calls = 20;
    if let Some(quota) = section.section("quota") {
        calls = u32::try_from(quota.integer("calls_per_second", 20, 1..100_001)).unwrap();
        quota.integer("messages_per_second", 100, 1..100_001);
        quota.finish();
    }
    id?;
    Some(Box::new(FakeProvider::new(name, base_urls, timeout, calls, secret?)))
}

impl FakeProvider {
    /// Ten rooms a call.
    pub fn new(
        name: &'static str,
        base_urls: Vec<String>,
        timeout: Duration,
        calls_per_second: u32,
        secret: SecretString,
    ) -> Self {
        let quota = PathQuota {
            calls_per_second,
            messages_per_second: None,
            calls_per_minute: None,
            calls_per_day: None,
        };
        let limits = Limits {
            rooms_per_call: 10,
            messages_per_call: 1,
            drops_repeats: false,
            paths: [quota; 3],
            room_messages_per_second: 20,
            room_high_per_second: None,
        };
        Self { name, base_urls, timeout, limits, secret, logs_in: name == "easemob" }
    }
}

fn easemob(section: &Section<'_>) -> Option<Box<dyn Provider>> {
    section.text("org");
    section.text("app");
    provider(section, "easemob", "client_id", "client_secret")
}

fn yunxin(section: &Section<'_>) -> Option<Box<dyn Provider>> {
    provider(section, "yunxin", "app_key", "app_secret")
}

impl Provider for FakeProvider {
    fn name(&self) -> &'static str {
        self.name
    }

    fn base_urls(&self) -> &[String] {
        &self.base_urls
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn supports(&self, _: KindName, _: Path) -> Result<(), String> {
        Ok(())
    }

    fn check_options(
        &self,
        _: KindName,
        _: Path,
        _: &Map<String, Value>,
    ) -> Result<(), Vec<(String, String)>> {
        Ok(())
    }

    fn render(&self, draft: &Draft<'_>) -> Result<Arc<Content>, Invalid> {
        let single = Bytes::from(format!("{:?}", draft.kind));
        Ok(Arc::new(Content { single, batched: Bytes::new() }))
    }

    fn check_room(&self, room: &str) -> Result<(), Invalid> {
        match room {
            "" => Err(Invalid("an empty room id".to_owned())),
            _ => Ok(()),
        }
    }

    fn login(&self) -> Option<Call> {
        self.logs_in.then(|| Call {
            path: "/token".to_owned(),
            headers: http::HeaderMap::new(),
            body: Bytes::from(self.secret.expose_secret().to_owned()),
        })
    }

    fn session(&self, answer: &Answer) -> Result<Session, LoginFault> {
        match answer {
            Ok(reply) if reply.status == 200 => {
                let token = String::from_utf8_lossy(&reply.body).into_owned();
                Ok(Session { token: token.into(), lifetime: Some(Duration::from_secs(7_200)) })
            }
            Ok(reply) => {
                Err(LoginFault::Refused(Trouble { status: Some(reply.status), ..Trouble::default() }))
            }
            Err(_) => Err(LoginFault::Failed(Trouble { text: "no answer".to_owned(), ..Trouble::default() })),
        }
    }

    fn call(&self, _: Path, items: &[Item], session: Option<&Session>, _: &Stamp) -> Call {
        let mut headers = http::HeaderMap::new();
        let mut signature = http::HeaderValue::from_str(self.secret.expose_secret()).unwrap();
        signature.set_sensitive(true);
        headers.insert("x-signature", signature);
        if let Some(session) = session {
            headers.insert("authorization", session.token.expose_secret().parse().unwrap());
        }
        let rooms: Vec<&str> = items.iter().map(|item| &*item.room.0).collect();
        let body = format!("{} to {}", String::from_utf8_lossy(&items[0].content.single), rooms.join("+"));
        Call { path: "/rooms".to_owned(), headers, body: body.into() }
    }

    fn outcomes(&self, _: Path, items: &[Item], answer: &Answer) -> Outcomes {
        let trouble = |text: &str| Trouble { text: text.to_owned(), ..Trouble::default() };
        let outcome = match answer {
            Ok(reply) if reply.status == 200 => Outcome::Accepted(Acceptance::Plain),
            Ok(reply) if reply.status == 400 => Outcome::Refused {
                class: roomcast::core::model::Class::Rejected,
                trouble: trouble("a parameter is missing"),
            },
            Ok(_) => Outcome::Closed(trouble("the signature is wrong")),
            Err(_) => Outcome::Uncertain(trouble("no answer")),
        };
        items.iter().map(|_| outcome.clone()).collect()
    }
}

struct FakeBroker {
    kind: &'static str,
    dead_letter: String,
    most: usize,
}

fn broker(section: &Section<'_>, kind: &'static str, keys: &[&str], most: usize) -> Option<Box<dyn Broker>> {
    for key in keys {
        section.texts(key);
    }
    section.secret("password");
    // The routes read these three from each source.
    for key in ["unmatched", "payload", "key_format"] {
        section.text(key);
    }
    let dead_letter = section.required_text("dead_letter")?;
    Some(Box::new(FakeBroker { kind, dead_letter, most }))
}

fn kafka(section: &Section<'_>, _: SourceId) -> Option<Box<dyn Broker>> {
    broker(section, "kafka", &["brokers", "group", "topics", "start_from"], usize::MAX)
}

fn nats(section: &Section<'_>, _: SourceId) -> Option<Box<dyn Broker>> {
    broker(section, "nats", &["servers", "stream", "subjects", "durable", "start_from"], 5_000)
}

impl Broker for FakeBroker {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn dead_letter(&self) -> &str {
        &self.dead_letter
    }

    fn letters_at(&self) -> String {
        "events.dlq".to_owned()
    }

    fn max_held_records(&self) -> usize {
        self.most
    }

    fn archive(&self) -> Arc<dyn Archive> {
        panic!("config tests look at no letters")
    }

    fn replays(&self, _: SourceId, _: Reading) -> Box<dyn Broker> {
        let dead_letter = self.dead_letter.clone();
        Box::new(Self { kind: self.kind, dead_letter, most: self.most })
    }

    fn probe(&self) -> Boxed<'_, Result<Vec<String>, String>> {
        Box::pin(async { Ok(vec!["here".to_owned()]) })
    }

    fn start(self: Box<Self>, _: SourceLimits, _: Inbox) -> Started {
        panic!("config tests start nothing")
    }

    fn rest(&self) -> Started {
        panic!("config tests start nothing")
    }
}
