//! A value of a message as it is written in the config, compiled: strings are filters, numbers and
//! booleans stand for themselves, tables and lists hold templates. Filled in for one event it is JSON.

use serde_json::Value;

use super::fields::Want;
use super::filter::{Filter, Input, Trouble};
use super::text::{filter_at, full_key};
use crate::core::section::{Node, Section, Value as Written};

/// A value with filters in it.
#[derive(Debug)]
pub(super) enum Template {
    Constant(Value),
    Filter(Filter),
    Object(Vec<(String, Template)>),
    List(Vec<Template>),
}

impl Template {
    pub(super) fn read(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        Self::read_at(section, &full_key(section, key), node)
    }

    fn read_at(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        match &node.value {
            Written::Text(text) => {
                let filter = filter_at(section, key, node, text)?;
                match filter.constant() {
                    Some(literal) => Some(Self::Constant(literal.value().to_json())),
                    None => Some(Self::Filter(filter)),
                }
            }
            Written::Integer(number) => Some(Self::Constant(Value::from(*number))),
            Written::Float(number) => Some(Self::Constant(Value::from(*number))),
            Written::Boolean(word) => Some(Self::Constant(Value::from(*word))),
            Written::List(items) => {
                let items = items.iter().map(|item| Self::read_at(section, key, item));
                Some(Self::List(items.collect::<Option<_>>()?))
            }
            Written::Table(fields) => {
                let fields = fields.iter().map(|(name, field)| {
                    Some((name.clone(), Self::read_at(section, &format!("{key}.{name}"), field)?))
                });
                Some(Self::Object(fields.collect::<Option<_>>()?))
            }
        }
    }

    pub(super) fn fill(&self, input: &Input) -> Result<Value, Trouble> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Filter(filter) => filter.output(input)?.to_json(),
            Self::List(items) => {
                Value::Array(items.iter().map(|item| item.fill(input)).collect::<Result<_, _>>()?)
            }
            Self::Object(fields) => Value::Object(
                fields.iter().map(|(name, field)| Ok((name.clone(), field.fill(input)?))).collect::<Result<
                    _,
                    Trouble,
                >>(
                )?,
            ),
        })
    }

    /// Whether it can give what a field takes, as far as that is known without an event; tells it if not.
    pub(super) fn fits(&self, section: &Section<'_>, name: &str, want: Want, required: bool) -> bool {
        let wrong = match (self, want) {
            (Self::Constant(Value::Null), _) if required => Some("null; a value is wanted".to_owned()),
            (Self::Constant(value), want) => shaped(value.clone(), want).err(),
            (Self::List(_), Want::Text) => Some("a list; a text is wanted".to_owned()),
            (Self::Object(_), Want::Text) => Some("a table; a text is wanted".to_owned()),
            (Self::List(_) | Self::Object(_), Want::Whole | Want::Number) => {
                Some("a table or list; a number is wanted".to_owned())
            }
            _ => None,
        };
        let Some(wrong) = wrong else { return true };
        let (found, wanted) = wrong.split_once("; ").unwrap_or((&wrong, "another value"));
        section.wrong(name, found, wanted.trim_end_matches(" is wanted"));
        false
    }

    /// Its value where that is the same for every event, else null.
    pub(super) fn constant(&self) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            _ => Value::Null,
        }
    }

    pub(super) fn uses_headers(&self) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Filter(filter) => filter.uses_headers(),
            Self::List(items) => items.iter().any(Self::uses_headers),
            Self::Object(fields) => fields.iter().any(|(_, field)| field.uses_headers()),
        }
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The value in the shape that the field takes; null stays null.
pub(super) fn shaped(value: Value, want: Want) -> Result<Value, String> {
    match (want, value) {
        (Want::Json, value) | (_, value @ Value::Null) | (Want::Text, value @ Value::String(_)) => Ok(value),
        (Want::Text, value @ (Value::Number(_) | Value::Bool(_))) => Ok(Value::String(value.to_string())),
        (Want::Whole, Value::Number(number)) if number.is_u64() => Ok(Value::Number(number)),
        (Want::Number, Value::Number(number)) => Ok(Value::Number(number)),
        (Want::Number, Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::from(number)),
            _ => Err(format!("the text {text:?}; a number is wanted")),
        },
        (want, value) => {
            let wanted = match want {
                Want::Text => "a text",
                Want::Whole => "a whole number that is not negative",
                Want::Number | Want::Json => "a number",
            };
            Err(format!("{}; {wanted} is wanted", kind_of(&value)))
        }
    }
}
