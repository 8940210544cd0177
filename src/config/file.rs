//! One config file: TOML → values for figment, and the bytes where each key and value stands.
//!
//! Only `toml`'s recovering parser is used, so that one run tells every mistake of the file. It
//! never opens a file; `config::load` hands it the text.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use figment::value::{Dict, Num, Tag, Value};
use toml::de::{DeTable, DeValue, Error};

use crate::core::section::{Place, Problem, Severity};

/// One step down into the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To a key of a table.
    Key(String),
    /// To an item of a list.
    Index(usize),
}

/// A file that was understood.
#[derive(Debug)]
pub struct FileLayer {
    name: Arc<str>,
    dict: Dict,
    spans: Spans,
}

/// Where a key, its value and what is below stand.
#[derive(Debug, Default)]
pub struct Spans {
    /// Bytes of the key.
    pub key: Range<usize>,
    /// Bytes of the value; of the header where a table has one.
    pub value: Range<usize>,
    /// The table below.
    pub table: BTreeMap<String, Spans>,
    /// The list below.
    pub list: Vec<Spans>,
}

impl FileLayer {
    /// Reads a file's text: what could be read of it, and what is wrong with the rest.
    pub fn parse(name: &Arc<str>, text: &str) -> (Self, Vec<Problem>) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader { name, text, path: Vec::new(), problems: Vec::new() };
        for error in &errors {
            reader.broken(error);
        }
        let mut spans = Spans::default();
        let dict = reader.table(document.get_ref(), &mut spans);
        let problems = reader.problems;
        (Self { name: name.clone(), dict, spans }, problems)
    }

    /// Its values.
    pub fn dict(&self) -> Dict {
        self.dict.clone()
    }

    /// Where everything of it stands.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// The places of a key and of its value, if the file writes it.
    pub fn places(&self, steps: &[Step]) -> Option<(Place, Place)> {
        let mut spans = &self.spans;
        for step in steps {
            spans = match step {
                Step::Key(key) => spans.table.get(key)?,
                Step::Index(index) => spans.list.get(*index)?,
            };
        }
        Some((self.place(&spans.key), self.place(&spans.value)))
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place::File { name: self.name.clone(), span: span.clone() }
    }
}

/// Walks a parsed document.
struct Reader<'a> {
    name: &'a Arc<str>,
    text: &'a str,
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, spans: &mut Spans) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in table {
            let mut below = Spans { key: key.span(), value: value.span(), ..Spans::default() };
            self.path.push(key.get_ref().to_string());
            if let Some(read) = self.value(value.get_ref(), &mut below) {
                dict.insert(key.get_ref().to_string(), read);
            }
            self.path.pop();
            spans.table.insert(key.get_ref().to_string(), below);
        }
        dict
    }

    fn value(&mut self, value: &DeValue<'_>, spans: &mut Spans) -> Option<Value> {
        let tag = Tag::Default;
        Some(match value {
            DeValue::String(text) => Value::String(tag, text.to_string()),
            DeValue::Boolean(word) => Value::Bool(tag, *word),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Num(tag, Num::I64(number)),
                Err(_) => return self.odd(spans, "a number that is too large", "at most 64 bits"),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Num(tag, Num::F64(number)),
                _ => return self.odd(spans, "a number without an end", "a finite number"),
            },
            DeValue::Datetime(_) => {
                return self.odd(spans, "a date without quotes", "a string in quotes");
            }
            DeValue::Array(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    let mut below = Spans { key: item.span(), value: item.span(), ..Spans::default() };
                    list.extend(self.value(item.get_ref(), &mut below));
                    spans.list.push(below);
                }
                Value::Array(tag, list)
            }
            DeValue::Table(table) => Value::Dict(tag, self.table(table, spans)),
        })
    }

    fn odd(&mut self, spans: &Spans, found: &str, wanted: &str) -> Option<Value> {
        let key = self.path.join(".");
        self.tell(spans.value.clone(), key, found.to_owned(), wanted.to_owned());
        None
    }

    /// A mistake in the TOML itself. The parser's texts are `what, expected what`; the usual ones
    /// are said in plainer words.
    fn broken(&mut self, error: &Error) {
        let message = error.message().replace('\n', " ");
        let (found, wanted) = match message.as_str() {
            "duplicate key" => ("a key or section that stands above already", "each key and section once"),
            "string values must be quoted, expected literal string" => {
                ("no value of TOML", "a string in quotes, a number, true, false, a list or a table")
            }
            text if text.starts_with("invalid basic string")
                || text.starts_with("invalid literal string") =>
            {
                ("a string that does not end as it began, or with a wrong \\ in it", "a string in quotes")
            }
            text => text.split_once(", expected ").unwrap_or((text, "TOML")),
        };
        let (found, wanted) = (found.to_owned(), wanted.to_owned());
        // The end of a line is shown as its last character: a caret on nothing helps nobody.
        let span = error.span().unwrap_or(0..0);
        let start = span.start.min(self.text.len());
        self.tell(start..span.end.clamp(start, self.text.len()), String::new(), found, wanted);
    }

    fn tell(&mut self, span: Range<usize>, key: String, found: String, wanted: String) {
        let place = Place::File { name: self.name.clone(), span };
        self.problems.push(Problem { severity: Severity::Error, place, key, found, wanted });
    }
}
