//! What is kept of a room, of its lanes, and of the path they belong to. Only `lane` changes it.

use std::mem::offset_of;
use std::sync::Arc;

use super::job::NONE;
use super::ring::{Ring, Stand};
use crate::core::model::{Priority, Room};
use crate::core::time::Mono;

/// Where a lane stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneState {
    /// No messages.
    #[default]
    Empty,
    /// In the ring: its head may go.
    Ready,
    /// In the set of due times, at its head's `not_before`: its head repeats a failure.
    Backoff,
    /// Its room has had enough for now; looked at when a place of the room's pace comes back.
    Pace,
    /// A call is away.
    Away,
}

/// A lane's messages, and where it stands in the ring while it is ready.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    pub head: u32,
    pub tail: u32,
    pub stand: Stand,
}

impl Default for Lane {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, stand: Stand::NOWHERE }
    }
}

/// A room. Two lines of a processor's cache, and in most rooms only the first is ever looked at: it
/// holds what every decision needs, and of the lanes the one that most messages take. A look at the second
/// costs a million rooms a tenth of every decision.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RoomEntry {
    pub name: Name,
    /// Of its name and path.
    pub hash: u32,
    pub path: u32,
    /// Messages, waiting or away.
    pub jobs: u32,
    /// Places of the room's pace that are taken: by messages away and by those answered less than a
    /// period ago.
    pub taken: u32,
    /// Of those, by high ones.
    pub taken_high: u32,
    normal: Lane,
    pub states: [LaneState; 4],
    /// The provider says the room does not exist; believed until `gone_until`.
    pub is_gone: bool,
    pub gone_until: Mono,
    /// High, low and background.
    others: [Lane; 3],
    /// Of the messages, those of the background.
    pub background: u32,
    /// Of the places taken, those that they took.
    pub taken_background: u32,
}

const _: () = assert!(size_of::<RoomEntry>() == 128 && offset_of!(RoomEntry, gone_until) == 64);

impl RoomEntry {
    /// A room without messages and memory of any.
    pub fn new(room: &Room, hash: u32, path: u32) -> Self {
        Self {
            name: Name::new(room),
            hash,
            path,
            jobs: 0,
            taken: 0,
            taken_high: 0,
            taken_background: 0,
            normal: Lane::default(),
            states: [LaneState::Empty; 4],
            is_gone: false,
            gone_until: Mono::default(),
            others: [Lane::default(); 3],
            background: 0,
        }
    }

    /// A message comes into that lane.
    pub fn comes(&mut self, lane: usize) {
        self.jobs += 1;
        if lane == BACKGROUND {
            self.background += 1;
        }
    }

    /// A message of that lane is finished.
    pub fn goes(&mut self, lane: usize) {
        self.jobs -= 1;
        if lane == BACKGROUND {
            self.background -= 1;
        }
    }

    /// A message of that lane takes a place of the room's pace.
    pub fn take_place(&mut self, lane: usize) {
        self.taken += 1;
        match lane {
            HIGH => self.taken_high += 1,
            BACKGROUND => self.taken_background += 1,
            _ => {}
        }
    }

    /// The place that a message of that lane took is free again.
    pub fn place_returns(&mut self, lane: usize) {
        self.taken -= 1;
        match lane {
            HIGH => self.taken_high -= 1,
            BACKGROUND => self.taken_background -= 1,
            _ => {}
        }
    }

    /// Messages that the room's pace lets go. The background leaves a quarter of it to live messages:
    /// one that comes then never waits for a replay's place. Where other replicas send live messages to the
    /// room it has a pace of its own as well.
    pub fn pace_left(&self, limits: RoomLimits, lane: usize) -> u32 {
        let left = |limit: Option<u32>, taken| limit.map_or(u32::MAX, |limit| limit.saturating_sub(taken));
        let all = left(limits.per_second, self.taken);
        match Priority::ALL[lane] {
            Priority::High => all.min(left(limits.high_per_second, self.taken_high)),
            Priority::Normal | Priority::Low => all,
            Priority::Background => all
                .saturating_sub(limits.per_second.map_or(0, |limit| limit / 4))
                .min(limits.background_per_second.saturating_sub(self.taken_background)),
        }
    }

    /// The lane of a priority, by its number.
    pub fn lane(&self, lane: usize) -> &Lane {
        match lane {
            NORMAL => &self.normal,
            _ => &self.others[lane.saturating_sub(1)],
        }
    }

    /// The same, to change.
    pub fn lane_mut(&mut self, lane: usize) -> &mut Lane {
        match lane {
            NORMAL => &mut self.normal,
            _ => &mut self.others[lane.saturating_sub(1)],
        }
    }
}

const HIGH: usize = Priority::High as usize;
const NORMAL: usize = Priority::Normal as usize;
const BACKGROUND: usize = Priority::Background as usize;
const _: () = assert!(NORMAL == 1, "high stands before it, low and background behind");

/// A room's name. The ids that providers make are short and stand in place.
#[derive(Debug)]
pub enum Name {
    /// With its length.
    Short(u8, [u8; SHORT]),
    Long(Arc<str>),
}

/// What fits beside a length and a tag into the 24 bytes that a long name needs anyway. Yunxin's
/// ids have at most 20 digits.
const SHORT: usize = 22;

impl Name {
    pub fn new(room: &Room) -> Self {
        let mut short = [0; SHORT];
        match (short.get_mut(..room.0.len()), u8::try_from(room.0.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(room.0.as_bytes());
                Self::Short(len, short)
            }
            _ => Self::Long(Arc::clone(&room.0)),
        }
    }

    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::Short(len, short) => short[..usize::from(*len)] == *name.as_bytes(),
            Self::Long(long) => **long == *name,
        }
    }
}

/// The rings of one path and what is counted of it.
#[derive(Debug)]
pub struct PathLanes {
    pub limits: RoomLimits,
    /// Ready lanes, by priority.
    pub rings: [Ring; 4],
    pub backoff: usize,
    pub pace: usize,
    pub away: usize,
    pub jobs: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct RoomLimits {
    pub per_second: Option<u32>,
    pub high_per_second: Option<u32>,
    /// Messages of the background among them, where another replica sends the rest.
    pub background_per_second: u32,
}

impl RoomLimits {
    /// Whether there are any, so that places are counted at all.
    pub fn are_any(self) -> bool {
        self.per_second.is_some() || self.high_per_second.is_some()
    }
}

/// The counter that a lane in that state is counted by; empty lanes are not counted, ready ones are
/// counted by their ring.
pub fn counter(path: &mut PathLanes, state: LaneState) -> Option<&mut usize> {
    match state {
        LaneState::Empty | LaneState::Ready => None,
        LaneState::Backoff => Some(&mut path.backoff),
        LaneState::Pace => Some(&mut path.pace),
        LaneState::Away => Some(&mut path.away),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_priority_has_a_lane_of_its_own() {
        let mut entry = RoomEntry::new(&Room("36".into()), 0, 0);
        (0..4).for_each(|lane| entry.lane_mut(lane).head = u32::try_from(lane).unwrap());
        assert_eq!([0, 1, 2, 3].map(|lane| entry.lane(lane).head), [0, 1, 2, 3]);
    }

    #[test]
    fn names_of_any_length_are_kept_whole() {
        for name in ["", "36", "1234567890123456789012", "12345678901234567890123", "房间"] {
            let kept = Name::new(&Room(name.into()));
            assert!(kept.is(name), "{name}");
            assert!(!kept.is(&format!("{name}0")), "{name}");
            assert_eq!(matches!(kept, Name::Short(..)), name.len() <= SHORT, "{name}");
        }
    }
}
