//! Routes that can never take an event, and what they name that no source reads: warned of, since the
//! daemon works without them.
//!
//! It reads the routes as they were written, as `crosscheck` does, and knows no broker by name: a source
//! with `subjects` reads those, any other its `topics`.

use super::crosscheck::{Written, tell, text, texts, written};
use crate::core::route::{fits, told};
use crate::core::section::{Node, Place, Section, Severity, Table, Value};

/// A route as it was written.
struct Route<'a> {
    index: usize,
    table: &'a Table,
    place: &'a Place,
}

impl<'a> Route<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        text(self.table.get(key))
    }

    /// `topics` or `subjects`; `None`: all of them.
    fn list(&self, key: &str) -> Option<Vec<&'a str>> {
        self.table.get(key).map(|node| texts(Some(node)))
    }

    fn key(&self, key: &str) -> String {
        format!("routes[{}].{key}", self.index)
    }

    /// What `when` says of every event, where that can be told by looking at it.
    fn constant(&self) -> Option<bool> {
        let Some(node) = self.table.get("when") else { return Some(true) };
        match text(Some(node))?.trim() {
            "true" => Some(true),
            "false" | "null" | "empty" => Some(false),
            text if is_literal(text) => Some(true),
            _ => None,
        }
    }

    /// Whether it takes every event that the other one takes.
    fn covers(&self, other: &Self) -> bool {
        let takes_all = self.constant() == Some(true);
        let same_when = self.text("when").is_some() && self.text("when") == other.text("when");
        (takes_all || same_when)
            && self.text("source").is_none_or(|source| other.text("source") == Some(source))
            && self.list("topics").is_none_or(|own| {
                other.list("topics").is_some_and(|topics| topics.iter().all(|topic| own.contains(topic)))
            })
            && self.list("subjects").is_none_or(|own| {
                let covered = |narrow: &&str| own.iter().any(|wide| is_within(narrow, wide));
                ["subjects", "topics"].iter().any(|key| {
                    other.list(key).is_some_and(|narrow| !narrow.is_empty() && narrow.iter().all(covered))
                })
            })
    }
}

/// Looks at every route.
pub(super) fn check(root: &Section<'_>) {
    let routes = routes(root);
    let sources = written(root, "sources");
    for (position, route) in routes.iter().enumerate() {
        for key in ["topics", "subjects"] {
            names_of_sources(root, route, key, &sources);
        }
        let place = || route.table.get("when").map_or(route.place, |node| &node.place).clone();
        match route.constant() {
            Some(false) => {
                let found = "a condition that is never true: the route takes nothing";
                warn(root, place(), route.key("when"), found, "a condition on the event, or no such route");
                continue;
            }
            Some(true) if route.text("when").is_some_and(|when| is_literal(when.trim())) => {
                let found = "a literal text, which is always true";
                let wanted = "a condition on the event, such as '.type == \"gift.sent\"'";
                warn(root, place(), route.key("when"), found, wanted);
            }
            _ => {}
        }
        // One that takes nothing hides nothing.
        let earlier = routes[..position].iter().find(|earlier| earlier.covers(route));
        if let Some(earlier) = earlier {
            let found = format!(
                "a route that never takes an event: route {:?} before it takes them all",
                earlier.text("name").unwrap_or_default()
            );
            let wanted = "this route before that one, or a condition there that leaves it some";
            warn(root, route.place.clone(), format!("routes[{}]", route.index), &found, wanted);
        }
    }
}

fn routes<'a>(root: &Section<'a>) -> Vec<Route<'a>> {
    let Some(Node { value: Value::List(nodes), .. }) = root.node("routes") else { return Vec::new() };
    let all = nodes.iter().enumerate();
    all.filter_map(|(index, node)| match &node.value {
        Value::Table(table) => Some(Route { index, table, place: &node.place }),
        _ => None,
    })
    .collect()
}

/// Warns of each topic or subject that no source of the route reads.
fn names_of_sources(root: &Section<'_>, route: &Route<'_>, key: &str, sources: &[Written<'_>]) {
    let Some(node) = route.table.get(key) else { return };
    let of: Vec<&Written<'_>> =
        sources.iter().filter(|source| route.text("source").is_none_or(|name| source.name == name)).collect();
    // A source that is not there, or says nothing it reads, is told of elsewhere.
    if of.is_empty() || of.iter().any(|source| reads(source).is_empty()) {
        return;
    }
    let items: Vec<&Node> = match &node.value {
        Value::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    for item in items {
        // A regex is refused by the route itself.
        let Some(wanted) = text(Some(item)).filter(|wanted| !wanted.starts_with('^')) else { continue };
        if of.iter().any(|source| may_read(source, wanted)) {
            continue;
        }
        let who = match route.text("source") {
            Some(name) => format!("source {name:?} does not read"),
            None => "no source reads".to_owned(),
        };
        let known: Vec<&str> = of.iter().flat_map(|source| reads(source)).collect();
        let found = format!("{wanted:?}, which {who}");
        warn(root, item.place.clone(), route.key(key), &found, &told(wanted, known.iter().copied()));
    }
}

/// The topics or subjects of a source.
fn reads<'a>(source: &Written<'a>) -> Vec<&'a str> {
    let subjects = texts(source.table.get("subjects"));
    if subjects.is_empty() { texts(source.table.get("topics")) } else { subjects }
}

/// Whether records of a source may come from there: a name, or a pattern of subjects.
fn may_read(source: &Written<'_>, wanted: &str) -> bool {
    let is_stream = source.table.contains_key("subjects");
    reads(source).iter().any(|read| match read.strip_prefix('^') {
        _ if is_stream => meet(read, wanted),
        // A regex of the broker's own kind is not ours to judge.
        Some(_) => true,
        None => fits(wanted, read),
    })
}

/// Whether some subject fits both patterns.
fn meet(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(a), Some(b)) if a == "*" || b == "*" || a == b => {}
            _ => return false,
        }
    }
}

/// Whether every subject that fits `narrow` fits `wide`.
fn is_within(narrow: &str, wide: &str) -> bool {
    let (mut narrow, mut wide) = (narrow.split('.'), wide.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Whether a filter is a literal text and nothing else.
fn is_literal(filter: &str) -> bool {
    let inner = filter.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.contains(['"', '\\']))
}

fn warn(root: &Section<'_>, place: Place, key: String, found: &str, wanted: &str) {
    tell(root, Severity::Warning, place, key, found.to_owned(), wanted.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_meet_and_stand_within_one_another_as_in_nats() {
        for (one, other, meets, within) in [
            ("a.b", "a.b", true, true),
            ("a.b", "a.*", true, true),
            ("a.*", "a.b", true, false),
            ("a.*", "*.b", true, false),
            ("a.>", "a.b.c", true, false),
            ("a.b.c", "a.>", true, true),
            ("a.>", ">", true, true),
            ("a", "a.>", false, false),
            ("a.>", "a.*", true, false),
            ("a.b", "a.c", false, false),
            ("a.b.c", "a.b", false, false),
        ] {
            assert_eq!(meet(one, other), meets, "{one} {other}");
            assert_eq!(meet(other, one), meets, "{other} {one}");
            assert_eq!(is_within(one, other), within, "{one} within {other}");
        }
        assert!(is_literal("\"gift\"") && !is_literal(".a == \"b\"") && !is_literal("\"a\" == \"b\""));
    }
}
