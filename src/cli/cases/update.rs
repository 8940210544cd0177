//! Writes what was made into a case file, in place of what it expects.
//!
//! Only what differs is touched: an expectation keeps the keys it has, with the values that were
//! made; comments and layout stay. Ids are left out of what is written anew, because they say
//! nothing that the event does not. Called by `--update` for cases that fail.

use serde_json::{Map, Value as Json};
use toml_edit::{
    Array, ArrayOfTables, DocumentMut, InlineTable, Item, RawString, Table, TableLike, TomlError, Value,
};

use super::judge::{Made, MadeMessage, matches};
use super::read::{Case, Expectation};

const KINDS: [&str; 3] = ["expect", "expect_letter", "expect_drop"];

/// The file's text with what was made of these cases.
///
/// # Errors
/// When the text is not TOML: somebody has changed it since it was read.
pub fn rewrite(text: &str, cases: &[(&Case, &Made)]) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    for (case, made) in cases {
        let table: Option<&mut dyn TableLike> = match document.get_mut("case") {
            Some(Item::ArrayOfTables(tables)) => tables.get_mut(case.index).map(|table| table as _),
            Some(Item::Value(Value::Array(list))) => {
                list.get_mut(case.index).and_then(Value::as_inline_table_mut).map(|table| table as _)
            }
            _ => None,
        };
        if let Some(table) = table {
            write(table, case, made);
        }
    }
    Ok(document.to_string())
}

fn write(table: &mut dyn TableLike, case: &Case, made: &Made) {
    let letters = match made.letters.as_slice() {
        [] => None,
        [one] => Some(Value::from(one.as_str())),
        several => Some(Value::Array(several.iter().map(String::as_str).collect())),
    };
    let wanted = [!made.messages.is_empty(), letters.is_some(), made.dropped.is_some()];
    // What is said of a case stays beside what replaces it.
    let (mut comment, mut aside) = (None, None);
    for (key, _) in KINDS.iter().zip(wanted).filter(|(_, wanted)| !wanted) {
        let prefix = table.key(key).and_then(|key| key.leaf_decor().prefix()).cloned();
        if let Some(removed) = table.remove(key) {
            comment = comment.or(prefix);
            aside = aside.or(removed.as_value().and_then(|value| value.decor().suffix()).cloned());
        }
    }
    let fresh = |table: &dyn TableLike| KINDS.iter().all(|key| !table.contains_key(key));
    let moved = fresh(table);
    if !made.messages.is_empty() {
        messages(table, case.expected.messages.as_deref().unwrap_or_default(), &made.messages);
    }
    for (key, value) in [("expect_letter", letters), ("expect_drop", made.dropped.map(Value::from))] {
        match (table.get_mut(key), value) {
            (Some(Item::Value(old)), Some(new)) => replace(old, new),
            (None, Some(new)) => drop(table.insert(key, Item::Value(new))),
            _ => {}
        }
    }
    let Some((key, _)) = KINDS.iter().zip(wanted).find(|(_, wanted)| *wanted && moved) else { return };
    if let (Some(mut key), Some(comment)) = (table.key_mut(key), comment) {
        key.leaf_decor_mut().set_prefix(comment);
    }
    if let (Some(Item::Value(value)), Some(aside)) = (table.get_mut(key), aside) {
        value.decor_mut().set_suffix(aside);
    }
}

/// A new value in the place of an old one, with what stands around that.
fn replace(old: &mut Value, new: Value) {
    let decor = old.decor().clone();
    *old = new;
    *old.decor_mut() = decor;
}

/// Entries that are there keep their keys; more messages get entries of their own, and what is too
/// much goes.
fn messages(table: &mut dyn TableLike, expected: &[Expectation], made: &[MadeMessage]) {
    let fits = |index: usize| expected[index].fits(&made[index]);
    match table.get_mut("expect") {
        Some(Item::ArrayOfTables(entries)) => {
            while entries.len() > made.len() {
                entries.remove(entries.len() - 1);
            }
            for (index, made) in made.iter().enumerate() {
                match entries.get_mut(index) {
                    Some(_) if fits(index) => {}
                    Some(entry) => settle(entry, &expected[index], made),
                    None => push(entries, made),
                }
            }
        }
        Some(Item::Value(Value::Array(entries))) => {
            while entries.len() > made.len() {
                entries.remove(entries.len() - 1);
            }
            for (index, made) in made.iter().enumerate() {
                match entries.get_mut(index).and_then(Value::as_inline_table_mut) {
                    Some(_) if fits(index) => {}
                    Some(entry) => settle(entry, &expected[index], made),
                    None => entries.push(fresh(made)),
                }
            }
        }
        _ => {
            let mut entries = Array::new();
            for made in made {
                let mut entry = Value::InlineTable(fresh(made));
                entry.decor_mut().set_prefix("\n  ");
                entries.push_formatted(entry);
            }
            entries.set_trailing("\n");
            entries.set_trailing_comma(true);
            table.insert("expect", Item::Value(Value::Array(entries)));
        }
    }
}

fn push(entries: &mut ArrayOfTables, made: &MadeMessage) {
    let mut entry = Table::new();
    for (key, value) in &fresh(made) {
        entry.insert(key, Item::Value(value.clone()));
    }
    entries.push(entry);
}

/// A whole expectation: what most cases say of a message.
fn fresh(made: &MadeMessage) -> InlineTable {
    let mut entry = InlineTable::new();
    for key in ["account", "rooms", "body"] {
        let Some(value) = made.fields.get(key) else { continue };
        entry.insert(key, written(&without(value, &made.ids)));
    }
    entry
}

/// The keys that an entry has, with the values that were made.
fn settle(entry: &mut dyn TableLike, expected: &Expectation, made: &MadeMessage) {
    let typed = expected.typed(made);
    for (key, wanted) in &typed {
        let made = made.fields.get(key).unwrap_or(&Json::Null);
        let exact = expected.exact && key == "body";
        if matches(wanted, made, exact) {
            continue;
        }
        let target = if exact { made.clone() } else { kept(wanted, made) };
        let Some(item) = entry.get_mut(key) else { continue };
        match toml(&target) {
            // A body that is written as JSON stays so; so does what TOML cannot say.
            Some(_) if !(key == "body" && item.is_str()) => adjust(item, wanted, &target, exact),
            _ => set(item, json_text(&target)),
        }
    }
}

/// Of what was made, what the expectation speaks of.
fn kept(wanted: &Json, made: &Json) -> Json {
    match (wanted, made) {
        (Json::Object(wanted), Json::Object(made)) => {
            let both =
                wanted.iter().filter_map(|(key, wanted)| Some((key.clone(), kept(wanted, made.get(key)?))));
            Json::Object(both.filter(|(_, made)| !made.is_null()).collect())
        }
        (Json::Array(wanted), Json::Array(made)) if wanted.len() == made.len() => {
            wanted.iter().zip(made).map(|(wanted, made)| kept(wanted, made)).collect()
        }
        _ => made.clone(),
    }
}

/// Makes an item say `target`, changing no more than what differs.
fn adjust(item: &mut Item, wanted: &Json, target: &Json, exact: bool) {
    if matches(wanted, target, exact) && matches(target, wanted, false) {
        return;
    }
    let (Json::Object(wanted), Json::Object(target_fields), true) = (wanted, target, item.is_table_like())
    else {
        if let Json::Array(_) | Json::Object(_) = target
            && let Some(value) = toml(target)
        {
            return set(item, value);
        }
        return set(item, written(target));
    };
    let edge = take_edge(item);
    let Some(table) = item.as_table_like_mut() else { return };
    for key in wanted.keys().filter(|key| target_fields.get(*key).is_none_or(Json::is_null)) {
        table.remove(key);
    }
    for (key, value) in target_fields.iter().filter(|(_, value)| !value.is_null()) {
        match (wanted.get(key), table.get_mut(key)) {
            (Some(wanted), Some(item)) => adjust(item, wanted, value, exact),
            _ => drop(table.insert(key, Item::Value(written(value)))),
        }
    }
    if let (Some(edge), Some(last)) = (edge, last_value(item)) {
        last.decor_mut().set_suffix(edge);
    }
}

/// The last value of an inline table.
fn last_value(item: &mut Item) -> Option<&mut Value> {
    item.as_inline_table_mut()?.iter_mut().last().map(|(_, value)| value)
}

/// Takes what stands between the last value and the bracket, which stays where it is.
fn take_edge(item: &mut Item) -> Option<RawString> {
    let last = last_value(item)?;
    let edge = last.decor().suffix()?.clone();
    last.decor_mut().set_suffix("");
    Some(edge)
}

fn set(item: &mut Item, value: Value) {
    match item {
        Item::Value(old) => replace(old, value),
        other => *other = Item::Value(value),
    }
}

/// JSON as a value of TOML; as a text of JSON where TOML cannot say it.
fn written(json: &Json) -> Value {
    toml(json).unwrap_or_else(|| json_text(json))
}

fn json_text(json: &Json) -> Value {
    Value::from(json.to_string())
}

/// JSON as a value of TOML. Members that are null are left out; `None` for a null in a list and for
/// numbers beyond 64 bits.
fn toml(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(word) => Value::from(*word),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::from(number),
            None if number.is_f64() => Value::from(number.as_f64()?),
            None => return None,
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => {
            Value::Array(items.iter().map(toml).collect::<Option<Vec<Value>>>()?.into_iter().collect())
        }
        Json::Object(fields) => {
            let mut table = InlineTable::new();
            for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                table.insert(key, toml(value)?);
            }
            Value::InlineTable(table)
        }
    })
}

/// JSON without the members that hold one of the ids, and without what is empty then.
fn without(json: &Json, ids: &[String]) -> Json {
    let Json::Object(fields) = json else { return json.clone() };
    let mut left = Map::new();
    for (key, value) in fields {
        if value.as_str().is_some_and(|text| ids.iter().any(|id| id == text)) {
            continue;
        }
        let value_left = without(value, ids);
        let emptied = value_left.as_object().is_some_and(Map::is_empty) && value_left != *value;
        if !emptied {
            left.insert(key.clone(), value_left);
        }
    }
    Json::Object(left)
}
