//! A spanned piece of the config, and how a module reads its own settings from it.
//!
//! `config` merges files and variables into one [`Table`]; every module then takes what is its own
//! through [`Section`]: each key by the type it wants, with its default. What is wrong is gathered
//! in [`Report`], with the place where it was written, so that one run tells all of it; what no
//! module asked for is an unknown key. Nothing here opens a file: secrets in files come through a
//! function that the shell hands in.

mod asked;
mod node;
mod report;
#[cfg(test)]
mod tests;
mod units;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value as Json;

pub use asked::{Asked, Want};
pub use node::{Node, Place, Table, Value, position};
pub use report::{OpenSecret, Problem, Report, Severity};
use units::show_bytes;
pub use units::{parse_bytes, parse_duration, show_duration};

/// What a key that no reader asked for is called.
pub const UNKNOWN: &str = "an unknown key";

/// A table being read. Ask for every key a module knows, then call [`Section::finish`].
pub struct Section<'a> {
    path: String,
    table: &'a Table,
    place: Place,
    asked: RefCell<BTreeSet<String>>,
    report: &'a Report<'a>,
}

impl<'a> Section<'a> {
    /// The section at `path` (`accounts.live`), written at `place`.
    pub fn new(path: &str, table: &'a Table, place: Place, report: &'a Report<'a>) -> Self {
        Self { path: path.to_owned(), table, place, asked: RefCell::default(), report }
    }

    /// Its own name: the last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the section's header stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where problems go.
    pub fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// The node of a key, as it was written.
    pub fn node(&self, key: &str) -> Option<&'a Node> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.note(key, || (Want::Own, None));
        self.table.get(key)
    }

    /// Notes what a reader wants, for whoever asks what there is to be written.
    fn note(&self, key: &str, want: impl FnOnce() -> (Want, Option<Json>)) {
        self.report.note(&self.path, key, want);
    }

    /// The keys that are there, in order.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.table.keys().map(String::as_str)
    }

    /// Says that something is wrong with a key.
    pub fn wrong(&self, key: &str, found: impl Into<String>, wanted: impl Into<String>) {
        self.tell(Severity::Error, key, found.into(), wanted.into());
    }

    /// Says that something looks wrong with a key.
    pub fn warn(&self, key: &str, found: impl Into<String>, wanted: impl Into<String>) {
        self.tell(Severity::Warning, key, found.into(), wanted.into());
    }

    fn tell(&self, severity: Severity, key: &str, found: String, wanted: String) {
        let place = self.table.get(key).map_or_else(|| self.place.clone(), |node| node.place.clone());
        let key = self.full_key(key);
        self.report.add(Problem { severity, place, key, found, wanted });
    }

    /// A problem of what is written at a node, whatever else the config says.
    fn tell_alone(&self, key: &str, place: &Place, found: String, wanted: String) {
        let (severity, place, key) = (Severity::Error, place.clone(), self.full_key(key));
        self.report.add_alone(Problem { severity, place, key, found, wanted });
    }

    fn full_key(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }

    fn missing<T>(&self, key: &str, wanted: &str) -> Option<T> {
        self.wrong(key, "nothing", wanted);
        None
    }

    fn mismatch<T>(&self, key: &str, node: &Node, wanted: &str) -> Option<T> {
        let found = match &node.value {
            value if names_a_secret(key) => value.kind().to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(word) => word.to_string(),
            Value::List(_) | Value::Table(_) => node.value.kind().to_owned(),
        };
        self.tell_alone(key, &node.place, found, wanted.to_owned());
        None
    }

    /// A string, if the key is there.
    pub fn text(&self, key: &str) -> Option<String> {
        self.note(key, || (Want::Text, None));
        let node = self.node(key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => self.mismatch(key, node, "a string"),
        }
    }

    /// A string that must be there and not be empty.
    pub fn required_text(&self, key: &str) -> Option<String> {
        self.note(key, || (Want::Text, None));
        match self.node(key) {
            None => self.missing(key, "a string"),
            Some(node) => match &node.value {
                Value::Text(text) if !text.is_empty() => Some(text.clone()),
                _ => self.mismatch(key, node, "a string that is not empty"),
            },
        }
    }

    /// A whole number within `range`, or `default` when the key is absent or wrong.
    pub fn integer(&self, key: &str, default: i64, range: Range<i64>) -> i64 {
        self.note(key, || (Want::Integer(range.start, range.end - 1), Some(default.into())));
        self.optional_integer(key, range).unwrap_or(default)
    }

    /// A whole number within `range`, if the key is there.
    pub fn optional_integer(&self, key: &str, range: Range<i64>) -> Option<i64> {
        self.note(key, || (Want::Integer(range.start, range.end - 1), None));
        let node = self.node(key)?;
        let number = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) if self.is_variable(node) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        number.filter(|n| range.contains(n)).or_else(|| {
            let wanted = format!("a whole number from {} to {}", range.start, range.end - 1);
            self.mismatch(key, node, &wanted)
        })
    }

    /// A number within the closed range, or `default`.
    pub fn float(&self, key: &str, default: f64, low: f64, high: f64) -> f64 {
        self.note(key, || (Want::Number(low, high), Some(default.into())));
        let Some(node) = self.node(key) else { return default };
        let number = match &node.value {
            #[expect(clippy::cast_precision_loss, reason = "settings are small")]
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Text(text) if self.is_variable(node) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|n| (low..=high).contains(n))
            .or_else(|| self.mismatch(key, node, &format!("a number from {low} to {high}")))
            .unwrap_or(default)
    }

    /// `true` or `false`, or `default`.
    pub fn boolean(&self, key: &str, default: bool) -> bool {
        self.note(key, || (Want::Boolean, Some(default.into())));
        let Some(node) = self.node(key) else { return default };
        let word = match &node.value {
            Value::Boolean(word) => Some(*word),
            Value::Text(text) if self.is_variable(node) => text.trim().parse().ok(),
            _ => None,
        };
        word.or_else(|| self.mismatch(key, node, "true or false")).unwrap_or(default)
    }

    /// A span of time like `250ms`, `5s`, `1m30s`, `2h`, or `default`.
    pub fn duration(&self, key: &str, default: Duration) -> Duration {
        self.note(key, || (Want::Time, Some(show_duration(default).into())));
        self.optional_duration(key).unwrap_or(default)
    }

    /// A span of time, if the key is there.
    pub fn optional_duration(&self, key: &str) -> Option<Duration> {
        self.note(key, || (Want::Time, None));
        let node = self.node(key)?;
        match &node.value {
            Value::Text(text) => parse_duration(text),
            _ => None,
        }
        .or_else(|| self.mismatch(key, node, "a time such as \"250ms\", \"5s\", \"1m30s\" or \"2h\""))
    }

    /// A number of bytes like `64KiB`, `256MiB`, `1MB` or a plain number, or `default`.
    pub fn bytes(&self, key: &str, default: u64) -> u64 {
        self.note(key, || (Want::Size, Some(show_bytes(default).into())));
        let Some(node) = self.node(key) else { return default };
        match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => parse_bytes(text),
            _ => None,
        }
        .or_else(|| self.mismatch(key, node, "a size such as \"64KiB\" or \"256MiB\""))
        .unwrap_or(default)
    }

    /// One of some words, or `default`.
    pub fn word<T: Copy + PartialEq>(&self, key: &str, default: T, words: &[(&str, T)]) -> T {
        self.note(key, || {
            let usual = words.iter().find(|(_, value)| *value == default).map(|(word, _)| Json::from(*word));
            (Want::Word(words.iter().map(|(word, _)| (*word).to_owned()).collect()), usual)
        });
        let Some(node) = self.node(key) else { return default };
        let found = match &node.value {
            Value::Text(text) => words.iter().find(|(word, _)| word == text).map(|(_, value)| *value),
            _ => None,
        };
        found
            .or_else(|| {
                let list: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                self.mismatch(key, node, &format!("one of {}", list.join(", ")))
            })
            .unwrap_or(default)
    }

    /// A list of strings; one string stands for a list of one. `None` when the key is absent.
    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        self.note(key, || (Want::Texts, None));
        let node = self.node(key)?;
        match &node.value {
            Value::Text(text) if self.is_variable(node) => {
                Some(text.split(',').map(|part| part.trim().to_owned()).collect())
            }
            Value::Text(text) => Some(vec![text.clone()]),
            Value::List(nodes) => nodes
                .iter()
                .map(|n| match &n.value {
                    Value::Text(text) => Some(text.clone()),
                    _ => self.mismatch(key, n, "a list of strings"),
                })
                .collect(),
            _ => self.mismatch(key, node, "a list of strings"),
        }
    }

    /// A secret: the key itself, or the contents of the file that its `…_file` twin names (without
    /// the line end). Both at once is a problem.
    pub fn secret(&self, key: &str) -> Option<SecretString> {
        let twin = format!("{key}_file");
        match (self.text(key), self.text(&twin)) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.wrong(&twin, format!("both {key} and {twin}"), "only one of them");
                None
            }
            (Some(secret), None) => Some(SecretString::from(secret)),
            (None, Some(file)) => match (self.report.open_secret)(&file) {
                Ok(secret) => Some(SecretString::from(secret.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => {
                    self.wrong(&twin, format!("{file:?}: {error}"), "a file that this process may read");
                    None
                }
            },
        }
    }

    /// A secret that must be there.
    pub fn required_secret(&self, key: &str) -> Option<SecretString> {
        let twin = format!("{key}_file");
        if self.node(key).is_none() && self.node(&twin).is_none() {
            return self.missing(key, &format!("a secret: {key}, or {twin} with the name of a file"));
        }
        self.secret(key)
    }

    /// A section below this one, if the key is there and is a table.
    pub fn section(&self, key: &str) -> Option<Section<'a>> {
        self.note(key, || (Want::Table, None));
        let node = self.node(key)?;
        match &node.value {
            Value::Table(table) => {
                Some(Section::new(&self.full_key(key), table, node.key_place.clone(), self.report))
            }
            _ => self.mismatch(key, node, "a table"),
        }
    }

    /// The sections of a list of tables (`[[routes]]`), by their place in it: `routes[2]`.
    pub fn sections(&self, key: &str) -> Vec<Section<'a>> {
        self.note(key, || (Want::Tables, None));
        let Some(node) = self.node(key) else { return Vec::new() };
        let Value::List(nodes) = &node.value else {
            return self.mismatch(key, node, "a list of tables").unwrap_or_default();
        };
        let mut sections = Vec::new();
        for (index, item) in nodes.iter().enumerate() {
            let path = format!("{}[{index}]", self.full_key(key));
            match &item.value {
                Value::Table(table) => {
                    sections.push(Section::new(&path, table, item.place.clone(), self.report));
                }
                _ => drop(self.mismatch::<()>(key, item, "a table")),
            }
        }
        sections
    }

    /// Ends the reading: every key that nobody asked for is unknown, and the nearest known one is named.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, node) in self.table.iter().filter(|(key, _)| !asked.contains(*key)) {
            let wanted = match nearest(key, asked.iter().map(String::as_str)) {
                Some(known) => format!("did you mean {known:?}?"),
                None => {
                    let known: Vec<&str> = asked.iter().map(String::as_str).collect();
                    format!("one of the known keys: {}", known.join(", "))
                }
            };
            self.tell_alone(key, &node.key_place, UNKNOWN.to_owned(), wanted);
        }
    }

    fn is_variable(&self, node: &Node) -> bool {
        matches!(node.place, Place::Variable(_))
    }
}

/// The name that is most like `found`, if one is like it at all.
pub fn nearest<'n>(found: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|name| (strsim::damerau_levenshtein(name, found), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// Whether a key holds a secret itself (its `…_file` twin does not): messages and pictures of the
/// config never show its value. Told by the key's last word, so that librdkafka's properties
/// (`ssl.key.password`) count as well.
pub fn names_a_secret(key: &str) -> bool {
    let last = key.rsplit(['.', '_', '-']).next().unwrap_or(key);
    ["secret", "token", "password", "passwd", "seed", "pem", "credentials"].contains(&last)
}
