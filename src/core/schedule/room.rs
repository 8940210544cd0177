//! What is kept of a room, of its lanes, and of the path they belong to. Only `lane` changes it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::job::NONE;
use crate::core::model::Room;
use crate::core::time::Mono;

/// Where a lane stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneState {
    /// No messages.
    #[default]
    Empty,
    /// In the ring: its head may go.
    Ready,
    /// In the set of due times: its head repeats a failure.
    Backoff(Mono),
    /// In the set of due times: its room has had enough for now.
    Pace(Mono),
    /// The room's pace is all taken by calls without an answer.
    PaceAway,
    /// A call is away.
    Away,
}

#[derive(Debug)]
pub struct Lane {
    pub head: u32,
    pub tail: u32,
    pub state: LaneState,
    /// The number of its entry in the ring, while it is ready.
    pub entry: u64,
}

impl Default for Lane {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, state: LaneState::Empty, entry: 0 }
    }
}

#[derive(Debug)]
pub struct RoomEntry {
    pub name: Room,
    pub path: u32,
    pub lanes: [Lane; 4],
    /// Messages, waiting or away.
    pub jobs: u32,
    /// Messages away, over all lanes.
    pub away: u32,
    /// Of those, high ones.
    pub away_high: u32,
    /// When the room's pace has a place again, in order.
    pub pace: VecDeque<Mono>,
    pub pace_high: VecDeque<Mono>,
    /// The provider says the room does not exist; believed until then.
    pub gone_until: Option<Mono>,
    pub forget_at: Option<Mono>,
}

/// The rings of one path and what is counted of it.
#[derive(Debug)]
pub struct PathLanes {
    pub limits: RoomLimits,
    pub index: HashMap<Arc<str>, u32>,
    /// Ready lanes in their order: room and entry number. A lane that is no longer ready leaves its
    /// entry behind; the number tells.
    pub rings: [VecDeque<(u32, u64)>; 4],
    pub ready: [usize; 4],
    pub backoff: usize,
    pub pace: usize,
    pub away: usize,
    pub jobs: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct RoomLimits {
    pub per_second: Option<u32>,
    pub high_per_second: Option<u32>,
}

/// The counter that a lane in that state is counted by; empty lanes are not counted.
pub fn counter(path: &mut PathLanes, lane: usize, state: LaneState) -> Option<&mut usize> {
    match state {
        LaneState::Empty => None,
        LaneState::Ready => Some(&mut path.ready[lane]),
        LaneState::Backoff(_) => Some(&mut path.backoff),
        LaneState::Pace(_) | LaneState::PaceAway => Some(&mut path.pace),
        LaneState::Away => Some(&mut path.away),
    }
}
