//! What other replicas have to do with the quotas: this process's share of them, and bans that others
//! met.

use std::time::Duration;

use super::Scheduler;
use crate::core::model::{AccountId, Path};
use crate::core::share::{Grant, Growth, RoomPace, Share};
use crate::core::time::{Mono, Now};

/// Where an account stands with its share. Without one, all of its quotas are this process's.
#[derive(Debug, Default)]
pub struct Shared {
    /// Until when the share is good, and what is left of it then.
    lease: Option<(Mono, Share)>,
    /// The pace of its rooms.
    pace: Option<RoomPace>,
    /// A quicker pace, and from when on.
    quicker: Option<(Mono, RoomPace)>,
}

impl Shared {
    /// When [`Scheduler::turn_shares`] has something to do for this account.
    fn due(&self) -> Mono {
        let lease = self.lease.map_or(Mono(u64::MAX), |(until, _)| until);
        self.quicker.map_or(lease, |(at, _)| lease.min(at))
    }

    /// Rooms have this pace by now, if nothing else was told.
    pub(super) fn begin_pace(&mut self, pace: RoomPace) {
        self.pace.get_or_insert(pace);
    }
}

/// The counting period of calls and of a room's pace.
const SECOND: Duration = Duration::from_secs(1);

impl Scheduler {
    /// This process may use so much of an account's quotas from now on. Before it was told anything,
    /// it may use all of them.
    ///
    /// A share shrinks at once: calls beyond it that are away are not followed by others. It grows
    /// when whoever had what is gained can no longer be counted for it ([`Growth`]), and ends by
    /// itself with its lease.
    pub fn handle_share(&mut self, account: AccountId, grant: &Grant, now: Now) {
        self.set_share(account, &grant.share, grant.growth, now.mono);
        self.accounts[usize::from(account.0)].shared.lease = grant.lease;
        self.shares_due = self.next_due();
    }

    /// Another replica was told by the provider that a path gets no calls for so long. It gets none
    /// from here either, and then one that probes.
    pub fn handle_ban_elsewhere(&mut self, account: AccountId, path: Path, wait: Duration, now: Now) {
        let seed = self.rng.u64(..);
        self.accounts[usize::from(account.0)].paths[path as usize].gate.banned_elsewhere(
            wait,
            "another replica met a ban",
            now.mono,
            seed,
        );
    }

    /// Paths whose calls of the day are to be read from the table anew, because this process's part
    /// of them has grown: the answer is [`Scheduler::restore_count`], from a read that begins after
    /// this was asked. Each is told once.
    pub fn take_recounts(&mut self, now: Now, is_free: impl Fn(AccountId) -> bool) -> Vec<(AccountId, Path)> {
        let mut found = Vec::new();
        for (account, id) in self.accounts.iter_mut().zip(0..).filter(|(_, id)| is_free(AccountId(*id))) {
            for path in Path::ALL {
                let day = account.paths[path as usize].quota.day.as_mut();
                if day.is_some_and(|day| day.begin_recount(now.mono)) {
                    found.push((AccountId(id), path));
                }
            }
        }
        found
    }

    /// Ends leases, and lets paces quicken, whose time has come.
    pub(super) fn turn_shares(&mut self, now: Mono) {
        for index in 0..self.accounts.len() {
            let account = AccountId(u16::try_from(index).expect("an account has a 16-bit id"));
            let shared = &mut self.accounts[index].shared;
            if let Some((_, rest)) = shared.lease.take_if(|(until, _)| *until <= now) {
                self.set_share(account, &rest, Growth::Handed, now);
            }
            let shared = &mut self.accounts[index].shared;
            if let Some((_, pace)) = shared.quicker.take_if(|(at, _)| *at <= now) {
                shared.pace = Some(pace);
                self.lanes.set_pace(account, pace);
            }
        }
        self.shares_due = self.next_due();
    }

    fn set_share(&mut self, account: AccountId, share: &Share, growth: Growth, now: Mono) {
        let timeout = self.settings.accounts[usize::from(account.0)].timeout;
        let of = &mut self.accounts[usize::from(account.0)];
        for path in Path::ALL {
            of.paths[path as usize].quota.set_share(share, path, growth, timeout, now);
        }
        let whole = RoomPace::whole(&self.settings.accounts[usize::from(account.0)].limits);
        let (before, wanted) = (of.shared.pace.unwrap_or(whole), share.room_pace());
        let slow = before.least(wanted);
        if slow != before {
            of.shared.pace = Some(slow);
            self.lanes.set_pace(account, slow);
        }
        of.shared.quicker = match of.shared.quicker {
            _ if slow == wanted => None,
            Some((at, pace)) if pace == wanted => Some((at, pace)),
            _ => Some((now + growth.wait(SECOND, timeout), wanted)),
        };
    }

    fn next_due(&self) -> Mono {
        self.accounts.iter().map(|account| account.shared.due()).min().unwrap_or(Mono(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_bed::{ACCOUNT, Bed, settings};
    use super::*;
    use crate::core::share::Quotas;

    #[test]
    fn a_gained_part_of_a_day_is_read_once_when_its_former_holder_counts_no_longer() {
        let mut settings = settings();
        settings.accounts[0].limits.paths[Path::Room as usize].calls_per_day = Some(10);
        let (quotas, timeout) =
            (Quotas::new(&settings.accounts[0].limits, false), settings.accounts[0].timeout);
        let mut bed = Bed::new(settings, 1);
        let told = |bed: &mut Bed, share, growth| {
            bed.scheduler.handle_share(ACCOUNT, &Grant::lasting(share, growth), bed.now);
        };
        told(&mut bed, quotas.fixed(2), Growth::Fresh);
        bed.scheduler.restore_count(ACCOUNT, Path::Room, bed.now.wall.utc_day(), 0, None);
        told(&mut bed, quotas.whole(), Growth::Handed);
        let due = bed.now.mono + Growth::Handed.wait(SECOND, timeout);
        let mut asked = |mono, is_free| {
            let now = Now { mono, wall: bed.now.wall };
            bed.scheduler.take_recounts(now, |account| is_free && account == ACCOUNT)
        };
        assert_eq!(asked(Mono(due.0 - 1), true), [], "its calls may still be on their way to the table");
        assert_eq!(asked(due, false), [], "the table is being read");
        assert_eq!(asked(due, true), [(ACCOUNT, Path::Room)]);
        assert_eq!(asked(due, true), [], "each is told once");
    }
}
