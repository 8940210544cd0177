//! The lanes of one path and priority that may send, in the order in which they are served. They
//! stand in links of a chain, a dozen in each: a lane leaves from the middle at no cost to the others,
//! a link that has run empty is let go, and so nothing stays behind, however long nobody is served.

use super::job::NONE;
use super::pool::Pool;

/// Lanes in one link: with what links it to others it fills one line of a processor's cache.
const LINK: usize = 12;

/// So many lanes from the front the memory of a room is asked for, and nearer to it that of what
/// waits there. A decision takes about as long as memory does, and what was asked for must not be
/// driven out again before it is looked at.
const AHEAD: usize = 16;
/// So many rooms are asked for at once. A look-up of a page of memory takes as long as one of the memory, and a
/// processor does several at a time only when it meets them close together.
pub const TOGETHER: usize = 4;

/// Where a lane stands in its ring: a link, and the place in it in the lowest four bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand(u32);

impl Stand {
    /// In no ring.
    pub const NOWHERE: Self = Self(NONE);

    fn new(link: u32, place: u8) -> Self {
        Self((link << 4) | u32::from(place))
    }

    fn link(self) -> u32 {
        self.0 >> 4
    }

    fn place(self) -> usize {
        self.0 as usize & 15
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct Link {
    rooms: [u32; LINK],
    prev: u32,
    next: u32,
    /// Places filled so far, those that were left included.
    filled: u8,
    /// Lanes that stand here.
    live: u8,
}

/// Ready lanes of one priority, by their rooms.
#[derive(Debug)]
pub struct Ring {
    links: Pool<Link>,
    front: u32,
    back: u32,
    len: usize,
    /// The place of the last room that was asked for, and how many lanes before it are not served
    /// yet. The number is too high when some of them have left; then the front catches up with the
    /// place, and it begins anew.
    asked: Option<(u32, u8)>,
    distance: usize,
    /// The rooms asked for last, in a circle.
    recent: [u32; AHEAD],
    at: usize,
}

impl Ring {
    /// Nobody is ready.
    pub const fn new() -> Self {
        Self {
            links: Pool::new(),
            front: NONE,
            back: NONE,
            len: 0,
            asked: None,
            distance: 0,
            recent: [NONE; AHEAD],
            at: 0,
        }
    }

    /// How many are ready.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The room that is served next.
    pub fn front(&self) -> Option<u32> {
        let link = self.links.get(self.front as usize)?;
        link.rooms.iter().copied().find(|&room| room != NONE)
    }

    /// All rooms, in the order in which they are served.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let first = self.links.get(self.front as usize);
        let links = std::iter::successors(first, |link| self.links.get(link.next as usize));
        links.flat_map(|link| link.rooms.iter().copied()).filter(|&room| room != NONE)
    }

    /// A lane is ready: it is served after all others.
    pub fn push(&mut self, room: u32) -> Stand {
        let is_full = |link: &Link| usize::from(link.filled) == LINK;
        if self.links.get(self.back as usize).is_none_or(is_full) {
            let link = Link { rooms: [NONE; LINK], prev: self.back, next: NONE, filled: 0, live: 0 };
            let key = u32::try_from(self.links.insert(link)).expect("fewer links than rooms");
            match self.back {
                NONE => self.front = key,
                back => self.links[back as usize].next = key,
            }
            self.back = key;
        }
        let link = &mut self.links[self.back as usize];
        link.rooms[usize::from(link.filled)] = room;
        let stand = Stand::new(self.back, link.filled);
        link.filled += 1;
        link.live += 1;
        self.len += 1;
        stand
    }

    /// A lane leaves.
    pub fn remove(&mut self, stand: Stand) {
        let key = stand.link();
        let link = &mut self.links[key as usize];
        let was_first = key == self.front && link.rooms[..stand.place()].iter().all(|&room| room == NONE);
        link.rooms[stand.place()] = NONE;
        link.live -= 1;
        self.len -= 1;
        if was_first {
            self.distance = self.distance.saturating_sub(1);
        }
        if link.live == 0 {
            self.unlink(key);
        }
    }

    fn unlink(&mut self, key: u32) {
        let Link { prev, next, .. } = self.links.remove(key as usize);
        match prev {
            NONE => self.front = next,
            prev => self.links[prev as usize].next = next,
        }
        match next {
            NONE => self.back = prev,
            next => self.links[next as usize].prev = prev,
        }
        if self.asked.is_some_and(|(link, _)| link == key) {
            (self.asked, self.distance) = (None, 0);
        }
    }

    /// Says whose memory is to be asked for now, and of how many rooms: of [`TOGETHER`] more once as many have
    /// been served, of fewer where lanes have left.
    pub fn look_ahead(&mut self, mut ask: impl FnMut(u32)) -> usize {
        let mut rooms = 0;
        if self.distance + TOGETHER > AHEAD {
            return rooms;
        }
        for _ in 0..TOGETHER {
            let Some((link, place)) = self.behind_asked() else { break };
            self.asked = Some((link, place));
            let room = self.links[link as usize].rooms[usize::from(place)];
            if room != NONE {
                ask(room);
                rooms += 1;
                self.distance += 1;
                self.recent[self.at] = room;
                self.at = (self.at + 1) % AHEAD;
            }
        }
        rooms
    }

    fn behind_asked(&self) -> Option<(u32, u8)> {
        let Some((key, place)) = self.asked else {
            return (self.front != NONE).then_some((self.front, 0));
        };
        let link = &self.links[key as usize];
        if place + 1 < link.filled {
            return Some((key, place + 1));
        }
        let next = self.links.get(link.next as usize)?;
        self.links.expect(next.next as usize);
        Some((link.next, 0))
    }

    /// The room that was asked for so many rooms ago, if that long was looked ahead. It may have
    /// left since.
    pub fn asked_for(&self, ago: usize) -> Option<u32> {
        Some(self.recent[(self.at + AHEAD - ago) % AHEAD]).filter(|&room| room != NONE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn lanes_are_served_in_their_order_whoever_leaves() {
        let mut ring = Ring::new();
        let mut model: BTreeMap<u32, (u32, Stand)> = BTreeMap::new();
        let mut rng = fastrand::Rng::with_seed(1);
        for step in 0..100_000_u32 {
            let grows = step % 20_000 < 10_000;
            match rng.u8(..4) {
                0 | 1 if grows || model.is_empty() => {
                    model.insert(step, (step, ring.push(step)));
                }
                2 => {
                    let from = rng.u32(..=step);
                    if let Some((&key, &(_, stand))) = model.range(from..).next() {
                        model.remove(&key);
                        ring.remove(stand);
                    }
                }
                _ => {
                    if let Some((_, (room, stand))) = model.pop_first() {
                        assert_eq!(ring.front(), Some(room));
                        ring.remove(stand);
                    }
                }
            }
            ring.look_ahead(|room| assert!(model.contains_key(&room), "one that left is not asked for"));
            assert_eq!(ring.len(), model.len());
            assert!(ring.iter().take(20).eq(model.values().map(|&(room, _)| room).take(20)));
            assert_eq!(ring.front(), model.first_key_value().map(|(_, &(room, _))| room));
            assert!(ring.links.len() <= model.len().max(1), "no link without a lane");
        }
    }

    #[test]
    fn each_room_is_asked_for_once_and_before_its_turn() {
        let mut ring = Ring::new();
        let stands: Vec<Stand> = (0..1_000).map(|room| ring.push(room)).collect();
        assert_eq!(ring.links.len(), 1_000_usize.div_ceil(LINK), "each link is filled before the next");
        let mut asked = Vec::new();
        for (turn, stand) in stands.into_iter().enumerate().take(999) {
            ring.remove(stand);
            ring.look_ahead(|room| asked.push(room));
            let ahead = *asked.last().unwrap() as usize - turn;
            let is_far = ahead + TOGETHER > AHEAD || !(AHEAD..980).contains(&turn);
            assert!(ahead <= AHEAD && is_far, "{turn}: {ahead}");
        }
        let mut once = asked.clone();
        once.dedup();
        assert_eq!(asked, once);
        assert_eq!(*asked.last().unwrap(), 999);
    }
}
