//! `rooms` of a route: a filter, the record's key, or a directory.

use super::directory::DirectoryView;
use super::filter::{Filter, Literal};
use super::rule::Known;
use super::text::{filter, filter_at, full_key, told};
use crate::core::section::{Node, Section, Value as Written};

/// `rooms`.
#[derive(Debug)]
pub enum RoomsRule {
    /// The room that the key names.
    Key,
    /// The rooms that a filter gives.
    Filter(Filter),
    /// The rooms that a directory has for the key.
    Directory(DirectoryView),
}

impl RoomsRule {
    pub(super) fn read(section: &Section<'_>, known: &Known<'_>) -> Option<Self> {
        match section.node("rooms") {
            Some(Node { value: Written::Table(_), .. }) => Self::directory(section, known),
            // A room's number needs no quotes.
            Some(node @ Node { value: Written::Integer(number), .. }) => {
                filter_at(section, &full_key(section, "rooms"), node, &number.to_string()).map(Self::Filter)
            }
            Some(Node { value: Written::List(_), .. }) => {
                let wanted = "a filter that gives each of them: '$key, \"lobby\"', or '.data.rooms[]'";
                section.wrong("rooms", "a list", wanted);
                None
            }
            _ => match filter(section, "rooms").ok()? {
                None => Some(Self::Key),
                Some(rooms) => gives_ids(section, "rooms", &rooms).then_some(Self::Filter(rooms)),
            },
        }
    }

    fn directory(section: &Section<'_>, known: &Known<'_>) -> Option<Self> {
        let table = section.section("rooms")?;
        let name = table.required_text("directory");
        let found = name.and_then(|name| {
            let found = known.directories.iter().find(|directory| *directory.name == *name);
            // A directory that is there but broken has told so itself.
            if found.is_none() && !known.directory_names.contains(&name) {
                let wanted = match known.directory_names {
                    [] => format!("a section [directories.{name}] that says where it is kept"),
                    names => told(&name, names.iter().map(String::as_str)),
                };
                table.wrong("directory", format!("{name:?}, which is no directory"), wanted);
            }
            found.cloned()
        });
        table.finish();
        found.map(Self::Directory)
    }
}

/// Whether a filter can give ids of rooms or members at all: told where it gives the same for every
/// event, and that is none.
pub(super) fn gives_ids(section: &Section<'_>, key: &str, filter: &Filter) -> bool {
    let Some(literal) = filter.constant() else { return true };
    let gives =
        matches!(literal, Literal::Int(_)) || matches!(literal, Literal::Text(text) if !text.is_empty());
    if !gives {
        let found = format!("a filter that gives {}", literal.value().shown());
        section.wrong(key, found, "ids: texts that are not empty, or whole numbers");
    }
    gives
}
