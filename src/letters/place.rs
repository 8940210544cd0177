//! Dead-letter topics: each once, however many sources write there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::broker::{Archive, Broker};
use crate::core::section;

/// A dead-letter topic or stream.
#[derive(Clone)]
pub struct Place {
    /// Its name.
    pub dead_letter: Arc<str>,
    /// The sources whose letters it takes.
    pub sources: Vec<Arc<str>>,
    /// Its letters.
    pub archive: Arc<dyn Archive>,
    /// By source: who finds values that letters could not keep, and who knows its readers.
    pub of_sources: BTreeMap<String, Arc<dyn Archive>>,
    /// What sources that share it say of it.
    stands: String,
}

impl Place {
    /// One that no other shares.
    pub fn new(dead_letter: &str, sources: Vec<Arc<str>>, archive: Arc<dyn Archive>) -> Self {
        let of_sources = sources.iter().map(|source| (source.to_string(), Arc::clone(&archive))).collect();
        Self { dead_letter: dead_letter.into(), sources, archive, of_sources, stands: String::new() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the letters of source {} ({})", self.sources.join(", "), self.dead_letter)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// The dead-letter topics of these sources, each once.
pub fn places<'b>(sources: impl IntoIterator<Item = (&'b Arc<str>, &'b dyn Broker)>) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (name, broker) in sources {
        let stands = broker.letters_at();
        match places.iter_mut().find(|place| place.stands == stands) {
            Some(place) => {
                place.sources.push(Arc::clone(name));
                place.of_sources.insert(name.to_string(), broker.archive());
            }
            None => {
                let place = Place::new(broker.dead_letter(), vec![Arc::clone(name)], broker.archive());
                places.push(Place { stands, ..place });
            }
        }
    }
    places
}

/// Those where letters of one of these sources go; all when none is named.
///
/// # Errors
/// A name that no source has.
pub fn of_sources(places: &[Place], names: &[String]) -> Result<Vec<Place>, String> {
    let known: BTreeSet<&str> =
        places.iter().flat_map(|place| &place.sources).map(|source| &**source).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        let all = Vec::from_iter(known.iter().copied()).join(", ");
        return Err(match section::nearest(unknown, known.iter().copied()) {
            Some(near) => format!("source {unknown:?}: did you mean {near:?}?"),
            None => format!("source {unknown:?}: the config has {all}"),
        });
    }
    let is_named = |place: &&Place| {
        names.is_empty() || place.sources.iter().any(|source| names.iter().any(|name| **name == **source))
    };
    Ok(places.iter().filter(is_named).cloned().collect())
}
