//! Whom a message is for: rooms by a filter, by the record's key or by a directory, and members.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::directory::{DirectoryView, Lookup, Unknown};
use super::filter::{Filter, Input};
use super::plan::{Turn, failure};
use super::rooms::RoomsRule;
use super::rule::{Send, Target};
use crate::core::model::{Class, DropReason, Room, Wait};
use crate::core::value::Val;

/// Bytes of a room id that is passed on: longer ones are no room ids of any provider, and would not
/// fit into a letter's header.
pub(super) const ROOM_MAX: usize = 1_024;

/// Members that one event may name.
const USERS_MAX: usize = 10_000;

/// Rooms, and the members of the one room where members are addressed.
pub(super) type Address = (Vec<Room>, Vec<String>);

impl Turn<'_> {
    /// The rooms that a directory has for the record's key. `None` when it does not know the key: then
    /// the plan says what becomes of the record.
    pub(super) fn look_up(
        &mut self,
        directory: &DirectoryView,
        input: &Input,
        key_error: Option<&String>,
    ) -> Result<Option<Vec<Room>>, String> {
        let name = &directory.name;
        let Some(key) = input.variables[0].as_text() else {
            return Err(match key_error {
                Some(why) => format!("rooms: {why}"),
                None => format!("rooms: the record has no key, and directory {name:?} is asked for it"),
            });
        };
        let directories = self.directories;
        let said = directories.get(directory.id, key);
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.directory = Some(told(name, key, &said));
        }
        let wait = |at_most, error| Wait { directory: directory.id, key: key.into(), at_most, error };
        match said {
            Lookup::Known(rooms) => {
                let rooms: Vec<Room> = rooms.map(|room| Room(Arc::from(room))).collect();
                let most = self.rules.max_rooms_per_event;
                return match rooms.len() > most {
                    true => Err(format!(
                        "rooms: directory {name:?} has {} rooms for the key {key:?}; max_rooms_per_event is {most}",
                        rooms.len()
                    )),
                    false => Ok(Some(rooms)),
                };
            }
            Lookup::NotLoaded => self.plan.waits = Some(Box::new(wait(None, String::new()))),
            Lookup::Unknown => {
                self.plan.unknown = Some(directory.id);
                let error = format!("directory {name:?} does not hold the key {key:?}");
                match directory.unknown {
                    Unknown::DeadLetter => {
                        let base = self.plan.base;
                        self.plan.failures.push(failure(base, Class::NoRoute, error, Vec::new()));
                    }
                    Unknown::Drop => self.plan.dropped = Some(DropReason::UnknownKey),
                    Unknown::Wait(at_most) => {
                        let error = format!("{error}, and did not come to hold it within {at_most:?}");
                        self.plan.waits = Some(Box::new(wait(Some(at_most), error)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The rooms and the members; `None` when there are none.
    pub(super) fn address(
        &self,
        send: &Send,
        looked_up: Option<Vec<Room>>,
        input: &Input,
        key_error: Option<&String>,
    ) -> Result<Option<Address>, String> {
        let (rooms, users) = match &send.target {
            Target::All => return Ok(Some((vec![Room(Arc::from(""))], Vec::new()))),
            Target::Rooms(rooms) => (rooms, None),
            Target::Users { rooms, users } => (rooms, Some(users)),
        };
        let rooms = match (looked_up, rooms) {
            (Some(rooms), _) => rooms,
            (None, RoomsRule::Filter(filter)) => self.rooms(Some(filter), input, key_error)?,
            (None, RoomsRule::Key | RoomsRule::Directory(_)) => self.rooms(None, input, key_error)?,
        };
        let Some(users) = users else { return Ok((!rooms.is_empty()).then_some((rooms, Vec::new()))) };
        if rooms.len() > 1 {
            return Err(format!("users: {} rooms; members are addressed in one room", rooms.len()));
        }
        let mut names = Vec::new();
        for value in users.outputs(input, USERS_MAX).map_err(|trouble| format!("users: {trouble}"))? {
            let values = value.items().map_or(std::slice::from_ref(&value), |items| items);
            for value in values {
                let name = name(value)
                    .ok_or_else(|| format!("users gives {}; ids of members are wanted", value.shown()))?;
                if !names.contains(&name) {
                    names.push(name);
                }
                if names.len() > USERS_MAX {
                    return Err(format!("users gives more than {USERS_MAX} members"));
                }
            }
        }
        Ok((!rooms.is_empty() && !names.is_empty()).then_some((rooms, names)))
    }

    /// What `rooms` gives, without repeats.
    fn rooms(
        &self,
        rooms: Option<&Filter>,
        input: &Input,
        key_error: Option<&String>,
    ) -> Result<Vec<Room>, String> {
        let most = self.rules.max_rooms_per_event;
        let uses_key = rooms.is_none_or(Filter::uses_key);
        let values = match rooms {
            None => vec![input.variables[0].clone()],
            // Repeats are allowed: they count once.
            Some(filter) => {
                filter.outputs(input, most.saturating_mul(2)).map_err(|trouble| match key_error {
                    Some(why) if uses_key => format!("rooms: {why}"),
                    _ => format!("rooms: {trouble}"),
                })?
            }
        };
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for value in &values {
            let Some(name) = name(value) else {
                return Err(match (key_error, value) {
                    (Some(why), Val::Null) if uses_key => format!("rooms: {why}"),
                    (None, Val::Null) if uses_key && self.record.key.is_none() => {
                        "rooms: the record has no key, and the room is taken from it".to_owned()
                    }
                    (_, Val::Str(_))
                        if uses_key && self.record.key.as_ref().is_some_and(bytes::Bytes::is_empty) =>
                    {
                        "rooms: the record's key is empty, and the room is taken from it".to_owned()
                    }
                    _ => format!(
                        "rooms gives {}; room ids are wanted: texts that are not empty, or whole numbers",
                        value.shown()
                    ),
                });
            };
            let room = Room(Arc::from(name));
            if seen.insert(room.clone()) {
                found.push(room);
            }
        }
        match found.len() > most {
            true => Err(format!("rooms gives {} rooms; max_rooms_per_event is {most}", found.len())),
            false => Ok(found),
        }
    }
}

/// What a directory said of a key, for people.
fn told(name: &str, key: &str, said: &Lookup<'_>) -> String {
    match said {
        Lookup::Known(rooms) => {
            let rooms: Vec<String> = rooms.clone().map(|room| format!("{room:?}")).collect();
            format!(
                "Directory {name:?}: {key:?} has {}",
                if rooms.is_empty() { "no room".to_owned() } else { rooms.join(", ") }
            )
        }
        Lookup::Unknown => format!("Directory {name:?} does not hold {key:?}"),
        Lookup::NotLoaded => format!("Directory {name:?} is not loaded: {key:?} was not looked up"),
    }
}

/// A room or member id: a text that is not empty, or a whole number as people write it.
fn name(value: &Val) -> Option<String> {
    match value {
        Val::Str(text) if !text.is_empty() => Some(text.to_string()),
        Val::Int(number) => Some(number.to_string()),
        _ => None,
    }
}
