//! Rooms that are full: how many live messages one holds, and which of them gives way.
//!
//! The background has no part in it. What it may hold at all is bounded by its sources, and its messages
//! neither take a live one's place nor give theirs away.

use super::super::job::NONE;
use super::Lanes;
use crate::core::model::Priority;

/// The lanes of live messages: all but the background.
const LIVE: usize = Priority::Background as usize;

impl Lanes {
    /// Whether a room has so many live messages, waiting or away.
    pub fn has_as_many_as(&self, live: usize, room: u32) -> bool {
        let room = &self.rooms[room as usize];
        // Most rooms have fewer messages in all, and their second line is not looked at.
        room.jobs as usize >= live && (room.jobs - room.background) as usize >= live
    }

    /// The oldest live job of a room that no call carries: the first of the lane that `first` names, or
    /// of the next lane that has one.
    pub fn oldest_waiting(&self, room: u32, first: Priority) -> Option<u32> {
        let entry = &self.rooms[room as usize];
        let order = (0..LIVE).map(|step| (first as usize + step) % LIVE);
        order.filter_map(|lane| self.first_waiting(entry.lane(lane).head)).next()
    }

    fn first_waiting(&self, mut key: u32) -> Option<u32> {
        while key != NONE {
            let job = &self.jobs[key as usize];
            if !job.away {
                return Some(key);
            }
            key = job.next;
        }
        None
    }
}
