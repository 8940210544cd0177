//! The key of a route's `conflate`: what an event's messages are the newest of.

use super::filter::{Filter, Input};
use crate::core::model::ConflateKey;
use crate::core::value::Val;

/// What a filter gives for an event, for people and as a text; nothing, where that is null. Members
/// count as a part of it: what others get supersedes nothing of theirs.
///
/// # Errors
/// What the filter says when it fails, for a letter of class `mapping`.
pub fn key(filter: &Filter, input: &Input, users: &[String]) -> Result<Option<(Val, String)>, String> {
    let value = filter.output(input).map_err(|trouble| format!("conflate: {trouble}"))?;
    // 1 and 1.0 are one value to jq.
    let mut text = match &value {
        Val::Null => return Ok(None),
        Val::Float(number) => number.to_string(),
        value => value.to_string(),
    };
    for user in users {
        text.push('\n');
        text.push_str(&Val::text(user).to_string());
    }
    Ok(Some((value, text)))
}

/// The key of one of the event's messages: the newest takes the place of its own like, never of
/// another message of the same event.
pub fn of_message(text: &str, index: usize) -> ConflateKey {
    match index {
        0 => ConflateKey::new(text),
        index => ConflateKey::new(&format!("{text}\n{index}")),
    }
}
