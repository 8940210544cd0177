//! What is wrong between sections: each may be right alone.
//!
//! It reads the settings as they were written, by the keys that several brokers have in common, and
//! knows no broker by name. It asks no section for a key, so that it makes none known.

mod directories;

use std::collections::BTreeSet;

use crate::core::section::{Node, Place, Problem, Section, Severity, Table, Value};

/// A source as it was written.
pub(super) struct Written<'a> {
    pub(super) name: &'a str,
    pub(super) table: &'a Table,
    place: &'a Place,
}

impl Written<'_> {
    fn texts(&self, key: &str) -> Vec<&str> {
        texts(self.table.get(key))
    }

    fn text(&self, key: &str) -> Option<&str> {
        text(self.table.get(key))
    }

    /// The place of a key; of the source where it is not written.
    fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or(self.place, |node| &node.place).clone()
    }

    /// Whether both speak to the same cluster, as far as names tell.
    fn same_cluster(&self, other: &Self) -> bool {
        let addresses = |source: &Self| -> BTreeSet<String> {
            let all = source.texts("brokers").into_iter().chain(source.texts("servers"));
            all.flat_map(|list| list.split(',')).map(|one| one.trim().to_owned()).collect()
        };
        self.text("kind") == other.text("kind") && !addresses(self).is_disjoint(&addresses(other))
    }
}

/// The texts of a string, a list of strings or a variable with commas; what is none is left to
/// those who read it for good.
pub(super) fn texts(node: Option<&Node>) -> Vec<&str> {
    match node {
        Some(Node { value: Value::Text(text), place: Place::Variable(_), .. }) => {
            text.split(',').map(str::trim).collect()
        }
        Some(Node { value: Value::Text(text), .. }) => vec![text],
        Some(Node { value: Value::List(items), .. }) => items.iter().filter_map(|n| text(Some(n))).collect(),
        _ => Vec::new(),
    }
}

/// The text of a string.
pub(super) fn text(node: Option<&Node>) -> Option<&str> {
    match &node?.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// Compares sources with one another, and the routes with both.
pub fn check(root: &Section<'_>) {
    let mut sources = written(root, "sources");
    for (index, source) in sources.iter().enumerate() {
        letters_among_topics(root, source, &sources);
        for earlier in &sources[..index] {
            if source.same_cluster(earlier) {
                one_position(root, source, earlier);
                shared_letters(root, source, earlier);
            }
        }
    }
    let accounts = written(root, "accounts");
    unused(root, "account", &accounts);
    // A source may be there for a bucket or topic on its servers alone.
    let keeps_shares = |source: &Written<'_>| {
        let names = |account: &Written<'_>| match account.table.get("quota").map(|node| &node.value) {
            Some(Value::Table(quota)) => text(quota.get("share_source")) == Some(source.name),
            _ => false,
        };
        accounts.iter().any(names)
    };
    let directories = written(root, "directories");
    directories::check(root, &directories, &sources, &accounts);
    sources.retain(|source| !keeps_shares(source) && !directories::is_on(&directories, source));
    unused(root, "source", &sources);
}

/// The tables below a key, by their names.
pub(super) fn written<'a>(root: &Section<'a>, key: &str) -> Vec<Written<'a>> {
    match root.node(key).map(|node| &node.value) {
        Some(Value::Table(all)) => all
            .iter()
            .filter_map(|(name, node)| match &node.value {
                Value::Table(table) => Some(Written { name, table, place: &node.key_place }),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// A source that reads another's dead-letter topic would turn every letter into a new event. Its
/// own is its broker's to refuse.
fn letters_among_topics(root: &Section<'_>, source: &Written<'_>, all: &[Written<'_>]) {
    for other in all.iter().filter(|other| other.name != source.name && source.same_cluster(other)) {
        let Some(letters) = other.text("dead_letter") else { continue };
        let taken = [letters.to_owned(), format!("{letters}.replay"), format!("{letters}.state")];
        for key in ["topics", "stream"] {
            for topic in source.texts(key).into_iter().filter(|topic| taken.iter().any(|t| t == topic)) {
                tell(
                    root,
                    Severity::Error,
                    source.place_of(key),
                    format!("sources.{}.{key}", source.name),
                    format!("{topic:?}, where the dead letters of source {:?} go", other.name),
                    "topics and streams that hold events alone".to_owned(),
                );
            }
        }
    }
}

/// Two sources of this process must not take each other's records away.
fn one_position(root: &Section<'_>, source: &Written<'_>, earlier: &Written<'_>) {
    let same = |key: &str| source.text(key).is_some() && source.text(key) == earlier.text(key);
    // The default group and durable are one name for all, so two that write none share it as well.
    let shared =
        |key: &str| source.text(key).unwrap_or("roomcast") == earlier.text(key).unwrap_or("roomcast");
    if same("stream") && shared("durable") {
        let name = source.text("durable").unwrap_or("roomcast");
        tell(
            root,
            Severity::Error,
            source.place_of("durable"),
            format!("sources.{}.durable", source.name),
            format!("{name:?} on the stream that source {:?} reads under the same name", earlier.name),
            "a durable of its own for each source, or one source with both subjects".to_owned(),
        );
    }
    let topics: BTreeSet<&str> = earlier.texts("topics").into_iter().collect();
    if let Some(topic) = source.texts("topics").into_iter().find(|topic| topics.contains(topic))
        && shared("group")
    {
        let name = source.text("group").unwrap_or("roomcast");
        tell(
            root,
            Severity::Error,
            source.place_of("group"),
            format!("sources.{}.group", source.name),
            format!("{name:?}, in which source {:?} reads the topic {topic:?} too", earlier.name),
            "a group of its own for each source that reads the same topic".to_owned(),
        );
    }
}

/// A replay is read by the group of its source: two groups would replay a letter twice.
fn shared_letters(root: &Section<'_>, source: &Written<'_>, earlier: &Written<'_>) {
    let position = |s: &Written<'_>| s.text("group").or(s.text("durable")).unwrap_or("roomcast").to_owned();
    if let Some(letters) = source.text("dead_letter")
        && Some(letters) == earlier.text("dead_letter")
        && position(source) != position(earlier)
    {
        tell(
            root,
            Severity::Error,
            source.place_of("dead_letter"),
            format!("sources.{}.dead_letter", source.name),
            format!("{letters:?}, which source {:?} has as well, under another group", earlier.name),
            "a dead-letter topic of its own, or the same group".to_owned(),
        );
    }
}

/// Warns of what no route names.
fn unused(root: &Section<'_>, word: &str, all: &[Written<'_>]) {
    let routes = match root.node("routes").map(|node| &node.value) {
        Some(Value::List(routes)) if !routes.is_empty() => routes,
        // Without routes, the one account gets the events of all sources.
        _ => return,
    };
    let mut named = BTreeSet::new();
    for route in routes {
        let Value::Table(route) = &route.value else { return };
        match route.get(word) {
            Some(node) => named.extend(texts(Some(node))),
            // A route without a source takes events of every source.
            None if word == "source" => return,
            None => {}
        }
    }
    for one in all.iter().filter(|one| !named.contains(one.name)) {
        let (found, wanted) = match word {
            "source" => {
                ("a source that no route takes events of", "a route with `source`, or no such source")
            }
            _ => ("an account that no route sends through", "a route with `account`, or no such account"),
        };
        let key = format!("{word}s.{}", one.name);
        tell(root, Severity::Warning, one.place.clone(), key, found.to_owned(), wanted.to_owned());
    }
}

pub(super) fn tell(
    root: &Section<'_>,
    severity: Severity,
    place: Place,
    key: String,
    found: String,
    wanted: String,
) {
    root.report().add(Problem { severity, place, key, found, wanted });
}
