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
    /// Live messages of a room, waiting or away.
    pub fn live_jobs_in(&self, room: u32) -> usize {
        let room = &self.rooms[room as usize];
        (room.jobs - room.background) as usize
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
