//! Filters and names as they stand in the config: how they are read, and how a problem is told.

use super::filter::Filter;
use crate::core::section::{Node, Problem, Section, Severity, nearest};

/// A key with the path of its section.
pub fn full_key(section: &Section<'_>, key: &str) -> String {
    match section.path().is_empty() {
        true => key.to_owned(),
        false => format!("{}.{key}", section.path()),
    }
}

/// Compiles a filter that was written at `node`, or tells what is wrong with it and where in its text.
pub fn filter_at(section: &Section<'_>, key: &str, node: &Node, text: &str) -> Option<Filter> {
    let refusal = match Filter::compile(text) {
        Ok(filter) => return Some(filter),
        Err(refusal) => refusal,
    };
    let before = &text[..refusal.at];
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let at = match before.matches('\n').count() {
        0 => format!("at character {column} of the filter"),
        lines => format!("in line {} of the filter at character {column}", lines + 1),
    };
    section.report().add_alone(Problem {
        severity: Severity::Error,
        place: node.place.inside(refusal.at),
        key: key.to_owned(),
        found: format!("{}, {at}", refusal.found),
        wanted: refusal.wanted,
    });
    None
}

/// Compiles the filter under a key of a section, if the key is there.
pub fn filter(section: &Section<'_>, key: &str) -> Result<Option<Filter>, ()> {
    let text = section.text(key);
    let Some(node) = section.node(key) else { return Ok(None) };
    let Some(text) = text else { return Err(()) };
    filter_at(section, &full_key(section, key), node, &text).map(Some).ok_or(())
}

/// What would be right where one of some names is wanted: the nearest one, or all of them.
pub fn told<'n>(found: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    match nearest(found, names.clone()) {
        Some(name) => format!("did you mean {name:?}?"),
        None => {
            let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
            format!("one of {}", names.join(", "))
        }
    }
}
