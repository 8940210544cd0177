//! The value that events are decoded into and filters work on: JSON, counted.
//!
//! serde_json parses straight into it, so an event is never converted for its filters. Containers
//! are shared and know their depth, which is bounded, so that nothing recurses without a bound:
//! neither a walk nor a drop. Every operation that a filter can ask for pays for what it looks at
//! and builds (see [`budget`]). Not meant to leave a record's turn: it is neither `Send` nor stored.

mod access;
pub mod budget;
mod ops;
mod order;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use budget::{exhaust, spend, step};
use ops::{FIELD, OBJECT, PLACE};

/// How deep values may nest. serde_json stops at 128; the rest is for what filters put around it.
pub const DEPTH_MAX: usize = 256;

/// The fields of an object, by name.
pub type Fields = BTreeMap<Arc<str>, Val>;

/// A JSON value. Whole numbers stay whole as long as 127 bits hold them.
#[derive(Clone, Debug, Default)]
pub enum Val {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number; filters can also make infinities and NaN, which are written as `null`.
    Float(f64),
    /// A text.
    Str(Arc<str>),
    /// An array.
    Arr(Arc<Tree<Vec<Val>>>),
    /// An object.
    Obj(Arc<Tree<Fields>>),
}

/// A container that knows how deep it nests.
#[derive(Clone, Debug, Default)]
pub struct Tree<T> {
    /// An upper bound of its depth: 1 for a container of plain values.
    depth: usize,
    /// What it holds.
    items: T,
}

impl Val {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self::Str(Arc::from(text))
    }

    /// An array. Not counted: for decoding.
    pub fn array(items: Vec<Self>) -> Self {
        let depth = 1 + items.iter().map(Self::depth).max().unwrap_or(0);
        Self::Arr(tree(depth, items))
    }

    /// An object. Not counted: for decoding.
    pub fn object(fields: Fields) -> Self {
        let depth = 1 + fields.values().map(Self::depth).max().unwrap_or(0);
        Self::Obj(tree(depth, fields))
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The fields, if it is an object.
    pub fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Obj(object) => Some(&object.items),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::Arr(array) => Some(&array.items),
            _ => None,
        }
    }

    /// The field of that name, if it is an object that has one.
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.fields()?.get(name)
    }

    /// What it is, for messages: `an object`, `a text`, …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Str(_) => "a text",
            Self::Arr(_) => "an array",
            Self::Obj(_) => "an object",
        }
    }

    /// The value for a message to people: its kind, and its JSON cut after 80 characters.
    pub fn shown(&self) -> String {
        let mut out = Cut { text: String::new(), left: 80 };
        match write_json(self, &mut out) {
            Ok(()) => out.text,
            Err(fmt::Error) => format!("{}…", out.text),
        }
    }

    /// As a serde_json value. Whole numbers beyond 64 bits become floats, as in serde_json itself.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(word) => Value::Bool(*word),
            Self::Int(number) => i64::try_from(*number)
                .map(Value::from)
                .or_else(|_| u64::try_from(*number).map(Value::from))
                .unwrap_or_else(|_| Value::from(ops::to_float(*number))),
            Self::Float(number) => Value::from(*number),
            Self::Str(text) => Value::String(text.to_string()),
            Self::Arr(array) => Value::Array(array.items.iter().map(Self::to_json).collect()),
            Self::Obj(object) => Value::Object(
                object.items.iter().map(|(name, value)| (name.to_string(), value.to_json())).collect(),
            ),
        }
    }

    /// About how many bytes its JSON takes, or `None` when that is more than `most`. Looks at no
    /// more than it must, however often parts are shared.
    pub fn size_within(&self, most: usize) -> Option<usize> {
        let own = match self {
            Self::Str(text) => text.len() + 2,
            Self::Int(_) | Self::Float(_) => 8,
            _ => 4,
        };
        let mut left = most.checked_sub(own)?;
        if let Some(items) = self.items() {
            for item in items {
                left -= item.size_within(left)?;
            }
        }
        for (name, value) in self.fields().into_iter().flatten() {
            left = left.checked_sub(name.len() + 4)?;
            left -= value.size_within(left)?;
        }
        Some(most - left)
    }

    fn depth(&self) -> usize {
        match self {
            Self::Arr(array) => array.depth,
            Self::Obj(object) => object.depth,
            _ => 0,
        }
    }
}

impl From<&Value> for Val {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(word) => Self::Bool(*word),
            Value::Number(number) => {
                number.as_i128().map_or_else(|| Self::Float(number.as_f64().unwrap_or(f64::NAN)), Self::Int)
            }
            Value::String(text) => Self::text(text),
            Value::Array(items) => Self::array(items.iter().map(Self::from).collect()),
            Value::Object(fields) => {
                Self::object(fields.iter().map(|(name, value)| (Arc::from(&**name), value.into())).collect())
            }
        }
    }
}

/// A container of that depth. Past [`DEPTH_MAX`] the filter that builds it is ended: a drop of
/// something deeper could exhaust the stack.
fn tree<T>(depth: usize, items: T) -> Arc<Tree<T>> {
    if depth > DEPTH_MAX {
        exhaust(format!("nested values more than {DEPTH_MAX} deep"));
    }
    Arc::new(Tree { depth, items })
}

/// JSON text that stops after so many characters.
struct Cut {
    text: String,
    left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let mut chars = part.chars();
        self.text.extend(chars.by_ref().take(self.left));
        self.left = self.left.saturating_sub(part.chars().count());
        if self.left == 0 { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Writes a value as compact JSON, paying for every part of it.
fn write_json(value: &Val, out: &mut dyn fmt::Write) -> fmt::Result {
    step(1);
    match value {
        Val::Null => out.write_str("null"),
        Val::Bool(word) => write!(out, "{word}"),
        Val::Int(number) => write!(out, "{number}"),
        Val::Float(number) => write!(out, "{}", Value::from(*number)),
        Val::Str(text) => write_text(text, out),
        Val::Arr(array) => {
            out.write_char('[')?;
            for (index, item) in array.items.iter().enumerate() {
                if index > 0 {
                    out.write_char(',')?;
                }
                write_json(item, out)?;
            }
            out.write_char(']')
        }
        Val::Obj(object) => {
            out.write_char('{')?;
            for (index, (name, item)) in object.items.iter().enumerate() {
                if index > 0 {
                    out.write_char(',')?;
                }
                write_text(name, out)?;
                out.write_char(':')?;
                write_json(item, out)?;
            }
            out.write_char('}')
        }
    }
}

fn write_text(text: &str, out: &mut dyn fmt::Write) -> fmt::Result {
    spend(text.len());
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if u32::from(c) < 0x20 => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_json(self, f)
    }
}

impl<'de> Deserialize<'de> for Val {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// Builds while it reads. What it builds can be a hundred times as long as its text, so a text that a
/// filter reads is paid for here; the event itself is read outside of any budget.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Val, E> {
        Ok(Val::Null)
    }

    fn visit_bool<E>(self, word: bool) -> Result<Val, E> {
        Ok(Val::Bool(word))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Val, E> {
        Ok(Val::Int(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Val, E> {
        Ok(Val::Int(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Val, E> {
        Ok(Val::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Val, E> {
        Ok(Val::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Val, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            spend(2 * PLACE);
            items.push(item);
        }
        Ok(Val::array(items))
    }

    /// Of a name that stands twice, the last value counts, as in serde_json.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Val, A::Error> {
        let mut fields = Fields::new();
        spend(OBJECT);
        while let Some((name, value)) = map.next_entry::<Name, Val>()? {
            spend(FIELD + name.0.len());
            fields.insert(name.0, value);
        }
        Ok(Val::object(fields))
    }
}

/// A field's name, made without a copy in between.
struct Name(Arc<str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameReader;
        impl Visitor<'_> for NameReader {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(Name(Arc::from(text)))
            }
        }
        deserializer.deserialize_str(NameReader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Val {
        serde_json::from_str(text).expect("the text is JSON")
    }

    #[test]
    fn json_goes_in_and_out_unchanged() {
        for text in [
            "null",
            r#"{"a":[1,-2,3.5,18446744073709551615],"b":{"c":"日本 \"x\" \n \u0001"}}"#,
            r#"[[],{},"",true,false,9007199254740993,3.0]"#,
        ] {
            assert_eq!(read(text).to_string(), text);
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(read(text).to_json(), value);
            assert_eq!(Val::from(&value), read(text));
        }
    }

    #[test]
    fn the_last_of_two_fields_counts() {
        assert_eq!(read(r#"{"a":1,"a":2}"#).to_string(), r#"{"a":2}"#);
    }

    #[test]
    fn a_value_is_cut_for_people() {
        assert_eq!(read("[1,2]").shown(), "[1,2]");
        let long = Val::text(&"x".repeat(5_000));
        assert!(long.shown().chars().count() < 90, "{}", long.shown());
    }

    #[test]
    fn sizes_stop_at_the_bound() {
        let mut value = Val::text("0123456789");
        for _ in 0..60 {
            value = Val::array(vec![value.clone(), value]);
        }
        assert_eq!(value.size_within(64 << 10), None, "2^60 shared leaves are not walked");
        assert!(read(r#"{"a":1}"#).size_within(64).is_some());
    }
}
