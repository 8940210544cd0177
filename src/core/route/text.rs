//! Filters and names as they stand in the config: how they are read, and how a problem is told.

use super::filter::Filter;
use crate::core::section::{Node, Place, Problem, Section, Severity};

/// A key with the path of its section.
pub fn full_key(section: &Section<'_>, key: &str) -> String {
    match section.path().is_empty() {
        true => key.to_owned(),
        false => format!("{}.{key}", section.path()),
    }
}

/// Compiles a filter that was written at `node`, or tells what is wrong with it: where in the file,
/// as far as the way it was quoted lets that be known, and where in the filter's text.
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
    section.report().add(Problem {
        severity: Severity::Error,
        place: narrowed(&node.place, text, refusal.at),
        key: key.to_owned(),
        found: format!("{}, {at}", refusal.found),
        wanted: refusal.wanted,
    });
    None
}

/// The place in the file of byte `at` of a string's text: known when nothing in the string is
/// escaped, so that quotes are all that it has beside its text.
fn narrowed(place: &Place, text: &str, at: usize) -> Place {
    let Place::File { name, span } = place else { return place.clone() };
    let quotes = match span.len().checked_sub(text.len()) {
        Some(2) => 1,
        Some(6) => 3,
        // A multi-line string whose first line end is not part of it.
        Some(7) => 4,
        _ => return place.clone(),
    };
    let start = (span.start + quotes + at).min(span.end);
    Place::File { name: name.clone(), span: start..(start + 1).min(span.end) }
}

/// Compiles the filter under a key of a section, if the key is there.
pub fn filter(section: &Section<'_>, key: &str) -> Result<Option<Filter>, ()> {
    let Some(node) = section.node(key) else { return Ok(None) };
    let Some(text) = section.text(key) else { return Err(()) };
    filter_at(section, &full_key(section, key), node, &text).map(Some).ok_or(())
}

/// What would be right where one of some names is wanted: the nearest one, or all of them.
pub fn told<'n>(found: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    let near = names
        .clone()
        .map(|name| (strsim::damerau_levenshtein(name, found), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min();
    match near {
        Some((_, name)) => format!("did you mean {name:?}?"),
        None => {
            let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
            format!("one of {}", names.join(", "))
        }
    }
}
