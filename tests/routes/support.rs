//! A config and a record in, a plan in words out, with a provider that renders drafts as their
//! Debug text.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast::core::model::{
    AccountId, Content, DirectoryId, Epoch, Origin, PartitionId, Path, Plan, Priority, Record, RecordId,
    SourceId,
};
use roomcast::core::provider::{
    Answer, Call, Draft, Invalid, Item, Kind, KindName, Limits, LoginFault, Outcomes, PathQuota, Provider,
    Session, Stamp,
};
use roomcast::core::route::directory::{DirectoryView, Unknown};
use roomcast::core::route::{AccountView, Rules};
use roomcast::core::section::{Node, Place, Problem, Report, Section, Table, Value};
use roomcast::core::time::Wall;

/// A provider that takes decimal room ids of up to 20 digits, texts of up to 100 bytes, and no tips. An
/// image's `md5` and `secret` have no place, and the option `level` excludes a high priority.
#[derive(Debug)]
struct Fake(Limits);

impl Fake {
    fn new(rooms_per_call: usize) -> Self {
        let quota = PathQuota {
            calls_per_second: 1,
            messages_per_second: None,
            calls_per_minute: None,
            calls_per_day: None,
        };
        Self(Limits {
            rooms_per_call,
            messages_per_call: 1,
            drops_repeats: true,
            paths: [quota; 3],
            room_messages_per_second: 20,
            room_high_per_second: None,
        })
    }
}

impl Provider for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn base_urls(&self) -> &[String] {
        &[]
    }
    fn timeout(&self) -> Duration {
        Duration::from_secs(5)
    }
    fn limits(&self) -> &Limits {
        &self.0
    }
    fn supports(&self, kind: KindName, _: Path) -> Result<(), String> {
        match kind {
            KindName::Tip => Err("a kind that fake has: text, custom".to_owned()),
            _ => Ok(()),
        }
    }
    fn check_options(
        &self,
        _: KindName,
        _: Path,
        options: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), Vec<(String, String)>> {
        let wrong: Vec<_> = options
            .iter()
            .filter(|(name, value)| *name != "level" || value.is_string())
            .map(|(name, _)| (name.clone(), "the option level, a number".to_owned()))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
    fn check_priority(
        &self,
        _: Path,
        priority: Priority,
        options: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), (String, String)> {
        match options.contains_key("level") && priority == Priority::High {
            true => Err(("level".to_owned(), "no level beside priority = \"high\"".to_owned())),
            false => Ok(()),
        }
    }
    fn ignored_fields(&self, kind: KindName) -> &'static [&'static str] {
        if kind == KindName::Image { &["md5", "secret"] } else { &[] }
    }
    fn render(&self, draft: &Draft<'_>) -> Result<Arc<Content>, Invalid> {
        if let Kind::Text { text } = &draft.kind
            && text.len() > 100
        {
            return Err(Invalid(format!("a text of {} bytes; at most 100", text.len())));
        }
        let options = serde_json::Value::from(draft.options.clone());
        let mut text = format!("{} {:?} {:?}", draft.path.word(), draft.kind, draft.users);
        write!(text, " sender={:?} ext={:?} options={options}", draft.sender, draft.ext).unwrap();
        Ok(Arc::new(Content { single: Bytes::from(text), batched: Bytes::new() }))
    }
    fn check_room(&self, room: &str) -> Result<(), Invalid> {
        match room.len() <= 20 && room.bytes().all(|b| b.is_ascii_digit()) {
            true => Ok(()),
            false => Err(Invalid("a room id of fake is a decimal number".to_owned())),
        }
    }
    fn login(&self) -> Option<Call> {
        None
    }
    fn session(&self, _: &Answer) -> Result<Session, LoginFault> {
        unreachable!("routes never log in")
    }
    fn call(&self, _: Path, _: &[Item], _: Option<&Session>, _: &Stamp) -> Call {
        unreachable!("routes never call")
    }
    fn outcomes(&self, _: Path, _: &[Item], _: &Answer) -> Outcomes {
        unreachable!("routes never call")
    }
}

fn node(item: &toml_edit::Item, name: &Arc<str>) -> Node {
    let place = item.span().map_or(Place::Nowhere, |span| Place::File { name: name.clone(), span });
    let value = match item {
        toml_edit::Item::ArrayOfTables(tables) => Value::List(
            tables.iter().map(|table| node(&toml_edit::Item::Table(table.clone()), name)).collect(),
        ),
        toml_edit::Item::Value(toml_edit::Value::Array(items)) => Value::List(
            items.iter().map(|value| node(&toml_edit::Item::Value(value.clone()), name)).collect(),
        ),
        toml_edit::Item::Value(toml_edit::Value::String(text)) => Value::Text(text.value().clone()),
        toml_edit::Item::Value(toml_edit::Value::Integer(number)) => Value::Integer(*number.value()),
        toml_edit::Item::Value(toml_edit::Value::Float(number)) => Value::Float(*number.value()),
        toml_edit::Item::Value(toml_edit::Value::Boolean(word)) => Value::Boolean(*word.value()),
        other => Value::Table(
            other
                .as_table_like()
                .expect("dates are not used")
                .iter()
                .map(|(key, item)| (key.to_owned(), node(item, name)))
                .collect(),
        ),
    };
    Node { value, key_place: place.clone(), place }
}

/// Compiles a config with the accounts `live` (ten rooms a call) and `match` (one), or only `live`
/// when the text says `# one account`, and the sources `kafka` and `nats`.
pub fn build(config: &str) -> (Option<Rules>, Vec<Problem>) {
    let document = toml_edit::Document::parse(config.to_owned()).expect("the config is TOML");
    let Value::Table(root) = node(document.as_item(), &Arc::from("roomcast.toml")).value else {
        unreachable!("a document is a table")
    };
    let report = Report::new(&|_| Err("closed".to_owned()));
    let section = Section::new("", &root, Place::Nowhere, &report);
    let account = |id: u16, name: &str, rooms| AccountView {
        id: AccountId(id),
        name: name.into(),
        provider: Arc::new(Fake::new(rooms)),
    };
    let mut accounts = vec![account(0, "live", 10), account(1, "match", 1)];
    if config.contains("# one account") {
        accounts.pop();
    }
    let empty = Table::new();
    let tables: Vec<&Table> = ["kafka", "nats"]
        .iter()
        .map(|name| match root.get("sources").map(|node| &node.value) {
            Some(Value::Table(sources)) => match sources.get(*name).map(|node| &node.value) {
                Some(Value::Table(table)) => table,
                _ => &empty,
            },
            _ => &empty,
        })
        .collect();
    let kafka = Section::new("sources.kafka", tables[0], Place::Nowhere, &report);
    let nats = Section::new("sources.nats", tables[1], Place::Nowhere, &report);
    section.node("sources");
    let directories = directories(&section);
    let rules =
        Rules::build(&section, &accounts, &[(SourceId(0), &kafka), (SourceId(1), &nats)], &directories, 5);
    [section, kafka, nats].into_iter().for_each(Section::finish);
    (rules, report.into_problems())
}

/// The directories of a config, as the shell would give them to the routes.
fn directories(root: &Section<'_>) -> Vec<DirectoryView> {
    let Some(all) = root.section("directories") else { return Vec::new() };
    let read = |(name, id): (&str, u16)| {
        let section = all.section(name).expect("a directory is a table");
        let view = DirectoryView { id: DirectoryId(id), name: name.into(), unknown: Unknown::read(&section) };
        section.finish();
        view
    };
    all.keys().zip(0..).map(read).collect()
}

pub fn rules(config: &str) -> Rules {
    let (rules, problems) = build(config);
    assert!(problems.is_empty(), "{problems:#?}");
    rules.expect("a config without problems has rules")
}

pub fn record(key: Option<&[u8]>, value: &[u8]) -> Record {
    Record {
        id: RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 42 },
        origin: Origin {
            stream: "live.events".into(),
            topic: "live.events".into(),
            partition: 3,
            offset: 42,
        },
        key: key.map(Bytes::copy_from_slice),
        value: Some(Bytes::copy_from_slice(value)),
        headers: Vec::new(),
        timestamp: Wall(1_769_903_999_123),
        maybe_tried: false,
    }
}

/// A plan in a few words: messages as `account/path/room priority: content`, letters as `class: error [rooms]`.
pub fn told(plan: &Plan) -> String {
    let mut out = String::new();
    for message in &plan.messages {
        let content = String::from_utf8_lossy(&message.content.single).into_owned();
        let (account, path, room) = (message.account.0, message.path.word(), &message.room);
        writeln!(out, "{account}/{path}/{room} {}: {content}", message.priority.word()).unwrap();
    }
    for failure in &plan.failures {
        let rooms: Vec<String> = failure.rooms.iter().map(ToString::to_string).collect();
        writeln!(out, "{}: {} {rooms:?}", failure.class.word(), failure.error).unwrap();
    }
    if let Some(reason) = plan.dropped {
        writeln!(out, "dropped: {}", reason.word()).unwrap();
    }
    if let Some(wait) = &plan.waits {
        writeln!(out, "waits {:?} for {:?}: {}", wait.at_most, wait.key, wait.error).unwrap();
    }
    assert!(!out.is_empty(), "a plan without a fate: {plan:?}");
    out.trim_end().to_owned()
}

pub fn plan(config: &str, key: &str, event: &str) -> String {
    told(&rules(config).plan(&record(Some(key.as_bytes()), event.as_bytes())))
}
