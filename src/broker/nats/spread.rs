//! How several replicas share a NATS source: `spread`. Read and checked; tested with
//! [`super::settings`].

use super::settings::KeyPlace;
use crate::core::section::{Section, Value};

/// The fewest and the most partitions: one would be `one_active`, and each costs the server a
/// consumer, a look every 3 s by its reader, and takes an equal part of what the source may hold.
const PARTITIONS: std::ops::Range<i64> = 2..65;

/// How several replicas share the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// One reads, the others stand by.
    OneActive,
    /// Each reads some of that many partitions, chosen by that token of the subject, from 0.
    Partitions {
        /// How many.
        count: u32,
        /// The key's token.
        token: usize,
    },
}

/// Reads `spread`: a word, or a table with the number of partitions, which `key` and `subjects` must suit.
pub fn read(section: &Section<'_>, key: Option<&KeyPlace>, subjects: Option<&[String]>) -> Option<Spread> {
    const WANTED: &str = "\"one_active\" (one replica reads, the others stand by) or { partitions = 8 }";
    let Some(node) = section.node("spread") else { return Some(Spread::OneActive) };
    let found = match &node.value {
        Value::Text(word) if word == "one_active" => return Some(Spread::OneActive),
        Value::Text(text) => format!("{text:?}"),
        Value::Table(_) => {
            let table = section.section("spread")?;
            if table.node("partitions").is_some() {
                let count = count(&table);
                table.finish();
                return partitions(section, count?, key?, subjects?);
            }
            table.finish();
            "a table without `partitions`".to_owned()
        }
        other => other.kind().to_owned(),
    };
    section.wrong("spread", found, WANTED);
    None
}

fn count(table: &Section<'_>) -> Option<u32> {
    let count = table.optional_integer("partitions", 0..i64::MAX)?;
    if !PARTITIONS.contains(&count) {
        let wanted = "a whole number from 2 to 64 (one would be \"one_active\"; each costs the server a consumer \
                      and has an equal part of `max_held_records`)";
        table.wrong("partitions", count.to_string(), wanted);
        return None;
    }
    u32::try_from(count).ok()
}

/// Partitions are chosen by the server, from the subject alone.
fn partitions(section: &Section<'_>, count: u32, key: &KeyPlace, subjects: &[String]) -> Option<Spread> {
    const WANTED: &str = "{ token = 1 }: the server chooses the partition by a token of the subject";
    let token = match key {
        KeyPlace::Token(token) => *token,
        KeyPlace::Header(name) => {
            section.wrong("key", format!("{{ header = {name:?} }} with partitions"), WANTED);
            return None;
        }
        KeyPlace::Nowhere => {
            section.wrong("key", "nothing, with partitions", WANTED);
            return None;
        }
    };
    let lacks = |subject: &&String| {
        let tokens: Vec<&str> = subject.split('.').collect();
        tokens.last() != Some(&">") && tokens.len() <= token
    };
    if let Some(subject) = subjects.iter().find(lacks) {
        section.wrong(
            "subjects",
            format!("{subject:?}, which has no token {token} to choose the partition by"),
            "subjects that have the token of `key` (the first is token 0)",
        );
        return None;
    }
    Some(Spread::Partitions { count, token })
}
