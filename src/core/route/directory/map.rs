//! Keys and their rooms in little memory: one block of bytes and an index of places in it. A million
//! keys of a dozen bytes with one room each take 60 MB; lists of texts would take five times that.

use crate::core::schedule::index::Index;

/// Entries begin at multiples of so many bytes, so that an entry may grow a little in its place.
const CELL: usize = 8;
/// Bytes of an entry's head: how many cells it has.
const HEAD: usize = 4;
/// Cells that may be dead before it is worth to write the rest anew.
const SPARE_CELLS: usize = 1 << 16;

/// Keys and their rooms.
///
/// An entry is its number of cells (32 bits), then the key, then all rooms: each with its length before
/// it, the rooms with that of all of them before the first.
#[derive(Debug)]
pub struct Map {
    bytes: Vec<u8>,
    index: Index,
    keys: usize,
    /// Cells of entries that nothing points to.
    dead: usize,
}

impl Default for Map {
    fn default() -> Self {
        Self { bytes: Vec::new(), index: Index::new(), keys: 0, dead: 0 }
    }
}

impl Map {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Bytes of memory that it takes.
    pub fn weight(&self) -> usize {
        self.bytes.capacity() + self.index.weight()
    }

    /// The rooms of a key, in the order they were given in; `None` when the key is not known.
    pub fn get(&self, key: &str) -> Option<Rooms<'_>> {
        let at = self.find(self.index.hash(0, key), key)?;
        Some(Rooms { left: self.entry(at).rooms })
    }

    /// Sets the rooms of a key, in place of those it had.
    pub fn insert<R: AsRef<str>>(&mut self, key: &str, rooms: &[R]) {
        let hash = self.index.hash(0, key);
        let entry = written(key, rooms);
        match self.find(hash, key) {
            Some(at) if self.entry(at).cells >= entry.len().div_ceil(CELL) => {
                let cells = self.entry(at).cells;
                let start = at as usize * CELL;
                self.bytes[start..start + entry.len()].copy_from_slice(&entry);
                self.write_cells(at, cells);
                return;
            }
            Some(at) => self.forget(hash, at),
            None => {}
        }
        self.keys += 1;
        let at = self.append(&entry);
        self.index.insert(hash, at);
        self.tidy();
    }

    /// Takes a key away; whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let hash = self.index.hash(0, key);
        let Some(at) = self.find(hash, key) else { return false };
        self.forget(hash, at);
        self.tidy();
        true
    }

    /// Gives back the memory that was kept for more keys.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    fn find(&self, hash: u32, key: &str) -> Option<u32> {
        self.index.find(hash, |at| self.entry(at).key == key.as_bytes())
    }

    fn entry(&self, at: u32) -> Entry<'_> {
        let start = at as usize * CELL;
        let (cells, rest) = self.bytes[start..].split_first_chunk::<HEAD>().expect("an entry has a head");
        let (key, rest) = part(rest);
        let (rooms, _) = part(rest);
        Entry { cells: u32::from_le_bytes(*cells) as usize, key, rooms }
    }

    /// Puts an entry behind all others; its place.
    fn append(&mut self, entry: &[u8]) -> u32 {
        let at = u32::try_from(self.bytes.len() / CELL).ok().filter(|at| *at < u32::MAX);
        let at = at.expect("a directory takes less than 32 GiB of memory");
        let cells = entry.len().div_ceil(CELL);
        if self.bytes.capacity() - self.bytes.len() < cells * CELL {
            // By a quarter: a vector that doubles would keep half of itself empty.
            self.bytes.reserve_exact((cells * CELL).max(self.bytes.len() / 4));
        }
        self.bytes.extend_from_slice(entry);
        self.bytes.resize((at as usize + cells) * CELL, 0);
        self.write_cells(at, cells);
        at
    }

    fn write_cells(&mut self, at: u32, cells: usize) {
        let cells = u32::try_from(cells).expect("an entry is smaller than all of them");
        let start = at as usize * CELL;
        self.bytes[start..start + HEAD].copy_from_slice(&cells.to_le_bytes());
    }

    fn forget(&mut self, hash: u32, at: u32) {
        self.dead += self.entry(at).cells;
        self.index.remove(hash, at);
        self.keys -= 1;
    }

    /// Writes all entries anew once more than half of the cells are dead.
    fn tidy(&mut self) {
        if self.dead <= SPARE_CELLS || self.dead * 2 * CELL <= self.bytes.len() {
            return;
        }
        let mut tidy = Self::default();
        tidy.bytes.reserve(self.bytes.len() - self.dead * CELL);
        let mut at = 0;
        while (at as usize * CELL) < self.bytes.len() {
            let Entry { cells, key, .. } = self.entry(at);
            let key = std::str::from_utf8(key).expect("keys are texts");
            let hash = self.index.hash(0, key);
            if self.index.find(hash, |other| other == at).is_some() {
                let start = at as usize * CELL;
                let place = tidy.append(&self.bytes[start..start + cells * CELL]);
                // Hashed anew: each table has a seed of its own.
                tidy.index.insert(tidy.index.hash(0, key), place);
                tidy.keys += 1;
            }
            at += u32::try_from(cells).expect("it was written from 32 bits");
        }
        *self = tidy;
    }
}

/// One entry, taken apart.
struct Entry<'m> {
    cells: usize,
    key: &'m [u8],
    rooms: &'m [u8],
}

/// The rooms of one key.
#[derive(Clone, Debug)]
pub struct Rooms<'m> {
    left: &'m [u8],
}

impl<'m> Iterator for Rooms<'m> {
    type Item = &'m str;

    fn next(&mut self) -> Option<&'m str> {
        if self.left.is_empty() {
            return None;
        }
        let (room, left) = part(self.left);
        self.left = left;
        Some(std::str::from_utf8(room).expect("rooms are texts"))
    }
}

/// The bytes of an entry; its head is still empty.
fn written<R: AsRef<str>>(key: &str, rooms: &[R]) -> Vec<u8> {
    let mut list = Vec::new();
    for room in rooms {
        put(&mut list, room.as_ref().as_bytes());
    }
    let mut entry = vec![0; HEAD];
    put(&mut entry, key.as_bytes());
    put(&mut entry, &list);
    entry
}

/// Writes bytes with their length before them: seven bits a byte, the lowest first.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        to.push(u8::try_from(length & 0x7F).expect("seven bits") | 0x80);
        length >>= 7;
    }
    to.push(u8::try_from(length).expect("seven bits"));
    to.extend_from_slice(bytes);
}

/// What [`put`] wrote, and what stands behind it.
fn part(from: &[u8]) -> (&[u8], &[u8]) {
    let (mut length, mut shift, mut at) = (0, 0, 0);
    loop {
        let byte = from[at];
        length |= usize::from(byte & 0x7F) << shift;
        at += 1;
        if byte < 0x80 {
            return from[at..].split_at(length);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn rooms(map: &Map, key: &str) -> Option<Vec<String>> {
        map.get(key).map(|rooms| rooms.map(str::to_owned).collect())
    }

    #[test]
    fn keys_come_and_go_as_in_a_model() {
        let mut map = Map::default();
        let mut model: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..300_000 {
            let key = format!("键-{}", rng.u32(..3_000));
            match rng.u8(..4) {
                0 => assert_eq!(map.remove(&key), model.remove(&key).is_some()),
                1 => assert_eq!(rooms(&map, &key), model.get(&key).cloned()),
                _ => {
                    let count = if rng.u8(..50) == 0 { 200 } else { rng.usize(..4) };
                    let list: Vec<String> = (0..count).map(|_| "r".repeat(rng.usize(1..40))).collect();
                    map.insert(&key, &list);
                    model.insert(key, list);
                }
            }
            assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        }
        for (key, list) in &model {
            assert_eq!(rooms(&map, key).as_ref(), Some(list), "{key}");
        }
        assert!(map.dead * CELL <= map.bytes.len() / 2 || map.dead <= SPARE_CELLS);
        assert!(map.bytes.len() < 4 << 20, "{} bytes: what is dead is given back", map.bytes.len());
    }

    #[test]
    fn p7_memory_is_told_and_what_was_kept_for_more_keys_is_given_back() {
        let mut map = Map::default();
        assert!(map.is_empty());
        for n in 0..1_000 {
            map.insert(&format!("match-{n}"), &["1001"]);
        }
        assert!(!map.is_empty());
        let most = map.bytes.len() + map.bytes.len() / 3;
        assert!(map.bytes.capacity() <= most, "{} for {}", map.bytes.capacity(), map.bytes.len());
        map.shrink();
        assert_eq!(map.bytes.capacity(), map.bytes.len());
        assert_eq!(map.weight(), map.bytes.len() + map.index.weight());
    }

    #[test]
    fn a_key_without_rooms_is_known() {
        let mut map = Map::default();
        map.insert::<&str>("closed", &[]);
        assert_eq!(rooms(&map, "closed"), Some(Vec::new()));
        assert_eq!(rooms(&map, "close"), None);
        assert_eq!(rooms(&map, ""), None);
    }

    #[test]
    fn rooms_that_fit_take_the_place_of_the_old_ones() {
        let mut map = Map::default();
        map.insert("k", &["1001"]);
        let bytes = map.bytes.len();
        for n in 1_000..9_000 {
            map.insert("k", &[n.to_string()]);
        }
        map.insert("k", &["7"]);
        map.insert("k", &["1002"]);
        assert_eq!((rooms(&map, "k"), map.bytes.len()), (Some(vec!["1002".to_owned()]), bytes));
    }
}
