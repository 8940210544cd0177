//! Case files: TOML → cases, with every mistake at its place.
//!
//! Read by the same means as the config, so that a mistake in a case looks like one in the config.
//! An event in a file of its own is opened here; nothing is judged.

use std::path::Path;

use serde_json::{Map, Number, Value as Json};

use crate::app::{self, App};
use crate::cli::record::{self, Given};
use crate::config::{self, Loaded, Texts};
use crate::core::model::{Class, DropReason, Path as Endpoint, Priority, Record};
use crate::core::section::{Node, Place, Problem, Report, Section, Value, position};
use crate::core::time::Wall;

/// When nothing says when: 2026-01-01T00:00:00Z.
const SOME_TIME: Wall = Wall(1_767_225_600_000);

/// Classes of letters that are decided before anything is sent; the others come of answers.
const CLASSES: [Class; 5] = [Class::Garbled, Class::Mapping, Class::NoRoute, Class::Invalid, Class::Expired];
/// Reasons for drops that are decided before anything waits.
const DROPS: [DropReason; 6] = [
    DropReason::Expired,
    DropReason::NoRoom,
    DropReason::Rule,
    DropReason::Tombstone,
    DropReason::UnknownKey,
    DropReason::Unmatched,
];

/// A case file that was understood.
#[derive(Debug)]
pub struct CaseFile {
    /// Its name as it was given.
    pub name: String,
    /// Its cases, in their order.
    pub cases: Vec<Case>,
}

/// A case file that was not, with all reasons found.
#[derive(Debug)]
pub struct Broken {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The file's text, for places.
    pub texts: Texts,
}

/// One record and what must become of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, which no other case of the file has.
    pub name: String,
    /// The line of its header, from 1.
    pub line: usize,
    /// Its place among the file's cases, from 0.
    pub index: usize,
    /// The record.
    pub record: Record,
    /// The time it is; `None`: the event's own, else that of the record.
    pub now: Option<Wall>,
    /// Whether the case says when the record was written.
    pub has_timestamp: bool,
    /// What must become of it.
    pub expected: Expected,
}

/// What must become of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// The messages in their order; `None` where none is expected.
    pub messages: Option<Vec<Expectation>>,
    /// Classes of letters.
    pub letters: Vec<String>,
    /// The reason of the drop.
    pub dropped: Option<String>,
}

/// A message to one or more rooms.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// `account`, `path`, `priority`, `rooms` (sorted) and `body`, as far as they are expected.
    pub fields: Map<String, Json>,
    /// The body has nothing else.
    pub exact: bool,
}

/// Reads a case file. With `update`, a case need not say what it expects.
///
/// # Errors
/// Everything that is wrong with it.
pub fn file(path: &Path, app: &App, config: &Loaded, update: bool) -> Result<CaseFile, Broken> {
    let loaded = config::load(&[path.to_owned()], std::iter::empty()).map_err(|mut broken| {
        for problem in &mut broken.problems {
            problem.wanted = problem.wanted.replace("a config file", "a case file");
        }
        Broken { problems: broken.problems, texts: broken.texts }
    })?;
    let report = Report::new(&app::leave_secret_closed);
    let root = Section::new("", &loaded.table, Place::Nowhere, &report);
    let folder = path.parent().unwrap_or(Path::new(""));
    let reader = Reader { app, config, texts: &loaded.texts, folder, update };
    let mut cases: Vec<Case> = Vec::new();
    for (index, section) in root.sections("case").into_iter().enumerate() {
        if let Some(case) = reader.case(&section, index) {
            if let Some(same) = cases.iter().find(|known| known.name == case.name) {
                let found = format!("{:?}, which the case in line {} has", case.name, same.line);
                section.wrong("name", found, "another name: results and --only go by it");
            }
            cases.push(case);
        }
        section.finish();
    }
    root.finish();
    let problems = report.into_problems();
    match problems.is_empty() {
        true => Ok(CaseFile { name: path.display().to_string(), cases }),
        false => Err(Broken { problems, texts: loaded.texts }),
    }
}

/// What reading a case needs.
struct Reader<'a> {
    app: &'a App,
    config: &'a Loaded,
    texts: &'a Texts,
    folder: &'a Path,
    update: bool,
}

impl Reader<'_> {
    fn case(&self, section: &Section<'_>, index: usize) -> Option<Case> {
        let name = section.required_text("name");
        let now = time(section, "now");
        let timestamp = time(section, "timestamp");
        let topic_key = match (section.node("topic").is_some(), section.node("subject").is_some()) {
            (true, true) => {
                section.wrong("subject", "both topic and subject", "one of them");
                "topic"
            }
            (false, true) => "subject",
            _ => "topic",
        };
        // All keys are asked for before anything ends the reading: what is not asked for is unknown.
        let value = self.value(section);
        let expected = self.expected(section);
        let given = Given {
            source: section.text("source"),
            key: text_or_number(section, "key"),
            topic: section.text(topic_key),
            headers: headers(section),
            value: value?,
            timestamp: timestamp.or(now).unwrap_or(SOME_TIME),
        };
        let record = record::make(&self.app.names, self.config, given).map_err(|misfit| {
            let key = if misfit.key == "topic" { topic_key } else { misfit.key };
            section.wrong(key, misfit.found, misfit.wanted);
        });
        Some(Case {
            name: name?,
            line: self.line(section.place()),
            index,
            record: record.ok()?,
            now,
            has_timestamp: timestamp.is_some() || now.is_some(),
            expected: expected?,
        })
    }

    fn line(&self, place: &Place) -> usize {
        match place {
            Place::File { name, span } => {
                self.texts.get(name).map_or(1, |(_, text)| position(text, span.start).0)
            }
            _ => 1,
        }
    }

    /// The record's value, from the one key that says it; the inner `None` is a tombstone.
    #[expect(clippy::option_option, reason = "outer: the case is wrong; inner: the record has no value")]
    fn value(&self, section: &Section<'_>) -> Option<Option<Vec<u8>>> {
        let tombstone = section.boolean("tombstone", false);
        let (event, file) = (section.node("event"), section.text("event_file"));
        if usize::from(tombstone) + usize::from(event.is_some()) + usize::from(file.is_some()) != 1 {
            let found =
                [("event", event.is_some()), ("event_file", file.is_some()), ("tombstone", tombstone)];
            let found: Vec<&str> = found.iter().filter(|(_, has)| *has).map(|(key, _)| *key).collect();
            let (key, found) = match found.as_slice() {
                [] => ("event", "nothing".to_owned()),
                [.., last] => (*last, found.join(" and ")),
            };
            section.wrong(key, found, "one of event, event_file, and tombstone = true");
            return None;
        }
        match (event.map(|node| &node.value), file) {
            (Some(Value::Text(text)), _) => Some(Some(text.clone().into_bytes())),
            (Some(value @ Value::Table(_)), _) => Some(Some(json(value).to_string().into_bytes())),
            (Some(other), _) => {
                section.wrong("event", other.kind(), "the record's value as a text, or a table for JSON");
                None
            }
            (None, Some(file)) => match std::fs::read(self.folder.join(&file)) {
                Ok(bytes) => Some(Some(bytes)),
                Err(error) => {
                    let wanted = "a file, its name seen from the folder of the case file";
                    section.wrong("event_file", format!("{file:?}: {error}"), wanted);
                    None
                }
            },
            (None, None) => Some(None),
        }
    }

    fn expected(&self, section: &Section<'_>) -> Option<Expected> {
        let letters = letters(section);
        let dropped = word(section, "expect_drop", &DROPS.map(DropReason::word));
        let entries = section.sections("expect");
        let messages = match section.node("expect").map(|node| &node.value) {
            Some(Value::List(list)) if list.is_empty() => {
                let wanted = "a message at least; where none is expected, expect_letter or expect_drop";
                section.wrong("expect", "an empty list", wanted);
                None
            }
            Some(_) => Some(entries.into_iter().map(|entry| self.expectation(entry)).collect()),
            None => None,
        };
        let has = |key: &str| section.node(key).is_some();
        if has("expect_drop") && (has("expect") || has("expect_letter")) {
            let wanted = "it alone: a record that is dropped has neither messages nor letters";
            section.wrong("expect_drop", "expect_drop beside another expectation", wanted);
        }
        if !self.update && !has("expect_drop") && !has("expect") && !has("expect_letter") {
            let wanted = "expect, expect_letter or expect_drop; --update writes what becomes of the event";
            section.wrong("expect", "nothing", wanted);
            return None;
        }
        Some(Expected { messages, letters, dropped })
    }

    fn expectation(&self, section: Section<'_>) -> Expectation {
        let mut fields = Map::new();
        let accounts: Vec<&str> = self.app.names.accounts.iter().map(|name| &**name).collect();
        for (key, words) in [
            ("account", accounts.as_slice()),
            ("path", &Endpoint::ALL.map(Endpoint::word)),
            ("priority", &[Priority::High, Priority::Normal, Priority::Low].map(Priority::word)),
        ] {
            fields.extend(word(&section, key, words).map(|word| (key.to_owned(), Json::from(word))));
        }
        if let Some(rooms) = rooms(&section) {
            fields.insert("rooms".to_owned(), Json::from(rooms));
        }
        let body = section.node("body").and_then(|node| body(&section, &node.value));
        fields.extend(body.map(|body| ("body".to_owned(), body)));
        let exact = section.boolean("exact", false);
        if exact && section.node("body").is_none() {
            section.wrong("exact", "true without a body", "a body, all of which is then expected");
        }
        section.finish();
        Expectation { fields, exact }
    }
}

fn time(section: &Section<'_>, key: &str) -> Option<Wall> {
    let text = section.text(key)?;
    let time = Wall::parse_rfc3339(&text);
    if time.is_none() {
        section.wrong(key, format!("{text:?}"), "a time such as \"2026-01-31T12:00:00Z\"");
    }
    time
}

/// A text, or a whole number as people write it: rooms are numbers to many.
fn text_or_number(section: &Section<'_>, key: &str) -> Option<String> {
    match section.node(key).map(|node| &node.value) {
        Some(Value::Integer(number)) => Some(number.to_string()),
        _ => section.text(key),
    }
}

fn headers(section: &Section<'_>) -> Vec<(String, String)> {
    let Some(headers) = section.section("headers") else { return Vec::new() };
    let names = headers.keys();
    names.filter_map(|name| Some((name.to_owned(), text_or_number(&headers, name)?))).collect()
}

fn word(section: &Section<'_>, key: &str, words: &[&str]) -> Option<String> {
    let text = section.text(key)?;
    known(section, key, text, words)
}

fn known(section: &Section<'_>, key: &str, text: String, words: &[&str]) -> Option<String> {
    if words.contains(&text.as_str()) {
        return Some(text);
    }
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    section.wrong(key, format!("{text:?}"), format!("one of {}", quoted.join(", ")));
    None
}

fn letters(section: &Section<'_>) -> Vec<String> {
    let words = CLASSES.map(Class::word);
    let all = section.texts("expect_letter").unwrap_or_default();
    let mut letters: Vec<String> =
        all.into_iter().filter_map(|text| known(section, "expect_letter", text, &words)).collect();
    letters.sort();
    letters
}

/// Room ids, sorted: their order means nothing.
fn rooms(section: &Section<'_>) -> Option<Vec<String>> {
    let room = |node: &Node| match &node.value {
        Value::Integer(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let node = section.node("rooms")?;
    let rooms: Option<Vec<String>> = match &node.value {
        Value::List(list) => list.iter().map(room).collect(),
        _ => room(node).map(|room| vec![room]),
    };
    if rooms.is_none() {
        let found = match &node.value {
            Value::List(list) => list.iter().find(|node| room(node).is_none()).map(|node| &node.value),
            other => Some(other),
        };
        let found = found.map_or("a list", Value::kind);
        section.wrong("rooms", found, "room ids: a list such as [\"42\"]");
    }
    rooms.map(|mut rooms| {
        rooms.sort();
        rooms
    })
}

/// A body: a table, or a text of JSON for what TOML cannot say (null).
fn body(section: &Section<'_>, value: &Value) -> Option<Json> {
    match value {
        Value::Table(_) => Some(json(value)),
        Value::Text(text) => match serde_json::from_str(text) {
            Ok(body) => Some(body),
            Err(error) => {
                section.wrong("body", format!("a text that is not JSON ({error})"), "a table, or JSON");
                None
            }
        },
        other => {
            section.wrong("body", other.kind(), "a table, or a text of JSON");
            None
        }
    }
}

/// A value of TOML as JSON.
fn json(value: &Value) -> Json {
    match value {
        Value::Text(text) => Json::from(text.as_str()),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::Boolean(word) => Json::from(*word),
        Value::List(nodes) => nodes.iter().map(|node| json(&node.value)).collect(),
        Value::Table(table) => {
            Json::Object(table.iter().map(|(key, node)| (key.clone(), json(&node.value))).collect())
        }
    }
}
