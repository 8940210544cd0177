//! Directories: a record's key → rooms, from a table that others write.
//!
//! [`Map`] is what is known; a keeper in the shell loads it and tells what changes as [`Update`]s. The
//! loop applies them between two records, so that all that happens to a key has one order: a record
//! that came before its key was known goes before those that come after. Nothing here reads or waits.

mod map;
mod read;

use std::sync::Arc;
use std::time::Duration;

pub use self::map::{Map, Rooms};
pub use self::read::{file, row};

use crate::core::model::DirectoryId;
use crate::core::section::Section;

/// How long an unknown key is waited for, unless `unknown_wait` says otherwise.
const WAIT: Duration = Duration::from_secs(10);

/// A directory as routes see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryView {
    /// Its id.
    pub id: DirectoryId,
    /// Its name.
    pub name: Arc<str>,
    /// What becomes of a record whose key it does not hold.
    pub unknown: Unknown,
}

/// `unknown`: what becomes of a record whose key a directory does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A letter of class `no_route`.
    DeadLetter,
    /// Dropped and counted.
    Drop,
    /// It waits for the key, for so long; then a letter of class `no_route`.
    Wait(Duration),
}

impl Unknown {
    /// Reads `unknown` and `unknown_wait` of a directory's section.
    pub fn read(section: &Section<'_>) -> Self {
        let unknown = section.word(
            "unknown",
            Self::DeadLetter,
            &[("dead_letter", Self::DeadLetter), ("drop", Self::Drop), ("wait", Self::Wait(WAIT))],
        );
        let wait = section.duration("unknown_wait", WAIT);
        match unknown {
            Self::Wait(_) if wait.is_zero() => {
                let wanted = "more than zero, or unknown = \"dead_letter\"";
                section.wrong("unknown_wait", "no time at all", wanted);
                unknown
            }
            Self::Wait(_) => Self::Wait(wait),
            Self::DeadLetter | Self::Drop => {
                // A word that is none has been told of; what was meant is not known.
                let is_known = section.node("unknown").is_none()
                    || section
                        .text("unknown")
                        .is_some_and(|word| ["dead_letter", "drop"].contains(&word.as_str()));
                if section.node("unknown_wait").is_some() && is_known {
                    let wanted = "unknown = \"wait\" beside it, or no such key";
                    section.wrong("unknown_wait", "a time, and nothing waits", wanted);
                }
                unknown
            }
        }
    }
}

/// Who keeps a directory. A [`DirectoryId`] is of one config; a keeper goes on for as long as the directory
/// has its name and its place, and one that is started anew is another one. So what a former keeper may
/// still tell is never taken for that of the directory which has its id by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeeperId(pub u64);

/// What a keeper tells of a directory.
#[derive(Debug)]
pub enum Update {
    /// All of it, in place of what was known.
    Loaded {
        /// Keys and rooms.
        map: Map,
        /// Rows that could not be read and were left out.
        refused: u64,
    },
    /// Rows that changed, in their order.
    Changed {
        /// The key, and its rooms; `None`: it is known no longer.
        rows: Vec<(String, Option<Vec<String>>)>,
        /// Rows that could not be read: what was known of their keys stays.
        refused: u64,
    },
    /// It could not be read: what was known stays.
    Failed(String),
}

/// What all directories hold, by `DirectoryId`.
#[derive(Debug, Default)]
pub struct Directories {
    maps: Vec<Option<Map>>,
}

/// What a directory says of a key.
#[derive(Clone, Debug)]
pub enum Lookup<'d> {
    /// It is known, with these rooms; there may be none.
    Known(Rooms<'d>),
    /// It is not known.
    Unknown,
    /// The directory was not loaded.
    NotLoaded,
}

impl Directories {
    /// So many, none of them loaded.
    pub fn new(count: usize) -> Self {
        Self { maps: std::iter::repeat_with(|| None).take(count).collect() }
    }

    /// What a directory says of a key.
    pub fn get(&self, directory: DirectoryId, key: &str) -> Lookup<'_> {
        match self.map(directory) {
            None => Lookup::NotLoaded,
            Some(map) => map.get(key).map_or(Lookup::Unknown, Lookup::Known),
        }
    }

    /// Whether a directory holds a key.
    pub fn knows(&self, directory: DirectoryId, key: &str) -> bool {
        self.map(directory).is_some_and(|map| map.get(key).is_some())
    }

    /// Everything that one directory holds, once it is loaded.
    pub fn map(&self, directory: DirectoryId) -> Option<&Map> {
        self.maps.get(usize::from(directory.0))?.as_ref()
    }

    /// Whether all are loaded.
    pub fn are_loaded(&self) -> bool {
        self.maps.iter().all(Option::is_some)
    }

    /// Takes out everything that one directory holds: it is not loaded any more.
    pub fn take(&mut self, directory: DirectoryId) -> Option<Map> {
        self.maps.get_mut(usize::from(directory.0))?.take()
    }

    /// Puts all of a directory in place of what it held.
    pub fn load(&mut self, directory: DirectoryId, map: Map) {
        self.maps[usize::from(directory.0)] = Some(map);
    }

    /// Sets the rooms of one key, or (`None`) takes it away.
    ///
    /// # Panics
    /// When the directory was not loaded before: a keeper tells rows one by one only after that.
    pub fn set(&mut self, directory: DirectoryId, key: &str, rooms: Option<&[String]>) {
        let map =
            self.maps[usize::from(directory.0)].as_mut().expect("a directory changes after it was loaded");
        match rooms {
            Some(rooms) => map.insert(key, rooms),
            None => drop(map.remove(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_knows_what_was_loaded_and_what_changed_since() {
        let (one, other) = (DirectoryId(0), DirectoryId(1));
        let mut all = Directories::new(2);
        let knows = |all: &Directories| ["a", "b"].map(|key| all.knows(one, key));
        assert_eq!((all.are_loaded(), knows(&all)), (false, [false, false]));
        let mut map = Map::default();
        map.insert("a", &["1001"]);
        all.load(one, map);
        assert_eq!((all.are_loaded(), knows(&all)), (false, [true, false]));
        all.load(other, Map::default());
        assert_eq!((all.are_loaded(), knows(&all)), (true, [true, false]));
        all.set(one, "b", Some(&["1002".to_owned()]));
        all.set(one, "a", None);
        assert_eq!((knows(&all), all.knows(other, "b")), ([false, true], false));
        assert!(
            matches!(all.get(one, "b"), Lookup::Known(_)) && matches!(all.get(one, "a"), Lookup::Unknown)
        );
    }

    /// A reload hands what is known on to the directory of the same name, whatever its id is then.
    #[test]
    fn what_a_directory_held_is_taken_out_whole_and_once() {
        let (one, other) = (DirectoryId(0), DirectoryId(1));
        let mut all = Directories::new(2);
        assert!(all.take(one).is_none(), "nothing was loaded");
        for (id, key) in [(one, "a"), (other, "b")] {
            let mut map = Map::default();
            map.insert(key, &["1001"]);
            all.load(id, map);
        }
        let taken = all.take(one).expect("it was loaded");
        assert!(taken.get("a").is_some() && taken.get("b").is_none());
        assert!(matches!(all.get(one, "a"), Lookup::NotLoaded) && all.take(one).is_none());
        assert!(all.knows(other, "b") && all.take(DirectoryId(2)).is_none());
    }
}
