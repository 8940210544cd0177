//! Finds rooms by their names: a table of hashes and room keys, eight bytes each in one block of
//! memory, so that a look-up is one look at memory and one at the room. Names are compared by the
//! caller, who keeps them. The table halves when it runs empty. Directories find their keys by it, too.

use std::hash::{BuildHasher, RandomState};

use super::ahead;

/// A hash in the upper half, a key in the lower; a key is never the highest number.
type Slot = u64;

const EMPTY: Slot = u64::MAX;
/// Slots of the smallest table: half a kilobyte.
const FEWEST: usize = 64;

/// Rooms by the hash of their names.
#[derive(Debug)]
pub struct Index {
    /// A power of two; a slot stands at its hash's place or in the run behind it.
    slots: Vec<Slot>,
    len: usize,
    /// Keyed, because names come from outside. It decides only where a name lies, never an order.
    hasher: RandomState,
}

impl Index {
    /// No rooms.
    pub fn new() -> Self {
        Self { slots: vec![EMPTY; FEWEST], len: 0, hasher: RandomState::new() }
    }

    /// The hash of a name on a path.
    pub fn hash(&self, path: u32, name: &str) -> u32 {
        let hash = self.hasher.hash_one((path, name));
        u32::try_from(hash >> 32).expect("half of 64 bits")
    }

    /// The room with this hash that `is_it` accepts.
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        while self.slots[at] != EMPTY {
            if hash_of(self.slots[at]) == hash && is_it(key_of(self.slots[at])) {
                return Some(key_of(self.slots[at]));
            }
            at = self.behind(at);
        }
        None
    }

    /// Adds a room that is not in the table.
    pub fn insert(&mut self, hash: u32, key: u32) {
        // Three quarters full at the most: runs stay short.
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.resize(self.slots.len() * 2);
        }
        self.put((u64::from(hash) << 32) | u64::from(key));
        self.len += 1;
    }

    /// Removes a room that is in the table.
    pub fn remove(&mut self, hash: u32, key: u32) {
        let slot = (u64::from(hash) << 32) | u64::from(key);
        let mut hole = self.home(hash);
        while self.slots[hole] != slot {
            debug_assert!(self.slots[hole] != EMPTY, "a room that is not in the table");
            hole = self.behind(hole);
        }
        // What stands behind in the same run and may stand nearer to its place moves up.
        let mut at = self.behind(hole);
        while self.slots[at] != EMPTY {
            let home = self.home(hash_of(self.slots[at]));
            if self.distance(home, at) >= self.distance(hole, at) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.behind(at);
        }
        self.slots[hole] = EMPTY;
        self.len -= 1;
        if self.slots.len() > FEWEST && self.len * 8 < self.slots.len() {
            self.resize(self.slots.len() / 2);
        }
    }

    /// Bytes of memory that the table takes.
    pub fn weight(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// A room of this hash will be looked for soon.
    pub fn expect(&self, hash: u32) {
        ahead::fetch(&self.slots[self.home(hash)]);
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        old.into_iter().filter(|&slot| slot != EMPTY).for_each(|slot| self.put(slot));
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(hash_of(slot));
        while self.slots[at] != EMPTY {
            at = self.behind(at);
        }
        self.slots[at] = slot;
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }
}

fn hash_of(slot: Slot) -> u32 {
    u32::try_from(slot >> 32).expect("half of 64 bits")
}

fn key_of(slot: Slot) -> u32 {
    u32::try_from(slot & u64::from(u32::MAX)).expect("half of 64 bits")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Few hashes and many keys: long runs, and runs over the table's end.
    #[test]
    fn rooms_are_found_whatever_came_and_went() {
        let mut index = Index::new();
        let mut model = BTreeMap::new();
        let mut rng = fastrand::Rng::with_seed(1);
        for step in 0..200_000_u32 {
            // It grows to some 2,000 rooms and runs empty again, several times.
            let grows = step % 20_000 < 10_000;
            let key = rng.u32(..4_000);
            let hash = key % 37 * 0x0505_0505;
            match model.contains_key(&key) {
                true if !grows || rng.u8(..4) == 0 => {
                    index.remove(hash, key);
                    model.remove(&key);
                }
                false if grows => {
                    index.insert(hash, key);
                    model.insert(key, hash);
                }
                found => assert_eq!(index.find(hash, |other| other == key), found.then_some(key)),
            }
            assert_eq!(index.len, model.len());
        }
        for (&key, &hash) in &model {
            assert_eq!(index.find(hash, |other| other == key), Some(key));
        }
    }

    #[test]
    fn the_table_gives_memory_back() {
        let mut index = Index::new();
        (0..100_000).for_each(|key| index.insert(index.hash(0, &key.to_string()), key));
        assert_eq!((index.slots.len(), index.weight()), (1 << 18, 2 << 20));
        (0..100_000).for_each(|key| index.remove(index.hash(0, &key.to_string()), key));
        assert_eq!((index.slots.len(), index.weight()), (FEWEST, FEWEST * 8));
    }

    #[test]
    fn paths_are_kept_apart() {
        let index = Index::new();
        assert_ne!(index.hash(0, "36"), index.hash(1, "36"));
        assert_eq!(index.hash(0, "36"), index.hash(0, "36"));
    }
}
