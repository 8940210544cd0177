//! Environment variables as layers: `ROOMCAST__ACCOUNTS__LIVE__TIMEOUT=3s` is `accounts.live.timeout`.
//!
//! Two underscores separate levels; with one, Kubernetes would inject variables of its own for a
//! service of that name. A variable is text, and whoever reads the key turns it into the type it
//! wants: figment's own reader would guess, and make a number of a numeric secret. Each variable is
//! a layer of its own, so that a value's tag names it.

use std::sync::Arc;

use figment::value::{Dict, Tag, Value};

use crate::core::section::{Place, Problem, Severity};

/// What every variable of ours begins with.
pub const PREFIX: &str = "ROOMCAST__";

/// One variable.
#[derive(Debug)]
pub struct VariableLayer {
    name: Arc<str>,
    keys: Vec<String>,
    text: String,
}

impl VariableLayer {
    /// Where it was written.
    pub fn place(&self) -> Place {
        Place::Variable(self.name.clone())
    }

    /// Its value, below its keys.
    pub fn dict(&self) -> Dict {
        let mut value = Value::String(Tag::Default, self.text.clone());
        for key in self.keys.iter().skip(1).rev() {
            value = Value::Dict(Tag::Default, Dict::from([(key.clone(), value)]));
        }
        Dict::from([(self.keys[0].clone(), value)])
    }

    /// What keeps it from being laid over `below`: it would reach into a list or a plain value, or
    /// replace a whole table.
    pub fn clash(&self, below: &Dict) -> Option<Problem> {
        let mut dict = below;
        for (depth, key) in self.keys.iter().enumerate() {
            let last = depth + 1 == self.keys.len();
            let path = self.keys[..=depth].join(".");
            match (dict.get(key)?, last) {
                (Value::Dict(_, below), false) => dict = below,
                (Value::Dict(..), true) => {
                    let found = format!("a text in place of the whole table {path}");
                    return Some(self.problem(found, "a variable for one of its keys"));
                }
                (_, true) => return None,
                (Value::Array(..), false) => {
                    let found = format!("a variable that reaches into the list {path}");
                    return Some(self.problem(found, "lists in a file: a later -c replaces a list whole"));
                }
                (_, false) => {
                    let found = format!("a variable below {path}, which is no table");
                    return Some(self.problem(found, "either the key itself or keys below it"));
                }
            }
        }
        None
    }

    fn problem(&self, found: String, wanted: &str) -> Problem {
        Problem {
            severity: Severity::Error,
            place: self.place(),
            key: self.keys.join("."),
            found,
            wanted: wanted.to_owned(),
        }
    }
}

/// Picks ours out of an environment, in the order of their names.
pub fn read(env: impl Iterator<Item = (String, String)>) -> (Vec<VariableLayer>, Vec<Problem>) {
    let mut ours: Vec<(String, String)> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    ours.sort();
    let mut layers = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in ours {
        let keys: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        let layer = VariableLayer { name: name.as_str().into(), keys, text };
        if layer.keys.iter().any(String::is_empty) {
            let wanted = "ROOMCAST__SECTION__KEY: names of levels with two underscores between them";
            problems.push(Problem {
                key: String::new(),
                ..layer.problem("an empty level in the variable's name".to_owned(), wanted)
            });
        } else {
            layers.push(layer);
        }
    }
    (layers, problems)
}
