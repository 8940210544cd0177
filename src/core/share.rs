//! Shares of an account's quotas between replicas: which part of each quota this process may use.
//!
//! Every quota has as many slots as it allows calls or messages in its period; a [`Share`] says how
//! many of them are this process's. Whoever decides it ([`spread`]: who holds which partition;
//! [`lease`]: rows in a bucket that replicas write by compare and set; or a fixed part) sees to it
//! that the shares of all replicas never come to more than the quota. The scheduler lets a share
//! shrink at once, and grow only when its former holder's last call can no longer be counted
//! ([`Growth`]). Nothing here waits, sends or reads a clock.

pub mod day;
pub mod lease;
mod row;
pub mod settings;
pub mod spread;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::model::Path;
use super::provider::Limits;
use super::time::Mono;

/// Quotas of one path: calls a second, messages a second, calls a minute, calls a day.
const OF_PATH: usize = 4;
/// The pace of a room, which is divided like a quota where any replica may send to any room.
const ROOM: usize = OF_PATH * 3;
/// The same for high priority.
const ROOM_HIGH: usize = ROOM + 1;
/// All of them.
const QUOTAS: usize = ROOM_HIGH + 1;

/// What the network and the way from one task to another may take: a quarter of a second.
const SLACK: Duration = Duration::from_millis(250);

/// The quotas of one account, those that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    slots: [Option<u32>; QUOTAS],
    /// Whether the pace of a room is divided as well.
    divides_rooms: bool,
}

impl Quotas {
    /// Of an account with these limits. `divides_rooms`: any replica may send to any room; else the
    /// record's key is the room, so that one partition, and with it one replica, sends to it.
    pub fn new(limits: &Limits, divides_rooms: bool) -> Self {
        let mut slots = [None; QUOTAS];
        for (path, quota) in Path::ALL.into_iter().zip(&limits.paths) {
            let first = path as usize * OF_PATH;
            slots[first] = Some(quota.calls_per_second);
            slots[first + 1] = quota.messages_per_second;
            slots[first + 2] = quota.calls_per_minute;
            slots[first + 3] = quota.calls_per_day;
        }
        slots[ROOM] = Some(limits.room_messages_per_second);
        slots[ROOM_HIGH] = limits.room_high_per_second;
        Self { slots, divides_rooms }
    }

    /// All of it.
    pub fn whole(&self) -> Share {
        self.share(|_, quota| quota)
    }

    /// None of it.
    pub fn none(&self) -> Share {
        self.share(|_, _| 0)
    }

    /// The fixed part of each of `replicas`.
    pub fn fixed(&self, replicas: u32) -> Share {
        self.share(|_, quota| quota / replicas.max(1))
    }

    /// What `part` says of each quota, by its place and slots. Never more than the quota; a room's
    /// pace is never below one.
    ///
    /// Where it is not divided, live messages of a room have one sender, but its replays may come from
    /// another replica: whoever is not alone leaves one message a second to those, and sends no more
    /// replays itself.
    fn share(&self, part: impl Fn(usize, u32) -> u32) -> Share {
        let mut slots = [0; QUOTAS];
        let mut is_alone = true;
        for (place, quota) in self.slots[..ROOM].iter().enumerate() {
            let Some(quota) = *quota else { continue };
            slots[place] = part(place, quota).min(quota);
            is_alone &= slots[place] == quota;
        }
        let pace = |place: usize| self.slots[place].map_or(0, |quota| part(place, quota).clamp(1, quota));
        let whole = |place: usize| self.slots[place].unwrap_or(0);
        (slots[ROOM], slots[ROOM_HIGH]) = match self.divides_rooms {
            true => (pace(ROOM), pace(ROOM_HIGH)),
            false if is_alone => (whole(ROOM), whole(ROOM_HIGH)),
            false => ((whole(ROOM) - 1).max(1), whole(ROOM_HIGH)),
        };
        let replays = if self.divides_rooms || is_alone { u32::MAX } else { 1 };
        Share { slots, replays }
    }

    /// The paths on which this share allows nothing although the account has a quota there, with
    /// the place of the first quota that is too small.
    fn shut(&self, share: &Share, path: Path) -> Option<usize> {
        let first = path as usize * OF_PATH;
        (first..first + OF_PATH).find(|&place| self.slots[place].is_some() && share.slots[place] == 0)
    }
}

/// How many slots of each of an account's quotas this process may use. Never more than the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    slots: [u32; QUOTAS],
    /// Replays among what one room gets in a second.
    replays: u32,
}

/// What one room may get in a second from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomPace {
    /// Messages of any priority; at least one.
    pub all: u32,
    /// Of those, high ones; 0 where there is no such limit.
    pub high: u32,
    /// Of those, ones of the background. Whatever it says, the background leaves a quarter to live messages.
    pub background: u32,
}

impl RoomPace {
    /// Of an account whose quotas are all this process's.
    pub fn whole(limits: &Limits) -> Self {
        let high = limits.room_high_per_second.unwrap_or(0);
        Self { all: limits.room_messages_per_second, high, background: u32::MAX }
    }

    /// The slower of both, priority by priority.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self {
            all: self.all.min(other.all),
            high: self.high.min(other.high),
            background: self.background.min(other.background),
        }
    }
}

impl Share {
    /// Calls in any second.
    pub fn calls(&self, path: Path) -> u32 {
        self.slots[path as usize * OF_PATH]
    }

    /// Messages in any second; 0 as well where messages are not counted apart.
    pub fn messages(&self, path: Path) -> u32 {
        self.slots[path as usize * OF_PATH + 1]
    }

    /// Calls in any minute; 0 as well where there is no such quota.
    pub fn minute(&self, path: Path) -> u32 {
        self.slots[path as usize * OF_PATH + 2]
    }

    /// Calls in a UTC day; 0 as well where there is no such quota.
    pub fn day(&self, path: Path) -> u32 {
        self.slots[path as usize * OF_PATH + 3]
    }

    /// What one room may get from this process.
    pub fn room_pace(&self) -> RoomPace {
        RoomPace { all: self.slots[ROOM], high: self.slots[ROOM_HIGH], background: self.replays }
    }

    /// The smaller of both, quota by quota.
    #[must_use]
    pub fn least(&self, other: &Self) -> Self {
        let slots = std::array::from_fn(|place| self.slots[place].min(other.slots[place]));
        Self { slots, replays: self.replays.min(other.replays) }
    }
}

/// Who may have had what a share gains, and how long it is left alone for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Nobody who still has a call away: those who had it have ended, or waited for their answers
    /// before they let go.
    Fresh,
    /// A replica that lives on: what it sent just before may be counted until its time limit.
    Handed,
}

impl Growth {
    /// How long what is gained lies idle: the quota's period, in which the former holder's last call
    /// counts, its time limit if it may still be away, and a quarter of a second.
    pub fn wait(self, period: Duration, timeout: Duration) -> Duration {
        match self {
            Self::Fresh => period + SLACK,
            Self::Handed => period + SLACK + timeout,
        }
    }
}

/// A share, as the scheduler is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The share from now on.
    pub share: Share,
    /// Who may have had what is more than before.
    pub growth: Growth,
    /// Until when it is good, and what is left of it then; `None`: until it is told otherwise.
    pub lease: Option<(Mono, Share)>,
}

impl Grant {
    /// A share without an end.
    pub fn lasting(share: Share, growth: Growth) -> Self {
        Self { share, growth, lease: None }
    }
}

/// How an account's quotas are shared, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// `whole`, `partitions`, `one_active`, `nats_kv` or `static`.
    pub kind: &'static str,
    /// Replicas that take part, this one among them, where that is known.
    pub replicas: Option<u32>,
    /// Why the share is what it is, for people; empty where there is nothing to say.
    pub why: String,
}
