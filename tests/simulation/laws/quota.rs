//! P4: what an account, a path and a room may be sent within a window, replays included.

use std::time::Duration;

use roomcast::core::model::{Path, Priority};
use roomcast::core::provider::{Item, Limits};

use super::{Counted, WINDOW};
use crate::replicas::Sharing;
use crate::spec::MessageNo;
use crate::world::World;

impl World {
    /// The provider counts a call.
    pub fn law_counted(&mut self, account: usize, path: Path, items: &[Item]) {
        let now = self.now;
        let of = &self.accounts[account];
        let limit = |window, of_limits: &dyn Fn(&Limits) -> Option<u32>| of.limit(window, now, of_limits);
        let quota = |limits: &Limits| limits.paths[path as usize];
        let numbers: Vec<MessageNo> = items.iter().map(|item| self.laws.number(&self.spec, item)).collect();
        let mut count = |what: Counted, limit: Option<u32>, window: Duration| {
            let Some(limit) = limit else { return };
            let instants = self.laws.windows.entry((account, path, what.clone())).or_default();
            while instants.front().is_some_and(|first| now.since(*first) >= window) {
                instants.pop_front();
            }
            instants.push_back(now);
            assert!(
                instants.len() <= limit as usize,
                "P4: {} of {what:?} within {window:?} on {path:?} of account {account}, {limit} allowed",
                instants.len()
            );
        };
        // Each replica may send one message a second to any room, whatever the pace.
        let others = u32::try_from(self.processes.len()).expect("few") - 1;
        let with_more = |limit: u32| match self.sharing {
            Sharing::Whole | Sharing::Fixed => limit,
            Sharing::Partitions if self.is_keyed => limit.max(2),
            Sharing::Partitions | Sharing::Leases => limit + others,
        };
        let calls = limit(WINDOW, &|limits| Some(quota(limits).calls_per_second));
        let of_a_minute = limit(60 * WINDOW, &|limits| quota(limits).calls_per_minute);
        let messages = limit(WINDOW, &|limits| quota(limits).messages_per_second);
        let room = limit(WINDOW, &|limits| Some(limits.room_messages_per_second));
        let room_high = limit(WINDOW, &|limits| limits.room_high_per_second);
        count(Counted::Calls, calls, WINDOW);
        count(Counted::CallsOfAMinute, of_a_minute, 60 * WINDOW);
        for (item, number) in items.iter().zip(numbers) {
            count(Counted::Messages, messages, WINDOW);
            if path != Path::Broadcast {
                count(Counted::Room(item.room.0.clone()), room.map(with_more), WINDOW);
            }
            if path == Path::Room && self.spec.messages[number].priority == Priority::High {
                count(Counted::RoomHigh(item.room.0.clone()), room_high.map(with_more), WINDOW);
            }
        }
    }
}
