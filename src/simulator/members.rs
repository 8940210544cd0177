//! What members of the rooms see: who is let through when a room gets too much, and which ids they
//! have seen before.
//!
//! Both providers answer "accepted" and then drop silently above a room's pace; this is where that
//! happens. A provider decides a little later than it answers, so a message that was let through
//! may still be pushed out, for up to a second, by one that comes after it: that keeps both promises
//! of the pages at once, "at most so many a second" and "the less important go first".

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::log::Id;
use super::window::Meter;
use crate::core::model::Priority;
use crate::core::time::Mono;

/// The pages speak of messages per second.
const SECOND: Duration = Duration::from_secs(1);

/// Who is dropped in a room that gets too much. A pace of 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Easemob: all share `pace`; the least important goes first, the latest of those.
    LeastFirst {
        /// Messages a second.
        pace: u32,
    },
    /// Yunxin: high priority has a budget of its own; in each, chance decides.
    ByChance {
        /// Messages a second that are not of high priority.
        normal: u32,
        /// Messages a second of high priority.
        high: u32,
    },
}

/// Whether a message got through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Its place in what members see; none: dropped.
    pub order: Option<u32>,
    /// The number in the log of the message that it pushed out.
    pub pushed_out: Option<u64>,
}

#[derive(Debug)]
struct Passed {
    at: Mono,
    seq: u64,
    priority: Priority,
}

/// One room as its members see it.
#[derive(Debug)]
struct Room {
    name: Arc<str>,
    order: u32,
    recent: VecDeque<Passed>,
    recent_high: VecDeque<Passed>,
    carried: Meter,
}

/// All rooms that were ever named.
#[derive(Debug)]
pub(super) struct Members {
    pace: Pace,
    rooms: HashMap<Arc<str>, Room>,
    known: Known,
}

impl Members {
    /// `ids`: how many accepted ids are remembered.
    pub(super) fn new(pace: Pace, ids: usize) -> Self {
        Self { pace, rooms: HashMap::new(), known: Known::new(ids) }
    }

    /// Notes that a request carries a message for this room; gives the room's name, shared, and the
    /// most that any second has carried there.
    pub(super) fn carry(&mut self, room: &str, now: Mono) -> (Arc<str>, u64) {
        let room = self.room(room);
        room.carried.count(now, 1);
        (Arc::clone(&room.name), room.carried.most())
    }

    /// Whether this id was accepted before in this room (`None`: as a broadcast).
    pub(super) fn knows(&self, room: Option<&str>, id: &Id) -> bool {
        self.known.has(room, id)
    }

    /// Remembers an accepted id.
    pub(super) fn remember(&mut self, room: Option<&Arc<str>>, id: &Id) {
        self.known.add(room.cloned(), id.clone());
    }

    /// Whether members have seen this id, and so their clients drop it when it comes again.
    pub(super) fn has_seen(&self, room: Option<&str>, id: &Id) -> bool {
        self.known.places(id).any(|place| place.seen && place.room.as_deref() == room)
    }

    /// Members see a remembered id now.
    pub(super) fn mark_seen(&mut self, room: Option<&str>, id: &Id) {
        let places = self.known.set.get_mut(id).into_iter().flatten();
        places.filter(|place| place.room.as_deref() == room).for_each(|place| place.seen = true);
    }

    /// Puts a message with the number `seq` before the members of a room.
    pub(super) fn show(
        &mut self,
        room: &str,
        priority: Priority,
        seq: u64,
        now: Mono,
        rng: &mut fastrand::Rng,
    ) -> Shown {
        let pace = self.pace;
        let room = self.room(room);
        let (recent, limit) = match pace {
            Pace::LeastFirst { pace } => (&mut room.recent, pace),
            Pace::ByChance { high, .. } if priority == Priority::High => (&mut room.recent_high, high),
            Pace::ByChance { normal, .. } => (&mut room.recent, normal),
        };
        let mut pushed_out = None;
        if limit != 0 {
            while recent.front().is_some_and(|passed| now.since(passed.at) >= SECOND) {
                recent.pop_front();
            }
            if recent.len() >= limit as usize {
                let victim = match pace {
                    Pace::LeastFirst { .. } => least(recent, priority),
                    Pace::ByChance { .. } => {
                        Some(rng.usize(0..=recent.len())).filter(|&at| at < recent.len())
                    }
                };
                let Some(victim) = victim else { return Shown { order: None, pushed_out: None } };
                pushed_out = recent.remove(victim).map(|passed| passed.seq);
            }
            recent.push_back(Passed { at: now, seq, priority });
        }
        room.order += 1;
        Shown { order: Some(room.order), pushed_out }
    }

    fn room(&mut self, name: &str) -> &mut Room {
        if !self.rooms.contains_key(name) {
            let name: Arc<str> = name.into();
            let room = Room {
                name: Arc::clone(&name),
                order: 0,
                recent: VecDeque::new(),
                recent_high: VecDeque::new(),
                carried: Meter::default(),
            };
            self.rooms.insert(name, room);
        }
        self.rooms.get_mut(name).expect("it was there or has just been put there")
    }
}

/// The latest of the least important, if it is less important than `than`.
fn least(recent: &VecDeque<Passed>, than: Priority) -> Option<usize> {
    let (at, passed) = recent.iter().enumerate().max_by_key(|(_, passed)| passed.priority)?;
    (passed.priority > than).then_some(at)
}

/// Where an id was accepted.
#[derive(Debug)]
struct Place {
    room: Option<Arc<str>>,
    seen: bool,
}

/// Accepted ids, the newest of them.
#[derive(Debug)]
struct Known {
    bound: usize,
    set: HashMap<Id, Vec<Place>>,
    order: VecDeque<(Option<Arc<str>>, Id)>,
}

impl Known {
    fn new(bound: usize) -> Self {
        Self { bound, set: HashMap::new(), order: VecDeque::new() }
    }

    fn has(&self, room: Option<&str>, id: &Id) -> bool {
        self.places(id).any(|place| place.room.as_deref() == room)
    }

    fn places(&self, id: &Id) -> impl Iterator<Item = &Place> {
        self.set.get(id).into_iter().flatten()
    }

    fn add(&mut self, room: Option<Arc<str>>, id: Id) {
        if self.has(room.as_deref(), &id) {
            return;
        }
        self.set.entry(id.clone()).or_default().push(Place { room: room.clone(), seen: false });
        self.order.push_back((room, id));
        if self.order.len() > self.bound {
            let (room, id) = self.order.pop_front().expect("it is longer than its bound");
            if let Some(places) = self.set.get_mut(&id) {
                places.retain(|place| place.room != room);
                if places.is_empty() {
                    self.set.remove(&id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn show(members: &mut Members, priority: Priority, seq: u64, at_ms: u64) -> Shown {
        members.show("7", priority, seq, Mono(at_ms * MS), &mut fastrand::Rng::with_seed(5))
    }

    #[test]
    fn the_twenty_first_in_a_second_is_dropped() {
        let mut members = Members::new(Pace::LeastFirst { pace: 20 }, 10);
        for seq in 0..20 {
            assert!(show(&mut members, Priority::Normal, seq, seq).order.is_some());
        }
        assert_eq!(show(&mut members, Priority::Normal, 20, 999).order, None);
        assert_eq!(
            show(&mut members, Priority::Normal, 21, 1_000).order,
            Some(21),
            "the first has left the second"
        );
    }

    #[test]
    fn the_least_important_goes_first() {
        let mut members = Members::new(Pace::LeastFirst { pace: 3 }, 10);
        for (seq, priority) in [Priority::Low, Priority::Low, Priority::High].into_iter().enumerate() {
            show(&mut members, priority, seq as u64, 0);
        }
        assert_eq!(
            show(&mut members, Priority::Normal, 3, 1).pushed_out,
            Some(1),
            "the later of two low ones"
        );
        assert_eq!(show(&mut members, Priority::High, 4, 1).pushed_out, Some(0));
        assert_eq!(show(&mut members, Priority::High, 5, 1).pushed_out, Some(3));
        assert_eq!(show(&mut members, Priority::High, 6, 1).order, None, "even a high one, late");
    }

    #[test]
    fn chance_never_lets_more_through_and_high_has_its_own_budget() {
        let mut members = Members::new(Pace::ByChance { normal: 4, high: 2 }, 10);
        let mut rng = fastrand::Rng::with_seed(9);
        let mut seen = std::collections::BTreeSet::new();
        for seq in 0..100 {
            let priority = if seq % 2 == 0 { Priority::High } else { Priority::Normal };
            let shown = members.show("7", priority, seq, Mono(0), &mut rng);
            if shown.order.is_some() {
                seen.insert(seq);
            }
            if let Some(out) = shown.pushed_out {
                assert!(seen.remove(&out));
            }
        }
        assert_eq!(seen.iter().filter(|seq| *seq % 2 == 0).count(), 2);
        assert_eq!(seen.iter().filter(|seq| *seq % 2 == 1).count(), 4);
    }

    #[test]
    fn no_pace_shows_everything() {
        let mut members = Members::new(Pace::LeastFirst { pace: 0 }, 10);
        assert!((0..1_000).all(|seq| show(&mut members, Priority::Low, seq, 0).order.is_some()));
    }

    #[test]
    fn ids_are_known_per_room_and_the_oldest_are_forgotten() {
        let mut members = Members::new(Pace::LeastFirst { pace: 0 }, 2);
        let (room, _) = members.carry("7", Mono(0));
        let id = Id::from("a");
        members.remember(Some(&room), &id);
        members.remember(None, &id);
        assert!(members.knows(Some("7"), &id) && members.knows(None, &id) && !members.knows(Some("8"), &id));
        members.remember(Some(&room), &Id::from("b"));
        assert!(!members.knows(Some("7"), &id) && members.knows(None, &id));
    }
}
