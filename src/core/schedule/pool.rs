//! Places for things that come and go, by number. Unlike one growing list it never moves what it
//! holds, so no decision pays for growth, and it gives memory back: places lie in chunks, and a
//! chunk that has run empty is let go. A number is used again once its thing has left.

use std::ops::{Index, IndexMut};

use super::ahead;

/// Places in one chunk: at some 100 bytes each a chunk is half a megabyte, of which a small process
/// touches only the beginning.
const CHUNK: usize = 1 << 12;

/// No place.
const NONE: u32 = u32::MAX;

/// Things by number.
#[derive(Debug)]
pub struct Pool<T> {
    chunks: Vec<Chunk<T>>,
    /// The first of the chunks that have a free place.
    open: u32,
    /// The chunk that ran empty last. It keeps its memory: else things that come and go at the border
    /// of two chunks would take and give it back each time.
    spare: u32,
    len: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    /// Grows to its full capacity at once, so that nothing moves.
    places: Vec<Place<T>>,
    /// The first place that was left, within the chunk.
    free: u32,
    used: u32,
    /// The next chunk that has a free place.
    next_open: u32,
}

#[derive(Debug)]
enum Place<T> {
    Taken(T),
    /// With the next place that was left.
    Left(u32),
}

impl<T> Pool<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), open: NONE, spare: NONE, len: 0 }
    }

    /// How many things there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Puts a thing somewhere and says where.
    pub fn insert(&mut self, thing: T) -> usize {
        if self.open == NONE {
            self.open = number(self.chunks.len());
            self.chunks.push(Chunk { places: Vec::new(), free: NONE, used: 0, next_open: NONE });
        }
        let index = self.open as usize;
        if self.spare as usize == index {
            self.spare = NONE;
        }
        let chunk = &mut self.chunks[index];
        let place = match chunk.free {
            NONE => {
                if chunk.places.capacity() == 0 {
                    chunk.places.reserve_exact(CHUNK);
                }
                chunk.places.push(Place::Taken(thing));
                chunk.places.len() - 1
            }
            free => {
                let left = std::mem::replace(&mut chunk.places[free as usize], Place::Taken(thing));
                let Place::Left(next) = left else { unreachable!("a taken place among the free ones") };
                chunk.free = next;
                free as usize
            }
        };
        chunk.used += 1;
        if chunk.used as usize == CHUNK {
            self.open = chunk.next_open;
        }
        self.len += 1;
        index * CHUNK + place
    }

    /// Takes a thing out. There must be one.
    pub fn remove(&mut self, key: usize) -> T {
        let (index, place) = (key / CHUNK, key % CHUNK);
        let chunk = &mut self.chunks[index];
        let left = std::mem::replace(&mut chunk.places[place], Place::Left(chunk.free));
        let Place::Taken(thing) = left else { panic!("nothing stands at place {key}") };
        chunk.free = number(place);
        if chunk.used as usize == CHUNK {
            chunk.next_open = std::mem::replace(&mut self.open, number(index));
        }
        chunk.used -= 1;
        if chunk.used == 0 {
            let spare = std::mem::replace(&mut self.spare, number(index));
            if let Some(chunk) = self.chunks.get_mut(spare as usize) {
                chunk.places = Vec::new();
                chunk.free = NONE;
            }
        }
        self.len -= 1;
        thing
    }

    /// The thing at that place, if there is one.
    pub fn get(&self, key: usize) -> Option<&T> {
        match self.place(key)? {
            Place::Taken(thing) => Some(thing),
            Place::Left(_) => None,
        }
    }

    fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        match self.chunks.get_mut(key / CHUNK)?.places.get_mut(key % CHUNK)? {
            Place::Taken(thing) => Some(thing),
            Place::Left(_) => None,
        }
    }

    /// Whether a thing stands at that place.
    pub fn contains(&self, key: usize) -> bool {
        self.get(key).is_some()
    }

    /// All things, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| &chunk.places).filter_map(|place| match place {
            Place::Taken(thing) => Some(thing),
            Place::Left(_) => None,
        })
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flat_map(|chunk| &mut chunk.places).filter_map(|place| match place {
            Place::Taken(thing) => Some(thing),
            Place::Left(_) => None,
        })
    }

    /// The thing at that place will be looked at soon.
    pub fn expect(&self, key: usize) {
        if let Some(place) = self.place(key) {
            ahead::fetch(place);
        }
    }

    /// The first line of it will.
    pub fn expect_start(&self, key: usize) {
        if let Some(place) = self.place(key) {
            ahead::fetch_start(place);
        }
    }

    fn place(&self, key: usize) -> Option<&Place<T>> {
        self.chunks.get(key / CHUNK)?.places.get(key % CHUNK)
    }
}

impl<T> Index<usize> for Pool<T> {
    type Output = T;

    fn index(&self, key: usize) -> &T {
        self.get(key).unwrap_or_else(|| panic!("nothing stands at place {key}"))
    }
}

impl<T> IndexMut<usize> for Pool<T> {
    fn index_mut(&mut self, key: usize) -> &mut T {
        self.get_mut(key).unwrap_or_else(|| panic!("nothing stands at place {key}"))
    }
}

/// Numbers as they are kept: memory ends long before 2^32 places of 100 bytes.
fn number(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 places fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_once_it_was_left() {
        let mut pool = Pool::new();
        let keys = [pool.insert('a'), pool.insert('b'), pool.insert('c')];
        assert_eq!(keys, [0, 1, 2]);
        assert_eq!(pool.remove(1), 'b');
        assert_eq!((pool.get(1), pool.len()), (None, 2));
        assert_eq!([1, 2, 3, CHUNK].map(|key| pool.contains(key)), [false, true, false, false]);
        assert_eq!(pool.insert('d'), 1);
        pool[1] = 'e';
        assert_eq!(pool.iter_mut().map(|thing| *thing).collect::<String>(), "aec");
    }

    #[test]
    fn chunks_that_run_empty_are_let_go_and_filled_again() {
        let mut pool = Pool::new();
        let mut rng = fastrand::Rng::with_seed(1);
        let held = |pool: &Pool<usize>| pool.chunks.iter().filter(|it| it.places.capacity() > 0).count();
        for round in 0..3 {
            let mut keys: Vec<usize> = (0..10 * CHUNK).map(|thing| pool.insert(thing)).collect();
            assert_eq!((held(&pool), pool.len()), (10, 10 * CHUNK), "round {round}");
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), keys.len(), "every thing has a place of its own");
            for (thing, &key) in keys.iter().enumerate() {
                assert_eq!(pool[key], thing);
            }
            // In their order the first time, so that each chunk runs empty before the next one opens.
            if round > 0 {
                rng.shuffle(&mut keys);
            }
            for key in keys {
                pool.remove(key);
            }
            assert_eq!((held(&pool), pool.len()), (1, 0), "round {round}");
        }
    }

    #[test]
    fn a_spare_chunk_that_is_used_again_is_kept_when_another_runs_empty() {
        let mut pool = Pool::new();
        let keys: Vec<usize> = (0..2 * CHUNK).map(|thing| pool.insert(thing)).collect();
        for &key in &keys[..CHUNK] {
            pool.remove(key);
        }
        let again = pool.insert(7);
        assert!(again < CHUNK, "the spare chunk is filled before a new one");
        for &key in &keys[CHUNK..] {
            pool.remove(key);
        }
        assert_eq!((pool[again], pool.len()), (7, 1));
    }

    #[test]
    #[should_panic(expected = "nothing stands at place 0")]
    fn what_has_left_is_not_found() {
        let mut pool = Pool::new();
        pool.insert(1);
        pool.remove(0);
        pool.remove(0);
    }
}
