//! How messages end: finished jobs leave their lanes and groups, failures become letters, and
//! tickets are punched.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::job::Job;
use super::status::Fate;
use super::ticket::{FailedRoom, Group};
use super::{Burial, Effect, OnExpiry, Scheduler};
use crate::core::letter::Letter;
use crate::core::model::{BaseId, BurialId, Class, DropReason, RecordId, Room, Tries};
use crate::core::provider::Acceptance;
use crate::core::time::{Mono, Now};

impl Scheduler {
    /// A letter is confirmed in the dead-letter topic.
    pub fn handle_buried(&mut self, burial: BurialId, _now: Now) {
        let Some(burial) = self.burials.remove(&burial) else { return };
        self.count(burial.account, Fate::Buried(burial.class), burial.messages);
        if self.held.id_is_held(burial.record, burial.id) {
            self.held.punch(burial.record, &mut self.effects);
        }
    }

    /// What became of a record is written down.
    pub fn handle_answered(&mut self, record: RecordId, _now: Now) {
        self.held.answered(record, &mut self.effects);
    }

    /// Hands out a letter for a ticket that is open already.
    pub(super) fn bury(&mut self, record: u32, letter: Letter) {
        self.buried += 1;
        let id = BurialId(self.buried);
        let burial = Burial {
            record,
            id: letter.record.id,
            account: letter.account,
            route: letter.route,
            class: letter.class,
            messages: letter.rooms.len().max(1) as u64,
        };
        self.burials.insert(id, burial);
        self.effects.push_back(Effect::Bury(id, Box::new(letter)));
    }

    /// A message was accepted.
    pub(super) fn finish_accepted(&mut self, job: u32, how: Acceptance, now: Mono) {
        let job = self.take(job, now);
        self.count(Some(job.message.account), Fate::Accepted(how), 1);
        self.close_if_done(job.group);
    }

    /// A message is dropped by a rule of the config.
    pub(super) fn finish_dropped(&mut self, job: u32, reason: DropReason, now: Mono) {
        let job = self.take(job, now);
        self.count(Some(job.message.account), Fate::Dropped(reason), 1);
        self.close_if_done(job.group);
    }

    /// A message goes into a letter, together with those siblings that fail alike.
    pub(super) fn finish_failed(&mut self, job: u32, class: Class, error: String, now: Mono) {
        let job = self.take(job, now);
        let failed =
            FailedRoom { class, base: job.message.base, tries: job.tries(), room: job.message.room, error };
        self.held.groups[job.group as usize].failed.push(failed);
        self.close_if_done(job.group);
    }

    /// A message whose time is over.
    pub(super) fn finish_expired(&mut self, job: u32, now: Mono) {
        let route = self.lanes.job(job).message.route;
        match self.settings.routes[usize::from(route.0)].on_expiry {
            OnExpiry::Drop => self.finish_dropped(job, DropReason::Expired, now),
            OnExpiry::DeadLetter => {
                let error = "its time-to-live ended before it could be delivered".to_owned();
                self.finish_failed(job, Class::Expired, error, now);
            }
        }
    }

    /// A message is given up with its partition: whoever owns the record next sends it.
    pub(super) fn abandon(&mut self, job: u32, now: Mono) {
        let job = self.take(job, now);
        let record = job.record;
        self.held.records[record as usize].abandoned = true;
        if self.held.groups[job.group as usize].jobs.is_empty() {
            self.held.take_group(job.group);
        }
    }

    /// Takes a job out of its lane, its group and the set of expiries.
    fn take(&mut self, key: u32, now: Mono) -> Job {
        let job = self.lanes.remove(key, now);
        if let Some(at) = job.expires {
            self.expiries.remove(&(at, key));
        }
        self.newest.forget(key, &job);
        self.leave_group(key, job.group);
        self.resume_if_room(job.room);
        job
    }

    /// Strikes a job out of its group.
    pub(super) fn leave_group(&mut self, key: u32, group: u32) {
        let jobs = &mut self.held.groups[group as usize].jobs;
        let place = jobs.iter().position(|other| *other == key).expect("a job stands in its group");
        jobs.swap_remove(place);
    }

    /// Partitions that a full room held back go on when it is half empty.
    pub(super) fn resume_if_room(&mut self, room: u32) {
        if self.full_rooms.is_empty() || !self.full_rooms.contains_key(&room) {
            return;
        }
        if !self.lanes.has_as_many_as(self.settings.max_waiting_per_room / 2 + 1, room) {
            for partition in self.full_rooms.remove(&room).unwrap_or_default() {
                self.held.pause(partition, None, &mut self.effects);
            }
        }
    }

    /// Closes a group whose last job is finished: its ticket is punched, or exchanged for one for
    /// each letter.
    pub(super) fn close_if_done(&mut self, group: u32) {
        if !self.held.groups[group as usize].jobs.is_empty() {
            return;
        }
        let group = self.held.take_group(group);
        let held = &mut self.held.records[group.record as usize];
        if held.abandoned {
            if held.groups.is_empty() {
                self.held.release(group.record, &mut self.effects);
            }
            return;
        }
        let key = group.record;
        if !group.failed.is_empty() {
            let record = Arc::clone(&held.record);
            for letter in letters(&group, &record) {
                self.held.records[key as usize].open += 1;
                self.bury(key, letter);
            }
        }
        self.held.punch(key, &mut self.effects);
    }
}

/// One letter for each class of failure in a group.
fn letters(group: &Group, record: &Arc<crate::core::model::Record>) -> Vec<Letter> {
    let mut alike: BTreeMap<Class, (BaseId, Vec<Room>, String, Tries)> = BTreeMap::new();
    for FailedRoom { class, base, room, error, tries } in &group.failed {
        let (_, rooms, _, all) =
            alike.entry(*class).or_insert_with(|| (*base, Vec::new(), error.clone(), Tries::default()));
        if !room.0.is_empty() {
            rooms.push(room.clone());
        }
        *all = together(all, tries);
    }
    let letter = |(class, (base, rooms, error, tries))| Letter {
        record: Arc::clone(record),
        base,
        class,
        error,
        route: Some(group.route),
        account: Some(group.account),
        rooms,
        tries,
    };
    alike.into_iter().map(letter).collect()
}

/// What is told of two messages in one letter: the most attempts, the earliest and the latest try,
/// the last answer.
fn together(one: &Tries, other: &Tries) -> Tries {
    let later = if other.last >= one.last { other } else { one };
    Tries {
        attempts: one.attempts.max(other.attempts),
        first: [one.first, other.first].into_iter().flatten().min(),
        last: one.last.max(other.last),
        http_status: later.http_status,
        provider_code: later.provider_code.clone(),
    }
}
