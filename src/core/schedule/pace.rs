//! The pace of a room: how many messages it may get in a second, counted like quota slots from the
//! call's leaving to one period after its answer. All rooms share the period, so the places come
//! back in the order of the answers, and one queue serves them all: a room itself keeps two numbers.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::model::Priority;
use crate::core::time::Mono;

/// One period of a room's pace, with the same margin as quota slots have.
pub const PERIOD: Duration = Duration::from_millis(1_005);

/// So many places ahead a room's memory is asked for.
const AHEAD: usize = 8;

/// Room for so many is kept when none is taken: sixteen kilobytes.
const KEPT: usize = 1 << 10;

/// Places that come back. As many as calls were answered within a period: the quotas bound it, not
/// the rooms.
#[derive(Debug, Default)]
pub struct Cooling {
    places: VecDeque<Place>,
    /// So many of the first ones were asked for by [`Cooling::look_ahead`].
    asked: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    free_at: Mono,
    room: u32,
    priority: Priority,
}

impl Cooling {
    /// A message to that room was answered.
    pub fn push(&mut self, room: u32, priority: Priority, now: Mono) {
        self.places.push_back(Place { free_at: now + PERIOD, room, priority });
    }

    /// A place that is free again, by its room and the priority of the message that had it.
    pub fn pop(&mut self, now: Mono) -> Option<(u32, Priority)> {
        let place = *self.places.front().filter(|place| place.free_at <= now)?;
        self.places.pop_front();
        self.asked = self.asked.saturating_sub(1);
        if self.places.is_empty() {
            self.places.shrink_to(KEPT);
        }
        Some((place.room, place.priority))
    }

    /// Asks for the rooms of places that come back soon and were not asked for yet.
    pub fn look_ahead(&mut self, ask: impl Fn(u32)) {
        let to = AHEAD.min(self.places.len());
        (self.asked..to).for_each(|at| ask(self.places[at].room));
        self.asked = self.asked.max(to);
    }

    /// When the next place is free.
    pub fn next(&self) -> Option<Mono> {
        self.places.front().map(|place| place.free_at)
    }

    /// When the next place of that room is free.
    pub fn next_of(&self, room: u32) -> Option<Mono> {
        self.places.iter().find(|place| place.room == room).map(|place| place.free_at)
    }

    /// When all are.
    pub fn last(&self) -> Option<Mono> {
        self.places.back().map(|place| place.free_at)
    }
}
