//! What is wrong between a directory, the sources and the routes.

use std::collections::BTreeSet;

use super::{Written, tell, text};
use crate::core::section::{Section, Severity, Value};

/// Compares directories with the sources that have them, and warns of those that no route asks.
pub fn check(
    root: &Section<'_>,
    directories: &[Written<'_>],
    sources: &[Written<'_>],
    accounts: &[Written<'_>],
) {
    for directory in directories {
        among_letters(root, directory, sources);
        among_events(root, directory, sources);
        among_shares(root, directory, accounts);
    }
    let asked = asked(root);
    for one in directories.iter().filter(|one| !asked.contains(one.name)) {
        tell(
            root,
            Severity::Warning,
            one.place.clone(),
            format!("directories.{}", one.name),
            "a directory that no route asks".to_owned(),
            format!("a route with rooms = {{ directory = {:?} }}, or no such directory", one.name),
        );
    }
}

/// Whether some directory is on that source's servers: the source may be there for it alone.
pub fn is_on(directories: &[Written<'_>], source: &Written<'_>) -> bool {
    directories.iter().any(|directory| directory.text("source") == Some(source.name))
}

/// The directories that routes ask.
fn asked<'a>(root: &Section<'a>) -> BTreeSet<&'a str> {
    let Some(Value::List(routes)) = root.node("routes").map(|node| &node.value) else {
        return BTreeSet::new();
    };
    let of = |value: &'a Value| match value {
        Value::Table(table) => Some(table),
        _ => None,
    };
    routes
        .iter()
        .filter_map(|route| of(&route.value))
        .filter_map(|route| text(of(&route.get("rooms")?.value)?.get("directory")))
        .collect()
}

/// The source that has a directory, and the key and name of the topic or bucket.
fn kept<'a>(
    directory: &'a Written<'_>,
    sources: &'a [Written<'a>],
) -> Option<(&'a Written<'a>, &'static str, &'a str)> {
    let source = sources.iter().find(|source| Some(source.name) == directory.text("source"))?;
    let key = ["topic", "bucket"].into_iter().find(|key| directory.text(key).is_some())?;
    Some((source, key, directory.text(key)?))
}

/// Letters are no rows: their keys are those of events, and their values events.
fn among_letters(root: &Section<'_>, directory: &Written<'_>, sources: &[Written<'_>]) {
    let Some((source, key, name)) = kept(directory, sources) else { return };
    for other in sources.iter().filter(|other| other.name == source.name || source.same_cluster(other)) {
        let Some(letters) = other.text("dead_letter") else { continue };
        let taken = match key {
            "bucket" => vec![format!("{letters}_state")],
            _ => vec![letters.to_owned(), format!("{letters}.replay"), format!("{letters}.state")],
        };
        if taken.iter().any(|taken| taken == name) {
            tell(
                root,
                Severity::Error,
                directory.place_of(key),
                format!("directories.{}.{key}", directory.name),
                format!("{name:?}, where source {:?} keeps its dead letters", other.name),
                format!("a {key} that holds keys and rooms alone"),
            );
        }
    }
}

/// A topic of events as a directory is most likely a slip of the pen.
fn among_events(root: &Section<'_>, directory: &Written<'_>, sources: &[Written<'_>]) {
    let Some((source, "topic", name)) = kept(directory, sources) else { return };
    for other in sources.iter().filter(|other| other.name == source.name || source.same_cluster(other)) {
        if other.texts("topics").contains(&name) {
            tell(
                root,
                Severity::Error,
                directory.place_of("topic"),
                format!("directories.{}.topic", directory.name),
                format!("{name:?}, whose records source {:?} takes as events", other.name),
                "a topic that holds keys and rooms alone".to_owned(),
            );
        }
    }
}

/// The bucket of leases has rows of another kind.
fn among_shares(root: &Section<'_>, directory: &Written<'_>, accounts: &[Written<'_>]) {
    let Some(bucket) = directory.text("bucket") else { return };
    for account in accounts {
        let Some(Value::Table(quota)) = account.table.get("quota").map(|node| &node.value) else { continue };
        let shares = text(quota.get("share")) == Some("nats_kv");
        if shares && text(quota.get("share_bucket")).unwrap_or("roomcast_quota") == bucket {
            tell(
                root,
                Severity::Error,
                directory.place_of("bucket"),
                format!("directories.{}.bucket", directory.name),
                format!("{bucket:?}, where account {:?} shares its quota", account.name),
                "a bucket that holds keys and rooms alone".to_owned(),
            );
        }
    }
}
