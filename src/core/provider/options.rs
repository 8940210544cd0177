//! Provider-only options: one table per provider says which there are, on which paths, and how each
//! is written.
//!
//! Used at start (names and constants, by `check_options`) and for every message (values, by
//! `render`). What is a filter in the config is known only per message: at start a string, a list, a
//! table or null stands for such a value and is not judged.

use serde_json::{Map, Number, Value};

use crate::core::model::Path;

/// One option of a provider.
pub(super) struct Spec {
    /// Its name on the provider's page.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) form: Form,
    /// The endpoints that have it.
    pub(super) paths: &'static [Path],
}

/// What an option takes. Lengths are in UTF-16 units.
pub(super) enum Form {
    /// `true` or `false` (0 and 1 are read as these).
    Flag,
    /// 0 or 1 (`true` and `false` are read as these).
    ZeroOne,
    /// Nothing but 0 (or `false`).
    OnlyZero,
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// A text that is not empty and not longer.
    Text(usize),
    /// Letters and digits, not longer.
    Letters(usize),
    /// One of these words.
    Word(&'static [&'static str]),
    /// JSON, sent as a text that is not longer.
    Json(usize),
    /// At most so many texts, none empty.
    Texts(usize),
}

impl Form {
    fn wanted(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::ZeroOne => "0 or 1".to_owned(),
            Self::OnlyZero => "0, the only value that has a meaning".to_owned(),
            Self::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Self::Number => "a number".to_owned(),
            Self::Text(max) => format!("a text of 1 to {max} characters"),
            Self::Letters(max) => format!("1 to {max} letters and digits"),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Json(max) => format!("JSON of at most {max} characters"),
            Self::Texts(max) => format!("a list of 1 to {max} texts, none of them empty"),
        }
    }

    /// The value in the form that the provider wants, if it is one.
    fn read(&self, value: &Value) -> Option<Value> {
        match self {
            Self::Flag => flag(value).map(Value::from),
            Self::ZeroOne => flag(value).map(|on| Value::from(u8::from(on))),
            Self::OnlyZero => flag(value).filter(|on| !on).map(|_| Value::from(0)),
            Self::Integer(low, high) => {
                value.as_i64().filter(|number| (low..=high).contains(&number)).map(Value::from)
            }
            Self::Number => value.as_f64().and_then(Number::from_f64).map(Value::Number),
            Self::Text(max) => text(value).filter(|t| (1..=*max).contains(&units(t))).map(Value::String),
            Self::Letters(max) => text(value)
                .filter(|t| (1..=*max).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric()))
                .map(Value::String),
            Self::Word(words) => value.as_str().filter(|word| words.contains(word)).map(Value::from),
            Self::Json(max) => json(value).filter(|t| units(t) <= *max).map(Value::String),
            Self::Texts(max) => texts(value).filter(|list| (1..=*max).contains(&list.len())).map(Value::from),
        }
    }
}

/// The length as the providers' pages count characters: UTF-16 units, the strictest reading that
/// still takes every text which is 4,096 characters for people (see `reference/providers.md` B2).
pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        _ => None,
    }
}

/// A text; numbers and booleans become one.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(word) => Some(word.to_string()),
        _ => None,
    }
}

/// A text that is JSON already, or any table or list as JSON.
fn json(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok().then(|| text.clone())
        }
        Value::Object(_) | Value::Array(_) => Some(value.to_string()),
        _ => None,
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(list) => list.iter().map(|item| text(item).filter(|t| !t.is_empty())).collect(),
        _ => text(value).filter(|t| !t.is_empty()).map(|one| vec![one]),
    }
}

/// A provider's options, and the parameters that are set elsewhere.
pub(super) struct Specs {
    /// The options.
    pub(super) options: &'static [Spec],
    /// Parameters of the page that are no options, and what sets them.
    pub(super) elsewhere: &'static [(&'static str, &'static str)],
}

impl Specs {
    fn find(&self, path: Path, name: &str) -> Result<&Spec, String> {
        match self.options.iter().find(|spec| spec.name == name) {
            Some(spec) if spec.paths.contains(&path) => return Ok(spec),
            Some(_) => {
                return Err(format!(
                    "the endpoint of path {} has no such parameter; it has {}",
                    path.word(),
                    self.names(path)
                ));
            }
            None => {}
        }
        if let Some((_, how)) = self.elsewhere.iter().find(|(reserved, _)| *reserved == name) {
            return Err(format!("not an option: {how}"));
        }
        let near = self
            .options
            .iter()
            .filter(|spec| spec.paths.contains(&path))
            .map(|spec| (strsim::damerau_levenshtein(spec.name, name), spec.name))
            .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
            .min();
        Err(match near {
            Some((_, known)) => format!("an unknown option; did you mean {known:?}?"),
            None => format!("an unknown option; there are {}", self.names(path)),
        })
    }

    fn names(&self, path: Path) -> String {
        let names: Vec<&str> =
            self.options.iter().filter(|spec| spec.paths.contains(&path)).map(|spec| spec.name).collect();
        names.join(", ")
    }

    /// Checks names and constants; a value that may be a filter's is not judged.
    pub(super) fn check(&self, path: Path, options: &Map<String, Value>) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        for (name, value) in options {
            match self.find(path, name) {
                Err(what) => wrong.push((name.clone(), what)),
                Ok(spec) => {
                    let constant = matches!(value, Value::Number(_) | Value::Bool(_));
                    if constant && spec.form.read(value).is_none() {
                        wrong.push((name.clone(), format!("{value}; allowed is {}", spec.form.wanted())));
                    }
                }
            }
        }
        wrong
    }

    /// The values in the provider's own form, in the order of the table. Null is left out.
    pub(super) fn read(
        &self,
        path: Path,
        options: &Map<String, Value>,
    ) -> Result<Vec<(&'static str, Value)>, String> {
        for (name, _) in options.iter().filter(|(_, value)| !value.is_null()) {
            self.find(path, name).map_err(|what| format!("option {name}: {what}"))?;
        }
        let mut read = Vec::new();
        for spec in self.options {
            let Some(value) = options.get(spec.name).filter(|value| !value.is_null()) else { continue };
            match spec.form.read(value) {
                Some(value) => read.push((spec.name, value)),
                None => {
                    return Err(format!(
                        "option {} is {}; allowed is {}",
                        spec.name,
                        shown(value),
                        spec.form.wanted()
                    ));
                }
            }
        }
        Ok(read)
    }
}

/// A value for people, cut to a length that fits in a line.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let end = text.floor_char_boundary(80);
    if end < text.len() { format!("{}…", &text[..end]) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: Specs = Specs {
        options: &[
            Spec { name: "mute", form: Form::Flag, paths: &[Path::Room] },
            Spec { name: "ratio", form: Form::Integer(0, 9_999), paths: &[Path::Room, Path::Users] },
            Spec { name: "extra", form: Form::Json(12), paths: &[Path::Room] },
        ],
        elsewhere: &[("to", "the route's `rooms` set it")],
    };

    fn options(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn constants_are_judged_at_start_and_filters_later() {
        assert_eq!(SPECS.check(Path::Room, &options(r#"{"mute":1,"ratio":".r","extra":{"a":1}}"#)), []);
        let wrong = SPECS.check(Path::Users, &options(r#"{"mute":true,"ratio":10000,"ratoi":1,"to":"x"}"#));
        let texts: Vec<String> = wrong.iter().map(|(name, what)| format!("{name}: {what}")).collect();
        assert_eq!(
            texts,
            [
                "mute: the endpoint of path users has no such parameter; it has ratio",
                "ratio: 10000; allowed is a whole number from 0 to 9999",
                "ratoi: an unknown option; did you mean \"ratio\"?",
                "to: not an option: the route's `rooms` set it",
            ]
        );
    }

    #[test]
    fn values_take_the_form_of_the_page() {
        let read = SPECS.read(Path::Room, &options(r#"{"extra":{"a":1},"mute":1,"ratio":null}"#)).unwrap();
        assert_eq!(read, [("mute", Value::Bool(true)), ("extra", Value::from(r#"{"a":1}"#))]);
        let long = SPECS.read(Path::Room, &options(r#"{"extra":{"abcdefgh":1}}"#)).unwrap_err();
        assert_eq!(long, r#"option extra is {"abcdefgh":1}; allowed is JSON of at most 12 characters"#);
        let broken = SPECS.read(Path::Room, &options(r#"{"extra":"{a"}"#)).unwrap_err();
        assert!(broken.contains("allowed is JSON"), "{broken}");
    }

    #[test]
    fn a_character_outside_the_basic_plane_counts_twice() {
        assert_eq!(units("a环😀"), 4);
    }
}
