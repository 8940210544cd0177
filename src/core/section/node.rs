//! What is written in the config, and where.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file, at these bytes.
    File {
        /// The file's name as it was given.
        name: Arc<str>,
        /// The bytes of the key or value.
        span: Range<usize>,
    },
    /// In a string of a file. How its text was quoted and escaped is known to whoever has the file.
    Inside {
        /// The file's name as it was given.
        name: Arc<str>,
        /// The bytes of the string, its quotes included.
        span: Range<usize>,
        /// The byte of the text that the string stands for.
        at: u32,
    },
    /// In an environment variable of that name.
    Variable(Arc<str>),
    /// Nowhere: a default, or something that is missing altogether.
    Nowhere,
}

impl Place {
    /// Byte `at` of the text of the string that was written here.
    pub fn inside(&self, at: usize) -> Self {
        match self {
            Self::File { name, span } => {
                let at = u32::try_from(at).unwrap_or(u32::MAX);
                Self::Inside { name: name.clone(), span: span.clone(), at }
            }
            other => other.clone(),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where the value was written.
    pub place: Place,
    /// Where its key was written; the value's place where there is no key.
    pub key_place: Place,
}

/// A value of the config. A variable is always text and is read as the type its key wants.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

impl Value {
    /// What it is, for messages: `a string`, `a whole number`, …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys and their values, by key.
pub type Table = BTreeMap<String, Node>;

/// Line and column of a byte, both from 1; columns count characters.
pub fn position(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    (text[..start].matches('\n').count() + 1, text[start..at].chars().count() + 1)
}
