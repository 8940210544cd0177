//! Who holds a partition up: the rooms that its records wait for, and why. Asked for by people, so it
//! may look at every record of the partition; nothing decides by it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Scheduler;
use super::job::Job;
use super::room::LaneState;
use super::status::{Cause, GateState, Holdup, WaitingRoom};
use crate::core::model::{AccountId, Epoch, PartitionId, Path, SourceId};
use crate::core::time::{Now, Wall};

/// Partitions of a source that are told of.
const MOST_PARTITIONS: usize = 100;
/// Rooms that are told of for each.
const MOST_ROOMS: usize = 3;

impl Scheduler {
    /// The partitions of a source that take nothing more, a hundred at most: those that
    /// the scheduler pauses, and those that the caller knows of. Walks what they hold.
    pub fn holdups(&self, source: SourceId, also: &[(PartitionId, Epoch)], now: Now) -> Vec<Holdup> {
        let mut keys = self.held.holding_back(source);
        let known = also.iter().filter_map(|&(id, epoch)| self.held.partition(source, id, epoch));
        for key in known {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys.truncate(MOST_PARTITIONS);
        keys.into_iter().map(|key| self.holdup(key, now)).collect()
    }

    /// The room that holds the most messages, and how many. Walks the rooms.
    pub fn fullest_room(&self) -> Option<(AccountId, Path, crate::core::model::Room, usize)> {
        let (first, messages) = self.lanes.fullest()?;
        let message = &self.lanes.job(first).message;
        Some((message.account, message.path, message.room.clone(), messages))
    }

    /// Messages that may wait in one room.
    pub fn max_waiting_per_room(&self) -> usize {
        self.settings.max_waiting_per_room
    }

    fn holdup(&self, partition: u32, now: Now) -> Holdup {
        let (id, epoch) = self.held.identity(partition);
        let (bounds, since, held, part) = self.held.standing(partition);
        let mut of_room: BTreeMap<u32, usize> = BTreeMap::new();
        let (mut oldest, mut letters, mut waiting_for_keys) = (now.wall, 0, 0);
        for record in self.held.records_of(partition) {
            let waits = self.unrouted.has(record);
            waiting_for_keys += usize::from(waits);
            let record = &self.held.records[record as usize];
            oldest = oldest.min(record.record.timestamp);
            letters += usize::from(!waits && record.groups.is_empty());
            for group in &record.groups {
                for &job in &self.held.groups[*group as usize].jobs {
                    *of_room.entry(self.lanes.job(job).room).or_default() += 1;
                }
            }
        }
        let rooms_waiting = of_room.len();
        let mut rooms: Vec<(bool, usize, u32)> = of_room
            .into_iter()
            .map(|(room, messages)| (self.full_rooms.contains_key(&room), messages, room))
            .collect();
        rooms.sort_unstable_by(|one, other| other.cmp(one));
        rooms.truncate(MOST_ROOMS);
        Holdup {
            partition: id,
            epoch,
            bounds,
            since,
            held_records: held.records,
            part_records: part.records,
            held_bytes: held.bytes,
            part_bytes: part.bytes,
            oldest: age(oldest, now),
            letters,
            waiting_for_keys,
            rooms_waiting,
            rooms: rooms
                .into_iter()
                .filter_map(|(_, of_partition, room)| self.waiting_room(room, of_partition, now))
                .collect(),
        }
    }

    fn waiting_room(&self, room: u32, of_partition: usize, now: Now) -> Option<WaitingRoom> {
        let timestamp = |group: u32| {
            let record = self.held.groups[group as usize].record;
            self.held.records[record as usize].record.timestamp
        };
        let heads = self.lanes.heads(room);
        let (state, first) = heads.min_by_key(|(_, job)| timestamp(job.group))?;
        let message = &first.message;
        let (cause, until) = self.cause(first, state, now);
        Some(WaitingRoom {
            account: message.account,
            path: message.path,
            room: message.room.clone(),
            priority: message.priority,
            of_partition,
            messages: self.lanes.jobs_in(room),
            cause,
            until,
            oldest: age(timestamp(first.group), now),
            tries: first.tries(),
        })
    }

    /// What the head of a lane waits for, and how long still, where that is known.
    fn cause(&self, head: &Job, state: LaneState, now: Now) -> (Cause, Option<Duration>) {
        let account = &self.accounts[usize::from(head.message.account.0)];
        match account.paths[head.message.path as usize].gate.state(now.mono) {
            GateState::Closed { cause, reopens_in, .. } => return (Cause::Gate(cause), Some(reopens_in)),
            GateState::Probing { cause } => return (Cause::Gate(cause), None),
            GateState::Open | GateState::LoggingIn if account.login.is_held() => return (Cause::Login, None),
            GateState::Open | GateState::LoggingIn => {}
        }
        match state {
            LaneState::Backoff => (Cause::Backoff, Some(head.not_before.since(now.mono))),
            LaneState::Pace => (Cause::Pace, self.lanes.pace_returns(head.room).map(|at| at.since(now.mono))),
            LaneState::Away => (Cause::Answer, None),
            LaneState::Ready | LaneState::Empty => (Cause::Quota, None),
        }
    }
}

/// How long ago that was, by the wall clock.
fn age(at: Wall, now: Now) -> Duration {
    Duration::from_millis(u64::try_from(now.wall.0.saturating_sub(at.0)).unwrap_or(0))
}
