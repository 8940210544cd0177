//! What `check`, `explain` and `send` print, with a provider and a caller made up here.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use roomcast::app::{Account, Shares, SourceConfig};
use roomcast::broker::{BROKERS, Boxed, SourceLimits};
use roomcast::cli::check::{self, Route, Summary};
use roomcast::cli::explain::{self, Format};
use roomcast::cli::live::{self, Caller};
use roomcast::cli::{Error, send};
use roomcast::core::explain::{Policies, Told, requests};
use roomcast::core::letter::Names;
use roomcast::core::model::{
    AccountId, BaseId, Class, Content, DropReason, Failure, Message, Path, Plan, Priority, Room, RouteId,
    SourceId,
};
use roomcast::core::provider::{Answer, Call, Fault, Outcome, Reply, Stamp};
use roomcast::core::route::{Explanation, Tried};
use roomcast::core::section::{Place, Report, Section};
use roomcast::core::share::Quotas;
use roomcast::core::share::settings::Sharing;
use roomcast::core::time::Wall;

use super::fakes::{self, FakeProvider};
use super::loaded;

const CONFIG: &str = r#"
[accounts.live]
provider = "easemob"
client_secret = "s3cret"

[sources.live]
kind = "kafka"
topics = ["live.events", "live.gifts"]
dead_letter = "live.events.dlq"
key_format = "int64"

[[routes]]
name = "noise"
source = "other"
drop = true

[[routes]]
name = "gifts"
when = '''.type
  == "gift"'''
account = "live"

[[routes]]
name = "rest"
account = "live"
"#;

fn account(name: &'static str) -> Account {
    let provider = FakeProvider::new(
        name,
        vec!["https://fake.invalid".to_owned()],
        Duration::from_secs(5),
        20,
        "s3cret".to_owned().into(),
    );
    let shares = Shares { sharing: Sharing::Whole, quotas: Quotas::new(&provider.limits, false) };
    Account { name: "live".into(), provider: Arc::new(provider), shares }
}

fn names() -> Names {
    let arcs = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
    Names { sources: arcs(&["live"]), accounts: arcs(&["live"]), routes: arcs(&["noise", "gifts", "rest"]) }
}

fn message(room: &str, content: &Arc<Content>) -> Message {
    let base = BaseId(uuid::Uuid::from_u128(7));
    let room = Room(room.into());
    Message {
        account: AccountId(0),
        path: Path::Room,
        id: base.message(&room),
        room,
        priority: Priority::Normal,
        base,
        route: RouteId(1),
        content: content.clone(),
        expires: None,
        conflate: None,
    }
}

fn content(text: &'static str) -> Arc<Content> {
    Arc::new(Content { single: Bytes::from_static(text.as_bytes()), batched: Bytes::new() })
}

fn stamp() -> Stamp {
    Stamp { at: Wall(1_700_000_000_000), nonce: 7 }
}

fn plan(messages: Vec<Message>) -> Plan {
    Plan {
        route: Some(RouteId(1)),
        account: Some(AccountId(0)),
        base: BaseId(uuid::Uuid::from_u128(7)),
        messages,
        failures: Vec::new(),
        dropped: None,
        when_errors: 0,
        unknown: None,
        waits: None,
    }
}

fn explained(plan: Plan, format: Format) -> String {
    let account = account("easemob");
    let of = |_| (&*account.name, &*account.provider);
    let requests = requests::of(of, &plan.messages, false, &stamp());
    let tried = |route: &str, took: bool, why: &str| Tried { route: route.into(), took, why: why.to_owned() };
    let found = Explanation {
        event: None,
        is_cloud_event: false,
        key: Ok(Some("42".to_owned())),
        directory: None,
        conflate: None,
        tried: vec![
            tried("noise", false, "another source"),
            tried("gifts", plan.route.is_some(), "`when` is true"),
        ],
        rooms: Vec::new(),
        steps: 3,
        plan,
    };
    let (policies, now) = (&Policies::new(), stamp().at);
    let told = Told { source: "live", topic: "live.events", requests, found: &found, policies, now };
    explain::show(&told, format)
}

#[test]
fn explain_tells_routes_and_requests_and_no_secret() {
    let body = content("hello it's me");
    let rooms: Vec<Message> = (1..=11).map(|n| message(&n.to_string(), &body)).collect();
    let plan = plan(rooms);
    let text = explained(plan.clone(), Format::Text);
    assert_eq!(
        text,
        "Routes, the first match wins
  noise  -        another source
  gifts  took it  `when` is true

11 messages:

POST https://fake.invalid/rooms
  x-signature: ***
  authorization: ***

  hello it's me to 1+2+3+4+5+6+7+8+9+10

  account live, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10

POST https://fake.invalid/rooms
  x-signature: ***
  authorization: ***

  hello it's me to 11

  account live, 11
"
    );
    let curl = explained(plan.clone(), Format::Curl);
    assert!(curl.contains(r"--data-raw 'hello it'\''s me to 11'"), "{curl}");
    let json: serde_json::Value = serde_json::from_str(&explained(plan, Format::Json)).unwrap();
    assert_eq!(json["route"], "gifts");
    assert_eq!(json["requests"][1]["rooms"], serde_json::json!(["11"]));
    assert_eq!(json["requests"][1]["headers"]["x-signature"], "***");
    for shown in [text, curl, json.to_string()] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn explain_tells_letters_and_drops() {
    let mut nothing = plan(Vec::new());
    nothing.route = None;
    nothing.dropped = Some(DropReason::Unmatched);
    let text = explained(nothing, Format::Text);
    assert!(text.contains("\nDropped: unmatched\n"), "{text}");

    let mut garbled = plan(Vec::new());
    garbled.route = None;
    garbled.failures = vec![Failure {
        base: garbled.base,
        class: Class::Garbled,
        error: "not JSON".to_owned(),
        rooms: Vec::new(),
    }];
    let text = explained(garbled, Format::Text);
    assert!(text.contains("\nA letter of class garbled: not JSON\n"), "{text}");
}

#[test]
fn explain_makes_the_record_that_the_broker_would_hold() {
    let config = loaded(CONFIG);
    let args = explain::Args {
        key: Some("258".to_owned()),
        headers: vec!["ce_type: gift".to_owned()],
        ..explain::Args::default()
    };
    let record = explain::record(&names(), &config, &args, b"{}".to_vec(), &stamp()).unwrap();
    assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, 0, 0, 0, 1, 2][..]), "key_format = int64");
    assert_eq!(&*record.origin.topic, "live.events", "the first topic");
    assert_eq!(record.header("CE_TYPE"), Some(&b"gift"[..]));

    let usage = |args: explain::Args| match explain::record(&names(), &config, &args, Vec::new(), &stamp()) {
        Err(Error::Usage(text)) => text,
        other => panic!("{other:?}"),
    };
    let wrong = |key: &str, source: &str, header: &str| explain::Args {
        key: Some(key.to_owned()),
        source: Some(source.to_owned()),
        headers: vec![header.to_owned()],
        ..explain::Args::default()
    };
    assert_eq!(usage(wrong("1", "dead", "a: b")), "--source: found \"dead\", wanted one of live");
    assert_eq!(
        usage(wrong("room", "live", "a: b")),
        "--key: found \"room\", wanted a whole number: the source's key_format is \"int64\""
    );
    assert_eq!(usage(wrong("1", "live", "nothing")), "--header \"nothing\": wanted name: value");
}

#[test]
fn check_says_what_a_config_amounts_to_and_no_secret() {
    let loaded = loaded(CONFIG);
    let open = |_: &str| Err("closed".to_owned());
    let report = Report::new(&open);
    let sources = roomcast::core::section::Value::Table(loaded.table.clone());
    let roomcast::core::section::Value::Table(table) = &sources else { unreachable!() };
    let root = Section::new("", table, Place::Nowhere, &report);
    let section = root.section("sources").unwrap().section("live").unwrap();
    let broker = fakes::PARTS.brokers[0].1(&section, SourceId(0)).unwrap();
    let limits = SourceLimits { held_records: 50_000, held_bytes: 256 << 20 };
    let summary = Summary {
        accounts: &[account("easemob")],
        directories: &[],
        sources: &[SourceConfig { name: "live".into(), broker, limits }],
        routes: check::routes(&names(), &loaded),
        warnings: &[],
        loaded: &loaded,
    };
    let text = check::text(&summary);
    assert_eq!(
        text,
        "The config is right: no warnings.

Accounts
  live  easemob  https://fake.invalid  20 calls/s, 20 a room and second

Sources
  live  kafka  live.events, live.gifts  dead letters to live.events.dlq, holds up to 50000 records and 256 MiB

Routes, the first match wins
  1  noise  from other  every event           dropped
  2  gifts  any source  when .type == \"gift\"  to live
  3  rest   any source  every event           to live
"
    );
    let json = check::json(&summary, false, None);
    assert_eq!(json["ok"], true);
    assert_eq!(json["sources"][0]["topics"], serde_json::json!(["live.events", "live.gifts"]));
    assert_eq!(json["routes"][0]["account"], serde_json::Value::Null);
    assert!(!json.to_string().contains("s3cret"), "{json}");
}

#[test]
fn a_config_without_routes_has_one_that_takes_everything() {
    let config = loaded("[accounts.live]\nprovider = 'easemob'\n");
    let one = Names { routes: vec!["machine".into()], ..names() };
    let routes: Vec<Route> = check::routes(&one, &config);
    assert_eq!(routes[0].account.as_deref(), Some("live"));
    assert_eq!(routes[0].when, None);
}

/// Answers in turn and keeps what it was asked.
struct Script {
    answers: Mutex<Vec<Answer>>,
    asked: Mutex<Vec<Call>>,
}

impl Script {
    fn new(answers: Vec<Answer>) -> Self {
        Self { answers: Mutex::new(answers), asked: Mutex::default() }
    }
}

impl Caller for Script {
    fn call(&self, call: Call) -> Boxed<'_, Answer> {
        self.asked.lock().unwrap().push(call);
        let answer = self.answers.lock().unwrap().remove(0);
        Box::pin(async move { answer })
    }
}

fn reply(status: u16, body: &'static str) -> Answer {
    Ok(Reply {
        status,
        retry_after: None,
        date: None,
        body: Bytes::from_static(body.as_bytes()),
        whole: true,
    })
}

#[tokio::test]
async fn send_logs_in_first_and_tells_the_answer() {
    let account = account("easemob");
    let script = Script::new(vec![reply(200, "token-1"), reply(200, "{\"ok\":1}")]);
    let sent = send::send(&*account.provider, &script, "42", "hello").await.unwrap();
    let asked: Vec<(String, Option<String>)> = script
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|call| {
            let token = call.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            (call.path.clone(), token)
        })
        .collect();
    assert_eq!(
        asked,
        [("/token".to_owned(), None), ("/rooms".to_owned(), Some("token-1".to_owned()))],
        "one login, one message"
    );
    let told = send::text(&sent);
    assert!(told.starts_with("Accepted: delivered.\n"), "{told}");
    assert!(told.ends_with("HTTP 200\n{\"ok\":1}\n"), "{told}");
}

#[tokio::test]
async fn send_that_cannot_begin_sends_nothing() {
    let script = Script::new(vec![reply(401, "")]);
    let error = send::send(&*account("easemob").provider, &script, "42", "hello").await.unwrap_err();
    let told = "the login is refused: HTTP 401; look at the account's id or key, its secret or token, and its app: \
                they do not fit together";
    assert_eq!(error, told);
    let script = Script::new(Vec::new());
    let error = send::send(&*account("easemob").provider, &script, "", "hello").await.unwrap_err();
    assert_eq!(error, "an empty room id");
    assert!(script.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_send_without_an_answer_says_that_it_may_have_arrived() {
    let script = Script::new(vec![Err(Fault::Unknown("reset".to_owned()))]);
    let sent = send::send(&*account("yunxin").provider, &script, "42", "hello").await.unwrap();
    assert!(matches!(sent.outcome, Outcome::Uncertain(_)));
    assert!(send::text(&sent).contains("no answer, and it may have arrived: reset"));
}

#[tokio::test]
async fn a_signature_is_tried_with_a_call_that_can_send_nothing() {
    let signed = account("yunxin");
    let script = Script::new(vec![reply(400, "")]);
    let found = live::try_account(&*signed.provider, &script).await;
    assert_eq!(found, Ok("the credentials are right".to_owned()));
    assert!(script.asked.lock().unwrap()[0].body.is_empty(), "a call with parameters would be a message");

    let script = Script::new(vec![reply(403, "")]);
    let wrong = live::try_account(&*signed.provider, &script).await.unwrap_err();
    assert!(wrong.starts_with("the signature is wrong; look at "), "{wrong}");

    let script = Script::new(vec![reply(200, "token")]);
    let found = live::try_account(&*account("easemob").provider, &script).await;
    assert_eq!(found, Ok("logged in; the token lives for 2 h".to_owned()));
}

#[test]
fn every_built_in_broker_and_provider_is_known_to_the_fakes() {
    let brokers: Vec<&str> = BROKERS.iter().map(|(name, _)| *name).collect();
    let fakes: Vec<&str> = fakes::PARTS.brokers.iter().map(|(name, _)| *name).collect();
    assert_eq!(brokers, fakes);
    let providers: Vec<&str> = roomcast::core::provider::PROVIDERS.iter().map(|(name, _)| *name).collect();
    let fakes: Vec<&str> = fakes::PARTS.providers.iter().map(|(name, _)| *name).collect();
    assert_eq!(providers, fakes);
}
