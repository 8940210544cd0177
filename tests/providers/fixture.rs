//! Fixtures of the provider suite: reads accounts, drafts and cases, and walks folders of them.

use std::fs;
use std::path::PathBuf;

use roomcast::core::model::{BaseId, MessageId, Path, Priority, Room};
use roomcast::core::provider::{Draft, Invalid, Item, Kind, MachineEvent, Media, PROVIDERS, Provider};
use roomcast::core::section::{Node, Place, Problem, Report, Section, Severity, Table, Value as Setting};
use serde_json::{Map, Value, json};
use uuid::Uuid;

// --- accounts ---------------------------------------------------------------------------------

fn node(value: &Value) -> Node {
    let value = match value {
        Value::String(text) => Setting::Text(text.clone()),
        Value::Bool(word) => Setting::Boolean(*word),
        Value::Number(number) if number.is_i64() => Setting::Integer(number.as_i64().unwrap()),
        Value::Number(number) => Setting::Float(number.as_f64().unwrap()),
        Value::Array(list) => Setting::List(list.iter().map(node).collect()),
        Value::Object(fields) => Setting::Table(table(fields)),
        Value::Null => panic!("an account has no null"),
    };
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

fn table(fields: &Map<String, Value>) -> Table {
    fields.iter().map(|(key, value)| (key.clone(), node(value))).collect()
}

/// Builds the fixture's account with some keys set otherwise (null takes one away).
pub fn build(name: &str, changes: &Value) -> (Option<Box<dyn Provider>>, Vec<Problem>) {
    let text =
        fs::read_to_string(folder(name).join("account.toml")).expect("every provider has account.toml");
    let mut fields: Map<String, Value> = toml::from_str(&text).unwrap();
    for (key, value) in changes.as_object().into_iter().flatten() {
        fields.insert(key.clone(), value.clone());
    }
    fields.retain(|_, value| !value.is_null());
    let table = table(&fields);
    let report = Report::new(&|file| Ok(format!("contents of {file}\n")));
    let section = Section::new("accounts.fixture", &table, Place::Nowhere, &report);
    let (_, make) = PROVIDERS.iter().find(|(known, _)| *known == name).unwrap();
    let provider = make(&section);
    section.finish();
    (provider, report.into_problems())
}

pub fn account(name: &str, changes: &Value) -> Box<dyn Provider> {
    let (provider, problems) = build(name, changes);
    let errors: Vec<&Problem> = problems.iter().filter(|p| p.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
    provider.unwrap()
}

// --- fixtures ---------------------------------------------------------------------------------

pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers").join(name)
}

/// Runs every case of a folder: `run` gives what the code does, `key` is where the case says what it
/// should do. Returns the cases.
pub fn walk(name: &str, kind: &str, key: &str, run: impl Fn(&Value) -> Value) -> Vec<Value> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(name).join(kind))
        .unwrap_or_else(|error| panic!("provider {name} has no fixtures of {kind}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut cases: Vec<Value> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for case in &mut cases {
            let done = run(case);
            if std::env::var("FIXTURES").as_deref() == Ok("write") {
                case[key] = done;
            } else {
                assert_eq!(case[key], done, "{}: {}", file.display(), case["name"]);
            }
        }
        if std::env::var("FIXTURES").as_deref() == Ok("write") {
            fs::write(&file, serde_json::to_string_pretty(&cases).unwrap() + "\n").unwrap();
        }
        all.extend(cases);
    }
    assert!(!all.is_empty(), "provider {name} has no cases of {kind}");
    all
}

pub fn path_of(case: &Value) -> Path {
    let word = case["path"].as_str().unwrap_or("room");
    *Path::ALL.iter().find(|path| path.word() == word).unwrap()
}

pub fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn media(value: &Value) -> Media {
    Media {
        url: text(&value["url"]).unwrap_or_default(),
        name: text(&value["name"]),
        width: value["width"].as_u64(),
        height: value["height"].as_u64(),
        duration_ms: value["duration_ms"].as_u64(),
        bytes: value["bytes"].as_u64(),
        md5: text(&value["md5"]),
        extension: text(&value["extension"]),
        secret: text(&value["secret"]),
        thumb: text(&value["thumb"]),
        thumb_secret: text(&value["thumb_secret"]),
    }
}

fn some(value: &Value) -> Option<Value> {
    (!value.is_null()).then(|| value.clone())
}

pub fn kind_of(value: &Value) -> Kind {
    let must = |key: &str| text(&value[key]).unwrap_or_default();
    let number = |key: &str| value[key].as_f64().unwrap();
    match value["kind"].as_str().unwrap() {
        "text" => Kind::Text { text: must("text") },
        "image" => Kind::Image(media(value)),
        "audio" => Kind::Audio(media(value)),
        "video" => Kind::Video(media(value)),
        "file" => Kind::File(media(value)),
        "location" => Kind::Location { lat: number("lat"), lng: number("lng"), address: must("address") },
        "command" => Kind::Command { action: must("action"), data: some(&value["data"]) },
        "custom" => Kind::Custom {
            event: must("event"),
            fields: some(&value["fields"]),
            attach: some(&value["attach"]),
        },
        "tip" => Kind::Tip { text: must("text") },
        "machine" => Kind::Machine(MachineEvent {
            as_command: value["as_command"] == true,
            event_type: must("type"),
            id: must("id"),
            time: must("time"),
            data: value["data"].clone(),
        }),
        other => panic!("no kind {other}"),
    }
}

/// A text may be written `{"repeat": "x", "times": 5000}`.
pub fn unfold(value: &Value) -> Value {
    match value {
        Value::Object(fields) => match (fields.get("repeat"), fields.get("times")) {
            (Some(Value::String(part)), Some(times)) => {
                Value::from(part.repeat(usize::try_from(times.as_u64().unwrap()).unwrap()))
            }
            _ => Value::Object(fields.iter().map(|(key, value)| (key.clone(), unfold(value))).collect()),
        },
        Value::Array(list) => list.iter().map(unfold).collect(),
        other => other.clone(),
    }
}

pub fn render(provider: &dyn Provider, path: Path, draft: &Value, index: usize) -> Result<Item, Invalid> {
    let draft = &unfold(draft);
    let base = BaseId(Uuid::from_u128(0xc9e6_c306_804f_4ec3_b8f0_5737_7882_9419 + index as u128));
    let users: Vec<String> = draft["users"].as_array().into_iter().flatten().filter_map(text).collect();
    let priority = draft["priority"].as_str().unwrap_or("normal");
    let content = provider.render(&Draft {
        path,
        users: &users,
        kind: kind_of(draft),
        sender: text(&draft["sender"]),
        ext: some(&draft["ext"]),
        options: draft["options"].as_object().cloned().unwrap_or_default(),
        priority: *Priority::ALL.iter().find(|known| known.word() == priority).unwrap(),
        base,
    })?;
    Ok(Item { room: Room("".into()), id: MessageId(base.0), content, resend: false })
}

/// The items of a case: one draft for several rooms, or several drafts for one room.
pub fn items(provider: &dyn Provider, case: &Value) -> Result<Vec<Item>, Invalid> {
    let path = path_of(case);
    let default = json!({"kind": "text", "text": "hello"});
    let draft = if case["draft"].is_null() { &default } else { &case["draft"] };
    let drafts = case["drafts"].as_array().cloned().unwrap_or_else(|| vec![draft.clone()]);
    let rooms: Vec<String> = match path {
        Path::Broadcast => vec![String::new()],
        _ => case["rooms"]
            .as_array()
            .map_or_else(|| vec!["36".to_owned()], |r| r.iter().filter_map(text).collect()),
    };
    let mut items = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let made = render(provider, path, draft, index)?;
        for room in &rooms {
            let mut item = made.clone();
            if path != Path::Broadcast {
                provider.check_room(room)?;
                item.room = Room(room.as_str().into());
                item.id = BaseId(item.id.0).message(&item.room);
            }
            item.resend = case["resend"] == true;
            items.push(item);
        }
    }
    Ok(items)
}
