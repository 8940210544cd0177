//! What must hold at the end of a run.

use std::time::Duration;

use roomcast::core::model::{DropReason, Path, Priority};

use crate::faults::Fault;
use crate::spec::Message;
use crate::world::{ProcessNo, World};

impl World {
    /// What a dying or ending process had dropped by a rule.
    pub fn law_tally(&mut self, process: ProcessNo) {
        use roomcast::core::schedule::status::Fate as Told;
        let now = self.now_of(process);
        let snapshot = self.processes[process].scheduler.snapshot(now);
        let dropped = snapshot.fates.iter().filter(|((_, fate), _)| match fate {
            // A request that leads to nothing drops no message.
            Told::Dropped(reason) => *reason != DropReason::Replay,
            told => *told == Told::Conflated,
        });
        let conflated = snapshot.fates.iter().filter(|((_, fate), _)| *fate == Told::Conflated);
        self.seen.conflated += conflated.map(|(_, count)| *count).sum::<u64>();
        self.laws.dropped += dropped.map(|(_, count)| *count).sum::<u64>();
    }

    /// Everything has come to its end.
    pub fn law_end(&mut self) {
        let mut dropped = 0;
        for (number, message) in self.spec.messages.iter().enumerate() {
            let fate = &self.laws.fates[number];
            if self.laws.courses[message.event].vanished {
                continue;
            }
            let is_replay = self.spec.events[message.event].of.is_some();
            dropped += u64::from(!fate.accepted && fate.letters.is_empty() && !is_replay);
            let alone = self.laws.courses[message.event].handed == 1;
            assert!(
                fate.letters.len() <= 1 || !alone,
                "letters: message {number} is owed by {:?}",
                fate.letters
            );
            assert!(
                !fate.accepted || fate.letters.is_empty() || fate.maybe || !alone,
                "letters: message {number} is delivered, for sure, and owed by a letter"
            );
        }
        assert!(
            dropped <= self.laws.dropped,
            "P1: {dropped} messages were neither delivered nor in a letter, {} were told as dropped",
            self.laws.dropped
        );
        self.seen.dropped += dropped;
        self.law_keys();
        self.law_replays_end();
        self.law_isolation();
    }

    /// P5: what is well is not delayed by what is not, beyond the work that it makes.
    pub(super) fn law_isolation(&self) {
        if !self.isolated {
            return;
        }
        // Replays make live messages wait for one call of theirs, however many there are.
        let is_live = |message: &&Message| self.spec.events[message.event].of.is_none();
        let all = self.spec.messages.iter().filter(is_live).count() as u64;
        for (number, message) in self.spec.messages.iter().enumerate() {
            let sick =
                self.sick_rooms.contains(&message.room) || self.sick_accounts.contains(&message.account);
            // The background has what the others leave: it ends, which liveness sees to, but no time is
            // promised to it.
            let is_live = message.priority != Priority::Background;
            if sick || !is_live || message.path != Path::Room || message.expires.is_some() {
                continue;
            }
            let limits = self.accounts[message.account].share(self.processes.len() as u32);
            let quota = limits.paths[Path::Room as usize];
            let pace = limits.room_messages_per_second.min(limits.room_high_per_second.unwrap_or(u32::MAX));
            let messages = quota.messages_per_second.unwrap_or(u32::MAX).min(quota.calls_per_second);
            // Every message costs at most three calls (in company, alone, again), each room is paced,
            // and each call takes at most 80 ms.
            let bound = Duration::from_secs(5)
                + Duration::from_secs(all) * 3 / messages
                + Duration::from_secs(all) / pace
                + Duration::from_millis(85) * u32::try_from(3 * all + 1).expect("few");
            let fate = &self.laws.fates[number];
            let waited = fate.accepted_at.since(self.published_by);
            assert!(
                fate.accepted && waited <= bound,
                "P5: message {number} to room {} waits {waited:?} (at most {bound:?}) beside a sick room or account",
                message.room
            );
        }
    }

    /// Whether nothing but a crash may have brought a record again: then P9's second holds to the letter.
    pub fn commits_are_sure(&self) -> bool {
        let unsure = [
            Fault::CommitFails,
            Fault::MetadataLost,
            Fault::LostAssignment,
            Fault::Rewind,
            Fault::Rebalance,
            Fault::Restart,
        ];
        unsure.into_iter().all(|fault| !self.faults.has(fault))
    }
}
